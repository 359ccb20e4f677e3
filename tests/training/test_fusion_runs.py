"""Units of the fusion study: folds, the other hospital, files."""

import sys
from pathlib import Path

import numpy as np
import pytest

from lib.gcmlm.train import (
    COEFFICIENTS,
    PREDICTIONS,
    Runs,
    collected,
    folds_of,
    plan_units,
    read_fusion,
    reported,
    sides,
)

sys.path.insert(0, str(Path(__file__).parent))
from fusion_patients import patients

OPTIONS = {
    "signature": {"l1_ratios": (0.5,), "strengths": 5, "inner_folds": 3},
    "attention": {"epochs": 5, "inner_folds": 2},
}


@pytest.fixture(scope="module")
def cohort():
    tables, outcome = patients(80)
    table = outcome.assign(set="internal", fold=[str(at % 2) for at in range(80)])
    table.iloc[60:, table.columns.get_loc("set")] = "external"
    table.iloc[60:, table.columns.get_loc("fold")] = ""
    return table, {"clinical": tables["clinical"], "ct": tables["ct"].iloc[3:]}


@pytest.fixture(scope="module")
def done(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    runs = Runs(folder, *cohort, OPTIONS, keep_weights_of=0)
    units = plan_units(["signature", "attention"], folds_of(cohort[0]), [0])
    for unit in units.values():
        runs.train(unit)
    return folder, runs, units


def test_units_and_folds(cohort):
    assert folds_of(cohort[0]) == ["0", "1", "external"]
    units = plan_units(["signature"], ["0", "external"], [4, 5])
    assert list(units) == [
        "0.signature.s4",
        "external.signature.s4",
        "0.signature.s5",
        "external.signature.s5",
    ]
    with pytest.raises(ValueError, match="concat is no fusion"):
        plan_units(["concat"], ["0"], [0])


def test_sides_do_not_share_patients(cohort):
    table, _ = cohort
    for fold in folds_of(table):
        train, test = sides(table, fold)
        assert not set(train) & set(test)
        assert len(train) + len(test) == (80 if fold == "external" else 60)
    assert set(sides(table, "external")[1]) == set(table.index[60:])
    with pytest.raises(ValueError, match="fold 7"):
        sides(table, "7")
    with pytest.raises(ValueError, match="is internal and has no fold"):
        folds_of(table.assign(fold=""))


def test_predictions_are_the_contract(done, cohort):
    folder, _, units = done
    told = collected(folder, units, "predictions")
    assert list(told) == PREDICTIONS
    assert told[["score", "probability"]].notna().all(axis=None)
    assert set(told["setting"]) == {"clinical", "ct", "clinical+ct"}
    assert told["hazard"].isna().equals(told["model"] == "attention")
    tested = told.query("model == 'signature' and setting == 'clinical' and split == 'test'")
    assert sorted(tested["patient"]) == sorted(cohort[0].index)
    assert not told.duplicated(["model", "setting", "fold", "patient"]).any()
    np.testing.assert_array_equal(tested["label"], cohort[0]["label"].loc[tested["patient"]])
    coefficients = collected(folder, units, "coefficients")
    assert list(coefficients) == COEFFICIENTS
    assert set(coefficients["model"]) == {"signature"}


def test_those_who_lack_a_modality_are_counted(done):
    folder, _, units = done
    told = reported(folder, units).set_index(["model", "fold", "setting"])
    row = told.loc[("signature", "external", "clinical+ct")]
    assert (row["patients"], row["excluded"], row["tested"], row["not_tested"]) == (57, 3, 20, 0)
    both = told.xs("ct", level="setting").query("fold != 'external'")
    assert (both["excluded"] + both["not_tested"] == 3).all()


def test_a_kept_model_scores_as_its_unit_did(done, cohort):
    folder, _, units = done
    told = collected(folder, units, "predictions")
    for model, end in (("signature", "json"), ("attention", "safetensors")):
        fusion = read_fusion(folder / "weights" / f"external.{model}.s0.clinical+ct.{end}")
        tested = told[
            (told["model"] == model)
            & (told["fold"] == "external")
            & (told["setting"] == "clinical+ct")
            & (told["split"] == "test")
        ].set_index("patient")
        tables = {name: table.loc[table.index.isin(tested.index)] for name, table in cohort[1].items()}
        found = fusion.predict(tables)
        np.testing.assert_allclose(found["score"], tested["score"].loc[found.index], rtol=1e-6)


def test_a_unit_repeats_to_the_last_byte(done, cohort, tmp_path):
    _, runs, units = done
    again = Runs(tmp_path, *cohort, OPTIONS, keep_weights_of=0)
    unit = units["0.signature.s0"]
    again.train(unit)
    for old, new in zip(runs.outputs(unit), again.outputs(unit), strict=True):
        assert old.read_bytes() == new.read_bytes(), old.name
    assert runs.depends(unit) == again.depends(unit)


def test_other_seeds_leave_no_models(done):
    _, runs, _ = done
    unit = plan_units(["signature"], ["0"], [1])["0.signature.s1"]
    assert not [path for path in runs.outputs(unit) if "weights" in path.parts]


def test_an_error_names_the_unit(cohort, tmp_path):
    table, tables = cohort
    broken = {**tables, "ct": tables["ct"].assign(ct_00=np.inf)}
    with pytest.raises(ValueError, match=r"signature of ct, fold 0: ct_00 of patient p\d+ is infinite"):
        Runs(tmp_path, table, broken, OPTIONS).fit(plan_units(["signature"], ["0"], [0])["0.signature.s0"])
