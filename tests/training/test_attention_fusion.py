"""The trained attention: same interface as the signatures, deterministic, nothing learnt from tested patients."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from lib.gcmlm.signature import inner_parts
from lib.gcmlm.train import AttentionFusion

sys.path.insert(0, str(Path(__file__).parent))
from fusion_patients import patients

ALL = ("clinical", "ct", "slide")
QUICK = {"epochs": 15, "inner_folds": 2}


@pytest.fixture(scope="module")
def cohort():
    return patients(90)


@pytest.fixture(scope="module")
def fused(cohort):
    return AttentionFusion(ALL, **QUICK).fit(*cohort)


def test_it_learns_and_tells_new_patients(cohort):
    fused = AttentionFusion(ALL, epochs=40, inner_folds=2).fit(*cohort)
    tables, outcome = patients(200, seed=1)
    found = fused.predict(tables).loc[outcome.index]
    assert roc_auc_score(outcome["label"], found["score"]) > 0.7
    np.testing.assert_allclose(found["probability"], 1 / (1 + np.exp(-found["score"])))
    assert found["hazard"].isna().all()


def test_training_scores_are_by_networks_that_did_not_see_them(cohort, fused):
    tables, outcome = cohort
    parts = inner_parts(outcome["label"].sort_index(), 2, 0)
    part = parts.index[parts == 0]
    others = {name: table.loc[parts.index[parts == 1]] for name, table in tables.items()}
    slow = AttentionFusion(ALL, **QUICK).fit(others, outcome.loc[parts.index[parts == 1]])
    found = slow.predict({name: table.loc[part] for name, table in tables.items()})
    np.testing.assert_allclose(fused.training_scores["score"].loc[part], found["score"], rtol=1e-5)


def test_a_seed_repeats_and_order_does_not_matter(cohort, fused):
    tables, outcome = cohort
    mixed = {name: table.iloc[::-1, ::-1] for name, table in tables.items()}
    again = AttentionFusion(ALL, **QUICK).fit(mixed, outcome.iloc[::-1])
    pd.testing.assert_frame_equal(again.training_scores, fused.training_scores, check_exact=True)
    pd.testing.assert_frame_equal(again.predict(mixed), fused.predict(tables), check_exact=True)
    other = AttentionFusion(ALL, seed=1, **QUICK).fit(tables, outcome)
    assert not other.predict(tables)["score"].equals(fused.predict(tables)["score"])


def test_tested_patients_cannot_teach(cohort):
    tables, outcome = cohort
    train = outcome.iloc[:70]
    wild = {name: table.copy() for name, table in tables.items()}
    for table in wild.values():
        table.iloc[70:] *= 1e6
    plain, again = (AttentionFusion(ALL, **QUICK).fit(some, train) for some in (tables, wild))
    pd.testing.assert_frame_equal(again.training_scores, plain.training_scores, check_exact=True)


def test_written_and_read_it_scores_a_new_patient(tmp_path, cohort):
    tables, outcome = cohort
    clinical = tables["clinical"].assign(lauren=np.resize(["diffuse", "mixed"], 90))
    mine = {"clinical": clinical, "ct": tables["ct"]}
    fused = AttentionFusion(("clinical", "ct"), width=8, **QUICK).fit(mine, outcome)
    fused.write(tmp_path / "model.safetensors")
    again = AttentionFusion.read(tmp_path / "model.safetensors")
    pd.testing.assert_frame_equal(again.predict(mine), fused.predict(mine), check_exact=True)


def test_patients_without_modality_or_label(cohort):
    tables, outcome = cohort
    fewer = {**tables, "ct": tables["ct"].iloc[6:]}
    partly = outcome.copy()
    partly.loc[partly.index[partly["label"] == 0][-4:], "label"] = np.nan
    fused = AttentionFusion(("ct",), **QUICK).fit(fewer, partly)
    assert (fused.report["patients"], fused.report["excluded"], fused.report["labelled"]) == (84, 6, 80)
    assert fused.training_scores["score"].notna().all()


def test_a_modality_of_constants_is_refused(cohort):
    tables, outcome = cohort
    flat = pd.DataFrame({"same": 1.0}, tables["ct"].index)
    with pytest.raises(ValueError, match="ct has no usable column"):
        AttentionFusion(("ct",), **QUICK).fit({"ct": flat}, outcome)
