"""Texts of a clinic's table: what they say, and what is refused rather than guessed."""

import numpy as np
import pandas as pd
import pytest

from lib.inputs.clinical import POSTPROCEDURAL, code, is_missing, mapped, minutes, number

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


@pytest.mark.parametrize(
    "text", ["", " ", "nan", "NaN", "NULL", "None", "NA", "n/a", "NaT", "-", "?", "unknown"]
)
def test_tokens_of_missing_values(text):
    assert is_missing(text)
    assert np.isnan(number(text))
    assert np.isnan(minutes(text))
    assert np.isnan(code(text, {"0": 0}))


@pytest.mark.parametrize("text", ["0", "0.0", "no", "false", "00:00:00"])
def test_nought_is_a_value(text):
    assert not is_missing(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("83", 83),
        ("83.5", 83.5),
        ("1:23", 83),
        ("01:23:00", 83),
        ("1:23:30", 83.5),
        ("1:23:30.6", 83.51),
        ("27:10:00", 1630),
        ("-0:05:00", -5),
        ("-12", -12),
        ("0 days 01:23:00", 83),
        ("1 day, 1:00:00", 1500),
        ("2 days 00:00:00", 2880),
    ],
)
def test_minutes(text, expected):
    assert minutes(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["1:60", "1:2", "one hour", "1:23:00 h", "12:30 PM", "inf", "08:00-09:00"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="neither minutes nor a duration"):
        minutes(text)


@pytest.mark.parametrize("text", ["2b", "2B", " 2b ", "TICI 2b", "mTICI 2b", "tici2b"])
def test_category_as_it_is_written(text):
    assert code(text, {"2a": 0, "2b": 1}) == 1


def test_numbers_of_categories():
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
    with pytest.raises(ValueError, match="TICI of patient a is '2b' and mTICI '3': which is mtici"):
        read(table(mTICI=["3", ""]))


def test_levels_are_declared():
    found = read(table(), levels={"mtici": {"2b": 0, 3: 2}, "sex": {"F": 1, "M": 0}})
    assert found["mtici"].tolist() == [0, 2]
    assert found["sex"].tolist() == [1, 0]
    with pytest.raises(ValueError, match="levels of mtici: '3' is 3, and a code from 0 to 2"):
        read(table(), levels={"mtici": {"3": 3}})
    with pytest.raises(ValueError, match="age is a number and has no levels"):
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
            "no table has a column 'Door to image'; nearest: Door to im",
        ),
        ({}, {"sex": "Sex + AF"}, "sex is a category, so 'Sex [+] AF', a sum, cannot be it"),
        ({}, {"smoking": 2}, "smoking is declared 2 for all, which is no code of it"),
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
            "clock time for 1 patients and a plain number for 1, as 60 of patient a",
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
    assert "mrs" not in mapped(
        table(), pd.Series(["a", "b"]), {k: v for k, v in MAPPING.items() if k != "mrs"}
    )


def test_implausible_may_be_missing_and_is_said():
    found = read(table(Age=["171", "82"], NIHSS=["-1", "3"]), implausible="missing")
    assert found["age"].isna().tolist() == [True, False]
    assert found["note"].tolist() == [
        "age is 171, not between 0 and 120: taken as missing; nihss is -1, not between 0 and 42: taken as missing",
        "",
    ]
    with pytest.raises(ValueError, match="implausible is 'drop': choose refuse or missing"):
        read(table(), implausible="drop")


def test_nought_minutes_have_any_unit():
    found = read(table(Onset_to_door=["0", "0:45"]))
    assert found["onset_to_ctp_min"].tolist() == [20, 60.5]
