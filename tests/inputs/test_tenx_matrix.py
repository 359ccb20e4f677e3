import gzip

import h5py
import numpy as np
import pytest
import scanpy
from scipy import io, sparse

from lib.spacrd.visium import read_file, read_folder

GENES = ["ERBB2", "KRT8", "KRT8", "CD3"]
KINDS = ["Gene Expression"] * 3 + ["Antibody Capture"]
COUNTS = np.array([[1, 0, 2, 7], [0, 3, 0, 7], [0, 0, 0, 7], [5, 0, 0, 0], [0, 9, 1, 0]])
BARCODES = [f"{letters}-1" for letters in ("AAA", "AAC", "AAG", "AAT", "ACA")]


@pytest.fixture
def matrix(tmp_path):
    """Five barcodes, three genes and an antibody, in the layout of Cell Ranger 3."""
    counts = sparse.csr_matrix(COUNTS)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(BARCODES, "S")
        group["data"], group["indices"], group["indptr"] = counts.data, counts.indices, counts.indptr
        group["shape"] = np.array(COUNTS.shape[::-1])
        features = group.create_group("features")
        features["id"] = features["name"] = np.array(GENES, "S")
        features["feature_type"], features["genome"] = np.array(KINDS, "S"), np.array(["G"] * 4, "S")
    return tmp_path / "m.h5"


@pytest.fixture
def folder(tmp_path):
    io.mmwrite(tmp_path / "matrix.mtx", sparse.coo_matrix(COUNTS.T), field="integer")
    packed = gzip.compress((tmp_path / "matrix.mtx").read_bytes())
    (tmp_path / "matrix.mtx.gz").write_bytes(packed)
    for name, rows in {
        "barcodes.tsv.gz": BARCODES,
        "features.tsv.gz": [f"E{i}\t{gene}\t{kind}" for i, (gene, kind) in enumerate(zip(GENES, KINDS, strict=True))],
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(gzip.compress("".join(f"{row}\n" for row in rows).encode()))
    return tmp_path


def test_both_forms_hold_what_was_written(matrix, folder):
    for counts in (read_file(matrix, "X1"), read_folder(folder, "X1")):
        np.testing.assert_array_equal(counts.X.toarray(), COUNTS[:, :3])
        assert counts.obs_names.tolist() == BARCODES
        assert counts.var_names.tolist() == ["ERBB2", "KRT8", "KRT8-1"]


def test_as_scanpy_reads_it(matrix):
    theirs = scanpy.read_10x_h5(matrix)
    theirs.var_names_make_unique()
    ours = read_file(matrix, "X1")
    assert (ours.X != theirs.X).nnz == 0
    assert ours.var.equals(theirs.var)


def test_the_old_layout_of_one_genome_is_read(matrix):
    with h5py.File(matrix, "r+") as file:
        file.move("matrix", "GRCh38")
        group = file["GRCh38"]
        group["gene_names"] = group["genes"] = group["features/name"][()]
        del group["features"]
    np.testing.assert_array_equal(read_file(matrix, "X1").X.toarray(), COUNTS)


@pytest.mark.parametrize("place", [4, 1_000_000_000, -1])
def test_places_outside_are_refused_before_anything_is_computed(matrix, place):
    """scanpy takes a part of such a matrix, which ends the process or reads memory of others."""
    with h5py.File(matrix, "r+") as file:
        file["matrix/indices"][2] = place
    with pytest.raises(ValueError, match=r"section X1: .*m\.h5 is not a 10x matrix file, or is damaged"):
        read_file(matrix, "X1")


def test_a_count_given_twice_is_not_summed(matrix, folder):
    with h5py.File(matrix, "r+") as file:
        file["matrix/indices"][1] = file["matrix/indices"][0]
    with pytest.raises(ValueError, match=r"section X1: .*m\.h5 gives 1 counts .* twice"):
        read_file(matrix, "X1")
    text = gzip.decompress((folder / "matrix.mtx.gz").read_bytes()).decode().splitlines()
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress("\n".join([*text[:-1], text[-2]]).encode()))
    with pytest.raises(ValueError, match=r"section X1: .*matrix\.mtx\.gz gives 1 counts .* twice"):
        read_folder(folder, "X1")


def test_a_matrix_of_zeros_is_none_of_gaps(matrix):
    with h5py.File(matrix, "r+") as file:
        file["matrix/data"][...] = 0
    assert read_file(matrix, "X1").X.sum() == 0
