"""A clock that jumps: what is whole is told by its content, never by its time."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lib import files
from lib import stage as stage_module
from lib.files import file_digest, sha256_of, written
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
    monkeypatch.setattr(stage_module, "schema_of", lambda study: Params)
    for number, name in enumerate(UNITS):
        (tmp_path / name).write_text(str(number))

    def run() -> list[str]:
        stage, now = begin("spacrd", "2-embed", {"In": [""]}), []

        def make(name):
            now.append(name)
            with written(stage.folder / f"{name}.txt") as part:
                part.write_text((tmp_path / name).read_text() * 2)

        stage.units(
            UNITS,
            make,
            outputs=lambda name: [stage.folder / f"{name}.txt"],
            inputs=lambda name: [tmp_path / name],
            depends=lambda name: {},
            code=(files,),
        )
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
    output = tmp_path / "results" / "spacrd" / "demo" / "C1.txt"
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
    manifest = tmp_path / "results" / "spacrd" / "demo" / "manifests" / "2-embed.json"
    before = sha256_of(manifest)
    made()
    assert sha256_of(manifest) == before


def test_digest_is_of_the_content_although_size_and_time_are_those_of_before(tmp_path):
    path = tmp_path / "A1.h5"
    for content in (b"first", b"other", b"third"):
        path.write_bytes(content)
        os.utime(path, ns=(0, 0))
        assert file_digest(path) == sha256_of(path)
    with written(path) as part:
        part.write_bytes(b"fifth")
        os.utime(part, ns=(0, 0))
    assert file_digest(path) == sha256_of(path)


class Line(loop.Loop):
    """A straight line, learnt slowly."""

    def loss_of(self, batch):
        x, y = batch
        return (self.model(x) - y).square().mean()

    def watched(self):
        return {}

    def descent(self):
        adam = torch.optim.Adam(self.parameters(), lr=0.05)
        return adam, torch.optim.lr_scheduler.StepLR(adam, 2), "epoch"


class Killed(Exception):
    pass


def train(folder: Path, key: str = "", stop_at: int = 0) -> list[float]:
    """Losses of six epochs, with a checkpoint after each; dies after one of them."""
    torch.manual_seed(0)
    x = torch.randn(24, 3)
    order = torch.Generator().manual_seed(0)
    batches = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 8, shuffle=True, generator=order)
    one = Line(nn.Linear(3, 1))
    if stop_at:
        watched = one.watched

        def dying():
            if len(one.history) == stop_at:
                raise Killed
            return watched()

        one.watched = dying
    history = loop.run(
        one,
        batches,
        6,
        order=order,
        drawing=np.random.default_rng(0),
        device="cpu",
        checkpoint=folder / "a.checkpoint.safetensors",
        key=key,
        every_s=0.0,
    )
    return history["loss"].tolist()


@pytest.mark.parametrize("when", FAR)
def test_training_goes_on_from_a_checkpoint_of_any_time(tmp_path, monkeypatch, when):
    whole = train(tmp_path, "mine")
    with pytest.raises(Killed):
        train(tmp_path, "mine", stop_at=4)
    path = tmp_path / "a.checkpoint.safetensors"
    os.utime(path, (FAR[when], FAR[when]))
    monkeypatch.setattr(time, "time", lambda: float(FAR[when]))
    begun = []
    go_on = loop._go_on
    monkeypatch.setattr(loop, "_go_on", lambda *told: (begun.append(1), go_on(*told)))
    assert train(tmp_path, "mine") == whole
    assert begun == [1], "it began anew"


def test_key_of_a_half_trained_run_is_of_its_inputs_content(tmp_path):
    """A feature file of the same size and time is another file; one that was only copied is the same."""
    import pandas as pd

    from lib.stroke.train import Runs, Unit
    from lib.training.folds import Fold

    (tmp_path / "features").mkdir()
    people = ["p1", "p2"]
    for name in people:
        (tmp_path / "features" / f"{name}.h5").write_bytes(b"a" * 100)
    cohort = pd.DataFrame({"label": [0, 1]}, index=people)
    unit = Unit("scan", Fold("0", ("p1",), ("p2",)), "ctp", 1)

    def key() -> str:
        work = Runs(tmp_path, cohort, {"shape": (16, 16, 16), "frames": 2}, 1)
        return work._resume(unit, "whole")["key"]

    first, path = key(), tmp_path / "features" / "p1.h5"
    was = path.stat().st_mtime_ns
    os.utime(path, (1, 1))
    assert key() == first, "touched, not changed"
    path.write_bytes(b"b" * 100)
    os.utime(path, ns=(was, was))
    assert key() != first, "other content with the old time"
