"""Notebooks run as a reader's machine runs them, by papermill, in a process of their own; or all in one, without kernels."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import psutil
import pytest
import yaml

from lib.files import sha256_of

ROOT = Path(__file__).resolve().parents[2]
STAGES = ["1-preprocess", "2-embed", "3-train", "4-evaluate", "5-figures"]
# Put on PYTHONPATH, it stops a kernel at the moment a file is whole but does not yet have its final name.
HOLD = """
import os, pathlib, time

replace = os.replace

def held(source, target, **options):
    if str(target).endswith(os.environ["HOLD"]):
        pathlib.Path(os.environ["HELD"]).touch()
        time.sleep(600)
    return replace(source, target, **options)

os.replace = held
"""


@dataclass
class Study:
    """One cohort's notebooks in a tree (a clone of the repository), with a results folder of its own."""

    tree: Path
    results: Path
    parameters: Path
    environment: dict[str, str] = field(default_factory=dict)
    study: str = "spacrd"

    @property
    def folder(self) -> Path:
        """What the stages write to."""
        return self.results / self.study / self.parameters.stem

    def executed(self, stage: str) -> Path:
        return self.folder / "notebooks" / f"{stage}.ipynb"

    def start(self, stage: str, *options: str, **environment: str) -> subprocess.Popen:
        self.executed(stage).parent.mkdir(parents=True, exist_ok=True)
        command = ["-m", "papermill", f"notebooks/{self.study}/{stage}.ipynb", self.executed(stage)]
        command += ["-f", self.parameters, *options, "--no-progress-bar"]
        return self._python(*command, **environment)

    def _python(self, *command: str | Path, **environment: str) -> subprocess.Popen:
        surroundings = {
            **os.environ,
            "PYTHONPATH": str(self.tree),
            "CROSSBOOK_RESULTS": str(self.results),
            "OMP_NUM_THREADS": "1",
            "NUMBA_NUM_THREADS": "1",
            **self.environment,
            **environment,
        }
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=self.tree,
            env=surroundings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, stage: str, *options: str) -> tuple[int, str]:
        """Exit code of papermill, and what it said."""
        process = self.start(stage, *options)
        said, _ = process.communicate(timeout=600)
        return process.returncode, said

    def run_cells(self, *stages: str) -> tuple[int, str]:
        """As `run`, but papermill and a kernel a stage: one process has the cells of all stages, and imports once."""
        script = Path(__file__).with_name("cells.py")
        process = self._python(script, self.results, self.study, self.parameters, *stages)
        said, _ = process.communicate(timeout=600)
        return process.returncode, said

    def must_run_cells(self, *stages: str) -> None:
        code, said = self.run_cells(*stages)
        assert code == 0, said[-6000:]

    def must_run(self, *stages: str) -> None:
        for stage in stages:
            code, said = self.run(stage)
            assert code == 0, f"{stage}:\n{said[-6000:]}"

    def kill(self, stage: str, before: str, folder: Path) -> None:
        """Run a stage and kill -9 papermill and its kernel just before the file `before` gets its name."""
        folder.mkdir(parents=True)
        (folder / "sitecustomize.py").write_text(HOLD)
        path = os.pathsep.join([str(folder), str(self.tree)])
        process = self.start(stage, PYTHONPATH=path, HOLD=before, HELD=str(folder / "held"))
        try:
            for _ in range(3000):
                if (folder / "held").exists() or process.poll() is not None:
                    break
                time.sleep(0.1)
            reached = (folder / "held").exists()
        finally:
            # the kernel is in a session of its own, so killing the process group would leave it at work
            kernels = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            for each in [*kernels, process]:
                each.send_signal(signal.SIGKILL)
            said, _ = process.communicate(timeout=60)
            psutil.wait_procs(kernels, timeout=60)
        assert reached, f"{stage} ended before it wrote {before}:\n{said[-6000:]}"
        assert process.returncode == -signal.SIGKILL

    def hashes(self, *patterns: str) -> dict[str, str]:
        """SHA-256 of the files that have their final name."""
        found = {path for pattern in patterns for path in self.folder.glob(pattern) if path.is_file()}
        return {
            path.relative_to(self.folder).as_posix(): sha256_of(path)
            for path in sorted(found)
            if not path.name.startswith(".part-")
        }

    def printed(self, stage: str, name: str) -> str:
        """What the executed notebook holds of `stdout` or `stderr`."""
        cells = nbformat.read(self.executed(stage), as_version=4).cells
        outputs = [output for cell in cells for output in cell.get("outputs", ())]
        return "".join(each.text for each in outputs if each.get("name") == name)


@pytest.fixture(scope="session")
def open_study(checkout, mirror, tmp_path_factory) -> Callable[..., Study]:
    """Function (study, cohort, changed parameters) -> it in a clone of its own; raw files come from the mirror, checksums and all."""

    def cloned(study: str, cohort: str, **changes) -> Study:
        tree = checkout(tmp_path_factory.mktemp(cohort))
        parameters = tree / "params" / study / f"{cohort}.yaml"
        values = yaml.safe_load(parameters.read_text(encoding="utf-8")) | changes
        parameters.write_text(yaml.safe_dump(values, sort_keys=False))
        return Study(tree, tree / "results", parameters, {"CROSSBOOK_MIRROR": str(mirror.resolve())}, study)

    return cloned


@pytest.fixture(scope="session")
def smaller(small, tmp_path_factory) -> Path:
    """A parameter file of the cohort small."""
    path = tmp_path_factory.mktemp("params") / "small.yaml"
    path.write_text(yaml.safe_dump(small, sort_keys=False))
    return path


@pytest.fixture(scope="session")
def whole(checkout, smaller, tmp_path_factory) -> Study:
    """All five notebooks, run one after the other without a break. Not to be changed: see `after`."""
    study = Study(checkout(tmp_path_factory.mktemp("tree")), tmp_path_factory.mktemp("results"), smaller)
    study.must_run(*STAGES)
    return study


@pytest.fixture
def after(whole, tmp_path) -> Callable[..., Study]:
    """Copies of `whole` as it was after a stage, in another place."""
    kept = {
        "1-preprocess": ("cohort.csv", "raw", "sections"),
        "2-embed": ("cohort.csv", "raw", "sections", "features"),
        "5-figures": None,
    }

    def copied(stage: str, name: str = "results") -> Study:
        study = Study(whole.tree, tmp_path / name, whole.parameters)
        for path in whole.folder.iterdir():
            if kept[stage] is None or path.name in kept[stage]:
                target = study.folder / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if path.is_dir() else shutil.copy2)(path, target)
        return study

    return copied
