"""Train the contenders of the stroke study: networks of film and form, and logistic regressions.

Nothing is fitted on held-out patients: not the scaler of the clinical numbers, not the fill of gaps, not the epoch;
except where a quirk of `lib.stroke.params` says so. The learning rate falls along a cosine and may start anew, each time
from lower (Loshchilov, Hutter: ICLR 2017).
"""

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from inspect import signature
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset

from lib.stroke.clinical import CATEGORICAL, CONTINUOUS, Arrays, arrays, variables
from lib.stroke.model import StrokeNet
from lib.stroke.params import CONTENDERS, RELEASED, VOLUMES, Recipe
from lib.stroke.series import read_series_features
from lib.training.folds import Fold
from lib.training.runs import Checkpoint, Loop, Result, Run, run

STRENGTHS = np.logspace(-3, 1, 9)  # of the logistic regressions, chosen by inner folds
HISTORY = ["epoch", "loss", "held_out_auc", "chosen"]
MEMORY = 2**32  # bytes of series kept for the next epoch; the others are read again


class Patients(Dataset):
    """Patients as tensors: series (frames, h, w, z), continuous (c,), categorical (k,), missing (c + k,), label.

    `read` is what reads a series when it is wanted (those of a hundred patients are more than a machine holds); None
    leaves it out. `label` (n,) is 1 where unfavourable.
    """

    def __init__(
        self, names: Sequence[str], read: Callable[[str], np.ndarray] | None, clinical: Arrays, label
    ):
        self.names, self.read, self.clinical, self.label = list(names), read, clinical, np.asarray(label)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        series = torch.as_tensor(self.read(self.names[number])) if self.read else torch.empty(0)
        clinical = (torch.as_tensor(part[number]) for part in self.clinical)
        return (series, *clinical, torch.tensor(float(self.label[number])))


class Data:
    """A cohort's patients, and how models are trained on them.

    `table` is indexed by patient: label (1 unfavourable), the clinical variables, the volumes; `folder` has
    `features/<patient>.h5`.

    A clinical variable that no training patient has (ISLES'24 has no smoking) is left out of a logistic regression,
    masked for everybody in a network, and 0 for everybody in one that knows no mask (`released`): the same for a
    held-out patient who has it, as nothing could be learnt of it. Other gaps are masked, or filled from the training
    patients, see `filled`. A volume that no training patient has is refused.
    """

    def __init__(self, table: pd.DataFrame, folder: str | os.PathLike, params: Recipe):
        self.table, self.folder, self.params = table, Path(folder), params
        size = 4 * params.frames * math.prod(params.shape)
        self.series = lru_cache(maxsize=max(1, MEMORY // size))(self._read)

    def _read(self, patient: str) -> np.ndarray:
        return read_series_features(self.folder / "features" / f"{patient}.h5")

    def files(self, run: Run) -> list[Path]:
        """The series that a run reads."""
        reads = CONTENDERS[run.model].kind == "network" and CONTENDERS[run.model].series
        people = (*run.fold.train, *run.fold.test) if reads else ()
        return [self.folder / "features" / f"{name}.h5" for name in people]

    def depends(self, run: Run) -> dict[str, Any]:
        """What else a run's result depends on: the recipe, and what it reads of its patients."""
        rows = self.table.loc[[*run.fold.train, *run.fold.test], ["label", *columns(run.model, run.setting)]]
        known = rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
        return {**{name: getattr(self.params, name) for name in Recipe.model_fields}, "patients": known}

    def sides(self, run: Run) -> tuple[Patients, Patients]:
        """Training and held-out patients of a run's fold, ready for its network."""
        fold, quirks = run.fold, quirks_of(run.model, self.params)
        table = self.table[list(variables(run.setting))]
        gapless = quirks.issuperset(RELEASED)
        table = table.assign(**dict.fromkeys(unknown(table, fold.train), 0.0 if gapless else np.nan))
        table = filled(table, fold.train) if gapless else table
        scaled_on = [*fold.train, *fold.test] if "scaler_on_all" in quirks else list(fold.train)
        read = self.series if CONTENDERS[run.model].series else None

        def ready(people: Sequence[str]) -> Patients:
            clinical = arrays(table.loc[list(people)], table.loc[scaled_on])
            return Patients(people, read, clinical, self.table.loc[list(people), "label"])

        return ready(fold.train), ready(fold.test)


def fit(run: Run, data: Data, checkpoint: Checkpoint = Checkpoint()) -> Result:  # noqa: B008  never changed
    """Do one run: scores (patient, score: the logit, probability) of the held-out patients, history, weights."""
    if CONTENDERS[run.model].kind == "logistic":
        score, history, weights = logistic(run, data), pd.DataFrame(columns=HISTORY), {}
    else:
        model, history = train(run, data, data.params.epochs, checkpoint)
        score = logits(model, data.sides(run)[1], data.params.batch)
        weights = model.state_dict()
    scores = pd.DataFrame({"patient": run.fold.test, "score": score, "probability": expit(score)})
    return Result(scores, history[HISTORY], weights)


def train(run_: Run, data: Data, epochs: int, checkpoint: Checkpoint) -> tuple[nn.Module, pd.DataFrame]:
    """Train the network of a run for some of its epochs; its history: `HISTORY`, an epoch a row."""
    train, held_out = data.sides(run_)
    if len(set(train.label)) < 2:
        raise ValueError(f"all {len(train)} training patients had the same outcome: nothing is to be learnt")
    L.seed_everything(run_.seed, verbose=False)
    order = torch.Generator().manual_seed(run_.seed)
    model = build(run_.model, run_.setting, data.params)
    if isinstance(model, Standardised):
        model.fit(train)
    quirks = quirks_of(run_.model, data.params)
    whole = "whole_batches" in quirks
    batches = DataLoader(train, data.params.batch, shuffle=True, generator=order, drop_last=whole)
    if not len(batches):
        raise ValueError(
            f"`batch` is {data.params.batch}, and only whole batches of {len(train)} patients train: make it smaller"
        )
    best = "held_out_auc" if "epoch_by_test" in quirks else ""
    loop = Training(model, data.params, len(batches), held_out, best)
    how = {"order": order, "drawing": np.random.default_rng(run_.seed), "checkpoint": checkpoint}
    history = run(loop, batches, epochs, device=data.params.device, **how)
    return loop.model, history


class Training(Loop):
    """Binary cross-entropy plus the model's own penalty; watched is the AUC of the held-out patients.

    `batches` is how many make an epoch.
    """

    def __init__(self, model: nn.Module, params: Recipe, batches: int, held_out: Patients, chosen_by: str):
        super().__init__(model, chosen_by)
        self.params, self.batches, self.held_out = params, batches, held_out

    def descent(self):
        adam = torch.optim.Adam(self.parameters(), lr=self.params.learning_rate, eps=1e-7)
        steps = self.batches * self.params.epochs
        factor = partial(one_fall, steps=steps)
        if self.params.schedule == "warm_restarts":
            factor = partial(warm_restarts, cycle=steps_of_a_cycle(steps))
        return adam, torch.optim.lr_scheduler.LambdaLR(adam, factor), "step"

    def loss_of(self, batch):
        *inputs, label = batch
        return binary_cross_entropy_with_logits(self.model(*inputs).logit, label) + self.model.penalty()

    def watched(self):
        score = logits(self.model, self.held_out, self.params.batch)
        return {"held_out_auc": _auc(self.held_out.label, score)}


def steps_of_a_cycle(steps: int, cycles: int = 16) -> int:
    """Steps of one cycle: rounded down, as the released code does, so that a remainder begins one more cycle."""
    if steps < cycles:
        raise ValueError(f"{steps} steps are fewer than {cycles} cycles: more epochs, or another schedule")
    return steps // cycles


def warm_restarts(step: int, cycle: int, decay: float = 0.75) -> float:
    """Share of the learning rate at a step: decay^c (1 + cos(pi f)) / 2, cycle c of `cycle` steps, f of it over."""
    passed, within = divmod(step, cycle)
    return decay**passed * (1 + math.cos(math.pi * within / cycle)) / 2


def one_fall(step: int, steps: int) -> float:
    """Share of the learning rate at a step: a straight rise over the first tenth, then a cosine to 0 at `steps`."""
    rise = max(1, steps // 10)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))


@torch.inference_mode()
def logits(model: nn.Module, patients: Patients, batch: int) -> np.ndarray:
    """Logit of the unfavourable outcome, float64 (n,)."""
    model.eval()
    device = next(model.parameters()).device
    parts = [model(*(part.to(device) for part in inputs)).logit for *inputs, _ in DataLoader(patients, batch)]
    return torch.cat(parts).float().cpu().numpy().astype(np.float64)


class Standardised(nn.Module):
    """A network behind the scaling of its series; the scaling is part of its weights.

    What all heads have in common, voxel by voxel, is many times what tells one patient from another; taken away, the
    network begins to learn at once.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.penalty = model, model.penalty
        self.register_buffer("mean", torch.zeros(model.frames, *model.shape))
        self.register_buffer("spread", torch.ones(()))

    def fit(self, patients: Patients) -> None:
        """Mean of every voxel and frame over the patients, and one spread around it for all of them."""
        total, squares = np.zeros(self.mean.shape), 0.0
        for name in patients.names:
            total += patients.read(name)
        mean = total / len(patients)
        for name in patients.names:
            squares += np.square(patients.read(name) - mean).mean()
        self.mean.copy_(torch.as_tensor(mean))
        self.spread.fill_(np.sqrt(squares / len(patients)) or 1.0)

    def forward(self, series: Tensor, *clinical, **options):
        return self.model((series - self.mean) / self.spread, *clinical, **options)


def build(name: str, setting: str, params: Recipe) -> nn.Module:
    """The network of a contender, given the variables of a setting, with fresh weights."""
    quirks, contender, clinical = quirks_of(name, params), CONTENDERS[name], variables(setting)
    known = {key: getattr(params, key) for key in signature(StrokeNet).parameters if hasattr(params, key)}
    known |= {
        "fusion": contender.fusion,
        "continuous": sum(each in CONTINUOUS for each in clinical),
        "categories": tuple(len(CATEGORICAL[each]) for each in clinical if each in CATEGORICAL),
        "positional": "frozen" if "frozen_positions" in quirks else "learned",
    }
    model = StrokeNet(**known)
    return Standardised(model) if params.standardise and contender.series else model


def quirks_of(name: str, params: Recipe) -> set[str]:
    """The released code's habits that a contender has."""
    return {*CONTENDERS[name].quirks, *(RELEASED if params.variant == "released" else ())}


def columns(name: str, setting: str) -> list[str]:
    contender = CONTENDERS[name]
    volumes = VOLUMES if contender.kind == "logistic" and contender.series else []
    return [*(variables(setting) if contender.clinical else ()), *volumes]


def unknown(table: pd.DataFrame, train: Sequence[str]) -> list[str]:
    """Variables that no training patient has: there is nothing to learn of them, whoever else has them."""
    return [name for name in table if table.loc[list(train), name].isna().all()]


def filled(table: pd.DataFrame, train: Sequence[str]) -> pd.DataFrame:
    """A table (indexed by patient) without gaps: the median, or most frequent level, of the training patients."""
    if empty := unknown(table, train):
        raise ValueError(f"no training patient has {', '.join(empty)}, so gaps in it cannot be filled")
    known = table.loc[list(train)]
    middle = {name: known[name].mode()[0] if name in CATEGORICAL else known[name].median() for name in table}
    return table.fillna(middle)


def logistic(run: Run, data: Data) -> np.ndarray:
    """Logits of the held-out patients by a ridge logistic regression; its strength is chosen by five inner folds.

    Columns are standardised; volumes in ml are taken as log(1 + ml).
    """
    train, test = list(run.fold.train), list(run.fold.test)
    table = data.table[columns(run.model, run.setting)]
    table = filled(table.drop(columns=set(unknown(table, train)) - set(VOLUMES)), train)
    volumes = table.columns.intersection(VOLUMES)
    table = table.assign(**np.log1p(table[volumes]))
    label = data.table.loc[train, "label"]
    if table.empty or label.nunique() < 2 or label.value_counts().min() < 2:
        raise ValueError("a logistic regression needs a variable and two training patients of each outcome")
    folds = StratifiedKFold(min(5, int(label.value_counts().min())), shuffle=True, random_state=run.seed)
    regression = LogisticRegressionCV(Cs=STRENGTHS, cv=folds, scoring="neg_log_loss", max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of defaults that will change
        model = make_pipeline(StandardScaler(), regression).fit(table.loc[train], label)
    return model.decision_function(table.loc[test])


def with_late_fusion(predictions: pd.DataFrame, models: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Predictions (setting, model, seed, fold, patient, score: the logit, probability) with those of late fusion below.

    Late fusion is the mean probability of `ctp` and `clinical-branch`, where a setting's `models` ask for it.
    """
    settings = [setting for setting, names in models.items() if "late-fusion" in names]
    parts = predictions["model"].isin(["ctp", "clinical-branch"]) & predictions["setting"].isin(settings)
    if not parts.any():
        return predictions
    keys = ["setting", "seed", "fold", "patient"]
    both = predictions[parts].pivot(index=keys, columns="model", values="probability")
    if both.shape[1] < 2 or both.isna().any(axis=None):
        raise ValueError("late-fusion needs ctp and clinical-branch of the same patients, seeds and folds")
    table = both.mean(axis=1).rename("probability").reset_index().assign(model="late-fusion")
    # two probabilities that were rounded to 1 have no finite logit
    tiny = np.finfo(float).eps
    table["score"] = logit(table["probability"].clip(tiny, 1 - tiny))
    return pd.concat([predictions, table[list(predictions)]], ignore_index=True)


@torch.inference_mode()
def mean_attention(data: Data, run: Run) -> pd.DataFrame:
    """Attention of a fusion's class tokens, mean over heads and held-out patients: asks, name, attention, equal, fold.

    By the weights that the run left. `asks` is "variable" (the film's summary asks a clinical variable) or "frame" (the
    form's summary asks a frame, counted from 0). Attention sums to 1 minus what the other modality's class token
    received; `equal` is what it would be if all tokens received the same. A variable is averaged over those who have it.
    """
    model, held_out = build(run.model, run.setting, data.params).eval(), data.sides(run)[1]
    model.load_state_dict(load_file(data.folder / "weights" / f"{run.name}.safetensors"))
    weights = [model(*inputs, attention=True).attention for *inputs, _ in DataLoader(held_out, 8)]

    def of_class_token(name: str) -> np.ndarray:  # (patients, tokens asked), heads averaged
        return np.concatenate([part[name][:, :, 0, 1:].mean(1).numpy() for part in weights])

    there = ~held_out.clinical.missing
    to_variables = pd.DataFrame(of_class_token("imaging_asks"), columns=variables(run.setting)).where(there)
    to_frames = of_class_token("clinical_asks").mean(0)
    equal = {"variable": np.mean(1 / (1 + there.sum(1))), "frame": 1 / (1 + len(to_frames))}
    means = {"variable": to_variables.mean().dropna(), "frame": pd.Series(to_frames)}
    table = pd.concat(means, names=["asks", "name"]).rename("attention").reset_index()
    return table.assign(name=table["name"].astype(str), equal=table["asks"].map(equal), fold=run.fold.name)


# ------------------------------------------------------------ hospitals


COLUMNS = ["setting", "model", "hospital", "patients", "unfavourable", "auc"]


def by_hospital(predictions: pd.DataFrame, patients: pd.DataFrame) -> pd.DataFrame:
    """AUC of each model within each hospital, held-out patients of all folds together, mean over seeds.

    `predictions` has setting, model, seed, patient, hospital, label (1 unfavourable), score: one row a held-out patient and
    seed; `patients` hospital and label, by patient. Returned are `COLUMNS`, hospital being "all" too, auc NaN where only one
    outcome occurs. The last row, model "hospital alone", calls each patient by the share of bad outcomes in the hospital: seen
    beforehand, so it is what could be had at most.
    """
    rows, everybody = [], pd.concat([predictions.assign(hospital="all"), predictions])
    for about, part in everybody.groupby(["setting", "model", "hospital"], sort=False):
        aucs = [_auc(one["label"], one["score"]) for _, one in part.groupby("seed")]
        people = part.drop_duplicates("patient")
        rows.append((*about, len(people), int(people["label"].sum()), float(np.mean(aucs))))
    label = patients["label"]
    shares = label.groupby(patients["hospital"]).transform("mean")
    rows.append(("", "hospital alone", "all", len(label), int(label.sum()), _auc(label, shares)))
    return pd.DataFrame(rows, columns=COLUMNS)


def across_hospitals(data: Data, settings: Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
    """AUC of the regression on the form, trained in the hospital with most patients, tested in each other: mean over seeds.

    `data.table` has hospital, too. Columns as of `by_hospital`, hospital being "<other>, trained in <most>".
    ValueError where that hospital has not two patients of each outcome.
    """
    table, model, rows = data.table, "logistic-clinical", []
    home, *others = table["hospital"].value_counts().index
    for setting in settings:
        for other in others:
            away = table[table["hospital"] == other]
            fold = Fold(str(other), tuple(table.index[table["hospital"] == home]), tuple(away.index))
            scores = [logistic(Run(setting, fold, model, seed), data) for seed in seeds]
            auc = float(np.mean([_auc(away["label"], score) for score in scores]))
            where = f"{other}, trained in {home}"
            rows.append((setting, model, where, len(away), int(away["label"].sum()), auc))
    return pd.DataFrame(rows, columns=COLUMNS)


def _auc(label: Sequence[int], score: Sequence[float]) -> float:
    return float(roc_auc_score(label, score)) if len(set(label)) > 1 else np.nan
