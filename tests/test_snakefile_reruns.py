"""What changed is run again, and nothing else; a dry run says which and why. The notebooks are stood in for."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

STAGES = ["1-preprocess", "2-embed", "3-train", "4-evaluate", "5-figures"]
# `python -m papermill` finds it in the working directory: the engine is tested, not what it runs. As the first notebook
# does, it fetches a file into data/raw.
STAND_IN = """
import os, pathlib, sys, time

time.sleep(float(os.environ.get("PAUSE", "0")))
notebook, output = map(pathlib.Path, sys.argv[1:3])
output.write_text(notebook.read_text())
if "hospital" in str(output) and notebook.name == "1-preprocess.ipynb":
    pathlib.Path("data/raw/hospital/slides/fetched.svs").write_text("pixels")
"""


def started(tree: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    """Snakemake, called by somebody who has not activated the environment."""
    surroundings = {name: value for name, value in os.environ.items() if name != "CROSSBOOK_RESULTS"}
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("snakemake")), "--profile", "profiles/local", *arguments],
        cwd=tree,
        env=surroundings | {"PATH": "/usr/bin:/bin"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def snakemake(tree: Path, *arguments: str) -> str:
    """What was said; it must succeed."""
    process = started(tree, *arguments)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def reasons(tree: Path) -> dict[str, str]:
    """Why a dry run would run which stage."""
    said = snakemake(tree, "--dry-run", "--", "crossfusion_hospital")
    found = re.findall(
        r"^\s+output: \S+/([\w-]+)\.ipynb$.*?^\s+reason: (.*?)$", said, re.MULTILINE | re.DOTALL
    )
    assert bool(found) != ("Nothing to be done" in said), said
    return dict(found)


@contextmanager
def changed(path: Path, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """A file with other content, for a while."""
    before = path.read_bytes()
    path.write_bytes(change(before))
    try:
        yield
    finally:
        path.write_bytes(before)


@pytest.fixture(scope="module")
def tree(checkout, root, tmp_path_factory) -> Path:
    """A clone with an own cohort of slides, every stage of which was run."""
    tree = checkout(tmp_path_factory.mktemp("tree"))
    (tree / "profiles" / "local").mkdir(parents=True, exist_ok=True)
    profile = root / "profiles" / "local" / "config.yaml"
    (tree / "profiles" / "local" / "config.yaml").write_bytes(profile.read_bytes())
    values = yaml.safe_load((tree / "params" / "crossfusion" / "luad.yaml").read_text(encoding="utf-8"))
    values |= {"cohort": "hospital", "outcomes": "hospital/outcomes.csv", "slides": "hospital/slides"}
    values |= {"official_folds": "", "clinical_table": "", "clinical": ["age"]}
    with open(tree / "params" / "crossfusion" / "hospital.yaml", "w", encoding="utf-8") as file:
        yaml.safe_dump(values, file)
    (tree / "data" / "raw" / "hospital" / "slides").mkdir(parents=True)
    (tree / "data" / "raw" / "hospital" / "outcomes.csv").write_text("case_id,censorship\np1,0\n")
    (tree / "data" / "raw" / "hospital" / "slides" / "p1.svs").write_text("pixels")
    (tree / "papermill.py").write_text(STAND_IN)
    snakemake(tree, "--", "crossfusion_hospital")
    return tree


def test_what_the_first_stage_fetched_is_no_reason_to_run_it_again(tree):
    assert (tree / "data" / "raw" / "hospital" / "slides" / "fetched.svs").exists()
    assert reasons(tree) == {}


@pytest.mark.slow
def test_more_memory_is_no_reason_to_run_again(tree):
    with open(tree / "params" / "resources.yaml", "a", encoding="utf-8") as file:
        file.write("crossfusion/hospital:\n  3-train: {mem_mb: 128000, minutes: 99}\n")
    assert reasons(tree) == {}
    said = snakemake(tree, "--dry-run", "--forceall", "--", "crossfusion_hospital")
    assert "mem_mb=128000" in said
    assert "runtime=99" in said


def test_a_slide_added_runs_the_first_stage_again_and_those_after_it(tree):
    slide = tree / "data" / "raw" / "hospital" / "slides" / "p2.svs"
    slide.write_text("pixels")
    try:
        found = reasons(tree)
    finally:
        slide.unlink()
    assert list(found) == STAGES
    first, *others = found.values()
    assert first.startswith("Params have changed since last execution")
    assert "2 raw files" in first, "the state before"
    assert "4 raw files" in first, "the state now"
    assert all(reason.startswith("Input files updated by another job") for reason in others)


@pytest.mark.slow
def test_a_changed_outcome_of_the_same_length_is_noticed(tree):
    table = tree / "data" / "raw" / "hospital" / "outcomes.csv"
    with changed(table, lambda content: content.replace(b"p1,0", b"p1,1")):
        assert list(reasons(tree)) == STAGES


@pytest.mark.slow
def test_a_changed_notebook_runs_from_there(tree):
    with changed(tree / "notebooks" / "crossfusion" / "4-evaluate.ipynb", lambda content: content + b"\n"):
        found = reasons(tree)
    assert list(found) == ["4-evaluate", "5-figures"]
    assert found["4-evaluate"] == "Updated input files: notebooks/crossfusion/4-evaluate.ipynb"


def test_a_changed_line_of_lib_runs_what_imports_it_and_nothing_else(tree):
    with (
        changed(tree / "lib" / "statistics" / "concordance.py", lambda content: content + b"\n"),
        changed(tree / "lib" / "models" / "spacrd.py", lambda content: content + b"\n"),
    ):
        found = reasons(tree)
    named = {stage: reason for stage, reason in found.items() if "lib/" in reason}
    assert named, found
    assert "1-preprocess" not in found
    assert all("lib/spacrd/model.py" not in reason for reason in named.values())
    assert any("lib/statistics/concordance.py" in reason for reason in named.values())


@pytest.mark.slow
def test_a_changed_published_value_runs_what_shows_it(tree):
    with changed(tree / "data" / "published" / "crossfusion.csv", lambda content: content + b"\n"):
        found = reasons(tree)
    assert list(found) == ["5-figures"]


@pytest.mark.slow
def test_a_changed_parameter_runs_its_cohort_again(tree):
    with changed(
        tree / "params" / "crossfusion" / "hospital.yaml",
        lambda content: content.replace(b"epochs: 20", b"epochs: 21"),
    ):
        found = reasons(tree)
    assert list(found) == STAGES
    assert "Updated input files: params/crossfusion/hospital.yaml" in found["1-preprocess"]


@pytest.mark.slow
def test_temporary_folders_go_when_the_last_stage_is_done(tree):
    results = tree / "results" / "crossfusion" / "hospital"
    for name in ("raw", "tiles"):
        (results / name).mkdir()
    snakemake(tree, "--config", "temporary=raw", "--", "crossfusion_hospital")
    assert not (results / "raw").exists()
    assert (results / "tiles").exists()
    with pytest.raises(AssertionError, match="temporary=notebooks: expected one or more of raw, "):
        snakemake(tree, "--config", "temporary=notebooks", "--", "crossfusion_hospital")
    assert reasons(tree) == {}


@pytest.mark.slow
def test_a_run_whose_machine_went_off_goes_on_when_called_again(tree):
    """Without profiles/local Snakemake wants --unlock or --rerun-incomplete first."""
    process = started(tree, "--cores", "1", "--", "spacrd_demo", PAUSE="4")
    marks = tree / ".snakemake" / "incomplete"
    for _ in range(600):
        if marks.is_dir() and any(marks.iterdir()):
            break
        time.sleep(0.1)
    process.kill()
    process.stdout.close()
    process.wait(60)
    assert any(marks.iterdir()), "it was killed before or after the stage"
    said = snakemake(tree, "--", "spacrd_demo")
    assert "6 of 6 steps (100%) done" in said
