"""Notebooks that failed or were never run must not reach the book: Quarto would print them and exit with 0."""

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib.study.book.executed import read_executed


def executed():
    cells = [new_markdown_cell("# Train"), new_code_cell("1 + 1", execution_count=1), new_code_cell("")]
    return new_notebook(cells=cells)


def error():
    return new_output("error", ename="ValueError", evalue="no spots", traceback=[])


def unexecuted(notebook):
    notebook.cells[1].execution_count = None


def stopped(notebook):
    notebook.cells[1].outputs = [error()]


def noted(notebook):
    notebook.metadata["papermill"] = {"exception": True}


def noted_in_a_cell(notebook):
    notebook.cells[1].metadata["papermill"] = {"exception": True}


def bannered(notebook):
    notebook.cells.insert(0, new_markdown_cell("error", metadata={"tags": ["papermill-error-cell-tag"]}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (unexecuted, r"x\.ipynb, cell 2 was never executed \('1 \+ 1'\)"),
        (stopped, r"x\.ipynb, cell 2 stopped with ValueError: no spots"),
        (noted, r"x\.ipynb failed"),
        (noted_in_a_cell, r"x\.ipynb, cell 2 failed"),
        (bannered, r"x\.ipynb, cell 1 is papermill's error banner"),
    ],
)
def test_an_unfit_notebook_is_refused_with_file_and_cell(tmp_path, spoil, words):
    notebook = executed()
    nbformat.write(notebook, tmp_path / "x.ipynb")
    assert len(read_executed(tmp_path / "x.ipynb", "x.ipynb").cells) == 3
    spoil(notebook)
    nbformat.write(notebook, tmp_path / "x.ipynb")
    with pytest.raises(ValueError, match=words):
        read_executed(tmp_path / "x.ipynb", "x.ipynb")


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"results/a\.ipynb is missing"):
        read_executed(tmp_path / "a.ipynb", "results/a.ipynb")
    (tmp_path / "a.ipynb").write_text('{"cells": [')
    with pytest.raises(ValueError, match=r"results/a\.ipynb is not a readable notebook"):
        read_executed(tmp_path / "a.ipynb", "results/a.ipynb")


@pytest.mark.filterwarnings("ignore")
def test_what_papermill_itself_leaves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = [
        new_markdown_cell("# Train"),
        new_code_cell("wanted = 1", metadata={"tags": ["parameters"]}),
        new_code_cell("assert wanted == 1"),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), "in.ipynb")
    papermill.execute_notebook("in.ipynb", "good.ipynb", progress_bar=False)
    assert read_executed("good.ipynb", "good").cells[2].execution_count == 2
    with pytest.raises(papermill.PapermillExecutionError):
        papermill.execute_notebook("in.ipynb", "bad.ipynb", {"wanted": 2}, progress_bar=False)
    with pytest.raises(ValueError, match="bad failed"):
        read_executed("bad.ipynb", "bad")
    papermill.execute_notebook("in.ipynb", "prepared.ipynb", prepare_only=True, progress_bar=False)
    with pytest.raises(ValueError, match="prepared, cell 2 was never executed"):
        read_executed("prepared.ipynb", "prepared")
