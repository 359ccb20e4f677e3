"""A small cohort in trees of its own, run by Snakemake here and by a real Slurm."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from slurm import Slurm, install
from small import STAGES, Tree

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def small_tree(checkout, small) -> Callable[[Path], Tree]:
    """A new clone with the parameters and resources of the small cohort, and nothing run."""

    def made(folder: Path) -> Tree:
        tree = Tree(checkout(folder))
        shutil.copytree(ROOT / "profiles", folder / "profiles", dirs_exist_ok=True)
        values = small | {"models": ["marker-smoothed", "spacrd"]}
        with open(folder / "params" / "spacrd" / "small.yaml", "w", encoding="utf-8") as file:
            yaml.safe_dump(values, file, sort_keys=False)
        with open(folder / "params" / "resources.yaml", "a", encoding="utf-8") as file:
            yaml.safe_dump(
                {"spacrd/small": {stage: {"mem_mb": 1500, "minutes": 20} for stage in STAGES}}, file
            )
        return tree

    return made


@pytest.fixture(scope="session")
def local(small_tree, tmp_path_factory) -> Tree:
    """The small cohort as one machine makes it, without shards. Not to be changed."""
    tree = small_tree(tmp_path_factory.mktemp("local"))
    code, said = tree.run("--cores", "1", "--", "spacrd_small")
    assert code == 0, said[-6000:]
    return tree


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A Slurm of one node, or the reason why there is none."""
    if reason := install():
        pytest.skip(f"no real Slurm: {reason}")
    # pytest's own folders have names too long for a socket
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        with Slurm(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)
