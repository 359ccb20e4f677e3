"""A stage does what is not done yet, says what failed, lets one process at a time, and leaves a manifest."""

import getpass
import json
import os
import platform
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from lib import files
from lib import params as params_module
from lib import stage as stage_module
from lib.files import sha256_of
from lib.params import Checked
from lib.stage import Stage, begin, code_digest, code_of, commit, versions

UNITS = ("A1", "B1", "C1", "D1", "E1")


class Params(Checked):
    """A small schema."""

    cohort: str = "demo"
    factor: int = 2
    unused: int = 0
    shard: int = 0
    shards: int = 1
    max_failed: int = 0


class Work:
    """Five units that double a number from a file, and a count of what was made."""

    def __init__(self, folder: Path):
        self.folder, self.made, self.broken = folder, [], {}
        for number, name in enumerate(UNITS):
            (folder / f"{name}.txt").write_text(str(number))

    def stage(self, **params) -> Stage:
        return Stage("toy", "2-embed", Params(**params))

    def run(self, stage: Stage | None = None, **params) -> list[str]:
        """Do all units; returns those made now."""
        stage, before = stage or self.stage(**params), len(self.made)

        def make(name):
            self.made.append(name)
            if name in self.broken:
                raise self.broken[name]
            number = int((self.folder / f"{name}.txt").read_text(encoding="utf-8"))
            with files.written(stage.folder / "features" / f"{name}.txt") as part:
                part.write_text(f"{number * stage.params.factor}\n")

        inputs = lambda name: [self.folder / f"{name}.txt"]  # noqa: E731
        self.done = stage.each(UNITS, make, outputs="features/{}.txt", inputs=inputs, parameters=["factor"])
        return self.made[before:]

    def whole_stage(self, **params) -> None:
        stage = self.stage(**params)
        stage.reads(self.folder / "E1.txt")
        self.run(stage)
        stage.write(pd.DataFrame({"a": [1]}), "table.csv")
        stage.finish()


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CROSSBOOK_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(params_module, "schema_of", lambda study: Params)
    return tmp_path / "results" / "toy" / "demo"


@pytest.fixture
def work(results, tmp_path) -> Work:
    (tmp_path / "raw").mkdir()
    return Work(tmp_path / "raw")


def manifest(results: Path) -> dict:
    return json.loads((results / "manifests" / "2-embed.json").read_text(encoding="utf-8"))


def test_begin_checks_what_the_notebook_was_given(results):
    opened = begin("toy", "2-embed", {"In": ["", "factor = 3"], "factor": 3})
    assert (opened.params.factor, opened.folder) == (3, results)
    opened.release()
    with pytest.raises(ValueError, match=r"notebooks/toy/2-embed.ipynb: unknown parameter 'facter'"):
        begin("toy", "2-embed", {"In": ["factor = 3", "facter = 4"], "factor": 3, "facter": 4})


# what is made again


def test_first_run_makes_all_and_second_none_and_both_print_the_same(work, results, capsys):
    assert work.run() == work.done == list(UNITS)
    assert (results / "features" / "C1.txt").read_text(encoding="utf-8") == "4\n"
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*.txt")}
    first = capsys.readouterr()
    assert "5 made now, 0 kept" in first.err
    assert work.run() == []
    assert work.done == list(UNITS)
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*.txt")} == before
    second = capsys.readouterr()
    assert "5 of 5 units are whole" in second.out
    assert "0 made now, 5 kept" in second.err
    assert first.out == second.out, "the executed notebook would change without a change in the results"


def test_inputs_that_change_places_are_another_input(work):
    """Trained on A and tested on B is not trained on B and tested on A."""
    made, train, test = [], work.folder / "A1.txt", work.folder / "B1.txt"

    def run():
        stage = work.stage()

        def make(name):
            made.append(name)
            files.write_json([train.read_text(), test.read_text()], stage.folder / "scores.txt")

        stage.each(["fold"], make, outputs="scores.txt", inputs=lambda name: [train, test])

    run()
    before = train.read_text(), test.read_text()
    train.write_text(before[1])
    test.write_text(before[0])
    run()
    assert made == ["fold", "fold"]


def test_units_follow_inputs_parameters_they_depend_on_and_the_code(work, results, monkeypatch):
    work.run()
    os.utime(work.folder / "B1.txt", (1, 1))
    assert work.run(unused=3) == []
    (work.folder / "B1.txt").write_text("7")
    assert work.run() == ["B1"]
    assert work.run(factor=3) == list(UNITS)
    assert (results / "features" / "C1.txt").read_text(encoding="utf-8") == "6\n"
    assert work.run(factor=3) == []
    monkeypatch.setattr(stage_module, "code_digest", lambda *parts: "another")
    assert work.run(factor=3) == list(UNITS)


@pytest.mark.parametrize("name", ["features/C1.txt", "units/2-embed/C1.json"])
def test_unit_is_made_again_when_its_output_or_record_is_gone_or_broken(name, work, results):
    work.run()
    whole = (results / name).read_text(encoding="utf-8")
    for content in (None, "", whole[: len(whole) // 2], "{}"):
        (results / name).unlink() if content is None else (results / name).write_text(content)
        assert work.run() == ["C1"]
        assert (results / name).read_text(encoding="utf-8") == whole
    assert work.run() == []


# units that fail


def test_failing_unit_is_reported_and_not_counted_the_others_are_done_and_it_alone_is_tried_again(
    work, results, capsys
):
    work.broken = {"B1": ValueError("section B1 has no spots")}
    with pytest.raises(RuntimeError) as ended:
        work.run()
    reason = "B1: ValueError: section B1 has no spots"
    assert str(ended.value).endswith(f"1 of 5 units failed, max_failed is 0; the first is {reason}")
    assert f"4 of 5 units are whole\nFAILED {reason}" in capsys.readouterr().out
    assert sorted(path.stem for path in (results / "features").iterdir()) == ["A1", "C1", "D1", "E1"]
    assert manifest(results)["failed"] == {"B1": "ValueError: section B1 has no spots"}
    assert "features/B1.txt" not in manifest(results)["outputs"]
    work.broken = {}
    assert work.run() == ["B1"]
    assert work.done == list(UNITS)


def test_as_many_may_fail_as_max_failed_says_and_the_old_output_of_one_that_fails_now_is_not_counted(
    work, results
):
    work.run()
    (work.folder / "B1.txt").write_text("not a number")
    (work.folder / "D1.txt").unlink()
    with pytest.raises(RuntimeError, match="2 of 5 units failed, max_failed is 1; the first is B1"):
        work.run(max_failed=1)
    stage = work.stage(max_failed=2)
    work.run(stage)
    stage.finish()
    assert work.done == ["A1", "C1", "E1"]
    assert stage.failed["D1"].startswith("FileNotFoundError: D1.txt is not there")
    assert not {"features/B1.txt", "features/D1.txt"} & set(manifest(results)["outputs"])


# shards


@pytest.mark.parametrize("shards", [3, 7])
def test_shards_part_the_units_and_a_last_run_gathers(work, capsys, shards):
    for shard in range(shards):
        with pytest.raises(SystemExit) as ended:
            work.run(shard=shard, shards=shards)
        assert ended.value.code == 0
        assert f"shard {shard} of {shards}: " in capsys.readouterr().out
    assert sorted(work.made) == list(UNITS)
    assert work.run() == []
    assert work.done == list(UNITS)
    work.broken = {"B1": ValueError("no")}
    (work.folder / "B1.txt").write_text("9")
    with pytest.raises(RuntimeError, match="units failed"):
        work.run(shard=1, shards=shards)


# inputs, outputs, manifest


def test_missing_input_says_what_to_do_and_a_missing_output_is_no_end(work, results):
    with pytest.raises(FileNotFoundError, match=r"cohort\.csv is missing; run the notebooks before"):
        work.stage().reads("cohort.csv")
    with pytest.raises(FileNotFoundError, match=r"data/none\.csv is missing; see data/README\.md"):
        work.stage().reads(stage_module.ROOT / "data" / "none.csv")
    stage = work.stage()
    stage.file("figures/roc.svg")
    with pytest.raises(FileNotFoundError, match=r"toy/demo 2-embed ended without writing figures/roc\.svg"):
        stage.finish()
    assert not (results / "manifests" / "2-embed.json").exists()


def test_tables_keep_names_as_text_and_figures_and_tables_are_announced(work, results):
    stage = work.stage()
    cohort = pd.DataFrame({"patient": ["0012", "NA"], "fold": ["0", "1"], "age": [61.0, None]})
    stage.write(cohort, "cohort.csv")
    table = stage.read("cohort.csv")
    assert table["patient"].tolist() == ["0012", "NA"], "names, not numbers, and NA is a name"
    assert table["fold"].tolist() == ["0", "1"]
    assert table["age"].isna().tolist() == [False, True]
    figure, _ = plt.subplots()
    stage.figure(figure, "roc")
    plt.close(figure)
    stage.write({"a": 1}, "facts.json")
    shown = stage.table(pd.DataFrame({"model": ["a"], "auc": [0.12345], "n": [3.0]}), caption="Of all.").data
    assert "0.123" in shown
    assert "| 3 |" in re.sub(" +", " ", shown)
    stage.finish()
    assert sorted(manifest(results)["outputs"])[:3] == ["cohort.csv", "facts.json", "figures/roc.png"]


def test_manifest_holds_what_went_in_and_came_out_twice_the_same_and_after_shards_too(
    work, results, tmp_path, monkeypatch
):
    work.whole_stage()
    found, path = manifest(results), results / "manifests" / "2-embed.json"
    assert [found[key] for key in ("study", "cohort", "stage", "failed")] == ["toy", "demo", "2-embed", {}]
    assert found["parameters"] == Params().model_dump(mode="json")
    assert found["inputs"] == {f"{name}.txt": sha256_of(work.folder / f"{name}.txt") for name in UNITS}
    outputs = [f"features/{name}.txt" for name in UNITS] + ["table.csv"]
    assert found["outputs"] == {name: sha256_of(results / name) for name in outputs}
    assert found["versions"] == versions()
    assert {"python", "numpy", "torch", "scikit-learn", "scanpy"} <= set(found["versions"])
    before = path.read_bytes()
    assert not any(folder in before.decode() for folder in (str(tmp_path), str(stage_module.ROOT)))
    work.whole_stage()
    assert path.read_bytes() == before
    monkeypatch.setenv("CROSSBOOK_RESULTS", str(tmp_path / "sharded"))
    for shard in range(2):
        with pytest.raises(SystemExit):
            work.run(shard=shard, shards=2)
    work.whole_stage()
    assert (tmp_path / "sharded" / "toy" / "demo" / "manifests" / "2-embed.json").read_bytes() == before


def test_run_record_tells_time_memory_and_units_and_no_machine(work, results, tmp_path):
    work.whole_stage()
    with pytest.raises(SystemExit):
        work.run(shard=1, shards=4)
    text = (results / "runs" / "2-embed.json").read_text(encoding="utf-8")
    record = json.loads(text)
    assert record["units"] == {"all": 5, "made": 5, "kept": 0}
    assert record["finished"]
    assert 0 < record["seconds"] < 60
    assert 50 < record["peak_mb"] < 100_000
    for told in (platform.node(), str(tmp_path), getpass.getuser() + "@"):
        assert told not in text
    assert json.loads((results / "runs" / "2-embed.1of4.json").read_text())["units"]["kept"] == 1


# one run at a time

BEGIN = """
import sys, time
from lib import params
from lib.params import Checked
from lib.stage import begin
class Params(Checked):
    cohort: str = "demo"
    shard: int = 0
    shards: int = 1
params.schema_of = lambda study: Params
shard, shards = map(int, sys.argv[1:])
begin("toy", "2-embed", {"In": [""], "shard": shard, "shards": shards})
print("begun", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(results, root):
    """Start another process that has begun the stage."""
    started = []

    def start(shard=0, shards=1):
        command = [sys.executable, "-c", BEGIN, str(shard), str(shards)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root))
        assert started[-1].stdout.readline() == "begun\n"
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait(30)
        process.stdout.close()


def attempt(shard=0, shards=1) -> str:
    """ "" where the stage can be begun, else what was said."""
    try:
        begin("toy", "2-embed", {"In": [""], "shard": shard, "shards": shards}).release()
    except BlockingIOError as error:
        return str(error)
    return ""


def test_second_run_is_refused_until_the_first_has_ended_however_it_ended(holder):
    first = holder()
    assert attempt().startswith("toy/demo 2-embed: another run of it is at work; wait for its end or stop it")
    assert attempt(shards=2), "nor one of its shards"
    os.kill(first.pid, signal.SIGKILL)
    first.wait(30)
    assert attempt() == "", "what was killed holds nothing"


def test_shards_run_side_by_side_each_of_them_once_and_not_beside_a_whole_run(holder):
    holder(0, 2)
    assert attempt(1, 2) == ""
    assert "another run of it is at work" in attempt(0, 2)
    assert "another run of it is at work" in attempt()


def test_notebook_run_again_in_its_kernel_takes_its_own_lock_anew(results, capsys, monkeypatch):
    first, second = (begin("toy", "2-embed", {"In": [""]}) for _ in range(2))
    second.release()

    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(stage_module.fcntl, "flock", refuse)
    first.lock()
    first.release()
    assert "knows no locks, so a second run goes unnoticed" in capsys.readouterr().out


# the code that a result rests on

MODULE = '"""What it does."""\n\nfrom lib.probe_deep import PI\n\n\ndef area(r):\n    """Of a disc."""\n    return PI * r  # why\n'


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Modules lib.probe and lib.probe_deep; returns the digest of a notebook's function that uses them."""
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(stage_module, "ROOT", tmp_path)
    closure = stage_module._closure
    monkeypatch.setattr(stage_module, "_closure", lambda names, root=tmp_path: closure(names, root))

    def digest(module=MODULE, deep="PI = 3.14\n", helper="number + 1", beside=None) -> str:
        (tmp_path / "lib" / "probe.py").write_text(module)
        (tmp_path / "lib" / "probe_deep.py").write_text(deep)
        if beside is not None:
            (tmp_path / "lib" / "probe.csv").write_text(beside)
        for cached in (stage_module._imports, stage_module._tree):
            cached.cache_clear()
        namespace = {"__name__": "__main__", "probe": type(os)("lib.probe")}
        exec(
            f"def helper(number): return {helper}\ndef make(name): return probe.area(helper(1))\n", namespace
        )
        return code_digest(namespace["make"])

    return digest


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({}, True),
        ({"module": MODULE.replace("What it does", "What it did").replace("Of a disc", "Of one")}, True),
        ({"module": MODULE.replace("  # why", "")}, True),
        ({"module": MODULE.replace("PI * r", "(\n        PI * r\n    )")}, True),
        ({"module": MODULE.replace("PI * r", "PI * r**2")}, False),
        ({"deep": "PI = 3.15\n"}, False),
        ({"helper": "number + 2"}, False),
        ({"beside": "a,b\n"}, False),
    ],
)
def test_a_change_that_can_change_a_result_changes_the_digest_and_no_other(tree, changed, same):
    assert (tree() == tree(**changed)) == same


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
    loaded = [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "lib"]
    print(json.dumps([str(path), sorted(file for file in loaded if file)]))
"""


def test_what_every_notebook_loads_is_among_the_code_that_snakemake_watches(root):
    done = subprocess.check_output([sys.executable, "-c", LOADED], cwd=root, text=True)
    rows = [json.loads(line) for line in done.splitlines()]
    assert len(rows) == len(list(root.glob("notebooks/*/[1-5]-*.ipynb"))) >= 20
    for notebook, loaded in rows:
        known = {*map(str, code_of(root / notebook, root)), f"{root}/lib/torchvision_ops.py"}
        assert {path for path in loaded if not path.endswith("__init__.py")} <= known, notebook
        assert f"{root}/lib/stage.py" in loaded, "otherwise nothing was loaded"


def test_a_circle_of_imports_ends(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.py").write_text("import lib.b\n")
    (tmp_path / "lib" / "b.py").write_text("def f():\n    run(['-m', 'lib.c'])\n    import lib.a\n")
    (tmp_path / "lib" / "c.py").write_text("")
    (tmp_path / "lib" / "d.py").write_text("")
    cell = {"cell_type": "code", "source": ["%matplotlib inline\n", "!ls\n", "from lib import a\n"]}
    (tmp_path / "1-x.ipynb").write_text(json.dumps({"cells": [cell]}))
    assert [path.name for path in code_of(tmp_path / "1-x.ipynb", tmp_path)] == ["a.py", "b.py", "c.py"]


def test_commit_names_the_head_and_says_when_the_tree_differs(tmp_path, monkeypatch):
    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.check_output(command, cwd=tmp_path, text=True).strip()

    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(stage_module, "ROOT", tmp_path)
    assert commit() == "no git"
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "first")
    head = git("rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("1")
    assert commit() == head, "results and raw data are not part of the tree"
    (tmp_path / "a").write_text("2")
    assert commit() == f"{head}+changes"
    monkeypatch.setenv("PATH", "")
    assert commit() == "no git"
