"""The run report: what records, manifests and units say together; nothing that tells of a machine."""

import json
import re

import pytest

from lib.stage import RunRecord
from lib.study import run_report
from lib.study.run_report import OTHERS, counted, duration, report, size, unit_of, without_paths

HOST = {"cores": 2, "memory_gb": 25.3, "gpu": ""}


class Cohort:
    """Writes what stages leave."""

    def __init__(self, folder):
        self.folder = folder

    def file(self, name, count):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * count)

    def json(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return path

    def manifest(self, stage, outputs=(), failed=None):
        self.json(f"manifests/{stage}.json", {"outputs": dict.fromkeys(outputs, ""), "failed": failed or {}})

    def run(
        self, stage, made=0, kept=0, shard=0, shards=1, failed=None, seconds=10.0, peak=500.0, finished=True
    ):
        failed = failed or {}
        name = f"{stage}.{shard}of{shards}" if shards > 1 else stage
        content = {
            "stage": stage,
            "shard": shard,
            "shards": shards,
            "seconds": seconds,
            "processor_seconds": seconds / 2,
            "peak_mb": peak,
            "units": {"all": made + kept + len(failed), "made": made, "kept": kept},
            "failed": failed,
            "finished": finished,
            "host": HOST,
        }
        self.json(f"runs/{name}.json", content)
        return content


@pytest.fixture
def cohort(tmp_path):
    return Cohort(tmp_path / "study" / "small")


def only(cohort, stage):
    return next(run for run in report(cohort.folder) if run.stage == stage)


def test_a_stage_without_record_says_so_and_keeps_its_units_and_failures(cohort):
    cohort.manifest("2-embed", failed={"A1": "ValueError: dark"})
    for name in ("A2", "A3"):
        cohort.json(f"units/2-embed/{name}.json", {})
    run = only(cohort, "2-embed")
    assert (run.units, run.made, run.kept, run.seconds, run.finished) == (2, None, None, None, None)
    assert run.failed == {"A1": "ValueError: dark"}
    assert run_report.cells(run)[5:8] == ("not recorded", "–", "–")


def test_a_recorded_stage(cohort):
    cohort.run("2-embed", made=7, kept=2, failed={"A1": "ValueError: dark"}, seconds=75, peak=1250)
    run = only(cohort, "2-embed")
    assert (run.units, run.made, run.kept, len(run.failed)) == (10, 7, 2, 1)
    assert run_report.cells(run)[:8] == ("2-embed", "10", "7", "2", "1", "1 min 15 s", "37.5 s", "1.2 GB")
    assert run.host == "2 cores, 25 GB, no GPU"


def test_shards_and_their_gathering_are_one_run(cohort):
    cohort.run("3-train", made=5, shard=0, shards=2, seconds=100, peak=700)
    cohort.run("3-train", made=3, kept=2, shard=1, shards=2, seconds=60, peak=900)
    cohort.run("3-train", kept=10, seconds=4, peak=300)
    run = only(cohort, "3-train")
    assert (run.units, run.made, run.kept, run.shards) == (10, 8, 2, 2)
    assert (run.seconds, run.processor_seconds, run.peak_mb) == (164, 82, 900)
    assert run_report.cells(run)[0] == "3-train (2 shards)"


def test_shards_that_were_not_gathered_yet_stand_for_themselves(cohort):
    cohort.run("3-train", made=5, shard=0, shards=2, seconds=100)
    cohort.run("3-train", made=1, shard=1, shards=2, failed={"x": "no"}, seconds=60, finished=False)
    run = only(cohort, "3-train")
    assert (run.units, run.made, run.shards, run.finished, run.failed) == (7, 6, 2, False, {"x": "no"})


def test_shards_of_an_older_run_do_not_count(cohort):
    old = [cohort.run("3-train", made=5, shard=i, shards=2, seconds=1000) for i in (0, 1)]
    new = cohort.run("3-train", made=10, seconds=50)
    assert counted([*old, new]) == [new]
    assert only(cohort, "3-train").seconds == 50


def test_of_two_cuts_the_one_that_did_the_work_counts(cohort):
    two = [cohort.run("3-train", made=5, shard=i, shards=2) for i in (0, 1)]
    four = [cohort.run("3-train", kept=2, shard=i, shards=4) for i in range(4)]
    whole = cohort.run("3-train", kept=10)
    assert counted([*two, *four, whole]) == [whole, *two]


def test_every_byte_belongs_to_one_stage(cohort):
    cohort.manifest("1-preprocess", ["cohort.csv", "sections/A.h5ad"])
    cohort.manifest("2-embed", ["features/A.h5", "cohort.csv"])
    cohort.file("cohort.csv", 10)
    cohort.file("sections/A.h5ad", 2000)
    cohort.file("features/A.h5", 300)
    cohort.file("notebooks/2-embed.0of2.ipynb", 40_000)
    cohort.file("units/2-embed/A.json", 7)
    cohort.file("raw/slides/A.tif", 5_000_000)
    sizes = {run.stage: run.bytes for run in report(cohort.folder)}
    manifests = {path.stem: path.stat().st_size for path in cohort.folder.glob("manifests/*")}
    assert sizes == {
        "1-preprocess": 2010 + manifests["1-preprocess"],
        "2-embed": 40_307 + manifests["2-embed"],
        OTHERS: 5_000_000,
    }
    assert sum(sizes.values()) == sum(
        path.stat().st_size for path in cohort.folder.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("/media/ada/my data/x/A1.tif is broken", "data/x/A1.tif is broken"),
        ("cannot open '/srv/a/b/A1.tif': no", "cannot open 'A1.tif': no"),
        ("C:/slides/ada/A1.tif", "A1.tif"),
        ("see https://example.org/a/b and features/A1.h5", "see https://example.org/a/b and features/A1.h5"),
        ("3/4 of /media/x/y,z", "3/4 of y,z"),
    ],
)
def test_no_path_of_the_machine_is_shown(reason, shown):
    assert without_paths(reason).endswith(shown)
    assert not re.search(r"/(media|srv|slides)/", without_paths(reason))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.97, "1 min 0 s"), (3599.6, "60 min 0 s"), (7500, "2 h 5 min")],
)  # fmt: skip
def test_durations(seconds, words):
    assert duration(seconds) == words.replace("60 min 0 s", "1 h 0 min")


@pytest.mark.parametrize(
    ("count", "words"),
    [(93, "93 B"), (999, "1 kB"), (12_000, "12 kB"), (3_440_000, "3.4 MB"), (415_000_000, "415 MB"), (1.5e9, "1.5 GB")],
)  # fmt: skip
def test_sizes(count, words):
    assert size(count) == words


def test_a_broken_record_is_named(cohort):
    cohort.json("runs/2-embed.json", {})
    (cohort.folder / "runs" / "2-embed.json").write_text('{"stage": ')
    with pytest.raises(
        ValueError, match=r"study/small/runs/2-embed\.json is no record of a run: run that stage"
    ):
        report(cohort.folder)


def test_what_run_record_writes_is_what_is_read(cohort):
    record = RunRecord()
    record.count(3, 2, 1)
    record.write(cohort.folder, "2-embed", 0, 1, {}, True)
    run = only(cohort, "2-embed")
    assert (run.units, run.made, run.kept, run.finished) == (3, 2, 1, True)
    assert run.peak_mb > 10
    assert re.fullmatch(r"\d+ cores, \d+ GB, .+", run.host)


def test_the_terminal_shows_failures_and_what_did_not_finish(cohort, monkeypatch, capsys):
    cohort.run("2-embed", made=1, failed={"A1": "OSError: /data/secret/A1.svs is cut short"}, finished=False)
    monkeypatch.setenv("CROSSBOOK_RESULTS", str(cohort.folder.parents[1]))
    assert run_report.main(["study", "small"]) == 0
    said = capsys.readouterr().out
    assert "FAILED 2-embed, A1: OSError: A1.svs is cut short" in said
    assert "2-embed did not finish" in said
    assert "secret" not in said
    assert run_report.main(["study", "none"]) == 1
    assert "study/none was never run here" in capsys.readouterr().err
    assert run_report.main([]) == 2


def test_every_stage_with_units_has_a_word_for_them(root):
    for study in ("crossfusion", "gcmlm", "spacrd", "stroke"):
        for path in (root / "notebooks" / study).glob("[1-3]-*.ipynb"):
            if "stage.units(" in path.read_text(encoding="utf-8"):
                assert unit_of(study, path.stem) != "unit", f"{study} {path.stem}"
