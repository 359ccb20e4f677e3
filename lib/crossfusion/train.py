"""Train a model of slides on survival: one patient at a time, gradients gathered over many (Lightning does the loop)."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from lifelines.utils import concordance_index
from safetensors.torch import load_file
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from lib.crossfusion.bags import Bag, drawn, patient_bag, read_bag
from lib.crossfusion.model import CrossFusion
from lib.crossfusion.params import CONTENDERS, CrossFusionParams, Training, habits_of
from lib.features.feature_files import bag_files
from lib.models.attention import AMIL, DSMIL, MeanPool, TransMIL
from lib.training.discrete_time import (
    bin_of,
    fit_bins,
    survival_at,
    survival_cross_entropy,
    survival_nll,
    survival_of,
)
from lib.training.folds import Fold, folds_of, stratified_folds
from lib.training.runs import Checkpoint, Loop, Result, Run, run

NETWORKS = {network.__name__: network for network in (CrossFusion, AMIL, DSMIL, TransMIL, MeanPool)}
LOSSES = {"nll_surv": survival_nll, "ce_surv": survival_cross_entropy}
ASIDE = 5  # a fifth of the training patients chooses the epoch
MEMORY = 2**31  # bytes of features kept for the next epoch; the others are read again


class Case(NamedTuple):
    """What is scored at once: all slides of a patient, or one slide. Its tiles are read when they are wanted:
    those of a few hundred real slides are more than a machine holds.
    """

    name: str
    patient: str
    read: Callable[[], Bag]
    time: float
    event: int

    @property
    def bag(self) -> Bag:
        return self.read()


def tensors(bag: Bag, device: torch.device | str = "cpu") -> list[Tensor]:
    """Features of a bag as a model takes them: x5, x10, x20, each (1, tiles, dim)."""
    parts = (bag[scale].features for scale in (5, 10, 20))
    return [torch.as_tensor(part, dtype=torch.float32, device=device)[None] for part in parts]


class TrainingCases(Dataset):
    """Training cases with their bins; tiles are drawn anew whenever a case comes up."""

    def __init__(self, cases: Sequence[Case], bins: np.ndarray, cap: int, random: np.random.Generator):
        self.cases, self.bins, self.cap, self.random = cases, bins, cap, random

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, number: int):
        case = self.cases[number]
        bag = drawn(case.bag, self.cap, int(self.random.integers(2**31))) if self.cap else case.bag
        return tensors(bag), torch.tensor([self.bins[number]]), torch.tensor([case.event])


def sampling_weights(bins: np.ndarray, event: np.ndarray) -> np.ndarray:
    """Of each case: 1 / the number of cases of its bin that died, or were censored, like it."""
    kind = 2 * bins + event
    return 1 / np.bincount(kind)[kind]


class Standardised(nn.Module):
    """A model behind the scaling of its features; the scaling is part of its weights."""

    def __init__(self, model: nn.Module, dim: int):
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.zeros(3, dim))  # of 5x, 10x, 20x
        self.register_buffer("spread", torch.ones(3, dim))

    def fit(self, cases: Sequence[Case]) -> "Standardised":
        """Mean and spread over all tiles of the cases; a feature that never changes keeps spread 1."""
        scalers = {scale: StandardScaler() for scale in (5, 10, 20)}
        for case in cases:
            bag = case.bag
            for scale, scaler in scalers.items():
                scaler.partial_fit(bag[scale].features.astype(np.float64))
        for place, scaler in enumerate(scalers.values()):
            self.mean[place], self.spread[place] = map(torch.as_tensor, (scaler.mean_, scaler.scale_))
        return self

    def forward(self, *bags: Tensor, **options):
        scaling = zip(bags, self.mean, self.spread, strict=True)
        return self.model(*((bag - mean) / spread for bag, mean, spread in scaling), **options)


def build(name: str, dim: int, how: Training) -> nn.Module:
    """A contender's untrained model for tiles of `dim` features; its weights depend on torch's seed."""
    contender, habits = CONTENDERS[name], habits_of(name, how.variant)
    network, options = NETWORKS[contender.network], {"bins": how.bins}
    if network is CrossFusion:
        # which dropout the attention has comes with the released model, not with the habit to leave it on
        variant = "released" if name == "crossfusion-released" else how.variant
        options |= {"fusion": contender.fusion, "variant": variant, "width": how.width, "heads": how.heads}
        options |= {"layers": how.attention_layers}
        options |= {"bf16": how.bf16, "dropout_in_evaluation": "dropout_in_evaluation" in habits}
    elif network is DSMIL:
        options |= {"variant": how.variant}  # the released one leaves its stream of tiles untrained
    else:
        options |= {"width": how.width}
    model = network(dim, **options)
    return Standardised(model, dim) if how.standardise else model


class Survival(Loop):
    """Loss of discrete hazards, one case a batch of the loop."""

    def __init__(self, model: nn.Module, how: Training, habits: Sequence[str], cases: Mapping):
        chosen_by = "held_out_c_index" if "best_epoch" in habits else "chosen_c_index"
        super().__init__(model, chosen_by, *(how.choosing(habits) if chosen_by in cases else (0, 0)))
        self.how, self.habits, self.cases = how, habits, cases

    def descent(self):
        how = self.how
        rates = {"lr": how.learning_rate, "weight_decay": how.weight_decay}
        adam = torch.optim.Adam(self.parameters(), **rates, fused=True)
        # the released code meant a tenth by `lr // 10`, which is 0, and comes back up after ten epochs
        period, least = (10, 0.0) if "rate_to_zero" in self.habits else (how.epochs, 0.1)
        least *= how.learning_rate
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=period, eta_min=least)
        return adam, schedule, "epoch"

    def loss_of(self, batch):
        bag, at, event = batch
        clamp = 1e-7 if "clamped_loss" in self.habits else None
        return LOSSES[self.how.loss](self.model(*bag).logits, at, event, self.how.alpha, clamp).mean()

    def watched(self):
        return {name: c_index(cases, scores(self.model, cases)[0]) for name, cases in self.cases.items()}


def c_index(cases: Sequence[Case], risk: np.ndarray) -> float:
    """Harrell's c-index over patients (mean risk of each one's slides); NaN where no two are comparable."""
    rows = [(case.patient, case.time, case.event) for case in cases]
    table = pd.DataFrame(rows, columns=["patient", "time", "event"]).assign(risk=risk)
    table = table.groupby("patient").agg({"time": "first", "event": "first", "risk": "mean"})
    try:
        return float(concordance_index(table["time"], -table["risk"], table["event"]))
    except ZeroDivisionError:
        return float("nan")


@torch.inference_mode()
def scores(model: nn.Module, cases: Sequence[Case]) -> tuple[np.ndarray, np.ndarray]:
    """Risk (n,), higher = earlier death expected, and survival through each bin (n, bins). All tiles, no cap."""
    model.eval()
    device = next(model.parameters()).device
    hazards = [model(*tensors(case.bag, device)).logits.float().sigmoid() for case in cases]
    survival = survival_of(torch.cat(hazards)).cpu().numpy()
    return -survival.sum(1), survival


class Trained(NamedTuple):
    """A model, the bins it speaks of, and how its training went."""

    model: nn.Module
    edges: np.ndarray  # (bins + 1,)
    history: pd.DataFrame  # epoch, loss, held_out_c_index, chosen_c_index (of those set aside), chosen


def train_model(
    name: str,
    train: Sequence[Case],
    held_out: Sequence[Case],
    how: Training,
    *,
    aside: Sequence[Case] = (),
    seed: int,
    device: str = "auto",
    checkpoint: Checkpoint = Checkpoint(),  # noqa: B008  never changed
) -> Trained:
    """Train one contender, of `lib.crossfusion.params.CONTENDERS`.

    `held_out` is watched for the history, and learnt from only under the habits "cohort_bins" and "best_epoch"; `aside`
    are training patients that choose the epoch (`nested`) and are in no step. `seed` decides on weights, dropout, order
    and tiles; `device` is Lightning's accelerator. A ValueError where there are fewer events than bins, a loss is not
    finite, or gradients that are carried never make a step.
    """
    L.seed_everything(seed, verbose=False)
    habits = habits_of(name, how.variant)
    known = [*train, *aside, *held_out] if "cohort_bins" in habits else [*train, *aside]
    edges = fit_bins([c.time for c in known], [c.event for c in known], how.bins)
    bins = bin_of([c.time for c in train], edges)
    if "slide_unit" in habits:  # slides are judged as they are learnt from, each for itself
        held_out, aside = ([c._replace(patient=c.name) for c in part] for part in (held_out, aside))
    watched = {"held_out_c_index": held_out} | ({"chosen_c_index": aside} if aside else {})
    model = build(name, train[0].bag[20].features.shape[1], how)
    if how.standardise:
        model.fit(train)
    order, drawing = torch.Generator().manual_seed(seed), np.random.default_rng([seed, 2])
    weights = np.ones(len(train))
    if how.balanced:
        weights = sampling_weights(bins, np.array([c.event for c in train]))
    sampler = WeightedRandomSampler(weights, len(train), replacement=how.balanced, generator=order)
    batches = DataLoader(TrainingCases(train, bins, how.cap, drawing), batch_size=None, sampler=sampler)
    loop = Survival(model, how, habits, watched)
    carry = "carried_gradients" in habits
    if carry and len(train) < how.accumulate:
        raise ValueError(
            f"{name}: {len(train)} training cases never fill `accumulate: {how.accumulate}`, so the released loop "
            "makes no step in any epoch: lower `accumulate`"
        )
    about = {"accumulate": how.accumulate, "carry": carry, "device": device, "checkpoint": checkpoint}
    history = run(loop, batches, how.epochs, order=order, drawing=drawing, **about)
    return Trained(loop.model, edges, history)


class Data:
    """A cohort's patients (patient, cancer, time_months, event, fold) and the features of their slides (patient, slide).

    `features` is the folder of one encoder's features, see `lib.crossfusion.bags`.
    """

    def __init__(self, features: Path, cohort: pd.DataFrame, slides: pd.DataFrame, params: CrossFusionParams):
        self.features, self.params = features, params
        self.cohort = cohort.set_index("patient", drop=False)
        self.slides = slides.groupby("patient")["slide"].apply(sorted).to_dict()
        sizes = [path.stat().st_size for s in slides["slide"] for path in bag_files(features, s).values()]
        mean_bytes = sum(sizes) / max(1, len(self.slides))
        self._bag = lru_cache(maxsize=int(MEMORY / max(1.0, mean_bytes)))(self._read)

    def settings(self) -> tuple[dict[str, list[Fold]], list[str]]:
        """Folds of each cancer type, and one sentence for each type that cannot be trained on.

        Patients without an embedded slide take no part in training and are held out by nobody; whom no fold holds out trains.
        """
        settings, obstacles = {}, []
        for cancer, everybody in self.cohort.groupby("cancer", sort=True):
            seen = everybody[everybody["patient"].isin(self.slides)]
            folds, deaths = folds_of(seen), int(seen["event"].sum())
            if len(folds) < everybody["fold"].nunique() or deaths < 2 * len(folds):
                few = f"{len(seen)} of {len(everybody)} patients have slides with features, {deaths} of them died"
                obstacles.append(f"{cancer}: {few}: too few to train on every fold")
                continue
            settings[str(cancer)] = folds
        return settings, obstacles

    def files(self, run: Run) -> list[Path]:
        slides = [slide for patient in (*run.fold.train, *run.fold.test) for slide in self.slides[patient]]
        return [path for slide in slides for path in bag_files(self.features, slide).values()]

    def depends(self, run: Run) -> dict[str, Any]:
        """What else a run's result depends on: the outcomes, and how models are trained."""
        outcome = self.cohort.loc[[*run.fold.train, *run.fold.test], ["time_months", "event"]]
        how = self.params.model_dump(include=set(Training.model_fields))
        return {**how, "months": self.params.months, "outcome": outcome.to_numpy().tolist()}

    def cases(self, patients: Sequence[str], by_slide: bool = False) -> list[Case]:
        """Patients with all their slides in one bag, or every slide a case of its own."""
        cases = []
        for patient in patients:
            slides, row = self.slides[patient], self.cohort.loc[patient]
            for names in [(slide,) for slide in slides] if by_slide else [tuple(slides)]:
                outcome = float(row["time_months"]), int(row["event"])
                cases.append(Case("+".join(names), patient, partial(self._bag, names), *outcome))
        return cases

    def _read(self, names: tuple[str, ...]) -> Bag:
        return patient_bag([read_bag(self.features, name) for name in names])


def fit(run: Run, data: Data, checkpoint: Checkpoint = Checkpoint()) -> Result:  # noqa: B008
    """Train one contender on one fold; score its held-out patients by risk and by survival at `params.months`."""
    how, by_slide = data.params, "slide_unit" in habits_of(run.model, data.params.variant)
    patients, aside = run.fold.train, ()
    if how.nested and "best_epoch" not in habits_of(run.model, how.variant):
        event = dict(data.cohort["event"])
        _, patients, aside = stratified_folds({p: p for p in patients}, event, ASIDE, run.seed)[0]
    train, aside, held_out = (data.cases(part, by_slide) for part in (patients, aside, run.fold.test))
    options = {"aside": aside, "seed": run.seed, "device": how.device, "checkpoint": checkpoint}
    trained = train_model(run.model, train, held_out, how, **options)
    risk, survival = scores(trained.model, held_out)
    table = pd.DataFrame({"patient": [case.patient for case in held_out], "score": risk})
    columns = [f"survival_{month:g}" for month in how.months]
    table[columns] = survival_at(survival, trained.edges, how.months)
    # a patient whose slides were scored one by one has the mean of them
    table = table.groupby("patient", sort=False).mean().reset_index()
    about = {"edges": np.array2string(trained.edges, separator=",")}
    return Result(table, trained.history, trained.model.state_dict(), about)


def load_model(path: str | PathLike, name: str, dim: int, how: Training) -> nn.Module:
    """A contender with weights that `fit` left, in evaluation mode."""
    model = build(name, dim, how)
    model.load_state_dict(load_file(path))
    return model.eval()


@torch.inference_mode()
def received(model: nn.Module, bag: Bag) -> dict[int, np.ndarray]:
    """Attention that each context tile receives from all 10x tiles together, mean over heads, by scale (5 and 20).

    The asking tiles have no such map: their rows sum to 1 whatever the model sees, and the published map of them shows
    rounding.
    """
    maps = model(*tensors(bag), attention="received").attention
    return {5: maps["coarse_cross"][0].mean(0).numpy(), 20: maps["fine_cross"][0].mean(0).numpy()}
