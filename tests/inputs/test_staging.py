"""Stages as TCGA writes them."""

import numpy as np
import pandas as pd
import pytest

from lib.inputs.tcga import first_known, grade_number, stage_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Stage I", 1), ("Stage IA", 1), ("Stage IIB", 2), ("stage iii", 3), ("Stage IIIC2", 3), ("IV", 4), ("Stage IVC", 4),
    ],
)  # fmt: skip
def test_stage(text, number):
    assert stage_number(text) == number


@pytest.mark.parametrize(
    "text",
    ["Stage X", "[Not Available]", "[Discrepancy]", "", None, np.nan, "Stage V", "Stage IIII", "Stage 2"],
)
def test_what_is_no_stage_is_missing(text):
    assert np.isnan(stage_number(text))


@pytest.mark.parametrize(
    ("text", "number"), [("G1", 1), ("G4", 4), ("High Grade", 3), ("Low Grade", 1), (" g2 ", 2)]
)
def test_grade(text, number):
    assert grade_number(text) == number


@pytest.mark.parametrize("text", ["GX", "[Unknown]", "G5", "", None])
def test_what_is_no_grade_is_missing(text):
    assert np.isnan(grade_number(text))


def test_second_column_fills_in_where_the_first_has_no_stage():
    table = pd.DataFrame(
        {
            "ajcc": ["Stage IV", "[Not Applicable]", "[Not Available]"],
            "clinical": ["Stage I", "Stage IIA", "[Not Available]"],
        },
        index=["a", "b", "c"],
    )
    stages = first_known(table, ["ajcc", "clinical"])
    assert stages["a"] == 4
    assert stages["b"] == 2
    assert np.isnan(stages["c"])
