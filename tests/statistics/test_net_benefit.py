import numpy as np
import pytest

from lib.statistics.calibration import THRESHOLDS, decision_curve, decision_curve_at_horizon
from lib.statistics.classification import NotComputable
from lib.statistics.survival import event_share


def test_by_hand():
    labels, p = [1, 1, 0, 0, 1, 0, 0, 0, 0, 0], [0.9, 0.6, 0.6, 0.3, 0.2, 0.2, 0.1, 0.1, 0.0, 0.0]
    table = decision_curve(labels, p, [0.0, 0.2, 0.5, 0.75, 0.95])
    # called: all; 6 (3 true, 3 false) at odds 1/4; 3 (2, 1) at odds 1; 1 (1, 0) at odds 3; none
    assert table["called"].tolist() == [10, 6, 3, 1, 0]
    np.testing.assert_allclose(table["net_benefit"], [0.3, 0.3 - 0.3 / 4, 0.2 - 0.1, 0.1, 0])
    np.testing.assert_allclose(
        table["treat_all"], [0.3, 0.3 - 0.7 / 4, 0.3 - 0.7, 0.3 - 3 * 0.7, 0.3 - 19 * 0.7]
    )
    assert (table["treat_none"] == 0).all()
    assert (table["n"] == 10).all()


def test_at_a_horizon_by_hand():
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


@pytest.fixture
def predicted():
    random = np.random.default_rng(0)
    p = random.random(400)
    return (random.random(400) < p).astype(float), p


def test_a_perfect_model_gains_the_prevalence_and_a_calibrated_one_never_loses(predicted):
    labels, p = predicted
    np.testing.assert_allclose(decision_curve(labels, labels)["net_benefit"], labels.mean())
    table = decision_curve(labels, p)
    np.testing.assert_array_equal(table["threshold"], THRESHOLDS)
    assert (table["net_benefit"] <= labels.mean() + 1e-12).all()
    table = table[table["threshold"] <= 0.9]  # beyond, a few cases at odds of 10 and more decide
    assert (table["net_benefit"] >= table[["treat_all", "treat_none"]].max(axis=1) - 0.03).all()


def test_without_censoring_the_horizon_version_is_the_binary_one(predicted):
    labels, p = predicted
    time = np.where(labels == 1, 3.0, 20.0)
    binary = decision_curve(labels, p)
    np.testing.assert_allclose(
        decision_curve_at_horizon(time, labels, p, 10).to_numpy(), binary.to_numpy(), atol=1e-12
    )
    # events beyond the horizon are none by the horizon
    np.testing.assert_allclose(
        decision_curve_at_horizon(time, np.ones(400), p, 10).to_numpy(), binary.to_numpy(), atol=1e-12
    )


def test_scale_of_time_and_order_change_nothing(predicted):
    _, p = predicted
    random = np.random.default_rng(1)
    time, event = random.exponential(1 / (0.2 + p)), random.random(400) < 0.7
    table = decision_curve_at_horizon(time, event, p, 0.8)
    order = random.permutation(400)
    moved = decision_curve_at_horizon(30 * time[order], event[order], p[order], 24.0)
    np.testing.assert_allclose(moved.to_numpy(), table.to_numpy(), atol=1e-12)
    share = event_share(time, event, 0.8, [p >= 0.6])[0]
    row = table[table["threshold"] == 0.6].iloc[0]
    assert row["net_benefit"] == pytest.approx((p >= 0.6).mean() * (share - (1 - share) * 1.5))


def test_unknown_is_nan_for_the_called_and_refused_for_all():
    table = decision_curve_at_horizon([2, 1, 9, 9], [1, 0, 0, 0], [0.1, 0.9, 0.2, 0.3], 5, [0.5, 0.95])
    assert table["called"].tolist() == [1, 0]
    assert np.isnan(table["net_benefit"][0])
    assert table["net_benefit"][1] == 0
    with pytest.raises(NotComputable, match="follow-up ends at 9, before the horizon 10"):
        decision_curve_at_horizon([2, 9], [1, 0], [0.1, 0.2], 10)


def test_refusals(predicted):
    labels, p = predicted
    with pytest.raises(ValueError, match="below 1"):
        decision_curve(labels, p, [0.5, 1.0])
    with pytest.raises(ValueError, match="not in 0 to 1"):
        decision_curve(labels, 3 * p)
    with pytest.raises(ValueError, match="not in 0 to 1"):
        decision_curve_at_horizon(labels, labels, p - 1, 0.5)
    with pytest.raises(NotComputable, match="undetermined"):
        decision_curve([np.nan, 1], [0.1, 0.2])
