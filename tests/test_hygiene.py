"""What no reviewer should have to look for: budgets, one-way imports, notebooks one can read, nothing that must not be there."""

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
LIB = sorted((ROOT / "lib").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
STUDIES = sorted(path.name for path in (ROOT / "notebooks").iterdir() if path.is_dir())
# a room of lib knows the rooms before it; files of lib itself are rooms too
ROOMS = [
    *("torchvision_ops", "files", "params", "stage", "data", "doctor", "check"),
    *("inputs", "features", "models", "training", "statistics", "figures", "phantoms"),
    *("results", "site", "pieces", "paper", "book"),
]
# the goal is 600, 18,000, 90, 24,000, 25; a number above it is what stands at present
LONGEST_FILE, LIB_LINES, LIB_FILES, TEST_LINES, RAISES = 600, 26_254, 100, 31_090, 26


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
def test_notebook_is_committed_unexecuted_with_a_short_parameters_cell(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "papermill" not in notebook.metadata
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None), f"cell {number} holds what it printed"
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(parameters.source.splitlines()) <= 20
    assert notebook.cells[0].cell_type == "markdown", "the first cell says what is asked"


DRAWS = re.compile(r"plt\.|stage\.figure|subplots|\.plot\(|draw_|label: fig-")


def reading(path: Path) -> tuple[list[int], int, float]:
    """Lines of each code cell, lines of code before the first that draws, words of prose a line of code."""
    cells = nbformat.read(path, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    lines = [len([line for line in source.splitlines() if line.strip()]) for source in code]
    drawing = [bool(DRAWS.search(source)) and "import matplotlib" not in source for source in code]
    first = sum(lines[: drawing.index(True)]) if any(drawing) else sum(lines)
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    return lines, first, words / sum(lines)


@pytest.mark.parametrize("study", STUDIES)
def test_notebooks_are_read_like_a_text(study):
    """Short cells, a picture soon, more prose than code."""
    read = {named(path): reading(path) for path in NOTEBOOKS if path.parent.name == study}
    cells = [lines for found, _, _ in read.values() for lines in found]
    assert statistics.median(cells) <= 10
    assert sum(lines > 20 for lines in cells) <= 0.1 * len(cells)
    assert {name: first for name, (_, first, _) in read.items() if first > 45} == {}
    assert {name: round(words, 1) for name, (_, _, words) in read.items() if words < 5} == {}


def code_lines(text: str) -> int:
    """Lines that are neither empty nor comment nor docstring."""
    words = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            words |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = [line.strip() for number, line in enumerate(text.splitlines(), 1) if number not in words]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def test_lib_and_tests_are_small():
    texts = {named(path): path.read_text(encoding="utf-8") for path in LIB}
    sizes = {name: len(text.splitlines()) for name, text in texts.items()}
    assert {name: lines for name, lines in sizes.items() if lines > LONGEST_FILE} == {}
    assert sum(sizes.values()) <= LIB_LINES
    assert len(sizes) <= LIB_FILES
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")]
    assert sum(len(text.splitlines()) for text in tests) <= TEST_LINES
    raised = sum(isinstance(n, ast.Raise) for text in texts.values() for n in ast.walk(ast.parse(text)))
    assert 1000 * raised / sum(map(code_lines, texts.values())) <= RAISES
    vague = re.compile(r"(^|_)(utils?|helpers?|managers?|misc|common)($|_)")
    assert [named(path) for path in LIB if vague.search(path.stem)] == []


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "lib").with_suffix("").parts[0]


def backwards(path: Path) -> list[str]:
    """What a module imports from rooms behind its own; of a study, from other studies."""
    room = room_of(path)
    if room in ROOMS:
        behind = {*ROOMS[ROOMS.index(room) + 1 :], *STUDIES}
    else:
        behind = {*STUDIES} - {room} if room in STUDIES else set()
    return sorted(name for name in imported(path) if name.startswith("lib.") and name.split(".")[1] in behind)


def test_imports_run_one_way_and_no_study_imports_another():
    drawn = {"lib/stage.py": ["lib.figures", "lib.figures.style"]}  # stage.figure, when it is called
    assert {named(path): found for path in LIB if (found := backwards(path))} == drawn
    for path in NOTEBOOKS:
        others = {name.split(".")[1] for name in imported(path) if name.startswith("lib.")} & {*STUDIES}
        assert others <= {path.parent.name}, named(path)


def test_lib_names_no_study_outside_its_folder():
    """Nor a text that is a study's name, nor a module of it: a fifth study changes no file of lib."""
    for path in (path for path in LIB if room_of(path) not in STUDIES):
        texts = {node.value for node in ast.walk(ast.parse(code_of(path))) if isinstance(node, ast.Constant)}
        assert not texts & {*STUDIES}, named(path)
        assert not [text for text in texts if re.fullmatch(rf"lib\.({'|'.join(STUDIES)})(\.\w+)*", str(text))]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("inputs/spots", "import lib.figures.style"),
        ("stroke/cohort", "from lib.spacrd import spots"),
        ("files", "from lib.inputs.tables import plain"),
    ],
)
def test_import_of_a_room_behind_is_noticed(file, line, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    module = tmp_path / "lib" / f"{file}.py"
    module.parent.mkdir(parents=True)
    module.write_text(f"import lib\n{line}\n")
    assert backwards(module)


def test_model_files_import_torch_and_nothing_of_lib_but_blocks():
    for path in (ROOT / "lib" / "models").glob("*.py"):
        known = {"torch", "math", "collections", "contextlib", "dataclasses", "typing"}
        others = {name for name in imported(path) if not name.startswith("lib.models.")}
        assert {name.split(".")[0] for name in others} <= known, named(path)


def test_no_module_gives_two_things_one_name():
    """The later one would take the place of the other in every function, above it too."""
    for path in LIB:
        body = ast.parse(code_of(path)).body
        given = [ast.unparse(t).strip("()") for n in body if isinstance(n, ast.Assign) for t in n.targets]
        names = [name for text in given for name in text.split(", ")]
        names += [n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        assert len(names) == len({*names}), named(path)


def test_nothing_is_pickled_and_no_gpl_package_is_imported():
    # MCAT published its predictions as pickles, the stroke reference keeps its partition as one; the one reader's
    # unpickler admits plain numpy arrays and containers of names, and nothing else
    readers = {"lib/inputs/tables.py"}
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
            if named(path) != "lib/files.py" and called == "h5py.File":
                assert "'w'" not in ast.unparse(node), f"{named(path)}: HDF5 is written by files.written_hdf5"
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
    known = {"data/README.md", "data/sources.yaml", "data/names.yaml"}
    for path in committed():
        assert path.stat().st_size < 1_000_000, named(path)
        if named(path).startswith("data/") and named(path) not in known:
            places = ("data/assumptions/", "data/published/", "data/cohorts/", "data/results/")
            assert named(path).startswith(places), named(path)


def test_text_is_read_as_utf8_whatever_the_locale():
    """A hospital's cluster may run under LC_ALL=C, where Python 3.11 takes text for ASCII."""
    bare = re.compile(r"\.read_text\(\)|\.write_text\((?:(?!encoding)[^()]|\([^()]*\))*\)")
    allowed = {"lib/spacrd/phantom.py", "lib/book.py", "scripts/lock.py"}  # ASCII by make
    files = [*LIB, *NOTEBOOKS, *(ROOT / "scripts").glob("*.py")]
    found = {named(path) for path in files if bare.search(code_of(path))}
    assert found <= allowed


def test_a_label_is_given_once_in_all_notebooks_of_a_study():
    """They stand in one book, and Quarto knows a figure by its label."""
    for study in sorted({path.parent for path in (ROOT / "notebooks").glob("*/*.ipynb")}):
        labels = [
            label
            for path in study.glob("*.ipynb")
            for label in re.findall(r"#\| label: ([\w-]+)", path.read_text(encoding="utf-8"))
        ]
        assert sorted(labels) == sorted(set(labels)), study.name
