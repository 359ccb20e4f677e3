"""What a benchmark measures in a process of its own, so that its peak memory is its own; and models of the tests beside ours."""

import importlib.util
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def megabytes() -> float:
    """The most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB


def in_its_own_process(benchmark: str, *arguments: object, **environment: str) -> dict:
    """Run a benchmark's module with these arguments; the JSON of the last line that it prints."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *map(str, arguments)]
    told = {"stdout": subprocess.PIPE, "text": True, "env": os.environ | environment}
    done = subprocess.run(command, cwd=ROOT, check=True, **told)
    return json.loads(done.stdout.splitlines()[-1])


def of_tests(place: str) -> ModuleType:
    """A module below tests/, which is no package."""
    spec = importlib.util.spec_from_file_location(Path(place).stem, ROOT / "tests" / place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
