"""Censoring-weighted metrics of many resamples at once: each function returns counts (draws, n) -> values (draws,).

The censoring is fitted elsewhere (on training patients) and held fixed, as a threshold is: then these metrics are
weighted sums over patients or pairs, and a resample only changes the weights.
"""

import numpy as np

from lib.statistics import weighted
from lib.statistics.censoring import Censoring
from lib.statistics.concordance import harrell_draws
from lib.statistics.draws import DrawsFunction


def uno(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, tau: float, censoring: Censoring
) -> DrawsFunction:
    """`concordance.uno` in every draw; NaN in one without a comparable pair."""
    weights = censoring.weights(time, event & (time < tau)) ** 2
    return lambda counts: harrell_draws(time, event, risk, counts, event_weights=weights)


def auc_at(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, horizon: float, censoring: Censoring
) -> DrawsFunction:
    """`horizon.auc_at` at one horizon in every draw; NaN in one without a case or without a control."""
    case, control = event & (time <= horizon), time > horizon
    weights = np.where(control, 1.0, censoring.weights(time, case))
    kept = np.flatnonzero(case | control)
    labels = case[kept].astype(float)
    return lambda counts: weighted.auc(labels, risk[kept], counts[:, kept] * weights[kept])


def brier(
    time: np.ndarray, event: np.ndarray, survival: np.ndarray, times: np.ndarray, censoring: Censoring
) -> DrawsFunction:
    """`horizon.brier_at` at one time, or `horizon.integrated_brier` over several, in every draw.

    Parameters
    ----------
    survival : array (n, times)
    times : array (times,)
        Ascending; several are integrated by trapezoids and divided by their range.
    """
    terms = np.empty(survival.shape)
    for column, at in enumerate(times):
        died = censoring.weights(time, event & (time <= at)) * survival[:, column] ** 2
        alive = (time > at) * (1 - survival[:, column]) ** 2 / censoring.survival(np.array([at]))
        terms[:, column] = died + alive
    term = np.trapezoid(terms, times, axis=1) / (times[-1] - times[0]) if len(times) > 1 else terms[:, 0]
    return lambda counts: counts @ term / counts.sum(axis=1)
