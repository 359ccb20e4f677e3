"""Several cohorts together: golden numbers of the textbooks, naive against fast, and coverage where the truth is known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, rankdata

from lib.statistics.classification import NotComputable
from lib.statistics.over_cohorts import average_ranks, cliques, pooled, posterior, without_each

# eight schools: Gelman et al. (2013), table 5.2
EFFECT = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
ERROR = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])


def test_eight_schools_pooled_is_the_book_s():
    found = pooled(EFFECT, ERROR)
    assert found.estimate == pytest.approx(
        7.7, abs=0.05
    )  # section 5.5: pooled estimate 7.7, standard error 4.1
    assert found.between == 0  # they lie no further apart than their errors say


def test_pooled_is_hartung_knapp_by_hand():
    effect = np.array([0.03, -0.02, 0.05, 0.00, 0.08])
    error = np.array([0.01, 0.012, 0.02, 0.008, 0.015])
    found = pooled(effect, error)
    weights = 1 / (error**2 + found.between**2)
    mean = weights @ effect / weights.sum()
    assert weights @ (effect - mean) ** 2 == pytest.approx(
        4, rel=1e-4
    )  # Paule and Mandel: the spread that fits
    sd = np.sqrt(weights @ (effect - mean) ** 2 / 4 / weights.sum())
    assert found.estimate == pytest.approx(mean)
    assert found.high - found.estimate == pytest.approx(2.776445 * sd)  # t, 4 degrees of freedom


def test_wrong_standard_errors_of_one_factor_do_no_harm():
    one, other = pooled(EFFECT / 100, ERROR / 300), pooled(EFFECT / 100, ERROR / 600)
    assert one.high - one.low == pytest.approx(other.high - other.low, rel=0.06)


@pytest.mark.parametrize("between", [0.0, 0.02])
def test_the_pooled_interval_covers_with_errors_that_are_estimates(between):
    random, missed = np.random.default_rng(int(1000 * between)), []
    true_error = random.uniform(0.012, 0.045, 14)
    for _ in range(1500):
        truth = 0.01 + between * random.normal(size=14)
        error = true_error * np.exp(0.15 * random.normal(size=14))  # of a bootstrap, times a correction
        found = pooled(truth + true_error * random.normal(size=14), error * 1.2)
        missed.append(not found.low <= 0.01 <= found.high)
    assert 0.03 <= np.mean(missed) <= 0.07


def test_posterior_is_that_of_a_grid_over_mean_and_spread():
    effect, error, region = EFFECT / 500, ERROR / 500, 0.01
    found = posterior(effect, error, region)
    spreads = np.linspace(0, 10 * np.median(error), 800)
    means = np.linspace(-0.4, 0.4, 1201)
    sd = np.sqrt(error**2 + spreads[:, None, None] ** 2)
    logs = norm.logpdf(effect, means[:, None], sd).sum(axis=-1)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    by_mean = weights.sum(axis=0)
    assert found.mean == pytest.approx(by_mean @ means, abs=2e-4)
    below = np.cumsum(by_mean) - by_mean / 2  # up to the middle of each cell
    assert [found.low, found.high] == pytest.approx(np.interp([0.025, 0.975], below, means), abs=5e-4)
    same = np.diff(np.interp([-region, region], means, below)).item()
    assert found.same == pytest.approx(same, abs=1e-3)
    following = norm.cdf((region - means) / np.maximum(spreads, 1e-9)[:, None])
    assert 1 - found.next_better == pytest.approx((weights * following).sum(), abs=2e-3)


def test_probabilities_add_up_turn_round_and_follow_the_region():
    found, turned = posterior(EFFECT, ERROR, 5), posterior(-EFFECT, ERROR, 5)
    assert found.worse + found.same + found.better == pytest.approx(1)
    assert found.next_worse + found.next_same + found.next_better == pytest.approx(1)
    assert found.worse == pytest.approx(turned.better)
    assert posterior(EFFECT, ERROR, 10).same > found.same
    assert found.next_better < found.better  # of one school more we are less sure than of the mean of all


def test_much_data_is_sure_and_what_is_alike_is_called_so():
    random = np.random.default_rng(0)
    alike = posterior(0.001 * random.normal(size=14), np.full(14, 0.003))
    assert alike.same > 0.999
    better = posterior(0.03 + 0.001 * random.normal(size=14), np.full(14, 0.003))
    assert better.better > 0.999


def test_without_each_finds_the_cohort_that_carries_it_all():
    effect, error = np.array([0.001, -0.001, 0.002, -0.002, 0.0, 0.001, 0.30]), np.full(7, 0.01)
    effect[:6] += 0.012
    table = without_each(list("abcdefg"), effect, error).set_index("without")
    assert table["changes"].to_dict() == dict.fromkeys("abcdef", False) | {"g": True}
    assert table.loc["g", "estimate"] == pytest.approx(effect[:6].mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("effect", "error"), [([0.1, np.nan, 0.2], [1, 1, 1]), ([0.1, 0.1], [0.0, 1]), ([1, 2], [1])]
)
def test_what_cannot_be_pooled_is_refused(effect, error):
    with pytest.raises(ValueError, match=r"cohort needs|vectors alike"):
        pooled(effect, error)


def test_too_few_cohorts_have_no_value():
    with pytest.raises(NotComputable):
        pooled([0.1], [0.1])
    with pytest.raises(NotComputable):
        posterior([0.1, 0.2], [0.1, 0.1])


def test_ranks_and_critical_difference_are_demsar_s():
    random = np.random.default_rng(3)
    values = pd.DataFrame(random.random((14, 4)).round(1), columns=list("abcd"))
    found = average_ranks(values)
    naive = {
        name: np.mean([rankdata(-row)[at] for row in values.to_numpy()]) for at, name in enumerate("abcd")
    }
    assert found.ranks.to_dict() == pytest.approx(naive)
    # table 5 of Demsar (2006): q of four models is 2.569, so CD = 2.569 sqrt(4 5 / (6 14)) = 1.25
    assert found.critical == pytest.approx(1.25, abs=0.005)


def test_friedman_cries_wolf_as_often_as_it_says():
    random = np.random.default_rng(4)
    found = [average_ranks(pd.DataFrame(random.random((14, 5)))).p < 0.05 for _ in range(400)]
    assert 0.025 <= np.mean(found) <= 0.08


def test_bars_join_what_lies_nearer_than_the_critical_difference():
    values = pd.DataFrame([[9, 8, 1, 0]] * 30, columns=list("abcd"))
    noisy = values + np.random.default_rng(0).normal(scale=1e-3, size=values.shape)
    ranks = average_ranks(noisy)
    assert list(ranks.ranks.index) == list("abcd")
    assert ranks.critical < 1
    assert cliques(ranks) == []
    few = average_ranks(noisy.iloc[:5])
    assert 2 < few.critical < 3
    assert cliques(few) == [(0, 2), (1, 3)]


def test_a_model_that_lacks_a_cohort_is_named():
    with pytest.raises(ValueError, match="b has no value in 1"):
        average_ranks(pd.DataFrame({"a": [1.0, 2], "b": [1, np.nan], "c": [0, 0]}))
