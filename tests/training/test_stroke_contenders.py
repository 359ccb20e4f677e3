"""Every model of the stroke study, by name."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from lib.inputs.clinical import ADMISSION, POSTPROCEDURAL
from lib.stroke.train import (
    CONTENDERS,
    QUIRKS,
    RELEASED,
    STRENGTHS,
    VOLUMES,
    Recipe,
    builder,
    columns,
    late_fusion,
    logistic,
)

SMALL = Recipe(widths=(2, 2, 2, 2), channels=4, heads=2)
NETWORKS = [name for name, contender in CONTENDERS.items() if contender.kind == "network"]


def built(name, setting="postprocedural", recipe=SMALL, variant="described"):
    build, recipe, gapless = builder(name, setting, [16, 32, 16], 3, recipe, variant)
    return build(), recipe, gapless


def test_habits_by_name():
    assert built("fusion")[1].quirks == ()
    assert set(RELEASED) < set(QUIRKS)
    for quirk in QUIRKS:
        assert built(f"fusion+{quirk}")[1].quirks == (quirk,)
    for name in NETWORKS:
        contender = CONTENDERS[name]
        assert set(built(name, variant="released")[1].quirks) == {*RELEASED, *contender.quirks}
    assert set(built("fusion-released")[1].quirks) == set(RELEASED)


def test_released_knows_no_mask_and_has_positions_nobody_learns():
    for name, variant, gapless in (
        ("fusion", "described", False),
        ("fusion+frozen_positions", "described", False),
        ("fusion-released", "described", True),
        ("ctp", "released", True),
    ):
        model, _, filled = built(name, variant=variant)
        assert filled == gapless
        assert model.variant == ("released" if gapless else "described")
        learnt = {key for key, _ in model.named_parameters() if "positions" in key}
        assert bool(learnt) == (name == "fusion")


@pytest.mark.parametrize("name", NETWORKS)
def test_network_is_of_the_setting_the_scan_and_the_recipe(name):
    for setting, variables in (("admission", ADMISSION), ("postprocedural", POSTPROCEDURAL)):
        model, _, _ = built(name, setting)
        assert (model.shape, model.frames, model.width) == ((16, 32, 16), 3, 2 * 4)
        assert model.fusion == CONTENDERS[name].fusion
        assert (model.fusion != "imaging") == CONTENDERS[name].clinical
        assert (model.fusion != "clinical") == CONTENDERS[name].series
        if CONTENDERS[name].clinical:
            assert len(model.tokens) == len(variables)
            assert (3 in model.tokens.categories) == (setting == "postprocedural")  # mTICI has three levels
    assert {part.p for part in model.head if hasattr(part, "p")} == {0.2}


def test_frames_at_once_changes_memory_not_weights():
    assert built("ctp")[0].encoder.frames_at_once is None
    assert (
        built("ctp", recipe=Recipe(**SMALL.__dict__ | {"frames_at_once": 2}))[0].encoder.frames_at_once == 2
    )


def test_columns_of_a_logistic_regression():
    assert columns("logistic-clinical", "admission") == list(ADMISSION)
    assert columns("logistic-volumes", "scan") == list(VOLUMES)
    assert columns("logistic-both", "postprocedural") == [*POSTPROCEDURAL, *VOLUMES]


def people(n: int, effect: float, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"age": random.normal(70, 10, n), "nihss": random.normal(10, 5, n)})
    risk = expit(effect * (table["age"] - 70) / 10)
    return table, (random.uniform(size=n) < risk).astype(int)


def test_logistic_finds_what_was_planted_and_its_null_is_not():
    for effect, low, high in ((2.0, 0.8, 1.0), (0.0, 0.4, 0.6)):
        model = logistic(*people(120, effect), seed=1)
        table, label = people(600, effect, seed=9)
        assert low < roc_auc_score(label, model.decision_function(table)) < high


def test_logistic_is_a_logistic_regression_of_standardised_columns():
    """Units do not matter, and its strength of shrinking is one of those offered."""
    table, label = people(120, 1.0)
    model = logistic(table, label, seed=1)
    (strength,) = model[-1].C_
    assert np.isclose(STRENGTHS, strength).any()
    plain = LogisticRegression(C=strength, max_iter=1000)
    scaled = (table - table.mean()) / table.std(ddof=0)
    plain.fit(scaled.to_numpy(), label)
    np.testing.assert_allclose(
        model.decision_function(table), plain.decision_function(scaled.to_numpy()), atol=1e-3
    )
    other = logistic(table * 1000 + 7, label, seed=1)
    np.testing.assert_allclose(
        other.decision_function(table * 1000 + 7), model.decision_function(table), atol=1e-3
    )


def test_logistic_without_columns_or_outcomes_is_refused():
    table, label = people(30, 1.0)
    with pytest.raises(ValueError, match="there are 0 variables"):
        logistic(table[[]], label, seed=1)
    few = pd.Series(0, label.index)
    few.iloc[0] = 1
    with pytest.raises(ValueError, match="1 patients with an unfavourable outcome, 29 without"):
        logistic(table, few, seed=1)
    with pytest.raises(ValueError, match="0 patients with an unfavourable outcome"):
        logistic(table, 0 * label, seed=1)
    few.iloc[1] = 1  # two folds within
    assert np.isfinite(logistic(table, few, seed=1).decision_function(table)).all()


# late fusion


def predictions(settings=("admission", "postprocedural"), patients="abc", seeds=(1, 2)) -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        {"setting": setting, "model": model, "seed": seed, "fold": "0", "patient": patient}
        for setting in settings
        for model in ("ctp", "clinical-branch", "fusion")
        for seed in seeds
        for patient in patients
    ]
    table = pd.DataFrame(rows).assign(score=random.normal(size=len(rows)))
    return table.assign(probability=expit(table["score"])).sample(frac=1, random_state=0)


def test_late_fusion_is_the_mean_probability_of_the_same_patient():
    table = predictions()
    late = late_fusion(table)
    assert len(late) == 2 * 2 * 3
    assert set(late["model"]) == {"late-fusion"}
    for row in late.itertuples():
        own = table[
            (
                table[["setting", "seed", "fold", "patient"]]
                == [row.setting, row.seed, row.fold, row.patient]
            ).all(axis=1)
        ].set_index("model")["probability"]
        assert row.probability == pytest.approx((own["ctp"] + own["clinical-branch"]) / 2)
    np.testing.assert_allclose(expit(late["score"]), late["probability"])


def test_late_fusion_of_certainties_has_a_finite_score():
    late = late_fusion(predictions().assign(probability=1.0))
    assert np.isfinite(late["score"]).all()
    assert (late["score"] > 30).all()
    assert (late_fusion(predictions().assign(probability=0.0))["score"] < -30).all()


def test_late_fusion_is_of_the_settings_that_have_both():
    table = predictions()
    alone = table[(table["setting"] == "admission") | (table["model"] != "ctp")]
    assert set(late_fusion(alone)["setting"]) == {"admission"}
    assert late_fusion(table[table["model"] == "fusion"]).empty


@pytest.mark.parametrize("column", ["patient", "seed"])
def test_late_fusion_of_unequal_patients_is_refused(column):
    table = predictions()
    last = table[column].max()
    for model in ("ctp", "clinical-branch"):
        odd = table[(table["model"] != model) | (table[column] != last)]
        with pytest.raises(ValueError, match="of the same patients, seeds and folds"):
            late_fusion(odd)


@pytest.mark.parametrize("bf16", [False, True])
def test_precision_of_the_encoder_is_the_recipe_s(bf16):
    build, _, _ = builder("fusion", "admission", (16, 16, 16), 2, Recipe(widths=(2, 2, 2, 2), bf16=bf16))
    assert build().encoder.bf16 is bf16
