"""Files that appear under their final name only when they are whole."""

import errno
import hashlib
import json
import math
import os
import platform
import re
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import h5py
import pandas as pd

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# libraries that write by themselves hand on the words of the system, not always its number
_SAID = re.compile(
    r"errno = (28|122|27)\b|os error (28|122|27)\b|No space left|quota exceeded|File too large"
)
_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_PART = re.compile(r"\.part-(?:([0-9a-f]{8})-)?(\d+)-")
_under_way: set[Path] = set()
_swept: set[Path] = set()


class DiskFull(OSError):
    """There is no room for a file. Its message is one sentence: which file, what it needs, what is free."""

    errno = errno.ENOSPC


@contextmanager
def written(path: str | os.PathLike, size: int = 0) -> Iterator[Path]:
    """Write a file beside its final place, flush it to disk, then rename it.

    A reader, a resumed run or a second process sees either the old file or the whole new one.
    If the block raises, the part file is removed and the old file stays.

    Parameters
    ----------
    path : path
        Final name. Its folder is made where missing.
    size : int
        Bytes that will be written, where they are known: too little room is then found before the work.

    Yields
    ------
    Path
        The part file to write to: same folder, same suffix, hidden name.

    Raises
    ------
    DiskFull
        Too little room for the file, or a quota or a limit on the size of files that it exceeds.
    """
    path = Path(path)
    part = path.with_name(f".part-{_MACHINE}-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(path.parent)
        _must_fit(path, size)
        _under_way.add(part)
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except Exception as error:
        if isinstance(error, DiskFull) or not _tells_of_full_disk(error, path):
            raise
        got = part.stat().st_size if part.is_file() else 0
        least = max(got, size, min(shutil.disk_usage(path.parent).free, _largest_file()))
        raise _full(path, f"it needs more than {_megabytes(least)}") from error
    finally:
        _under_way.discard(part)
        part.unlink(missing_ok=True)


@contextmanager
def written_hdf5(path: str | os.PathLike) -> Iterator[h5py.File]:
    """An HDF5 file to fill, written whole like any other: equal content gives equal bytes, whatever HDF5 comes.

    It is put together in memory and reaches the disk in one piece: HDF5 itself, when it finds the disk full while it
    closes a file, ends the process (a segmentation fault, seen with HDF5 2.0).

    Raises
    ------
    DiskFull
    """
    options = {"driver": "core", "backing_store": False, "libver": ("earliest", "v110")}
    with h5py.File(path, "w", **options) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
        with written(path, size=len(image)) as part:
            part.write_bytes(image)


def _tells_of_full_disk(error: BaseException | None, path: Path) -> bool:
    # some count what they wrote, and say no more than that it was not all
    mute = isinstance(error, OSError | RuntimeError) and getattr(error, "errno", None) is None
    if mute and path.parent.is_dir() and shutil.disk_usage(path.parent).free < 1 << 12:
        return True
    while error is not None:
        if getattr(error, "errno", None) in FULL or _SAID.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _must_fit(path: str | os.PathLike, size: int) -> None:
    path = Path(path)
    if size > min(shutil.disk_usage(path.parent).free, _largest_file()):
        raise _full(path, f"it needs {_megabytes(size)}")


def _full(path: Path, needs: str) -> DiskFull:
    most = _largest_file()
    limit = "" if most == math.inf else f" and a file may have {_megabytes(most)} (ulimit -f)"
    folder = next(each for each in path.parents if each.is_dir())
    return DiskFull(
        f"{path.parent.name}/{path.name} is not written, there is no room for it: {needs}, "
        f"{_megabytes(shutil.disk_usage(folder).free)} are free{limit}; make room and run again, what is whole is kept"
    )


def _largest_file() -> float:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"


def _sweep_once(folder: Path) -> None:
    """Remove what killed writers left in a folder, once a process: reading a large folder at every write would cost."""
    if folder not in _swept:
        _swept.add(folder)
        for part in folder.glob(".part-*"):
            if _abandoned(part):
                part.unlink(missing_ok=True)


def remove_parts(folder: str | os.PathLike) -> dict[Path, list[Path]]:
    """Remove the part files below a folder whose writers, processes of this machine, were killed.

    Returns
    -------
    dict
        Final name -> part files of writers on other machines, of which nobody here knows whether they live.
    """
    foreign: dict[Path, list[Path]] = {}
    for here, _, names in os.walk(folder):
        for part in (Path(here, name) for name in names if _PART.match(name)):
            if _abandoned(part):
                part.unlink(missing_ok=True)
            elif _PART.match(part.name)[1] not in (None, _MACHINE):
                foreign.setdefault(part.with_name(_PART.sub("", part.name)), []).append(part)
    return foreign


def _abandoned(part: Path) -> bool:
    found = _PART.match(part.name)
    if not found or found[1] not in (None, _MACHINE) or not part.is_file():
        return False
    process = int(found[2])
    return part not in _under_way if process == os.getpid() else not _alive(process)


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


def file_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file, computed once for each state of the file in a process.

    A state is a size, the two times and the inode: the time of the last change of content alone can be set by
    anybody, or be that of a clock that was put back.
    """
    status = os.stat(path)
    return _digest(
        os.fspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
    )


@cache
def _digest(path: str, *state: int) -> str:
    return sha256_of(path)


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
