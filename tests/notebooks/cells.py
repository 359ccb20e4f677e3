"""Notebooks' code cells, run in the tests' own process: what a kernel would do, in less time."""

import ast
import base64
import io
import shutil
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from threadpoolctl import threadpool_limits

import lib.data
import lib.stage  # noqa: F401  both take the repository's folder when they are imported
from lib.figures import style
from lib.files import sha256_of

ROOT = Path(__file__).resolve().parents[2]
STAGES = ["1-preprocess", "2-embed", "3-train", "4-evaluate", "5-figures"]
TEXT = {"patient": str, "slide": str, "fold": str}


class Cells:
    """The code cells of a study's notebooks, run here one after another.

    `begin` looks at the cells run so far, as a kernel keeps them in `In`; papermill's own cell is one of them. With
    `pages`, `executed` holds each stage's notebook with what its cells printed, displayed, ended with and drew.
    """

    def __init__(
        self,
        tree: Path,
        results: Path,
        values: Mapping,
        study: str,
        patterns: Sequence[str] = ("**/*",),
        pages: bool = False,
    ):
        self.tree, self.values, self.study, self.patterns = tree, dict(values), study, patterns
        self.pages, self.executed = pages, {}
        if not (tree / "lib").exists():
            (tree / "lib").symlink_to(ROOT / "lib")
        if not (tree / "data" / "published").exists():
            shutil.copytree(ROOT / "data" / "published", tree / "data" / "published")
        self.folder = results / study / values["cohort"]

    def run(self, *stages: str, **changes) -> str:
        """What the stages printed."""
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, mpl.rc_context(), threadpool_limits(1):
            patch.setenv("CROSSBOOK_RESULTS", str(self.folder.parents[1]))
            for module in ("params", "stage"):
                patch.setattr(f"lib.{module}.ROOT", self.tree)
            mpl.use("agg")
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                for stage in stages:
                    self._notebook(stage, self.values | changes, said)
            finally:
                torch.set_num_threads(threads)
                plt.close("all")
        return said.getvalue()

    def _notebook(self, stage: str, values: dict, said: io.StringIO) -> None:
        notebook = nbformat.read(ROOT / "notebooks" / self.study / f"{stage}.ipynb", as_version=4)
        cells = []
        for cell in notebook.cells:
            cells.append(cell)
            if "parameters" in cell.metadata.get("tags", ()):
                given = "\n".join(f"{name} = {value!r}" for name, value in values.items())
                cells.append(nbformat.v4.new_code_cell(f"# Parameters\n{given}"))
                cells[-1].metadata["tags"] = ["injected-parameters"]
        notebook.cells = cells
        namespace = {"__name__": "__main__", "In": []}
        for cell in cells:
            if cell.cell_type == "code":
                namespace["In"].append(cell.source)
                cell.outputs, cell.execution_count = self._cell(cell.source, stage, namespace, said), 1
        if self.pages:
            self.executed[stage] = notebook

    def _cell(self, source: str, stage: str, namespace: dict, said: io.StringIO) -> list:
        """What a cell shows; without `pages`, nothing is looked at but what it prints."""
        printed, shown = io.StringIO(), []
        namespace["display"] = shown.append
        tree = ast.parse(source)
        last = tree.body.pop() if self.pages and isinstance(tree.body[-1], ast.Expr) else None
        try:
            with redirect_stdout(printed), patch.object(style, "display", shown.append):
                exec(compile(tree, stage, "exec"), namespace)
                if last is not None:
                    shown.append(eval(compile(ast.Expression(last.value), stage, "eval"), namespace))
        finally:
            said.write(printed.getvalue())
        if not self.pages:
            return []
        shown = [DisplayFormatter().format(each)[0] for each in shown if each is not None]
        for number in plt.get_fignums():
            picture = io.BytesIO()
            plt.figure(number).savefig(picture, format="png", dpi=40)
            shown.append({"image/png": base64.b64encode(picture.getvalue()).decode()})
        plt.close("all")
        outputs = [nbformat.v4.new_output("display_data", data=data) for data in shown]
        text = printed.getvalue()
        return [nbformat.v4.new_output("stream", name="stdout", text=text), *outputs] if text else outputs

    def read(self, name: str, **options) -> pd.DataFrame:
        return pd.read_csv(self.folder / name, dtype=TEXT, **options)

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the results, without the records of how long a run took."""
        found = {path for pattern in self.patterns for path in self.folder.glob(pattern) if path.is_file()}
        names = {path.relative_to(self.folder).as_posix(): path for path in sorted(found)}
        return {name: sha256_of(path) for name, path in names.items() if not name.startswith("runs/")}
