"""The training runs of every study: one plan, one way to carry it out, and the loop of epochs that Lightning runs."""

import json
import logging
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lib.files import write_csv, written
from lib.stage import Stage
from lib.training.folds import Fold

ABOUT = ["setting", "model", "seed", "fold"]  # columns that tell a run's rows from those of others


class Run(NamedTuple):
    """One contender, trained on one fold of one setting with one seed."""

    setting: str
    fold: Fold
    model: str
    seed: int
    keeps_weights: bool = False

    @property
    def name(self) -> str:
        """Names the run's files."""
        return f"{self.setting}.{self.fold.name}.{self.model}.s{self.seed}"

    @property
    def about(self) -> dict[str, object]:
        """The run in the columns `ABOUT`."""
        return dict(zip(ABOUT, (self.setting, self.model, self.seed, self.fold.name), strict=True))


class Result(NamedTuple):
    """What a run leaves: a table of scores (higher = more likely, or earlier, event), others by name, weights."""

    scores: pd.DataFrame
    history: pd.DataFrame
    weights: Mapping[str, Tensor] = {}
    about: Mapping[str, str] = {}  # metadata of the weights' file
    tables: Mapping[str, pd.DataFrame] = {}


class Checkpoint(NamedTuple):
    """A file to go on from, and the key of all that the run depends on: a checkpoint of another key is not taken up.

    On the CPU the result is that of an undisturbed run to the last bit. The file is removed when training ends.
    """

    path: str | PathLike = ""  # "" keeps none
    key: str = ""
    every_s: float = 60.0  # least seconds between two, which are written at the end of an epoch


def plan_runs(
    settings: Mapping[str, tuple[Sequence[Fold], Sequence[str]]],
    seeds: Sequence[int],
    *,
    trained: Collection[str],
    first_seed_only: Collection[str] = (),
) -> dict[str, Run]:
    """All runs of a cohort, by name.

    Parameters
    ----------
    settings : mapping
        Setting (cancer type, platform, set of variables) -> its folds and the contenders that enter it.
    seeds : sequence of int
    trained : collection of str
        Contenders trained by epochs: they run with every seed, and the first seed's weights are kept. The others
        have one answer, and run once.
    first_seed_only : collection of str
        Contenders run with the first seed alone, to save time.
    """
    runs = {}
    for setting, (folds, models) in settings.items():
        for fold in folds:
            for model in models:
                many = model in trained and model not in first_seed_only
                for seed in seeds if many else seeds[:1]:
                    run = Run(setting, fold, model, seed, model in trained and seed == seeds[0])
                    runs[run.name] = run
    return runs


def counted(runs: Mapping[str, Run]) -> pd.DataFrame:
    """How many folds and trainings each contender has in each setting."""
    rows = pd.DataFrame([run.about for run in runs.values()], columns=ABOUT)
    groups = rows.groupby(["setting", "model"], sort=False)["fold"]
    return groups.agg(folds="nunique", runs="size").reset_index()


def carry_out(
    stage: Stage,
    runs: Mapping[str, Run],
    fit: Callable[[Run, Checkpoint], Result],
    *,
    inputs: Callable[[Run], Iterable[Path]],
    depends: Callable[[Run], Mapping] = lambda run: {},
    parameters: Sequence[str] = (),
    tables: Sequence[str] = (),
) -> dict[str, pd.DataFrame]:
    """Do the runs that are not yet whole, and collect all.

    Parameters
    ----------
    stage : Stage
    runs : dict of Run
    fit : callable
        Does one run. Its second argument is where a training may leave a checkpoint, to go on from after a kill.
    inputs : callable
        Run -> the files it reads.
    depends, parameters
        What else a run's result depends on, and names of parameters; see `Stage.each`.
    tables : sequence of str
        Further tables of `Result.tables` to keep.

    Returns
    -------
    dict of str to DataFrame
        "scores", "history" and `tables`: the rows of all runs in the plan's order, each with setting, model, seed
        and fold in front, where the run's own rows don't name them.
    """
    names = ("scores", "history", *tables)

    def outputs(name: str) -> list[Path]:
        paths = [stage.folder / "train" / f"{name}.{table}.csv" for table in names]
        weights = [stage.folder / "weights" / f"{name}.safetensors"] if runs[name].keeps_weights else []
        return paths + weights

    def make(name: str) -> None:
        checkpoint = Checkpoint(stage.folder / "train" / f"{name}.checkpoint.safetensors", stage.unit_key)
        result = fit(runs[name], checkpoint)
        made = {"scores": result.scores, "history": result.history, **result.tables}
        for table, path in zip((*names, "weights"), outputs(name), strict=False):
            if table == "weights":
                write_weights(result.weights, path, result.about)
            else:
                write_csv(made[table], path)

    # of no runs nothing is done: `each` would end a shard before it has trained its share
    done = runs and stage.each(
        runs,
        make,
        outputs=outputs,
        inputs=lambda name: inputs(runs[name]),
        parameters=parameters,
        depends=lambda name: {"run": runs[name]._asdict(), **depends(runs[name])},
    )
    whole = [name for name in runs if name in set(done)]
    return {table: collect(stage, {name: runs[name] for name in whole}, table) for table in names}


def no_runs(stage: Stage) -> None:
    """End a stage in which nothing can be trained: its tables have no rows."""
    stage.write(pd.DataFrame(columns=[*ABOUT, "patient", "score"]), "predictions.csv")
    stage.write(pd.DataFrame(columns=[*ABOUT, "epoch"]), "history.csv")
    stage.finish()


def collect(stage: Stage, runs: Mapping[str, Run], table: str) -> pd.DataFrame:
    """One table of every run below each other."""
    parts = []
    for name, run in runs.items():
        rows = stage.read(f"train/{name}.{table}.csv")
        about = {column: value for column, value in run.about.items() if column not in rows}
        parts.append(pd.DataFrame(about, index=rows.index).join(rows))
    full = [part for part in parts if len(part)]
    return pd.concat(full or parts or [pd.DataFrame(columns=ABOUT)], ignore_index=True)


class Loop(L.LightningModule):
    """One model in training. A subclass has three methods:

    - loss_of(batch): the loss of one batch, a number to descend;
    - watched(): what is written down of every epoch, name -> number; the model may be left in evaluation;
    - descent(): optimiser, schedule, and what the schedule counts, "epoch" or "step".

    `chosen_by` is the watched value, higher = better, whose best epoch is kept; "" keeps the last epoch. The first
    `warmup_epochs` are not chosen (where there are no others, the last is kept). After `patience` epochs without gain,
    counted from the best, or from the first while there is none, training ends; 0: never before the last.
    """

    def __init__(self, model: nn.Module, chosen_by: str = "", warmup_epochs: int = 0, patience: int = 0):
        super().__init__()
        self.model, self.chosen_by = model, chosen_by
        self.warmup_epochs, self.patience = warmup_epochs, patience
        self.accumulate = 1  # batches a step, where the gradients of those left over are carried
        self.before: tuple = ()  # states of an optimiser and a schedule to go on with, and gradients carried
        self.keep = lambda: None  # called at the end of an epoch
        self.history: list[dict[str, float]] = []
        self.losses: list[Tensor] = []
        self.best: tuple[float, int, dict[str, Tensor]] | None = None  # value, epoch, weights

    def configure_optimizers(self):
        """Lightning's hook."""
        adam, schedule, counts = self.descent()
        if self.before:
            adam.load_state_dict(self.before[0])
            schedule.load_state_dict(self.before[1])
        return [adam], [{"scheduler": schedule, "interval": counts}]

    def on_train_start(self):
        """Lightning's hook, behind its own `zero_grad`."""
        for name, gradient in (self.before[2] if self.before else {}).items():
            parameter = self.model.get_parameter(name)
            parameter.grad = gradient.to(parameter.device)

    def training_step(self, batch, number):
        """Lightning's hook."""
        loss = self.loss_of(batch)
        self.losses.append(loss.detach())
        if not self.automatic_optimization:  # carried: no step on what is left over, and no end of it
            self.manual_backward(loss / self.accumulate)
            if (number + 1) % self.accumulate == 0:
                self.optimizers().step()
                self.optimizers().zero_grad()
        return loss

    def on_train_epoch_end(self):
        """Lightning's hook: write the epoch down, keep it if it is the best, and stop or let a checkpoint be written."""
        if not self.automatic_optimization:
            self.lr_schedulers().step()
        row = {"epoch": len(self.history), "loss": torch.stack(self.losses).mean().item()}
        self.losses = []
        if not np.isfinite(row["loss"]):
            raise ValueError("the loss is not finite: lower `learning_rate`, or look at the features")
        row |= self.watched()
        self.model.train()
        self.history.append(row)
        judge = row.get(self.chosen_by, np.nan)
        ready = np.isfinite(judge) and row["epoch"] >= self.warmup_epochs
        if ready and (self.best is None or judge > self.best[0]):
            state = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            self.best = (judge, row["epoch"], state)
        if self.patience and row["epoch"] - (self.best[1] if self.best else 0) >= self.patience:
            self.trainer.should_stop = True
        else:
            self.keep()


def run(
    loop: Loop,
    batches: DataLoader,
    epochs: int,
    *,
    order: torch.Generator,
    drawing: np.random.Generator,
    accumulate: int = 1,
    carry: bool = False,
    device: str = "auto",
    checkpoint: Checkpoint = Checkpoint(),  # noqa: B008  never changed
) -> pd.DataFrame:
    """Train, and leave `loop.model` at the epoch that is kept, on the CPU, in evaluation.

    Parameters
    ----------
    order, drawing : generators
        Of torch and of numpy, which draw the order of the cases and what else is drawn: part of a checkpoint.
    accumulate : int
        Batches whose gradients make one step.
    carry : bool
        What the batches left over at an epoch's end do, fewer than `accumulate`: False, they make a step of their own;
        True, none, and their gradients are added to the next epoch's first. The schedule then counts epochs.
    device : str
        Lightning's accelerator.

    Returns
    -------
    DataFrame
        epoch, loss, what was watched, chosen (whether the epoch is the one kept).

    Raises
    ------
    ValueError
        The loss is not finite.
    """
    if checkpoint.path:
        _go_on(loop, checkpoint, epochs, order, drawing)
        last = [time.monotonic()]

        def keep() -> None:
            if time.monotonic() - last[0] >= checkpoint.every_s and len(loop.history) < epochs:
                save_checkpoint(loop, checkpoint, order, drawing)
                last[0] = time.monotonic()

        loop.keep = keep
    loop.automatic_optimization, loop.accumulate = not carry, accumulate
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            max_epochs=epochs - len(loop.history),
            accumulate_grad_batches=1 if carry else accumulate,
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
    history["chosen"] = history["epoch"] == (loop.best[1] if loop.best else len(history) - 1)
    if loop.best:
        loop.model.load_state_dict(loop.best[2])
    if checkpoint.path:
        Path(checkpoint.path).unlink(missing_ok=True)
    loop.model.cpu().eval()
    return history


def save_checkpoint(loop: Loop, to: Checkpoint, order: torch.Generator, drawing: np.random.Generator) -> None:
    """Write all that the next epoch depends on, as plain tensors and json."""
    adam, schedule = loop.optimizers().optimizer.state_dict(), loop.lr_schedulers().state_dict()
    parts = {f"adam.{number}": values for number, values in adam["state"].items()}
    parts |= {"model": loop.model.state_dict(), "best": loop.best[2] if loop.best else {}}
    if not loop.automatic_optimization:
        parts["gradient"] = {n: p.grad for n, p in loop.model.named_parameters() if p.grad is not None}
    parts["random"] = {"torch": torch.get_rng_state(), "order": order.get_state()}
    if torch.cuda.is_available():
        parts["random"]["cuda"] = torch.cuda.get_rng_state()
    about = {
        "key": to.key,
        "history": loop.history,
        "best": loop.best and loop.best[:2],
        "groups": adam["param_groups"],
        "schedule": {name: value for name, value in schedule.items() if not name.startswith("_get")},
        "drawing": drawing.bit_generator.state,
    }
    tensors = {
        f"{part}/{name}": value.detach().cpu().clone()
        for part, values in parts.items()
        for name, value in values.items()
    }
    write_weights(tensors, to.path, {"about": json.dumps(about)})


def _go_on(loop: Loop, checkpoint: Checkpoint, epochs: int, order, drawing) -> None:
    """Take up a checkpoint of this very run, if there is one and it can be read."""
    parts: dict[str, dict[str, Tensor]] = {"best": {}, "gradient": {}}
    try:
        with safe_open(checkpoint.path, "pt") as file:
            about = json.loads(file.metadata()["about"])
            for key in file.keys():  # noqa: SIM118
                part, _, name = key.partition("/")
                parts.setdefault(part, {})[name] = file.get_tensor(key)
    except (SafetensorError, OSError, ValueError):  # none, or cut short: begin again
        return
    # fewer epochs than before may be wanted, where other models choose them and do not repeat to the last bit
    if about["key"] != checkpoint.key or len(about["history"]) >= epochs:
        return
    loop.model.load_state_dict(parts["model"])
    loop.history, loop.best = about["history"], about["best"] and (*about["best"], parts["best"])
    state = {int(part[5:]): values for part, values in parts.items() if part.startswith("adam.")}
    loop.before = {"state": state, "param_groups": about["groups"]}, about["schedule"], parts["gradient"]
    torch.set_rng_state(parts["random"]["torch"])
    order.set_state(parts["random"]["order"])
    if "cuda" in parts["random"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(parts["random"]["cuda"])
    drawing.bit_generator.state = about["drawing"]


def write_weights(
    tensors: Mapping[str, Tensor], path: str | PathLike, about: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, whole or not at all; equal tensors give equal bytes; `about` is metadata.

    Not by safetensors' own `save_file`: that works on a hidden file of its own, which stays where the process is killed.
    """
    content = save({name: value.contiguous() for name, value in tensors.items()}, dict(about or {}) or None)
    with written(path, size=len(content)) as part:
        part.write_bytes(content)
