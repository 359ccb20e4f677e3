"""Perfusion maps in physical units: the arterial input function, then blood flow, blood volume, transit time, delay; and what
a clinic reads off them, core against hypoperfused tissue, and their volumes.

Where contrast enters the brain is found in the scan, and corrected by the vein it leaves by. Tissue answers the arterial
curve with a blurred copy of it; truncated singular values take the blur away. Curves are first smoothed in space until
their noise lets core and penumbra be told apart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import circulant
from scipy.ndimage import convolve1d, find_objects, gaussian_filter, label
from sklearn.linear_model import LinearRegression

from lib.inputs.volumes import Geometry
from lib.stroke.perfusion import Prepared

# of the artery and the vein
VOXELS = 10  # averaged: noise falls threefold, and that many lie within one artery
SHARE_OF_TOP = 0.2  # a vessel's peak against the highest; tissue stays below .1, narrow arteries above
ROUGH = 0.25  # of a curve's peak, its largest jump off its own neighbours in time: a spike is no bolus
EARLINESS = 4.0  # an artery may be e times fainter for each quarter of its width that it is earlier
ALIKE = 0.9  # correlation of the voxels averaged with the best one
SEVERAL = 3  # voxels that have to be alike, if there are any such
LAG_S = 2.0  # a vein peaks that much after the artery, at least
FAINT = 5.0  # a vessel's peak in units of noise, at least
# of the maps
DENSITY = 1.05  # of brain, g/ml
VESSEL_SHARE = 0.1  # of the artery's peak; tissue stays below .05
STEPS = (0.5, 0.6, 0.75, 0.9, 1.1, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)  # widths tried, in-plane voxels
FEWEST = 16  # voxels from which noise can be told
GOAL_HU = 0.5  # above it core and penumbra begin to look alike in CBF
WIDEST_MM = 6.0  # no smoothing is wider, whatever the noise: lesions blur with it
CHUNK = 8192  # voxels deconvolved at a time: their residues fit the cache


class ArterialInput(NamedTuple):
    """Arterial and venous curve, with what a reader needs to judge them."""

    curve: np.ndarray  # float64 (frames,): HU above baseline, `measured` times `factor`
    measured: np.ndarray  # float64 (frames,): average of `voxels`
    voxels: np.ndarray  # int (n, 3): z, y, x of the voxels averaged, the best first
    venous: np.ndarray | None  # float64 (frames,), where a vein was found
    venous_voxels: np.ndarray  # int (m, 3)
    factor: float  # area of the venous over that of the arterial curve, at least 1: arteries are narrower than a voxel
    remarks: tuple[str, ...]  # what is odd about the curves


def arterial_input(enhancement: np.ndarray, mask: np.ndarray, interval_s: float) -> ArterialInput:
    """Find the arterial and the venous curve of a scan, HU above baseline (frames, z, y, x), not smoothed: vessels are small.

    Arteries enhance high, early and briefly: of the voxels of `mask` that reach `SHARE_OF_TOP` of the highest peak the one
    wins whose log(peak / width at half height) - EARLINESS * half rise / (arterial width) is highest; up to `VOXELS` that
    resemble it are averaged. Veins have the largest area among those that peak `LAG_S` later, and the artery is scaled to it
    (partial-volume correction). The same scan gives the same voxels, whatever its scale in HU and whenever the bolus comes. A
    ValueError if nothing enhances like a vessel.
    """
    places, curves = np.argwhere(mask), enhancement[:, mask]
    brain = curves.mean(1)
    vessels = _vessels(curves)
    places, curves = places[vessels], curves[:, vessels]
    arterial = places[_arterial(curves, brain)]
    measured = _mean_curve(enhancement, arterial)
    drained = places[_venous(curves, measured, interval_s)]
    venous = _mean_curve(enhancement, drained) if len(drained) else None
    ratio = venous.sum() / measured.sum() if venous is not None else 1.0
    remarks, factor = _remarks(measured, venous, ratio, len(arterial)), float(max(ratio, 1.0))
    return ArterialInput(measured * factor, measured, arterial, venous, drained, factor, remarks)


def noise_hu(curves: np.ndarray) -> float:
    """Standard deviation of the noise, HU, of curves (frames, ...) that are otherwise smooth in time.

    From second differences, robustly, so that neither bolus nor baseline counts. Noise that is correlated in time
    (frames interpolated from others) is underestimated.
    """
    return float(1.4826 * np.median(np.abs(np.diff(curves, 2, axis=0))) / np.sqrt(6))


def _vessels(curves: np.ndarray) -> np.ndarray:
    """Numbers of the curves (frames, n) that could be a vessel's."""
    top = curves.max(0)
    # spikes may be higher than any vessel, so they go before the highest is looked for
    high = np.flatnonzero(top > FAINT * noise_hu(curves))
    rough = np.abs(curves[:, high] - _smooth_in_time(curves[:, high])).max(0) > ROUGH * top[high]
    high = high[~rough]
    if not len(high):
        words = f"highest peak {top.max():.1f} HU, noise {noise_hu(curves):.1f} HU"
        raise ValueError(f"nothing in the mask enhances like a vessel ({words}): look at the series")
    highest = np.sort(top[high])[-min(VOXELS, len(high))]
    return high[top[high] >= SHARE_OF_TOP * highest]


def _arterial(curves: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Numbers of the most arterial curves; `brain` is the mean curve of the mask."""
    steady = _smooth_in_time(curves)
    rise, width = _rise_and_width(steady)
    unit = np.quantile(width, 0.1)
    # in units of an arterial width, contrast cannot come long before the brain as a whole lights up: motion can
    first = _rise_and_width(_smooth_in_time(brain[:, None]))[0] - unit
    score = np.log(steady.max(0) / width) - EARLINESS * rise / unit
    score[rise < first] = -np.inf
    order = np.argsort(-score, kind="stable")
    order = order[score[order] > -np.inf]
    if not len(order):
        raise ValueError("every vessel-like curve rises long before the brain does: look at the series")
    # an artery is seen in several voxels; the moving rim of the skull may look like an early one in a single voxel
    supporters = order[:0]
    for one in order:
        alike = order[_correlation(curves[:, order], curves[:, one]) >= ALIKE]
        supporters = max(supporters, alike, key=len)
        if len(supporters) >= SEVERAL:
            break
    return supporters[:VOXELS]


def _venous(curves: np.ndarray, artery: np.ndarray, interval_s: float) -> np.ndarray:
    """Numbers of the curves of largest area that peak late enough to be venous."""
    lag = (_smooth_in_time(curves).argmax(0) - _smooth_in_time(artery[:, None]).argmax(0)) * interval_s
    order = np.argsort(-curves.sum(0), kind="stable")
    order = order[lag[order] >= LAG_S]
    widest = curves[:, order[:1]].sum(1)  # 0 where there is none
    return order[_correlation(curves[:, order], widest) >= ALIKE][:VOXELS]


def _smooth_in_time(curves: np.ndarray) -> np.ndarray:
    return convolve1d(curves, [0.25, 0.5, 0.25], axis=0, mode="nearest")


def _rise_and_width(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frame of half rise and frames of width at half height, between frames, of curves (frames, n)."""
    frames, peak = np.arange(len(curves))[:, None], curves.argmax(0)
    half, each = curves.max(0) / 2, np.arange(curves.shape[1])
    below = curves < half
    before = np.where(below & (frames < peak), frames, -1).max(0)
    after = np.where(below & (frames > peak), frames, len(curves)).min(0)

    def crossing(low: np.ndarray, high: np.ndarray, crosses: np.ndarray, otherwise: float) -> np.ndarray:
        low, high = np.clip(low, 0, len(curves) - 1), np.clip(high, 0, len(curves) - 1)
        step = curves[high, each] - curves[low, each]
        return np.where(crosses, low + (half - curves[low, each]) / np.where(crosses, step, 1), otherwise)

    rise = crossing(before, before + 1, before >= 0, 0.0)
    fall = crossing(after - 1, after, after < len(curves), len(curves) - 1.0)
    return rise, fall - rise


def _correlation(curves: np.ndarray, one: np.ndarray) -> np.ndarray:
    curves, one = curves - curves.mean(0), one - one.mean()
    return (one @ curves) / np.sqrt((one @ one) * (curves**2).sum(0))


def _mean_curve(enhancement: np.ndarray, places: np.ndarray) -> np.ndarray:
    return enhancement[(slice(None), *places.T)].mean(1, dtype=float)


def _remarks(artery: np.ndarray, vein: np.ndarray | None, ratio: float, voxels: int) -> tuple[str, ...]:
    """Odd things in words; what is said here is not refused, since old scanners do all of it."""
    share = artery[-3:].mean() / artery.max()
    late = vein is not None and vein[-3:].mean() > 0.5 * vein.max()
    odd = {  # words -> whether they are true
        "the artery peaks in the first frames: the scan began too late": artery.argmax() <= 1,
        "the artery peaks in the last frame: the scan ended too early": artery.argmax() == len(artery) - 1,
        f"the artery ends at {share:.0%} of its peak: its area is cut off": share > 0.3,
        "no vein was found: the artery is not corrected for partial volume": vein is None,
        "the venous curve is cut off: the correction is too small": late,
        f"the vein's area is only {ratio:.2f} of the artery's: no correction was made": ratio < 1,
        f"{voxels} arterial voxels were found, {VOXELS} were wanted": voxels < VOXELS,
    }
    return tuple(words for words, true in odd.items() if true)


class Maps(NamedTuple):
    """Perfusion maps, each float32 (z, y, x), NaN outside the mask."""

    cbf: np.ndarray  # ml/100 g/min; too low by what is truncated: compare with normal tissue of one patient
    cbv: np.ndarray  # ml/100 g, by areas
    mtt: np.ndarray  # s, CBV/CBF; also NaN where either is not above 0
    tmax: np.ndarray  # s from the artery to the residue's maximum; < 0 where tissue leads the artery
    vessels: np.ndarray  # bool, large vessels, kept out of the smoothing of tissue
    noise_hu: float  # of the deconvolved curves
    smoothing_mm: float  # standard deviation of the Gaussian that was applied


def perfusion_maps(
    enhancement: np.ndarray,
    mask: np.ndarray,
    aif: np.ndarray,
    interval_s: float,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    lambda_: float = 0.1,
    smoothing_mm: float | None = None,
) -> Maps:
    """Deconvolve every voxel of a mask (z, y, x).

    CBF = 6000 max(k) / density; CBV = 100 area(tissue) / area(artery) / density; MTT = 60 CBV / CBF; Tmax = argmax k.
    Fieselmann et al., doi 10.1155/2011/467563.

    `enhancement` (frames, z, y, x) is HU above baseline, of all frames of the scan: a window cut around the peak cuts areas
    too; `aif` (frames,) the artery's; for `lambda_` see `inverse`. `smoothing_mm` is the width of the Gaussian before
    deconvolution, 0 for none; by default see `smoothing_width`.
    """
    matrix = inverse(aif, interval_s, lambda_)
    if not aif.sum() > 0:
        raise ValueError(f"the arterial curve has an area of {aif.sum():.3g}, which must be above 0")
    vessels = mask & (enhancement.max(0) > VESSEL_SHARE * aif.max())
    tissue = mask & ~vessels
    if smoothing_mm is None:
        smoothing_mm = smoothing_width(enhancement, tissue, spacing_mm)
    curves = np.where(vessels, enhancement, smoothed(enhancement, tissue, smoothing_mm, spacing_mm))
    left = noise_hu(curves[:, tissue]) if tissue.sum() >= FEWEST else np.nan

    inside = curves[:, mask]
    highest, top = np.empty(inside.shape[1], np.float32), np.empty(inside.shape[1], int)
    for start in range(0, inside.shape[1], CHUNK):
        chunk = slice(start, start + CHUNK)
        residues = matrix @ inside[:, chunk]
        highest[chunk], top[chunk] = residues.max(0), residues.argmax(0)
    cbf, when = 6000 * highest / DENSITY, sample_times(len(aif), interval_s)[top]
    cbv = 100 * inside.sum(0) / aif.sum() / DENSITY
    with np.errstate(divide="ignore", invalid="ignore"):
        mtt = np.where((cbf > 0) & (cbv > 0), 60 * cbv / cbf, np.nan)
    placed = np.full((4, *mask.shape), np.nan, np.float32)
    placed[:, mask] = cbf, cbv, mtt, when
    return Maps(*placed, vessels, left, float(smoothing_mm))


def inverse(aif: np.ndarray, interval_s: float, lambda_: float = 0.1) -> np.ndarray:
    """What turns tissue curves into residues: the k of curve = aif convolved with k, in 1/s, is `inverse(aif) @ curve`.

    Block-circulant, zero-padded to twice the frames, and so indifferent to tissue that lags or leads the artery (Wu et
    al., doi 10.1002/mrm.10522); `aif` (frames,) is in HU. Singular values below the share `lambda_`, 0 to 1, of the
    largest are dropped: larger is smoother, and CBF lower. Returns float32 (samples, frames), see `sample_times`.
    """
    # the singular values of a circulant matrix are the moduli of its column's Fourier transform
    transfer = np.fft.rfft(aif, 2 * len(aif)) * interval_s
    sizes = np.abs(transfer)
    stays = sizes >= max(lambda_, len(sizes) * np.finfo(float).eps) * sizes.max()  # rounding alone never does
    column = np.fft.irfft(stays / np.where(stays, transfer, 1), 2 * len(aif))
    return circulant(column)[:, : len(aif)].astype(np.float32)


def sample_times(frames: int, interval_s: float) -> np.ndarray:
    """Seconds after arterial arrival of each sample of a residue; in the padded half tissue leads the artery (< 0)."""
    number = np.arange(2 * frames)
    return np.where(number > frames, number - 2 * frames, number) * interval_s


def smoothed(
    values: np.ndarray, mask: np.ndarray, width_mm: float, spacing_mm: Sequence[float]
) -> np.ndarray:
    """Gaussian average in space over the voxels of a mask (z, y, x) alone: nothing flows in from outside it.

    `width_mm` is the standard deviation in all three directions; 0 changes nothing. Returns float32 (frames, z, y, x),
    0 outside the mask.
    """
    smooth = np.zeros(values.shape, np.float32)
    if not width_mm or not mask.any():
        return np.where(mask, values, smooth)
    (box,) = find_objects(mask.astype(np.uint8))
    inside = mask[box]
    sigma = [width_mm / each for each in reversed(spacing_mm)]
    weight = gaussian_filter(inside.astype(np.float32), sigma, mode="constant", truncate=3)
    scale = np.where(inside, 1 / np.where(inside, weight, 1), 0)
    for frame, target in zip(values, smooth, strict=True):
        part = np.where(inside, frame[box], np.float32(0))
        target[box] = gaussian_filter(part, sigma, mode="constant", truncate=3) * scale
    return smooth


def smoothing_width(
    values: np.ndarray, mask: np.ndarray, spacing_mm: Sequence[float], goal_hu=GOAL_HU, widest_mm=WIDEST_MM
) -> float:
    """The least smoothing, mm, after which the curves' measured noise is at most `goal_hu`; `widest_mm` at most.

    Measured after smoothing rather than computed, since the noise of neighbouring voxels is correlated in CT.
    """
    groups = [values[start : start + 3] for start in sorted({0, (len(values) - 3) // 2, len(values) - 3})]
    steps = [step * min(spacing_mm[:2]) for step in STEPS]
    for width in [0.0, *(step for step in steps if step < widest_mm), float(widest_mm)]:
        left = [noise_hu(smoothed(group, mask, width, spacing_mm)[:, mask]) for group in groups]
        if np.mean(left) <= goal_hu:
            break
    return width


# ------------------------------------------------------------ core and hypoperfused tissue


SMALLEST_ML = 0.5  # pieces below it are speckle of noise
TISSUE_HU = (17.0, 80.0)  # halfway between CSF and white matter; above any tissue without contrast


class Lesions(NamedTuple):
    """What the thresholds call ischaemic."""

    core: np.ndarray  # bool (z, y, x), lies within hypoperfused
    hypoperfused: np.ndarray
    core_ml: float
    hypoperfused_ml: float
    mismatch_ml: float  # hypoperfused tissue outside the core
    normal_side: str  # "left" or "right" of the patient, "both" where nothing is hypoperfused
    normal_cbf: float  # ml/100 g/min, the mean that `core_rcbf` refers to: a median jumps between grey and white matter


class Mismatch(NamedTuple):
    """One scan, read."""

    artery: ArterialInput
    maps: Maps
    lesions: Lesions

    def row(self) -> dict[str, object]:
        """A row of volumes.csv: volumes in ml, the normal side, how the artery was found, the smoothing in mm."""
        names = ("core_ml", "hypoperfused_ml", "mismatch_ml", "normal_side")
        return {name: getattr(self.lesions, name) for name in names} | {
            "artery_factor": self.artery.factor,
            "artery_voxels": len(self.artery.voxels),
            "smoothing_mm": self.maps.smoothing_mm,
            "remarks": "; ".join(self.artery.remarks),
        }


def mismatch(scan: Prepared, lambda_: float = 0.1, core_rcbf: float = 0.3, tmax_s: float = 6.0) -> Mismatch:
    """Find the artery, deconvolve, and measure core and hypoperfused tissue in the parenchyma of a prepared scan.

    `lambda_` is that of `lib.stroke.maps.inverse`, the thresholds those of `lesion_volumes`.
    """
    interval, spacing = float(np.diff(scan.seconds).mean()), scan.geometry.spacing_mm
    artery = arterial_input(scan.enhancement, scan.mask, interval)
    maps = perfusion_maps(scan.enhancement, scan.mask, artery.curve, interval, spacing, lambda_)
    tissue = parenchyma(scan.baseline, scan.mask)
    return Mismatch(artery, maps, lesion_volumes(maps, tissue, scan.geometry, core_rcbf, tmax_s))


def lesion_volumes(
    maps: Maps, mask: np.ndarray, geometry: Geometry, core_rcbf: float = 0.3, tmax_s: float = 6.0
) -> Lesions:
    """Core: CBF below a share of the normal side's and Tmax late. Hypoperfused: Tmax late.

    Thresholds: doi 10.1038/s41598-023-48700-6; .38: Cereda et al., doi 10.1177/0271678X15610586. Connected pieces (faces) of
    less than `SMALLEST_ML` are dropped, of either.

    Parameters
    ----------
    mask : bool array (z, y, x)
        Brain tissue: CSF has no flow and would be taken for core, see `parenchyma`. Vessels are left out here.
    geometry : Geometry
        LPS axes (x to the patient's left) and spacing in mm.
    core_rcbf : float
        Share of the mean CBF of normal tissue: other side, Tmax not late. .30, as RAPID; .38 is the alternative. Noise
        raises low CBF, so .30 finds less than the core: half of it in phantoms at 2 to 3 HU, .38 three quarters.
    tmax_s : float
        s; tissue above it is hypoperfused.
    """
    tissue, voxel_ml = mask & ~maps.vessels, geometry.voxel_ml
    late = tissue & (maps.tmax > tmax_s)
    hypoperfused = _without_small_pieces(late, SMALLEST_ML / voxel_ml)
    left = left_of_midline(mask)
    on_left, on_right = (hypoperfused & left).sum(), (hypoperfused & ~left).sum()
    side, normal = ("left", left) if on_left < on_right else ("right", ~left)
    if not on_left and not on_right:
        side, normal = "both", np.ones_like(left)
    flows = maps.cbf[tissue & normal & ~late]
    normal_cbf = float(flows.mean(dtype=float)) if len(flows) else 0.0
    if not normal_cbf > 0:
        words = f"the {side} side has no tissue with blood flow and Tmax up to {tmax_s} s"
        raise ValueError(f"{words}, so nothing tells what flow is normal: check the arterial curve")
    core = _without_small_pieces(hypoperfused & (maps.cbf < core_rcbf * normal_cbf), SMALLEST_ML / voxel_ml)
    core_ml, hypoperfused_ml = float(core.sum() * voxel_ml), float(hypoperfused.sum() * voxel_ml)
    return Lesions(core, hypoperfused, core_ml, hypoperfused_ml, hypoperfused_ml - core_ml, side, normal_cbf)


def parenchyma(baseline: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask (z, y, x) that are brain rather than CSF or bone, by their HU before the contrast."""
    sigma = (0, 0.7, 0.7)  # voxels, in-plane, against noise
    weight = gaussian_filter(mask.astype(np.float32), sigma)
    smooth = gaussian_filter(np.where(mask, baseline, 0).astype(np.float32), sigma) / np.maximum(weight, 1e-6)
    return mask & (smooth >= TISSUE_HU[0]) & (smooth <= TISSUE_HU[1])


def left_of_midline(mask: np.ndarray) -> np.ndarray:
    """Which voxels (z, y, x) lie on the patient's left of the plane through the middles of the mask's rows."""
    z, y, x = np.indices(mask.shape, sparse=True)
    rows = mask.any(2)
    first, last = mask.argmax(2)[rows], mask.shape[2] - 1 - mask[..., ::-1].argmax(2)[rows]
    # long rows say more about the middle than those at the poles
    plane = LinearRegression().fit(np.argwhere(rows), (first + last) / 2, (last - first + 1.0) ** 2)
    return x > plane.intercept_ + plane.coef_[0] * z + plane.coef_[1] * y


def _without_small_pieces(voxels: np.ndarray, least: float) -> np.ndarray:
    """The connected pieces of at least so many voxels."""
    pieces, _ = label(voxels)
    large = np.bincount(pieces.ravel()) >= least
    large[0] = False
    return large[pieces]
