"""The Snakefile orders the notebooks and checks the parameters before any of them runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = ["1-preprocess", "2-embed", "3-train", "4-evaluate", "5-figures"]


def snakemake(tree: Path, *arguments: str) -> tuple[int, str]:
    """Exit code, and what was said on both channels."""
    environment = {name: value for name, value in os.environ.items() if name != "CROSSBOOK_RESULTS"}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", *arguments],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def tree(checkout, tmp_path_factory) -> Path:
    """A clone in which nothing was run yet."""
    return checkout(tmp_path_factory.mktemp("tree"))


def made(said: str) -> list[tuple[str, str, str]]:
    """Study, cohort and run of the notebooks a dry run would execute, in its order."""
    return re.findall(r"^\s+output: results/(\w+)/([\w-]+)/notebooks/([\w.-]+)\.ipynb$", said, re.MULTILINE)


def test_book_runs_demo_and_null_stage_after_stage(tree):
    code, said = snakemake(tree, "--dry-run", "book")
    assert code == 0, said
    found = made(said)
    studies = {path.parent.name for path in (tree / "params").glob("*/demo.yaml")}
    assert studies >= {"crossfusion", "spacrd"}
    pairs = {(study, cohort) for study, cohort, _ in found}
    assert pairs == {(study, cohort) for study in studies for cohort in ("demo", "null")}
    for study, cohort in pairs:
        stages = sorted(path.stem for path in (ROOT / "notebooks" / study).glob("*.ipynb"))
        assert [run for *which, run in found if which == [study, cohort]] == stages
    assert not (tree / "results").exists(), "a dry run must not make anything"


def test_lint_is_clean(tree):
    code, said = snakemake(tree, "--lint")
    assert code == 0, said


def test_every_cohort_has_a_target(tree):
    code, said = snakemake(tree, "--list-rules")
    assert code == 0, said
    wanted = {f"{path.parent.name}_{path.stem}" for path in (tree / "params").glob("*/*.yaml")}
    assert {"spacrd_demo", "spacrd_null", "spacrd_her2st"} <= wanted
    assert wanted | {"book", "stage"} <= set(said.split())


def test_long_stages_are_cut_into_shards_and_gathered(tree):
    arguments = ("--dry-run", "--printshellcmds", "--config", "shards=2", "--", "spacrd_demo")
    code, said = snakemake(tree, *arguments)
    assert code == 0, said
    runs = [run for *_, run in made(said)]
    assert sorted(runs) == sorted([*STAGES, "2-embed.0of2", "2-embed.1of2", "3-train.0of2", "3-train.1of2"])
    for stage in ("2-embed", "3-train"):
        assert max(runs.index(f"{stage}.{shard}of2") for shard in range(2)) < runs.index(stage)
    commands = re.findall(r"python -m papermill .*", said)
    shares = [re.search(r"-p shard (\d) -p shards 2", command) for command in commands]
    assert sorted(share[1] for share in shares if share) == ["0", "0", "1", "1"]
    for command, share in zip(commands, shares, strict=True):
        assert bool(share) == bool(re.search(r"\.\dof2\.ipynb", command))


def test_unknown_key_stops_before_any_job(checkout, tmp_path):
    tree = checkout(tmp_path)
    with open(tree / "params" / "spacrd" / "null.yaml", "a") as file:
        file.write("epohcs: 3\n")
    code, said = snakemake(tree, "book")
    assert code != 0
    assert "params/spacrd/null.yaml: unknown parameter 'epohcs': did you mean '" in said
    assert not (tree / "results").exists()


def test_unknown_cohort_is_no_target(tree):
    code, said = snakemake(tree, "--dry-run", "spacrd_her2ts")
    assert code != 0
    assert "spacrd_her2ts" in said
