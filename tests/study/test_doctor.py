"""The doctor: stand-ins for what is missing or broken; it never shows a token, changes nothing and is quick."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from lib.study import doctor, installation, machine
from lib.study.data_at_hand import cohorts
from lib.study.findings import LACKS, OK, STOPS, Finding, as_table

SOURCES = """
cohorts:
  demo: {}
  small: {needs: [one]}
  either: {needs: ["far | one:extra"], wants: [two]}
  slides: {needs: [one]}
  byhand: {needs: [two]}
sources:
  one:
    {title: t, citation: c, doi: null, licence: l, homepage: h, files: [
      {path: a.csv, bytes: 3, verified: false}, {path: b/c.csv, bytes: 200000000, verified: false},
      {path: x.csv, group: extra, verified: false}]}
  two: {title: t, citation: c, doi: null, licence: l, homepage: h, by_hand: draw the labels, files: [
      {path: t.zip, unpack: t, verified: false}]}
  far: {title: t, citation: c, doi: null, licence: l, homepage: h, files: [
      {path: p, verified: false}, {path: q, verified: false}]}
"""


@pytest.fixture
def tree(tmp_path):
    """Parameters and sources of a small repository; its raw files are made by `put`."""
    given = {
        "study/demo": "kind: phantom",
        "study/small": "kind: open",
        "study/either": "kind: open",
        "study/slides": "kind: open\nslides: one/slides/a\nother: {x: one/a.csv, encoder: 'hf-hub:a/b'}",
        "study/byhand": "kind: gated",
        "study/own": "kind: gated",
    }
    for name, text in given.items():
        path = tmp_path / "params" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sources.yaml").write_text(SOURCES)
    return tmp_path


def put(tree, name, size=3):
    path = tree / "raw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)


def state(tree):
    return {each.what.removeprefix("study: "): each for each in cohorts(tree, tree / "raw")}


def test_a_cohort_is_absent_then_in_part_then_present(tree):
    found = state(tree)["small"]
    assert (found.state, found.step) == ("absent: 2 files (0.2 GB)", "make data COHORT=small.")
    put(tree, "one/a.csv")
    assert state(tree)["small"].state == "partly: 1 of 2 files"
    put(tree, "one/b/c.csv", 199_999_999)  # cut short
    assert state(tree)["small"].state == "partly: 1 of 2 files"
    put(tree, "one/b/c.csv", 200_000_000)
    assert state(tree)["small"] == Finding("study: small", "present: 2 files, by size")


def test_of_alternatives_the_nearer_counts_with_its_group(tree):
    put(tree, "one/a.csv")
    put(tree, "one/b/c.csv", 200_000_000)
    assert state(tree)["either"].state == "partly: 2 of 3 files"
    put(tree, "one/x.csv", 5)
    assert state(tree)["either"].state == "present: 3 files, by size; without two, which it can do without"
    assert state(tree)["either"].mark == OK


def test_phantoms_need_nothing_and_own_files_are_said_to_be_that(tree):
    found = state(tree)
    assert found["demo"].state == "made from a seed, no files needed"
    assert found["own"].state.startswith("your own files")
    assert "params/study/own.yaml" in found["own"].step


def test_what_the_parameters_name_and_is_not_there_is_named(tree):
    put(tree, "one/a.csv")
    put(tree, "one/b/c.csv", 200_000_000)
    found = state(tree)["slides"]
    assert found.state == "present: 2 files, by size; not here: one/slides/a"
    assert (
        "lib.data --slides results/study/slides/slides.csv --into data/raw/one/slides/a" in found.step
    )
    (tree / "raw/one/slides/a").mkdir(parents=True)
    assert state(tree)["slides"].mark == OK


def test_an_archive_that_was_unpacked_and_removed_is_there(tree):
    assert state(tree)["byhand"].state == "absent: 1 file"
    assert state(tree)["byhand"].step == "make data COHORT=byhand. By hand: draw the labels."
    (tree / "raw/two/t").mkdir(parents=True)
    assert state(tree)["byhand"].state == "present: 1 file, by size"
    assert state(tree)["byhand"].step == "By hand: draw the labels."


def project(folder, lock):
    (folder / "pyproject.toml").write_text('[project]\ndependencies = ["Num_Py>=2", "torch==2.13.0"]\n')
    (folder / "requirements.lock").write_text(lock)
    return folder


@pytest.mark.parametrize(
    ("have", "states", "marks"),
    [
        ({"num-py": "2.1", "torch": "2.13.0+cpu", "z": "1"}, ["all 2 there", "all 3 as in requirements.lock"], [OK, OK]),
        ({"num-py": "2.2", "torch": "2.13.0"}, ["all 2 there", "1 other: num-py 2.2 instead of 2.1; 1 missing: z"], [OK, LACKS]),
        ({"num-py": "2.1", "z": "1"}, ["1 of 2 missing: torch", "all 3 as in requirements.lock"], [STOPS, OK]),
    ],
)  # fmt: skip
def test_the_lock_is_compared_without_the_local_part(tmp_path, have, states, marks):
    found = installation.packages(project(tmp_path, "num-py==2.1\ntorch==2.13.0\nz==1\n"), have)
    assert [each.state for each in found] == states
    assert [each.mark for each in found] == marks


def said(text, code=0):
    """A stand-in for the process that imports torch."""
    line = f"import sys; print({text!r}); print('why', file=sys.stderr); sys.exit({code})"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", line], **pipes)


def about(**changed):
    return {"version": "2.13.0", "built_for": "", "gpus": [], "mps": False, "extension": True} | changed


def test_a_gpu_is_named_with_its_memory():
    words = about(built_for="12.8", gpus=[["NVIDIA X", 24e9], ["NVIDIA X", 24e9]])
    torch, vision, gpu = installation.torch_and_gpu(said(json.dumps(words)), {"torch": "2.13.0"})
    assert torch.state == "2.13.0, built for 12.8"
    assert gpu.state == "NVIDIA X (24 GB), NVIDIA X (24 GB)"
    assert {torch.mark, vision.mark, gpu.mark} == {OK}


def test_a_driver_beside_a_torch_without_cuda_is_told(monkeypatch):
    monkeypatch.setattr(installation.shutil, "which", lambda name, path=None: f"/usr/bin/{name}")
    gpu = installation.torch_and_gpu(said(json.dumps(about())), {"torch": "2.13.0"})[2]
    assert "without CUDA" in gpu.state
    assert gpu.mark == LACKS


def test_the_torchvision_trap_is_told(monkeypatch):
    have = {"torch": "2.13.0", "torchvision": "0.28.0"}
    monkeypatch.setattr(installation.metadata, "requires", lambda name: ["numpy", "torch==2.13.0"])
    found = installation.torch_and_gpu(said(json.dumps(about(extension=False))), have)[1]
    assert "lib stands in for its extension" in found.state
    found = installation.torch_and_gpu(said(json.dumps(about(version="2.12.1+cpu"))), have)[1]
    assert (found.state, found.mark) == ("0.28.0 is made for torch 2.13.0, not 2.12.1+cpu", LACKS)
    found = installation.torch_and_gpu(said(json.dumps(about(extension=None))), have)[1]
    assert (found.state, found.mark) == ("not installed", STOPS)


def test_a_torch_that_is_absent_or_broken_stops_with_its_reason():
    assert installation.torch_and_gpu(said(""), {}) == [
        Finding("torch", "not installed", "make setup", STOPS)
    ]
    broken = installation.torch_and_gpu(said("", 1), {"torch": "2.13.0"})
    assert (broken[0].state, broken[0].mark) == ("cannot be imported: why", STOPS)


def test_tokens_are_named_and_never_shown(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret_value")
    monkeypatch.delenv("GDC_TOKEN", raising=False)
    hub, gdc = installation.tokens()
    assert (hub.state, hub.mark) == ("set, not shown", OK)
    assert (gdc.state, gdc.mark) == ("not set", LACKS)


def test_no_quarto_says_what_comes_instead(monkeypatch):
    monkeypatch.setattr(installation.shutil, "which", lambda name, path=None: None)
    found = installation.quarto()
    assert (found.state, found.mark) == ("not found", LACKS)
    assert "preview" in found.step


def test_a_results_folder_that_takes_no_file_stops(tmp_path, monkeypatch):
    monkeypatch.delenv("CROSSBOOK_RESULTS", raising=False)
    assert [each.mark for each in machine.results_place(tmp_path / "new" / "results")] == [OK, OK]
    assert list(tmp_path.iterdir()) == []

    def refuse(**_):
        raise PermissionError("read-only")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refuse)
    assert machine.results_place(tmp_path)[1] == Finding(
        "writing to results/",
        "refused",
        "change the folder's owner or mode, or set CROSSBOOK_RESULTS to a folder of yours",
        STOPS,
    )


@pytest.mark.parametrize(("free", "mark"), [(0.9e9, STOPS), (1.1e9, LACKS), (4e9, OK)])
def test_a_full_disk_stops(tmp_path, monkeypatch, free, mark):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: Usage(free))
    assert machine.results_place(tmp_path)[0].mark == mark


class Usage:
    def __init__(self, free):
        self.free = free


@pytest.mark.parametrize(("total", "mark"), [(2e9, LACKS), (4e9, OK)])
def test_little_memory_is_told(monkeypatch, total, mark):
    monkeypatch.setattr(machine, "memory_bytes", lambda: (total, total / 2))
    assert machine.memory().mark == mark


def test_a_check_that_fails_is_a_line_and_the_others_go_on(monkeypatch, root):
    def fails():
        raise OSError("no such thing")

    monkeypatch.setattr(machine, "memory", fails)
    monkeypatch.setattr(installation, "start_probe", lambda root: said(json.dumps(about())))
    found = {each.what: each for each in doctor.findings(root)}
    assert found["memory"] == Finding("memory", "cannot be looked at: OSError: no such thing", "", LACKS)
    assert found["spacrd: demo, null, transfer"].mark == OK


def test_the_exit_code_says_whether_a_demo_can_run():
    fine = [Finding("a", "b"), Finding("c", "d", "e", LACKS)]
    assert doctor.verdict(fine)[1] == 0
    words, code = doctor.verdict([*fine, Finding("torch", "gone", "make setup", STOPS)])
    assert code == 1
    assert "torch" in words


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_table_is_plain_text_that_fits_and_loses_nothing(width):
    found = [Finding("what", "state " * 20, "make data --dry-run " * 5, LACKS), Finding("short", "fine")]
    text = as_table(found, width)
    assert max(map(len, text.splitlines())) <= max(60, width)
    assert text.count("state") == 21
    assert text.count("--dry-run") == 5


def test_without_any_package_it_still_runs_and_says_so(root):
    done = run(root, "-S")
    assert done.returncode == 1
    assert done.stderr == ""
    assert "42 of 42 missing" in done.stdout or "missing: jupyterlab" in done.stdout
    assert "cannot be looked at without yaml" in done.stdout


def test_it_is_quick_shows_no_token_and_no_path_and_changes_nothing(root):
    before = {path: path.stat().st_mtime_ns for path in root.iterdir() if path.is_file()}
    start = processor_seconds()
    done = run(root, HF_TOKEN="hf_planted_secret", GDC_TOKEN="gdc_planted_secret")
    took = processor_seconds() - start
    assert done.returncode == 0, done.stdout + done.stderr
    assert "planted_secret" not in done.stdout + done.stderr
    assert str(root) not in done.stdout
    assert str(Path.home()) not in done.stdout
    assert took < 6  # of the processor, whose clock other work does not hurry: 2.4 s measured
    assert before == {path: path.stat().st_mtime_ns for path in root.iterdir() if path.is_file()}


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(root, *flags, **variables):
    return subprocess.run(
        [sys.executable, *flags, "-m", "lib.study.doctor"],
        cwd=root,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "120", **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
