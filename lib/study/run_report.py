"""What a cohort's run was: units done and failed, time, memory and disk of every stage.

    python -m lib.study.run_report spacrd her2st

From the records `runs/*.json`, the manifests, and the records of units. No time of day, no name of a machine and no
path is in it.
"""

import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

from lib.stage import results_folder

OTHERS = "other files"
# a unit of each stage, in words; of training it is one network
UNITS = {
    ("crossfusion", "1-preprocess"): "slide",
    ("crossfusion", "2-embed"): "slide",
    ("gcmlm", "1-preprocess"): "patient, scan or slide",
    ("gcmlm", "2-embed"): "scan or slide",
    ("spacrd", "1-preprocess"): "section",
    ("spacrd", "2-embed"): "section and encoder",
    ("stroke", "1-preprocess"): "case",
    ("stroke", "2-embed"): "case",
}
TRAINED = "model, fold and seed"


class StageRun(NamedTuple):
    """A stage of a cohort as it was last run.

    Attributes
    ----------
    stage : str
        "2-embed".
    units, made, kept : int or None
        Units there were, made in the runs that count here, and kept from earlier ones; None where no record says it, and
        for a stage that has no units.
    failed : dict of str to str
        Unit -> reason, without paths.
    seconds, processor_seconds, peak_mb : float or None
        Time by the clock and of the processor, summed over shards; most memory of one process, 10^6 bytes.
    bytes : int
        Of the stage's files that are there.
    shards : int
        In how many pieces it was run.
    finished : bool or None
        None where no record says it.
    host : str
        "2 cores, 25 GB, no GPU", "" where no record says it.
    """

    stage: str
    units: int | None
    made: int | None
    kept: int | None
    failed: dict[str, str]
    seconds: float | None
    processor_seconds: float | None
    peak_mb: float | None
    bytes: int
    shards: int = 1
    finished: bool | None = None
    host: str = ""


def report(folder: Path) -> list[StageRun]:
    """Every stage of which something is there, in order; last, where there are any, the files that no stage claims.

    Parameters
    ----------
    folder : Path
        `results/<study>/<cohort>/`.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        Names a record or manifest that cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder.parent.name}/{folder.name} was never run here: there are no results of it"
        )
    manifests = {path.stem: _read(path) for path in sorted(folder.glob("manifests/*.json"))}
    records: dict[str, list[dict]] = {}
    for path in sorted(folder.glob("runs/*.json")):
        records.setdefault(path.stem.partition(".")[0], []).append(_read(path))
    recorded = {
        path.name: sum(1 for _ in path.glob("*.json")) for path in folder.glob("units/*") if path.is_dir()
    }
    stages = sorted({*manifests, *records, *recorded})
    sizes = _sizes(folder, stages, manifests)
    runs = [
        _stage(name, records.get(name, []), manifests.get(name), recorded.get(name), sizes.get(name, 0))
        for name in stages
    ]
    if sizes.get(OTHERS):
        runs.append(StageRun(OTHERS, None, None, None, {}, None, None, None, sizes[OTHERS]))
    return runs


def counted(records: list[dict]) -> list[dict]:
    """The records that tell of the stage's present state: the whole run's, and those of the shards it gathered.

    Shards are left out where the last whole run made all units itself; of several cuts into shards the one that made
    most counts.
    """
    whole = [record for record in records if record["shards"] == 1]
    cuts: dict[int, list[dict]] = {}
    for record in records:
        if record["shards"] > 1:
            cuts.setdefault(record["shards"], []).append(record)
    if not cuts or (whole and not whole[0]["units"]["kept"]):
        return whole
    return whole + max(cuts.values(), key=lambda cut: sum(record["units"]["made"] for record in cut))


def unit_of(study: str, stage: str) -> str:
    """What a unit of a stage is, in words; "unit" where we have none for it."""
    return TRAINED if stage == "3-train" else UNITS.get((study, stage), "unit")


def without_paths(text: str) -> str:
    """A reason in which every absolute path, which would name a machine's folders, is cut to its last part."""
    return re.sub(r"(?<![\w.:/])(?:[A-Za-z]:)?/(?:[^\s/'\",;]+/)+([^\s/'\",;]+)", r"\1", text)


def as_text(study: str, cohort: str, runs: list[StageRun]) -> str:
    """The report for a terminal."""
    heads = ("stage", "units", "made", "kept", "failed", "time", "processor", "peak memory", "disk")
    rows = [heads, *(cells(run) for run in runs)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(heads))]
    lines = [f"{study}/{cohort}"]
    for row in rows:
        first, *rest = (cell.rjust(wide) for cell, wide in zip(row, widths, strict=True))
        lines.append("  ".join([row[0].ljust(len(first)), *rest]).rstrip())
    lines.append(f"all: {size(sum(run.bytes for run in runs))}")
    hosts = sorted({run.host for run in runs if run.host})
    lines += [f"on {'; '.join(hosts)}"] * bool(hosts)
    for run in runs:
        lines += [f"FAILED {run.stage}, {unit}: {reason}" for unit, reason in run.failed.items()]
        if run.finished is False:
            lines.append(f"{run.stage} did not finish")
    return "\n".join(lines)


def cells(run: StageRun) -> tuple[str, ...]:
    """A row of the report: stage, units, made, kept, failed, time, processor time, peak memory, disk."""
    name = f"{run.stage} ({run.shards} shards)" if run.shards > 1 else run.stage
    if run.stage == OTHERS:
        return (name, *[""] * 7, size(run.bytes))
    counts = (_count(number) for number in (run.units, run.made, run.kept))
    if run.seconds is None:
        return (name, *counts, str(len(run.failed)), "not recorded", "–", "–", size(run.bytes))
    memory = size(run.peak_mb * 1e6)
    times = (duration(run.seconds), duration(run.processor_seconds))
    return (name, *counts, str(len(run.failed)), *times, memory, size(run.bytes))


def duration(seconds: float) -> str:
    """ "4.2 s", "3 min 20 s", "2 h 5 min"."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Bytes as "12 kB", "3.4 MB", "1.2 GB"."""
    for unit, least in (("GB", 1e9), ("MB", 1e6)):
        if count >= least:
            return f"{count / least:.1f} {unit}" if count < 100 * least else f"{count / least:,.0f} {unit}"
    return f"{count / 1e3:.0f} kB" if count >= 500 else f"{count:.0f} B"


def _stage(
    name: str, records: list[dict], manifest: dict | None, recorded: int | None, disk: int
) -> StageRun:
    records = counted(records)
    whole = [record for record in records if record["shards"] == 1]
    cut = [record for record in records if record["shards"] > 1]
    if not records:
        failed = (manifest or {}).get("failed", {})
        return StageRun(name, recorded, None, None, _shown(failed), None, None, None, disk)
    state = whole or cut
    units, made = _units(state, "all"), _units(records, "made")
    # what a gathering run keeps of its shards is no earlier run's work
    kept = _units(state, "kept") - (_units(cut, "made") if whole else 0)
    return StageRun(
        name,
        units or None,
        made if units else None,
        max(0, kept) if units else None,
        _shown({unit: reason for record in state for unit, reason in record["failed"].items()}),
        sum(record["seconds"] for record in records),
        sum(record["processor_seconds"] for record in records),
        max(record["peak_mb"] for record in records),
        disk,
        len(cut) or 1,
        all(record["finished"] for record in state),
        _host(records[0]["host"]),
    )


def _units(records: list[dict], which: str) -> int:
    return sum(record["units"][which] for record in records)


def _shown(failed: dict[str, str]) -> dict[str, str]:
    return {unit: without_paths(" ".join(str(reason).split())) for unit, reason in sorted(failed.items())}


def _host(host: dict) -> str:
    return f"{host['cores']} cores, {host['memory_gb']:.0f} GB, {host['gpu'] or 'no GPU'}"


def _sizes(folder: Path, stages: list[str], manifests: dict[str, dict]) -> dict[str, int]:
    """Bytes by stage: a file belongs to the first whose manifest says that it wrote it, or whose name it carries."""
    owner: dict[str, str] = {}
    for stage, manifest in manifests.items():
        for name in manifest.get("outputs", {}):
            owner.setdefault(name, stage)
    found: dict[str, int] = {}
    for path in folder.rglob("*"):
        if not path.is_file() or path.is_symlink():
            continue
        name = path.relative_to(folder)
        stage = owner.get(name.as_posix())
        if stage is None and name.parts[0] in ("notebooks", "logs", "manifests", "runs", "units"):
            start = name.parts[1].partition(".")[0]
            stage = start if start in stages else None
        found[stage or OTHERS] = found.get(stage or OTHERS, 0) + path.stat().st_size
    return found


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        name = "/".join(path.parts[-4:])
        raise ValueError(f"{name} is no record of a run: run that stage again")
    return content


def _count(number: int | None) -> str:
    return "–" if number is None else str(number)


def main(arguments: list[str] | None = None) -> int:
    """Print a cohort's report; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 2:
        print("which run? as in: python -m lib.study.run_report spacrd her2st", file=sys.stderr)
        return 2
    try:
        print(as_text(*given, report(results_folder() / given[0] / given[1])))
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
