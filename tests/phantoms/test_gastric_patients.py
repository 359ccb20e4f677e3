import numpy as np
import pandas as pd
import pytest

from lib.gcmlm.phantom import FACTORS, SIGNALS, UNKNOWN, label_of, oracle_aucs, patients

N = 4000


@pytest.fixture(scope="module")
def cohort() -> pd.DataFrame:
    return patients(N, N, seed=1)


@pytest.fixture(scope="module")
def null() -> pd.DataFrame:
    return patients(N, N, seed=1, effect=0)


def rates(table) -> np.ndarray:
    """Positive, synchronous, lost before 24 months."""
    event, time = table["event"] == 1, table["time_months"]
    return np.array([table["label"].mean(), (event & (time <= 6)).mean(), (~event & (time < 24)).mean()])


def test_names_and_hospitals():
    table = patients(3, 2)
    assert list(table["patient"]) == [f"GC-{number:04d}" for number in range(1, 6)]
    assert list(table["hospital"]) == list("AAABB")
    assert list(patients(3)["hospital"]) == list("AAA")


def test_frequencies(cohort):
    for _, hospital in cohort.groupby("hospital"):
        positive, synchronous, lost = rates(hospital)
        assert 0.35 < positive < 0.46
        assert 0.01 < synchronous < 0.05
        assert 0.02 < lost < 0.05


def test_null_has_the_same_patients_and_frequencies_and_knows_nothing(cohort, null):
    same = ["patient", "hospital", *FACTORS, *SIGNALS.values(), "score"]
    pd.testing.assert_frame_equal(cohort[same], null[same])
    for hospital in "AB":
        drawn, twin = (rates(table[table["hospital"] == hospital]) for table in (cohort, null))
        np.testing.assert_allclose(drawn, twin, atol=0.035)
    known = null[null["label"].notna()]
    for name in [*SIGNALS.values(), "score"]:
        assert abs(np.corrcoef(known[name], known["label"])[0, 1]) < 0.05  # 1 / sqrt(7500) is 0.012


def test_label_follows_the_rules():
    time = pd.Series([6.0, 6.1, 70.0, 23.9, 24.0, 3.0])
    event = pd.Series([1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(label_of(time, event), [np.nan, 1, 1, np.nan, 0, np.nan])


def test_oracles_need_all_modalities():
    aucs = oracle_aucs(n=10_000)
    assert len(aucs) == 7
    for subset, auc in aucs.items():
        low, high = {1: (0.71, 0.79), 2: (0.84, 0.90), 3: (0.96, 1)}[subset.count("+") + 1]
        assert low < auc < high, subset


def test_oracles_of_the_null_know_nothing():
    # the standard error of 5,000 tested patients is 0.009
    np.testing.assert_allclose(list(oracle_aucs(0, n=10_000).values()), 0.5, atol=0.04)


def test_half_an_effect_lies_between():
    assert 0.6 < oracle_aucs(0.5, n=10_000)["clinical+ct+slide"] < 0.9


def test_hospital_b_has_higher_stages(cohort):
    a, b = (cohort[cohort["hospital"] == name] for name in "AB")
    assert b["t_stage"].mean() > a["t_stage"].mean()
    assert b["age"].mean() > a["age"].mean() + 1.5
    np.testing.assert_allclose([a["clinical_signal"].mean(), a["clinical_signal"].std()], [0, 1], atol=0.06)


def test_signals_are_independent(cohort):
    between = cohort.loc[cohort["hospital"] == "A", list(SIGNALS.values())].corr().to_numpy()
    np.testing.assert_allclose(between, np.eye(3), atol=0.06)


def test_factors_look_like_a_clinical_table(cohort):
    assert set(cohort["t_stage"]) == {1, 2, 3, 4}
    assert set(cohort["n_stage"]) == {0, 1, 2, 3}
    assert set(cohort["lauren"]) == {"intestinal", "mixed", "diffuse", ""}
    assert cohort["age"].between(25, 88).all()
    assert (cohort["cea"].dropna() > 0).all()
    for column, share in UNKNOWN.items():
        lacking = cohort[column].isna() | (cohort[column] == "")
        assert abs(lacking.mean() - share) < 0.015


def test_internal_patients_do_not_hang_on_external_ones():
    pd.testing.assert_frame_equal(patients(20, 0, 3), patients(20, 9, 3).iloc[:20])


def test_equal_seeds_are_equal_and_others_not():
    pd.testing.assert_frame_equal(patients(20, 5, 3), patients(20, 5, 3))
    assert not np.allclose(patients(20, 0, 3)["ct_signal"], patients(20, 0, 4)["ct_signal"])


@pytest.mark.parametrize("wrong", [{"n": 0}, {"external": -1}, {"effect": 1.5}, {"effect": -0.1}])
def test_impossible_cohorts_are_refused(wrong):
    with pytest.raises(ValueError, match="needs a patient, 0 or more external ones and an effect of 0 to 1"):
        patients(**({"n": 5} | wrong))
