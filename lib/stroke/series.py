"""CT perfusion read from files of any kind, and written; and what the networks read of it, in HDF5.

DICOM is one series of slices times frames, or one series a frame, in a folder and those below it. Slices are put into frames
by their place and their time, not by a number: instance and acquisition numbers are counted anew by some scanners, and shared
by all frames of others. Every slice keeps its own time.
"""

import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.misc import is_dicom

from lib.files import opened, written_hdf5
from lib.inputs import volumes
from lib.inputs.dicom import (
    COUNTS,
    along,
    distinct,
    in_place,
    kind_of,
    numbers_of,
    pictures,
    pixels,
    stack_of,
    tubes,
    without_name,
)
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
from lib.stroke.film import AGREE, LONGEST_S, SHORTEST_S, UNSTATED, Series, timed

TIMES = ("FrameTimesStart", "VolumeTiming")


def read_series(
    path: str | os.PathLike, interval_s: float | None = None, oblique: str = "refuse", series: str = ""
) -> Series:
    """Read a film of CT perfusion.

    `path` is a 4D NIfTI (x, y, z, frames; a single fourth axis before the frames, as in ISLES 2018, is passed over), with
    dcm2niix's sidecar beside it where there is one; a folder of 3D NIfTI, one a frame; a folder of DICOM, or one file of many
    frames (see `read_dicom_film`); in any orientation. `interval_s` is the seconds between frames, where the files do
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


# ------------------------------------------------------------ films of DICOM


FRAMES = 4  # pictures at one place from which a series is a film: fewer are phases or kernels of a scan
APART_MM = 0.25  # less is one place: a table does not come back to the micrometre
DAY_S = 86_400
# share of the steps of whole seconds that differ by one from the others: fewer are lost frames
ROUNDED = 0.08
TIME = re.compile(
    r"(?P<day>\d{8})?(?P<h>\d\d):?(?P<m>\d\d):?(?P<s>(?:(?<=:)\d|\d\d)(?:\.\d*)?)(?:[+-]\d{4})?"
)  # dcm2niix writes 12:00:0.5
CLOCKS = (
    ("AcquisitionDateTime", "", 1.0),
    ("AcquisitionTime", "AcquisitionDate", 1.0),
    ("TriggerTime", "", 1e-3),
    ("FrameReferenceTime", "", 1e-3),
    ("ContentTime", "ContentDate", 1.0),  # when the picture was made: order is right, steps may not be
)
COUNTERS = ("TemporalPositionIndex", "TemporalPositionIdentifier")
COUNTERS += ("AcquisitionNumber", "SeriesNumber", "InstanceNumber")


def read_dicom_film(folder: Path, interval_s: float | None, oblique: str, series: str) -> Series:
    """Read a film of DICOM; see `read_series`.

    The clock is the first of `CLOCKS` that every slice has and that moves on from frame to frame, past midnight too; where none
    does, the first of `COUNTERS` gives the order and `interval_s` is needed. Where ContentTime is the clock, a stated
    `interval_s` goes before it. A ValueError for no film or several, pictures missing at some places; a clock that contradicts
    `interval_s`; what `lib.inputs.dicom.read_dicom` refuses of a stack.
    """
    slices, notes = _one_film(folder, series)
    unique = distinct(slices)
    if copies := len(slices) - len(unique):
        notes.append(f"{copies} copies of pictures passed over")
    slices = unique
    notes += filter(None, [tubes(slices)])
    places = _places(slices)
    at_place = [[slices[n] for n in np.flatnonzero(places == place)] for place in range(places.max() + 1)]
    counts = np.array([len(each) for each in at_place])
    usual = int(np.bincount(counts).argmax())
    if (odd := np.flatnonzero(counts != usual)).size:
        z = along(at_place[odd[0]][0])
        raise ValueError(
            f"{folder}: the place at {z:.2f} mm has {counts[odd[0]]} pictures and others {usual} ({odd.size} such places): "
            "pictures are missing or two films are mixed; fetch it again, or name one in `series`"
        )
    seconds, order, said = _clock(at_place, interval_s, folder)
    notes += said
    ordered = [[at_place[place][n] for n in order[:, place]] for place in range(len(at_place))]
    frames = [in_place([place[t] for place in ordered], folder) for t in range(usual)]
    values = np.stack([np.stack([pixels(each) for each in frame]) for frame in frames])
    values, interval_s, more = timed(values, seconds, folder, **kind_of(frames[0][0]))
    upright = [stack_of(frames[0], frame, folder, oblique) for frame in values]
    turned = np.stack([values_of(image, folder) for image, _ in upright])
    return Series(turned, geometry_of(upright[0][0]), interval_s, upright[0][1], (*notes, *more))


def _one_film(folder: Path, series: str) -> tuple[list[Dataset], list[str]]:
    """The headers of the one film of a folder: a series with several pictures a place, or several alike series."""
    usable, others = {}, set()
    for header in pictures(folder):
        uid, number, text = (
            str(header.get(f"Series{key}", "")).strip() for key in ("InstanceUID", "Number", "Description")
        )
        text = without_name(text, header)
        whole = all(len(numbers_of(header, name)) == count for name, count in COUNTS.items())
        if header.get("Modality") == "CT" and header.get("SamplesPerPixel", 1) == 1 and whole:
            usable.setdefault((uid, number, text), []).append(header)
        else:
            others.add(text or number)
    wanted = series.strip()
    named = {about: some for about, some in usable.items() if not wanted or wanted in about}
    films = [[about] for about, some in named.items() if np.median(np.bincount(_places(some))) >= FRAMES]
    if not films:  # series that differ in nothing but their number
        alike = {}
        for about, some in named.items():
            alike.setdefault((_stack(some), re.sub(r"\d+", "", about[2])), []).append(about)
        films = [group for group in alike.values() if len(group) >= FRAMES]
    if len(films) != 1:
        known = "; ".join(
            f"{number or 'no number'} {text!r} ({len(some)} pictures)"
            for (_, number, text), some in usable.items()
        )
        raise ValueError(
            f"{folder}: {len(films) or 'no'} films of CT perfusion ({FRAMES} or more pictures at each place) fit "
            f"{wanted or 'any series'!r}; it holds {known or 'no CT'}. Choose one with `series`, its number or description"
        )
    (film,) = films
    left = sorted({text or number for _, number, text in usable.keys() - set(film)} | others)
    return [each for about in film for each in usable[about]], (
        [f"not read: {', '.join(left[:5])}"] if left else []
    )


def _places(slices: Sequence[Dataset]) -> np.ndarray:
    """For each slice the number of its place along the normal, from 0."""
    z = np.array([along(each) for each in slices])
    order = np.argsort(z, kind="stable")
    number = np.empty(len(z), int)
    number[order] = np.cumsum(np.diff(z[order], prepend=z[order[0]]) > APART_MM)
    return number


def _stack(slices: Sequence[Dataset]) -> tuple:
    """What series of one film share: grid and places."""
    grid = [
        tuple(np.round(numbers_of(slices[0], name), 2)) for name in COUNTS if name != "ImagePositionPatient"
    ]
    return (*grid, len(slices), *np.round(sorted(along(each) for each in slices)[:1]))


def seconds_of(text: object) -> float | None:
    """Seconds of a DICOM time ("120001.5"), date and time, or a sidecar's "12:00:1.5"; None for anything else."""
    found = TIME.fullmatch(str(text or "").strip())
    if not found:
        return None
    day = datetime.strptime(found["day"], "%Y%m%d").toordinal() if found["day"] else 0
    return day * DAY_S + 3600 * int(found["h"]) + 60 * int(found["m"]) + float(found["s"])


def past_midnight(seconds: np.ndarray) -> np.ndarray:
    """Times of day of one scan, those after midnight moved to the next day."""
    return np.where(seconds < seconds.max() - DAY_S / 2, seconds + DAY_S, seconds)


def _told(header: Dataset, name: str, date: str, unit: float) -> float:
    """What a clock says of a slice, s; NaN where nothing."""
    if unit != 1:
        stated = numbers_of(header, name)
        return float(stated[0]) * unit if len(stated) else np.nan
    stated = seconds_of(header.get(name))
    day = seconds_of(f"{header.get(date, '')}000000") if date else None
    return np.nan if stated is None else stated + (day or 0.0)


def _clock(
    at_place: list[list[Dataset]], given: float | None, folder: Path
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Seconds (frames, places), which picture of each place comes when (frames, places), and what is odd."""
    for name, date, unit in CLOCKS:
        seconds = np.array([[_told(each, name, date, unit) for each in place] for place in at_place]).T
        if np.isnan(seconds).any():
            continue
        seconds = past_midnight(seconds)
        order = np.argsort(seconds, axis=0, kind="stable")
        seconds = np.take_along_axis(seconds, order, 0)
        steps = np.diff(seconds, axis=0)
        if steps.min() < SHORTEST_S:  # it stands still, as one that was stamped on all pictures at once
            continue
        usual = (float(steps.mean()), float(np.median(steps)))
        differs = given and not any(abs(given - one) <= AGREE * one for one in usual)
        said = f"{name} says {usual[0]:g} s between frames and interval_s {given or 0:g} s"
        if differs and name != "ContentTime":
            raise ValueError(f"{folder}: {said}: leave interval_s empty, or find out which is right")
        if differs:
            seconds = given * np.arange(len(seconds), dtype=float)[:, None] + 0 * seconds
            return seconds, order, [f"{said}: the latter was taken"]
        notes = [f"times are those of {name}, when pictures were made"] if name == "ContentTime" else []
        return _rounded(seconds, notes), order, notes
    for name in COUNTERS:
        numbers = [
            [numbers_of(each, name)[:1].sum() if name in each else np.nan for each in place]
            for place in at_place
        ]
        numbers = np.array(numbers).T
        order = np.argsort(numbers, axis=0, kind="stable")
        numbers = np.take_along_axis(numbers, order, 0)
        if not np.isnan(numbers).any() and (np.diff(numbers, axis=0) > 0).all():
            break
    else:
        raise ValueError(
            f"{folder}: nothing tells the order of the frames: no time and no number differs between them"
        )
    if not given:
        raise ValueError(f"{folder}: {UNSTATED.format('no time differs between them')}")
    seconds = given * np.arange(len(numbers), dtype=float)[:, None] + np.zeros_like(numbers)
    return seconds, order, [f"frames are in the order of {name}"]


def _rounded(seconds: np.ndarray, notes: list[str]) -> np.ndarray:
    """An even clock whose fractions of a second were dropped, as it ran; any other as it is."""
    steps = np.diff(seconds.mean(1))
    mean = steps.mean()
    even = seconds[:1].mean() + mean * np.arange(len(seconds))[:, None] + np.zeros_like(seconds)
    kinds, counts = np.unique(steps, return_counts=True)
    if (
        (seconds != np.rint(seconds)).any()
        or len(kinds) != 2
        or np.ptp(kinds) != 1
        or counts.min() < ROUNDED * len(steps)
        or np.abs(seconds - even).max() > 1
    ):
        return seconds
    notes.append(f"times are whole seconds, as if rounded: {mean:.3g} s between frames")
    return even
