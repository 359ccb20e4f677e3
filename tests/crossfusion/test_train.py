"""Training on survival: a planted signal is found, habits do what they say, nothing leaks, and runs are remembered."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from lib.crossfusion import train as training
from lib.crossfusion.bags import TileFeatures, read_bag
from lib.crossfusion.params import CONTENDERS, Contender, CrossFusionParams, Training
from lib.crossfusion.train import (
    Case,
    Data,
    Standardised,
    Survival,
    build,
    c_index,
    fit,
    load_model,
    received,
    scores,
    train_model,
)
from lib.features.feature_files import write_features
from lib.models.attention import Attention
from lib.statistics.concordance import harrell
from lib.training import runs
from lib.training.discrete_time import fit_bins
from lib.training.folds import Fold
from lib.training.runs import Checkpoint, Run

DIM = 6
SMALL = Training(epochs=4, learning_rate=5e-3, accumulate=2, width=16, heads=2, standardise=False)


def small(**changes) -> Training:
    return SMALL.model_copy(update=changes)


def patients(n: int, seed: int = 0, effect: float = 3.0) -> list[Case]:
    random = np.random.default_rng(seed)
    cases = []
    for i in range(n):
        hidden, bag = random.normal(), {}
        for scale, k in ((5, 1), (10, 3), (20, 8)):
            tiles = random.normal(size=(k, DIM)) + hidden * np.eye(DIM)[0]
            bag[scale] = TileFeatures(tiles.astype(np.float32), None)
        death, end = random.exponential(20 * np.exp(-effect * hidden / 2)), random.uniform(5, 60)
        cases.append(Case(f"S{i}", f"P{i}", partial(dict, bag), min(death, end), int(death <= end)))
    return cases


def changed(case: Case, function) -> Case:
    """The same case with other features."""
    bag = {scale: TileFeatures(function(tiles.features), None) for scale, tiles in case.bag.items()}
    return case._replace(read=partial(dict, bag))


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return patients(90)


@pytest.fixture
def pool_with(monkeypatch):
    """Function: the name of a mean pool with habits of the released code, which trains in a moment."""

    def named(*habits: str) -> str:
        monkeypatch.setitem(CONTENDERS, "pool", Contender("MeanPool", habits=habits))
        return "pool"

    return named


def trained(cases, name="mean-pool", how=SMALL, seed=1, **options):
    return train_model(name, cases[:60], cases[60:], how, seed=seed, device="cpu", **options)


def test_planted_signal_is_found(cases):
    result = trained(cases)
    risk, survival = scores(result.model, cases[60:])
    assert c_index(cases[60:], risk) > 0.7
    assert survival.shape == (30, 4)
    assert (np.diff(survival, axis=1) <= 0).all()
    np.testing.assert_allclose(risk, -survival.sum(1))


@pytest.mark.parametrize("name", [name for name in CONTENDERS if "+" not in name])
def test_every_contender_trains_and_scores(cases, name):
    result = train_model(name, cases[:16], cases[60:70], small(epochs=1, accumulate=8), seed=1, device="cpu")
    risk, _ = scores(result.model, cases[60:70])
    assert np.isfinite(risk).all()
    assert result.history["chosen"].sum() == 1


def test_equal_seeds_give_equal_risks_and_others_do_not(cases):
    first, again, other = (scores(trained(cases, seed=seed).model, cases[60:])[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_held_out_patients_change_nothing_but_the_history(cases):
    one = trained(cases)
    two = trained([*cases[:60], *(c._replace(time=100 - c.time, event=1) for c in cases[60:])])
    np.testing.assert_array_equal(one.edges, two.edges)
    np.testing.assert_array_equal(scores(one.model, cases)[0], scores(two.model, cases)[0])
    assert not one.history["held_out_c_index"].equals(two.history["held_out_c_index"])


def test_bins_of_the_whole_cohort_are_a_habit(cases, pool_with):
    everybody = fit_bins([c.time for c in cases], [c.event for c in cases], 4)
    np.testing.assert_array_equal(trained(cases, pool_with("cohort_bins")).edges, everybody)
    assert not np.array_equal(trained(cases).edges, everybody)


def test_best_epoch_is_a_habit_that_looks_at_the_held_out(cases, pool_with):
    result = trained(cases, pool_with("best_epoch"), small(epochs=9))
    late = result.history["held_out_c_index"][5:]  # as released: not before
    assert result.history["chosen"].tolist() == [i == late.idxmax() for i in range(9)]
    risk, _ = scores(result.model, cases[60:])
    assert c_index(cases[60:], risk) == pytest.approx(late.max())
    assert trained(cases).history["chosen"].tolist() == [False, False, False, True]


def test_the_epoch_that_is_kept_is_best_by_the_number_that_is_drawn(cases):
    """Dropout in evaluation gives other scores each time: the released loop, too, scores the held out once an epoch."""
    some = [*cases[:8], *cases[60:]]
    how = small(epochs=8, accumulate=8)
    result = train_model("crossfusion-released", some[:8], some[8:], how, seed=1, device="cpu")
    late = result.history["held_out_c_index"][5:]
    assert result.history["chosen"].idxmax() == late.idxmax()


def test_patients_set_aside_choose_the_epoch(cases):
    aside = cases[45:60]
    result = train_model("mean-pool", cases[:45], cases[60:], SMALL, aside=aside, seed=1, device="cpu")
    assert result.history["chosen"].idxmax() == result.history["chosen_c_index"].idxmax()
    best = result.history["chosen_c_index"].max()
    assert c_index(aside, scores(result.model, aside)[0]) == pytest.approx(best)


def test_rate_falls_to_a_tenth_or_as_released_to_zero():
    def rates(habits):
        survival = Survival(build("mean-pool", DIM, SMALL), small(epochs=20, learning_rate=1e-4), habits, {})
        adam, schedule, counts = survival.descent()
        assert counts == "epoch"
        seen = []
        for _ in range(21):
            seen.append(adam.param_groups[0]["lr"])
            adam.step()
            schedule.step()
        return seen

    assert rates(())[20] == pytest.approx(1e-5)
    released = rates(("rate_to_zero",))
    np.testing.assert_allclose([released[5], released[9], released[20]], [5.0e-5, 2.45e-6, 1e-4], rtol=0.01)
    assert released[10] == pytest.approx(0, abs=1e-12)


def test_dropout_in_evaluation_makes_scores_random_and_changes_nothing_else(cases):
    """The released attention dropout comes with the released model; left on, it is that of the described one."""
    kinds = {}
    names = ("crossfusion", "crossfusion+dropout_in_evaluation", "crossfusion-released")
    for name, random in zip(names, (0, 1, 1), strict=True):
        torch.manual_seed(0)
        model = build(name, DIM, SMALL)
        first, again = scores(model, cases[:5])[0], scores(model, cases[:5])[0]
        assert np.array_equal(first, again) != random
        kinds[name] = {m.dropout_of for m in model.modules() if isinstance(m, Attention) and m.dropout}
    assert list(kinds.values()) == [{"keys"}, {"keys"}, {"weights"}]


def test_slides_as_cases_are_judged_each_for_itself(cases, pool_with):
    two = [c._replace(name=f"{c.name}-{k}") for c in cases[60:] for k in (1, 2)]
    by_slide = trained([*cases[:60], *two], pool_with("slide_unit", "best_epoch")).history
    by_patient = trained(cases, pool_with("best_epoch")).history
    assert by_slide["loss"].tolist() == by_patient["loss"].tolist()
    # each patient twice: pairs of a patient with itself are no pairs, so the index is that of the patients
    assert by_slide["held_out_c_index"].tolist() == pytest.approx(by_patient["held_out_c_index"].tolist())


def test_c_index_is_of_patients_and_equals_harrell(cases):
    risk = np.random.default_rng(0).normal(size=90)
    time, event = [c.time for c in cases], [c.event for c in cases]
    assert c_index(cases, risk) == pytest.approx(harrell(time, event, risk))
    # two slides of a patient count once, with their mean risk
    twice = [*cases, cases[0]._replace(name="second")]
    halves = np.r_[risk[0] - 1, risk[1:], risk[0] + 1]
    assert c_index(twice, halves) == pytest.approx(harrell(time, event, risk))
    assert np.isnan(c_index([c._replace(event=0) for c in cases], risk))


def test_standardised_features_have_no_unit(cases):
    how = small(epochs=2, standardise=True)
    scaled = [changed(c, lambda x: x * 1000 + 5) for c in cases]
    risk, other = (scores(trained(some, how=how).model, some[60:])[0] for some in (cases, scaled))
    np.testing.assert_allclose(risk, other, atol=1e-3)
    model = Standardised(torch.nn.Identity(), DIM).fit(cases)
    tiles = np.concatenate([c.bag[20].features for c in cases])
    np.testing.assert_allclose(model.mean[2].numpy(), tiles.mean(0), rtol=1e-4)


# ------------------------------------------------------------------------------- a training that is killed goes on


class Killed(Exception):
    """Stands for kill -9 after a checkpoint."""


@pytest.mark.parametrize("name", ["crossfusion", "crossfusion-released", "mean-pool"])
def test_killed_training_ends_as_an_undisturbed_one(cases, name, tmp_path, monkeypatch):
    # three cases a step: of eleven two are left over, whose gradients the released loop carries into the next epoch
    how, checkpoint = small(epochs=3, cap=4, accumulate=3), Checkpoint(tmp_path / "c", "key", 0)
    some = [*cases[:11], *cases[60:70]]
    whole = train_model(name, some[:11], some[11:], how, seed=3, device="cpu")

    def save(survival, *rest):
        saved(survival, *rest)
        if len(survival.history) == 2:
            raise Killed

    saved = runs.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_checkpoint", save)
        with pytest.raises(Killed):
            train_model(name, some[:11], some[11:], how, seed=3, device="cpu", checkpoint=checkpoint)
    torch.manual_seed(99)  # another process, other random numbers
    again = train_model(name, some[:11], some[11:], how, seed=3, device="cpu", checkpoint=checkpoint)
    for one, other in zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert whole.history.equals(again.history)
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------------- runs on disk


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """24 patients, the first with two slides; features of three scales."""
    folder, random = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    names = [f"P{i:02d}" for i in range(24)]
    slides = pd.DataFrame([("P00", "P00-0"), ("P00", "P00-1"), *((p, f"{p}-0") for p in names[1:])])
    slides.columns = ["patient", "slide"]
    for slide in slides["slide"]:
        for scale, steps in ((20, 4), (10, 2), (5, 1)):
            side = 256 * 20 // scale
            corners = np.stack(np.meshgrid(np.arange(steps), np.arange(steps)), -1).reshape(-1, 2) * side
            about = {"encoder": "test", "revision": "1", "um_per_px": 0.5, "crop_um": 128 * 20 / scale}
            about["counts"] = {"n_white": 0, "n_failed": 0, "scale": scale}
            path, features = folder / f"x{scale}" / f"{slide}.h5", random.normal(size=(steps**2, 5))
            write_features(path, features, corners + side / 2, **about)
    cohort = pd.DataFrame({"patient": names, "cancer": "a", "fold": ["0"] * 6 + ["1"] * 18})
    cohort["time_months"], cohort["event"] = random.uniform(1, 40, 24).round(1), [1, 1, 0] * 8
    return folder, cohort, slides


def data_of(place, **changes) -> Data:
    how = {"epochs": 2, "width": 16, "heads": 2, "standardise": False, "device": "cpu"}
    how["horizons"] = [6.0, 12.0]
    return Data(*place, CrossFusionParams(**how | changes))


def a_run(place, model="crossfusion", seed=1) -> Run:
    names = tuple(place[1]["patient"])
    return Run("a", Fold("0", names[6:], names[:6]), model, seed)


def test_what_a_run_reads_and_depends_on(place):
    one, data = a_run(place), data_of(place)
    assert len(data.files(one)) == 3 * 25
    assert all(path.is_file() for path in data.files(one))
    before = data.depends(one)
    assert data_of(place).depends(one) == before
    assert data_of(place, epochs=3).depends(one) != before
    folder, cohort, slides = place
    assert data_of((folder, cohort.assign(time_months=5.0), slides)).depends(one) != before


def test_held_out_patients_get_a_risk_and_survival(place, tmp_path):
    one, data = a_run(place), data_of(place)
    result = fit(one, data)
    assert result.scores["patient"].tolist() == list(one.fold.test)
    assert list(result.scores.columns) == ["patient", "score", "survival_6", "survival_12"]
    assert (result.scores["survival_6"] >= result.scores["survival_12"]).all()
    runs.write_weights(result.weights, tmp_path / "w.safetensors", result.about)
    model = load_model(tmp_path / "w.safetensors", "crossfusion", 5, data.params)
    np.testing.assert_allclose(scores(model, data.cases(one.fold.test))[0], result.scores["score"], atol=1e-6)
    seen = received(model, read_bag(place[0], "P03-0"))
    assert {scale: len(values) for scale, values in seen.items()} == {5: 1, 20: 16}
    assert seen[20].sum() == pytest.approx(1, abs=1e-5)


def test_slides_of_a_patient_are_one_bag_or_as_released_cases_of_their_own(place):
    data = data_of(place)
    (whole,) = data.cases(["P00"])
    assert whole.bag[20].features.shape == (32, 5)
    assert [case.name for case in data.cases(["P00"], by_slide=True)] == ["P00-0", "P00-1"]
    one = a_run(place, "crossfusion+slide_unit")
    assert fit(one, data).scores["patient"].tolist() == list(one.fold.test)


def test_tiles_are_read_when_wanted_and_kept_within_bounds(place, monkeypatch):
    """A few hundred real slides are more than a machine holds."""
    read = []
    monkeypatch.setattr(training, "read_bag", lambda *a: (read.append(a[1]), read_bag(*a))[1])
    cases = data_of(place).cases(["P01", "P02"])
    assert read == []
    for case in [*cases, *cases]:
        assert case.bag[20].features.shape == (16, 5)
    assert read == ["P01-0", "P02-0"], "kept for the next epoch"
    monkeypatch.setattr(training, "MEMORY", 1)
    (poor,) = data_of(place).cases(["P01"])
    del read[:]
    poor.read(), poor.read()
    assert len(read) == 2, "no room: read again"


def test_patients_without_slides_take_no_part_and_a_cancer_with_too_few_is_named(place):
    folder, cohort, slides = place
    settings, obstacles = data_of((folder, cohort, slides[slides["patient"] != "P07"])).settings()
    assert [fold.name for fold in settings["a"]] == ["0", "1"]
    assert all("P07" not in fold.train + fold.test for fold in settings["a"])
    assert obstacles == []
    never = cohort.assign(fold=cohort["fold"].where(cohort["patient"] != "P02"))
    for fold in data_of((folder, never, slides)).settings()[0]["a"]:
        assert "P02" in fold.train, "held out by nobody, it trains in every fold"
    settings, obstacles = data_of((folder, cohort, slides[:3])).settings()
    assert settings == {}
    assert obstacles[0].startswith("a: 2 of 24 patients have slides with features, 2 of them died")
