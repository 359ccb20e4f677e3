"""Rows of metrics.csv of yes-or-no outcomes: right against scikit-learn fold by fold."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from lib.statistics.metrics_table import COLUMNS
from lib.statistics.metrics_table import OUTCOME_CALLED as CALLED
from lib.statistics.metrics_table import outcome_rows as evaluation

ORACLE = {
    "accuracy": metrics.accuracy_score,
    "sensitivity": metrics.recall_score,
    "specificity": lambda y, c: metrics.recall_score(1 - y, 1 - c),
    "ppv": metrics.precision_score,
    "npv": lambda y, c: metrics.precision_score(1 - y, 1 - c),
    "f1": metrics.f1_score,
}


@pytest.fixture(scope="module")
def told() -> pd.DataFrame:
    random = np.random.default_rng(3)
    label = (random.random(120) < 0.4).astype(int)
    tables = []
    for seed in (1, 2):
        score = label + random.normal(size=120)
        tables.append(
            pd.DataFrame(
                {
                    "patient": [f"P{i:03d}" for i in range(120)],
                    "fold": np.arange(120) % 4,
                    "seed": seed,
                    "setting": "s",  # a column that is not told of is none of its business
                    "label": label,
                    "score": score,
                    "probability": 1 / (1 + np.exp(-score)),
                    "called_youden": (score > 0.5).astype(int),
                }
            )
        )
    return pd.concat(tables).sample(frac=1, random_state=1)


def looped(told: pd.DataFrame, function, column: str) -> float:
    by_fold = told.groupby("fold").apply(
        lambda f: np.mean([function(s["label"], s[column]) for _, s in f.groupby("seed")]),
        include_groups=False,
    )
    return float(by_fold.mean())


def test_estimates_are_those_of_a_loop(told):
    table = evaluation("m", "c", "s", told, {"youden": "Youden's cut"}, draws=200)
    assert list(table.columns) == COLUMNS
    found = table.set_index("metric")
    assert found.loc["auc", "estimate"] == pytest.approx(looped(told, metrics.roc_auc_score, "score"))
    assert found.loc["ap", "estimate"] == pytest.approx(
        looped(told, metrics.average_precision_score, "score")
    )
    assert found.loc["brier", "estimate"] == pytest.approx(
        looped(told, metrics.brier_score_loss, "probability")
    )
    for metric in CALLED:
        row = found.loc[f"{metric}_youden"]
        assert row["estimate"] == pytest.approx(looped(told, ORACLE[metric], "called_youden")), metric
        assert row["low"] < row["estimate"] < row["high"]
        assert row["how"].startswith("Youden's cut; mean over 4 folds; ")
    assert (table["n"] == 120).all()
    assert (table["seeds"] == 2).all()
    assert (table["events"] == told.drop_duplicates("patient")["label"].sum()).all()


def test_pooled_compares_patients_of_all_folds(told):
    shifted = told.assign(score=told["score"] + 10 * told["fold"])
    within = evaluation("m", "c", "s", shifted, draws=100).set_index("metric")["estimate"]
    pooled = evaluation("m", "c", "s", shifted, pooled=True, draws=100).set_index("metric")["estimate"]
    assert within["auc"] == pytest.approx(looped(told, metrics.roc_auc_score, "score"))
    by_seed = [metrics.roc_auc_score(s["label"], s["score"]) for _, s in shifted.groupby("seed")]
    assert pooled["auc"] == pytest.approx(np.mean(by_seed))
    assert pooled["auc"] < within["auc"] - 0.1


def test_scores_turned_round_give_one_minus_the_auc(told):
    auc = evaluation("m", "c", "s", told, draws=100).set_index("metric").loc["auc", "estimate"]
    turned = evaluation("m", "c", "s", told.assign(score=-told["score"]), draws=100).set_index("metric")
    assert turned.loc["auc", "estimate"] == pytest.approx(1 - auc)


def test_fold_of_one_class_makes_the_mean_not_computable(told):
    table = evaluation("m", "c", "s", told.assign(label=(told["label"] * (told["fold"] > 0))), draws=100)
    row = table.set_index("metric").loc["auc"]
    assert np.isnan(row["estimate"])
    assert row["how"].startswith("not computable: ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="fold"), r"predictions of m lack \['fold'\]"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "m predicts a patient twice in one seed"),
        (lambda t: t.iloc[1:], "m: patient P... has no finite"),
        (lambda t: t.assign(fold=np.arange(len(t)) % 3), "two labels or is held out by two folds"),
    ],
)
def test_predictions_that_are_not_whole_are_refused(told, change, said):
    with pytest.raises(ValueError, match=said):
        evaluation("m", "c", "s", change(told), draws=100)
