"""Cohorts small enough to be run dozens of times, and what can go wrong around them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from lib.files import sha256_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STROKE = yaml.safe_load((ROOT / "params" / "stroke" / "demo.yaml").read_text(encoding="utf-8")) | {
    "cohort": "tiny",
    "phantom": {"seed": 3, "patients": 12, "effect": 1.5},
    "folds": 2,
    "frames": 2,
    "models": {"admission": ["fusion", "ctp", "clinical-branch", "late-fusion", "logistic-both"]},
    "epochs": 3,
    "batch": 4,
    "widths": [2, 2, 2, 2],
    "channels": 4,
    "heads": 2,
    "bootstrap_draws": 100,
}
OF_THE_RUN = ("runs", "locks")


class Stages:
    """Runs stages of the tiny stroke cohort, each run a process of its own that may be killed."""

    def __init__(self, scratch: Path):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONUTF8": "1"}
        self.process = subprocess.Popen(
            [sys.executable, HERE / "stage_server.py", scratch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(
        self, results: Path, *stages: str, kill_at: int = 0, kill_after: float = 0.0, source="", **changes
    ) -> dict:
        """Exit code, seconds, number of writes, what was printed."""
        order = {"study": "stroke", "stages": stages, "source": source, "results": str(results)}
        order |= {
            "values": changes if source else STROKE | changes,
            "kill_at": kill_at,
            "kill_after": kill_after,
        }
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def must_run(self, results: Path, *stages: str, **changes) -> dict:
        told = self.run(results, *stages, **changes)
        assert told["code"] == 0, told["said"][-4000:]
        return told


@pytest.fixture(scope="session")
def stages(tmp_path_factory) -> Iterator[Stages]:
    """To run stages in processes that may be killed."""
    server = Stages(tmp_path_factory.mktemp("said"))
    yield server
    server.process.stdin.close()
    server.process.wait(60)
    server.process.stdout.close()


@pytest.fixture(scope="session")
def hashes() -> Callable[[Path], dict[str, str]]:
    """SHA-256 of all files of a cohort but those that tell of the run; a part file left over is among them."""

    def of(folder: Path) -> dict[str, str]:
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        names = {path.relative_to(folder).as_posix(): path for path in found}
        return {name: sha256_of(path) for name, path in names.items() if name.split("/")[0] not in OF_THE_RUN}

    return of


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[..., Path]]:
    """Disks of a wanted size: mounts, for which one must be root."""
    mounted = []

    def mount(size: int, name: str = "disk", options: str = "") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", str(folder)]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
