"""A 4D CT perfusion scan made ready: brain mask, baseline, enhancement on one grid, the frames around the peak, scaled.

The pipeline that the authors published for ISLES'24 (kimberly-amador/ISLES24-PrediCTP, Apache-2.0), every number a
parameter. How the scans of Amador et al., Med Image Anal 99:103381 (2025), doi 10.1016/j.media.2024.103381, were
prepared is not known.
"""

import os
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import binary_fill_holes, distance_transform_edt, find_objects, gaussian_filter, label
from skimage.measure import block_reduce
from statsmodels.stats.stattools import durbin_watson

from lib.files import opened, written_hdf5
from lib.inputs.volumes import AIR_HU, Geometry, brought_onto, image_of
from lib.stroke.params import Preparation
from lib.stroke.series import Series

FIRST = 3  # frames to make the mask from that finds the baseline
MULTIPLE = 16  # the network halves each side four times
SHARE_OF_VOXELS = 0.01  # that enhance most: vessels, where contrast is seen first
SHARE_OF_PEAK = 0.05  # of their peak, above which contrast has arrived
MARGIN_S = 2.0  # a bolus rises slowly: it came about this long before it reaches that share
# of contrast that comes and goes as it can in a head
MOST_CURVES = 50_000  # voxels looked at
TOP = 10  # voxels that say how high vessels reach
SHARE_OF_TOP = 0.2  # of it; tissue stays below
BEGUN = 0.3  # of its range by which a vessel that is full when the film begins lies above its end
VESSELS = 0.15  # share of the vessels that have to be
BACKWARDS = 0.85  # steepest rise over steepest fall: of boluses 1.3 to 2.1, at 3 and at 1 s; of films turned round 0.5 to 0.7
SLOW_S = 2.0  # seconds between frames up to which the limit of roughness holds; beyond, steps grow with their square
# second difference over range; of boluses .04 at 1 s, .13 at 2 s, .25 at 3 s; three frames lost .4
JUMP = 0.3  # so at 2 s
LEAST_JUMP = 0.15  # a first frame of 2 HU too much bends by .23, and a core of 15 ml is gone


class Prepared(NamedTuple):
    """A prepared scan; all volumes lie on one grid, `geometry`.

    `mask` bool (z, y, x): brain; `seconds` float64 (frames,) of all frames; `baseline` float32 (z, y, x): HU before
    contrast, air (-1024) beyond the scan; `enhancement` float32 (frames, z, y, x): HU above baseline, 0 beyond the scan.
    """

    mask: np.ndarray
    geometry: Geometry
    seconds: np.ndarray
    baseline: np.ndarray
    enhancement: np.ndarray
    window: int  # frames for the networks
    most: float  # the highest of `values`: where preparation had a ceiling, this is it
    peak_frame: int  # of the highest mean enhancement in the mask
    first_frame: int  # of the window
    baseline_frames: int  # averaged; more than `arrival_frame`: contrast is subtracted from itself
    arrival_frame: int  # the first that may hold contrast
    mean_hu: float  # values * sd_hu + mean_hu is HU inside the mask
    sd_hu: float
    tissue_kept: float  # share of the brain's volume inside the scan that lies on this grid, about 0 to 1

    @property
    def values(self) -> np.ndarray:
        """Enhancement of the window's frames, float32 (window, z, y, x): mean 0 and sd 1 in the mask, 0 outside."""
        frames = self.enhancement[self.first_frame : self.first_frame + self.window, self.mask]
        scaled = (frames - np.float32(self.mean_hu)) / np.float32(self.sd_hu)
        # 0 outside: the mean, and what a convolution pads with
        values = np.zeros((self.window, *self.mask.shape), np.float32)
        values[:, self.mask] = np.minimum(scaled, np.float32(self.most))
        return values


NUMBERS = Prepared._fields[7:]


def prepare(series: Series, settings: Preparation) -> Prepared:
    """Prepare a scan, in HU and with axes to the patient's left, back and crown, for network and perfusion maps.

    Raises ValueError where frames are fewer than the window, out of order, turned round, or without tissue or contrast,
    or where contrast came before the film began.
    """
    values, geometry, frames = series.values, series.geometry, settings.frames
    if len(values) < frames:
        raise ValueError(f"the series has {len(values)} frames and the window takes {frames}: lower frames")
    if settings.baseline != "found" and settings.baseline >= len(values):  # the bolus would be subtracted
        raise ValueError(
            f"`baseline` is {settings.baseline} and the series has {len(values)} frames: lower it"
        )
    mask = tissue_mask(values[:FIRST].mean(0), geometry, settings)
    arrival = arrival_frame(vessel_curve(values, mask), series.interval_s)
    before = max(arrival, 1) if settings.baseline == "found" else settings.baseline
    baseline = values[:before].mean(0)
    if before != FIRST:
        mask = tissue_mask(baseline, geometry, settings)
    rows, columns = settings.size or (None, None)
    grid = grid_around(mask, geometry, settings.spacing_mm, (columns, rows, settings.slices))
    brain = resampled(mask, geometry, grid, False)
    enhancement = np.empty((len(values), *grid.size[::-1]), dtype=np.float32)
    for frame, hu in enumerate(values):
        enhancement[frame] = resampled(hu - baseline, geometry, grid, 0)
    curve = enhancement[:, brain].mean(1, dtype=np.float64)
    check_roughness(curve, series.interval_s, settings.roughest)
    check_course(values, mask)
    peak = int(curve.argmax())
    first = min(max(peak - frames // 2, 0), len(values) - frames)
    inside = np.minimum(enhancement[first : first + frames, brain], settings.ceiling_hu or np.inf)
    mean, sd = float(inside.mean(dtype=np.float64)), float(inside.std(dtype=np.float64))
    most = (inside.max() - np.float32(mean)) / np.float32(sd)
    still = resampled(baseline, geometry, grid, AIR_HU)
    kept = float(brain.sum() * grid.voxel_ml / (mask.sum() * geometry.voxel_ml))
    numbers = (frames, most, peak, first, before, arrival, mean, sd, kept)
    return Prepared(brain, grid, series.seconds, still, enhancement, *numbers)


def remarks_on(prepared: Prepared) -> str:
    """Remarks on a brain as wide or dense as nobody's, and where brain or vessels bend over time as in no bolus (`bends`); ""."""
    brain = prepared.enhancement[:, prepared.mask].mean(1, dtype=np.float64)
    vessels = vessel_curve(prepared.enhancement, prepared.mask)
    width = prepared.mask.any((0, 1)).sum() * prepared.geometry.spacing_mm[0]
    density = np.median(prepared.baseline[prepared.mask])
    said = {
        f"the brain is {width:.0f} mm wide: are the sides of its voxels right?": not 60 <= width <= 220,
        f"the brain has {density:.0f} HU before the contrast, 25 to 45 are usual": not 20 <= density <= 60,
        bends(brain, vessels, float(np.diff(prepared.seconds).mean())): True,
    }
    return "; ".join(words for words, true in said.items() if true and words)


def network_input(prepared: Prepared, shape: tuple[int, int, int], frames: int) -> np.ndarray:
    """What the network reads, float32 (frames, h, w, z): the prepared values, averaged down by whole factors.

    Averages, not picks: nothing aliases and noise falls. `shape` is rows (y, to posterior), columns (x, to the left),
    slices (z, to superior).
    """
    values = prepared.values
    t, z, y, x = values.shape
    h, w, d = shape
    if y % h or x % w or z % d or t % frames:
        words = f"shape {tuple(shape)} and {frames} frames are no whole fractions of what was prepared"
        raise ValueError(f"{words}, {(y, x, z)} and {t} frames: change the one or the other")
    blocks = block_reduce(
        values, (t // frames, z // d, y // h, x // w), np.mean, func_kwargs={"dtype": np.float32}
    )
    return np.ascontiguousarray(blocks.transpose(0, 2, 3, 1))


def tissue_mask(baseline: np.ndarray, geometry: Geometry, settings: Preparation) -> np.ndarray:
    """Brain: blur in the slice, keep a range of HU, take off the rim, keep the largest connected part.

    The order of ISLES24-PrediCTP, with widths in mm, so that they mean the same on every grid: a rim thinner than half
    a voxel's way is not taken off. `baseline` (z, y, x) is in HU; what lies beyond the scan counts as tissue. Returns bool (z, y, x).
    """
    x, y, _ = geometry.spacing_mm
    (low, high), blur = settings.tissue_hu, settings.blur_mm
    smooth = np.asarray(baseline, dtype=np.float32)
    if blur:
        smooth = gaussian_filter(smooth, (0, blur / y, blur / x), mode="nearest")
    tissue = (smooth >= low) & (smooth <= high)
    if not tissue.any():
        reach = f"{low:g} to {high:g} HU (it reaches from {baseline.min():g} to {baseline.max():g})"
        raise ValueError(f"no voxel of the baseline lies within {reach}: is the series in Hounsfield units?")
    if settings.erosion_mm and not tissue.all():  # mm between centres
        tissue = distance_transform_edt(tissue, sampling=geometry.spacing_mm[::-1]) > settings.erosion_mm
    parts, number = label(tissue)
    if not number:
        raise ValueError(f"no tissue is left after {settings.erosion_mm:g} mm were taken off")
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()


def grid_around(
    mask: np.ndarray,
    geometry: Geometry,
    spacing_mm: tuple[float, float, float] | None,
    size: tuple[int | None, int | None, int | None],
) -> Geometry:
    """The grid centred on the bounding box of a mask (z, y, x), in the direction of the mask's `geometry`.

    `spacing_mm` None keeps the scan's, and then voxels fall onto the scan's voxels; a `size` of None covers the whole
    scan in that direction, padded to the next multiple of 16.
    """
    old = np.asarray(geometry.spacing_mm)
    new = old if spacing_mm is None else np.asarray(spacing_mm, dtype=float)
    box = reversed(find_objects(mask.astype(np.uint8))[0])  # x, y, z
    sides = [*zip(size, box, geometry.size, geometry.size * old / new, strict=True)]
    middle = [(n - 1) / 2 if side is None else (part.start + part.stop - 1) / 2 for side, part, n, _ in sides]
    voxels = [side or MULTIPLE * int(np.ceil(round(covered / MULTIPLE, 6))) for side, *_, covered in sides]
    first = np.array(middle) - (np.array(voxels) - 1) / 2 * new / old
    if spacing_mm is None:
        first = np.ceil(first - 0.5)
    origin = geometry.points(first[None])[0]
    return Geometry(tuple(new.tolist()), tuple(origin.tolist()), tuple(geometry.direction), tuple(voxels))


def resampled(values: np.ndarray, geometry: Geometry, grid: Geometry, outside: float) -> np.ndarray:
    """A volume (z, y, x) on another grid, `outside` beyond it: linear, but masks and coinciding voxels as they are."""
    coincide = np.allclose(geometry.spacing_mm, grid.spacing_mm, rtol=1e-6)
    how = sitk.sitkNearestNeighbor if values.dtype == bool or coincide else sitk.sitkLinear
    brought = brought_onto(image_of(values, geometry), grid, outside, how)
    return sitk.GetArrayFromImage(brought).astype(values.dtype)


def vessel_curve(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean HU over time, float64 (frames,), of the voxels in a mask (z, y, x) that enhance most."""
    curves, smooth = _curves(values, mask)
    number = max(1, round(SHARE_OF_VOXELS * curves.shape[1]))
    most = np.argsort(-np.ptp(smooth, axis=0), kind="stable")[:number]
    return curves[:, most].mean(1, dtype=np.float64)


def _curves(values: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """HU over time (frames, n) of a mask's voxels, `MOST_CURVES` or so; and averaged over three frames, against noise."""
    voxels = np.flatnonzero(mask)
    curves = values.reshape(len(values), -1)[:, voxels[:: max(1, len(voxels) // MOST_CURVES)]]
    return curves, (curves[:-2] + curves[1:-1] + curves[2:]) / 3 if len(curves) > 4 else curves


def arrival_frame(curve: np.ndarray, interval_s: float) -> int:
    """First frame of a vessel's curve, HU (frames,), that may hold contrast: all before it are baseline.

    From the peak backwards to the last frame that lies below `SHARE_OF_PEAK` of it, then `MARGIN_S` further; 0 where
    contrast is there from the start.
    """
    peak = int(np.argmax(curve))
    before = curve[: peak + 1]
    low = before.min() if len(before) < 3 else np.convolve(before, np.ones(3) / 3, "valid").min()
    below = np.flatnonzero(before <= low + SHARE_OF_PEAK * (curve[peak] - low))
    return max(int(below[-1]) + 1 - round(MARGIN_S / interval_s), 0) if len(below) else 0


# ------------------------------------------------------------ a film that is broken in time


def check_course(values: np.ndarray, mask: np.ndarray) -> None:
    """Refuse a film in which contrast is there before it comes: one that starts late, or whose frames run backwards.

    Contrast stays in the blood, so that vessels end no darker than they begin; and a bolus rises faster than it falls. `values`
    (frames, z, y, x) are in HU; of `mask` (z, y, x), the brain, what it encloses is looked at too, since vessels that are full
    of contrast are no tissue.
    """
    _, curves = _curves(values, np.stack([binary_fill_holes(one) for one in mask]))
    reach = np.ptp(curves, axis=0)
    vessels = curves[:, reach > SHARE_OF_TOP * np.sort(reach)[-TOP:].mean()]
    if not vessels.size:
        return
    ends = (vessels[0] - vessels[-1]) / np.ptp(vessels, axis=0)
    if (full := float((ends > BEGUN).mean())) > VESSELS:
        raise ValueError(
            f"contrast is there before the film begins, in {full:.0%} of its vessels: it starts too late, or its frames run "
            "backwards; arteries without their arrival cannot be measured, so leave this patient's film out"
        )
    steps = np.diff(vessels.mean(1))
    if steps.min() < 0 and -steps.max() / steps.min() < BACKWARDS:
        raise ValueError(
            f"contrast rises {-steps.max() / steps.min():.1f} times as fast as it falls, and a bolus rises faster: its peak "
            "comes before its arrival, frames run backwards; give them in the order of time"
        )


def check_roughness(curve: np.ndarray, interval_s: float, roughest: float) -> None:
    """Refuse a mean curve of the brain, HU (frames,), that jumps.

    Squared steps over squared deviations (Durbin-Watson): 0.03 to 0.07 of a bolus every 1 to 1.4 s, 0.1 every 2 s, and
    growing with the square of the interval; 0.28 to 0.56 of frames sorted as text; 2 at random, NaN of a constant.
    """
    rough, limit = float(durbin_watson(curve - curve.mean())), roughest * max(1.0, interval_s / SLOW_S) ** 2
    if not rough <= limit:
        words = f"the brain's mean enhancement jumps ({rough:.2f}, at most {limit:.2g}; 2 is at random)"
        raise ValueError(f"{words}: frames are out of order, or no contrast arrived")


def bends(brain: np.ndarray, vessels: np.ndarray, interval_s: float) -> str:
    """Where mean curves of brain or vessels, HU (frames,), bend more than a bolus does: "" or a remark."""
    for name, curve in {"brain": brain, "vessels": vessels}.items():
        bend = np.abs(np.diff(curve, 2)) / np.ptp(curve)
        if bend.max() > max(LEAST_JUMP, JUMP * (interval_s / SLOW_S) ** 2):
            at = f"{bend.argmax() + 1} ({bend.max():.2f} of its range)"
            what = "a frame brighter or darker than the others, frames lost or exchanged, or motion?"
            return f"the mean curve of the {name} bends at frame {at}: {what}"
    return ""


# ------------------------------------------------------------ files


def write_prepared(path: str | os.PathLike, prepared: Prepared) -> None:
    """Write a prepared scan atomically as HDF5; equal content gives equal bytes.

    enhancement (frames, voxels of the mask) and baseline (z, y, x) as float16, the mask's bits, seconds; as attributes the
    geometry, the window's frames and what scales them. Enhancement outside the mask, most of a scan, is not kept.
    """
    with written_hdf5(path) as file:
        # a large vessel in the window of a poor scan can leave float16's range; HU beyond it mean nothing
        curves = np.clip(prepared.enhancement[:, prepared.mask], -60_000, 60_000)
        file["enhancement"] = curves.astype(np.float16)
        file["baseline"] = prepared.baseline.astype(np.float16)
        file["mask"] = np.packbits(prepared.mask)
        file["seconds"] = prepared.seconds
        numbers = {name: getattr(prepared, name) for name in (*NUMBERS, "window", "most")}
        file.attrs.update(numbers | prepared.geometry._asdict())


def read_prepared(path: str | os.PathLike) -> Prepared:
    """Read it back; enhancement and values are 0 outside the mask."""
    with opened(path, "a prepared scan", "run 1-preprocess again") as file:
        about = dict(file.attrs)
        names = ("enhancement", "baseline", "seconds", "mask")
        curves, baseline, seconds, packed = (file[name][:] for name in names)
    mask = np.unpackbits(packed, count=baseline.size).astype(bool).reshape(baseline.shape)
    enhancement = np.zeros((len(curves), *mask.shape), np.float32)
    enhancement[:, mask] = curves
    numbers = {name: about[name].item() for name in (*NUMBERS, "window", "most")}
    geometry = Geometry(*(tuple(np.asarray(about[name]).tolist()) for name in Geometry._fields))
    return Prepared(mask, geometry, seconds, baseline.astype(np.float32), enhancement, **numbers)
