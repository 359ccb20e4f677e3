"""What the training patients teach about columns: gaps, scale, and which are of no use."""

import numpy as np
import pandas as pd
import pytest

from lib.gcmlm.tables import CLIP, ScaledColumns


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    return pd.DataFrame(random.normal(5, 3, (40, 4)), [f"p{at}" for at in range(40)], list("dbca"))


def test_training_patients_are_standardised_and_named_alphabetically(table):
    columns = ScaledColumns().fit(table)
    assert columns.names == list("abcd")
    wanted = ((table - table.mean()) / table.std(ddof=0))[list("abcd")]
    np.testing.assert_allclose(columns.transform(table), wanted, atol=1e-12)


def test_useless_columns_are_named_with_a_reason(table):
    table["empty"], table["constant"], table["half"] = np.nan, 7.0, np.nan
    table.loc[table.index[:19], "half"] = 1.0
    table["nearly"] = np.r_[1.0, np.zeros(39)]
    columns = ScaledColumns().fit(table)
    assert columns.names == list("abcd")
    assert columns.dropped == {
        "empty": "missing in 40 of 40 training patients",
        "half": "missing in 21 of 40 training patients",
        "constant": "the same value in 40 of 40 training patients",
        "nearly": "the same value in 39 of 40 training patients",
    }


def test_gaps_take_the_training_median_and_are_counted(table):
    table.iloc[:3, 0] = np.nan
    columns = ScaledColumns().fit(table)
    assert columns.missing == {"d": 3}
    new = table.iloc[[5]].assign(d=np.nan)
    scaled = columns.transform(new)[0, columns.names.index("d")]
    filled = table["d"].fillna(table["d"].median())
    assert scaled == pytest.approx((filled.median() - filled.mean()) / filled.std(ddof=0))


def test_an_extreme_patient_is_clipped(table):
    columns = ScaledColumns().fit(table)
    assert columns.transform(table.iloc[[0]] + 1e9).max() == CLIP


def test_json_and_back(table):
    columns = ScaledColumns().fit(table)
    again = ScaledColumns.from_dict(columns.to_dict())
    np.testing.assert_array_equal(again.transform(table), columns.transform(table))


def test_bad_tables_are_refused_by_name(table):
    columns = ScaledColumns().fit(table)
    with pytest.raises(ValueError, match="lacks column b"):
        columns.transform(table.drop(columns="b"))
    with pytest.raises(ValueError, match="a of patient p2 is infinite"):
        ScaledColumns().fit(table.assign(a=[0, 1, np.inf, *range(37)]))
    with pytest.raises(ValueError, match="column a holds texts"):
        ScaledColumns().fit(table.assign(a="high"))
    with pytest.raises(ValueError, match="no training patient"):
        ScaledColumns().fit(table.iloc[:0])
    with pytest.raises(ValueError, match="column d stands twice"):
        ScaledColumns().fit(pd.concat([table, table[["d"]]], axis=1))
