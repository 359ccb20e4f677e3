"""Training on survival: a planted signal is found, quirks do what they say, and nothing leaks."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from lib.crossfusion.bags import TileFeatures
from lib.crossfusion.train import (
    CONTENDERS,
    QUIRKS,
    Case,
    Recipe,
    Standardised,
    builder,
    c_index,
    fit,
    fit_bins,
    scores,
    survival_at,
    weights_of,
)
from lib.models.attention import Attention
from lib.statistics.concordance import harrell

DIM = 6
SMALL = Recipe(epochs=4, learning_rate=5e-3, accumulate=2, width=16, heads=2)


def cohort(n: int, seed: int = 0, effect: float = 3.0) -> list[Case]:
    random = np.random.default_rng(seed)
    cases = []
    for i in range(n):
        hidden = random.normal()
        bag = {
            scale: TileFeatures(
                (random.normal(size=(k, DIM)) + hidden * np.eye(DIM)[0]).astype(np.float32), None
            )
            for scale, k in ((5, 1), (10, 3), (20, 8))
        }
        death, end = random.exponential(20 * np.exp(-effect * hidden / 2)), random.uniform(5, 60)
        cases.append(Case(f"S{i}", f"P{i}", partial(dict, bag), min(death, end), int(death <= end)))
    return cases


def changed(case: Case, function) -> Case:
    """The same case with other features."""
    bag = {scale: TileFeatures(function(tiles.features), None) for scale, tiles in case.bag.items()}
    return case._replace(read=partial(dict, bag))


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return cohort(90)


def trained(cases, name="mean-pool", recipe=SMALL, seed=1, **options):
    build, recipe = builder(name, DIM, recipe)
    return fit(build, cases[:60], cases[60:], recipe, seed=seed, device="cpu", **options)


def test_planted_signal_is_found(cases):
    result = trained(cases)
    risk, survival = scores(result.model, cases[60:])
    assert c_index(cases[60:], risk) > 0.7
    assert survival.shape == (30, 4)
    assert (np.diff(survival, axis=1) <= 0).all()
    np.testing.assert_allclose(risk, -survival.sum(1))


@pytest.mark.parametrize("name", [name for name in CONTENDERS if "+" not in name])
def test_every_contender_trains_and_scores(cases, name):
    # slide of one tile a scale, and TransMIL's landmarks, are met too
    result = trained(cases, name, Recipe(epochs=1, width=16, heads=2, accumulate=8))
    risk, _ = scores(result.model, cases[60:])
    assert np.isfinite(risk).all()
    assert list(result.history.columns)[:2] == ["epoch", "loss"]
    assert result.history["chosen"].sum() == 1


def test_equal_seeds_give_equal_risks_and_others_do_not(cases):
    first, again, other = (scores(trained(cases, seed=seed).model, cases[60:])[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_held_out_patients_change_nothing_but_the_history(cases):
    flipped = [c._replace(time=100 - c.time, event=1) for c in cases[60:]]
    build, recipe = builder("mean-pool", DIM, SMALL)
    one = fit(build, cases[:60], cases[60:], recipe, seed=1, device="cpu")
    two = fit(build, cases[:60], flipped, recipe, seed=1, device="cpu")
    np.testing.assert_array_equal(one.edges, two.edges)
    np.testing.assert_array_equal(scores(one.model, cases)[0], scores(two.model, cases)[0])
    assert not one.history["held_out_c_index"].equals(two.history["held_out_c_index"])


def test_bins_of_the_whole_cohort_are_a_quirk(cases):
    everybody = fit_bins([c.time for c in cases], [c.event for c in cases], 4)
    np.testing.assert_array_equal(trained(cases, recipe=SMALL.with_quirks("cohort_bins")).edges, everybody)
    assert not np.array_equal(trained(cases).edges, everybody)


def test_best_epoch_is_a_quirk_that_looks_at_the_held_out(cases):
    result = trained(cases, recipe=SMALL.with_quirks("best_epoch"))
    best = result.history["held_out_c_index"].idxmax()
    assert result.history["chosen"].tolist() == [i == best for i in range(4)]
    risk, _ = scores(result.model, cases[60:])
    assert c_index(cases[60:], risk) == pytest.approx(result.history["held_out_c_index"].max())
    assert trained(cases).history["chosen"].tolist() == [False, False, False, True]


def test_patients_set_aside_choose_the_epoch(cases):
    build, recipe = builder("mean-pool", DIM, SMALL)
    result = fit(build, cases[:45], cases[60:], recipe, aside=cases[45:60], seed=1, device="cpu")
    best = result.history["chosen_c_index"].idxmax()
    assert result.history["chosen"].idxmax() == best
    risk, _ = scores(result.model, cases[45:60])
    assert c_index(cases[45:60], risk) == pytest.approx(result.history["chosen_c_index"].max())


def test_rate_falls_to_a_tenth_or_as_released_to_zero(cases):
    def rates(recipe):
        from lib.crossfusion.train import Survival

        loop = Survival(builder("mean-pool", DIM, recipe)[0](), recipe, {})
        adam, schedule, counts = loop.descent()
        assert counts == "epoch"
        seen = []
        for _ in range(recipe.epochs + 1):
            seen.append(adam.param_groups[0]["lr"])
            adam.step()
            schedule.step()
        return seen

    recipe = Recipe(epochs=20, learning_rate=1e-4)
    assert rates(recipe)[20] == pytest.approx(1e-5)
    released = rates(recipe.with_quirks("rate_to_zero"))
    # shared/specs/crossfusion.md, section 8
    assert released[5] == pytest.approx(5.0e-5)
    assert released[9] == pytest.approx(2.45e-6, rel=0.01)
    assert released[10] == pytest.approx(0, abs=1e-12)
    assert released[20] == pytest.approx(1e-4)


def test_dropout_in_evaluation_makes_scores_random(cases):
    recipe = Recipe(epochs=1, width=16, heads=2)
    for quirks, random in (((), False), (("dropout_in_evaluation",), True)):
        build, _ = builder("crossfusion", DIM, recipe.with_quirks(*quirks))
        torch.manual_seed(0)
        model = build()
        first, again = scores(model, cases[:5])[0], scores(model, cases[:5])[0]
        assert np.array_equal(first, again) != random


def test_habit_by_itself_changes_nothing_else():
    """The released attention dropout comes with the released model; left on, it is that of the described one."""
    recipe = Recipe(width=16, heads=2)
    kinds = {}
    for name in ("crossfusion", "crossfusion+dropout_in_evaluation", "crossfusion-released"):
        model = builder(name, DIM, recipe)[0]()
        found = {m.dropout_of for m in model.modules() if isinstance(m, Attention) and m.dropout}
        kinds[name] = found
    assert kinds["crossfusion"] == kinds["crossfusion+dropout_in_evaluation"] == {"keys"}
    assert kinds["crossfusion-released"] == {"weights"}


def test_slides_as_cases_are_judged_each_for_itself(cases):
    two = [c._replace(name=f"{c.name}-{k}") for c in cases[60:] for k in (1, 2)]
    build, recipe = builder("mean-pool", DIM, SMALL.with_quirks("slide_unit", "best_epoch"))
    history = fit(build, cases[:60], two, recipe, seed=1, device="cpu").history
    model = trained(cases, recipe=SMALL.with_quirks("best_epoch")).history
    assert history["loss"].tolist() == model["loss"].tolist()
    # each patient twice: pairs of a patient with itself are no pairs, so the index is that of the patients
    assert history["held_out_c_index"].tolist() == pytest.approx(model["held_out_c_index"].tolist())


def test_released_has_every_quirk():
    assert set(builder("crossfusion-released", DIM, Recipe())[1].quirks) == set(QUIRKS)
    assert set(builder("amil", DIM, Recipe(), "released")[1].quirks) == set(QUIRKS)
    assert builder("crossfusion", DIM, Recipe())[1].quirks == ()
    for quirk in QUIRKS:
        assert builder(f"crossfusion+{quirk}", DIM, Recipe())[1].quirks == (quirk,)


def test_c_index_is_of_patients_and_equals_harrell(cases):
    risk = np.random.default_rng(0).normal(size=90)
    time, event = [c.time for c in cases], [c.event for c in cases]
    assert c_index(cases, risk) == pytest.approx(harrell(time, event, risk))
    # two slides of a patient count once, with their mean risk
    twice = [*cases, cases[0]._replace(name="second")]
    halves = np.r_[risk[0] - 1, risk[1:], risk[0] + 1]
    assert c_index(twice, halves) == pytest.approx(harrell(time, event, risk))
    assert np.isnan(c_index([c._replace(event=0) for c in cases], risk))


def test_sampling_weights_make_every_kind_equally_likely():
    bins, event = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 1, 0, 0, 0, 1])
    table = pd.DataFrame({"kind": 2 * bins + event, "w": weights_of(bins, event)})
    assert table.groupby("kind")["w"].sum().tolist() == pytest.approx([1, 1, 1, 1])


def test_survival_is_read_off_between_edges():
    survival, edges = np.array([[0.8, 0.4]]), np.array([2.0, 10.0, 20.0])
    found = survival_at(survival, edges, [0, 5, 10, 15, 20, 99])
    np.testing.assert_allclose(found, [[1, 0.9, 0.8, 0.6, 0.4, 0.4]])


def test_standardised_features_have_no_unit(cases):
    recipe = Recipe(epochs=2, width=16, heads=2, standardise=True)
    scaled = [changed(c, lambda x: x * 1000 + 5) for c in cases]
    risk = scores(trained(cases, recipe=recipe).model, cases[60:])[0]
    other = scores(trained(scaled, recipe=recipe).model, scaled[60:])[0]
    np.testing.assert_allclose(risk, other, atol=1e-3)
    model = Standardised(torch.nn.Identity(), DIM).fit(cases)
    tiles = np.concatenate([c.bag[20].features for c in cases])
    np.testing.assert_allclose(model.mean[2].numpy(), tiles.mean(0), rtol=1e-4)


def test_loss_that_is_not_finite_is_refused(cases):
    broken = [changed(c, lambda x: x * np.nan) for c in cases]
    with pytest.raises(ValueError, match="loss is not finite"):
        trained(broken)


def test_bf16_moves_logits_a_little(cases):
    found = []
    for bf16 in (False, True):
        build, _ = builder("crossfusion", DIM, Recipe(width=16, heads=2, bf16=bf16))
        torch.manual_seed(0)
        found.append(scores(build(), cases[:5])[0])
    assert not np.array_equal(*found)
    np.testing.assert_allclose(*found, atol=0.05)
