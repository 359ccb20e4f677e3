"""Cheap models where there is nothing to find: how often their intervals cry wolf, and what they would see."""

import numpy as np
import pandas as pd
import pytest

from lib.statistics.classification import NotComputable
from lib.statistics.intervals import Interval
from lib.statistics.nulls import false_alarms, outcome_null, spot_null, survival_null


def test_rates_and_what_would_be_seen():
    random = np.random.default_rng(0)

    def one(seed):
        estimate = 0.5 + 0.03 * random.normal()
        return Interval(estimate, estimate - 0.0588, estimate + 0.0588, 100, 50, "")

    found = false_alarms(one, 2000)
    assert found["false_alarms"] == pytest.approx(0.05, abs=0.015)
    assert found["detected"] == pytest.approx(0.5 + (1.96 + 0.84) * 0.03, abs=0.004)


def test_outcomes_dealt_out_are_not_found_whatever_the_columns_knew():
    random = np.random.default_rng(1)
    fold, values = np.arange(90) % 3, random.normal(size=(90, 4))
    time = random.exponential(np.exp(-values[:, 0]))
    cohort = pd.DataFrame({"fold": fold, "time_months": time, "event": random.random(90) < 0.6})
    for one in (survival_null(values, cohort, 60), outcome_null(values, fold, time < np.median(time), 60)):
        assert one(3) == one(3)
        found = false_alarms(one, 60)
        assert found["mean"] == pytest.approx(0.5, abs=0.03)
        assert found["false_alarms"] <= 0.15
        assert 0.6 < found["detected"] < 0.8


def test_labels_pushed_within_their_section_stay_patches_and_are_not_found():
    random = np.random.default_rng(2)
    x, y = np.meshgrid(np.arange(12.0), np.arange(12.0))
    xy, sections = np.c_[x.ravel(), y.ravel()], []
    for patient in range(5):
        labels = (np.hypot(*(xy - random.uniform(2, 10, 2)).T) < 4).astype(float)
        values = labels[:, None] * [2.0, 0.5] + random.normal(size=(144, 2))
        sections.append((str(patient), "s", values, labels, xy, 3.0))
    found = false_alarms(spot_null(sections, 40), 40)
    assert found["mean"] == pytest.approx(0.5, abs=0.06)
    assert found["false_alarms"] <= 0.15
    named = [(patient, patient, *rest) for patient, _, *rest in sections]
    assert spot_null(named, 40, ["4"])(0).how.startswith("one patient")
    assert "widened" in spot_null(named, 40)(0).how
    assert "widened" not in spot_null(named, 40, ["3", "4"])(0).how, "their model saw neither"
    healthy = [(*one[:3], np.zeros(144), *one[4:]) for one in named[:4]]
    with pytest.raises(NotComputable, match="one class"):
        spot_null([*healthy, named[4]], 40, ["4"])(0)
