"""The machine: Python, processor cores, memory, disk, and whether results can be written.

Nothing but the standard library is imported, so that all this can be said where no package is installed.
"""

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from lib.study.findings import LACKS, STOPS, Finding

GB = 1e9
# measured: the largest demo writes 0.4 GB, demo and null of all four studies 2.2 GB
DEMO_GB, BOOK_GB = 1.0, 3.0
MEMORY_GB = 3.0  # what params/resources.yaml asks for a phantom's stage


def python() -> Finding:
    """The interpreter: 3.11, the only one the lock is made for."""
    version = platform.python_version()
    if sys.version_info[:2] == (3, 11):
        return Finding("Python", version)
    return Finding(
        "Python",
        f"{version}, needed is 3.11",
        "install Python 3.11, then: make setup PYTHON=python3.11",
        STOPS,
    )


def cores() -> Finding:
    """The cores this process may use, which on a shared machine are fewer than there are."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        count = os.cpu_count() or 1
    limit = _processor_limit()
    shared = f", {limit:g} by the container's limit" if limit and limit < count else ""
    usable = max(1, int(min(count, limit or count)))
    return Finding("processor cores", f"{count}{shared}", f"make book CORES={usable}" if shared else "")


def processor() -> str:
    """The processor's name, "unknown" where the system does not tell."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def memory() -> Finding:
    """Memory of the machine, or of the container where that is less, and what of it is free."""
    total, free = memory_bytes()
    if total is None:
        return Finding("memory", "not known on this system")
    left = f", {free / GB:.1f} GB free" if free is not None else ""
    state = f"{total / GB:.1f} GB{left}"
    if total < MEMORY_GB * GB:
        return Finding(
            "memory",
            state,
            f"a demo's stage is planned with {MEMORY_GB:.0f} GB: make book CORES=1, nothing beside it",
            LACKS,
        )
    return Finding("memory", state)


def memory_bytes() -> tuple[int | None, int | None]:
    """Total and available bytes, None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
        except (ValueError, OSError, AttributeError):
            return None, None
    told = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if len(line.split()) > 1}
    total, free = told["MemTotal"], told.get("MemAvailable")
    limit = _number("/sys/fs/cgroup/memory.max")
    if limit and limit < total:
        used = _number("/sys/fs/cgroup/memory.current") or 0
        total, free = int(limit), int(max(0, limit - used))
    return total, free


def results_place(folder: Path) -> list[Finding]:
    """Disk free and permission to write where results go."""
    # the variable, not the folder it names: what a doctor says gets pasted into mails
    place = "CROSSBOOK_RESULTS" if os.environ.get("CROSSBOOK_RESULTS") else "results/"
    what = f"disk for {place}"
    free = shutil.disk_usage(existing(folder)).free / GB
    state = f"{free:.1f} GB free"
    if free < DEMO_GB:
        disk = Finding(
            what, state, f"free {DEMO_GB:.0f} GB, or set CROSSBOOK_RESULTS to a larger disk", STOPS
        )
    elif free < BOOK_GB:
        disk = Finding(
            what, state, f"enough for one demo; demo and null of all studies take {BOOK_GB:.0f} GB", LACKS
        )
    else:
        disk = Finding(what, state)
    what = f"writing to {place}"
    if writable(folder):
        return [disk, Finding(what, "allowed")]
    step = "change the folder's owner or mode, or set CROSSBOOK_RESULTS to a folder of yours"
    return [disk, Finding(what, "refused", step, STOPS)]


def raw_place(folder: Path) -> list[Finding]:
    """The same for raw files, which no demo needs."""
    free = shutil.disk_usage(existing(folder)).free / GB
    what = "disk for data/raw/"
    found = [Finding(what, f"{free:.1f} GB free")]
    if not writable(folder):
        step = "change the folder's owner or mode before make data"
        found.append(Finding("writing to data/raw/", "refused", step, LACKS))
    return found


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def writable(folder: Path) -> bool:
    """Whether a file can be made there: tried, since permissions alone don't tell of quotas or read-only disks."""
    try:
        with tempfile.TemporaryFile(dir=existing(folder)) as file:
            file.write(b"0" * 4096)
            file.flush()
    except OSError:
        return False
    return True


def _processor_limit() -> float | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
