"""Files that appear under their final name only when they are whole."""

import glob
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd


@contextmanager
def written(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file beside its final place, flush it to disk, then rename it.

    A reader, a resumed run or a second process sees either the old file or the whole new one.
    If the block raises, the part file is removed and the old file stays.

    Parameters
    ----------
    path : path
        Final name. Its folder is made where missing.

    Yields
    ------
    Path
        The part file to write to: same folder, same suffix, hidden name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_orphans(path)
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _remove_orphans(path: Path) -> None:
    """Remove the part files of writers that were killed."""
    for orphan in path.parent.glob(f".part-*-{glob.escape(path.name)}"):
        writer = orphan.name.split("-")[1]
        if writer.isdigit() and int(writer) != os.getpid() and not _alive(int(writer)):
            orphan.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sha256_of(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(content: object, path: str | os.PathLike) -> None:
    """Write JSON atomically, keys sorted, so that equal content gives equal bytes."""
    with written(path) as part:
        part.write_text(
            json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def write_csv(frame: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write a table atomically, without its index, so that equal content gives equal bytes."""
    with written(path) as part:
        frame.to_csv(part, index=False, lineterminator="\n")
