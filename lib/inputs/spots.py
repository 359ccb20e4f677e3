"""Sections of spatial transcriptomics: the one shape every loader gives, and its check."""

import re
import warnings

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.spatial import cKDTree

from lib.inputs.spot_labels import label_of

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
        refuse("X is not a csr matrix of float32", "put it together with lib.inputs.spots.assemble")
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
