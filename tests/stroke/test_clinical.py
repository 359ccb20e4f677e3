"""Clinical variables: what a clinic's texts say, nothing guessed, and the nine of a stroke patient as the network reads them."""

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import MinMaxScaler

from lib.check import remarked
from lib.stroke.clinical import (
    ADMISSION,
    CATEGORICAL,
    CONTINUOUS,
    POSTPROCEDURAL,
    arrays,
    mapped,
    minutes,
    read_patients,
    variables,
)
from lib.stroke.raw import variables_table

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
    return pd.DataFrame(base | {name.replace("_", " "): value for name, value in columns.items()}, ["a", "b"])


def read(raw, mapping=(), **others):
    return mapped(raw, MAPPING | dict(mapping), **others)


MINUTES = {
    "83": 83,
    "83.5": 83.5,
    "1:23": 83,
    "01:23:00": 83,
    "1:23:30.6": 83.51,
    "27:10:00": 1630,
    "-12": -12,
}
MINUTES |= {"-0:05:00": -5, "0 days 01:23:00": 83, "1 day, 1:00:00": 1500, "null": np.nan}


@pytest.mark.parametrize(("text", "expected"), MINUTES.items())
def test_minutes(text, expected):
    assert minutes(text) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("text", ["1:60", "1:2", "one hour", "1:23:00 h", "12:30 PM", "inf", "08:00-09:00"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match=rf"'{text}' is neither minutes nor a duration"):
        minutes(text)


def test_every_variable_by_hand():
    found = read(table())
    assert list(found) == [*MAPPING, "note"]
    assert list(found.index) == ["a", "b"]
    first, second = found.drop(columns="note").to_numpy(float)
    nan = np.nan
    np.testing.assert_allclose(first, [71, 80, 100, 12, 0, 1, nan, 0, 1, 3])
    np.testing.assert_allclose(second, [82, 60.5, nan, nan, 1, 0, nan, nan, 2, 0])
    assert set(found["note"]) == {""}


def test_expressions():
    raw = table(Wake_up=["5", "6"], **{"A - B": ["7", "8"]})
    assert read(raw, {"age": "Wake up"})["age"].tolist() == [5, 6]
    assert read(raw, {"age": "A - B"})["age"].tolist() == [7, 8]
    assert read(raw, {"age": "Age - Wake up + NIHSS"})["age"].tolist()[0] == 71 - 5 + 12
    assert read(raw, {"age": 50})["age"].tolist() == [50, 50]
    assert read(raw, {"smoking": "1"})["smoking"].tolist() == [1, 1]
    three = read(table(), {"onset_to_ctp_min": "Onset to door + Door to imaging - Door to imaging"})
    assert three["onset_to_ctp_min"].tolist() == [60, 45]


def test_alternative_names_complete_one_another():
    raw = table(TICI=["nan", "3"], mTICI=["2c", ""])
    assert read(raw)["mtici"].tolist() == [2, 2]
    same = table(TICI=["2B", "3"], mTICI=["2b", ""])
    assert read(same)["mtici"].tolist() == [1, 2]
    with pytest.raises(ValueError, match="patient a has TICI '2b' and mTICI '3': which is mtici"):
        read(table(mTICI=["3", ""]))


@pytest.mark.parametrize(
    ("columns", "mapping", "message"),
    [
        ({}, {"age": "Agee"}, "age: no table has a column 'Agee'; nearest: Age"),
        ({}, {"agee": "Age"}, "agee is no clinical variable; nearest: age"),
        ({}, {"nihss": "NIHSS + Door to image"}, "no table has a column 'Door to image'; nearest"),
        ({}, {"sex": "Sex + AF"}, "sex is a category, so 'Sex [+] AF', a sum, cannot be it"),
        ({}, {"smoking": 2}, "smoking is declared 2 for all, which is no value of it"),
        ({}, {"age": float("nan")}, "age: no table has a column 'nan'"),
        ({"Age": ["71", "old"]}, {}, "Age of patient b: 'old' is no number"),
        ({"Sex": ["F", "w"]}, {}, "Sex of patient b: 'w' is no category it has"),
        ({"Sex": ["F", "1"]}, {}, "Sex of patient b: '1' is no category"),
        ({"Hypertension": ["1", "2"]}, {}, "Hypertension of patient b: '2' is no category"),
        ({"mRS": ["1", "7"]}, {}, "mRS of patient b: '7' is no category"),
        ({"TICI": ["2b50", "3"]}, {}, "TICI of patient a: '2b50' is no category it has; known: 0, 1, 2a"),
        ({"Age": ["x"] * 2, "Sex": ["z"] * 2}, {}, "Age of patient a, b: 'x'.*\nSex of patient a, b: 'z'"),
        ({"Age": ["171", "82"]}, {}, "age of patient a is 171, 0 to 120 years are expected"),
        ({"Door_to_recanalization": ["0:10", ""]}, {}, "of patient a is -10, 0 to 10080 minutes"),
        ({"Onset_to_door": ["60", "0:45"]}, {}, "clock time for some .* number for 1, as 60 of patient a"),
    ],
)
def test_what_is_refused(columns, mapping, message):
    with pytest.raises(ValueError, match=message):
        read(table(**columns), mapping)


def test_onset_in_hours_and_codes_of_what_is_missing():
    hours = read(table(Onset_to_door=["0:03", "0:04"], Door_to_imaging=["0:00", "0:00"]))
    said = ("column onset_to_ctp_min", "median 3.5 minutes: are these hours?", False)
    assert remarked(variables_table(hours)) == [said], "what `make check` says of it"
    with pytest.raises(ValueError, match=r"onset_to_ctp_min of patient b is 999, .*; 999: a code"):
        read(table(Onset_to_door=["60", "999"], Door_to_imaging=["0", "0"]))


def test_implausible_may_be_missing_and_is_said():
    found = read(table(Age=["171", "82"], NIHSS=["-1", "3"]), implausible="missing")
    assert found["age"].isna().tolist() == [True, False]
    assert found["note"].tolist() == [
        "age is 171, not between 0 and 120 years: taken as missing; "
        "nihss is -1, not between 0 and 42 points: taken as missing",
        "",
    ]


# the nine variables


def patients(n=6, seed=0):
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"age": random.integers(40, 90, n)}, [f"p{row}" for row in range(n)])
    table["onset_to_ctp_min"] = random.integers(30, 600, n)
    table["ctp_to_recanalisation_min"] = random.integers(20, 200, n)
    table["nihss"] = random.integers(0, 30, n)
    for name, levels in CATEGORICAL.items():
        table[name] = random.integers(0, len(levels), n)
    return table.astype(float)


def test_order_is_the_reference_s():
    assert CONTINUOUS == ("age", "onset_to_ctp_min", "ctp_to_recanalisation_min", "nihss")
    assert tuple(map(len, CATEGORICAL.values())) == (2, 2, 2, 2, 3)
    assert variables("postprocedural") == POSTPROCEDURAL == (*CONTINUOUS, *CATEGORICAL)
    assert variables("admission") == ADMISSION  # which knows nothing of the procedure
    assert set(POSTPROCEDURAL) - set(ADMISSION) == {"ctp_to_recanalisation_min", "mtici"}


def test_scale_is_the_lowest_and_highest_of_the_rows_given():
    table = patients()
    table.loc["p5", "age"] = 119.0  # beyond what was fitted on
    train, rest = table[:4], table[4:]
    found = arrays(rest, train).continuous
    naive = MinMaxScaler(clip=True).fit(train[list(CONTINUOUS)]).transform(rest[list(CONTINUOUS)])
    np.testing.assert_allclose(found, naive, rtol=1e-6)
    assert found[1, 0] == 1
    hours = table.assign(onset_to_ctp_min=table["onset_to_ctp_min"] / 60 + 1)  # shift and unit do not matter
    np.testing.assert_allclose(arrays(hours[4:], hours[:4]).continuous, found, rtol=1e-6)


def test_constant_tells_nothing_and_a_variable_nobody_had_has_no_scale():
    table = patients()
    found = arrays(table.assign(nihss=9.0), table.assign(nihss=7.0))
    assert not found.continuous[:, 3].any()
    assert not found.missing.any()
    assert arrays(table, table.assign(nihss=np.nan)).missing.sum(0).tolist() == [0, 0, 0, 6, *[0] * 5]


@pytest.mark.parametrize(("which", "wide"), [("admission", (3, 4)), ("postprocedural", (4, 5))])
def test_arrays_have_the_model_s_shapes_whatever_the_order_of_columns(which, wide):
    table = patients()[list(variables(which))]
    found = arrays(table, table)
    assert [part.shape for part in found] == [(6, wide[0]), (6, wide[1]), (6, sum(wide))]
    assert [part.dtype for part in found] == [np.float32, np.int64, bool]
    assert not found.missing.any()
    np.testing.assert_array_equal(found.categorical, table[[name for name in CATEGORICAL if name in table]])
    assert (found.continuous.min(), found.continuous.max()) == (0, 1)
    for one, other in zip(found, arrays(table[table.columns[::-1]], table), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["nihss", "mtici"])
def test_missing_value_is_marked_at_its_own_place_only(name):
    table, gone = patients(), patients()
    gone.loc["p3", name] = np.nan
    full, found = arrays(table, table), arrays(gone, table)
    place = POSTPROCEDURAL.index(name)
    assert np.argwhere(found.missing).tolist() == [[3, place]]
    both, whole = (np.hstack(each[:2]) for each in (found, full))
    assert both[3, place] == 0
    np.testing.assert_array_equal(both[~found.missing], whole[~found.missing])


# the table of one's own patients


HEAD = "patient,film,series,interval_s,age,onset_to_ctp_min,ctp_to_recanalisation_min,nihss,sex,hypertension,smoking,"
HEAD += "atrial_fibrillation,mtici,mrs\n"
FIRST = "patient_0,a/ctp.nii.gz,,1.5,70,90,1:10,12,F,yes,no,1,2b,3\n"
SECOND = "patient 0-B,b,CTP 5.0,,,,,,,,,,,\n"


def with_films(folder, text):
    for name in ("a/ctp.nii.gz", "b/1"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    (folder / "patients.csv").write_text(text)
    return folder


def test_a_row_is_read_as_it_is_with_films(tmp_path):
    table, path, remarks = read_patients(with_films(tmp_path, HEAD + FIRST + SECOND), {})
    assert path == tmp_path / "patients.csv"
    assert list(table.index) == ["patient_0", "patient 0-B"]
    assert remarks == []
    one, other = table.loc["patient_0"], table.loc["patient 0-B"]
    assert one[list(POSTPROCEDURAL)].tolist() == [70, 90, 70, 12, 0, 1, 0, 1, 1]
    assert (one["mrs"], one["interval_s"], one["film"]) == (3, 1.5, str(tmp_path / "a/ctp.nii.gz"))
    assert (other["film"], other["series"], other["problem"]) == (str(tmp_path / "b"), "CTP 5.0", "")
    assert other[[*POSTPROCEDURAL, "mrs", "interval_s"]].isna().all()


def test_columns_are_optional_called_otherwise_or_left_over_and_that_is_said(tmp_path):
    text = "Patient;FILM;NIHSS;Alter;Onset to CT;Remark;mRS 90d\nP1;b;4;66;1:30;good;0\nP2;;5;70;2:00;;6\nP3;c;5;70;2:00;;\n"
    mapping = {"age": "Alter", "onset_to_ctp_min": "Onset to CT", "mrs": "mRS 90d"}
    table, _, remarks = read_patients(with_films(tmp_path, text), mapping)
    assert table.loc["P1", ["age", "onset_to_ctp_min", "nihss", "mrs"]].tolist() == [66, 90, 4, 0]
    assert table["sex"].isna().all()
    assert table["problem"].tolist() == ["", "no film is named", "film c is not there"]
    assert remarks[0] == "columns not read: Remark"
    assert any(words.startswith("no column of sex") for words in remarks)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patient,mrs\nP1,0\n", r"patients\.csv has no column film"),
        ("patient,film,mRS3m\nP1,b,0\n", r"has no column mrs; nearest: mRS3m"),
        (HEAD + FIRST + FIRST, "patient patient_0 stands twice"),
        (
            HEAD + FIRST + FIRST.replace("patient_0", "patient_00"),
            "differ only in case, spaces or leading zeros",
        ),
        (
            HEAD + FIRST + FIRST.replace("patient_0", "P9"),
            r"film a/ctp\.nii\.gz stands twice, of patient_0 and P9",
        ),
        (HEAD + FIRST.replace("a/ctp", "../a/ctp"), "a path must stay in"),
        (HEAD + FIRST.replace("a/ctp", "C:\\\\a\\\\ctp"), "a path must stay in"),
        (
            HEAD + FIRST.replace(",1.5,", ",1500,"),
            r"interval_s of patient patient_0 is 1500: seconds are expected",
        ),
        (HEAD + FIRST.replace(",1.5,", ",fast,"), "'fast' is no number"),
        (HEAD + FIRST.replace(",70,", ",21915,"), r"age of patient patient_0 is 21915, 0 to 120 years"),
        (HEAD + FIRST.replace(",F,", ",1,"), "'1' is no category it has"),
        (HEAD + FIRST.replace("2b,3", "2b,7"), "mrs of patient patient_0: '7' is no category"),
    ],
)
def test_what_cannot_be_meant_is_refused(text, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        read_patients(with_films(tmp_path, text), {})


def test_two_tables_or_none_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_patients(tmp_path, {})
    with_films(tmp_path, HEAD + FIRST)
    (tmp_path / "patients.tsv").write_text("x")
    with pytest.raises(ValueError, match=r"both patients\.csv and patients\.tsv"):
        read_patients(tmp_path, {})
