"""A cohort smaller than the demo, in a clone of its own, run by Snakemake."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lib.files import sha256_of

STAGES = ["1-preprocess", "2-embed", "3-train", "4-evaluate", "5-figures"]
# notebooks hold times, manifests and unit records versions of the tree, logs whatever was said
PASSING = ("notebooks", "manifests", "units", "logs", "runs", "locks")


@dataclass
class Tree:
    """A clone in which the small cohort runs."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results" / "spacrd" / "small"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """Snakemake, called as a reader calls it who has not activated the environment."""
        surroundings = {name: value for name, value in os.environ.items() if name != "CROSSBOOK_RESULTS"}
        surroundings |= {"PATH": "/usr/bin:/bin:/usr/sbin", "OMP_NUM_THREADS": "1"} | environment
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env=surroundings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Exit code, and what was said."""
        process = self.start(*arguments, **environment)
        said, _ = process.communicate(timeout=900)
        return process.returncode, said

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every result file."""
        found = {path: path.relative_to(self.results) for path in self.results.rglob("*") if path.is_file()}
        return {
            name.as_posix(): sha256_of(path) for path, name in found.items() if name.parts[0] not in PASSING
        }
