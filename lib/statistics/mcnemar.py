"""Two models' calls on the same cases: which one is right where only one is."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.stats import contingency_tables

from lib.statistics.classification import NotComputable, accuracy

FEW = 25  # cases that only one model calls rightly, below which the chi-square is too rough


@dataclass(frozen=True)
class McNemar:
    """Cases only a, and only b, calls rightly; the two-sided p, and the test it comes from.

    `statistic` is the smaller of the two counts for the exact test, else the chi-square with continuity
    correction, one degree of freedom.
    """

    only_a: int
    only_b: int
    statistic: float
    p: float
    how: str


def mcnemar(
    labels: ArrayLike,
    called_a: ArrayLike,
    called_b: ArrayLike,
    test: Literal["auto", "exact", "chi-square"] = "auto",
) -> McNemar:
    """Test whether two models are right equally often on the same cases.

    Parameters
    ----------
    labels : array (n,)
        1 positive, 0 other; one row a patient. Only the positive rows compare sensitivities, only the
        others specificities.
    called_a, called_b : arrays (n,)
        0 or 1.
    test : {"auto", "exact", "chi-square"}
        "auto" is exact below 25 cases that only one model calls rightly.

    Returns
    -------
    McNemar

    Raises
    ------
    NotComputable
        The two are right on the same cases, or labels are undetermined.
    ValueError
        Calls that are not 0 or 1, lengths that differ, unknown test.

    References
    ----------
    McNemar, Psychometrika 12:153 (1947), doi:10.1007/BF02295996.
    """
    if test not in ("auto", "exact", "chi-square"):
        raise ValueError(f'test must be "auto", "exact" or "chi-square", got "{test}"')
    accuracy(labels, called_a)  # refuses what is no label or no call
    accuracy(labels, called_b)
    labels = np.asarray(labels, dtype=float)
    right_a, right_b = labels == np.asarray(called_a), labels == np.asarray(called_b)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    if only_a + only_b == 0:
        raise NotComputable(
            f"the two models are right on the same {int(right_a.sum())} of {labels.size} cases"
        )
    exact = test == "exact" or (test == "auto" and only_a + only_b < FEW)
    table = [[int((right_a & right_b).sum()), only_a], [only_b, int((~right_a & ~right_b).sum())]]
    found = contingency_tables.mcnemar(table, exact=exact, correction=True)
    how = "McNemar, exact" if exact else "McNemar, chi-square with continuity correction"
    return McNemar(only_a, only_b, float(found.statistic), float(found.pvalue), how)
