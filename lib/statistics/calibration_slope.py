"""Calibration in two numbers: are probabilities right on the whole, and are they spread rightly?"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from lib.statistics.calibration import checked_probabilities
from lib.statistics.classification import NotComputable
from lib.statistics.intervals import Interval


def intercept_slope(
    labels: ArrayLike, probabilities: ArrayLike, level: float = 0.95
) -> tuple[Interval, Interval]:
    """Calibration intercept (in the large) and slope, with Wald intervals.

    The intercept is that of a logistic regression of the outcome with the logit of the probability as an offset:
    0 is right, above 0 the probabilities are too low on the whole. The slope is the coefficient of that logit:
    1 is right, below 1 the probabilities are too extreme (overfitting).

    Parameters
    ----------
    labels : array (n,)
        1 positive, 0 other; one row a patient (the Wald intervals know no others).
    probabilities : array (n,)
        Above 0 and below 1.
    level : float
        In (0, 1).

    Returns
    -------
    intercept, slope : Interval

    Raises
    ------
    NotComputable
        One class only, a probability of exactly 0 or 1, one probability for all, or classes that the
        probabilities separate (the slope is infinite).
    ValueError
        Values outside 0 to 1.

    References
    ----------
    Cox, Biometrika 45:562 (1958), doi:10.1093/biomet/45.3-4.562; Van Calster et al., BMC Med 17:230 (2019),
    doi:10.1186/s12916-019-1466-7.
    """
    labels, probabilities = checked_probabilities(labels, probabilities)
    if labels.min() == labels.max():
        raise NotComputable(f"all {labels.size} cases have the label {labels[0]:g}: calibration needs both")
    if sure := int(np.isin(probabilities, (0, 1)).sum()):
        raise NotComputable(
            f"{sure} of {labels.size} probabilities are exactly 0 or 1, whose logit is infinite"
        )
    if np.ptp(probabilities) == 0:
        raise NotComputable(f"every probability is {probabilities[0]:g}, which has no calibration slope")
    positive, other = probabilities[labels == 1], probabilities[labels == 0]
    if positive.min() >= other.max() or positive.max() <= other.min():
        raise NotComputable("the probabilities separate the classes: the calibration slope is infinite")
    line = logit(probabilities)
    ones = np.ones((labels.size, 1))
    fits = (
        ("intercept, slope held at 1", GLM(labels, ones, family=Binomial(), offset=line).fit()),
        ("slope", GLM(labels, np.column_stack([ones, line]), family=Binomial()).fit()),
    )
    found = []
    for name, fit in fits:
        low, high = fit.conf_int(alpha=1 - level)[-1]
        how = f"logistic calibration {name}, Wald"
        found.append(
            Interval(float(fit.params[-1]), float(low), float(high), labels.size, int(labels.sum()), how)
        )
    return found[0], found[1]
