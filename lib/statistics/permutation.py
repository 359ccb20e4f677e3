"""Paired permutation test of two models on the same patients."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from lib.statistics.classification import NotComputable
from lib.statistics.draws import patients_by_stratum

CELLS = 4_000_000  # swapped scores held at once: 32 MB


@dataclass(frozen=True)
class Permutation:
    """Difference of a metric (a minus b), its two-sided p, and what was permuted."""

    difference: float
    p: float
    permutations: int
    exact: bool
    how: str


def row_by_row(function: Callable[[np.ndarray], float]) -> Callable[[np.ndarray], np.ndarray]:
    """Metric of every row of scores (k, n) by a function of one row (n,); slow, for want of a vectorised one."""
    return lambda scores: np.array([function(row) for row in scores])


def paired_permutation(
    metric: Callable[[np.ndarray], np.ndarray],
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    patients: Sequence[Hashable],
    *,
    permutations: int = 10_000,
    seed: int = 0,
    scale: Literal["ranks", "given"] = "ranks",
    within: Sequence[Hashable] | None = None,
) -> Permutation:
    """Would a difference this large arise if it did not matter which model scored a patient?

    For every patient the two models' scores are swapped or not, all rows of the patient together, and the
    difference of the metric is taken anew. Where all swaps are no more than `permutations` each is
    taken once (exact); else they are drawn, and the data themselves count as one of them, so p is never 0.

    Parameters
    ----------
    metric : callable
        Takes scores (k, n) and returns values (k,): `functools.partial(delong.auc_rows, labels)`, or
        `row_by_row(lambda risk: harrell(time, event, risk))`.
    scores_a, scores_b : arrays (n,)
        Higher = more likely, or earlier.
    patients : sequence (n,)
    permutations, seed : int
    scale : {"ranks", "given"}
        "ranks" puts each model's scores on their ranks first, for metrics of order (AUC, c-index): two models'
        scores need no common scale. "given" swaps them as they are, for calls and probabilities.
    within : sequence (n,), optional
        Ranks are taken within it: the fold, where each fold has a model of its own.

    Returns
    -------
    Permutation
        difference > 0: a scores higher.

    Raises
    ------
    NotComputable
        The metric has no value for a model, or for a swap.
    ValueError
        Lengths differ, scores that are not finite, unknown scale.

    References
    ----------
    Venkatraman and Begg, Biometrika 83:835 (1996), doi:10.1093/biomet/83.4.835 (ranks swapped within a
    patient); p as Phipson and Smyth, Stat Appl Genet Mol Biol 9:39 (2010), doi:10.2202/1544-6115.1585.
    """
    if scale not in ("ranks", "given"):
        raise ValueError(f'scale must be "ranks" or "given", got "{scale}"')
    a, b = np.asarray(scores_a, dtype=float), np.asarray(scores_b, dtype=float)
    home, _ = patients_by_stratum(patients)
    if not a.shape == b.shape == home.shape:
        raise ValueError(f"scores {a.shape} and {b.shape} and patients {home.shape} must have one length")
    if not np.isfinite(np.stack([a, b])).all():
        raise ValueError("scores must be finite: leave out what a model did not score, and count it, before")
    if scale == "ranks":
        a, b = _ranked(a, within), _ranked(b, within)
    count = int(home.max()) + 1
    exact = count < 60 and 2**count <= permutations
    permutations = 2**count if exact else permutations
    random = np.random.default_rng(seed)
    (observed,) = _differences(metric, a, b, np.zeros((1, home.size), bool))
    extreme = 0
    for start in range(0, permutations, step := max(1, CELLS // home.size)):
        rows = np.arange(start, min(start + step, permutations))
        if exact:
            swapped = (rows[:, None] >> np.arange(count) & 1).astype(bool)
        else:
            swapped = random.random((rows.size, count)) < 0.5
        found = _differences(metric, a, b, swapped[:, home])
        # equal differences differ by rounding, and must count as equal
        extreme += int((np.abs(found) >= abs(observed) - 1e-12).sum())
    p = extreme / permutations if exact else (extreme + 1) / (permutations + 1)
    how = f"paired permutation of {count} patients, "
    how += f"all {permutations} swaps" if exact else f"{permutations} random swaps"
    return Permutation(
        float(observed), p, permutations, exact, how + (", of ranks" if scale == "ranks" else "")
    )


def _ranked(scores: np.ndarray, within: Sequence[Hashable] | None) -> np.ndarray:
    if within is None:
        return rankdata(scores)
    return pd.Series(scores).groupby(np.asarray(within), dropna=False).rank().to_numpy()


def _differences(
    metric: Callable[[np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray, swapped: np.ndarray
) -> np.ndarray:
    """Metric of a minus that of b, with the scores swapped where told: swapped (k, n) -> (k,)."""
    found = np.asarray(metric(np.where(swapped, b, a))) - np.asarray(metric(np.where(swapped, a, b)))
    if missing := int(np.isnan(found).sum()):
        raise NotComputable(
            f"the metric has no value in {missing} of {found.size} swaps of the two models' scores"
        )
    return found
