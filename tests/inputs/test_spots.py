import anndata
import numpy as np
import pytest
from scipy import sparse

from lib.spacrd.spots import assemble, check_section, pitch_of


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


def test_counts_float32_cannot_hold_are_refused():
    counts = np.array([[1, 0, 2], [0, 3, 0], [4, 0, 0], [0, 0, 7]])
    counts[1, 1] = 2**24
    assert section_of(counts).X.max() == 2**24
    counts[1, 1] += 1
    with pytest.raises(ValueError, match=r"section X1: a count of 1\.67772e"):
        section_of(counts)


def test_genes_that_became_dates_are_named():
    for name in ("1-Mar", "Sep-02", "2-Sept", "2001-09-02"):
        with pytest.warns(UserWarning, match=rf"section X1: 1 genes are named like dates \({name}\)"):
            section_of(genes=["G1", "G2", name])


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    "name", ["MARCH1", "SEPT2", "DEC1", "MAR1", "HLA-A", "MT-ND1", "NKX2-1", "OCT4", "Apr3"]
)
def test_genes_that_are_genes_are_not(name):
    assert section_of(genes=["G1", "G2", name]).var_names[2] == name
