"""A training that is killed and goes on ends where an undisturbed one ends."""

from functools import partial

import numpy as np
import pytest
import torch

from lib.crossfusion.bags import TileFeatures
from lib.crossfusion.train import Case, Recipe, builder, fit, scores
from lib.training import loop as training_loop

RECIPE = Recipe(epochs=5, learning_rate=5e-3, accumulate=4, width=16, heads=2, cap=4)


class Killed(Exception):
    """Stands for kill -9 at the end of an epoch."""


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    random, cases = np.random.default_rng(0), []
    for i in range(40):
        bag = {}
        for scale, side, step in ((5, 1, 1024), (10, 2, 512), (20, 4, 256)):
            at = (
                np.stack(np.meshgrid(np.arange(2 * side), np.arange(side)), -1).reshape(-1, 2) * step
                + step / 2
            )
            bag[scale] = TileFeatures(
                random.normal(size=(len(at), 5)).astype(np.float32), at.astype(np.float32)
            )
        cases.append(Case(f"S{i}", f"P{i}", partial(dict, bag), float(random.uniform(1, 50)), int(i % 3 > 0)))
    return cases


def trained(cases, folder, name, recipe=RECIPE, key="k", **options):
    build, recipe = builder(name, 5, recipe)
    path = folder / "run.checkpoint.safetensors"
    return fit(
        build,
        cases[:28],
        cases[28:],
        recipe,
        seed=3,
        device="cpu",
        checkpoint=path,
        key=key,
        every_s=0,
        **options,
    )


def killed(cases, folder, name, after: int, monkeypatch, recipe=RECIPE, **options) -> None:
    """Train until the end of an epoch, whose checkpoint is written, and no further."""
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
            trained(cases, folder, name, recipe, **options)
    assert (folder / "run.checkpoint.safetensors").is_file()


@pytest.mark.parametrize("name", ["crossfusion", "crossfusion-released", "mean-pool"])
@pytest.mark.parametrize("after", [1, 4])
def test_killed_run_ends_as_an_undisturbed_one(cases, name, after, tmp_path, monkeypatch):
    whole = trained(cases, tmp_path, name)
    assert list(tmp_path.iterdir()) == [], "the checkpoint goes when the training is over"
    killed(cases, tmp_path, name, after, monkeypatch)
    torch.manual_seed(99)  # another process, other random numbers
    again = trained(cases, tmp_path, name)
    for one, other in zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    columns = ["epoch", "loss", "chosen"]
    assert whole.history[columns].equals(again.history[columns])
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_of_another_run_is_not_taken_up(cases, tmp_path, monkeypatch):
    killed(cases, tmp_path, "mean-pool", 3, monkeypatch, key="other")
    whole = trained(cases, tmp_path / "a", "mean-pool")
    again = trained(cases, tmp_path, "mean-pool")
    np.testing.assert_array_equal(scores(whole.model, cases)[0], scores(again.model, cases)[0])


def test_checkpoint_cut_short_is_not_taken_up(cases, tmp_path, monkeypatch):
    killed(cases, tmp_path, "mean-pool", 3, monkeypatch)
    path = tmp_path / "run.checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    whole = trained(cases, tmp_path / "a", "mean-pool")
    again = trained(cases, tmp_path, "mean-pool")
    np.testing.assert_array_equal(scores(whole.model, cases)[0], scores(again.model, cases)[0])
