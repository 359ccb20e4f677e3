"""Which runs the stroke study has."""

import pytest

from lib.stroke.train import SCAN, plan_units, settings_of
from lib.training.folds import Fold

FOLDS = [Fold("0", ("a", "b"), ("c",)), Fold("1", ("b", "c"), ("a",))]
MODELS = {
    "admission": ["fusion", "ctp", "clinical-branch", "late-fusion", "logistic-volumes", "logistic-both"],
    "postprocedural": ["fusion", "ctp", "clinical-branch", "logistic-volumes"],
}


def test_one_run_a_setting_fold_model_and_seed():
    units = plan_units(FOLDS, MODELS, [1, 2])
    by_model = {}
    for unit in units.values():
        by_model.setdefault(unit.model, []).append(unit)
    assert {model: len(found) for model, found in by_model.items()} == {
        "fusion": 2 * 2 * 2,
        "clinical-branch": 2 * 2 * 2,
        "ctp": 2 * 2,
        "logistic-volumes": 2,
        "logistic-both": 2,
    }
    one = units["postprocedural.1.fusion.s2"]
    assert (one.setting, one.fold, one.model, one.seed) == ("postprocedural", FOLDS[1], "fusion", 2)
    assert all(name == unit.name for name, unit in units.items())


def test_what_sees_the_scan_alone_is_trained_once_and_counts_in_every_setting_that_lists_it():
    units = plan_units(FOLDS, MODELS, [1])
    scans = {unit.model for unit in units.values() if unit.setting == SCAN}
    assert scans == {"ctp", "logistic-volumes"}
    assert settings_of(units["scan.0.ctp.s1"], MODELS) == ["admission", "postprocedural"]
    assert settings_of(units["admission.0.fusion.s1"], MODELS) == ["admission"]
    only = {"admission": ["fusion"], "postprocedural": ["ctp"]}
    assert settings_of(plan_units(FOLDS, only, [1])["scan.0.ctp.s1"], only) == ["postprocedural"]


def test_late_fusion_is_no_run():
    assert not any("late" in name for name in plan_units(FOLDS, MODELS, [1]))


def test_some_run_with_the_first_seed_alone():
    units = plan_units(FOLDS, MODELS, [5, 6], first_seed_only=["fusion"])
    assert {unit.seed for unit in units.values() if unit.model == "fusion"} == {5}
    assert {unit.seed for unit in units.values() if unit.model == "logistic-both"} == {5}
    assert {unit.seed for unit in units.values() if unit.model == "ctp"} == {5, 6}


def test_unknown_model_is_refused():
    with pytest.raises(KeyError, match="fussion"):
        plan_units(FOLDS, {"admission": ["fussion"]}, [1])
