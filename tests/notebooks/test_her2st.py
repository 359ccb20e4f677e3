"""One fold of HER2ST, from the raw files to the metrics: patient D is tested by who saw A, B and C."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from goldens import golden_of, moved, summary

pytestmark = pytest.mark.real

FOLD = {
    "settings": {
        "one-fold": {"sections": ["A1", "B1", "C1", "D1"], "test": ["D1"], "encoder": "", "genes": True}
    },
    "encoders": [],
    "encoder_weights": {},
    "models": ["marker-smoothed", "linear-genes-smoothed", "spacrd-genes"],
    "seeds": [42],
    "first_seed_only": [],
    "genes": 1000,
    "fusion_epochs": 3,
    "classifier_epochs": 6,
    "learning_rate": 0.0003,
    "batch_size": 128,
    "bootstrap_draws": 100,
}


@pytest.fixture(scope="module")
def study(open_study):
    """Of the cohort her2st four sections."""
    study = open_study("spacrd", "her2st", **FOLD)
    path = study.tree / "data/cohorts/spacrd/her2st.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table[table["section"].isin(FOLD["settings"]["one-fold"]["sections"])].to_csv(path, index=False)
    study.must_run_cells("1-preprocess", "3-train", "4-evaluate")
    return study


def test_fold_is_scored_as_the_yardsticks_say(study):
    predictions = pd.read_csv(study.folder / "predictions.csv", dtype={"spot": str})
    assert set(predictions["section"]) == {"D1"}
    known = predictions.dropna(subset=["label"])
    found = {model: roc_auc_score(rows["label"], rows["score"]) for model, rows in known.groupby("model")}
    # the marker alone is fitted to nothing, so this number depends on the loader, the labels and the smoothing only
    assert found["marker-smoothed"] == pytest.approx(0.895, abs=0.005)
    assert found["linear-genes-smoothed"] > 0.8
    assert found["spacrd-genes"] > 0.75
    metrics = pd.read_csv(study.folder / "metrics.csv")
    auc = metrics[metrics["metric"] == "auc"].set_index("model")
    assert auc["estimate"].to_dict() == pytest.approx(found, abs=1e-6)
    assert set(auc["cohort"]) == {"her2st"}
    assert set(auc["setting"]) == {"one-fold"}
    assert (auc["n"] == len(known) / 3).all()


def test_no_number_moves(study):
    """The golden's cohort and predictions are those of before the house was rebuilt."""
    assert moved(golden_of("spacrd", "her2st"), summary(study.folder)) == []


def test_sections_are_those_of_the_pack(study):
    cohort = pd.read_csv(study.folder / "cohort.csv", keep_default_na=False).set_index("section")
    assert list(cohort.index) == ["A1", "B1", "C1", "D1"]
    assert set(cohort["labels"]) == {"pathologist"}
    assert cohort.loc["D1", "split"] == "test"
    prevalence = cohort["cancer"] / (cohort["cancer"] + cohort["other"])
    assert prevalence.round(3).to_dict() == {"A1": 0.889, "B1": 0.234, "C1": 0.760, "D1": 0.545}
