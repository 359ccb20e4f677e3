"""What a run of a stage took: time, memory, units done. It changes from run to run, so it is no part of the manifest."""

import os
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from lib.files import write_json

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class RunRecord:
    """Counts from its making on. Clocks are monotonic: no time of day, no name of a machine, no path is kept.

    Attributes
    ----------
    units : dict
        all: of this shard; made: now; kept: whole from before.
    """

    def __init__(self):
        self.units = {"all": 0, "made": 0, "kept": 0}
        self._began, self._spent = time.monotonic(), processor_seconds()

    def count(self, among: int, made: int, kept: int) -> None:
        """Add the units of one pass."""
        for name, number in (("all", among), ("made", made), ("kept", kept)):
            self.units[name] += number

    def write(
        self, folder: Path, stage: str, shard: int, shards: int, failed: Mapping[str, str], finished: bool
    ) -> Path:
        """Write `runs/<stage>.json`, of a shard `runs/<stage>.<shard>of<shards>.json`, below the cohort's folder.

        seconds, processor_seconds : of the stage, with the processes it started. peak_mb : the most memory (10^6 bytes)
        one process of it held.
        """
        path = folder / "runs" / (f"{stage}.{shard}of{shards}.json" if shards > 1 else f"{stage}.json")
        content = {
            "stage": stage,
            "shard": shard,
            "shards": shards,
            "seconds": round(time.monotonic() - self._began, 2),
            "processor_seconds": round(processor_seconds() - self._spent, 2),
            "peak_mb": round(peak_mb(), 1),
            "units": self.units,
            "failed": dict(failed),
            "finished": finished,
            "host": {"cores": cores(), "memory_gb": round(memory_gb(), 1), "gpu": gpu()},
        }
        write_json(content, path)
        return path


def processor_seconds() -> float:
    """Of this process and of those it started and that have ended, user and system."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def peak_mb() -> float:
    """Most memory that this process, or one it started, has held so far, in 10^6 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts in KiB
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return most * unit / 1e6


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb() -> float:
    """Memory of the machine, or of the container or job where that is less, in 10^9 bytes."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [
        Path(name).read_text(encoding="utf-8").strip() for name in CGROUP_LIMITS if os.access(name, os.R_OK)
    ]
    return min([total, *(int(limit) for limit in limits if limit.isdigit())]) / 1e9


def gpu() -> str:
    """Name of the GPU a stage that uses torch sees; "" for none."""
    torch = sys.modules.get("torch")  # a stage that did not load it had no use for a GPU
    return torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else ""
