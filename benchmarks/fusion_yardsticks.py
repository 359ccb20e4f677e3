"""Where plain models of the bench lie apart from those measured before it was built: what was theirs?

    .venv/bin/python -m benchmarks.fusion_yardsticks [--draws 3] [--cancers blca ...]

Their code is not kept. So models are fitted in several readings of their names, on the published folds:

- likelihood: the penalty under which left-out patients are likeliest; ours is the likeliest of those that order them as well;
- 0/1: mutations and copy numbers as counted, so that a rare one weighs little; ours have unit spread each;
- missing told: an indicator of what the clinic lacks beside its columns; ours take the median and no more;
- ranks held out: late fusion ranks scores among the patients held out; ours among training patients;
- RNA alone: the elastic net has only genes beside the clinic; ours all other columns too;
- clipped: genes as standard scores, clipped at 4; ours are normal scores of their ranks;
- copies kept: identical columns of the copy number all enter; ours enter once;
- not fitted: age itself;
- histology told (STAD): codes of histology, substages and levels of grade, a clinic that knows more than theirs can have known.

Rows: cancer, model, reading (changes from ours), draw of the inner folds, value (c-index, mean over folds). Of STAD's late fusion
also the rank correlation of its parts, and RNA at other weights. Mutations are read in every cancer, other models where ours
lie more than .01 apart, but for the forest, whose trees nobody described. A model of a cancer that the table has is not read again. Patients are PORPOISE's, from
data/raw or a mirror. No bar.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata, spearmanr

from benchmarks.fusion_controls import ROOT, cohort
from benchmarks.fusion_penalty import inner_rows, regressions, tables_of
from benchmarks.fusion_repeats import CANCERS
from lib.data import RAW
from lib.files import write_csv
from lib.fusion.params import RIVALS
from lib.fusion.tokens import standard, tokens
from lib.training.folds import folds_of
from lib.training.penalised import ElasticNet, Outcome, Ridge, chosen

OUT = Path(__file__).parent / "results" / "fusion_yardsticks.csv"
COLUMNS = ["cancer", "model", "reading", "draw", "value"]
RULES = {"ours": chosen, "likelihood": lambda order, likelihood: int(likelihood.argmax())}
CLINIC = [model for model in RIVALS if model.startswith(("clinic", "late", "ridge"))]
# change -> the models that it touches
CHANGES = {
    "likelihood": [model for model in RIVALS if model != "age"],
    "0/1": ["copy-number", "mutations", "ridge-by-block", "late:all"],
    "missing told": CLINIC,
    "RNA alone": ["elastic-net"],
    "clipped": [
        model for model in RIVALS if "rna" in model or model.startswith(("late", "ridge", "elastic"))
    ],
    "copies kept": ["copy-number", "ridge-all", "ridge-by-block", "elastic-net", "late:all"],
    "ranks held out": ["late:clinic+rna", "late:all"],
    "not fitted": ["age"],
    "histology told": ["clinic", "clinic-free+rna", "clinic-offset+rna", "late:clinic+rna"],
}
TOGETHER = ("likelihood", "0/1", "missing told", "RNA alone")
READINGS = [(), *((one,) for one in CHANGES), TOGETHER]
READINGS += [(*TOGETHER, one) for one in ("ranks held out", "clipped")]


def apart(cancer: str) -> list[str]:
    """Models of ours that lie more than .01 from those measured before; the forest is none of them."""
    before = pd.read_csv(ROOT / "data" / "published" / "fusion_yardsticks.csv").query("cohort == @cancer")
    ours = pd.read_csv(ROOT / "data" / "results" / "fusion" / cancer / "metrics.csv")
    both = before.merge(ours[ours["metric"] == "c_index"], on="model")
    far = (both["estimate"] - both["value"]).abs() > 0.01
    return both["model"][far & (both["model"] != "forest")].tolist()


def by_rule(path: Callable, known: Outcome, inner) -> dict[str, list[np.ndarray]]:
    """By how the penalty is chosen: scores of training patients whom inner folds left out, and of those held out."""
    train = len(known.event)
    last = path(np.arange(train))
    left_out, order, likelihood = np.zeros((len(last), train)), np.zeros(len(last)), np.zeros(len(last))
    for rows, left in inner:
        for number, score in enumerate(path(rows)):
            left_out[number, left] = score[left]
            order[number] += known.at(left).concordance(score[left][None])[0] / len(inner)
            likelihood[number] += known.gained(score[:train], rows)
    best = {rule: choose(order, likelihood) for rule, choose in RULES.items()}
    return {rule: [left_out[number], last[number][train:]] for rule, number in best.items()}


def rank_mean(parts: list[list[np.ndarray]], held_out: bool, weight: float = 1.0) -> np.ndarray:
    """Of scores by several models, among those held out or among training patients; the last weighs `weight`."""
    ranks = [
        rankdata(test) if held_out else np.searchsorted(np.sort(train), test) / len(train)
        for train, test in parts
    ]
    return sum(ranks) + (weight - 1) * ranks[-1]


@cache
def slides_of(cancer: str) -> pd.DataFrame:
    """PORPOISE's table as it is, the first slide of each patient."""
    path = RAW / "tcga" / "porpoise" / "datasets_csv_mutsig" / f"tcga_{cancer}_all_clean.csv.zip"
    return pd.read_csv(path, low_memory=False).drop_duplicates("case_id").set_index("case_id")


def read_tables(
    cancer: str, patients, inputs, clipped, train: np.ndarray
) -> dict[tuple[str, str], np.ndarray]:
    """(Table, change) -> its columns; `clipped` are the inputs with genes that are not ranked."""
    rows = inputs.patients
    tables = {(name, ""): table for name, table in tables_of(inputs).items()}
    clinic = patients.blocks["clinic"].loc[rows]
    tables["age", ""] = tables["clinic", ""][:, [inputs.clinic.index("age")]]
    if ("rna", "") in tables:
        tables["rna", "clipped"] = tables_of(clipped)["rna"]
    if "copy_number" in patients.blocks:
        raw = slides_of(cancer).filter(regex="_cnv$").loc[rows].to_numpy(float)
        tables["copy_number", "copies kept"] = standard(raw, train, 4.0)
    for name in {"copy_number", "mutations"} & {*patients.blocks}:
        raw = patients.blocks[name].loc[rows].to_numpy(float)
        tables[name, "0/1"] = (raw - raw[train].mean(0)) / raw[train].std(0).mean()
    missing = clinic.loc[:, clinic[train].isna().any()].isna()
    told = {}
    if missing.shape[1]:
        indicators = standard(missing.to_numpy(float), train, 4.0)
        told["missing told"] = np.hstack([tables["clinic", ""], indicators])
    if cancer == "stad":
        facts = pd.read_csv(RAW / "tcga/tcga_cdr_subset.csv", index_col="bcr_patient_barcode").reindex(rows)
        facts["code"] = slides_of(cancer)["oncotree_code"]
        levels = pd.get_dummies(facts[["code", "histological_grade"]].fillna(""), drop_first=True)
        stage = facts["ajcc_pathologic_tumor_stage"].astype("category").cat.codes  # in their order
        whole = clinic[["age", "female"]].assign(stage=stage.where(stage >= 0)).join(levels).astype(float)
        told["histology told"] = standard(whole.fillna(whole[train].median()).to_numpy(), train, 6.0)
    tables |= {("clinic", change): table for change, table in told.items()}
    return tables


def readings(cancer: str, models: list[str], patients, fold, params, draws: int) -> Iterator[tuple]:
    """Model, reading, draw, value on the patients held out."""
    inputs, train = tokens(patients, fold, params), len(fold.train)
    clipped = tokens(patients, fold, params.model_copy(update={"rna_scale": "clipped"}))
    tables = read_tables(cancer, patients, inputs, clipped, np.arange(len(inputs.patients)) < train)
    outcome = Outcome(*(getattr(inputs, part).numpy().astype(float) for part in ("time", "event")))
    known, tested = outcome.at(np.arange(train)), outcome.at(np.arange(train, len(outcome.event)))

    @cache
    def ridge(draw: int, names: tuple, free=False, by_block=False, offset=None):
        """Of tables (the first one free?), beside what another predicts (its table and rule)."""
        start = np.concatenate(ridge(draw, offset[:1])[offset[1]]) if offset else np.zeros(len(outcome.event))
        model = Ridge([free, *[False] * (len(names) - 1)], by_block)
        path = regressions(model, [tables[name] for name in names], known, start)
        return by_rule(path, known, inner_rows(patients.table, fold, draw))

    @cache
    def elastic_net(draw: int, clinic: tuple, names: tuple):
        net, free, wide = ElasticNet(), tables[clinic], np.hstack([tables[name] for name in names])
        whole = np.hstack([np.ones((len(free), 1)), free, wide])

        def path(rows):
            return [whole @ one for one in net._path(free[rows], wide[rows], known.at(rows))]

        return by_rule(path, known, inner_rows(patients.table, fold, draw))

    def scores(model: str, reading: tuple, draw: int) -> np.ndarray:
        rule, rare = ("likelihood" if "likelihood" in reading else "ours"), "0/1" if "0/1" in reading else ""
        clinic = ("clinic", next((one for one in reading if ("clinic", one) in tables), ""))
        copies = rare or "copies kept" * ("copies kept" in reading)
        counted = ("copy_number", copies), ("mutations", rare)
        rna = ("rna", "clipped" * ("clipped" in reading))
        every = [one for one in (clinic, *counted, rna) if one in tables]
        if reading == ("not fitted",):
            return tables["age", ""][train:, 0]
        if model.startswith("late:"):
            parts = every if model == "late:all" else (clinic, rna)
            return rank_mean([ridge(draw, (one,))[rule] for one in parts], "ranks held out" in reading)
        if model == "elastic-net":
            wide = every[-1:] if "RNA alone" in reading else every[1:]
            return elastic_net(draw, clinic, tuple(wide))[rule][1]
        if model == "clinic-offset+rna":
            return ridge(draw, (rna,), offset=(clinic, rule))[rule][1]
        if model == "clinic-free+rna":
            return ridge(draw, (clinic, rna), free=True)[rule][1]
        if model.startswith("ridge"):
            return ridge(draw, tuple(every), by_block=model == "ridge-by-block")[rule][1]
        alone = {"clinic": clinic, "copy-number": counted[0], "mutations": counted[1], "rna": rna}
        return ridge(draw, (alone.get(model, (model, "")),))[rule][1]

    for model, reading, draw in itertools.product(models, READINGS, range(1, 1 + draws)):
        reading = tuple(one for one in reading if model in CHANGES[one])
        if cancer == "stad" or "histology told" not in reading:
            found = tested.concordance(scores(model, reading, draw)[None])[0]
            yield model, " + ".join(reading) or "ours", draw, found
    if cancer == "stad" and "late:clinic+rna" in models:
        for draw in range(1, 1 + draws):
            parts = [ridge(draw, (name,))["ours"] for name in (("clinic", ""), ("rna", ""))]
            yield "late:clinic+rna", "rank correlation", draw, spearmanr(parts[0][1], parts[1][1])[0]
            for weight in (0.25, 0.5, 0.75, 1, 1.5):
                found = tested.concordance(rank_mean(parts, True, weight)[None])[0]
                yield "late:clinic+rna", f"RNA weighs {weight:g}", draw, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=3, help="of the inner folds")
    parser.add_argument("--cancers", nargs="+", default=CANCERS)
    parser.add_argument("--only", nargs="+", default=RIVALS, help="models")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.own, options.seeds, options.models = [], [1], ["clinic"]
    kept = pd.read_csv(options.out) if options.out.is_file() else pd.DataFrame(columns=COLUMNS)
    rows = [*kept.itertuples(index=False, name=None)]
    for name in options.cancers:
        params, patients = cohort(name, options)
        models = dict.fromkeys(["mutations", *apart(name), *(["clinic"] if name == "stad" else [])])
        there = {row[:2] for row in rows}
        models = [model for model in models if model in options.only and (name, model) not in there]
        if not models:
            continue
        found: dict[tuple, dict[str, float]] = {}
        for fold in folds_of(patients.table):
            for *about, value in readings(name, models, patients, fold, params, options.draws):
                # a reading that comes twice, for not all of it touches a model, counts once
                found.setdefault((name, *about), {})[fold.name] = value
        rows += [(*about, np.mean([*values.values()])) for about, values in found.items()]
        write_csv(pd.DataFrame(rows, columns=COLUMNS), options.out)
        print(name, flush=True)


if __name__ == "__main__":
    main()
