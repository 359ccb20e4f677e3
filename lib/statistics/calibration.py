"""Whether a probability means what it says."""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lib.statistics.classification import checked

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
