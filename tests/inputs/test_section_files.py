"""Sections on disk: what comes back, equal bytes, and a disk without room."""

import re
import time

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from lib.files import sha256_of
from lib.spacrd.section_files import read_section, write_section
from lib.spacrd.spots import assemble


def section_of(spots: int = 9, genes: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    side = int(np.sqrt(spots))
    array = np.stack([np.arange(spots) % side, np.arange(spots) // side], 1).astype(float)
    return assemble(
        rng.poisson(1.0, (spots, genes)), spots=[f"{x:.0f}x{y:.0f}" for x, y in array], genes=[f"Gé{i}" for i in range(genes)],
        xy=80 * array, array_xy=array, tissue=rng.choice(["invasive cancer", "breast glands", ""], spots),
        label_source="pathologist", name="X1", patient="X", platform="st", spot_diameter_um=100, pitch_um=200,
        picture="A/é.jpg", picture_scale=(0.5, 0.5), dropped="one",
    )  # fmt: skip


def assert_same(one, other):
    assert (one.X != other.X).nnz == 0
    assert one.X.dtype == other.X.dtype
    pd.testing.assert_frame_equal(one.obs, other.obs, check_categorical=False)
    pd.testing.assert_frame_equal(one.var, other.var)
    np.testing.assert_array_equal(one.obsm["spatial"], other.obsm["spatial"])
    assert {key: str(value) for key, value in one.uns["section"].items()} == {
        key: str(value) for key, value in other.uns["section"].items()
    }


def test_what_is_read_is_what_anndata_itself_would_have_kept(tmp_path):
    section_of().write_h5ad(tmp_path / "theirs.h5ad")
    write_section(section_of(), tmp_path / "ours.h5ad")
    theirs = anndata.read_h5ad(tmp_path / "theirs.h5ad")
    for ours in (anndata.read_h5ad(tmp_path / "ours.h5ad"), read_section(tmp_path / "ours.h5ad")):
        assert_same(ours, theirs)
    assert_same(read_section(tmp_path / "theirs.h5ad"), theirs)
    with h5py.File(tmp_path / "ours.h5ad") as ours, h5py.File(tmp_path / "theirs.h5ad") as theirs:
        assert list(ours) == list(theirs)
        assert dict(ours.attrs) == dict(theirs.attrs)


def test_equal_sections_give_equal_bytes_whenever_and_whatever_was_there(tmp_path):
    write_section(section_of(), tmp_path / "a.h5ad")
    first = sha256_of(tmp_path / "a.h5ad")
    time.sleep(1.1)  # HDF5 counts its times in seconds
    (tmp_path / "b.h5ad").write_bytes(b"an older one" * 9999)
    write_section(section_of(), tmp_path / "b.h5ad")
    write_section(read_section(tmp_path / "a.h5ad"), tmp_path / "c.h5ad")
    assert [sha256_of(tmp_path / f"{name}.h5ad") for name in "bc"] == [first, first]
    write_section(section_of(seed=1), tmp_path / "d.h5ad")
    assert sha256_of(tmp_path / "d.h5ad") != first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5ad", "b.h5ad", "c.h5ad", "d.h5ad"]


def test_what_cannot_be_kept_is_not_written(tmp_path):
    strange = section_of()
    strange.uns["thing"] = object()
    with pytest.raises(ValueError, match=r"X1\.h5ad not written: h5ad cannot hold"):
        write_section(strange, tmp_path / "X1.h5ad")
    logged = section_of()
    logged.X = logged.X * np.float32(0.5)
    with pytest.raises(ValueError, match=r"section X1: .* not whole"):
        write_section(logged, tmp_path / "X1.h5ad")
    double = section_of()
    double.raw = double
    with pytest.raises(ValueError, match="one matrix of counts"):
        write_section(double, tmp_path / "X1.h5ad")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("X/indices", [4]), ("X/indices", [-1]), ("X/indptr", [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("X/indptr", [0, 1]), ("X/indices", [0.0]),
    ],
)  # fmt: skip
def test_places_outside_of_the_matrix_are_refused(tmp_path, key, values):
    """scipy takes them as they are, and a product with such a matrix reads memory of others."""
    path = tmp_path / "X1.h5ad"
    section = section_of()
    section.X = sparse.csr_matrix(([1.0], ([0], [0])), shape=section.shape, dtype=np.float32)
    write_section(section, path)
    with h5py.File(path, "r+") as file:
        del file[key]
        file[key] = np.array(values)
    with pytest.raises(ValueError, match=re.escape(f"{path} is damaged: the counts lie outside")):
        read_section(path)


def test_a_section_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="run 1-preprocess"):
        read_section(tmp_path / "X1.h5ad")
