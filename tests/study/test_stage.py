"""A stage does what is not done yet, says what failed, and leaves a manifest."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib import files
from lib import stage as stage_module
from lib.files import sha256_of
from lib.params import Checked
from lib.stage import Stage, begin, results_folder

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
        return Stage("spacrd", "2-embed", Params(**params))

    def run(self, stage: Stage | None = None, **params) -> list[str]:
        """Do all units; returns those made now."""
        stage, before = stage or self.stage(**params), len(self.made)

        def make(name):
            self.made.append(name)
            if name in self.broken:
                raise self.broken[name]
            number = int((self.folder / f"{name}.txt").read_text(encoding="utf-8"))
            output = stage.folder / "features" / f"{name}.txt"
            with files.written(output) as part:
                part.write_text(f"{number * stage.params.factor}\n")

        self.done = stage.units(
            UNITS,
            make,
            outputs=lambda name: [stage.folder / "features" / f"{name}.txt"],
            inputs=lambda name: [self.folder / f"{name}.txt"],
            depends=lambda name: {"factor": stage.params.factor},
            code=(files,),
        )
        return self.made[before:]


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CROSSBOOK_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results" / "spacrd" / "demo"


@pytest.fixture
def work(results, tmp_path) -> Work:
    (tmp_path / "raw").mkdir()
    return Work(tmp_path / "raw")


def manifest(results: Path) -> dict:
    return json.loads((results / "manifests" / "2-embed.json").read_text(encoding="utf-8"))


# folders and parameters


def test_results_lie_in_the_repository_unless_the_environment_says_otherwise(root, tmp_path, monkeypatch):
    monkeypatch.delenv("CROSSBOOK_RESULTS", raising=False)
    assert results_folder() == root / "results"
    monkeypatch.setenv("CROSSBOOK_RESULTS", str(tmp_path))
    assert results_folder() == tmp_path
    assert Work(tmp_path).stage(cohort="her2st").folder == tmp_path / "spacrd" / "her2st"


def test_begin_checks_what_the_notebook_was_given(results, monkeypatch):
    monkeypatch.setattr(stage_module, "schema_of", lambda study: Params)
    opened = begin("spacrd", "2-embed", {"In": ["", "factor = 3"], "factor": 3})
    assert (opened.params.factor, opened.folder) == (3, results)
    with pytest.raises(
        ValueError, match=r"notebooks/spacrd/2-embed.ipynb: unknown parameter 'facter'.*'factor'"
    ):
        begin("spacrd", "2-embed", {"In": ["factor = 3", "facter = 4"], "factor": 3, "facter": 4})


# what is made again


def test_first_run_makes_all_and_second_none(work, results, capsys):
    assert work.run() == list(UNITS)
    assert work.done == list(UNITS)
    assert (results / "features" / "C1.txt").read_text(encoding="utf-8") == "4\n"
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*.txt")}
    assert "5 made now, 0 kept" in capsys.readouterr().err
    assert work.run() == []
    assert work.done == list(UNITS)
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*.txt")} == before
    said = capsys.readouterr()
    assert "5 of 5 units are whole" in said.out
    assert "0 made now, 5 kept" in said.err


def test_what_is_printed_does_not_tell_a_first_run_from_a_second(work, capsys):
    work.run()
    first = capsys.readouterr().out
    work.run()
    assert capsys.readouterr().out == first, (
        "the executed notebook would change without a change in the results"
    )


def test_unit_is_made_again_when_its_inputs_bytes_change(work, results):
    work.run()
    (work.folder / "B1.txt").write_text("7")
    assert work.run() == ["B1"]
    assert (results / "features" / "B1.txt").read_text(encoding="utf-8") == "14\n"


def test_unit_is_kept_when_an_input_is_only_touched(work):
    work.run()
    os.utime(work.folder / "B1.txt", (1, 1))
    assert work.run() == []


def test_inputs_that_change_places_are_another_input(work):
    """Trained on A and tested on B is not trained on B and tested on A."""
    made, train, test = [], work.folder / "A1.txt", work.folder / "B1.txt"

    def run():
        stage = work.stage()
        output = stage.folder / "scores.txt"
        stage.units(
            ["fold"],
            lambda name: (
                made.append(name),
                files.write_json(
                    [train.read_text(encoding="utf-8"), test.read_text(encoding="utf-8")], output
                ),
            ),
            outputs=lambda name: [output],
            inputs=lambda name: [train, test],
            depends=lambda name: {},
            code=(files,),
        )

    run()
    before = train.read_text(encoding="utf-8"), test.read_text(encoding="utf-8")
    train.write_text(before[1])
    test.write_text(before[0])
    run()
    assert made == ["fold", "fold"]


def test_all_units_are_made_again_when_a_parameter_they_depend_on_changes(work, results):
    work.run()
    assert work.run(factor=3) == list(UNITS)
    assert (results / "features" / "C1.txt").read_text(encoding="utf-8") == "6\n"
    assert work.run(factor=3) == []


def test_units_are_kept_when_another_parameter_changes(work):
    work.run()
    assert work.run(unused=3) == []


def test_all_units_are_made_again_when_the_code_changes(work, monkeypatch):
    work.run()
    monkeypatch.setattr(stage_module, "code_digest", lambda *modules: "another")
    assert work.run() == list(UNITS)
    assert work.run() == []


@pytest.mark.parametrize("content", [None, "", "4", "40\n"], ids=["deleted", "empty", "cut short", "other"])
def test_unit_is_made_again_when_its_output_is_not_what_was_recorded(content, work, results):
    work.run()
    output = results / "features" / "C1.txt"
    output.unlink() if content is None else output.write_text(content)
    assert work.run() == ["C1"]
    assert output.read_text(encoding="utf-8") == "4\n"


@pytest.mark.parametrize("content", [None, "", '{"key": ', "{}", "[]"])
def test_unit_is_made_again_when_its_record_is_gone_or_broken(content, work, results):
    work.run()
    record = results / "units" / "2-embed" / "C1.json"
    record.unlink() if content is None else record.write_text(content)
    assert work.run() == ["C1"]
    assert work.run() == []


# units that fail


def test_failing_unit_is_reported_and_not_counted_and_the_others_are_done(work, results, capsys):
    work.broken = {"B1": ValueError("section B1 has no spots")}
    stage = work.stage()
    with pytest.raises(RuntimeError) as ended:
        work.run(stage)
    assert str(ended.value) == (
        "spacrd/demo 2-embed: 1 of 5 units failed, max_failed is 0; the first is B1: ValueError: section B1 has no spots"
    )
    said = capsys.readouterr().out
    assert "4 of 5 units are whole" in said
    assert "FAILED B1: ValueError: section B1 has no spots" in said
    assert sorted(path.stem for path in (results / "features").iterdir()) == ["A1", "C1", "D1", "E1"]
    assert not (results / "units" / "2-embed" / "B1.json").exists()
    assert manifest(results)["failed"] == {"B1": "ValueError: section B1 has no spots"}
    assert "features/B1.txt" not in manifest(results)["outputs"]


def test_failed_unit_alone_is_tried_again(work):
    work.broken = {"B1": OSError("disk full")}
    with pytest.raises(RuntimeError, match="1 of 5 units failed"):
        work.run()
    work.broken = {}
    assert work.run() == ["B1"]
    assert work.done == list(UNITS)


@pytest.mark.parametrize("allowed", [1, 2])
def test_as_many_may_fail_as_max_failed_says(allowed, work, results):
    work.broken = {name: ValueError(f"no {name}") for name in ("B1", "D1")}
    stage = work.stage(max_failed=allowed)
    if allowed < 2:
        with pytest.raises(RuntimeError, match="2 of 5 units failed, max_failed is 1; the first is B1"):
            work.run(stage)
        return
    work.run(stage)
    assert work.done == ["A1", "C1", "E1"]
    stage.finish()
    assert manifest(results)["failed"] == {"B1": "ValueError: no B1", "D1": "ValueError: no D1"}


def test_old_output_of_a_unit_that_fails_now_is_not_counted(work, results):
    work.run()
    (work.folder / "B1.txt").write_text("not a number")
    stage = work.stage(max_failed=1)
    work.run(stage)
    stage.finish()
    assert work.done == ["A1", "C1", "D1", "E1"]
    assert "features/B1.txt" not in manifest(results)["outputs"]


def test_unit_whose_input_is_missing_fails_alone(work):
    (work.folder / "D1.txt").unlink()
    stage = work.stage(max_failed=1)
    work.run(stage)
    assert work.done == ["A1", "B1", "C1", "E1"]
    assert stage.failed == {
        "D1": "FileNotFoundError: D1.txt is not there: see what failed in the stage before"
    }


def test_interrupted_by_the_user_is_no_failed_unit(work):
    work.broken = {"B1": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        work.run(max_failed=5)


# shards


def test_shards_part_the_units_and_a_last_run_gathers(work, results, capsys):
    made = {}
    for shard in range(3):
        with pytest.raises(SystemExit) as ended:
            work.run(shard=shard, shards=3)
        assert ended.value.code == 0
        made[shard] = list(work.made)
        work.made.clear()
        assert f"shard {shard} of 3: {len(made[shard])} of {len(made[shard])} units are whole" in (
            capsys.readouterr().out
        )
    assert sorted(name for names in made.values() for name in names) == list(UNITS)
    assert max(map(len, made.values())) - min(map(len, made.values())) <= 1
    assert work.run() == []
    assert work.done == list(UNITS)


def test_more_shards_than_units_leave_some_idle(work):
    for shard in range(7):
        with pytest.raises(SystemExit):
            work.run(shard=shard, shards=7)
    assert sorted(work.made) == list(UNITS)


def test_shard_with_a_failed_unit_ends_with_an_error(work):
    work.broken = {"B1": ValueError("no")}
    with pytest.raises(RuntimeError, match="1 of 2 units failed"):
        work.run(shard=1, shards=2)


# inputs, outputs, manifest


def test_missing_input_names_the_stage_to_run(work, results):
    with pytest.raises(FileNotFoundError) as missing:
        work.stage().reads("cohort.csv", made_by="1-preprocess")
    assert (
        str(missing.value)
        == "spacrd/demo 2-embed: cohort.csv is missing; run 1-preprocess of this cohort first"
    )
    with pytest.raises(FileNotFoundError, match=r"data/none.csv is missing; see data/README.md"):
        work.stage().reads(stage_module.ROOT / "data" / "none.csv")


def test_finish_refuses_when_an_announced_output_is_missing(work, results):
    stage = work.stage()
    stage.writes("figures/roc.svg")
    with pytest.raises(FileNotFoundError, match=r"spacrd/demo 2-embed ended without writing figures/roc.svg"):
        stage.finish()
    assert not (results / "manifests" / "2-embed.json").exists()


def whole_stage(work: Work, **params) -> None:
    stage = work.stage(**params)
    stage.reads(work.folder / "E1.txt")
    work.run(stage)
    stage.writes("table.csv").write_text("a\n1\n")
    stage.finish()


def test_manifest_holds_what_went_in_and_came_out(work, results, capsys):
    whole_stage(work)
    found = manifest(results)
    assert (found["study"], found["cohort"], found["stage"], found["failed"]) == (
        "spacrd",
        "demo",
        "2-embed",
        {},
    )
    assert found["parameters"] == Params().model_dump(mode="json")
    assert found["inputs"] == {f"{name}.txt": sha256_of(work.folder / f"{name}.txt") for name in UNITS}
    outputs = [f"features/{name}.txt" for name in UNITS] + ["table.csv"]
    assert found["outputs"] == {name: sha256_of(results / name) for name in outputs}
    assert {"python", "numpy", "torch", "scikit-learn", "scanpy"} <= set(found["versions"])
    assert found["commit"]
    assert "2-embed of demo: 6 files written" in capsys.readouterr().out


def test_manifest_names_no_folder_of_this_machine(work, results, tmp_path):
    whole_stage(work)
    text = (results / "manifests" / "2-embed.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert str(stage_module.ROOT) not in text


def test_second_run_writes_the_same_manifest_byte_for_byte(work, results):
    whole_stage(work)
    path = results / "manifests" / "2-embed.json"
    before = path.read_bytes()
    whole_stage(work)
    assert path.read_bytes() == before


def test_manifest_after_shards_is_that_of_one_run(work, results, tmp_path, monkeypatch):
    whole_stage(work)
    before = (results / "manifests" / "2-embed.json").read_bytes()
    monkeypatch.setenv("CROSSBOOK_RESULTS", str(tmp_path / "sharded"))
    for shard in range(2):
        with pytest.raises(SystemExit):
            work.run(shard=shard, shards=2)
    whole_stage(work)
    other = tmp_path / "sharded" / "spacrd" / "demo" / "manifests" / "2-embed.json"
    assert other.read_bytes() == before


# one run at a time, and what it took

BEGIN = """
import sys
from lib.study import stage
from lib.params import Checked
class Params(Checked):
    cohort: str = "demo"
    shard: int = 0
    shards: int = 1
stage.schema_of = lambda study: Params
stage.begin("spacrd", "2-embed", {"In": [""]})
print("begun", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def begun(results, monkeypatch):
    """`begin` with this module's schema."""
    monkeypatch.setattr(stage_module, "schema_of", lambda study: Params)
    stages = []

    def open_stage(**params) -> Stage:
        stages.append(begin("spacrd", "2-embed", {"In": [""], **params}))
        return stages[-1]

    yield open_stage
    for stage in stages:
        stage.lock.release()


def test_second_run_is_refused_until_the_first_has_ended(work, results, begun, root):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": root}
    with subprocess.Popen([sys.executable, "-c", BEGIN], **pipes) as other:
        assert other.stdout.readline() == "begun\n"
        with pytest.raises(BlockingIOError, match=rf"2-embed: .* at work \(process {other.pid}\)"):
            begun()
        with pytest.raises(BlockingIOError, match=r"2-embed shard 0 of 2|2-embed: "):
            begun(shards=2)
        assert work.made == []
        other.kill()
        other.wait()
        assert work.run(begun()) == list(UNITS), "what was killed holds nothing"


@pytest.mark.parametrize("end", ["finish", "failure", "shard", "full"])
def test_ended_stage_leaves_its_lock_although_its_kernel_stays(work, results, begun, end):
    stage = begun(shards=2) if end == "shard" else begun()
    assert stage.lock.held
    if end == "finish":
        work.run(stage)
        stage.finish()
    else:
        work.broken = {"A1": {"failure": ValueError("no"), "full": files.DiskFull("no room")}.get(end)}
        work.broken = {name: fault for name, fault in work.broken.items() if fault}
        with pytest.raises((RuntimeError, SystemExit, files.DiskFull)):
            work.run(stage)
    assert not stage.lock.held


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (files.DiskFull("features/B1.txt is not written"), "features/B1.txt is not written"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full .*quota exceeded.*run again"),
    ],
)
def test_full_disk_ends_a_stage_at_once_however_many_units_may_fail(work, results, fault, said):
    work.broken = {"B1": fault}
    with pytest.raises(files.DiskFull, match=rf"^spacrd/demo 2-embed, B1: .*{said}"):
        work.run(max_failed=5)
    assert work.made == ["A1", "B1"]
    assert record(results)["finished"] is False


def record(results: Path, run: str = "2-embed") -> dict:
    return json.loads((results / "runs" / f"{run}.json").read_text(encoding="utf-8"))


def test_record_tells_what_a_run_made_and_kept_and_the_manifest_does_not(work, results):
    whole_stage(work)
    before = (results / "manifests" / "2-embed.json").read_bytes()
    first = record(results)
    assert (first["units"], first["finished"], first["failed"]) == (
        {"all": 5, "made": 5, "kept": 0},
        True,
        {},
    )
    (work.folder / "B1.txt").write_text("1")
    (results / "features" / "C1.txt").unlink()
    whole_stage(work)
    assert record(results)["units"] == {"all": 5, "made": 1, "kept": 4}
    assert (results / "manifests" / "2-embed.json").read_bytes() == before


def test_record_of_a_stage_that_fails_names_the_units_and_is_not_finished(work, results):
    work.broken = {"B1": ValueError("no tissue")}
    with pytest.raises(RuntimeError):
        work.run()
    found = record(results)
    assert (found["finished"], found["failed"]) == (False, {"B1": "ValueError: no tissue"})
    assert found["units"] == {"all": 5, "made": 4, "kept": 0}
    whole_stage(work, max_failed=1)
    assert record(results)["finished"] is True
    assert record(results)["failed"] == {"B1": "ValueError: no tissue"}


def test_every_shard_leaves_a_record_of_its_share(work, results):
    for shard in range(2):
        with pytest.raises(SystemExit):
            work.run(shard=shard, shards=2)
    units = [record(results, f"2-embed.{shard}of2")["units"] for shard in range(2)]
    assert units == [{"all": 3, "made": 3, "kept": 0}, {"all": 2, "made": 2, "kept": 0}]
    whole_stage(work)
    assert record(results)["units"] == {"all": 5, "made": 0, "kept": 5}


def test_parts_that_killed_writers_left_go_also_those_of_machines_that_are_gone(work, results, begun):
    folder = results / "features"
    folder.mkdir(parents=True)
    here, elsewhere = (
        folder / f".part-{machine}-4194305-{name}"
        for machine, name in ((files._MACHINE, "of-a-unit-no-more.txt"), ("01234567", "B1.txt"))
    )
    stranger = folder / ".part-01234567-4194305-of-another-stage.txt"
    for path in (here, elsewhere, stranger):
        path.write_text("half")
    stage = begun()
    assert not here.exists()
    assert elsewhere.exists(), (
        "who knows whether its writer lives, before this stage is known to be alone with it"
    )
    work.run(stage)
    stage.finish()
    assert sorted(path.name for path in folder.iterdir()) == [
        stranger.name,
        *(f"{unit}.txt" for unit in UNITS),
    ]


def test_git_is_not_asked_for_every_unit(work, monkeypatch):
    asked = []
    monkeypatch.setattr(stage_module, "commit", lambda: asked.append(1) or "abc")
    work.run()
    assert len(asked) == 1
