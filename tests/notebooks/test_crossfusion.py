"""Real patients: TCGA's outcomes on the official folds, and predictions that MCAT's authors stored for them."""

import pandas as pd
import pytest

pytestmark = pytest.mark.real

# shared/specs/crossfusion.md, section 7, and the issue: mean over the five official folds
C_INDEX = {"age": 0.535, "mcat:AMIL": 0.559, "mcat:MCAT": 0.620}
P_VALUES = {"logrank_p_pooled_median": 0.848, "logrank_p_fold_median": 0.0662}


@pytest.fixture(scope="module")
def study(open_study):
    """Lung adenocarcinoma, whole."""
    study = open_study("crossfusion", "luad", bootstrap_draws=200)
    study.must_run_cells("1-preprocess", "4-evaluate")
    return study


@pytest.fixture(scope="module")
def metrics(study) -> pd.DataFrame:
    return pd.read_csv(study.folder / "metrics.csv").set_index(["model", "metric"])


@pytest.mark.parametrize("model", C_INDEX)
def test_c_index_is_the_known_one(metrics, model):
    row = metrics.loc[(model, "c_index")]
    assert row["estimate"] == pytest.approx(C_INDEX[model], abs=0.0006)
    assert row["low"] < row["estimate"] < row["high"]
    assert row["n"] == (443 if model == "age" else 453)
    assert row["events"] == (155 if model == "age" else 158)


@pytest.mark.parametrize("rule", P_VALUES)
def test_two_medians_disagree_wildly(metrics, rule):
    assert metrics.loc[("mcat:AMIL", rule), "estimate"] == pytest.approx(P_VALUES[rule], rel=0.01)


def test_what_others_stored_is_taken_as_given_and_what_was_fitted_here_is_not(metrics, study):
    assert "the risks as given" in metrics.loc[("mcat:MCAT", "c_index"), "how"]
    assert "shared training patients" in metrics.loc[("cox-clinical", "c_index"), "how"]
    (alarms,) = pd.read_csv(study.folder / "tables" / "false_alarms.csv").itertuples()
    assert alarms.false_alarms <= 0.05 + 2 * alarms.error
    assert 0.5 < alarms.detected < 0.7


def test_bare_risk_has_no_brier_score_and_says_so(metrics):
    row = metrics.loc[("mcat:MCAT", "ibs")]
    assert pd.isna(row["estimate"])
    assert "no survival probabilities" in row["how"]
    # who knows the stage predicts better than who knows nobody
    assert metrics.loc[("cox-clinical", "ibs"), "estimate"] < metrics.loc[("kaplan-meier", "ibs"), "estimate"]


def test_patients_are_counted_once(study):
    cohort = pd.read_csv(study.folder / "cohort.csv", dtype={"fold": str})
    assert len(cohort) == 453
    assert cohort["patient"].is_unique
    assert cohort["slides"].sum() > 453
    assert cohort.groupby("fold").size().to_dict() == {"0": 91, "1": 91, "2": 91, "3": 90, "4": 90}
    assert "folds and outcomes name the same patients" in study.printed("1-preprocess", "stdout")


def test_paired_differences_stand_on_the_same_patients(study):
    table = pd.read_csv(study.folder / "tables" / "differences.csv").set_index(["model", "minus"])
    assert table.loc[("age", "mcat:MCAT"), "n"] == 443
    row = table.loc[("mcat:AMIL", "mcat:MCAT")]
    assert row["n"] == 453
    assert row["difference"] == pytest.approx(0.559 - 0.620, abs=0.001)
