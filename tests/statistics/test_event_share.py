import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter

from lib.statistics.classification import NotComputable
from lib.statistics.survival import event_share


def naive(time, event, horizon):
    survival = 1.0
    for t in sorted(set(time[event & (time <= horizon)])):
        survival *= 1 - (event & (time == t)).sum() / (time >= t).sum()
    return 1 - survival if survival == 0 or (time >= horizon).any() else np.nan


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 3)), min_size=1, max_size=20),
    st.integers(0, 7),
)
@settings(max_examples=100, deadline=None)
def test_a_weight_is_a_repeated_patient(patients, horizon):
    time, event, weight = (np.array(column) for column in zip(*patients, strict=True))
    weights = np.stack([np.ones_like(weight), weight])
    found = event_share(time, event, horizon, weights)
    expected = [
        naive(np.repeat(time, w), np.repeat(event, w), horizon) if w.any() else np.nan for w in weights
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_equals_lifelines():
    random = np.random.default_rng(0)
    time, event = random.exponential(size=300).round(1), random.random(300) < 0.6
    fitted = KaplanMeierFitter().fit(time, event)
    for horizon in (0, 0.35, 0.8, 1.5):
        (found,) = event_share(time, event, horizon, np.ones((1, 300)))
        assert found == pytest.approx(1 - fitted.predict(horizon), abs=1e-12)
        (scaled,) = event_share(12 * time, event, 12 * horizon, np.ones((1, 300)))
        assert scaled == pytest.approx(found, abs=1e-12)


def test_beyond_follow_up_nothing_is_known_unless_all_had_the_event():
    weights = np.array([[1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0]])
    found = event_share([1, 2, 3], [0, 1, 1], 5, weights)
    np.testing.assert_array_equal(found, [1, 1, np.nan, np.nan])
    with pytest.raises(NotComputable, match="no patient"):
        event_share([], [], 1, np.ones((1, 0)))
