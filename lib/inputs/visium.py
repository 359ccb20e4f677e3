"""Sections of 10x Visium, as Space Ranger writes them."""

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from lib.inputs.json_files import positive, read_json
from lib.inputs.pictures import check_frame, picture_size
from lib.inputs.spot_labels import read_labels, source_of
from lib.inputs.spot_tables import as_numbers, read_unnamed
from lib.inputs.spots import assemble
from lib.inputs.tenx_matrix import read_file, read_folder
from lib.inputs.text_tables import refuse_doubles

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
        A table of barcode and label (class names or 0/1), see `lib.inputs.spot_labels.read_labels`.

    Returns
    -------
    AnnData
        As `lib.inputs.spots.check_section` wants it. `obsm["spatial"]` is in full-resolution pixels; `picture_scale`
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
