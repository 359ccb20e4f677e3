"""What no reviewer should have to look for."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
LIB = sorted((ROOT / "lib").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
ROOMS = ["inputs", "features", "models", "training", "statistics", "figures", "phantoms", "study"]


def committed() -> list[Path]:
    """Every file git has or would take, that is text."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout, so there is no list of committed files")
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8000]]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code_of(path: Path) -> str:
    """Python source of a module, or of a notebook's code cells."""
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    return "\n".join(re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE) for source in sources)


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(code_of(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["check", "format"])
def test_ruff_has_nothing_to_say(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebook_is_committed_unexecuted_with_one_parameters_cell(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "papermill" not in notebook.metadata
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None), f"cell {number} holds what it printed"
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert notebook.cells[0].cell_type == "markdown", "the first cell says what goes in and what comes out"


def test_modules_are_short_and_named_by_a_noun():
    long = {
        named(path): lines
        for path in LIB
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 350
    }
    assert long == {}
    vague = re.compile(r"(^|_)(utils?|helpers?|managers?|misc|common)($|_)")
    assert [named(path) for path in LIB if vague.search(path.stem)] == []


def backwards(path: Path) -> list[str]:
    """Imports of a module from rooms behind its own."""
    room = path.relative_to(ROOT / "lib").parts[0]
    later = {f"lib.{each}" for each in ROOMS[ROOMS.index(room) + 1 :]} if room in ROOMS else set()
    return sorted(name for name in imported(path) if ".".join(name.split(".")[:2]) in later)


def test_imports_run_one_way():
    """A room of lib knows the rooms before it and none behind it."""
    assert {named(path): found for path in LIB if (found := backwards(path))} == {}


@pytest.mark.parametrize("line", ["import lib.stage", "from lib.study import stage", "from lib import study"])
def test_import_of_a_room_behind_is_noticed(line, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    module = tmp_path / "lib" / "inputs" / "spots.py"
    module.parent.mkdir(parents=True)
    module.write_text(f"import lib.files\n{line}\n")
    assert any(name.startswith("lib.study") for name in backwards(module))


def test_model_files_import_torch_and_nothing_of_lib_but_blocks():
    for path in (ROOT / "lib" / "models").glob("*.py"):
        known = {"torch", "math", "collections", "contextlib", "dataclasses", "typing"}
        others = {name for name in imported(path) if not name.startswith("lib.models.")}
        assert {name.split(".")[0] for name in others} <= known, named(path)


def test_nothing_is_pickled_and_no_gpl_package_is_imported():
    # MCAT published its predictions as pickles, the stroke reference keeps its partition as one; their readers'
    # unpicklers admit plain numpy arrays, or names in lists, and nothing else
    readers = {"lib/crossfusion/cohort.py", "lib/stroke/cohort.py"}
    unwanted = {"pickle", "cloudpickle", "dill", "joblib", "sksurv", "igraph", "leidenalg"}
    for path in [*LIB, *NOTEBOOKS]:
        found = {name.split(".")[0] for name in imported(path)} & unwanted
        assert found <= ({"pickle"} if named(path) in readers else set()), named(path)
        for node in ast.walk(ast.parse(code_of(path))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            called = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert called != "torch.save", f"{named(path)}: weights are safetensors"
            assert called not in ("pickle.load", "pickle.loads", "pickle.dump", "pickle.dumps"), named(path)
            if called == "torch.load":
                assert given.get("weights_only") == "True", named(path)
            assert given.get("allow_pickle") in (None, "False"), named(path)


def test_no_folder_of_somebodys_machine_is_named():
    folders = re.compile(r"(?<![\w.])/(?:" + "|".join(["work", "root", "home", "Users"]) + r")/\w")
    found = [
        f"{named(path)}:{number}: {line.strip()[:100]}"
        for path in committed()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if folders.search(line)
    ]
    assert found == []


def test_no_real_data_and_no_large_file_is_committed():
    known = {"data/README.md", "data/sources.yaml"}
    for path in committed():
        assert path.stat().st_size < 1_000_000, named(path)
        if named(path).startswith("data/") and named(path) not in known:
            assert named(path).startswith(("data/assumptions/", "data/published/", "data/cohorts/")), named(
                path
            )


def test_text_is_read_as_utf8_whatever_the_locale():
    """A hospital's cluster may run under LC_ALL=C, where Python 3.11 takes text for ASCII."""
    bare = re.compile(r"\.read_text\(\)|\.write_text\((?:(?!encoding)[^()]|\([^()]*\))*\)")
    allowed = {"lib/spacrd/phantom.py", "lib/book.py", "scripts/lock.py"}  # ASCII by make
    files = [*LIB, *NOTEBOOKS, *(ROOT / "scripts").glob("*.py")]
    found = {named(path) for path in files if bare.search(code_of(path))}
    assert found <= allowed
