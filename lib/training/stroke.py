"""Train a model of series and clinical variables on a yes-or-no outcome."""

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

from lib.training.loop import Loop, run
from lib.training.stroke_cases import Case, Cases
from lib.training.stroke_recipe import Recipe
from lib.training.warm_restarts import steps_of_a_cycle, warm_restarts


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
        checkpoint=checkpoint,
        key=key,
        every_s=every_s,
    )
    return Trained(loop.model, history)
