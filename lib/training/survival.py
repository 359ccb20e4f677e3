"""Train a model of slides on survival: one patient at a time, gradients gathered over many (Lightning does the loops)."""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from lifelines.utils import concordance_index
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.utils.data import DataLoader, WeightedRandomSampler

from lib.training.discrete_time import bin_of, fit_bins, survival_nll, survival_of
from lib.training.loop import Loop, run
from lib.training.survival_cases import Case, TrainingCases, tensors, weights_of
from lib.training.survival_recipe import Recipe


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
        scaled = [
            (bag - mean) / spread for bag, mean, spread in zip(bags, self.mean, self.spread, strict=True)
        ]
        return self.model(*scaled, **options)


class Trained(NamedTuple):
    """A model, the bins it speaks of, and how its training went."""

    model: nn.Module
    edges: np.ndarray  # (bins + 1,)
    history: pd.DataFrame  # epoch, loss, held_out_c_index, chosen_c_index, chosen


class Survival(Loop):
    """Negative log-likelihood of discrete hazards, one case a step of the loop."""

    def __init__(self, model: nn.Module, recipe: Recipe, cases: dict[str, Sequence[Case]]):
        super().__init__(model, "chosen_c_index")
        self.recipe, self.cases = recipe, cases

    def descent(self):
        recipe = self.recipe
        adam = torch.optim.Adam(
            self.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        # the released code meant a tenth by `lr // 10`, which is 0, and comes back up after ten epochs
        period, least = (10, 0.0) if "rate_to_zero" in recipe.quirks else (recipe.epochs, 0.1)
        least *= recipe.learning_rate
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=period, eta_min=least)
        return adam, schedule, "epoch"

    def loss_of(self, batch):
        bag, at, event = batch
        return survival_nll(self.model(*bag).logits, at, event, self.recipe.alpha).mean()

    def watched(self):
        return {name: c_index(cases, scores(self.model, cases)[0]) for name, cases in self.cases.items()}


def c_index(cases: Sequence[Case], risk: np.ndarray) -> float:
    """Harrell's c-index over patients (mean risk of each one's slides); NaN where no two are comparable."""
    table = pd.DataFrame(
        {"p": [c.patient for c in cases], "t": [c.time for c in cases], "e": [c.event for c in cases]}
    )
    table = (
        table.assign(risk=risk).groupby("p").agg(t=("t", "first"), e=("e", "first"), risk=("risk", "mean"))
    )
    try:
        return float(concordance_index(table["t"], -table["risk"], table["e"]))
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


def fit(
    build: Callable[[], nn.Module],
    train: Sequence[Case],
    held_out: Sequence[Case],
    recipe: Recipe,
    *,
    aside: Sequence[Case] = (),
    seed: int,
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
        Watched for the history. Learnt from only under the quirks "cohort_bins" and "best_epoch".
    recipe : Recipe
    aside : sequence of Case
        Training patients set aside to choose the epoch (`recipe.nested`); they are in no step.
    seed : int
        Weights, dropout, order and tiles.
    device : str
        Lightning's accelerator.
    checkpoint, key, every_s
        See `lib.training.loop.run`.

    Raises
    ------
    ValueError
        Fewer events than bins, or a loss that is not finite.
    """
    L.seed_everything(seed, verbose=False)
    known = [*train, *aside, *held_out] if "cohort_bins" in recipe.quirks else [*train, *aside]
    edges = fit_bins([c.time for c in known], [c.event for c in known], recipe.bins)
    bins = np.asarray(bin_of([c.time for c in train], edges))
    if "slide_unit" in recipe.quirks:  # slides are judged as they are learnt from, each for itself
        held_out, aside = ([c._replace(patient=c.name) for c in part] for part in (held_out, aside))
    judges = held_out if "best_epoch" in recipe.quirks else aside
    watched = {"held_out_c_index": held_out} | ({"chosen_c_index": judges} if judges else {})
    model = build()
    if recipe.standardise:
        model.fit(train)
    loop = Survival(model, recipe, watched)
    random = torch.Generator().manual_seed(seed)
    weights = weights_of(bins, np.array([c.event for c in train])) if recipe.balanced else np.ones(len(train))
    sampler = WeightedRandomSampler(weights, len(train), replacement=recipe.balanced, generator=random)
    drawing = TrainingCases(train, bins, recipe.cap, seed)
    batches = DataLoader(drawing, batch_size=None, sampler=sampler)
    history = run(
        loop,
        batches,
        recipe.epochs,
        order=random,
        drawing=drawing.random,
        accumulate=recipe.accumulate,
        device=device,
        checkpoint=checkpoint,
        key=key,
        every_s=every_s,
    )
    return Trained(loop.model, edges, history)


def survival_at(survival: np.ndarray, edges: np.ndarray, times: Sequence[float]) -> np.ndarray:
    """Survival through bins (n, bins), read off at times (m,) by straight lines between the edges: (n, m)."""
    known = np.column_stack([np.ones(len(survival)), survival])  # S is 1 at time 0, not at the first edge
    places = np.r_[0.0, edges[1:]]
    return np.array([np.interp(times, places, row) for row in known]).reshape(len(survival), len(times))
