"""Whether a probability means what it says."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lib.statistics.classification import checked


def _probable(labels: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
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
        1 cancer, 0 other.
    probabilities : array (n,)
        Probability of cancer, 0 to 1.

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
    labels, probabilities = _probable(labels, probabilities)
    return float(((probabilities - labels) ** 2).mean())


def calibration_bins(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> pd.DataFrame:
    """Share of cancer against mean probability, in `bins` bins of equal width over 0 to 1.

    Returns
    -------
    DataFrame, one row a bin
        low, high (edges; the last bin includes 1), n, events, predicted (mean probability), observed
        (share of cancer). An empty bin keeps its row, with n 0 and NaN for both shares.

    Raises
    ------
    NotComputable, ValueError
        As `brier`.
    """
    labels, probabilities = _probable(labels, probabilities)
    edges = np.linspace(0, 1, bins + 1)
    home = np.clip(np.searchsorted(edges, probabilities, side="right") - 1, 0, bins - 1)
    n = np.bincount(home, minlength=bins)
    events = np.bincount(home, weights=labels, minlength=bins)
    filled = np.where(n > 0, n, np.nan)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "n": n,
            "events": events.astype(int),
            "predicted": np.bincount(home, weights=probabilities, minlength=bins) / filled,
            "observed": events / filled,
        }
    )
