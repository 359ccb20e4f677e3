"""Decision curves: what treating those a model calls gains, against treating all and treating none."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lib.statistics.calibration import checked_probabilities
from lib.statistics.classification import NotComputable
from lib.statistics.event_share import event_share
from lib.statistics.survival import checked_outcomes

THRESHOLDS = np.arange(1, 100) / 100


def _checked_thresholds(thresholds: ArrayLike) -> np.ndarray:
    thresholds = np.asarray(thresholds, dtype=float)
    if thresholds.ndim != 1 or not ((thresholds >= 0) & (thresholds < 1)).all():
        raise ValueError("thresholds must be a vector of probabilities, 0 or more and below 1")
    return thresholds


def _table(
    thresholds: np.ndarray, called: np.ndarray, share_of_called: np.ndarray, share: float
) -> pd.DataFrame:
    odds = thresholds / (1 - thresholds)
    n = called.shape[1]
    number = called.sum(axis=1)
    # who treats nobody gains nothing: a true 0
    gain = np.where(number > 0, number / n * (share_of_called - (1 - share_of_called) * odds), 0.0)
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "n": n,
            "called": number,
            "net_benefit": gain,
            "treat_all": share - (1 - share) * odds,
            "treat_none": 0.0,
        }
    )


def decision_curve(
    labels: ArrayLike, probabilities: ArrayLike, thresholds: ArrayLike = THRESHOLDS
) -> pd.DataFrame:
    """Net benefit at each threshold probability: true positives less false ones at the threshold's odds, over n.

    Parameters
    ----------
    labels : array (n,)
        1 positive, 0 other.
    probabilities : array (n,)
        Probability of being positive, 0 to 1. A case at or above the threshold is called.
    thresholds : array (k,)
        0 or more and below 1.

    Returns
    -------
    DataFrame, one row a threshold
        threshold, n, called, net_benefit, treat_all, treat_none (0). At most the prevalence.

    Raises
    ------
    NotComputable, ValueError
        Undetermined labels; values outside 0 to 1.

    References
    ----------
    Vickers and Elkin, Med Decis Making 26:565 (2006), doi:10.1177/0272989X06295361.
    """
    labels, probabilities = checked_probabilities(labels, probabilities)
    thresholds = _checked_thresholds(thresholds)
    called = probabilities >= thresholds[:, None]
    share = (called @ labels) / np.maximum(called.sum(axis=1), 1)
    return _table(thresholds, called, share, float(labels.mean()))


def decision_curve_at_horizon(
    time: ArrayLike,
    event: ArrayLike,
    probabilities: ArrayLike,
    horizon: float,
    thresholds: ArrayLike = THRESHOLDS,
) -> pd.DataFrame:
    """Net benefit for an event by a horizon; its share among those called is by Kaplan-Meier.

    Parameters
    ----------
    time, event : arrays (n,)
        As `survival.checked_outcomes`. Censoring must not depend on the risk within those called.
    probabilities : array (n,)
        Predicted probability of the event by the horizon, 0 to 1 (1 - survival).
    horizon : float
        In the unit of `time`.
    thresholds : array (k,)
        0 or more and below 1.

    Returns
    -------
    DataFrame
        As `decision_curve`; net_benefit is NaN where somebody is called but the follow-up of those called
        ends before the horizon.

    Raises
    ------
    NotComputable
        The follow-up of all patients ends before the horizon.
    ValueError
        Unusable times, events, probabilities or thresholds.

    References
    ----------
    Vickers, Cronin, Elkin and Gonen, BMC Med Inform Decis Mak 8:53 (2008), doi:10.1186/1472-6947-8-53.
    """
    time, event = checked_outcomes(time, event)
    _, probabilities = checked_probabilities(event, probabilities)
    thresholds = _checked_thresholds(thresholds)
    (share,) = event_share(time, event, horizon, np.ones((1, time.size)))
    if np.isnan(share):
        raise NotComputable(
            f"follow-up ends at {time.max():g}, before the horizon {horizon:g}: take an earlier one"
        )
    called = probabilities >= thresholds[:, None]
    return _table(thresholds, called, event_share(time, event, horizon, called), float(share))
