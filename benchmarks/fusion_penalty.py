"""By what is a penalty chosen, and does the bench's answer hang on it?

    .venv/bin/python -m benchmarks.fusion_penalty [--draws 12] [--planted 100] [--cancers blca ...]

Ridge regressions of the bench at each penalty: what inner folds say of it, and the c-index of the patients held out. From these,
the c-index that each way to choose arrives at:

- order: the highest mean c-index of the inner folds' left-out patients;
- likelihood: the highest likelihood of theirs (Verweij and van Houwelingen, Stat. Med. 12:2305, 1993);
- near: the likeliest of those whose c-index is within .005 of the highest, as `lib.training.penalised` has it;
- of three: the same, on three draws of the inner folds together;
- the best there is, which nobody can know.

"real": the published folds and outcomes, the inner folds drawn anew. "planted": made-up deaths on the real inputs of one fold,
of a random direction of the clinic and one of all genes, so that no real outcome is looked at. Rows: outcome, cancer, model, way,
c, spread (standard deviation over the draws of inner folds; of planted ones standard error over plants), draws. Patients are
PORPOISE's, from data/raw or a mirror. No bar.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.fusion_controls import cohort
from benchmarks.fusion_repeats import CANCERS
from lib.files import write_csv
from lib.fusion.tokens import Inputs, inner_folds, tokens, whole_rna
from lib.training.folds import Fold, folds_of
from lib.training.penalised import EQUAL, FREE, PENALTIES, Outcome, Ridge, minimum

OUT = Path(__file__).parent / "results" / "fusion_penalty.csv"
WAYS = ("order", "likelihood", "near", "order of three", "likelihood of three", "near of three", "the best")
Scorer = Callable[[np.ndarray], list[np.ndarray]]
Inner = list[tuple[np.ndarray, np.ndarray]]
# model -> its tables, which of them are free, each its share of the penalty, on top of the clinic's prediction
MODELS = {
    "clinic": (("clinic",), (False,), False, False),
    "rna": (("rna",), (False,), False, False),
    "ridge-all": (("clinic", "copy_number", "mutations", "rna"), (False,) * 4, False, False),
    "ridge-by-block": (("clinic", "copy_number", "mutations", "rna"), (False,) * 4, True, False),
    "clinic-free+rna": (("clinic", "rna"), (True, False), False, False),
    "clinic-offset+rna": (("rna",), (False,), False, True),
}


def inner_rows(table: pd.DataFrame, fold: Fold, seed: int) -> Inner:
    place = {one: number for number, one in enumerate(fold.train)}
    folds = inner_folds(table, fold, seed)
    return [tuple(np.array([place[one] for one in part]) for part in (f.train, f.test)) for f in folds]


def regressions(ridge: Ridge, tables: list[np.ndarray], known: Outcome, offset: np.ndarray) -> Scorer:
    """How a ridge regression is fitted on some of the training patients (`known`, the first rows): scores of all patients,
    from the strongest penalty to the weakest."""
    train = len(known.event)
    ridge.fit([table[:train] for table in tables], known, [], offset[:train])
    free, wide = ridge._split(tables)
    columns = np.hstack([free, (wide - ridge._centre) @ ridge._axes])
    open_ = np.arange(columns.shape[1]) < free.shape[1]

    def path(rows: np.ndarray) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        for penalty in PENALTIES:
            start = found[-1] if found else None
            weights = np.where(open_, FREE, penalty)
            found.append(minimum(columns[rows], weights, known.at(rows), offset[rows], start))
        return [columns @ one + offset for one in found]

    return path


def along(path: Scorer, outcome: Outcome, train: int, inner: list[Inner]):
    """Of each penalty and draw of inner folds: c-index and likelihood of left-out patients; c-index of those held out."""
    known, tested = outcome.at(np.arange(train)), outcome.at(np.arange(train, len(outcome.event)))
    order, likely = (np.zeros((len(inner), len(PENALTIES))) for _ in range(2))
    for draw, folds in enumerate(inner):
        for rows, left in folds:
            for number, score in enumerate(path(rows)):
                order[draw, number] += known.at(left).concordance(score[left][None])[0] / len(folds)
                likely[draw, number] += known.gained(score[:train], rows)
    held_out = [tested.concordance(score[train:][None])[0] for score in path(np.arange(train))]
    return order, likely, np.tile(held_out, (len(inner), 1))


def by_way(order: np.ndarray, likely: np.ndarray, held_out: np.ndarray) -> dict[str, np.ndarray]:
    """c-index held out, one a draw, of each way to choose."""

    def ways(order: np.ndarray, likely: np.ndarray) -> list[np.ndarray]:
        near = np.where(order >= order.max(1, keepdims=True) - EQUAL, likely, -np.inf)
        return [
            np.take_along_axis(held_out, part.argmax(1)[:, None], 1)[:, 0] for part in (order, likely, near)
        ]

    three = [np.stack([np.roll(part, -turn, 0) for turn in range(3)]).mean(0) for part in (order, likely)]
    return dict(zip(WAYS, [*ways(order, likely), *ways(*three), held_out.max(1)], strict=True))


def plant(tables: dict[str, np.ndarray], share_of_deaths: float, seed: int) -> Outcome:
    """Made-up deaths: log hazard of spread .5 or 1, a quarter to all of its variance from genes."""
    random = np.random.default_rng(seed)
    share, spread = random.choice([0.25, 0.5, 0.75, 1.0]), random.choice([0.5, 1.0])
    parts = [tables[name] @ random.normal(size=tables[name].shape[1]) for name in ("clinic", "rna")]
    clinic, genes = ((part - part.mean()) / part.std() for part in parts)
    hazard = np.exp(spread * (np.sqrt(1 - share) * clinic + np.sqrt(share) * genes))
    death, leave = random.exponential(1 / hazard), random.exponential(size=len(hazard))
    leave = leave * np.quantile(death / leave, share_of_deaths)
    return Outcome(np.minimum(death, leave), (death <= leave).astype(float))


def tables_of(inputs: Inputs) -> dict[str, np.ndarray]:
    named = {name: inputs.columns[name].numpy().astype(float) for name in inputs.columns}
    rna = whole_rna(inputs)
    return named if rna is None else named | {"rna": rna.astype(float)}


def measured(tables, outcome: Outcome, table: pd.DataFrame, fold: Fold, seeds) -> Iterator[tuple[str, dict]]:
    """Of each model the c-index by way."""
    rows, train = [*fold.train, *fold.test], len(fold.train)
    drawn = table.loc[rows].assign(event=outcome.event.astype(int))
    inner = [inner_rows(drawn, fold, seed) for seed in seeds]
    known = outcome.at(np.arange(train))
    clinic = Ridge([False]).fit([tables["clinic"][:train]], known, inner[0])
    on_top = np.r_[clinic.cross_fitted, clinic.predict([tables["clinic"][train:]])]
    for model, (names, free, by_block, offset) in MODELS.items():
        there = [name in tables for name in names]
        if "rna" in names and "rna" not in tables and not by_block and len(names) < 4:
            continue
        some = [tables[name] for name, is_there in zip(names, there, strict=True) if is_there]
        ridge = Ridge([f for f, is_there in zip(free, there, strict=True) if is_there], by_block)
        start = on_top if offset else np.zeros(len(rows))
        yield model, by_way(*along(regressions(ridge, some, known, start), outcome, train, inner))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=12, help="of the inner folds, three or more")
    parser.add_argument(
        "--planted", type=int, default=100, help="made-up outcomes a cancer, in turn one a fold"
    )
    parser.add_argument("--cancers", nargs="+", default=CANCERS)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.own, options.seeds, options.models, rows = [], [1], ["clinic"], []
    for name in options.cancers:
        params, patients = cohort(name, options)
        found: dict[tuple, list] = {}
        for number, fold in enumerate(folds_of(patients.table)):
            inputs = tokens(patients, fold, params)
            tables, died = tables_of(inputs), inputs.event.numpy().astype(float)
            real = Outcome(inputs.time.numpy().astype(float), died)
            for model, ways in measured(tables, real, patients.table, fold, range(1, 1 + options.draws)):
                for way, c in ways.items():
                    found.setdefault(("real", model, way), []).append(c)
            for seed in range(number, options.planted if "rna" in tables else 0, 5):
                made = plant(tables, died.mean(), seed)
                for model, ways in measured(tables, made, patients.table, fold, range(1, 4)):
                    for way, c in ways.items():
                        found.setdefault(("planted", model, way), []).append(c[0])
        for (outcome, model, way), parts in found.items():
            c = np.mean(parts, axis=0) if outcome == "real" else np.array(parts)
            error = c.std(ddof=1) / (1 if outcome == "real" else np.sqrt(len(c)))
            about = {"outcome": outcome, "cancer": name, "model": model, "way": way}
            rows.append(about | {"c": c.mean(), "spread": error, "draws": len(c)})
        write_csv(pd.DataFrame(rows), options.out)
        print(name, flush=True)


if __name__ == "__main__":
    main()
