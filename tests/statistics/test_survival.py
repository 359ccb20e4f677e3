"""Kaplan-Meier, censoring, the log-rank test, risk groups, and predictions joined with their cohort."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.statistics import multivariate_logrank_test
from scipy.stats import kstest, norm

from lib.crossfusion.cohort import stored_predictions
from lib.statistics import intervals
from lib.statistics.classification import NotComputable
from lib.statistics.survival import (
    Censoring,
    HeldOut,
    checked_outcomes,
    event_share,
    hazard_ratio,
    kaplan_meier,
    logrank,
    median_follow_up,
    median_groups,
    medians,
    survival_at,
)

PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
TREATED = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
OBSERVED = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
"""Placebo and 6-MP in Freireich's trial, weeks to relapse; in every textbook."""

outcomes = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=30)


def structured(time, event):
    return np.array(list(zip(event, time, strict=True)), dtype=[("event", bool), ("time", float)])


# Kaplan-Meier


def slow_table(time, event):
    """Count at every time, multiply, and add Greenwood's terms."""
    rows, survival, greenwood = [], 1.0, 0.0
    for moment in sorted({0, *time}):
        alive = sum(t >= moment for t in time)
        dead = sum(t == moment and e for t, e in zip(time, event, strict=True))
        left = sum(t == moment and not e for t, e in zip(time, event, strict=True))
        survival *= 1 - dead / alive
        low = high = 1.0
        if survival == 0:
            low = high = np.nan
        elif survival < 1:
            greenwood += dead / (alive * (alive - dead))
            spread = norm.ppf(0.975) * greenwood**0.5 / np.log(survival)
            low, high = survival ** np.exp(-spread), survival ** np.exp(spread)
        rows.append((moment, alive, dead, left, survival, low, high))
    return pd.DataFrame(rows, columns=["time", "at_risk", "events", "censored", "survival", "low", "high"])


@given(outcomes)
@settings(max_examples=40, deadline=None)
def test_curve_and_band_are_the_definition(rows):
    time, event = zip(*rows, strict=True)
    found = kaplan_meier(time, event)
    pd.testing.assert_frame_equal(found, slow_table(time, event), check_dtype=False, atol=1e-12)
    assert {found[column].dtype.kind for column in ("at_risk", "events", "censored")} == {"i"}


def test_freireichs_remissions():
    """Survival as printed everywhere, and chi-squared 16.79 against placebo (Klein and Moeschberger)."""
    table = kaplan_meier(TREATED, OBSERVED)
    printed = [0.857, 0.807, 0.753, 0.69, 0.627, 0.538, 0.448]
    assert table.survival[table.events > 0].round(3).tolist() == printed
    assert table.at_risk[table.events > 0].tolist() == [21, 17, 15, 12, 11, 7, 6]
    names = ["placebo"] * 21 + ["6-MP"] * 21
    found = logrank(PLACEBO + TREATED, [1] * 21 + OBSERVED, names)
    assert found.statistic == pytest.approx(16.79, abs=0.005)


def test_scikit_survival_draws_the_same_band():
    nonparametric = pytest.importorskip("sksurv.nonparametric")
    times, survival, band = nonparametric.kaplan_meier_estimator(
        np.array(OBSERVED, bool), np.array(TREATED, float), conf_type="log-log"
    )
    table = kaplan_meier(TREATED, OBSERVED).iloc[1:]
    np.testing.assert_array_equal(table.time, times)
    np.testing.assert_allclose(table.survival, survival)
    np.testing.assert_allclose(table[["low", "high"]].T, band)


def test_survival_at_steps_down_at_the_event():
    time, event = [1, 2, 3, 4], [1, 0, 1, 0]
    found = survival_at(time, event, [4, 0, 0.99, 1, 2.9, 3])
    np.testing.assert_allclose(found, [0.375, 1, 1, 0.75, 0.75, 0.375])
    with pytest.raises(NotComputable, match=r"follow-up is 4 and survival is 0.375 there, .* at 4.5"):
        survival_at(time, event, [1, 4.5])
    assert survival_at(time, [1, 1, 1, 1], [9]).tolist() == [0]


def test_medians_and_their_intervals_are_rs():
    """survfit(conf.type = "log-log") of R's survival 3.5-3."""
    np.testing.assert_equal(medians(TREATED, OBSERVED), (23, 13, np.nan))
    assert medians(PLACEBO, np.ones(21)) == (8, 4, 11)
    assert medians(np.arange(1, 21), np.ones(20)) == (10.5, 5, 15)
    for n in range(2, 60, 2):  # 0.5 by way of many ratios: the middle of the stretch
        assert medians(np.arange(1, n + 1), np.ones(n))[0] == (n + 1) / 2
    assert medians([1, 2, 3, 4], [1, 1, 0, 0])[0] == 2  # 0.5 to the end
    assert np.isnan(medians([1, 2, 3], [1, 0, 0])[0])  # not reached


def test_a_band_of_equal_precision():
    """Critical value 2.8826 between .1 and .6 (Klein and Moeschberger, table C.3), and R's km.ci, which reads a table."""
    table = kaplan_meier(TREATED, OBSERVED, band="equal-precision").set_index("time")
    r = {6: (0.44747, 0.97088), 7: (0.40609, 0.95010), 16: (0.24148, 0.85823), 23: (0.09646, 0.75925)}
    np.testing.assert_allclose(table.loc[list(r), ["low", "high"]], list(r.values()), atol=6e-4)
    assert table.loc[25:, ["low", "high"]].isna().all(axis=None)  # nobody's last event is beyond
    time, died = np.repeat([1.0, 2, 3], [10, 50, 40]), np.repeat([1, 1, 0], [10, 50, 40])  # survival .9, .4
    row = kaplan_meier(time, died, band="equal-precision").iloc[2]
    spread = np.log(np.log(row.low) / np.log(row.survival)) * -np.log(0.4)
    assert spread / np.sqrt(10 / 90 / 100 + 50 / 90 / 40) == pytest.approx(2.8826, abs=1e-4)
    with pytest.raises(ValueError, match='band "all"'):
        kaplan_meier([1, 2], [1, 0], band="all")


def test_a_band_of_equal_precision_holds_the_whole_curve():
    random, inside = np.random.default_rng(0), []
    for _ in range(300):
        death, leaving = random.exponential(1, 100), random.uniform(0.5, 3, 100)
        table = kaplan_meier(np.minimum(death, leaving), death <= leaving, band="equal-precision").dropna()
        truth, before = np.exp(-table.time), np.exp(-table.time.shift(-1).fillna(table.time.iloc[-1]))
        inside.append(((table.low <= truth) & (before <= table.high))[1:].all())
    assert 0.92 < np.mean(inside) < 0.99


def test_follow_up_is_the_curve_of_censoring():
    assert median_follow_up([1, 2, 3, 4, 5], [0, 0, 0, 0, 0]) == 3
    assert median_follow_up([1, 1, 1, 4, 5], [1, 1, 1, 0, 0]) == 4.5  # early deaths say nothing of follow-up
    random = np.random.default_rng(0)
    death, leaving = random.exponential(1, 4000), random.uniform(0, 3, 4000)
    assert median_follow_up(np.minimum(death, leaving), death <= leaving) == pytest.approx(1.5, abs=0.1)
    with pytest.raises(NotComputable, match="the median follow-up"):
        median_follow_up([1, 2], [1, 1])


@given(outcomes, st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_share_with_an_event_by_a_horizon(rows, horizon):
    time, event = (np.array(column) for column in zip(*rows, strict=True))
    survival = 1.0
    for t in sorted(set(time[event & (time <= horizon)])):
        survival *= 1 - (event & (time == t)).sum() / (time >= t).sum()
    known = survival == 0 or (time >= horizon).any()
    share, low, high = event_share(time, event, horizon)
    np.testing.assert_allclose(share, 1 - survival if known else np.nan, atol=1e-12)
    assert not known or np.isnan(low) or low <= share <= high
    assert np.isnan(event_share([], [], 1)).all()


@pytest.mark.parametrize(
    ("time", "event", "error", "said"),
    [
        ([], [], NotComputable, "no patient"),
        ([1, 2], [1], ValueError, "two vectors of one length"),
        ([1, -2], [1, 0], ValueError, "1 of 2 times are negative"),
        ([np.inf, np.nan], [1, 0], ValueError, "2 of 2 times"),
        ([1, 2], [1, 2], ValueError, r"found \[1, 2\]"),
        ([1, 2], [1, np.nan], ValueError, "event must be 0"),
    ],
)
def test_unusable_outcomes_are_refused(time, event, error, said):
    for function in (checked_outcomes, kaplan_meier, Censoring.fit):
        with pytest.raises(error, match=said):
            function(time, event)


# censoring


def slow_survival(time, event, at, included=True):
    """Product over censoring times; who has the event at such a time has left before."""
    value = 1.0
    for moment in sorted(set(time)):
        if moment < at or (included and moment == at):
            censored = sum(t == moment and not e for t, e in zip(time, event, strict=True))
            staying = sum(t > moment or (t == moment and not e) for t, e in zip(time, event, strict=True))
            value *= 1 - censored / staying if censored else 1
    return value


@given(outcomes)
def test_censoring_is_the_definition(rows):
    time, event = map(list, zip(*rows, strict=True))
    grid = np.arange(0, max(time) + 0.5, 0.5)
    grid, censoring = grid[grid <= max(time)], Censoring.fit(time, event)
    np.testing.assert_allclose(censoring.survival(grid), [slow_survival(time, event, t) for t in grid])
    before = [slow_survival(time, event, t, included=False) for t in grid]
    np.testing.assert_allclose(censoring.survival(grid, before=True), before)


def test_scikit_survival_has_the_same_curve_with_ties_but_weighs_with_it_at_the_event():
    nonparametric = pytest.importorskip("sksurv.nonparametric")
    random = np.random.default_rng(1)
    time, event = random.integers(0, 20, 200).astype(float), random.random(200) < 0.6
    time[0], event[0] = 20, True
    outcome = structured(time, event)
    theirs = nonparametric.CensoringDistributionEstimator().fit(outcome)
    ours, grid = Censoring.fit(time, event), np.linspace(0, 20, 81)
    np.testing.assert_allclose(ours.survival(grid), theirs.predict_proba(grid), atol=1e-12)
    assert (ours.weights(time, event) <= theirs.predict_ipcw(outcome)).all()


def test_censoring_by_hand():
    """Five patients; at 2 one dies and one is censored: three were at risk of censoring then, not four."""
    censoring = Censoring.fit([1, 2, 2, 3, 4], [1, 1, 0, 0, 1])
    np.testing.assert_allclose(censoring.survival([0, 1, 2, 2.5, 3, 4]), [1, 1, 2 / 3, 2 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(censoring.weights([1, 2, 3, 4], [1, 1, 0, 1]), [1, 1, 0, 3])
    assert Censoring.fit([3, 1, 2], [1, 1, 1]).weights([3, 1, 2], [1, 1, 1]).tolist() == [1, 1, 1]


def test_where_nothing_is_known_of_the_censoring():
    censoring = Censoring.fit([1, 2, 3], [1, 0, 1])
    with pytest.raises(NotComputable, match="1 of 2 times lie beyond 3"):
        censoring.survival([3, 3.5])
    with pytest.raises(NotComputable, match="beyond 3"):
        censoring.weights([4], [1])
    assert censoring.weights([4, 1], [0, 1]).tolist() == [0, 1]  # a censored patient needs no weight
    emptied = Censoring.fit([1, 2, 3], [1, 1, 0])
    assert emptied.survival([3, 9]).tolist() == [0, 0]
    with pytest.raises(NotComputable, match=r"1 of 3 events .* before 4"):
        emptied.weights([1, 3, 4], [1, 1, 1])


# log-rank


def groups_of(n=120, groups=2, seed=0, steps=15, effect=0.0):
    """Outcomes on a grid of times from 1, with ties; later groups live shorter by the effect."""
    random = np.random.default_rng(seed)
    group = random.integers(0, groups, n)
    time = 1 + np.floor(random.exponential(steps / 3, n) * np.exp(-effect * group))
    return time, random.random(n) < 0.7, group


@pytest.mark.parametrize("groups", [2, 4])
def test_log_rank_is_lifelines(groups):
    time, event, group = groups_of(groups=groups, effect=0.3)
    found, theirs = logrank(time, event, group), multivariate_logrank_test(time, group, event)
    assert (found.statistic, found.p) == pytest.approx((theirs.test_statistic, theirs.p_value), rel=1e-8)


@given(st.integers(0, 1000), st.integers(2, 4))
def test_order_names_shift_and_scale_change_no_log_rank(seed, groups):
    time, event, group = groups_of(60, groups, seed)
    expected = logrank(time, event, group).statistic
    order = np.random.default_rng(seed).permutation(60)
    assert logrank(time[order], event[order], group[order]).statistic == pytest.approx(expected)
    shifted, renamed = (time - 1) * 30.4, np.array(list("dbca"))[group]  # from 0 on: a death at once counts
    assert logrank(shifted, event, renamed).statistic == pytest.approx(expected)


def test_p_of_groups_alike_is_uniform():
    assert kstest([logrank(*groups_of(100, 3, seed)).p for seed in range(300)], "uniform").pvalue > 0.01


def test_groups_that_cannot_be_compared():
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
    with pytest.raises(ValueError, match="1 of 3 patients have no group"):
        logrank([1, 2, 3], [1, 1, 1], ["a", None, "b"])


# groups of high and low risk

RISK, FOLD = np.array([1.0, 2, 3, 4, 10, 20, 30, 40]), np.repeat(["0", "1"], 4)


def high(groups):
    assert set(groups) <= {"high", "low"}
    return (groups == "high").tolist()


def test_groups_by_hand():
    assert high(median_groups(RISK)) == [False] * 4 + [True] * 4
    assert high(median_groups(RISK, FOLD)) == [False, False, True, True] * 2
    assert high(median_groups([1, 2, 3])) == [False, True, True]  # the cut itself is high
    shifted = np.where(FOLD == "1", 5 + 3 * RISK, RISK)  # a fold's scale matters to the pooled median only
    assert high(median_groups(shifted, FOLD)) == high(median_groups(RISK, FOLD))


def test_groups_that_are_none():
    with pytest.raises(NotComputable, match="all 3 patients are of high risk"):
        median_groups([1, 1, 2])
    for call in (lambda: median_groups([1, np.nan]), lambda: median_groups([1, 2, 3], ["0", "0", None])):
        with pytest.raises(ValueError, match="finite"):
            call()


# log-rank p at the pooled and at the per-fold median, printed in the study's notes (None: not printed)
STORED = {
    ("AMIL", "blca"): (7.30e-1, 5.56e-1),
    ("AMIL", "brca"): (3.01e-2, 1.10e-1),
    ("AMIL", "gbmlgg"): (1.23e-18, 5.46e-21),
    ("AMIL", "luad"): (8.48e-1, 6.62e-2),
    ("AMIL", "ucec"): (6.67e-3, 6.23e-4),
    ("MCAT", "blca"): (8.42e-4, None),
    ("MCAT", "brca"): (6.05e-2, None),
    ("MCAT", "gbmlgg"): (8.98e-31, None),
    ("MCAT", "luad"): (1.44e-2, None),
    ("MCAT", "ucec"): (1.30e-3, None),
}


def test_log_rank_of_stored_predictions(mirror):
    found = stored_predictions(mirror / "mcat").groupby(["model", "cancer"])
    for key, (pooled, per_fold) in STORED.items():
        rows = found.get_group(key)
        groups = median_groups(rows["risk"])
        assert logrank(rows["time"], rows["event"], groups).p == pytest.approx(pooled, rel=5e-3), key
        if per_fold:
            groups = median_groups(rows["risk"], rows["fold"])
            assert logrank(rows["time"], rows["event"], groups).p == pytest.approx(per_fold, rel=5e-3), key


# predictions are joined with the cohort by patient, and nothing is dropped in silence


@pytest.fixture
def cohort() -> pd.DataFrame:
    times, events = [5.0, 3.0, 8.0, 1.25], [1, 0, 1, 1]
    table = pd.DataFrame(
        {"patient": list("abcd"), "time_months": times, "event": events, "fold": list("0101")}
    )
    return table.set_index("patient", drop=False)


@pytest.fixture
def predicted(cohort) -> pd.DataFrame:
    about = {"model": "m", "fold": cohort["fold"].to_numpy(), "patient": cohort["patient"].to_numpy()}
    later, sooner = [0.9, 0.8, 0.7, 0.6], [0.95, 0.9, 0.85, 0.8]
    parts = [
        pd.DataFrame(
            {
                **about,
                "seed": seed,
                "score": np.arange(4.0) + seed,
                "survival_12": later,
                "survival_6": sooner,
            }
        )
        for seed in (2, 1)
    ]
    return pd.concat(parts).sample(frac=1, random_state=0)


def test_order_of_the_rows_changes_nothing(cohort, predicted):
    one = HeldOut.of(predicted, cohort)
    assert one.patient.tolist() == list("abcd")
    assert one.fold.tolist() == list("0101")
    np.testing.assert_array_equal(one.risk, [[1, 2, 3, 4], [2, 3, 4, 5]])
    np.testing.assert_array_equal(one.time, [5, 3, 8, 1.25])
    assert one.event.tolist() == [True, False, True, True]
    assert one.times.tolist() == [6, 12]
    np.testing.assert_array_equal(one.survival[0], [[0.95, 0.9], [0.9, 0.8], [0.85, 0.7], [0.8, 0.6]])
    some = one.on(np.array(["d", "b"]))
    assert some.patient.tolist() == ["b", "d"]
    np.testing.assert_array_equal(some.risk, [[2, 4], [3, 5]])
    assert some.survival.shape == (2, 2, 2)


def test_a_bare_risk_has_no_survival(cohort, predicted):
    one = HeldOut.of(predicted.drop(columns=["survival_6", "survival_12"]), cohort)
    assert one.survival is one.times is None
    # columns of other models in one table are empty here
    assert HeldOut.of(predicted.assign(survival_6=np.nan, survival_12=np.nan), cohort).survival is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.replace({"patient": {"a": "z"}}), r"m predicts 1 patients the cohort lacks, such as z"),
        (lambda t: pd.concat([t, t.iloc[:1]]), r"m predicts patient \w twice in one seed"),
        (lambda t: t[~((t["seed"] == 2) & (t["patient"] == "c"))], "m, seed 2: patient c has no finite score"),
        (lambda t: t.assign(score=t["score"].replace(1, np.inf)), "has no finite score"),
        (lambda t: t.assign(survival_6=t["survival_6"].replace(0.9, np.nan)), "patient b has no finite survival_6"),
        (lambda t: t.assign(fold="0"), r"m: 4 patients have another fold than in the cohort, such as [bd] \(0, in the cohort 1\)"),
        (lambda t: t.assign(event=1, time=1.0), "another event than in the cohort, such as b"),
        (lambda t: t.assign(event=t["patient"].map({"a": 1, "b": 0, "c": 1, "d": 1}), time=5.0), "another time"),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused(cohort, predicted, change, said):
    with pytest.raises(ValueError, match=said):
        HeldOut.of(change(predicted), cohort)


def test_hazard_ratio_is_coxph_s_and_there_is_none_where_one_group_has_no_event():
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    time, event = [*placebo, *TREATED], [*np.ones(21), *OBSERVED]
    found = hazard_ratio(time, event, np.arange(42) < 21)
    np.testing.assert_allclose(found, np.exp(1.57213 + 0.41240 * norm.isf([0.5, 0.975, 0.025])), rtol=1e-4)
    wide = hazard_ratio(time, event, np.arange(42) < 21, trained=True)
    assert np.log(wide[2] / wide[0]) == pytest.approx(
        np.log(found[2] / found[0]) * np.sqrt(1 + intervals.MOST)
    )
    for never in (
        [1, 1, 0, 0],
        [1, 1, 1, 1],
    ):  # none of the second two dies, or only after all of the first two
        with pytest.raises(NotComputable, match="2 patients of low risk has an event"):
            hazard_ratio([1, 2, 3, 4], never, [True, True, False, False])


def test_groups_that_differ_may_have_bands_that_overlap():
    """So overlap is no verdict, and the hazard ratio is: two groups of 60, means of 40 and 23 months."""
    for seed in range(200):
        random = np.random.default_rng(seed)
        died = np.r_[random.exponential(40, 60), random.exponential(23, 60)]
        left = random.uniform(5, 120, 120)
        time, event, high = np.minimum(died, left), died <= left, np.arange(120) >= 60
        if 0.003 < logrank(time, event, high).p < 0.02:
            break
    bands = [
        kaplan_meier(time[high == side], event[high == side]).set_index("time") for side in (False, True)
    ]
    months = np.arange(1.0, 60)
    one, two = (band.reindex(months, method="ffill") for band in bands)
    assert ((one["low"] <= two["high"]) & (two["low"] <= one["high"])).mean() > 0.5
    ratio, low, _ = hazard_ratio(time, event, high)
    assert 1 < low < ratio
