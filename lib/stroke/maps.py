"""Perfusion maps in physical units: blood flow, blood volume, transit time, time to maximum.

Core and hypoperfused tissue from perfusion maps, and their volumes.

What a clinic reads off a perfusion scan: the arterial curve, the maps, core against hypoperfused tissue.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter, label

from lib.inputs.volumes import Geometry
from lib.stroke.bolus import (
    FEWEST,
    ArterialInput,
    arterial_input,
    checked,
    inverse,
    noise_hu,
    sample_times,
    smoothed,
    smoothing_width,
)
from lib.stroke.perfusion import Prepared

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
        As of `lib.stroke.bolus.residue`.
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


CORE_RCBF = 0.30
HYPOPERFUSED_TMAX_S = 6.0
SMALLEST_ML = 0.5  # pieces below it are speckle of noise
TISSUE_HU = (17.0, 80.0)  # halfway between CSF and white matter; above any tissue without contrast


class Lesions(NamedTuple):
    """What the thresholds call ischaemic.

    Attributes
    ----------
    core, hypoperfused : bool (z, y, x); core lies within hypoperfused.
    core_ml, hypoperfused_ml, mismatch_ml : millilitres; mismatch is hypoperfused tissue outside the core.
    mismatch_ratio : hypoperfused over core volume; infinite without a core, NaN with neither.
    normal_side : "left" or "right" of the patient, "both" where nothing is hypoperfused.
    normal_cbf : ml/100 g/min, the mean that `core_rcbf` refers to: a median jumps between grey and white matter.
    removed_ml : millilitres above the threshold of Tmax in pieces smaller than `smallest_ml`.
    """

    core: np.ndarray
    hypoperfused: np.ndarray
    core_ml: float
    hypoperfused_ml: float
    mismatch_ml: float
    mismatch_ratio: float
    normal_side: str
    normal_cbf: float
    removed_ml: float


def lesion_volumes(
    maps: Maps,
    mask: np.ndarray,
    geometry: Geometry,
    core_rcbf: float = CORE_RCBF,
    tmax_s: float = HYPOPERFUSED_TMAX_S,
    smallest_ml: float = SMALLEST_ML,
) -> Lesions:
    """Core: CBF below a share of the normal side's and Tmax late. Hypoperfused: Tmax late.

    Parameters
    ----------
    maps : Maps
    mask : bool array (z, y, x)
        Brain tissue: CSF has no flow and would be taken for core, see `parenchyma`. Vessels are left out here.
    geometry : Geometry
        LPS axes (x to the patient's left) and spacing in mm.
    core_rcbf : float
        Share of the mean CBF of normal tissue: other side, Tmax not late. .30, as RAPID; .38 is the alternative. Noise
        raises low CBF, so .30 finds less than the core: half of it in phantoms at 2 to 3 HU, .38 three quarters.
    tmax_s : float
        s; tissue above it is hypoperfused.
    smallest_ml : float
        Connected pieces (faces) of less are dropped, of either; 0 keeps all.

    Returns
    -------
    Lesions

    Raises
    ------
    ValueError
        A mask of another shape or outside the maps, no normal tissue to compare with.

    References
    ----------
    Thresholds: doi 10.1038/s41598-023-48700-6; .38: Cereda et al., doi 10.1177/0271678X15610586.
    """
    tissue = _tissue(maps, mask)
    voxel_ml = geometry.voxel_ml
    late = tissue & (maps.tmax > tmax_s)
    hypoperfused = _large(late, smallest_ml / voxel_ml)
    left = _left_of_midline(mask)
    side, normal = normal_side(hypoperfused, left)
    reference = tissue & normal & ~late
    if not reference.any():
        raise ValueError(
            f"no tissue of the {side} side has Tmax up to {tmax_s} s, so nothing tells what flow is normal: check the "
            "arterial curve and the mask"
        )
    normal_cbf = float(maps.cbf[reference].mean(dtype=float))
    if not normal_cbf > 0:
        raise ValueError(
            f"the mean CBF of the {side} side is {normal_cbf:.2g}, it must be above 0: check the mask"
        )
    core = _large(hypoperfused & (maps.cbf < core_rcbf * normal_cbf), smallest_ml / voxel_ml)
    core_ml, hypoperfused_ml = float(core.sum() * voxel_ml), float(hypoperfused.sum() * voxel_ml)
    without_core = np.inf if hypoperfused_ml else np.nan
    return Lesions(
        core,
        hypoperfused,
        core_ml,
        hypoperfused_ml,
        hypoperfused_ml - core_ml,
        hypoperfused_ml / core_ml if core_ml else without_core,
        side,
        normal_cbf,
        float((late & ~hypoperfused).sum() * voxel_ml),
    )


def volume_table(
    maps: Maps,
    mask: np.ndarray,
    geometry: Geometry,
    rcbf: Sequence[float] = (0.20, 0.30, 0.34, 0.38),
    tmax_s: Sequence[float] = (4.0, 6.0, 8.0, 10.0),
    smallest_ml: float = SMALLEST_ML,
) -> pd.DataFrame:
    """Volumes at several thresholds: of CBF within Tmax > 6 s, and of Tmax.

    Returns
    -------
    DataFrame
        map ("rcbf" or "tmax"), threshold (share, or s), volume_ml.
    """
    rows = [
        (
            "rcbf",
            share,
            lesion_volumes(maps, mask, geometry, core_rcbf=share, smallest_ml=smallest_ml).core_ml,
        )
        for share in rcbf
    ]
    tissue, voxel_ml = _tissue(maps, mask), geometry.voxel_ml
    rows += [
        ("tmax", limit, _large(tissue & (maps.tmax > limit), smallest_ml / voxel_ml).sum() * voxel_ml)
        for limit in tmax_s
    ]
    return pd.DataFrame(rows, columns=["map", "threshold", "volume_ml"])


def parenchyma(
    baseline: np.ndarray, mask: np.ndarray, hu: tuple[float, float] = TISSUE_HU, width: float = 0.7
) -> np.ndarray:
    """The voxels of a mask that are brain rather than CSF or bone, by their HU before the contrast.

    Parameters
    ----------
    baseline : array (z, y, x)
        HU.
    mask : bool array (z, y, x)
    hu : (float, float)
        Lowest and highest HU of brain.
    width : float
        In-plane Gaussian against noise, standard deviation in voxels, within the mask.

    Returns
    -------
    bool array (z, y, x)
    """
    sigma = (0, width, width)
    weight = gaussian_filter(mask.astype(np.float32), sigma)
    smooth = gaussian_filter(np.where(mask, baseline, 0).astype(np.float32), sigma) / np.maximum(weight, 1e-6)
    return mask & (smooth >= hu[0]) & (smooth <= hu[1])


def normal_side(hypoperfused: np.ndarray, left: np.ndarray) -> tuple[str, np.ndarray]:
    """The side with less hypoperfused tissue, and which voxels lie on it.

    Returns
    -------
    (str, bool array (z, y, x))
        "left" or "right" of the patient, or "both" where none is hypoperfused.
    """
    on_left, on_right = (hypoperfused & left).sum(), (hypoperfused & ~left).sum()
    if not on_left and not on_right:
        return "both", np.ones_like(left)
    return ("left", left) if on_left < on_right else ("right", ~left)


def _left_of_midline(mask: np.ndarray) -> np.ndarray:
    """Which voxels lie on the patient's left of the plane through the middles of the mask's rows."""
    z, y, x = np.indices(mask.shape, sparse=True)
    rows = mask.any(2)
    first, last = mask.argmax(2)[rows], mask.shape[2] - 1 - mask[..., ::-1].argmax(2)[rows]
    at_z, at_y = np.nonzero(rows)
    # long rows say more about the middle than those at the poles
    weight = (last - first + 1.0)[:, None]
    design = np.column_stack([np.ones(len(at_z)), at_y - at_y.mean(), at_z - at_z.mean()])
    middle, per_y, per_z = np.linalg.lstsq(design * weight, (first + last) / 2 * weight[:, 0], rcond=None)[0]
    return x > middle + per_y * (y - at_y.mean()) + per_z * (z - at_z.mean())


def _tissue(maps: Maps, mask: np.ndarray) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.shape != maps.cbf.shape or mask.dtype != bool or not mask.any():
        raise ValueError(
            f"the mask ({mask.dtype} {mask.shape}, {np.count_nonzero(mask)} voxels) must be bool, not empty and of the "
            f"maps' shape {maps.cbf.shape}"
        )
    if outside := int((mask & ~np.isfinite(maps.cbf)).sum()):
        raise ValueError(
            f"the maps hold nothing in {outside} voxels of the mask: make them with a mask that covers it"
        )
    return mask & ~maps.vessels


def _large(found: np.ndarray, voxels: float) -> np.ndarray:
    """The pieces of at least so many voxels."""
    pieces, _ = label(found)
    large = np.bincount(pieces.ravel()) >= voxels
    large[0] = False
    return large[pieces]


class Mismatch(NamedTuple):
    """One scan, read."""

    artery: ArterialInput
    maps: Maps
    lesions: Lesions

    def told(self) -> dict[str, object]:
        """A row of volumes.csv: volumes in ml, the normal side, how the artery was found, the smoothing in mm."""
        row = {
            key: getattr(self.lesions, key)
            for key in ("core_ml", "hypoperfused_ml", "mismatch_ml", "normal_side")
        }
        artery = {"artery_factor": self.artery.factor, "artery_voxels": len(self.artery.voxels)}
        return {
            **row,
            **artery,
            "smoothing_mm": self.maps.smoothing_mm,
            "remarks": "; ".join(self.artery.remarks),
        }


def mismatch(
    scan: Prepared,
    lambda_: float = 0.1,
    how: str = "circulant",
    core_rcbf: float = 0.3,
    tmax_s: float = 6.0,
) -> Mismatch:
    """Find the artery, deconvolve, and measure core and hypoperfused tissue in the parenchyma.

    Parameters
    ----------
    scan : Prepared
    lambda_, how
        See `lib.stroke.bolus.residue`.
    core_rcbf, tmax_s
        See `lib.stroke.maps.lesion_volumes`.

    Raises
    ------
    ValueError
        No artery, or no normal tissue to compare with.
    """
    interval = float(np.diff(scan.seconds).mean())
    artery = arterial_input(scan.enhancement, scan.mask, interval)
    spacing = scan.geometry.spacing_mm
    maps = perfusion_maps(
        scan.enhancement, scan.mask, artery, interval, spacing_mm=spacing, lambda_=lambda_, how=how
    )
    tissue = parenchyma(scan.baseline, scan.mask)
    return Mismatch(artery, maps, lesion_volumes(maps, tissue, scan.geometry, core_rcbf, tmax_s))
