"""How folds and seeds become one number. Stated here, once, for every study.

- A metric is taken within a fold: scores of models that were trained apart are not comparable.
- Seeds are averaged within the fold: the mean of the metric, never the metric of a mean score.
- Folds are averaged with equal weight, as the survival papers print it. A fold in which the metric has no value
  makes the whole not computable: a mean over the lucky folds would be another quantity.
- Patients are resampled within their fold, events and censored apart; so every draw keeps each fold's size.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from lib.statistics.draws import DrawsFunction


def strata(fold: ArrayLike, event: ArrayLike) -> np.ndarray:
    """Name of each row's resampling stratum: its fold, and whether the event happened."""
    return np.array([f"{f}, {'event' if e else 'censored'}" for f, e in zip(fold, event, strict=True)])


def mean_over_folds(
    fold: ArrayLike, within: Callable[[np.ndarray], Sequence[DrawsFunction]]
) -> DrawsFunction:
    """A draws function that averages a metric over seeds, then over folds.

    Parameters
    ----------
    fold : array (n,)
        Fold in which each row was held out.
    within : callable
        Row numbers of one fold -> a draws function for each seed, on those rows.

    Returns
    -------
    callable
        counts (draws, n) -> values (draws,); NaN where a fold or seed has none.
    """
    fold = np.asarray(fold)
    parts = []
    for name in dict.fromkeys(fold.tolist()):
        rows = np.flatnonzero(fold == name)
        parts.append((rows, list(within(rows))))

    def values(counts: np.ndarray) -> np.ndarray:
        by_fold = [np.mean([one(counts[:, rows]) for one in seeds], axis=0) for rows, seeds in parts]
        return np.mean(by_fold, axis=0)

    return values
