"""The bench's evaluation on made-up predictions in the form that 3-train writes."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from lib.fusion import evaluation
from lib.fusion.evaluation import BEST_REGRESSION, CROSS_ATTENTION, FAMILY, OFFSET
from lib.fusion.params import FusionParams

PATIENTS, FOLDS, SEEDS = 90, 3, (1, 2)
GIVEN = tuple(name + OFFSET for name in CROSS_ATTENTION)
MODELS = ("concat", "late", *CROSS_ATTENTION, *GIVEN, "clinic", BEST_REGRESSION)


@pytest.fixture(scope="module")
def cohort() -> pd.DataFrame:
    random = np.random.default_rng(5)
    table = pd.DataFrame({"patient": [f"P{number:02d}" for number in range(PATIENTS)], "cancer": "blca"})
    table["time"] = random.exponential(30, PATIENTS).round(2) + 0.1
    table["event"] = np.arange(PATIENTS) % 2
    return table.assign(fold=(np.arange(PATIENTS) // 2 % FOLDS).astype(str))


@pytest.fixture(scope="module")
def predictions(cohort) -> pd.DataFrame:
    random, parts = np.random.default_rng(6), []
    for model in MODELS:
        for seed in SEEDS:
            score = random.normal(size=PATIENTS) - 0.02 * cohort["time"]
            columns = {"setting": "blca", "model": model, "seed": seed, "score": score}
            curves = {f"survival_{month:g}": 0.98 ** (month * np.exp(score / 2)) for month in (12.0, 36.0)}
            parts.append(cohort[["patient", "fold"]].assign(**columns, **curves))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def models(predictions, cohort):
    return evaluation.held_out_patients(predictions, evaluation.outcomes(cohort), MODELS)


@pytest.fixture(scope="module")
def differences(models) -> pd.DataFrame:
    return evaluation.difference_rows(models, draws=200)


def test_a_yes_or_no_outcome_gives_the_auc_and_the_plain_brier_score(cohort, predictions):
    one = predictions[predictions["model"] == "concat"].drop(columns=["survival_12", "survival_36"])
    one = one.assign(probability=1 / (1 + np.exp(-one["score"])))
    binary = evaluation.outcomes(cohort.drop(columns="time"), "binary")
    models = evaluation.held_out_patients(one, binary)
    horizons = evaluation.horizons(FusionParams(outcome="binary"))
    rows = evaluation.metric_rows(models, binary, "x", horizons, 100).set_index("metric")["estimate"]
    folds = one.merge(cohort[["patient", "event"]], on="patient").groupby(["fold", "seed"])
    auc = folds.apply(lambda rows: roc_auc_score(rows["event"], rows["score"])).groupby("fold").mean().mean()
    brier = folds.apply(lambda rows: brier_score_loss(rows["event"], rows["probability"]))
    assert rows["c_index"] == pytest.approx(auc, abs=1e-12)
    assert rows["brier_t_1"] == pytest.approx(brier.groupby("fold").mean().mean(), abs=1e-12)


def test_the_family_is_the_mean_of_its_heads_and_nothing_without_one_of_them(models, differences):
    heads = models["blca"]
    rows = differences.set_index(["model", "minus"])["difference"]
    mean = np.mean([rows[head, "concat"] for head in CROSS_ATTENTION])
    assert rows[FAMILY, "concat"] == pytest.approx(mean, abs=1e-12)
    some = {"blca": {name: heads[name] for name in ("concat", *CROSS_ATTENTION) if name != "mcat"}}
    assert FAMILY not in set(evaluation.difference_rows(some, draws=100)["model"])


def test_heads_with_the_offset_are_held_against_the_regression_with_one(differences):
    apart = differences.set_index(["contrast", "model"])["difference"]
    added = apart["regression minus clinic", BEST_REGRESSION]  # to the clinic, to which both add
    assert set(apart["offset minus regression"].index) == {*GIVEN, FAMILY + OFFSET}
    for model, like in apart["offset minus regression"].items():
        assert like == pytest.approx(apart["offset minus clinic", model] - added, abs=1e-12)


def test_the_mean_of_heads_is_surer_than_one_of_them(differences):
    rows = differences.set_index(["model", "minus"])["error"]
    assert rows[FAMILY, "concat"] < min(rows[head, "concat"] for head in CROSS_ATTENTION)


def test_p_agrees_with_the_interval_and_holm_counts_its_kind(differences):
    out = ((rows := differences)["low"] > 0) | (rows["high"] < 0)
    assert ((rows["p"] < 0.05) == out).all()
    assert (rows["p_holm"] >= rows["p"]).all()
    lone = rows["contrast"].map(rows["contrast"].value_counts()) == 1
    assert lone.any()
    assert (rows.loc[lone, "p_holm"] == rows.loc[lone, "p"]).all()
    for _, some in rows.groupby("contrast"):
        assert some["p_holm"].min() == pytest.approx(min(1, len(some) * some["p"].min()))


def test_only_what_was_trained_is_compared_and_the_primary_contrast_is_one():
    pairs = evaluation.contrasts((*MODELS, FAMILY))
    assert [pair for pair in pairs if pair[0] == "primary"] == [("primary", FAMILY, "concat")]
    assert len(pairs) == len(set(pairs))
    assert evaluation.contrasts(["age", "forest"]) == []
    none = evaluation.difference_rows({"blca": {}}, draws=100)
    assert none.empty
    assert {"setting", "model", "minus", "difference", "error"} <= set(none)


def test_a_prediction_from_another_fold_or_of_a_stranger_is_refused(cohort, predictions):
    known = evaluation.outcomes(cohort)
    turned = predictions.assign(fold=predictions["fold"].map({"0": "1", "1": "2", "2": "0"}))
    with pytest.raises(ValueError, match="another fold"):
        evaluation.held_out_patients(turned, known)
    with pytest.raises(ValueError, match="the cohort lacks"):
        evaluation.held_out_patients(predictions.replace({"patient": {"P00": "Q00"}}), known)


def test_a_model_of_all_cancers_is_looked_at_within_each(cohort, predictions):
    two = cohort.assign(cancer=np.where(np.arange(PATIENTS) < 40, "blca", "ucec"))
    models = evaluation.held_out_patients(predictions.assign(setting="pan"), evaluation.outcomes(two))
    assert {name: len(some["concat"].patient) for name, some in models.items()} == {"blca": 40, "ucec": 50}


def test_expected_best_is_the_mean_over_all_choices_of_trials():
    random = np.random.default_rng(1)
    tuning = pd.DataFrame({"model": "concat", "fold": np.repeat(["0", "1"], 5), "trial": list(range(5)) * 2})
    tuning["inner_c"] = random.random(10)
    found = evaluation.expected_best(tuning).set_index("trials")["c_index"]
    for trials in range(1, 6):
        naive = [
            np.mean([max(some) for some in combinations(values["inner_c"], trials)])
            for _, values in tuning.groupby("fold")
        ]
        assert found[trials] == pytest.approx(np.mean(naive))


def test_the_head_is_chosen_by_its_chosen_trials_alone():
    rows = [("mcat", "0", 0, 0.9, False), ("mcat", "0", 1, 0.6, True), ("late+offset", "0", 0, 0.7, True)]
    rows += [("clinic", "0", 0, 0.8, True)]  # no network
    tuning = pd.DataFrame(rows, columns=["model", "fold", "trial", "inner_c", "chosen"])
    assert evaluation.chosen_head(tuning) == "late+offset"
    assert evaluation.told_apart("late+offset")[2:] == ["late", "late+offset"]


def test_yardsticks_meet_the_same_model_of_the_same_cancer(root):
    before = pd.read_csv(root / "data" / "published" / "fusion_yardsticks.csv")
    means = before.groupby("model")["value"].mean().round(3)
    assert means[["clinic", BEST_REGRESSION]].tolist() == [0.684, 0.709]
    metrics = pd.DataFrame(
        {"setting": ["blca", "brca"], "model": "clinic", "metric": "c_index", "estimate": [0.66, 0.75]}
    )
    found = evaluation.against_yardsticks(before, metrics).set_index("setting")
    assert found["apart"].round(3).to_dict() == {"blca": 0.006, "brca": -0.004}
