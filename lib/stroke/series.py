"""CT perfusion as a film of volumes: read from 4D NIfTI and written; and what the networks read of it, in HDF5.

Another kind of file needs another reader that returns a `Series`; nothing behind it asks where a film came from.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pandas as pd
import SimpleITK as sitk

from lib.files import opened, written_hdf5
from lib.inputs import volumes
from lib.inputs.volumes import AIR_HU, Geometry, geometry_of, image_of, upright, values_of

SHORTEST_S, LONGEST_S = 0.05, 20.0
"""Seconds between frames that CT perfusion may have; a header outside says something else (1400 is ms)."""

AGREE = 0.01  # share by which two intervals may differ: headers and tables round


class Series(NamedTuple):
    """Volumes taken one after another, in equal steps.

    `values` float32 (frames, z, y, x) in HU, on axes to the patient's left, back and crown; their grid; seconds between
    frames; `stored_as`, the orientation of the file's axes, "RAS" for example, "" where there was no file.
    """

    values: np.ndarray
    geometry: Geometry
    interval_s: float
    stored_as: str = ""

    @property
    def seconds(self) -> np.ndarray:
        """When each frame was taken, counted from the first, float64 (frames,)."""
        return self.interval_s * np.arange(len(self.values))

    @property
    def facts(self) -> dict:
        """What the log of a reading says: grid, orientation, frames and interval."""
        names = ("size", "spacing_mm", "origin_mm", "direction")
        grid = {name: np.round(getattr(self.geometry, name), 6).tolist() for name in names}
        how = {"orientation": self.geometry.orientation, "stored_as": self.stored_as}
        how |= {"tilt_deg": round(self.geometry.tilt_deg, 3), "frames": len(self.values)}
        return grid | how | {"interval_s": round(self.interval_s, 6)}


def read_series(path: str | os.PathLike, interval_s: float | None = None, oblique: str = "refuse") -> Series:
    """Read a series of volumes, 4D NIfTI in any orientation.

    Parameters
    ----------
    path : path
        .nii or .nii.gz of axes x, y, z, frames; a single fourth axis before the frames (ISLES 2018) is passed over.
    interval_s : float, optional
        Seconds between frames, where the header does not say.
    oblique : "refuse" | "keep" | "resample"
        See `lib.inputs.volumes.upright`.

    Raises
    ------
    FileNotFoundError
    ValueError
        One volume instead of a series; interval unknown, or contradicted by the header; damaged, oblique, NaN.
    """
    image = volumes.opened(path)
    size = image.GetSize()
    if len(size) < 4 or size[-1] < 2 or (len(size) == 5 and size[3] != 1):
        sides = " x ".join(map(str, size))
        raise ValueError(f"{path} has {sides} voxels: CT perfusion is a series of volumes (x, y, z, frames)")
    interval_s, values = interval_of(path, interval_s), None
    for number in range(size[-1]):
        frame = image[:, :, :, number] if len(size) == 4 else image[:, :, :, 0, number]
        stored_as = geometry_of(frame).orientation
        frame = upright(frame, path, oblique, AIR_HU)
        if values is None:
            geometry = geometry_of(frame)
            values = np.empty((size[-1], *geometry.size[::-1]), dtype=np.float32)
        values[number] = values_of(frame, path)
    return Series(values, geometry, interval_s, stored_as)


def interval_of(path: str | os.PathLike, given: float | None = None) -> float:
    """Seconds between frames by a NIfTI header and by what the user says, which must not contradict each other.

    pixdim[4] in the unit of xyzt_units; where the header names no unit of time, seconds are meant. ITK reads 0 ("not
    known") as 1; this does not. A fifth axis that holds the frames behind a single fourth has its own pixdim[5].
    """
    header = nibabel.load(path).header
    unit = header.get_xyzt_units()[1]
    axes = [4, 5] if header["dim"][0] == 5 and header["dim"][4] == 1 else [4]
    numbers = {f"pixdim[{axis}]": float(header["pixdim"][axis]) for axis in axes}
    seconds = [number * {"msec": 1e-3, "usec": 1e-6}.get(unit, 1.0) for number in numbers.values()]
    usable = [one for one in seconds if SHORTEST_S <= one <= LONGEST_S]
    if usable and max(usable) - min(usable) <= AGREE * max(usable):
        stated = round(usable[0], 6)  # float32 in the header: 1.41 is 1.40999997
        if given and abs(stated - given) > AGREE * given:
            both = f"{stated:g} s between frames and the parameters {given:g} s"
            raise ValueError(f"{path}: its header says {both}: find out which is right, then correct it")
        return float(given or stated)
    if not given:
        words = " and ".join(f"{name} = {number:g}" for name, number in numbers.items())
        words += f" ({unit}): give interval_s, in seconds"
        raise ValueError(f"{path}: the time between frames is not known, its header says {words}")
    return float(given)


def write_series(path: str | os.PathLike, series: Series, dtype: str = "float32") -> None:
    """Write a series atomically as 4D NIfTI, its interval in pixdim[4] in seconds; types as in `write_volume`."""
    frames = volumes.stored(series.values, dtype, path)
    images = [image_of(frame, series.geometry) for frame in frames]
    volumes.write_image(path, sitk.JoinSeries(images, 0.0, series.interval_s))


def write_series_features(path: str | os.PathLike, series: np.ndarray) -> None:
    """Write what the networks read of a scan, (frames, h, w, z), as float16, atomically."""
    with np.errstate(over="ignore"):
        stored = series.astype(np.float16)
    if series.ndim != 4 or not np.isfinite(stored).all():
        words = f"this has the shape {series.shape} and values from {series.min():g} to {series.max():g}"
        raise ValueError(f"{path} not written: a series is (frames, h, w, z), finite, within 65,504; {words}")
    with written_hdf5(path) as file:
        file["series"] = stored


def read_series_features(path: str | os.PathLike) -> np.ndarray:
    """Read them back, float32 (frames, h, w, z)."""
    with opened(path, "a series", "run 2-embed again") as file:
        return file["series"][:].astype(np.float32)


def read_facts(folder: str | os.PathLike, names: Sequence[str]) -> pd.DataFrame:
    """What was written beside each patient's file, one row a patient."""
    facts = [pd.read_json(Path(folder) / f"{name}.json", typ="series") for name in names]
    return pd.DataFrame(facts, index=pd.Index(names, name="patient"))
