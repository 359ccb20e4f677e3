"""Sections in the layout of HER2ST (first-generation spatial transcriptomics).

Andersson et al., Nature Communications 12:6012 (2021), doi 10.1038/s41467-021-26271-2; repository almaan/her2st.
Where the layout misleads:

- Label files give x and y as floats: rounded, they name the spot. Their pixel columns live in another frame, with y
  upside down, and are never read; pixels come from the spot file. Rows without x and y belong to no spot.
- The spot file may list a few spots that have no counts; every spot with counts must be in it.
- ``app/www/imgs/S_HE_image_dark.png`` are shrunk pictures in *warped* coordinates, those of the patient's section 1.
- Sections without labels take them from the patient's labelled section, again in warped coordinates.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.spatial import cKDTree

from lib.inputs.tables import read_columns
from lib.spacrd.pictures import DARK, check_frame, picture_size
from lib.spacrd.spots import as_numbers, assemble, pitch_of, read_labels, read_unnamed, source_of, tissue_of

PITCH_UM = 200.0
DIAMETER_UM = 100.0
# in pitches, a little over half the diagonal of the grid: a spot inside the grid always finds a labelled one
REACH = 0.75
# how many spots of the spot file may lack counts, as a number or a share; the real files reach 3 of 187
IDLE = (3, 0.02)
# width and height of the full-resolution pictures that the dark ones were shrunk from
DARK_FRAMES = {"A1": (6954, 7435), "A2": (6966, 7441)}


def read_section(folder: str | Path, name: str, labels: str | Path | None = None) -> AnnData:
    """Read one section.

    Parameters
    ----------
    folder : path
        The repository's root: has `data/ST-cnts`, `data/ST-spotfiles`, and where known `data/ST-pat/lbl`,
        `data/ST-imgs/<patient>/<section>/*.jpg`, `app/www/imgs` and `res/ST-cluster/lbl`.
    name : str
        Letters of the patient, then the number of the section: "A1".
    labels : path, optional
        A table of spot (or barcode) and label to read instead of the layout's own label file or a transfer.

    Returns
    -------
    AnnData
        As `lib.spacrd.spots.check_section` wants it. With a picture of its own frame, or none, `obsm["spatial"]` is
        the spot file's pixels; with a shrunk dark picture it is the warped position. The warp is a rigid motion,
        so the two spots of A2 for which the file has no warped position get theirs from the motion of the other 323.
        Transferred labels are "undetermined" with label_source "none" where no labelled spot is in reach.

    Raises
    ------
    FileNotFoundError
        If the counts or the spot file are missing.
    ValueError
        If the files do not belong together, a column is missing, or counts are not raw.
    """
    folder = Path(folder)
    patient = patient_of(name)
    notes = []
    counts = _read_counts(folder, name)
    places = _matched(_read_places(folder, name), counts.index, name, notes)
    pixels = places[["pixel_x", "pixel_y"]]

    picture, scale, warped = _picture_of(folder, name)
    xy = _warped_everywhere(folder, name, pixels, notes) if warped else pixels
    check_frame(folder / picture if picture else None, xy.to_numpy(), scale, name)
    if labels is None:
        tissue, source = _labels(folder, name, patient, pixels, notes)
    else:
        tissue = read_labels(labels, counts.index, name)
        source = source_of(tissue)
    return assemble(
        counts.to_numpy(),
        spots=counts.index,
        genes=counts.columns,
        xy=xy.to_numpy(),
        array_xy=places[["x", "y"]].to_numpy(),
        tissue=tissue.to_numpy(),
        label_source=source.to_numpy(),
        name=name,
        patient=patient,
        platform="st",
        spot_diameter_um=DIAMETER_UM,
        pitch_um=PITCH_UM,
        picture=picture,
        picture_scale=scale,
        dropped="; ".join(notes),
    )


def patient_of(name: str) -> str:
    """The patient of a section: its leading letters."""
    found = re.fullmatch(r"([A-Za-z]+)(\d+)", name)
    if not found:
        raise ValueError(
            f"section {name!r}: expected the patient's letters and the section's number, as in 'A1'"
        )
    return found[1]


def patterns(name: str) -> tuple[str, ...]:
    """Where a section's files lie, as glob patterns; the patient's labelled section's are among them."""
    patient = patient_of(name)
    return (
        f"data/ST-cnts/{name}.tsv.gz",
        f"data/ST-spotfiles/{patient}[0-9]*_selection.tsv",
        f"data/ST-pat/lbl/{patient}[0-9]*",
        f"data/ST-imgs/{patient}/{name}/*",
        f"app/www/imgs/{name}{DARK}",
        f"res/ST-cluster/lbl/{patient}[0-9]*",
    )


def _table(path: Path, columns: tuple[str, ...], **kwargs) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: fetch it (make data), or check the section's name")
    table = read_columns(path, sep="\t", **kwargs)
    if missing := [column for column in columns if column not in table]:
        raise ValueError(f"{path} has no column {missing}, only {list(table.columns)[:8]}")
    # texts elsewhere are what the file is about: labels
    return as_numbers(table, [column for column in columns if column != "label"], str(path), gaps=True)


def _grid_names(x: pd.Series, y: pd.Series) -> pd.Index:
    return pd.Index(x.round().astype(int).astype(str) + "x" + y.round().astype(int).astype(str))


def _named(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    table.index = _grid_names(table["x"], table["y"])
    if not table.index.is_unique:
        twice = table.index[table.index.duplicated()][:3].tolist()
        raise ValueError(f"{path} gives spots twice: {twice}; keep one row a spot")
    return table


def _read_counts(folder: Path, name: str) -> pd.DataFrame:
    path = folder / "data" / "ST-cnts" / f"{name}.tsv.gz"
    # header and body apart: pandas would rename a gene's second column to "GENE.1" without a word
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: fetch it (make data), or check the section's name")
    genes = read_unnamed(path, sep="\t", nrows=1, dtype=str, keep_default_na=False).iloc[0, 1:].str.strip()
    counts = read_unnamed(path, sep="\t", skiprows=1, index_col=0, low_memory=False)
    if len(genes) != counts.shape[1]:
        raise ValueError(
            f"section {name}: {path} names {len(genes)} genes but has {counts.shape[1]} columns of counts"
        )
    if not counts.shape[1]:
        raise ValueError(
            f"section {name}: {path} has no counts: spots and genes separated by tabs are expected"
        )
    if (genes == "").any():
        raise ValueError(f"section {name}: {path} has a column of counts without the name of a gene")
    counts.index = counts.index.astype(str)
    odd = [i for i, kind in enumerate(counts.dtypes) if kind.kind not in "iuf"]
    if odd:
        raise ValueError(
            f"section {name}: {path} has counts that are not numbers, in gene {genes.iloc[odd[0]]}"
        )
    counts.columns = pd.Index(genes, dtype=str)
    return counts


def _read_places(folder: Path, name: str) -> pd.DataFrame:
    path = folder / "data" / "ST-spotfiles" / f"{name}_selection.tsv"
    places = _table(path, ("x", "y", "pixel_x", "pixel_y"))
    if places[["x", "y", "pixel_x", "pixel_y"]].isna().any(axis=None):
        raise ValueError(f"section {name}: {path} has spots without a position")
    return _named(places, path)


def _matched(places: pd.DataFrame, spots: pd.Index, name: str, notes: list[str]) -> pd.DataFrame:
    lost = spots.difference(places.index, sort=False)
    if len(lost):
        raise ValueError(
            f"section {name}: {len(lost)} of {len(spots)} spots with counts are not in the spot file "
            f"({', '.join(lost[:5])}): counts and spot file must come from the same section"
        )
    idle = places.index.difference(spots, sort=False)
    if len(idle) > max(IDLE[0], IDLE[1] * len(places)):
        raise ValueError(
            f"section {name}: {len(idle)} of {len(places)} spots of the spot file have no counts "
            f"({', '.join(idle[:5])}), more than {IDLE[0]} and {IDLE[1]:.0%}: counts and spot file must come from the same section"
        )
    if len(idle):
        notes.append(f"spots without counts: {', '.join(sorted(idle))}")
    return places.loc[spots]


def _picture_of(folder: Path, name: str) -> tuple[str, tuple[float, float], bool]:
    own = folder / "data" / "ST-imgs" / patient_of(name) / name
    found = sorted(path for path in own.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".tif"))
    if len(found) > 1:
        raise ValueError(f"section {name}: {own} holds {len(found)} pictures: keep the H&E picture only")
    if found:
        return found[0].relative_to(folder).as_posix(), (1.0, 1.0), False
    dark = folder / "app" / "www" / "imgs" / f"{name}{DARK}"
    if not dark.is_file():
        return "", (1.0, 1.0), False
    if name not in DARK_FRAMES:
        raise ValueError(
            f"section {name}: the full size of {dark} is not known; only {sorted(DARK_FRAMES)} are"
        )
    width, height = picture_size(dark)
    full_width, full_height = DARK_FRAMES[name]
    return dark.relative_to(folder).as_posix(), (width / full_width, height / full_height), True


def _read_warped(folder: Path, name: str) -> pd.DataFrame:
    path = folder / "res" / "ST-cluster" / "lbl" / f"{name}-cluster-annotation.tsv.gz"
    table = _table(path, ("x", "y", "warped_x", "warped_y"))
    return _named(table, path)[["warped_x", "warped_y"]]


def _warped_everywhere(folder: Path, name: str, pixels: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    warped = _read_warped(folder, name).reindex(pixels.index)
    known = warped.notna().all(axis=1).to_numpy()
    if known.sum() < 3:
        raise ValueError(f"section {name}: fewer than three spots with counts have a warped position")
    frame = np.column_stack([pixels.to_numpy(), np.ones(len(pixels))])
    motion = np.linalg.lstsq(frame[known], warped[known].to_numpy(), rcond=None)[0]
    off = np.linalg.norm(frame[known] @ motion - warped[known].to_numpy(), axis=1).max()
    if off > 1.0:
        raise ValueError(
            f"section {name}: warped positions are no affine motion of the pixels (off by {off:.1f} pixels)"
        )
    if not known.all():
        filled = ", ".join(warped.index[~known])
        notes.append(f"warped position of {filled} not in the file: filled in from the other spots' motion")
    warped.loc[~known] = frame[~known] @ motion
    return warped


def _label_file(folder: Path, name: str) -> Path:
    return folder / "data" / "ST-pat" / "lbl" / f"{name}_labeled_coordinates.tsv"


def _read_labels(folder: Path, name: str, notes: list[str]) -> pd.Series:
    path = _label_file(folder, name)
    table = _table(path, ("x", "y", "label"))
    placed = table[["x", "y"]].notna().all(axis=1)
    if not placed.all():
        notes.append(f"{int((~placed).sum())} rows of the label file without x and y")
    table = _named(table[placed].copy(), path)
    return tissue_of(table["label"], str(path))


def _labels(
    folder: Path, name: str, patient: str, pixels: pd.DataFrame, notes: list[str]
) -> tuple[pd.Series, pd.Series]:
    if _label_file(folder, name).is_file():
        tissue = _read_labels(folder, name, notes)
        strange = tissue.index.difference(_read_places(folder, name).index, sort=False)
        if len(strange):
            raise ValueError(
                f"section {name}: {len(strange)} labelled spots are not in the spot file ({', '.join(strange[:5])}): "
                "label file and spot file must come from the same section"
            )
        tissue = tissue.reindex(pixels.index).fillna("")
        return tissue, source_of(tissue)

    places = _label_file(folder, f"{patient}*")
    sources = [path.name.split("_")[0] for path in sorted(places.parent.glob(places.name))]
    sources = [source for source in sources if patient_of(source) == patient]
    if not sources:
        return pd.Series("", index=pixels.index), pd.Series("none", index=pixels.index)
    if len(sources) > 1:
        raise ValueError(
            f"section {name}: labels of {sources} could be transferred; keep one label file a patient"
        )
    return _transferred(folder, name, sources[0], pixels.index)


def _transferred(folder: Path, name: str, source: str, spots: pd.Index) -> tuple[pd.Series, pd.Series]:
    """Labels of the nearest labelled spot of the patient's labelled section, in warped coordinates."""
    known = _read_labels(folder, source, [])
    there = _read_warped(folder, source)
    there = there.loc[there.index.intersection(known.index, sort=False)]
    here = _read_warped(folder, name).reindex(spots)
    placed = here.notna().all(axis=1).to_numpy()
    reach = REACH * pitch_of(_read_places(folder, source)[["pixel_x", "pixel_y"]].to_numpy())
    far, nearest = cKDTree(there.to_numpy()).query(here[placed].to_numpy(), distance_upper_bound=reach)
    near = np.isfinite(far)
    tissue = np.full(len(spots), "undetermined", dtype=object)
    source_of = np.full(len(spots), "none", dtype=object)
    rows = np.flatnonzero(placed)[near]
    tissue[rows] = known.loc[there.index].to_numpy()[nearest[near]]
    source_of[rows] = "transferred"
    return pd.Series(tissue, index=spots), pd.Series(source_of, index=spots)
