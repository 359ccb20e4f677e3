"""How a survival model is trained.

Survival in discrete time: bins of follow-up, the negative log-likelihood of hazards, survival and risk.

A model gives one logit a bin; its sigmoid is the hazard, the chance to die in the bin when alive at its start.

What a survival model is trained on and asked about: patients, or slides, with their tiles and what became of them.

Train a model of slides on survival: one patient at a time, gradients gathered over many (Lightning does the loops).

Every model of the CrossFusion study under one name: the model, its ablations, and the baselines that read slides.

The training runs of the CrossFusion study: one contender, trained on one fold of one cancer type with one seed.

Carry out the training runs of the CrossFusion study: read bags, train, write risks, history and weights.

What a trained CrossFusion takes from where.
"""

import hashlib
import inspect
import json
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
import torch.nn.functional as F
from lifelines.utils import concordance_index
from numpy.typing import ArrayLike
from safetensors.torch import load_file
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from lib.crossfusion.bags import Bag, drawn, patient_bag, read_bag
from lib.crossfusion.model import CrossFusion
from lib.features.feature_files import bag_files
from lib.files import file_digest, write_csv
from lib.models.mil import AMIL, DSMIL, MeanPool, TransMIL
from lib.training.folds import Fold, stratified_folds
from lib.training.loop import Checkpoint, Loop, run, write_weights

QUIRKS = ("dropout_in_evaluation", "rate_to_zero", "slide_unit", "cohort_bins", "best_epoch")


@dataclass(frozen=True)
class Recipe:
    """How a survival model is trained.

    Attributes
    ----------
    epochs, learning_rate, weight_decay : int, float, float
        Adam, weight decay as a penalty on the loss. The rate falls to a tenth along a cosine over all epochs.
    accumulate : int
        Cases whose gradients make one step.
    bins, alpha : int, float
        See `lib.crossfusion.train`.
    balanced : bool
        Draw cases so that every bin of the dead and of the censored comes up equally often.
    cap : int
        Most 20x tiles of a case in training, drawn anew each epoch and together with the tiles around them; 0 all.
    width, heads : int
        Size of the model.
    bf16 : bool
        CrossFusion's matrix products in bfloat16: about half the time on a CPU that has it, logits move by thousandths.
    quirks : tuple of str
        Habits of the released code, see `QUIRKS`: dropout also in evaluation; a learning rate that falls to zero
        at every tenth epoch; slides as cases; bins that saw the held-out patients; the epoch that was best on them.
    standardise : bool
        Bring every feature to mean 0 and spread 1 over the training tiles, scale by scale: for descriptors whose
        numbers have units of their own. A network's features are taken as they are.
    nested : bool
        Keep the epoch that was best on a fifth of the training patients, set aside; else the last epoch.
    """

    epochs: int = 20
    learning_rate: float = 1e-4
    weight_decay: float = 4e-6
    accumulate: int = 32
    bins: int = 4
    alpha: float = 0.2
    balanced: bool = True
    cap: int = 0
    width: int = 512
    heads: int = 4
    bf16: bool = False
    quirks: tuple[str, ...] = ()
    standardise: bool = False
    nested: bool = False

    def with_quirks(self, *quirks: str) -> "Recipe":
        """The same recipe with these habits of the released code."""
        return replace(self, quirks=tuple(sorted({*self.quirks, *quirks})))


MARGIN = 1e-6  # so that the shortest and the longest follow-up lie inside the first and the last bin


def _vectors(time: ArrayLike, event: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    time, event = np.asarray(time, dtype=float), np.asarray(event)
    if time.ndim != 1 or time.shape != event.shape:
        raise ValueError(
            f"time has shape {time.shape}, event {event.shape}; two vectors of one length are needed"
        )
    _refuse_odd(time)
    if not np.isin(event, (0, 1)).all():
        raise ValueError(f"event must be 0 (censored) or 1 (event), found {np.unique(event)[:5].tolist()}")
    return time, event.astype(bool)


def _refuse_odd(time: np.ndarray) -> None:
    if bad := int((~np.isfinite(time) | (time < 0)).sum()):
        raise ValueError(f"{bad} of {time.size} times are negative, NaN or infinite")


def fit_bins(time: ArrayLike, event: ArrayLike, bins: int = 4) -> np.ndarray:
    """Edges of bins that hold about equally many events each: quantiles of the event times.

    Fit them on the training patients. CrossFusion and MCAT fit them on all patients, those of validation included.

    Parameters
    ----------
    time : array (n,)
        Follow-up of the training patients (or slides), 0 or longer.
    event : array (n,)
        1 died, 0 censored.
    bins : int
        How many.

    Returns
    -------
    float64 array (bins + 1,)
        Ascending. Bin k is [edges[k], edges[k + 1]), half-open to the right. The first edge is the shortest time
        less 1e-6, the last the longest plus 1e-6, censored patients included.

    Raises
    ------
    ValueError
        Too few distinct event times to fill every bin with one event, or unusable times and events.
    """
    time, event = _vectors(time, event)
    if bins < 2:
        raise ValueError(f"{bins} bins were asked for; two at least are needed")
    died = time[event]
    short = f"{np.unique(died).size} distinct event times of {died.size} events are too few for {bins} bins"
    if np.unique(died).size < bins:
        raise ValueError(f"{short}: ask for fewer bins or train on more patients")
    edges = np.quantile(died, np.linspace(0, 1, bins + 1))
    edges[0], edges[-1] = time.min() - MARGIN, time.max() + MARGIN
    if (np.diff(edges) <= 0).any() or not np.histogram(died, edges)[0].all():
        raise ValueError(
            f"{short}, so many share one time (edges {np.round(edges, 3).tolist()}): ask for fewer bins"
        )
    return edges


def bin_of(time: ArrayLike, edges: ArrayLike) -> np.ndarray:
    """Bin of each time: int64 (n,), 0 to bins - 1.

    Times before the first edge fall into the first bin, times behind the last edge into the last one: a tested
    patient may be followed for longer than any training patient.

    Raises
    ------
    ValueError
        Times that are negative, NaN or infinite, or edges that do not ascend.
    """
    time, edges = np.asarray(time, dtype=float), np.asarray(edges, dtype=float)
    if edges.ndim != 1 or edges.size < 3 or not (np.diff(edges) > 0).all():
        raise ValueError(f"edges must ascend and bound two bins at least, found {edges.tolist()}")
    _refuse_odd(time)
    return np.clip(np.searchsorted(edges, time, side="right") - 1, 0, edges.size - 2).astype(np.int64)


def survival_nll(
    hazard_logits: Tensor, bin: Tensor, event: Tensor, alpha: float = 0.0, clamp: float | None = None
) -> Tensor:
    """Negative log-likelihood of each patient's follow-up under the predicted hazards.

    With hazards h, S(k) the product of (1 - h) up to bin k, Y the patient's bin, and nothing before it S(-1) = 1:
    who died costs U = -log S(Y - 1) - log h(Y), who was censored costs K = -log S(Y); the loss is U + (1 - alpha) K.
    Zadeh and Schmid, IEEE TPAMI 43:3126 (2021), doi 10.1109/TPAMI.2020.2979450; alpha as in MCAT (ICCV 2021).

    Parameters
    ----------
    hazard_logits : float tensor (n, bins)
        Before the sigmoid.
    bin : integer tensor (n,)
        See `bin_of`.
    event : tensor (n,)
        1 died, 0 censored.
    alpha : float
        In [0, 1]; how much less censored patients weigh. CrossFusion trains with 0.2 and validates with 0.
    clamp : float, optional
        Take logarithms of probabilities no smaller than this, as the released code does with 1e-7: a confident
        model then gets no gradient. None takes them through log-sigmoid, which loses nothing.

    Returns
    -------
    float tensor (n,)
        Loss of each patient; the released code takes the mean over a batch.

    Raises
    ------
    ValueError
        Shapes that do not fit, a bin the logits do not have, an event other than 0 and 1, or alpha outside [0, 1].
    """
    n, bins = _checked_hazards(hazard_logits)
    if bin.shape != (n,) or event.shape != (n,):
        raise ValueError(f"{n} patients' logits need as many bins and events, got {bin.shape}, {event.shape}")
    if n and not 0 <= int(bin.min()) <= int(bin.max()) < bins:
        raise ValueError(f"bins must be 0 to {bins - 1}, found {int(bin.min())} to {int(bin.max())}")
    if not ((event == 0) | (event == 1)).all():
        raise ValueError("event must be 0 (censored) or 1 (died)")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], not {alpha}")
    if clamp is None:
        log_hazard = F.logsigmoid(hazard_logits)
        log_survival = F.logsigmoid(-hazard_logits).cumsum(1)
    else:
        log_hazard = hazard_logits.sigmoid().clamp(min=clamp).log()
        log_survival = survival_of(hazard_logits.sigmoid()).clamp(min=clamp).log()
    log_survival = F.pad(log_survival, (1, 0))  # S(-1) = 1 comes first, so that column Y is S(Y - 1)
    here = bin.long().unsqueeze(1)
    before, at, through = (
        each.squeeze(1)
        for each in (
            log_survival.gather(1, here),
            log_hazard.gather(1, here),
            log_survival.gather(1, here + 1),
        )
    )
    return torch.where(event.bool(), -(before + at), -(1 - alpha) * through)


def survival_of(hazards: Tensor) -> Tensor:
    """Chance to live through each bin: hazards (n, bins) in [0, 1] -> S (n, bins), falling from left to right.

    S of bin k is the survival probability at the bin's right edge, `edges[k + 1]` of `fit_bins`.
    """
    _checked_hazards(hazards)
    return (1 - hazards).cumprod(1)


def risk_of(hazards: Tensor) -> Tensor:
    """Risk -sum(S): hazards (n, bins) -> (n,), -bins to 0; higher = earlier death expected."""
    return -survival_of(hazards).sum(1)


def _checked_hazards(hazards: Tensor) -> tuple[int, int]:
    if hazards.ndim != 2:
        raise ValueError(f"hazards have shape {tuple(hazards.shape)}; (patients, bins) is needed")
    return hazards.shape[0], hazards.shape[1]


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
        """Its tiles at every scale."""
        return self.read()


def tensors(bag: Bag, device: torch.device | str = "cpu") -> list[Tensor]:
    """Features of a bag as a model takes them: x5, x10, x20, each (1, n, dim)."""
    return [
        torch.as_tensor(bag[scale].features, dtype=torch.float32, device=device)[None]
        for scale in (5, 10, 20)
    ]


class TrainingCases(Dataset):
    """Training cases with their bins; tiles are drawn anew whenever a case comes up."""

    def __init__(self, cases: Sequence[Case], bins: np.ndarray, cap: int, seed: int):
        self.cases, self.bins, self.cap = cases, bins, cap
        self.random = np.random.default_rng([seed, 2])

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, number: int):
        case = self.cases[number]
        bag = drawn(case.bag, self.cap, int(self.random.integers(2**31))) if self.cap else case.bag
        return tensors(bag), torch.tensor([self.bins[number]]), torch.tensor([case.event])


def weights_of(bins: np.ndarray, event: np.ndarray) -> np.ndarray:
    """Sampling weight of each case: 1 / the number of cases of its bin that died, or were censored, like it."""
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
        checkpoint=Checkpoint(checkpoint, key, every_s),
    )
    return Trained(loop.model, edges, history)


def survival_at(survival: np.ndarray, edges: np.ndarray, times: Sequence[float]) -> np.ndarray:
    """Survival through bins (n, bins), read off at times (m,) by straight lines between the edges: (n, m)."""
    known = np.column_stack([np.ones(len(survival)), survival])  # S is 1 at time 0, not at the first edge
    places = np.r_[0.0, edges[1:]]
    return np.array([np.interp(times, places, row) for row in known]).reshape(len(survival), len(times))


class Contender(NamedTuple):
    """A model's class, what it is called with, and the released code's habits that come with it."""

    model: type[nn.Module]
    options: dict[str, str] = {}
    quirks: tuple[str, ...] = ()


CONTENDERS = {
    "crossfusion": Contender(CrossFusion, {"fusion": "conv"}),
    "crossfusion-concat": Contender(CrossFusion, {"fusion": "concat"}),
    "crossfusion-single": Contender(CrossFusion, {"fusion": "single"}),
    "crossfusion-released": Contender(CrossFusion, {"fusion": "conv"}, QUIRKS),
    **{f"crossfusion+{quirk}": Contender(CrossFusion, {"fusion": "conv"}, (quirk,)) for quirk in QUIRKS},
    "amil": Contender(AMIL),
    "dsmil": Contender(DSMIL),
    "transmil": Contender(TransMIL),
    "mean-pool": Contender(MeanPool),
}


def builder(
    name: str, dim: int, recipe: Recipe, variant: str = "described"
) -> tuple[Callable[[], nn.Module], Recipe]:
    """What makes a contender's model, and the recipe it is trained by.

    Parameters
    ----------
    name : str
        See `CONTENDERS`.
    dim : int
        Features of a tile.
    recipe : Recipe
    variant : {"described", "released"}
        "released" gives every contender all habits of the released code.
    """
    contender = CONTENDERS[name]
    recipe = recipe.with_quirks(*contender.quirks, *(QUIRKS if variant == "released" else ()))
    options: dict = {"bins": recipe.bins, **contender.options}
    if contender.model is CrossFusion:
        loose = "dropout_in_evaluation" in recipe.quirks
        options |= {"width": recipe.width, "heads": recipe.heads, "dropout_in_evaluation": loose}
        # which dropout the attention has comes with the released model, not with the habit to leave it on
        whole = variant == "released" or contender.quirks == QUIRKS
        options |= {"bf16": recipe.bf16, "variant": "released" if whole else "described"}
    elif contender.model is DSMIL:
        options |= {"variant": variant}  # the released one leaves its stream of tiles untrained
    else:
        options |= {"width": recipe.width}

    def build() -> nn.Module:
        model = contender.model(dim, **options)
        return Standardised(model, dim) if recipe.standardise else model

    return build, recipe


class Unit(NamedTuple):
    """One training run."""

    cancer: str
    fold: Fold
    model: str
    seed: int

    @property
    def name(self) -> str:
        """Names the run's files."""
        return f"{self.cancer}.{self.fold.name}.{self.model}.s{self.seed}"


def plan_units(
    cohort: pd.DataFrame,
    slides: pd.DataFrame,
    models: Sequence[str],
    seeds: Sequence[int],
    first_seed_only: Sequence[str] = (),
) -> tuple[dict[str, Unit], list[str]]:
    """All runs of a cohort, by name, and what stands in the way of some.

    Patients without an embedded slide take no part in training and are held out by nobody.

    Parameters
    ----------
    cohort : DataFrame
        patient, cancer, event, fold (the fold that holds the patient out).
    slides : DataFrame
        patient of every slide that has features.
    models, seeds : sequence
    first_seed_only : sequence of str
        Contenders run with the first seed alone, to save time.

    Returns
    -------
    dict of str to Unit, list of str
        One sentence for each cancer type that cannot be trained on.
    """
    units, obstacles = {}, []
    seen = cohort[cohort["patient"].isin(set(slides["patient"]))]
    for cancer, everybody in cohort.groupby("cancer", sort=True):
        own = seen[seen["cancer"] == cancer]
        if (
            own["fold"].nunique() < everybody["fold"].nunique()
            or own["event"].sum() < 2 * own["fold"].nunique()
        ):
            obstacles.append(
                f"{cancer}: {len(own)} of {len(everybody)} patients have slides with features, "
                f"{int(own['event'].sum())} of them died: too few to train on every fold"
            )
            continue
        for name in sorted(own["fold"].unique()):
            inside = own["fold"] != name
            fold = Fold(str(name), tuple(own["patient"][inside]), tuple(own["patient"][~inside]))
            for model in models:
                for seed in seeds[:1] if model in first_seed_only else seeds:
                    unit = Unit(str(cancer), fold, model, seed)
                    units[unit.name] = unit
    return units, obstacles


ASIDE = 5  # a fifth of the training patients chooses the epoch
MEMORY = 2**31  # bytes of features kept for the next epoch; the others are read again


class Runs:
    """A cohort's slides with their features, and what is trained on them.

    Parameters
    ----------
    folder : path
        `results/<study>/<cohort>/`.
    features : path
        Folder of one encoder's features, see `lib.crossfusion.bags`.
    cohort : DataFrame
        Indexed by patient: time_months, event.
    slides : DataFrame
        patient, slide: slides with features.
    options : mapping
        The parameters a run depends on: `variant`, `grid` (months at which survival is written) and those of `Recipe`.
    keep_weights_of : int
        Seed whose weights are written.
    device : str
    """

    def __init__(
        self,
        folder: Path,
        features: Path,
        cohort: pd.DataFrame,
        slides: pd.DataFrame,
        options: Mapping[str, Any],
        keep_weights_of: int,
        device: str = "auto",
    ):
        self.folder, self.features, self.cohort = folder, features, cohort
        self.slides = slides.groupby("patient")["slide"].apply(sorted).to_dict()
        self.options, self.kept, self.device = dict(options), keep_weights_of, device
        sizes = [path.stat().st_size for s in slides["slide"] for path in bag_files(features, s).values()]
        mean_bytes = sum(sizes) / max(1, len(self.slides))
        self._bag = lru_cache(maxsize=int(MEMORY / max(1.0, mean_bytes)))(self._read)

    def inputs(self, unit: Unit) -> list[Path]:
        """Files a run reads."""
        people = (*unit.fold.train, *unit.fold.test)
        return [
            path
            for p in people
            for slide in self.slides[p]
            for path in bag_files(self.features, slide).values()
        ]

    def outputs(self, unit: Unit) -> list[Path]:
        """Files a run writes: risks and survival of the held-out patients, history, weights of the first seed."""
        paths = [self.folder / "train" / f"{unit.name}.{what}.csv" for what in ("risks", "history")]
        if unit.seed == self.kept:
            paths.append(self.folder / "weights" / f"{unit.name}.safetensors")
        return paths

    def depends(self, unit: Unit) -> dict[str, Any]:
        """What else a run's result depends on."""
        people = [*unit.fold.train, *unit.fold.test]
        outcome = self.cohort.loc[people, ["time_months", "event"]].to_numpy().tolist()
        return {**self.options, "unit": unit._asdict(), "outcome": outcome}

    def train(self, unit: Unit) -> None:
        """Do one run and write its outputs."""
        known = Recipe.__dataclass_fields__
        recipe = Recipe(**{name: value for name, value in self.options.items() if name in known})
        dim = self._bag((self.slides[unit.fold.train[0]][0],))[20].features.shape[1]
        build, recipe = builder(unit.model, dim, recipe, self.options["variant"])
        by_slide = "slide_unit" in recipe.quirks
        people, aside = list(unit.fold.train), []
        if recipe.nested and "best_epoch" not in recipe.quirks:
            event = dict(self.cohort["event"])
            inner = stratified_folds({p: p for p in people}, event, ASIDE, unit.seed)[0]
            people, aside = list(inner.train), list(inner.test)
        held_out = self.cases(unit.fold.test, by_slide)
        trained = fit(
            build,
            self.cases(people, by_slide),
            held_out,
            recipe,
            aside=self.cases(aside, by_slide),
            seed=unit.seed,
            device=self.device,
            checkpoint=self.folder / "train" / f"{unit.name}.checkpoint.safetensors",
            key=self._key(unit),
        )
        risk, survival = scores(trained.model, held_out)
        told = survival_at(survival, trained.edges, self.options["grid"])
        table = pd.DataFrame({"patient": [c.patient for c in held_out], "score": risk})
        table[[f"survival_{at:g}" for at in self.options["grid"]]] = told
        risks, history, *weights = self.outputs(unit)
        # a patient whose slides were scored one by one has the mean of them
        write_csv(table.groupby("patient", sort=False).mean().reset_index(), risks)
        write_csv(trained.history, history)
        for path in weights:
            write_weights(
                trained.model.state_dict(), path, {"edges": np.array2string(trained.edges, separator=",")}
            )

    def _key(self, unit: Unit) -> str:
        """Of all that a half-trained run depends on: it goes on from its checkpoint only if nothing changed."""
        files = [(path.name, file_digest(path)) for path in self.inputs(unit)]
        code = [
            Path(inspect.getfile(part)).read_text(encoding="utf-8")
            for part in (fit, Loop, Case, survival_nll, CONTENDERS[unit.model].model)
        ]
        told = json.dumps([self.depends(unit), files, code], sort_keys=True, default=str)
        return hashlib.sha256(told.encode()).hexdigest()

    def cases(self, people: Sequence[str], by_slide: bool = False) -> list[Case]:
        """Patients with all their slides in one bag, or every slide a case of its own."""
        found = []
        for patient in people:
            groups = [(s,) for s in self.slides[patient]] if by_slide else [tuple(self.slides[patient])]
            time, event = self.cohort.loc[patient, ["time_months", "event"]]
            for names in groups:
                read = partial(self._bag, names)
                found.append(Case("+".join(names), patient, read, float(time), int(event)))
        return found

    def _read(self, names: tuple[str, ...]) -> Bag:
        return patient_bag([read_bag(self.features, name) for name in names])


def load_model(path: str | os.PathLike, name: str, dim: int, recipe: Recipe, variant: str) -> nn.Module:
    """A contender with weights that `lib.crossfusion.train` wrote, in evaluation mode."""
    build, _ = builder(name, dim, recipe, variant)
    model = build()
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
