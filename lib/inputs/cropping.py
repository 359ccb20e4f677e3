"""Grids to crop, pad and resample to: so many voxels around a region, of the scan's spacing or another."""

import numpy as np
import SimpleITK as sitk

from lib.inputs.geometry import Geometry, brought_onto, image_of

MULTIPLE = 16  # the network halves each side four times


def grid_around(
    mask: np.ndarray,
    geometry: Geometry,
    spacing_mm: tuple[float, float, float] | None,
    size: tuple[int | None, int | None, int | None],
) -> Geometry:
    """The grid centred on the bounding box of a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (z, y, x)
        On `geometry`, not empty.
    geometry : Geometry
    spacing_mm : (x, y, z), optional
        None keeps the scan's, and then voxels fall onto the scan's voxels.
    size : (x, y, z)
        Voxels, multiples of 16; None covers the whole scan in that direction, padded to the next multiple.

    Returns
    -------
    Geometry
        In the direction of `geometry`.

    Raises
    ------
    ValueError
        A size that is no multiple of 16, a spacing that is not above 0.
    """
    if wrong := [each for each in size if each is not None and (each < MULTIPLE or each % MULTIPLE)]:
        raise ValueError(
            f"sizes must be multiples of {MULTIPLE}, the network halves them four times: not {wrong[0]}"
        )
    if spacing_mm is not None and not min(spacing_mm) > 0:
        raise ValueError(f"a spacing of {spacing_mm} mm cannot be: give x, y and z above 0")
    old = np.asarray(geometry.spacing_mm)
    new = old if spacing_mm is None else np.asarray(spacing_mm, dtype=float)
    first = np.empty(3)
    voxels = []
    for axis in range(3):  # x, y, z
        there = np.flatnonzero(mask.any(tuple(k for k in range(3) if k != 2 - axis)))
        low, high = (0, geometry.size[axis] - 1) if size[axis] is None else (there[0], there[-1])
        covered = geometry.size[axis] * old[axis] / new[axis]
        n = size[axis] or MULTIPLE * int(np.ceil(round(covered / MULTIPLE, 6)))
        first[axis] = (low + high) / 2 - (n - 1) / 2 * new[axis] / old[axis]
        voxels.append(n)
    if spacing_mm is None:
        first = np.ceil(first - 0.5)
    origin = geometry.points(first[None])[0]
    return Geometry(tuple(new.tolist()), tuple(origin.tolist()), tuple(geometry.direction), tuple(voxels))


def laid_onto(values: np.ndarray, geometry: Geometry, grid: Geometry, outside: float) -> np.ndarray:
    """A volume on another grid: cropped and padded where voxels coincide, else interpolated linearly.

    Parameters
    ----------
    values : ndarray of float32 or bool, shape (z, y, x)
        A mask is taken from the nearest voxel.
    geometry, grid : Geometry
        Of the volume; to bring it onto.
    outside : float
        Value beyond the volume.

    Returns
    -------
    ndarray of the same type, shape (z, y, x) of `grid`
    """
    if (shift := _whole_shift(geometry, grid)) is None:
        how = sitk.sitkNearestNeighbor if values.dtype == bool else sitk.sitkLinear
        brought = brought_onto(image_of(values, geometry), grid, outside, how)
        return sitk.GetArrayFromImage(brought).astype(values.dtype)
    laid = np.full(grid.size[::-1], outside, dtype=values.dtype)
    source, target = [], []
    for start, old, new in zip(shift[::-1], geometry.size[::-1], grid.size[::-1], strict=True):
        low, high = max(start, 0), min(start + new, old)
        source.append(slice(low, max(high, low)))
        target.append(slice(low - start, max(high, low) - start))
    laid[tuple(target)] = values[tuple(source)]
    return laid


def _whole_shift(geometry: Geometry, grid: Geometry) -> list[int] | None:
    """Voxels (x, y, z) by which one grid starts after the other, None where they do not coincide."""
    if not np.allclose(geometry.spacing_mm, grid.spacing_mm, rtol=1e-6):
        return None
    if not np.allclose(geometry.direction, grid.direction, atol=1e-6):
        return None
    turn = np.reshape(geometry.direction, (3, 3)).T
    shift = turn @ np.subtract(grid.origin_mm, geometry.origin_mm) / geometry.spacing_mm
    whole = np.rint(shift)
    return whole.astype(int).tolist() if np.abs(shift - whole).max() < 1e-3 else None
