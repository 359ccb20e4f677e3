"""Small results of real cohorts that every clone has, below ``data/results/``: `make keep STUDY=crossfusion COHORT=luad`.

What is committed of ``results/<study>/<cohort>/`` is ``metrics.csv`` (above a megabyte without its words) and those of
``tables/`` that name no single patient, byte for byte, with ``provenance.json``: commit, date, machine, command, parameters and
the checksums of all raw files.
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

import pandas as pd

from lib import results
from lib.files import sha256_of, write_csv, write_json, written

LARGEST, LARGEST_TABLE = 8_000_000, 500_000  # bytes: all cohorts together, a table that is not metrics.csv
# a table with such a column has a row a patient, slide, spot or trial of tuning, unless "n" says how many a row sums up
SINGLE = {"patient", "case", "case_id", "slide", "slide_id", "spot", "barcode", "trial"}


def fit_to_keep(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Files of a cohort's results that may be committed, with their SHA-256, and the tables that may not: they have rows of
    single patients or trials, or are too large.

    ValueError where a file is not the one its stage wrote, a stage ran on code that no commit has, or the cohort is a phantom.
    """
    about, where = results.provenance(folder), f"{folder.parent.name}/{folder.name}"
    if about["kind"] == "phantom":
        raise ValueError(f"{where} is a phantom: every machine makes its own with `make book`")
    for stage, commit in about["commits"].items():
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise ValueError(
                f"{where}, {stage} ran on {commit!r}, which no commit has: commit, then make run"
            )
    files, single = {}, []
    for stage in results.manifests(folder).values():
        for name, digest in stage["outputs"].items():
            if name != "metrics.csv" and not re.fullmatch(r"tables/[\w-]+\.csv", name):
                continue
            if not (folder / name).is_file() or sha256_of(folder / name) != digest:
                raise ValueError(f"{where}: {name} is not the file that its stage wrote: make run")
            table = results.read(folder / name)
            size = (folder / name).stat().st_size
            if (SINGLE & set(table) and "n" not in table) or (name != "metrics.csv" and size > LARGEST_TABLE):
                single.append(name)
            else:
                files[name] = digest
    return files, sorted(set(single))


def keep(root: Path, study: str, cohort: str) -> str:
    """Copy a cohort's small results below ``data/results/``, in place of older ones; what was done, in words.

    ValueError as `fit_to_keep`, or where all committed results together would be larger than `LARGEST`.
    """
    folder, there = results.results_folder(root) / study / cohort, root / results.KEPT / study / cohort
    if not (folder / "metrics.csv").is_file():
        raise ValueError(
            f"results/{study}/{cohort}/metrics.csv is not there: make run STUDY={study} COHORT={cohort}"
        )
    files, single = fit_to_keep(folder)
    others = [
        path for path in (root / results.KEPT).rglob("*") if path.is_file() and there not in path.parents
    ]
    size = sum(path.stat().st_size for path in [*others, *(folder / name for name in files)])
    if size > LARGEST:
        raise ValueError(f"{size / 1e6:.1f} MB of committed results, at most {LARGEST / 1e6:g} MB are kept")
    shutil.rmtree(there, ignore_errors=True)
    for name in files:
        with written(there / name) as part:
            shutil.copyfile(folder / name, part)
    if (metrics := there / "metrics.csv").stat().st_size > 1_000_000:  # of many cancers
        rows = pd.read_csv(metrics, dtype=str)  # what has no value keeps its reason
        write_csv(rows.assign(how=rows["how"].where(rows["estimate"].isna(), "as its run says")), metrics)
        files["metrics.csv"] = sha256_of(metrics)
    write_json(results.provenance(folder) | {"files": files}, there / results.PROVENANCE)
    left = (
        f"; left out, rows of single patients or trials, or too large: {', '.join(single)}" if single else ""
    )
    return f"{results.KEPT}/{study}/{cohort}: {len(files)} files{left}"


def faults(root: Path) -> list[str]:
    """A sentence for each thing wrong with the committed results: what does not parse, is not as recorded, or names patients."""
    found, home = [], root / results.KEPT
    for path in sorted(home.glob("*/*/")):
        name = path.relative_to(home).as_posix()
        try:
            about = json.loads((path / results.PROVENANCE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            found.append(f"{name}: {results.PROVENANCE} cannot be read ({error})")
            continue
        lacks = [key for key in ("commit", "date", "machine", "command", "inputs") if not about.get(key)]
        found += [f"{name}: {results.PROVENANCE} has no {key}" for key in lacks]
        there = {each.relative_to(path).as_posix() for each in path.rglob("*.csv")}
        found += [f"{name}: {each} is in one of folder and record" for each in there ^ set(about["files"])]
        for each in sorted(there & set(about["files"])):
            table = results.read(path / each)
            if sha256_of(path / each) != about["files"][each]:
                found.append(f"{name}: {each} is not the file that was recorded")
            if SINGLE & set(table) and "n" not in table:
                found.append(f"{name}: {each} has rows of single patients")
    size = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
    return found + ([f"{size / 1e6:.1f} MB, at most {LARGEST / 1e6:g}"] if size > LARGEST else [])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.kept", description=__doc__.splitlines()[0])
    parser.add_argument("study", help="such as crossfusion")
    parser.add_argument("cohorts", nargs="+", help="such as luad")
    asked = parser.parse_args(arguments)
    try:
        for cohort in asked.cohorts:
            print(keep(results.repository(), asked.study, cohort))
    except ValueError as error:
        print(f"keep: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
