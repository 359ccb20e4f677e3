"""A section: labels that are labels, counts that are counts, and a file that Scanpy and Squidpy open with its picture."""

import time

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy
import squidpy
from PIL import Image
from scipy import sparse

from lib.files import sha256_of
from lib.spacrd.spots import (
    as_numbers,
    assemble,
    check_section,
    label_of,
    pitch_of,
    read_labels,
    read_section,
    tissue_of,
    write_section,
)


def section_of(counts=None, **kwargs):
    counts = np.array([[1, 0, 2], [0, 3, 0], [4, 0, 0], [0, 0, 7]]) if counts is None else counts
    told = {
        "spots": ["a", "b", "c", "d"],
        "genes": ["G1", "G2", "G3"],
        "xy": np.array([[0, 0], [10, 0], [0, 10], [10, 10]]),
        "array_xy": np.array([[0, 0], [1, 0], [0, 1], [1, 1]]),
        "tissue": ["invasive cancer", "connective tissue", "undetermined", ""],
        "source": ["pathologist", "pathologist", "pathologist", "none"],
        "name": "X1",
        "patient": "X",
        "platform": "st",
        "sizes_um": (100, 200),
    }
    told |= kwargs
    named = anndata.AnnData(counts)
    named.obs_names, named.var_names = told.pop("spots"), told.pop("genes")
    return assemble(named, **told)


def test_pitch_is_the_median_over_a_naive_search():
    xy = np.random.default_rng(0).uniform(0, 100, (60, 2))
    nearest = [min(np.hypot(*(a - b)) for j, b in enumerate(xy) if j != i) for i, a in enumerate(xy)]
    assert pitch_of(xy) == pytest.approx(np.median(nearest))
    assert pitch_of(3 * xy + 50) == pytest.approx(3 * pitch_of(xy))


def test_spots_in_one_place_have_no_pitch():
    with pytest.raises(ValueError, match="no pitch"):
        pitch_of(np.ones((3, 2)))


def test_a_section_survives_h5ad(tmp_path):
    section = section_of(dropped=["one"])
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
    with pytest.raises(ValueError, match=r"1 counts .* spot c, gene G2.*raw counts"):
        section_of(counts)


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        ({"spots": ["a", "b", "c", "a"]}, r"spots named twice: \['a'\]"),
        ({"genes": ["G1", "G2", "G1"]}, r"genes named twice: \['G1'\]"),
        ({"source": ["guessed"] * 4}, r"unknown label_source \['guessed'\]"),
        ({"picture_scale": (1, 0)}, "not a positive number"),
    ],
)
def test_bad_sections_are_refused_by_name(spoilt, says):
    with pytest.raises(ValueError, match=".*" + says):
        section_of(**spoilt)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s: s.obs.drop(columns="label", inplace=True), r"no column \['label'\]"),
        (lambda s: s.obs.__setitem__("label", 2.0), "labels other than 0"),
        (lambda s: s.obsm["spatial"].__setitem__((0, 0), np.nan), "spatial"),
        (lambda s: setattr(s, "X", sparse.csc_matrix(s.X)), "csr"),
    ],
)
def test_a_spoilt_section_is_refused(spoil, says):
    section = section_of()
    spoil(section)
    with pytest.raises(ValueError, match=says):
        check_section(section)


def test_counts_float32_cannot_hold_are_refused():
    counts = np.array([[1, 0, 2], [0, 3, 0], [4, 0, 0], [0, 0, 7]])
    counts[1, 1] = 2**24
    assert section_of(counts).X.max() == 2**24
    counts[1, 1] += 1
    with pytest.raises(ValueError, match=r"a count of 1\.67772e"):
        section_of(counts)


def test_genes_that_became_dates_are_named():
    for name in ("1-Mar", "Sep-02", "2-Sept", "2001-09-02"):
        with pytest.warns(UserWarning, match=rf"X1: 1 genes are named like dates \({name}\)"):
            section_of(genes=["G1", "G2", name])


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    "name", ["MARCH1", "SEPT2", "DEC1", "MAR1", "HLA-A", "MT-ND1", "NKX2-1", "OCT4", "Apr3"]
)
def test_genes_that_are_genes_are_not(name):
    assert section_of(genes=["G1", "G2", name]).var_names[2] == name


def test_labels_of_tissue_classes():
    kinds = pd.Series(["invasive cancer", "cancer in situ", "breast glands", "undetermined", "", None])
    np.testing.assert_array_equal(label_of(kinds), np.float32([1, 1, 0, np.nan, np.nan, np.nan]))


def test_tissue_from_numbers_and_names_agree_in_label():
    np.testing.assert_array_equal(
        label_of(tissue_of(pd.Series(["1", "0", None]))), np.float32([1, 0, np.nan])
    )
    assert tissue_of(pd.Series([" Invasive Cancer", None])).tolist() == ["invasive cancer", ""]
    with pytest.raises(ValueError, match=r"0 .other. or 1"):
        tissue_of(pd.Series([0, 1, 2]))


def test_label_tables(tmp_path):
    spots = pd.Index(["a", "b", "c"])
    path = tmp_path / "labels.csv"
    path.write_text("barcode,label\nb,1\na,0\nz,1\n")
    assert read_labels(path, spots).tolist() == ["not cancer", "invasive cancer", ""]
    (tmp_path / "labels.tsv").write_text("spot\tlabel\nb\tInvasive cancer\na\t\n")
    assert read_labels(tmp_path / "labels.tsv", spots).tolist() == ["", "invasive cancer", ""]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", r"columns \['a', 'b'\]"),
        ("spot,label\na,1\na,0\n", "gives a twice"),
        ("spot,label\nA-1,1\nB-1,0\nc,0\n", "2 of the 3 spots"),
        ("spot,label\na,Invasive_Tumor\nb,Stromal\n", r"\['invasive_tumor'\], which would count as other"),
        ("spot,label\na,3\n", "0 .other. or 1"),
    ],
)
def test_bad_label_tables(tmp_path, text, says):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=says):
        read_labels(tmp_path / "labels.csv", pd.Index(["a", "b", "c"]))


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        (["NA", "stroma"], r"\['na'\], which would count as other"),
        (["TRUE", "FALSE"], r"\['false', 'true'\], which would count as other"),
        (["1", "stroma"], r"\['1'\], which would count as other"),
        (["IDC", "stroma"], r"\['idc'\], which would count as other"),
        (["LCIS", "stroma"], r"\['lcis'\], which would count as other"),
    ],
)
def test_classes_that_would_silently_count_as_other_are_refused(classes, says):
    with pytest.raises(ValueError, match=f"^F has the classes {says}"):
        tissue_of(pd.Series(classes), "F")


def test_spaces_within_and_around_do_not_count(tmp_path):
    (tmp_path / "labels.csv").write_text("barcode,label\n a , Invasive  CANCER\nb,breast glands\n")
    found = read_labels(tmp_path / "labels.csv", pd.Index(["a", "b"]))
    assert found.tolist() == ["invasive cancer", "breast glands"]


def test_labels_of_spots_the_section_has_not_are_named(tmp_path):
    (tmp_path / "labels.csv").write_text("barcode,label\na,1\nb,0\nz,1\n")
    with pytest.warns(UserWarning, match=r"1 of the 3 spots .* \(z\): their labels are left out"):
        read_labels(tmp_path / "labels.csv", pd.Index(["a", "b"]))


def test_numbers_are_numbers_or_named():
    table = pd.DataFrame({"x": ["1", " 2.5 ", ""], "label": ["a", "b", "c"]}, index=["p", "q", "r"])
    np.testing.assert_array_equal(as_numbers(table, ["x"], "f", gaps=True)["x"], [1, 2.5, np.nan])
    assert table["x"].tolist() == ["1", " 2.5 ", ""], "what was given stays"
    with pytest.raises(ValueError, match="f: x of r is '', no number"):
        as_numbers(table, ["x"], "f")
    for odd in ("one", "inf", "1,5"):
        with pytest.raises(ValueError, match=f"f: x of q is '{odd}', no number"):
            as_numbers(table.assign(x=["1", odd, "2"]), ["x"], "f")
    with pytest.raises(ValueError, match=r"f lacks the columns \['y'\]"):
        as_numbers(table, ["y"], "f")


@pytest.fixture
def pictured(tmp_path):
    """The section over a picture of 40 x 60 pixels at half its full resolution."""
    rgb = np.random.default_rng(0).integers(0, 256, (60, 40, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    xy = np.array([[20, 20], [60, 20], [20, 80], [60, 80]])
    return section_of(xy=xy, folder=tmp_path, picture="a.png", picture_scale=(0.5, 0.5)), rgb


def test_equal_sections_give_equal_bytes_whenever_and_whatever_was_there(pictured, tmp_path):
    write_section(pictured[0], tmp_path / "a.h5ad")
    first = sha256_of(tmp_path / "a.h5ad")
    time.sleep(1.1)  # HDF5 counts its times in seconds
    (tmp_path / "b.h5ad").write_bytes(b"an older one" * 9999)
    write_section(pictured[0], tmp_path / "b.h5ad")
    write_section(read_section(tmp_path / "a.h5ad"), tmp_path / "c.h5ad")
    assert [sha256_of(tmp_path / f"{name}.h5ad") for name in "bc"] == [first, first]


def test_what_is_read_is_what_anndata_itself_would_have_kept(pictured, tmp_path):
    section, rgb = pictured
    write_section(section, tmp_path / "ours.h5ad")
    section.write_h5ad(tmp_path / "theirs.h5ad")
    ours, theirs = read_section(tmp_path / "ours.h5ad"), anndata.read_h5ad(tmp_path / "theirs.h5ad")
    assert (ours.X != theirs.X).nnz == 0
    pd.testing.assert_frame_equal(ours.obs, theirs.obs)
    np.testing.assert_array_equal(ours.obsm["spatial"], theirs.obsm["spatial"])
    kept = ours.uns["spatial"]["X1"]
    np.testing.assert_array_equal(kept["images"]["hires"], rgb)
    assert kept["scalefactors"]["tissue_hires_scalef"] == 0.5
    assert kept["scalefactors"]["spot_diameter_fullres"] == pytest.approx(100 * 40 / 200)


def test_a_section_that_is_not_fit_is_not_written(tmp_path):
    logged = section_of()
    logged.X = logged.X * np.float32(0.5)
    with pytest.raises(ValueError, match="not whole"):
        write_section(logged, tmp_path / "X1.h5ad")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")
def test_scanpy_and_squidpy_draw_it_over_its_picture(pictured, tmp_path):
    write_section(pictured[0], tmp_path / "a.h5ad")
    section, rgb = anndata.read_h5ad(tmp_path / "a.h5ad"), pictured[1]
    figure, (left, right) = plt.subplots(1, 2)
    scanpy.pl.spatial(section, color="G1", ax=left, show=False)
    squidpy.pl.spatial_scatter(section, color="G1", ax=right)
    for ax in (left, right):
        (image,) = ax.images
        np.testing.assert_array_equal(np.asarray(image.get_array())[..., :3], rgb)
        drawn = ax.collections[0]
        places = (
            drawn.get_offsets()
            if len(drawn.get_offsets()) == 4
            else [p.vertices.mean(0) for p in drawn.get_paths()]
        )
        np.testing.assert_allclose(
            np.sort(np.asarray(places), 0), np.sort(section.obsm["spatial"] * 0.5, 0), atol=2
        )
    plt.close(figure)
