"""A matched cohort's folder: what is read, what is counted, and every way in which somebody's table is wrong."""

import numpy as np
import pandas as pd
import pytest

from lib.gcmlm.matched import found_at, read_matched, size_of, written_as

CLINICAL = """patient,hospital,age,male,lauren,cea,time_months,event
GA1,A,61,1,intestinal,3.5,30.2,0
GA2,A,70,0,diffuse,,9,1
GA3,B,NA,1,mixed,12,4.5,yes
GA4,B,55,0,,8,,
"""
SCANS = """patient,image,mask,label
GA1,scans/GA1.nii.gz,scans/GA1_mask.nii.gz,
GA2,scans/GA2,,liver
GA3,scans/GA3.nii.gz,scans/GA3_mask.nii.gz,2
"""
SLIDES = """patient,slide,path,um_per_px
GA1,GA1-a,slides/GA1-a.svs,0.25
GA1,GA1-b,slides/GA1-b.svs,
GA2,,slides/GA2-a.tiff,0.5
GA4,GA4-a,slides/GA4-a.svs,
"""
FACTORS = ["age", "male", "lauren", "cea"]


@pytest.fixture
def cohort(tmp_path):
    """Four patients: GA1 has all, GA2 a DICOM folder without mask, GA3 no slide, GA4 neither CT nor follow-up."""
    for name, text in (("clinical", CLINICAL), ("scans", SCANS), ("slides", SLIDES)):
        (tmp_path / f"{name}.csv").write_text(text)
    for name in ("GA1.nii.gz", "GA1_mask.nii.gz", "GA3.nii.gz", "GA3_mask.nii.gz", "GA2/one.dcm"):
        put(tmp_path / "scans" / name)
    for name in ("GA1-a.svs", "GA1-b.svs", "GA2-a.tiff", "GA4-a.svs"):
        put(tmp_path / "slides" / name)
    return tmp_path


def put(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def change(folder, table, old, new):
    path = folder / f"{table}.csv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_is_read(cohort):
    people, scans, slides = read_matched(cohort, FACTORS)
    assert people["patient"].tolist() == ["GA1", "GA2", "GA3", "GA4"]
    assert people["hospital"].tolist() == ["A", "A", "B", "B"]
    np.testing.assert_array_equal(people["age"], [61, 70, np.nan, 55])
    np.testing.assert_array_equal(people["cea"], [3.5, np.nan, 12, 8])
    assert people["lauren"].tolist() == ["intestinal", "diffuse", "mixed", None]
    np.testing.assert_array_equal(people["event"], [0, 1, 1, np.nan])
    assert people["problem"].tolist() == ["", "", "", "no follow-up"]
    assert scans["label"].tolist() == [1, "liver", 2]
    assert read_matched(cohort, label="tumour").scans["label"].tolist() == ["tumour", "liver", 2]
    assert scans["image"].tolist()[1] == str(cohort / "scans" / "GA2")
    assert scans["mask"].tolist()[1] == ""
    assert slides["slide"].tolist() == ["GA1-a", "GA1-b", "GA2-a", "GA4-a"]
    np.testing.assert_array_equal(slides["um_per_px"], [0.25, np.nan, 0.5, np.nan])
    assert (scans["problem"] == "").all()
    assert (slides["problem"] == "").all()


def test_listed_file_that_is_not_there_is_reported_in_its_row(cohort):
    (cohort / "scans" / "GA3_mask.nii.gz").unlink()
    (cohort / "scans" / "GA2" / "one.dcm").unlink()
    (cohort / "slides" / "GA1-b.svs").write_bytes(b"")
    change(cohort, "slides", "slides/GA4-a.svs", "slides/other.svs")
    matched = read_matched(cohort, FACTORS)
    assert matched.scans["problem"].tolist() == [
        "",
        "image scans/GA2 is empty",
        "mask scans/GA3_mask.nii.gz is not there",
    ]
    assert matched.slides["problem"].tolist() == [
        "",
        "slide slides/GA1-b.svs is empty",
        "",
        "slide slides/other.svs is not there",
    ]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_delimiter_and_byte_order_mark_make_no_difference(cohort, delimiter):
    before = read_matched(cohort, FACTORS)
    for name in ("clinical", "scans", "slides"):
        text = (cohort / f"{name}.csv").read_text(encoding="utf-8").replace(",", delimiter)
        (cohort / f"{name}.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    for one, other in zip(read_matched(cohort, FACTORS), before, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_a_spreadsheet_reads_alike(cohort):
    before = read_matched(cohort, FACTORS)
    pd.read_csv(cohort / "clinical.csv").to_excel(cohort / "clinical.xlsx", index=False)
    with pytest.raises(ValueError, match=r"both clinical\.csv and clinical\.xlsx: remove one"):
        read_matched(cohort, FACTORS)
    (cohort / "clinical.csv").unlink()
    pd.testing.assert_frame_equal(read_matched(cohort, FACTORS).patients, before.patients)


def test_declared_columns(cohort):
    change(cohort, "clinical", "patient,hospital,age,male", "Patient ID,Centre,Age at surgery,Sex")
    mapping = {"patient": "patient id", "hospital": "Centre", "age": "Age at surgery", "male": "Sex"}
    people = read_matched(cohort, ["age", "male"], mapping).patients
    assert people["male"].tolist() == [1, 0, 1, 0]
    assert people["hospital"].tolist() == ["A", "A", "B", "B"]
    with pytest.raises(ValueError, match="mapping names cea, not asked for"):
        read_matched(cohort, ["age", "male"], mapping | {"cea": "CEA"})


def test_files_of_a_modality_may_be_absent_altogether(cohort):
    (cohort / "slides.csv").unlink()
    assert read_matched(cohort, FACTORS).slides.empty
    (cohort / "clinical.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no clinical\.csv or clinical\.xlsx"):
        read_matched(cohort)


def test_one_of_two_scans_is_chosen_by_name(cohort):
    put(cohort / "scans" / "GA1_late.nii.gz")
    change(cohort, "scans", "GA2,", "GA1,scans/GA1_late.nii.gz,,\nGA2,")
    with pytest.raises(ValueError, match="patient GA1 has 2 scans: remove all but one, or add a column use"):
        read_matched(cohort)
    lines = (cohort / "scans.csv").read_text(encoding="utf-8").splitlines()
    marks = ["use", "no", "yes", "yes", "yes"]
    (cohort / "scans.csv").write_text(
        "\n".join(f"{line},{mark}" for line, mark in zip(lines, marks, strict=True))
    )
    scans = read_matched(cohort).scans
    assert scans["patient"].tolist() == ["GA1", "GA2", "GA3"]
    assert scans["image"].iloc[0].endswith("GA1_late.nii.gz")


@pytest.mark.parametrize(
    ("table", "old", "new", "said"),
    [
        ("clinical", "GA2,A", "GA1,A", "patient GA1 stands twice; one row is expected"),
        ("clinical", "GA2,A", "unknown,A", "row 2 names no patient"),
        ("clinical", "GA2,A,70", "GA2,A,seventy", "age of patient GA2: 'seventy' is no number, as 2 others are"),
        ("clinical", "8,,", "8,soon,", "time_months of patient GA4: 'soon' is no number"),
        ("clinical", "30.2", "-1", "time_months of patient GA1 is -1, 0 to 1200 months"),
        ("clinical", "30.2", "43586", "time_months of patient GA1 is 43586, 0 to 1200 months, no date"),
        ("clinical", "4.5,yes", "4.5,2", "event of patient GA3: '2' is no category"),
        ("clinical", ",cea,", ",cea_level,", "has no column cea; nearest: cea_level"),
        ("clinical", "time_months", "months", "has no column time_months; nearest: months"),
        ("scans", "GA3,", "GA03,", "patient GA03 is not in the clinical table; nearest: GA3"),
        ("scans", "image", "scan", "has no column image"),
        ("scans", "scans/GA3.nii.gz", "scans/GA1.nii.gz", r"image scans/GA1.nii.gz stands twice, of GA1 and GA3"),
        ("scans", "scans/GA3.nii.gz", "../GA3.nii.gz", "image of patient GA3 is ../GA3.nii.gz, and a path must stay"),
        ("scans", "scans/GA3.nii.gz", "/data/GA3.nii.gz", "image of patient GA3 is /data/GA3.nii.gz"),
        ("slides", "slides/GA2-a.tiff", "C:\\x\\GA2-a.tiff", "path of patient GA2 is C:/x/GA2-a.tiff"),
        ("slides", "slides/GA2-a.tiff", "slides\\..\\..\\a.tiff", "a path must stay in the folder"),
        ("slides", "GA1-b,", "GA1-a,", "slide GA1-a stands twice, of GA1 and GA1"),
        ("slides", "GA4-a,slides/GA4-a", "GA4-a,slides/GA1-a", "path slides/GA1-a.svs stands twice, of GA1 and GA4"),
        ("slides", "GA4-a,slides", "x/GA4-a,slides", "slide 'x/GA4-a' holds a slash"),
        ("slides", "0.25", "0", "um_per_px of slide GA1-a is not within"),
        ("slides", "0.25", "40x", "um_per_px of slide GA1-a: '40x' is no number"),
        ("slides", "GA4,GA4-a", "GB4,GA4-a", "patient GB4 is not in the clinical table"),
    ],
)  # fmt: skip
def test_refused_in_a_sentence(cohort, table, old, new, said):
    change(cohort, table, old, new)
    with pytest.raises(ValueError, match=said):
        read_matched(cohort, FACTORS)


def test_factors_named_twice_are_refused(cohort):
    for wrong in (["age", "age"], ["event"]):
        with pytest.raises(ValueError, match=f"factors name {wrong[0]}"):
            read_matched(cohort, wrong)


@pytest.mark.parametrize("cell", ["=1+2", "61,5", "2019-05-01", "1/5/2019"])
def test_a_formula_a_date_or_a_decimal_comma_is_no_category(cohort, cell):
    change(cohort, "clinical", "intestinal", f'"{cell}"')
    with pytest.raises(ValueError, match=r"lauren of patient GA1 is .*write numbers with a point"):
        read_matched(cohort, FACTORS)


def test_windows_separators_mean_folders(cohort):
    change(cohort, "slides", "slides/GA2-a.tiff", "slides\\GA2-a.tiff")
    slides = read_matched(cohort).slides
    assert slides["problem"].tolist() == [""] * 4
    assert slides["slide"].iloc[2] == "GA2-a"


# where a file lies


def test_a_path_comes_back_relative_and_the_first_folder_wins(tmp_path):
    raw, made = tmp_path / "raw", tmp_path / "made"
    for folder in (raw, made):
        (folder / "ct").mkdir(parents=True)
    (made / "ct" / "mask.nii.gz").write_bytes(b"1234")
    text = written_as(made / "ct" / "mask.nii.gz", [raw, made])
    assert text == "ct/mask.nii.gz"
    assert found_at(text, [raw, made]) == made / "ct" / "mask.nii.gz"
    (raw / "ct" / "mask.nii.gz").write_bytes(b"1")
    assert found_at(text, [raw, made]) == raw / "ct" / "mask.nii.gz"
    assert (size_of(made / "ct"), size_of(made / "ct" / "mask.nii.gz")) == (4, 4)
    with pytest.raises(ValueError, match="lies below none of"):
        written_as("/elsewhere/scan.nii.gz", [tmp_path])
    with pytest.raises(FileNotFoundError, match="run the stage before again"):
        found_at("scan.nii.gz", [tmp_path])
