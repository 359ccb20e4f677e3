"""The training runs of every study: one plan, one way to carry it out, one collection of what came out."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from torch import Tensor

from lib.files import write_csv
from lib.stage import Stage
from lib.training.folds import Fold
from lib.training.loop import Checkpoint, write_weights

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
    return (
        rows.groupby(["setting", "model"], sort=False)["fold"].agg(folds="nunique", runs="size").reset_index()
    )


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
