import gzip
import json

import h5py
import numpy as np
import pandas as pd
import pytest

from lib.spacrd.phantom import LABEL_FRAME, write_cohort


@pytest.fixture(scope="module")
def st(tmp_path_factory):
    folder = tmp_path_factory.mktemp("st")
    write_cohort(folder, seed=2, patients=1, spots_side=8, genes=60)
    return folder


def test_the_traps_of_her2st_are_there(st):
    spots = pd.read_csv(st / "data/ST-spotfiles/A1_selection.tsv", sep="\t")
    assert list(spots.columns) == ["x", "y", "new_x", "new_y", "pixel_x", "pixel_y", "selected"]
    assert spots["x"].dtype == spots["y"].dtype == np.int64
    labels = pd.read_csv(st / "data/ST-pat/lbl/A1_labeled_coordinates.tsv", sep="\t")
    assert list(labels.columns) == ["Row.names", "x", "y", "pixel_x", "pixel_y", "label"]
    assert labels["x"].isna().sum() == 1
    assert (labels["x"].dropna() % 1 != 0).any()
    placed = labels.dropna(subset=["x"]).copy()
    placed["name"] = (
        placed["x"].round().astype(int).astype(str) + "x" + placed["y"].round().astype(int).astype(str)
    )
    spots.index = spots["x"].astype(str) + "x" + spots["y"].astype(str)
    there = spots.loc[placed["name"]]
    assert np.corrcoef(there["pixel_x"], placed["pixel_x"])[0, 1] == pytest.approx(1)
    assert np.corrcoef(there["pixel_y"], placed["pixel_y"])[0, 1] == pytest.approx(-1), "y upside down"
    assert np.polyfit(placed["pixel_x"], there["pixel_x"], 1)[0] == pytest.approx(LABEL_FRAME, rel=1e-3)
    counts = pd.read_csv(st / "data/ST-cnts/A1.tsv.gz", sep="\t", index_col=0)
    assert counts.index.tolist() == sorted(counts.index), "lexicographic, as in the real files"
    assert len(set(spots.index) - set(counts.index)) == 1
    assert set(counts.index) <= set(spots.index)


def test_gzip_carries_no_time(st):
    head = (st / "data/ST-cnts/A1.tsv.gz").read_bytes()[:10]
    assert head[4:8] == b"\0\0\0\0"
    assert gzip.decompress((st / "data/ST-cnts/A1.tsv.gz").read_bytes()).startswith(b"\t")


def test_space_ranger_reads_it(tmp_path):
    """The folder opens with squidpy's own reader, which knows nothing of phantoms."""
    squidpy = pytest.importorskip("squidpy")
    write_cohort(tmp_path, seed=2, patients=1, spots_side=8, genes=60, platform="visium")
    read = squidpy.read.visium(tmp_path / "VA1")
    library = next(iter(read.uns["spatial"]))
    factors = json.loads((tmp_path / "VA1/spatial/scalefactors_json.json").read_text(encoding="utf-8"))
    assert read.uns["spatial"][library]["scalefactors"] == factors
    positions = pd.read_csv(tmp_path / "VA1/spatial/tissue_positions.csv").set_index("barcode")
    expected = positions.loc[read.obs_names, ["pxl_col_in_fullres", "pxl_row_in_fullres"]]
    np.testing.assert_array_equal(read.obsm["spatial"], expected)
    with h5py.File(tmp_path / "VA1/filtered_feature_bc_matrix.h5") as file:
        assert read.shape == tuple(file["matrix/shape"][:][::-1])
