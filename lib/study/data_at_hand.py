"""Which cohorts' raw files are here, whole, in part or not at all, as data/sources.yaml and the parameters name them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lib.data import Source, Sources, read_sources
from lib.study.findings import LACKS, Finding


class Share(NamedTuple):
    """How much of a need is here: files, and bytes of those that are not, where data/sources.yaml knows them."""

    there: int
    files: int
    missing_bytes: int
    by_hand: str


def cohorts(root: Path, raw: Path) -> list[Finding]:
    """A line a cohort of `params/`; phantoms of a study share one.

    A file counts as here if it has the size that data/sources.yaml knows: checksums are for `make data`, not for this.

    Parameters
    ----------
    root, raw : Path
        The repository, and the folder of raw files.
    """
    listed = read_sources(root / "data" / "sources.yaml")
    found = []
    for folder in sorted(path for path in (root / "params").iterdir() if path.is_dir()):
        given = {path.stem: _read(path) for path in sorted(folder.glob("*.yaml"))}
        seeded = [name for name, values in given.items() if values.get("kind") == "phantom"]
        if seeded:
            found.append(Finding(f"{folder.name}: {', '.join(seeded)}", "made from a seed, no files needed"))
        for name, values in given.items():
            if name not in seeded:
                found.append(_cohort(folder.name, name, values, listed, raw))
    return found


def share_of(need: str, listed: Sources, raw: Path) -> Share:
    """How much of a need `source`, `source:group` or `one | other` is here; of alternatives, the one that is nearest."""
    shares = []
    for alternative in need.split("|"):
        source, _, group = alternative.strip().partition(":")
        shares.append(_share(source, listed.sources[source], group, raw))
    return max(shares, key=lambda share: share.there / max(1, share.files))


def named_paths(values: Any, listed: Sources, raw: Path) -> Iterator[tuple[str, Path]]:
    """Parameters that name something below data/raw: what stands there, and the path.

    A text counts if it begins with `data/raw/`, or has a slash and the first folder of a source.
    """
    tops = {name.split("/")[0] for name in listed.sources}
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from named_paths(value, listed, raw)
    elif isinstance(values, str) and "/" in values:
        name = values.removeprefix("data/raw/")
        if name != values or values.split("/")[0] in tops:
            yield name, raw / name


def _cohort(study: str, name: str, values: dict, listed: Sources, raw: Path) -> Finding:
    what = f"{study}: {name}"
    if name not in listed.cohorts:
        state = "your own files, which data/sources.yaml does not list"
        return Finding(what, state, f"the first lines of params/{study}/{name}.yaml say which", LACKS)
    entry = listed.cohorts[name]
    needs = [share_of(need, listed, raw) for need in entry.needs]
    there, files = sum(share.there for share in needs), sum(share.files for share in needs)
    by_hand = " ".join(f"By hand: {share.by_hand}." for share in needs if share.by_hand)
    if there < files:
        size = sum(share.missing_bytes for share in needs)
        of = f" ({size / 1e9:.1f} GB)" if size >= 1e8 else ""
        state = f"partly: {there} of {_files(files)}" if there else f"absent: {_files(files)}{of}"
        return Finding(what, state, f"make data COHORT={name}. {by_hand}".strip(), LACKS)
    state = f"present: {_files(files)}, by size"
    wants = [want for want in entry.wants if (share := share_of(want, listed, raw)).there < share.files]
    if wants:
        state += f"; without {', '.join(wants)}, which it can do without"
    absent = [short for short, path in named_paths(values, listed, raw) if not path.exists()]
    if not absent:
        return Finding(what, state, by_hand, LACKS if by_hand else "ok")
    step = f"{by_hand} params/{study}/{name}.yaml names {'it' if len(absent) == 1 else 'them'}"
    if values.get("slides") in absent:
        step = (
            f"python -m lib.data --slides results/{study}/{name}/slides.csv --into data/raw/{values['slides']} "
            "--dry-run"
        )
    return Finding(what, f"{state}; not here: {', '.join(absent)}", step.strip(), LACKS)


def _share(name: str, source: Source, group: str, raw: Path) -> Share:
    wanted = [file for file in source.files if not file.group or file.group == group]
    there = missing = 0
    for file in wanted:
        path = raw / name / file.path
        whole = path.is_file() and (file.bytes is None or path.stat().st_size == file.bytes)
        if whole or (file.unpack and (raw / name / file.unpack).exists()):
            there += 1
        else:
            missing += file.bytes or 0
    return Share(there, len(wanted), missing, source.by_hand)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _read(path: Path) -> dict:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return values if isinstance(values, dict) else {}
