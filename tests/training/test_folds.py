import pytest

from lib.training.folds import Fold, fixed_split, leave_one_patient_out, refuse_leak

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


def test_sections_keep_the_cohorts_order():
    fold = leave_one_patient_out(PATIENTS)[2]
    assert fold == Fold("C", ("A1", "B1", "A2", "H1"), ("C6", "C2"))


@pytest.mark.parametrize("patients", [{}, {"A1": "A"}, {"A1": "A", "A2": "A"}])
def test_fewer_than_two_patients_are_an_error(patients):
    with pytest.raises(ValueError, match="needs two patients at least"):
        leave_one_patient_out(patients)


def test_a_patient_on_both_sides_is_named():
    with pytest.raises(ValueError, match=r"patient A, C is in training and in test: split by patient"):
        refuse_leak(["A1", "B1", "C2"], ["C6", "A2"], PATIENTS)
    refuse_leak(["A1", "A2"], ["C6", "C2"], PATIENTS)


def test_a_fixed_split_is_one_fold_and_refuses_a_leak():
    assert fixed_split(["A1", "B1"], ["C2"], PATIENTS) == Fold("transfer", ("A1", "B1"), ("C2",))
    assert fixed_split(["A1"], ["C2"], PATIENTS, "crc").name == "crc"
    with pytest.raises(ValueError, match="patient C is in training and in test"):
        fixed_split(["A1", "C6"], ["C2"], PATIENTS)
