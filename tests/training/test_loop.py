"""The loop of a training by itself: history, choice, steps, rates, checkpoints that are due."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader

from lib.training import runs
from lib.training.runs import Checkpoint, Loop, run, write_weights


class Line(Loop):
    """One weight that descends the mean of what it is given; what is watched is written down beforehand."""

    def __init__(self, told=(), chosen_by="", counts="step"):
        super().__init__(nn.Linear(1, 1, bias=False), chosen_by)
        nn.init.zeros_(self.model.weight)
        self.told, self.counts, self.rates, self.modes = list(told), counts, [], []

    def loss_of(self, batch):
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        self.modes.append(self.model.training)
        return -(self.model(batch)).mean()

    def watched(self):
        self.model.eval()
        return {"value": self.told[len(self.history)]} if self.told else {}

    def descent(self):
        plain = torch.optim.SGD(self.parameters(), lr=1.0)
        return plain, torch.optim.lr_scheduler.LambdaLR(plain, lambda count: 0.5**count), self.counts


class Steps(Line):
    """The same with Adam, whose moments a checkpoint holds, and a loss with noise of its own."""

    taken = 0

    def loss_of(self, batch):
        self.taken += 1
        return ((self.model(batch) - batch + torch.randn(1)) ** 2).mean()

    def descent(self):
        adam = torch.optim.Adam(self.parameters(), lr=0.1)
        return adam, torch.optim.lr_scheduler.LambdaLR(adam, lambda count: 0.9**count), "step"


def started(loop, epochs, numbers=(1.0, 1.0, 1.0, 1.0), **options) -> pd.DataFrame:
    torch.manual_seed(0)
    order = torch.Generator().manual_seed(0)
    batches = DataLoader(torch.tensor(numbers)[:, None], 1, shuffle=True, generator=order)
    drawing = np.random.default_rng(0)
    return run(loop, batches, epochs, order=order, drawing=drawing, device="cpu", **options)


def weight(loop) -> float:
    return loop.model.weight.item()


def test_last_epoch_is_kept_and_every_epoch_is_written_down():
    loop = Line(told=[3.0, 9.0, 1.0])
    history = started(loop, 3)
    assert history["epoch"].tolist() == [0, 1, 2]
    assert history["value"].tolist() == [3, 9, 1]
    assert history["chosen"].tolist() == [False, False, True]
    rates = 0.5 ** np.arange(12)  # 3 epochs of 4 steps, the gradient is 1 everywhere
    assert weight(loop) == pytest.approx(rates.sum())
    before = np.r_[0, rates.cumsum()[:-1]]
    np.testing.assert_allclose(history["loss"], -before.reshape(3, 4).mean(1), rtol=1e-6)
    assert not loop.model.training
    assert all(loop.modes), "evaluation after an epoch does not last into the next"


@pytest.mark.parametrize(
    ("told", "best"),
    [([3.0, 9.0, 1.0], 1), ([3.0, 3.0, 3.0], 0), ([np.nan, 2.0, np.nan], 1), ([np.nan, np.nan, np.inf], 2)],
)
def test_best_epoch_is_kept_the_first_of_equals_and_none_that_is_no_number(told, best):
    loop = Line(told, "value")
    history = started(loop, 3)
    assert history["chosen"].tolist() == [epoch == best for epoch in range(3)]
    assert weight(loop) == pytest.approx((0.5 ** np.arange(4 * (best + 1))).sum())


@pytest.mark.parametrize(("counts", "rates"), [("step", [1, 0.5, 0.25, 0.125]), ("epoch", [1, 1, 0.5, 0.5])])
def test_schedule_counts_steps_or_epochs(counts, rates):
    loop = Line(counts=counts)
    started(loop, 2, numbers=[1.0, 1.0])
    assert loop.rates == rates


def test_accumulated_batches_make_one_step():
    loop = Line()
    started(loop, 1, numbers=[1.0, 2.0, 3.0, 6.0], accumulate=4)
    assert weight(loop) == pytest.approx(3.0), "the mean of four"
    assert loop.rates == [1.0] * 4


@pytest.mark.parametrize(("carry", "expected"), [(False, 1 + 0.5 + (1 + 0.5) / 2), (True, 1 + (1 + 0.5) / 2)])
def test_what_is_left_over_makes_a_step_or_is_carried_into_the_next(carry, expected):
    """Three batches with gradient 1, two a step, rates 1 and a half: the third is a step of a half, or comes on top."""
    loop = Line(counts="epoch")
    started(loop, 2, numbers=[1.0] * 3, accumulate=2, carry=carry)
    assert weight(loop) == pytest.approx(expected)


def test_loss_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="loss is not finite"):
        started(Line(), 1, numbers=[1.0, np.inf])


class Killed(Exception):
    pass


@pytest.fixture
def saved(monkeypatch) -> list[int]:
    """Epochs done at each checkpoint written."""
    seen, save = [], runs.save_checkpoint
    monkeypatch.setattr(
        runs, "save_checkpoint", lambda one, *a: (seen.append(len(one.history)), save(one, *a))[1]
    )
    return seen


def test_checkpoint_is_written_when_it_is_due_and_never_after_the_last_epoch(saved, tmp_path):
    started(Steps(), 4, checkpoint=Checkpoint(tmp_path / "c", "k", 0))
    assert saved == [1, 2, 3]
    started(Steps(), 4, checkpoint=Checkpoint(tmp_path / "c", "k", 1000))
    assert saved == [1, 2, 3]
    assert list(tmp_path.iterdir()) == [], "it goes when the training is over"


def halted(path, epochs=6, at=3, key="k") -> None:
    """A run that breaks in the epoch after its checkpoint."""

    class Broken(Steps):
        def loss_of(self, batch):
            if len(self.history) == at:
                raise Killed
            return super().loss_of(batch)

    with pytest.raises(Killed):
        started(Broken(), epochs, checkpoint=Checkpoint(path, key, 0))
    assert path.is_file()


def test_run_broken_within_an_epoch_goes_on_from_its_beginning(tmp_path):
    halted(tmp_path / "c")
    again, straight = Steps(), Steps()
    done = started(again, 6, checkpoint=Checkpoint(tmp_path / "c", "k"))
    assert done.equals(started(straight, 6))
    assert weight(again) == weight(straight)
    assert (again.taken, straight.taken) == (3 * 4, 6 * 4)


@pytest.mark.parametrize(("epochs", "key", "cut"), [(6, "other", 0), (2, "k", 0), (6, "k", 100)])
def test_checkpoint_of_another_run_of_a_longer_one_or_cut_short_is_not_taken_up(epochs, key, cut, tmp_path):
    halted(tmp_path / "c")
    content = (tmp_path / "c").read_bytes()
    (tmp_path / "c").write_bytes(content[: len(content) - cut])
    again, straight = Steps(), Steps()
    done = started(again, epochs, checkpoint=Checkpoint(tmp_path / "c", key))
    assert done.equals(started(straight, epochs))
    assert weight(again) == weight(straight)
    assert again.taken == 4 * epochs


def test_equal_tensors_give_equal_bytes_and_leave_nothing_beside(tmp_path):
    tensors = {"b": torch.arange(6.0).reshape(2, 3).T, "a": torch.ones(2)}
    for name in ("one", "two"):
        write_weights(tensors, tmp_path / f"{name}.safetensors", {"edges": "[0]"})
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    back = load_file(tmp_path / "one.safetensors")
    assert all(torch.equal(back[name], value) for name, value in tensors.items())
    assert len(list(tmp_path.iterdir())) == 2
