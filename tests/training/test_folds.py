from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.training.folds import Fold, fixed_split, leave_one_patient_out, refuse_leak, stratified_folds

PATIENTS = {"A1": "A", "B1": "B", "A2": "A", "C6": "C", "C2": "C", "H1": "H"}


def test_every_section_is_tested_once_and_no_patient_is_on_both_sides():
    folds = leave_one_patient_out(PATIENTS)
    assert [fold.name for fold in folds] == ["A", "B", "C", "H"]
    assert sorted(s for fold in folds for s in fold.test) == sorted(PATIENTS)
    for fold in folds:
        assert {PATIENTS[s] for s in fold.test} == {fold.name}
        assert fold.name not in {PATIENTS[s] for s in fold.train}
        assert sorted(fold.train + fold.test) == sorted(PATIENTS)
        refuse_leak(fold.train, fold.test, PATIENTS)


def test_fewer_than_two_patients_are_an_error():
    with pytest.raises(ValueError, match="needs two patients at least"):
        leave_one_patient_out({"A1": "A", "A2": "A"})


def test_a_patient_on_both_sides_is_named():
    with pytest.raises(ValueError, match=r"patient A, C is in training and in test: split by patient"):
        refuse_leak(["A1", "B1", "C2"], ["C6", "A2"], PATIENTS)
    refuse_leak(["A1", "A2"], ["C6", "C2"], PATIENTS)


def test_a_fixed_split_is_one_fold_and_refuses_a_leak():
    assert fixed_split(["A1", "B1"], ["C2"], PATIENTS) == Fold("transfer", ("A1", "B1"), ("C2",))
    with pytest.raises(ValueError, match="patient C is in training and in test"):
        fixed_split(["A1", "C6"], ["C2"], PATIENTS)


def slides(patients=31, died=11):
    """Patients with one to three slides each, and who died."""
    rows = {f"s{n}-{copy}": f"p{n}" for n in range(patients) for copy in range(1 + n % 3)}
    return rows, {f"p{n}": int(n < died) for n in range(patients)}


@given(seed=st.integers(0, 200), k=st.integers(2, 6), died=st.integers(6, 20))
@settings(max_examples=30, deadline=None)
def test_stratified_folds_share_out_patients_and_strata(seed, k, died):
    rows, strata = slides(died=died)
    folds = stratified_folds(rows, strata, k, seed)
    assert [fold.name for fold in folds] == [str(number) for number in range(k)]
    assert sorted(row for fold in folds for row in fold.test) == sorted(rows)
    for fold in folds:
        refuse_leak(fold.train, fold.test, rows)
        assert sorted(fold.train + fold.test) == sorted(rows)
        tested = Counter(strata[person] for person in {rows[row] for row in fold.test})
        for stratum, total in Counter(strata.values()).items():
            assert total // k <= tested[stratum] <= -(-total // k)


def test_stratified_folds_follow_the_seed_and_not_the_order_of_rows():
    rows, strata = slides()
    folds = stratified_folds(rows, strata, seed=3)
    turned = stratified_folds(dict(reversed(rows.items())), dict(reversed(strata.items())), seed=3)
    assert [fold.test for fold in folds] == [tuple(reversed(fold.test)) for fold in turned]
    assert folds == stratified_folds(rows, strata, seed=3)
    assert folds != stratified_folds(rows, strata, seed=4)


def test_stratified_folds_refuse_what_cannot_be_shared_out():
    rows, strata = slides(died=4)
    with pytest.raises(ValueError, match=r"fewer than 5 patients are in stratum 1 \(4\)"):
        stratified_folds(rows, strata, 5)
