"""Volumes and series of volumes: CT in Hounsfield units on a grid in the patient, whatever way the file stores it.

Arrays have SimpleITK's order, (z, y, x) and (frames, z, y, x), and lie LPS: x grows to the patient's left, y to
posterior, z to superior.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from lib.inputs import frame_times
from lib.inputs.geometry import Geometry, brought_onto, geometry_of, image_of, same_grid
from lib.inputs.volume_files import (
    AIR_HU,
    frames_of,
    is_nifti,
    opened,
    upright,
    values_of,
    write_image,
)


class Volume(NamedTuple):
    """A volume: values float32 (z, y, x), HU where it is CT; its grid; how the file had its axes."""

    values: np.ndarray
    geometry: Geometry
    stored_as: str = ""


class Series(NamedTuple):
    """Volumes taken one after another.

    Attributes
    ----------
    values : ndarray of float32, shape (frames, z, y, x)
        HU.
    geometry : Geometry
    seconds : ndarray of float64, shape (frames,)
        Since the first frame; equal steps.
    stored_as : str
        Orientation of the file's axes, "RAS" for example; "" where there was no file.
    """

    values: np.ndarray
    geometry: Geometry
    seconds: np.ndarray
    stored_as: str = ""

    @property
    def interval_s(self) -> float:
        """Seconds between frames.

        Raises
        ------
        ValueError
            Frames are not in equal steps.
        """
        if bad := frame_times.irregularity(np.asarray(self.seconds, dtype=float)):
            raise ValueError(f"{bad}; read_series interpolates with regular=True")
        return frame_times.regular_interval(np.asarray(self.seconds, dtype=float))


def read_volume(path: str | os.PathLike, oblique: str = "refuse") -> Volume:
    """Read one volume (.nii, .nii.gz, .nrrd, .mha) in any orientation.

    Parameters
    ----------
    path : path
    oblique : "refuse" | "keep" | "resample"
        See `lib.inputs.volume_files.upright`.

    Returns
    -------
    Volume

    Raises
    ------
    FileNotFoundError
    ValueError
        Damaged, oblique, NaN, or several frames.
    """
    image = _single(opened(path), path)
    turned = upright(image, path, oblique, AIR_HU)
    return Volume(values_of(turned, path), geometry_of(turned), geometry_of(image).orientation)


def read_mask(path: str | os.PathLike, like: Geometry, resample: bool = False) -> np.ndarray:
    """Read a mask that belongs to a volume: true where the file is above 0.

    Parameters
    ----------
    path : path
    like : Geometry
        Of the volume.
    resample : bool
        Bring a mask from another grid over by its place in the patient, nearest neighbour; else that is refused.

    Returns
    -------
    ndarray of bool, shape (z, y, x)
        May be empty (no lesion).

    Raises
    ------
    FileNotFoundError
    ValueError
        Another grid; values that are no whole numbers of 0 or more; nothing of the mask falls inside the volume.
    """
    image = upright(_single(opened(path), path), path, "keep", 0)
    values = values_of(image, path)
    if (values < 0).any() or (values != np.rint(values)).any():
        raise ValueError(
            f"{path} is no mask: its values reach from {values.min():g} to {values.max():g}, "
            "whole numbers of 0 or more are expected"
        )
    mask, grid = values > 0, geometry_of(image)
    if same_grid(grid, like):
        return mask
    if not resample:
        raise ValueError(
            f"{path} lies on another grid than its volume: the mask has {grid}; the volume has {like}. "
            "Give the mask of this volume, or resample=True to bring it over"
        )
    brought = (
        sitk.GetArrayFromImage(brought_onto(image_of(mask, grid), like, 0, sitk.sitkNearestNeighbor)) > 0
    )
    if mask.any() and not brought.any():
        raise ValueError(
            f"{path}: no voxel of the mask falls inside the volume ({grid}; the volume has {like})"
        )
    return brought


def read_series(
    path: str | os.PathLike,
    interval_s: float | None = None,
    seconds: Sequence[float] | np.ndarray | str | os.PathLike | None = None,
    *,
    regular: bool = False,
    oblique: str = "refuse",
    ignore_header: bool = False,
) -> Series:
    """Read a series of volumes, 4D NIfTI in any orientation.

    Parameters
    ----------
    path : path
        .nii or .nii.gz of axes x, y, z, frames; a single fourth axis before the frames (ISLES 2018) is passed over.
    interval_s : float, optional
        Seconds between frames, where the header does not say (pixdim[4] of 0, or outside 0.05 to 20 s).
        With `regular`, the step to interpolate to.
    seconds : sequence of float, or path of a .json or .csv, optional
        When each frame was taken; see `lib.inputs.frame_times.read_seconds`.
    regular : bool
        Bring frames out of order or at unequal times into order and, linearly, onto equal steps; else those are
        refused.
    oblique : "refuse" | "keep" | "resample"
        See `lib.inputs.volume_files.upright`.
    ignore_header : bool
        Do not compare `interval_s` or `seconds` with a header that is known to be wrong.

    Returns
    -------
    Series

    Raises
    ------
    FileNotFoundError
    ValueError
        One volume instead of a series; interval unknown or contradicted; frames out of order or irregular; damaged,
        oblique, NaN.
    """
    if not is_nifti(path):
        raise ValueError(
            f"{path}: a series is read from .nii or .nii.gz, whose header tells the time of its frames"
        )
    image = opened(path)
    size = image.GetSize()
    if len(size) < 4 or size[-1] < 2 or (len(size) == 5 and size[3] != 1):
        raise ValueError(
            f"{path} has {' x '.join(map(str, size))} voxels: CT perfusion is a series of volumes, "
            "axes x, y, z, frames, with at least two frames"
        )
    stored_as = geometry_of(next(frames_of(image))).orientation
    times, step = frame_times.clock_of(path, size[-1], interval_s, seconds, regular, ignore_header)
    values = None
    for number, frame in enumerate(frames_of(image)):
        frame = upright(frame, path, oblique, AIR_HU)
        if values is None:
            geometry = geometry_of(frame)
            values = np.empty((size[-1], *geometry.size[::-1]), dtype=np.float32)
        values[number] = values_of(frame, path)
    if step is not None:
        values, times = frame_times.on_a_clock(values, times, step)
    return Series(values, geometry, times - times[0], stored_as)


def write_volume(path: str | os.PathLike, volume: Volume, dtype: str = "float32") -> None:
    """Write a volume or a mask atomically as .nii or .nii.gz.

    Parameters
    ----------
    path : path
    volume : Volume
        Any orientation.
    dtype : "float32" | "int16" | "uint8"
        Whole-number types are rounded to; what does not fit is refused.

    Raises
    ------
    ValueError
    """
    write_image(path, image_of(_stored(volume.values, dtype, path), volume.geometry))


def write_series(path: str | os.PathLike, series: Series, dtype: str = "float32") -> None:
    """Write a series atomically as 4D NIfTI, its interval in pixdim[4] in seconds.

    Parameters
    ----------
    path : path
        .nii or .nii.gz.
    series : Series
        Any orientation; equal steps.
    dtype : "float32" | "int16"
        int16 rounds to whole HU.

    Raises
    ------
    ValueError
        Irregular times, a shape that is not the grid's, values that do not fit.
    """
    interval, grid = series.interval_s, series.geometry
    if series.values.shape != (len(series.seconds), *grid.size[::-1]):
        raise ValueError(
            f"{path} not written: values {series.values.shape} are not {len(series.seconds)} frames on {grid}"
        )
    image = sitk.GetImageFromArray(_stored(series.values, dtype, path), isVector=False)
    direction = np.eye(4)
    direction[:3, :3] = np.reshape(grid.direction, (3, 3))
    image.SetSpacing((*grid.spacing_mm, interval))
    image.SetOrigin((*grid.origin_mm, 0.0))
    image.SetDirection(direction.ravel().tolist())
    write_image(path, image)


def describe(series: Series) -> dict:
    """What the log of a reading says: grid, orientation, frames and interval."""
    grid = series.geometry
    return {
        "size": list(grid.size),
        "spacing_mm": [round(number, 6) for number in grid.spacing_mm],
        "origin_mm": [round(number, 6) for number in grid.origin_mm],
        "direction": [round(number, 6) for number in grid.direction],
        "orientation": grid.orientation,
        "stored_as": series.stored_as,
        "tilt_deg": round(grid.tilt_deg, 3),
        "frames": len(series.values),
        "interval_s": round(series.interval_s, 6),
    }


def _single(image: sitk.Image, path: str | os.PathLike) -> sitk.Image:
    """The one volume of an image."""
    size = image.GetSize()
    if len(size) == 4 and size[3] == 1:
        return next(frames_of(image))
    if len(size) != 3:
        raise ValueError(f"{path} has {' x '.join(map(str, size))} voxels: one volume (x, y, z) is expected")
    return image


def _stored(values: np.ndarray, dtype: str, path: str | os.PathLike) -> np.ndarray:
    """Values in the type of the file."""
    if not np.isfinite(values).all():
        raise ValueError(f"{path} not written: values are NaN or infinite")
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return np.ascontiguousarray(values, dtype=kind)
    low, high = float(values.min()), float(values.max())
    if low < np.iinfo(kind).min - 0.5 or high > np.iinfo(kind).max + 0.5:
        raise ValueError(f"{path} not written: values from {low:g} to {high:g} do not fit {dtype}")
    return np.rint(values).astype(kind)
