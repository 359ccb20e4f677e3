"""Perfusion maps in physical units: blood flow, blood volume, transit time, time to maximum."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lib.features.arterial_input import ArterialInput
from lib.features.deconvolution import inverse, sample_times
from lib.features.enhancement import FEWEST, checked, noise_hu, smoothed, smoothing_width

DENSITY = 1.05  # of brain, g/ml
VESSEL_SHARE = 0.1  # of the artery's peak; tissue stays below .05
_CHUNK = 8192  # voxels deconvolved at a time: their residues fit the cache


class Maps(NamedTuple):
    """Perfusion maps, each float32 (z, y, x), NaN outside the mask.

    Attributes
    ----------
    cbf : ml/100 g/min. Lower than the truth by what the truncation removes: compare with normal tissue of one patient.
    cbv : ml/100 g, by areas.
    mtt : s, CBV/CBF; also NaN where either is not above 0.
    tmax : s from the artery to the residue's maximum; below 0 where tissue leads the artery. Higher = later.
    vessels : bool (z, y, x), voxels of large vessels, kept out of the smoothing of tissue.
    noise_hu : noise of the deconvolved curves, HU; above .5 core and penumbra begin to look alike in CBF.
    smoothing_mm : standard deviation of the Gaussian that was applied, mm.
    """

    cbf: np.ndarray
    cbv: np.ndarray
    mtt: np.ndarray
    tmax: np.ndarray
    vessels: np.ndarray
    noise_hu: float
    smoothing_mm: float


def perfusion_maps(
    enhancement: np.ndarray,
    mask: np.ndarray,
    aif: ArterialInput | np.ndarray,
    interval_s: float,
    *,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    lambda_: float = 0.1,
    how: str = "circulant",
    smoothing_mm: float | None = None,
    goal_hu: float = 0.5,
    widest_mm: float = 6.0,
    density: float = DENSITY,
) -> Maps:
    """Deconvolve every voxel of a mask.

    CBF = 6000 max(k) / density; CBV = 100 area(tissue) / area(artery) / density; MTT = 60 CBV / CBF; Tmax = argmax k.

    Parameters
    ----------
    enhancement : array (frames, z, y, x)
        HU above baseline, all frames of the scan: a window cut around the peak cuts areas too.
    mask : bool array (z, y, x)
    aif : ArterialInput or array (frames,)
        HU above baseline.
    interval_s : float
    spacing_mm : (x, y, z)
        The Gaussian is as wide in mm along all three.
    lambda_, how
        As of `lib.features.deconvolution.residue`.
    smoothing_mm : float, optional
        Width of the Gaussian before deconvolution; 0 for none. By default the least that brings noise to `goal_hu`,
        `widest_mm` at most.
    density : float
        g/ml.

    Returns
    -------
    Maps

    Raises
    ------
    ValueError
        Shapes that do not belong together, an empty mask, NaN within it, an artery of no area.

    References
    ----------
    Fieselmann et al., doi 10.1155/2011/467563.
    """
    aif = np.asarray(aif.curve if isinstance(aif, ArterialInput) else aif, dtype=float)
    enhancement, mask = checked(enhancement, mask)
    if aif.shape != enhancement.shape[:1]:
        raise ValueError(
            f"an arterial curve of shape {aif.shape} does not fit enhancement of {len(enhancement)} frames"
        )
    matrix = inverse(aif, interval_s, lambda_, how)
    if not aif.sum() > 0:
        raise ValueError(
            f"the area under the arterial curve is {aif.sum():.3g}, it must be above 0: give another"
        )
    vessels = mask & (enhancement.max(0) > VESSEL_SHARE * aif.max())
    tissue = mask & ~vessels
    measurable = len(enhancement) >= 3 and tissue.sum() >= FEWEST
    if smoothing_mm is None:
        smoothing_mm, left = smoothing_width(enhancement, tissue, spacing_mm, goal_hu, widest_mm)
    curves = np.where(vessels, enhancement, smoothed(enhancement, tissue, smoothing_mm, spacing_mm))
    left = noise_hu(curves[:, tissue]) if measurable else np.nan

    inside = curves[:, mask]
    highest, when = np.empty(inside.shape[1], np.float32), np.empty(inside.shape[1], np.float32)
    times = sample_times(len(aif), interval_s, how)
    for start in range(0, inside.shape[1], _CHUNK):
        chunk = slice(start, start + _CHUNK)
        found = matrix @ inside[:, chunk]
        top = found.argmax(0)
        highest[chunk] = found[top, np.arange(len(top))]
        when[chunk] = times[top]
    cbf = 6000 * highest / density
    cbv = 100 * inside.sum(0) / aif.sum() / density
    with np.errstate(divide="ignore", invalid="ignore"):
        mtt = np.where((cbf > 0) & (cbv > 0), 60 * cbv / cbf, np.nan)
    return Maps(*(_placed(each, mask) for each in (cbf, cbv, mtt, when)), vessels, left, float(smoothing_mm))


def _placed(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    placed = np.full(mask.shape, np.nan, np.float32)
    placed[mask] = values
    return placed
