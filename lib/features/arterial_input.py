"""The arterial input function: where contrast enters the brain, found in the scan or given as a mask."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import convolve1d

from lib.features.enhancement import checked, noise_hu

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
