"""The Snakefile orders the notebooks, asks for resources, and runs again what changed; the notebooks are stood in for."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from lib.params import resources_of

ROOT = Path(__file__).resolve().parents[1]
STAGES = ["1-preprocess", "2-embed", "3-train", "4-evaluate", "5-figures"]
COHORTS = sorted((path.parent.name, path.stem) for path in (ROOT / "params").glob("*/*.yaml"))
# Python finds it in the working directory: the engine is tested, not what it runs. As the first notebook does, it
# fetches a file into data/raw.
STAND_IN = """
import os, pathlib, sys, time

def papermill():
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
        start_new_session=True,
    )


def snakemake(tree: Path, *arguments: str, code: int = 0) -> str:
    """What was said."""
    process = started(tree, *arguments)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == code, said
    return said


def made(said: str) -> list[tuple[str, str, str]]:
    """Study, cohort and run of the notebooks a dry run would execute, in its order."""
    return re.findall(r"^\s+output: results/(\w+)/([\w-]+)/notebooks/([\w.-]+)\.ipynb$", said, re.MULTILINE)


def reasons(tree: Path) -> dict[str, str]:
    """Why a dry run would run which stage."""
    said = snakemake(tree, "--dry-run", "--", "crossfusion_hospital")
    found = re.findall(r"^\s+output: \S+/([\w-]+)\.ipynb$.*?^\s+reason: (.*?)$", said, re.M | re.S)
    assert bool(found) != ("Nothing to be done" in said), said
    return dict(found)


@contextmanager
def changed(path: Path, change: Callable[[bytes], bytes] = lambda content: content + b"\n") -> Iterator[None]:
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
    shutil.copytree(root / "profiles", tree / "profiles")
    values = yaml.safe_load((tree / "params" / "crossfusion" / "luad.yaml").read_text(encoding="utf-8"))
    values |= {"cohort": "hospital", "outcomes": "hospital/outcomes.csv", "slides": "hospital/slides"}
    values |= {"official_folds": "", "clinical_table": "", "clinical": ["age"]}
    with open(tree / "params" / "crossfusion" / "hospital.yaml", "w", encoding="utf-8") as file:
        yaml.safe_dump(values, file)
    (tree / "data" / "raw" / "hospital" / "slides").mkdir(parents=True)
    (tree / "data" / "raw" / "hospital" / "outcomes.csv").write_text("case_id,censorship\np1,0\n")
    (tree / "data" / "raw" / "hospital" / "slides" / "p1.svs").write_text("pixels")
    (tree / "papermill").mkdir()
    (tree / "papermill/__init__.py").touch()
    (tree / "papermill/__main__.py").write_text(STAND_IN)
    snakemake(tree, "--", "crossfusion_hospital")
    return tree


def test_book_runs_demo_and_null_stage_after_stage_and_every_cohort_has_a_target(tree):
    found = made(snakemake(tree, "--dry-run", "book"))
    studies = {path.parent.name for path in (tree / "params").glob("*/demo.yaml")}
    pairs = {(study, cohort) for study, cohort, _ in found}
    assert pairs == {(study, cohort) for study in studies for cohort in ("demo", "null")}
    for study, cohort in pairs:
        stages = sorted(path.stem for path in (ROOT / "notebooks" / study).glob("*.ipynb"))
        assert [run for *which, run in found if which == [study, cohort]] == stages
    assert not (tree / "results" / "spacrd").exists(), "a dry run must not make anything"
    rules = snakemake(tree, "--list-rules").split()
    assert {f"{study}_{cohort}" for study, cohort in COHORTS} | {"book", "stage"} <= set(rules)


def test_long_stages_are_cut_into_shards_and_gathered(tree):
    said = snakemake(tree, "--dry-run", "--printshellcmds", "--config", "shards=2", "--", "spacrd_demo")
    runs = [run for *_, run in made(said)]
    assert sorted(runs) == sorted([*STAGES, "2-embed.0of2", "2-embed.1of2", "3-train.0of2", "3-train.1of2"])
    for stage in ("2-embed", "3-train"):
        assert max(runs.index(f"{stage}.{shard}of2") for shard in range(2)) < runs.index(stage)
    commands = re.findall(r"python -c .*papermill.*", said)
    shares = [re.search(r"-p shard (\d) -p shards 2", command) for command in commands]
    assert sorted(share[1] for share in shares if share) == ["0", "0", "1", "1"]
    for command, share in zip(commands, shares, strict=True):
        assert bool(share) == bool(re.search(r"\.\dof2\.ipynb", command))


def test_unknown_parameter_is_one_sentence_before_snakemake_starts(tree, root):
    """`make run` of the real Makefile, without the set-up."""
    (tree / "Makefile").write_bytes((root / "Makefile").read_bytes())
    (tree / "scripts").mkdir(exist_ok=True)
    with changed(tree / "params" / "spacrd" / "null.yaml", lambda content: content + b"epohcs: 3\n"):
        command = [
            "make",
            "run",
            "STUDY=spacrd",
            "COHORT=null",
            "SETUP=true",
            f"ENV={Path(sys.executable).parents[1]}",
        ]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
        said = snakemake(tree, "spacrd_null", code=1)
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith("params/spacrd/null.yaml: unknown parameter 'epohcs': did you mean '")
    assert re.match(r"make(\[\d+\])?: \*\*\*", second)  # make may have been called by make
    assert "unknown parameter 'epohcs'" in said
    assert not (tree / "results" / "spacrd").exists()


def test_time_left_is_said_with_the_steps_and_the_exit_code_stays(root):
    script = "print('7 of 41 steps (17%) done'); print('41 of 41 steps'); raise SystemExit(3)"
    command = [sys.executable, root / "scripts" / "time_left.py", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3
    expected = "7 of 41 steps (17%) done, about 1 min left at this pace\n41 of 41 steps\n"
    assert done.stdout == expected


def test_every_stage_asks_for_something_and_two_shards_of_sections_fit_a_laptop():
    asked = {(*cohort, stage): resources_of(*cohort, stage) for cohort in COHORTS for stage in STAGES}
    assert all(each.mem_mb >= 1000 and each.minutes >= 30 for each in asked.values())
    demos = [each for (_, cohort, _), each in asked.items() if cohort in ("demo", "null")]
    assert all(each.gpus == 0 and each.threads == 1 and each.mem_mb <= 3000 for each in demos)
    assert 2300 < asked["spacrd", "her2st", "3-train"].mem_mb < 8000, "a shard holds 2.3 GB"
    patterns = yaml.safe_load((ROOT / "params" / "resources.yaml").read_text(encoding="utf-8"))
    assert {stage for stages in patterns.values() for stage in stages} == set(STAGES)


def test_of_resources_the_last_word_counts_key_by_key_and_a_slip_is_told(tmp_path):
    (tmp_path / "params").mkdir()
    file = tmp_path / "params" / "resources.yaml"
    first = "'*/*':\n  3-train: {mem_mb: 1000, minutes: 10, gpus: 1}\n"
    file.write_text(first + "'a/*':\n  3-train: {mem_mb: 2000}\na/b:\n  3-train: {minutes: 30}\n")
    asked = resources_of("a", "b", "3-train", tmp_path)
    assert (asked.mem_mb, asked.minutes, asked.gpus, asked.threads) == (2000, 30, 1, 1)
    assert resources_of("a", "c", "3-train", tmp_path).minutes == 10
    file.write_text(first + "z/z: {3-train: {memory: 1000}}\n")
    with pytest.raises(
        ValueError, match=r"params/resources\.yaml, 3-train of 'z/z': unknown parameter 'memory'"
    ):
        resources_of("a", "d", "3-train", tmp_path)


def test_what_the_first_stage_fetched_is_no_reason_to_run_it_again(tree):
    assert (tree / "data" / "raw" / "hospital" / "slides" / "fetched.svs").exists()
    assert reasons(tree) == {}


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


def test_a_changed_line_of_lib_runs_what_imports_it_and_nothing_else(tree):
    with changed(tree / "lib" / "training" / "runs.py"), changed(tree / "lib" / "spacrd" / "model.py"):
        found = reasons(tree)
    named = {stage: reason for stage, reason in found.items() if "lib/" in reason}
    assert named, found
    assert "1-preprocess" not in found
    assert all("lib/spacrd/model.py" not in reason for reason in named.values())
    assert any("lib/training/runs.py" in reason for reason in named.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "change", "stages"),
    [
        ("data/raw/hospital/outcomes.csv", (b"p1,0", b"p1,1"), STAGES),  # the same length
        ("notebooks/crossfusion/4-evaluate.ipynb", (b"{", b"{ "), STAGES[3:]),
        ("data/published/crossfusion.csv", (b"\n", b"\n\n"), STAGES[4:]),
        ("params/crossfusion/hospital.yaml", (b"epochs: 20", b"epochs: 21"), STAGES),
        ("params/resources.yaml", (b"minutes: 1440", b"minutes: 1441"), []),
    ],
)
def test_a_changed_file_runs_what_rests_on_it(tree, path, change, stages):
    with changed(tree / path, lambda content: content.replace(*change)):
        assert list(reasons(tree)) == stages


@pytest.mark.slow
def test_temporary_folders_go_when_the_last_stage_is_done(tree):
    results = tree / "results" / "crossfusion" / "hospital"
    for name in ("raw", "tiles"):
        (results / name).mkdir()
    snakemake(tree, "--config", "temporary=raw", "--", "crossfusion_hospital")
    assert not (results / "raw").exists()
    assert (results / "tiles").exists()
    said = snakemake(tree, "--config", "temporary=notebooks", "--", "crossfusion_hospital", code=1)
    assert "temporary=notebooks: expected one or more of raw, " in said
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
    os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait(60)
    assert any(marks.iterdir()), "it was killed before or after the stage"
    assert "6 of 6 steps (100%) done" in snakemake(tree, "--", "spacrd_demo")
