"""Phantom sections in the layouts of real raw files."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy import sparse

from lib.files import written, written_hdf5

LABEL_FRAME = 2.32  # full-resolution pixels per pixel of HER2ST's label files, whose y runs upwards
HIRES = 0.5  # of Visium's full-resolution pixel


def write_st(folder: Path, patient: str, section: dict, counts, genes, made_as, rng) -> dict:
    """Write a section in the layout of HER2ST, with what misleads in it.

    Spots stand in lexicographic order; one spot of the spot file has no counts; label files have float x and y, pixels
    of another frame with y upside down, and a row without x and y.

    Returns
    -------
    dict
        section, folder and labels of the section table.
    """
    name = f"{patient}1"
    grid = section["array_xy"] + 4
    spots = pd.Index([f"{x}x{y}" for x, y in grid])
    order = np.argsort(spots.to_numpy(dtype=str))
    _write_table(
        pd.DataFrame(counts[order], index=spots[order], columns=genes),
        folder / f"data/ST-cnts/{name}.tsv.gz",
        index=True,
    )

    height = section["picture"].shape[0]
    places = pd.DataFrame(grid, columns=["x", "y"])
    places[["new_x", "new_y"]] = (grid + rng.normal(0, 0.03, grid.shape)).round(3)
    places[["pixel_x", "pixel_y"]] = section["xy"].round(2)
    places["selected"] = 1
    labels = places[["new_x", "new_y"]].set_axis(["x", "y"], axis=1)
    labels["pixel_x"] = (section["xy"][:, 0] / LABEL_FRAME).round(3)
    labels["pixel_y"] = ((height - section["xy"][:, 1]) / LABEL_FRAME).round(3)
    labels["label"] = section["tissue"]
    stray = pd.DataFrame([{"pixel_x": 1.0, "pixel_y": 1.0, "label": "connective tissue"}])
    labels = pd.concat([labels, stray], ignore_index=True)
    labels.insert(0, "Row.names", [f"{x:.0f}x{y:.0f}" for x, y in labels[["pixel_x", "pixel_y"]].to_numpy()])

    pitch = made_as.pitch_um / made_as.um_per_px
    idle = {
        "x": 2,
        "y": 2,
        "new_x": 2.0,
        "new_y": 2.0,
        "pixel_x": 0.2 * pitch,
        "pixel_y": 0.2 * pitch,
        "selected": 1,
    }
    shuffled = pd.concat([places, pd.DataFrame([idle])], ignore_index=True).iloc[
        rng.permutation(len(places) + 1)
    ]
    _write_table(shuffled, folder / f"data/ST-spotfiles/{name}_selection.tsv")
    _write_table(labels, folder / f"data/ST-pat/lbl/{name}_labeled_coordinates.tsv")
    _write_picture(section["picture"], folder / f"data/ST-imgs/{patient}/{name}/{name}_HE.jpg")
    return {"section": name, "folder": "", "labels": ""}


def write_visium(folder: Path, patient: str, section: dict, counts, genes, made_as, rng) -> dict:
    """Write a section as a Space Ranger 2 output folder with labels.csv beside it.

    Returns
    -------
    dict
        section, folder and labels of the section table.
    """
    name = f"{patient}1"
    here = folder / name
    letters = np.array(list("ACGT"))[rng.integers(0, 4, (len(counts), 16))]
    barcodes = np.array(["".join(row) + "-1" for row in letters])
    _write_10x(counts, barcodes, genes, here / "filtered_feature_bc_matrix.h5")

    positions = pd.DataFrame({"barcode": barcodes, "in_tissue": 1})
    positions["array_row"], positions["array_col"] = section["array_xy"][:, 1], section["array_xy"][:, 0]
    positions["pxl_row_in_fullres"] = section["xy"][:, 1].round().astype(int)
    positions["pxl_col_in_fullres"] = section["xy"][:, 0].round().astype(int)
    _write_table(positions, here / "spatial/tissue_positions.csv", sep=",")

    full = Image.fromarray(section["picture"])
    hires = full.resize((round(full.width * HIRES), round(full.height * HIRES)), Image.Resampling.LANCZOS)
    lowres = full.resize((full.width // 10, full.height // 10), Image.Resampling.LANCZOS)
    _write_picture(np.asarray(hires), here / "spatial/tissue_hires_image.png")
    _write_picture(np.asarray(lowres), here / "spatial/tissue_lowres_image.png")
    factors = {
        "spot_diameter_fullres": 65.0 / made_as.um_per_px,  # Space Ranger's theoretical spot, on every slide
        "fiducial_diameter_fullres": 105.0 / made_as.um_per_px,
        "tissue_hires_scalef": hires.width / full.width,
        "tissue_lowres_scalef": lowres.width / full.width,
    }
    with written(here / "spatial/scalefactors_json.json") as part:
        part.write_text(json.dumps(factors))
    _write_table(
        pd.DataFrame({"barcode": barcodes, "label": section["tissue"]}), here / "labels.csv", sep=","
    )
    return {"section": name, "folder": name, "labels": f"{name}/labels.csv"}


WRITERS = {"st": write_st, "visium": write_visium}


def _write_table(table: pd.DataFrame, path: Path, index: bool = False, sep: str = "\t") -> None:
    text = table.to_csv(sep=sep, index=index, lineterminator="\n").encode()
    with written(path) as part:
        # mtime 0 and no name in the header: equal tables give equal bytes
        part.write_bytes(gzip.compress(text, compresslevel=6, mtime=0) if path.suffix == ".gz" else text)


def _write_picture(rgb: np.ndarray, path: Path) -> None:
    with written(path) as part:
        Image.fromarray(rgb).save(part, quality=90) if path.suffix == ".jpg" else Image.fromarray(rgb).save(
            part
        )


def _write_10x(counts, barcodes, genes, path: Path) -> None:
    """The matrix file of Cell Ranger 3 and later: compressed columns, one a barcode."""
    matrix = sparse.csr_matrix(counts)
    with written_hdf5(path) as file:
        file.attrs["filetype"] = "matrix"
        file.attrs["library_ids"] = np.array([path.parent.name.encode()])
        group = file.create_group("matrix")
        group["barcodes"] = barcodes.astype("S18")
        group["data"], group["indices"] = matrix.data.astype(np.int32), matrix.indices.astype(np.int64)
        group["indptr"] = matrix.indptr.astype(np.int64)
        group["shape"] = np.array(matrix.shape[::-1], dtype=np.int32)
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i:011d}" for i in range(len(genes))], dtype="S15")
        features["name"] = np.array(genes, dtype="S32")
        features["feature_type"] = np.array(["Gene Expression"] * len(genes), dtype="S16")
        features["genome"] = np.array(["phantom"] * len(genes), dtype="S8")
        features["_all_tag_keys"] = np.array([b"genome"])
