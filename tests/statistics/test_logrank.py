import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines.statistics import multivariate_logrank_test
from scipy.stats import chi2, kstest

from lib.statistics.classification import NotComputable
from lib.statistics.survival import WEIGHTINGS, logrank


def cohort(n=120, groups=2, seed=0, steps=15, effect=0.0):
    """Outcomes on a grid of times from 1, with ties; later groups live shorter by the effect."""
    random = np.random.default_rng(seed)
    group = random.integers(0, groups, n)
    time = 1 + np.floor(random.exponential(steps / 3, n) * np.exp(-effect * group))
    return time, random.random(n) < 0.7, group


def slow_logrank(time, event, group, weight):
    """Two groups, one event time after the other: observed less expected, squared, over its variance."""
    apart = variance = 0.0
    survival = modified = 1.0
    for moment in sorted(set(time[event])):
        alive = (time >= moment).sum()
        own_alive = ((time >= moment) & (group == 1)).sum()
        dead = (event & (time == moment)).sum()
        own_dead = (event & (time == moment) & (group == 1)).sum()
        modified *= 1 - dead / (alive + 1)
        w = weight(alive, survival, modified)
        survival *= 1 - dead / alive
        apart += w * (own_dead - dead * own_alive / alive)
        if alive > 1:
            share = own_alive / alive
            variance += w**2 * dead * share * (1 - share) * (alive - dead) / (alive - 1)
    return apart**2 / variance


SLOW = {
    "none": lambda alive, survival, modified: 1,
    "wilcoxon": lambda alive, survival, modified: alive,
    "tarone-ware": lambda alive, survival, modified: alive**0.5,
    "peto": lambda alive, survival, modified: modified,
    "fleming-harrington": lambda alive, survival, modified: survival**0.5 * (1 - survival) ** 2,
}


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("effect", [0, 0.5])
def test_two_groups_by_the_definition(weighting, effect):
    time, event, group = cohort(effect=effect)
    found = logrank(time, event, group, weighting, p=0.5, q=2)
    expected = slow_logrank(time, event, group, SLOW[weighting])
    assert found.statistic == pytest.approx(expected, rel=1e-10)
    assert found.p == pytest.approx(chi2.sf(expected, 1), rel=1e-10)
    assert found.degrees == 1


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("groups", [2, 3, 5])
def test_lifelines_agrees(weighting, groups):
    time, event, group = cohort(groups=groups, effect=0.2)
    theirs = multivariate_logrank_test(
        time, group, event, weightings=None if weighting == "none" else weighting, p=1, q=0.5
    )
    ours = logrank(time, event, group, weighting, p=1, q=0.5)
    assert ours.statistic == pytest.approx(theirs.test_statistic, rel=1e-8)
    assert ours.p == pytest.approx(theirs.p_value, rel=1e-8)
    assert ours.degrees == groups - 1


@pytest.mark.parametrize("groups", [2, 4])
def test_scikit_survival_agrees(groups):
    compare = pytest.importorskip("sksurv.compare")
    time, event, group = cohort(groups=groups)
    outcome = np.array(list(zip(event, time, strict=True)), dtype=[("event", bool), ("time", float)])
    statistic, p = compare.compare_survival(outcome, group)
    ours = logrank(time, event, group)
    assert (ours.statistic, ours.p) == (pytest.approx(statistic), pytest.approx(p))


def test_freireichs_trial():
    """6-MP against placebo, Klein and Moeschberger's example of two samples: chi-squared 16.79."""
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    treated = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    observed = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    names = ["placebo"] * 21 + ["6-MP"] * 21
    found = logrank(placebo + treated, [1] * 21 + observed, names)
    assert found.statistic == pytest.approx(16.79, abs=0.005)


@given(st.integers(0, 1000), st.sampled_from(WEIGHTINGS), st.integers(2, 4))
def test_order_names_shift_and_scale_change_nothing(seed, weighting, groups):
    time, event, group = cohort(60, groups, seed)
    expected = logrank(time, event, group, weighting).statistic
    order = np.random.default_rng(seed).permutation(60)
    assert logrank(time[order], event[order], group[order], weighting).statistic == pytest.approx(expected)
    renamed = np.array(list("dbca"))[group]
    assert logrank(time, event, renamed, weighting).statistic == pytest.approx(expected)
    shifted = (time - 1) * 30.4  # from 0 on: a death at once counts
    assert logrank(shifted, event, group, weighting).statistic == pytest.approx(expected)


def test_fleming_harrington_with_0_and_0_is_the_plain_test():
    time, event, group = cohort(groups=3)
    plain = logrank(time, event, group)
    other = logrank(time, event, group, "fleming-harrington", p=0, q=0)
    assert other.statistic == pytest.approx(plain.statistic)


def test_early_differences_show_more_under_early_weights():
    random = np.random.default_rng(4)
    group = np.repeat([0, 1], 400)
    time = random.exponential(1, 800)
    early = (group == 1) & (random.random(800) < 0.15)
    time[early] = random.uniform(0, 0.1, early.sum())
    event = np.ones(800)
    early = logrank(time, event, group, "wilcoxon").p
    assert early < logrank(time, event, group).p
    assert early < logrank(time, event, group, "fleming-harrington", p=0, q=1).p


def test_p_is_uniform_where_nothing_differs():
    values = [logrank(*cohort(100, 3, seed)).p for seed in range(300)]
    assert kstest(values, "uniform").pvalue > 0.01


def test_one_group_no_event_and_groups_that_never_meet_are_refused():
    with pytest.raises(NotComputable, match='all patients are in the group "high"'):
        logrank([1, 2], [1, 1], ["high", "high"])
    with pytest.raises(NotComputable, match="all 2 patients are censored"):
        logrank([1, 2], [0, 0], ["high", "low"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NotComputable, match=r"high, low .* cannot be compared"):
            logrank([1, 2, 5, 6], [0, 0, 1, 1], ["low", "low", "high", "high"])
        with pytest.raises(NotComputable, match="cannot be compared"):
            logrank([1, 2, 5, 6, 6], [0, 0, 1, 1, 1], ["c", "c", "a", "b", "b"])


def test_unusable_groups_and_weightings_are_refused():
    with pytest.raises(ValueError, match="1 of 3 patients have no group"):
        logrank([1, 2, 3], [1, 1, 1], ["a", None, "b"])
    with pytest.raises(ValueError, match="one group a patient"):
        logrank([1, 2, 3], [1, 1, 1], ["a", "b"])
    with pytest.raises(ValueError, match='unknown weighting "gehan"; known are none, wilcoxon'):
        logrank([1, 2], [1, 1], ["a", "b"], "gehan")
    with pytest.raises(ValueError, match="p and q must be 0 or more"):
        logrank([1, 2], [1, 1], ["a", "b"], "fleming-harrington", p=-1)
