"""Which voxels of an unenhanced head CT are brain: soft tissue inside the skull."""

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter, label

from lib.inputs.geometry import Geometry


def tissue_mask(
    baseline: np.ndarray,
    geometry: Geometry,
    hu: tuple[float, float] = (1.0, 100.0),
    blur_mm: float = 1.0,
    erosion_mm: float = 1.0,
) -> np.ndarray:
    """Blur in the slice, keep a range of HU, take off the rim, keep the largest connected part.

    The order of ISLES24-PrediCTP's preprocessing (kimberly-amador, Apache-2.0), with widths in mm, so that
    they mean the same on every grid: a rim thinner than half a voxel's way is not taken off.

    Parameters
    ----------
    baseline : ndarray, shape (z, y, x)
        HU before contrast arrives.
    geometry : Geometry
    hu : (low, high)
        Soft tissue and fluid, both ends included; fat and air lie below, bone and calcium above.
    blur_mm : float
        Standard deviation of the Gaussian within a slice, mm; 0 leaves it.
    erosion_mm : float
        Voxels nearer than this to something that is no tissue are taken off, mm: cuts scalp and orbits off the brain.
        What lies beyond the scan counts as tissue.

    Returns
    -------
    ndarray of bool, shape (z, y, x)

    Raises
    ------
    ValueError
        No voxel is left.
    """
    x, y, _ = geometry.spacing_mm
    smooth = np.asarray(baseline, dtype=np.float32)
    if blur_mm:
        smooth = gaussian_filter(smooth, (0, blur_mm / y, blur_mm / x), mode="nearest")
    tissue = (smooth >= hu[0]) & (smooth <= hu[1])
    if not tissue.any():
        raise ValueError(
            f"no voxel of the baseline lies within {hu[0]:g} to {hu[1]:g} HU (it reaches from {np.min(baseline):g} to "
            f"{np.max(baseline):g}): is the series in Hounsfield units?"
        )
    if erosion_mm and not tissue.all():
        tissue = _eroded(tissue, geometry, erosion_mm)
    parts, number = label(tissue)
    if not number:
        raise ValueError(
            f"no tissue is left after taking off a rim of {erosion_mm:g} mm: set erosion_mm lower"
        )
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()


def _eroded(tissue: np.ndarray, geometry: Geometry, erosion_mm: float) -> np.ndarray:
    """Tissue farther than that from anything else, centre to centre."""
    ((*box,),) = find_objects(tissue.astype(np.uint8))
    # one voxel more around: what is next to the box is no tissue, or beyond the scan
    box = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in box)
    kept = np.zeros_like(tissue)
    kept[box] = distance_transform_edt(tissue[box], sampling=geometry.spacing_mm[::-1]) > erosion_mm
    return kept
