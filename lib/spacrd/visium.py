"""Matrices of counts as 10x writes them: an HDF5 file, or a folder of three tables.

Sections of 10x Visium, as Space Ranger writes them.
"""

import gzip
import zlib
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData

from lib.files import opened, positive, read_json
from lib.inputs.tables import refuse_doubles
from lib.spacrd.pictures import check_frame, picture_size
from lib.spacrd.spots import as_numbers, assemble, read_labels, read_unnamed, source_of

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


PITCH_UM = 100.0  # hexagonal grid
DIAMETER_UM = 55.0
POSITIONS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
XY = ("pxl_col_in_fullres", "pxl_row_in_fullres")
LEAST_SHARE = 0.1
"""Of a hires picture, on its longer way, that the positions span; a capture area fills most of it."""

FULL_PICTURES = ("image.tif", "image.tiff", "image.btf", "*_image.tif", "*_image.tiff", "*_image.btf")


def read_section(folder: str | Path, name: str, patient: str, labels: str | Path | None = None) -> AnnData:
    """Read one Space Ranger output folder.

    Parameters
    ----------
    folder : path
        Has `filtered_feature_bc_matrix.h5` (any prefix) or the folder `filtered_feature_bc_matrix`, and
        `spatial/tissue_positions.csv` (or `tissue_positions_list.csv`), `spatial/scalefactors_json.json` and
        `spatial/tissue_hires_image.png`. A full-resolution `image.tif` (or `*_image.tif`) beside them is preferred.
    name, patient : str
        Of the section.
    labels : path, optional
        A table of barcode and label (class names or 0/1), see `lib.spacrd.spots.read_labels`.

    Returns
    -------
    AnnData
        As `lib.spacrd.spots.check_section` wants it. `obsm["spatial"]` is in full-resolution pixels; `picture_scale`
        is 1 for the full-resolution picture and `tissue_hires_scalef` for the hires one. The size of a pixel follows
        from the 100 µm pitch (Space Ranger's `spot_diameter_fullres` is that of a 65 µm spot, not of 55 µm).
        Genes named twice get "-1", "-2", ... behind their names.

    Raises
    ------
    FileNotFoundError
        If the matrix, the positions or the scale factors are missing.
    ValueError
        If matrix and positions name different spots, a column is missing, or spots fall outside the picture.
    """
    folder = Path(folder)
    counts = _read_matrix(folder, name)
    places = _read_positions(folder, name)
    lost = counts.obs_names.difference(places.index, sort=False)
    if len(lost):
        raise ValueError(
            f"section {name}: {len(lost)} of {counts.n_obs} barcodes with counts have no position "
            f"({', '.join(lost[:3])}): matrix and spatial folder must come from the same section"
        )
    notes = []
    on_tissue = places["in_tissue"] == 1
    without = int((on_tissue & ~places.index.isin(counts.obs_names)).sum())
    if without > 0.5 * on_tissue.sum():
        raise ValueError(
            f"section {name}: {without} of {int(on_tissue.sum())} spots on tissue have no counts: "
            "matrix and spatial folder must come from the same section"
        )
    if without:
        notes.append(f"{without} spots on tissue without counts")
    off = ~on_tissue.loc[counts.obs_names].to_numpy()
    if off.any():
        notes.append(f"{int(off.sum())} spots with counts off the tissue")
        counts = counts[~off]
    everywhere, places = places, places.loc[counts.obs_names]
    xy = places[[*XY]].to_numpy()
    picture, scale = _picture_of(folder, name)
    check_frame(folder / picture if picture else None, xy, scale, name)
    if picture.startswith("spatial/"):
        _check_scale(folder / picture, everywhere[[*XY]].to_numpy(), scale, name)

    tissue = pd.Series("", index=counts.obs_names)
    if labels is not None:
        tissue = read_labels(labels, counts.obs_names, name)
    return assemble(
        counts.X,
        spots=counts.obs_names,
        genes=counts.var_names,
        xy=xy,
        array_xy=places[["array_col", "array_row"]].to_numpy(),
        tissue=tissue.to_numpy(),
        label_source=source_of(tissue).to_numpy(),
        name=name,
        patient=patient,
        platform="visium",
        spot_diameter_um=DIAMETER_UM,
        pitch_um=PITCH_UM,
        picture=picture,
        picture_scale=scale,
        dropped="; ".join(notes),
    )


def _read_matrix(folder: Path, name: str) -> AnnData:
    files = sorted(folder.glob("*filtered_feature_bc_matrix.h5"))
    if len(files) > 1:
        raise ValueError(f"section {name}: {folder} holds {len(files)} matrices: keep one section a folder")
    if files:
        return read_file(files[0], name)
    if (folder / "filtered_feature_bc_matrix").is_dir():
        return read_folder(folder / "filtered_feature_bc_matrix", name)
    raise FileNotFoundError(
        f"section {name}: no filtered_feature_bc_matrix.h5 and no folder of that name without .h5 in {folder}"
    )


def _read_positions(folder: Path, name: str) -> pd.DataFrame:
    spatial = folder / "spatial"
    # before Space Ranger 2: tissue_positions_list.csv, without a header
    found = [
        path
        for each in ("tissue_positions.csv", "tissue_positions_list.csv")
        if (path := spatial / each).is_file()
    ]
    if not found:
        raise FileNotFoundError(
            f"section {name}: neither tissue_positions.csv nor tissue_positions_list.csv in {spatial}"
        )
    path = found[0]
    places = read_unnamed(path, dtype=str, keep_default_na=False).fillna("")
    if places.iloc[0, 0].strip() == "barcode":
        refuse_doubles(places.iloc[0], path)
        places = places.iloc[1:].set_axis([title.strip() for title in places.iloc[0]], axis=1)
    elif places.shape[1] == len(POSITIONS):
        places.columns = POSITIONS
    if missing := [column for column in POSITIONS if column not in places]:
        raise ValueError(
            f"section {name}: {path} lacks the columns {missing}, expected {', '.join(POSITIONS)}"
        )
    places = places.set_index(places["barcode"].rename(None))
    if not places.index.is_unique:
        raise ValueError(f"section {name}: {path} gives {places.index[places.index.duplicated()][0]} twice")
    places = as_numbers(places, POSITIONS[1:], f"section {name}: {path}")
    if not places["in_tissue"].isin((0, 1)).all():
        odd = places.index[~places["in_tissue"].isin((0, 1))][0]
        raise ValueError(
            f"section {name}: {path} has in_tissue {places.loc[odd, 'in_tissue']:g} for {odd}, expected 0 or 1"
        )
    return places


def _picture_of(folder: Path, name: str) -> tuple[str, tuple[float, float]]:
    full = sorted({path for pattern in FULL_PICTURES for path in folder.glob(pattern)})
    if len(full) > 1:
        raise ValueError(
            f"section {name}: which is the H&E picture, {' or '.join(path.name for path in full)}? Keep one in {folder}"
        )
    if full:
        return full[0].name, (1.0, 1.0)
    hires, factors = (
        folder / "spatial" / "tissue_hires_image.png",
        folder / "spatial" / "scalefactors_json.json",
    )
    if not hires.is_file():
        return "", (1.0, 1.0)
    if not factors.is_file():
        raise FileNotFoundError(f"section {name}: no {factors}: without it the hires picture has no scale")
    try:
        scale = positive(read_json(factors), "tissue_hires_scalef", factors)
    except ValueError as error:
        raise ValueError(f"section {name}: {error}") from None
    return hires.relative_to(folder).as_posix(), (scale, scale)


def _check_scale(path: Path, xy: np.ndarray, scale: tuple[float, float], name: str) -> None:
    """Refuse a scale that crowds all spots into a corner of the hires picture, which shows little but them."""
    share = (np.ptp(xy, axis=0) * scale / picture_size(path)).max()
    if share < LEAST_SHARE:
        raise ValueError(
            f"section {name}: the spots span {share:.2%} of {path}: tissue_hires_scalef {scale[0]:g} of "
            "scalefactors_json.json is of another picture, or the positions are"
        )
