"""CT perfusion as a film of volumes in equal steps of time, whatever files and clock it comes from; and what the networks read.

Readers of NIfTI and DICOM hand frames and the times they were taken at to `timed`, which refuses a film that is broken and
brings uneven times onto even ones; nothing behind it asks where a film came from. DICOM is one series of slices times frames,
or one series a frame, in a folder and those below it. Slices are put into frames by their place and their time, not by a
number: instance and acquisition numbers are counted anew by some scanners, and shared by all frames of others.
"""

import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pandas as pd
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.misc import is_dicom
from scipy.interpolate import make_interp_spline

from lib.files import opened, written_hdf5
from lib.inputs import dicom, volumes
from lib.inputs.dicom import along, numbers_of
from lib.inputs.volumes import AIR_HU, Geometry, geometry_of, sidecar_of, values_of

SHORTEST_S, LONGEST_S = 0.05, 20.0
"""Seconds between frames that CT perfusion may have; a header outside says something else (1400 is ms)."""

UNSTATED = (
    "the time between frames is not known, {}: give interval_s, in seconds (the column of the table of patients, or the "
    "parameter)"
)
AGREE = 0.01  # share by which two statements of an interval may differ: headers and tables round
JITTER = 0.05  # share of the interval by which a frame may be off an even clock
FASTEST = 0.1  # share of the steps that may be shorter than the even step chosen
GAP = 1.5  # a step so many times as long as those beside it lacks a frame
BONE_HU = 300.0  # above it lies bone before the contrast; more than contrast adds to a voxel of it
MOVED = 0.05  # share of the bone whose HU change by more than that when a head moves


class Series(NamedTuple):
    """Volumes taken one after another, in equal steps.

    `values` float32 (frames, z, y, x) in HU, on axes to the patient's left, back and crown; their grid; seconds between
    frames; `stored_as`, the orientation of the file's axes, "RAS" for example, "" where there was no file; `notes`, what
    is odd about the film or was done to it, for the table that the stage shows.
    """

    values: np.ndarray
    geometry: Geometry
    interval_s: float
    stored_as: str = ""
    notes: tuple[str, ...] = ()

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


def read_series(
    path: str | os.PathLike, interval_s: float | None = None, oblique: str = "refuse", series: str = ""
) -> Series:
    """Read a film of CT perfusion.

    `path` is a 4D NIfTI (x, y, z, frames; a single fourth axis before the frames, as in ISLES 2018, is passed over), with
    dcm2niix's sidecar beside it where there is one; a folder of 3D NIfTI, one a frame; a folder of DICOM, or one file of many
    frames (see `read_dicom_film`); in any orientation. `interval_s` is the seconds between frames, where the files do
    not say: what they say must agree with it. For `oblique` see `lib.inputs.volumes.upright`. `series` is number, description or
    SeriesInstanceUID, where a folder of DICOM holds several films.

    A ValueError for one volume instead of a film; times unknown or contradictory; damaged, oblique, NaN; and see `timed`.
    """
    path = Path(path)
    with volumes.remarks(path) as said:
        files = [path] if path.is_file() and not is_dicom(path) else []
        if path.is_dir():
            files = [f for f in sorted(path.iterdir()) if volumes.is_nifti(f) and not f.name.startswith(".")]
        if not files and path.exists():
            film = read_dicom_film(path, interval_s, oblique, series)
        elif len(files) > 1:
            film = _read_3d(path, files, interval_s, oblique)
        else:
            film = _read_4d(files[0] if files else path, interval_s, oblique)
    return film._replace(notes=(*said, *film.notes))


def timed(
    values: np.ndarray, seconds: np.ndarray, path: str | os.PathLike, **header: str
) -> tuple[np.ndarray, float, tuple[str, ...]]:
    """A film's frames, checked and brought onto equal steps of time: values, interval_s, and what is odd (uneven steps, frames
    that are missing, motion, HU).

    Steps that are equal to 5 % leave the frames as they are. Others are interpolated by a cubic spline, slice by slice where
    each has its own times (a table that moves to and fro), onto the shortest step that is usual.

    `values` are float32 (frames, z, y, x), HU; `seconds` (frames,) or (frames, z), when each frame, or each slice of it, was
    taken, on any clock: frames in another order are sorted; `header` is what the files say, as
    `lib.inputs.volumes.check_hounsfield` takes it. A ValueError for a frame of one value throughout, by its number, counted
    from 0; no HU in the first frame; times that stand still or are more than 20 s apart.
    """
    seconds = np.asarray(seconds, dtype=float).reshape(len(values), -1)
    if not np.ptp(seconds, axis=1).any():
        seconds = seconds[:, :1]
    if (order := np.argsort(seconds.mean(1), kind="stable")).tolist() != list(range(len(values))):
        values, seconds = values[order], seconds[order]
    notes = ["frames sorted by their times"] if order[0] or (np.diff(order) < 0).any() else []
    notes += [_copies(values, path), volumes.check_hounsfield(values[0], path, **header), _motion(values)]
    steps = np.diff(seconds, axis=0)
    if steps.min() < SHORTEST_S or steps.max() > LONGEST_S:
        at = int(np.argmax(np.abs(steps - np.median(steps)).max(1)))
        words = f"frames {at} and {at + 1} are {steps[at, np.abs(steps[at]).argmax()]:g} s apart"
        raise ValueError(
            f"{path}: {words}, {SHORTEST_S:g} to {LONGEST_S:g} s are expected: times in another unit, or two films in one"
        )
    start, mean = seconds[0].mean(), float((seconds[-1] - seconds[0]).mean() / (len(seconds) - 1))
    if np.abs(seconds - start - mean * np.arange(len(seconds))[:, None]).max() <= JITTER * mean:
        return values, round(mean, 6), tuple(filter(None, notes))
    usual = float(np.quantile(steps, FASTEST, method="inverted_cdf"))
    apart, uneven = float(np.ptp(seconds, axis=1).max()), np.ptp(steps) > JITTER * usual
    said = [f"frames are {steps.min():g} to {steps.max():g} s apart"] if uneven else []
    said += [f"slices are taken up to {apart:g} s apart"] if apart > JITTER * usual else []
    notes.append(f"{', '.join(said)}: interpolated to every {usual:g} s")
    beside = np.pad(steps.mean(1), 1, mode="edge")
    for at in np.flatnonzero(steps.mean(1) > GAP * np.maximum(beside[:-2], beside[2:])):
        one, two = seconds[at : at + 2].mean(1) - start
        notes.append(f"frames are missing between {one:g} and {two:g} s")
    # by where all slices were taken
    times = np.arange(seconds[0].max(), seconds[-1].min() + JITTER * usual, usual)
    even = np.empty((len(times), *values.shape[1:]), np.float32)
    for number, clock in enumerate(seconds.T):
        slices = [number] if seconds.shape[1] > 1 else slice(None)
        weights = make_interp_spline(clock, np.eye(len(clock)), min(3, len(clock) - 1))(times)
        even[:, slices] = np.tensordot(weights.astype(np.float32), values[:, slices], 1)
    return even, round(usual, 6), tuple(filter(None, notes))


def _copies(values: np.ndarray, path: str | os.PathLike) -> str:
    """Which frames are copies of the one before, which no scanner makes twice; one of a single value is refused."""
    blank = {n: frame.flat[0] for n, frame in enumerate(values) if frame.min() == frame.max()}
    if blank:
        said = "; ".join(f"frame {n} holds {value:g} throughout" for n, value in [*blank.items()][:5])
        raise ValueError(
            f"{path}: of frames 0 to {len(values) - 1}, {said}: export the film again, or leave such frames out"
        )
    same = [n for n in range(1, len(values)) if np.array_equal(values[n], values[n - 1])]
    return f"copies of the frame before: {', '.join(map(str, same[:5]))}" if same else ""


def _motion(values: np.ndarray) -> str:
    """Which frames show bone where the first did not: the head moved."""
    bone = values[0] > BONE_HU
    changed = [np.abs(frame[bone] - values[0][bone]) > BONE_HU for frame in values]
    shares = np.array([each.mean() if each.size else 0.0 for each in changed])
    moved = np.flatnonzero(shares > MOVED)
    where = f"{len(moved)} frames from {moved[0]} to {moved[-1]}" if len(moved) else ""
    much = f"in up to {shares.max():.0%} of its bone"
    return f"the head moved: {where} differ from the first {much}" if where else ""


# ------------------------------------------------------------ NIfTI


def _read_4d(path: Path, interval_s: float | None, oblique: str) -> Series:
    image = volumes.opened(path)
    size = image.GetSize()
    if len(size) < 4 or size[-1] < 2 or (len(size) == 5 and size[3] != 1):
        sides = " x ".join(map(str, size))
        raise ValueError(f"{path} has {sides} voxels: CT perfusion is a series of volumes (x, y, z, frames)")
    seconds, notes = _times_of(path, size[-1], interval_s)
    values = None
    for number in range(size[-1]):
        frame = image[:, :, :, number] if len(size) == 4 else image[:, :, :, 0, number]
        stored_as = geometry_of(frame).orientation
        frame = volumes.upright(frame, path, oblique, AIR_HU)
        if values is None:
            geometry = geometry_of(frame)
            values = np.empty((size[-1], *geometry.size[::-1]), dtype=np.float32)
        values[number] = values_of(frame, path)
    values, interval_s, more = timed(values, seconds, path)
    return Series(values, geometry, interval_s, stored_as, (*notes, *more))


def _times_of(path: Path, frames: int, given: float | None) -> tuple[np.ndarray, list[str]]:
    """When the frames of a 4D NIfTI were taken, s, by its sidecar or else by its interval; and what is odd."""
    sidecar, (header, words) = sidecar_of(path), _header_says(path)
    repetition = sidecar.get("RepetitionTime")
    stated = {"its header": header, "RepetitionTime": repetition, "interval_s": given}
    stated = {name: one for name, one in stated.items() if isinstance(one, int | float) and one}
    said = {name: f"{name} says {one:g} s between frames" for name, one in stated.items()}
    which = "find out which is right, then correct the other"
    named = (sidecar.get(name) for name in ("FrameTimesStart", "VolumeTiming"))
    if (times := next((each for each in named if isinstance(each, list)), None)) is None:
        if not stated:
            raise ValueError(f"{path}: {UNSTATED.format(words)}")
        if max(stated.values()) > (1 + AGREE) * min(stated.values()):
            raise ValueError(f"{path}: {' and '.join(said.values())}: {which}")
        return [*stated.values()][-1] * np.arange(frames), []
    seconds, notes = np.asarray(times, dtype=float), []
    if seconds.shape != (frames,) or not np.isfinite(seconds).all():
        raise ValueError(f"{path}: its sidecar has times of {len(times)} frames, and the file has {frames}")
    steps = np.diff(np.sort(seconds))
    usual = np.array([steps.mean(), *np.quantile(steps, [0, 0.5, 1])])
    beside = f"its sidecar has times {steps.min():g} to {steps.max():g} s apart"
    for name, one in stated.items():
        if (np.abs(one - usual) > AGREE * usual).all():
            if name != "its header" or one != 1:  # what software writes there that does not know
                raise ValueError(f"{path}: {said[name]} and {beside}: {which}")
            notes.append(f"{said[name]} and {beside}: the latter were taken")
    return seconds, notes


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
    agree = usable and max(usable) - min(usable) <= AGREE * max(usable)
    # float32 in the header: 1.41 is 1.40999997
    return round(usable[0], 6) if agree else None, f"its header says {words} ({unit})"


def _read_3d(folder: Path, files: list[Path], interval_s: float | None, oblique: str) -> Series:
    """A folder of volumes: in the order of AcquisitionTime in their sidecars, else of the one number that counts them."""
    times = _times_of_files(folder, files, interval_s)
    files = sorted(files, key=times.get)
    frames = [volumes.read_volume(path, oblique) for path in files]
    geometry = frames[0].geometry
    for path, one in zip(files, frames, strict=True):
        if not volumes.same_grid(one.geometry, geometry):
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
            said = f"AcquisitionTime says {mean:g} s between frames and interval_s {given:g} s"
            raise ValueError(f"{folder}: {said}")
        return dict(zip(files, seconds, strict=True))
    counted = [re.findall(r"\d+", re.sub(r"\.nii(\.gz)?$", "", path.name)) for path in files]
    even = counted if len({len(one) for one in counted}) == 1 else [[] for _ in files]
    varies = [column for column in np.array(even, dtype=float).T if len(np.unique(column)) == len(files)]
    if len({tuple(np.argsort(column)) for column in varies}) != 1:
        names = ", ".join(path.name for path in files[:3])
        raise ValueError(f"{folder}: one number a file that counts the frames is expected, not as in {names}")
    if not given:
        raise ValueError(f"{folder}: {UNSTATED.format('its volumes do not say')}")
    numbers = (varies[0] - varies[0].min()) / np.diff(np.sort(varies[0])).min()
    return dict(zip(files, given * numbers, strict=True))


def write_series(path: str | os.PathLike, series: Series, dtype: str = "float32") -> None:
    """Write a series atomically as 4D NIfTI, its interval in pixdim[4] in seconds; types as in `write_volume`."""
    frames = volumes.stored(series.values, dtype, path)
    images = [volumes.image_of(frame, series.geometry) for frame in frames]
    volumes.write_image(path, sitk.JoinSeries(images, 0.0, series.interval_s))


# ------------------------------------------------------------ DICOM


FRAMES = 4  # pictures at one place from which a series is a film: fewer are phases or kernels of a scan
SAME_PLACE_MM = 0.25  # less is one place: a table does not come back to the micrometre
DAY_S = 86_400
# share of the steps of whole seconds that differ by one from the others: fewer are lost frames
ROUNDED = 0.08
TIME = re.compile(
    r"(?P<day>\d{8})?(?P<h>\d\d):?(?P<m>\d\d):?(?P<s>(?:(?<=:)\d|\d\d)(?:\.\d*)?)(?:[+-]\d{4})?"
)  # dcm2niix writes 12:00:0.5
CLOCKS = {  # and what a number of them is in seconds, 0 where it is a time of day
    "AcquisitionDateTime": 0,
    "AcquisitionTime": 0,
    "TriggerTime": 1e-3,
    "FrameReferenceTime": 1e-3,
    "ContentTime": 0,  # when the picture was made: order is right, steps may not be
}
COUNTERS = ("TemporalPositionIndex", "TemporalPositionIdentifier")
COUNTERS += ("AcquisitionNumber", "SeriesNumber", "InstanceNumber")


def read_dicom_film(folder: Path, interval_s: float | None, oblique: str, series: str) -> Series:
    """Read a film of DICOM; see `read_series`.

    The clock is the first of `CLOCKS` that every slice has and that moves on from frame to frame, past midnight too; where none
    does, the first of `COUNTERS` gives the order and `interval_s` is needed. Where ContentTime is the clock, a stated
    `interval_s` goes before it. A ValueError for no film or several, pictures missing at some places; a clock that contradicts
    `interval_s`; what `lib.inputs.dicom.read_dicom` refuses of a stack.
    """
    exported, notes = _one_film(folder, series)
    slices = dicom.distinct(exported)
    if copies := len(exported) - len(slices):
        notes.append(f"{copies} copies of pictures passed over")
    dicom.warn_of_voltages(slices, folder)
    places = _places(slices)
    at_place = [[slices[n] for n in np.flatnonzero(places == place)] for place in range(places.max() + 1)]
    counts = np.bincount(places)
    usual = int(np.bincount(counts).argmax())
    if (odd := np.flatnonzero(counts != usual)).size:
        z = along(at_place[odd[0]][0])
        raise ValueError(
            f"{folder}: the place at {z:.2f} mm has {counts[odd[0]]} pictures and others {usual} ({odd.size} such places): "
            "pictures are missing or two films are mixed; fetch it again, or name one in `series`"
        )
    seconds, order, said = _clock(at_place, interval_s, folder)
    frames = [
        dicom.in_place([place[n] for place, n in zip(at_place, picked, strict=True)], folder)
        for picked in order
    ]
    values = np.stack([np.stack([dicom.pixels(each) for each in frame]) for frame in frames])
    values, interval_s, more = timed(values, seconds, folder, **dicom.kind_of(frames[0][0]))
    turned = [dicom.stack_of(frames[0], frame, folder, oblique) for frame in values]
    values = np.stack([values_of(image, folder) for image, _ in turned])
    return Series(values, geometry_of(turned[0][0]), interval_s, turned[0][1], (*notes, *said, *more))


def _one_film(folder: Path, series: str) -> tuple[list[Dataset], list[str]]:
    """The headers of the one film of a folder: a series with several pictures a place, or several alike series."""
    usable, others = {}, set()
    for header in dicom.pictures(folder):
        keys = ("SeriesInstanceUID", "SeriesNumber", "SeriesDescription")
        uid, number, text = (str(header.get(key, "")).strip() for key in keys)
        text = dicom.without_name(text, header)
        whole = all(len(numbers_of(header, name)) == count for name, count in dicom.COUNTS.items())
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
        known = [
            f"{about[1] or 'no number'} {about[2]!r} ({len(some)} pictures)" for about, some in usable.items()
        ]
        raise ValueError(
            f"{folder}: {len(films) or 'no'} films of CT perfusion ({FRAMES} or more pictures at each place) fit "
            f"{wanted or 'any series'!r}; it holds {'; '.join(known) or 'no CT'}. Choose one with `series`, its number or "
            "description"
        )
    left = sorted({text or number for _, number, text in usable.keys() - set(films[0])} | others)
    notes = [f"not read: {', '.join(left[:5])}"] if left else []
    return [each for about in films[0] for each in usable[about]], notes


def _places(slices: Sequence[Dataset]) -> np.ndarray:
    """For each slice the number of its place along the normal, from 0."""
    z = np.array([along(each) for each in slices])
    order = np.argsort(z, kind="stable")
    number = np.empty(len(z), int)
    number[order] = np.cumsum(np.diff(z[order], prepend=z[order[0]]) > SAME_PLACE_MM)
    return number


def _stack(slices: Sequence[Dataset]) -> tuple:
    """What series of one film share: grid and places."""
    names = [name for name in dicom.COUNTS if name != dicom.PLACE]
    grid = [tuple(np.round(numbers_of(slices[0], name), 2)) for name in names]
    return (*grid, len(slices), np.round(min(along(each) for each in slices)))


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


def _stated(header: Dataset, name: str, unit: float) -> float:
    """What a clock says of a slice, s, or a counter (of unit 1); NaN where nothing."""
    if unit:
        stated = numbers_of(header, name)
        return float(stated[0]) * unit if len(stated) else np.nan
    stated = seconds_of(header.get(name))
    date = name.replace("Time", "Date")  # "" of a date and time
    day = seconds_of(f"{header.get(date, '')}000000") if not name.endswith("DateTime") else None
    return np.nan if stated is None else stated + (day or 0.0)


def _sorted_by_time(told: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Numbers (frames, places) sorted at each place, and their order; None where one is missing or two differ by less."""
    order = np.argsort(told, axis=0, kind="stable")
    told = np.take_along_axis(told, order, 0)
    return (told, order) if (np.diff(told, axis=0) >= least).all() else None


def _clock(
    at_place: list[list[Dataset]], given: float | None, folder: Path
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Seconds (frames, places), which picture of each place comes when (frames, places), and what is odd."""

    def told(name: str, unit: float) -> np.ndarray:
        return np.array([[_stated(each, name, unit) for each in place] for place in at_place]).T

    even = (given or np.nan) * np.arange(len(at_place[0]))[:, None] * np.ones(len(at_place))
    for name, unit in CLOCKS.items():
        # one that stands still was stamped on all pictures at once
        if (found := _sorted_by_time(past_midnight(told(name, unit)), SHORTEST_S)) is None:
            continue
        seconds, order = found
        steps = np.diff(seconds, axis=0)
        usual = np.array([steps.mean(), np.median(steps)])
        if given and (np.abs(given - usual) > AGREE * usual).all():
            said = f"{name} says {usual[0]:g} s between frames and interval_s {given:g} s"
            if name != "ContentTime":
                raise ValueError(f"{folder}: {said}: leave interval_s empty, or find out which is right")
            return even, order, [f"{said}: the latter was taken"]
        notes = [f"times are those of {name}, when pictures were made"] if name == "ContentTime" else []
        return _rounded(seconds, notes), order, notes
    for name in COUNTERS:
        if (found := _sorted_by_time(told(name, 1), 1)) is not None:
            if not given:
                raise ValueError(f"{folder}: {UNSTATED.format('no time differs between them')}")
            return even, found[1], [f"frames are in the order of {name}"]
    raise ValueError(
        f"{folder}: nothing tells the order of the frames: no time and no number differs between them"
    )


def _rounded(seconds: np.ndarray, notes: list[str]) -> np.ndarray:
    """An even clock whose fractions of a second were dropped, as it ran; any other as it is."""
    steps = np.diff(seconds.mean(1))
    even = seconds[:1].mean() + steps.mean() * np.arange(len(seconds))[:, None] + np.zeros_like(seconds)
    kinds, counts = np.unique(steps, return_counts=True)
    two = len(kinds) == 2 and np.ptp(kinds) == 1 and counts.min() >= ROUNDED * len(steps)
    if not two or (seconds != np.rint(seconds)).any() or np.abs(seconds - even).max() > 1:
        return seconds
    notes.append(f"times are whole seconds, as if rounded: {steps.mean():.3g} s between frames")
    return even


# ------------------------------------------------------------ what the networks read


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
