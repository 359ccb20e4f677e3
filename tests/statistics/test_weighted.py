import numpy as np
import pytest

from lib.statistics import intervals as weighted
from lib.statistics.classification import NotComputable
from lib.statistics.intervals import PLAIN


@pytest.mark.parametrize("metric", weighted.METRICS)
def test_a_weight_is_a_repeated_spot(metric):
    random = np.random.default_rng(2)
    labels = (random.random(40) < 0.4).astype(float)
    scores = random.integers(0, 8, 40) / 8
    if metric in ("f1", "sensitivity", "specificity", "precision", "ppv", "npv", "accuracy"):
        scores = (scores > 0.5).astype(float)
    weights = random.multinomial(40, np.full(40, 1 / 40), size=50).astype(float)
    fast = weighted.METRICS[metric](labels, scores, weights)
    slow = [PLAIN[metric](*(np.repeat(a, w.astype(int)) for a in (labels, scores))) for w in weights]
    np.testing.assert_allclose(fast, slow, atol=1e-12)


@pytest.mark.parametrize("metric", weighted.METRICS)
def test_nan_exactly_where_the_plain_one_refuses(metric):
    labels, scores = np.array([1.0, 0, 1, 0]), np.array([1.0, 0, 0, 1])
    weights = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 1, 0]], dtype=float)
    fast = weighted.METRICS[metric](labels, scores, weights)
    for value, weight in zip(fast, weights.astype(int), strict=True):
        try:
            plain = PLAIN[metric](np.repeat(labels, weight), np.repeat(scores, weight))
        except NotComputable:
            plain = np.nan
        np.testing.assert_allclose(value, plain)


def test_both_tables_name_the_same_metrics():
    assert weighted.METRICS.keys() == PLAIN.keys()
