"""Metrics of many resamples equal the metric of each resample's repeated rows."""

import numpy as np
import pytest

from lib.statistics import concordance
from lib.statistics import concordance as horizon
from lib.statistics import metrics_table as survival_draws
from lib.statistics.classification import NotComputable
from lib.statistics.survival import Censoring

TIMES = np.array([6.0, 12.0, 18.0, 24.0])


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(5)
    n = 90
    time = np.ceil(random.exponential(20, n))
    event = random.random(n) < 0.6
    risk = np.round(random.normal(size=n) - 0.03 * time, 1)
    survival = np.sort(random.random((n, TIMES.size)), axis=1)[:, ::-1]
    censoring = Censoring.fit(random.exponential(30, 300), random.random(300) < 0.5)
    counts = random.multinomial(n, np.full(n, 1 / n), size=25)
    return time, event, risk, survival, censoring, np.vstack([np.ones(n, int), counts])


def repeated(function, counts):
    return [function(np.repeat(np.arange(count.size), count)) for count in counts]


def test_uno(data):
    time, event, risk, _, g, counts = data
    slow = repeated(lambda r: concordance.uno(time[r], event[r], risk[r], tau=24.0, censoring=g), counts)
    np.testing.assert_allclose(survival_draws.uno(time, event, risk, 24.0, g)(counts), slow, atol=1e-12)


@pytest.mark.parametrize("at", [12.0, 24.0])
def test_auc_at(data, at):
    time, event, risk, _, g, counts = data
    slow = repeated(lambda r: horizon.auc_at(time[r], event[r], risk[r], [at], g)[0], counts)
    np.testing.assert_allclose(survival_draws.auc_at(time, event, risk, at, g)(counts), slow, atol=1e-12)


def test_brier_at(data):
    time, event, _, survival, g, counts = data
    slow = repeated(lambda r: horizon.brier_at(time[r], event[r], survival[r, 1:2], TIMES[1:2], g)[0], counts)
    fast = survival_draws.brier(time, event, survival[:, 1:2], TIMES[1:2], g)(counts)
    np.testing.assert_allclose(fast, slow, atol=1e-12)


def test_integrated_brier(data):
    time, event, _, survival, g, counts = data
    slow = repeated(lambda r: horizon.integrated_brier(time[r], event[r], survival[r], TIMES, g), counts)
    fast = survival_draws.brier(time, event, survival, TIMES, g)(counts)
    np.testing.assert_allclose(fast, slow, atol=1e-12)


def test_draw_without_a_case_has_no_value(data):
    time, event, risk, _, g, _ = data
    nobody_died = np.where(event, 0, 1)[None]
    assert np.isnan(survival_draws.uno(time, event, risk, 24.0, g)(nobody_died)).all()
    assert np.isnan(survival_draws.auc_at(time, event, risk, 12.0, g)(nobody_died)).all()


def test_horizon_beyond_what_the_censoring_knows_is_refused(data):
    time, event, risk, survival, _, _ = data
    short = Censoring.fit(np.array([3.0, 5.0]), np.array([1, 1]))
    with pytest.raises(NotComputable, match="longest follow-up"):
        survival_draws.auc_at(time, event, risk, 12.0, short)
    with pytest.raises(NotComputable, match="longest follow-up"):
        survival_draws.brier(time, event, survival, TIMES, short)
