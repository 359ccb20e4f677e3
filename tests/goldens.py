"""The numbers of the book, so that a change of code that moves one is seen.

    python tests/goldens.py results/spacrd/demo ...      writes tests/golden/spacrd-demo.json anew

What is kept of a cohort is small: of every table its rows, of a column of numbers the mean, the spread and how many are
missing, of a column of words a checksum of the words in any order; seconds are no number of the book. Two machines may differ in the last
digits of a training, so numbers are compared to one part in ten thousand.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

GOLDEN = Path(__file__).parent / "golden"
NAMES = {
    "patient",
    "slide",
    "section",
    "spot",
    "fold",
    "case",
    "hospital",
}  # words, also where they look like numbers


def summary(folder: Path) -> dict[str, dict]:
    """What is kept of `cohort.csv`, `predictions.csv`, `metrics.csv` and `tables/*.csv` of a cohort's results."""
    paths = [folder / f"{name}.csv" for name in ("cohort", "predictions", "metrics")]
    kept = {}
    for path in [*paths, *sorted((folder / "tables").glob("*.csv"))]:
        if path.is_file():
            try:
                table = pd.read_csv(
                    path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(NAMES, str)
                )
            except pd.errors.EmptyDataError:
                table = pd.DataFrame()
            kept[path.relative_to(folder).as_posix()] = {"rows": len(table)} | {
                column: _column(table[column]) for column in sorted(table) if column != "seconds"
            }
    return kept


def _column(values: pd.Series) -> list | str:
    if values.dtype.kind in "iuf":
        numbers = values.astype(float)
        # round to what is compared, so that a file written anew does not change without need
        return [float(f"{x:.6g}") for x in (numbers.mean(), numbers.std(ddof=0), numbers.isna().sum())]
    words = "\n".join(sorted(values.fillna("").astype(str)))
    return hashlib.sha256(words.encode()).hexdigest()[:12]


def moved(golden: dict, now: dict) -> list[str]:
    """One line for each table and column that is not as it was."""
    lines = [f"{name} is gone" for name in sorted(golden.keys() - now.keys())]
    for name in sorted(golden.keys() & now.keys()):
        for column in sorted(golden[name].keys() | now[name].keys()):
            old, new = golden[name].get(column), now[name].get(column)
            if isinstance(old, list) and isinstance(new, list):
                scale = max(abs(old[0]), old[1]) if np.isfinite(old[:2]).all() else 0.0
                same = np.allclose(old, new, rtol=1e-4, atol=1e-4 * scale, equal_nan=True)
            else:
                same = old == new
            if not same:
                lines.append(f"{name}, {column}: {old} became {new}")
    return lines


def golden_of(study: str, cohort: str) -> dict:
    return json.loads((GOLDEN / f"{study}-{cohort}.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        folder = Path(name).resolve()
        text = json.dumps(summary(folder), indent=1, allow_nan=True)
        (GOLDEN / f"{folder.parent.name}-{folder.name}.json").write_text(text + "\n", encoding="utf-8")
