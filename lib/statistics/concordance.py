"""How well a risk orders patients by their times to the event: c-indices after Harrell and after Uno."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lib.statistics.censoring import Censoring
from lib.statistics.classification import NotComputable
from lib.statistics.survival import checked_outcomes, checked_risk

BLOCK = 64  # patients with an event whose pairs are held at once


class NoComparablePair(NotComputable):
    """No event was outlived by another patient, so no two patients can be put in order."""


@dataclass(frozen=True)
class _Pairs:
    """Comparable pairs without writing them down: each event against all patients from a position on.

    Patients stand in the order of time, events before the censored of the same time.
    """

    order: np.ndarray  # (n,) patients in that order
    rank: np.ndarray  # (n,) place of each one's risk among all risks, lowest 0
    events: np.ndarray  # (e,) positions of the patients with an event
    start: np.ndarray  # (e,) position of the first patient who outlived each, n if none did
    below: np.ndarray  # (e,) ranks below this one are lower risks
    upto: np.ndarray  # (e,) ranks from `below` to before this one are tied risks


def _pairs(time: ArrayLike, event: ArrayLike, risk: ArrayLike, tied_tol: float) -> _Pairs:
    time, event = checked_outcomes(time, event)
    risk = checked_risk(risk, time.size)
    if not tied_tol >= 0:
        raise ValueError(f"tied_tol is {tied_tol}; 0 or more is needed")
    key = 2 * np.unique(time, return_inverse=True)[1] + ~event
    order = np.argsort(key, kind="stable")
    key = key[order]
    events = np.flatnonzero(key % 2 == 0)
    by_risk = np.argsort(risk, kind="stable")
    rank = np.empty(risk.size, dtype=np.int64)
    rank[by_risk] = np.arange(risk.size)
    own = risk[order][events]
    return _Pairs(
        order=order,
        rank=rank[order],
        events=events,
        start=np.searchsorted(key, key[events], "right"),
        below=np.searchsorted(risk[by_risk], own - tied_tol, "left"),
        upto=np.searchsorted(risk[by_risk], own + tied_tol, "right"),
    )


def _counted(rank: np.ndarray, start: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """How many of rank[start:] are below the limit, for each start and limit: O((n + e) log n).

    Ranks are split bit by bit from the highest, lows before highs, each half in its old order (a wavelet
    matrix): each stretch [start, n) stays a stretch, and where a limit's bit is 1 the lows in it count.

    References
    ----------
    Claude, Navarro and Ordonez, Information Systems 47 (2015), 15, doi:10.1016/j.is.2014.06.002.
    """
    end = np.full_like(start, rank.size)
    found = np.zeros_like(start)
    for bit in reversed(range(int(rank.size).bit_length())):
        high = (rank >> bit & 1).astype(bool)
        lows = np.r_[0, np.cumsum(~high)]
        low_start, low_end = lows[start], lows[end]
        above = (limit >> bit & 1).astype(bool)
        found += np.where(above, low_end - low_start, 0)
        start = np.where(above, lows[-1] + start - low_start, low_start)
        end = np.where(above, lows[-1] + end - low_end, low_end)
        rank = np.r_[rank[~high], rank[high]]
    return found


def _index(pairs: _Pairs, weights: np.ndarray | None = None) -> float:
    """Weight of concordant pairs, ties half, in that of the comparable ones; `weights` are the events'."""
    lower = _counted(pairs.rank, pairs.start, pairs.below) + _counted(pairs.rank, pairs.start, pairs.upto)
    longer = pairs.rank.size - pairs.start
    if weights is not None:
        lower, longer = weights * lower, weights * longer
    if not longer.sum():
        counted = pairs.events.size if weights is None else int((weights > 0).sum())
        raise NoComparablePair(
            f"of {pairs.rank.size} patients {counted} had an event that counts, and nobody outlived one of them: "
            f"no two patients can be put in order"
        )
    return float(lower.sum() / 2 / longer.sum())


def harrell(time: ArrayLike, event: ArrayLike, risk: ArrayLike, tied_tol: float = 1e-8) -> float:
    """Harrell's c-index: chance that, of two comparable patients, the one with the higher risk dies first.

    Two patients are comparable if one had the event and the other outlived it: a longer time, or the same
    time and censored. Two events at one time are not comparable, nor are two censored patients. A pair of
    tied risks counts half. So does `sksurv.metrics.concordance_index_censored`, and lifelines with
    tied_tol = 0.

    Parameters
    ----------
    time : array (n,)
        Follow-up, 0 or longer; only its order matters.
    event : array (n,)
        1 = event, 0 = censored.
    risk : array (n,)
        Higher = earlier event expected; any scale.
    tied_tol : float
        Risks that differ by no more than this are tied.

    Returns
    -------
    float
        0 to 1; 0.5 is chance.

    Raises
    ------
    NoComparablePair
        All are censored, or nobody outlived an event.
    NotComputable
        No patient, or a risk that is NaN or infinite.
    ValueError
        Lengths differ, or unusable times or events.

    References
    ----------
    Harrell et al., JAMA 247 (1982), 2543, doi:10.1001/jama.1982.03320430047030.
    """
    return _index(_pairs(time, event, risk, tied_tol))


def harrell_draws(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    counts: ArrayLike,
    tied_tol: float = 1e-8,
    event_weights: ArrayLike | None = None,
) -> np.ndarray:
    """Harrell's c-index in many resamples at once, each told by how often every patient is in it.

    Equal to `harrell` of the repeated rows. Time grows with draws x events x n, memory with draws x n.

    Parameters
    ----------
    time, event, risk, tied_tol
        As in `harrell`.
    counts : array (draws, n)
        Whole numbers, 0 or more; a bootstrap's row sums up to n.
    event_weights : array (n,), optional
        Weight of the pairs of each patient who had the event, the same in all draws: 1 / G^2 makes it Uno's.

    Returns
    -------
    float array (draws,)
        0 to 1, NaN in a draw without a comparable pair.

    Raises
    ------
    NotComputable, ValueError
        As in `harrell`, except that a draw without a comparable pair does not raise; `counts` of another
        shape, or below 0.
    """
    pairs = _pairs(time, event, risk, tied_tol)
    n = pairs.rank.size
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[1] != n:
        raise ValueError(f"counts have shape {counts.shape}; (draws, {n}) is needed, a column a patient")
    if not (counts >= 0).all():
        raise ValueError("counts must be 0 or more")
    counts = counts[:, pairs.order].astype(float)
    leading = counts[:, pairs.events]
    if event_weights is not None:
        leading = leading * np.asarray(event_weights, dtype=float)[pairs.order][pairs.events]
    since = counts.sum(axis=1, keepdims=True) - np.cumsum(counts, axis=1)  # of those after each position
    concordant, comparable = np.zeros((2, len(counts)))
    for first in range(0, pairs.events.size, BLOCK):
        block = slice(first, first + BLOCK)
        own, start = leading[:, block], pairs.start[block]
        comparable += np.einsum("de,de->d", own, since[:, start - 1])
        rank = pairs.rank[start[0] :]
        lower = (rank < pairs.below[block, None]) + (rank < pairs.upto[block, None]).astype(float)
        lower *= np.arange(start[0], n) >= start[:, None]
        concordant += np.einsum("de,de->d", own, counts[:, start[0] :] @ lower.T)
    return np.divide(concordant / 2, comparable, out=np.full(len(counts), np.nan), where=comparable > 0)


def uno(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    tau: float | None = None,
    censoring: Censoring | None = None,
    tied_tol: float = 1e-8,
) -> float:
    """Uno's c-index: Harrell's with each pair weighted by 1 / G(time of the event)^2.

    Harrell's depends on who happened to be censored; this one does not, if censoring depends on nothing
    the risk knows. Equals `sksurv.metrics.concordance_index_ipcw`.

    Parameters
    ----------
    time, event, risk, tied_tol
        As in `harrell`.
    tau : float, optional
        Only pairs whose event came before tau count, so that late events with large weights do not rule.
    censoring : Censoring, optional
        Fitted on the training fold; on these patients if not given.

    Returns
    -------
    float
        0 to 1; 0.5 is chance.

    Raises
    ------
    NoComparablePair
        All are censored, or nobody outlived an event (before tau).
    NotComputable, ValueError
        As in `harrell`; or an event where G is 0 or unknown, which a smaller tau mends.

    References
    ----------
    Uno et al., Statistics in Medicine 30 (2011), 1105, doi:10.1002/sim.4154, equation 6.
    """
    pairs = _pairs(time, event, risk, tied_tol)
    time, event = checked_outcomes(time, event)
    counted = event if tau is None else event & (time < tau)
    weights = (censoring or Censoring.fit(time, event)).weights(time, counted) ** 2
    return _index(pairs, weights[pairs.order][pairs.events])
