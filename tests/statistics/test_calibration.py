"""Calibration of an outcome and at a horizon, intercept and slope, decision curves."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.calibration import calibration_curve

from lib.statistics.calibration import (
    MEASURES,
    THRESHOLDS,
    calibration_at_horizon,
    calibration_bins,
    decision_curve,
    decision_curve_at_horizon,
    ece,
    intercept_slope,
    survival_calibration,
)
from lib.statistics.classification import NotComputable
from lib.statistics.intervals import draw_counts
from lib.statistics.survival import event_share, kaplan_meier


def test_bins_equal_sklearn():
    random = np.random.default_rng(1)
    p = random.random(503) ** 3
    labels = (random.random(503) < p).astype(float)
    bins = calibration_bins(labels, p)
    observed, predicted = calibration_curve(labels, p, n_bins=10)
    np.testing.assert_allclose(bins["observed"].dropna(), observed)
    np.testing.assert_allclose(bins["predicted"].dropna(), predicted)
    assert (bins["n"].sum(), bins["events"].sum()) == (503, labels.sum())
    bins = calibration_bins(labels, p, 8, "quantile")
    assert set(bins["n"]) == {62, 63}
    observed, predicted = calibration_curve(labels, p, n_bins=8, strategy="quantile")
    np.testing.assert_allclose(bins["predicted"], predicted, atol=0.01)
    np.testing.assert_allclose(bins["observed"], observed, atol=0.02)


def test_edges_empty_bins_and_ties():
    bins = calibration_bins([1, 1, 0], [1.0, 0.5, 0.0], bins=4)
    assert bins["n"].tolist() == [1, 0, 1, 1]
    assert bins.loc[1, ["observed", "predicted"]].isna().all()
    assert calibration_bins([1, 0, 0, 1, 1], [0.0, 0, 0, 1, 1], 5, "quantile")["n"].tolist() == [3, 2]
    assert calibration_bins([1, 0], [0.3, 0.3], 5, "quantile")["predicted"].tolist() == [0.3]
    with pytest.raises(ValueError, match="quantile"):
        calibration_bins([1, 0], [0.3, 0.3], 5, "equal")


def test_ece_by_hand_and_naive():
    # bins 0 to .5 and .5 to 1: predicted .2 observed 1/3 of 3, predicted .8 observed 1 of 2
    found = ece([1, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.7, 0.9], bins=2)
    assert found == pytest.approx(3 / 5 * (1 / 3 - 0.2) + 2 / 5 * 0.2)
    random = np.random.default_rng(3)
    p, labels = random.random(300), (random.random(300) < 0.4).astype(float)
    for edges in ("width", "quantile"):
        naive = 0.0
        for row in calibration_bins(labels, p, 7, edges).itertuples():
            own = (p >= row.low) & ((p < row.high) | ((p == row.high) & (row.high == p.max())))
            naive += own.mean() * abs(labels[own].mean() - p[own].mean())
        assert ece(labels, p, 7, edges) == pytest.approx(naive)
    assert ece(labels, labels) == 0
    assert ece(labels, 1 - labels) == 1


# intercept and slope


@pytest.fixture
def lined():
    random = np.random.default_rng(0)
    line = random.normal(-1, 1.2, size=4000)
    return (random.random(4000) < expit(line)).astype(float), line


def test_intercept_and_slope_are_the_maximum_of_the_likelihood(lined):
    labels, line = (array[:200] for array in lined)

    def loss(parameters):
        a, b = parameters
        return np.logaddexp(0, a + b * line).sum() - (labels * (a + b * line)).sum()

    intercept, slope = intercept_slope(labels, expit(line))
    alone = minimize(lambda a: loss([a[0], 1]), [0], tol=1e-10).x
    assert slope.estimate == pytest.approx(minimize(loss, [0, 1], tol=1e-10).x[1], abs=1e-4)
    assert intercept.estimate == pytest.approx(alone[0], abs=1e-4)
    # Wald error of an intercept alone: 1 / sqrt(sum p (1 - p)) at the fitted p
    p = expit(alone[0] + line)
    width = 2 * 1.959964 / np.sqrt((p * (1 - p)).sum())
    assert intercept.high - intercept.low == pytest.approx(width, rel=1e-3)
    assert (slope.n, slope.events) == (200, labels.sum())


def test_right_probabilities_hold_0_and_1_and_wrong_ones_are_found(lined):
    labels, line = lined
    intercept, slope = intercept_slope(labels, expit(line))
    assert intercept.low < 0 < intercept.high
    assert slope.low < 1 < slope.high
    assert intercept_slope(labels, expit(2 * line))[1].estimate == pytest.approx(slope.estimate / 2)
    assert intercept_slope(labels, expit(line + 0.7))[0].estimate == pytest.approx(intercept.estimate - 0.7)
    assert intercept_slope(1 - labels, expit(-line))[1].estimate == pytest.approx(slope.estimate)


@pytest.mark.parametrize(
    ("labels", "probabilities", "reason"),
    [
        ([1, 1], [0.2, 0.3], "all 2 cases have the label 1"),
        ([1, 0, 1], [0.2, 0.0, 1.0], "2 of 3 probabilities are exactly 0 or 1"),
        ([1, 0], [0.3, 0.3], "every probability is 0.3"),
        ([1, 1, 0, 0], [0.8, 0.5, 0.5, 0.2], "separate the classes"),
    ],
)
def test_no_slope_says_why(labels, probabilities, reason):
    with pytest.raises(NotComputable, match=reason):
        intercept_slope(labels, probabilities)


# at a horizon


@pytest.fixture
def predicted():
    """400 exponential times, censored at random, with the true probability of an event by 2."""
    random = np.random.default_rng(0)
    rate = random.uniform(0.05, 1, size=400)
    time, censored = random.exponential(1 / rate), random.uniform(0, 6, size=400)
    return np.minimum(time, censored), time <= censored, 1 - np.exp(-2 * rate)


def test_groups_are_quantiles_with_kaplan_meier_and_its_band(predicted):
    time, event, p = predicted
    table = calibration_at_horizon(time, event, p, 2.0, groups=4)
    assert table["n"].tolist() == [100] * 4
    for row, own in zip(table.itertuples(), np.split(np.argsort(p), 4), strict=True):
        curve = kaplan_meier(time[own], event[own])
        last = curve[curve["time"] <= 2].iloc[-1]
        assert (row.observed, row.observed_low, row.observed_high) == pytest.approx(
            (1 - last["survival"], 1 - last["high"], 1 - last["low"])
        )
        assert row.predicted == pytest.approx(p[own].mean())
        assert (row.at_risk, row.events) == ((time[own] >= 2).sum(), (event[own] & (time[own] <= 2)).sum())
        assert row.low == p[own].min()
    # true probabilities lie within the bands, most of them
    inside = (table["observed_low"] < table["predicted"]) & (table["predicted"] < table["observed_high"])
    assert inside.sum() >= 3


def test_without_censoring_both_are_the_binary_ones(predicted):
    _, _, p = predicted
    labels = np.random.default_rng(1).random(400) < p
    time = np.where(labels, 1.0, 9.0)
    binary = calibration_bins(labels, p, 5, "quantile")
    table = calibration_at_horizon(time, np.ones(400), p, 2.0)[list(binary.columns)]
    np.testing.assert_allclose(table.to_numpy(float), binary.to_numpy(float), atol=1e-12)
    for event in (labels, np.ones(400)):  # events beyond the horizon are none by the horizon
        curve = decision_curve_at_horizon(time, event, p, 2.0).to_numpy()
        np.testing.assert_allclose(curve, decision_curve(labels, p).to_numpy(), atol=1e-12)


def test_scale_of_time_and_order_change_nothing(predicted):
    time, event, p = predicted
    order = np.random.default_rng(2).permutation(400)
    for function in (calibration_at_horizon, decision_curve_at_horizon):
        table = function(time, event, p, 2.0)
        moved = function(12 * time[order], event[order], p[order], 24.0)
        np.testing.assert_allclose(moved.to_numpy(float), table.to_numpy(float), atol=1e-9)
    share = event_share(time[p >= 0.6], event[p >= 0.6], 2.0)[0]
    row = table[table["threshold"] == 0.6].iloc[0]
    assert row["net_benefit"] == pytest.approx((p >= 0.6).mean() * (share - (1 - share) * 1.5))


def test_ties_join_groups_and_a_group_without_follow_up_is_nan():
    time, event = np.array([1.0, 2, 9, 9, 1, 2, 2]), np.array([1, 0, 0, 0, 0, 1, 0])
    p = np.array([0.1, 0.1, 0.1, 0.1, 0.8, 0.8, 0.8])
    table = calibration_at_horizon(time, event, p, 5)
    assert table["n"].tolist() == [4, 3]
    assert table["at_risk"].tolist() == [2, 0]
    assert table["observed"][0] == pytest.approx(1 / 4)
    assert table.loc[1, ["observed", "observed_low", "observed_high"]].isna().all()
    # an event at the horizon counts, and who is censored there was followed
    at = calibration_at_horizon([2, 5, 5], [0, 1, 0], [0.3, 0.3, 0.3], 5).iloc[0]
    assert (at["observed"], at["events"], at["at_risk"]) == (0.5, 1, 2)
    curve = decision_curve_at_horizon([2, 1, 9, 9], [1, 0, 0, 0], [0.1, 0.9, 0.2, 0.3], 5, [0.5, 0.95])
    np.testing.assert_array_equal(curve["net_benefit"], [np.nan, 0])  # one called and lost; nobody called
    for function in (calibration_at_horizon, decision_curve_at_horizon):
        with pytest.raises(NotComputable, match=r"longest follow-up is 9 and .* at 10"):
            function(time, event, p, 10)
        with pytest.raises(ValueError, match="not in 0 to 1"):
            function(time, event, 2 * p, 5)


# decision curves


def test_net_benefit_by_hand():
    labels, p = [1, 1, 0, 0, 1, 0, 0, 0, 0, 0], [0.9, 0.6, 0.6, 0.3, 0.2, 0.2, 0.1, 0.1, 0.0, 0.0]
    table = decision_curve(labels, p, [0.0, 0.2, 0.5, 0.75, 0.95])
    # called: all; 6 (3 true, 3 false) at odds 1/4; 3 (2, 1) at odds 1; 1 (1, 0) at odds 3; none
    assert table["called"].tolist() == [10, 6, 3, 1, 0]
    np.testing.assert_allclose(table["net_benefit"], [0.3, 0.3 - 0.3 / 4, 0.2 - 0.1, 0.1, 0])
    np.testing.assert_allclose(
        table["treat_all"], [0.3, 0.3 - 0.7 / 4, 0.3 - 0.7, 0.3 - 3 * 0.7, 0.3 - 19 * 0.7]
    )
    assert (table["treat_none"] == 0).all()
    with pytest.raises(ValueError, match="below 1"):
        decision_curve(labels, p, [0.5, 1.0])


def test_net_benefit_at_a_horizon_by_hand():
    # called at .5: times 1+, 2, 4, 6+ -> at risk 3 at the event of 2, 2 at that of 4: S(5) = 2/3 * 1/2 = 1/3
    time, event = [1, 2, 4, 6, 3, 7, 8, 9], [0, 1, 1, 0, 1, 0, 0, 0]
    p = [0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    table = decision_curve_at_horizon(time, event, p, 5, [0.2, 0.5, 0.9])
    # all 8: events at 2 (7 at risk), 3 (6), 4 (5): S = 6/7 * 5/6 * 4/5 = 4/7; called at .2: 7, S = 5/6 4/5 3/4 = 1/2
    np.testing.assert_allclose(
        table["net_benefit"], [7 / 8 * (1 / 2 - 1 / 2 / 4), 4 / 8 * (2 / 3 - 1 / 3), 0]
    )
    np.testing.assert_allclose(table["treat_all"], [3 / 7 - 4 / 7 / 4, 3 / 7 - 4 / 7, 3 / 7 - 9 * 4 / 7])
    assert table["called"].tolist() == [7, 4, 0]


def test_a_perfect_model_gains_the_prevalence_and_a_calibrated_one_never_loses():
    random = np.random.default_rng(0)
    p = random.random(400)
    labels = (random.random(400) < p).astype(float)
    np.testing.assert_allclose(decision_curve(labels, labels)["net_benefit"], labels.mean())
    table = decision_curve(labels, p)
    np.testing.assert_array_equal(table["threshold"], THRESHOLDS)
    assert (table["net_benefit"] <= labels.mean() + 1e-12).all()
    table = table[table["threshold"] <= 0.9]  # beyond, a few cases at odds of 10 and more decide
    assert (table["net_benefit"] >= table[["treat_all", "treat_none"]].max(axis=1) - 0.03).all()


def test_a_band_of_net_benefit_is_that_of_the_repeated_rows(predicted):
    time, event, p = predicted
    at = np.array([0.1, 0.4, 0.7])
    table = decision_curve_at_horizon(time, event, p, 2.0, at, draws=300)
    assert ((table["low"] < table["net_benefit"]) & (table["net_benefit"] < table["high"])).all()
    counts = draw_counts(np.arange(400), 300)
    rows = [np.repeat(np.arange(400), each) for each in counts]
    drawn = [decision_curve_at_horizon(time[r], event[r], p[r], 2.0, at)["net_benefit"] for r in rows]
    np.testing.assert_allclose(table[["low", "high"]].T, np.quantile(drawn, [0.025, 0.975], axis=0))
    labels = (event & (time <= 2)).astype(float)
    table = decision_curve(labels, p, at, draws=300)
    drawn = [decision_curve(labels[r], p[r], at)["net_benefit"] for r in rows]
    np.testing.assert_allclose(table[["low", "high"]].T, np.quantile(drawn, [0.025, 0.975], axis=0))
    assert decision_curve(labels, p, [0.999], draws=100)[["low", "high"]].to_numpy().tolist() == [[0, 0]]


# calibration of survival by regression


def survivors(whole: bool):
    random, n = np.random.default_rng(5), 300
    z = random.normal(size=n)
    died, left = random.exponential(30 * np.exp(-z)), random.uniform(6, 60, n)
    p = 1 - np.exp(-24 / 30 * np.exp(0.6 * z + 0.2 * z**2 - 0.2))
    time = np.minimum(died, left)
    return np.ceil(time) if whole else time, died <= left, p


# R 4.2: coxph(ties = "breslow") of survival 3.5-3 on log(-log(1 - p)), and on rcs(, 3 knots) of rms 6.5
R = {
    False: {"slope": 1.125185756, "ici": 0.07981416623, "e50": 0.07698918725, "e90": 0.1569910707},
    True: {"slope": 1.049286792, "ici": 0.07580087617, "e50": 0.07793837045, "e90": 0.145823218},
}


@pytest.mark.parametrize("whole", [False, True])
def test_survival_calibration_is_rs_and_draws_are_the_repeated_rows(whole):
    time, event, p = survivors(whole)
    function = survival_calibration(time, event, p, 24)
    np.testing.assert_allclose(function(np.ones((1, 300)))[:, 0], [R[whole][m] for m in MEASURES], atol=1e-7)
    counts = np.random.default_rng(0).multinomial(300, np.full(300, 1 / 300), size=4)
    order = np.random.default_rng(1).permutation(300)
    turned = survival_calibration(time[order], event[order], p[order], 24)
    np.testing.assert_allclose(turned(counts[:, order]), function(counts), atol=1e-9)
    rows = [np.repeat(np.arange(300), each) for each in counts]
    slopes = [survival_calibration(time[r], event[r], p[r], 24)(np.ones((1, 300)))[0, 0] for r in rows]
    np.testing.assert_allclose(slopes, function(counts)[0], atol=1e-9)  # knots are those of all in every draw


def test_survival_calibration_of_the_truth_and_of_what_is_too_sure():
    random, n = np.random.default_rng(0), 4000
    z = 0.6 * random.normal(size=n)
    time, left = random.exponential(30 * np.exp(-z)), random.uniform(6, 60, n)
    event, time = time <= left, np.minimum(time, left)
    one = np.ones((1, n))
    for sharper in (1, 1.5):
        p = 1 - np.exp(-24 / 30 * np.exp(sharper * z))
        (slope,), (ici,), *_ = survival_calibration(time, event, p, 24)(one)
        assert slope == pytest.approx(1 / sharper, abs=0.05)
        assert (ici < 0.04) == (sharper == 1)
    with pytest.raises(NotComputable, match="1 of 2 probabilities are exactly 0 or 1"):
        survival_calibration([1, 2], [1, 1], [1, 0.5], 1)
    with pytest.raises(NotComputable, match="there is no event"):
        survival_calibration([1, 2], [0, 0], [0.2, 0.5], 1)
    separated = survival_calibration([1, 2, 3, 4], [1, 1, 1, 1], [0.9, 0.6, 0.5, 0.2], 2)
    assert np.isnan(separated(np.ones((1, 4)))).all()
