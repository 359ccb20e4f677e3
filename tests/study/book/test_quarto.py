"""The Quarto program, and the warnings it exits with 0 on."""

import json
import sys

import pytest

from lib.study.book import quarto

needs_quarto = pytest.mark.skipif(quarto.find_quarto() is None, reason="no quarto program on this machine")


@pytest.fixture
def only_path(tmp_path, monkeypatch):
    """A PATH with one folder, and a Python that has no quarto beside it."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "venv").mkdir()
    return tmp_path


def program(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_no_program_is_no_quarto(only_path):
    assert quarto.find_quarto() is None


def test_a_program_that_does_not_run_is_no_quarto(only_path):
    program(only_path / "bin" / "quarto", "exit 1")
    assert quarto.find_quarto() is None


def test_the_program_beside_python_comes_first(only_path):
    program(only_path / "bin" / "quarto", "echo 1.0")
    assert quarto.find_quarto() == (str(only_path / "bin" / "quarto"), "1.0")
    program(only_path / "venv" / "quarto", "echo 2.0")
    assert quarto.find_quarto() == (str(only_path / "venv" / "quarto"), "2.0")


def test_warnings_are_found_in_log_and_stderr():
    log = [
        {"msg": "[1/2] index.qmd", "levelName": "INFO"},
        {"msg": "Unable to resolve crossref @fig-x\n", "levelName": "WARN"},
        {"msg": "Shortcode 'embed' not found", "levelName": "INFO"},
    ]
    stderr = "Output created\n[WARNING] Citeproc: citation nobody not found\n"
    assert quarto.complaints("\n\n".join(map(json.dumps, log)), stderr) == [
        "quarto warns: Unable to resolve crossref @fig-x",
        "quarto warns: Shortcode 'embed' not found",
        "pandoc warns: [WARNING] Citeproc: citation nobody not found",
    ]


def project(folder, text):
    (folder / "_quarto.yml").write_text(
        "project: {type: book, output-dir: _book}\nbook: {title: T, chapters: [index.qmd]}\n"
        "bibliography: a.bib\nformat: {html: {theme: none}}\n"
    )
    (folder / "a.bib").write_text("@misc{somebody, title={T}, author={A, B}}\n")
    (folder / "index.qmd").write_text(text)
    return folder


@needs_quarto
def test_what_quarto_lets_pass_is_told(tmp_path):
    found = quarto.find_quarto()[0]
    folder = project(tmp_path, "# T\n\nSee @fig-none and [@nobody] and [@somebody].\n")
    site, complaints = quarto.render(found, folder, tmp_path / "log")
    assert (site / "index.html").is_file()
    assert len(complaints) == 2
    assert "fig-none" in complaints[0]
    assert "nobody" in complaints[1]
    (folder / "_quarto.yml").write_text("project: {type: book}\nbook: {titel: T}\n")
    with pytest.raises(RuntimeError, match="quarto exited with 1"):
        quarto.render(found, folder, tmp_path / "log")
