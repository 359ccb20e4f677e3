"""A clock that jumps: what is whole is told by its content, never by its time."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lib import params as params_module
from lib.files import sha256_of, written
from lib.params import Checked
from lib.stage import begin
from lib.training import loop

UNITS = ["A1", "B1", "C1"]
FAR = {"future": 4_000_000_000, "past": 1, "before_1970": -1_000_000_000}


class Params(Checked):
    cohort: str = "demo"
    shard: int = 0
    shards: int = 1
    max_failed: int = 0


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Run a stage of three units; returns those made now."""
    monkeypatch.setenv("CROSSBOOK_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(params_module, "schema_of", lambda study: Params)
    for number, name in enumerate(UNITS):
        (tmp_path / name).write_text(str(number))

    def run() -> list[str]:
        stage, now = begin("toy", "2-embed", {"In": [""]}), []

        def make(name):
            now.append(name)
            with written(stage.folder / f"{name}.txt") as part:
                part.write_text((tmp_path / name).read_text() * 2)

        stage.each(UNITS, make, outputs="{}.txt", inputs=lambda name: [tmp_path / name])
        stage.finish()
        return now

    return run


def set_times(folder: Path, seconds: int) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (seconds, seconds))


@pytest.mark.parametrize("when", FAR)
def test_files_of_another_time_are_neither_made_again_nor_believed(made, tmp_path, when):
    assert made() == UNITS
    set_times(tmp_path, FAR[when])
    assert made() == []
    (tmp_path / "B1").write_text("7")
    set_times(tmp_path, FAR[when])
    assert made() == ["B1"]
    output = tmp_path / "results" / "toy" / "demo" / "C1.txt"
    output.write_text("99")
    set_times(tmp_path, FAR[when])
    assert made() == ["C1"]
    assert output.read_text() == "22"


def test_clock_that_is_put_back_while_a_stage_runs_changes_nothing(made, tmp_path, monkeypatch):
    start = time.time()
    monkeypatch.setattr(time, "time", lambda: start - 1e8)
    assert made() == UNITS
    monkeypatch.setattr(time, "time", lambda: start + 1e8)
    assert made() == []
    manifest = tmp_path / "results" / "toy" / "demo" / "manifests" / "2-embed.json"
    before = sha256_of(manifest)
    made()
    assert sha256_of(manifest) == before


class Line(loop.Loop):
    """A straight line, learnt slowly; it dies after an epoch."""

    stop_at = 0

    def loss_of(self, batch):
        x, y = batch
        return (self.model(x) - y).square().mean()

    def watched(self):
        if self.stop_at and len(self.history) == self.stop_at:
            raise InterruptedError
        return {}

    def descent(self):
        adam = torch.optim.Adam(self.parameters(), lr=0.05)
        return adam, torch.optim.lr_scheduler.StepLR(adam, 2), "epoch"


def train(path: Path, stop_at: int = 0) -> list[float]:
    """Losses of six epochs, with a checkpoint after each."""
    torch.manual_seed(0)
    x = torch.randn(24, 3)
    order = torch.Generator().manual_seed(0)
    batches = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 8, shuffle=True, generator=order)
    line = Line(nn.Linear(3, 1))
    line.stop_at = stop_at
    history = loop.run(
        line,
        batches,
        6,
        order=order,
        drawing=np.random.default_rng(0),
        device="cpu",
        checkpoint=loop.Checkpoint(path, "mine", 0.0),
    )
    return history["loss"].tolist()


@pytest.mark.parametrize("when", FAR)
def test_training_goes_on_from_a_checkpoint_of_any_time(tmp_path, monkeypatch, when):
    path = tmp_path / "a.checkpoint.safetensors"
    whole = train(path)
    with pytest.raises(InterruptedError):
        train(path, stop_at=4)
    os.utime(path, (FAR[when], FAR[when]))
    monkeypatch.setattr(time, "time", lambda: float(FAR[when]))
    found = loop.load_checkpoint(loop.Checkpoint(path, "mine"))
    assert len(found[0]["history"]) == 4, "it would begin anew"
    assert train(path) == whole
