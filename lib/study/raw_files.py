"""The raw files a cohort's parameters point to, as one short line: slides or tables added are a reason to run again."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from lib.files import write_json
from lib.params import ROOT, Checked, load

RAW = ROOT / "data" / "raw"
TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".yaml", ".yml", ".json")
# words, which a folder may have for its name too
NAMES = {"cohort", "kind", "preset", "modalities", "models", "encoder", "encoders", "factors", "clinical"}
LARGEST_TABLE = 1_000_000  # bytes


def pointed_to(params: Checked, root: Path = ROOT) -> list[Path]:
    """Files and folders that exist and that the strings among the parameters name.

    A string counts from data/raw, or from the repository where it begins with data/; a section table of the latter kind
    also stands for the folder of data/raw that has its name. Cohorts made from a seed have none.
    """
    raw = Path(root) / "data" / "raw"
    if getattr(params, "phantom", None):
        return []
    found = set()
    for text in _strings(params.model_dump(mode="json", exclude=NAMES)):
        if (
            not text
            or "\0" in text
            or len(text) > 400
            or Path(text).is_absolute()
            or ".." in Path(text).parts
        ):
            continue
        places = [raw / text]
        if text.startswith("data/"):
            places += [Path(root) / text, raw / Path(text).stem]
        found.update(place for place in places if place != raw and place.exists())
    return sorted(place for place in found if found.isdisjoint(place.parents))


def state(params: Checked, root: Path = ROOT) -> str:
    """How many files the parameters point to, their bytes and a digest; "" where they point to none.

    Names and sizes count, and the content of tables up to a megabyte, in which an outcome may be corrected and the size
    stay. Hidden files do not count: they are downloads under way. Links are followed, each folder once.
    """
    root = Path(root)
    digest, files, size = hashlib.sha256(), 0, 0
    for top in pointed_to(params, root):
        for path, entry_size in _files(str(top), set()):
            line = f"{os.path.relpath(path, root)}\0{entry_size}"
            if entry_size <= LARGEST_TABLE and path.lower().endswith(TABLES):
                with open(path, "rb") as table:
                    line += "\0" + hashlib.file_digest(table, "sha256").hexdigest()
            digest.update(line.encode(errors="surrogateescape") + b"\n")
            files, size = files + 1, size + entry_size
    return f"{files} raw files, {size} bytes, {digest.hexdigest()[:12]}" if files else ""


def since(record: str | Path, now: str) -> str:
    """The state a finished run was begun with if nothing has changed since it ended, else the state `now`.

    The first stage fetches files itself, so what it leaves differs from what it found; that alone is no reason to run
    it again. `record` is what `python -m lib.study.raw_files` left.
    """
    try:
        past = json.loads(Path(record).read_text(encoding="utf-8"))
        return past["begun"] if past["ended"] == now else now
    except (OSError, ValueError, KeyError, TypeError):
        return now


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _files(top: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, int]]:
    """Path and bytes of every file below `top`, in the order of names."""
    try:
        status = os.stat(top)
        if not os.path.isdir(top):
            yield top, status.st_size
            return
        if (mark := (status.st_dev, status.st_ino)) in seen:
            return
        seen.add(mark)
        with os.scandir(top) as entries:
            inside = sorted(
                (entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name
            )
    except OSError:  # a link to nothing, a folder one may not read: the stage itself reports what it misses
        return
    for entry in inside:
        if entry.is_file(follow_symlinks=False):
            yield entry.path, entry.stat(follow_symlinks=False).st_size
        else:
            yield from _files(entry.path, seen)


if __name__ == "__main__":
    parameter_file, record, begun = sys.argv[1:]
    write_json({"begun": begun, "ended": state(load(parameter_file))}, record)
