"""Metrics of scores and calls, with weights and without; cuts; DeLong and McNemar.

The cuts were checked once against the scores that wenwenmin/SpaCRD ships for its Visium HBC section (commit
91eebc18e3f1; 3,798 spots, prevalence 0.619; not committed here, the repository has no licence):

    AUC 0.9021, AP 0.9288, oracle cut 0.9095 with F1 0.8607, F1 0.785 at 0.5, 0.765 with all spots called
    gmm_threshold  0.8675   F1 0.873   precision 0.800   sensitivity 0.960
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics as sklearn_metrics
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from lib.statistics.classification import (
    METRICS,
    NotComputable,
    accuracy,
    auc,
    auc_covariance,
    average_precision,
    brier,
    delong_test,
    f1,
    gmm_threshold,
    mcnemar,
    npv,
    platt,
    precision,
    prevalence_threshold,
    probability,
    sensitivity,
    specificity,
    threshold,
)

LABELS = np.array([1, 0, 1, 1, 0, 0, 1, 0], dtype=float)
SCORES = np.array([0.9, 0.8, 0.8, 0.7, 0.3, 0.7, 0.2, 0.1])
two_classes = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=30).filter(
    lambda spots: len({label for label, _ in spots}) == 2
)


@given(two_classes)
@settings(max_examples=80, deadline=None)
def test_auc_and_ap_are_sklearns_with_ties_and_order_alone_counts(spots):
    labels, scores = np.array(spots, dtype=float).T
    area, ap = auc(labels, scores), average_precision(labels, scores)
    assert area == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores), abs=1e-12)
    assert ap == pytest.approx(sklearn_metrics.average_precision_score(labels, scores), abs=1e-12)
    assert auc(labels, -scores) == pytest.approx(1 - area, abs=1e-12)
    assert auc(labels[::-1], scores[::-1] + 5) == area
    assert average_precision(labels, 2 * scores + 5) == ap


def test_worked_example():
    # cancer .9 .8 .7 .2 against other .8 .3 .7 .1: 4, 3.5, 2.5 and 1 of 4 pairs won
    assert auc(LABELS, SCORES) == pytest.approx(11 / 16)
    calls = (SCORES >= 0.7).astype(float)  # TP 3, FP 2, FN 1, TN 2
    expected = {
        sensitivity: 3 / 4,
        specificity: 2 / 4,
        precision: 3 / 5,
        npv: 2 / 3,
        accuracy: 5 / 8,
        f1: 6 / 9,
    }
    for metric, value in expected.items():
        assert metric(LABELS, calls) == pytest.approx(value), metric
    assert METRICS["prevalence"](LABELS, SCORES) == 0.5
    assert f1([1, 0], [0, 0]) == 0  # none found is a true zero
    # all called: 2p / (1 + p), at the 61.9 % of the Visium HBC section 0.765
    assert f1(np.r_[np.ones(619), np.zeros(381)], np.ones(1000)) == pytest.approx(0.765, abs=5e-4)
    assert brier([1, 0, 0, 0], [0.25] * 4) == pytest.approx(0.25 * 0.75)


@pytest.mark.parametrize("metric", METRICS)
def test_a_weight_is_a_repeated_spot_and_nan_is_where_the_plain_metric_refuses(metric):
    random = np.random.default_rng(2)
    labels, scores = (random.random(12) < 0.4).astype(float), random.integers(0, 8, 12) / 8
    if metric not in ("auc", "ap", "prevalence", "brier"):
        scores = (scores > 0.5).astype(float)
    weights = random.multinomial(12, np.full(12, 1 / 12), size=40)
    weights = np.vstack(
        [weights, np.eye(12, dtype=int), 2 * np.eye(12, dtype=int)]
    )  # one class, all called, none
    fast = METRICS[metric](labels, scores, weights.astype(float))
    for value, weight in zip(fast, weights, strict=True):
        try:
            plain = METRICS[metric](np.repeat(labels, weight), np.repeat(scores, weight))
        except NotComputable:
            plain = np.nan
        np.testing.assert_allclose(value, plain, atol=1e-12)


@pytest.mark.parametrize(
    ("metric", "labels", "scores", "reason"),
    [
        (auc, [1, 1], [0.1, 0.2], "all 2 cases are positive"),
        (average_precision, [0, 0], [0.1, 0.2], "none of the 2 cases is positive"),
        (auc, [1, np.nan], [0.1, 0.2], "1 of 2 cases are undetermined"),
        (brier, [1, 0], [np.nan, 0.2], "1 of 2 scores are NaN"),
        (auc, [1, 0], [np.inf, 0.2], "NaN or infinite"),
        (accuracy, [], [], "no case"),
        (sensitivity, [0, 0], [1, 0], "none of the 2 cases is positive"),
        (f1, [0, 0], [1, 0], "none of the 2 cases is positive"),
        (specificity, [1, 1], [1, 0], "all 2 cases are positive"),
        (precision, [1, 0], [0, 0], "none of the 2 cases is called"),
        (npv, [1, 0], [1, 1], "all 2 cases are called"),
    ],
)
def test_not_computable_says_why(metric, labels, scores, reason):
    with pytest.raises(NotComputable, match=reason):
        metric(labels, scores)


def test_scores_are_no_calls_and_no_probabilities():
    with pytest.raises(ValueError, match="apply a threshold"):
        f1(LABELS, SCORES)
    with pytest.raises(ValueError, match="platt"):
        brier([1, 0], [1.2, 0.1])
    with pytest.raises(ValueError, match="labels must be 0"):
        auc([1, 2], [0.1, 0.2])
    with pytest.raises(ValueError, match="one length"):
        auc([1, 0], [0.1, 0.2, 0.3])


# cuts

MEANS, SPREADS, SHARES = (0.70146958, 0.94565835), (0.17907508, 0.03147857), (0.28599625, 0.71400375)


def mixture(means, spreads, shares, n=4000):
    """A mixture's even quantiles: as good as a sample, without chance."""
    parts = [
        norm.ppf((np.arange(round(share * n)) + 0.5) / round(share * n), mean, spread)
        for mean, spread, share in zip(means, spreads, shares, strict=True)
    ]
    return np.concatenate(parts)


def crossing(means, spreads, shares):
    """Root between the means of the equal-density equation, a quadratic."""
    (m1, m2), (s1, s2), (w1, w2) = means, spreads, shares
    linear, constant = 2 * (m1 / s1**2 - m2 / s2**2), m2**2 / s2**2 - m1**2 / s1**2
    roots = np.roots([1 / s2**2 - 1 / s1**2, linear, constant + 2 * np.log(w1 * s2 / (w2 * s1))])
    (root,) = [root for root in roots.real if m1 < root < m2]
    return root


def test_gmm_on_the_shipped_sections_mixture():
    scores = mixture(MEANS, SPREADS, SHARES)
    assert gmm_threshold(scores) == pytest.approx(crossing(MEANS, SPREADS, SHARES), abs=0.01)
    assert gmm_threshold(scores) == pytest.approx(0.867, abs=0.01)


def test_gmm_moves_with_the_scale_and_not_with_the_order():
    assert gmm_threshold(mixture((0, 4), (1, 1), (0.5, 0.5))) == pytest.approx(2, abs=0.02)
    scores = mixture(MEANS, SPREADS, SHARES, n=800)
    cut = gmm_threshold(scores)
    assert gmm_threshold(10 * scores - 3) == pytest.approx(10 * cut - 3, abs=0.05)
    assert gmm_threshold(np.random.default_rng(0).permutation(scores)) == cut


@pytest.mark.parametrize("scores", [[0.5, 0.5, 0.5], [np.nan, 0.2, 0.3], []])
def test_scores_that_no_cut_separates(scores):
    with pytest.raises(NotComputable):
        gmm_threshold(scores)
    with pytest.raises(NotComputable):
        prevalence_threshold(scores, 0.5)


def test_oracle_calls_as_many_as_are_cancer_and_knows_nothing_else():
    random = np.random.default_rng(0)
    labels, scores = (random.random(20000) < 0.3).astype(float), random.normal(size=20000)
    calls = scores >= prevalence_threshold(scores, labels.mean())
    assert calls.sum() == pytest.approx(labels.sum(), abs=1)
    assert f1(labels, calls) == pytest.approx(0.3, abs=0.02)  # of a blind score: the prevalence, not 0
    with pytest.raises(NotComputable, match="one class only"):
        prevalence_threshold([0.1, 0.2], 1.0)


def test_platt_finds_the_truth_and_ignores_scale():
    random = np.random.default_rng(3)
    scores = random.normal(size=40000)
    labels = (random.random(40000) < 1 / (1 + np.exp(-(2 * scores - 1)))).astype(float)
    slope, intercept = platt(labels, scores)
    assert (slope, intercept) == (pytest.approx(2, abs=0.06), pytest.approx(-1, abs=0.04))
    scaled = platt(labels, 100 * scores + 7)
    expected = probability(scores, slope, intercept)
    np.testing.assert_allclose(probability(100 * scores + 7, *scaled), expected, atol=1e-4)
    assert expected.mean() == pytest.approx(labels.mean(), abs=1e-3)


def test_platt_stays_finite_where_classes_separate():
    labels, scores = np.r_[np.zeros(20), np.ones(10)], np.r_[np.linspace(0, 1, 20), np.linspace(2, 3, 10)]
    slope, intercept = platt(labels, scores)
    assert np.isfinite([slope, intercept]).all()
    # the maximum of Platt's smoothed likelihood: mean probability equals the mean smoothed target
    mean = probability(scores, slope, intercept).mean()
    assert mean == pytest.approx((10 * 11 / 12 + 20 * 1 / 22) / 30, abs=1e-3)
    assert platt([1, 1, 0, 0, 1, 0], [1, 2, 3, 4, 2.5, 2.2])[0] < 0  # reversed scores
    with pytest.raises(NotComputable, match="3 positive and 0 other"):
        platt([1, 1, 1], [0.1, 0.2, 0.3])


@given(two_classes, st.integers(1, 100))
@settings(max_examples=80, deadline=None)
def test_no_cut_does_better_than_the_rules(cases, percent):
    labels, scores = np.array(cases, dtype=float).T

    def index(cut):
        return sensitivity(labels, scores >= cut) + specificity(labels, scores >= cut)

    cut, _ = threshold("youden", labels, scores)
    for other in np.unique(scores):
        assert index(other) <= index(cut) + 1e-12
        if other < cut:  # of several the lowest
            assert index(other) < index(cut) - 1e-12
    assert threshold("youden", labels, 2 * scores + 1)[0] == 2 * cut + 1
    cut, _ = threshold(f"sensitivity{percent}", labels, scores)
    assert sensitivity(labels, scores >= cut) >= percent / 100 - 1e-12
    if (higher := scores[scores > cut]).size:
        assert sensitivity(labels, scores >= higher.min()) < percent / 100


def test_named_rules():
    labels, scores = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]
    assert threshold("youden", labels, scores)[0] == 0.35
    words = "highest cut with sensitivity of at least 0.5 on training cases"
    assert threshold("sensitivity50", labels, scores) == (0.8, words)
    labels, scores = np.r_[np.ones(10), np.zeros(5)], np.r_[np.arange(10.0), np.zeros(5)]
    assert threshold("sensitivity90", labels, scores)[0] == 1
    assert threshold("sensitivity91", labels, scores)[0] == 0
    # 0.07 * 100 is 7.000000000000001
    assert threshold("sensitivity7", np.r_[np.ones(100), 0], np.arange(101.0))[0] == 93
    for rule in ("gmm", "sensitivity0", "sensitivity101", "sensitivity"):
        with pytest.raises(ValueError, match="unknown threshold rule"):
            threshold(rule, labels, scores)
    with pytest.raises(NotComputable, match="all 2 training cases have the label 1"):
        threshold("youden", [1, 1], [0.1, 0.2])


# DeLong

cases = st.lists(
    st.tuples(st.booleans(), st.integers(-3, 3), st.integers(-3, 3)), min_size=4, max_size=30
).filter(lambda rows: 2 <= sum(label for label, *_ in rows) <= len(rows) - 2)


def naive_covariance(labels, models):
    """DeLong by counting pairs: psi = 1, 1/2, 0 where a positive case scores above, level, below another."""
    positive, other = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    psi = np.array([[[np.sign(s[i] - s[j]) / 2 + 0.5 for j in other] for i in positive] for s in models])
    v10, v01 = psi.mean(axis=2), psi.mean(axis=1)
    areas = psi.mean(axis=(1, 2))
    s10 = (v10 - areas[:, None]) @ (v10 - areas[:, None]).T / (positive.size - 1)
    s01 = (v01 - areas[:, None]) @ (v01 - areas[:, None]).T / (other.size - 1)
    return areas, s10 / positive.size + s01 / other.size


@given(cases)
@settings(max_examples=60, deadline=None)
def test_midranks_equal_counted_pairs_with_ties(rows):
    labels, a, b = np.array(rows, dtype=float).T
    areas, covariance = auc_covariance(labels, np.stack([a, b]))
    expected = naive_covariance(labels, [a, b])
    np.testing.assert_allclose(areas, expected[0], atol=1e-12)
    np.testing.assert_allclose(covariance, expected[1], atol=1e-12)


@pytest.fixture
def scored():
    random = np.random.default_rng(0)
    labels = (random.random(200) < 0.3).astype(float)
    ease = random.normal(size=200)
    return labels, 1.2 * labels + ease, 0.6 * labels + ease + 0.5 * random.normal(size=200)


def test_delong_is_the_naive_z(scored):
    labels, a, b = scored
    areas, covariance = naive_covariance(labels, [a, b])
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    found, difference = delong_test(labels, a, b), areas[0] - areas[1]
    z = difference / error
    expected = (difference, error, difference - 1.959964 * error, difference + 1.959964 * error, z)
    assert tuple(found) == pytest.approx((*expected, 2 * norm.cdf(-abs(z))))


def test_delong_within_folds_is_the_mean_of_independent_differences(scored):
    labels, a, b = scored
    folds = np.arange(labels.size) % 3
    each = [delong_test(labels[folds == fold], a[folds == fold], b[folds == fold]) for fold in range(3)]
    found = delong_test(labels, a, b, folds=folds)
    assert found.difference == pytest.approx(np.mean([one.difference for one in each]))
    assert found.standard_error == pytest.approx(np.sqrt(sum(one.standard_error**2 for one in each)) / 3)
    # a scale of its own in each fold changes nothing, as it does to all folds together
    assert delong_test(labels, a + 100 * folds, b, folds=folds).p == pytest.approx(found.p)
    assert delong_test(labels, a + 100 * folds, b).p != pytest.approx(delong_test(labels, a, b).p)


def test_delong_counts_the_order_alone_and_says_why_not(scored):
    labels, a, b = scored
    found, swapped = delong_test(labels, np.exp(a), 5 * b - 2), delong_test(labels, b, a)
    assert found == delong_test(labels, a, b)
    assert (swapped.difference, swapped.p) == pytest.approx((-found.difference, found.p))
    with pytest.raises(NotComputable, match="order the cases alike"):
        delong_test(labels, a, 2 * a)
    with pytest.raises(NotComputable, match="1 positive and 3 other"):
        auc_covariance([0, 0, 0, 1], [1, 2, 3, 4])
    with pytest.raises(NotComputable, match="1 of 4 scores"):
        auc_covariance([0, 0, 1, 1], [1, np.nan, 3, 4])


# McNemar


def calls_of(both, only_a, only_b, neither):
    """Labels and two models' calls with so many right in common, right of one only, wrong in common."""
    right_a = np.repeat([1, 1, 0, 0], [both, only_a, only_b, neither])
    right_b = np.repeat([1, 0, 1, 0], [both, only_a, only_b, neither])
    labels = np.arange(right_a.size) % 2
    return labels, np.where(right_a, labels, 1 - labels), np.where(right_b, labels, 1 - labels)


@pytest.mark.parametrize("counts", [(30, 9, 2, 5), (0, 1, 0, 0), (50, 40, 21, 9)])
def test_mcnemar_is_statsmodels(counts):
    found = mcnemar(*calls_of(*counts))
    both, only_a, only_b, neither = counts
    other = statsmodels_mcnemar([[both, only_a], [only_b, neither]], exact=only_a + only_b < 25)
    assert (found.statistic, found.p) == pytest.approx((other.statistic, other.pvalue))
    assert (found.only_a, found.only_b) == (only_a, only_b)


@pytest.mark.parametrize("each", [1, 20])
def test_mcnemar_of_equal_discordants_is_rs(each):
    """mcnemar.test of R 4.2 on as many patients only the first gets right as only the second; statsmodels has .5 and .48."""
    found = mcnemar(*calls_of(2, each, each, 0))
    assert (found.only_a, found.only_b, found.statistic, found.p) == (each, each, 0, 1)


def test_mcnemar_metamorphic_and_why_not():
    assert mcnemar(*calls_of(10, 20, 4, 0)).how == "McNemar, exact"
    assert mcnemar(*calls_of(10, 20, 5, 0)).how == "McNemar, chi-square with continuity correction"
    labels, a, b = calls_of(30, 9, 2, 5)
    found, other = mcnemar(labels, a, b), mcnemar(labels, b, a)
    assert (other.only_a, other.only_b, other.p) == (2, 9, found.p)
    assert mcnemar(*calls_of(300, 9, 2, 50)).p == found.p
    assert mcnemar(1 - labels, 1 - a, 1 - b) == found
    with pytest.raises(NotComputable, match="right on the same 3 of 5"):
        mcnemar(*calls_of(3, 0, 0, 2))
    with pytest.raises(ValueError, match="0 or 1"):
        mcnemar(labels, a, b * 0.3)
