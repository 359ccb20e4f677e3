"""What a clinic reads off a perfusion scan: core against hypoperfused tissue, and their volumes."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, label

from lib.inputs.volumes import Geometry
from lib.stroke.maps import ArterialInput, Maps, arterial_input, perfusion_maps
from lib.stroke.perfusion import Prepared

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
    hypoperfused = _large(late, SMALLEST_ML / voxel_ml)
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
    core = _large(hypoperfused & (maps.cbf < core_rcbf * normal_cbf), SMALLEST_ML / voxel_ml)
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
    at_z, at_y = np.nonzero(rows)
    # long rows say more about the middle than those at the poles
    weight = (last - first + 1.0)[:, None]
    design = np.column_stack([np.ones(len(at_z)), at_y - at_y.mean(), at_z - at_z.mean()])
    middle, per_y, per_z = np.linalg.lstsq(design * weight, (first + last) / 2 * weight[:, 0], rcond=None)[0]
    return x > middle + per_y * (y - at_y.mean()) + per_z * (z - at_z.mean())


def _large(voxels: np.ndarray, least: float) -> np.ndarray:
    """The connected pieces of at least so many voxels."""
    pieces, _ = label(voxels)
    large = np.bincount(pieces.ravel()) >= least
    large[0] = False
    return large[pieces]
