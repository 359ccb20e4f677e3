"""Fixtures every room shares."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # not by the environment, which the notebooks of tests would take over

import matplotlib.pyplot as plt
import pytest
import yaml

from lib.figures import style

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return ROOT


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real material named by CROSSBOOK_MIRROR, or the one beside the checkout."""
    folder = Path(os.environ.get("CROSSBOOK_MIRROR") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data: CROSSBOOK_MIRROR is not set and {folder.name} is not beside the checkout")
    return folder


@pytest.fixture(scope="session")
def mirrored(mirror) -> Callable[[str], Path]:
    """Function: a folder or file of the mirror, by its place; where it is not there the test is skipped."""

    def found(place: str) -> Path:
        if not (mirror / place).exists():
            pytest.skip(f"the mirror has no {place}")
        return mirror / place

    return found


@pytest.fixture(scope="session")
def checkout() -> Callable[[Path], Path]:
    """Copy what runs (no results, no raw data) into a new folder, where a test may change it and leave results."""

    def copied(folder: Path) -> Path:
        for name in ("benchmarks", "lib", "notebooks", "params", "data"):
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("raw", ".*", "__pycache__")
            )
        for name in ("Snakefile", "environment.yml", "pyproject.toml"):
            shutil.copy2(ROOT / name, folder / name)
        return folder

    return copied


@pytest.fixture(scope="session")
def small() -> dict:
    """SpaCRD's demo, made smaller than even a reader would wait for, as the cohort small."""
    values = yaml.safe_load((ROOT / "params" / "spacrd" / "demo.yaml").read_text(encoding="utf-8"))
    values["phantom"] |= {"seed": 7, "patients": 3, "spots_side": 10, "effect": 1.0}
    values |= {"cohort": "small", "genes": 100, "seeds": [1], "first_seed_only": [], "bootstrap_draws": 100}
    values |= {"contrastive_epochs": 2, "fusion_epochs": 1, "classifier_epochs": 2}
    return values | {"models": ["marker-smoothed", "linear-both-smoothed", "concatenation", "spacrd"]}


@pytest.fixture
def ax():
    """Axes of a fresh figure in the book's look."""
    with matplotlib.rc_context(style.RC):
        yield plt.subplots()[1]
    plt.close("all")


@pytest.fixture
def words():
    """Function: every text drawn on axes, its key, ticks and notes included."""

    def found(ax) -> str:
        ax.figure.canvas.draw()
        return "\n".join(text.get_text() for text in ax.findobj(matplotlib.text.Text))

    return found
