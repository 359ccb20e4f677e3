"""Sections in files of no platform's own: AnnData (h5ad), as HEST-1k and many others hand them round, and STimage-1K4M's csv."""

import os
from collections.abc import Mapping
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from lib.files import opened
from lib.inputs.tables import plain, read_columns
from lib.spacrd.her2st import SIZES_UM, read_counts
from lib.spacrd.pictures import SLIDES, TIFFS, embedded, of_frame
from lib.spacrd.spots import CLASSES, as_numbers, assemble, matched, pitch_of, read_labels, the_one, tissue_of
from lib.spacrd.tenx import ARRAY, STEP_UM, VISIUM_UM, array_scale, told_apart

PICTURES = (*TIFFS, *SLIDES, ".png", ".jpg", ".jpeg")
IDENTIFIERS = ("gene_ids", "gene_id", "ensembl_id", "ensembl_ids", "ensemblid")
SYMBOLS = ("feature_name", "gene_symbols", "gene_symbol", "gene_name", "gene_names", "symbol")
ENSEMBL = r"ENS[A-Z]*G\d{6,}(\.\d+)?"
# a spot's diameter over the pitch, and which array has it: an ST spot, a Visium spot, and Space Ranger's idea of one
ARRAYS = {0.5: SIZES_UM, 0.55: VISIUM_UM, 0.65: VISIUM_UM}
X_NAMES, Y_NAMES = ("xaxis", "x", "pxl_col_in_fullres"), ("yaxis", "y", "pxl_row_in_fullres")


def read_h5ad(
    path: Path, labels: Path | str | None = None, classes: Mapping = CLASSES, um_per_px=None, **named
) -> AnnData:
    """Read a section from an h5ad, or from a folder with one (see `lib.spacrd.spots.assemble`).

    The file has raw counts in X, `layers["counts"]` or `raw` (csr, csc or dense), places in `obsm["spatial"]` (pixels of
    the full-resolution picture, x first), and where known `obs["in_tissue"]`, array_row and array_col, and
    `uns["spatial"]` as scanpy has it. A picture of the same name beside it, or in `../wsis` as in HEST-1k, is read, else
    the largest one in the file. `labels` is a table of spot and label, or the name of a column of `obs`; `um_per_px` is told by
    the file where it is not given (`_sizes`).
    """
    file = path if path.is_file() else the_one(path.glob("*.h5ad"), "h5ad file")
    if file is None:
        raise FileNotFoundError(f"no h5ad at {path}: name the file in the section table's column folder")
    with opened(file, "an AnnData file", "save it once more from AnnData"):
        found = anndata.read_h5ad(file)
    notes: list[str] = []
    counts = _raw_counts(found, file)
    bare = None
    if "in_tissue" in found.obs and "spatial" in found.obsm:
        on = found.obs["in_tissue"].astype(str).str.lower().isin(("1", "1.0", "true")).to_numpy()
        bare = np.asarray(found.obsm["spatial"], float)[~on, :2]
        counts, found = counts[on], found[on]
        if not on.all():
            notes.append(f"{int((~on).sum())} spots off the tissue")
    if "spatial" not in found.obsm or found.n_obs < 2:
        where = f"obsm['spatial'] is needed, it has {list(found.obsm)}; in_tissue, where it is in obs, is 1 or true"
        raise ValueError(f"{file} has {found.n_obs} spots on tissue; {where}")
    xy = np.asarray(found.obsm["spatial"], float)[:, :2]
    pixels = ["pxl_row_in_fullres", "pxl_col_in_fullres"]
    turned = set(pixels) <= set(found.obs) and np.array_equal(xy, found.obs[pixels])
    if turned and not np.array_equal(xy[:, 0], xy[:, 1]):
        raise ValueError(f"{file} has rows before columns in obsm['spatial'] (see its obs): columns go first")
    if lost := int((~np.isfinite(xy)).any(axis=1).sum()):
        raise ValueError(f"{file} has {lost} spots without a place: leave them out")
    factors = {}
    for library in found.uns.get("spatial", {}).values():
        factors |= library.get("scalefactors", {})
    array = found.obs[ARRAY].to_numpy(float) if set(ARRAY) <= set(found.obs) else None
    um, sizes = _sizes(xy, array, factors, um_per_px, file, notes)
    picture, scale = _picture_of(path, file, found.uns)
    if not isinstance(labels, str):
        tissue = read_labels(labels, counts.obs_names, notes, classes, filtered=True)
    elif labels in found.obs:
        tissue = tissue_of(found.obs[labels], f"obs[{labels!r}] of {file}", classes)
    else:
        there = ", ".join(found.obs) or "none"
        raise FileNotFoundError(f"labels {labels!r} are no file, and no column of {file}, which has {there}")
    home = path if path.is_dir() else path.parent
    named |= {"sizes_um": sizes, "um_per_px": um, "picture": picture, "picture_scale": (scale, scale)}
    named |= {"folder": home, "classes": classes, "dropped": notes, "copy": embedded(found.uns)[0]}
    return assemble(counts, xy, tissue, **named, bare=bare)


def read_csv(
    path: Path, labels: Path | None = None, classes: Mapping = CLASSES, um_per_px=None, **named
) -> AnnData:
    """Read a section of STimage-1K4M's layout: counts, places and a picture as `*_count.csv`, `*_coord.csv` and an image.

    `path` is a folder that has them, in it or in folders below it (coord, gene_exp, image); where it has those of several
    slides, the section's name says which. Places have the columns xaxis and yaxis (or x and y), pixels of the picture, and r,
    a spot's radius. The rest is as in `read_h5ad`; labels are a table.
    """
    coord, table = (_named(path, named["name"], ending) for ending in ("coord", "count"))
    counts, places, notes = read_counts(table, sep=","), read_columns(coord, index_col=0), []
    places.index, places.columns = places.index.astype(str), [plain(column) for column in places]
    x, y = (next((one for one in names if one in places), names[0]) for names in (X_NAMES, Y_NAMES))
    places = as_numbers(places, (x, y), coord)
    places, idle = matched(places, counts.index)
    if len(idle):
        notes.append(f"{len(idle)} places without counts")
    xy = places[[x, y]].to_numpy()
    factors = {"spot_diameter_fullres": 2 * places["r"].astype(float).median()} if "r" in places else {}
    um, sizes = _sizes(xy, None, factors, um_per_px, coord, notes)
    stem = coord.name.partition("_coord")[0]
    pictures = [one for one in path.rglob(f"{stem}*") if one.suffix.lower() in PICTURES]
    picture = the_one(pictures, "H&E picture")
    tissue = read_labels(labels, counts.index, notes, classes, filtered=True)
    named |= {"sizes_um": sizes, "um_per_px": um, "folder": path, "classes": classes, "dropped": notes}
    named["picture"] = picture.relative_to(path).as_posix() if picture else ""
    return assemble(AnnData(counts), xy, tissue, **named)


def _named(folder: Path, name: str, ending: str) -> Path:
    found = {*folder.rglob(f"*_{ending}.csv*"), *folder.rglob(f"{ending}.csv*")}
    ours = {path for path in found if path.name.startswith(f"{name}_{ending}.")}
    path = the_one(ours or found, f"table of section {name} (*_{ending}.csv)")
    if path is None:
        raise FileNotFoundError(f"{folder} has no *_{ending}.csv")
    return path


def _raw_counts(found: AnnData, file: Path) -> AnnData:
    """The counts of a file wherever it keeps them, with symbols as names and identifiers in var."""
    kept = [(found.X, found.var), (found.layers.get("counts"), found.var)]
    kept += [(found.raw.X, found.raw.var)] if found.raw is not None else []
    kept = [(sparse.csr_matrix(values), var) for values, var in kept if values is not None]
    if not kept:
        raise ValueError(f"{file} has no X: raw counts are expected there, or in layers['counts']")
    # where none is raw, the check of the section names what is wrong with the first
    whole = [pair for pair in kept if (pair[0].data % 1 == 0).all() and (pair[0].data >= 0).all()]
    values, var = (whole or kept)[0]
    names, columns = pd.Index(var.index.astype(str)), {plain(column): column for column in var}
    ids = next((var[columns[one]] for one in IDENTIFIERS if one in columns), None)
    symbols = next((var[columns[one]] for one in SYMBOLS if one in columns), None)
    if symbols is not None and names.str.fullmatch(ENSEMBL).mean() > 0.5:
        names, ids = pd.Index(symbols.astype(str)), names
    kept_var = pd.DataFrame(index=pd.Index(names, name=None))
    if ids is not None:
        kept_var["gene_ids"] = np.asarray(ids, str)
    return told_apart(AnnData(values, obs=pd.DataFrame(index=found.obs_names.astype(str)), var=kept_var))


def _sizes(
    xy: np.ndarray, array, factors: Mapping, stated: float | None, file: Path, notes: list[str]
) -> tuple[float, tuple[float, float]]:
    """µm per pixel, and a spot's diameter and pitch in µm: as stated (in the table, then in the file), or as the array tells."""
    pitch, diameter = pitch_of(xy), float(factors.get("spot_diameter_fullres") or np.nan)
    stated = stated or float(factors.get("microns_per_pixel") or 0)
    if stated:
        return stated, (stated * (diameter if np.isfinite(diameter) else pitch), stated * pitch)
    # every other column of a row: Visium's hexagons
    if array is not None and len(set(array.sum(axis=1) % 2)) == 1:
        try:
            if um := array_scale(array, xy, STEP_UM, file):
                return um, VISIUM_UM
        except ValueError as odd:
            notes.append(str(odd))
    near = [sizes for ratio, sizes in ARRAYS.items() if abs(diameter / pitch - ratio) < 0.025]
    if not near:
        raise ValueError(
            f"{file} does not tell the size of its pixels (spots lie {pitch:.1f} pixels apart, of {diameter:.1f} pixels): give it in "
            "the column um_per_px of the section table"
        )
    um = near[0][1] / pitch
    said = f"{um:.3f} µm per pixel, as spots {near[0][1]:.0f} µm apart have: the file states none"
    notes.append(f"{said} (column um_per_px of the section table)")
    return um, near[0]


def _picture_of(path: Path, file: Path, uns: Mapping) -> tuple[str, float]:
    """The picture's name, as seen from `path` ("" for none), and its scale."""
    home = path if path.is_dir() else path.parent
    folders = (file.parent, file.parent.parent / "wsis")
    near = [one for folder in folders for one in folder.glob(f"{file.stem}.*")]
    found = the_one((one for one in near if one.suffix.lower() in PICTURES), "H&E picture")
    image, scale = embedded(uns)
    if found is None:
        return (os.path.relpath(file, home), scale) if image is not None else ("", 1.0)
    if image is not None:
        of_frame([found], image.shape[1::-1], scale, f"the picture in {file.name}")
    return os.path.relpath(found, home), 1.0
