from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.statistics import intervals as module
from lib.statistics import intervals as weighted
from lib.statistics.classification import NotComputable, auc
from lib.statistics.intervals import (
    draw_counts,
    looped,
    mean_over_folds,
    paired_patient_difference,
    patient_interval,
    strata,
)


def mean_of(x):
    return lambda counts: counts @ x / counts.sum(axis=1)


def ends(found):
    return found.estimate, found.low, found.high


@pytest.fixture
def scored():
    """Labels, the scores of a good and of a fair model, and names, of 120 patients."""
    random = np.random.default_rng(0)
    labels = (random.random(120) < 0.3).astype(float)
    ease = random.normal(size=120)  # what is hard for one model is hard for the other
    good, fair = (effect * labels + ease + 0.5 * random.normal(size=120) for effect in (1.5, 0.8))
    return labels, np.round(good, 1), np.round(fair, 1), np.array([f"P{i:03}" for i in range(120)])


def test_fast_looped_and_naive_are_one(scored):
    labels, scores, _, patients = scored
    fast = patient_interval(partial(weighted.auc, labels, scores), patients, events=36, draws=200)
    slow = patient_interval(
        looped(lambda rows: auc(labels[rows], scores[rows])), patients, events=36, draws=200
    )
    assert ends(fast) == pytest.approx(ends(slow), abs=1e-12)
    naive = []
    for count in draw_counts(patients, 200):
        rows = np.repeat(np.arange(120), count)
        naive.append(auc(labels[rows], scores[rows]))
    expected = (auc(labels, scores), *np.quantile(naive, [0.025, 0.975]))
    assert ends(fast) == pytest.approx(expected, abs=1e-12)
    assert (fast.n, fast.events) == (120, 36)
    assert fast.how == "bootstrap of 120 patients, 200 draws, percentile"


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_ends_agree_with_scipys_bootstrap(method):
    x = np.random.default_rng(5).exponential(size=60)
    found = patient_interval(mean_of(x), np.arange(60), events=0, draws=20_000, method=method)
    other = stats.bootstrap((x,), np.mean, method=method, n_resamples=20_000, rng=0).confidence_interval
    assert (found.low, found.high) == pytest.approx(
        tuple(other), abs=0.015
    )  # width .53, error of the draws .005


def test_bca_within_strata_agrees_with_scipys_two_samples():
    random = np.random.default_rng(6)
    x, y = random.exponential(size=40), random.exponential(size=25)
    group, values = np.repeat([0, 1], [40, 25]), np.r_[x, y]

    def difference(counts):
        first = counts * (group == 0)
        second = counts * (group == 1)
        return first @ values / first.sum(1) - second @ values / second.sum(1)

    found = patient_interval(difference, np.arange(65), events=0, strata=group, draws=20_000, method="bca")
    other = stats.bootstrap(
        (x, y),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        method="BCa",
        n_resamples=20_000,
        rng=0,
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(other), abs=0.025)
    assert "within 2 strata, 20000 draws, BCa" in found.how


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_order_of_rows_changes_nothing_and_negated_scores_mirror(scored, method):
    labels, scores, _, patients = scored
    options = dict(events=36, draws=200, strata=labels, method=method)
    found = ends(patient_interval(partial(weighted.auc, labels, scores), patients, **options))
    order = np.random.default_rng(1).permutation(120)
    options["strata"] = labels[order]
    moved = partial(weighted.auc, labels[order], scores[order])
    assert ends(patient_interval(moved, patients[order], **options)) == pytest.approx(found, abs=1e-12)
    options["strata"] = labels
    estimate, low, high = ends(patient_interval(partial(weighted.auc, labels, -scores), patients, **options))
    assert (1 - estimate, 1 - high, 1 - low) == pytest.approx(found, abs=1e-12)


def test_doubling_every_row_of_a_patient_adds_no_certainty(scored):
    labels, scores, _, patients = scored
    once = patient_interval(partial(weighted.auc, labels, scores), patients, events=36)
    twice = patient_interval(
        partial(weighted.auc, np.tile(labels, 2), np.tile(scores, 2)), np.tile(patients, 2), events=36
    )
    assert ends(twice) == pytest.approx(ends(once), abs=1e-12)
    assert twice.n == 120
    assert "120 patients (240 rows)" in twice.how


def test_coverage_holds_for_patients_with_several_rows_and_fails_for_rows():
    # mean of 30 patients with 5 rows each, most of the spread between patients; the truth is 0
    random = np.random.default_rng(7)
    patients, rows = np.repeat(np.arange(30), 5), np.arange(150)
    covered = {"patient": 0, "row": 0}
    for seed in range(300):
        x = random.normal(size=30)[patients] + 0.5 * random.normal(size=150)
        for name, unit in (("patient", patients), ("row", rows)):
            found = patient_interval(mean_of(x), unit, events=0, draws=200, seed=seed)
            covered[name] += found.low <= 0 <= found.high
    assert 0.90 <= covered["patient"] / 300 <= 0.98
    assert covered["row"] / 300 < 0.75


def test_bca_covers_a_skewed_mean_from_both_sides_better_than_quantiles():
    # one-sided misses of the mean of 20 lognormal values: quantiles miss above far more often than below
    random, truth = np.random.default_rng(8), np.exp(0.5)
    missed = {"percentile": 0, "bca": 0}
    for seed in range(300):
        x = random.lognormal(size=20)
        for method in missed:
            found = patient_interval(
                mean_of(x), np.arange(20), events=0, draws=400, seed=seed, level=0.9, method=method
            )
            missed[method] += found.high < truth
    assert missed["bca"] < missed["percentile"]
    assert missed["bca"] / 300 < 0.17


def test_draws_without_a_value_are_redrawn_and_counted():
    labels, scores = np.r_[1.0, np.zeros(9)], np.arange(10.0)
    found = patient_interval(partial(weighted.auc, labels, scores), np.arange(10), events=1, draws=300)
    number = int(found.how.split("; ")[1].split()[0])
    # a draw lacks the one positive with chance .9 ** 10 = .349, so each needs .54 redraws
    assert number == pytest.approx(300 * 0.349 / 0.651, rel=0.3)
    assert "draws without a value redrawn" in found.how
    kept = patient_interval(
        partial(weighted.auc, labels, scores), np.arange(10), events=1, draws=300, strata=labels
    )
    assert "redrawn" not in kept.how


def test_no_value_is_told(monkeypatch):
    with pytest.raises(NotComputable, match="no value on all the patients"):
        patient_interval(partial(weighted.auc, np.ones(5), np.arange(5.0)), np.arange(5), events=5)
    monkeypatch.setattr(module, "ATTEMPTS", 3)
    only_whole = looped(lambda rows: 1.0 if np.unique(rows).size == 30 else _refuse())
    with pytest.raises(NotComputable, match="50 of 50 draws of patients had no value in 3 attempts"):
        patient_interval(only_whole, np.arange(30), events=0, draws=50)
    with pytest.raises(NotComputable, match="without one patient the metric has no value, for 1 patients"):
        patient_interval(
            partial(weighted.auc, np.r_[1.0, np.zeros(9)], np.arange(10.0)),
            np.arange(10),
            events=1,
            draws=20,
            method="bca",
        )
    with pytest.raises(NotComputable, match="1 patient"):
        patient_interval(mean_of(np.ones(3)), ["A"] * 3, events=0)


def _refuse():
    raise NotComputable("never")


def test_draws_that_are_all_equal_are_told():
    labels, scores = np.repeat([0.0, 1], 5), np.arange(10.0)
    found = patient_interval(
        partial(weighted.auc, labels, scores), np.arange(10), events=5, draws=20, strata=labels
    )
    assert ends(found) == (1, 1, 1)
    assert found.how.endswith("every draw gave the same value")


def test_unknown_options():
    with pytest.raises(ValueError, match="percentile"):
        patient_interval(mean_of(np.ones(3)), np.arange(3), events=0, method="BCa")
    with pytest.raises(ValueError, match="level"):
        patient_interval(mean_of(np.ones(3)), np.arange(3), events=0, level=95)


def test_paired_difference_shares_its_draws(scored):
    labels, good, fair, patients = scored
    a, b = partial(weighted.auc, labels, good), partial(weighted.auc, labels, fair)
    options = dict(events=36, draws=400, strata=labels)
    found = paired_patient_difference(a, b, patients, **options)
    counts = draw_counts(patients, 400, 0, labels)
    expected = np.quantile(a(counts) - b(counts), [0.025, 0.975])
    assert found.estimate == pytest.approx(auc(labels, good) - auc(labels, fair))
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    mirrored = paired_patient_difference(b, a, patients, **options)
    assert ends(mirrored) == pytest.approx((-found.estimate, -found.high, -found.low))
    assert ends(paired_patient_difference(a, a, patients, **options)) == (0, 0, 0)
    # pairing uses that the two models fail on the same patients
    one, other = patient_interval(a, patients, **options), patient_interval(b, patients, **options)
    assert found.high - found.low < 0.8 * np.hypot(one.high - one.low, other.high - other.low)


@pytest.mark.real
def test_modalities_of_head_and_neck_cancer(mirror):
    """Locoregional recurrence: cross-validated AUC of each modality and of all together, by plain regression."""
    folder = mirror / "ct" / "lro_headneck"
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} in the mirror")
    clinical = pd.read_csv(folder / "clinical.csv", index_col="patient")
    labels = clinical.pop("label").to_numpy(dtype=float)
    assert (labels.size, labels.sum()) == (150, 38)
    tables = {"clinical": clinical}
    for name in ("ct", "pet"):
        table = pd.read_csv(folder / f"{name}_fea_pre.csv.gz", index_col="patient")
        assert not any((table[column] == labels).all() for column in table)  # upstream's outcome column
        tables[name] = table.loc[clinical.index].add_prefix(name)
    tables["all"] = pd.concat(tables.values(), axis=1)
    fold = np.empty(150, int)
    splits = list(StratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels))
    found, functions = {}, {}
    for name, table in tables.items():
        x, scores = table.to_numpy(dtype=float), np.empty(150)
        for number, (train, test) in enumerate(splits):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
            scores[test] = model.fit(x[train], labels[train]).decision_function(x[test])
            fold[test] = number

        def within(rows, scores=scores):
            return [partial(weighted.auc, labels[rows], scores[rows])]

        functions[name] = mean_over_folds(fold, within)
        options = dict(events=38, strata=strata(fold, labels), draws=500)
        found[name] = patient_interval(functions[name], clinical.index, **options)
        by_fold = [auc(labels[test], scores[test]) for _, test in splits]
        assert found[name].estimate == pytest.approx(np.mean(by_fold), abs=1e-12)
        assert found[name].low < found[name].estimate < found[name].high
        assert 0.1 < found[name].high - found[name].low < 0.35
    # golden numbers of this very recipe; PET tells most, and adding the rest to it nothing
    golden = {"clinical": 0.648, "ct": 0.602, "pet": 0.715, "all": 0.707}
    assert {name: one.estimate for name, one in found.items()} == pytest.approx(golden, abs=0.01)
    gain = paired_patient_difference(functions["all"], functions["pet"], clinical.index, **options)
    assert gain.estimate == pytest.approx(golden["all"] - golden["pet"], abs=0.02)
    assert gain.low < 0 < gain.high
