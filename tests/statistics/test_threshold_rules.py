import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from lib.statistics.classification import (
    NotComputable,
    called,
    sensitivity,
    sensitivity_threshold,
    specificity,
    threshold,
    youden_threshold,
)

two_classes = st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=2, max_size=40).filter(
    lambda cases: len({label for label, _ in cases}) == 2
)


def index(labels, scores, cut):
    calls = called(scores, cut)
    return sensitivity(labels, calls) + specificity(labels, calls)


@given(two_classes)
@settings(max_examples=80, deadline=None)
def test_no_cut_does_better_than_youdens_and_none_as_good_is_lower(cases):
    labels, scores = np.array(cases, dtype=float).T
    cut = youden_threshold(labels, scores)
    best = index(labels, scores, cut)
    for other in np.unique(scores):
        assert index(labels, scores, other) <= best + 1e-12
        if other < cut:
            assert index(labels, scores, other) < best - 1e-12
    assert youden_threshold(labels, 2 * scores + 1) == 2 * cut + 1


def test_youden_is_sklearns():
    random = np.random.default_rng(0)
    labels = (random.random(300) < 0.3).astype(float)
    scores = labels + random.normal(size=300)
    false, true, cuts = roc_curve(labels, scores, drop_intermediate=False)
    assert youden_threshold(labels, scores) == cuts[np.argmax(true - false)]


@given(two_classes, st.integers(1, 100))
@settings(max_examples=80, deadline=None)
def test_sensitivity_is_reached_and_the_next_cut_misses_it(cases, percent):
    labels, scores = np.array(cases, dtype=float).T
    cut = sensitivity_threshold(labels, scores, percent / 100)
    assert sensitivity(labels, called(scores, cut)) >= percent / 100 - 1e-12
    higher = scores[scores > cut]
    if higher.size:
        assert sensitivity(labels, called(scores, higher.min())) < percent / 100


def test_nine_of_ten_is_90_percent():
    labels, scores = np.r_[np.ones(10), np.zeros(5)], np.r_[np.arange(10.0), np.zeros(5)]
    assert sensitivity_threshold(labels, scores, 0.9) == 1
    assert sensitivity_threshold(labels, scores, 0.91) == 0
    # 0.07 * 100 is 7.000000000000001
    assert sensitivity_threshold(np.r_[np.ones(100), 0], np.arange(101.0), 0.07) == 93


def test_named_rules():
    labels, scores = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]
    assert threshold("fixed", labels, scores) == (0.5, "cut at probability 0.5")
    assert threshold("youden", labels, scores)[0] == 0.35
    assert threshold("sensitivity50", labels, scores) == (
        0.8,
        "highest cut with sensitivity of at least 0.5 on training cases",
    )
    assert threshold("sensitivity100", labels, scores)[0] == 0.35
    for rule in ("gmm", "sensitivity0", "sensitivity101", "sensitivity"):
        with pytest.raises(ValueError, match="unknown threshold rule"):
            threshold(rule, labels, scores)


def test_refusals():
    with pytest.raises(ValueError, match="needs probabilities"):
        threshold("fixed", [0, 1], [0.1, 3])
    with pytest.raises(NotComputable, match="all 2 training cases have the label 1"):
        youden_threshold([1, 1], [0.1, 0.2])
    with pytest.raises(NotComputable):
        sensitivity_threshold([0, 0], [0.1, 0.2], 0.9)
    with pytest.raises(NotComputable):
        youden_threshold([0, 1], [np.nan, 0.2])
    with pytest.raises(ValueError, match="above 0"):
        sensitivity_threshold([0, 1], [0.1, 0.2], 90)
