"""The table of one's own patients: read as it is written, and refused where it cannot be meant."""

import pytest

from lib.stroke.clinical import POSTPROCEDURAL
from lib.stroke.patients import read_patients

HEAD = "patient,film,series,interval_s,age,onset_to_ctp_min,ctp_to_recanalisation_min,nihss,sex,hypertension,smoking,"
HEAD += "atrial_fibrillation,mtici,mrs\n"
FIRST = "patient_0,a/ctp.nii.gz,,1.5,70,90,1:10,12,F,yes,no,1,2b,3\n"
SECOND = "patient 0-B,b,CTP 5.0,,,,,,,,,,,\n"


def written(folder, text):
    for name in ("a/ctp.nii.gz", "b/1"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    (folder / "patients.csv").write_text(text)
    return folder


def test_a_row_is_read_as_it_is_written(tmp_path):
    table, path, remarks = read_patients(written(tmp_path, HEAD + FIRST + SECOND), {})
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
    table, _, remarks = read_patients(written(tmp_path, text), mapping)
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
        read_patients(written(tmp_path, text), {})


def test_two_tables_or_none_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_patients(tmp_path, {})
    written(tmp_path, HEAD + FIRST)
    (tmp_path / "patients.tsv").write_text("x")
    with pytest.raises(ValueError, match=r"both patients\.csv and patients\.tsv"):
        read_patients(tmp_path, {})
