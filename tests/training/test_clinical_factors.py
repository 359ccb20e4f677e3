"""Categories against their most frequent level, learnt from training patients."""

import numpy as np
import pandas as pd
import pytest

from lib.gcmlm.tables import ClinicalFactors


@pytest.fixture
def table():
    lauren = ["diffuse"] * 10 + ["intestinal"] * 12 + ["mixed"] * 6 + ["odd"] * 2
    return pd.DataFrame({"lauren": lauren, "age": np.arange(30.0), "smoker": [True, False] * 15})


def test_columns_against_the_most_frequent_level(table):
    made = ClinicalFactors().fit(table).transform(table)
    assert list(made) == ["age", "lauren=diffuse", "lauren=mixed", "lauren=other", "smoker"]
    assert made.sum().to_dict()["lauren=diffuse"] == 10
    assert made["lauren=other"].sum() == 2  # rare ones together
    assert made.loc[12, ["lauren=diffuse", "lauren=mixed", "lauren=other"]].sum() == 0


def test_a_new_level_is_other(table):
    new = table.iloc[[0]].assign(lauren="never seen")
    made = ClinicalFactors().fit(table).transform(new)
    assert made["lauren=other"].tolist() == [1.0]


def test_a_missing_category_is_a_level_and_a_missing_number_stays_missing(table):
    table.loc[:7, "lauren"] = None
    table.loc[0, "age"] = np.nan
    factors = ClinicalFactors().fit(table)
    assert "unknown" in factors.levels["lauren"]
    made = ClinicalFactors.from_dict(factors.to_dict()).transform(table)
    assert made["lauren=unknown"].sum() == 8
    assert np.isnan(made.loc[0, "age"])


def test_texts_where_numbers_were_are_refused(table):
    factors = ClinicalFactors().fit(table)
    with pytest.raises(ValueError, match="age was numbers in training and is texts now"):
        factors.transform(table.assign(age="old"))
    with pytest.raises(ValueError, match="lacks lauren"):
        factors.transform(table[["age", "smoker"]])
