"""CT perfusion as DICOM: one series of slices times frames, or one series a frame, in a folder and those below it.

Slices are put into frames by their place and their time, not by a number: instance and acquisition numbers are counted
anew by some scanners, and shared by all frames of others. Every slice keeps its own time.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset

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
    without_name,
)
from lib.inputs.volumes import geometry_of, values_of
from lib.stroke.film import AGREE, SHORTEST_S, UNSTATED, Series, timed

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
    """Read a film of DICOM; see `lib.stroke.series.read_series`.

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


def _read(header: Dataset, name: str, date: str, unit: float) -> float:
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
        seconds = np.array([[_read(each, name, date, unit) for each in place] for place in at_place]).T
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
