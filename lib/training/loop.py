"""The loop of a training: epochs and their history, the best of them, a checkpoint to go on from (Lightning runs it)."""

import json
import logging
import time
import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lib.files import written


def write_weights(
    tensors: Mapping[str, Tensor], path: str | PathLike, about: Mapping[str, str] | None = None
):
    """Write tensors as safetensors, whole or not at all; equal tensors give equal bytes.

    Not by safetensors' own `save_file`: that works on a hidden file of its own beside the one it is given, which stays
    where the process is killed. `about` is the file's metadata.
    """
    content = save({name: value.contiguous() for name, value in tensors.items()}, dict(about or {}) or None)
    with written(path, size=len(content)) as part:
        part.write_bytes(content)


class Checkpoint(NamedTuple):
    """A file to go on from, and the key of all that the run depends on: a checkpoint of another key is not taken up.

    On the CPU the result is that of an undisturbed run to the last bit. The file is removed when training ends.
    """

    path: str | PathLike = ""  # "" keeps none
    key: str = ""
    every_s: float = 60.0  # least seconds between two, which are written at the end of an epoch


class Loop(L.LightningModule):
    """One model in training. A subclass says what the loss of a batch is and what is watched after an epoch.

    Parameters
    ----------
    model : Module
    chosen_by : str
        Watched value, higher = better, whose best epoch is kept; "" keeps the last epoch.
    """

    def __init__(self, model: nn.Module, chosen_by: str = ""):
        super().__init__()
        self.model, self.chosen_by = model, chosen_by
        self.moments: dict[str, Tensor] = {}  # of an optimiser to go on with
        self.keep = lambda: None  # called at the end of an epoch
        self.history: list[dict[str, float]] = []
        self.losses: list[Tensor] = []
        self.best: tuple[float, int, dict[str, Tensor]] | None = None  # value, epoch, weights

    def loss_of(self, batch) -> Tensor:
        """Loss of one batch, a number to descend."""
        raise NotImplementedError

    def watched(self) -> dict[str, float]:
        """What is written down of every epoch; the model may be left in evaluation."""
        raise NotImplementedError

    def descent(self) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, str]:
        """Optimiser, schedule, and what the schedule counts: "epoch" or "step"."""
        raise NotImplementedError

    def configure_optimizers(self):
        """Lightning's hook."""
        adam, schedule, counts = self.descent()
        if self.moments:
            _restore(adam, schedule, self.moments, self.before)
        return [adam], [{"scheduler": schedule, "interval": counts}]

    def training_step(self, batch, _):
        """Lightning's hook."""
        loss = self.loss_of(batch)
        self.losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self):
        """Lightning's hook: write the epoch down, keep it if it is the best, and let a checkpoint be written."""
        row = {"epoch": len(self.history), "loss": torch.stack(self.losses).mean().item()}
        self.losses = []
        if not np.isfinite(row["loss"]):
            raise ValueError("the loss is not finite: lower `learning_rate`, or look at the features")
        row |= self.watched()
        self.model.train()
        self.history.append(row)
        judge = row.get(self.chosen_by, np.nan)
        if np.isfinite(judge) and (self.best is None or judge > self.best[0]):
            state = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            self.best = (judge, row["epoch"], state)
        self.keep()


def run(
    loop: Loop,
    batches: DataLoader,
    epochs: int,
    *,
    order: torch.Generator,
    drawing: np.random.Generator,
    accumulate: int = 1,
    device: str = "auto",
    checkpoint: Checkpoint = Checkpoint(),  # noqa: B008  never changed
) -> pd.DataFrame:
    """Train, and leave `loop.model` at the epoch that is kept, on the CPU, in evaluation.

    Parameters
    ----------
    loop : Loop
    batches : DataLoader
    epochs : int
    order, drawing : generators
        Of torch and of numpy, which draw the order of the cases and what else is drawn: part of a checkpoint.
    accumulate : int
        Batches whose gradients make one step.
    device : str
        Lightning's accelerator.
    checkpoint : Checkpoint

    Returns
    -------
    DataFrame
        epoch, loss, what was watched, chosen (whether the epoch is the one kept).

    Raises
    ------
    ValueError
        A loss that is not finite.
    """
    if checkpoint.path:
        _go_on(loop, checkpoint, epochs, order, drawing)
        last = [time.monotonic()]

        def keep() -> None:
            if time.monotonic() - last[0] >= checkpoint.every_s and len(loop.history) < epochs:
                save_checkpoint(loop, checkpoint, order, drawing)
                last[0] = time.monotonic()

        loop.keep = keep
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            max_epochs=epochs - len(loop.history),
            accumulate_grad_batches=accumulate,
            accelerator=device,
            devices=1,
            deterministic="warn",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(loop, batches)
    history = pd.DataFrame(loop.history)
    history["chosen"] = history["epoch"] == (loop.best[1] if loop.best else epochs - 1)
    if loop.best:
        loop.model.load_state_dict(loop.best[2])
    if checkpoint.path:
        Path(checkpoint.path).unlink(missing_ok=True)
    loop.model.cpu().eval()
    return history


def save_checkpoint(loop: Loop, to: Checkpoint, order: torch.Generator, drawing: np.random.Generator) -> None:
    """Write all that the next epoch depends on, as plain tensors and json."""
    adam, schedule = loop.optimizers().optimizer, loop.lr_schedulers()
    tensors = {f"model.{name}": value for name, value in loop.model.state_dict().items()}
    for number, values in adam.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": value for name, value in values.items()}
    tensors |= {"random.torch": torch.get_rng_state(), "random.order": order.get_state()}
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    tensors |= {f"best.{name}": value for name, value in (loop.best[2] if loop.best else {}).items()}
    about = {
        "key": to.key,
        "history": loop.history,
        "best": loop.best[:2] if loop.best else None,
        "schedule": {k: v for k, v in schedule.state_dict().items() if not k.startswith("_get")},
        "rates": [group["lr"] for group in adam.param_groups],
        "drawing": drawing.bit_generator.state,
    }
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_weights(plain, to.path, {"about": json.dumps(about)})


def load_checkpoint(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """What a checkpoint of this very run says, and its tensors; None where there is none that can be used."""
    if not Path(checkpoint.path).is_file():
        return None
    try:
        with safe_open(checkpoint.path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            if about.get("key") == checkpoint.key:
                return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError):  # cut short: begin again
        pass
    return None


def _go_on(loop: Loop, checkpoint: Checkpoint, epochs: int, order, drawing) -> None:
    found = load_checkpoint(checkpoint)
    # fewer epochs than before may be wanted, where other models choose them and do not repeat to the last bit
    if not found or len(found[0]["history"]) >= epochs:
        return
    about, tensors = found
    loop.before, loop.history, loop.moments = about, about["history"], _below(tensors, "adam")
    loop.model.load_state_dict(_below(tensors, "model"))
    if best := about["best"]:
        loop.best = (*best, _below(tensors, "best"))
    torch.set_rng_state(tensors["random.torch"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    order.set_state(tensors["random.order"])
    drawing.bit_generator.state = about["drawing"]


def _restore(
    adam: torch.optim.Optimizer, schedule, moments: dict[str, Tensor], about: dict[str, Any]
) -> None:
    """Put moments, steps and learning rate back."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        number, _, what = name.partition(".")
        state.setdefault(int(number), {})[what] = value
    adam.load_state_dict({"state": state, "param_groups": adam.state_dict()["param_groups"]})
    schedule.load_state_dict(about["schedule"])
    for group, rate in zip(adam.param_groups, about["rates"], strict=True):
        group["lr"] = rate


def _below(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {full[len(name) + 1 :]: value for full, value in tensors.items() if full.startswith(f"{name}.")}
