"""Sections of 10x Visium, as Space Ranger writes them, and the matrices of counts of all of 10x."""

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from PIL import Image

from lib.files import positive, read_json
from lib.inputs.tables import read_columns
from lib.spacrd.spots import as_numbers, assemble, read_labels, refuse_twice, source_of

SIZES_UM = (55.0, 100.0)  # diameter and pitch, on a hexagonal grid
POSITIONS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
LEAST_SHARE = (
    0.1  # of the hires picture's longer way that the positions span; a capture area fills most of it
)
FULL_PICTURES = ("image.tif", "image.tiff", "image.btf", "*_image.tif", "*_image.tiff", "*_image.btf")


def read_counts(path: Path) -> AnnData:
    """Counts (barcodes x genes) of an h5 file of any version, or of a folder of matrix, barcodes and features.

    Features of the type "Gene Expression" only, where the file tells types: no antibodies, controls or codewords.
    Genes named twice get "-1", "-2", ... behind their names.
    """
    import scanpy

    if path.is_dir():
        counts = scanpy.read_10x_mtx(path, make_unique=False, gex_only=False)
    else:
        counts = scanpy.read_10x_h5(path, gex_only=False)
    refuse_twice(counts.obs_names, path)
    if "feature_types" in counts.var:
        genes = (counts.var["feature_types"] == "Gene Expression").to_numpy()
        if not genes.any():
            raise ValueError(f"{path} has no feature of type 'Gene Expression'")
        counts = counts[:, genes].copy()
    counts.var_names_make_unique()
    return counts


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
        See `lib.spacrd.spots.assemble`. `obsm["spatial"]` is in full-resolution pixels, x (column) first;
        `picture_scale` is 1 for the full-resolution picture and `tissue_hires_scalef` for the hires one. The size of
        a pixel follows from the 100 µm pitch (`spot_diameter_fullres` is that of a 65 µm spot, not of 55 µm).

    Raises
    ------
    FileNotFoundError, ValueError
        A file is missing, matrix and positions are not of one section, or spots fall outside the picture.
    """
    folder = Path(folder)
    matrices = sorted(folder.glob("*filtered_feature_bc_matrix.h5"))
    if len(matrices) > 1:
        raise ValueError(f"{folder} holds {len(matrices)} matrices: keep one section a folder")
    counts = read_counts(matrices[0] if matrices else folder / "filtered_feature_bc_matrix")
    places = _read_positions(folder / "spatial")
    lost = counts.obs_names.difference(places.index, sort=False)
    on_tissue = places["in_tissue"] == 1
    without = int((on_tissue & ~places.index.isin(counts.obs_names)).sum())
    if len(lost) or without > 0.5 * on_tissue.sum():
        raise ValueError(
            f"{len(lost)} of {counts.n_obs} barcodes with counts have no position ({', '.join(lost[:3])}), {without} of "
            f"{int(on_tissue.sum())} spots on tissue no counts: matrix and spatial folder must be of the same section"
        )
    off = ~on_tissue.loc[counts.obs_names].to_numpy()
    notes = ((without, "spots on tissue without counts"), (off.sum(), "spots with counts off the tissue"))
    counts = counts[~off]
    picture, scale = _picture_of(folder)
    if picture.startswith("spatial/"):
        _check_scale(folder / picture, places, scale)
    places = places.loc[counts.obs_names]
    tissue = read_labels(labels, counts.obs_names) if labels else pd.Series("", index=counts.obs_names)
    return assemble(
        counts,
        places[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy(),
        places[["array_col", "array_row"]].to_numpy(),
        tissue,
        source_of(tissue),
        name=name,
        patient=patient,
        platform="visium",
        sizes_um=SIZES_UM,
        folder=folder,
        picture=picture,
        picture_scale=(scale, scale),
        dropped=[f"{number} {what}" for number, what in notes if number],
    )


def _read_positions(spatial: Path) -> pd.DataFrame:
    path = spatial / "tissue_positions.csv"
    if not path.is_file():  # before Space Ranger 2; without a header
        path = spatial / "tissue_positions_list.csv"
    with open(path, encoding="utf-8-sig") as file:
        header = {} if file.readline().startswith("barcode") else {"header": None, "names": POSITIONS}
    places = read_columns(path, **header) if not header else pd.read_csv(path, **header)
    places = places.set_index(places["barcode"].astype(str).rename(None))
    refuse_twice(places.index, path)
    places = as_numbers(places, POSITIONS[1:], path)
    if not places["in_tissue"].isin((0, 1)).all():
        raise ValueError(f"{path} has in_tissue other than 0 and 1")
    return places


def _picture_of(folder: Path) -> tuple[str, float]:
    full = sorted({path for pattern in FULL_PICTURES for path in folder.glob(pattern)})
    if len(full) > 1:
        raise ValueError(f"which is the H&E picture, {' or '.join(path.name for path in full)}? Keep one")
    if full:
        return full[0].name, 1.0
    if not (folder / "spatial" / "tissue_hires_image.png").is_file():
        return "", 1.0
    factors = folder / "spatial" / "scalefactors_json.json"
    return "spatial/tissue_hires_image.png", positive(read_json(factors), "tissue_hires_scalef", factors)


def _check_scale(path: Path, places: pd.DataFrame, scale: float) -> None:
    """Refuse a scale that crowds all spots into a corner of the hires picture, which shows little but them."""
    xy = places[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()
    with Image.open(path) as picture:
        share = (np.ptp(xy, axis=0) * scale / picture.size).max()
    if share < LEAST_SHARE:
        raise ValueError(
            f"the spots span {share:.2%} of {path}: tissue_hires_scalef {scale:g} or the positions are of another picture"
        )
