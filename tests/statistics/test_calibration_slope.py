import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit

from lib.statistics.classification import NotComputable
from lib.statistics.comparison import intercept_slope


@pytest.fixture
def predicted():
    random = np.random.default_rng(0)
    line = random.normal(-1, 1.2, size=4000)
    return (random.random(4000) < expit(line)).astype(float), line


def test_equals_the_maximum_of_the_likelihood(predicted):
    labels, line = (array[:200] for array in predicted)

    def loss(parameters):
        a, b = parameters
        return np.logaddexp(0, a + b * line).sum() - (labels * (a + b * line)).sum()

    intercept, slope = intercept_slope(labels, expit(line))
    both = minimize(loss, [0, 1], tol=1e-10).x
    alone = minimize(lambda a: loss([a[0], 1]), [0], tol=1e-10).x
    assert slope.estimate == pytest.approx(both[1], abs=1e-4)
    assert intercept.estimate == pytest.approx(alone[0], abs=1e-4)
    # Wald error of an intercept alone: 1 / sqrt(sum p (1 - p)) at the fitted p
    p = expit(alone[0] + line)
    assert intercept.high - intercept.low == pytest.approx(
        2 * 1.959964 / np.sqrt((p * (1 - p)).sum()), rel=1e-3
    )
    assert (slope.n, slope.events) == (200, labels.sum())


def test_right_probabilities_hold_0_and_1_and_wrong_ones_are_found(predicted):
    labels, line = predicted
    intercept, slope = intercept_slope(labels, expit(line))
    assert intercept.low < 0 < intercept.high
    assert slope.low < 1 < slope.high
    _, extreme = intercept_slope(labels, expit(2 * line))
    assert extreme.estimate == pytest.approx(slope.estimate / 2)
    high, _ = intercept_slope(labels, expit(line + 0.7))
    assert high.estimate == pytest.approx(intercept.estimate - 0.7)
    assert intercept_slope(1 - labels, expit(-line))[1].estimate == pytest.approx(slope.estimate)
    assert logit(labels.mean()) < 0  # not a symmetric example


@pytest.mark.parametrize(
    ("labels", "probabilities", "reason"),
    [
        ([1, 1], [0.2, 0.3], "all 2 cases have the label 1"),
        ([1, 0, 1], [0.2, 0.0, 1.0], "2 of 3 probabilities are exactly 0 or 1"),
        ([1, 0], [0.3, 0.3], "every probability is 0.3"),
        ([1, 1, 0, 0], [0.8, 0.5, 0.5, 0.2], "separate the classes"),
        ([0, 0, 1, 1], [0.8, 0.5, 0.5, 0.2], "separate the classes"),
    ],
)
def test_not_computable_says_why(labels, probabilities, reason):
    with pytest.raises(NotComputable, match=reason):
        intercept_slope(labels, probabilities)
