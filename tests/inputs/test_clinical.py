"""The nine variables: sets, checks, scale, and the arrays the model takes."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import MinMaxScaler

from lib.inputs.clinical import (
    ADMISSION,
    CATEGORICAL,
    CONTINUOUS,
    POSTPROCEDURAL,
    Scaler,
    arrays,
    checked,
    unfavourable,
    variables,
)


def patients(n=6, seed=0):
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"patient": [f"p{row}" for row in range(n)]})
    table["age"] = random.integers(40, 90, n)
    table["onset_to_ctp_min"] = random.integers(30, 600, n)
    table["ctp_to_recanalisation_min"] = random.integers(20, 200, n)
    table["nihss"] = random.integers(0, 30, n)
    for name, levels in CATEGORICAL.items():
        table[name] = random.integers(0, len(levels), n)
    return table


def test_order_is_the_reference_s():
    assert variables("postprocedural") == POSTPROCEDURAL
    assert CONTINUOUS == ("age", "onset_to_ctp_min", "ctp_to_recanalisation_min", "nihss")
    assert tuple(map(len, CATEGORICAL.values())) == (2, 2, 2, 2, 3)
    assert (*CONTINUOUS, *CATEGORICAL) == POSTPROCEDURAL


def test_admission_knows_nothing_of_the_procedure():
    assert variables("admission") == ADMISSION
    assert set(POSTPROCEDURAL) - set(ADMISSION) == {"ctp_to_recanalisation_min", "mtici"}
    with pytest.raises(ValueError, match="clinical is 'admision': choose one; nearest: admission"):
        variables("admision")


def test_scale_is_the_lowest_and_highest_of_the_rows_given():
    table = patients()
    train, rest = table[:4], table[4:]
    found = Scaler.fit(train).transform(rest)
    naive = MinMaxScaler(clip=True).fit(train[list(CONTINUOUS)]).transform(rest[list(CONTINUOUS)])
    np.testing.assert_allclose(found, naive)
    assert list(found) == list(CONTINUOUS)
    np.testing.assert_array_equal(found.index, rest.index)


def test_rows_outside_the_fit_change_nothing_and_are_clipped():
    table = patients()
    scaler = Scaler.fit(table[:4])
    extreme = table.assign(age=np.where(table.index == 5, 119, table["age"]))
    assert Scaler.fit(extreme[:4]) == scaler
    assert scaler.transform(extreme).loc[5, "age"] == 1.0
    assert scaler.transform(extreme.assign(age=0.0))["age"].eq(0.0).all()


def test_shift_and_unit_do_not_matter():
    table = patients()
    hours = table.assign(onset_to_ctp_min=table["onset_to_ctp_min"] / 60 + 1)
    one, other = (Scaler.fit(each).transform(each)["onset_to_ctp_min"] for each in (table, hours))
    np.testing.assert_allclose(one, other)


def test_constant_tells_nothing_and_missing_stays_missing():
    table = patients().assign(nihss=7.0)
    table.loc[2, "age"] = np.nan
    scaler = Scaler.fit(table)
    found = scaler.transform(table.assign(nihss=9.0))
    assert found["nihss"].eq(0.0).all()
    assert np.isnan(found.loc[2, "age"])
    assert found["age"].drop(2).notna().all()
    assert json.loads(json.dumps(scaler._asdict())) == scaler._asdict()


def test_variable_nobody_had_has_no_scale():
    table = patients()
    scaler = Scaler.fit(table.assign(nihss=np.nan))
    assert scaler.transform(table.assign(nihss=np.nan))["nihss"].isna().all()
    with pytest.raises(
        ValueError, match="nihss was missing in all rows the scaler was fitted on, and patient p0 has it"
    ):
        scaler.transform(table)


@pytest.mark.parametrize("which", ["admission", "postprocedural"])
def test_arrays_have_the_model_s_shapes(which):
    table, names = patients(), variables(which)
    found = arrays(table, Scaler.fit(table), names)
    wide = {"admission": (3, 4), "postprocedural": (4, 5)}[which]
    assert (found.continuous.shape, found.categorical.shape) == ((6, wide[0]), (6, wide[1]))
    assert found.missing.shape == (6, sum(wide))
    assert (found.continuous.dtype, found.categorical.dtype) == (np.float32, np.int64)
    assert not found.missing.any()
    codes = [name for name in CATEGORICAL if name in names]
    np.testing.assert_array_equal(found.categorical, table[codes])
    assert found.continuous.min() >= 0
    assert found.continuous.max() <= 1


@pytest.mark.parametrize("name", POSTPROCEDURAL)
def test_missing_value_is_marked_at_its_own_place_only(name):
    table = patients()
    full = arrays(table, Scaler.fit(table), POSTPROCEDURAL)
    gone = table.astype({name: float})
    gone.loc[3, name] = np.nan
    found = arrays(gone, Scaler.fit(table), POSTPROCEDURAL)
    place = POSTPROCEDURAL.index(name)
    assert np.argwhere(found.missing).tolist() == [[3, place]]
    both = np.hstack([found.continuous, found.categorical])
    assert both[3, place] == 0
    kept = ~found.missing
    np.testing.assert_array_equal(both[kept], np.hstack([full.continuous, full.categorical])[kept])


def test_order_of_columns_and_names_does_not_matter():
    table = patients()
    scaler = Scaler.fit(table)
    one = arrays(table, scaler, POSTPROCEDURAL)
    other = arrays(table[table.columns[::-1]], scaler, POSTPROCEDURAL[::-1])
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


def test_some_variables_only():
    table = patients()
    found = arrays(table, Scaler.fit(table), ("sex",))
    assert [part.shape for part in found] == [(6, 0), (6, 1), (6, 1)]
    found = arrays(table[["age"]], Scaler.fit(table), ("age",))
    assert [part.shape for part in found] == [(6, 1), (6, 0), (6, 1)]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("age", 130.0, "age of patient p1 is 130.0, and a number from 0 to 120 is needed"),
        ("age", "seventy", "age of patient p1 is seventy"),
        ("age", np.inf, "age of patient p1 is inf"),
        ("nihss", 43, "nihss of patient p1 is 43, and a number from 0 to 42"),
        ("onset_to_ctp_min", -5, "onset_to_ctp_min of patient p1 is -5"),
        ("sex", 2, "sex of patient p1 is 2, and one of 0, 1 is needed"),
        ("sex", "F", "sex of patient p1 is F, and one of 0, 1"),
        ("mtici", 3, "mtici of patient p1 is 3, and one of 0, 1, 2 is needed"),
        ("mtici", 1.5, "mtici of patient p1 is 1.5"),
        ("mrs", 7, "mrs of patient p1 is 7"),
        ("patient", "p0", "patient p0 stands twice"),
    ],
)
def test_impossible_values_are_named(name, value, message):
    table = patients().assign(mrs=[0, 1, 2, 3, 6, np.nan]).astype({name: object})
    assert len(checked(table)) == 6
    table.loc[1, name] = value
    with pytest.raises(ValueError, match=message):
        checked(table)


def test_patients_may_be_the_index():
    table = patients()
    named = table.set_index("patient")
    for left, right in zip(
        arrays(table, Scaler.fit(table), POSTPROCEDURAL),
        arrays(named, Scaler.fit(named), POSTPROCEDURAL),
        strict=True,
    ):
        np.testing.assert_array_equal(left, right)
    with pytest.raises(ValueError, match="age of patient p0 is 200"):
        checked(named.assign(age=200))
    with pytest.raises(ValueError, match="patient p0 stands twice"):
        checked(pd.concat([named, named]))


def test_unknown_and_absent_variables_are_named():
    table = patients()
    with pytest.raises(ValueError, match="NIHSS00 is no clinical variable; nearest: nihss"):
        arrays(table, Scaler.fit(table), ("NIHSS00",))
    with pytest.raises(ValueError, match="the table has no column mtici"):
        arrays(table.drop(columns="mtici"), Scaler.fit(table), POSTPROCEDURAL)
    with pytest.raises(ValueError, match="scaler was not fitted on age"):
        arrays(table, Scaler.fit(table.drop(columns="age")), POSTPROCEDURAL)
    many = table.assign(age=[200.0] * 6)
    with pytest.raises(ValueError, match=r"\(6 such rows\)"):
        checked(many)


def test_unfavourable_is_three_or_more():
    found = unfavourable(pd.Series([0, 2, 3, 6, np.nan]))
    np.testing.assert_array_equal(found, [0, 0, 1, 1, np.nan])
    np.testing.assert_array_equal(unfavourable(pd.Series([1, 2]), least=2), [0, 1])
