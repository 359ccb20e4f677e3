"""Controls of the bench: patients whose answer is known. Outcomes dealt anew, a modality exchanged, effects planted.

A bench that finds something where nothing is, or nothing where something was planted, cannot judge a head.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from lib.fusion.model import head_of
from lib.fusion.params import OFFSET, RIVALS, FusionParams
from lib.fusion.tokens import Inputs, inner_folds
from lib.fusion.train import ASIDE, Data, fit, scored, train
from lib.training.folds import Fold
from lib.training.runs import Run

KINDS = ("additive", "choice")
CHOOSES, GROUPS = "female", ("protein_kinases", "cytokines")  # who chooses, and what of
EVENTS = 0.5  # share of planted patients who die


class Held(Data):
    """A bench's data in memory: outcomes and folds, and the inputs of each fold."""

    def __init__(
        self, params: FusionParams, table: pd.DataFrame, folds: Iterable[Fold], inputs: Mapping[str, Inputs]
    ):
        self.params, self.table, self.folds, self._inputs = params, table, list(folds), inputs

    def inputs(self, fold: Fold) -> Inputs:
        """Inputs of a fold's patients, with the outcomes of the table."""
        inputs = self._inputs[fold.name]
        outcome = self.table.loc[inputs.patients, ["time", "event"]].to_numpy(np.float32)
        return inputs._replace(time=torch.tensor(outcome[:, 0]), event=torch.tensor(outcome[:, 1]))


def predictions(data: Held, models: Sequence[str]) -> pd.DataFrame:
    """What contenders predict of held-out patients, trained as in the bench: setting, model, seed, fold, patient, score, ..."""
    parts = []
    for model in models:
        for fold in data.folds:
            run = Run("control", fold, model, data.params.seeds[0])
            about = {"model": model, "fold": fold.name} | ({"seed": run.seed} if model in RIVALS else {})
            parts.append(fit(run, data).scores.assign(**about))
    return pd.concat(parts, ignore_index=True)


def tuned(run: Run, data: Held, counts: Sequence[int]) -> dict[int, tuple[pd.DataFrame, pd.DataFrame]]:
    """A network whose setting and epochs the first `count` inner folds choose, as `fit` lets the first alone: count -> scores of
    held-out patients, table of trials.
    """
    inputs, how, seeds, found = data.inputs(run.fold), data.params, data.seeds(run.model), {}
    if not run.model.endswith(OFFSET):
        inputs = inputs._replace(offset=torch.zeros_like(inputs.offset))
    inner = inner_folds(data.table, run.fold, how.seed, ASIDE)
    for count in counts:
        network = train(head_of(run.model, how.own_heads), inputs, run.fold, inner[:count], seeds, how)
        found[count] = scored(network, inputs.of(run.fold.test), seeds, how.months), network.tuning
    return found


def permuted(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The cohort with outcomes dealt anew among the patients of each fold: nothing tells who dies, and no fold changes."""
    random, dealt = np.random.default_rng(seed), table.copy()
    for _, rows in table.groupby("fold"):
        order = random.permutation(len(rows))
        dealt.loc[rows.index, ["time", "event"]] = rows[["time", "event"]].to_numpy()[order]
    return dealt.astype({"event": table["event"].dtype})


def exchanged(inputs: Inputs, fold: Fold, modalities: Sequence[str], seed: int) -> Inputs:
    """Modalities of the held-out patients dealt anew among them, together: each has somebody else's, and who lacks them changes
    along. Training patients keep theirs. An offset, which rests on the clinic, goes with the clinic.
    """
    order, held = np.arange(len(inputs.patients)), np.flatnonzero(np.isin(inputs.patients, fold.test))
    order[held] = np.random.default_rng(seed).permutation(held)
    columns = {
        name: values[order] if name in modalities else values for name, values in inputs.columns.items()
    }
    moved = torch.tensor([name in modalities for name in inputs.columns])
    present = torch.where(moved, inputs.present[order], inputs.present)
    offset = inputs.offset[order] if "clinic" in modalities else inputs.offset
    return inputs._replace(columns=columns, present=present, offset=offset)


def asked_again(inputs: Inputs, fold: Fold, changed: Mapping[str, Inputs]) -> tuple[Inputs, Fold]:
    """A fold whose held-out patients come once as they are and once, as `patient@name`, from each of the changed inputs: a
    contender is trained once and asked of all.
    """
    held = inputs.of(list(fold.test))
    parts = [inputs.of(list(fold.train)), held]
    for name, each in changed.items():
        copies = each.of(list(fold.test))
        parts.append(copies._replace(patients=[f"{patient}@{name}" for patient in copies.patients]))
    columns = {name: torch.cat([part.columns[name] for part in parts]) for name in inputs.columns}
    rest = (torch.cat([getattr(part, name) for part in parts]) for name in Inputs._fields[2:6])
    names = [patient for part in parts for patient in part.patients]
    return Inputs(names, columns, *rest, inputs.clinic), fold._replace(test=tuple(names[len(fold.train) :]))


def noised(inputs: Inputs, modalities: Sequence[str], seed: int) -> Inputs:
    """Modalities replaced by standard normal numbers, in training and held-out patients; without a clinic there is no offset."""
    draw = torch.Generator().manual_seed(seed)
    columns = {
        name: torch.randn(values.shape, generator=draw) if name in modalities else values
        for name, values in inputs.columns.items()
    }
    offset = torch.zeros_like(inputs.offset) if "clinic" in modalities else inputs.offset
    return inputs._replace(columns=columns, offset=offset)


def planted(inputs: Inputs, kind: str, strength: float, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Outcomes made up on real inputs.

    The log hazard is `strength` times a number of mean 0 and spread 1, made of two: a, the first principal component of the
    group of genes GROUPS[0], and b, that of GROUPS[1] less what a says of it. "additive": a + b, which a Cox model can have.
    "choice": a in the patients whom the clinical column `CHOOSES` marks, b in the others: a linear model has half of it at
    most, for in each patient it cannot know which to read.

    Returns
    -------
    table : DataFrame
        Index patient: time, event, cancer, about half died.
    log_hazard : array (n,)
    """
    a, b = (_component(inputs.columns[name].numpy()) for name in GROUPS)
    b = _standard(b - a * (a @ b) / len(a))
    marked = inputs.columns["clinic"].numpy()[:, inputs.clinic.index(CHOOSES)] > 0
    log_hazard = strength * _standard({"additive": a + b, "choice": np.where(marked, a, b)}[kind])
    random = np.random.default_rng(seed)
    death, leave = random.exponential(np.exp(-log_hazard)), random.exponential(size=len(a))
    leave = leave * np.quantile(death / leave, EVENTS)
    table = pd.DataFrame({"time": np.minimum(death, leave) * 30, "event": (death <= leave).astype(int)})
    return table.assign(cancer="planted").set_index(pd.Index(inputs.patients, name="patient")), log_hazard


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def _component(columns: np.ndarray) -> np.ndarray:
    """First principal component of patients (n, k), mean 0, spread 1."""
    _, vectors = np.linalg.eigh(np.cov(columns.T))
    return _standard(columns @ vectors[:, -1])
