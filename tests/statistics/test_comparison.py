import numpy as np
import pytest

from lib.statistics.classification import NotComputable
from lib.statistics.comparison import paired_difference
from lib.statistics.intervals import ScoredSection, bootstrap, interval


def worse(sections, by=1.0, seed=7):
    random = np.random.default_rng(seed)
    return [s.with_scores(s.scores + by * random.normal(size=s.scores.shape)) for s in sections]


def test_difference_is_that_of_the_estimates_under_shared_draws(cohort):
    a = cohort(effect=1.5)
    b = worse(a)
    found = paired_difference(a, b, "auc", draws=300)
    assert found.estimate == pytest.approx(interval(a, "auc", 10).estimate - interval(b, "auc", 10).estimate)
    drawn, _ = bootstrap([a, b], "auc", draws=300)
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn[0] - drawn[1], [0.025, 0.975]))
    # the first rival's draws are those it would have alone
    np.testing.assert_array_equal(drawn[0], bootstrap([a], "auc", draws=300)[0][0])


def test_swapping_the_models_mirrors_it(cohort):
    a = cohort()
    b = worse(a)
    one, other = paired_difference(a, b, "ap", draws=200), paired_difference(b, a, "ap", draws=200)
    assert (one.estimate, one.low, one.high) == pytest.approx((-other.estimate, -other.high, -other.low))


def test_a_model_against_itself_differs_by_nothing(cohort):
    a = cohort()
    found = paired_difference(a, a[::-1], "auc", draws=50)
    assert (found.estimate, found.low, found.high) == (0, 0, 0)


def test_pairing_shortens_the_interval(cohort):
    a = cohort(patients=6, effect=1.5)
    b = worse(a, by=0.1)
    paired = paired_difference(a, b, "auc")
    one, other = interval(a, "auc"), interval(b, "auc")
    assert paired.high - paired.low < 0.5 * ((one.high - one.low) + (other.high - other.low)) / 2


def test_seeds_may_differ_in_number(cohort):
    a = cohort(seeds=3)
    b = [s.with_scores(s.scores[:1]) for s in a]
    found = paired_difference(a, b, "auc", draws=20)
    expected = interval(a, "auc", 10).estimate - interval(b, "auc", 10).estimate
    assert found.estimate == pytest.approx(expected)


def test_sections_without_a_value_under_either_model(cohort):
    a = cohort(patients=3)
    calls = [s.with_scores((s.scores > 0.5).astype(float)) for s in a]
    none_called = [calls[0].with_scores(np.zeros(144)), *calls[1:]]
    found = paired_difference(calls, none_called, "precision", draws=50)
    assert "mean over 2 patients" in found.how
    assert "section P0a of P0 left out: none of the 144 cases is called positive" in found.how
    with pytest.raises(NotComputable):
        paired_difference(calls[:1], none_called[:1], "precision")


def test_models_on_other_spots_are_refused(cohort):
    a = cohort(patients=2)
    with pytest.raises(ValueError, match="same sections"):
        paired_difference(a, a[:1], "auc")
    flipped = [a[0], ScoredSection("P1", "P1a", 1 - a[1].labels, a[1].scores, a[1].blocks)]
    with pytest.raises(ValueError, match="section P1a of patient P1"):
        paired_difference(a, flipped, "auc")
