import numpy as np
import pytest
from lifelines import KaplanMeierFitter

from lib.statistics.calibration import calibration_at_horizon, calibration_bins
from lib.statistics.classification import NotComputable


@pytest.fixture
def predicted():
    """400 exponential times, censored at random, with the true probability of an event by 2."""
    random = np.random.default_rng(0)
    rate = random.uniform(0.05, 1, size=400)
    time, censored = random.exponential(1 / rate), random.uniform(0, 6, size=400)
    return np.minimum(time, censored), time <= censored, 1 - np.exp(-2 * rate)


def test_groups_are_quantiles_with_lifelines_survival(predicted):
    time, event, p = predicted
    table = calibration_at_horizon(time, event, p, 2.0, groups=4)
    assert table["n"].tolist() == [100] * 4
    order = np.argsort(p)
    for row, own in zip(table.itertuples(), np.split(order, 4), strict=True):
        fitted = KaplanMeierFitter().fit(time[own], event[own])
        assert row.observed == pytest.approx(1 - fitted.predict(2.0))
        band = fitted.confidence_interval_[fitted.confidence_interval_.index <= 2.0].iloc[-1]
        assert (row.observed_low, row.observed_high) == pytest.approx((1 - band.iloc[1], 1 - band.iloc[0]))
        assert row.predicted == pytest.approx(p[own].mean())
        assert row.at_risk == (time[own] >= 2).sum()
        assert row.events == (event[own] & (time[own] <= 2)).sum()
        assert row.low == p[own].min()
    # true probabilities lie within the bands, most of them
    inside = (table["observed_low"] < table["predicted"]) & (table["predicted"] < table["observed_high"])
    assert inside.sum() >= 3


def test_without_censoring_it_is_the_binary_curve(predicted):
    _, _, p = predicted
    random = np.random.default_rng(1)
    labels = random.random(400) < p
    time = np.where(labels, 1.0, 9.0)
    table = calibration_at_horizon(time, np.ones(400), p, 2.0)
    binary = calibration_bins(labels, p, 5, "quantile")
    shared = list(binary.columns)
    np.testing.assert_allclose(table[shared].to_numpy(float), binary.to_numpy(float), atol=1e-12)


def test_scale_of_time_and_order_change_nothing(predicted):
    time, event, p = predicted
    table = calibration_at_horizon(time, event, p, 2.0)
    order = np.random.default_rng(2).permutation(400)
    moved = calibration_at_horizon(12 * time[order], event[order], p[order], 24.0)
    np.testing.assert_allclose(moved.to_numpy(float), table.to_numpy(float), atol=1e-9)


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
    with pytest.raises(NotComputable, match="follow-up ends at 9, before the horizon 10"):
        calibration_at_horizon(time, event, p, 10)
    with pytest.raises(ValueError, match="not in 0 to 1"):
        calibration_at_horizon(time, event, 2 * p, 5)
