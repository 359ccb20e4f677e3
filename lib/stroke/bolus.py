"""Enhancement of voxels over time: is it fit for use, how noisy is it, and smoothed until it is not.

The arterial input function: where contrast enters the brain, found in the scan or given as a mask.

Tissue curves freed of the arterial curve that made them, by truncated singular values.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import circulant, svd, toeplitz
from scipy.ndimage import convolve1d, find_objects, gaussian_filter

STEPS = (0.5, 0.6, 0.75, 0.9, 1.1, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)  # widths tried, in-plane voxels
FEWEST = 16  # voxels from which noise can be told


def checked(enhancement: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Enhancement as float32 (frames, z, y, x) and mask as bool (z, y, x), refused where they cannot be used."""
    enhancement, mask = np.asarray(enhancement, dtype=np.float32), np.asarray(mask)
    if enhancement.ndim != 4 or mask.shape != enhancement.shape[1:]:
        raise ValueError(
            f"enhancement {enhancement.shape} and mask {mask.shape} do not fit: expected (frames, z, y, x), (z, y, x)"
        )
    if mask.dtype != bool or not mask.any():
        raise ValueError(
            f"the mask ({mask.dtype}, {np.count_nonzero(mask)} voxels) must be bool and not empty"
        )
    if bad := int((~np.isfinite(enhancement[:, mask])).any(0).sum()):
        raise ValueError(
            f"NaN or infinity in the curves of {bad} of {mask.sum()} voxels: leave them out of the mask"
        )
    return enhancement, mask


def noise_hu(curves: np.ndarray) -> float:
    """Standard deviation of the noise of curves that are otherwise smooth in time.

    From second differences, robustly, so that neither bolus nor baseline counts. Noise that is correlated in time
    (frames interpolated from others) is underestimated.

    Parameters
    ----------
    curves : array (frames, ...)
        HU; 3 frames at least, in temporal order; several groups of frames can be measured apart and averaged.

    Returns
    -------
    float
        HU of a single curve at a single frame.
    """
    if len(curves) < 3:
        raise ValueError(f"noise needs 3 successive frames at least, there are {len(curves)}")
    return float(1.4826 * np.median(np.abs(np.diff(curves, 2, axis=0))) / np.sqrt(6))


def smoothed(
    values: np.ndarray, mask: np.ndarray, width_mm: float, spacing_mm: Sequence[float]
) -> np.ndarray:
    """Gaussian average in space over the voxels of a mask alone: nothing flows in from outside it.

    Parameters
    ----------
    values : array (frames, z, y, x)
    mask : bool array (z, y, x)
    width_mm : float
        Standard deviation of the Gaussian, mm, in all three directions; 0 changes nothing.
    spacing_mm : (x, y, z)

    Returns
    -------
    float32 array (frames, z, y, x)
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
    values: np.ndarray,
    mask: np.ndarray,
    spacing_mm: Sequence[float],
    goal_hu: float = 0.5,
    widest_mm: float = 6.0,
) -> tuple[float, float]:
    """The least smoothing after which the curves' measured noise is at most `goal_hu`.

    Measured after smoothing rather than computed, since the noise of neighbouring voxels is correlated in CT.

    Parameters
    ----------
    values, mask, spacing_mm
        As of `smoothed`.
    goal_hu : float
        Above 0.5 HU core and penumbra begin to look alike in CBF.
    widest_mm : float
        No wider, whatever the noise; lesions blur with it.

    Returns
    -------
    (float, float)
        Width in mm (0 where none is needed) and the noise in HU that is left; above `goal_hu` when `widest_mm` was
        not enough.
    """
    if len(values) < 3 or mask.sum() < FEWEST:
        raise ValueError(
            f"noise cannot be told from {len(values)} frames and {mask.sum()} voxels: expected 3 and {FEWEST} at least"
        )
    starts = sorted({0, (len(values) - 3) // 2, len(values) - 3})
    groups = [np.asarray(values[start : start + 3]) for start in starts]
    steps = [step * min(spacing_mm[:2]) for step in STEPS]
    for width in [0.0, *(step for step in steps if step < widest_mm), float(widest_mm)]:
        left = np.mean([noise_hu(smoothed(group, mask, width, spacing_mm)[:, mask]) for group in groups])
        if left <= goal_hu:
            break
    return width, float(left)


VOXELS = 10  # averaged: noise falls threefold, and that many lie within one artery
SHARE_OF_TOP = 0.2  # a vessel's peak against the highest; tissue stays below .1, narrow arteries above
ROUGH = 0.25  # of a curve's peak, its largest jump off its own neighbours in time: a spike is no bolus
EARLINESS = 4.0  # an artery may be e times fainter for each quarter of its width that it is earlier
ALIKE = 0.9  # correlation of the voxels averaged with the best one
SEVERAL = 3  # voxels that have to be alike, if there are any such
LAG_S = 2.0  # a vein peaks that much after the artery, at least
FAINT = 5.0  # a vessel's peak in units of noise, at least


class ArterialInput(NamedTuple):
    """Arterial and venous curve, with what a reader needs to judge them.

    Attributes
    ----------
    curve : float64 (frames,), HU above baseline, `measured` times `factor`.
    measured : float64 (frames,), average of `voxels`.
    voxels : int (n, 3), z, y, x of the voxels averaged, the best first.
    venous : float64 (frames,), or None where no vein was found.
    venous_voxels : int (m, 3).
    factor : area under the venous curve over that under the arterial one, at least 1: an artery is narrower than
        a voxel, a sinus is not. 1 where no correction was asked for or no vein was found.
    remarks : tuple of str, what is odd about the curves; empty if nothing.
    """

    curve: np.ndarray
    measured: np.ndarray
    voxels: np.ndarray
    venous: np.ndarray | None
    venous_voxels: np.ndarray
    factor: float
    remarks: tuple[str, ...]


def arterial_input(
    enhancement: np.ndarray,
    mask: np.ndarray,
    interval_s: float,
    *,
    artery: np.ndarray | None = None,
    vein: np.ndarray | None = None,
    voxels: int = VOXELS,
    correct: bool = True,
) -> ArterialInput:
    """Find the arterial and the venous curve, or average them over given voxels.

    Arteries enhance high, early and briefly: of the voxels that reach `SHARE_OF_TOP` of the highest peak the one wins
    whose log(peak / width at half height) - EARLINESS * half rise / (arterial width) is highest; up to `voxels` that
    resemble it are averaged. Veins have the largest area among those that peak `LAG_S` later. The same scan gives
    the same voxels, whatever its scale in HU and whenever the bolus comes.

    Parameters
    ----------
    enhancement : array (frames, z, y, x)
        HU above baseline, not smoothed in space: vessels are small.
    mask : bool array (z, y, x)
        Where to look.
    interval_s : float
        Seconds between frames.
    artery, vein : bool array (z, y, x), optional
        The voxels to average instead; need not lie within `mask`.
    voxels : int
        Averaged at most, of each vessel.
    correct : bool
        Scale the artery to the vein's area (partial-volume correction).

    Returns
    -------
    ArterialInput

    Raises
    ------
    ValueError
        Nothing in the mask enhances like a vessel, a given mask is empty or of another shape, shapes that differ.
    """
    enhancement, mask = checked(enhancement, mask)
    if not interval_s > 0 or voxels < 1:
        raise ValueError(f"interval_s {interval_s} must be above 0 and voxels {voxels} at least 1")
    given = {name: _given(each, enhancement, name) for name, each in (("artery", artery), ("vein", vein))}
    places, curves = np.argwhere(mask), enhancement[:, mask]
    brain = curves.mean(1)
    if artery is None or (vein is None and correct):
        kept = _vessels(curves, voxels)
        places, curves = places[kept], curves[:, kept]
    chosen = given["artery"] if artery is not None else places[_best(curves, brain, voxels)]
    measured = _mean(enhancement, chosen)
    if vein is not None:
        drained = given["vein"]
    elif correct:
        drained = places[_widest(curves, measured, interval_s, voxels)]
    else:
        drained = np.empty((0, 3), int)
    venous = _mean(enhancement, drained) if len(drained) else None
    if not measured.sum() > 0:
        raise ValueError(
            f"the arterial curve has an area of {measured.sum():.3g}, it must be above 0: give `artery`"
        )
    ratio = venous.sum() / measured.sum() if correct and venous is not None else 1.0
    remarks = _remarks(measured, venous, ratio, correct)
    if artery is None and len(chosen) < voxels:
        remarks = (*remarks, f"{len(chosen)} arterial voxels were found, {voxels} were wanted")
    factor = float(max(ratio, 1.0))
    return ArterialInput(measured * factor, measured, chosen, venous, drained, factor, remarks)


def _given(mask: np.ndarray | None, enhancement: np.ndarray, name: str) -> np.ndarray | None:
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.shape != enhancement.shape[1:] or mask.dtype != bool or not mask.any():
        raise ValueError(
            f"the mask of the {name} ({mask.dtype} {mask.shape}, {np.count_nonzero(mask)} voxels) must be bool, not "
            f"empty and of shape {enhancement.shape[1:]}"
        )
    return np.argwhere(mask)


def _vessels(curves: np.ndarray, voxels: int) -> np.ndarray:
    """Numbers of the curves (frames, n) that could be a vessel's."""
    top = curves.max(0)
    # spikes may be higher than any vessel, so they go before the highest is looked for
    high = np.flatnonzero(top > FAINT * noise_hu(curves))
    rough = np.abs(curves[:, high] - _steady(curves[:, high])).max(0) > ROUGH * top[high]
    high = high[~rough]
    if not len(high):
        raise ValueError(
            f"nothing in the mask enhances like a vessel (highest peak {top.max():.1f} HU, noise "
            f"{noise_hu(curves):.1f} HU): look at the series, or give `artery` and `vein`"
        )
    highest = np.sort(top[high])[-min(voxels, len(high))]
    return high[top[high] >= SHARE_OF_TOP * highest]


def _steady(curves: np.ndarray) -> np.ndarray:
    return convolve1d(curves, [0.25, 0.5, 0.25], axis=0, mode="nearest")


def _best(curves: np.ndarray, brain: np.ndarray, voxels: int) -> np.ndarray:
    """Numbers of the most arterial curves; `brain` is the mean curve of the mask."""
    steady = _steady(curves)
    rise, width = _half_heights(steady)
    unit = np.quantile(width, 0.1)
    # in units of an arterial width, contrast cannot come long before the brain as a whole lights up: motion can
    first = _half_heights(_steady(brain[:, None]))[0] - unit
    score = np.log(steady.max(0) / width) - EARLINESS * rise / unit
    score[rise < first] = -np.inf
    order = np.argsort(-score, kind="stable")
    order = order[score[order] > -np.inf]
    if not len(order):
        raise ValueError("every vessel-like curve rises long before the brain does: give `artery`")
    # an artery is seen in several voxels; the moving rim of the skull may look like an early one in a single voxel
    supporters = np.empty(0, int)
    for one in order:
        alike = order[_correlation(curves[:, order], curves[:, one]) >= ALIKE]
        if len(alike) > len(supporters):
            supporters = alike
        if len(alike) >= min(SEVERAL, voxels):
            return alike[:voxels]
    return supporters[:voxels]


def _widest(curves: np.ndarray, artery: np.ndarray, interval_s: float, voxels: int) -> np.ndarray:
    """Numbers of the curves of largest area that peak late enough to be venous."""
    lag = (_steady(curves).argmax(0) - _steady(artery[:, None]).argmax(0)) * interval_s
    order = np.argsort(-curves.sum(0), kind="stable")
    order = order[lag[order] >= LAG_S]
    if not len(order):
        return order
    return order[_correlation(curves[:, order], curves[:, order[0]]) >= ALIKE][:voxels]


def _half_heights(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frame of half rise and frames of width at half height, between frames, of curves (frames, n)."""
    frames, peak = np.arange(len(curves))[:, None], curves.argmax(0)
    half, each = curves.max(0) / 2, np.arange(curves.shape[1])
    below = curves < half
    before = np.where(below & (frames < peak), frames, -1).max(0)
    after = np.where(below & (frames > peak), frames, len(curves)).min(0)

    def crossing(low: np.ndarray, high: np.ndarray, found: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
        low, high = np.clip(low, 0, len(curves) - 1), np.clip(high, 0, len(curves) - 1)
        step = curves[high, each] - curves[low, each]
        return np.where(found, low + (half - curves[low, each]) / np.where(found, step, 1), otherwise)

    rise = crossing(before, before + 1, before >= 0, np.zeros(len(each)))
    fall = crossing(after - 1, after, after < len(curves), np.full(len(each), len(curves) - 1.0))
    return rise, fall - rise


def _correlation(curves: np.ndarray, one: np.ndarray) -> np.ndarray:
    curves, one = curves - curves.mean(0), one - one.mean()
    return (one @ curves) / np.sqrt((one @ one) * (curves**2).sum(0))


def _mean(enhancement: np.ndarray, places: np.ndarray) -> np.ndarray:
    curve = enhancement[(slice(None), *places.T)].mean(1, dtype=float)
    if not np.isfinite(curve).all():
        raise ValueError("a given vessel's curve holds NaN or infinity: take such voxels out of its mask")
    return curve


def _remarks(artery: np.ndarray, vein: np.ndarray | None, ratio: float, correct: bool) -> tuple[str, ...]:
    """Odd things in words; what is said here is not refused, since old scanners do all of it."""
    last = len(artery) - 1
    found = [
        (artery.argmax() <= 1, "the artery peaks in the first frames: the scan began too late"),
        (artery.argmax() == last, "the artery peaks in the last frame: the scan ended too early"),
        (
            artery[-3:].mean() > 0.3 * artery.max(),
            f"the artery ends at {artery[-3:].mean() / artery.max():.0%} of its peak: its area is cut off",
        ),
        (vein is None and correct, "no vein was found: the artery is not corrected for partial volume"),
        (
            vein is not None and vein[-3:].mean() > 0.5 * vein.max(),
            "the venous curve is cut off: the correction is too small",
        ),
        (vein is not None and vein.argmax() < artery.argmax(), "the vein peaks before the artery"),
        (ratio < 1, f"the vein's area is only {ratio:.2f} of the artery's: no correction was made"),
    ]
    return tuple(words for odd, words in found if odd)


KINDS = ("circulant", "standard")


def residue(
    curves: np.ndarray, aif: np.ndarray, interval_s: float, lambda_: float = 0.1, how: str = "circulant"
) -> np.ndarray:
    """Flow-scaled residue function of each tissue curve: the k of curve = aif convolved with k.

    Parameters
    ----------
    curves : array (frames,) or (frames, n)
        Enhancement of tissue, HU above baseline.
    aif : array (frames,)
        Arterial enhancement, HU, at the same moments.
    interval_s : float
        Seconds between frames.
    lambda_ : float
        Singular values below this share of the largest are dropped, 0 to 1: larger is smoother, and CBF lower.
    how : "circulant" or "standard"
        Block-circulant: zero-padded to twice the frames, indifferent to tissue that lags or leads the artery.
        Standard: CBF falls with delay.

    Returns
    -------
    array (samples,) or (samples, n), float32
        1/s. Samples are `interval_s` apart; frames of them ("standard") or twice as many ("circulant"), the second
        half of which are negative times: see `sample_times`.

    Raises
    ------
    ValueError
        Lengths that differ, a curve that is not finite, an artery that does not enhance, `lambda_` outside [0, 1).

    References
    ----------
    Østergaard et al., doi 10.1002/mrm.1910360510; Wu et al., doi 10.1002/mrm.10522.
    """
    curves = np.asarray(curves, dtype=np.float32)
    if curves.ndim not in (1, 2) or len(curves) != np.size(aif):
        raise ValueError(
            f"curves of shape {curves.shape} and an arterial curve of {np.size(aif)} frames do not belong together: "
            "expected (frames, n) and (frames,)"
        )
    if not np.isfinite(curves).all():
        raise ValueError("tissue curves hold NaN or infinity: leave such voxels out of the mask")
    return inverse(aif, interval_s, lambda_, how) @ curves


def inverse(aif: np.ndarray, interval_s: float, lambda_: float = 0.1, how: str = "circulant") -> np.ndarray:
    """The matrix (samples, frames), float32, that turns a tissue curve into its residue; arguments as of `residue`."""
    aif = np.asarray(aif, dtype=np.float64)
    if aif.ndim != 1 or len(aif) < 2 or not np.isfinite(aif).all() or aif.max() <= 0:
        raise ValueError(
            f"the arterial curve (shape {aif.shape}) must be finite, at least 2 frames long, and rise above 0"
        )
    if not interval_s > 0 or not 0 <= lambda_ < 1:
        raise ValueError(f"interval_s {interval_s} must be above 0 and lambda_ {lambda_} within [0, 1)")
    if how == "circulant":
        # the singular values of a circulant matrix are the moduli of its column's Fourier transform
        transfer = np.fft.rfft(aif, 2 * len(aif)) * interval_s
        kept = _kept(np.abs(transfer), lambda_)
        column = np.fft.irfft(kept / np.where(kept, transfer, 1), 2 * len(aif))
        return circulant(column)[:, : len(aif)].astype(np.float32)
    if how == "standard":
        left, sizes, right = svd(toeplitz(aif, np.zeros_like(aif)) * interval_s)
        kept = _kept(sizes, lambda_)
        return (right.T @ (kept / np.where(kept, sizes, 1) * left).T).astype(np.float32)
    raise ValueError(f"deconvolution {how!r} is unknown: {' or '.join(KINDS)}")


def _kept(sizes: np.ndarray, lambda_: float) -> np.ndarray:
    """Which singular values stay; those of rounding alone never do."""
    return sizes >= max(lambda_, len(sizes) * np.finfo(float).eps) * sizes.max()


def sample_times(frames: int, interval_s: float, how: str = "circulant") -> np.ndarray:
    """Seconds after arterial arrival of each sample of `residue`; in the padded half tissue leads the artery (< 0)."""
    if how == "standard":
        return np.arange(frames) * interval_s
    number = np.arange(2 * frames)
    return np.where(number > frames, number - 2 * frames, number) * interval_s
