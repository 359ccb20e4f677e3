"""Seconds between the frames of a series: what its NIfTI header says, what the user says, and whether they agree."""

import os

import nibabel
import numpy as np

SHORTEST_S, LONGEST_S = 0.05, 20.0
"""Seconds between frames that CT perfusion may have; a header outside says something else (1400 is ms)."""

AGREE = 0.01  # share by which two intervals may differ: headers and tables round


def header_interval(path: str | os.PathLike, given: float | None = None) -> tuple[float | None, str]:
    """Seconds between frames by a NIfTI header: pixdim[4] in the unit of xyzt_units.

    ITK reads 0 ("not known") as 1; this does not. Where the header names no unit of time, seconds are meant.
    A fifth axis that holds the frames behind a single fourth has its own pixdim[5]; the two must not contradict.

    Parameters
    ----------
    path : path
        .nii or .nii.gz of four or five axes.
    given : float, optional
        What the user says: decides where pixdim[4] and pixdim[5] contradict each other.

    Returns
    -------
    float or None, str
        Seconds and "", or None and why the header does not say.
    """
    header = nibabel.load(path).header
    unit = header.get_xyzt_units()[1]
    scale = {"msec": 1e-3, "usec": 1e-6}.get(unit, 1.0)
    axes = [4, 5] if header["dim"][0] == 5 and header["dim"][4] == 1 else [4]
    numbers = [float(header["pixdim"][axis]) for axis in axes]
    known = [number * scale for number in numbers if np.isfinite(number) and number > 0]
    said = " and ".join(
        f"pixdim[{axis}] = {number:g}" for axis, number in zip(axes, numbers, strict=True)
    ) + (f" {unit}" if unit != "unknown" else " without a unit of time")
    usable = [seconds for seconds in known if SHORTEST_S <= seconds <= LONGEST_S]
    if not usable:
        return None, f"its header says {said}"
    if not np.allclose(usable, usable[0], rtol=AGREE):
        usable = [seconds for seconds in usable if given is not None and agree(seconds, given)]
        if not usable:
            return None, f"its header contradicts itself ({said})"
    return round(usable[0], 6), ""  # float32 in the header: 1.41 is 1.40999997


def interval_of(path: str | os.PathLike, given: float | None, ignore_header: bool) -> float:
    """Seconds between frames from the header and what the user says, which must not contradict.

    Raises
    ------
    ValueError
        Neither says; they differ by more than a percent; outside 0.05 to 20 s.
    """
    if given is not None and not SHORTEST_S <= given <= LONGEST_S:
        raise ValueError(
            f"{path}: an interval of {given:g} s between frames lies outside {SHORTEST_S} to {LONGEST_S:g} s"
        )
    header, why = (None, "its header is not asked") if ignore_header else header_interval(path, given)
    if header is None and given is None:
        raise ValueError(f"{path}: the time between frames is not known, {why}: give interval_s, in seconds")
    if header is not None and given is not None and not agree(header, given):
        raise ValueError(
            f"{path}: its header says {header:g} s between frames and the parameters {given:g} s: "
            "find out which is right, then correct either, or set ignore_header"
        )
    return header if given is None else float(given)


def agree(one: float, other: float) -> bool:
    """Whether two intervals are the same to a percent."""
    return abs(one - other) <= AGREE * other
