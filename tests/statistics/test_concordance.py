"""c-indices, time-dependent AUC and Brier scores against their definitions, R and scikit-survival."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines.utils import concordance_index as lifelines_index

from lib.inputs.tcga import by_patient, read_outcomes
from lib.statistics.classification import NotComputable
from lib.statistics.classification import auc as plain_auc
from lib.statistics.concordance import BLOCK, auc_at, brier_at, harrell, harrell_draws, uno
from lib.statistics.survival import Censoring, survival_at


def cohort(n=150, seed=0, steps=12, censored=0.5):
    """Patients with ties in time (0 to 12) and risk, both on a grid of `steps` values."""
    random = np.random.default_rng(seed)
    time = random.integers(0, steps, n) * 12 / steps
    event = random.random(n) > censored
    return time, event, random.integers(0, min(steps, 99), n) / 8 - time / 16


def untied(n, seed):
    """Patients whose times are all different, from those of another seed too."""
    random = np.random.default_rng(seed)
    time, event = random.uniform(0, 12, n), random.random(n) > 0.5
    return time, event, random.integers(0, 99, n) / 8 - time / 16


def structured(time, event):
    return np.array(list(zip(event, time, strict=True)), dtype=[("event", bool), ("time", float)])


def value(draws, n):
    """A draws function on the data themselves."""
    return draws(np.ones((1, n)))[0]


def repeated(function, counts):
    return [function(np.repeat(np.arange(count.size), count)) for count in counts]


# c-index


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
    return concordant / comparable if comparable else np.nan


small = st.integers(0, 5)


@st.composite
def patients(draw, tied_risk=True):
    n = draw(st.integers(1, 25))
    time = draw(st.lists(small, min_size=n, max_size=n))
    event = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    risk = draw(st.lists(small, min_size=n, max_size=n) if tied_risk else st.permutations(range(n)))
    return np.array(time, float), np.array(event), np.array(risk) / 4


@given(patients(), st.integers(0, 2**32 - 1))
def test_fast_is_the_definition_and_counts_are_repeated_rows(given_patients, seed):
    n = given_patients[0].size
    counts = np.vstack(
        [np.ones(n, int), np.zeros(n, int), np.random.default_rng(seed).integers(0, 4, (3, n))]
    )
    fast = harrell_draws(*given_patients, counts)
    slow = repeated(lambda rows: slow_index(*(values[rows] for values in given_patients)), counts)
    np.testing.assert_allclose(fast, slow, atol=1e-12)


@pytest.mark.parametrize(("n", "steps"), [(3, 9), (50, 5), (350, 12), (350, 10_000), (1025, 100)])
def test_lifelines_and_scikit_survival_agree(n, steps):
    time, event, risk = cohort(n, seed=n, steps=steps, censored=0.3)
    assert harrell(time, event, risk, tied_tol=0) == pytest.approx(
        lifelines_index(time, -risk, event), abs=1e-12
    )
    sksurv = pytest.importorskip("sksurv.metrics")
    theirs = sksurv.concordance_index_censored(event, time, risk)[0]
    assert harrell(time, event, risk) == pytest.approx(theirs, abs=1e-12)


def test_risks_closer_than_the_tolerance_of_their_spread_are_tied():
    time, event, near = [1, 2, 3, 4], [1, 1, 1, 1], np.array([1 + 1e-9, 1, 3, 5])
    assert harrell(time, event, near) == harrell(time, event, near[[1, 0, 2, 3]]) == 0.5 / 6
    assert harrell(time, event, near, tied_tol=0) == harrell(time, event, [1 + 1e-7, 1, 3, 5]) == 1 / 6
    assert harrell([1, 2, 3], [1, 1, 1], [0.1 + 0.2, 0.3, 0.3]) == 0.5  # nothing but rounding


@pytest.mark.parametrize("unit", [1e-12, 1e9])
def test_the_unit_of_a_risk_is_no_tie_and_c_index_and_auc_tie_alike(unit):
    time, event, risk = untied(150, 3)
    risk += np.random.default_rng(0).normal(scale=1e-15, size=150)  # ties apart by rounding
    g = Censoring.fit(time, event)
    assert harrell(time, event, unit * risk) == pytest.approx(harrell(time, event, risk), abs=1e-12)
    assert harrell(time, event, np.r_[risk[1:], 1e30]) == pytest.approx(
        harrell(time, event, np.r_[risk[1:], 99])
    )
    clean = value(auc_at(time, event, untied(150, 3)[2], 6, g), 150)
    assert value(auc_at(time, event, unit * risk, 6, g), 150) == pytest.approx(clean, abs=1e-12)


@pytest.mark.parametrize(
    ("time", "event", "risk", "expected"),
    [
        ([1, 2, 3], [1, 0, 1], [3, 1, 2], 1),  # the second against the third is not comparable
        ([2, 2], [1, 0], [2, 1], 1),  # who is censored at the time of an event outlived it
        ([2, 2, 3], [1, 1, 0], [2, 1, 0], 1),  # two events at one time are not comparable
        ([0, 5], [1, 0], [1, 0], 1),  # a time of 0 counts
        ([1, 4, 4, 5], [0, 1, 0, 0], [9, 3, 3, 4], 0.25),  # one event: a tie and a discordant pair
    ],
)
def test_by_hand(time, event, risk, expected):
    assert harrell(time, event, risk) == expected


@given(patients(tied_risk=False), st.integers(1, 50), st.integers(0, 50), st.integers(0, 99))
def test_scale_shift_and_order_change_nothing_and_a_negated_risk_gives_the_rest(drawn, scale, shift, seed):
    time, event, risk = drawn
    if np.isnan(slow_index(*drawn)):
        with pytest.raises(NotComputable, match=f"of {time.size} patients {event.sum()} had an event"):
            harrell(*drawn)
        return
    expected, order = harrell(*drawn), np.random.default_rng(seed).permutation(time.size)
    assert harrell(time * scale + shift, event, risk) == expected
    assert harrell(*(values[order] for values in drawn)) == expected
    assert harrell(time, event, -risk) == pytest.approx(1 - expected, abs=1e-12)


def test_a_bootstrap_equals_its_loop():
    """At the size of a cohort, over several blocks of events."""
    time, event, risk = cohort(350, steps=200)
    assert event.sum() > 2 * BLOCK
    counts = np.random.default_rng(1).multinomial(350, np.full(350, 1 / 350), size=40)
    fast = harrell_draws(time, event, risk, counts)
    looped = repeated(lambda row: lifelines_index(time[row], -risk[row], event[row]), counts)
    np.testing.assert_allclose(fast, looped, rtol=0, atol=1e-12)
    assert len(set(fast)) > 35


@pytest.mark.parametrize(
    ("risk", "error", "said"),
    [
        ([1, np.nan], NotComputable, "1 of 2 risks are NaN or infinite"),
        ([1, 2, 3], ValueError, "one risk for each"),
    ],
)
def test_unusable_risks_are_refused(risk, error, said):
    with pytest.raises(error, match=said):
        harrell([1, 2], [1, 0], risk)
    with pytest.raises(error, match=said):
        auc_at([1, 2], [1, 0], risk, 1.5, Censoring.fit([1, 2], [1, 0]))


@pytest.mark.parametrize("tau", [6.0, 9.5])
def test_uno_is_scikit_survivals_where_nobody_is_censored_at_the_time_of_an_event(tau):
    sksurv = pytest.importorskip("sksurv.metrics")
    train, (time, event, risk) = untied(300, 1), untied(200, 2)
    train[0][0], train[1][0] = 12, False  # followed longer than anybody who is asked about
    outcomes = structured(*train[:2]), structured(time, event)
    expected = sksurv.concordance_index_ipcw(*outcomes, risk, tau=tau)[0]
    found = value(uno(time, event, risk, tau, Censoring.fit(*train[:2])), 200)
    assert found == pytest.approx(expected, abs=1e-12)
    assert abs(expected - harrell(time, event, risk)) > 1e-5


# R 4.2: survival 3.5-3, concordance(timewt = "n/G2"); what scikit-survival's threads 428 and 322 are about
TIED = [5, 5, 9, 14, 14, 20, 31, 40], [1, 0, 0, 1, 0, 1, 1, 0], [0.2, 1.1, -0.4, -1.0, 0.3, 0.9, 0.1, -0.7]
LAST = [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4], [1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 1], np.arange(11.0)[::-1]


@pytest.mark.parametrize(("data", "expected"), [(TIED, 0.5714286), (LAST, 0.8723404)])
def test_uno_is_rs_where_events_and_censorings_tie_and_at_the_last_time(data, expected):
    found = uno(*data, np.inf, Censoring.fit(*data[:2]))
    assert value(found, len(data[0])) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("last", [6, 7])  # the censoring, fitted on others, is 0 from 6 on
def test_an_event_in_no_pair_needs_no_weight(last):
    data, g = ([1, 2, 3, last], [1, 0, 1, 1], [3, 1, 2, 0]), Censoring.fit(range(1, 7), [1, 0, 1, 0, 0, 0])
    assert value(uno(*data, np.inf, g), 4) == 1
    with pytest.raises(NotComputable, match="1 of 3 events"):
        uno([1, 2, 3, 7, 8], [1, 0, 1, 1, 0], [3, 1, 2, 0, 0], np.inf, g)


def test_tied_data_give_what_r_gives():
    """survival 3.5-3 and riskRegression 2022.11.28, on whole times; the truncation of R includes its time."""
    time, event, risk = cohort(150, 2, 12)
    g, n = Censoring.fit(time, event), 150
    found = [value(uno(time, event, risk, tau, g), n) for tau in (6, 9.5, np.inf)]
    np.testing.assert_allclose(found, [0.626110996002391, 0.656162924534294, 0.624094602354585], atol=1e-12)
    found = [value(auc_at(time, event, risk, at, g), n) for at in TIMES]
    expected = [0.681119562924917, 0.70009817437246, 0.658951530849719, 0.740332524501302]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    found = [value(brier_at(time, event, curves(risk)[:, [k]], [at], g), n) for k, at in enumerate(TIMES)]
    expected = [0.0884644850117936, 0.146558731421484, 0.21116537133798, 0.211586262878385]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(("unit", "expected"), [(1, 0.1714127), (3, 0.1722386), (12, 0.1733288)])
def test_brier_in_whole_months_quarters_and_years_is_near_the_truth(unit, expected):
    """riskRegression's values; with G at the event instead of before it they are .1734, .1788 and .2035."""
    random = np.random.default_rng(0)
    z = random.normal(size=600)
    died = np.ceil(random.exponential(40 * np.exp(-0.8 * z)) / unit)
    left, horizon = np.ceil(random.exponential(33, 600) / unit), 36 // unit
    survival = np.exp(-horizon * unit / 40 * np.exp(0.8 * z))[:, None]
    time, event = np.minimum(died, left), died <= left
    found = value(brier_at(time, event, survival, [horizon], Censoring.fit(time, event)), 600)
    assert found == pytest.approx(expected, abs=1e-7)
    truth = np.where(died <= horizon, survival[:, 0], 1 - survival[:, 0]) ** 2
    assert found == pytest.approx(truth.mean(), abs=0.0065)  # whoever was censored, by chance


def test_brier_of_nobodys_knowledge_on_colon_cancer_in_whole_months(mirror):
    """The table's own Kaplan-Meier curve at 36 months; with G at the death instead of before it .1857."""
    patients = by_patient(read_outcomes(mirror / "tcga/crossfusion/data/tcga_coad_all_clean.csv"))
    time, event = patients["time_months"], patients["event"]
    curve = np.tile(survival_at(time, event, [36]), (416, 1))
    found = value(brier_at(time, event, curve, [36], Censoring.fit(time, event)), 416)
    assert found == pytest.approx(0.1812, abs=5e-5)


def test_brier_at_the_last_time_is_rs_where_nobody_is_left():
    survival, g = np.linspace(0.1, 0.9, 11)[:, None], Censoring.fit(*LAST[:2])
    assert value(brier_at(*LAST[:2], survival, [4], g), 11) == pytest.approx(0.2990182, abs=1e-7)
    with pytest.raises(NotComputable, match="G is 0 at the horizon 5"):
        brier_at(*LAST[:2], survival, [5], g)


@given(patients())
def test_uno_weighs_the_pairs_of_an_event(given_patients):
    time, event, risk = given_patients
    time = np.r_[time, 6.0]  # censored last, after all events, so that weights exist
    event, risk = np.r_[event, False], np.r_[risk, 1.0]
    censoring = Censoring.fit(time, event)
    expected = slow_index(time, event, risk, censoring.weights(time, event) ** 2)
    np.testing.assert_allclose(
        value(uno(time, event, risk, np.inf, censoring), time.size), expected, atol=1e-12
    )
    uncensored = uno(time, np.ones(time.size), risk, np.inf, Censoring.fit(time, np.ones(time.size)))
    np.testing.assert_allclose(
        value(uncensored, time.size), slow_index(time, np.ones(time.size), risk), atol=1e-12
    )


def test_tau_leaves_out_events_at_and_after_it_but_not_the_survivors():
    data = [1, 2, 3, 4], [1, 1, 1, 0], [1, 3, 2, 0]
    censoring = Censoring.fit(*data[:2])
    assert value(uno(*data, 2, censoring), 4) == pytest.approx(1 / 3)
    assert value(uno(*data, 2.1, censoring), 4) == pytest.approx(3 / 5)
    assert np.isnan(value(uno(*data, 1, censoring), 4))


def test_uno_does_not_depend_on_who_is_censored_where_harrells_does():
    """A risk that foretells early deaths only: with heavy censoring Harrell's index sees little else."""
    random = np.random.default_rng(0)
    n = 6000
    death, everybody = random.exponential(1, n), np.ones(n)
    risk = np.where(death < 0.3, -death, random.normal(size=n) / 10 - 0.3)
    leaving = random.exponential(0.7, n)
    time, event = np.minimum(death, leaving), death <= leaving
    truth = value(uno(death, everybody, risk, 1, Censoring.fit(death, everybody)), n)
    assert value(uno(time, event, risk, 1, Censoring.fit(time, event)), n) == pytest.approx(truth, abs=0.015)
    assert abs(harrell(np.minimum(time, 1), event & (time < 1), risk) - truth) > 0.02


# at horizons

TIMES = np.array([2.0, 4.0, 6.5, 9.0])


def curves(risk, times=TIMES):
    """Some survival probabilities (n, k)."""
    return np.exp(-np.exp(np.asarray(risk)[:, None]) * times / 15)


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


@given(st.lists(st.tuples(small, st.booleans(), small), min_size=1, max_size=20))
def test_auc_and_brier_are_their_definitions(drawn):
    drawn = [(1, True, 2), *drawn, (6, False, 2)]  # a case at every horizon, and a control
    time, event, risk = (np.array(column, dtype=float) for column in zip(*drawn, strict=True))
    times, g = np.array([1, 2.5, 5]), Censoring.fit(time, event)
    weights, survival, n = g.weights(time, event), curves(risk, np.array([1, 2.5, 5])), len(time)
    scores = []
    for k, at in enumerate(times):
        found = value(auc_at(time, event, risk, at, g), n)
        assert found == pytest.approx(slow_auc(time, event, risk, at, weights))
        scores.append(value(brier_at(time, event, survival[:, [k]], [at], g), n))
        assert scores[-1] == pytest.approx(
            slow_brier(time, event, survival[:, k], at, weights, g.survival([at])[0])
        )
    integrated = value(brier_at(time, event, survival, times, g), n)
    assert integrated == pytest.approx(np.trapezoid(scores, times) / 4)


def test_scikit_survival_agrees_at_horizons_without_ties():
    sksurv = pytest.importorskip("sksurv.metrics")
    train, (time, event, risk) = untied(200, 1), untied(150, 2)
    train[0][0], train[1][0] = 12, False
    outcomes, g, survival = (
        (structured(*train[:2]), structured(time, event)),
        Censoring.fit(*train[:2]),
        curves(risk),
    )
    aucs = [value(auc_at(time, event, risk, at, g), 150) for at in TIMES]
    np.testing.assert_allclose(aucs, sksurv.cumulative_dynamic_auc(*outcomes, risk, TIMES)[0], atol=1e-12)
    scores = [value(brier_at(time, event, survival[:, [k]], [at], g), 150) for k, at in enumerate(TIMES)]
    np.testing.assert_allclose(scores, sksurv.brier_score(*outcomes, survival, TIMES)[1], atol=1e-12)
    integrated = value(brier_at(time, event, survival, TIMES, g), 150)
    assert integrated == pytest.approx(sksurv.integrated_brier_score(*outcomes, survival, TIMES), abs=1e-12)


def test_without_censoring_both_are_the_plain_ones():
    time, _, risk = cohort()
    survival, everybody = curves(risk), np.ones(150)
    g = Censoring.fit(time, everybody)
    for k, at in enumerate(TIMES):
        assert value(auc_at(time, everybody, risk, at, g), 150) == pytest.approx(plain_auc(time <= at, risk))
        score = value(brier_at(time, everybody, survival[:, [k]], [at], g), 150)
        assert score == pytest.approx(np.mean((survival[:, k] - (time > at)) ** 2))


def test_order_of_patients_scale_of_time_and_rising_maps_of_risk_change_nothing():
    time, event, risk = cohort()
    order, survival, g = np.random.default_rng(3).permutation(150), curves(risk), Censoring.fit(time, event)
    longer = time[order] * 30, event[order]
    later, expected = Censoring.fit(*longer), value(auc_at(time, event, risk, 4, g), 150)
    assert value(auc_at(*longer, np.exp(risk[order]), 120, later), 150) == pytest.approx(expected)
    assert value(auc_at(time, event, -risk, 4, g), 150) == pytest.approx(1 - expected)
    expected = value(brier_at(time, event, survival, TIMES, g), 150)
    assert value(brier_at(*longer, survival[order], TIMES * 30, later), 150) == pytest.approx(expected)


def test_everybodys_curve_scores_the_variance_of_a_coin():
    """S (1 - S) at every horizon, exactly where no times tie: the weights undo the censoring."""
    random = np.random.default_rng(0)
    time, event = random.permutation(150) / 12.5, random.random(150) < 0.6
    null, g = np.tile(survival_at(time, event, TIMES), (150, 1)), Censoring.fit(time, event)
    for k, at in enumerate(TIMES):
        score = value(brier_at(time, event, null[:, [k]], [at], g), 150)
        assert score == pytest.approx(null[0, k] * (1 - null[0, k]))
    knowing = (time[:, None] > TIMES).astype(float)
    assert value(brier_at(time, event, knowing, TIMES, g), 150) == 0


def test_draws_are_the_metric_of_the_repeated_rows_and_nan_where_there_is_none():
    time, event, risk = cohort(90, 5)
    survival, g = curves(risk), Censoring.fit(*cohort(300, 1)[:2])
    counts = np.random.default_rng(5).multinomial(90, np.full(90, 1 / 90), size=15)
    of_rows = {
        "uno": lambda r: uno(time[r], event[r], risk[r], 9.0, g),
        "auc": lambda r: auc_at(time[r], event[r], risk[r], 6.5, g),
        "ibs": lambda r: brier_at(time[r], event[r], survival[r], TIMES, g),
    }
    for name, function in of_rows.items():
        slow = repeated(lambda r, f=function: value(f(r), r.size), counts)
        np.testing.assert_allclose(function(np.arange(90))(counts), slow, atol=1e-12, err_msg=name)
    nobody_died = np.where(event, 0, 1)[None]
    assert np.isnan(of_rows["uno"](np.arange(90))(nobody_died)).all()
    assert np.isnan(of_rows["auc"](np.arange(90))(nobody_died)).all()


def test_where_the_censoring_knows_nothing_and_unusable_predictions():
    time, event = [1, 2, 6], [1, 1, 0]
    short, emptied = Censoring.fit([1, 2, 2.5], [1, 0, 1]), Censoring.fit([1, 2], [1, 0])
    with pytest.raises(NotComputable, match=r"lie beyond 2\.5"):
        brier_at(time, event, np.full((3, 1), 0.5), [3], short)
    with pytest.raises(NotComputable, match=r"lie beyond 2\.5"):
        auc_at([3, 4, 6], event, [1, 2, 3], 5, short)
    with pytest.raises(NotComputable, match="G is 0 at the horizon 3"):
        brier_at(time, [1, 0, 0], np.full((3, 1), 0.5), [3], emptied)
    for bad in (1.5, -0.1, np.nan):
        with pytest.raises(NotComputable, match="1 of 3 survival probabilities"):
            brier_at(time, event, [[bad], [0.2], [0.3]], [2], short)
    for times, shape in (([2], (3, 2)), ([4, 2], (3, 2))):
        with pytest.raises(ValueError, match="ascending is needed"):
            brier_at(time, event, np.full(shape, 0.5), times, short)
