"""Predictions are joined with the cohort by patient, and nothing is dropped in silence."""

import numpy as np
import pandas as pd
import pytest

from lib.statistics.survival import HeldOut


@pytest.fixture
def cohort() -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "patient": list("abcd"),
            "time_months": [5.0, 3.0, 8.0, 1.25],
            "event": [1, 0, 1, 1],
            "fold": list("0101"),
        }
    )
    return table.set_index("patient", drop=False)


@pytest.fixture
def told(cohort) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {
                "model": "m",
                "seed": seed,
                "fold": cohort["fold"].to_numpy(),
                "patient": cohort["patient"].to_numpy(),
                "score": np.arange(4.0) + seed,
                "survival_12": [0.9, 0.8, 0.7, 0.6],
                "survival_6": [0.95, 0.9, 0.85, 0.8],
            }
        )
        for seed in (2, 1)
    ]
    return pd.concat(parts).sample(frac=1, random_state=0)


def test_order_of_the_rows_changes_nothing(cohort, told):
    one = HeldOut.of(told, cohort)
    assert one.patient.tolist() == list("abcd")
    assert one.fold.tolist() == list("0101")
    np.testing.assert_array_equal(one.risk, [[1, 2, 3, 4], [2, 3, 4, 5]])
    np.testing.assert_array_equal(one.time, [5, 3, 8, 1.25])
    assert one.event.tolist() == [True, False, True, True]
    assert one.times.tolist() == [6, 12]
    np.testing.assert_array_equal(one.survival[0], [[0.95, 0.9], [0.9, 0.8], [0.85, 0.7], [0.8, 0.6]])


def test_bare_risk_has_no_survival(cohort, told):
    one = HeldOut.of(told.drop(columns=["survival_6", "survival_12"]), cohort)
    assert one.survival is None
    assert one.times is None
    # columns of other models in one table are empty here
    empty = told.assign(survival_6=np.nan, survival_12=np.nan)
    assert HeldOut.of(empty, cohort).survival is None


def test_some_of_the_patients(cohort, told):
    one = HeldOut.of(told, cohort).on(np.array(["d", "b"]))
    assert one.patient.tolist() == ["b", "d"]
    np.testing.assert_array_equal(one.risk, [[2, 4], [3, 5]])
    assert one.survival.shape == (2, 2, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.replace({"patient": {"a": "z"}}), r"m predicts 1 patients the cohort does not have, such as z"),
        (lambda t: pd.concat([t, t.iloc[:1]]), r"m predicts patient \w twice in one seed"),
        (lambda t: t[~((t["seed"] == 2) & (t["patient"] == "c"))], "m, seed 2: patient c has no finite score"),
        (lambda t: t.assign(score=t["score"].replace(1, np.inf)), "has no finite score"),
        (lambda t: t.assign(survival_6=t["survival_6"].replace(0.9, np.nan)), "patient b has no finite survival_6"),
        (lambda t: t.assign(fold="0"), r"m: 4 patients have another fold than in the cohort, such as [bd] \(0, in the cohort 1\)"),
        (lambda t: t.assign(event=1, time=1.0), "another event than in the cohort, such as b"),
        (lambda t: t.assign(event=t["patient"].map({"a": 1, "b": 0, "c": 1, "d": 1}), time=5.0), "another time"),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused(cohort, told, change, said):
    with pytest.raises(ValueError, match=said):
        HeldOut.of(change(told), cohort)
