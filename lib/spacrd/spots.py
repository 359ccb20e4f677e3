"""A section of spatial transcriptomics as every reader gives it: counts, places, labels, picture; its check and file."""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.spatial import cKDTree

from lib.files import written_hdf5
from lib.inputs.tables import read_columns
from lib.spacrd.pictures import check_frame, open_picture, shrunk

CANCER = ("invasive cancer", "cancer in situ")
UNDETERMINED = ("undetermined", "")
CANCER_WORDS = (
    r"cancer|carcinoma|tumou?r|malignan|invasive|dcis|lcis|\b(?:idc|ilc)\b|metasta|neoplas|in.?situ"
)
UNCLEAR = (
    "true",
    "false",
    "yes",
    "no",
    "positive",
    "negative",
    "na",
    "n/a",
    "nan",
    "null",
    "unknown",
    "?",
    "-",
)
LABEL_SOURCES = ("pathologist", "transferred", "planted", "none")
DATED = r"(?i)\d{1,2}[-./](?:mar|sep|dec|oct|apr)\w*|(?:mar|sep|dec|oct|apr)\w*[-./]\d{1,4}|\d{4}-\d\d-\d\d.*"
MOST_COUNT = 1 << 24  # whole numbers up to here are all float32
OBS_COLUMNS = ("array_x", "array_y", "tissue", "label", "label_source")
HIRES, LOWRES = 1000, 300  # pixels of the longer side of the pictures kept with a section


def label_of(tissue: pd.Series) -> np.ndarray:
    """float32 (n,): 1 for the classes in `CANCER`, NaN for "undetermined" and "" (no class), 0 for any other class."""
    tissue = pd.Series(tissue).fillna("").astype(str)
    return np.where(tissue.isin(UNDETERMINED), np.nan, tissue.isin(CANCER)).astype(np.float32)


def tissue_of(values: pd.Series, where: str = "the label column") -> pd.Series:
    """Tissue classes from a column of class names, or of 0 ("not cancer") and 1 ("invasive cancer"); empty is "".

    Raises
    ------
    ValueError
        Other numbers, numbers among names, or a name that sounds like cancer, or leaves open whether it is: it would
        silently count as other.
    """
    filled = values.notna() & (values.astype(str).str.strip() != "")
    numbers = pd.to_numeric(values, errors="coerce")
    if filled.any() and numbers[filled].notna().all():
        if not numbers[filled].isin((0, 1)).all():
            odd = sorted(set(numbers[filled]) - {0, 1})[:3]
            raise ValueError(f"{where}: a label of numbers is 0 (other) or 1 (cancer), found {odd}")
        return numbers.map({0: "not cancer", 1: "invasive cancer"}).fillna("")
    kinds = values.where(filled, "").astype(str).str.split().str.join(" ").str.lower()
    others = kinds[~kinds.isin((*CANCER, "not cancer", ""))]
    odd = others[others.str.contains(CANCER_WORDS) | others.isin(UNCLEAR) | numbers.loc[others.index].notna()]
    if len(odd):
        raise ValueError(
            f"{where} has the classes {sorted(odd.unique())[:4]}, which would count as other: write "
            f"{' or '.join(CANCER)} or another tissue, or 0 and 1 throughout; leave empty what nobody knows"
        )
    return kinds


def source_of(tissue: pd.Series) -> pd.Series:
    """Label source of spots a pathologist was asked about: "pathologist" where a class was given, else "none"."""
    return pd.Series(np.where(tissue == "", "none", "pathologist"), index=tissue.index)


def read_labels(path: str | Path, spots: pd.Index) -> pd.Series:
    """Tissue classes of `spots` (n,), aligned by name, from a table with a column "spot", "barcode" or "cell_id" and "label".

    Spots the table leaves out get "". Spots that the section has not (off tissue, cells without counts) are left out
    with a warning; where they are the most, the table is of another section and is refused, as is a spot given twice.
    """
    path = Path(path)
    table = read_columns(path, sep="\t" if ".tsv" in path.suffixes else ",", dtype=str, keep_default_na=False)
    key = next((column for column in ("spot", "barcode", "cell_id") if column in table), None)
    if key is None or "label" not in table:
        raise ValueError(f"{path} has the columns {list(table)[:8]}, expected barcode (or spot) and label")
    table = table.fillna("").set_index(table[key].str.strip().rename(None))
    kinds = tissue_of(table["label"].replace("", np.nan), str(path))
    refuse_twice(table.index, path)
    strange = table.index.difference(spots, sort=False)
    said = f"{len(strange)} of the {len(table)} spots in {path} are not in the section ({', '.join(strange[:3])})"
    if len(strange) > 0.5 * len(table):
        raise ValueError(f"{said}, which has names like {spots[0]!r}: use the section's own spot names")
    if len(strange):
        warnings.warn(f"{said}: their labels are left out", stacklevel=2)
    return kinds.reindex(spots).fillna("")


def refuse_twice(names: pd.Index, where: object) -> None:
    """Refuse a row name that stands twice: one of the two would silently win."""
    if not names.is_unique:
        raise ValueError(f"{where} gives {names[names.duplicated()][0]} twice: keep one row a spot")


def as_numbers(
    table: pd.DataFrame, columns: Sequence[str], where: object, gaps: bool = False
) -> pd.DataFrame:
    """A copy with float64 columns. Refused: a missing column, a word, an infinite or (without `gaps`) an empty cell."""
    if missing := [column for column in columns if column not in table]:
        raise ValueError(f"{where} lacks the columns {missing}, it has {list(table.columns)[:8]}")
    table = table.copy()
    for column in columns:
        values = pd.to_numeric(table[column], errors="coerce").astype(np.float64)
        empty = table[column].isna() | (table[column].astype(str).str.strip() == "")
        wrong = ~np.isfinite(values) & ~(empty & gaps)
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise ValueError(
                f"{where}: {column} of {table.index[row]} is {table[column].iloc[row]!r}, no number ({int(wrong.sum())} rows)"
            )
        table[column] = values
    return table


def pitch_of(xy: np.ndarray) -> float:
    """Distance between neighbouring spots (n, 2), n > 1: the median of the nearest-neighbour distance, in their unit."""
    pitch = float(np.median(cKDTree(xy).query(xy, k=2)[0][:, 1]))
    if not 0 < pitch < np.inf:
        raise ValueError("no two spots apart from each other, so there is no pitch")
    return pitch


def assemble(
    counts: AnnData,
    xy: np.ndarray,
    array_xy: np.ndarray,
    tissue: pd.Series,
    source: pd.Series,
    *,
    name: str,
    patient: str,
    platform: str,
    sizes_um: tuple[float, float],
    folder: str | Path = "",
    picture: str = "",
    picture_scale: tuple[float, float] = (1.0, 1.0),
    um_per_px: float | None = None,
    dropped: Sequence[str] = (),
) -> AnnData:
    """Put a section of n spots together and check it.

    Parameters
    ----------
    counts : AnnData (n spots, g genes)
        Raw counts, dense or sparse, with the names of spots and genes.
    xy, array_xy : float array (n, 2)
        x, y in pixels of the full-resolution picture, origin top left; and in grid steps.
    tissue, source : sequence of str (n,)
        Class of every spot, "" where none; the label follows from it (`label_of`). One of `LABEL_SOURCES`.
    sizes_um : (float, float)
        Diameter of a spot and pitch, µm.
    folder, picture, picture_scale : path, str, (sx, sy)
        File relative to the folder ("" if none); full-resolution pixel -> pixel of that file.
    um_per_px : float, optional
        µm per full-resolution pixel where the platform's files give it; else pitch over the measured pitch.
    dropped : sequence of str
        What was left out of the raw files, in words.

    Returns
    -------
    AnnData
        X: csr float32 raw counts; `obsm["spatial"]` (n, 2) full-resolution pixels; obs columns `OBS_COLUMNS` (label 1
        cancer, 0 other, NaN undetermined or unlabelled); `uns["section"]`: what is known of it;
        `uns["spatial"][name]`: picture and scale factors, as scanpy and squidpy draw them.
    """
    values, xy = sparse.csr_matrix(counts.X), np.asarray(xy, np.float64)
    if (most := values.data[np.isfinite(values.data)].max(initial=0)) > MOST_COUNT:
        raise ValueError(f"a count of {most:g}, which no spot holds: give raw counts")
    if dated := [gene for gene in map(str, counts.var_names) if re.fullmatch(DATED, gene)]:
        warnings.warn(
            f"{name}: {len(dated)} genes are named like dates ({', '.join(dated[:3])}), as a spreadsheet makes of "
            "MARCH1 and SEPT2: they match no other section's",
            stacklevel=2,
        )
    tissue = pd.Series(tissue).fillna("").astype(str).to_numpy()
    obs = dict(
        zip(
            OBS_COLUMNS,
            (*np.asarray(array_xy, float).T, tissue, label_of(tissue), np.asarray(source)),
            strict=True,
        )
    )
    names = [pd.Index(map(str, each)) for each in (counts.obs_names, counts.var_names)]
    section = AnnData(
        values.astype(np.float32),
        obs=pd.DataFrame(obs, index=names[0]),
        var=pd.DataFrame(index=names[1]),
        obsm={"spatial": xy},
    )
    pitch_px, (diameter, pitch) = pitch_of(xy), map(float, sizes_um)
    um_per_px = float(um_per_px or pitch / pitch_px)
    about = {
        "name": name,
        "patient": patient,
        "platform": platform,
        "pitch_px": pitch_px,
        "um_per_px": um_per_px,
    }
    about |= {"spot_diameter_um": diameter, "pitch_um": pitch, "dropped": "; ".join(dropped)}
    section.uns["section"] = about | {"picture": picture, "picture_scale": [float(s) for s in picture_scale]}
    images, factors = {}, {"spot_diameter_fullres": diameter / um_per_px, "tissue_hires_scalef": 1.0}
    if picture:
        rgb = open_picture(Path(folder) / picture)
        check_frame(Path(folder) / picture, rgb.shape[1::-1], xy, picture_scale)
        for size, longest in (("hires", HIRES), ("lowres", LOWRES)):
            images[size], factors[f"tissue_{size}_scalef"] = shrunk(rgb, picture_scale, longest)
    section.uns["spatial"] = {name: {"images": images, "scalefactors": factors}}
    check_section(section)
    return section


def check_section(section: AnnData) -> None:
    """Refuse a section, see `assemble`, that later stages would misread; the message says what is wrong."""
    about = section.uns["section"]
    if section.n_obs < 2 or section.n_vars < 1:
        raise ValueError(f"{section.n_obs} spots x {section.n_vars} genes: two spots and a gene are needed")
    for what, names in (("spots", section.obs_names), ("genes", section.var_names)):
        if not names.is_unique:
            raise ValueError(f"{what} named twice: {names[names.duplicated()][:3].tolist()}")
    if not sparse.issparse(section.X) or section.X.format != "csr" or section.X.dtype != np.float32:
        raise ValueError("X is not a csr matrix of float32")
    wrong = ~np.isfinite(section.X.data) | (section.X.data < 0) | (section.X.data % 1 != 0)
    if wrong.any():
        first = int(wrong.argmax())
        row = int(np.searchsorted(section.X.indptr, first, side="right") - 1)
        raise ValueError(
            f"{int(wrong.sum())} counts are NaN, infinite, negative or not whole (the first: {section.X.data[first]} for "
            f"spot {section.obs_names[row]}, gene {section.var_names[section.X.indices[first]]}); give raw counts, not "
            "normalised or logged values, and fill gaps at the source"
        )
    if missing := [column for column in OBS_COLUMNS if column not in section.obs]:
        raise ValueError(f"no column {missing} in obs")
    if section.obsm["spatial"].shape != (section.n_obs, 2) or not np.isfinite(section.obsm["spatial"]).all():
        raise ValueError("every spot needs x and y in pixels in obsm['spatial']")
    label = section.obs["label"].to_numpy(dtype=np.float64)
    if not np.isin(label[~np.isnan(label)], (0, 1)).all():
        raise ValueError("labels other than 0 (other), 1 (cancer) and NaN (undetermined)")
    if odd := sorted(set(section.obs["label_source"].astype(str)) - set(LABEL_SOURCES)):
        raise ValueError(f"unknown label_source {odd}, expected one of {list(LABEL_SOURCES)}")
    sizes = [about[key] for key in ("pitch_px", "spot_diameter_um", "pitch_um", "um_per_px")]
    if not all(np.isfinite(size) and size > 0 for size in [*sizes, *about["picture_scale"]]):
        raise ValueError(
            "a pitch, diameter or scale is not a positive number: check positions and scale factors"
        )


def write_section(section: AnnData, path: str | Path) -> None:
    """Write a section as h5ad, atomically; unlike with `AnnData.write_h5ad` equal sections give equal bytes."""
    check_section(section)
    section.strings_to_categoricals()
    with written_hdf5(path) as file:
        file.attrs["encoding-type"], file.attrs["encoding-version"] = "anndata", "0.1.0"
        for name in ("X", "obs", "var", "obsm", "varm", "obsp", "varp", "layers", "uns"):
            part = getattr(section, name)
            packed = {"compression": "gzip"} if name == "uns" else {}
            in_order = _in_order(part) if isinstance(part, Mapping) else part
            anndata.io.write_elem(file, name, in_order, dataset_kwargs=packed)


def _in_order(parts: Mapping) -> dict:
    """By name, as they come back from a file: a section that was read is written to the same bytes again."""
    return {
        key: _in_order(part) if isinstance(part, Mapping) else part for key, part in sorted(parts.items())
    }


def read_section(path: str | Path) -> AnnData:
    """Read a section written by `write_section`, or by `AnnData.write_h5ad`, and check it."""
    section = anndata.read_h5ad(path)
    check_section(section)
    return section
