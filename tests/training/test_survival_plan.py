"""Which runs there are, and what stands in the way of some."""

import pandas as pd
import pytest

from lib.crossfusion.train import plan_units


@pytest.fixture
def cohort() -> pd.DataFrame:
    n = 24
    return pd.DataFrame(
        {
            "patient": [f"P{i:02d}" for i in range(n)],
            "cancer": ["a", "b"] * (n // 2),
            "event": [1, 1, 1, 1, 0, 0] * (n // 6),
            "fold": [str(i // 2 % 2) for i in range(n)],
        }
    )


def test_one_run_a_cancer_fold_model_and_seed(cohort):
    slides = cohort[["patient"]].assign(slide="s")
    units, obstacles = plan_units(cohort, slides, ["x", "y"], [1, 2], ["y"])
    assert obstacles == []
    assert len(units) == 2 * 2 * (2 + 1)
    unit = units["a.0.x.s2"]
    assert (unit.cancer, unit.fold.name, unit.model, unit.seed) == ("a", "0", "x", 2)
    own = set(cohort.loc[cohort["cancer"] == "a", "patient"])
    assert set(unit.fold.train) | set(unit.fold.test) == own
    assert not set(unit.fold.train) & set(unit.fold.test)
    assert set(unit.fold.test) == set(
        cohort.loc[(cohort["cancer"] == "a") & (cohort["fold"] == "0"), "patient"]
    )


def test_patients_without_slides_take_no_part(cohort):
    slides = cohort.loc[cohort["patient"] != "P00", ["patient"]]
    units, _ = plan_units(cohort, slides, ["x"], [1])
    assert all("P00" not in unit.fold.train + unit.fold.test for unit in units.values())


def test_cancer_with_too_few_slides_is_named(cohort):
    slides = cohort.loc[cohort["cancer"] == "a", ["patient"]]
    units, obstacles = plan_units(cohort, slides, ["x"], [1])
    assert {unit.cancer for unit in units.values()} == {"a"}
    assert obstacles == [
        "b: 0 of 12 patients have slides with features, 0 of them died: too few to train on every fold"
    ]
    units, obstacles = plan_units(cohort, slides[:0], ["x"], [1])
    assert (units, len(obstacles)) == ({}, 2)
