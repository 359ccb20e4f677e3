"""Do groups of patients differ in survival: the log-rank test and its weighted kin."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import chi2

from lib.statistics.classification import NotComputable
from lib.statistics.survival import at_risk, checked_outcomes

WEIGHTINGS = ("none", "wilcoxon", "tarone-ware", "peto", "fleming-harrington")


@dataclass(frozen=True)
class LogRank:
    """Chi-squared statistic, its p-value, and its degrees of freedom (groups less one)."""

    statistic: float
    p: float
    degrees: int


def _weights(weighting: str, dead: np.ndarray, alive: np.ndarray, p: float, q: float) -> np.ndarray:
    """Weight of each event time, from the numbers of events and at risk there: (m,)."""
    if weighting not in WEIGHTINGS:
        raise ValueError(f'unknown weighting "{weighting}"; known are {", ".join(WEIGHTINGS)}')
    if not (p >= 0 and q >= 0):
        raise ValueError(f"p and q must be 0 or more, got {p} and {q}")
    before = np.cumprod(np.r_[1.0, 1 - dead / alive])[:-1]
    return {
        "none": np.ones(dead.size),
        "wilcoxon": alive,
        "tarone-ware": np.sqrt(alive),
        "peto": np.cumprod(1 - dead / (alive + 1)),
        "fleming-harrington": before**p * (1 - before) ** q,
    }[weighting]


def logrank(
    time: ArrayLike,
    event: ArrayLike,
    group: ArrayLike,
    weighting: str = "none",
    p: float = 1.0,
    q: float = 0.0,
) -> LogRank:
    """Log-rank test of two or more groups, optionally weighted over time.

    Own code, not lifelines': that one answers with a pseudo-inverse where the groups cannot be compared,
    and fails under Fleming-Harrington with a time of 0.

    Parameters
    ----------
    time : array (n,)
        Follow-up, 0 or longer; only its order matters.
    event : array (n,)
        1 = event, 0 = censored.
    group : array (n,)
        Names or numbers of groups; none missing.
    weighting : str
        Of an event time: "none" 1; "wilcoxon" (Gehan, Breslow) the number at risk; "tarone-ware" its root;
        "peto" the survival estimate of Peto and Peto, modified; "fleming-harrington" S(t-)^p (1 - S(t-))^q.
        All but "none", and Fleming-Harrington with q > 0, look harder at early differences.
    p, q : float
        Of Fleming-Harrington, 0 or more.

    Returns
    -------
    LogRank

    Raises
    ------
    NotComputable
        Fewer than two groups, no event, or a group that is never at risk beside the others when an event
        happens.
    ValueError
        Lengths differ, a missing group, an unknown weighting, or unusable times or events.

    References
    ----------
    Klein and Moeschberger, Survival Analysis (2003), sections 7.3 and 7.4.
    """
    time, event = checked_outcomes(time, event)
    code, names = pd.factorize(np.asarray(group), sort=True)
    if code.shape != time.shape:
        raise ValueError(f"group has shape {code.shape}, time {time.shape}; one group a patient is needed")
    if missing := int((code < 0).sum()):
        raise ValueError(f"{missing} of {code.size} patients have no group: leave them out, and count them")
    if len(names) < 2:
        raise NotComputable(f'all patients are in the group "{names[0]}": there is nothing to compare')
    if not event.any():
        raise NotComputable(f"all {event.size} patients are censored: there is no event to compare")

    times, place = np.unique(time[event], return_inverse=True)
    deaths = np.zeros((len(names), times.size))
    np.add.at(deaths, (code[event], place), 1)
    alive = np.array([at_risk(time[code == each], times) for each in range(len(names))], dtype=float)
    dead, all_alive = deaths.sum(0), alive.sum(0)

    weights = _weights(weighting, dead, all_alive, p, q)
    apart = ((deaths - alive * dead / all_alive) * weights).sum(1)
    spread = weights**2 * dead * (all_alive - dead) / np.maximum(all_alive - 1, 1) / all_alive**2
    variance = np.diag((alive * all_alive * spread).sum(1)) - (alive * spread) @ alive.T
    if np.linalg.matrix_rank(variance, hermitian=True) < len(names) - 1:
        raise NotComputable(
            f"of the groups {', '.join(map(str, names))} one is never at risk beside the others when an event "
            f"happens, so they cannot be compared"
        )
    statistic = float(apart[:-1] @ np.linalg.solve(variance[:-1, :-1], apart[:-1]))
    return LogRank(statistic, float(chi2.sf(statistic, len(names) - 1)), len(names) - 1)
