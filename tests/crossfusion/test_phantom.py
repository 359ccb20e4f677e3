"""Phantom patients: what is planted is there, and in the null cohort it is not."""

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from lib.crossfusion.phantom import patients, write_cohort
from lib.inputs import tcga

NULL = {"age_effect": 0.0, "stage_effect": 0.0, "slide_effect": 0.0}


def effects(cohort: pd.DataFrame) -> pd.Series:
    stage = cohort["stage"].map({"Stage I": 1, "Stage II": 2, "Stage III": 3, "Stage IV": 4})
    table = pd.DataFrame(
        {
            "age": (cohort["age"] - 62) / 11,
            "stage": (stage - 2.5) / np.sqrt(1.25),
            "pattern": cohort["pattern"],
            "time": cohort["time"],
            "event": cohort["event"],
        }
    )
    return CoxPHFitter().fit(table, "time", "event").params_


def test_planted_hazards_are_recovered():
    found = effects(patients(4000, seed=1, age_effect=0.4, stage_effect=0.3, slide_effect=0.8))
    np.testing.assert_allclose(found[["age", "stage", "pattern"]], [0.4, 0.3, 0.8], atol=0.07)


def test_null_has_no_effect():
    np.testing.assert_allclose(effects(patients(4000, seed=1, **NULL)), 0, atol=0.07)


def test_some_die_and_some_are_censored():
    cohort = patients()
    assert 0.4 < cohort["event"].mean() < 0.9
    assert cohort["time"].between(0, 120).all()


def test_one_seed_one_cohort():
    pd.testing.assert_frame_equal(patients(50, seed=4), patients(50, seed=4))
    assert not patients(50, seed=4)["time"].equals(patients(50, seed=5)["time"])


def test_written_cohort_is_read_as_tcga_is(tmp_path):
    cohort = patients(40, seed=2)
    write_cohort(tmp_path, cohort)
    slides = tcga.read_outcomes(tmp_path / "outcomes.csv")
    assert len(slides) == 48
    table = tcga.by_patient(slides).set_index("patient").loc[cohort["patient"]]
    np.testing.assert_allclose(table["time_months"], cohort["time"])
    np.testing.assert_array_equal(table["event"], cohort["event"])


@pytest.mark.parametrize(("effect", "least", "most"), [(0.8, 0.4, 0.9), (0.0, -0.35, 0.35)])
def test_stored_predictions_follow_the_pattern_only_where_it_kills(effect, least, most, tmp_path):
    cohort = patients(200, seed=7, slide_effect=effect)
    write_cohort(tmp_path, cohort)
    stored = pd.read_csv(tmp_path / "predictions.csv").pivot(index="patient", columns="model", values="risk")
    stored = stored.loc[cohort["patient"]]
    assert least < np.corrcoef(stored["seen"], cohort["log_hazard"])[0, 1] < most
    assert abs(np.corrcoef(stored["blind"], cohort["log_hazard"])[0, 1]) < 0.25
