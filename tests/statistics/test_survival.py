import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter
from lifelines.utils import restricted_mean_survival_time
from scipy.stats import norm

from lib.statistics.classification import NotComputable
from lib.statistics.survival import (
    at_risk,
    checked_outcomes,
    checked_risk,
    kaplan_meier,
    median_follow_up,
    median_survival,
    rmst,
    survival_at,
)

TREATED = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
OBSERVED = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
"""6-MP in Freireich's trial, weeks to relapse; in every textbook."""

outcomes = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=30)


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
def test_curve_and_band_are_the_definition(rows):
    time, event = zip(*rows, strict=True)
    found = kaplan_meier(time, event)
    pd.testing.assert_frame_equal(found, slow_table(time, event), check_dtype=False, atol=1e-12)
    assert {found[column].dtype.kind for column in ("at_risk", "events", "censored")} == {"i"}
    assert found.events.sum() + found.censored.sum() == len(time)


def test_freireichs_remissions():
    """Survival and standard errors as printed everywhere: .857, .807, .753, .690, .627, .538, .448."""
    table = kaplan_meier(TREATED, OBSERVED)
    assert table.time.iloc[0] == 0
    assert table.survival[table.events > 0].round(3).tolist() == [
        0.857,
        0.807,
        0.753,
        0.69,
        0.627,
        0.538,
        0.448,
    ]
    assert table.at_risk[table.events > 0].tolist() == [21, 17, 15, 12, 11, 7, 6]
    assert median_survival(TREATED, OBSERVED) == 23


def test_scikit_survival_draws_the_same_band():
    nonparametric = pytest.importorskip("sksurv.nonparametric")
    for level in (0.8, 0.95):
        times, survival, band = nonparametric.kaplan_meier_estimator(
            np.array(OBSERVED, bool), np.array(TREATED, float), conf_level=level, conf_type="log-log"
        )
        table = kaplan_meier(TREATED, OBSERVED, level).iloc[1:]
        np.testing.assert_array_equal(table.time, times)
        np.testing.assert_allclose(table.survival, survival)
        np.testing.assert_allclose(table[["low", "high"]].T, band)


def test_deaths_at_once_are_counted():
    table = kaplan_meier([0, 0, 1, 2], [1, 0, 1, 0])
    assert table.time.tolist() == [0, 1, 2]
    assert table.at_risk.tolist() == [4, 2, 1]
    np.testing.assert_allclose(table.survival, [0.75, 0.375, 0.375])


def test_all_censored_is_a_flat_curve():
    table = kaplan_meier([1, 2], [0, 0])
    assert (table[["survival", "low", "high"]] == 1).all(axis=None)


def test_a_curve_leaves_numpys_warnings_as_they_were():
    with np.errstate(divide="raise", invalid="warn"):
        before = np.geterr()
        kaplan_meier([1, 2], [1, 1])
        assert np.geterr() == before


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_is_a_share(level):
    with pytest.raises(ValueError, match=f"level is {level}"):
        kaplan_meier([1, 2], [1, 0], level)


@given(outcomes, st.lists(st.integers(-1, 10), max_size=6))
def test_at_risk_counts_who_is_still_there(rows, grid):
    time = [t for t, _ in rows]
    assert at_risk(time, grid).tolist() == [sum(t >= moment for t in time) for moment in grid]


def test_survival_at_steps_down_at_the_event():
    time, event = [1, 2, 3, 4], [1, 0, 1, 0]
    np.testing.assert_allclose(
        survival_at(time, event, [4, 0, 0.99, 1, 2.9, 3]), [0.375, 1, 1, 0.75, 0.75, 0.375]
    )
    with pytest.raises(NotComputable, match=r"follow-up is 4 and survival is 0.375 there, .* at 4.5"):
        survival_at(time, event, [1, 4.5])
    assert survival_at(time, [1, 1, 1, 1], [9]).tolist() == [0]


def test_medians():
    assert median_survival([1, 2, 3, 4], [1, 1, 1, 1]) == 2  # half survive 2: that is the median
    assert median_survival([3, 4, 5], [1, 1, 1]) == 4
    for n in range(2, 60, 2):  # 0.5 by way of many ratios
        assert median_survival(np.arange(1, n + 1), np.ones(n)) == n / 2
    with pytest.raises(NotComputable, match=r"the median survival is not reached: the curve ends at 0.667"):
        median_survival([1, 2, 3], [1, 0, 0])


def test_follow_up_is_the_curve_of_censoring():
    assert median_follow_up([1, 2, 3, 4, 5], [0, 0, 0, 0, 0]) == 3
    assert median_follow_up([1, 1, 1, 4, 5], [1, 1, 1, 0, 0]) == 4  # early deaths say nothing of follow-up
    random = np.random.default_rng(0)
    death, leaving = random.exponential(1, 4000), random.uniform(0, 3, 4000)
    time, event = np.minimum(death, leaving), death <= leaving
    assert median_follow_up(time, event) == pytest.approx(1.5, abs=0.1)
    with pytest.raises(NotComputable, match="the median follow-up"):
        median_follow_up([1, 2], [1, 1])


@given(outcomes, st.floats(0.1, 8))
def test_rmst_is_the_area_under_the_curve(rows, horizon):
    time, event = zip(*[*rows, (9, False)], strict=True)
    value, _ = rmst(time, event, horizon)
    grid = (np.arange(4000) + 0.5) * horizon / 4000
    assert value == pytest.approx(survival_at(time, event, grid).mean() * horizon, abs=0.02)
    fitted = KaplanMeierFitter().fit(time, event)
    assert value == pytest.approx(restricted_mean_survival_time(fitted, horizon), abs=1e-9)


def test_rmst_without_censoring_is_a_plain_mean():
    time = np.random.default_rng(1).integers(0, 20, 90).astype(float)
    for horizon in (7, 10.5, 19, 40):
        cut = np.minimum(time, horizon)
        value, error = rmst(time, np.ones(90), horizon)
        assert value == pytest.approx(cut.mean())
        assert error == pytest.approx(cut.std() / 90**0.5)  # Greenwood is the binomial's variance then


def test_rmst_error_is_that_of_repeated_studies():
    random = np.random.default_rng(2)

    def study():
        death, leaving = random.exponential(1, 100), random.exponential(1.5, 100)
        return rmst(np.minimum(death, leaving), death <= leaving, 1.0)

    values, errors = np.transpose([study() for _ in range(400)])
    assert values.mean() == pytest.approx(1 - np.exp(-1), abs=0.01)
    assert errors.mean() == pytest.approx(values.std(), rel=0.1)


def test_rmst_scales_with_time():
    value, error = rmst(TREATED, OBSERVED, 30)
    days, days_error = rmst(np.array(TREATED) * 7, OBSERVED, 210)
    assert (days, days_error) == (pytest.approx(7 * value), pytest.approx(7 * error))


def test_horizons_out_of_reach_are_refused():
    with pytest.raises(NotComputable, match="longest follow-up is 35"):
        rmst(TREATED, OBSERVED, 36)
    assert rmst([1, 2], [0, 1], 5) == (2.0, 0.0)  # nobody is left: beyond 2 there is no area
    for horizon in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="lies above 0"):
            rmst(TREATED, OBSERVED, horizon)


@pytest.mark.parametrize(
    ("time", "event", "error", "said"),
    [
        ([], [], NotComputable, "no patient"),
        ([1, 2], [1], ValueError, "two vectors of one length"),
        ([[1]], [[1]], ValueError, "two vectors"),
        ([1, -2], [1, 0], ValueError, "1 of 2 times are negative"),
        ([1, np.nan], [1, 0], ValueError, "1 of 2 times"),
        ([np.inf, np.nan], [1, 0], ValueError, "2 of 2 times"),
        ([1, 2], [1, 2], ValueError, r"found \[1, 2\]"),
        ([1, 2], [1, np.nan], ValueError, "event must be 0"),
    ],
)
def test_unusable_outcomes_are_refused(time, event, error, said):
    for function in (checked_outcomes, kaplan_meier, median_survival):
        with pytest.raises(error, match=said):
            function(time, event)


def test_usable_outcomes_become_floats_and_truths():
    time, event = checked_outcomes([1, 2], [1, 0])
    assert (time.dtype, event.dtype) == (float, bool)
    assert event.tolist() == [True, False]


def test_a_risk_is_one_finite_number_a_patient():
    assert checked_risk([1, 2], 2).dtype == float
    with pytest.raises(ValueError, match="each of 3 patients"):
        checked_risk([1, 2], 3)
    with pytest.raises(NotComputable, match="1 of 2 risks"):
        checked_risk([1, np.inf], 2)
