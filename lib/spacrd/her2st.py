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
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from PIL import Image
from scipy.spatial import cKDTree

from lib.inputs.tables import read_columns
from lib.spacrd.pictures import DARK
from lib.spacrd.spots import CLASSES, as_numbers, assemble, matched, pitch_of, read_labels, the_one, tissue_of

SIZES_UM = (100.0, 200.0)  # diameter and pitch
# in pitches, a little over half the diagonal of the grid: a spot inside the grid always finds a labelled one
REACH = 0.75
# how many spots of the spot file may lack counts, as a number or a share; the real files reach 3 of 187
IDLE = (3, 0.02)
# width and height of the full-resolution pictures that the dark ones were shrunk from
DARK_FRAMES = {"A1": (6954, 7435), "A2": (6966, 7441)}


def read_section(folder: Path, name: str, labels: Path | None = None, classes: Mapping = CLASSES) -> AnnData:
    """Read one section (see `lib.spacrd.spots.assemble`). Files that are missing, or do not belong together, are refused.

    `folder` is the repository's root: it has `data/ST-cnts`, `data/ST-spotfiles`, and where known `data/ST-pat/lbl`,
    `data/ST-imgs/<patient>/<section>/*.jpg`, `app/www/imgs` and `res/ST-cluster/lbl`. `name` is the patient's letters, then
    the number of the section: "A1". `labels` is a table of spot (or barcode) and label to read instead of the layout's
    own label file or a transfer.

    With a picture of its own frame, or none, `obsm["spatial"]` is the spot file's pixels; with a shrunk dark picture it is the
    warped position. The warp is a rigid motion, so the two spots of A2 for which the file has no warped position get theirs
    from the motion of the other 323. Transferred labels are "undetermined" with label_source "none" where no labelled spot is
    in reach.
    """
    notes: list[str] = []
    counts, places = read_counts(folder / f"data/ST-cnts/{name}.tsv.gz"), _read_places(folder, name)
    places, idle = matched(places, counts.index, most_idle=max(IDLE[0], IDLE[1] * len(places)))
    if len(idle):
        notes.append(f"spots without counts: {', '.join(sorted(idle))}")
    pixels = places[["pixel_x", "pixel_y"]]
    picture, scale, warped = _picture_of(folder, name)
    xy = _warped_everywhere(folder, name, pixels, notes) if warped else pixels
    if labels is not None:
        tissue, source = read_labels(labels, counts.index, notes, classes), "pathologist"
    else:
        tissue, source = _labels(folder, name, counts.index, notes, classes)
    about = {"name": name, "patient": patient_of(name), "platform": "st", "folder": folder}
    about |= {"classes": classes, "sizes_um": SIZES_UM, "picture": picture, "picture_scale": scale}
    return assemble(AnnData(counts), xy.to_numpy(), tissue, source, **about, dropped=notes)


def patient_of(name: str) -> str:
    """The patient of a section: its leading letters."""
    found = re.fullmatch(r"([A-Za-z]+)(\d+)", name)
    if not found:
        raise ValueError(f"section {name!r}: the patient's letters and a number are expected, as in 'A1'")
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


def _table(path: Path, *numbers: str) -> pd.DataFrame:
    """A table of spots by their grid name, with the columns `numbers` as such; rows without x and y are left out."""
    table = as_numbers(read_columns(path, sep="\t"), ("x", "y", *numbers), path, gaps=True)
    table = table[table[["x", "y"]].notna().all(axis=1)].copy()
    x, y = (table[axis].round().astype(int).astype(str) for axis in "xy")
    table.index = pd.Index(x + "x" + y)
    return as_numbers(table, (), path)


def read_counts(path: Path, sep: str = "\t") -> pd.DataFrame:
    """Counts (spots x genes) of a table with a row a spot, whose header names the genes; ValueError for what is no number."""
    # header and body apart: pandas would rename a gene's second column to "GENE.1" without a word, and takes its time
    words = {"comments": None, "quotechar": '"', "encoding": "utf-8-sig"}
    genes = np.loadtxt(path, str, delimiter=sep, max_rows=1, ndmin=1, **words)[1:]
    counts = pd.read_csv(path, sep=sep, header=None, skiprows=1, index_col=0, low_memory=False)
    genes = pd.Series(genes, dtype=str).str.strip()
    odd = [i for i, kind in enumerate(counts.dtypes) if kind.kind not in "iuf"]
    if len(genes) != counts.shape[1] or not len(genes) or (genes == "").any() or odd:
        raise ValueError(
            f"{path} names {len(genes)} genes for {counts.shape[1]} columns of counts"
            + (f", and counts that are not numbers, in gene {genes.iloc[odd[0]]}" if odd else "")
            + f": spots and named genes separated by {sep!r} are expected"
        )
    counts.index, counts.columns = counts.index.astype(str), pd.Index(genes, dtype=str)
    return counts


def _read_places(folder: Path, name: str) -> pd.DataFrame:
    path = folder / f"data/ST-spotfiles/{name}_selection.tsv"
    places = _table(path, "pixel_x", "pixel_y")
    return as_numbers(places, ("pixel_x", "pixel_y"), path)


def _picture_of(folder: Path, name: str) -> tuple[str, tuple[float, float], bool]:
    """The picture's name ("" for none), its scale, and whether it is in warped coordinates."""
    full = (folder / "data/ST-imgs" / patient_of(name) / name).glob("*")
    full = (path for path in full if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".tif"))
    if full := the_one(full, "H&E picture"):
        return full.relative_to(folder).as_posix(), (1.0, 1.0), False
    dark = folder / f"app/www/imgs/{name}{DARK}"
    if not dark.is_file():
        return "", (1.0, 1.0), False
    if name not in DARK_FRAMES:
        raise ValueError(f"the full size of {dark} is not known; only {sorted(DARK_FRAMES)} are")
    with Image.open(dark) as picture:
        scale = tuple(n / whole for n, whole in zip(picture.size, DARK_FRAMES[name], strict=True))
    return dark.relative_to(folder).as_posix(), scale, True


def _read_warped(folder: Path, name: str) -> pd.DataFrame:
    path = folder / f"res/ST-cluster/lbl/{name}-cluster-annotation.tsv.gz"
    return _table(path, "warped_x", "warped_y")[["warped_x", "warped_y"]]


def _warped_everywhere(folder: Path, name: str, pixels: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Warped positions of all spots, those the file lacks by the affine motion (in truth rigid) of the others."""
    warped = _read_warped(folder, name).reindex(pixels.index)
    known = warped.notna().all(axis=1).to_numpy()
    frame = np.column_stack([pixels.to_numpy(), np.ones(len(pixels))])
    motion = np.linalg.lstsq(frame[known], warped[known].to_numpy(), rcond=None)[0]
    if not known.all():
        lacking = ", ".join(warped.index[~known])
        notes.append(f"warped position of {lacking} not in the file: filled in from the other spots' motion")
    warped.loc[~known] = frame[~known] @ motion
    return warped


def _labels(folder: Path, name: str, spots: pd.Index, notes: list[str], classes: Mapping) -> tuple:
    """Tissue and label source of the spots: of the section's own file, else transferred, else none."""
    path = folder / f"data/ST-pat/lbl/{name}_labeled_coordinates.tsv"
    if path.is_file():
        table = _table(path)
        if stray := len(read_columns(path, sep="\t")) - len(table):
            notes.append(f"{stray} rows of the label file without x and y")
        matched(_read_places(folder, name), table.index, np.inf)
        return tissue_of(table["label"], str(path), classes).reindex(spots).fillna(""), "pathologist"
    labelled = path.parent.glob(f"{patient_of(name)}[0-9]*_labeled_coordinates.tsv")
    if path := the_one(labelled, "label file to transfer from"):
        return _transferred(folder, name, path, spots, classes)
    return pd.Series("", index=spots), "none"


def _transferred(folder: Path, name: str, path: Path, spots: pd.Index, classes: Mapping) -> tuple:
    """Labels of the nearest labelled spot of the patient's labelled section, in warped coordinates."""
    labelled = path.name.split("_")[0]
    known = tissue_of(_table(path)["label"], str(path), classes)
    there = _read_warped(folder, labelled)
    there = there.loc[there.index.intersection(known.index, sort=False)]
    here = _read_warped(folder, name).reindex(spots).dropna()
    reach = REACH * pitch_of(_read_places(folder, labelled)[["pixel_x", "pixel_y"]].to_numpy())
    distance, nearest = cKDTree(there.to_numpy()).query(here.to_numpy(), distance_upper_bound=reach)
    near = np.isfinite(distance)
    tissue, source = pd.Series("undetermined", index=spots), pd.Series("none", index=spots)
    tissue[here.index[near]] = known.loc[there.index].to_numpy()[nearest[near]]
    source[here.index[near]] = "transferred"
    return tissue, source
