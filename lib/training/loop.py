"""Tensors on disk as safetensors, whole or not at all.

Go on with a training that was killed: what its next epoch depends on, in one file of plain tensors.

The loop of a training: its epochs and their history, the best of them, checkpoints to go on from (Lightning runs it).
"""

import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
    tensors: Mapping[str, Tensor], path: str | os.PathLike, about: Mapping[str, str] | None = None
) -> None:
    """Write tensors atomically; equal tensors give equal bytes.

    Not by safetensors' own `save_file`: that works on a hidden file of its own beside the one it is given, which stays
    where the process is killed.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        On any device; memory that several of them share is refused by safetensors.
    path : path
    about : mapping of str to str, optional
        The file's metadata.

    Raises
    ------
    DiskFull
    """
    content = save(
        {name: value.contiguous() for name, value in tensors.items()}, dict(about) if about else None
    )
    with written(path, size=len(content)) as part:
        part.write_bytes(content)


def save_of_checkpoints(
    path: str | os.PathLike, key: str, model: torch.nn.Module, state: dict[str, Any]
) -> None:
    """Write a checkpoint atomically, at the end of an epoch.

    Parameters
    ----------
    path : path
    key : str
        Names the run; a checkpoint of another is not taken up.
    model : Module
    state : dict
        adam, schedule : the optimiser and its schedule
        order : torch.Generator, tiles : numpy Generator
            What draws cases and tiles.
        history : list of dict, best : (float, int, dict of Tensor) or None
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for number, values in state["adam"].state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": value for name, value in values.items()}
    tensors |= {"random.torch": torch.get_rng_state(), "random.order": state["order"].get_state()}
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    best = state["best"]
    tensors |= {f"best.{name}": value for name, value in (best[2] if best else {}).items()}
    about = {
        "key": key,
        "history": state["history"],
        "best": best[:2] if best else None,
        "schedule": {k: v for k, v in state["schedule"].state_dict().items() if not k.startswith("_get")},
        "rates": [group["lr"] for group in state["adam"].param_groups],
        "tiles": state["tiles"].bit_generator.state,
    }
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_weights(plain, path, {"about": json.dumps(about)})


def load(path: str | os.PathLike, key: str) -> dict[str, Any] | None:
    """A checkpoint of this very run: `about` and its tensors by name; None where there is none that can be used."""
    if not Path(path).is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            if about.get("key") != key:
                return None
            return {"about": about, **{name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118
    except (SafetensorError, ValueError):  # cut short: begin again
        return None


def part_of(found: dict[str, Any], name: str) -> dict[str, torch.Tensor]:
    """The tensors below a name: "model", "best"."""
    return {full[len(name) + 1 :]: value for full, value in found.items() if full.startswith(f"{name}.")}


def restore_optimiser(found: dict[str, Any], adam: torch.optim.Optimizer, schedule: Any) -> None:
    """Put moments, steps and learning rate back."""
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in part_of(found, "adam").items():
        number, _, what = name.partition(".")
        moments.setdefault(int(number), {})[what] = value
    adam.load_state_dict({"state": moments, "param_groups": adam.state_dict()["param_groups"]})
    schedule.load_state_dict(found["about"]["schedule"])
    for group, rate in zip(adam.param_groups, found["about"]["rates"], strict=True):
        group["lr"] = rate


def restore_random(found: dict[str, Any], order: torch.Generator, tiles: np.random.Generator) -> None:
    """Put every source of random numbers back to where the saved epoch left it."""
    torch.set_rng_state(found["random.torch"])
    if "random.cuda" in found and torch.cuda.is_available():
        torch.cuda.set_rng_state(found["random.cuda"])
    order.set_state(found["random.order"])
    tiles.bit_generator.state = found["about"]["tiles"]


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
        self.found: dict | None = None  # a checkpoint to go on from
        self.after_epoch: Callable[[Loop], None] = lambda loop: None
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
        if self.found:
            restore_optimiser(self.found, adam, schedule)
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
        self.after_epoch(self)


def run(
    loop: Loop,
    batches: DataLoader,
    epochs: int,
    *,
    order: torch.Generator,
    drawing: np.random.Generator,
    accumulate: int = 1,
    device: str = "auto",
    checkpoint: str | os.PathLike = "",
    key: str = "",
    every_s: float = 60.0,
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
    checkpoint : path
        File to go on from where a run of the same `key` was killed; "" keeps none. On the CPU the result is the one
        of an undisturbed run to the last bit. It is removed when training ends.
    key : str
        Of all that the run depends on.
    every_s : float
        Least seconds between two checkpoints, which are written at the end of an epoch.

    Returns
    -------
    DataFrame
        epoch, loss, what was watched, chosen (whether the epoch is the one kept).

    Raises
    ------
    ValueError
        A loss that is not finite.
    """
    if checkpoint:
        loop.after_epoch = _keeper(checkpoint, key, every_s, epochs, order, drawing)
        found = load(checkpoint, key)
        # fewer epochs than before may be wanted, where other models choose them and do not repeat to the last bit
        if found and len(found["about"]["history"]) < epochs:
            _go_on(loop, found, order, drawing)
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            max_epochs=epochs - len(loop.history),
            accumulate_grad_batches=accumulate,
            accelerator=device,
            devices=1,
            deterministic="warn",
            **quiet,
        )
        trainer.fit(loop, batches)
    history = pd.DataFrame(loop.history)
    history["chosen"] = history["epoch"] == (loop.best[1] if loop.best else epochs - 1)
    if loop.best:
        loop.model.load_state_dict(loop.best[2])
    if checkpoint:
        Path(checkpoint).unlink(missing_ok=True)
    loop.model.cpu().eval()
    return history


def _keeper(
    path, key: str, every_s: float, epochs: int, order: torch.Generator, drawing: np.random.Generator
):
    """What writes a checkpoint at the end of an epoch, if the last one is old enough."""
    last = [time.monotonic()]

    def keep(loop: Loop) -> None:
        if time.monotonic() - last[0] >= every_s and len(loop.history) < epochs:
            state = {"adam": loop.optimizers().optimizer, "schedule": loop.lr_schedulers()}
            state |= {"order": order, "tiles": drawing, "history": loop.history, "best": loop.best}
            save_of_checkpoints(path, key, loop.model, state)
            last[0] = time.monotonic()

    return keep


def _go_on(loop: Loop, found: dict, order: torch.Generator, drawing: np.random.Generator) -> None:
    loop.found, loop.history = found, found["about"]["history"]
    loop.model.load_state_dict(part_of(found, "model"))
    if best := found["about"]["best"]:
        loop.best = (*best, part_of(found, "best"))
    restore_random(found, order, drawing)
