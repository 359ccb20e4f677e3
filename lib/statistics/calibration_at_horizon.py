"""Predicted against observed share of patients with an event by a horizon."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lib.statistics.calibration import checked_probabilities, homes
from lib.statistics.classification import NotComputable
from lib.statistics.survival import checked_outcomes, kaplan_meier


def calibration_at_horizon(
    time: ArrayLike,
    event: ArrayLike,
    probabilities: ArrayLike,
    horizon: float,
    groups: int = 5,
    level: float = 0.95,
) -> pd.DataFrame:
    """Share with an event by Kaplan-Meier against mean predicted probability, in groups of like prediction.

    Parameters
    ----------
    time, event : arrays (n,)
        As `survival.checked_outcomes`.
    probabilities : array (n,)
        Predicted probability of the event by the horizon, 0 to 1 (1 - survival).
    horizon : float
        In the unit of `time`; an event at the horizon counts.
    groups : int
        Quantile groups of the prediction; where predictions tie there may be fewer.
    level : float
        Of the bands of the Kaplan-Meier estimate.

    Returns
    -------
    DataFrame, one row a group
        low, high (predictions; the last includes `high`), n, events (by the horizon), at_risk (still followed at
        the horizon), predicted (mean), observed, observed_low, observed_high. These three are NaN where a
        group's follow-up ends before the horizon with somebody free of the event.

    Raises
    ------
    NotComputable
        The follow-up of all patients ends before the horizon.
    ValueError
        Unusable times, events or probabilities.

    References
    ----------
    Kaplan and Meier, J Am Stat Assoc 53:457 (1958), doi:10.1080/01621459.1958.10501452.
    """
    time, event = checked_outcomes(time, event)
    _, probabilities = checked_probabilities(event, probabilities)
    if time.max() < horizon and not event[time == time.max()].all():
        raise NotComputable(
            f"follow-up ends at {time.max():g}, before the horizon {horizon:g}: take an earlier one"
        )
    edges, home = homes(probabilities, groups, "quantile")
    rows = []
    for group in range(len(edges) - 1):
        own = home == group
        curve = kaplan_meier(time[own], event[own], level)
        last = curve[curve["time"] <= horizon].iloc[-1]
        known = (time[own] >= horizon).any() or last["survival"] == 0
        rows.append(
            {
                "low": edges[group],
                "high": edges[group + 1],
                "n": int(own.sum()),
                "events": int((event[own] & (time[own] <= horizon)).sum()),
                "at_risk": int((time[own] >= horizon).sum()),
                "predicted": probabilities[own].mean(),
                "observed": 1 - last["survival"] if known else np.nan,
                "observed_low": 1 - last["high"] if known else np.nan,
                "observed_high": 1 - last["low"] if known else np.nan,
            }
        )
    return pd.DataFrame(rows)
