import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter

from benchmarks._controls import Held, asked_again, exchanged, noised, permuted, planted, predictions, tuned
from benchmarks.fusion_controls import c_indices
from benchmarks.fusion_penalty import by_way
from lib.fusion.params import FusionParams
from lib.fusion.tokens import Inputs, inner_folds
from lib.fusion.train import Member, fit, settings_of
from lib.training.folds import folds_of
from lib.training.runs import Run

SIZES = {"clinic": 3, "protein_kinases": 6, "cytokines": 6, "mutations": 4}


def real(n=400, seed=1) -> Inputs:
    random = np.random.default_rng(seed)
    columns = {name: random.normal(size=(n, k)) for name, k in SIZES.items()}
    for name in ("protein_kinases", "cytokines"):  # genes of a group go together
        columns[name] += 2 * random.normal(size=(n, 1))
    columns["clinic"][:, 1] = np.where(random.random(n) < 0.5, 1.0, -1.0)
    columns = {name: torch.tensor(values, dtype=torch.float32) for name, values in columns.items()}
    names, zeros = [f"p{number:03d}" for number in range(n)], torch.zeros(n)
    return Inputs(names, columns, torch.ones(n, 4) > 0, zeros, zeros, zeros, ("age", "female", "stage"))


def cohort(inputs: Inputs, kind="additive", strength=1.5, seed=3) -> pd.DataFrame:
    table, _ = planted(inputs, kind, strength, seed)
    return table.assign(fold=[str(number % 3) for number in range(len(table))])


def test_dealt_outcomes_stay_in_their_fold_and_go_together():
    table = cohort(real())
    dealt = permuted(table, 1)
    assert (dealt["time"] != table["time"]).mean() > 0.9
    for fold, rows in table.groupby("fold"):
        pairs = [
            sorted(map(tuple, part[["time", "event"]].to_numpy()))
            for part in (rows, dealt[dealt["fold"] == fold])
        ]
        assert pairs[0] == pairs[1]
    pd.testing.assert_frame_equal(dealt, permuted(table, 1))
    assert not dealt.equals(permuted(table, 2))


def test_an_exchanged_modality_keeps_its_rows_and_training_patients_have_theirs():
    inputs = real()
    fold = folds_of(cohort(inputs))[0]
    held = np.isin(inputs.patients, fold.test)
    other = exchanged(inputs, fold, ["cytokines"], 1)
    for name, values in inputs.columns.items():
        assert torch.equal(values, other.columns[name]) == (name != "cytokines")
    one, two = (each.columns["cytokines"][torch.tensor(held)] for each in (inputs, other))
    assert torch.equal(one.sort(0).values, two.sort(0).values)
    moved = (other.columns["cytokines"] != inputs.columns["cytokines"]).all(1).numpy()
    assert moved[held].mean() > 0.9
    assert not moved[~held].any()


def test_noise_replaces_one_modality_alone():
    inputs = real()
    other = noised(inputs, ["mutations"], 1)
    same = {name: torch.equal(values, other.columns[name]) for name, values in inputs.columns.items()}
    assert same == {name: name != "mutations" for name in SIZES}
    assert abs(other.columns["mutations"].mean()) < 0.1
    assert not noised(inputs._replace(offset=torch.ones(400)), ["clinic"], 1).offset.any()


@pytest.mark.parametrize("kind", ["additive", "choice"])
def test_planted_effects_are_as_large_as_said(kind):
    inputs = real(4000)
    table, log_hazard = planted(inputs, kind, 0.8, 5)
    assert log_hazard.std() == pytest.approx(0.8)
    assert table["event"].mean() == pytest.approx(0.5, abs=0.01)
    fitted = CoxPHFitter().fit(table[["time", "event"]].assign(x=log_hazard), "time", "event")
    assert fitted.params_["x"] == pytest.approx(1.0, abs=0.08)


def test_a_linear_model_can_have_the_additive_effect_and_half_of_the_choice():
    inputs = real(4000)
    columns = np.hstack([values.numpy() for values in inputs.columns.values()])
    shares = {}
    for kind in ("additive", "choice"):
        _, log_hazard = planted(inputs, kind, 1.0, 5)
        best = columns @ np.linalg.lstsq(columns, log_hazard, rcond=None)[0]
        shares[kind] = np.corrcoef(best, log_hazard)[0, 1] ** 2
    assert shares["additive"] > 0.99
    assert shares["choice"] == pytest.approx(0.5, abs=0.05)


HOW = FusionParams(width=8, trials=2, epochs=30, models=["concat", "ridge-all"], seeds=[1])


def held(table, inputs) -> Held:
    folds = folds_of(table)
    return Held(HOW, table, folds, {fold.name: inputs.of([*fold.train, *fold.test]) for fold in folds})


def test_a_planted_effect_is_found_and_is_gone_when_outcomes_are_dealt_anew():
    inputs = real()
    table = cohort(inputs)
    found = c_indices(table, predictions(held(table, inputs), ["concat", "ridge-all"]))
    assert min(found.values()) > 0.65
    dealt = permuted(table, 1)
    gone = c_indices(dealt, predictions(held(dealt, inputs), ["concat", "ridge-all"]))
    assert max(abs(value - 0.5) for value in gone.values()) < 0.08


def test_what_is_exchanged_is_lost_and_patients_who_come_twice_change_nobody_s_score():
    inputs = real()
    table, groups = cohort(inputs), ["protein_kinases", "cytokines"]
    fold = folds_of(table)[0]
    changed = {"clinic": exchanged(inputs, fold, ["clinic"], 1), "genes": exchanged(inputs, fold, groups, 1)}
    again, larger = asked_again(inputs, fold, changed)
    copies = larger.test[len(fold.test) :]
    outcomes = table.loc[[name.split("@")[0] for name in copies]].set_index(pd.Index(copies))
    for model in HOW.models:
        both = Held(HOW, pd.concat([table, outcomes]), [larger], {fold.name: again})
        scores = predictions(both, [model])
        asked = scores["patient"].str.split("@").str[1].fillna("")
        alone = predictions(Held(HOW, table, [fold], {fold.name: inputs}), [model])
        np.testing.assert_allclose(scores.loc[asked == "", "score"], alone["score"], rtol=1e-4, atol=1e-5)
        c = {name: c_indices(both.table, rows)[model] for name, rows in scores.groupby(asked)}
        assert min(c[""], c["clinic"]) > 0.65  # a planted sum of two groups of genes
        assert c["genes"] < 0.6


@pytest.mark.parametrize("model", ["concat", "spacrd+offset"])  # spacrd draws numbers of its own
def test_by_one_inner_fold_a_network_is_tuned_as_in_the_bench_and_by_more_on_their_mean(model, monkeypatch):
    inputs = real(100)
    data = held(cohort(inputs), inputs)
    run = Run("x", data.folds[1], model, 1)
    bench = fit(run, data)
    costs, tried = bench.tables["costs"].iloc[0], bench.tables["tuning"]
    assert costs["parameters"] > costs["of_head"] > 0
    assert [*tried.filter(list(Member._fields)).itertuples(index=False, name=None)] == [
        one[1:] for one in settings_of(2, 1)
    ]  # the same for every head
    assert (bench.scores["setting"] == "planted").all()
    found = tuned(run, data, (1, 3))
    pd.testing.assert_frame_equal(found[1][0], bench.scores.drop(columns="setting"))
    pd.testing.assert_frame_equal(found[1][1], tried)
    assert not np.allclose(found[3][1]["inner_c"], found[1][1]["inner_c"])
    monkeypatch.setattr("benchmarks._controls.inner_folds", lambda *how: inner_folds(*how)[:1] * 3)
    pd.testing.assert_frame_equal(tuned(run, data, (3,))[3][1], found[1][1])


def test_an_offset_moves_a_network_with_offset_and_no_other():
    inputs = real(120)
    table = cohort(inputs)
    moved = inputs._replace(offset=2 * inputs.columns["clinic"][:, 0])
    for model, same in (("mean", True), ("mean+offset", False)):
        one, other = (
            fit(Run("x", folds_of(table)[0], model, 1), held(table, some)).scores for some in (inputs, moved)
        )
        assert one.equals(other) == same


def test_each_way_to_choose_a_penalty_takes_its_own():
    order, likely, held_out = ([row] for row in ((0.6, 0.604, 0.5), (3.0, 1.0, 9.0), (0.1, 0.2, 0.3)))
    found = by_way(*map(np.array, (order, likely, held_out)))
    assert [found[way][0] for way in ("order", "likelihood", "near", "the best")] == [0.2, 0.3, 0.1, 0.3]
