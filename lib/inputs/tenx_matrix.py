"""Matrices of counts as 10x writes them: an HDF5 file, or a folder of three tables."""

import gzip
import zlib
from pathlib import Path

import h5py
import numpy as np
from anndata import AnnData

from lib.inputs.hdf5_files import opened

AGAIN = "copy it from 10x's output again"
MOST_LINES = 50_000_000
SHORTEST_LINE, MOST_SHRUNK = 6, 1100  # "1 1 1" and its end; what gzip makes of equal bytes


def read_file(path: Path, name: str) -> AnnData:
    """Read a matrix file of Cell Ranger, Space Ranger or Xenium, of any version.

    Parameters
    ----------
    path : path
    name : str
        The section, for messages.

    Returns
    -------
    AnnData (barcodes x genes)
        Features of the type "Gene Expression" only, where the file tells types. Genes named twice get "-1", "-2",
        ... behind their names.

    Raises
    ------
    FileNotFoundError, ValueError
        Names section and file: cut short, damaged, a barcode or a count twice, no genes.
    """
    import scanpy

    try:
        with opened(path, "a 10x matrix file", AGAIN) as file:
            if fault := _fault_of(file):
                raise ValueError(f"{path} is not a 10x matrix file, or is damaged ({fault}): {AGAIN}")
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"section {name}: {error}") from None
    try:
        counts = scanpy.read_10x_h5(path, gex_only=False)
    except Exception as error:  # scanpy raises bare Exception on a file it does not know
        raise ValueError(f"section {name}: {path} is not a 10x matrix file: {_said(error)}") from None
    return _genes_of(counts, path, name, counts.X.nnz)


def read_folder(folder: Path, name: str) -> AnnData:
    """Read a folder of matrix.mtx, barcodes.tsv and features.tsv (or genes.tsv), packed or not; else as `read_file`."""
    import scanpy

    matrix, barcodes, features = (
        _one_of(folder, name, *names)
        for names in (
            ("matrix.mtx.gz", "matrix.mtx"),
            ("barcodes.tsv.gz", "barcodes.tsv"),
            ("features.tsv.gz", "genes.tsv"),
        )
    )
    try:
        size = _size_in(matrix)
        lines = _lines(features), _lines(barcodes)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"section {name}: {folder} cannot be read ({_said(error)}): {AGAIN}") from error
    if size[:2] != lines:
        raise ValueError(
            f"section {name}: {matrix} is of {size[0]} features and {size[1]} barcodes, but {features.name} and "
            f"{barcodes.name} have {lines[0]} and {lines[1]} lines: {AGAIN}"
        )
    if size[2] * SHORTEST_LINE > matrix.stat().st_size * (MOST_SHRUNK if matrix.suffix == ".gz" else 1):
        raise ValueError(
            f"section {name}: {matrix} claims {size[2]} counts and has no room for them: {AGAIN}"
        )
    try:
        counts = scanpy.read_10x_mtx(folder, make_unique=False, gex_only=False)
    except Exception as error:  # scipy, gzip and pandas each have their own
        raise ValueError(f"section {name}: {matrix} cannot be read ({_said(error)}): {AGAIN}") from None
    if not counts.obs_names.is_unique:
        twice = counts.obs_names[counts.obs_names.duplicated()][0]
        raise ValueError(f"section {name}: {barcodes} names {twice} twice: {AGAIN}")
    return _genes_of(counts, matrix, name, size[2])


def _genes_of(counts: AnnData, path: Path, name: str, stored: int) -> AnnData:
    if not counts.X.has_canonical_format:
        counts.X.sum_duplicates()
    if counts.X.nnz < stored:
        raise ValueError(
            f"section {name}: {path} gives {stored - counts.X.nnz} counts of a gene and a barcode twice: {AGAIN}"
        )
    if "feature_types" in counts.var:
        genes = (counts.var["feature_types"] == "Gene Expression").to_numpy()
        if not genes.any():
            raise ValueError(f"section {name}: {path} has no feature of type 'Gene Expression'")
        counts = counts[:, genes].copy()
    counts.var_names_make_unique()
    return counts


def _fault_of(file: h5py.File) -> str:
    """What is wrong with a matrix, in words; empty if nothing. Nobody later asks whether its places lie within it."""
    groups = [each for each in file.values() if isinstance(each, h5py.Group)]
    if "matrix" not in file and len(groups) != 1:
        return f"it holds {', '.join(list(file)[:5]) or 'nothing'}, expected one group, matrix"
    group = file.get("matrix", groups[0] if groups else None)
    parts = ("data", "indices", "indptr", "shape", "barcodes")
    if absent := [part for part in parts if not isinstance(group.get(part), h5py.Dataset)]:
        return f"no {', '.join(absent)}"
    data, places, starts, shape, barcodes = (group[part][()] for part in parts)
    if any(part.ndim != 1 for part in (data, places, starts, shape, barcodes)):
        return f"one of {', '.join(parts)} is no list"
    if data.dtype.kind not in "iuf" or any(part.dtype.kind not in "iu" for part in (places, starts, shape)):
        return "the counts or their places are no numbers"
    if len(shape) != 2 or len(barcodes) != shape[1] or len(starts) != shape[1] + 1:
        return f"shape {shape.tolist()[:4]} with {len(barcodes)} barcodes and {len(starts) - 1} columns"
    steps = np.diff(starts.astype(np.int64))
    if starts[0] != 0 or (steps < 0).any() or not starts[-1] == len(places) == len(data):
        return f"its columns end at {starts[-1]}, and there are {len(data)} counts at {len(places)} places"
    if len(places) and not (places.min() >= 0 and places.max() < shape[0]):
        return f"a count lies at feature {places.max()} of {shape[0]}"
    names = group["features/name"] if "features" in group else group.get("gene_names")
    if names is None or names.shape != (shape[0],):
        return f"no names, or other than {shape[0]}, of its features"
    if len(set(barcodes.tolist())) < len(barcodes):
        return "a barcode stands twice"
    return ""


def _one_of(folder: Path, name: str, *names: str) -> Path:
    for each in names:
        if (folder / each).is_file():
            return folder / each
    raise FileNotFoundError(f"section {name}: {folder} has no {' and no '.join(names)}")


def _open(path: Path):
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")


def _size_in(matrix: Path) -> tuple[int, ...]:
    with _open(matrix) as file:
        for _ in range(1000):
            line = file.readline(10_000)
            if not line.startswith(b"%") and line.strip():
                numbers = line.split()
                if len(numbers) == 3 and all(number.isdigit() for number in numbers):
                    return tuple(int(number) for number in numbers)
                break
    raise ValueError(f"{matrix.name} does not begin with the numbers of features, barcodes and counts")


def _lines(path: Path) -> int:
    with _open(path) as file:
        number = 0
        while line := file.readline(100_000):
            number += bool(line.strip())
            if number > MOST_LINES:
                raise ValueError(f"{path.name} has more than {MOST_LINES} lines")
    return number


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
