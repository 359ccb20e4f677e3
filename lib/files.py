"""Files that appear under their final name only when they are whole.

Names of patients, slides and sections: what may become the name of a file and stand in a table.

JSON files of others: one object, every key once, numbers that are numbers.

HDF5 files of others, opened so that whatever is broken in them is said in one sentence.
"""

import errno
import hashlib
import json
import math
import os
import platform
import re
import resource
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import h5py
import pandas as pd

from lib.inputs.tables import plain

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


LONGEST = 150
"""Bytes of a name: a file's name has 255, and stages add to it."""

ODD = re.compile(r"[\x00-\x1f\x7f/\\]")
FORMULA = re.compile(r"\s*[=+@\-]")


def fault_of(name: str) -> str:
    """Why a text cannot be the name of a patient or a file, in words; empty if nothing."""
    if not name.strip() or name in (".", ".."):
        return "is no name"
    if ODD.search(name):
        return "holds a slash or a character that cannot be printed, and files are named after it"
    if FORMULA.match(name):
        return "begins as a formula does, which a spreadsheet would run"
    try:
        return f"is longer than {LONGEST} bytes" if len(name.encode()) > LONGEST else ""
    except UnicodeEncodeError:
        return "is no UTF-8"


def check_names(names: Iterable[str], where: object, what: str = "patient", zeros: bool = True) -> None:
    """Refuse names that are none, and two that differ only in how they are typed.

    Parameters
    ----------
    names : iterable of str
        The same name may come more than once.
    where : object
        File or folder, for the sentence.
    what : str
        What is named.
    zeros : bool
        Names that differ in leading zeros or spaces are one (007 that a spreadsheet made 7); else in case alone.

    Raises
    ------
    ValueError
    """
    typed: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if fault := fault_of(name):
            raise ValueError(f"{where}: {what} {name[:60]!r} {fault}: rename it")
        key = re.sub(r"(?<!\d)0+(?=\d)", "", plain(name).replace(" ", "")) if zeros else name.casefold()
        if typed.setdefault(key, name) != name:
            differ = "case, spaces or leading zeros" if zeros else "case"
            raise ValueError(
                f"{where}: {what} {typed[key]!r} and {name!r} differ only in {differ}: write them alike, or rename one"
            )


MOST_BYTES = 10 << 20
"""More is no file of scale factors or settings."""


def read_json(path: str | os.PathLike) -> dict:
    """Read a JSON file that holds an object.

    Raises
    ------
    FileNotFoundError
    ValueError
        Too large, no UTF-8, no JSON, nested too deep, a key twice, NaN or infinity, or something else than an object.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there, or is no file")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{path} holds {size >> 20} MB: it is no settings file, fetch it again")
    try:
        content = json.loads(
            path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once, parse_constant=_refuse
        )
    except RecursionError:
        raise ValueError(f"{path} is no JSON that can be read (nested too deep): fetch it again") from None
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are of that kind
        said = " ".join(str(error).split())[:160]
        raise ValueError(f"{path} is no JSON that can be read ({said}): fetch it again") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds {type(content).__name__}, expected an object with keys: fetch it again"
        )
    return content


def positive(content: dict, key: str, path: str | os.PathLike) -> float:
    """A number above 0 of what `read_json` read.

    Raises
    ------
    ValueError
        The key is missing, or is no such number.
    """
    if key not in content:
        raise ValueError(f"{path} has no {key}: a number above 0 is expected, fetch it again")
    value = content[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ValueError(f"{path} has {key} {str(value)[:40]!r}: a number above 0 is expected")
    return float(value)


def _once(pairs: list[tuple[str, object]]) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)[:60]!r} stands twice")
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


MOST_SHRUNK = 200
"""Counts, names and positions shrink by less; what claims more holds one value all over, or nothing."""

SMALL = 64 << 20
"""Bytes unpacked, of which nobody asks what they were packed into."""

DEEPEST = 8
BROKEN = (OSError, LookupError, RuntimeError, TypeError, AttributeError, MemoryError, OverflowError)
"""What h5py, and a library that reads with it, raises where a file is damaged."""


@contextmanager
def opened(path: str | os.PathLike, what: str, do: str) -> Iterator[h5py.File]:
    """Open an HDF5 file to read; what is found broken in it, now or later, is said in one sentence.

    Parameters
    ----------
    path : path
    what : str
        What the file should be: "a section", "a 10x matrix file".
    do : str
        What to do where it is not.

    Raises
    ------
    FileNotFoundError
    ValueError
        Not HDF5, cut short, damaged; with links, or numbers that lie in another file; or it claims to hold far more
        than it has bytes for.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: {do}")
    try:
        file = h5py.File(path, "r")
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path} is not {what}, or was cut short ({_said(error)}): {do}") from error
    with file:
        try:
            _refuse_strange(file, 1)
            yield file
        except ValueError as error:
            if type(error) is ValueError and path.name in str(error):
                raise
            raise ValueError(f"{path} is not {what}, or is damaged ({_said(error)}): {do}") from error
        except BROKEN as error:
            raise ValueError(f"{path} is not {what}, or is damaged ({_said(error)}): {do}") from error


def _said(error: Exception) -> str:
    # h5py's KeyError quotes itself; addresses of memory mean nothing to anybody
    return " ".join(str(error).split()).strip("'\"")[:160] or type(error).__name__


def _refuse_strange(group: h5py.Group, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError(f"it is more than {DEEPEST} folders deep")
    for name in group:
        if not isinstance(name, str):
            raise ValueError(f"an entry is named {name!r}, which is no UTF-8")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link, the values themselves are expected")
        item = group[name]
        if isinstance(item, h5py.Group):
            _refuse_strange(item, depth + 1)
        elif isinstance(item, h5py.Dataset):
            _refuse_claims(item, name)


def _refuse_claims(dataset: h5py.Dataset, name: str) -> None:
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"the values of {name} lie in another file")
    if dataset.shape is None:
        return
    needed, there = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if needed > max(SMALL, there * (1 if dataset.chunks is None else MOST_SHRUNK)):
        shape = " x ".join(map(str, dataset.shape))
        raise ValueError(f"{name} claims {shape} values, and the file has {there:,} bytes of them")
