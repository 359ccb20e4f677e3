import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines.utils import concordance_index as lifelines_index

from lib.statistics.classification import NotComputable
from lib.statistics.concordance import BLOCK, NoComparablePair, harrell, harrell_draws, uno
from lib.statistics.survival import Censoring


def cohort(n, seed=0, steps=12, censored=0.5):
    """Patients with ties in time and risk, both on a grid of `steps` values."""
    random = np.random.default_rng(seed)
    time = random.integers(0, steps, n).astype(float)
    event = random.random(n) > censored
    return time, event, random.integers(0, steps, n) / 8 - time / 16


def slow_index(time, event, risk, weights=None, tied_tol=1e-8):
    """The definition, pair by pair."""
    concordant = comparable = 0
    for i in range(len(time)):
        for j in range(len(time)):
            if event[i] and (time[j] > time[i] or (time[j] == time[i] and not event[j])):
                weight = 1 if weights is None else weights[i]
                comparable += weight
                if abs(risk[i] - risk[j]) <= tied_tol:
                    concordant += weight / 2
                elif risk[i] > risk[j]:
                    concordant += weight
    return concordant / comparable if comparable else None


small = st.integers(0, 5)


@st.composite
def patients(draw, tied_risk=True):
    n = draw(st.integers(1, 25))
    time = draw(st.lists(small, min_size=n, max_size=n))
    event = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    risk = draw(st.lists(small, min_size=n, max_size=n) if tied_risk else st.permutations(range(n)))
    return np.array(time, float), np.array(event), np.array(risk) / 4


@given(patients())
def test_fast_is_the_definition(given_patients):
    expected = slow_index(*given_patients)
    if expected is None:
        with pytest.raises(NoComparablePair):
            harrell(*given_patients)
    else:
        assert harrell(*given_patients) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "steps"), [(3, 9), (50, 5), (350, 12), (350, 10_000), (1025, 100)])
def test_lifelines_and_scikit_survival_agree(n, steps):
    time, event, risk = cohort(n, seed=n, steps=steps, censored=0.3)
    ours = harrell(time, event, risk, tied_tol=0)
    assert ours == pytest.approx(lifelines_index(time, -risk, event), abs=1e-12)
    sksurv = pytest.importorskip("sksurv.metrics")
    assert harrell(time, event, risk) == pytest.approx(
        sksurv.concordance_index_censored(event, time, risk)[0], abs=1e-12
    )


def test_risks_closer_than_the_tolerance_are_tied():
    time, event = [1, 2], [1, 1]
    assert harrell(time, event, [1 + 1e-9, 1]) == 0.5
    assert harrell(time, event, [1, 1 + 1e-9]) == 0.5
    assert harrell(time, event, [1 + 1e-9, 1], tied_tol=0) == 1
    assert harrell(time, event, [1 + 1e-7, 1]) == 1
    assert harrell(time, event, [1.3, 1], tied_tol=0.5) == 0.5


@pytest.mark.parametrize(
    ("time", "event", "risk", "value"),
    [
        ([1, 2, 3], [1, 1, 1], [3, 2, 1], 1),
        ([1, 2, 3], [1, 1, 1], [1, 2, 3], 0),
        ([1, 2, 3], [1, 1, 1], [7, 7, 7], 0.5),
        ([1, 2, 3], [1, 0, 1], [3, 1, 2], 1),  # the second against the third is not comparable
        ([2, 2], [1, 0], [2, 1], 1),  # who is censored at the time of an event outlived it
        ([2, 2, 3], [1, 1, 0], [2, 1, 0], 1),  # two events at one time are not comparable
        ([0, 5], [1, 0], [1, 0], 1),  # a time of 0 counts
        ([1, 4, 4, 5], [0, 1, 0, 0], [9, 3, 3, 4], 0.25),  # one event: a tie and a discordant pair
    ],
)
def test_by_hand(time, event, risk, value):
    assert harrell(time, event, risk) == value
    assert harrell_draws(time, event, risk, np.ones((1, len(time)), int)).tolist() == [value]


@given(patients(), st.integers(1, 50), st.integers(0, 50))
def test_scale_and_shift_of_time_change_nothing(given_patients, scale, shift):
    time, event, risk = given_patients
    if slow_index(time, event, risk) is not None:
        assert harrell(time * scale + shift, event, risk) == harrell(time, event, risk)


@given(patients(tied_risk=False))
def test_negated_risk_gives_the_rest_without_tied_risks(given_patients):
    time, event, risk = given_patients
    if slow_index(time, event, risk) is not None:
        assert harrell(time, event, -risk) == pytest.approx(1 - harrell(time, event, risk), abs=1e-12)


@given(patients(), st.randoms(use_true_random=False))
def test_order_of_the_patients_does_not_matter(given_patients, shuffler):
    if slow_index(*given_patients) is not None:
        order = list(range(given_patients[0].size))
        shuffler.shuffle(order)
        assert harrell(*(values[order] for values in given_patients)) == harrell(*given_patients)


@given(patients(), st.integers(0, 2**32 - 1))
def test_counts_are_repeated_rows(given_patients, seed):
    n = given_patients[0].size
    counts = np.random.default_rng(seed).integers(0, 4, (5, n))
    counts[0] = 0
    fast = harrell_draws(*given_patients, counts)
    for value, count in zip(fast, counts, strict=True):
        repeated = [np.repeat(values, count) for values in given_patients]
        expected = slow_index(*repeated)
        assert np.isnan(value) if expected is None else value == pytest.approx(expected, abs=1e-12)


def test_a_bootstrap_equals_its_loop():
    """At the size of a cohort, over several blocks of events."""
    time, event, risk = cohort(350, steps=200)
    assert event.sum() > 2 * BLOCK
    counts = np.random.default_rng(1).multinomial(350, np.full(350, 1 / 350), size=40)
    rows = [np.repeat(np.arange(350), count) for count in counts]
    looped = [harrell(time[row], event[row], risk[row]) for row in rows]
    by_lifelines = [lifelines_index(time[row], -risk[row], event[row]) for row in rows]
    fast = harrell_draws(time, event, risk, counts)
    np.testing.assert_allclose(fast, looped, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fast, by_lifelines, rtol=0, atol=1e-12)
    assert len(set(fast)) > 35


def test_draws_without_a_comparable_pair_are_nan_and_the_others_are_not():
    values = harrell_draws([1, 2, 3], [1, 0, 0], [2, 1, 3], [[1, 1, 1], [0, 2, 1], [3, 0, 0], [1, 2, 0]])
    np.testing.assert_array_equal(values, [0.5, np.nan, np.nan, 1])


@pytest.mark.parametrize("index", [harrell, uno])
@pytest.mark.parametrize(
    ("time", "event"), [([1, 2, 3], [0, 0, 0]), ([1, 2, 2], [0, 1, 1]), ([5], [1])], ids=str
)
def test_no_comparable_pair_is_an_error_of_its_own(index, time, event):
    with pytest.raises(NoComparablePair, match=f"of {len(time)} patients {sum(event)} had an event"):
        index(time, event, np.arange(len(time)))
    assert issubclass(NoComparablePair, NotComputable)


@pytest.mark.parametrize(
    ("risk", "error", "said"),
    [
        ([1, np.nan], NotComputable, "1 of 2 risks are NaN or infinite"),
        ([np.inf, np.nan], NotComputable, "2 of 2"),
        ([1, 2, 3], ValueError, "one risk for each of 2 patients"),
    ],
)
def test_unusable_risks_are_refused(risk, error, said):
    for index in (harrell, uno):
        with pytest.raises(error, match=said):
            index([1, 2], [1, 0], risk)


def test_unusable_counts_and_tolerances_are_refused():
    with pytest.raises(ValueError, match=r"\(draws, 2\) is needed"):
        harrell_draws([1, 2], [1, 0], [1, 2], [1, 1])
    with pytest.raises(ValueError, match="0 or more"):
        harrell_draws([1, 2], [1, 0], [1, 2], [[1, -1]])
    with pytest.raises(ValueError, match="tied_tol is -1"):
        harrell([1, 2], [1, 0], [1, 2], tied_tol=-1)


def survival_array(time, event):
    return np.array(list(zip(event, time, strict=True)), dtype=[("event", bool), ("time", float)])


@pytest.mark.parametrize("tau", [None, 6.0, 9.5])
@pytest.mark.parametrize("steps", [12, 5000])
def test_uno_is_scikit_survivals(tau, steps):
    sksurv = pytest.importorskip("sksurv.metrics")
    own, (time, event, risk) = cohort(300, 1, steps), cohort(200, 2, steps)
    own[0][0], own[1][0] = steps, False  # followed longer than anybody who is asked about
    tau = None if tau is None else tau * steps / 12
    expected = sksurv.concordance_index_ipcw(
        survival_array(*own[:2]), survival_array(time, event), risk, tau=tau
    )[0]
    assert uno(time, event, risk, tau, Censoring.fit(*own[:2])) == pytest.approx(expected, abs=1e-12)
    assert abs(expected - harrell(time, event, risk)) > 1e-5


@given(patients())
def test_uno_weighs_the_pairs_of_an_event(given_patients):
    time, event, risk = given_patients
    time = np.r_[time, 6.0]  # censored last, after all events, so that weights exist
    event, risk = np.r_[event, False], np.r_[risk, 1.0]
    if event.any():
        weights = Censoring.fit(time, event).weights(time, event) ** 2
        expected = slow_index(time, event, risk, weights)
        assert uno(time, event, risk) == pytest.approx(expected, abs=1e-12)


def test_uno_without_censoring_is_harrells():
    time, _, risk = cohort(80, steps=100)
    assert uno(time, np.ones(80), risk) == pytest.approx(harrell(time, np.ones(80), risk), abs=1e-12)


def test_tau_leaves_out_events_at_and_after_it_but_not_the_survivors():
    time, event, risk = [1, 2, 3, 4], [1, 1, 1, 0], [1, 3, 2, 0]
    assert uno(time, event, risk, tau=2) == pytest.approx(1 / 3)
    assert uno(time, event, risk, tau=2.1) == pytest.approx(3 / 5)
    with pytest.raises(NoComparablePair, match="0 had an event that counts"):
        uno(time, event, risk, tau=1)


def test_uno_does_not_depend_on_who_is_censored_where_harrells_does():
    """A risk that foretells early deaths only: with heavy censoring Harrell's index sees little else."""
    random = np.random.default_rng(0)
    death = random.exponential(1, 20_000)
    risk = np.where(death < 0.3, -death, random.normal(size=death.size) / 10 - 0.3)
    leaving = random.exponential(0.7, death.size)
    time, event = np.minimum(death, leaving), death <= leaving
    truth = uno(death, np.ones(death.size), risk, tau=1)
    assert uno(time, event, risk, tau=1) == pytest.approx(truth, abs=0.01)
    early = event & (time < 1)
    assert abs(harrell(np.where(time < 1, time, 1), early, risk) - truth) > 0.02


def test_memory_grows_with_n_and_not_with_pairs():
    """Peak of what numpy holds, per patient, at 1,000 and at 8,000 patients."""
    import tracemalloc

    def peak(n):
        time, event, risk = cohort(n, steps=n)
        counts = np.ones((8, n), dtype=np.int64)
        tracemalloc.start()
        harrell(time, event, risk)
        harrell_draws(time, event, risk, counts)
        uno(time, event, risk, tau=n / 2)
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held / n

    assert peak(8000) < 1.3 * peak(1000)
