"""Paired differences of sections and of patients, what a printed margin can show, and cheap models on nothing."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from lib.statistics.classification import NotComputable, auc, delong_test
from lib.statistics.comparison import (
    adjusted,
    differences,
    false_alarms,
    holm,
    margin,
    outcome_null,
    paired_difference,
    spot_null,
    survival_null,
)
from lib.statistics.intervals import Interval, ScoredSection, interval


def worse(sections, by=1.0, seed=7):
    random = np.random.default_rng(seed)
    return [s.with_scores(s.scores + by * random.normal(size=s.scores.shape)) for s in sections]


def test_difference_is_that_of_the_estimates_patient_by_patient(cohort):
    a = cohort(effect=1.5, seeds=3)
    b = [s.with_scores(s.scores[:1]) for s in worse(a)]  # seeds may differ in number
    found = paired_difference(a, b, "auc", draws=300)
    assert found.estimate == pytest.approx(interval(a, "auc", 10).estimate - interval(b, "auc", 10).estimate)
    apart = [
        np.mean([auc(x.labels, row) for row in x.scores]) - auc(y.labels, y.scores[0])
        for x, y in zip(a, b, strict=True)
    ]
    reach = student.isf(0.025, len(a) - 1) * np.std(apart, ddof=1) / np.sqrt(len(a))
    assert found.high - found.estimate == pytest.approx(reach)
    other = paired_difference(b, a, "auc", draws=300)
    assert (found.estimate, found.low, found.high) == pytest.approx(
        (-other.estimate, -other.high, -other.low)
    )
    same = paired_difference(a, a[::-1], "auc", draws=50)
    assert same.estimate == 0
    assert np.isnan([same.low, same.high]).all()


def test_sections_without_a_value_under_either_model(cohort):
    calls = [s.with_scores((s.scores > 0.5).astype(float)) for s in cohort(patients=3)]
    none_called = [calls[0].with_scores(np.zeros(144)), *calls[1:]]
    found = paired_difference(calls, none_called, "precision", draws=50)
    assert "mean over 2 patients" in found.how
    assert "section P0a of P0 left out: none of the 144 cases is called positive" in found.how
    with pytest.raises(NotComputable):
        paired_difference(calls[:1], none_called[:1], "precision")


def test_models_on_other_spots_are_refused(cohort):
    a = cohort(patients=2)
    with pytest.raises(ValueError, match="same sections"):
        paired_difference(a, a[:1], "auc")
    flipped = [a[0], ScoredSection("P1", "P1a", 1 - a[1].labels, a[1].scores, a[1].blocks)]
    with pytest.raises(ValueError, match="section P1a of patient P1"):
        paired_difference(a, flipped, "auc")


# patients


def table(strength: float, seeds=(1, 2), noise: int = 0, n: int = 60) -> pd.DataFrame:
    random = np.random.default_rng(noise)
    label = np.arange(n) % 2
    parts = []
    for seed in seeds:
        probability = 1 / (1 + np.exp(-(strength * (label - 0.5) + random.normal(size=n))))
        about = {"patient": [f"p{i:02d}" for i in range(n)], "fold": [str(i // 20) for i in range(n)]}
        parts.append(pd.DataFrame({**about, "seed": seed, "label": label, "probability": probability}))
    return pd.concat(parts, ignore_index=True)


def test_difference_is_that_of_the_mean_over_folds_and_seeds():
    models = {"good": table(2.0), "poor": table(0.2, noise=1)}

    def naive(rows):
        by_run = rows.groupby(["fold", "seed"])[["label", "probability"]]
        return (
            by_run.apply(lambda g: roc_auc_score(g["label"], g["probability"])).groupby("fold").mean().mean()
        )

    row = differences(models, draws=200).iloc[0]
    assert row["auc"] == pytest.approx(naive(models["good"]) - naive(models["poor"]))
    assert row["low"] < row["auc"] < row["high"]
    assert row["n"] == 60
    swapped = differences(dict(reversed(models.items())), draws=200).iloc[0]
    assert swapped["auc"] == pytest.approx(-row["auc"])
    assert swapped["delong_p"] == pytest.approx(row["delong_p"])
    assert swapped["only_first"] == row["only_second"]


def test_tests_are_of_the_mean_probability():
    models = {"good": table(2.0, n=40), "poor": table(0.2, noise=1, n=40)}
    (row,) = differences(models, draws=100).itertuples()
    good, poor = (m.groupby("patient")["probability"].mean() for m in models.values())
    label, fold = (models["good"].groupby("patient")[column].first() for column in ("label", "fold"))
    (given,) = differences(models, draws=100, trained=False).itertuples()
    assert given.delong_p == pytest.approx(delong_test(label, good, poor, folds=fold).p)
    assert row.delong_p > 2 * given.delong_p  # training patients are shared
    assert row.high - row.low > 1.1 * (given.high - given.low)
    only_good = int((((good >= 0.5) == label) & ((poor >= 0.5) != label)).sum())
    only_poor = int((((good >= 0.5) != label) & ((poor >= 0.5) == label)).sum())
    assert (row.only_first, row.only_second) == (only_good, only_poor)
    assert row.mcnemar_p == pytest.approx(binomtest(only_good, only_good + only_poor).pvalue)


def test_a_model_against_itself_and_models_that_disagree_on_a_label():
    (row,) = differences({"a": table(1.0), "again": table(1.0)}, draws=100).itertuples()
    assert row.auc == 0
    assert np.isnan([row.low, row.high]).all()
    assert np.isnan(row.mcnemar_p)
    other = table(1.0).assign(label=lambda t: 1 - t["label"])
    with pytest.raises(ValueError, match="a and b disagree on the label or the fold"):
        differences({"a": table(1.0), "b": other}, draws=100)
    assert differences({"alone": table(1.0)}).columns[0] == "model"


def test_margin_of_the_paper():
    """Stroke's printed accuracies: counts, Wilson's intervals and best-case McNemar at n = 70."""
    found = margin({"fusion": 0.77, "late": 0.73, "ctp": 0.61, "clinical": 0.71}, 70).set_index("model")
    assert found["right"].tolist() == [54, 51, 43, 50]
    # the share as printed, not the count, was taken by hand: the third digit differs
    printed = [[0.66, 0.85], [0.62, 0.82], [0.50, 0.72], [0.60, 0.81]]
    np.testing.assert_allclose(found[["low", "high"]], printed, atol=0.0055)
    assert found["fewer"].tolist() == [0, 3, 11, 4]
    assert found.loc["late", "least_p"] == pytest.approx(binomtest(3, 3).pvalue) == 0.25
    assert found.loc["clinical", "least_p"] == pytest.approx(binomtest(4, 4).pvalue) == 0.125
    assert np.isnan(found.loc["fusion", "least_p"])


def test_holm_is_done_by_hand_and_over_all_that_is_printed():
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04, 0.03]), [0.03, np.nan, 0.06, 0.06])
    assert np.isnan(holm([np.nan])).all()
    models = {f"m{k}": table(k / 2, noise=k) for k in range(4)}
    found = differences(models, draws=100)
    np.testing.assert_allclose(found["delong_holm"], holm(found["delong_p"]))
    twice = adjusted(pd.concat([found, found]))
    assert (twice["mcnemar_holm"] >= pd.concat([found, found])["mcnemar_holm"]).all()


def test_one_comparison_without_a_value_takes_no_other_along():
    """The last fold holds out nobody with the outcome: no AUC in it, but calls are right or wrong in every fold."""
    spared = [t.assign(label=t["label"] * (t["fold"] != "2")) for t in (table(2.0), table(0.2, noise=1))]
    (row,) = differences({"good": spared[0], "poor": spared[1]}, draws=100).itertuples()
    assert np.isnan([row.auc, row.low, row.high, row.delong_p, row.delong_holm]).all()
    assert row.why.startswith("AUC: ")
    assert "; DeLong: " in row.why
    assert 0 <= row.mcnemar_p <= row.mcnemar_holm <= 1
    order = table(2.0, seeds=(1,))
    alike = order.assign(probability=order["probability"] ** 2)  # the same order, other calls
    (row,) = differences({"a": order, "b": alike}, draws=100).itertuples()
    assert np.isnan(row.delong_p)
    assert row.only_first + row.only_second > 0
    assert 0 <= row.mcnemar_p <= 1


# where there is nothing to find


def test_rates_and_what_would_be_seen():
    random = np.random.default_rng(0)

    def one(seed):
        estimate = 0.5 + 0.03 * random.normal()
        return Interval(estimate, estimate - 0.0588, estimate + 0.0588, 100, 50, "")

    found = false_alarms([one(seed) for seed in range(2000)])
    assert found["false_alarms"] == pytest.approx(0.05, abs=0.015)
    assert found["detected"] == pytest.approx(0.5 + (1.96 + 0.84) * 0.03, abs=0.004)


def test_outcomes_dealt_out_are_not_found_whatever_the_columns_knew():
    random = np.random.default_rng(1)
    fold, values = np.arange(90) % 3, random.normal(size=(90, 4))
    time = random.exponential(np.exp(-values[:, 0]))
    cohort = pd.DataFrame({"fold": fold, "time_months": time, "event": random.random(90) < 0.6})
    for one in (survival_null(values, cohort, 60), outcome_null(values, fold, time < np.median(time), 60)):
        assert one(3) == one(3)
        found = false_alarms([one(seed) for seed in range(60)])
        assert found["mean"] == pytest.approx(0.5, abs=0.03)
        assert found["false_alarms"] <= 0.15
        assert 0.6 < found["detected"] < 0.8
    tested = pd.Series(fold, dtype=object).where(np.arange(90) > 5)
    whole, part = (survival_null(values, cohort.assign(fold=each), 60)(3) for each in (fold, tested))
    assert (whole.n, part.n) == (90, 84), "who is in no fold trains and is not tested"


def test_labels_pushed_within_their_section_stay_patches_and_are_not_found():
    random = np.random.default_rng(2)
    x, y = np.meshgrid(np.arange(12.0), np.arange(12.0))
    xy, sections = np.c_[x.ravel(), y.ravel()], []
    for patient in range(5):
        labels = (np.hypot(*(xy - random.uniform(2, 10, 2)).T) < 4).astype(float)
        values = labels[:, None] * [2.0, 0.5] + random.normal(size=(144, 2))
        sections.append((str(patient), "s", values, labels, xy, 3.0))
    one = spot_null(sections, 40)
    found = false_alarms([one(seed) for seed in range(40)])
    assert found["mean"] == pytest.approx(0.5, abs=0.06)
    assert found["false_alarms"] <= 0.15
    named = [(patient, patient, *rest) for patient, _, *rest in sections]
    assert spot_null(named, 40, ["4"])(0).how.startswith("one patient")
    assert "widened" in spot_null(named, 40)(0).how
    assert "widened" not in spot_null(named, 40, ["3", "4"])(0).how, "their model saw neither"
    healthy = [(*one[:3], np.zeros(144), *one[4:]) for one in named[:4]]
    with pytest.raises(NotComputable, match="one class"):
        spot_null([*healthy, named[4]], 40, ["4"])(0)
