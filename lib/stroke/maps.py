"""Perfusion maps in physical units: blood flow, blood volume, transit time, time to maximum.

Tissue answers the arterial curve with a blurred copy of it; truncated singular values take the blur away. Curves are
first smoothed in space until their noise lets core and penumbra be told apart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import circulant, svd, toeplitz
from scipy.ndimage import find_objects, gaussian_filter

from lib.stroke.bolus import checked, noise_hu

DENSITY = 1.05  # of brain, g/ml
VESSEL_SHARE = 0.1  # of the artery's peak; tissue stays below .05
STEPS = (0.5, 0.6, 0.75, 0.9, 1.1, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)  # widths tried, in-plane voxels
FEWEST = 16  # voxels from which noise can be told
GOAL_HU = 0.5  # above it core and penumbra begin to look alike in CBF
WIDEST_MM = 6.0  # no smoothing is wider, whatever the noise: lesions blur with it
CHUNK = 8192  # voxels deconvolved at a time: their residues fit the cache


class Maps(NamedTuple):
    """Perfusion maps, each float32 (z, y, x), NaN outside the mask."""

    cbf: (
        np.ndarray
    )  # ml/100 g/min; lower than the truth by what is truncated: compare with normal tissue of one patient
    cbv: np.ndarray  # ml/100 g, by areas
    mtt: np.ndarray  # s, CBV/CBF; also NaN where either is not above 0
    tmax: (
        np.ndarray
    )  # s from the artery to the residue's maximum, higher = later; < 0 where tissue leads the artery
    vessels: np.ndarray  # bool, large vessels, kept out of the smoothing of tissue
    noise_hu: float  # of the deconvolved curves
    smoothing_mm: float  # standard deviation of the Gaussian that was applied


def perfusion_maps(
    enhancement: np.ndarray,
    mask: np.ndarray,
    aif: np.ndarray,
    interval_s: float,
    *,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    lambda_: float = 0.1,
    how: str = "circulant",
    smoothing_mm: float | None = None,
) -> Maps:
    """Deconvolve every voxel of a mask.

    CBF = 6000 max(k) / density; CBV = 100 area(tissue) / area(artery) / density; MTT = 60 CBV / CBF; Tmax = argmax k.

    Fieselmann et al., doi 10.1155/2011/467563.

    Parameters
    ----------
    enhancement : array (frames, z, y, x)
        HU above baseline, all frames of the scan: a window cut around the peak cuts areas too.
    mask : bool array (z, y, x)
    aif : array (frames,)
        The artery, HU above baseline.
    interval_s, spacing_mm : float, (x, y, z)
    lambda_, how
        See `inverse`.
    smoothing_mm : float, optional
        Width of the Gaussian before deconvolution; 0 for none. By default see `smoothing_width`.
    """
    enhancement, mask = checked(enhancement, mask)
    aif = np.asarray(aif, dtype=float)
    matrix = inverse(aif, interval_s, lambda_, how)
    if len(aif) != len(enhancement) or not aif.sum() > 0:
        raise ValueError(
            f"the arterial curve has {len(aif)} frames and an area of {aif.sum():.3g}; it must have the "
            f"{len(enhancement)} frames of the scan and an area above 0"
        )
    vessels = mask & (enhancement.max(0) > VESSEL_SHARE * aif.max())
    tissue = mask & ~vessels
    if smoothing_mm is None:
        smoothing_mm = smoothing_width(enhancement, tissue, spacing_mm)
    curves = np.where(vessels, enhancement, smoothed(enhancement, tissue, smoothing_mm, spacing_mm))
    left = noise_hu(curves[:, tissue]) if tissue.sum() >= FEWEST else np.nan

    inside = curves[:, mask]
    highest, when = np.empty(inside.shape[1], np.float32), np.empty(inside.shape[1], np.float32)
    times = sample_times(len(aif), interval_s, how)
    for start in range(0, inside.shape[1], CHUNK):
        chunk = slice(start, start + CHUNK)
        residues = matrix @ inside[:, chunk]
        top = residues.argmax(0)
        highest[chunk] = residues[top, np.arange(len(top))]
        when[chunk] = times[top]
    cbf = 6000 * highest / DENSITY
    cbv = 100 * inside.sum(0) / aif.sum() / DENSITY
    with np.errstate(divide="ignore", invalid="ignore"):
        mtt = np.where((cbf > 0) & (cbv > 0), 60 * cbv / cbf, np.nan)
    placed = np.full((4, *mask.shape), np.nan, np.float32)
    placed[:, mask] = cbf, cbv, mtt, when
    return Maps(*placed, vessels, left, float(smoothing_mm))


def inverse(aif: np.ndarray, interval_s: float, lambda_: float = 0.1, how: str = "circulant") -> np.ndarray:
    """What turns tissue curves into residues: the k of curve = aif convolved with k, in 1/s, is `inverse(aif) @ curve`.

    Østergaard et al., doi 10.1002/mrm.1910360510; Wu et al., doi 10.1002/mrm.10522. Returns float32 (samples, frames),
    see `sample_times`.

    Parameters
    ----------
    aif : array (frames,)
        Arterial enhancement, HU, at moments `interval_s` apart.
    lambda_ : float
        Singular values below this share of the largest are dropped, 0 to 1: larger is smoother, and CBF lower.
    how : "circulant" or "standard"
        Block-circulant: zero-padded to twice the frames, indifferent to tissue that lags or leads the artery.
        Standard: CBF falls with delay.
    """
    aif = np.asarray(aif, dtype=np.float64)
    if not np.isfinite(aif).all() or not aif.max() > 0 or not interval_s > 0:
        raise ValueError("the arterial curve must be finite and rise above 0, and interval_s be above 0")
    if how == "circulant":
        # the singular values of a circulant matrix are the moduli of its column's Fourier transform
        transfer = np.fft.rfft(aif, 2 * len(aif)) * interval_s
        stays = _stays(np.abs(transfer), lambda_)
        column = np.fft.irfft(stays / np.where(stays, transfer, 1), 2 * len(aif))
        return circulant(column)[:, : len(aif)].astype(np.float32)
    if how == "standard":
        left, sizes, right = svd(toeplitz(aif, np.zeros_like(aif)) * interval_s)
        stays = _stays(sizes, lambda_)
        return (right.T @ (stays / np.where(stays, sizes, 1) * left).T).astype(np.float32)
    raise ValueError(f"deconvolution {how!r} is unknown: circulant or standard")


def _stays(sizes: np.ndarray, lambda_: float) -> np.ndarray:
    """Which singular values stay; those of rounding alone never do."""
    return sizes >= max(lambda_, len(sizes) * np.finfo(float).eps) * sizes.max()


def sample_times(frames: int, interval_s: float, how: str = "circulant") -> np.ndarray:
    """Seconds after arterial arrival of each sample of a residue; in the padded half tissue leads the artery (< 0)."""
    if how == "standard":
        return np.arange(frames) * interval_s
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
    if len(values) < 3 or mask.sum() < FEWEST:
        raise ValueError(f"noise cannot be told from {len(values)} frames and {mask.sum()} voxels of tissue")
    groups = [values[start : start + 3] for start in sorted({0, (len(values) - 3) // 2, len(values) - 3})]
    steps = [step * min(spacing_mm[:2]) for step in STEPS]
    for width in [0.0, *(step for step in steps if step < widest_mm), float(widest_mm)]:
        left = [noise_hu(smoothed(group, mask, width, spacing_mm)[:, mask]) for group in groups]
        if np.mean(left) <= goal_hu:
            break
    return width
