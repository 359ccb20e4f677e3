import numpy as np
import pytest
from scipy.stats import binom, chi2
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from lib.statistics.classification import NotComputable, mcnemar


def calls(both, only_a, only_b, neither):
    """Labels and two models' calls with so many right in common, right of one only, wrong in common."""
    right_a = np.repeat([1, 1, 0, 0], [both, only_a, only_b, neither])
    right_b = np.repeat([1, 0, 1, 0], [both, only_a, only_b, neither])
    labels = np.arange(right_a.size) % 2
    return labels, np.where(right_a, labels, 1 - labels), np.where(right_b, labels, 1 - labels)


@pytest.mark.parametrize("counts", [(30, 9, 2, 5), (0, 1, 0, 0), (50, 40, 21, 9), (10, 12, 12, 3)])
@pytest.mark.parametrize("test", ["exact", "chi-square"])
def test_equals_statsmodels_and_the_formula(counts, test):
    found = mcnemar(*calls(*counts), test=test)
    both, only_a, only_b, neither = counts
    other = statsmodels_mcnemar([[both, only_a], [only_b, neither]], exact=test == "exact")
    assert (found.statistic, found.p) == pytest.approx((other.statistic, other.pvalue))
    assert (found.only_a, found.only_b) == (only_a, only_b)
    if test == "exact":
        p = min(1, 2 * binom.cdf(min(only_a, only_b), only_a + only_b, 0.5))
    else:
        p = chi2.sf((abs(only_a - only_b) - 1) ** 2 / (only_a + only_b), 1)
    assert found.p == pytest.approx(p)
    assert test in found.how


def test_few_are_tested_exactly():
    assert mcnemar(*calls(10, 20, 4, 0)).how == "McNemar, exact"
    assert mcnemar(*calls(10, 20, 5, 0)).how == "McNemar, chi-square with continuity correction"


def test_swapping_the_models_and_cases_both_get_right_change_no_p():
    labels, a, b = calls(30, 9, 2, 5)
    found = mcnemar(labels, a, b)
    other = mcnemar(labels, b, a)
    assert (other.only_a, other.only_b, other.p) == (2, 9, found.p)
    assert mcnemar(*calls(300, 9, 2, 50)).p == found.p
    assert mcnemar(1 - labels, 1 - a, 1 - b) == found


def test_refusals():
    labels, a, b = calls(3, 0, 0, 2)
    with pytest.raises(NotComputable, match="right on the same 3 of 5"):
        mcnemar(labels, a, b)
    with pytest.raises(ValueError, match="0 or 1"):
        mcnemar(labels, a, b * 0.3)
    with pytest.raises(ValueError, match="one length"):
        mcnemar(labels, a, b[:-1])
    with pytest.raises(NotComputable, match="undetermined"):
        mcnemar([np.nan, 1], [0, 1], [1, 1])
    with pytest.raises(ValueError, match="auto"):
        mcnemar(labels, a, b, test="mid-p")
