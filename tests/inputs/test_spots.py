import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from lib.inputs.spots import assemble, check_section, label_of, pitch_of, read_labels, tissue_of


def section_of(counts=None, **kwargs):
    counts = np.array([[1, 0, 2], [0, 3, 0], [4, 0, 0], [0, 0, 7]]) if counts is None else counts
    told = {
        "spots": ["a", "b", "c", "d"],
        "genes": ["G1", "G2", "G3"],
        "xy": np.array([[0, 0], [10, 0], [0, 10], [10, 10]]),
        "array_xy": np.array([[0, 0], [1, 0], [0, 1], [1, 1]]),
        "tissue": ["invasive cancer", "connective tissue", "undetermined", ""],
        "label_source": ["pathologist", "pathologist", "pathologist", "none"],
        "name": "X1",
        "patient": "X",
        "platform": "st",
        "spot_diameter_um": 100,
        "pitch_um": 200,
    }
    return assemble(counts, **{**told, **kwargs})


def test_pitch_is_the_median_over_a_naive_search():
    xy = np.random.default_rng(0).uniform(0, 100, (60, 2))
    nearest = [min(np.hypot(*(a - b)) for j, b in enumerate(xy) if j != i) for i, a in enumerate(xy)]
    assert pitch_of(xy) == pytest.approx(np.median(nearest))
    assert pitch_of(3 * xy + 50) == pytest.approx(3 * pitch_of(xy))


@pytest.mark.parametrize(
    ("xy", "says"),
    [
        ([[0, 0]], "two spots"),
        ([[0, 0], [np.nan, 1]], "1 of 2 spots"),
        ([[1, 1], [1, 1]], "share their position"),
    ],
)
def test_pitch_refuses(xy, says):
    with pytest.raises(ValueError, match=says):
        pitch_of(np.array(xy))


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


def test_a_section_survives_h5ad(tmp_path):
    section = section_of(dropped="one")
    section.write_h5ad(tmp_path / "x.h5ad")
    again = anndata.read_h5ad(tmp_path / "x.h5ad")
    check_section(again)
    assert again.X.dtype == np.float32
    assert again.X.format == "csr"
    assert (again.X != section.X).nnz == 0
    assert again.obsm["spatial"].dtype == np.float64
    np.testing.assert_array_equal(again.obs["label"], np.float32([1, 0, np.nan, np.nan]))
    assert again.obs["label"].dtype == np.float32
    about = again.uns["section"]
    assert about["um_per_px"] == pytest.approx(20)
    assert list(about["picture_scale"]) == [1, 1]
    assert (about["name"], about["picture"], about["dropped"]) == ("X1", "", "one")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1, 0.5])
def test_counts_that_are_not_raw_are_refused_with_their_place(bad):
    counts = np.array([[1, 0, 2], [0, 3, 0], [4, 0, 0], [0, 0, 7]], dtype=float)
    counts[2, 1] = bad
    with pytest.raises(ValueError, match=r"section X1: 1 counts .* spot c, gene G2.*raw counts"):
        section_of(counts)


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        ({"spots": ["a", "b", "c", "a"]}, r"spots named twice: \['a'\]"),
        ({"genes": ["G1", "G2", "G1"]}, r"genes named twice: \['G1'\]"),
        ({"spots": ["a", "b", "c"]}, "counts are 4 x 3 but there are 3 spot names"),
        ({"label_source": "guessed"}, r"unknown label_source \['guessed'\]"),
        ({"picture_scale": (1, 0)}, "not a positive number"),
    ],
)
def test_bad_sections_are_refused_by_name(spoilt, says):
    with pytest.raises(ValueError, match="section X1: .*" + says):
        section_of(**spoilt)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s: s.obs.drop(columns="label", inplace=True), r"no column \['label'\]"),
        (lambda s: s.obs.__setitem__("label", 2.0), "labels other than 0, 1"),
        (lambda s: s.obsm.__delitem__("spatial"), "spatial"),
        (lambda s: s.uns.__delitem__("section"), "lib.inputs"),
        (lambda s: setattr(s, "X", sparse.csc_matrix(s.X)), "csr"),
    ],
)
def test_a_spoilt_section_is_refused(spoil, says):
    section = section_of()
    spoil(section)
    with pytest.raises(ValueError, match=says):
        check_section(section)


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
