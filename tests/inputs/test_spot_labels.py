import numpy as np
import pandas as pd
import pytest

from lib.spacrd.spots import label_of, read_labels, tissue_of


def test_labels_of_tissue_classes():
    kinds = pd.Series(["invasive cancer", "cancer in situ", "breast glands", "undetermined", "", None])
    np.testing.assert_array_equal(label_of(kinds), np.float32([1, 1, 0, np.nan, np.nan, np.nan]))


def test_tissue_from_numbers_and_names_agree_in_label():
    np.testing.assert_array_equal(
        label_of(tissue_of(pd.Series(["1", "0", None]))), np.float32([1, 0, np.nan])
    )
    assert tissue_of(pd.Series([" Invasive Cancer", None])).tolist() == ["invasive cancer", ""]
    with pytest.raises(ValueError, match=r"0 .other. and 1"):
        tissue_of(pd.Series([0, 1, 2]))


def test_label_tables(tmp_path):
    spots = pd.Index(["a", "b", "c"])
    path = tmp_path / "labels.csv"
    path.write_text("barcode,label\nb,1\na,0\nz,1\n")
    assert read_labels(path, spots, "X1").tolist() == ["not cancer", "invasive cancer", ""]
    (tmp_path / "labels.tsv").write_text("spot\tlabel\nb\tInvasive cancer\na\t\n")
    assert read_labels(tmp_path / "labels.tsv", spots, "X1").tolist() == ["", "invasive cancer", ""]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", r"columns \['a', 'b'\]"),
        ("spot,label\na,1\na,0\n", "labels a twice"),
        ("spot,label\nA-1,1\nB-1,0\nc,0\n", "only 1 of the 3 spots"),
        ("spot,label\na,Invasive_Tumor\nb,Stromal\n", r"\['invasive_tumor'\], which sound like cancer"),
        ("spot,label\na,3\n", "0 .other. and 1"),
    ],
)
def test_bad_label_tables(tmp_path, text, says):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=says):
        read_labels(tmp_path / "labels.csv", pd.Index(["a", "b", "c"]), "X1")


def test_no_label_table(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"section X1: no label file .*none.csv"):
        read_labels(tmp_path / "none.csv", pd.Index(["a"]), "X1")


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        (["NA", "stroma"], r"\['na'\], which do not say"),
        (["TRUE", "FALSE"], r"\['false', 'true'\], which do not say"),
        (["1", "stroma"], r"\['1'\], which do not say"),
        (["IDC", "stroma"], r"\['idc'\], which sound like cancer"),
        (["LCIS", "stroma"], r"\['lcis'\], which sound like cancer"),
    ],
)
def test_classes_that_would_silently_count_as_other_are_refused(classes, says):
    with pytest.raises(ValueError, match=f"^F has the classes {says}"):
        tissue_of(pd.Series(classes), "F")


def test_spaces_within_and_around_do_not_count(tmp_path):
    (tmp_path / "labels.csv").write_text("barcode,label\n a , Invasive  CANCER\nb,breast glands\n")
    found = read_labels(tmp_path / "labels.csv", pd.Index(["a", "b"]), "X1")
    assert found.tolist() == ["invasive cancer", "breast glands"]


def test_labels_of_spots_the_section_has_not_are_named(tmp_path):
    (tmp_path / "labels.csv").write_text("barcode,label\na,1\nb,0\nz,1\n")
    with pytest.warns(UserWarning, match=r"section X1: 1 of the 3 spots .* \(z\): their labels are left out"):
        read_labels(tmp_path / "labels.csv", pd.Index(["a", "b"]), "X1")
