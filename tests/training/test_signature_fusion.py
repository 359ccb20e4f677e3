"""Signatures joined with clinical factors: cross-fitting, subsets, leaks, files."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score

from lib.gcmlm.signature import Combiner, Signature, SignatureFusion, cross_fitted, inner_parts

sys.path.insert(0, str(Path(__file__).parent))
from fusion_patients import patients

ALL = ("clinical", "ct", "slide")
QUICK = {"l1_ratios": (0.5,), "strengths": 6}


@pytest.fixture(scope="module")
def cohort():
    return patients(90)


@pytest.fixture(scope="module")
def new():
    return patients(300, seed=1)


@pytest.fixture(scope="module")
def shared():
    return {}


@pytest.fixture(scope="module")
def fused(cohort, shared):
    return SignatureFusion(ALL, **QUICK).fit(*cohort, shared)


def test_fused_beats_each_single_modality(cohort, new, shared, fused):
    tables, outcome = new
    alone = [SignatureFusion((name,), **QUICK).fit(*cohort, shared) for name in ALL]
    aucs = [roc_auc_score(outcome["label"], one.predict(tables)["score"].loc[outcome.index]) for one in alone]
    found = fused.predict(tables).loc[outcome.index]
    assert roc_auc_score(outcome["label"], found["score"]) > max(aucs) + 0.05
    assert concordance_index(outcome["time_months"], -found["hazard"], outcome["event"]) > 0.65
    np.testing.assert_allclose(found["probability"], 1 / (1 + np.exp(-found["score"])))


def test_cross_fitted_scores_against_one_fit_at_a_time(cohort):
    tables, outcome = cohort
    label = outcome["label"].sort_index()
    parts = inner_parts(label, 3, 0)
    assert np.ptp(pd.crosstab(parts, label).to_numpy(), axis=0).max() <= 1
    found = cross_fitted(tables["ct"], label, parts, QUICK)
    for at in range(3):
        train, test = parts.index[parts != at], parts.index[parts == at]
        slow = Signature(**QUICK).fit(tables["ct"].loc[train], label).part(tables["ct"].loc[test])
        pd.testing.assert_series_equal(found.part.loc[test], slow, check_exact=True)


def test_training_scores_are_not_those_of_the_fitted_model(cohort, fused):
    tables, outcome = cohort
    label = outcome["label"].loc[fused.training_scores.index]
    fooled = roc_auc_score(label, fused.predict(tables)["score"].loc[label.index])
    assert roc_auc_score(label, fused.training_scores["score"]) < fooled


def test_permuted_labels_give_no_training_auc(cohort):
    tables, outcome = cohort
    aucs = []
    for seed in range(3):
        label = np.random.default_rng([seed, 9]).permutation(outcome["label"].to_numpy())
        null = outcome.assign(label=label)[["label"]]
        fusion = SignatureFusion(("ct", "slide"), **QUICK).fit(tables, null)
        aucs.append(roc_auc_score(null["label"], fusion.training_scores["score"].loc[null.index]))
    assert 0.35 < np.mean(aucs) < 0.6


def test_tested_patients_cannot_teach(cohort):
    tables, outcome = cohort
    train = outcome.iloc[:70]
    plain = SignatureFusion(("clinical", "ct"), **QUICK).fit(tables, train)
    wild = {name: table.copy() for name, table in tables.items()}
    for table in wild.values():
        table.iloc[70:] *= 1e6
        table.iloc[70:, 0] = outcome["label"].iloc[70:]
    again = SignatureFusion(("clinical", "ct"), **QUICK).fit(wild, train)
    pd.testing.assert_frame_equal(again.coefficients(), plain.coefficients(), check_exact=True)
    pd.testing.assert_frame_equal(again.training_scores, plain.training_scores, check_exact=True)


def test_order_does_not_matter_and_a_seed_repeats(cohort, fused):
    tables, outcome = cohort
    random = np.random.default_rng(0)
    mixed = {
        name: table.iloc[random.permutation(len(table)), random.permutation(table.shape[1])]
        for name, table in tables.items()
    }
    again = SignatureFusion(ALL, **QUICK).fit(mixed, outcome.iloc[::-1])
    pd.testing.assert_frame_equal(again.training_scores, fused.training_scores, check_exact=True)
    pd.testing.assert_frame_equal(again.predict(mixed), fused.predict(tables), check_exact=True)


def test_patients_without_a_modality_are_left_out_and_counted(cohort):
    tables, outcome = cohort
    fewer = {**tables, "slide": tables["slide"].iloc[8:]}
    fusion = SignatureFusion(("clinical", "slide"), **QUICK).fit(fewer, outcome)
    assert (fusion.report["patients"], fusion.report["excluded"]) == (82, 8)
    assert set(fusion.training_scores.index) == set(fewer["slide"].index)
    assert len(fusion.predict(fewer)) == 82
    with pytest.raises(ValueError, match="no table of pet"):
        SignatureFusion(("pet",)).fit(tables, outcome)


def test_censored_early_patients_are_scored_and_teach_time_only(cohort):
    tables, outcome = cohort
    partly = outcome.copy()
    partly.loc[partly.index[partly["label"] == 0][:10], "label"] = np.nan
    fusion = SignatureFusion(("clinical", "ct"), **QUICK).fit(tables, partly)
    assert fusion.report["labelled"] == 80
    assert fusion.training_scores.notna().all(axis=None)
    assert len(fusion.training_scores) == 90


def test_without_times_there_is_no_hazard(cohort):
    tables, outcome = cohort
    fusion = SignatureFusion(("clinical",)).fit(tables, outcome[["label"]])
    assert fusion.report["no_cox"] == "no times"
    assert fusion.predict(tables)["hazard"].isna().all()
    assert set(fusion.coefficients()["part"]) == {"combiner"}


def test_a_score_that_goes_the_wrong_way_has_no_weight():
    random = np.random.default_rng(1)
    label = np.repeat([0.0, 1.0], 30)
    names = [f"p{at:02}" for at in range(60)]
    table = pd.DataFrame({"age": random.normal(size=60), "ct": random.normal(size=60) - label}, names)
    outcome, parts = pd.DataFrame({"label": label}, names), pd.Series(np.arange(60) % 5, names)
    combiner = Combiner(["ct"]).fit(table, outcome, parts)
    assert combiner.wrong_way == ["ct"]
    assert dict(zip(combiner.columns.names, combiner.weights, strict=True))["ct"] == 0
    free = Combiner().fit(table, outcome, parts)  # as a factor it may point where it likes
    assert dict(zip(free.columns.names, free.weights, strict=True))["ct"] < 0


def test_categories_and_gaps_of_the_clinic(cohort):
    tables, outcome = cohort
    clinical = tables["clinical"].assign(lauren=np.resize(["diffuse", "mixed", "intestinal"], 90))
    clinical.iloc[:4, 0] = np.nan
    fusion = SignatureFusion(("clinical", "ct"), **QUICK).fit({**tables, "clinical": clinical}, outcome)
    told = fusion.coefficients().query("part == 'combiner'").set_index("feature")
    assert told.loc["ct", "modality"] == "ct"
    assert (told.drop("ct")["modality"] == "clinical").all()
    assert sum(name.startswith("lauren=") for name in told.index) == 2
    assert fusion.report["filled"]["combiner"] == {"clinical_00": 4}


def test_written_and_read_it_scores_a_new_patient(tmp_path, new, fused):
    fused.write(tmp_path / "model.json")
    tables, _ = new
    again = SignatureFusion.read(tmp_path / "model.json").predict(tables)
    pd.testing.assert_frame_equal(again, fused.predict(tables), check_exact=True)


def test_bad_tables_are_refused(cohort):
    tables, outcome = cohort
    twice = {**tables, "clinical": pd.concat([tables["clinical"], tables["clinical"].iloc[:1]])}
    with pytest.raises(ValueError, match="stands twice in the table of clinical"):
        SignatureFusion(("clinical",)).fit(twice, outcome)
    named = {**tables, "clinical": tables["clinical"].rename(columns={"clinical_00": "ct"})}
    with pytest.raises(ValueError, match="ct is a clinical factor and a modality"):
        SignatureFusion(("clinical", "ct"), **QUICK).fit(named, outcome)
    with pytest.raises(ValueError, match="one modality at least"):
        SignatureFusion(())
