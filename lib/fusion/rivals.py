"""Plain rivals of the fusing networks: regressions and a forest on the same columns, tuned on the same inner folds."""

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeRegressor

from lib.fusion.params import WITH_OFFSET
from lib.fusion.tokens import Inputs, inner_folds, whole_rna
from lib.training.folds import Fold
from lib.training.penalised import ElasticNet, Outcome, Ridge, baseline, survival
from lib.training.runs import Result, Run

TREES, LEAST_IN_LEAF = 300, 10
TABLE = {"rna": "rna", "copy-number": "copy_number", "mutations": "mutations", "clinic": "clinic"}


class Scores(NamedTuple):
    """What a rival says: of training patients from inner folds that do not hold them, of held-out ones from all."""

    cross_fitted: np.ndarray
    held_out: np.ndarray
    penalty: float = np.nan


class Tables(NamedTuple):
    """Tables of a fold, name -> (training patients, held-out ones); RNA is one table."""

    tables: dict[str, tuple[np.ndarray, np.ndarray]]
    offset: tuple[np.ndarray, np.ndarray]
    outcome: Outcome
    inner: list[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, inputs: Inputs, fold: Fold, inner: Iterable[Fold], outcome: str = "survival") -> "Tables":
        """Split a fold's inputs; `inner` are folds of its training patients."""
        train = len(fold.train)
        inputs = inputs.of([*fold.train, *fold.test])
        whole = {name: inputs.columns[name].numpy().astype(float) for name in inputs.columns}
        rna = whole_rna(inputs)
        named = {name: table for name, table in whole.items() if name in TABLE.values() or rna is None}
        named |= {} if rna is None else {"rna": rna.astype(float)}
        named |= {"age": whole["clinic"][:, [inputs.clinic.index("age")]]} if "age" in inputs.clinic else {}
        place = {one: number for number, one in enumerate(fold.train)}
        parts = [tuple(np.array([place[one] for one in part]) for part in (f.train, f.test)) for f in inner]
        time = inputs.time.numpy().astype(float)[:train] if outcome == "survival" else None
        known = Outcome(time, inputs.event.numpy().astype(float)[:train])
        offset = inputs.offset.numpy().astype(float)
        tables = {name: (table[:train], table[train:]) for name, table in named.items()}
        return cls(tables, (offset[:train], offset[train:]), known, parts)


def cannot_enter(models: Iterable[str], inputs: Inputs) -> dict[str, str]:
    """Contenders that a cohort has no columns for, with the table they lack: they are not run there."""
    there = {*inputs.columns, *(["rna"] if whole_rna(inputs) is not None else []), *inputs.clinic}
    wanted = {"age": ["age"], **{one: [table] for one, table in TABLE.items()}}
    wanted |= {one: ["clinic", "rna"] for one in ("clinic-free+rna", "clinic-offset+rna", "late:clinic+rna")}
    wanted |= {one: ["clinic"] for one in WITH_OFFSET}
    lacking = {model: [one for one in wanted.get(model, []) if one not in there] for model in models}
    return {model: f"no {' and no '.join(tables)}" for model, tables in lacking.items() if tables}


def fit(run: Run, data) -> Result:
    """Fit one rival on one fold, as `lib.fusion.train.fit` does a network: scores, and a table of costs.

    `data` is `lib.fusion.train.Data`. Tables: tuning (the penalty that inner folds chose) and costs (parameters: columns).
    """
    began, params = time.process_time(), data.params
    inputs = data.inputs(run.fold)
    tables = Tables.of(inputs, run.fold, inner_folds(data.table, run.fold, params.seed), params.outcome)
    scores = fit_rival(run.model, tables)
    table = table_of(scores, tables, run.fold, params.months)
    costs = {"parameters": np.nan, "of_head": np.nan, "seconds": time.process_time() - began}
    tuning = pd.DataFrame({"penalty": [scores.penalty], "chosen": [True]})
    history = pd.DataFrame(columns=["epoch", "loss"])
    return Result(table, history, tables={"tuning": tuning, "costs": pd.DataFrame([costs])})


def fit_rival(name: str, data: Tables) -> Scores:
    """Fit one rival on a fold's training patients.

    - age, clinic, rna, copy-number, mutations: a ridge regression on that table;
    - ridge-all: on all columns, one penalty; ridge-by-block: each table has the same share of it;
    - clinic-free+rna: the clinic without penalty; clinic-offset+rna: RNA explains what the clinic's prediction leaves;
    - elastic-net: on all columns but the clinic's, which are free;
    - late: the mean rank of the tables' own regressions;
    - forest: on all columns.
    """
    every = [one for one in data.tables if one != "age"]
    if name in ("age", *TABLE):
        return _ridge(data, [TABLE.get(name, name)])
    if name == "ridge-all":
        return _ridge(data, every)
    if name == "ridge-by-block":
        return _ridge(data, every, by_block=True)
    if name == "clinic-free+rna":
        return _ridge(data, ["clinic", "rna"], free=["clinic"])
    if name == "clinic-offset+rna":
        return _ridge(data, ["rna"], offset=data.offset)
    if name.startswith("late:"):
        return _late(data, ["clinic", "rna"] if name == "late:clinic+rna" else every)
    return _elastic_net(data) if name == "elastic-net" else _forest(data, every)


def _ridge(data: Tables, names: Sequence[str], free=(), by_block=False, offset=(None, 0.0)) -> Scores:
    train, held_out = zip(*(data.tables[name] for name in names), strict=True)
    ridge = Ridge([name in free for name in names], by_block).fit(train, data.outcome, data.inner, offset[0])
    return Scores(ridge.cross_fitted, ridge.predict(held_out, offset[1]), ridge.penalty)


def _elastic_net(data: Tables) -> Scores:
    wide = [table for name, table in data.tables.items() if name not in ("clinic", "age")]
    train, held_out = (np.hstack(part) for part in zip(*wide, strict=True))
    free = data.tables.get("clinic", (train[:, :0], held_out[:, :0]))
    net = ElasticNet().fit(free[0], train, data.outcome, data.inner)
    return Scores(net.cross_fitted, net.predict(free[1], held_out), net.penalty)


def _late(data: Tables, names: Sequence[str]) -> Scores:
    """Ranks are among cross-fitted scores of training patients: who else is held out changes nobody's score."""
    each = [_ridge(data, [name]) for name in names]
    ranks = [
        [np.searchsorted(np.sort(one.cross_fitted), part) / len(one.cross_fitted) for part in one[:2]]
        for one in each
    ]
    return Scores(*(np.mean(part, axis=0) for part in zip(*ranks, strict=True)))


def _forest(data: Tables, names: Sequence[str]) -> Scores:
    """Relative risk forest: events over cumulative hazard, split by Poisson deviance (LeBlanc and Crowley, Biometrics 48:411,
    1992; Ishwaran et al., JASA 99:591, 2004); of a label, its share. Trees are scikit-learn's, and nothing is tuned. A
    training patient's score is that of the trees that did not draw him.
    """
    train, held_out = (np.hstack(part) for part in zip(*(data.tables[name] for name in names), strict=True))
    event, time = data.outcome.event, data.outcome.time
    # what each has gone through, the cohort's average hazard up to his time; a label is asked once
    through = np.ones(len(event)) if time is None else baseline(np.zeros(len(event)), data.outcome, time)
    through = np.maximum(through, 1e-3)
    random, sums, trees = np.random.default_rng(0), np.zeros((2, len(event))), np.zeros(len(held_out))
    how = {"criterion": "poisson", "min_samples_leaf": LEAST_IN_LEAF, "max_features": "sqrt"}
    for number in range(TREES):
        drawn = np.bincount(random.integers(0, len(event), len(event)), minlength=len(event))
        tree = DecisionTreeRegressor(random_state=number, **how)
        tree.fit(train, event / through, sample_weight=drawn * through)
        trees += tree.predict(held_out) / TREES
        sums += np.stack([tree.predict(train), np.ones(len(event))]) * (drawn == 0)
    rates = sums[0] / np.maximum(sums[1], 1), trees
    least = event.mean() / 100
    return Scores(*(np.log(np.maximum(rate, least)) for rate in rates))


def table_of(scores: Scores, data: Tables, fold: Fold, months: Sequence[float]) -> pd.DataFrame:
    """Held-out patients with score (higher = earlier event) and survival at `months`, or the label's probability.

    Probabilities come from a regression of the outcome on the cross-fitted score alone, so that a score that is too sure of
    itself, or is a rank, becomes a probability all the same.
    """
    table = pd.DataFrame({"patient": fold.test, "score": scores.held_out})
    spread = scores.cross_fitted.std() or 1.0
    own, theirs = (part[:, None] / spread for part in scores[:2])
    line = Ridge([True]).fit([own], data.outcome, [])
    if data.outcome.time is None:
        return table.assign(probability=1 / (1 + np.exp(-line.predict([theirs]))))
    cumulative = baseline(line.predict([own]), data.outcome, months)
    table[[f"survival_{month:g}" for month in months]] = survival(line.predict([theirs]), cumulative)
    return table
