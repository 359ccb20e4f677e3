"""Fixtures every room shares."""

import os
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
