"""Enhancement of voxels over time: is it fit for use, how noisy is it, and smoothed until it is not."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import find_objects, gaussian_filter

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
