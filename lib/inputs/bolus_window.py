"""When contrast arrives in a series, when it peaks, and which frames to take around that."""

import numpy as np

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
