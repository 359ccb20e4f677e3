"""The arterial input function: where contrast enters the brain, found in the scan, and corrected by the vein it leaves by."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import convolve1d

VOXELS = 10  # averaged: noise falls threefold, and that many lie within one artery
SHARE_OF_TOP = 0.2  # a vessel's peak against the highest; tissue stays below .1, narrow arteries above
ROUGH = 0.25  # of a curve's peak, its largest jump off its own neighbours in time: a spike is no bolus
EARLINESS = 4.0  # an artery may be e times fainter for each quarter of its width that it is earlier
ALIKE = 0.9  # correlation of the voxels averaged with the best one
SEVERAL = 3  # voxels that have to be alike, if there are any such
LAG_S = 2.0  # a vein peaks that much after the artery, at least
FAINT = 5.0  # a vessel's peak in units of noise, at least


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
    """Find the arterial and the venous curve.

    Arteries enhance high, early and briefly: of the voxels that reach `SHARE_OF_TOP` of the highest peak the one wins
    whose log(peak / width at half height) - EARLINESS * half rise / (arterial width) is highest; up to `VOXELS` that
    resemble it are averaged. Veins have the largest area among those that peak `LAG_S` later, and the artery is scaled
    to it (partial-volume correction). The same scan gives the same voxels, whatever its scale in HU and whenever the
    bolus comes.

    Parameters
    ----------
    enhancement : array (frames, z, y, x)
        HU above baseline, not smoothed in space: vessels are small.
    mask : bool array (z, y, x)
        Where to look; ValueError if nothing in it enhances like a vessel.
    interval_s : float
        Seconds between frames.
    """
    enhancement, mask = checked(enhancement, mask)
    places, curves = np.argwhere(mask), enhancement[:, mask]
    brain = curves.mean(1)
    vessels = _vessels(curves)
    places, curves = places[vessels], curves[:, vessels]
    arterial = places[_best(curves, brain)]
    measured = _mean(enhancement, arterial)
    drained = places[_widest(curves, measured, interval_s)]
    venous = _mean(enhancement, drained) if len(drained) else None
    ratio = venous.sum() / measured.sum() if venous is not None else 1.0
    remarks = _remarks(measured, venous, ratio)
    if len(arterial) < VOXELS:
        remarks = (*remarks, f"{len(arterial)} arterial voxels were found, {VOXELS} were wanted")
    factor = float(max(ratio, 1.0))
    return ArterialInput(measured * factor, measured, arterial, venous, drained, factor, remarks)


def checked(enhancement: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Enhancement as float32 (frames, z, y, x) and mask as bool (z, y, x), refused where they cannot be used."""
    enhancement, mask = np.asarray(enhancement, dtype=np.float32), np.asarray(mask)
    if mask.shape != enhancement.shape[1:] or mask.dtype != bool or not mask.any():
        raise ValueError(
            f"the mask ({mask.dtype} {mask.shape}, {np.count_nonzero(mask)} voxels) must be bool, not empty, and fit "
            f"enhancement (frames, z, y, x), which is {enhancement.shape}"
        )
    if bad := int((~np.isfinite(enhancement[:, mask])).any(0).sum()):
        raise ValueError(f"NaN or infinity in the curves of {bad} of {mask.sum()} voxels of the mask")
    return enhancement, mask


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
    rough = np.abs(curves[:, high] - _steady(curves[:, high])).max(0) > ROUGH * top[high]
    high = high[~rough]
    if not len(high):
        raise ValueError(
            f"nothing in the mask enhances like a vessel (highest peak {top.max():.1f} HU, noise "
            f"{noise_hu(curves):.1f} HU): look at the series"
        )
    highest = np.sort(top[high])[-min(VOXELS, len(high))]
    return high[top[high] >= SHARE_OF_TOP * highest]


def _best(curves: np.ndarray, brain: np.ndarray) -> np.ndarray:
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
        raise ValueError("every vessel-like curve rises long before the brain does: look at the series")
    # an artery is seen in several voxels; the moving rim of the skull may look like an early one in a single voxel
    supporters = np.empty(0, int)
    for one in order:
        alike = order[_correlation(curves[:, order], curves[:, one]) >= ALIKE]
        if len(alike) > len(supporters):
            supporters = alike
        if len(alike) >= SEVERAL:
            return alike[:VOXELS]
    return supporters[:VOXELS]


def _widest(curves: np.ndarray, artery: np.ndarray, interval_s: float) -> np.ndarray:
    """Numbers of the curves of largest area that peak late enough to be venous."""
    lag = (_steady(curves).argmax(0) - _steady(artery[:, None]).argmax(0)) * interval_s
    order = np.argsort(-curves.sum(0), kind="stable")
    order = order[lag[order] >= LAG_S]
    return (
        order[_correlation(curves[:, order], curves[:, order[0]]) >= ALIKE][:VOXELS] if len(order) else order
    )


def _steady(curves: np.ndarray) -> np.ndarray:
    return convolve1d(curves, [0.25, 0.5, 0.25], axis=0, mode="nearest")


def _half_heights(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def _mean(enhancement: np.ndarray, places: np.ndarray) -> np.ndarray:
    return enhancement[(slice(None), *places.T)].mean(1, dtype=float)


def _remarks(artery: np.ndarray, vein: np.ndarray | None, ratio: float) -> tuple[str, ...]:
    """Odd things in words; what is said here is not refused, since old scanners do all of it."""
    share = artery[-3:].mean() / artery.max()
    odd = {  # words -> whether they are true
        "the artery peaks in the first frames: the scan began too late": artery.argmax() <= 1,
        "the artery peaks in the last frame: the scan ended too early": artery.argmax() == len(artery) - 1,
        f"the artery ends at {share:.0%} of its peak: its area is cut off": share > 0.3,
        "no vein was found: the artery is not corrected for partial volume": vein is None,
    }
    if vein is not None:
        late = vein[-3:].mean() > 0.5 * vein.max()
        odd |= {
            "the venous curve is cut off: the correction is too small": late,
            "the vein peaks before the artery": vein.argmax() < artery.argmax(),
            f"the vein's area is only {ratio:.2f} of the artery's: no correction was made": ratio < 1,
        }
    return tuple(words for words, true in odd.items() if true)
