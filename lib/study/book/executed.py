"""An executed notebook, refused unless it ran from the first cell to the last."""

import os
from pathlib import Path

import nbformat
from nbformat import NotebookNode


def read_executed(path: str | os.PathLike, name: str) -> NotebookNode:
    """Read a notebook that papermill executed from the first cell to the last.

    Parameters
    ----------
    path : path
        The executed notebook.
    name : str
        What to call it in errors, e.g. ``"results/spacrd/demo/notebooks/3-train.ipynb"``.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ValueError
        If it is no notebook, failed, or holds a code cell that was never run: the renderer would
        print any of these without a word.
    """
    try:
        notebook = nbformat.read(Path(path), as_version=4)
    except FileNotFoundError:
        raise FileNotFoundError(f"{name} is missing: run its stage before the book.") from None
    except Exception as error:
        raise ValueError(f"{name} is not a readable notebook ({error}): run its stage again.") from error
    if notebook.metadata.get("papermill", {}).get("exception"):
        raise ValueError(
            f"{name} failed: papermill noted an exception; mend the cause and run the stage again."
        )
    for number, cell in enumerate(notebook.cells, 1):
        where = f"{name}, cell {number}"
        if "papermill-error-cell-tag" in cell.metadata.get("tags", []):
            raise ValueError(f"{where} is papermill's error banner: the stage failed; run it again.")
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            if output.output_type == "error":
                raise ValueError(
                    f"{where} stopped with {output.ename}: {output.evalue}; run the stage again."
                )
        if cell.metadata.get("papermill", {}).get("exception"):
            raise ValueError(f"{where} failed: papermill noted an exception; run the stage again.")
        if cell.source.strip() and cell.execution_count is None:
            raise ValueError(
                f"{where} was never executed ('{_first_line(cell.source)}'): run the stage again."
            )
    return notebook


def _first_line(source: str) -> str:
    return next((line for line in source.splitlines() if line.strip()), "")
