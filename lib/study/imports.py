"""Which files of `lib` a notebook or a module rests on, read from their import statements without importing anything."""

import ast
import json
import re
from functools import cache
from pathlib import Path

from lib.study.params import ROOT


@cache
def code_of(notebook: Path, root: Path = ROOT) -> tuple[Path, ...]:
    """The files of `lib` that a notebook imports, with all that these import in turn.

    Imports inside functions count, and so do the packages' `__init__.py`. A module that is imported by a name made at
    run time would be missed: `lib` has none.

    Parameters
    ----------
    notebook : path
    root : path, optional
        Where `lib` lies.

    Returns
    -------
    tuple of path
        Sorted, below `root`; read once a process, for thousands of jobs ask for the same notebook.

    Raises
    ------
    ValueError
        The notebook is no notebook, or a cell is no Python.
    """
    waiting, found = list(_imported_by(notebook)), set()
    while waiting:
        for file in _files(waiting.pop(), root):
            if file not in found:
                found.add(file)
                waiting += _imported_by(file)
    return tuple(sorted(found))


def imported(tree: ast.AST) -> set[str]:
    """Names of modules of `lib` in import statements; of `from lib.a import b`, both `lib.a` and `lib.a.b`.

    A text that is nothing but such a name counts too: `python -m` in another process.
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
        elif isinstance(node, ast.Constant) and re.fullmatch(r"lib(\.\w+)+", str(node.value)):
            names.add(node.value)
    return {name for name in names if name.split(".")[0] == "lib"}


@cache
def _imported_by(path: Path) -> frozenset[str]:
    text = path.read_text(encoding="utf-8")
    try:
        return frozenset(imported(ast.parse(_cells(text) if path.suffix == ".ipynb" else text)))
    except (ValueError, SyntaxError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: its imports cannot be read ({error}); expected cells of Python") from None


def _cells(text: str) -> str:
    """A notebook's code in one piece, without IPython's own lines."""
    cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    lines = "\n".join(cell if isinstance(cell, str) else "".join(cell) for cell in cells).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def _files(name: str, root: Path) -> list[Path]:
    """The module's file, a table of the same name beside it, and the `__init__.py` of the packages it lies in."""
    parts = name.split(".")
    folders = [root.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
    files = [folder / "__init__.py" for folder in folders] + [
        folders[-1].with_suffix(suffix) for suffix in (".py", ".csv")
    ]
    return [file for file in files if file.is_file()]
