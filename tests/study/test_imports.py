"""What a notebook rests on is found without importing it, and nothing is left out."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lib.stage import code_of, imported

# in one process, since torch takes seconds: `lib` is forgotten between notebooks
LOADED = """
import ast, json, sys
from pathlib import Path

for path in sorted(Path("notebooks").glob("*/[1-5]-*.ipynb")):
    for name in [name for name in sys.modules if name.split(".")[0] == "lib"]:
        del sys.modules[name]
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    tree = ast.parse("\\n".join(line for line in code.splitlines() if not line.startswith("%")))
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    exec(compile(ast.Module(imports, []), str(path), "exec"), {})
    files = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "lib"}
    print(json.dumps([str(path), sorted(file for file in files.values() if file)]))
"""


def test_what_every_notebook_loads_is_among_its_code(root):
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=root, capture_output=True, text=True, check=True
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(list(root.glob("notebooks/*/[1-5]-*.ipynb"))) >= 20
    for notebook, loaded in rows:
        known = {str(path) for path in code_of(root / notebook, root)}
        assert set(loaded) <= known, notebook
        assert f"{root}/lib/study/stage.py" in loaded, "otherwise nothing was loaded"


def test_a_study_does_not_rest_on_another_s_models(root):
    models = {
        str(path.relative_to(root))
        for path in code_of(root / "notebooks" / "spacrd" / "3-train.ipynb", root)
        if path.parent.name == "models"
    }
    assert "lib/spacrd/model.py" in models
    assert not [name for name in models if "crossfusion" in name or "stroke" in name]


@pytest.mark.parametrize(
    ("notebook", "file"),
    [
        ("gcmlm/2-embed", "lib/features/radiomics.yaml"),  # read by the module beside it
        ("gcmlm/1-preprocess", "lib/gcmlm/nnunet_command.py"),  # started by name in another process
    ],
)
def test_tables_and_processes_count(root, notebook, file):
    assert root / file in code_of(root / "notebooks" / f"{notebook}.ipynb", root)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import lib.a, numpy", {"lib.a"}),
        ("from lib.a import b, c", {"lib.a", "lib.a.b", "lib.a.c"}),
        ("def f():\n    from lib.a import b", {"lib.a", "lib.a.b"}),
        ("run(['-m', 'lib.a.b'])", {"lib.a.b"}),
        ("say('see lib.a.b'); import library, libs.a; from . import x", set()),
    ],
)
def test_names(source, names):
    assert imported(ast.parse(source)) == names


def test_a_circle_of_imports_ends(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "__init__.py").write_text("")
    (tmp_path / "lib" / "a.py").write_text("import lib.b\n")
    (tmp_path / "lib" / "b.py").write_text("import lib.a\n")
    notebook = tmp_path / "1-x.ipynb"
    cell = {"cell_type": "code", "source": ["%matplotlib inline\n", "!ls\n", "from lib import a\n"]}
    notebook.write_text(json.dumps({"cells": [cell, {"cell_type": "markdown", "source": "import lib.c"}]}))
    assert [path.name for path in code_of(notebook, tmp_path)] == ["__init__.py", "a.py", "b.py"]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"cells": [{"cell_type": "code", "source": "from lib import ("}]}']
)
def test_what_is_no_notebook_is_named(tmp_path, text):
    notebook = Path(tmp_path, "1-x.ipynb")
    notebook.write_text(text)
    with pytest.raises(ValueError, match=r"1-x\.ipynb: its imports cannot be read"):
        code_of(notebook, tmp_path)
