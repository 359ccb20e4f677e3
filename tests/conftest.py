"""Fixtures every room shares."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

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
