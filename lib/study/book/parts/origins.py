"""Where the numbers come from: commit, versions, seeds and checksums of every cohort that was run here."""

from collections import Counter

import yaml

from lib.study.book.parts.tables import pipe_table
from lib.study.book.records import Cohort, Records


def provenance(records: Records, page: str) -> tuple[str, dict[str, bytes]]:
    """A table of the cohorts, and one of the versions, from the manifests of all their stages."""
    cohorts = [cohort for cohort in records.run.values() if cohort.manifests]
    if not cohorts:
        return "No cohort was run on this machine.\n", {}
    rows = [_row(records, page, cohort) for cohort in cohorts]
    columns = {
        "Study, cohort": "l",
        "Kind": "l",
        "Commit": "l",
        "Seeds": "l",
        "Files read": "r",
        "Files written": "r",
        "Failed units": "r",
        "SHA-256 of metrics.csv": "l",
    }
    caption = (
        "Every cohort that was run for this copy: the commit that its last stage ran from, its seeds, the files that its "
        "stages read and wrote, each with a checksum in `results/<study>/<cohort>/manifests/`. Checksums are cut to "
        "sixteen digits."
    )
    made = [pipe_table(columns, rows, caption, "tbl-provenance")]
    made.append(_versions(cohorts))
    return "\n".join(made), {}


def citation(records: Records, page: str) -> tuple[str, dict[str, bytes]]:
    """How to cite the book, from ``CITATION.cff``."""
    path = records.root / "CITATION.cff"
    if not path.is_file():
        return "This copy has no CITATION.cff.\n", {}
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = [
        author.get("name") or f"{author['family-names']}, {author['given-names']}"
        for author in given["authors"]
    ]
    where = records.repository or given.get("repository-code", "")
    where = f" <{where}>." if where else ""
    return (
        f"{'; '.join(names)}. *{given['title']}*. Version {given['version']}, licence {given['license']}.{where} "
        f"{given['message']} The same, for programs that manage references, stands in `CITATION.cff`.\n"
    ), {}


def _row(records: Records, page: str, cohort: Cohort) -> list[object]:
    stages = cohort.manifests
    last = list(stages.values())[-1]
    commits = {stage.get("commit") or "" for stage in stages.values()}
    seeds = last["parameters"].get("seeds", [])
    read = {(name, digest) for stage in stages.values() for name, digest in stage.get("inputs", {}).items()}
    made = {name for stage in stages.values() for name in stage.get("outputs", {})}
    metrics = stages.get("4-evaluate", {}).get("outputs", {}).get("metrics.csv", "")
    target = records.chapter(cohort.study.key, cohort.name, "figures")
    return [
        f"{cohort.study.name}, {records.link(page, f'`{cohort.name}`', target)}",
        cohort.kind,
        _short(last.get("commit"))
        + (f", earlier stages {len(commits) - 1} more" if len(commits) > 1 else ""),
        ", ".join(map(str, seeds)) or "–",
        len(read),
        len(made),
        sum(len(stage.get("failed", {})) for stage in stages.values()),
        f"`{metrics[:16]}`" if metrics else "–",
    ]


def _short(commit: str | None) -> str:
    digest, _, changes = (commit or "none").partition("+")
    return f"`{digest[:10]}`" + (f" with {changes}" if changes else "")


def _versions(cohorts: list[Cohort]) -> str:
    """Each package's versions, and how many stages ran with each: one where all agree."""
    found: dict[str, Counter] = {}
    for cohort in cohorts:
        for stage in cohort.manifests.values():
            for package, version in stage.get("versions", {}).items():
                found.setdefault(package, Counter())[version] += 1
    rows = []
    for package, counted in sorted(found.items()):
        versions = ", ".join(
            version if len(counted) == 1 else f"{version} ({count} stages)"
            for version, count in sorted(counted.items())
        )
        rows.append([package, versions])
    caption = "Versions that the stages ran with. All others stand in `requirements.lock`."
    return pipe_table({"Package": "l", "Version": "l"}, rows, caption, "tbl-versions")
