"""The functions were checked once against the scores that wenwenmin/SpaCRD ships for its Visium HBC section
(commit 91eebc18e3f1; 3,798 spots, prevalence 0.619; not committed here, the repository has no licence):

    AUC 0.9021, AP 0.9288, oracle cut 0.9095 with F1 0.8607, F1 0.785 at 0.5, 0.765 with all spots called
    gmm_threshold(variant="released")   0.7796   F1 0.840   precision 0.730   sensitivity 0.990
    gmm_threshold(variant="described")  0.8675   F1 0.873   precision 0.800   sensitivity 0.960

The released function sorts the means but not the spreads and weights; the fit returns the upper component
first on those scores. The mixture below has the parameters fitted there, and shows the same two cuts.
"""

import numpy as np
import pytest
from scipy.stats import norm

from lib.statistics.classification import (
    NotComputable,
    called,
    f1,
    gmm_threshold,
    platt,
    prevalence_threshold,
    probability,
)

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
    roots = np.roots(
        [
            1 / s2**2 - 1 / s1**2,
            2 * (m1 / s1**2 - m2 / s2**2),
            m2**2 / s2**2 - m1**2 / s1**2 + 2 * np.log(w1 * s2 / (w2 * s1)),
        ]
    )
    (root,) = [root for root in roots.real if m1 < root < m2]
    return root


def test_gmm_on_the_shipped_sections_mixture():
    scores = mixture(MEANS, SPREADS, SHARES)
    described, released = gmm_threshold(scores), gmm_threshold(scores, variant="released")
    assert described == pytest.approx(crossing(MEANS, SPREADS, SHARES), abs=0.01)
    assert described == pytest.approx(0.867, abs=0.01)
    # a fit is free to return either component first; here it is the upper one, as on the shipped scores
    assert released == pytest.approx(crossing(MEANS, SPREADS[::-1], SHARES[::-1]), abs=0.01)
    assert released == pytest.approx(0.780, abs=0.01)


def test_gmm_of_equal_gaussians_cuts_midway():
    scores = mixture((0, 4), (1, 1), (0.5, 0.5))
    assert gmm_threshold(scores) == pytest.approx(2, abs=0.02)


def test_gmm_moves_with_the_scale_and_not_with_the_order():
    scores = mixture(MEANS, SPREADS, SHARES, n=800)
    cut = gmm_threshold(scores)
    assert gmm_threshold(10 * scores - 3) == pytest.approx(10 * cut - 3, abs=0.05)
    assert gmm_threshold(np.random.default_rng(0).permutation(scores)) == cut


def test_gmm_falls_back_to_the_midpoint(monkeypatch):
    class Fitted:
        """A component that outweighs the other everywhere between the two means."""

        means_ = np.array([[0.5], [0.0]])
        covariances_ = np.array([[[9.0]], [[9.0]]])
        weights_ = np.array([0.1, 0.9])

        def __init__(self, **settings):
            pass

        def fit(self, scores):
            return self

    monkeypatch.setattr("lib.statistics.classification.GaussianMixture", Fitted)
    assert gmm_threshold([0.0, 1.0]) == 0.25


@pytest.mark.parametrize("scores", [[0.5, 0.5, 0.5], [np.nan, 0.2, 0.3], []])
def test_unusable_scores(scores):
    with pytest.raises(NotComputable):
        gmm_threshold(scores)
    with pytest.raises(NotComputable):
        prevalence_threshold(scores, 0.5)


def test_unknown_variant():
    with pytest.raises(ValueError, match="described"):
        gmm_threshold([0.0, 1.0], variant="paper")


def test_oracle_calls_as_many_as_are_cancer():
    scores = np.random.default_rng(0).normal(size=1001)
    assert called(scores, prevalence_threshold(scores, 0.3)).sum() == pytest.approx(300, abs=1)


def test_a_score_on_the_cut_is_called():
    assert called([[0.1, 0.5], [0.9, 0.4]], 0.5).tolist() == [[0, 1], [1, 0]]


def test_oracle_needs_two_classes():
    with pytest.raises(NotComputable, match="one class only"):
        prevalence_threshold([0.1, 0.2], 1.0)


def test_oracle_flatters_a_blind_score_least_where_cancer_is_rare():
    # a score that knows nothing: F1 under the oracle equals the prevalence, not 0
    random = np.random.default_rng(0)
    labels, scores = (random.random(20000) < 0.3).astype(float), random.normal(size=20000)
    assert f1(labels, called(scores, prevalence_threshold(scores, labels.mean()))) == pytest.approx(
        0.3, abs=0.02
    )


def test_platt_finds_the_truth_and_ignores_scale():
    random = np.random.default_rng(3)
    scores = random.normal(size=40000)
    labels = (random.random(40000) < 1 / (1 + np.exp(-(2 * scores - 1)))).astype(float)
    slope, intercept = platt(labels, scores)
    assert (slope, intercept) == (pytest.approx(2, abs=0.06), pytest.approx(-1, abs=0.04))
    scaled = platt(labels, 100 * scores + 7)
    np.testing.assert_allclose(
        probability(100 * scores + 7, *scaled), probability(scores, slope, intercept), atol=1e-4
    )
    assert probability(scores, slope, intercept).mean() == pytest.approx(labels.mean(), abs=1e-3)


def test_platt_stays_finite_where_classes_separate():
    labels, scores = np.r_[np.zeros(20), np.ones(10)], np.r_[np.linspace(0, 1, 20), np.linspace(2, 3, 10)]
    slope, intercept = platt(labels, scores)
    p = probability(scores, slope, intercept)
    assert np.isfinite([slope, intercept]).all()
    assert slope > 0
    # the maximum of Platt's smoothed likelihood: mean probability equals the mean smoothed target
    assert p.mean() == pytest.approx((10 * 11 / 12 + 20 * 1 / 22) / 30, abs=1e-3)


def test_platt_of_reversed_scores_has_a_negative_slope():
    assert platt([1, 1, 0, 0, 1, 0], [1, 2, 3, 4, 2.5, 2.2])[0] < 0


def test_platt_needs_both_classes():
    with pytest.raises(NotComputable, match="3 positive and 0 other"):
        platt([1, 1, 1], [0.1, 0.2, 0.3])
