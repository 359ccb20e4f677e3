"""The doctor: stand-ins for what is missing or broken; it never shows a token, changes nothing and is quick."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lib import doctor
from lib.doctor import LACKS, OK, STOPS, Finding, cohorts

SOURCES = """
cohorts:
  small: {needs: [one]}
  either: {needs: ["far | one:extra"]}
  slides: {needs: [one]}
  byhand: {needs: [two]}
sources:
  one:
    {title: t, citation: c, doi: null, licence: l, homepage: h, files: [
      {path: a.csv, bytes: 3, verified: false}, {path: b/c.csv, bytes: 200, verified: false},
      {path: x.csv, group: extra, verified: false}]}
  two: {title: t, citation: c, doi: null, licence: l, homepage: h, by_hand: draw the labels, files: [
      {path: t.zip, unpack: t, verified: false}]}
  far: {title: t, citation: c, doi: null, licence: l, homepage: h, files: [
      {path: p, verified: false}, {path: q, verified: false}]}
"""


@pytest.fixture
def tree(tmp_path):
    """Parameters and sources of a small repository; its raw files are made by `put`."""
    given = dict.fromkeys(("small", "either", "byhand", "own"), "kind: open")
    given |= {"demo": "kind: phantom", "slides": "kind: open\nslides: one/slides/a"}
    for name, text in given.items():
        path = tmp_path / "params" / "study" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sources.yaml").write_text(SOURCES)
    return tmp_path


def put(tree, name, size=3):
    path = tree / "raw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"0" * size)


def state(tree):
    return {each.what.removeprefix("study/"): each for each in cohorts(tree, tree / "raw")}


def test_a_cohort_is_absent_then_in_part_then_present(tree):
    assert state(tree)["small"] == Finding("study/small", "0 of 2 files", "make data COHORT=small", LACKS)
    put(tree, "one/a.csv")
    put(tree, "one/b/c.csv", 199)  # cut short
    assert state(tree)["small"].state == "1 of 2 files"
    assert state(tree)["either"].state == "1 of 3 files", "the nearer of two alternatives, with its group"
    put(tree, "one/b/c.csv", 200)
    assert state(tree)["small"] == Finding("study/small", "2 of 2 files")
    found = state(tree)["slides"]
    assert (found.state, found.mark) == ("2 of 2 files, no slides", LACKS)
    assert "lib.data --slides results/study/slides/slides.csv --into data/raw/one/slides/a" in found.step
    (tree / "raw/one/slides/a").mkdir(parents=True)
    assert state(tree)["slides"].mark == OK


def test_own_files_are_said_to_be_that_phantoms_need_none_and_an_archive_may_be_removed(tree):
    found = state(tree)
    assert "demo" not in found
    assert (found["own"].state, found["own"].mark) == ("your own files", LACKS)
    assert "draw the labels" in found["byhand"].step
    (tree / "raw/two/t").mkdir(parents=True)
    assert state(tree)["byhand"].state == "1 of 1 files"


@pytest.mark.parametrize(
    ("have", "marks"),
    [
        ({"num-py": "2.1", "torch": "2.13.0+cpu", "z": "1"}, [OK]),
        ({"num-py": "2.2", "torch": "2.13.0"}, [OK, LACKS]),
        ({"num-py": "2.1", "z": "1"}, [STOPS, LACKS]),
    ],
)
def test_the_lock_is_compared_without_the_local_part(tmp_path, have, marks):
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["Num_Py>=2", "torch==2.13.0"]\n')
    (tmp_path / "requirements.lock").write_text("num-py==2.1\ntorch==2.13.0\nz==1\n")
    assert [each.mark for each in doctor.packages(tmp_path, have)] == marks


def torch_says(monkeypatch, words="", code=0):
    answer = SimpleNamespace(returncode=code, stdout=json.dumps(words), stderr="a\nwhy")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: answer)
    return list(doctor.torch_and_gpu(Path()))


def test_torch_and_the_gpu(monkeypatch):
    words = torch_says(monkeypatch, ["2.13.0", "0.28", "12.8", ["NVIDIA X (24 GB)"]])
    assert [each.state for each in words] == ["2.13.0, torchvision 0.28", "NVIDIA X (24 GB)"]
    monkeypatch.setattr(doctor.shutil, "which", lambda name, path=None: f"/usr/bin/{name}")
    assert torch_says(monkeypatch, ["2.13.0", "0.28", "", []])[1].mark == LACKS, (
        "a driver, and torch without CUDA"
    )
    broken = torch_says(monkeypatch, code=1)
    assert [(each.state, each.mark) for each in broken] == [("cannot be imported: why", STOPS)]


def test_a_results_folder_that_takes_no_file_and_a_full_disk_stop(tmp_path, monkeypatch):
    monkeypatch.delenv("CROSSBOOK_RESULTS", raising=False)
    for free, mark in ((0.9e9, STOPS), (1.1e9, LACKS), (4e9, OK)):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert {each.what: each.mark for each in doctor.machine(tmp_path)}["disk for results/"] == mark
    assert all(each.mark != STOPS for each in doctor.machine(tmp_path / "new" / "results"))
    assert list(tmp_path.iterdir()) == []

    def refuse(**_):
        raise PermissionError("read-only")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    last = list(doctor.machine(tmp_path))[-1]
    assert (last.what, last.state, last.mark) == ("writing to results/", "refused", STOPS)


def test_a_check_that_fails_is_a_line_and_the_others_go_on(monkeypatch, root):
    def machine(*_):
        raise OSError("no such thing")

    monkeypatch.setattr(doctor, "machine", machine)
    monkeypatch.setattr(doctor, "torch_and_gpu", lambda root: iter([Finding("torch", "2")]))
    found = {each.what: each for each in doctor.findings(root)}
    assert found["machine"] == Finding("machine", "cannot be looked at: OSError: no such thing", "", LACKS)
    assert found["spacrd/her2st"].state.endswith("of 63 files")


def test_without_any_package_it_still_runs_and_says_so(root):
    done = run(root, "-S")
    assert (done.returncode, done.stderr) == (1, "")
    assert "STOP packages" in done.stdout
    assert "No module named 'yaml'" in " ".join(done.stdout.split())


def test_it_shows_no_token_and_no_path_and_changes_nothing(root):
    before = {path: path.stat().st_mtime_ns for path in root.iterdir() if path.is_file()}
    done = run(root, HF_TOKEN="hf_planted_secret", GDC_TOKEN="gdc_planted_secret")
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "A demo can run here" in said
    assert not any(word in said for word in ("planted_secret", str(root), str(Path.home())))
    assert before == {path: path.stat().st_mtime_ns for path in root.iterdir() if path.is_file()}


def run(root, *flags, **variables):
    return subprocess.run(
        [sys.executable, *flags, "-m", "lib.doctor"],
        cwd=root,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "120", **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
