"""CT perfusion as a film of volumes: frames in equal steps of time, whatever file and clock they come from.

A reader of another kind of file hands frames and the times they were taken at to `timed`, which refuses a film that is
broken and brings uneven times onto even ones, and returns a `Series`; nothing behind it asks where a film came from.
"""

import os
from typing import NamedTuple

import numpy as np
from scipy.interpolate import make_interp_spline

from lib.inputs.volumes import Geometry, check_hounsfield

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
    notes += [_copies(values, path), check_hounsfield(values[0], path, **header), _motion(values)]
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
    apart = float(np.ptp(seconds, axis=1).max())
    said = (
        [f"frames are {steps.min():g} to {steps.max():g} s apart"] if np.ptp(steps) > JITTER * usual else []
    )
    said += [f"slices are taken up to {apart:g} s apart"] if apart > JITTER * usual else []
    notes.append(f"{', '.join(said)}: interpolated to every {usual:g} s")
    beside = np.pad(steps.mean(1), 1, mode="edge")
    beside = np.maximum(beside[:-2], beside[2:])
    for at in np.flatnonzero(steps.mean(1) > GAP * beside):
        one, two = seconds[at : at + 2].mean(1) - start
        notes.append(f"frames are missing between {one:g} and {two:g} s")
    # by where all slices were taken
    times = np.arange(seconds[0].max(), seconds[-1].min() + JITTER * usual, usual)
    even = np.empty((len(times), *values.shape[1:]), np.float32)
    for number in range(values.shape[1]) if seconds.shape[1] > 1 else [slice(None)]:
        clock = seconds[:, number if seconds.shape[1] > 1 else 0]
        weights = make_interp_spline(clock, np.eye(len(clock)), min(3, len(clock) - 1))(times)
        even[:, number] = np.tensordot(weights.astype(np.float32), values[:, number], 1)
    return even, round(usual, 6), tuple(filter(None, notes))


def _copies(values: np.ndarray, path: str | os.PathLike) -> str:
    """Which frames are copies of the one before, which no scanner makes twice; one of a single value is refused."""
    blank = {n: frame.flat[0] for n, frame in enumerate(values) if frame.min() == frame.max()}
    if blank:
        said = "; ".join(
            f"frame {number} holds {value:g} throughout" for number, value in [*blank.items()][:5]
        )
        raise ValueError(
            f"{path}: of frames 0 to {len(values) - 1}, {said}: export the film again, or leave such frames out"
        )
    same = [n for n in range(1, len(values)) if np.array_equal(values[n], values[n - 1])]
    return f"copies of the frame before: {', '.join(map(str, same[:5]))}" if same else ""


def _motion(values: np.ndarray) -> str:
    """Which frames show bone where the first did not: the head moved."""
    bone = values[0] > BONE_HU
    if not bone.any():
        return ""
    shares = [float((np.abs(frame[bone] - values[0][bone]) > BONE_HU).mean()) for frame in values]
    moved = np.flatnonzero(np.array(shares) > MOVED)
    if not len(moved):
        return ""
    much = f"in up to {max(shares):.0%} of its bone"
    return f"the head moved: {len(moved)} frames from {moved[0]} to {moved[-1]} differ from the first {much}"
