"""An estimate over patients, or the difference of two, with its bootstrap interval."""

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np

from lib.statistics.bca import bca_ends
from lib.statistics.classification import NotComputable
from lib.statistics.draws import (
    DrawsFunction,
    draw_counts,
    evaluated,
    looped,
    patients_by_stratum,
    without_each,
)
from lib.statistics.intervals import Interval

__all__ = ["draw_counts", "looped", "paired_patient_difference", "patient_interval"]

ATTEMPTS = 100


def _drawn(
    function: DrawsFunction,
    patients: Sequence[Hashable],
    draws: int,
    seed: int,
    strata: Sequence[Hashable] | None,
) -> tuple[np.ndarray, int]:
    """Values of the draws, and how many draws had none and were drawn again."""
    random = np.random.default_rng(seed)
    values, redrawn = np.full(draws, np.nan), 0
    for attempt in range(ATTEMPTS):
        wanting = np.flatnonzero(np.isnan(values))
        if not wanting.size:
            break
        redrawn += wanting.size if attempt else 0
        values[wanting] = evaluated(function, draw_counts(patients, wanting.size, random, strata))
    if lacking := int(np.isnan(values).sum()):
        raise NotComputable(
            f"{lacking} of {draws} draws of patients had no value in {ATTEMPTS} attempts; "
            "draw within strata of the outcome, or gather more patients"
        )
    return values, redrawn


def patient_interval(
    draws_function: DrawsFunction,
    patients: Sequence[Hashable],
    *,
    events: int,
    n: int | None = None,
    draws: int = 1000,
    seed: int = 0,
    strata: Sequence[Hashable] | None = None,
    level: float = 0.95,
    method: Literal["percentile", "bca"] = "percentile",
) -> Interval:
    """Metric on all rows, with an interval from resampled patients.

    Parameters
    ----------
    draws_function : callable
        Takes counts (draws, rows), how often each row is in each draw, and returns values (draws,), NaN
        where a draw has none: `functools.partial(weighted.auc, labels, scores)`, or of a plain function
        `looped(lambda rows: f1(labels[rows], called[rows]))`. The estimate is its value at counts of 1.
    patients, strata : sequences (rows,)
        As `draws.draw_counts`; strata of the event keep its number in every draw.
    events, n : int
        For the row of metrics.csv; n is by default the number of patients.
    draws, seed
        Number of draws (BCa wants 1,000 or more) and their seed.
    level : float
        In (0, 1).
    method : {"percentile", "bca"}
        Quantiles of the draws, or corrected for bias and skewness (see `bca.bca_ends`).

    Returns
    -------
    Interval
        `how` tells what was drawn, how many draws had no value and were drawn again, and when all draws
        were equal (an AUC of 1, say), which says nothing of how far off the truth may lie.

    Raises
    ------
    NotComputable
        No value on all rows or in any draw, fewer than two patients, or BCa without a correction.
    ValueError
        Unknown method or level, or a patient in two strata.
    """
    if method not in ("percentile", "bca"):
        raise ValueError(f'method must be "percentile" or "bca", got "{method}"')
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level:g}; 0.95 is usual")
    home, members = patients_by_stratum(patients, strata)
    estimate = float(evaluated(draws_function, np.ones((1, home.size), np.int32))[0])
    if np.isnan(estimate):
        raise NotComputable("the metric has no value on all the patients, so neither has its interval")
    drawn, redrawn = _drawn(draws_function, patients, draws, seed, strata)
    if method == "bca":
        low, high = bca_ends(drawn, estimate, without_each(draws_function, home, members), level)
    else:
        low, high = (float(end) for end in np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]))
    count = int(home.max()) + 1
    how = f"bootstrap of {count} patients"
    how += f" ({home.size} rows)" if home.size > count else ""
    how += f" within {len(members)} strata" if len(members) > 1 else ""
    how += f", {draws} draws, {'BCa' if method == 'bca' else 'percentile'}"
    how += f"; {redrawn} draws without a value redrawn" if redrawn else ""
    how += "; every draw gave the same value" if np.ptp(drawn) == 0 else ""
    return Interval(estimate, low, high, count if n is None else n, events, how)


def paired_patient_difference(
    draws_function_a: DrawsFunction,
    draws_function_b: DrawsFunction,
    patients: Sequence[Hashable],
    **options,
) -> Interval:
    """Metric of model a minus that of model b on the same rows, both under the same draws of patients.

    Parameters
    ----------
    draws_function_a, draws_function_b : callables
        As in `patient_interval`; each is given the same counts. A draw in which either has no value is
        drawn again for both.
    patients, options
        As `patient_interval`.

    Returns
    -------
    Interval
        estimate > 0: a scores higher.

    Raises
    ------
    NotComputable, ValueError
        As `patient_interval`.
    """

    def difference(counts: np.ndarray) -> np.ndarray:
        return np.asarray(draws_function_a(counts), float) - np.asarray(draws_function_b(counts), float)

    found = patient_interval(difference, patients, **options)
    return Interval(found.estimate, found.low, found.high, found.n, found.events, f"paired; {found.how}")
