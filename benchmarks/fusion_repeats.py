"""Does the answer of the fusion bench hang on the five folds that PORPOISE published?

    .venv/bin/python -m benchmarks.fusion_repeats [--repeats 3] [--cancers blca ...]

The contenders of the bench's contrasts, trained as there with one seed, on folds drawn anew (stratified by death); mean
c-index over the folds of each draw. Rows: cancer, repeat, model, c. Each cancer and repeat is written as it is done, and what is
there is kept. Patients are PORPOISE's, from data/raw or a mirror. No bar.
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks._controls import predictions
from benchmarks.fusion_controls import c_indices, cohort, held
from lib.files import write_csv
from lib.fusion.cohort import Patients
from lib.fusion.evaluation import BEST_REGRESSION, CROSS_ATTENTION
from lib.training.folds import stratified_folds

OUT = Path(__file__).parent / "results" / "fusion_repeats.csv"
CANCERS = [
    "paad",
    "kirp",
    "skcm",
    "lihc",
    "coadread",
    "kirc",
    "stad",
    "blca",
    "hnsc",
    "lusc",
    "luad",
    "ucec",
    "gbmlgg",
    "brca",
]
MODELS = [*CROSS_ATTENTION, "concat", "late", "crossfusion+offset", "clinic", BEST_REGRESSION]


def redrawn(patients: Patients, seed: int, folds: int = 5) -> Patients:
    """The same patients in other folds."""
    table = patients.table
    names = {name: name for name in table.index}
    drawn = stratified_folds(names, table["event"].astype(int).astype(str).to_dict(), folds, seed)
    place = {name: fold.name for fold in drawn for name in fold.test}
    return Patients(table.assign(fold=table.index.map(place)), patients.blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cancers", nargs="+", default=CANCERS)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.own, options.seeds = [], [1]
    rows = pd.read_csv(options.out).to_dict("records") if options.out.is_file() else []
    done = {(row["cancer"], row["repeat"]) for row in rows}
    for repeat in range(1, options.repeats + 1):
        for name in options.cancers:
            if (name, repeat) in done:
                continue
            params, patients = cohort(name, options)
            models = [model for model in options.models if not (model == BEST_REGRESSION and name == "ucec")]
            data = held(params, redrawn(patients, 100 + repeat))
            found = c_indices(data.table, predictions(data, models))
            rows += [{"cancer": name, "repeat": repeat, "model": m, "c": c} for m, c in found.items()]
            write_csv(pd.DataFrame(rows), options.out)
            print(name, repeat, {model: round(c, 3) for model, c in found.items()}, flush=True)


if __name__ == "__main__":
    main()
