"""Peak memory of 1-preprocess and 2-embed against the number of units: 12 and 48 patients, 6 and 24 sections.

    .venv/bin/python benchmarks/stage_memory.py [--studies stroke spacrd]

Phantoms of the demo's kind. Each stage runs by papermill in a process of its own, and its run record says what its kernel
held at most; most of that is what the notebook imports. Bar: four times the units, at most 1.15 of the memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import yaml

from lib.files import write_csv

ROOT = Path(__file__).resolve().parents[1]
BAR = 1.15
STAGES = ("1-preprocess", "2-embed")
SMALL = {
    "stroke": {"phantom": {"seed": 3, "effect": 1.5}},
    "spacrd": {
        "phantom": {
            "seed": 7,
            "spots_side": 10,
            "effect": 1.0,
            "unrelated_labels": False,
            "second_platform": False,
        }
    },
}
PATIENTS = {"stroke": (12, 48), "spacrd": (6, 24)}


def peaks(study: str, patients: int, folder: Path) -> dict[str, dict]:
    """Run the stages; their run records."""
    values = yaml.safe_load((ROOT / "params" / study / "demo.yaml").read_text(encoding="utf-8"))
    values |= SMALL[study] | {"cohort": "size"}
    values["phantom"] = values["phantom"] | {"patients": patients}
    parameters = folder / "size.yaml"
    parameters.write_text(yaml.safe_dump(values), encoding="utf-8")
    environment = {**os.environ, "CROSSBOOK_RESULTS": str(folder), "OMP_NUM_THREADS": "1"}
    found = {}
    for stage in STAGES:
        notebook = ROOT / "notebooks" / study / f"{stage}.ipynb"
        command = [sys.executable, "-m", "papermill", notebook, folder / "out.ipynb", "-f", parameters]
        subprocess.run([*map(str, command), "--no-progress-bar"], cwd=ROOT, env=environment, check=True)
        record = folder / study / "size" / "runs" / f"{stage}.json"
        found[stage] = json.loads(record.read_text(encoding="utf-8"))
    return found


def measured(studies: list[str]) -> pd.DataFrame:
    """One row a study and stage."""
    rows = []
    for study in studies:
        told = []
        for patients in PATIENTS[study]:
            with tempfile.TemporaryDirectory() as folder:
                told.append(peaks(study, patients, Path(folder)))
        for stage in STAGES:
            few, many = (one[stage] for one in told)
            rows.append(
                {
                    "study": study,
                    "stage": stage,
                    "units_few": few["units"]["all"],
                    "units_many": many["units"]["all"],
                    "mb_few": few["peak_mb"],
                    "mb_many": many["peak_mb"],
                    "ratio": round(many["peak_mb"] / few["peak_mb"], 3),
                    "mb_a_unit": round(
                        (many["peak_mb"] - few["peak_mb"]) / (many["units"]["all"] - few["units"]["all"]), 2
                    ),
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", nargs="+", choices=sorted(SMALL), default=sorted(SMALL))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "stage_memory.csv")
    options = parser.parse_args()
    table = measured(options.studies)
    write_csv(table, options.out)
    print(table.to_string(index=False))
    worst = table["ratio"].max()
    print(
        f"bar: {BAR} of the memory for four times the units; ours {worst}: {'held' if worst <= BAR else 'MISSED'}"
    )


if __name__ == "__main__":
    main()
