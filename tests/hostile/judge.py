"""What becomes of a hostile file: refused in one sentence, named in a report, or read as what it is; all else is a fault."""

import json
import os
import re
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

MOST_SECONDS, MOST_BYTES, LONGEST = 5.0, 1 << 30, 700
PLAIN = (
    ValueError,
    FileNotFoundError,
    PermissionError,
    NotADirectoryError,
    IsADirectoryError,
    ConnectionError,
    BlockingIOError,
)
# what a library says to its programmers, and nobody else understands
RAW = re.compile(r"Traceback|0x7f[0-9a-f]{6}|<_io\.|object at |errno = |\n")


@dataclass(frozen=True)
class Case:
    """A hostile input.

    Attributes
    ----------
    name : str
    make : callable
        Room (an empty folder) -> what is given to the reader; the file lies in the room or below it.
    read : callable
        What was made -> what a stage would go on with.
    says : str
        Pattern the sentence must hold: the file, key or patient. "" asks for the name of the file that was made.
    check : callable, optional
        Result -> "" where it is a silent change, else in a word why it is none ("same", "named: ..."). Without it the
        input must be refused.
    must_read : bool
        Refusing it would be a fault.
    """

    name: str
    make: Callable[[Path], object]
    read: Callable[[object], object]
    says: str = ""
    check: Callable[[object], str] | None = None
    must_read: bool = False


SLOW = {
    "an xlsx of 210 MB",
    "outcomes.zip of 256 MB",
    "npz: a bomb",
    "a pt of a bomb",
    "series of one value",
    "sources: nested deep",
    "partition: nested deep",
    "mappings nested 5000 deep",
    "partition nested deep",
}
"""Cases of more than half a second, or whose like is tested too: by .ci/run and with -m slow."""


def shown(cases: list[Case]) -> list:
    """Cases as parameters of a test."""
    return [pytest.param(case, marks=pytest.mark.slow if case.name in SLOW else ()) for case in cases]


class Hang(BaseException):
    """A reader took too long; no Exception, so that no reader catches it."""


def judge(case: Case, room: Path) -> None:
    """Run a case; pytest fails where its outcome is a fault."""
    fault, outcome = _outcome(case, room)
    if table := os.environ.get("CROSSBOOK_HOSTILE_TABLE"):  # one line a case, for before and after
        with open(table, "a", encoding="utf-8") as file:
            told = {"case": case.name, "fault": fault, "outcome": outcome[:400]}
            file.write(json.dumps(told, ensure_ascii=True) + "\n")
    if fault:
        pytest.fail(f"{case.name}: {fault}: {outcome}", pytrace=False)


def _outcome(case: Case, room: Path) -> tuple[str, str]:
    given = case.make(room)
    before = _listing(room)
    result = error = None
    begun = time.monotonic()
    with _held() as peak, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            result = case.read(given)
        except Hang:
            return "hangs", f"more than {MOST_SECONDS:g} s"
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as caught:
            error = caught
    said = "; ".join(str(each.message) for each in warned if issubclass(each.category, UserWarning))
    if time.monotonic() - begun > MOST_SECONDS:
        return "hangs", f"{time.monotonic() - begun:.1f} s"
    if (more := peak()) > MOST_BYTES:
        return "memory", f"{more >> 20} MB"
    if changed := before ^ _listing(room):
        return "writes", ", ".join(sorted(str(each[0]) for each in changed))[:200]
    if error is not None:
        if case.must_read:
            return "refused what it should read", f"{type(error).__name__}: {error}"
        return _faults_of(error, case, given), f"{type(error).__name__}: {error}"
    if case.check is None:
        return ("", f"named: {said}") if _names(said, case, given) else ("silent", repr(result)[:200])
    if word := case.check(result):
        return "", word
    return ("", f"named: {said}") if _names(said, case, given) else ("silent change", repr(result)[:300])


def _names(said: str, case: Case, given: object) -> bool:
    return bool(said) and re.search(case.says or re.escape(_file(given)), said) is not None


def _file(given: object) -> str:
    return given.name if isinstance(given, Path) else ""


def _faults_of(error: BaseException, case: Case, given: object) -> str:
    """What is wrong with a refusal; empty if nothing."""
    kind, text = type(error), str(error)
    if kind not in PLAIN and not (isinstance(error, PLAIN) and kind.__module__.startswith("lib.")):
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{kind.__name__} from {Path(where.filename).name}"
    if found := RAW.search(text):
        return f"raw text {found[0]!r}"
    if len(text) > LONGEST:
        return f"{len(text)} characters long"
    if not re.search(case.says or re.escape(_file(given)), text):
        return f"does not name {case.says or _file(given)}"
    return ""


def _listing(room: Path) -> set[tuple]:
    """Every file around the room but what lies in its results, with size and time of change."""
    listed = set()
    for folder, inner, names in os.walk(room.parent):
        if Path(folder) == room and "results" in inner:
            inner.remove("results")
        for name in names:
            about = os.lstat(os.path.join(folder, name))
            listed.add((os.path.join(folder, name), about.st_size, about.st_mtime_ns))
    return listed


@contextmanager
def _held():
    """Hold a reader to 5 s and to 1 GB; yields a function that tells how much memory it took."""

    def ring(*_):
        raise Hang

    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        Path("/proc/self/clear_refs").write_text("5")  # forget the highest resident size so far
    except (ImportError, OSError):  # no Linux: time alone is held
        yield lambda: 0
        return
    there = _resident("VmRSS")
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + MOST_BYTES, hard))
    bell = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    try:
        yield lambda: _resident("VmHWM") - there
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, bell)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _resident(which: str) -> int:
    """VmRSS now or VmHWM, the highest, in bytes."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) << 10
