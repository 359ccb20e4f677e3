"""A section: labels that are labels, counts that are counts, and a file that Scanpy and Squidpy open with its picture."""

import re
import time

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy
import squidpy
from PIL import Image

from lib.files import sha256_of
from lib.spacrd.spots import (
    CLASSES,
    assemble,
    label_of,
    pitch_of,
    read_labels,
    read_section,
    tissue_of,
    write_section,
)

COUNTS = np.array([[1, 0, 2], [0, 3, 0], [4, 0, 0], [0, 0, 7]])


def section_of(counts=COUNTS, **kwargs):
    told = {
        "spots": ["a", "b", "c", "d"],
        "genes": ["G1", "G2", "G3"],
        "xy": np.array([[0, 0], [10, 0], [0, 10], [10, 10]]),
        "tissue": ["invasive cancer", "connective tissue", "undetermined", ""],
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


def test_a_section_survives_h5ad(tmp_path):
    section = section_of(dropped=["one"])
    section.write_h5ad(tmp_path / "x.h5ad")
    again = read_section(tmp_path / "x.h5ad")
    assert (again.X.format, again.X.dtype, again.obsm["spatial"].dtype) == ("csr", np.float32, np.float64)
    assert (again.X != section.X).nnz == 0
    np.testing.assert_array_equal(again.obs["label"], np.float32([1, 0, np.nan, np.nan]))
    assert again.obs["label"].dtype == np.float32
    assert again.obs["label_source"].tolist() == ["pathologist"] * 3 + ["none"]
    about = again.uns["section"]
    assert (about["um_per_px"], list(about["picture_scale"])) == (pytest.approx(20), [1, 1])
    assert (about["name"], about["picture"], about["dropped"]) == ("X1", "", "one")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1, 0.5, 2**24 + 1])
def test_counts_that_are_not_raw_are_refused_with_their_place(bad, tmp_path):
    counts = COUNTS.astype(float)
    counts[2, 1] = bad
    with pytest.raises(ValueError, match=r"1 counts .* spot c, gene G2.*raw counts"):
        section_of(counts)
    section = section_of()
    section.X = section.X * np.float32(0.5)
    with pytest.raises(ValueError, match="not whole"):
        write_section(section, tmp_path / "X1.h5ad")
    assert list(tmp_path.iterdir()) == []


def test_spots_beyond_the_picture_are_left_out_in_the_first_stage(tmp_path):
    """They used to pass it, and no crop could be cut in the second."""
    Image.new("RGB", (200, 100), "pink").save(tmp_path / "a.png")
    xy = np.column_stack([np.tile(np.arange(10), 10) * 20.0 + 5, np.repeat(np.arange(10), 10) * 10.0 + 2])
    xy[[3, 44], 1] = -1, 101
    told = {"spots": [f"s{i}" for i in range(100)], "xy": xy, "tissue": [""] * 100}
    counts = np.random.default_rng(0).poisson(2, (100, 3))
    section = section_of(counts, folder=tmp_path, picture="a.png", **told)
    assert set(told["spots"]) - set(section.obs_names) == {"s3", "s44"}
    assert section.uns["section"]["dropped"] == "2 spots beyond the picture's border"
    told["xy"] = xy * [1, 2]
    with pytest.raises(ValueError, match=r"\d+ of 100 spots lie outside .*a.png"):
        section_of(counts, folder=tmp_path, picture="a.png", **told)


def test_genes_that_became_dates_are_named():
    for name in ("1-Mar", "Sep-02", "2-Sept", "2001-09-02"):
        said = section_of(genes=["G1", "G2", name]).uns["section"]["dropped"]
        assert said.startswith(f"1 genes named like dates ({name})")


@pytest.mark.parametrize("name", ["MARCH1", "SEPT2", "DEC1", "HLA-A", "MT-ND1", "NKX2-1", "OCT4", "Apr3"])
def test_genes_that_are_genes_are_not(name):
    assert section_of(genes=["G1", "G2", name]).uns["section"]["dropped"] == ""


def test_tissue_classes_and_numbers_agree_in_label():
    kinds = pd.Series(["invasive cancer", "cancer in situ", "breast glands", "undetermined", "", None])
    np.testing.assert_array_equal(label_of(kinds), np.float32([1, 1, 0, np.nan, np.nan, np.nan]))
    kinds = tissue_of(pd.Series(["1", "0", None]), "F")
    np.testing.assert_array_equal(label_of(kinds), np.float32([1, 0, np.nan]))
    assert tissue_of(pd.Series([" Invasive Cancer", None]), "F").tolist() == ["invasive cancer", ""]


def test_label_tables(tmp_path):
    spots, notes = pd.Index(["a", "b", "c"]), []
    path = tmp_path / "labels.csv"
    path.write_text("barcode,label\nb,1\na,0\n")
    assert read_labels(path, spots, notes).tolist() == ["not cancer", "invasive cancer", ""]
    (tmp_path / "labels.tsv").write_text("spot\tlabel\nb\tInvasive  CANCER\n a \t\nc\tbreast glands\n")
    found = read_labels(tmp_path / "labels.tsv", spots, notes)
    assert found.tolist() == ["", "invasive cancer", "breast glands"]
    # Loupe, Xenium, row numbers
    for header in ("Barcode,Pathologist Annotations", "cell_id,Label", ",Barcode,label"):
        path.write_text(f"{header}\n" + ("0," if header[0] == "," else "") + "b,Stroma\n")
        assert read_labels(path, spots, notes).tolist() == ["", "stroma", ""]
    path.write_text("Barcode;Pathologist\nb;Stroma\n")  # a spreadsheet's csv
    assert read_labels(path, spots, notes).tolist() == ["", "stroma", ""]
    stroma = pd.DataFrame({"Barcode": ["c"], "Pathologist": ["Stroma"]})
    stroma.to_excel(tmp_path / "labels.xlsx", index=False)
    assert read_labels(tmp_path / "labels.xlsx", spots, notes).tolist() == ["", "", "stroma"]
    assert notes == []
    path.write_text("barcode,label\na,1\nb,0\nz,1\ny,\n")
    with pytest.raises(ValueError, match="1 of the 3 labelled spots"):
        read_labels(path, pd.Index(["a", "b"]), notes)
    # and one of the section is not in the table
    with pytest.raises(ValueError, match="1 of the 3 labelled spots"):
        read_labels(path, pd.Index(["a", "b", "c"]), notes, filtered=True)
    kinds = read_labels(path, pd.Index(["a", "b"]), notes, filtered=True)
    assert kinds.tolist() == ["invasive cancer", "not cancer"]
    assert notes[0].startswith("1 of the 3 labelled spots in labels.csv are not in the section (z)")


def test_numbers_that_the_table_declares_are_classes(tmp_path):
    """A hospital that writes 0 for cancer says so."""
    (tmp_path / "l.csv").write_text("barcode,label\na,0\nb,1\n")
    told = CLASSES | {"0": 1.0, "1": 0.0}
    kinds = read_labels(tmp_path / "l.csv", pd.Index(["a", "b"]), [], told)
    np.testing.assert_array_equal(label_of(kinds, told), [1, 0])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", r"columns \['a', 'b'\]"),
        ("barcode,one,two\na,stroma,stroma\n", r"columns \['barcode', 'one', 'two'\]"),
        ("spot,label\na,1\na,0\n", "gives a twice"),
        ("spot,label\nA-1,1\nB-1,0\nc,0\n", "2 of the 3 labelled spots"),
        ("spot,label\na,Invasive_Tumor\nb,Stromal\n", "classes 'invasive_tumor', and nobody said"),
    ],
)
def test_bad_label_tables(tmp_path, text, says):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=says):
        read_labels(tmp_path / "labels.csv", pd.Index(["a", "b", "c"]), [])


@pytest.mark.parametrize(
    ("classes", "odd"),
    [
        (["NA", "stroma"], ["na"]),
        ([True, False], ["false", "true"]),
        (["1", "stroma"], ["1"]),
        ([0, 1, 2], ["0", "1", "2"]),
        (["melanoma", "SCC", "PDAC", "stroma"], ["melanoma", "pdac", "scc"]),
        (["GG4 Cribriform", "PIN", "Exclude", "Stroma"], ["exclude", "gg4 cribriform", "pin"]),
        (["Unlabeled", "artifact", "Uncertain"], ["artifact", "uncertain", "unlabeled"]),
    ],
)
def test_classes_of_which_nobody_said_what_they_count_as_are_refused_by_name(classes, odd):
    said = ", ".join(map(repr, odd))
    with pytest.raises(ValueError, match=re.escape(f"F has the classes {said}, and nobody said")):
        tissue_of(pd.Series(classes), "F")
    told = CLASSES | dict.fromkeys(odd, np.nan)
    assert np.isnan(label_of(tissue_of(pd.Series(classes), "F", told), told)).sum() >= len(odd)


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
    assert sha256_of(tmp_path / "b.h5ad") == first


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
        places = drawn.get_offsets()
        places = places if len(places) == 4 else [path.vertices.mean(0) for path in drawn.get_paths()]
        expected = np.sort(section.obsm["spatial"] * 0.5, 0)
        np.testing.assert_allclose(np.sort(np.asarray(places), 0), expected, atol=2)
    plt.close(figure)
