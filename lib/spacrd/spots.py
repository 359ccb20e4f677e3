"""A section of spatial transcriptomics as every reader gives it: counts, places, labels, picture; its check and file."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.spatial import cKDTree

from lib.files import written_hdf5
from lib.inputs.tables import plain, read_texts
from lib.spacrd.pictures import OUTSIDE, check_picture, open_picture, shrunk

CANCER = ("invasive cancer", "cancer in situ")
OTHER = ("not cancer", "adipose tissue", "breast glands", "connective tissue", "immune infiltrate")
OTHER += ("stroma", "stromal", "normal", "healthy")
UNDETERMINED = ("undetermined", "")
# what a class of tissue counts as; a section table declares others (`lib.spacrd.cohort.read_table`)
CLASSES = {**dict.fromkeys(CANCER, 1.0), **dict.fromkeys(OTHER, 0.0), **dict.fromkeys(UNDETERMINED, np.nan)}
SPOT_COLUMNS = ("spot", "barcode", "barcodes", "cell_id")
DATED = r"(?i)\d{1,2}[-./](?:mar|sep|dec|oct|apr)\w*|(?:mar|sep|dec|oct|apr)\w*[-./]\d{1,4}|\d{4}-\d\d-\d\d.*"
MOST_COUNT = 1 << 24  # whole numbers up to here are all float32
STRAYS = 0.01  # share of spots that two files of one section may not have in common; 22 real runs have none
LEAST_SPREAD = 0.5  # variance over mean of a gene's counts: 1 by chance alone, and more
ALIKE = 0.02  # spread of the totals, as a share of their mean, below which counts were normalised
SPOT_UM = 55.0  # of Visium
HIRES, LOWRES = 1000, 300  # pixels of the longer side of the pictures kept with a section


def label_of(tissue: pd.Series, classes: Mapping[str, float] = CLASSES) -> np.ndarray:
    """float32 (n,): what `classes` says of each class: 1 cancer, 0 other, NaN undetermined or without a class."""
    return pd.Series(tissue).fillna("").astype(str).map(classes).to_numpy(np.float32)


def tissue_of(values: pd.Series, where: str, classes: Mapping[str, float] = CLASSES) -> pd.Series:
    """Tissue classes from a column of class names, or of 0 ("not cancer") and 1 ("invasive cancer"); empty is "".

    ValueError, by name, for a class that `classes` does not know: nobody said whether it is cancer.
    """
    values = values.astype(object)
    filled = values.notna() & (values.astype(str).str.strip() != "")
    numbers, kinds = pd.to_numeric(values.astype(str), errors="coerce"), values.where(filled, "").map(plain)
    if filled.any() and numbers[filled].isin((0, 1)).all() and not {"0", "1"} & set(classes):
        return numbers.map({0: "not cancer", 1: "invasive cancer"}).fillna("")
    if odd := sorted(set(kinds) - set(classes)):
        raise ValueError(
            f"{where} has the classes {', '.join(map(repr, odd[:12]))}{', ...' if len(odd) > 12 else ''}, and nobody said what "
            "they count as: list each in the section table, in its column cancer, other or undetermined (separated by ;)"
        )
    return kinds


def read_labels(
    path: Path | None, spots: pd.Index, notes: list[str], classes: Mapping = CLASSES, filtered: bool = False
) -> pd.Series:
    """Tissue classes of `spots` (n,), aligned by name, from a table (csv, tsv or xlsx) of a spot (or barcode,
    cell_id) and its label.

    The label is in the column "label", or in the only other one; case does not matter. Spots the table leaves out get "", as
    all do without a table. Labelled spots that the section has not are left out with a remark in `notes`; where they are more
    than the share `STRAYS`, the table is of another section and is refused, as is a spot given twice. Of a section that somebody
    may have `filtered` more may be gone, if the table knows all that are left.
    """
    if path is None:
        return pd.Series("", index=spots)
    path = Path(path)
    table = read_texts(path)
    table.columns = [plain(column) for column in table]
    key = next((column for column in SPOT_COLUMNS if column in table), None)
    others = [column for column in table if column != key]
    label = "label" if "label" in others else others[0] if len(others) == 1 else None
    if key is None or label is None:
        raise ValueError(f"{path} has the columns {list(table)[:8]}: barcode or spot, and label are needed")
    table = table.set_index(table[key].rename(None))
    kinds = tissue_of(table[label], str(path), classes)
    refuse_twice(table.index, path)
    named = kinds.index[kinds != ""]
    strange = named.difference(spots, sort=False)
    said = f"{len(strange)} of the {len(named)} labelled spots in {path.name} are not in the section ({', '.join(strange[:3])})"
    unknown = spots.difference(table.index, sort=False)
    if len(strange) > STRAYS * len(named) and not (filtered and len(unknown) <= STRAYS * len(spots)):
        raise ValueError(
            f"{said}, which has names like {spots[0]!r}: the labels are of another section, or its spots are named "
            "otherwise; use the labels of this section with its own spot names"
        )
    if len(strange):
        notes.append(f"{said}: their labels are left out")
    return kinds.reindex(spots).fillna("")


def refuse_twice(names: pd.Index, where: object) -> None:
    """Refuse a row name that stands twice: one of the two would silently win."""
    if not names.is_unique:
        raise ValueError(f"{where} gives {names[names.duplicated()][0]} twice: keep one row a spot")


def as_numbers(table: pd.DataFrame, columns: Sequence[str], where, gaps: bool = False) -> pd.DataFrame:
    """A copy with float64 columns. Refused: a row twice, a missing column, a word, an infinite or (without `gaps`) an empty cell."""
    refuse_twice(table.index, where)
    if missing := [column for column in columns if column not in table]:
        raise ValueError(f"{where} lacks the columns {missing}, it has {list(table.columns)[:8]}")
    table = table.copy()
    for column in columns:
        values = pd.to_numeric(table[column], errors="coerce").astype(np.float64)
        empty = table[column].isna() | (table[column].astype(str).str.strip() == "")
        wrong = ~np.isfinite(values) & ~(empty & gaps)
        if wrong.any():
            name, cell = next(table.loc[wrong, column].items())
            raise ValueError(f"{where}: {column} of {name} is {cell!r}, no number ({int(wrong.sum())} rows)")
        table[column] = values
    return table


def the_one(paths: Iterable[Path], what: str) -> Path | None:
    """The only one of some paths, None where there is none; more than one are refused."""
    paths = sorted(set(paths))
    if len(paths) > 1:
        raise ValueError(f"which is the {what}, {' or '.join(path.name for path in paths)}? Keep one")
    return paths[0] if paths else None


def matched(places: pd.DataFrame, spots: pd.Index, most_idle=None) -> tuple[pd.DataFrame, pd.Index]:
    """The rows of `places` that belong to `spots`, in their order, and the names of all other rows.

    Refused: a spot without a place; more than `most_idle` places without a spot, None: more than the share `STRAYS`.
    """
    most_idle = STRAYS * len(places) if most_idle is None else most_idle
    lost = spots.difference(places.index, sort=False)
    idle = places.index.difference(spots, sort=False)
    if len(lost) or len(idle) > most_idle:
        raise ValueError(
            f"{len(lost)} of {len(spots)} spots have no position ({', '.join(lost[:3])}), {len(idle)} of "
            f"{len(places)} positions are of no spot ({', '.join(idle[:3])}): both files must come from the same section"
        )
    return places.loc[spots], idle


def pitch_of(xy: np.ndarray) -> float:
    """Distance between neighbouring spots (n, 2), n > 1: the median of the nearest-neighbour distance, in their unit."""
    pitch = float(np.median(cKDTree(xy).query(xy, k=2)[0][:, 1]))
    if not 0 < pitch < np.inf:
        raise ValueError("no two spots apart from each other, so there is no pitch")
    return pitch


def assemble(
    counts: AnnData,
    xy: np.ndarray,
    tissue: pd.Series,
    source: str | pd.Series = "pathologist",
    *,
    classes: Mapping[str, float] = CLASSES,
    name: str,
    patient: str,
    platform: str,
    sizes_um: tuple[float, float],
    folder: str | Path = "",
    picture: str = "",
    picture_scale: tuple[float, float] = (1.0, 1.0),
    um_per_px: float | None = None,
    dropped: Sequence[str] = (),
    bare: np.ndarray | None = None,
    most_outside: float = OUTSIDE,
    copy: np.ndarray | None = None,
) -> AnnData:
    """Put a section of n spots together and check it.

    Parameters
    ----------
    counts : AnnData (n spots, g genes)
        Raw counts, dense or sparse, with the names of spots and genes; var["gene_ids"] where the files have identifiers.
    xy : float array (n, 2)
        x, y in pixels of the full-resolution picture, origin top left.
    tissue, source, classes
        Class of every spot (n,), "" where none; who said so, "pathologist" or "transferred" (one word may do for all; a spot
        without a class gets "none"); and what each class counts as (`label_of`).
    sizes_um, um_per_px
        Diameter of a spot and pitch; the latter over the measured pitch gives µm per pixel where the files do not.
    folder, picture, picture_scale
        File relative to the folder ("" if none); full-resolution pixel -> pixel of that file, in x and y.
    dropped : sequence of str
        What was left out of the raw files, and what else is odd in them, in words.
    bare, most_outside, copy
        See `lib.spacrd.pictures.check_picture`; spots beyond the picture's border are left out and counted.

    Returns
    -------
    AnnData
        X: csr float32 raw counts; var gene_id; `obsm["spatial"]` (n, 2) full-resolution pixels; obs tissue,
        label (1 cancer, 0 other, NaN undetermined or unlabelled), label_source; `uns["section"]`: what is known of it;
        `uns["spatial"][name]`: picture and scale factors, as scanpy and squidpy draw them.
    """
    notes, xy = list(dropped), np.asarray(xy, np.float64)
    axes = (counts.obs_names, counts.var_names)
    obs, var = (pd.DataFrame(index=pd.Index(map(str, names))) for names in axes)
    section = AnnData(sparse.csr_matrix(counts.X), obs=obs, var=var, obsm={"spatial": xy})
    check_section(section)
    section.X = section.X.astype(np.float32)
    section.var["gene_id"] = counts.var["gene_ids"].astype(str).to_numpy() if "gene_ids" in counts.var else ""
    notes += _oddities(section)
    section.obs["tissue"] = tissue = pd.Series(tissue).fillna("").astype(str).to_numpy()
    section.obs["label"] = label_of(tissue, classes)
    section.obs["label_source"] = np.where(tissue == "", "none", source)

    (diameter, pitch), px = map(float, sizes_um), pitch_of(xy)
    um_per_px = float(um_per_px or pitch / px)
    images, factors = {}, {"spot_diameter_fullres": diameter / um_per_px, "tissue_hires_scalef": 1.0}
    if picture:
        rgb = open_picture(Path(folder) / picture)
        for size, longest in (("hires", HIRES), ("lowres", LOWRES)):
            images[size], factors[f"tissue_{size}_scalef"] = shrunk(rgb, picture_scale, longest)
        seen = (Path(folder) / picture, rgb.shape[1::-1], images["hires"], factors["tissue_hires_scalef"])
        # a bin of Visium HD may well lie on a lumen or a fat cell: as much tissue is looked at as below a spot
        spot_px = max(diameter, SPOT_UM) / um_per_px
        inside, odd = check_picture(*seen, xy, picture_scale, spot_px, bare, most_outside, copy)
        notes += [odd] * bool(odd)
        if not inside.all():
            notes.append(f"{int((~inside).sum())} spots beyond the picture's border")
            section = section[inside].copy()
    section.uns["section"] = {
        **{"name": name, "patient": patient, "platform": platform, "dropped": "; ".join(notes)},
        **{"pitch_px": px, "um_per_px": um_per_px, "spot_diameter_um": diameter, "pitch_um": pitch},
        **{"picture": picture, "picture_scale": [float(s) for s in picture_scale]},
    }
    section.uns["spatial"] = {name: {"images": images, "scalefactors": factors}}
    return section


def _oddities(section: AnnData) -> list[str]:
    """What is odd in counts that are whole numbers, in words."""
    notes = []
    if dated := [gene for gene in section.var_names if re.fullmatch(DATED, gene)]:
        notes.append(
            f"{len(dated)} genes named like dates ({', '.join(dated[:3])}), as a spreadsheet makes of MARCH1 and SEPT2: they "
            "match no other section's"
        )
    totals = np.asarray(section.X.sum(axis=1)).ravel()
    if len(totals) < 20 or not totals.any():
        return notes
    if totals.std() < ALIKE * totals.mean():
        said = f"every spot has about {totals.mean():.0f} counts: normalised and rounded?"
        notes.append(f"{said} raw counts differ from spot to spot")
    mean, square = (np.asarray(x.mean(axis=0)).ravel() for x in (section.X, section.X.power(2)))
    spread = (square - mean**2)[mean >= 0.5] / mean[mean >= 0.5]
    single = (np.asarray((section.X == 1).sum(axis=1)) > 0).mean()
    if len(spread) and (ratio := np.median(spread)) < LEAST_SPREAD:
        notes.append(f"counts vary less than chance (variance {ratio:.2f} of mean): logged, or yes and no?")
    elif section.n_vars >= 1000 and single < 0.5:  # of a panel all genes may be frequent
        notes.append(f"in {1 - single:.0%} of the spots no gene has a count of 1: normalised and rounded?")
    return notes


def check_section(section: AnnData) -> None:
    """Refuse names that stand twice, and counts (csr) that are not raw or too large for float32."""
    for what, names in (("spots", section.obs_names), ("genes", section.var_names)):
        if not names.is_unique:
            raise ValueError(f"{what} named twice: {names[names.duplicated()][:3].tolist()}")
    values = section.X.data
    wrong = ~np.isfinite(values) | (values < 0) | (values % 1 != 0) | (values > MOST_COUNT)
    if wrong.any():
        first = int(wrong.argmax())
        row = int(np.searchsorted(section.X.indptr, first, side="right") - 1)
        raise ValueError(
            f"{int(wrong.sum())} counts are NaN, infinite, negative, not whole or more than any spot holds (the first: "
            f"{values[first]} for spot {section.obs_names[row]}, gene {section.var_names[section.X.indices[first]]}); give "
            "raw counts, not normalised or logged values, and fill gaps at the source"
        )


def write_section(section: AnnData, path: str | Path) -> None:
    """Write a section as h5ad, whole or not at all; equal sections give equal bytes."""
    check_section(section)
    section.strings_to_categoricals()
    with written_hdf5(path) as file:
        anndata.io.write_elem(file, "/", section, dataset_kwargs={"compression": "gzip"})


def read_section(path: str | Path) -> AnnData:
    """Read a section written by `write_section`, or by `AnnData.write_h5ad` (counts csr, csc or dense), and check it."""
    section = anndata.read_h5ad(path)
    section.X = sparse.csr_matrix(section.X)
    check_section(section)
    return section
