"""Training on a yes-or-no outcome: a planted effect is found, nothing leaks, and a killed run goes on."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lib.stroke.train import Case, Cases, Outcome, Recipe, auc, builder, fit, logits, one_fall
from lib.training import loop as training_loop

SHAPE, FRAMES = (16, 16, 16), 2
SMALL = Recipe(
    epochs=3,
    batch=4,
    learning_rate=5e-3,
    schedule="one_fall",
    widths=(2, 2, 2, 2),
    channels=4,
    heads=2,
    dropout=0.1,
)


def cohort(n: int, seed: int = 0, image: float = 0.0, form: float = 0.0) -> list[Case]:
    """Half the patients unfavourable: the left half of the scan `image` darker, the first variable `form` higher."""
    random, found = np.random.default_rng(seed), []
    for i in range(n):
        label = i % 2
        series = 0.3 * random.normal(size=(FRAMES, *SHAPE)).astype(np.float32)
        series[:, :, 8:] -= image * (label - 0.5) + 0.2 * random.normal()
        continuous = random.uniform(0.3, 0.7, 3).astype(np.float32)
        continuous[0] += form * (label - 0.5)
        categorical = random.integers(0, 2, 4)
        found.append(
            Case(f"P{i}", partial(np.array, series), continuous, categorical, np.zeros(7, bool), label)
        )
    return found


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return cohort(40, image=1.0, form=0.5)


def trained(cases, name="fusion", recipe=SMALL, seed=1, train=28, **options):
    build, recipe, _ = builder(name, "admission", SHAPE, FRAMES, recipe)
    return fit(build, cases[:train], cases[train:], recipe, seed=seed, device="cpu", **options)


def same_weights(one, other) -> bool:
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# learning


@pytest.mark.parametrize("name", ["fusion", "ctp", "clinical-branch"])
def test_planted_effect_is_found_and_its_null_is_not(name):
    # channels 8: a token as narrow as 4 is mostly dead after its ReLU
    recipe = Recipe(**SMALL.__dict__ | {"epochs": 10, "channels": 8, "dropout": 0.0})
    image, form = (0.0 if name == "clinical-branch" else 1.0), (0.0 if name == "ctp" else 0.5)
    found = []
    for strength in (1, 0):
        people = cohort(140, 3, strength * image, strength * form)
        result = trained(people, name, recipe, train=40)
        found.append(auc(people[40:], logits(result.model, people[40:], 20)))
    assert found[0] > 0.85
    assert abs(found[1] - 0.5) < 0.15


def test_what_sees_one_side_does_not_find_the_effect_of_the_other():
    recipe = Recipe(**SMALL.__dict__ | {"epochs": 6, "channels": 8})
    for name, others in (("ctp", {"form": 0.5}), ("clinical-branch", {"image": 1.0})):
        people = cohort(140, 4, **others)
        result = trained(people, name, recipe, train=40)
        assert abs(auc(people[40:], logits(result.model, people[40:], 20)) - 0.5) < 0.15


def test_score_is_higher_for_the_unfavourable_and_does_not_depend_on_the_batch(cases):
    result = trained(cases, "ctp", Recipe(**SMALL.__dict__ | {"epochs": 8, "channels": 8, "dropout": 0.0}))
    score = logits(result.model, cases)
    assert score.dtype == np.float64
    label = np.array([case.label for case in cases])
    assert score[label == 1].mean() > score[label == 0].mean() + 1
    np.testing.assert_allclose(logits(result.model, cases, 7), score, atol=1e-5)
    np.testing.assert_allclose(logits(result.model, cases[::-1], 7)[::-1], score, atol=1e-5)


def test_clinical_branch_never_reads_a_series(cases):
    def never():
        raise AssertionError("read")

    blind = [case._replace(read=never) for case in cases]
    assert same_weights(
        trained(blind, "clinical-branch", Recipe(**SMALL.__dict__ | {"mirrored": True})),
        trained(cases, "clinical-branch"),
    )


def test_equal_seeds_give_equal_weights_and_others_do_not(cases):
    assert same_weights(trained(cases), trained(cases))
    assert not same_weights(trained(cases), trained(cases, seed=2))


def test_mirroring_is_of_training_only(cases):
    mirrored = Recipe(**SMALL.__dict__ | {"mirrored": True})
    one = trained(cases, recipe=mirrored)
    assert not same_weights(one, trained(cases))
    # the history's last line was reckoned on the scans as they are
    assert one.history["held_out_auc"].iloc[-1] == auc(cases[28:], logits(one.model, cases[28:], 4))


def test_missing_value_is_not_read(cases):
    model = trained(cases).model
    value = [case._replace(continuous=np.array([v, 0.5, 0.5], np.float32)) for case in cases for v in (0, 1)]
    known = logits(model, value, 8)
    gone = [case._replace(missing=np.arange(7) == 0) for case in value]
    hidden = logits(model, gone, 8)
    assert not np.allclose(known[::2], known[1::2])
    np.testing.assert_array_equal(hidden[::2], hidden[1::2])


# the loss, the schedule


def test_loss_is_cross_entropy_and_the_encoders_penalty(cases):
    build, recipe, _ = builder("fusion", "admission", SHAPE, FRAMES, SMALL)
    torch.manual_seed(0)
    model = build().eval()
    loss = Outcome(model, recipe, 28, cases[28:]).loss_of(next(iter(DataLoader(Cases(cases), 40))))
    score = logits(model, cases, 40)
    label = np.array([case.label for case in cases])
    plain = np.where(label, np.log1p(np.exp(-score)), np.log1p(np.exp(score))).mean()
    assert loss.item() == pytest.approx(plain + model.penalty().item(), abs=1e-6)
    assert model.penalty() > 0


def test_one_fall_rises_for_a_tenth_and_falls_to_nothing():
    rate = [one_fall(100)(step) for step in range(101)]
    np.testing.assert_allclose(rate[:10], np.arange(1, 11) / 10)
    assert rate[10] == 1
    assert rate[55] == pytest.approx(0.5)
    assert rate[100] == pytest.approx(0)
    assert (np.diff(rate[10:]) < 0).all()
    assert [one_fall(1)(step) for step in (0, 1)] == [1.0, 1.0]


@pytest.mark.parametrize("schedule", ["one_fall", "warm_restarts"])
def test_rate_counts_steps_of_the_whole_training(cases, schedule):
    recipe = Recipe(**SMALL.__dict__ | {"epochs": 16, "schedule": schedule, "learning_rate": 0.01})
    loop = Outcome(builder("clinical-branch", "admission", SHAPE, FRAMES, recipe)[0](), recipe, 30, [])
    adam, fall, counts = loop.descent()
    assert counts == "step"
    assert adam.param_groups[0]["eps"] == 1e-7
    seen = []
    for _ in range(16 * 8):  # 30 patients in batches of 4
        seen.append(adam.param_groups[0]["lr"])
        adam.step()
        fall.step()
    if schedule == "warm_restarts":  # 16 cycles of 8 steps, each three quarters of the one before
        np.testing.assert_allclose(seen[::8], 0.01 * 0.75 ** np.arange(16))
        assert seen[4] == pytest.approx(0.01 * (1 + math.cos(math.pi / 2)) / 2)
    else:
        assert max(seen) == pytest.approx(0.01)
        assert seen[-1] < 1e-5


# held-out patients


def changed(cases) -> list[Case]:
    """The held-out patients with other outcomes, other scans, other variables."""
    return cases[:28] + [
        c._replace(
            label=1 - c.label, read=lambda c=c: 1 - c.read(), continuous=1 - c.continuous, missing=~c.missing
        )
        for c in cases[28:]
    ]


@pytest.mark.parametrize("name", ["fusion", "fusion-released", "ctp"])
def test_held_out_patients_change_nothing_but_the_history(cases, name):
    other = changed(cases)
    if name == "fusion-released":
        other = [case._replace(missing=np.zeros(7, bool)) for case in other]
    one, two = trained(cases, name), trained(other, name)
    assert same_weights(one, two)
    assert one.history["loss"].equals(two.history["loss"])
    assert not one.history["held_out_auc"].equals(two.history["held_out_auc"])


def test_last_epoch_counts_unless_the_held_out_choose_it(cases):
    recipe = Recipe(**SMALL.__dict__ | {"epochs": 6, "learning_rate": 0.02})
    # whom the model gets wrong ever more as it learns: their best epoch is an early one
    odd = cases[:28] + [case._replace(label=1 - case.label) for case in cases[28:]]
    plain = trained(odd, recipe=recipe)
    assert plain.history["chosen"].tolist() == 5 * [False] + [True]
    chosen = trained(odd, recipe=recipe.with_quirks("epoch_by_test"))
    best = int(chosen.history["held_out_auc"].idxmax())
    assert best < 5
    assert chosen.history["chosen"].tolist() == [epoch == best for epoch in range(6)]
    assert auc(odd[28:], logits(chosen.model, odd[28:], 4)) == chosen.history["held_out_auc"].max()
    assert chosen.history["loss"].equals(plain.history["loss"]), (
        "training is the same, only the choice is not"
    )
    # the weights are those of a training that ends there
    assert same_weights(chosen, trained(odd, recipe=recipe, stop_after=best + 1))
    assert not same_weights(chosen, plain)


def test_stopped_training_is_the_beginning_of_the_whole(cases):
    whole, part = trained(cases), trained(cases, stop_after=2)
    assert part.history[["loss", "held_out_auc"]].equals(whole.history[["loss", "held_out_auc"]][:2])
    assert part.history["chosen"].tolist() == [False, True]


# going on


class Killed(Exception):
    """Stands for kill -9 at the end of an epoch."""


def killed(cases, path, after: int, monkeypatch, name, recipe, **options) -> None:
    keeper = training_loop._keeper

    def mortal(*arguments):
        keep = keeper(*arguments)

        def kept(loop):
            keep(loop)
            if len(loop.history) == after:
                raise Killed

        return kept

    with monkeypatch.context() as patch:
        patch.setattr(training_loop, "_keeper", mortal)
        with pytest.raises(Killed):
            trained(cases, name, recipe, checkpoint=path, key="k", every_s=0, **options)
    assert path.is_file()


@pytest.mark.parametrize(
    ("name", "schedule", "mirrored", "quirks"),
    [
        ("fusion", "one_fall", False, ()),
        ("fusion", "warm_restarts", True, ()),
        ("fusion-released", "one_fall", True, ()),
        ("fusion", "one_fall", True, ("epoch_by_test",)),
        ("ctp", "warm_restarts", True, ()),
        ("clinical-branch", "warm_restarts", True, ()),
    ],
)
@pytest.mark.parametrize("after", [1, 3])
def test_killed_run_ends_as_an_undisturbed_one(
    cases, name, schedule, mirrored, quirks, after, tmp_path, monkeypatch
):
    recipe = Recipe(**SMALL.__dict__ | {"epochs": 4, "schedule": schedule, "mirrored": mirrored})
    recipe = recipe.with_quirks(*quirks)
    path = tmp_path / "run.checkpoint.safetensors"
    whole = trained(cases, name, recipe)
    killed(cases, path, after, monkeypatch, name, recipe)
    torch.manual_seed(99)  # another process, other random numbers
    again = trained(cases, name, recipe, checkpoint=path, key="k", every_s=0)
    assert same_weights(whole, again)
    assert whole.history.equals(again.history)
    assert list(tmp_path.iterdir()) == []


def test_killed_run_that_learnt_longer_than_now_wanted_begins_again(cases, tmp_path, monkeypatch):
    """Inner folds may choose another epoch the second time, where a GPU does not repeat to the last bit."""
    path = tmp_path / "run.checkpoint.safetensors"
    for wanted in (1, 2):
        killed(cases, path, 2, monkeypatch, "clinical-branch", SMALL)
        part = trained(cases, "clinical-branch", SMALL, stop_after=wanted, checkpoint=path, key="k")
        assert len(part.history) == wanted
        assert same_weights(part, trained(cases, "clinical-branch", SMALL, stop_after=wanted))


# refusals


def test_one_outcome_alone_is_refused(cases):
    with pytest.raises(ValueError, match="all 14 training patients had the same outcome"):
        trained(cases[::2] + cases, train=14)


def test_loss_that_is_not_finite_is_refused(cases):
    broken = [case._replace(read=lambda c=case: c.read() * np.nan) for case in cases]
    with pytest.raises(ValueError, match="loss is not finite"):
        trained(broken)


def test_auc_of_one_outcome_is_not_a_number(cases):
    assert np.isnan(auc(cases[::2], np.arange(20)))
    assert auc(cases[:4], np.array([1, 2, 1.5, 1.2])) == 0.75
    # a training whose held-out patients are all of one outcome ends at its last epoch, whoever chooses
    alone = cases[:28] + cases[28::2]
    history = trained(alone, "clinical-branch", SMALL.with_quirks("epoch_by_test")).history
    assert history["held_out_auc"].isna().all()
    assert history["chosen"].tolist() == [False, False, True]
