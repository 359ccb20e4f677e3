import pandas as pd
import pytest

from lib.spacrd.params import Setting
from lib.spacrd.train import plan_units

COHORT = pd.DataFrame(
    {
        "section": ["A1", "A2", "B1", "C1"],
        "patient": ["A", "A", "B", "C"],
        "picture": ["A1.jpg", "A2.jpg", "B1.jpg", None],
    }
)
GENES = Setting(encoder="", genes=True)
BOTH = Setting(sections=["A1", "A2", "B1"], encoder="colour", genes=True)
MODELS = ["marker-smoothed", "linear-genes", "linear-image", "spacrd-genes", "spacrd"]


def models(units, setting):
    return sorted({unit.model for unit in units.values() if unit.setting == setting})


def test_every_fold_of_every_setting_has_its_contenders():
    units = plan_units({"genes": GENES, "both": BOTH}, COHORT, MODELS, [4, 5])
    assert models(units, "genes") == ["linear-genes", "marker-smoothed", "spacrd-genes"]
    assert models(units, "both") == sorted(MODELS)
    folds = {unit.fold.name: unit.fold for unit in units.values() if unit.setting == "genes"}
    assert sorted(folds) == ["A", "B", "C"]
    assert folds["A"].train == ("B1", "C1")
    assert folds["A"].test == ("A1", "A2")
    assert {unit.fold.name for unit in units.values() if unit.setting == "both"} == {"A", "B"}
    # genes: 3 folds x (2 once + 1 of two seeds); both: 2 folds x (3 once + 2 of two seeds)
    assert len(units) == 3 * (2 + 2) + 2 * (3 + 4)
    assert all(unit.name == name for name, unit in units.items())


def test_seeds_are_for_what_is_trained_by_epochs():
    units = plan_units({"both": BOTH}, COHORT, MODELS, [4, 5, 6], first_seed_only=["spacrd-genes"])
    seeds = {}
    for unit in units.values():
        seeds.setdefault(unit.model, set()).add(unit.seed)
    assert seeds == {
        "marker-smoothed": {4}, "linear-genes": {4}, "linear-image": {4}, "spacrd-genes": {4}, "spacrd": {4, 5, 6},
    }  # fmt: skip


def test_named_test_sections_make_one_fold():
    setting = Setting(sections=["A1", "A2", "B1"], test=["B1"], encoder="")
    (unit,) = plan_units({"x": setting}, COHORT, ["linear-genes"], [1]).values()
    assert unit.fold == ("transfer", ("A1", "A2"), ("B1",))
    assert unit.name == "x.transfer.linear-genes.s1"
    outside = Setting(sections=["A1", "B1"], test=["C1"], encoder="")
    (unit,) = plan_units({"x": outside}, COHORT, ["linear-genes"], [1]).values()
    assert unit.fold == ("transfer", ("A1", "B1"), ("C1",))


def test_a_patient_on_both_sides_is_refused():
    setting = Setting(test=["A2"], encoder="")
    with pytest.raises(ValueError, match="patient A is in training and in test"):
        plan_units({"x": setting}, COHORT, MODELS, [1])


def test_sections_that_are_not_there_are_named():
    with pytest.raises(
        ValueError, match=r"setting 'x': section Z9 is not in the cohort, which has A1, A2, B1, C1"
    ):
        plan_units({"x": Setting(sections=["A1", "Z9"], encoder="")}, COHORT, MODELS, [1])
    with pytest.raises(ValueError, match=r"section Z9 is not in the cohort"):
        plan_units({"x": Setting(test=["Z9"], encoder="")}, COHORT, MODELS, [1])


def test_an_encoder_needs_pictures():
    with pytest.raises(
        ValueError, match=r"setting 'x': section C1 has no picture, but the setting has an encoder"
    ):
        plan_units({"x": Setting()}, COHORT, MODELS, [1])
    assert plan_units({"x": GENES}, COHORT, MODELS, [1])


def test_nothing_left_to_train_on_is_refused():
    setting = Setting(sections=["A1", "A2"], test=["A1", "A2"], encoder="")
    with pytest.raises(ValueError, match="no section to train on"):
        plan_units({"x": setting}, COHORT, MODELS, [1])


def test_one_patient_alone_is_refused():
    with pytest.raises(ValueError, match="needs two patients"):
        plan_units({"x": Setting(sections=["A1", "A2"], encoder="")}, COHORT, MODELS, [1])
