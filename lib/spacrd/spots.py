"""Labels of spots: tissue classes, what of them is cancer, and tables that name them.

Tables of spots and cells: columns without names, and numbers that must be numbers.

Sections of spatial transcriptomics: the one shape every loader gives, and its check.
"""

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.spatial import cKDTree

from lib.inputs import tables as text_tables
from lib.inputs.tables import read_columns

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


def label_of(tissue: pd.Series) -> np.ndarray:
    """Cancer label of tissue classes.

    Returns
    -------
    float32 array (n,)
        1 for "invasive cancer" and "cancer in situ", NaN for "undetermined" and "" (no class), 0 for any other class.
    """
    tissue = pd.Series(tissue).fillna("").astype(str)
    return np.where(tissue.isin(UNDETERMINED), np.nan, tissue.isin(CANCER)).astype(np.float32)


def tissue_of(values: pd.Series, where: str = "the label column") -> pd.Series:
    """Tissue classes from a column that holds either class names or 0/1.

    0 becomes "not cancer", 1 becomes "invasive cancer" (the label of both is what counts), an empty cell "".

    Parameters
    ----------
    values : Series
    where : str
        Section and file, for messages.

    Raises
    ------
    ValueError
        Numbers other than 0 and 1, numbers among names, or a name that leaves open whether it is cancer: it would
        count as other.
    """
    numbers = pd.to_numeric(values, errors="coerce")
    filled = values.notna() & (values.astype(str).str.strip() != "")
    if filled.any() and numbers[filled].notna().all():
        if not numbers[filled].isin((0, 1)).all():
            odd = sorted(set(numbers[filled]) - {0, 1})[:3]
            raise ValueError(
                f"{where}: a label column of numbers holds 0 (other) and 1 (cancer) only, found {odd}"
            )
        return numbers.map({0: "not cancer", 1: "invasive cancer"}).fillna("")
    kinds = values.where(filled, "").astype(str).str.split().str.join(" ").str.lower()
    others = kinds[~kinds.isin((*CANCER, "not cancer", ""))]
    if odd := sorted(others[others.str.contains(CANCER_WORDS)].unique()):
        raise ValueError(
            f"{where} has the classes {odd[:4]}, which sound like cancer but would count as other: "
            f"write {' or '.join(CANCER)}, or 0 and 1"
        )
    unclear = others.isin(UNCLEAR) | numbers.loc[others.index].notna()
    if unclear.any():
        odd = sorted(others[unclear].unique())
        raise ValueError(
            f"{where} has the classes {odd[:4]}, which do not say whether they are cancer and would count as other: "
            f"write {' or '.join(CANCER)} or another tissue, or 0 and 1 throughout, and leave the cell empty where "
            "nobody knows"
        )
    return kinds


def source_of(tissue: pd.Series) -> pd.Series:
    """Label source of spots a pathologist was asked about: "pathologist" where a class was given, else "none"."""
    return pd.Series(np.where(tissue == "", "none", "pathologist"), index=tissue.index)


def read_labels(path: str | Path, spots: pd.Index, name: str) -> pd.Series:
    """Tissue classes from a label table.

    Parameters
    ----------
    path : path
        csv (or tsv, by its suffix) with a column "spot", "barcode" or "cell_id" and a column "label" of class names
        or 0/1.
    spots : Index of str (n,)
        The section's spots. Those the table leaves out get "".
    name : str
        The section, for messages.

    Returns
    -------
    Series of str (n,)
        In the order of `spots`.

    Raises
    ------
    FileNotFoundError, ValueError
        If a column is missing, a spot stands twice, most rows name spots the section does not have, or a class sounds
        like cancer without being one of `CANCER`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"section {name}: no label file {path}; write one with the columns barcode, label"
        )
    table = read_columns(path, sep="\t" if ".tsv" in path.suffixes else ",", dtype=str, keep_default_na=False)
    key = next((column for column in ("spot", "barcode", "cell_id") if column in table), None)
    if key is None or "label" not in table:
        raise ValueError(
            f"section {name}: {path} has the columns {list(table.columns)[:8]}, expected barcode (or spot) and label"
        )
    table = table.fillna("").set_index(table[key].str.strip().rename(None))
    kinds = tissue_of(table["label"].replace("", np.nan), f"section {name}: {path}")
    if not table.index.is_unique:
        raise ValueError(f"section {name}: {path} labels {table.index[table.index.duplicated()][0]} twice")
    # a table may cover more than the section keeps (spots off tissue, cells without counts), but not other spots
    strange = table.index.difference(spots, sort=False)
    if len(strange) > 0.5 * len(table):
        raise ValueError(
            f"section {name}: only {len(table) - len(strange)} of the {len(table)} spots in {path} are in the section "
            f"(the table has {strange[0]!r}, the section {spots[0]!r}): use the section's own spot names"
        )
    if len(strange):
        warnings.warn(
            f"section {name}: {len(strange)} of the {len(table)} spots in {path} are not in the section "
            f"({', '.join(strange[:3])}): their labels are left out",
            stacklevel=2,
        )
    return kinds.reindex(spots).fillna("")


def read_unnamed(path: str | Path, sep: str = ",", **settings: object) -> pd.DataFrame:
    """Read a table without a header, or whose header is a row like the others; columns are numbered.

    `lib.inputs.tables.read_columns` would take the first row for a header and refuse equal cells in it.

    Raises
    ------
    FileNotFoundError
    ValueError
        Empty, no text, damaged, too large, a row longer than the first.
    """
    text = text_tables.whole_text(Path(path))
    try:
        return pd.read_csv(io.StringIO(text, newline=""), sep=sep, header=None, **settings)
    except ValueError as error:  # pandas' own are of that kind
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} cannot be read as a table ({said}): save it again as it was") from error


def as_numbers(
    table: pd.DataFrame, columns: Sequence[str], where: str, gaps: bool = False, most: float = 1e9
) -> pd.DataFrame:
    """The table with columns of float64.

    Parameters
    ----------
    table : DataFrame
        Texts or numbers, with the rows' names as index.
    columns : sequence of str
    where : str
        Section and file, for the message.
    gaps : bool
        Empty cells stay NaN; else they are refused.
    most : float
        Largest size of a number that can be meant: a place on a slide has no more pixels or µm.

    Raises
    ------
    ValueError
        Names the row and column of the first cell that is no such number.
    """
    table = table.copy()
    for column in columns:
        typed = table[column]
        values = pd.to_numeric(typed, errors="coerce").astype(np.float64)
        empty = typed.isna() | (typed.astype(str).str.strip() == "")
        wrong = ~(values.abs() <= most) & ~(empty & gaps)
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            typed_so = "" if empty.iloc[place] else f" but {str(typed.iloc[place])[:40]!r}"
            raise ValueError(
                f"{where} has no {column}{typed_so} for {str(table.index[place])[:60]!r} (of {len(table)} rows, "
                f"{int(wrong.sum())} are so): a number below {most:g} is expected, correct or remove the rows"
            )
        table[column] = values
    return table


LABEL_SOURCES = ("pathologist", "transferred", "planted", "none")
DATED = r"(?i)\d{1,2}[-./](?:mar|sep|dec|oct|apr)\w*|(?:mar|sep|dec|oct|apr)\w*[-./]\d{1,4}|\d{4}-\d\d-\d\d.*"
MOST = 1 << 24
"""Whole numbers up to here are all float32."""

OBS_COLUMNS = ("array_x", "array_y", "tissue", "label", "label_source")
SECTION_KEYS = (
    "name",
    "patient",
    "platform",
    "pitch_px",
    "spot_diameter_um",
    "pitch_um",
    "um_per_px",
    "picture",
    "picture_scale",
    "dropped",
)


def pitch_of(xy: np.ndarray) -> float:
    """Distance between neighbouring spots: the median over spots of the nearest-neighbour distance.

    Parameters
    ----------
    xy : float array (n, 2)
        Positions, in any unit; n at least 2.

    Returns
    -------
    float
        The pitch, in the unit of `xy`, > 0.

    Raises
    ------
    ValueError
        With fewer than two spots, a position that is not finite, or more than half of the spots on top of each other.
    """
    xy = np.asarray(xy, dtype=np.float64)
    if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) < 2:
        raise ValueError(f"a pitch needs at least two spots with x and y, got an array of shape {xy.shape}")
    if not np.isfinite(xy).all():
        raise ValueError(f"{(~np.isfinite(xy).all(axis=1)).sum()} of {len(xy)} spots have no finite position")
    pitch = float(np.median(cKDTree(xy).query(xy, k=2)[0][:, 1]))
    if pitch <= 0:
        raise ValueError("most spots share their position with another spot, so there is no pitch")
    return pitch


def assemble(
    counts,
    *,
    spots,
    genes,
    xy: np.ndarray,
    array_xy: np.ndarray,
    tissue,
    label_source,
    name: str,
    patient: str,
    platform: str,
    spot_diameter_um: float,
    pitch_um: float,
    picture: str = "",
    picture_scale: tuple[float, float] = (1.0, 1.0),
    um_per_px: float | None = None,
    dropped: str = "",
) -> AnnData:
    """Put a section together and check it.

    Parameters
    ----------
    counts : array or sparse matrix (n spots, g genes)
        Raw counts.
    spots, genes : sequence of str
        Unique names, n and g.
    xy : float array (n, 2)
        x, y in pixels of the full-resolution picture, origin top left.
    array_xy : float array (n, 2)
        Position in grid steps.
    tissue : sequence of str
        Class of every spot, "" where none; the label follows from it (`label_of`).
    label_source : str or sequence of str
        One of `LABEL_SOURCES`, for all spots or for each.
    spot_diameter_um, pitch_um : float
        Of the platform, in µm.
    picture, picture_scale : str, (sx, sy)
        File relative to the raw folder ("" if none); full-resolution pixel -> pixel of that file.
    um_per_px : float, optional
        µm per full-resolution pixel where the platform's files give it; else pitch_um over the measured pitch.
    dropped : str
        What was left out of the raw files, in words; "" if nothing.

    Returns
    -------
    AnnData
        As `check_section` wants it.
    """
    xy = np.asarray(xy, dtype=np.float64).reshape(-1, 2)
    array_xy = np.asarray(array_xy, dtype=np.float64).reshape(-1, 2)
    values = sparse.csr_matrix(counts)
    if values.shape != (len(spots), len(genes)) or len(xy) != len(spots):
        raise ValueError(
            f"section {name}: counts are {values.shape[0]} x {values.shape[1]} but there are {len(spots)} spot names, "
            f"{len(genes)} gene names and {len(xy)} positions"
        )
    if (
        values.dtype.kind in "iuf"
        and values.nnz
        and (top := values.data[np.isfinite(values.data)].max(initial=0)) > MOST
    ):
        raise ValueError(
            f"section {name}: a count of {top:g}, which no spot holds and float32 cannot: give raw counts"
        )
    dated = [gene for gene in map(str, genes) if re.fullmatch(DATED, gene)]
    if dated:
        warnings.warn(
            f"section {name}: {len(dated)} genes are named like dates ({', '.join(dated[:3])}), as a spreadsheet makes "
            "of MARCH1 and SEPT2: they are kept under these names and match no other section's",
            stacklevel=2,
        )
    tissue = pd.Series(tissue).fillna("").astype(str).to_numpy()
    obs = pd.DataFrame(
        {
            "array_x": array_xy[:, 0],
            "array_y": array_xy[:, 1],
            "tissue": tissue,
            "label": label_of(tissue),
            "label_source": label_source,
        },
        index=pd.Index(spots, dtype=str),
    )
    obs.index.name = None  # h5ad takes text only as a name, and a count table's header leaves a number
    section = AnnData(
        values.astype(np.float32), obs=obs, var=pd.DataFrame(index=pd.Index(genes, dtype=str, name=None))
    )
    section.var.index.name = None
    section.obsm["spatial"] = xy
    try:
        pitch_px = pitch_of(xy)
    except ValueError as error:
        raise ValueError(f"section {name}: {error}") from None
    section.uns["section"] = {
        "name": name,
        "patient": patient,
        "platform": platform,
        "pitch_px": pitch_px,
        "spot_diameter_um": float(spot_diameter_um),
        "pitch_um": float(pitch_um),
        "um_per_px": float(um_per_px if um_per_px is not None else pitch_um / pitch_px),
        "picture": picture,
        "picture_scale": [float(scale) for scale in picture_scale],
        "dropped": dropped,
    }
    check_section(section)
    return section


def check_section(section: AnnData) -> None:
    """Refuse a section that later stages would misread.

    Parameters
    ----------
    section : AnnData
        X: csr float32 raw counts; `obsm["spatial"]` float64 (n, 2) full-resolution pixels; obs columns `OBS_COLUMNS`
        (label 1 cancer, 0 other, NaN undetermined or unlabelled); `uns["section"]` with `SECTION_KEYS`.

    Raises
    ------
    ValueError
        Names the section, what is wrong and what to do.
    """
    about = section.uns.get("section")
    if about is None or not set(SECTION_KEYS) <= set(about):
        missing = sorted(set(SECTION_KEYS) - set(about or {}))
        raise ValueError(f"a section lacks {missing} in uns['section']: make it with a loader of lib.inputs")

    def refuse(wrong: str, do: str):
        raise ValueError(f"section {about['name']}: {wrong}; {do}")

    if section.n_obs < 2 or section.n_vars < 1:
        refuse(
            f"{section.n_obs} spots x {section.n_vars} genes", "at least two spots and one gene are needed"
        )
    if not section.obs_names.is_unique:
        twice = section.obs_names[section.obs_names.duplicated()][:3].tolist()
        refuse(f"spots named twice: {twice}", "remove the second row from the count matrix")
    if not section.var_names.is_unique:
        twice = section.var_names[section.var_names.duplicated()][:3].tolist()
        refuse(f"genes named twice: {twice}", "sum or rename them in the count matrix")
    if not sparse.issparse(section.X) or section.X.format != "csr" or section.X.dtype != np.float32:
        refuse("X is not a csr matrix of float32", "put it together with lib.spacrd.spots.assemble")
    _check_counts(section, refuse)
    if missing := [column for column in OBS_COLUMNS if column not in section.obs]:
        refuse(f"no column {missing} in obs", f"expected {list(OBS_COLUMNS)}")
    xy = section.obsm.get("spatial")
    if xy is None or xy.shape != (section.n_obs, 2) or not np.isfinite(xy).all():
        refuse("obsm['spatial'] is not a finite (n, 2) array", "every spot needs x and y in pixels")
    label = section.obs["label"].to_numpy(dtype=np.float64)
    if not np.isin(label[~np.isnan(label)], (0, 1)).all():
        refuse("labels other than 0, 1 and NaN", "1 is cancer, 0 other, NaN undetermined")
    if odd := sorted(set(section.obs["label_source"].astype(str)) - set(LABEL_SOURCES)):
        refuse(f"unknown label_source {odd}", f"expected one of {list(LABEL_SOURCES)}")
    sizes = [about[key] for key in ("pitch_px", "spot_diameter_um", "pitch_um", "um_per_px")]
    if not all(np.isfinite(size) and size > 0 for size in [*sizes, *about["picture_scale"]]):
        refuse(
            "a pitch, diameter or scale is not a positive number",
            "check the spot positions and the scale factors",
        )


def _check_counts(section: AnnData, refuse) -> None:
    values = section.X.data
    wrong = ~np.isfinite(values) | (values < 0) | (values != np.floor(values))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        row = int(np.searchsorted(section.X.indptr, first, side="right") - 1)
        spot, gene = section.obs_names[row], section.var_names[section.X.indices[first]]
        refuse(
            f"{int(wrong.sum())} counts are NaN, infinite, negative or not whole "
            f"(the first: {values[first]} for spot {spot}, gene {gene})",
            "give raw counts, not normalised or logged values, and fill gaps at the source",
        )
