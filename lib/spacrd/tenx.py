"""Sections of 10x: Visium, as Space Ranger writes it, and Xenium, whose cells are binned to pseudo-spots."""

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from PIL import Image
from scipy import sparse

from lib.files import positive, read_json
from lib.inputs.tables import read_columns
from lib.spacrd.spots import (
    UNDETERMINED,
    as_numbers,
    assemble,
    label_of,
    matched,
    read_labels,
    refuse_twice,
    the_one,
)

VISIUM_UM = (55.0, 100.0)  # diameter and pitch, on a hexagonal grid
POSITIONS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
PIXELS = ["pxl_col_in_fullres", "pxl_row_in_fullres"]
# of the hires picture's longer way that the positions span; a capture area fills most of it
LEAST_SHARE = 0.1
FULL_PICTURES = ("image.tif", "image.tiff", "image.btf", "*_image.tif", "*_image.tiff", "*_image.btf")
BIN_UM = 100.0  # side and pitch of a Xenium pseudo-spot
PIXEL_UM = 0.2125  # of Xenium's morphology picture, where experiment.xenium does not say otherwise
CENTROID = ["x_centroid", "y_centroid"]


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


def read_visium(folder: Path, name: str, patient: str, labels: Path | None = None) -> AnnData:
    """Read one Space Ranger output folder. Files that are missing, or not of one section, are refused.

    Parameters
    ----------
    folder : path
        Has `filtered_feature_bc_matrix.h5` (any prefix) or the folder `filtered_feature_bc_matrix`, and
        `spatial/tissue_positions.csv` (or `tissue_positions_list.csv`), `spatial/scalefactors_json.json` and
        `spatial/tissue_hires_image.png`. A full-resolution `image.tif` (or `*_image.tif`) beside them is preferred.
    labels : path, optional
        A table of barcode and label (class names or 0/1), see `lib.spacrd.spots.read_labels`.

    Returns
    -------
    AnnData
        See `lib.spacrd.spots.assemble`. `obsm["spatial"]` is in full-resolution pixels, x (column) first;
        `picture_scale` is 1 for the full-resolution picture and `tissue_hires_scalef` for the hires one. The size of
        a pixel follows from the 100 µm pitch (`spot_diameter_fullres` is that of a 65 µm spot, not of 55 µm).
    """
    matrix = the_one(folder.glob("*filtered_feature_bc_matrix.h5"), "matrix")
    counts = read_counts(matrix or folder / "filtered_feature_bc_matrix")
    places = _read_positions(folder / "spatial")
    off = (places["in_tissue"].reindex(counts.obs_names) == 0).to_numpy()
    counts, places = counts[~off], places[places["in_tissue"] == 1]
    places, without = matched(places, counts.obs_names, 0.5 * len(places))
    notes = (
        (len(without), "spots on tissue without counts"),
        (off.sum(), "spots with counts off the tissue"),
    )
    picture, scale = _picture_of(folder, places[PIXELS].to_numpy())
    return assemble(
        counts,
        places[PIXELS].to_numpy(),
        places[["array_col", "array_row"]].to_numpy(),
        read_labels(labels, counts.obs_names),
        name=name,
        patient=patient,
        platform="visium",
        sizes_um=VISIUM_UM,
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
        bare = not file.readline().startswith("barcode")
    places = pd.read_csv(path, header=None, names=POSITIONS) if bare else read_columns(path)
    places = places.set_index(places["barcode"].astype(str).rename(None))
    refuse_twice(places.index, path)
    return as_numbers(places, POSITIONS[1:], path)


def _picture_of(folder: Path, xy: np.ndarray) -> tuple[str, float]:
    """The picture's name ("" for none) and its scale; one that crowds the spots into a corner is of another picture."""
    full = the_one((path for pattern in FULL_PICTURES for path in folder.glob(pattern)), "H&E picture")
    hires, factors = folder / "spatial/tissue_hires_image.png", folder / "spatial/scalefactors_json.json"
    if full or not hires.is_file():
        return full.name if full else "", 1.0
    scale = positive(read_json(factors), "tissue_hires_scalef", factors)
    with Image.open(hires) as picture:
        share = (np.ptp(xy, axis=0) * scale / picture.size).max()
    if share < LEAST_SHARE:
        raise ValueError(
            f"the spots span {share:.2%} of {hires}: tissue_hires_scalef {scale:g} or the positions are of another picture"
        )
    return "spatial/tissue_hires_image.png", scale


def read_xenium(folder: Path, name: str, patient: str, labels: Path | None = None) -> AnnData:
    """Read one Xenium output folder and sum its cells over a square grid; files that do not fit each other are refused.

    The paper's recipe for pseudo-spots is not published; this one sums the counts of all cells whose centroid lies in
    a square of 100 µm. Control probes and codewords are left out (feature type "Gene Expression" only), and so are
    squares without a cell.

    Parameters
    ----------
    folder : path
        Has `cell_feature_matrix.h5` and `cells.parquet`, `cells.csv.gz` or `cells.csv` (x_centroid, y_centroid in µm);
        for a picture, `*he_image*.tif` and `*he_imagealignment.csv` (or `he_alignment.csv`), the 3 x 3 matrix (csv
        without header) that 10x gives with it, which takes its pixels to pixels of the morphology picture. Without a
        picture the positions are morphology pixels.
    labels : path, optional
        A table of cell_id and label (class names or 0/1). A pseudo-spot with more than half of its labelled cells in
        a cancer class takes the most frequent of these classes, with less than half the most frequent of the others,
        with exactly half "undetermined".

    Returns
    -------
    AnnData
        See `lib.spacrd.spots.assemble`; label_source is "transferred" (from cells to squares). obs["cells"]: cells in
        the square; obs["cancer_share"]: share of its labelled cells in a cancer class, or NaN.
    """
    counts, cells = read_counts(folder / "cell_feature_matrix.h5"), _read_cells(folder)
    cells, idle = matched(cells, counts.obs_names, np.inf)
    squares, square = np.unique(
        np.floor(cells[CENTROID].to_numpy() / BIN_UM).astype(int), axis=0, return_inverse=True
    )
    square = square.ravel()
    member = sparse.csr_matrix((np.ones(len(square)), (square, np.arange(len(square)))), dtype=np.float32)
    total = AnnData(member @ sparse.csr_matrix(counts.X), var=counts.var[[]])
    total.obs_names = [f"{x}x{y}" for x, y in squares]

    picture, to_morphology = _aligned_picture_of(folder)
    experiment = folder / "experiment.xenium"
    about = read_json(experiment) if experiment.is_file() else {}
    pixel_um = positive(about, "pixel_size", experiment) if "pixel_size" in about else PIXEL_UM
    centre = np.column_stack([(squares + 0.5) * BIN_UM / pixel_um, np.ones(len(squares))])
    tissue, share = _majority(read_labels(labels, counts.obs_names), square, len(squares))
    section = assemble(
        total,
        (centre @ np.linalg.inv(to_morphology).T)[:, :2],
        squares,
        tissue,
        "transferred",
        name=name,
        patient=patient,
        platform="xenium",
        sizes_um=(BIN_UM, BIN_UM),
        folder=folder,
        picture=picture,
        um_per_px=pixel_um * np.sqrt(abs(np.linalg.det(to_morphology[:2, :2]))),
        dropped=[f"{len(idle)} cells without counts"] if len(idle) else [],
    )
    section.obs["cells"] = np.bincount(square, minlength=len(squares))
    section.obs["cancer_share"] = share
    return section


def _read_cells(folder: Path) -> pd.DataFrame:
    if (path := folder / "cells.parquet").is_file():
        cells = pd.read_parquet(path)
    else:
        path = folder / "cells.csv.gz" if (folder / "cells.csv.gz").is_file() else folder / "cells.csv"
        cells = read_columns(path, dtype={"cell_id": str}, low_memory=False)
    # older runs number their cells, parquet files may hold names as bytes
    names = cells["cell_id"].map(lambda cell: cell.decode() if isinstance(cell, bytes) else str(cell))
    cells = cells.set_index(pd.Index(names, name=None))
    refuse_twice(cells.index, path)
    return as_numbers(cells, CENTROID, path)


def _aligned_picture_of(folder: Path) -> tuple[str, np.ndarray]:
    picture = the_one(folder.glob("*he_image*.tif"), "H&E picture")
    if picture is None:
        return "", np.eye(3)
    found = [*folder.glob("*he_imagealignment.csv"), *folder.glob("he_alignment.csv")]
    alignment = the_one(found, "alignment of the H&E picture")
    if alignment is None:
        raise FileNotFoundError(
            f"{picture.name} has no alignment: put 10x's *he_imagealignment.csv beside it, or move the picture away"
        )
    matrix = np.loadtxt(alignment, delimiter=",")
    affine = matrix.shape == (3, 3) and np.allclose(matrix[2], (0, 0, 1))
    if not affine or not abs(np.linalg.det(matrix)) > 1e-12:
        raise ValueError(f"{alignment} is not an affine 3 x 3 matrix with last row 0, 0, 1")
    return picture.name, matrix


def _majority(tissue: pd.Series, square: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Class and share of cancer cells of every square, over its labelled cells."""
    table = pd.DataFrame({"square": square, "tissue": tissue.to_numpy(), "cancer": label_of(tissue) == 1})
    table = table[~table["tissue"].isin(UNDETERMINED)]
    share = table.groupby("square")["cancer"].mean().reindex(range(number))
    # the most frequent class on each side; of equally frequent ones the first by name
    frequent = (
        table.groupby(["square", "cancer", "tissue"]).size().rename("times").reset_index()
        .sort_values(["times", "tissue"], ascending=[False, True])
        .drop_duplicates(["square", "cancer"])
        .set_index(["square", "cancer"])["tissue"]
    )  # fmt: skip
    won = pd.MultiIndex.from_arrays([range(number), (share > 0.5).to_numpy()])
    winner = np.where(share == 0.5, "undetermined", frequent.reindex(won).to_numpy(dtype=object))
    return np.where(share.isna(), "", winner).astype(object), share.to_numpy()
