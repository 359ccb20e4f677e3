"""How well predictions of a time to an event order patients (c-indices after Harrell and Uno, time-dependent AUC) and
how far off they are (Brier scores), corrected for censoring.

The censoring is fitted elsewhere (on training patients) and held fixed, as a threshold is. So each metric is a weighted
sum over patients or pairs, and a resample only changes the weights: `uno`, `auc_at` and `brier_at` give a function of
counts (draws, n), how often each patient is in each resample, that returns values (draws,), NaN where a draw has none.
`time`, `event` and `risk` (n,) as in `lib.statistics.survival`: a higher risk means an earlier event.
"""

from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from lib.statistics.classification import NotComputable, auc
from lib.statistics.intervals import DrawsFunction
from lib.statistics.survival import Censoring, checked_outcomes, checked_risk

BLOCK = 64  # patients with an event whose pairs are held at once


def tied_ranks(risk: np.ndarray, tied_tol: float = 1e-8) -> np.ndarray:
    """Dense ranks of risks (n,), int, lowest 0; risks apart by no more than `tied_tol` of their spread, or by rounding, tie.

    The spread is what three quarters of the patients lie within of the median, so neither the unit of the risk nor one
    far-off patient decides what is a tie.
    """
    order = np.argsort(risk, kind="stable")
    values, spread = risk[order], np.quantile(np.abs(risk - np.median(risk)), 0.75)
    apart = np.diff(values) > tied_tol * spread + 1e-14 * (tied_tol > 0) * np.abs(values[1:])
    ranks = np.empty(risk.size, int)
    ranks[order] = np.r_[0, np.cumsum(apart)]
    return ranks


def harrell_draws(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    counts: ArrayLike,
    tied_tol: float = 1e-8,
    event_weights: ArrayLike | None = None,
) -> np.ndarray:
    """Harrell's c-index in many resamples at once: that of the repeated rows.

    Two matrix products over all pairs, a block of events at a time: time grows with draws x events x n, memory with
    draws x n. `counts` (draws, n) are whole numbers, 0 or more; `event_weights` (n,) weigh the pairs of each patient who
    had the event, the same in all draws: 1 / G^2 makes it Uno's. Risks tie as in `tied_ranks`. (draws,), NaN in a draw
    without a comparable pair.
    """
    time, event = checked_outcomes(time, event)
    risk, counts = tied_ranks(checked_risk(risk, time.size), tied_tol), np.asarray(counts)
    # in the order of time, events before the censored of the same time: whom an event can be compared with comes later
    key = 2 * np.unique(time, return_inverse=True)[1] + ~event
    order = np.argsort(key, kind="stable")
    key, risk, counts = key[order], risk[order], counts[:, order].astype(np.float32)  # whole numbers: exact
    events = np.flatnonzero(key % 2 == 0)
    start = np.searchsorted(key, key[events], "right")
    leading = counts[:, events].astype(float)
    if event_weights is not None:
        leading *= np.asarray(event_weights, dtype=float)[order][events]
    since = counts.sum(axis=1, keepdims=True) - np.cumsum(counts, axis=1)  # of those after each position
    comparable = np.einsum("de,de->d", leading, since[:, start - 1])
    concordant = np.zeros(len(counts))
    for first in range(0, events.size, BLOCK):
        block = slice(first, first + BLOCK)
        begin, until, ahead = start[block][0], start[block][-1], risk[events[block], None]
        later = risk[begin:]
        lower = np.add(later < ahead, later <= ahead, dtype=np.float32)
        lower[:, : until - begin] *= np.arange(begin, until) >= start[block, None]
        concordant += np.einsum("de,de->d", leading[:, block], counts[:, begin:] @ lower.T)
    return np.divide(concordant / 2, comparable, out=np.full(len(counts), np.nan), where=comparable > 0)


def harrell(time: ArrayLike, event: ArrayLike, risk: ArrayLike, tied_tol: float = 1e-8) -> float:
    """Harrell's c-index: chance that, of two comparable patients, the one with the higher risk has the event first.

    Two patients are comparable if one had the event and the other outlived it: a longer time, or the same time and
    censored. Tied risks (`tied_ranks`) count half. So do lifelines and R's `survival::concordance`, with tied_tol = 0.

    References
    ----------
    Harrell et al., JAMA 247 (1982), 2543, doi:10.1001/jama.1982.03320430047030.
    """
    (value,) = harrell_draws(time, event, risk, np.ones((1, np.size(time))), tied_tol)
    if np.isnan(value):
        n, events = np.size(time), int(np.sum(event))
        raise NotComputable(f"of {n} patients {events} had an event, and nobody outlived one of them")
    return float(value)


def uno(
    time: ArrayLike, event: ArrayLike, risk: ArrayLike, tau: float, censoring: Censoring
) -> DrawsFunction:
    """Uno's c-index: Harrell's with each pair weighted by 1 / G(time of the event)^2, of events before `tau` only.

    Harrell's depends on who happened to be censored; this one does not, if censoring depends on nothing the risk knows.
    tau keeps late events with large weights from ruling; a smaller one also mends a G that is 0 or unknown before an
    event (NotComputable), unless nobody outlived that event, so that no pair needs it. Equals R's
    `survival::concordance(timewt = "n/G2")`, and scikit-survival where nobody is censored at the time of an event.

    References
    ----------
    Uno et al., Statistics in Medicine 30 (2011), 1105, doi:10.1002/sim.4154, equation 6.
    """
    time, event = checked_outcomes(time, event)
    outlived = (time < time.max()) | (time == time[~event].max(initial=-1))  # else the event is in no pair
    weights = censoring.weights(time, event & (time < tau) & outlived) ** 2
    return partial(harrell_draws, time, event, risk, event_weights=weights)


def auc_at(
    time: ArrayLike, event: ArrayLike, risk: ArrayLike, horizon: float, censoring: Censoring
) -> DrawsFunction:
    """Cumulative/dynamic AUC: chance that who had the event by the horizon had a higher risk than who was free of it.

    Cases (event at or before it) are weighted by 1 / G(just before the event), controls (followed beyond it) alike; who
    was censored by then is neither. Tied risks (`tied_ranks`) count half. Equals R's `riskRegression::Score`. NaN in a
    draw without a case or without a control; NotComputable where G is 0 or unknown before a case.

    References
    ----------
    Uno et al., JASA 102 (2007), 527, doi:10.1198/016214507000000149.
    Hung and Chiang, Canadian Journal of Statistics 38 (2010), 8, doi:10.1002/cjs.10046.
    """
    time, event = checked_outcomes(time, event)
    risk = checked_risk(risk, time.size)
    case, control = event & (time <= horizon), time > horizon
    weights = np.where(control, 1.0, censoring.weights(time, case & control.any()))
    rows = np.flatnonzero(case | control)
    labels, ranks = case[rows].astype(float), tied_ranks(risk)[rows]
    return lambda counts: auc(labels, ranks, counts[:, rows] * weights[rows])


def brier_at(
    time: ArrayLike, event: ArrayLike, survival: ArrayLike, times: ArrayLike, censoring: Censoring
) -> DrawsFunction:
    """Brier score of the predicted survival (n, k) at a horizon (k = 1), weighted against censoring; or integrated: the
    mean over the stretch of several ascending horizons (trapezoids).

    Who had the event at or before t should have survival 0 and weighs 1 / G(just before the event); who was followed
    beyond t should have 1 and weighs 1 / G(t); who was censored by t weighs 0 and counts in the mean's n. Lower is better;
    0.5 for everybody gets about 0.25, and the training fold's Kaplan-Meier curve for everybody is the scale. Equals R's
    `riskRegression::Score`.
    NotComputable where G is 0 or unknown where it is needed, or t lies beyond what is known of G.

    References
    ----------
    Graf et al., Statistics in Medicine 18 (1999), 2529,
    doi:10.1002/(SICI)1097-0258(19990915/30)18:17/18<2529::AID-SIM274>3.0.CO;2-5.
    """
    time, event = checked_outcomes(time, event)
    survival, times = np.asarray(survival, dtype=float), np.asarray(times, dtype=float)
    if survival.shape != (time.size, times.size) or not (np.diff(times) > 0).all():
        raise ValueError(f"survival {survival.shape}: {time.size} patients at {times} ascending is needed")
    if bad := int((~((survival >= 0) & (survival <= 1))).sum()):
        raise NotComputable(f"{bad} of {survival.size} survival probabilities are NaN or outside 0 to 1")
    terms = np.empty(survival.shape)
    for column, at in enumerate(times):
        died = censoring.weights(time, event & (time <= at)) * survival[:, column] ** 2
        (followed,) = censoring.survival([at])
        alive = time > at
        if followed == 0 and (alive.any() or at > censoring.times[-1]):
            raise NotComputable(f"G is 0 at the horizon {at:g}: choose an earlier one")
        terms[:, column] = died + alive * (1 - survival[:, column]) ** 2 / (followed or 1)
    term = np.trapezoid(terms, times, axis=1) / (times[-1] - times[0]) if times.size > 1 else terms[:, 0]
    return lambda counts: counts @ term / counts.sum(axis=1)
