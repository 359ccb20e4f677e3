"""Clinical variables: what a clinic's texts say, nothing guessed, and the nine of a stroke patient as the model takes them."""

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
    code,
    gathered,
    is_missing,
    mapped,
    minutes,
    number,
    unfavourable,
    variables,
)

MAPPING = {
    "age": "Age",
    "onset_to_ctp_min": "Onset to door + Door to imaging",
    "ctp_to_recanalisation_min": "Door to recanalization - Door to imaging",
    "nihss": "NIHSS",
    "sex": "Sex",
    "hypertension": "Hypertension",
    "smoking": "",
    "atrial_fibrillation": "AF",
    "mtici": "TICI | mTICI",
    "mrs": "mRS",
}


def table(**columns):
    base = {
        "Age": ["71", "82.0"],
        "Onset to door": ["1:00:00", "0:45"],
        "Door to imaging": ["0:20:00", "0:15:30"],
        "Door to recanalization": ["2:00:00", "nan"],
        "NIHSS": ["12", "null"],
        "Sex": ["F", "m"],
        "Hypertension": ["1.0", "no"],
        "AF": ["0", ""],
        "TICI": ["2b", "3"],
        "mRS": ["3", "0"],
    }
    return pd.DataFrame(base | {name.replace("_", " "): value for name, value in columns.items()})


def read(raw, mapping=(), **others):
    return mapped(raw, pd.Series(["a", "b"]), MAPPING | dict(mapping), **others)


def test_missing_values_and_nought():
    for text in ("", " ", "nan", "NULL", "None", "NA", "n/a", "NaT", "-", "?", "unknown"):
        assert is_missing(text)
        assert np.isnan([number(text), minutes(text), code(text, {"0": 0})]).all()
    assert not any(map(is_missing, ("0", "0.0", "no", "false", "00:00:00")))


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *((number, text) for text in ("12,5", "1_2", "١٢", "inf", "1e999", "2019-05-01", "old")),
        *(
            (minutes, text)
            for text in ("1:60", "1:2", "one hour", "1:23:00 h", "12:30 PM", "inf", "08:00-09:00")
        ),
    ],
)
def test_what_is_no_number_or_no_duration_is_refused(read, text):
    with pytest.raises(ValueError, match=rf"'{text}' is (no number|neither minutes nor a duration)"):
        read(text)


def test_minutes():
    for text, expected in {
        **{"83": 83, "83.5": 83.5, "1:23": 83, "01:23:00": 83, "1:23:30.6": 83.51, "27:10:00": 1630},
        **{
            "-0:05:00": -5,
            "-12": -12,
            "0 days 01:23:00": 83,
            "1 day, 1:00:00": 1500,
            "2 days 00:00:00": 2880,
        },
    }.items():
        assert minutes(text) == pytest.approx(expected)


def test_category_as_it_is_written():
    for text in ("2b", "2B", " 2b ", "TICI 2b", "mTICI 2b", "tici2b"):
        assert code(text, {"2a": 0, "2b": 1}) == 1
    assert code("3.0", {"3": 2}) == code("3", {3: 2}) == 2
    with pytest.raises(ValueError, match=r"'2' is no category it has; nearest: 2[ab], 2[ab]"):
        code("2", {"2a": 0, "2b": 1})
    with pytest.raises(ValueError, match=r"'0\.5' is no category"):
        code("0.5", {"0": 0, "5": 1})


def test_every_variable_by_hand():
    found = read(table())
    assert list(found) == ["patient", *MAPPING, "note"]
    first, second = found.drop(columns=["patient", "note"]).to_numpy(float)
    nan = np.nan
    np.testing.assert_allclose(first, [71, 80, 100, 12, 0, 1, nan, 0, 1, 3])
    np.testing.assert_allclose(second, [82, 60.5, nan, nan, 1, 0, nan, nan, 2, 0])
    assert set(found["note"]) == {""}


def test_columns_are_found_in_any_spelling():
    raw = table()
    other = raw.rename(columns=lambda name: "  ".join(name.upper().split()))
    pd.testing.assert_frame_equal(read(other), read(raw))
    pd.testing.assert_frame_equal(read(raw[raw.columns[::-1]]), read(raw))


def test_expressions():
    raw = table(Wake_up=["5", "6"], **{"A - B": ["7", "8"]})
    assert read(raw, {"age": "Wake up"})["age"].tolist() == [5, 6]
    assert read(raw, {"age": "A - B"})["age"].tolist() == [7, 8]
    assert read(raw, {"age": "Age - Wake up + NIHSS"})["age"].tolist()[0] == 71 - 5 + 12
    assert read(raw, {"age": 50})["age"].tolist() == [50, 50]
    assert read(raw, {"smoking": "1"})["smoking"].tolist() == [1, 1]
    assert read(raw, {"smoking": None})["smoking"].isna().all()
    three = read(table(), {"onset_to_ctp_min": "Onset to door + Door to imaging - Door to imaging"})
    assert three["onset_to_ctp_min"].tolist() == [60, 45]


def test_alternative_names_complete_one_another():
    raw = table(TICI=["nan", "3"], mTICI=["2c", ""])
    assert read(raw)["mtici"].tolist() == [2, 2]
    same = table(TICI=["2B", "3"], mTICI=["2b", ""])
    assert read(same)["mtici"].tolist() == [1, 2]
    with pytest.raises(ValueError, match="patient a has TICI '2b' and mTICI '3': which is mtici"):
        read(table(mTICI=["3", ""]))


def test_levels_are_declared():
    found = read(table(), levels={"mtici": {"2b": 0, 3: 2}, "sex": {"F": 1, "M": 0}})
    assert found["mtici"].tolist() == [0, 2]
    assert found["sex"].tolist() == [1, 0]
    with pytest.raises(ValueError, match="levels of mtici: '3' is 3, and a code of"):
        read(table(), levels={"mtici": {"3": 3}})
    with pytest.raises(ValueError, match="levels of age: 'old' is 1, and a code of"):
        read(table(), levels={"age": {"old": 1}})
    with pytest.raises(ValueError, match="mtci is no clinical variable; nearest: mtici"):
        read(table(), levels={"mtci": {}})


@pytest.mark.parametrize(
    ("columns", "mapping", "message"),
    [
        ({}, {"age": "Agee"}, "age: no table has a column 'Agee'; nearest: Age"),
        ({}, {"agee": "Age"}, "agee is no clinical variable; nearest: age"),
        (
            {},
            {"onset_to_ctp_min": "Onset to door + Door to image"},
            "no table has a column 'Door to image'; nearest",
        ),
        ({}, {"sex": "Sex + AF"}, "sex is a category, so 'Sex [+] AF', a sum, cannot be it"),
        ({}, {"smoking": 2}, "smoking is declared 2 for all, which is no value of it"),
        ({}, {"age": float("nan")}, "age is declared nan for all"),
        ({"Age": ["71", "old"]}, {}, "Age of patient b: 'old' is no number; correct the table"),
        ({"Sex": ["F", "w"]}, {}, "Sex of patient b: 'w' is no category it has"),
        ({"Sex": ["F", "1"]}, {}, "Sex of patient b: '1' is no category"),
        ({"Hypertension": ["1", "2"]}, {}, "Hypertension of patient b: '2' is no category"),
        ({"mRS": ["1", "7"]}, {}, "mRS of patient b: '7' is no category"),
        ({"TICI": ["2b50", "3"]}, {}, "TICI of patient a: '2b50' is no category it has; nearest: 2b"),
        ({"Age": ["x"] * 2, "NIHSS": ["y"] * 2, "Sex": ["z"] * 2}, {}, r"\(and 1 more\)"),
        ({"Age": ["171", "82"]}, {}, "patient a: age is 171, not between 0 and 120"),
        (
            {"Door_to_recanalization": ["0:10", ""]},
            {},
            "patient a: ctp_to_recanalisation_min is -10, not between",
        ),
        (
            {"Onset_to_door": ["60", "0:45"]},
            {},
            "clock time for some .* a plain number for 1, as 60 of patient a",
        ),
    ],
)
def test_what_is_refused(columns, mapping, message):
    with pytest.raises(ValueError, match=message):
        read(table(**columns), mapping)


def test_every_variable_must_be_declared():
    for name in POSTPROCEDURAL:
        left = {key: value for key, value in MAPPING.items() if key != name}
        with pytest.raises(ValueError, match=f"does not say what {name} is"):
            mapped(table(), pd.Series(["a", "b"]), left)
    left = {key: value for key, value in MAPPING.items() if key != "mrs"}
    assert "mrs" not in mapped(table(), pd.Series(["a", "b"]), left)


def test_implausible_may_be_missing_and_is_said():
    found = read(table(Age=["171", "82"], NIHSS=["-1", "3"]), implausible="missing")
    assert found["age"].isna().tolist() == [True, False]
    assert found["note"].tolist() == [
        "age is 171, not between 0 and 120: taken as missing; nihss is -1, not between 0 and 42: taken as missing",
        "",
    ]


def test_nought_minutes_have_any_unit():
    assert read(table(Onset_to_door=["0", "0:45"]))["onset_to_ctp_min"].tolist() == [20, 60.5]


def of_path(text):
    return next((name for name in ("p1", "p2") if name in text), "")


def test_what_several_tables_say_of_each_patient(tmp_path):
    everybody, one = str(tmp_path / "all.csv"), str(tmp_path / "p1.csv")
    (tmp_path / "all.csv").write_text("Patient,Age,TICI\nxp1,71,\nxp2,80,3\n")
    (tmp_path / "p1.csv").write_text("age;NIHSS\n71.0;12\n")
    raw, notes = gathered(["p1", "p2"], [[everybody, one], [everybody]], of_path)
    assert raw.to_dict("list") == {"Age": ["71", "80"], "TICI": ["", "3"], "NIHSS": ["12", ""]}
    assert notes == ["", ""]
    notes = gathered(["p1", "p3"], [[], [everybody]], of_path)[1]
    assert notes == ["no clinical table", "all.csv has no row of it"]


@pytest.mark.parametrize(
    ("everybody", "message"),
    [
        ("patient,age\np1,72\n", "patient p1: age is '72' in .* and '71' in"),
        ("patient,age\np1,71\np1,71\n", "all.csv has 2 rows of patient p1"),
        ("age\n71\n", "all.csv names no patients"),
    ],
)
def test_tables_that_contradict_each_other_are_refused(tmp_path, everybody, message):
    (tmp_path / "all.csv").write_text(everybody)
    (tmp_path / "p1.csv").write_text("age\n71\n")
    with pytest.raises(ValueError, match=message):
        gathered(["p1"], [[str(tmp_path / "all.csv"), str(tmp_path / "p1.csv")]], of_path)


# the nine variables


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
    assert variables("admission") == ADMISSION  # which knows nothing of the procedure
    assert set(POSTPROCEDURAL) - set(ADMISSION) == {"ctp_to_recanalisation_min", "mtici"}


def test_scale_is_the_lowest_and_highest_of_the_rows_given():
    table = patients()
    train, rest = table[:4], table[4:]
    found = Scaler.fit(train).transform(rest)
    naive = MinMaxScaler(clip=True).fit(train[list(CONTINUOUS)]).transform(rest[list(CONTINUOUS)])
    np.testing.assert_allclose(found, naive)
    assert list(found) == list(CONTINUOUS)
    np.testing.assert_array_equal(found.index, rest.index)
    hours = table.assign(onset_to_ctp_min=table["onset_to_ctp_min"] / 60 + 1)  # shift and unit do not matter
    np.testing.assert_allclose(Scaler.fit(hours[:4]).transform(hours[4:]), found)


def test_rows_outside_the_fit_change_nothing_and_are_clipped():
    table = patients()
    scaler = Scaler.fit(table[:4])
    extreme = table.assign(age=np.where(table.index == 5, 119, table["age"]))
    assert Scaler.fit(extreme[:4]) == scaler
    assert scaler.transform(extreme).loc[5, "age"] == 1.0
    assert scaler.transform(extreme.assign(age=0.0))["age"].eq(0.0).all()


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
        ValueError, match="nihss was missing in all rows the scaler was fitted on, and is known here"
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


@pytest.mark.parametrize("name", ["nihss", "mtici"])
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


def test_order_of_columns_and_names_does_not_matter_and_some_will_do():
    table = patients()
    scaler = Scaler.fit(table)
    one = arrays(table, scaler, POSTPROCEDURAL)
    named = table.set_index("patient")  # patients may be the index
    for other in (
        arrays(table[table.columns[::-1]], scaler, POSTPROCEDURAL[::-1]),
        arrays(named, scaler, POSTPROCEDURAL),
    ):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)
    assert [part.shape for part in arrays(table, scaler, ("sex",))] == [(6, 0), (6, 1), (6, 1)]
    assert [part.shape for part in arrays(table[["age"]], scaler, ("age",))] == [(6, 1), (6, 0), (6, 1)]


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


def test_unknown_and_absent_variables_are_named():
    table = patients()
    with pytest.raises(ValueError, match="the table has no column NIHSS00; nearest: nihss"):
        arrays(table, Scaler.fit(table), ("NIHSS00",))
    with pytest.raises(ValueError, match="the table has no column mtici"):
        arrays(table.drop(columns="mtici"), Scaler.fit(table), POSTPROCEDURAL)
    with pytest.raises(ValueError, match="scaler was not fitted on age"):
        arrays(table, Scaler.fit(table.drop(columns="age")), POSTPROCEDURAL)
    named = table.set_index("patient")
    with pytest.raises(
        ValueError, match=r"age of patient p0 is 200.*; age of patient p1 is 200.* \(and 1 more\)"
    ):
        checked(named.assign(age=200))
    with pytest.raises(ValueError, match="patient p0 stands twice"):
        checked(pd.concat([named, named]))


def test_unfavourable_is_three_or_more():
    found = unfavourable(pd.Series([0, 2, 3, 6, np.nan]))
    np.testing.assert_array_equal(found, [0, 0, 1, 1, np.nan])
    np.testing.assert_array_equal(unfavourable(pd.Series([1, 2]), least=2), [0, 1])
