"""Which voxels of an unenhanced head CT are brain: soft tissue inside the skull.

Grids to crop, pad and resample to: so many voxels around a region, of the scan's spacing or another.

When contrast arrives in a series, when it peaks, and which frames to take around that.

A 4D CT perfusion scan made ready: enhancement on one grid, brain mask, the frames around the peak, standardised.

The pipeline that the authors published for ISLES'24 (kimberly-amador/ISLES24-PrediCTP, Apache-2.0), every number a
parameter. How the scans of Amador et al., Med Image Anal 99:103381 (2025), doi 10.1016/j.media.2024.103381, were
prepared is not known.
"""

from typing import Literal, NamedTuple

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter, label

from lib.inputs.volumes import AIR_HU, Geometry, Series, brought_onto, image_of


def tissue_mask(
    baseline: np.ndarray,
    geometry: Geometry,
    hu: tuple[float, float] = (1.0, 100.0),
    blur_mm: float = 1.0,
    erosion_mm: float = 1.0,
) -> np.ndarray:
    """Blur in the slice, keep a range of HU, take off the rim, keep the largest connected part.

    The order of ISLES24-PrediCTP's preprocessing (kimberly-amador, Apache-2.0), with widths in mm, so that
    they mean the same on every grid: a rim thinner than half a voxel's way is not taken off.

    Parameters
    ----------
    baseline : ndarray, shape (z, y, x)
        HU before contrast arrives.
    geometry : Geometry
    hu : (low, high)
        Soft tissue and fluid, both ends included; fat and air lie below, bone and calcium above.
    blur_mm : float
        Standard deviation of the Gaussian within a slice, mm; 0 leaves it.
    erosion_mm : float
        Voxels nearer than this to something that is no tissue are taken off, mm: cuts scalp and orbits off the brain.
        What lies beyond the scan counts as tissue.

    Returns
    -------
    ndarray of bool, shape (z, y, x)

    Raises
    ------
    ValueError
        No voxel is left.
    """
    x, y, _ = geometry.spacing_mm
    smooth = np.asarray(baseline, dtype=np.float32)
    if blur_mm:
        smooth = gaussian_filter(smooth, (0, blur_mm / y, blur_mm / x), mode="nearest")
    tissue = (smooth >= hu[0]) & (smooth <= hu[1])
    if not tissue.any():
        raise ValueError(
            f"no voxel of the baseline lies within {hu[0]:g} to {hu[1]:g} HU (it reaches from {np.min(baseline):g} to "
            f"{np.max(baseline):g}): is the series in Hounsfield units?"
        )
    if erosion_mm and not tissue.all():
        tissue = _eroded(tissue, geometry, erosion_mm)
    parts, number = label(tissue)
    if not number:
        raise ValueError(
            f"no tissue is left after taking off a rim of {erosion_mm:g} mm: set erosion_mm lower"
        )
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()


def _eroded(tissue: np.ndarray, geometry: Geometry, erosion_mm: float) -> np.ndarray:
    """Tissue farther than that from anything else, centre to centre."""
    ((*box,),) = find_objects(tissue.astype(np.uint8))
    # one voxel more around: what is next to the box is no tissue, or beyond the scan
    box = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in box)
    kept = np.zeros_like(tissue)
    kept[box] = distance_transform_edt(tissue[box], sampling=geometry.spacing_mm[::-1]) > erosion_mm
    return kept


MULTIPLE = 16  # the network halves each side four times


def grid_around(
    mask: np.ndarray,
    geometry: Geometry,
    spacing_mm: tuple[float, float, float] | None,
    size: tuple[int | None, int | None, int | None],
) -> Geometry:
    """The grid centred on the bounding box of a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        On `geometry`, not empty.
    geometry : Geometry
    spacing_mm : (x, y, z), optional
        None keeps the scan's, and then voxels fall onto the scan's voxels.
    size : (x, y, z)
        Voxels, multiples of 16; None covers the whole scan in that direction, padded to the next multiple.

    Returns
    -------
    Geometry
        In the direction of `geometry`.

    Raises
    ------
    ValueError
        A size that is no multiple of 16, a spacing that is not above 0.
    """
    if wrong := [each for each in size if each is not None and (each < MULTIPLE or each % MULTIPLE)]:
        raise ValueError(
            f"sizes must be multiples of {MULTIPLE}, the network halves them four times: not {wrong[0]}"
        )
    if spacing_mm is not None and not min(spacing_mm) > 0:
        raise ValueError(f"a spacing of {spacing_mm} mm cannot be: give x, y and z above 0")
    old = np.asarray(geometry.spacing_mm)
    new = old if spacing_mm is None else np.asarray(spacing_mm, dtype=float)
    first = np.empty(3)
    voxels = []
    for axis in range(3):  # x, y, z
        there = np.flatnonzero(mask.any(tuple(k for k in range(3) if k != 2 - axis)))
        low, high = (0, geometry.size[axis] - 1) if size[axis] is None else (there[0], there[-1])
        covered = geometry.size[axis] * old[axis] / new[axis]
        n = size[axis] or MULTIPLE * int(np.ceil(round(covered / MULTIPLE, 6)))
        first[axis] = (low + high) / 2 - (n - 1) / 2 * new[axis] / old[axis]
        voxels.append(n)
    if spacing_mm is None:
        first = np.ceil(first - 0.5)
    origin = geometry.points(first[None])[0]
    return Geometry(tuple(new.tolist()), tuple(origin.tolist()), tuple(geometry.direction), tuple(voxels))


def laid_onto(values: np.ndarray, geometry: Geometry, grid: Geometry, outside: float) -> np.ndarray:
    """A volume on another grid: cropped and padded where voxels coincide, else interpolated linearly.

    Parameters
    ----------
    values : ndarray of float32 or bool, shape (z, y, x)
        A mask is taken from the nearest voxel.
    geometry, grid : Geometry
        Of the volume; to bring it onto.
    outside : float
        Value beyond the volume.

    Returns
    -------
    ndarray of the same type, shape (z, y, x) of `grid`
    """
    if (shift := _whole_shift(geometry, grid)) is None:
        how = sitk.sitkNearestNeighbor if values.dtype == bool else sitk.sitkLinear
        brought = brought_onto(image_of(values, geometry), grid, outside, how)
        return sitk.GetArrayFromImage(brought).astype(values.dtype)
    laid = np.full(grid.size[::-1], outside, dtype=values.dtype)
    source, target = [], []
    for start, old, new in zip(shift[::-1], geometry.size[::-1], grid.size[::-1], strict=True):
        low, high = max(start, 0), min(start + new, old)
        source.append(slice(low, max(high, low)))
        target.append(slice(low - start, max(high, low) - start))
    laid[tuple(target)] = values[tuple(source)]
    return laid


def _whole_shift(geometry: Geometry, grid: Geometry) -> list[int] | None:
    """Voxels (x, y, z) by which one grid starts after the other, None where they do not coincide."""
    if not np.allclose(geometry.spacing_mm, grid.spacing_mm, rtol=1e-6):
        return None
    if not np.allclose(geometry.direction, grid.direction, atol=1e-6):
        return None
    turn = np.reshape(geometry.direction, (3, 3)).T
    shift = turn @ np.subtract(grid.origin_mm, geometry.origin_mm) / geometry.spacing_mm
    whole = np.rint(shift)
    return whole.astype(int).tolist() if np.abs(shift - whole).max() < 1e-3 else None


SHARE_OF_VOXELS = 0.01  # that enhance most: vessels, where contrast is seen first
SHARE_OF_PEAK = 0.05  # of their peak, above which contrast has arrived
MARGIN_S = 2.0  # a bolus rises slowly: it came about this long before it reaches that share
MOST_CURVES = 50_000  # of voxels looked at for it


def vessel_curve(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean HU over time of the voxels in a mask that enhance most.

    Parameters
    ----------
    values : ndarray, shape (frames, z, y, x)
    mask : ndarray of bool, shape (z, y, x)

    Returns
    -------
    ndarray of float64, shape (frames,)
    """
    voxels = np.flatnonzero(mask)
    voxels = voxels[:: max(1, len(voxels) // MOST_CURVES)]
    curves = values.reshape(len(values), -1)[:, voxels]
    # over three frames, so that a single frame's noise does not choose
    smooth = (curves[:-2] + curves[1:-1] + curves[2:]) / 3 if len(curves) > 4 else curves
    rise = smooth.max(0) - smooth.min(0)
    most = np.argsort(-rise, kind="stable")[: max(1, round(SHARE_OF_VOXELS * len(voxels)))]
    return curves[:, most].mean(1, dtype=np.float64)


def arrival_frame(curve: np.ndarray, interval_s: float) -> int:
    """First frame that may hold contrast: all before it are baseline.

    From the peak backwards to the last frame that lies below `SHARE_OF_PEAK` of it, then `MARGIN_S` further.

    Parameters
    ----------
    curve : ndarray, shape (frames,)
        Of vessels, HU; any level.
    interval_s : float

    Returns
    -------
    int
        0 where contrast is there from the start.
    """
    peak = int(np.argmax(curve))
    before = curve[: peak + 1]
    low = before.min() if len(before) < 3 else np.convolve(before, np.ones(3) / 3, "valid").min()
    below = np.flatnonzero(before <= low + SHARE_OF_PEAK * (curve[peak] - low))
    if not len(below):
        return 0
    return max(int(below[-1]) + 1 - round(MARGIN_S / interval_s), 0)


def roughness(curve: np.ndarray) -> float:
    """Squared steps of a curve over its squared deviations: near 0 for a bolus, 2 for frames in random order.

    von Neumann (1941), Ann Math Stat 12:367, doi 10.1214/aoms/1177731677. Infinite for a curve that is constant.
    """
    curve = np.asarray(curve, dtype=np.float64)
    spread = float(((curve - curve.mean()) ** 2).sum())
    return float((np.diff(curve) ** 2).sum() / spread) if spread > 0 else np.inf


def window_start(peak: int, window: int, frames: int) -> int:
    """First frame of `window` frames around a peak, [peak - window // 2, ...), shifted to lie within the scan.

    Raises
    ------
    ValueError
        The scan has fewer frames than the window.
    """
    if frames < window:
        raise ValueError(f"{frames} frames are fewer than the window of {window}")
    return min(max(peak - window // 2, 0), frames - window)


FIRST = 3  # frames to make the mask from that finds the baseline


class Settings(NamedTuple):
    """Every number of the preparation.

    Attributes
    ----------
    baseline : int or "found"
        Frames averaged before contrast arrives, from the first on; "found" takes all before it does. A fixed number
        (3 in ISLES24-PrediCTP) goes wrong without a word when the bolus is early.
    tissue_hu, blur_mm, erosion_mm
        See `lib.stroke.perfusion.tissue_mask`.
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
        Tissue's mean curve may be this rough, see `lib.stroke.perfusion.roughness`; infinity lets all pass.
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
