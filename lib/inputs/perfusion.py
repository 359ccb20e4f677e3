"""A 4D CT perfusion scan made ready: enhancement on one grid, brain mask, the frames around the peak, standardised.

The pipeline that the authors published for ISLES'24 (kimberly-amador/ISLES24-PrediCTP, Apache-2.0), every number a
parameter. How the scans of Amador et al., Med Image Anal 99:103381 (2025), doi 10.1016/j.media.2024.103381, were
prepared is not known.
"""

from typing import Literal, NamedTuple

import numpy as np

from lib.inputs.bolus_window import arrival_frame, roughness, vessel_curve, window_start
from lib.inputs.cropping import grid_around, laid_onto
from lib.inputs.geometry import Geometry
from lib.inputs.tissue_mask import tissue_mask
from lib.inputs.volume_files import AIR_HU
from lib.inputs.volumes import Series

FIRST = 3  # frames to make the mask from that finds the baseline


class Settings(NamedTuple):
    """Every number of the preparation.

    Attributes
    ----------
    baseline : int or "found"
        Frames averaged before contrast arrives, from the first on; "found" takes all before it does. A fixed number
        (3 in ISLES24-PrediCTP) goes wrong without a word when the bolus is early.
    tissue_hu, blur_mm, erosion_mm
        See `lib.inputs.tissue_mask.tissue_mask`.
    spacing_mm : (x, y, z) or None
        To resample to, linearly; None keeps the scan's voxels.
    size : (y, x) or None
        Rows and columns, centred on the tissue's bounding box; None keeps all, padded to multiples of 16.
    slices : int or None
        Likewise along z. 16 slices of 2 mm are a quarter of a brain: `Prepared.tissue_kept` says how much.
    frames : int
        Around the peak.
    ceiling_hu : float or None
        Enhancement above it is set to it in `values`. None, as published, lets vessels set the scale: they enhance
        thirty times as much as tissue, whose differences then count little.
    masked : bool
        Values outside the mask are 0 (which is the mean inside it, and what a convolution pads with).
    roughest : float
        Tissue's mean curve may be this rough, see `lib.inputs.bolus_window.roughness`; infinity lets all pass.
    """

    baseline: int | Literal["found"] = "found"
    tissue_hu: tuple[float, float] = (1.0, 100.0)
    blur_mm: float = 1.0
    erosion_mm: float = 1.0
    spacing_mm: tuple[float, float, float] | None = (0.45, 0.45, 2.0)
    size: tuple[int, int] | None = (416, 416)
    slices: int | None = 16
    frames: int = 32
    ceiling_hu: float | None = None
    masked: bool = True
    roughest: float = 1.0


class Prepared(NamedTuple):
    """A prepared scan.

    Attributes
    ----------
    values : ndarray of float32, shape (window, z, y, x)
        Enhancement of the window's frames, mean 0 and standard deviation 1 over the mask and all of them.
    mask : ndarray of bool, shape (z, y, x)
        Brain.
    geometry : Geometry
        Of all arrays here.
    seconds : ndarray, shape (frames,)
        Of all frames; the window's are `seconds[first_frame : first_frame + len(values)]`.
    baseline : ndarray of float32, shape (z, y, x)
        HU before contrast; air (-1024) beyond the scan.
    enhancement : ndarray of float32, shape (frames, z, y, x)
        HU above baseline, all frames, also outside the mask; 0 beyond the scan.
    peak_frame, first_frame : int
        Frame of the highest mean enhancement in the mask; first frame of the window.
    baseline_frames, arrival_frame : int
        Frames averaged; first frame that may hold contrast. More of the former than the latter: contrast is
        subtracted from itself.
    mean_hu, sd_hu : float
        `values` * sd_hu + mean_hu is HU inside the mask.
    tissue_kept : float
        Share of the brain's volume inside the scan that lies on this grid, about 0 to 1.
    """

    values: np.ndarray
    mask: np.ndarray
    geometry: Geometry
    seconds: np.ndarray
    baseline: np.ndarray
    enhancement: np.ndarray
    peak_frame: int
    first_frame: int
    baseline_frames: int
    arrival_frame: int
    mean_hu: float
    sd_hu: float
    tissue_kept: float


def prepare(series: Series, settings: Settings | None = None, mask: np.ndarray | None = None) -> Prepared:
    """Prepare a scan for network and perfusion maps.

    Baseline, tissue mask on it, one grid around the tissue, enhancement, peak, window, standardised values.

    Parameters
    ----------
    series : Series
        HU.
    settings : Settings, optional
    mask : ndarray of bool, shape (z, y, x), optional
        The brain on the series' grid (see `lib.inputs.volumes.read_mask`), instead of the one found.

    Returns
    -------
    Prepared

    Raises
    ------
    ValueError
        Not four axes, not LPS; fewer frames than the window; irregular times; a mask of another grid; no tissue; no contrast,
        or frames out of order; sizes that are no multiples of 16.
    """
    settings = settings or Settings()
    interval = series.interval_s
    _check(series, settings, mask)
    values = series.values
    found = mask is None
    if found:
        mask = _tissue(values[:FIRST].mean(0), series.geometry, settings)
    arrival = arrival_frame(vessel_curve(values, mask), interval)
    before = max(arrival, 1) if settings.baseline == "found" else settings.baseline
    baseline = values[:before].mean(0)
    if found and before != FIRST:
        mask = _tissue(baseline, series.geometry, settings)
    rows, columns = settings.size or (None, None)
    grid = grid_around(mask, series.geometry, settings.spacing_mm, (columns, rows, settings.slices))
    brain = laid_onto(mask, series.geometry, grid, False)
    if not brain.any():
        raise ValueError(f"no brain lies on the grid asked for ({grid}): its spacing or size is off")
    enhancement = np.empty((len(values), *grid.size[::-1]), dtype=np.float32)
    for frame, hu in enumerate(values):
        enhancement[frame] = laid_onto(hu - baseline, series.geometry, grid, 0)
    curve = enhancement[:, brain].mean(1, dtype=np.float64)
    if roughness(curve) > settings.roughest:
        raise ValueError(
            f"the brain's mean enhancement jumps from frame to frame (roughness {roughness(curve):.2f}, at most "
            f"{settings.roughest:g}): frames are out of order, or no contrast arrived"
        )
    peak = int(curve.argmax())
    first = window_start(peak, settings.frames, len(values))
    window = np.minimum(enhancement[first : first + settings.frames], settings.ceiling_hu or np.inf)
    scaled, mean, sd = _standardised(window, brain)
    if settings.masked:
        scaled[:, ~brain] = 0
    return Prepared(
        values=scaled,
        mask=brain,
        geometry=grid,
        seconds=np.asarray(series.seconds, dtype=float),
        baseline=laid_onto(baseline, series.geometry, grid, AIR_HU),
        enhancement=enhancement,
        peak_frame=peak,
        first_frame=first,
        baseline_frames=before,
        arrival_frame=arrival,
        mean_hu=mean,
        sd_hu=sd,
        tissue_kept=float(brain.sum() * grid.voxel_ml / (mask.sum() * series.geometry.voxel_ml)),
    )


def network_input(prepared: Prepared, shape: tuple[int, int, int], frames: int) -> np.ndarray:
    """What the network reads: the prepared values, averaged down by whole factors in space and time.

    Averages, not picks: neighbouring voxels and frames are pooled, so nothing aliases and noise falls.

    Parameters
    ----------
    prepared : Prepared
    shape : (h, w, z)
        Rows (y, to posterior), columns (x, to the left), slices (z, to superior); each divides the prepared size.
    frames : int
        Divides the window's.

    Returns
    -------
    ndarray of float32, shape (frames, h, w, z)

    Raises
    ------
    ValueError
        A size that does not divide the prepared one.
    """
    t, z, y, x = prepared.values.shape
    h, w, d = shape
    for name, there, wanted in (("rows", y, h), ("columns", x, w), ("slices", z, d), ("frames", t, frames)):
        if wanted < 1 or there % wanted:
            raise ValueError(
                f"{wanted} {name} are not a whole fraction of the {there} that were prepared: change the one or the other"
            )
    blocks = prepared.values.reshape(frames, t // frames, d, z // d, h, y // h, w, x // w)
    return np.ascontiguousarray(blocks.mean((1, 3, 5, 7), dtype=np.float32).transpose(0, 2, 3, 1))


def _tissue(baseline: np.ndarray, geometry: Geometry, settings: Settings) -> np.ndarray:
    return tissue_mask(baseline, geometry, settings.tissue_hu, settings.blur_mm, settings.erosion_mm)


def _standardised(window: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The window in standard deviations from its mean over the mask (in place), mean and standard deviation."""
    inside = window[:, mask]
    mean, sd = float(inside.mean(dtype=np.float64)), float(inside.std(dtype=np.float64))
    if not sd > 0:
        raise ValueError(f"the brain enhances by {mean:g} HU everywhere at all times: no contrast arrived")
    window -= np.float32(mean)
    window /= np.float32(sd)
    return window, mean, sd


def _check(series: Series, settings: Settings, mask: np.ndarray | None) -> None:
    """Refuse what cannot be prepared."""
    shape = series.values.shape
    if len(shape) != 4 or shape[1:] != tuple(series.geometry.size[::-1]) or shape[0] != len(series.seconds):
        raise ValueError(
            f"a series has values (frames, z, y, x), these are {shape}, with {len(series.seconds)} times on "
            f"{series.geometry}"
        )
    if series.geometry.orientation != "LPS":
        raise ValueError(f"the series lies {series.geometry.orientation}: read_series turns it to LPS")
    if shape[0] < settings.frames:
        raise ValueError(
            f"the series has {shape[0]} frames and the window takes {settings.frames}: a longer scan is needed, or "
            "frames set lower (the published network takes 32)"
        )
    if settings.baseline != "found" and not 1 <= settings.baseline < shape[0]:
        raise ValueError(
            f'baseline must be "found" or 1 to {shape[0] - 1} frames, it is {settings.baseline!r}'
        )
    if mask is not None and (mask.shape != shape[1:] or mask.dtype != bool or not mask.any()):
        raise ValueError(
            f"the mask ({mask.dtype} {mask.shape}, {np.count_nonzero(mask)} voxels) must be bool, not empty, and on "
            f"the series' grid {shape[1:]}"
        )
