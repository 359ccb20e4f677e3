"""What many units and many jobs cost before and beside the work itself: time, memory and files of the frame.

    .venv/bin/python benchmarks/planning.py

- units made: `Stage.units` of one stage with 100, 1,000 and 10,000 units whose work is to write 100 bytes, with their
  keys, records and the manifest; units kept: the same again, when all is there; one shard of 8: an eighth of them
- jobs planned: `snakemake --dry-run` of the book's own Snakefile with 20, 200 and 2,000 cohorts of five stages, and of one
  cohort cut into 8 and 64 shards. A job is a stage or a shard of one: units are no jobs, and their number changes no plan

Each line is a process of its own, with its own peak of memory. Files are those that lie there afterwards, of a dry run
those in .snakemake. Bars, in processor seconds since the clock tells more of a machine's other work: memory of 10,000
units at most 1.2 times that of 100; a kept unit 10 ms at most; 1,000 jobs planned in a minute.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from lib.files import write_csv
from lib.stage import processor

ROOT = Path(__file__).resolve().parents[1]
UNITS = (100, 1_000, 10_000)
COHORTS = (20, 200, 2_000)
SHARDS = (8, 64)
FLAT, KEPT_MS, PLANNED_S = 1.2, 10, 60


def trivial(count: int, shard: int, shards: int) -> None:
    """Run in a process of its own: a stage of `count` units that do next to nothing."""
    import lib.files
    from lib.params import Checked
    from lib.stage import Stage

    class Parameters(Checked):
        cohort: str = "units"
        shard: int = 0
        shards: int = 1
        max_failed: int = 0

    stage = Stage("planning", "2-embed", Parameters(shard=shard, shards=shards))

    def output(name: str) -> Path:
        return stage.folder / "features" / f"{name}.txt"

    def make(name: str) -> None:
        with lib.files.written(output(name)) as part:
            part.write_text(name.ljust(100))

    stage.each([f"unit-{index:05d}" for index in range(count)], make, outputs="features/{}.txt")
    stage.finish()


def spent(command: list[str], folder: Path, results: Path | None = None) -> dict:
    """Time, memory and exit of a process; what it said in case it failed."""
    environment = {name: value for name, value in os.environ.items() if name != "CROSSBOOK_RESULTS"}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if results:
        environment["CROSSBOOK_RESULTS"] = str(results)
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT, text=True
        )
        _, code, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(code)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)[:200]} ended with {process.returncode}: {text[-2000:]}")
    return {
        "seconds": round(took, 2),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": round(used.ru_maxrss * 1024 / 1e6),  # Linux counts in KiB
        "said": text,
    }


def files_below(folder: Path) -> dict:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"files": len(sizes), "files_mb": round(sum(sizes) / 1e6, 2)}


def units(count: int, shards: int = 1) -> list[dict]:
    """A stage of many units, made and then kept; with shards, the first of them."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for task in ("units made", "units kept"):
            command = [
                sys.executable,
                str(Path(__file__).resolve()),
                "--trivial",
                str(count),
                "0",
                str(shards),
            ]
            used = spent(command, ROOT, Path(folder))
            rows.append({"task": task, "units": count, "shards": shards, **used, **files_below(Path(folder))})
    return rows


def tree(folder: Path, cohorts: int) -> list[str]:
    """A repository whose study crossfusion has so many cohorts; the names of their rules."""
    for name in ("lib", "notebooks"):
        os.symlink(ROOT / name, folder / name)
    for name in ("Snakefile", "environment.yml"):
        shutil.copy2(ROOT / name, folder / name)
    shutil.copytree(ROOT / "data", folder / "data", ignore=shutil.ignore_patterns("raw"))
    shutil.copytree(ROOT / "params", folder / "params")
    demo = (ROOT / "params" / "crossfusion" / "demo.yaml").read_text(encoding="utf-8")
    names = [f"c{index:05d}" for index in range(cohorts)]
    for name in names:
        text = re.sub(r"^cohort: .*$", f"cohort: {name}", demo, flags=re.MULTILINE)
        (folder / "params" / "crossfusion" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return [f"crossfusion_{name}" for name in names]


def plan(cohorts: int, shards: int = 1) -> dict:
    """A dry run of everything."""
    with tempfile.TemporaryDirectory() as folder:
        targets = tree(Path(folder), cohorts)
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--cores",
            "2",
            "--dry-run",
            "--quiet",
            "rules",
            "--config",
        ]
        used = spent([*command, f"shards={shards}", "--", *targets], Path(folder))
        jobs = re.search(r"^stage\s+(\d+)$", used["said"], re.MULTILINE)
        left = [
            path for path in Path(folder, ".snakemake").rglob("*") if path.is_file() and path.suffix != ".log"
        ]
    if jobs is None:
        raise RuntimeError(f"the dry run does not say how many jobs there are: {used['said'][-2000:]}")
    return {
        "task": "jobs planned",
        "cohorts": cohorts,
        "shards": shards,
        "jobs": int(jobs[1]),
        **used,
        "files": len(left),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trivial", nargs=3, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--most", type=int, default=10_000, help="leave out what is larger: units, jobs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "planning.csv")
    options = parser.parse_args()
    if options.trivial:
        trivial(*options.trivial)
        return
    load = os.getloadavg()[0]
    rows = []
    for count in (count for count in UNITS if count <= options.most):
        rows += units(count)
        _tell(rows[-2:])
    rows += units(min(options.most, UNITS[-1]), shards=8)
    for cohorts in (cohorts for cohorts in COHORTS if 5 * cohorts <= options.most):
        rows.append(plan(cohorts))
        _tell(rows[-1:])
    rows += [plan(1, shards) for shards in SHARDS]
    order = [
        "task",
        "units",
        "cohorts",
        "shards",
        "jobs",
        "seconds",
        "processor_seconds",
        "peak_mb",
        "files",
        "files_mb",
    ]
    table = pd.DataFrame(rows).reindex(columns=order)
    table = table.astype({name: "Int64" for name in ("units", "cohorts", "jobs", "files")})
    table = table.assign(load_before=round(load, 2), cpu=processor())
    write_csv(table, options.out)
    print(table.to_string(index=False))
    said(table)


def _tell(rows: list[dict]) -> None:
    for row in rows:
        print({name: value for name, value in row.items() if name != "said"}, flush=True)


def said(table: pd.DataFrame) -> None:
    made = table[(table.task == "units made") & (table.shards == 1)]
    grown = made.peak_mb.iloc[-1] / made.peak_mb.iloc[0]
    print(
        f"bar: memory grows {FLAT} times at most; ours {grown:.2f}: {'held' if grown <= FLAT else 'MISSED'}"
    )
    kept = table[(table.task == "units kept") & (table.shards == 1)].iloc[-1]
    each = 1e3 * kept.processor_seconds / kept.units
    print(f"bar: {KEPT_MS} ms a kept unit; ours {each:.1f}: {'held' if each <= KEPT_MS else 'MISSED'}")
    for row in table[(table.task == "jobs planned") & (table.cohorts == 200)].itertuples():
        took = row.processor_seconds
        print(f"bar: 1,000 jobs in {PLANNED_S} s; ours {took}: {'held' if took <= PLANNED_S else 'MISSED'}")


if __name__ == "__main__":
    main()
