"""Grids in space: where the voxels of a volume lie in the patient, in mm.

Coordinates are DICOM's and SimpleITK's: x grows to the patient's left, y to posterior, z to superior (LPS). NIfTI's own
(RAS) has x and y the other way round; SimpleITK turns them on reading.
"""

import itertools
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

OBLIQUE_DEG = 1.0
"""Tilt from which a grid counts as oblique, degrees; below it is rounding, or a head not held quite straight."""

SAME_GRID = 0.05
"""Grids whose corners lie within this share of a voxel's shortest side are one grid: headers round to float32."""


class Geometry(NamedTuple):
    """The grid of a volume.

    Attributes
    ----------
    spacing_mm : tuple of 3 floats
        Distance of neighbouring voxels along x, y, z, mm.
    origin_mm : tuple of 3 floats
        Centre of the first voxel, LPS, mm.
    direction : tuple of 9 floats
        3 x 3 cosines, row by row; column k is the direction in which index k grows. The identity is LPS.
    size : tuple of 3 ints
        Voxels along x, y, z: an array of the grid has the shape `size[::-1]`.
    """

    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: tuple[float, ...]
    size: tuple[int, int, int]

    @property
    def orientation(self) -> str:
        """Where x, y and z grow to, as three letters: LPS is left, posterior, superior."""
        return sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(self.direction)

    @property
    def tilt_deg(self) -> float:
        """Largest angle between an axis of the grid and the patient's axis nearest to it, degrees."""
        cosines = np.abs(np.reshape(self.direction, (3, 3))).max(0)
        return float(np.degrees(np.arccos(np.minimum(cosines, 1))).max())

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, ml."""
        return float(np.prod(self.spacing_mm)) / 1000

    def points(self, indices: np.ndarray) -> np.ndarray:
        """Places (n, 3) in mm, LPS, of voxel indices (n, 3) in the order x, y, z; fractions allowed."""
        steps = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing_mm)
        return np.asarray(self.origin_mm) + np.asarray(indices, dtype=float) @ steps.T

    def __str__(self) -> str:
        """In words, for messages."""
        size, spacing, origin = (
            sep.join(f"{number:.6g}" for number in numbers)
            for sep, numbers in ((" x ", self.size), (" x ", self.spacing_mm), (", ", self.origin_mm))
        )
        return f"{size} voxels of {spacing} mm, {self.orientation}, first at ({origin}) mm"


def geometry_of(image: sitk.Image) -> Geometry:
    """The grid of a three-dimensional SimpleITK image."""
    return Geometry(image.GetSpacing(), image.GetOrigin(), image.GetDirection(), image.GetSize())


def image_of(values: np.ndarray, geometry: Geometry) -> sitk.Image:
    """A SimpleITK image of an array (z, y, x) on its grid; bool becomes uint8.

    Raises
    ------
    ValueError
        The array's shape is not the grid's.
    """
    if values.shape != geometry.size[::-1]:
        raise ValueError(f"an array (z, y, x) of shape {values.shape} does not lie on {geometry}")
    image = sitk.GetImageFromArray(values.astype(np.uint8) if values.dtype == bool else values)
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(geometry.direction)
    return image


def same_grid(one: Geometry, other: Geometry) -> bool:
    """Whether two grids have as many voxels, at the same places (to `SAME_GRID` of a voxel)."""
    if tuple(one.size) != tuple(other.size):
        return False
    corners = corners_of(one)
    apart = np.linalg.norm(one.points(corners) - other.points(corners), axis=1)
    return bool(apart.max() <= SAME_GRID * min(*one.spacing_mm, *other.spacing_mm))


def corners_of(geometry: Geometry) -> np.ndarray:
    """Indices (8, 3) of the outermost voxels."""
    return np.array(list(itertools.product(*((0, n - 1) for n in geometry.size))))


def straightened(geometry: Geometry) -> Geometry:
    """The grid along the patient's axes that covers an oblique one, with its spacing."""
    places = geometry.points(corners_of(geometry))
    low, high = places.min(0), places.max(0)
    size = np.ceil((high - low) / geometry.spacing_mm - 1e-6).astype(int) + 1
    return Geometry(geometry.spacing_mm, tuple(low.tolist()), tuple(np.eye(3).ravel()), tuple(size.tolist()))


def brought_onto(image: sitk.Image, grid: Geometry, outside: float, how: int = sitk.sitkLinear) -> sitk.Image:
    """An image sampled where the voxels of another grid lie: linear, or `sitk.sitkNearestNeighbor` for a mask.

    Parameters
    ----------
    image : sitk.Image
        Three-dimensional.
    grid : Geometry
    outside : float
        Value of voxels more than half a voxel outside the image.
    how : int
        SimpleITK's interpolator.
    """
    return sitk.Resample(
        image, grid.size, sitk.Transform(), how, grid.origin_mm, grid.spacing_mm, grid.direction, outside
    )
