"""Files that appear under their final name only when whole, the names they may have, JSON and HDF5 files to read."""

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
from pathlib import Path, PurePosixPath, PureWindowsPath

import h5py
import pandas as pd

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# libraries that write by themselves hand on the words of the system, not always its number
_FULL_IN_WORDS = re.compile(r"(errno =|os error) (28|122|27)\b|No space left|quota exceeded|File too large")
_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_PART = re.compile(r"\.part-(?:([0-9a-f]{8})-)?(\d+)-")
_under_way: set[Path] = set()
_swept: set[Path] = set()


class DiskFull(OSError):
    """There is no room for a file. Its message is one sentence: which file, what it needs, what is free."""

    errno = errno.ENOSPC


@contextmanager
def written(path: str | os.PathLike, size: int = 0) -> Iterator[Path]:
    """Write a file beside its final place, flush it to disk, then rename it; its folder is made where missing.

    Yields the part file to write to: same folder, same suffix, hidden name. A reader, a resumed run or a second process
    sees either the old file or the whole new one; the old one stays if the block raises. Where the `size` in bytes is
    known, too little room is found before the work, as `DiskFull`.
    """
    path = Path(path)
    part = path.with_name(f".part-{_MACHINE}-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in _swept:  # once a process: reading a large folder at every write would cost
            _swept.add(path.parent)
            for old in filter(_abandoned, path.parent.glob(".part-*")):
                old.unlink(missing_ok=True)
        if size > min(shutil.disk_usage(path.parent).free, _largest_file()):
            raise _full(path, f"it needs {size / 1e6:,.1f} MB")
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
        raise _full(path, f"it needs more than {least / 1e6:,.1f} MB") from error
    finally:
        _under_way.discard(part)
        part.unlink(missing_ok=True)


@contextmanager
def written_hdf5(path: str | os.PathLike) -> Iterator[h5py.File]:
    """An HDF5 file to fill, written whole like any other: equal content gives equal bytes, whatever HDF5 comes.

    It is put together in memory and reaches the disk in one piece: HDF5 itself, when it finds the disk full while it
    closes a file, ends the process (a segmentation fault, seen with HDF5 2.0).
    """
    options = {"driver": "core", "backing_store": False, "libver": ("earliest", "v110")}
    with h5py.File(path, "w", **options) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
        with written(path, size=len(image)) as part:
            part.write_bytes(image)


def _tells_of_full_disk(error: BaseException, path: Path) -> bool:
    # some libraries count what they wrote, and say no more than that it was not all
    mute = isinstance(error, OSError | RuntimeError) and getattr(error, "errno", None) is None
    if mute and path.parent.is_dir() and shutil.disk_usage(path.parent).free < 1 << 12:
        return True
    said = getattr(error, "errno", None) in FULL or _FULL_IN_WORDS.search(str(error))
    before = error.__cause__ or error.__context__
    return bool(said) or (before is not None and _tells_of_full_disk(before, path))


def _full(path: Path, needs: str) -> DiskFull:
    most = _largest_file()
    limit = "" if most == math.inf else f" and a file may have {most / 1e6:,.1f} MB (ulimit -f)"
    free = shutil.disk_usage(next(each for each in path.parents if each.is_dir())).free / 1e6
    return DiskFull(
        f"{path.parent.name}/{path.name} is not written, there is no room for it: {needs}, {free:,.1f} MB are "
        f"free{limit}; make room and run again, what is whole is kept"
    )


def _largest_file() -> float:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit


def remove_parts(folder: str | os.PathLike) -> None:
    """Remove the part files below a folder whose writers, processes of this machine, were killed."""
    for part in filter(_abandoned, Path(folder).rglob(".part-*")):
        part.unlink(missing_ok=True)


def _abandoned(part: Path) -> bool:
    name = _PART.match(part.name)
    if not name or name[1] not in (None, _MACHINE) or not part.is_file():
        return False
    if (process := int(name[2])) == os.getpid():
        return part not in _under_way
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno == errno.ESRCH  # else it is another user's
    return False


def sha256_of(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file, computed once in a process for each size, inode and time of change of the file."""
    now = os.stat(path)  # the time of content alone can be set by anybody
    return _digest(os.fspath(path), now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino, now.st_dev)


@cache
def _digest(path: str, *state: int) -> str:
    return sha256_of(path)


def write_json(content: object, path: str | os.PathLike) -> None:
    """Write JSON atomically, keys sorted, so that equal content gives equal bytes."""
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    with written(path) as part:
        part.write_text(text, encoding="utf-8")


def write_csv(frame: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write a table atomically, without its index, so that equal content gives equal bytes."""
    with written(path) as part:
        frame.to_csv(part, index=False, lineterminator="\n")


LONGEST = 150  # bytes of a name: a file's name has 255, and stages add to it
_FORMULA = re.compile(r"\s*[=+@\-]")
_IN_NO_NAME = re.compile(r"[\x00-\x1f\x7f/\\\ud800-\udfff]")


def fault_of(name: str) -> str:
    """Why a text cannot be the name of a patient or a file, in words; empty if nothing."""
    if not name.strip() or name in (".", ".."):
        return "is no name"
    if _IN_NO_NAME.search(name):
        return "holds a slash or a character that cannot be printed, and files are named after it"
    if _FORMULA.match(name):
        return "begins as a formula does, which a spreadsheet would run"
    return f"is longer than {LONGEST} bytes" if len(name.encode()) > LONGEST else ""


def check_names(names: Iterable[str], where: object, what: str = "patient", zeros: bool = True) -> None:
    """Refuse names that are none, and two that differ only in how they are typed: one patient would count as two.

    `where` and `what` (file or folder, and what is named) are for the sentence. With `zeros`, names that differ in
    leading zeros or spaces are one (007 that a spreadsheet made 7); else those that differ in case alone.
    """
    seen: dict[str, str] = {}
    wrong = []
    for name in dict.fromkeys(names):
        if fault := fault_of(name):
            wrong.append(f"{what} {name[:60]!r} {fault}: rename it")
            continue
        key = re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\s\ufeff]", "", name)) if zeros else name
        if (other := seen.setdefault(key.casefold(), name)) != name:
            differ = "case, spaces or leading zeros" if zeros else "case"
            wrong.append(f"{what} {other!r} and {name!r} differ only in {differ}: write them alike")
    if wrong:
        raise ValueError("\n".join(f"{where}: {each}" for each in wrong))


def size_of(path: str | os.PathLike) -> int:
    """Bytes of a file, or of all files in a folder: a scan of hundreds of megabytes is known by it, not by a checksum."""
    files = Path(path).rglob("*") if Path(path).is_dir() else [Path(path)]
    return sum(each.stat().st_size for each in files if each.is_file())


def leaves_folder(text: str) -> bool:
    """Whether a path in a table, of whatever system, would lead out of the table's folder."""
    place = PurePosixPath(text)
    return place.is_absolute() or bool(PureWindowsPath(text).drive) or ".." in place.parts


def problem_of(folder: Path, text: str, what: str) -> str:
    """Why a file that a table names cannot be read: none is named, it is not there, it is empty; "" where it can."""
    path = folder / text
    if not text:
        return f"no {what} is named"
    if not path.exists():
        near = path.parent.iterdir() if path.parent.is_dir() else ()
        return f"{what} {text} is not there{also_there(path.name, (each.name for each in near))}"
    return "" if size_of(path) else f"{what} {text} is empty"


def also_there(name: str, others: Iterable[str]) -> str:
    """The end of a sentence on a file that is not there: the one that differs in case, signs or suffix alone, if any."""
    plain = re.sub(r"[\W_]", "", name.partition(".")[0].casefold())
    same = [one for one in others if re.sub(r"[\W_]", "", one.partition(".")[0].casefold()) == plain]
    return f", but {same[0]} is" if plain and same else ""


def read_json(path: str | os.PathLike) -> dict:
    """Read a JSON file that holds an object; ValueError names the file that holds none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except ValueError as error:
        content = error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object ({str(content)[:80]}): fetch it again")
    return content


def positive(content: dict, key: str, path: str | os.PathLike) -> float:
    """A number above 0 of what `read_json` read; ValueError where the key is missing or is no such number."""
    value = content.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{path} has {key} {str(value)[:40]!r}: a number above 0 is expected")
    return float(value)


@contextmanager
def opened(path: str | os.PathLike, what: str, do: str) -> Iterator[h5py.File]:
    """Open an HDF5 file to read; what is found broken in it, now or later, is a ValueError that names it.

    `what` the file should be ("a section", "a 10x matrix file"), and what to `do` where it is not, are for the sentence.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: {do}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (ValueError, OSError, LookupError, RuntimeError, TypeError, AttributeError) as error:
        if type(error) is ValueError and path.name in str(error):
            raise
        reason = " ".join(str(error).split()).strip("'\"")[:160] or type(error).__name__
        raise ValueError(f"{path} is not {what}, or was cut short or damaged ({reason}): {do}") from error
