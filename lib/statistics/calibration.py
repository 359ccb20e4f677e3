"""Whether a probability means what it says.

Predicted against observed share of patients with an event by a horizon.

Decision curves: what treating those a model calls gains, against treating all and treating none.
"""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lib.statistics.classification import NotComputable, checked
from lib.statistics.survival import checked_outcomes, event_share, kaplan_meier

Edges = Literal["width", "quantile"]


def checked_probabilities(labels: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """As `classification.checked`, and probabilities outside 0 to 1 are refused (ValueError)."""
    labels, probabilities = checked(labels, probabilities)
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise ValueError(
            f"probabilities lie in {probabilities.min():.3g} to {probabilities.max():.3g}, not in 0 to 1: "
            "turn scores into probabilities with thresholds.platt first"
        )
    return labels, probabilities


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared difference of probability and outcome.

    Parameters
    ----------
    labels : array (n,)
        1 positive (cancer), 0 other.
    probabilities : array (n,)
        Probability of being positive, 0 to 1.

    Returns
    -------
    float
        0 (best) to 1; a constant p at prevalence p gives p (1 - p).

    Raises
    ------
    NotComputable, ValueError
        Undetermined labels; values outside 0 to 1.

    References
    ----------
    Brier, Monthly Weather Review 78:1 (1950).
    """
    labels, probabilities = checked_probabilities(labels, probabilities)
    return float(((probabilities - labels) ** 2).mean())


def homes(probabilities: np.ndarray, bins: int, edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the bins, and the bin of each probability; the last bin includes its upper edge.

    Parameters
    ----------
    probabilities : array (n,)
    bins : int
    edges : {"width", "quantile"}
        Equal width over 0 to 1, or equal numbers of cases: where probabilities tie, fewer bins.

    Returns
    -------
    edges : array (bins + 1,)
    home : int array (n,)

    Raises
    ------
    ValueError
        Unknown kind of edges, or no bin.
    """
    if edges not in ("width", "quantile") or bins < 1:
        raise ValueError(f'edges must be "width" or "quantile" and bins 1 or more, got "{edges}", {bins}')
    cuts = np.linspace(0, 1, bins + 1)
    if edges == "quantile":
        # real values begin the bins, so that none is empty
        starts = np.unique(np.quantile(probabilities, cuts[:-1], method="higher"))
        cuts = np.append(starts, probabilities.max())
    return cuts, np.clip(np.searchsorted(cuts, probabilities, side="right") - 1, 0, cuts.size - 2)


def calibration_bins(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 10, edges: Edges = "width"
) -> pd.DataFrame:
    """Observed share of positive cases against mean probability, in bins of the probability.

    Parameters
    ----------
    labels, probabilities : arrays (n,)
        As `brier`.
    bins, edges
        As `homes`.

    Returns
    -------
    DataFrame, one row a bin
        low, high (edges; the last bin includes its high), n, events, predicted (mean probability), observed
        (share of positive cases). An empty bin keeps its row, with n 0 and NaN for both shares.

    Raises
    ------
    NotComputable, ValueError
        As `brier`.
    """
    labels, probabilities = checked_probabilities(labels, probabilities)
    cuts, home = homes(probabilities, bins, edges)
    count = cuts.size - 1
    n = np.bincount(home, minlength=count)
    events = np.bincount(home, weights=labels, minlength=count)
    filled = np.where(n > 0, n, np.nan)
    return pd.DataFrame(
        {
            "low": cuts[:-1],
            "high": cuts[1:],
            "n": n,
            "events": events.astype(int),
            "predicted": np.bincount(home, weights=probabilities, minlength=count) / filled,
            "observed": events / filled,
        }
    )


def ece(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10, edges: Edges = "width") -> float:
    """Expected calibration error: distance of observed and predicted share, averaged over the cases.

    It depends on the bins, and even a calibrated model's is above 0 in a finite sample: name the bins beside it.

    Parameters
    ----------
    labels, probabilities, bins, edges
        As `calibration_bins`.

    Returns
    -------
    float
        0 (best) to 1.

    Raises
    ------
    NotComputable, ValueError
        As `brier`.

    References
    ----------
    Naeini, Cooper and Hauskrecht, AAAI 29 (2015), doi:10.1609/aaai.v29i1.9602.
    """
    table = calibration_bins(labels, probabilities, bins, edges)
    distance = (table["observed"] - table["predicted"]).abs()
    return float((table["n"] * distance).sum() / table["n"].sum())


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
