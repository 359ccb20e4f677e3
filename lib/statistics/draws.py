"""Resamples of patients: how often each row of data is in each draw."""

from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np
import pandas as pd

from lib.statistics.classification import NotComputable

DrawsFunction = Callable[[np.ndarray], np.ndarray]  # counts (draws, rows) -> values (draws,), NaN where none
CELLS = 4_000_000  # counts given to a draws function at once: 16 MB


def patients_by_stratum(
    patients: Sequence[Hashable], strata: Sequence[Hashable] | None = None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Number of each row's patient, and the numbers of the patients in each stratum.

    Parameters
    ----------
    patients : sequence (rows,)
        Patient of each row. Patients are numbered in the order of their names, so the order of the rows
        changes no draw.
    strata : sequence (rows,), optional
        What must keep its share in every draw (the event, the fold). None: one stratum.

    Returns
    -------
    home : int array (rows,)
    members : list of int arrays
        One a stratum, in the order of the strata's names.

    Raises
    ------
    ValueError
        A row without a patient or stratum, lengths that differ, or a patient with rows in two strata.
    NotComputable
        Fewer than two patients.
    """
    patients = np.asarray(patients)
    strata = np.zeros(patients.shape, int) if strata is None else np.asarray(strata)
    if patients.ndim != 1 or patients.shape != strata.shape:
        raise ValueError(
            f"patients have shape {patients.shape}, strata {strata.shape}; two vectors of one length are needed"
        )
    if missing := int((pd.isna(patients) | pd.isna(strata)).sum()):
        raise ValueError(f"{missing} of {patients.size} rows lack a patient or a stratum; name it first")
    names, home = np.unique(patients, return_inverse=True)
    if names.size < 2:
        raise NotComputable(f"{names.size} patient: resampling patients needs two or more")
    levels, level = np.unique(strata, return_inverse=True)
    own = np.empty(names.size, int)
    own[home] = level
    if (torn := own[home] != level).any():
        name = patients[torn][0]
        found = ", ".join(str(stratum) for stratum in np.unique(strata[patients == name]))
        raise ValueError(f"patient {name} has rows in the strata {found}; a patient belongs to one stratum")
    return home, [np.flatnonzero(own == number) for number in range(levels.size)]


def draw_counts(
    patients: Sequence[Hashable],
    draws: int,
    seed: int | np.random.Generator = 0,
    strata: Sequence[Hashable] | None = None,
) -> np.ndarray:
    """How often each row is in each bootstrap draw; a patient's rows come, and stay away, together.

    A draw picks as many patients as there are, with replacement; with strata, within each of them.

    Parameters
    ----------
    patients, strata
        As `patients_by_stratum`.
    draws : int
    seed : int or Generator
        Equal seeds give equal draws, and fewer draws are the first of more.

    Returns
    -------
    int32 array (draws, rows)

    Raises
    ------
    ValueError, NotComputable
        As `patients_by_stratum`.
    """
    home, members = patients_by_stratum(patients, strata)
    counts = np.empty((draws, home.max() + 1), np.int32)
    streams = np.random.default_rng(seed).spawn(len(members))
    for stratum, random in zip(members, streams, strict=True):
        picks = random.integers(stratum.size, size=(draws, stratum.size))
        picks += stratum.size * np.arange(draws)[:, None]
        drawn = np.bincount(picks.ravel(), minlength=draws * stratum.size)
        counts[:, stratum] = drawn.reshape(draws, stratum.size)
    return counts[:, home]


def looped(function: Callable[[np.ndarray], float]) -> DrawsFunction:
    """Draws function of a plain one: slow, for metrics without a vectorised version.

    Parameters
    ----------
    function : callable
        Takes row numbers, some of them repeated, and returns the metric on those rows; where it raises
        NotComputable the draw has no value (NaN).
    """

    def values(counts: np.ndarray) -> np.ndarray:
        found = np.full(len(counts), np.nan)
        for draw, count in enumerate(counts):
            try:
                found[draw] = function(np.repeat(np.arange(count.size), count))
            except NotComputable:
                continue
        return found

    return values


def evaluated(function: DrawsFunction, counts: np.ndarray) -> np.ndarray:
    """Draws function over blocks of draws, so that what it holds does not grow with their number: (draws,)."""
    blocks = np.array_split(counts, max(1, -(-counts.size // CELLS)))
    values = np.concatenate([np.asarray(function(block), dtype=float) for block in blocks])
    if values.shape != (len(counts),):
        raise ValueError(f"a draws function must give one value a draw, {len(counts)}, gave {values.shape}")
    return values


def without_each(
    function: DrawsFunction, home: np.ndarray, members: Iterable[np.ndarray]
) -> list[np.ndarray]:
    """Jackknife: the value without each patient, one array a stratum; arguments as `patients_by_stratum` gives.

    Raises
    ------
    NotComputable
        Without some patient there is no value.
    """
    found = []
    for stratum in members:
        blocks = np.array_split(stratum, -(-stratum.size * home.size // CELLS))
        left = [evaluated(function, (home != block[:, None]).astype(np.int32)) for block in blocks]
        found.append(np.concatenate(left))
    if missing := int(np.isnan(np.concatenate(found)).sum()):
        raise NotComputable(
            f"without one patient the metric has no value, for {missing} patients, so BCa has no "
            "acceleration: take the percentile interval"
        )
    return found
