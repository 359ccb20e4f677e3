"""How a model of functional outcome is trained.

Learning rate that falls along a cosine and starts anew, each time from lower (Loshchilov, Hutter: ICLR 2017).

What a model of functional outcome is trained on: patients with their series, their clinical variables and outcome.

Train a model of series and clinical variables on a yes-or-no outcome.

Every model of the stroke study under one name: the fusion, its rivals and its habits one at a time.

The training runs of the stroke study: one contender, on one fold, with one seed, given some clinical variables.

Carry out the training runs of the stroke study: read series, train, write probabilities, history and weights.

What the two summaries of a trained fusion ask for, averaged over the patients it was not trained on.
"""

import hashlib
import inspect
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, Dataset

from lib.files import file_digest, write_csv
from lib.inputs.clinical import CATEGORICAL, CONTINUOUS, Scaler, arrays, variables
from lib.stroke.model import ClinicalTokens, StrokeNet, VolumeEncoder, WideAttention
from lib.stroke.series import read_series_features
from lib.training.folds import Fold, nested
from lib.training.loop import Checkpoint, Loop, run, write_weights

QUIRKS = ("frozen_positions", "scaler_on_all", "epoch_by_test")
RELEASED = ("frozen_positions", "scaler_on_all")


@dataclass(frozen=True)
class Recipe:
    """How a model of functional outcome is trained.

    Attributes
    ----------
    epochs, batch : int
        The last epoch counts unless `inner_folds` or a quirk says otherwise; patients a step.
    learning_rate : float
        Of Adam, where its schedule begins.
    schedule : {"warm_restarts", "one_fall"}
        The paper's 16 cosines, each three quarters as high as the one before, or a tenth of warming up and one cosine.
    widths, channels : tuple of int, int
        Channels of the encoder's four stages and of its last convolution; the paper's are 16, 32, 64, 128 and 1.
    heads, dropout : int, float
    frames_at_once : int
        Frames the encoder reads together; 0 all. Changes memory, not the result.
    bf16 : bool
        The encoder's convolutions in bfloat16: half the time on a processor that has it, logits move by hundredths.
    mirrored : bool
        In training, exchange left and right of a scan at random each time it comes up. The paper does not.
    standardise : bool
        Take from every voxel and frame its mean over the training patients; the paper does not.
    inner_folds : int
        Folds within the training patients that choose the number of epochs by their mean AUC, after which the model is
        trained on all of them for as long; 0 keeps `epochs`.
    quirks : tuple of str
        Habits of the released code, see `QUIRKS`: position vectors that are random and never learnt; a scaler of the
        clinical numbers that has seen the held-out patients; the epoch that was best on the held-out patients. The
        last one is not what the code does, but what its validation on the test patients invites to: `RELEASED` is
        without it.
    """

    epochs: int = 100
    batch: int = 1
    learning_rate: float = 1e-3
    schedule: str = "warm_restarts"
    widths: tuple[int, ...] = (16, 32, 64, 128)
    channels: int = 1
    heads: int = 8
    dropout: float = 0.2
    frames_at_once: int = 0
    bf16: bool = False
    mirrored: bool = False
    standardise: bool = False
    inner_folds: int = 0
    quirks: tuple[str, ...] = ()

    def with_quirks(self, *quirks: str) -> "Recipe":
        """The same recipe with these habits of the released code."""
        return replace(self, quirks=tuple(sorted({*self.quirks, *quirks})))


def steps_of_a_cycle(patients: int, epochs: int = 100, cycles: int = 16, batch: int = 1) -> int:
    """Steps of the optimiser in one cycle, so that about `cycles` fill a training.

    Rounded down, as the stroke model's released code does: a remainder begins one more cycle.

    Raises
    ------
    ValueError
        Fewer steps than cycles.
    """
    steps = math.ceil(patients / batch) * epochs // cycles
    if steps < 1:
        raise ValueError(
            f"{patients} patients in batches of {batch} for {epochs} epochs make fewer steps than {cycles} cycles; "
            "ask for fewer cycles or more epochs"
        )
    return steps


def warm_restarts(
    step: int, cycle: int, *, peak: float = 1.0, decay: float = 0.75, floor: float = 0.0
) -> float:
    """The learning rate at a step, all cycles of one length.

    Parameters
    ----------
    step : int
        From 0.
    cycle : int
        Steps of a cycle.
    peak : float
        The rate at step 0; leave it at 1 for the factor that `torch.optim.lr_scheduler.LambdaLR` takes.
    decay : float
        Cycle c starts from `peak * decay ** c`.
    floor : float
        The rate never falls below it.

    Returns
    -------
    float
        peak * (floor' + (1 - floor') * decay^c * (1 + cos(pi f)) / 2), f the share of the cycle that is over and
        floor' = floor / peak.
    """
    if step < 0 or cycle < 1 or not 0 <= floor <= peak:
        raise ValueError(
            f"warm_restarts(step={step}, cycle={cycle}, peak={peak}, floor={floor}): step must be 0 or more, a cycle 1 "
            "step or more, and floor between 0 and peak"
        )
    passed, within = divmod(step, cycle)
    return floor + (peak - floor) * decay**passed * (1 + math.cos(math.pi * within / cycle)) / 2


class Case(NamedTuple):
    """One patient. The series is read when it is wanted: those of a hundred patients are more than a machine holds."""

    patient: str
    read: Callable[[], np.ndarray]  # (frames, h, w, z)
    continuous: np.ndarray  # (c,), 0 to 1
    categorical: np.ndarray  # (k,), level from 0
    missing: np.ndarray  # (c + k,), True where the value is not known
    label: int  # 1 unfavourable


class Cases(Dataset):
    """Cases as tensors: series, continuous, categorical, missing, label.

    Parameters
    ----------
    cases : sequence of Case
    series : bool
        False leaves the series unread.
    mirrored : numpy Generator, optional
        Draws, each time a case comes up, whether its left and right are exchanged.
    """

    def __init__(
        self, cases: Sequence[Case], series: bool = True, mirrored: np.random.Generator | None = None
    ):
        self.cases, self.series, self.mirrored = cases, series, mirrored

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        case = self.cases[number]
        series = torch.as_tensor(case.read(), dtype=torch.float32) if self.series else torch.empty(0)
        if self.series and self.mirrored is not None and self.mirrored.random() < 0.5:
            series = series.flip(2)  # columns run from right to left
        clinical = (torch.as_tensor(part) for part in (case.continuous, case.categorical, case.missing))
        return (series, *clinical, torch.tensor(float(case.label)))


def unknown(table: pd.DataFrame, train: Sequence[str]) -> list[str]:
    """Variables that no training patient has: there is nothing to learn of them, whoever else has them."""
    return [name for name in table if table.loc[list(train), name].isna().all()]


def filled(table: pd.DataFrame, train: Sequence[str]) -> pd.DataFrame:
    """The same clinical table without gaps: the median, or the most frequent level, of the training patients.

    Parameters
    ----------
    table : DataFrame
        Indexed by patient; the variables of `lib.inputs.clinical`.
    train : sequence of str

    Raises
    ------
    ValueError
        A variable that no training patient has.
    """
    if empty := unknown(table, train):
        raise ValueError(f"no training patient has {', '.join(empty)}, so gaps in it cannot be filled")
    known = table.loc[list(train)]
    middle = {name: known[name].mode()[0] if name in CATEGORICAL else known[name].median() for name in table}
    return table.fillna(middle)


def cases(
    people: Sequence[str],
    known: Sequence[str],
    table: pd.DataFrame,
    label: pd.Series,
    setting: str,
    reader: Callable[[str], Callable[[], np.ndarray]],
) -> list[Case]:
    """Patients ready for a model.

    Parameters
    ----------
    people : sequence of str
        Patients wanted, in this order.
    known : sequence of str
        Patients the scaler is fitted on: those of training.
    table : DataFrame
        Indexed by patient; the clinical variables.
    label : Series
        Indexed by patient; 1 unfavourable.
    setting : str
        Which variables, see `lib.inputs.clinical.variables`.
    reader : callable
        Patient -> what reads the series.
    """
    names = variables(setting)
    scaler = Scaler.fit(table.loc[list(known), list(names)])
    continuous, categorical, missing = arrays(table.loc[list(people), list(names)], scaler, names)
    return [
        Case(name, reader(name), continuous[i], categorical[i], missing[i], int(label[name]))
        for i, name in enumerate(people)
    ]


class Trained(NamedTuple):
    """A model, and how its training went."""

    model: nn.Module
    history: pd.DataFrame  # epoch, loss, held_out_auc, chosen


class Standardised(nn.Module):
    """A network behind the scaling of its series; the scaling is part of its weights.

    What all heads have in common, voxel by voxel, is many times what tells one patient from another; taken away, the
    network begins to learn at once.
    """

    def __init__(self, model: nn.Module, frames: int, shape: Sequence[int]):
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.zeros(frames, *shape))
        self.register_buffer("spread", torch.ones(()))

    def fit(self, cases: Sequence[Case]) -> "Standardised":
        """Mean of every voxel and frame over the cases, and one spread around it for all of them."""
        total, squares = np.zeros(self.mean.shape), 0.0
        for case in cases:
            total += case.read()
        mean = total / len(cases)
        for case in cases:
            squares += np.square(case.read() - mean).mean()
        spread = np.sqrt(squares / len(cases)) or 1.0
        self.mean.copy_(torch.as_tensor(mean))
        self.spread.fill_(spread)
        return self

    def forward(self, series: Tensor, *clinical, **options):
        return self.model((series - self.mean) / self.spread, *clinical, **options)

    def penalty(self) -> Tensor:
        return self.model.penalty()

    @property
    def fusion(self) -> str:
        return self.model.fusion


class Outcome(Loop):
    """Binary cross-entropy plus the model's own penalty."""

    def __init__(self, model: nn.Module, recipe: Recipe, patients: int, held_out: Sequence[Case]):
        super().__init__(model, "held_out_auc" if "epoch_by_test" in recipe.quirks else "")
        self.recipe, self.patients, self.held_out = recipe, patients, held_out

    def descent(self):
        recipe = self.recipe
        adam = torch.optim.Adam(self.parameters(), lr=recipe.learning_rate, eps=1e-7)
        if recipe.schedule == "warm_restarts":
            cycle = steps_of_a_cycle(self.patients, recipe.epochs, batch=recipe.batch)
            factor = partial(warm_restarts, cycle=cycle)
        else:
            factor = one_fall(math.ceil(self.patients / recipe.batch) * recipe.epochs)
        return adam, torch.optim.lr_scheduler.LambdaLR(adam, factor), "step"

    def loss_of(self, batch):
        *inputs, label = batch
        return binary_cross_entropy_with_logits(self.model(*inputs).logit, label) + self.model.penalty()

    def watched(self):
        return {"held_out_auc": auc(self.held_out, logits(self.model, self.held_out, self.recipe.batch))}


def one_fall(steps: int) -> Callable[[int], float]:
    """Share of the learning rate at a step: a straight rise over the first tenth, then a cosine to 0 at `steps`."""
    rise = max(1, steps // 10)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

    return factor


def auc(cases: Sequence[Case], score: np.ndarray) -> float:
    """Area under the ROC curve; NaN where all cases had one outcome."""
    label = np.array([case.label for case in cases])
    return float(roc_auc_score(label, score)) if 0 < label.sum() < label.size else float("nan")


def needs_series(model: nn.Module) -> bool:
    """Whether a model reads the series at all."""
    return model.fusion != "clinical"


@torch.inference_mode()
def logits(model: nn.Module, cases: Sequence[Case], batch: int = 1) -> np.ndarray:
    """Logit of the unfavourable outcome, (n,)."""
    model.eval()
    device = next(model.parameters()).device
    loader = DataLoader(Cases(cases, needs_series(model)), batch)
    parts = [model(*(part.to(device) for part in inputs)).logit for *inputs, _ in loader]
    return torch.cat(parts).float().cpu().numpy().astype(np.float64)


def fit(
    build: Callable[[], nn.Module],
    train: Sequence[Case],
    held_out: Sequence[Case],
    recipe: Recipe,
    *,
    seed: int,
    stop_after: int = 0,
    device: str = "auto",
    checkpoint: str | os.PathLike = "",
    key: str = "",
    every_s: float = 60.0,
) -> Trained:
    """Train one model.

    Parameters
    ----------
    build : callable
        Makes the model, whose weights depend on torch's seed.
    train : sequence of Case
    held_out : sequence of Case
        Watched for the history. Learnt from only under the quirk "epoch_by_test".
    recipe : Recipe
    seed : int
        Weights, dropout, order.
    stop_after : int
        Epochs after which training ends, though its schedule is that of `recipe.epochs`; 0 all.
    device : str
        Lightning's accelerator.
    checkpoint, key, every_s
        See `lib.training.loop.run`.

    Raises
    ------
    ValueError
        Training patients of one outcome only, or a loss that is not finite.
    """
    if len({case.label for case in train}) < 2:
        raise ValueError(
            f"all {len(train)} training patients had the same outcome: there is nothing to learn"
        )
    L.seed_everything(seed, verbose=False)
    order = torch.Generator().manual_seed(seed)
    model = build()
    if isinstance(model, Standardised):
        model.fit(train)
    drawing = np.random.default_rng([seed, 2])
    dataset = Cases(train, needs_series(model), drawing if recipe.mirrored else None)
    batches = DataLoader(dataset, recipe.batch, shuffle=True, generator=order)
    loop = Outcome(model, recipe, len(train), held_out)
    history = run(
        loop,
        batches,
        stop_after or recipe.epochs,
        order=order,
        drawing=drawing,
        device=device,
        checkpoint=Checkpoint(checkpoint, key, every_s),
    )
    return Trained(loop.model, history)


VOLUMES = ("core_ml", "hypoperfused_ml", "mismatch_ml")
STRENGTHS = np.logspace(-3, 1, 9)  # of the logistic regressions, chosen by inner folds
TINY = np.finfo(float).eps


class Contender(NamedTuple):
    """What a model sees and how it decides."""

    kind: str  # "network" | "logistic" | "late"
    fusion: str = ""  # of a network, see `lib.stroke.model.StrokeNet`
    series: bool = True  # sees the scan: its series, or the volumes of its maps
    clinical: bool = True
    quirks: tuple[str, ...] = ()


CONTENDERS = {
    "fusion": Contender("network", "cross"),
    "fusion-released": Contender("network", "cross", quirks=RELEASED),
    **{f"fusion+{quirk}": Contender("network", "cross", quirks=(quirk,)) for quirk in QUIRKS},
    "concatenation": Contender("network", "concatenation"),
    "ctp": Contender("network", "imaging", clinical=False),
    "clinical-branch": Contender("network", "clinical", series=False),
    "late-fusion": Contender("late"),
    "logistic-clinical": Contender("logistic", series=False),
    "logistic-volumes": Contender("logistic", clinical=False),
    "logistic-both": Contender("logistic"),
}


def builder(
    name: str, setting: str, shape: Sequence[int], frames: int, recipe: Recipe, variant: str = "described"
) -> tuple[Callable[[], nn.Module], Recipe, bool]:
    """What makes a network, the recipe it is trained by, and whether gaps have to be filled before it.

    Parameters
    ----------
    name : str
        See `CONTENDERS`.
    setting : {"admission", "postprocedural"}
        Clinical variables.
    shape : (h, w, z)
    frames : int
    recipe : Recipe
    variant : {"described", "released"}
        "released" gives every network all habits of the released code.
    """
    contender = CONTENDERS[name]
    released = variant == "released" or contender.quirks == RELEASED
    recipe = recipe.with_quirks(*contender.quirks, *(RELEASED if released else ()))
    names = variables(setting)
    options = {
        "variant": "released" if released else "described",
        "fusion": contender.fusion,
        "continuous": sum(one in CONTINUOUS for one in names),
        "categories": tuple(len(CATEGORICAL[one]) for one in names if one in CATEGORICAL),
        "positional": "frozen" if "frozen_positions" in recipe.quirks else "learned",
        "widths": tuple(recipe.widths),
        "channels": recipe.channels,
        "heads": recipe.heads,
        "dropout": recipe.dropout,
        "frames_at_once": recipe.frames_at_once or None,
        "bf16": recipe.bf16,
    }

    def build() -> nn.Module:
        model = StrokeNet(tuple(shape), frames, **options)
        scaled = recipe.standardise and contender.series
        return Standardised(model, frames, shape) if scaled else model

    return build, recipe, released


def logistic(table: pd.DataFrame, label: pd.Series, seed: int) -> Pipeline:
    """Logistic regression on standardised columns, its strength of shrinking chosen by five inner folds.

    Parameters
    ----------
    table : DataFrame
        Training patients, without gaps; volumes in ml are taken as log(1 + ml).
    label : Series
        1 unfavourable.

    Raises
    ------
    ValueError
        No column, or fewer than two patients of an outcome.
    """
    if table.empty or min((label == outcome).sum() for outcome in (0, 1)) < 2:
        raise ValueError(
            f"a logistic regression needs a variable and two patients of each outcome: there are {table.shape[1]} "
            f"variables, {int((label == 1).sum())} patients with an unfavourable outcome, {int((label == 0).sum())} without"
        )
    folds = StratifiedKFold(min(5, int(label.value_counts().min())), shuffle=True, random_state=seed)
    regression = LogisticRegressionCV(Cs=STRENGTHS, cv=folds, scoring="neg_log_loss", max_iter=1000)
    return make_pipeline(StandardScaler(), regression).fit(table, label)


def columns(name: str, setting: str) -> list[str]:
    """Columns that a logistic regression reads."""
    contender = CONTENDERS[name]
    return [*(variables(setting) if contender.clinical else ()), *(VOLUMES if contender.series else ())]


def late_fusion(predictions: pd.DataFrame) -> pd.DataFrame:
    """The mean probability of `ctp` and `clinical-branch`, patient by patient, within setting, seed and fold.

    Parameters
    ----------
    predictions : DataFrame
        setting, model, seed, fold, patient, score (logit), probability.

    Raises
    ------
    ValueError
        The two do not predict the same patients.
    """
    keys = ["setting", "seed", "fold", "patient"]
    parts = {name: predictions[predictions["model"] == name] for name in ("ctp", "clinical-branch")}
    ctp, clinical = (part.set_index(keys)["probability"].sort_index() for part in parts.values())
    settings = set(ctp.index.unique("setting")) & set(clinical.index.unique("setting"))
    ctp, clinical = (part[part.index.get_level_values("setting").isin(settings)] for part in (ctp, clinical))
    if not ctp.index.equals(clinical.index):
        raise ValueError("late-fusion needs ctp and clinical-branch of the same patients, seeds and folds")
    mean = (ctp + clinical) / 2
    table = mean.rename("probability").reset_index().assign(model="late-fusion")
    # two probabilities that were rounded to 1 have no finite logit
    return table.assign(score=logit(table["probability"].clip(TINY, 1 - TINY)))


SCAN = "scan"  # where a model sees no clinical variable, one run serves every setting


class Unit(NamedTuple):
    """One training run."""

    setting: str
    fold: Fold
    model: str
    seed: int

    @property
    def name(self) -> str:
        """Names the run's files."""
        return f"{self.setting}.{self.fold.name}.{self.model}.s{self.seed}"


def plan_units(
    folds: Sequence[Fold],
    models: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    first_seed_only: Sequence[str] = (),
) -> dict[str, Unit]:
    """All runs, by name.

    Parameters
    ----------
    folds : sequence of Fold
    models : mapping
        Setting -> contenders. `late-fusion` is no run: it is made of `ctp` and `clinical-branch`.
    seeds : sequence of int
    first_seed_only : sequence of str
        Contenders run with the first seed alone; a logistic regression always is.
    """
    units = {}
    for setting, names in models.items():
        for fold in folds:
            for model in names:
                kind = CONTENDERS[model].kind
                if kind == "late":
                    continue
                once = kind == "logistic" or model in first_seed_only
                for seed in seeds[:1] if once else seeds:
                    unit = Unit(setting if CONTENDERS[model].clinical else SCAN, fold, model, seed)
                    units[unit.name] = unit
    return units


def settings_of(unit: Unit, models: Mapping[str, Sequence[str]]) -> list[str]:
    """The settings a run's predictions count in."""
    return (
        [unit.setting] if unit.setting != SCAN else [s for s, names in models.items() if unit.model in names]
    )


MEMORY = 2**32  # bytes of series kept for the next epoch; the others are read again
RESUMED = (fit, Loop, Case, StrokeNet, VolumeEncoder, WideAttention, ClinicalTokens, warm_restarts)
HISTORY = ["part", "epoch", "loss", "held_out_auc", "chosen"]


class Runs:
    """A cohort's patients with their series, and what is trained on them.

    Parameters
    ----------
    folder : path
        `results/<study>/<cohort>/`.
    cohort : DataFrame
        Indexed by patient: label (1 unfavourable), the clinical variables, the volumes.
    options : mapping
        What a run depends on: `variant`, `shape`, `frames`, and the fields of `Recipe`.
    keep_weights_of : int
        Seed whose weights are written.
    device : str

    Notes
    -----
    A clinical variable that no training patient has (ISLES'24 has no smoking) is left out of a logistic regression,
    masked for everybody in a network, and 0 for everybody in one that knows no mask (`released`): the same for a
    held-out patient who has it, as nothing could be learnt of it. Other gaps are masked, or filled from the training
    patients, see `lib.stroke.train.filled`. A volume that no training patient has is refused.
    """

    def __init__(
        self,
        folder: Path,
        cohort: pd.DataFrame,
        options: Mapping[str, Any],
        keep_weights_of: int,
        device: str = "auto",
    ):
        self.folder, self.cohort, self.options = folder, cohort, dict(options)
        self.kept, self.device = keep_weights_of, device
        size = 4 * options["frames"] * int(np.prod(options["shape"]))
        self._series = lru_cache(maxsize=max(1, MEMORY // size))(self._read)

    def series_path(self, patient: str) -> Path:
        """A patient's series as the networks take it."""
        return self.folder / "features" / f"{patient}.h5"

    def inputs(self, unit: Unit) -> list[Path]:
        """Files a run reads."""
        if CONTENDERS[unit.model].kind == "logistic" or not CONTENDERS[unit.model].series:
            return []
        return [self.series_path(name) for name in (*unit.fold.train, *unit.fold.test)]

    def outputs(self, unit: Unit) -> list[Path]:
        """Files a run writes: probabilities of the held-out patients, history, weights of the first seed."""
        paths = [self.folder / "train" / f"{unit.name}.{what}.csv" for what in ("scores", "history")]
        if unit.seed == self.kept and CONTENDERS[unit.model].kind == "network":
            paths.append(self.folder / "weights" / f"{unit.name}.safetensors")
        return paths

    def depends(self, unit: Unit) -> dict[str, Any]:
        """What else a run's result depends on."""
        rows = self.cohort.loc[[*unit.fold.train, *unit.fold.test], ["label", *self._columns(unit)]]
        known = rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
        return {**self.options, "unit": unit._asdict(), "patients": known}

    def train(self, unit: Unit) -> None:
        """Do one run and write its outputs."""
        scores, history, *weights = self.outputs(unit)
        if CONTENDERS[unit.model].kind == "logistic":
            score, epochs = self._logistic(unit), pd.DataFrame(columns=HISTORY)
        else:
            model, held_out, epochs = self._network(unit)
            score = logits(model, held_out, self.options["batch"])
            for path in weights:
                write_weights(model.state_dict(), path)
        table = pd.DataFrame({"patient": unit.fold.test, "score": score, "probability": expit(score)})
        write_csv(table, scores)
        write_csv(epochs[HISTORY], history)

    def _logistic(self, unit: Unit) -> np.ndarray:
        train, test = list(unit.fold.train), list(unit.fold.test)
        names = columns(unit.model, unit.setting)
        lost = unknown(self.cohort[[name for name in names if name not in VOLUMES]], train)
        table = filled(self.cohort[[name for name in names if name not in lost]], train)
        volumes = [name for name in VOLUMES if name in table]
        table[volumes] = np.log1p(table[volumes])
        model = logistic(table.loc[train], self.cohort.loc[train, "label"], unit.seed)
        return model.decision_function(table.loc[test])

    def _network(self, unit: Unit) -> tuple[StrokeNet, list[Case], pd.DataFrame]:
        build, recipe, gapless = self._builder(unit)
        setting = variables_of(unit.setting)
        train = partial(fit, build, recipe=recipe, seed=unit.seed, device=self.device)
        told, stop = [], 0
        if recipe.inner_folds and "epoch_by_test" not in recipe.quirks:
            for inner in self.inner(unit.fold, recipe.inner_folds, unit.seed):
                trained = train(
                    *self._sides(inner, setting, recipe, gapless), **self._resume(unit, inner.name)
                )
                told.append(trained.history.assign(part=inner.name, chosen=False))
            mean = pd.concat(told).groupby("epoch")["held_out_auc"].mean()
            stop = int(mean.idxmax()) + 1
        learnt, held_out = self._sides(unit.fold, setting, recipe, gapless)
        trained = train(learnt, held_out, stop_after=stop, **self._resume(unit, "whole"))
        told.append(trained.history.assign(part="whole"))
        return trained.model, held_out, pd.concat(told, ignore_index=True)

    def untrained(self, model: str, fold: Fold, setting: str) -> tuple[StrokeNet, list[Case]]:
        """A network as `train` builds it, and the held-out cases of a fold."""
        build, recipe, gapless = self._builder(Unit(setting, fold, model, self.kept))
        return build(), self._sides(fold, setting, recipe, gapless)[1]

    def _builder(self, unit: Unit):
        known = Recipe.__dataclass_fields__
        recipe = Recipe(**{name: value for name, value in self.options.items() if name in known})
        shape, frames, variant = (self.options[name] for name in ("shape", "frames", "variant"))
        return builder(unit.model, variables_of(unit.setting), shape, frames, recipe, variant)

    def inner(self, fold: Fold, k: int, seed: int) -> list[Fold]:
        """Folds within the training patients of a fold, balanced by outcome."""
        return nested(fold, {name: name for name in self.cohort.index}, dict(self.cohort["label"]), k, seed)

    def _sides(
        self, fold: Fold, setting: str, recipe: Recipe, gapless: bool
    ) -> tuple[list[Case], list[Case]]:
        """Training and held-out cases of a fold."""
        table = self.cohort[list(variables(setting))]
        table = table.assign(**dict.fromkeys(unknown(table, fold.train), 0.0 if gapless else np.nan))
        if gapless:
            table = filled(table, fold.train)
        everybody = (*fold.train, *fold.test)
        scaled_on = everybody if "scaler_on_all" in recipe.quirks else fold.train

        def ready(people: Sequence[str]) -> list[Case]:
            label = self.cohort["label"]
            return cases(people, scaled_on, table, label, setting, lambda name: partial(self._series, name))

        return ready(fold.train), ready(fold.test)

    def _resume(self, unit: Unit, part: str) -> dict[str, Any]:
        """Where a half-trained model lies, and of what it is: it goes on only if nothing changed."""
        files = [(path.name, file_digest(path)) for path in self.inputs(unit)]
        code = [Path(inspect.getfile(one)).read_text(encoding="utf-8") for one in RESUMED]
        told = json.dumps([self.depends(unit), part, files, code], sort_keys=True, default=str)
        path = self.folder / "train" / f"{unit.name}.{part}.checkpoint.safetensors"
        return {"checkpoint": path, "key": hashlib.sha256(told.encode()).hexdigest()}

    def _columns(self, unit: Unit) -> list[str]:
        if CONTENDERS[unit.model].kind == "logistic":
            return columns(unit.model, unit.setting)
        return list(variables(unit.setting)) if CONTENDERS[unit.model].clinical else []

    def _read(self, patient: str) -> np.ndarray:
        return read_series_features(self.series_path(patient))


def variables_of(setting: str) -> str:
    """The clinical setting a network is built for; one that sees the scan alone has the tokens of none of them."""
    return "admission" if setting == SCAN else setting


@torch.inference_mode()
def mean_attention(work: Runs, fold: Fold, setting: str, path: str | os.PathLike) -> pd.DataFrame:
    """Attention of the class tokens of `fusion`, mean over heads and held-out patients.

    Parameters
    ----------
    work : Runs
    fold : Fold
    setting : str
    path : path
        Its weights.

    Returns
    -------
    DataFrame
        fold; asks ("variable": the film's summary asks a clinical variable; "frame": the form's summary asks a
        frame); name (variable, or frame from 0); attention, which sums to 1 minus what the other modality's class
        token received; equal, what attention would be if all tokens received the same. A variable is averaged over
        the patients who have it.
    """
    model, held_out = work.untrained("fusion", fold, setting)
    model.load_state_dict(load_file(path))
    model.eval()
    seen: dict[str, list[np.ndarray]] = {"imaging_asks": [], "clinical_asks": []}
    known = []
    for *inputs, _ in DataLoader(Cases(held_out), 8):
        found = model(*inputs, attention=True).attention
        for name, parts in seen.items():
            parts.append(found[name][:, :, 0, 1:].mean(1).numpy())  # the asking class token; heads averaged
        known.append(~inputs[3].numpy())
    mean = {name: np.concatenate(parts) for name, parts in seen.items()}
    there = np.concatenate(known)
    to_variables = np.where(there, mean["imaging_asks"], np.nan)
    rows = [
        {
            "asks": "variable",
            "name": name,
            "attention": np.nanmean(column),
            "equal": np.mean(1 / (1 + there.sum(1))),
        }
        for name, column in zip(variables(setting), to_variables.T, strict=True)
        if not np.isnan(column).all()
    ]
    frames = mean["clinical_asks"].mean(0)
    rows += [
        {"asks": "frame", "name": str(frame), "attention": value, "equal": 1 / (1 + len(frames))}
        for frame, value in enumerate(frames)
    ]
    return pd.DataFrame(rows).assign(fold=fold.name)
