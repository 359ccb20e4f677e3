"""Ends of a bootstrap interval corrected for bias and skewness (BCa)."""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr, ndtri

from lib.statistics.classification import NotComputable


def acceleration(jackknife: Sequence[np.ndarray]) -> float:
    """A sixth of the skewness of the estimate, from its values without one patient each.

    Parameters
    ----------
    jackknife : sequence of arrays
        One a stratum: the estimate without each of the stratum's patients. A stratum of one patient says
        nothing of spread and adds nothing.

    Returns
    -------
    float
        0 where no patient changes the estimate.

    References
    ----------
    Efron, J Am Stat Assoc 82:171 (1987), doi:10.1080/01621459.1987.10478410; for several samples Davison
    and Hinkley, Bootstrap Methods and their Application (1997), 5.3.
    """
    influence = [(values.size - 1) * (values.mean() - values) / values.size for values in jackknife]
    joined = np.concatenate(influence)
    variance = (joined**2).sum()
    return float((joined**3).sum() / (6 * variance**1.5)) if variance > 0 else 0.0


def bca_ends(
    drawn: np.ndarray, estimate: float, jackknife: Sequence[np.ndarray], level: float = 0.95
) -> tuple[float, float]:
    """Ends of the BCa interval.

    Parameters
    ----------
    drawn : array (draws,)
        The bootstrap values.
    estimate : float
        The value on the data themselves.
    jackknife : sequence of arrays
        As `acceleration`.
    level : float
        In (0, 1).

    Raises
    ------
    NotComputable
        Every draw lies on one side of the estimate, or the correction runs past the ends.

    References
    ----------
    Efron, J Am Stat Assoc 82:171 (1987), doi:10.1080/01621459.1987.10478410.
    """
    below = ((drawn < estimate).mean() + (drawn <= estimate).mean()) / 2
    if below in (0, 1):
        raise NotComputable(
            f"every one of {drawn.size} draws lies {'above' if below == 0 else 'below'} the estimate "
            f"{estimate:.4g}, so BCa has no bias correction: take more draws, or the percentile interval"
        )
    bias, skew = ndtri(below), acceleration(jackknife)
    wanted = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
    if (skew * wanted >= 1).any():
        raise NotComputable(
            f"the acceleration {skew:.3g} is too large for a BCa interval: take the percentile interval"
        )
    low, high = np.quantile(drawn, ndtr(bias + wanted / (1 - skew * wanted)))
    return float(low), float(high)
