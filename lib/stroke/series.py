"""CT perfusion read from files of any kind, and written; and what the networks read of it, in HDF5."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import SimpleITK as sitk
from pydicom.misc import is_dicom

from lib.files import opened, written_hdf5
from lib.inputs import volumes
from lib.inputs.volumes import (
    AIR_HU,
    geometry_of,
    image_of,
    is_nifti,
    read_volume,
    remarks,
    same_grid,
    sidecar_of,
    upright,
    values_of,
)
from lib.stroke.dicom_film import past_midnight, read_dicom_film, seconds_of
from lib.stroke.film import AGREE, LONGEST_S, SHORTEST_S, UNSTATED, Series, timed

TIMES = ("FrameTimesStart", "VolumeTiming")


def read_series(
    path: str | os.PathLike, interval_s: float | None = None, oblique: str = "refuse", series: str = ""
) -> Series:
    """Read a film of CT perfusion.

    `path` is a 4D NIfTI (x, y, z, frames; a single fourth axis before the frames, as in ISLES 2018, is passed over), with
    dcm2niix's sidecar beside it where there is one; a folder of 3D NIfTI, one a frame; a folder of DICOM, or one file of many
    frames (see `lib.stroke.dicom_film`); in any orientation. `interval_s` is the seconds between frames, where the files do
    not say: what they say must agree with it. For `oblique` see `lib.inputs.volumes.upright`. `series` is number, description or
    SeriesInstanceUID, where a folder of DICOM holds several films.

    A ValueError for one volume instead of a film; times unknown or contradictory; damaged, oblique, NaN; and see
    `lib.stroke.film.timed`.
    """
    with remarks(path) as said:
        film = _read(Path(path), interval_s, oblique, series)
    return film._replace(notes=(*said, *film.notes))


def _read(path: Path, interval_s: float | None, oblique: str, series: str) -> Series:
    if not path.is_dir():
        is_one_file = path.is_file() and is_dicom(path)  # of many frames
        return (
            read_dicom_film(path, interval_s, oblique, series)
            if is_one_file
            else _read_4d(path, interval_s, oblique)
        )
    files = [each for each in sorted(path.iterdir()) if is_nifti(each) and not each.name.startswith(".")]
    if not files:
        return read_dicom_film(path, interval_s, oblique, series)
    if len(files) == 1:
        return _read_4d(files[0], interval_s, oblique)
    return _read_3d(path, files, interval_s, oblique)


def _read_4d(path: Path, interval_s: float | None, oblique: str) -> Series:
    image = volumes.opened(path)
    size = image.GetSize()
    if len(size) < 4 or size[-1] < 2 or (len(size) == 5 and size[3] != 1):
        sides = " x ".join(map(str, size))
        raise ValueError(f"{path} has {sides} voxels: CT perfusion is a series of volumes (x, y, z, frames)")
    seconds, notes = _times_of(path, size[-1], interval_s)
    frames = (image[:, :, :, n] if len(size) == 4 else image[:, :, :, 0, n] for n in range(size[-1]))
    values = None
    for number, frame in enumerate(frames):
        stored_as = geometry_of(frame).orientation
        frame = upright(frame, path, oblique, AIR_HU)
        if values is None:
            geometry = geometry_of(frame)
            values = np.empty((size[-1], *geometry.size[::-1]), dtype=np.float32)
        values[number] = values_of(frame, path)
    values, interval_s, more = timed(values, seconds, path)
    return Series(values, geometry, interval_s, stored_as, (*notes, *more))


def _times_of(path: Path, frames: int, given: float | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """When the frames of a 4D NIfTI were taken, s, by its sidecar or else by its interval."""
    sidecar, beside = sidecar_of(path), "its sidecar"
    repetition = sidecar.get("RepetitionTime")
    repetition = float(repetition) if isinstance(repetition, int | float) else None
    times = next((sidecar[name] for name in TIMES if isinstance(sidecar.get(name), list)), None)
    if times is None:
        if repetition and given and abs(repetition - given) > AGREE * given:
            raise ValueError(
                f"{path}: {beside} says {repetition:g} s between frames and interval_s {given:g} s"
            )
        return interval_of(path, given or repetition) * np.arange(frames), ()
    seconds = np.asarray(times, dtype=float)
    if seconds.shape != (frames,) or not np.isfinite(seconds).all():
        raise ValueError(f"{path}: {beside} has times of {len(times)} frames, and the file has {frames}")
    steps, notes = np.diff(np.sort(seconds)), []
    usual = (float(steps.mean()), *np.quantile(steps, [0, 0.5, 1]).tolist())
    header = _header_says(path)[0]
    for name, stated in {"its header": header, "RepetitionTime": repetition, "interval_s": given}.items():
        if stated and not any(abs(stated - one) <= AGREE * one for one in usual):
            said = f"says {stated:g} s between frames and {beside} has times {usual[1]:g} to {usual[3]:g} s apart"
            if name != "its header" or stated != 1:  # what software writes there that does not know
                raise ValueError(f"{path}: {name} {said}: find out which is right, then correct the other")
            notes.append(f"{name} {said}: the latter were taken")
    return seconds, tuple(notes)


def _header_says(path: Path) -> tuple[float | None, str]:
    """Seconds between frames by a NIfTI header, None where it does not say; and its words.

    pixdim[4] in the unit of xyzt_units; where the header names no unit of time, seconds are meant, but 1 without a
    unit is what software writes that does not know. ITK reads 0 ("not known") as 1; this does not. A fifth axis that
    holds the frames behind a single fourth has its own pixdim[5].
    """
    header = nibabel.load(path).header
    unit = header.get_xyzt_units()[1]
    axes = [4, 5] if header["dim"][0] == 5 and header["dim"][4] == 1 else [4]
    numbers = {f"pixdim[{axis}]": float(header["pixdim"][axis]) for axis in axes}
    seconds = [number * {"msec": 1e-3, "usec": 1e-6}.get(unit, 1.0) for number in numbers.values()]
    usable = [one for one in seconds if SHORTEST_S <= one <= LONGEST_S and (one != 1 or unit != "unknown")]
    words = " and ".join(f"{name} = {number:g}" for name, number in numbers.items())
    words = f"its header says {words} ({unit})"
    agree = usable and max(usable) - min(usable) <= AGREE * max(usable)
    return round(usable[0], 6) if agree else None, words  # float32 in the header: 1.41 is 1.40999997


def interval_of(path: str | os.PathLike, given: float | None = None) -> float:
    """Seconds between frames by a NIfTI header and by what the user says, which must not contradict each other."""
    stated, words = _header_says(Path(path))
    if stated and given and abs(stated - given) > AGREE * given:
        both = f"{stated:g} s between frames and the parameters {given:g} s"
        raise ValueError(f"{path}: its header says {both}: find out which is right, then correct it")
    if not (given or stated):
        raise ValueError(f"{path}: {UNSTATED.format(words)}")
    return float(given or stated)


def _read_3d(folder: Path, files: list[Path], interval_s: float | None, oblique: str) -> Series:
    """A folder of volumes: in the order of AcquisitionTime in their sidecars, else of the one number that counts them."""
    times = _times_of_files(folder, files, interval_s)
    files = sorted(files, key=times.get)
    frames = [read_volume(path, oblique) for path in files]
    geometry = frames[0].geometry
    for path, one in zip(files, frames, strict=True):
        if not same_grid(one.geometry, geometry):
            raise ValueError(f"{path} lies on another grid than {files[0].name}: {one.geometry}; {geometry}")
    seconds = np.array([times[path] for path in files])
    values, interval_s, notes = timed(np.stack([one.values for one in frames]), seconds, folder)
    return Series(values, geometry, interval_s, frames[0].stored_as, notes)


def _times_of_files(folder: Path, files: list[Path], given: float | None) -> dict[Path, float]:
    clocks = [seconds_of(sidecar_of(path).get("AcquisitionTime")) for path in files]
    if None not in clocks and len(set(clocks)) == len(clocks):
        seconds = past_midnight(np.array(clocks))
        mean = float(np.ptp(seconds)) / (len(files) - 1)
        if given and abs(mean - given) > AGREE * given:
            raise ValueError(
                f"{folder}: AcquisitionTime says {mean:g} s between frames and interval_s {given:g} s"
            )
        return dict(zip(files, seconds, strict=True))
    counted = [
        [int(digits) for digits in re.findall(r"\d+", re.sub(r"\.nii(\.gz)?$", "", f.name))] for f in files
    ]
    table = np.array(counted) if len({len(one) for one in counted}) == 1 else np.zeros((len(files), 0))
    varies = [column for column in table.T if len(np.unique(column)) == len(files)]
    if len({tuple(np.argsort(column)) for column in varies}) != 1:
        names = ", ".join(path.name for path in files[:3])
        raise ValueError(f"{folder}: one number a file that counts the frames is expected, not as in {names}")
    numbers = varies[0].astype(float)
    numbers = (numbers - numbers.min()) / np.diff(np.sort(numbers)).min()
    if not given:
        raise ValueError(f"{folder}: {UNSTATED.format('its volumes do not say')}")
    return dict(zip(files, given * numbers, strict=True))


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
