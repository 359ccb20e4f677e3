import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.statistics.classification import NotComputable
from lib.statistics.classification import auc as plain_auc
from lib.statistics.concordance import auc_at, brier_at, integrated_brier, null_survival
from lib.statistics.survival import Censoring, kaplan_meier

TIMES = np.array([2.0, 4.0, 6.5, 9.0])


def cohort(n=150, seed=0, steps=12):
    random = np.random.default_rng(seed)
    time = random.integers(0, steps, n) * 12 / steps
    risk = random.integers(0, 12, n) / 8 - time / 16
    return time, random.random(n) < 0.6, risk


def curves(risk, times=TIMES):
    """Some survival probabilities (n, k)."""
    return np.exp(-np.exp(risk[:, None]) * times / 15)


def structured(time, event):
    return np.array(list(zip(event, time, strict=True)), dtype=[("event", bool), ("time", float)])


def slow_auc(time, event, risk, horizon, weights):
    good = pairs = 0.0
    for i in range(len(time)):
        for j in range(len(time)):
            if event[i] and time[i] <= horizon < time[j]:
                pairs += weights[i]
                good += weights[i] * (0.5 if risk[i] == risk[j] else risk[i] > risk[j])
    return good / pairs


def slow_brier(time, event, survival, horizon, weights, followed):
    total = 0.0
    for own, died, predicted, weight in zip(time, event, survival, weights, strict=True):
        if own > horizon:
            total += (1 - predicted) ** 2 / followed
        elif died:
            total += predicted**2 * weight
    return total / len(time)


rows = st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 4)), min_size=1, max_size=20)


@given(rows)
def test_both_are_their_definitions(drawn):
    drawn = [(1, True, 2), *drawn, (6, False, 2)]  # a case at every horizon, and a control
    time, event, risk = (np.array(column, dtype=float) for column in zip(*drawn, strict=True))
    times = np.array([1, 2.5, 5])
    censoring = Censoring.fit(time, event)
    weights, followed = censoring.weights(time, event), censoring.survival(times)
    survival = curves(risk, times)
    np.testing.assert_allclose(
        auc_at(time, event, risk, times), [slow_auc(time, event, risk, t, weights) for t in times]
    )
    np.testing.assert_allclose(
        brier_at(time, event, survival, times),
        [slow_brier(time, event, survival[:, k], t, weights, followed[k]) for k, t in enumerate(times)],
    )


@pytest.mark.parametrize("steps", [12, 3000], ids=["tied", "untied"])
def test_scikit_survival_agrees(steps):
    sksurv = pytest.importorskip("sksurv.metrics")
    own, (time, event, risk) = cohort(200, 1, steps), cohort(150, 2, steps)
    own[0][0], own[1][0] = 12, False
    train, test = structured(*own[:2]), structured(time, event)
    censoring = Censoring.fit(*own[:2])
    survival = curves(risk)
    np.testing.assert_allclose(
        auc_at(time, event, risk, TIMES, censoring),
        sksurv.cumulative_dynamic_auc(train, test, risk, TIMES)[0],
        atol=1e-12,
    )
    np.testing.assert_allclose(
        brier_at(time, event, survival, TIMES, censoring),
        sksurv.brier_score(train, test, survival, TIMES)[1],
        atol=1e-12,
    )
    assert integrated_brier(time, event, survival, TIMES, censoring) == pytest.approx(
        sksurv.integrated_brier_score(train, test, survival, TIMES), abs=1e-12
    )


def test_without_censoring_both_are_the_plain_ones():
    time, _, risk = cohort()
    survival = curves(risk)
    for k, horizon in enumerate(TIMES):
        died = time <= horizon
        assert auc_at(time, np.ones(150), risk, [horizon])[0] == pytest.approx(plain_auc(died, risk))
        score = brier_at(time, np.ones(150), survival[:, [k]], [horizon])[0]
        assert score == pytest.approx(np.mean((survival[:, k] - ~died) ** 2))


def test_order_of_patients_scale_of_time_and_rising_maps_of_risk_change_nothing():
    time, event, risk = cohort()
    order = np.random.default_rng(3).permutation(150)
    expected = auc_at(time, event, risk, TIMES)
    np.testing.assert_allclose(auc_at(time[order], event[order], risk[order], TIMES), expected)
    np.testing.assert_allclose(auc_at(time * 30, event, risk, TIMES * 30), expected)
    np.testing.assert_allclose(auc_at(time, event, np.exp(risk), TIMES), expected)
    np.testing.assert_allclose(auc_at(time, event, -risk, TIMES), 1 - expected)
    expected = brier_at(time, event, curves(risk), TIMES)
    np.testing.assert_allclose(brier_at(time[order], event[order], curves(risk)[order], TIMES), expected)
    np.testing.assert_allclose(brier_at(time * 30, event, curves(risk), TIMES * 30), expected)


def test_censoring_takes_nothing_from_either_on_average():
    """Both aim at their values without censoring; the plain ones of the uncensored miss them."""
    random = np.random.default_rng(0)
    n, times = 20_000, np.array([0.5, 1.0])
    risk = random.normal(size=n)
    death = random.exponential(np.exp(-risk))
    leaving = random.exponential(0.8, n)
    time, event = np.minimum(death, leaving), death <= leaving
    survival = np.exp(-np.exp(risk)[:, None] * times)
    everybody = np.ones(n)
    np.testing.assert_allclose(
        auc_at(time, event, risk, times), auc_at(death, everybody, risk, times), atol=0.015
    )
    truth = brier_at(death, everybody, survival, times)
    np.testing.assert_allclose(brier_at(time, event, survival, times), truth, atol=0.005)
    assert abs(brier_at(time[event], event[event], survival[event], times)[1] - truth[1]) > 0.01


def test_the_null_model_is_everybodys_curve_and_the_truth_beats_it():
    time, event, _ = cohort()
    null = null_survival(time, event, TIMES, patients=7)
    assert null.shape == (7, 4)
    table = kaplan_meier(time, event).set_index("time").survival
    np.testing.assert_array_equal(null, np.tile(table.loc[[2.0, 4.0, 6.0, 9.0]], (7, 1)))
    knowing = (time[:, None] > TIMES).astype(float)
    assert brier_at(time, event, knowing, TIMES).tolist() == [0, 0, 0, 0]


def test_the_null_model_scores_the_variance_of_a_coin():
    """S (1 - S) at every horizon, exactly where no times tie: the weights undo the censoring."""
    random = np.random.default_rng(0)
    time, event = random.permutation(150) / 12.5, random.random(150) < 0.6
    null = null_survival(time, event, TIMES, patients=150)
    np.testing.assert_allclose(brier_at(time, event, null, TIMES), null[0] * (1 - null[0]))


def test_integral_of_a_straight_line():
    time, event = np.array([1.0, 2, 3, 4, 5]), np.ones(5)
    survival = np.array([[0.0, 0, 0, 0, 1], [0.0, 0, 0, 1, 1]]).T
    np.testing.assert_allclose(brier_at(time, event, survival, [3, 4]), [0.2, 0.2])
    assert integrated_brier(time, event, survival, [3, 4]) == pytest.approx(0.2)


@pytest.mark.parametrize("times", [[4.0], [4.0, 4.0], [6.0, 2.0]])
def test_an_integral_wants_increasing_horizons(times):
    time, event, risk = cohort()
    with pytest.raises(ValueError, match="two or more increasing times"):
        integrated_brier(time, event, curves(risk, np.array(times)), times)


def test_horizons_without_case_or_control_are_refused():
    time, event, risk = [1, 2, 3, 4], [0, 1, 1, 0], [1, 2, 3, 4]
    with pytest.raises(NotComputable, match=r"nobody had the event by the horizon 1\.5"):
        auc_at(time, event, risk, [1.5])
    for late in (4, 9):
        with pytest.raises(
            NotComputable, match=rf"beyond the horizons \[{late}.0\]: choose horizons before 4"
        ):
            auc_at(time, event, risk, [2, late])
        with pytest.raises(NotComputable, match="nobody was followed beyond"):
            brier_at(time, event, np.full((4, 1), 0.5), [late])
    for empty in ([], [np.nan], 3.0):
        with pytest.raises(ValueError, match="vector of finite horizons"):
            auc_at(time, event, risk, empty)


def test_a_horizon_the_censoring_knows_nothing_of_is_refused():
    censoring = Censoring.fit([1, 2, 2.5], [1, 0, 1])
    with pytest.raises(NotComputable, match=r"lie beyond 2\.5"):
        brier_at([1, 2, 6], [1, 1, 0], np.full((3, 1), 0.5), [3], censoring)
    emptied = Censoring.fit([1, 2], [1, 0])
    with pytest.raises(NotComputable, match=r"G is 0 at the horizons \[3.0\]"):
        brier_at([1, 2, 6], [1, 0, 0], np.full((3, 1), 0.5), [3], emptied)


def test_unusable_predictions_are_refused():
    time, event = [1, 2, 3], [1, 1, 0]
    with pytest.raises(ValueError, match=r"shape \(3,\); \(3, 1\) is needed"):
        brier_at(time, event, [0.1, 0.2, 0.3], [2])
    for bad in (1.5, -0.1, np.nan):
        with pytest.raises(NotComputable, match="1 of 3 survival probabilities"):
            brier_at(time, event, [[bad], [0.2], [0.3]], [2])
    with pytest.raises(NotComputable, match="1 of 3 risks"):
        auc_at(time, event, [1, np.nan, 2], [2])
