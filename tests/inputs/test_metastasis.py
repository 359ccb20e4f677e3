"""Metachronous metastasis: a table by hand, a rule a patient against the arrays, and what may never happen."""

import numpy as np
import pandas as pd
import pytest

from lib.gcmlm.cohort import STATUSES, metachronous


@pytest.fixture(scope="module")
def drawn():
    random = np.random.default_rng(3)
    # quarters of a month, so that times fall on the limits too
    return random.integers(0, 241, 400) / 4, random.integers(0, 2, 400)


@pytest.mark.parametrize(
    ("time", "event", "label", "status"),
    [
        (6.0, 1, np.nan, "synchronous"),
        (6.01, 1, 1.0, "metastasis"),
        (90.0, 1, 1.0, "metastasis"),
        (0.0, 1, np.nan, "synchronous"),
        (24.0, 0, 0.0, "free"),
        (23.9, 0, np.nan, "censored early"),
        (0.0, 0, np.nan, "censored early"),
    ],
)
def test_each_case(time, event, label, status):
    found = metachronous([time], [event]).iloc[0]
    assert found["status"] == status
    np.testing.assert_equal(found["label"], label)


@pytest.mark.parametrize(
    ("time", "event", "status"),
    [
        (36.0, 1, "metastasis"),
        (36.1, 1, "metastasis after the horizon"),
        (36.0, 0, "free"),
        (35.9, 0, "censored early"),
    ],
)
def test_a_horizon_needs_follow_up_to_it(time, event, status):
    assert metachronous([time], [event], horizon_months=36).iloc[0]["status"] == status


def one(time, event, earliest, least, horizon):
    """The rule for one patient, in words of the table."""
    if event:
        if time <= earliest:
            return np.nan, "synchronous"
        if horizon is None or time <= horizon:
            return 1.0, "metastasis"
        return 0.0, "metastasis after the horizon"
    if time >= least and (horizon is None or time >= horizon):
        return 0.0, "free"
    return np.nan, "censored early"


@pytest.mark.parametrize("given", [(6, 24, None), (3, 12, 36), (0, 0, 12), (6, 60, 24)])
def test_equals_the_rule_patient_by_patient(drawn, given):
    found = metachronous(*drawn, *given)
    expected = [one(time, event, *given) for time, event in zip(*drawn, strict=True)]
    assert found["status"].tolist() == [status for _, status in expected]
    np.testing.assert_array_equal(found["label"], [label for label, _ in expected])
    assert set(found["status"]) <= set(STATUSES)


@pytest.mark.parametrize("horizon", [None, 36])
def test_later_by_the_same_time_everywhere_is_the_same(drawn, horizon):
    times, events = drawn
    shifted = metachronous(times + 5, events, 11, 29, None if horizon is None else horizon + 5)
    pd.testing.assert_frame_equal(shifted, metachronous(times, events, 6, 24, horizon))


@pytest.mark.parametrize("horizon", [None, 36])
def test_more_follow_up_takes_no_certainty_back(drawn, horizon):
    """Those seen free are looked at again later: some have a metastasis now. Nobody known becomes unknown."""
    times, events = drawn
    random = np.random.default_rng(4)
    more = np.where(events == 1, 0.0, random.integers(0, 100, len(times)) / 4)
    # found after the last look, and so later than it
    grown = np.where((events == 0) & (more > 0), random.integers(0, 2, len(times)), events)
    before = metachronous(times, events, horizon_months=horizon)
    after = metachronous(times + more, grown, horizon_months=horizon)
    positive = before["label"] == 1
    assert positive.sum() > 50
    assert (after["label"][positive] == 1).all()
    assert (after["label"][before["label"] == 0].notna()).all()
    if horizon:  # known at the horizon is known for good
        known = before["label"].notna()
        assert (after["label"][known] == before["label"][known]).all()
    unseen = (events == 0) & (grown == 0)
    assert not (after["label"][unseen] == 1).any()
    assert after["label"].notna().sum() > before["label"].notna().sum()


def test_index_names_the_patients():
    times = pd.Series([30.0, 10.0], index=["GA2", "GA1"])
    found = metachronous(times, pd.Series([0, 1], index=["GA2", "GA1"]))
    assert found["label"].to_dict() == {"GA2": 0, "GA1": 1}
    with pytest.raises(ValueError, match="different patients"):
        metachronous(times, pd.Series([1, 0], index=["GA1", "GA2"]))
    with pytest.raises(ValueError, match="event of GA1 is 2"):
        metachronous(times, pd.Series([0, 2], index=["GA2", "GA1"]))


@pytest.mark.parametrize(
    ("times", "events", "more", "said"),
    [
        ([-0.1], [0], {}, r"time_months of 0 is -0\.1, a number of 0 or more"),
        ([np.nan], [0], {}, "time_months of 0 is nan"),
        ([np.inf], [0], {}, "time_months of 0 is inf"),
        ([1.0], [np.nan], {}, "event of 0 is nan, 0 or 1 is needed"),
        ([1.0], [0.5], {}, r"event of 0 is 0\.5"),
        ([1.0, 2.0], [1], {}, "2 times but 1 events"),
        ([1.0], [1], {"horizon_months": 6}, "horizon_months 6 is not later than earliest_months"),
        ([1.0], [1], {"horizon_months": np.nan}, "horizon_months nan is not later"),
        ([1.0], [1], {"earliest_months": -1}, "earliest_months is -1"),
        ([1.0], [1], {"least_follow_up_months": np.nan}, "least_follow_up_months is nan"),
    ],
)
def test_refused(times, events, more, said):
    with pytest.raises(ValueError, match=said):
        metachronous(times, events, **more)
