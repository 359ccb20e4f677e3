"""The guard against outcomes among the features: what it refuses, and that honest features pass."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from lib.gcmlm.tables import _auc, refuse_disguised_outcomes


@pytest.fixture
def cohort():
    random = np.random.default_rng(0)
    names = [f"p{at}" for at in range(100)]
    table = pd.DataFrame(random.normal(size=(100, 50)), names, [f"f{at:02}" for at in range(50)])
    label = (random.random(100) < 0.25).astype(float)
    time = random.uniform(6, 80, 100)
    return table, pd.DataFrame({"label": label, "time_months": time, "event": label}, names)


def refused(table, outcome, match, **more):
    with pytest.raises(ValueError, match=match):
        refuse_disguised_outcomes({"ct": table}, outcome, **more)


def test_honest_features_pass_and_the_strongest_is_told(cohort):
    table, outcome = cohort
    told = refuse_disguised_outcomes({"ct": table}, outcome).set_index("table").loc["ct"]
    aucs = {name: roc_auc_score(outcome["label"], table[name]) for name in table}
    aucs = {name: max(auc, 1 - auc) for name, auc in aucs.items()}
    assert told["strongest"] == max(aucs, key=aucs.get)
    assert told["auc"] == pytest.approx(max(aucs.values()))
    assert told["features"] == 50


@pytest.mark.parametrize("turn", [lambda y: y, lambda y: 1 - y, lambda y: 3 * y + 7])
def test_the_label_itself_is_refused(cohort, turn):
    table, outcome = cohort
    refused(
        table.assign(f50=turn(outcome["label"])),
        outcome,
        "f50 of the table of ct .* AUC of 1.000.*leave the column",
    )


def test_the_label_as_text_and_with_a_few_errors(cohort):
    table, outcome = cohort
    text = outcome["label"].map({0.0: "no", 1.0: "yes"})
    refused(table.assign(f50=text), outcome, r"f50 of the table of ct alone \(no\) tells the label")
    nearly = outcome["label"].copy()
    nearly.iloc[0] = 1 - nearly.iloc[0]
    refused(table.assign(f50=nearly), outcome, "f50 .*")
    noisy = outcome["label"] + np.random.default_rng(1).normal(0, 0.2, 100)
    refused(table.assign(f50=noisy), outcome, "f50 .* AUC of 0.99|f50 .* AUC of 1")


def test_filled_only_where_there_was_an_event(cohort):
    table, outcome = cohort
    gaps = pd.Series(np.random.default_rng(2).normal(size=100), table.index).where(outcome["label"] == 1)
    refused(table.assign(f50=gaps), outcome, r"f50 of the table of ct alone \(which are missing\)")


def test_the_time_is_refused(cohort):
    table, outcome = cohort
    refused(table.assign(f50=-np.sqrt(outcome["time_months"])), outcome, r"Spearman -1.000")
    events = outcome["time_months"].where(outcome["event"] == 1, np.random.default_rng(3).uniform(6, 80, 100))
    refused(table.assign(f50=events), outcome, r"time of the event \(Spearman 1.000\)")


@pytest.mark.parametrize(
    "name",
    [
        "label",
        "Outcome",
        "event",
        "status",
        "time_months",
        "OS.time",
        "PFI",
        "days_to_death",
        "overall_survival_months",
        "vital_status",
        "recurrence",
        "metastasis",
        "metachronous_metastasis",
        "days_to_last_followup",
        "new_tumor_event_type",
        "DFS",
        "death",
        "follow_up",
    ],
)
def test_names_of_outcomes_are_refused(cohort, name):
    table, outcome = cohort
    refused(
        table.rename(columns={"f03": name}), outcome, f"{name} of the table of ct is named like an outcome"
    )


@pytest.mark.parametrize(
    "name",
    [
        "HPV-Status",
        "N-Stage",
        "T-Stage",
        "age",
        "lauren",
        "lymph_node_metastasis",
        "positive_nodes",
        "cea",
        "original_firstorder_Energy",
        "treatment_time",
        "hospital",
        "log-sigma-1-mm-3D_glcm_Id",
        "y_extent",
    ],
)
def test_names_of_factors_pass(cohort, name):
    table, outcome = cohort
    refuse_disguised_outcomes({"ct": table.rename(columns={"f03": name})}, outcome)


def test_what_is_allowed_passes_and_is_told(cohort):
    table, outcome = cohort
    table = table.assign(f50=outcome["label"])
    for name in ("f50", "ct:f50"):
        told = refuse_disguised_outcomes({"ct": table}, outcome, allowed=[name])
        assert "AUC of 1.000" in told.loc[0, "refused"]
    refused(table, outcome, "allowed names f51, which is no feature", allowed=["f51"])


def test_null_features_of_few_events_pass():
    random = np.random.default_rng(5)
    names = [f"p{at}" for at in range(40)]
    for events in (3, 10):
        table = pd.DataFrame(random.normal(size=(40, 1218)), names, [f"f{at}" for at in range(1218)])
        label = pd.Series(np.r_[np.ones(events), np.zeros(40 - events)], names)
        told = refuse_disguised_outcomes({"ct": table}, label.to_frame("label"))
        assert told.loc[0, "auc"] > 0.8  # by chance alone


def test_auc_and_p_against_scipy():
    random = np.random.default_rng(6)
    for _ in range(20):
        values = random.integers(0, 6, 30).astype(float)
        label = (random.random(30) < 0.4).astype(float)
        auc, p = _auc(values, label)
        wanted = roc_auc_score(label, values)
        assert auc == pytest.approx(max(wanted, 1 - wanted))
        slow = mannwhitneyu(
            values[label == 1], values[label == 0], method="asymptotic", use_continuity=False
        ).pvalue
        assert p == pytest.approx(slow)


@pytest.mark.real
def test_the_head_and_neck_sheets_pass_and_with_their_last_column_back_do_not(mirror):
    folder = mirror / "ct" / "lro_headneck"
    if not folder.is_dir():
        pytest.skip("the mirror has no ct/lro_headneck")
    clinical = pd.read_csv(folder / "clinical.csv", dtype={"patient": str}).set_index("patient")
    outcome = clinical[["label"]].astype(float)
    names = ("ct_fea_pre", "ct_fea_post", "pet_fea_pre", "pet_fea_post")
    tables = {
        name: pd.read_csv(folder / f"{name}.csv.gz", dtype={"patient": str}).set_index("patient")
        for name in names
    }
    tables["clinical"] = clinical.drop(columns="label")
    told = refuse_disguised_outcomes(tables, outcome).set_index("table")
    assert told.loc["ct_fea_pre", "features"] == 257
    assert told["auc"].max() < 0.85
    for name in names:  # as the sheets stand upstream
        bad = {**tables, name: tables[name].assign(f257=outcome["label"])}
        with pytest.raises(
            ValueError, match=f"f257 of the table of {name} alone tells the label with an AUC of 1.000"
        ):
            refuse_disguised_outcomes(bad, outcome)
    with pytest.raises(ValueError, match="label of the table of clinical"):
        refuse_disguised_outcomes({"clinical": clinical}, outcome)
