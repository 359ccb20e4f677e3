"""Made-up folders of 10x, nothing real in them."""

import json

import h5py
import numpy as np
import pandas as pd
from PIL import Image
from scipy import sparse


def write_matrix(path, counts, barcodes, genes, kinds=None, ids=None):
    """The layout of Cell Ranger 3; counts are spots x genes."""
    counts = sparse.csr_matrix(counts)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, "S")
        group["data"], group["indices"], group["indptr"] = counts.data, counts.indices, counts.indptr
        group["shape"] = np.array(counts.shape[::-1])
        features = group.create_group("features")
        features["id"], features["name"] = np.array(ids or genes, "S"), np.array(genes, "S")
        features["feature_type"] = np.array(kinds or ["Gene Expression"] * len(genes), "S")
        features["genome"] = np.array(["G"] * len(genes), "S")
    return path


# rows and spots a row of a made-up capture area; pixels between spots of a row (2.5 µm a pixel)
GRID, RUN_PITCH = 24, 40.0
PINK, GENES = (190, 120, 180), ("ERBB2", "KRT8", "CD3E", "G1")


def visium_run(folder, seed=1, names=GENES, ids=None, glass=240, stain=PINK) -> dict:
    """Write a Space Ranger folder: the whole array, with tissue in a round patch whose place `seed` decides, and its pictures.

    Returned are the full-resolution picture, all positions, and the barcodes on tissue.
    """
    (folder / "spatial").mkdir(parents=True)
    rows, columns = (axis.ravel() for axis in np.mgrid[:GRID, :GRID])
    columns = 2 * columns + rows % 2
    # one list of barcodes for all slides
    kit = np.random.default_rng(0).choice(list("ACGT"), (GRID * GRID, 16))
    barcodes = np.array(["".join(letters) + "-1" for letters in kit])
    y, x = rows * RUN_PITCH * 3**0.5 / 2 + 60, columns * RUN_PITCH / 2 + 60
    place = np.random.default_rng(seed).uniform([0.29, 0.61], [0.39, 0.71])
    centre = place * [np.ptp(x), np.ptp(y)] + 60
    inside = np.hypot(x - centre[0], y - centre[1]) < 0.33 * np.ptp(x)
    positions = pd.DataFrame({"barcode": barcodes, "in_tissue": inside.astype(int)})
    positions["array_row"], positions["array_col"] = rows, columns
    positions["pxl_row_in_fullres"] = y.round().astype(int)
    positions["pxl_col_in_fullres"] = x.round().astype(int)
    positions.to_csv(folder / "spatial/tissue_positions.csv", index=False)
    counts = np.random.default_rng(seed).poisson(3.0, (inside.sum(), len(names)))
    write_matrix(folder / "filtered_feature_bc_matrix.h5", counts, barcodes[inside], list(names), ids=ids)
    full = np.full((int(y.max()) + 90, int(x.max()) + 60, 3), glass, np.uint8)
    across, down = np.meshgrid(np.arange(full.shape[1]), np.arange(full.shape[0]))
    full[np.hypot(across - centre[0], down - centre[1]) < 0.34 * np.ptp(x)] = stain
    picture = Image.fromarray(full)
    picture.resize((full.shape[1] // 2, full.shape[0] // 2)).save(folder / "spatial/tissue_hires_image.png")
    factors = {"spot_diameter_fullres": 0.65 * RUN_PITCH, "tissue_hires_scalef": 0.5}
    (folder / "spatial/scalefactors_json.json").write_text(json.dumps(factors))
    return {"picture": picture, "positions": positions, "on": barcodes[inside]}
