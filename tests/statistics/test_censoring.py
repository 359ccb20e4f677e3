import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter

from lib.statistics.classification import NotComputable
from lib.statistics.survival import Censoring

outcomes = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=25)


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
def test_both_curves_are_the_definition(rows):
    time, event = map(list, zip(*rows, strict=True))
    grid = np.arange(0, max(time) + 0.5, 0.5)
    grid = grid[grid <= max(time)]
    censoring = Censoring.fit(time, event)
    np.testing.assert_allclose(censoring.survival(grid), [slow_survival(time, event, t) for t in grid])
    np.testing.assert_allclose(
        censoring.survival_before(grid), [slow_survival(time, event, t, included=False) for t in grid]
    )


def test_lifelines_agrees_where_no_event_ties_with_a_censoring():
    random = np.random.default_rng(0)
    time, event = random.permutation(100).astype(float), random.random(100) < 0.5
    fitted = KaplanMeierFitter().fit(time, ~event)
    np.testing.assert_allclose(
        Censoring.fit(time, event).survival(np.arange(99)), fitted.predict(np.arange(99)), atol=1e-12
    )


def test_scikit_survival_agrees_with_ties():
    nonparametric = pytest.importorskip("sksurv.nonparametric")
    random = np.random.default_rng(1)
    time, event = random.integers(0, 20, 200).astype(float), random.random(200) < 0.6
    time[0], event[0] = 20, True
    outcome = np.array(list(zip(event, time, strict=True)), dtype=[("event", bool), ("time", float)])
    theirs = nonparametric.CensoringDistributionEstimator().fit(outcome)
    ours = Censoring.fit(time, event)
    grid = np.linspace(0, 20, 81)
    np.testing.assert_allclose(ours.survival(grid), theirs.predict_proba(grid), atol=1e-12)
    np.testing.assert_allclose(ours.weights(time, event), theirs.predict_ipcw(outcome), rtol=1e-12)


def test_by_hand():
    """Five patients; at 2 one dies and one is censored: three were at risk of censoring then, not four."""
    censoring = Censoring.fit([1, 2, 2, 3, 4], [1, 1, 0, 0, 1])
    np.testing.assert_allclose(censoring.survival([0, 1, 2, 2.5, 3, 4]), [1, 1, 2 / 3, 2 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(censoring.survival_before([0, 2, 3, 3.1]), [1, 1, 2 / 3, 1 / 3])
    np.testing.assert_allclose(censoring.weights([1, 2, 3, 4], [1, 1, 0, 1]), [1, 1.5, 0, 3])


def test_nobody_censored_means_no_weighting():
    censoring = Censoring.fit([3, 1, 2], [1, 1, 1])
    assert censoring.weights([3, 1, 2], [1, 1, 1]).tolist() == [1, 1, 1]


def test_weights_of_events_add_up_to_everybody():
    """What a weight is for: each event stands for those censored before it, so the weights share out n."""
    random = np.random.default_rng(2)
    time, event = random.permutation(300).astype(float), random.random(300) < 0.6
    event[time.argmax()] = True
    assert Censoring.fit(time, event).weights(time, event).sum() == pytest.approx(300)


def test_beyond_the_longest_follow_up_nothing_is_known():
    censoring = Censoring.fit([1, 2, 3], [1, 0, 1])
    for curve in (censoring.survival, censoring.survival_before):
        with pytest.raises(NotComputable, match="1 of 2 times lie beyond 3"):
            curve([3, 3.5])
    with pytest.raises(NotComputable, match="beyond 3"):
        censoring.weights([4], [1])
    assert censoring.weights([4, 1], [0, 1]).tolist() == [0, 1]  # a censored patient needs no weight


def test_an_event_where_all_were_censored_has_no_weight():
    censoring = Censoring.fit([1, 2, 3], [1, 1, 0])
    assert censoring.survival([3, 9]).tolist() == [0, 0]
    with pytest.raises(NotComputable, match=r"2 of 3 events .* before 3"):
        censoring.weights([1, 3, 4], [1, 1, 1])
