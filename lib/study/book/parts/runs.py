"""The run report of every cohort, and what a slide, a case or a section cost in the runs that are here."""

import re

from lib.study.book.parts.tables import pipe_table
from lib.study.book.records import Cohort, Records
from lib.study.run_report import OTHERS, StageRun, cells, duration, report, size, unit_of

COLUMNS = {
    "Cohort": "l",
    "Stage": "l",
    "Units": "r",
    "Made": "r",
    "Kept": "r",
    "Failed": "r",
    "Time": "r",
    "Processor": "r",
    "Peak memory": "r",
    "Disk": "r",
}


def runs(records: Records, page: str, wanted: str = "") -> tuple[str, dict[str, bytes]]:
    """Units, time, memory and disk of every stage of every cohort, of one study or of all; then what failed, and why.

    Raises
    ------
    ValueError
        If there is no such study.
    """
    made, failed, hosts = [], [], set()
    for study in records.asked(page, wanted):
        rows = []
        for cohort in _cohorts(records, study):
            name = _linked(records, page, cohort)
            for run in folded(report(cohort.folder)):
                rows.append([name, *map(_whole, cells(run))])
                failed += [[name, _short(run.stage), f"`{unit}`", why] for unit, why in run.failed.items()]
                hosts |= {run.host} - {""}
        if rows:
            title = records.studies[study].name
            made.append(pipe_table(COLUMNS, rows, f"Runs of {title}.", f"tbl-runs-{study}", wide=True))
    if not made:
        return "Nothing was run on the machine that made this copy of the book.\n", {}
    on = f"The records were made on: {'; '.join(sorted(hosts))}. " if hosts else ""
    said = (
        f"{on}*Made* units are those of the last run of a stage, *kept* ones were whole from an earlier run and cost "
        "the last one nothing; time and memory are of the last run, shards summed, memory of the largest process. A stage "
        "whose last run came before times were recorded says so. Other work shared the machine, so that times by the "
        "clock are upper bounds.\n"
    )
    return "\n".join([said, *made, _failures(failed)]), {}


def folded(found: list[StageRun]) -> list[StageRun]:
    """Stages with their short names; neighbours of which no time was recorded and no unit failed become one row."""
    rows: list[StageRun] = []
    silent: list[StageRun] = []

    def fold() -> None:
        if silent:
            names = list(dict.fromkeys(_short(run.stage) for run in (silent[0], silent[-1])))
            units = silent[0].units if len(silent) == 1 else None
            size_of_all = sum(run.bytes for run in silent)
            rows.append(silent[0]._replace(stage=" to ".join(names), units=units, bytes=size_of_all))
            silent.clear()

    for run in found:
        if run.stage != OTHERS and run.seconds is None and not run.failed:
            silent.append(run)
        else:
            fold()
            rows.append(run if run.stage == OTHERS else run._replace(stage=_short(run.stage)))
    fold()
    return rows


def unit_costs(records: Records, page: str) -> tuple[str, dict[str, bytes]]:
    """Seconds and disk a unit, for every stage of which a record says that it made some."""
    rows = []
    for study in records.studies:
        for cohort in _cohorts(records, study):
            for run in report(cohort.folder):
                if run.made:
                    rows.append([*_unit_row(records, page, study, cohort, run)])
    if not rows:
        return "No run that made units was recorded in this copy: `make book` leaves records.\n", {}
    columns = {
        "Study, cohort": "l",
        "Stage": "l",
        "A unit": "l",
        "Made": "r",
        "Time a unit": "r",
        "Processor a unit": "r",
        "Disk a unit": "r",
        "Peak memory": "r",
    }
    caption = (
        "What a unit cost where it was made: the stage's time by the number of units made, with what the stage needs to "
        "begin and to draw. Phantoms are small: a phantom slide has some dozen tiles, a real one thousands."
    )
    return pipe_table(columns, rows, caption, "tbl-unit-costs", wide=True), {}


def disk(records: Records, page: str) -> tuple[str, dict[str, bytes]]:
    """Disk used by every cohort, by the folder it lies in."""
    rows, all_kinds = [], dict.fromkeys(KINDS, 0)
    for study in records.studies:
        for cohort in _cohorts(records, study):
            sizes = _by_kind(cohort)
            for kind, count in sizes.items():
                all_kinds[kind] += count
            name = f"{records.studies[study].name}, {_linked(records, page, cohort)}"
            rows.append(
                [
                    name,
                    *(_whole(size(sizes[kind])) if sizes[kind] else "–" for kind in KINDS),
                    _whole(size(sum(sizes.values()))),
                ]
            )
    if not rows:
        return "Nothing was run on the machine that made this copy of the book.\n", {}
    rows.append(
        ["**all**", *(_whole(size(all_kinds[kind])) for kind in KINDS), _whole(size(sum(all_kinds.values())))]
    )
    columns = {"Study, cohort": "l", **dict.fromkeys(KINDS.values(), "r"), "All": "r"}
    caption = "Disk used below `results/`, by folder. Raw files of real cohorts lie below `data/raw/` and are not in it."
    return pipe_table(columns, rows, caption, "tbl-disk", wide=True), {}


# folder below results/<study>/<cohort>/ -> head of its column
KINDS = {
    "raw": "`raw` (phantoms)",
    "series": "`series`",
    "sections": "`sections`",
    "tiles": "`tiles`",
    "features": "`features`",
    "weights": "`weights`",
    "figures": "`figures`",
    "rest": "the rest",
}


def _by_kind(cohort: Cohort) -> dict[str, int]:
    sizes = dict.fromkeys(KINDS, 0)
    for path in cohort.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            top = path.relative_to(cohort.folder).parts[0]
            sizes[top if top in KINDS else "rest"] += path.stat().st_size
    return sizes


def _cohorts(records: Records, study: str) -> list[Cohort]:
    return [cohort for (key, _), cohort in records.run.items() if key == study]


def _linked(records: Records, page: str, cohort: Cohort) -> str:
    target = records.chapter(cohort.study.key, cohort.name, "figures")
    return records.link(page, f"`{cohort.name}`", target)


def _unit_row(records: Records, page: str, study: str, cohort: Cohort, run: StageRun) -> list[str]:
    whole = run.units == run.made
    return [
        f"{records.studies[study].name}, {_linked(records, page, cohort)}",
        _short(run.stage),
        unit_of(study, run.stage),
        str(run.made),
        _whole(_each(run.seconds / run.made)),
        _whole(_each(run.processor_seconds / run.made)),
        _whole(size(run.bytes / run.made)) if whole else "–",
        _whole(size(run.peak_mb * 1e6)),
    ]


def _each(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else duration(seconds)


def _short(stage: str) -> str:
    """ "embed" for "2-embed"."""
    return stage.partition("-")[2] or stage


def _whole(cell: str) -> str:
    """A number and its unit on one line."""
    return cell if cell == "not recorded" else re.sub(r"(?<=\d) (?=\S)", "\u00a0", cell)


def _failures(failed: list[list[str]]) -> str:
    if not failed:
        return "No unit failed.\n"
    columns = {"Cohort": "l", "Stage": "l", "Unit": "l", "Reason": "l"}
    return pipe_table(columns, failed, "Units that failed, and why.", "tbl-runs-failed", wide=True)
