"""Train the bench's networks: settings, or seeds, of a network side by side as one batch, on all patients at once.

Settings are tried on four fifths of the training fold and judged on the fifth, which also chooses the epoch; then the
network is trained anew on the whole training fold, once a seed. The held-out patients are scored, and watched.
"""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.ndimage import uniform_filter1d
from scipy.stats import qmc
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lib.fusion import rivals
from lib.fusion.model import Fusion, Output, count, file_of, head_of
from lib.fusion.params import OFFSET, RIVALS, FusionParams, Training
from lib.fusion.tokens import Inputs, inner_folds, read_tokens
from lib.stage import Stage
from lib.training import penalised
from lib.training.discrete_time import bin_of, fit_bins, survival_at, survival_nll, survival_of
from lib.training.folds import Fold, folds_of
from lib.training.runs import Result, Run

ASIDE = 5  # a fifth of the training patients judges settings and chooses the epoch
EVERY = 5  # epochs between two looks at those who are watched
SMOOTH = 3  # looks whose mean c-index counts in the choice: one look at thirty deaths is mostly luck
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam
# what is tried: rate, and the share that a step takes off each weight, even in their logarithms
RATES, SHARES, DROPOUTS = (1e-3, 3e-2), (1e-3, 0.1), (0.0, 0.6)


class Member(NamedTuple):
    """One network of a batch: what its weights and its dropout are drawn from, and how it is trained."""

    seed: int
    learning_rate: float
    weight_decay: float  # AdamW's: a step takes rate times this off each weight
    dropout: float  # share of the numbers of the tokens


class Outcome(NamedTuple):
    """What happened to n patients, as the loss needs it."""

    event: Tensor  # 1 died, or the label
    bin: Tensor | None  # of the follow-up; None: there is only a label
    early: Tensor  # 1 died by the median event time, or the label; 0 lived beyond it; NaN: nobody knows


class Batch:
    """Networks of one make side by side: `rows` (members, parameters) holds the weights of each, float32."""

    def __init__(self, make: Callable[[], nn.Module], seeds: Sequence[int]):
        networks = []
        for seed in seeds:
            torch.manual_seed(seed)
            networks.append(make())
        self.network = networks[0]
        self.shapes = {name: weight.shape for name, weight in self.network.named_parameters()}
        vectors = [nn.utils.parameters_to_vector(one.parameters()).detach() for one in networks]
        self.rows = torch.stack(vectors)

    def weights(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows cut into weights by name, (members, ...) each."""
        parts = rows.split([shape.numel() for shape in self.shapes.values()], 1)
        shapes = self.shapes.items()
        return {name: part.unflatten(1, shape) for (name, shape), part in zip(shapes, parts, strict=True)}

    def __call__(self, rows: Tensor, inputs: Inputs, kept: Tensor | None = None) -> Output:
        """What every member says of the same patients: each tensor of `Output` has the members in front.

        `kept` (members, n, modalities, width) is dropout; None: none, as in evaluation.
        """
        self.network.train(kept is not None)

        def one(weights, kept):
            given = inputs.columns, inputs.present, inputs.offset, kept
            said = functional_call(self.network, weights, given)
            # vmap gives back tensors, nothing else
            return {name: part for name, part in said._asdict().items() if torch.is_tensor(part)}

        kept = torch.ones(len(rows)) if kept is None else kept
        said = vmap(one, randomness="different")(self.weights(rows), kept)
        return Output(said["logits"], said.get("attention"), said.get("loss", 0.0))


def losses(said: Output, outcome: Outcome) -> Tensor:
    """Mean loss of each member over the patients, (members,): likelihood of the hazards, or cross-entropy of the label,
    and what the head asks for beside it (`lib.fusion.heads.Fused.loss`; who is neither early nor late costs nothing there).
    """
    members, n = said.logits.shape[:2]
    event = outcome.event.repeat(members)
    if outcome.bin is None:
        logits = said.logits.flatten()
        each = F.binary_cross_entropy_with_logits(logits, event.to(logits.dtype), reduction="none")
    else:
        each = survival_nll(said.logits.flatten(0, 1), outcome.bin.repeat(members), event)
    each = each.unflatten(0, (members, n))
    if torch.is_tensor(said.loss) and said.loss.ndim == 3:
        kinds = torch.stack([1 - outcome.early, outcome.early], 1).nan_to_num(0.0)
        each = each + (said.loss * kinds).sum(-1)
    else:
        each = each + said.loss
    return each.mean(1)


def descend(
    batch: Batch,
    members: Sequence[Member],
    inputs: Inputs,
    outcome: Outcome,
    epochs: int,
    watch: Callable[[Tensor], Sequence[float]],
) -> tuple[Tensor, pd.DataFrame]:
    """Train all members by AdamW, each with its own rate, decay and dropout; an epoch is one step on all patients.

    A member's result does not depend on who is trained beside it, but for a head that draws numbers of its own.

    Returns
    -------
    rows : tensor (members, parameters)
        The weights after the last epoch.
    history : DataFrame
        member, epoch, loss, watched: what `watch(rows)` said of each member, every `EVERY` epochs and at the end.
    """
    rows = batch.rows.clone().requires_grad_()
    rate, decay, dropout = torch.tensor([member[1:] for member in members], dtype=rows.dtype).T.unsqueeze(2)
    draws = [torch.Generator().manual_seed(member.seed) for member in members]
    shape, stay = (*inputs.present.shape, batch.network.output.in_features), 1 - dropout[:, :, None, None]
    mean, square, history = torch.zeros_like(rows), torch.zeros_like(rows), []
    for epoch in range(1, epochs + 1):
        noise = torch.stack([torch.rand(shape, generator=draw) for draw in draws])
        loss = losses(batch(rows, inputs, (noise < stay) / stay), outcome)
        (gradient,) = torch.autograd.grad(loss.sum(), rows)
        if not loss.isfinite().all():
            raise ValueError("the loss is not finite: look at the columns of the tokens")
        with torch.no_grad():
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            spread = (square / (1 - BETAS[1] ** epoch)).sqrt_().add_(EPSILON)
            rows.mul_(1 - rate * decay).sub_(mean.div(spread).mul_(rate / (1 - BETAS[0] ** epoch)))
        if epoch % EVERY == 0 or epoch == epochs:
            seen = zip(loss.tolist(), watch(rows.detach()), strict=True)
            history += [(number, epoch, *both) for number, both in enumerate(seen)]
    return rows.detach(), pd.DataFrame(history, columns=["member", "epoch", "loss", "watched"])


def settings_of(trials: int, seed: int) -> list[Member]:
    """The settings that are tried, the same for every head and fold: points of a Latin hypercube."""
    points = qmc.LatinHypercube(3, rng=np.random.default_rng(0)).random(trials)
    (low, high), (least, most), (few, many) = RATES, SHARES, DROPOUTS
    rates, shares = low * (high / low) ** points[:, 0], least * (most / least) ** points[:, 1]
    dropouts = few + (many - few) * points[:, 2]
    return [Member(seed, *map(float, each)) for each in zip(rates, shares / rates, dropouts, strict=True)]


class Problem(NamedTuple):
    """Patients to learn from, and what the output layer speaks of: bins of their follow-up, or a label."""

    inputs: Inputs
    outcome: Outcome
    edges: np.ndarray | None  # (bins + 1,)
    start: Tensor  # (outputs,): logits that fit everybody

    @classmethod
    def of(cls, inputs: Inputs, bins: int) -> "Problem":
        """`bins` 0: the event is a label, and time is not looked at."""
        event = inputs.event.double()
        if not bins:
            share = event.mean().clamp(0.01, 0.99)
            return cls(inputs, Outcome(event, None, event), None, share.logit().float()[None])
        edges = fit_bins(inputs.time, event, bins)
        here = torch.as_tensor(bin_of(inputs.time, edges))
        died = torch.bincount(here, event, bins)
        at_risk = torch.bincount(here, minlength=bins).flip(0).cumsum(0).flip(0)
        middle = inputs.time[event > 0].median()
        early = torch.where(inputs.time > middle, 0.0, torch.where(event > 0, 1.0, torch.nan))
        start = (died / at_risk).clamp(0.01, 0.99).logit().float()
        return cls(inputs, Outcome(event, here, early), edges, start)

    def watching(self, batch: Batch, others: Inputs) -> Callable[[Tensor], list[float]]:
        """What `descend` is to watch: c-indices of others, or AUC of their labels."""
        time = None if self.edges is None else others.time.numpy()
        known = penalised.Outcome(time, others.event.numpy())
        # in float32, as the committed results: where trials tie, the last digit decides
        return lambda rows: np.float32(known.concordance(self.risk(batch, rows, others)[0].numpy())).tolist()

    @torch.no_grad()
    def risk(self, batch: Batch, rows: Tensor, others: Inputs) -> tuple[Tensor, Tensor]:
        """Risk (members, n), higher = earlier death, and survival through each bin, or the label's probability."""
        chance = batch(rows, others).logits.sigmoid()  # (members, n, outputs)
        if self.edges is None:
            return chance[..., 0], chance
        survival = survival_of(chance.flatten(0, 1)).unflatten(0, chance.shape[:2])
        return -survival.sum(-1), survival


class Trained(NamedTuple):
    """Networks of all seeds, and how they came about."""

    problem: Problem
    batch: Batch
    rows: Tensor  # (seeds, parameters)
    history: pd.DataFrame  # seed, epoch, loss, held_out_c_index, chosen (whether it is the last)
    tuning: pd.DataFrame  # trial, learning_rate, weight_decay, dropout, epochs, inner_c, chosen


def train(
    head: Callable[[int, int, int], nn.Module],
    inputs: Inputs,
    fold: Fold,
    inner: Sequence[Fold],
    seeds: Sequence[int],
    how: FusionParams,
) -> Trained:
    """Choose a setting within the training fold, then train a network a seed on all of it.

    Parameters
    ----------
    head : callable
        See `lib.fusion.heads`.
    inputs : Inputs
        Patients of the fold; their `offset` is added to the logits.
    fold : Fold
    inner : sequence of Fold
        Within its training part, who is tried on and who judges: the mean of their curves chooses.
    seeds : sequence of int
    how : FusionParams
        width, bins, trials, epochs and outcome.
    """
    sizes = {name: values.shape[1] for name, values in inputs.columns.items()}

    def descended(learn: Fold, members: Sequence[Member], epochs: int) -> tuple:
        problem = Problem.of(inputs.of(learn.train), how.bins if how.outcome == "survival" else 0)
        outputs = len(problem.start)
        seeds = [each.seed for each in members]
        batch = Batch(lambda: Fusion(sizes, head, how.width, outputs, problem.start), seeds)
        watch = problem.watching(batch, inputs.of(learn.test))
        return problem, batch, *descend(batch, members, problem.inputs, problem.outcome, epochs, watch)

    tried = settings_of(how.trials, seeds[0])
    tuning, best, epochs = choice(tried, pd.concat([descended(one, tried, how.epochs)[-1] for one in inner]))
    problem, batch, rows, history = descended(fold, [best._replace(seed=seed) for seed in seeds], epochs)
    history["seed"] = history.pop("member").map(dict(enumerate(seeds)))
    history = history.rename(columns={"watched": "held_out_c_index"}).sort_values(["seed", "epoch"])
    history["chosen"] = history["epoch"] == epochs
    return Trained(problem, batch, rows, history, tuning)


def choice(tried: Sequence[Member], looks: pd.DataFrame) -> tuple[pd.DataFrame, Member, int]:
    """The table of trials, the setting and the number of epochs with the highest c-index, mean over neighbouring looks."""
    c_index = looks.groupby(["member", "epoch"])["watched"].mean().unstack()
    smooth = uniform_filter1d(c_index.fillna(0.5).to_numpy(), SMOOTH, axis=1, mode="nearest")
    table = pd.DataFrame([member[1:] for member in tried], columns=Member._fields[1:])
    table.insert(0, "trial", range(len(tried)))
    table["epochs"], table["inner_c"] = c_index.columns[smooth.argmax(1)], smooth.max(1)
    best = int(table["inner_c"].argmax())
    table["chosen"] = table["trial"] == best
    return table, tried[best], int(table["epochs"][best])


class Data:
    """A cohort's outcomes and folds, and the inputs that stage 2 wrote of each fold."""

    def __init__(self, stage: Stage):
        self.stage, self.params, table = stage, stage.params, stage.read("cohort.csv")
        self.table = table.set_index(table.columns[0])
        self.folds = folds_of(self.table)
        self._read = lru_cache(maxsize=1)(lambda path: read_tokens(path))

    def files(self, run: Run) -> list[Path]:
        """What a run reads: the fold's tokens, and the file of a head of one's own."""
        own = self.params.own_heads.get(run.model.removesuffix(OFFSET))
        return [self.stage.folder / "tokens" / f"{run.fold.name}.h5", *([file_of(own)] if own else [])]

    def depends(self, run: Run) -> dict[str, Any]:
        """What else a run's result depends on: how networks are trained, and the seeds, which a run has all."""
        how = self.params.model_dump(include=set(Training.model_fields))
        return {**how, "seeds": self.seeds(run.model), "months": self.params.months}

    def seeds(self, model: str) -> list[int]:
        """Seeds that a contender is trained with."""
        return self.params.seeds[:1] if model in self.params.first_seed_only else self.params.seeds

    def inputs(self, fold: Fold) -> Inputs:
        """Inputs of a fold's patients."""
        return self._read(self.files(Run("", fold, "", 0))[0])

    def inner(self, fold: Fold) -> Fold:
        """The fold within a training fold on which settings are tried."""
        return inner_folds(self.table, fold, self.params.seed, ASIDE)[0]


def fit(run: Run, data: Data) -> Result:
    """Train or fit one contender on one fold, a network with all seeds side by side; score the held-out patients.

    Scores: setting (the patient's cancer: who learns from several is judged in each), patient, score and what else `scored`
    gives. Tables: tuning (of a network trial, learning_rate, weight_decay, dropout, epochs, inner_c, chosen) and costs
    (parameters, of_head, seconds of one training, trials among them).
    """
    result = rivals.fit(run, data) if run.model in RIVALS else _fit_network(run, data)
    setting = result.scores["patient"].map(data.table["cancer"])
    return result._replace(scores=result.scores.assign(setting=setting))


def _fit_network(run: Run, data: Data) -> Result:
    began, inputs = time.process_time(), data.inputs(run.fold)
    if not run.model.endswith(OFFSET):
        inputs = inputs._replace(offset=torch.zeros_like(inputs.offset))
    seeds, how = data.seeds(run.model), data.params
    trained = train(head_of(run.model, how.own_heads), inputs, run.fold, [data.inner(run.fold)], seeds, how)
    seconds = (time.process_time() - began) / (how.trials + len(seeds))
    network = trained.batch.network
    costs = {"parameters": count(network), "of_head": count(network.head), "seconds": seconds}
    scores = scored(trained, inputs.of(run.fold.test), seeds, how.months)
    weights = {name: weight[0] for name, weight in trained.batch.weights(trained.rows).items()}
    tables = {"tuning": trained.tuning, "costs": pd.DataFrame([costs])}
    return Result(scores, trained.history, weights, {}, tables)


def scored(trained: Trained, tested: Inputs, seeds: Sequence[int], months: Sequence[float]) -> pd.DataFrame:
    """seed, patient, score (higher = earlier death), and survival_<month>, or the probability of the label."""
    problem, parts = trained.problem, []
    risks, chances = problem.risk(trained.batch, trained.rows, tested)
    for seed, risk, chance in zip(seeds, risks.numpy(), chances.numpy(), strict=True):
        part = pd.DataFrame({"seed": seed, "patient": tested.patients, "score": risk})
        if problem.edges is None:
            part["probability"] = risk
        else:
            part[[f"survival_{month:g}" for month in months]] = survival_at(chance, problem.edges, months)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)
