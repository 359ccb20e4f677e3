"""Notebooks' code cells, run in the tests' own process: what a kernel would do, in less time.

python cells.py RESULTS STUDY PARAMETERS STAGE ...    in a clone: stages one after another, in a process of the clone's
"""

import ast
import base64
import io
import shutil
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from unittest.mock import patch

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
import torch
import yaml
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

    `begin` looks at the cells run so far, as a kernel keeps them in `In`; papermill's own cell is one of them. `executed`
    holds each stage's notebook with what its cells printed; with `pages` also what they displayed, ended with and drew.
    """

    # pictures are small, and without png: how figures are printed is tested elsewhere
    quick, png = True, False

    def __init__(
        self, tree: Path, results: Path, values: Mapping, study: str, patterns=("**/*",), pages=False
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
            if self.quick:
                patch.setitem(style.RC, "savefig.dpi", 50)
                patch.setattr(style, "save", partial(style.save, png=self.png))
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
        notebook.cells, self.executed[stage] = cells, notebook
        namespace = {"__name__": "__main__", "In": []}
        for cell in cells:
            if cell.cell_type == "code" and "ended" not in namespace:
                namespace["In"].append(cell.source)
                cell.outputs, cell.execution_count = self._cell(cell.source, stage, namespace, said), 1

    def _cell(self, source: str, stage: str, namespace: dict, said: io.StringIO) -> list:
        """What a cell shows; without `pages`, what it prints."""
        printed, shown = io.StringIO(), []
        namespace["display"] = shown.append
        tree = ast.parse(source)
        last = tree.body.pop() if self.pages and isinstance(tree.body[-1], ast.Expr) else None
        try:
            with redirect_stdout(printed), patch.object(style, "display", shown.append):
                exec(compile(tree, stage, "exec"), namespace)
                if last is not None:
                    shown.append(eval(compile(ast.Expression(last.value), stage, "eval"), namespace))
        except SystemExit as end:  # as papermill has it: the cells that follow are not run
            if end.code:
                raise
            namespace["ended"] = True
        finally:
            said.write(printed.getvalue())
        text = printed.getvalue()
        stream = [nbformat.v4.new_output("stream", name="stdout", text=text)] if text else []
        if not self.pages:
            return stream
        shown = [DisplayFormatter().format(each)[0] for each in shown if each is not None]
        for number in plt.get_fignums():
            picture = io.BytesIO()
            plt.figure(number).savefig(picture, format="png", dpi=40)
            shown.append({"image/png": base64.b64encode(picture.getvalue()).decode()})
        plt.close("all")
        return stream + [nbformat.v4.new_output("display_data", data=data) for data in shown]

    def read(self, name: str, **options) -> pd.DataFrame:
        return pd.read_csv(self.folder / name, dtype=TEXT, **options)

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the results, without the records of how long a run took."""
        found = {path for pattern in self.patterns for path in self.folder.glob(pattern) if path.is_file()}
        names = {path.relative_to(self.folder).as_posix(): path for path in sorted(found)}
        return {name: sha256_of(path) for name, path in names.items() if not name.startswith("runs/")}


if __name__ == "__main__":
    Cells.quick = False
    results, study, parameters, *stages = sys.argv[1:]
    cells = Cells(
        Path.cwd(), Path(results), yaml.safe_load(Path(parameters).read_text(encoding="utf-8")), study
    )
    for stage in stages:
        print(cells.run(stage))
        (cells.folder / "notebooks").mkdir(exist_ok=True)
        nbformat.write(cells.executed[stage], cells.folder / "notebooks" / f"{stage}.ipynb")
