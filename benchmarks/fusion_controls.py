"""Controls of the fusion bench: what it says where the answer is known.

    .venv/bin/python -m benchmarks.fusion_controls permuted exchanged traps planted tuned

- permuted: outcomes dealt anew within folds; the c-index of each contender, and how often the bench's own test calls one of
  two contenders better (false alarms).
- exchanged: noise in place of a modality in all patients, trained anew ("noise"), or the modality of the held-out patients dealt
  anew among them, without training again ("exchanged"). What a contender loses (c-index, mean over folds, seeds and deals;
  `spread`: standard deviation over folds) tells what the modality is worth to it, and what it reads.
- traps: the clinic's Cox model with `train` or the hospital's own death rate let in, columns that stage 1 never lets in.
- planted: made-up outcomes on real inputs of all cancers, additive or a choice (`benchmarks._controls.planted`); c-index by
  strength at 400 and 4,000 patients, with the best there is (the true hazard).
- tuned: heads on top of the clinic whose setting and epochs five inner folds choose, beside one fold as in the bench: how much
  the c-index gains by it (`changed`: held-out folds in which the choice is another), and how each stands to the Cox model that
  keeps the clinic apart, with the standard errors of the bench's `differences.csv`. One seed.

Patients are PORPOISE's, from data/raw or a mirror. Each part writes `results/fusion_<part>.csv`. No bar.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm

from benchmarks._controls import Held, asked_again, exchanged, noised, permuted, planted, predictions, tuned
from lib.data import RAW
from lib.files import write_csv
from lib.fusion import evaluation
from lib.fusion.cohort import Patients, by_site, read_cohort
from lib.fusion.evaluation import BEST_REGRESSION, CROSS_ATTENTION, FAMILY
from lib.fusion.params import OFFSET, RNA, FusionParams
from lib.fusion.tokens import Inputs, tokens
from lib.params import ROOT, load
from lib.stage import Stage
from lib.statistics.concordance import harrell
from lib.training.folds import Fold, folds_of
from lib.training.runs import Run

OUT = Path(__file__).parent / "results"
BLOCKS = {
    "clinic": ["clinic"],
    "RNA": list(RNA),
    "copy number and mutations": ["copy_number", "mutations"],
}
GENES = 100  # of each group in the planted cohorts, so that 4,000 patients take minutes


def cohort(name: str, options) -> tuple[FusionParams, Patients]:
    """A cohort's parameters, with the contenders and seeds that are asked for, and its patients."""
    own = dict(each.split("=", 1) for each in options.own)
    changes = {"seeds": options.seeds, "models": options.models, "own_heads": own}
    params = load(ROOT / "params" / "fusion" / f"{name}.yaml").model_copy(update=changes)
    return params, read_cohort(Stage("fusion", "controls", params)).patients


def held(params: FusionParams, patients: Patients) -> Held:
    folds = folds_of(patients.table)
    return Held(params, patients.table, folds, {fold.name: tokens(patients, fold, params) for fold in folds})


def by_fold(table: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """C-index of each contender in each fold, mean over seeds: a row a fold, a column a contender."""
    rows = []
    for (model, seed, fold), part in scores.groupby(["model", "seed", "fold"], sort=False):
        outcome = table.loc[part["patient"]]
        rows.append((model, seed, fold, harrell(outcome["time"], outcome["event"], part["score"].to_numpy())))
    c = pd.DataFrame(rows, columns=["model", "seed", "fold", "c"])
    return c.pivot_table(index="fold", columns="model", values="c", sort=False)


def c_indices(table: pd.DataFrame, scores: pd.DataFrame) -> dict[str, float]:
    """Mean over seeds and folds, by contender."""
    return by_fold(table, scores).mean().to_dict()


def difference(models: dict, first: str, minus: str, draws: int) -> tuple[float, float]:
    """Of two contenders' c-indices, and its standard error as the bench has it (`evaluation.difference_rows`)."""
    pair = {name: models[name] for name in (first, minus)}
    found = evaluation.metrics_table.survival_differences(pair, "c_index", draws=draws).iloc[0]
    return found["difference"], (found["high"] - found["low"]) / (2 * norm.isf(0.025))


def run_permuted(options) -> Iterator[list[dict]]:
    for name in options.cancers:
        params, patients = cohort(name, options)
        data = held(params, patients)
        for number in range(options.permutations):
            if (name, number) in options.done:
                continue
            data.table = permuted(patients.table, number)
            scores = predictions(data, options.models)
            about, rows = {"cancer": name, "permutation": number}, []
            for model, c in c_indices(data.table, scores).items():
                rows.append(about | {"model": model, "minus": "", "value": c, "p": np.nan})
            known = evaluation.outcomes(data.table.rename_axis("patient").reset_index())
            models = evaluation.held_out_patients(scores.assign(setting=name), known)[name]
            for first, minus in itertools.combinations(options.models, 2):
                apart, error = difference(models, first, minus, draws=300)
                p = 2 * norm.sf(abs(apart) / error)
                rows.append(about | {"model": first, "minus": minus, "value": apart, "p": p})
            yield rows


def run_exchanged(options) -> Iterator[list[dict]]:
    for name in options.cancers:
        if (name,) in options.done:
            continue
        params, patients = cohort(name, options)
        data = held(params, patients)
        blocks = {
            block: there
            for block, modalities in BLOCKS.items()
            if (there := [one for one in modalities if one in patients.blocks])
        }
        folds, inputs, copies = [], {}, []
        for fold in data.folds:
            own = data.inputs(fold)
            dealt = {
                f"{block}@{deal}": exchanged(own, fold, modalities, deal)
                for (block, modalities), deal in itertools.product(blocks.items(), range(options.deals))
            }
            inputs[fold.name], again = asked_again(own, fold, dealt)
            folds.append(again)
            copies += again.test[len(fold.test) :]
        outcomes = data.table.loc[[copy.partition("@")[0] for copy in copies]].set_index(pd.Index(copies))
        scores = predictions(Held(params, pd.concat([data.table, outcomes]), folds, inputs), options.models)
        scores[["patient", "block", "deal"]] = scores["patient"].str.split("@", expand=True)
        whole, rows = by_fold(data.table, scores[scores["block"].isna()]), []
        for block in blocks:
            part = scores[scores["block"] == block]
            deals = [by_fold(data.table, one) for _, one in part.groupby("deal")]
            rows += lost(
                whole, sum(deals) / len(deals), {"cancer": name, "block": block, "what": "exchanged"}
            )
        for block, modalities in blocks.items():
            noise = {fold.name: noised(data.inputs(fold), modalities, 1) for fold in data.folds}
            changed = predictions(Held(params, data.table, data.folds, noise), options.models)
            rows += lost(
                whole, by_fold(data.table, changed), {"cancer": name, "block": block, "what": "noise"}
            )
        yield rows


def lost(whole: pd.DataFrame, changed: pd.DataFrame, about: dict) -> list[dict]:
    """What each contender has with a modality, without it, and loses by that; the spread over folds of what it loses."""
    apart = whole - changed
    table = pd.DataFrame(
        {"whole": whole.mean(), "changed": changed.mean(), "loss": apart.mean(), "spread": apart.std()}
    )
    return [about | {"model": model, **row} for model, row in table.to_dict("index").items()]


def run_traps(options) -> Iterator[list[dict]]:
    for name in options.cancers:
        params, patients = cohort(name, options)
        raw = pd.read_csv(
            RAW / params.porpoise / "datasets_csv_mutsig" / f"tcga_{name}_all_clean.csv.zip", low_memory=False
        )
        raw = raw.drop_duplicates("case_id").set_index("case_id").loc[patients.table.index]
        rate = raw.groupby("site")["censorship"].transform(lambda values: 1 - values.mean())
        inputs = {"": None, "train": raw["train"], "hospital's rate": rate}
        row = {"cancer": name, "site_alone": by_site(patients.table)["c_index"].iloc[0]}
        for said, column in inputs.items():
            clinic = (
                patients.blocks["clinic"]
                if column is None
                else patients.blocks["clinic"].assign(extra=column)
            )
            data = held(params, Patients(patients.table, {"clinic": clinic}))
            row[f"clinic {said}".strip()] = c_indices(data.table, predictions(data, ["clinic"]))["clinic"]
        yield [row]


def pool(random: np.random.Generator, options) -> tuple[FusionParams, Inputs]:
    """All cancers' patients with three of their modalities, `GENES` genes of a group drawn by chance."""
    params, patients = cohort("pan", options)
    blocks = {"clinic": patients.blocks["clinic"]}
    for name in ("protein_kinases", "cytokines", "differentiation"):
        whole = patients.blocks[name].dropna(how="all")
        blocks[name] = whole.iloc[:, np.sort(random.choice(whole.shape[1], GENES, replace=False))]
    names = blocks["cytokines"].index
    some = Patients(patients.table.loc[names], {name: block.loc[names] for name, block in blocks.items()})
    # ranks and scales of all: these are inputs of a simulation, and no real outcome is looked at
    return params, tokens(some, Fold("0", tuple(names), ()), params)


def run_planted(options) -> Iterator[list[dict]]:
    params, inputs = pool(np.random.default_rng(1), options)
    cases = [("choice", n, strength) for n in options.sizes for strength in options.strengths]
    cases += [("additive", n, 1.0) for n in options.sizes]
    for number, (kind, n, strength) in itertools.product(range(options.repeats), cases):
        order = list(np.random.default_rng([number, 7]).permutation(inputs.patients))
        fold = Fold("0", tuple(order[:n]), tuple(order[n : n + options.tested]))
        part = inputs.of([*fold.train, *fold.test])
        table, log_hazard = planted(part, kind, strength, number)
        some = params.model_copy(update={"trials": 4})
        part = part._replace(offset=torch.zeros_like(part.offset))
        found = c_indices(
            table, predictions(Held(some, table.assign(fold="0"), [fold], {"0": part}), options.models)
        )
        tested = table.loc[[*fold.test]]
        found["the true hazard"] = harrell(tested["time"], tested["event"], log_hazard[n:])
        about = {"kind": kind, "patients": n, "strength": strength, "repeat": number}
        yield [about | {"model": model, "c": c} for model, c in found.items()]


def run_tuned(options) -> Iterator[list[dict]]:
    for name in options.cancers:
        if (name,) in options.done:
            continue
        params, patients = cohort(name, options)
        data = held(params, patients)
        parts, changed = [], dict.fromkeys(options.models, 0)
        for model, fold in itertools.product(options.models, data.folds):
            found = tuned(Run("control", fold, model, params.seeds[0]), data, INNER)
            for count, (scores, _) in found.items():
                parts.append(scores.assign(model=f"{model}@{count}", fold=fold.name))
            (one, *_), (five, *_) = (
                trials[trials["chosen"]].to_numpy().tolist() for _, trials in found.values()
            )
            changed[model] += one[:5] != five[:5]  # all but the inner c-index
        if set(RNA) & {*patients.blocks}:
            parts.append(predictions(data, [BEST_REGRESSION]))
        known = evaluation.outcomes(data.table.rename_axis("patient").reset_index())
        models = evaluation.held_out_patients(pd.concat(parts).assign(setting=name), known)[name]
        for count in INNER:
            heads = [f"{head}{OFFSET}@{count}" for head in CROSS_ATTENTION]
            if together := evaluation.family(models, heads):
                models[f"{FAMILY}{OFFSET}@{count}"] = together
        yield [{"cancer": name, **row} for row in tuned_rows(models, changed, params.bootstrap_draws)]


def tuned_rows(models: dict, changed: dict[str, int], draws: int) -> Iterator[dict]:
    """Contrasts of `tuned` in one cancer: contrast, model, difference, error, changed."""
    one, five = INNER
    heads = list(dict.fromkeys(name.partition("@")[0] for name in models if "@" in name))
    pairs = [("five minus one", head, f"{head}@{five}", f"{head}@{one}") for head in heads]
    for words, count in (("one", one), ("five", five)):
        pairs += [(f"{words} minus regression", head, f"{head}@{count}", BEST_REGRESSION) for head in heads]
        whole = (f"{FAMILY}{OFFSET}", f"concat{OFFSET}")
        pairs += [(f"{words} minus concatenation", whole[0], *(f"{head}@{count}" for head in whole))]
    for contrast, head, first, minus in pairs:
        if {first, minus} <= {*models}:
            apart, error = difference(models, first, minus, draws)
            row = {"contrast": contrast, "model": head, "difference": apart, "error": error}
            yield row | {"changed": changed.get(head, np.nan) if contrast == "five minus one" else np.nan}


PARTS = {
    "permuted": run_permuted,
    "exchanged": run_exchanged,
    "traps": run_traps,
    "planted": run_planted,
    "tuned": run_tuned,
}
INNER = (1, 5)  # inner folds that choose: as the bench, and as the regressions
HEADS = ["concat", "late", "self-attention", "crossfusion", "spacrd", "mrs90", "mcat"]
MODELS = {
    "permuted": [*HEADS, "clinic", "ridge-by-block"],
    "exchanged": [*HEADS, "clinic-free+rna", "ridge-by-block"],
    "traps": ["clinic"],
    "tuned": [f"{head}{OFFSET}" for head in (*CROSS_ATTENTION, "concat")],
    "planted": [
        "ridge-by-block",
        "late",
        "concat",
        "uniform-attention",
        "self-attention",
        "mrs90",
    ],
}
CANCERS = {
    "permuted": ["paad", "kirp"],
    "exchanged": ["blca", "kirc", "luad"],
    "traps": ["brca", "gbmlgg", "coadread"],
    "planted": [],
    # those with most deaths first
    "tuned": [
        *("hnsc", "lusc", "gbmlgg", "blca", "luad", "stad", "brca"),
        *("lihc", "kirc", "paad", "skcm", "coadread", "ucec", "kirp"),
    ],
}
SEEDS = {"exchanged": [1, 2, 3]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--cancers", nargs="+")
    parser.add_argument("--models", nargs="+")
    parser.add_argument(
        "--own", nargs="+", default=[], help="heads that are not the bench's: name=file.py:Class"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the tables")
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="of the networks; 1 2 3 for exchanged, otherwise 1"
    )
    parser.add_argument("--deals", type=int, default=5, help="of a modality among held-out patients")
    parser.add_argument("--permutations", type=int, default=20)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="what the table has is kept: cancers, of permuted their deals",
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[400, 4000])
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tested", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked = options.cancers, options.models, options.seeds
    for part in options.parts:
        options.cancers, options.models, options.seeds = (
            a or b.get(part, [1]) for a, b in zip(asked, (CANCERS, MODELS, SEEDS), strict=True)
        )
        before = options.out / f"fusion_{part}.csv"
        table = pd.read_csv(before) if options.resume and before.is_file() else pd.DataFrame()
        keys = [column for column in ("cancer", "permutation") if column in table]
        options.done = {*table[keys].itertuples(index=False, name=None)}
        for rows in PARTS[part](options):  # written as it grows: what was not reached is missing, and no more
            table = pd.concat([table, pd.DataFrame(rows)], ignore_index=True).round(4)
            write_csv(table, options.out / f"fusion_{part}.csv")
            print(
                pd.DataFrame(rows).round(3).to_string(index=False, header=len(table) == len(rows)), flush=True
            )


if __name__ == "__main__":
    main()
