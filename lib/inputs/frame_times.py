"""When the frames of a series were taken, and how they are brought onto a clock of equal steps."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.inputs.frame_intervals import agree, interval_of
from lib.inputs.text_tables import read_columns

JITTER = 0.05  # share of the interval by which a frame may be off the regular clock
NAMES = ("seconds", "frametimesstart", "volumetiming", "time_s", "times")


def clock_of(
    path: str | os.PathLike,
    frames: int,
    interval_s: float | None,
    seconds: Sequence[float] | np.ndarray | str | os.PathLike | None,
    regular: bool,
    ignore_header: bool,
) -> tuple[np.ndarray, float | None]:
    """Times of a file's frames, and the step to interpolate to; parameters as of `lib.inputs.volumes.read_series`.

    Returns
    -------
    ndarray of float64, shape (frames,)
        Seconds, in the file's order of frames.
    float or None
        Step of the clock to bring them onto; None where they run in equal steps already.

    Raises
    ------
    FileNotFoundError
    ValueError
    """
    if seconds is None:
        return interval_of(path, interval_s, ignore_header) * np.arange(frames), None
    listed = read_seconds(seconds) if isinstance(seconds, (str, os.PathLike)) else seconds
    times = checked_seconds(listed, frames, path)
    if bad := irregularity(times):
        if not regular:
            raise ValueError(f"{path}: {bad}; set regular=True to sort and interpolate them to equal steps")
        return times, interval_s or float(np.median(np.diff(np.sort(times))))
    step = interval_of(path, regular_interval(times), ignore_header)
    if interval_s is None or agree(interval_s, step):
        return times, None
    if not regular:
        raise ValueError(
            f"{path}: its frames are {step:g} s apart by their times and {interval_s:g} s by interval_s; "
            "set regular=True to interpolate them to that"
        )
    return times, interval_s


def read_seconds(path: str | os.PathLike) -> np.ndarray:
    """Times of frames from a file beside the series: .json (a list, or BIDS' FrameTimesStart), .csv (column seconds).

    Raises
    ------
    FileNotFoundError
    ValueError
        No such list or column, or something in it is no number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of frame times at {path}")
    try:
        content = (
            json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else read_columns(path)
        )
        if not isinstance(content, list):
            found = [name for name in content if str(name).strip().lower() in NAMES]
            if len(found) != 1:
                raise ValueError(f"exactly one of {', '.join(NAMES)} is expected, there is {list(content)}")
            content = content[found[0]]
        return np.asarray(content, dtype=float)
    except (ValueError, TypeError, RecursionError) as error:  # what json, pandas and numpy raise
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} does not say when the frames were taken: {said}") from error


def regular_interval(seconds: np.ndarray) -> float | None:
    """The interval of times that go up in equal steps (to 5 % of a step), else None."""
    step = (seconds[-1] - seconds[0]) / (len(seconds) - 1)
    clock = seconds[0] + step * np.arange(len(seconds))
    return float(step) if step > 0 and np.abs(seconds - clock).max() <= JITTER * step else None


def checked_seconds(seconds: np.ndarray, frames: int, path: str | os.PathLike) -> np.ndarray:
    """Times, one a frame, finite and all different, or a sentence.

    Raises
    ------
    ValueError
    """
    seconds = np.asarray(seconds, dtype=float)
    if seconds.shape != (frames,):
        raise ValueError(
            f"{path} has {frames} frames and {seconds.size} times are given: one a frame is needed"
        )
    if not np.isfinite(seconds).all():
        raise ValueError(f"{path}: the time of frame {np.flatnonzero(~np.isfinite(seconds))[0]} is no number")
    order = np.argsort(seconds, kind="stable")
    if len(twice := np.flatnonzero(np.diff(seconds[order]) <= 0)):
        one, two = order[twice[0]], order[twice[0] + 1]
        raise ValueError(f"{path}: frames {one} and {two} have the same time, {seconds[one]:g} s")
    return seconds


def irregularity(seconds: np.ndarray) -> str:
    """What is wrong with times as a regular clock, in words; empty if nothing."""
    steps = np.diff(seconds)
    if (steps <= 0).any():
        at = int(np.flatnonzero(steps <= 0)[0])
        return f"frames are out of order: frame {at} at {seconds[at]:g} s, frame {at + 1} at {seconds[at + 1]:g} s"
    if regular_interval(seconds) is None:
        return f"frames are irregular: {steps.min():g} to {steps.max():g} s apart"
    return ""


def on_a_clock(values: np.ndarray, seconds: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Frames in the order of their times, interpolated linearly to equal steps.

    Parameters
    ----------
    values : ndarray of float32, shape (frames, z, y, x)
    seconds : ndarray, shape (frames,)
        All different, in any order.
    step : float
        Seconds between the new frames.

    Returns
    -------
    ndarray of float32, shape (new frames, z, y, x); ndarray, shape (new frames,)
        From the first time to the last that the steps reach; nothing is extrapolated.
    """
    order = np.argsort(seconds)
    times = seconds[order]
    clock = times[0] + step * np.arange(int((times[-1] - times[0]) / step + 1e-6) + 1)
    right = np.clip(np.searchsorted(times, clock), 1, len(times) - 1)
    share = np.clip((clock - times[right - 1]) / (times[right] - times[right - 1]), 0, 1).astype(np.float32)
    made = np.empty((len(clock), *values.shape[1:]), dtype=np.float32)
    for frame, (after, part) in enumerate(zip(right, share, strict=True)):
        made[frame] = (1 - part) * values[order[after - 1]] + part * values[order[after]]
    return made, clock
