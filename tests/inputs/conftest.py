"""Small raw trees in real layouts, made once; tests that spoil one copy it first."""

import shutil
from pathlib import Path

import pytest

from lib.spacrd.phantom import write_cohort


@pytest.fixture(scope="session")
def st_tree(tmp_path_factory) -> Path:
    """Two patients, A and B, one section each, in the layout of HER2ST."""
    folder = tmp_path_factory.mktemp("st")
    write_cohort(folder, seed=5, patients=2, spots_side=8, genes=60)
    return folder


@pytest.fixture(scope="session")
def visium_tree(tmp_path_factory) -> Path:
    """Patients VA and VB, one Space Ranger folder each."""
    folder = tmp_path_factory.mktemp("visium")
    write_cohort(folder, seed=5, patients=2, spots_side=8, genes=60, platform="visium")
    return folder


@pytest.fixture
def st(st_tree, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(st_tree, tmp_path / "st"))


@pytest.fixture
def visium(visium_tree, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(visium_tree, tmp_path / "visium"))
