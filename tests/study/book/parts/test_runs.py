"""Runs in the book: every cohort's stages, failures with their reason, cost a unit, disk by folder."""

import json

import pytest

from lib.study.book.parts.runs import disk, folded, runs, unit_costs
from lib.study.run_report import StageRun

PAGE = "book/appendix/cost.qmd"


def record(made=4, kept=0, failed=None, seconds=20.0):
    failed = failed or {}
    return json.dumps(
        {
            "stage": "2-embed",
            "shard": 0,
            "shards": 1,
            "seconds": seconds,
            "processor_seconds": seconds / 4,
            "peak_mb": 700.0,
            "units": {"all": made + kept + len(failed), "made": made, "kept": kept},
            "failed": failed,
            "finished": True,
            "host": {"cores": 2, "memory_gb": 25.3, "gpu": ""},
        }
    )


@pytest.fixture
def recorded(cancer):
    failed = {"slide-9": "OSError: /data/secret/slide-9.svs | cut short"}
    cancer.write("results/crossfusion/blca/runs/2-embed.json", record(failed=failed))
    cancer.write("results/crossfusion/demo/runs/2-embed.json", record(kept=2))
    return cancer


def test_every_stage_of_every_cohort_has_its_row(recorded):
    made = runs(recorded.records(), PAGE)[0]
    link = "[`demo`](../../notebooks/crossfusion/demo/5-figures.ipynb)"
    assert f"| {link} | embed | 6 | 4 | 2 | 0 | 20.0\u00a0s | 5.0\u00a0s | 700\u00a0MB |" in made
    assert f"| {link} | evaluate | – | – | – | 0 | not recorded | – | – |" in made
    assert "2 cores, 25 GB, no GPU" in made


def test_what_failed_stands_below_with_its_reason_and_no_path(recorded):
    made = runs(recorded.records(), PAGE)[0]
    assert "| embed | `slide-9` | OSError: slide-9.svs \\| cut short |" in made
    assert "secret" not in made
    assert "No unit failed" not in made


def test_neighbours_without_a_record_are_one_row_and_lose_no_byte():
    def stage(name, size, seconds=None, failed=None, units=5):
        return StageRun(name, units, None, None, failed or {}, seconds, seconds, seconds, size)

    found = [
        stage("1-preprocess", 10),
        stage("2-embed", 20),
        stage("3-train", 30, seconds=4.0),
        stage("4-evaluate", 40, failed={"a": "no"}),
        stage("5-figures", 50),
        stage("other files", 60, units=None),
    ]
    made = folded(found)
    assert [run.stage for run in made] == [
        "preprocess to embed",
        "train",
        "evaluate",
        "figures",
        "other files",
    ]
    assert [run.units for run in made] == [None, 5, 5, 5, None]
    assert sum(run.bytes for run in made) == 210


def test_one_study_alone_and_an_unknown_one(recorded):
    recorded.cohort("stroke", "demo", [("fusion", "a", "auc", 0.6, 0.5, 0.7)])
    made = runs(recorded.records(), PAGE, "stroke")[0]
    assert "tbl-runs-stroke" in made
    assert "tbl-runs-crossfusion" not in made
    assert "No unit failed." in made
    with pytest.raises(
        ValueError, match=r"cost\.qmd: book/studies\.yaml has no study strokes; there are spacrd"
    ):
        runs(recorded.records(), PAGE, "strokes")


def test_a_unit_costs_the_time_by_the_units_made(recorded):
    made = unit_costs(recorded.records(), PAGE)[0]
    # 6 units, of which 2 were kept: their disk is no measure of the 4
    assert "| embed | slide | 4 | 5.00\u00a0s | 1.25\u00a0s | – | 700\u00a0MB |" in made
    assert "evaluate" not in made


def test_a_run_that_kept_everything_measures_no_unit(cancer):
    cancer.write("results/crossfusion/blca/runs/2-embed.json", record(made=0, kept=9))
    assert unit_costs(cancer.records(), PAGE)[0].startswith("No run that made units was recorded")


def test_disk_by_folder_and_in_all(cancer):
    cancer.write("results/crossfusion/demo/raw/a.tif", "x" * 3_000_000)
    cancer.write("results/crossfusion/demo/weights/a.safetensors", "x" * 2_000_000)
    made = disk(cancer.records(), PAGE)[0]
    row = next(line for line in made.splitlines() if "`demo`" in line)
    assert [cell.strip() for cell in row.split("|")][2:9] == [
        "3.0\u00a0MB",
        "–",
        "–",
        "–",
        "–",
        "2.0\u00a0MB",
        "–",
    ]
    assert "| **all** | 3.0\u00a0MB |" in made
