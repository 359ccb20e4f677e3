"""Share of patients with an event by a horizon, under many weightings of the patients at once."""

import numpy as np
from numpy.typing import ArrayLike

from lib.statistics.survival import checked_outcomes


def event_share(time: ArrayLike, event: ArrayLike, horizon: float, weights: ArrayLike) -> np.ndarray:
    """1 - Kaplan-Meier at a horizon, for each row of weights.

    Parameters
    ----------
    time, event : arrays (n,)
        As `survival.checked_outcomes`.
    horizon : float
        In the unit of `time`; an event at the horizon counts.
    weights : array (k, n)
        How often each patient counts: the counts of a bootstrap draw, or 1 for the members of a group.

    Returns
    -------
    array (k,)
        0 to 1; NaN where no patient is there, or where follow-up ends before the horizon with somebody
        still free of the event, so that nothing is known of the horizon.

    Raises
    ------
    ValueError, NotComputable
        As `survival.checked_outcomes`.

    References
    ----------
    Kaplan and Meier, J Am Stat Assoc 53:457 (1958), doi:10.1080/01621459.1958.10501452.
    """
    time, event = checked_outcomes(time, event)
    order = np.argsort(time, kind="stable")
    time, event, weights = time[order], event[order], np.asarray(weights, dtype=float)[:, order]
    starts = np.flatnonzero(np.r_[True, np.diff(time) > 0])
    at_risk = np.cumsum(np.add.reduceat(weights, starts, axis=1)[:, ::-1], axis=1)[:, ::-1]
    events = np.add.reduceat(weights * event, starts, axis=1)
    lost = np.divide(events, at_risk, out=np.zeros(events.shape), where=at_risk > 0)
    survival = (1 - lost[:, time[starts] <= horizon]).prod(axis=1)
    known = (weights @ (time >= horizon) > 0) | (survival == 0)
    return np.where(known, 1 - survival, np.nan)
