"""The released recipe against the authors' code: RustinS/CrossFusion at commit df5473d, run for these numbers.

Its train.py ran on a CPU with torch 2.13: `device="cuda"` and `.cuda()` taken out, `bfloat16=0`, no workers, its sampler
given a generator of its own (seed 7), every dropout 0. Its `train` returned the steps, epochs and c-indices below.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib.crossfusion import train as training
from lib.crossfusion.bags import TileFeatures
from lib.crossfusion.params import CONTENDERS, Contender, CrossFusionParams, Training
from lib.crossfusion.train import Case, build, train_model
from lib.models.attention import Attention, Hazards
from lib.training.discrete_time import survival_cross_entropy, survival_nll

WEIGHTS = Path(__file__).parent / "authors_weights.csv"
RECIPE = {"variant": "released", "epochs": 3, "learning_rate": 1e-3, "accumulate": 32}
RECIPE = Training(**RECIPE, width=16, heads=2, standardise=False)


def slides() -> list[Case]:
    """70 to train on and 20 held out, a death and a censoring in turn."""
    random, cases = np.random.default_rng(17), []
    for number in range(90):
        bag = {
            scale: TileFeatures(random.normal(size=(random.integers(*most), 4)).astype(np.float32), None)
            for scale, most in ((5, (1, 3)), (10, (2, 7)), (20, (6, 20)))
        }
        name = f"S{number:02d}"
        cases.append(Case(name, name, partial(dict, bag), 1 + 40 * random.random(), number % 2))
    return cases


def started(*a):
    """`build`, at weights from a formula, without dropout. Survival of the first model starts below the clamp."""
    model = build(*a)
    for part in model.modules():
        if isinstance(part, nn.Dropout | nn.Dropout2d):
            part.p = 0.0
        elif isinstance(part, Attention):
            part.dropout = 0.0
    state = {}
    for number, (name, tensor) in enumerate(sorted(model.state_dict().items())):
        values = 0.1 * np.random.default_rng([7, number]).normal(size=tuple(tensor.shape))
        if name.endswith("weight") and tensor.ndim == 1:
            values += 1
        state[name] = torch.tensor(values + ([6, 6, 6, 1] if name == "head.bias" else 0), dtype=torch.float32)
    model.load_state_dict(state)
    return model


@pytest.fixture
def counted(monkeypatch) -> list[int]:
    """Steps of Adam."""
    steps, step = [0], torch.optim.Adam.step

    def one(self, *a, **k):
        steps[0] += 1
        return step(self, *a, **k)

    monkeypatch.setattr(torch.optim.Adam, "step", one)
    return steps


def trained(monkeypatch, how=RECIPE):
    monkeypatch.setattr(training, "build", started)
    cases = slides()
    return train_model("crossfusion-released", cases[:70], cases[70:], how, seed=7, device="cpu")


@pytest.mark.parametrize(
    ("changes", "wave", "held_out"),
    [
        ({}, "wave", [0.6386138613861386, 0.6237623762376238, 0.6138613861386139]),
        (
            {"loss": "ce_surv", "attention_layers": 2},
            "wave_ce_two_layers",
            [0.6336633663366337, 0.5346534653465347, 0.5247524752475248],
        ),
    ],
    ids=["as in their train.sh", "ce_surv, two layers"],
)
def test_weights_after_three_epochs_are_the_authors(monkeypatch, counted, changes, wave, held_out):
    """First entry, norm and a sum with alternating signs of every tensor; a step moves an entry by up to 1e-3."""
    result = trained(monkeypatch, RECIPE.model_copy(update=changes))
    assert counted == [6]
    theirs = pd.read_csv(WEIGHTS, index_col="name").dropna(subset=wave)
    ours = {name: w.double().flatten().numpy() for name, w in result.model.state_dict().items()}
    assert sorted(ours) == sorted(theirs.index)
    for name, w in ours.items():
        found = w @ np.cos(np.arange(w.size)) / np.sqrt(w.size)
        assert found == pytest.approx(theirs.loc[name, wave], abs=1e-4), name
        if not changes:
            found = w[0], np.linalg.norm(w)
            assert found == pytest.approx(tuple(theirs.loc[name, ["first", "norm"]]), abs=1e-4), name
    # one pair of the first epoch differs by 2.6e-9: theirs takes less than 1e-8 for a tie, half a pair of 101
    np.testing.assert_allclose(result.history["held_out_c_index"], held_out, atol=0.501 / 101)
    np.testing.assert_allclose(result.history["held_out_c_index"][1:], held_out[1:], rtol=1e-12)


def test_steps_of_seventy_slides_in_ten_epochs(monkeypatch, counted):
    """Case crossfusion-steps. Sound: what is left over of an epoch makes a step of its own."""
    how, cases = RECIPE.model_copy(update={"epochs": 10}), slides()
    train_model("mean-pool", cases[:70], cases[70:], how, seed=7, device="cpu")
    assert counted == [20]
    sound = how.model_copy(update={"variant": "described"})
    train_model("mean-pool", cases[:70], cases[70:], sound, seed=7, device="cpu")
    assert counted == [20 + 30]


def test_gradients_that_never_make_a_step_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"70 training cases never fill `accumulate: 71`"):
        trained(monkeypatch, RECIPE.model_copy(update={"accumulate": 71}))


LONG = [0.5] * 5 + [0.6] + [0.55] * 25 + [0.9] * 9


@pytest.mark.parametrize(
    ("told", "kept", "epochs"),
    [
        ([0.9, 0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.4, 0.4, 0.4], 6, 10),
        (LONG, 5, 26),
        ([0.5] * 4 + [0.6] + [0.4] * 60, 5, 26),
        ([0.9] * 5, 4, 5),  # theirs saves nothing and reports 0; here the last is kept
    ],
)
def test_best_epoch_is_looked_for_as_released(monkeypatch, told, kept, epochs):
    """Case crossfusion-best-epoch."""
    monkeypatch.setitem(CONTENDERS, "pool", Contender("MeanPool", habits=("best_epoch",)))
    how = Training(epochs=len(told), width=8, standardise=False)
    history = judged(monkeypatch, "pool", how, told)
    assert len(history) == epochs
    assert history["epoch"][history["chosen"]].tolist() == [kept]


def judged(monkeypatch, name, how, told, aside=()):
    """History of a training whose c-indices are told."""
    heard, some = iter(told), slides()[:12]
    monkeypatch.setattr(training.Survival, "watched", lambda self: dict.fromkeys(self.cases, next(heard)))
    return train_model(name, some[:8], some[8:], how, aside=aside, seed=1, device="cpu").history


def test_warm_up_and_patience_are_parameters_of_nested_choice_too(monkeypatch):
    told, aside = [0.9, 0.5, 0.6, 0.55, 0.55, 0.7], slides()[20:24]
    how = Training(epochs=6, width=8, standardise=False)
    kept = []
    for changes in ({}, {"warmup_epochs": 1}, {"warmup_epochs": 1, "patience": 2}):
        history = judged(monkeypatch, "mean-pool", how.model_copy(update=changes), told, aside)
        kept.append((history["epoch"][history["chosen"]].item(), len(history)))
    assert kept == [(0, 6), (5, 6), (2, 5)]
    told = [0.5, 0.6, 0.4, 0.4, 0.4, 0.4]  # nobody chooses: the last is kept, and training never ends early
    history = judged(monkeypatch, "mean-pool", how.model_copy(update={"patience": 2}), told)
    assert (history["epoch"][history["chosen"]].item(), len(history)) == (5, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patience": 5, "models": ["crossfusion"]}, "nobody chooses an epoch"),
        ({"warmup_epochs": 7, "nested": True}, "lower than `epochs`"),
    ],
)
def test_warm_up_and_patience_that_can_do_nothing_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        CrossFusionParams(**changes)
    for choosing in ({"nested": True}, {"variant": "released"}, {"models": ["crossfusion+best_epoch"]}):
        CrossFusionParams(**{"models": ["crossfusion"], "patience": 5, "warmup_epochs": 2} | choosing)


SURE, DOUBTING = [17.0, 17.0, 17.0, -1.0], [0.3, -0.5, 1.2, -2.0]


@pytest.mark.parametrize(
    ("loss", "logits", "bin", "event", "value", "gradient"),
    [
        (survival_nll, SURE, 2, 0, 12.894476890563965, [0, 0, 0, 0]),
        (survival_nll, SURE, 3, 1, 17.43135643005371, [0, 0, 0, -0.7310585975646973]),
        (survival_nll, DOUBTING, 0, 1, 0.554355263710022, [-0.42555749, 0, 0, 0]),
        (survival_nll, DOUBTING, 2, 1, 1.59171462059021, [0.57444251, 0.37754068, -0.23147519, 0]),
        (survival_nll, DOUBTING, 3, 0, 2.334914445877075, [0.45955402, 0.30203256, 0.61481988, 0.09536234]),
        (survival_cross_entropy, SURE, 2, 0, 12.894476890563965, [0, 0, 0, 0]),
        (survival_cross_entropy, SURE, 3, 1, 3.486271381378174, [0, 0, 0, -0.14621171]),
        (survival_cross_entropy, DOUBTING, 0, 1, 0.554355263710022, [-0.42555749, 0, 0, 0]),
        (survival_cross_entropy, DOUBTING, 2, 1, 0.36896396, [0.08486985, 0.05577899, -0.08645581, 0]),
        (survival_cross_entropy, DOUBTING, 3, 0, 2.33491445, [0.45955402, 0.3020326, 0.6148199, 0.0953624]),
    ],
)
def test_losses_and_gradients_are_the_authors(loss, logits, bin, event, value, gradient):
    """Case crossfusion-clamp, and `ce_surv`; without the clamp the same, where nothing is near it."""
    for clamp in (1e-7, None) if logits is DOUBTING else (1e-7,):
        z = torch.tensor([logits], requires_grad=True)
        found = loss(z, torch.tensor([bin]), torch.tensor([event]), 0.2, clamp)
        found.sum().backward()
        assert found.item() == pytest.approx(value, rel=1e-6)
        np.testing.assert_allclose(z.grad[0], gradient, atol=2e-7)


def test_the_clamp_is_passed_in_training_and_only_as_a_habit():
    """Case crossfusion-clamp: 12.9 and gradient 0 as released, else 40.8 and .8."""
    for habits, expected in (((), (40.8, 0.8)), (("clamped_loss",), (12.894477, 0))):
        logits, model = torch.tensor([SURE], requires_grad=True), nn.Identity()
        model.forward = partial(Hazards, logits, None)
        batch = (), torch.tensor([2]), torch.tensor([0])
        loss = training.Survival(model, RECIPE, habits, {}).loss_of(batch)
        loss.backward()
        assert (loss.item(), logits.grad[0, 0].item()) == pytest.approx(expected, abs=1e-4)


def test_half_precision_meets_the_clamp_at_a_logit_of_nine():
    """The released training runs in float16: survival below 1 - h = 5e-4 is 0 there, which float32 holds to 1e-7."""
    found = {}
    for precision in (torch.float16, torch.float32):
        z = torch.tensor([[9.0, 0, 0, 0]], dtype=precision, requires_grad=True)
        survival_nll(z, torch.tensor([0]), torch.tensor([0]), 0.0, 1e-7).sum().backward()
        found[precision] = z.grad[0, 0].item()
    assert found == {torch.float16: 0, torch.float32: pytest.approx(1, abs=1e-3)}


def test_cross_entropy_keeps_a_loss_where_chances_are_rounded_away():
    """Dead in a bin that the model thinks impossible: the released form is infinite, 1 - S is 0 in float32."""
    z = torch.full((1, 4), -20.0, requires_grad=True)
    here, died = torch.tensor([2]), torch.tensor([1])
    assert torch.isinf(survival_cross_entropy(z, here, died, 0.2, 1e-7)).all()
    loss = survival_cross_entropy(z, here, died, 0.2)
    loss.sum().backward()
    assert loss.item() == pytest.approx(20 - 0.8 * np.log(3), rel=1e-6)
    assert torch.isfinite(z.grad).all()


def test_a_kind_that_nobody_is_of_has_no_weight():
    """Theirs divides by the number of every kind; here nobody was censored in the last bin."""
    bins, event = np.array([0, 0, 1, 1, 2, 2, 3]), np.array([0, 1, 0, 1, 0, 1, 1])
    assert training.sampling_weights(bins, event).tolist() == [1] * 7
