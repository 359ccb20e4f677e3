from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.spacrd.cohort import COLUMNS, classes_of, read_section, read_table
from lib.spacrd.pictures import open_picture


def row_of(folder, section):
    table = read_table(folder / "sections.csv")
    return table[table["section"] == section].iloc[0].to_dict()


def test_phantoms_of_both_platforms_are_read(st_tree, visium_tree):
    for folder, section, platform in ((st_tree, "B1", "st"), (visium_tree, "VB1", "visium")):
        read = read_section(row_of(folder, section), folder)
        about = read.uns["section"]
        assert (about["name"], about["platform"]) == (section, platform)
        assert set(read.obs["label_source"]) == {"planted"}
        assert set(read.obs["label"].dropna()) == {0, 1}
        picture = open_picture(folder / about["picture"])
        x, y = (read.obsm["spatial"] * about["picture_scale"]).round().astype(int).T
        assert (picture[y, x] < 235).any(axis=1).mean() > 0.95, "spots lie on tissue"


def test_a_folder_in_the_table_leads_to_files_and_picture(st, tmp_path):
    row = {**row_of(st, "A1"), "folder": "st"}
    read = read_section(row, tmp_path)
    assert read.uns["section"]["picture"].startswith("st/data/")
    assert (tmp_path / read.uns["section"]["picture"]).is_file()


def test_cohort_without_labels_is_refused_unless_it_says_so(st):
    for path in (st / "data" / "ST-pat" / "lbl").iterdir():
        path.unlink()
    row = row_of(st, "A1")
    with pytest.raises(ValueError, match=r"section A1 has no labels but its label_grade is 'planted'"):
        read_section(row, st)
    unlabelled = read_section({**row, "label_grade": "none"}, st)
    assert unlabelled.obs["label"].isna().all()
    assert set(unlabelled.obs["label_source"]) == {"none"}


def test_grade_and_patient_must_be_those_of_the_files(st_tree):
    row = row_of(st_tree, "A1")
    hidden = read_section({**row, "label_grade": "none"}, st_tree)
    assert hidden.obs["label"].isna().all()
    assert set(hidden.obs["tissue"]) == {""}
    read = read_section({**row, "label_grade": "pathologist"}, st_tree)
    assert set(read.obs["label_source"]) == {"pathologist"}
    with pytest.raises(ValueError, match=r"label_grade 'transferred' but its labels are \['pathologist'\]"):
        read_section({**row, "label_grade": "transferred"}, st_tree)
    with pytest.raises(ValueError, match="patient B, the files patient A"):
        read_section({**row, "patient": "B"}, st_tree)


def test_own_label_file_for_st(st):
    spots = read_section(row_of(st, "A1"), st).obs_names
    pd.DataFrame({"spot": spots, "label": np.arange(len(spots)) % 2}).to_csv(st / "own.csv", index=False)
    read = read_section({**row_of(st, "A1"), "labels": "own.csv"}, st)
    np.testing.assert_array_equal(read.obs["label"], np.arange(len(spots)) % 2)


def table_text(**changed) -> str:
    cells = dict(zip(COLUMNS, ["A1", "A", "st", "", "", "pathologist", ""], strict=True)) | changed
    return ",".join(COLUMNS) + "\n" + ",".join(cells.values()) + "\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (table_text(platform="slide-seq"), "section A1 has platform 'slide-seq'"),
        (table_text(label_grade="sure"), "section A1 has label_grade 'sure'"),
        (table_text(patient=""), "patient"),
        (table_text() + "A1,A,st,,,weak,\n", "section A1 stands twice"),
        ("section,patient\nA1,A\n", "no column platform, folder, labels, label_grade of section"),
        (",".join(COLUMNS) + "\n", ": no section"),
    ],
)
def test_bad_tables(tmp_path, text, says):
    (tmp_path / "sections.csv").write_text(text)
    with pytest.raises(ValueError, match=says):
        read_table(tmp_path / "sections.csv")


def test_a_table_as_a_spreadsheet_writes_it_and_all_that_is_wrong_with_it(tmp_path):
    path = tmp_path / "sections.csv"
    text = table_text().replace(",note", "").replace("pathologist,\n", "pathologist\n")
    path.write_text(text)
    plain = read_table(path)
    assert list(plain.columns) == list(COLUMNS)
    head, row = text.split("\n", 1)
    text = (head.title() + "\n" + row.replace("st", "ST")).replace(",", ";")
    path.write_text("\ufeff" + text, encoding="utf-8")
    pd.testing.assert_frame_equal(read_table(path), plain)
    path.write_text(table_text(platform="vizium", label_grade="sure") + "A1,=A,st,,,weak,\n")
    with pytest.raises(ValueError, match="A1 stands twice") as said:
        read_table(path)
    assert len(str(said.value).splitlines()) == 4


def test_classes_of_the_table(st):
    row = {**row_of(st, "A1"), "labels": "own.csv", "label_grade": "pathologist"}
    spots = read_section(row_of(st, "A1"), st).obs_names
    kinds = np.array(["GG4  Cribriform", "PIN", "Exclude"])[np.arange(len(spots)) % 3]
    pd.DataFrame({"Barcode": spots, "Pathologist": kinds}).to_csv(st / "own.csv", index=False)
    told = {**row, "cancer": "gg4 cribriform", "other": "benign; PIN", "undetermined": "Exclude"}
    np.testing.assert_array_equal(read_section(told, st).obs["label"], np.resize([1, 0, np.nan], len(spots)))
    with pytest.raises(ValueError, match=r"A1: the section table lists 'pin' under cancer and under other"):
        read_section({**told, "cancer": "PIN"}, st)


def test_the_words_of_the_colorectal_pathologists_are_all_declared(root: Path):
    """Those of the 14 files of Pathology_SpotAnnotations, as public projects that read them list them; a few of them."""
    classes = classes_of(read_table(root / "data/cohorts/spacrd/crc.csv").iloc[0])
    words = ("tumor", "tumor&stroma_ic med to high", "ic aggregate_submucosa")
    assert [classes[word] for word in words] == [1, 1, 0]
    assert np.isnan(classes["exclude"])


def test_committed_tables(root: Path):
    tables = {path.stem: read_table(path) for path in (root / "data" / "cohorts" / "spacrd").glob("*.csv")}
    assert {name: len(table) for name, table in tables.items() if name in ("her2st", "crc", "vihbc", "idc", "xehbc")} == {
        "her2st": 15, "crc": 14, "vihbc": 1, "idc": 1, "xehbc": 1,
    }  # fmt: skip
    grades = tables["her2st"].set_index("section")["label_grade"]
    assert sorted(grades[grades == "pathologist"].index) == ["A1", "B1", "C1", "D1", "E1", "F1", "G2", "H1"]
    assert sorted(grades[grades == "transferred"].index) == ["A2", "B4", "C2", "C4"]
    assert sorted(grades[grades == "weak"].index) == ["C3", "C5", "C6"]
    assert tables["crc"]["patient"].nunique() == 7
    # one cohort tests what another trained: a patient's name must not mean two people
    names = [name for table in tables.values() for name in table["patient"].unique()]
    assert len(names) == len(set(names))
