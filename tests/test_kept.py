"""Committed results: what may be kept, and that what is committed parses, is as recorded, names no patient and is small."""

import json

import pytest

from lib import kept, results
from lib.files import sha256_of

METRICS = "model,cohort,setting,metric,estimate,low,high,n,events,seeds,how\nage,luad,luad,c_index,0.6,0.5,0.7,80,30,1,x\n"
TABLES = {
    "metrics.csv": METRICS,
    "tables/differences.csv": "model,minus,difference,low,high,setting\nage,x,0.1,0.0,0.2,luad\n",
    "tables/sections.csv": "label,patient,estimate,n\nA1,A,0.8,346\n",
    "tables/clinical.csv": "patient,age\nTCGA-01,60\n",
    "predictions.csv": "patient,score\nTCGA-01,1\n",
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A real cohort as its stages leave it, in a repository of its own; with what its manifest says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CROSSBOOK_RESULTS", raising=False)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def make(kind="open", commit="c0ffee" * 6 + "beef", **tables):
        folder = "results/crossfusion/luad"
        files = {name: write(f"{folder}/{name}", text) for name, text in (TABLES | tables).items()}
        manifest = {"study": "crossfusion", "cohort": "luad", "commit": commit, "versions": {"numpy": "2.4"}}
        manifest |= {"parameters": {"kind": kind}, "inputs": {"data/raw/a.csv": "1", "cohort.csv": "2"}}
        manifest["outputs"] = {name: sha256_of(path) for name, path in files.items()}
        write(f"{folder}/manifests/4-evaluate.json", json.dumps(manifest))
        host = {"processor": "AMD EPYC", "cores": 2, "memory_gb": 25.3, "gpu": ""}
        record = {"date": "2026-11-29", "seconds": 7.4, "host": host}
        write(f"{folder}/runs/4-evaluate.json", json.dumps(record))
        return tmp_path

    write("_quarto.yml", "book: {title: T, chapters: [index.qmd]}\n")
    write("params/crossfusion/luad.yaml", "kind: open\n")
    write("book/studies.yaml", "crossfusion: {name: CrossFusion}\n")
    return make


def test_tables_are_kept_with_their_origin_and_rows_of_single_patients_are_not(run):
    root = run()
    assert kept.keep(root, "crossfusion", "luad").endswith(": tables/clinical.csv")
    there = root / "data/results/crossfusion/luad"
    found = {path.relative_to(there).as_posix() for path in there.rglob("*.*")}
    assert found == {"metrics.csv", "tables/differences.csv", "tables/sections.csv", "provenance.json"}
    about = json.loads((there / "provenance.json").read_text())
    assert about["command"] == "make run STUDY=crossfusion COHORT=luad"
    assert [about["date"], about["seconds"], about["inputs"]] == ["2026-11-29", 7, {"data/raw/a.csv": "1"}]
    assert kept.faults(root) == []
    said = results.computed(there)
    assert said.startswith(
        "Computed on AMD EPYC, 2 cores, 25 GB, no GPU, 2026-11-29, commit `c0ffeec0ff`, and committed;"
    )


def test_a_phantom_a_tree_with_changes_and_a_table_of_another_hand_are_refused(run):
    with pytest.raises(ValueError, match=r"luad is a phantom"):
        kept.keep(run(kind="phantom"), "crossfusion", "luad")
    with pytest.raises(ValueError, match=r"which no commit has: commit, then make run"):
        kept.keep(run(commit="c0ffee" * 6 + "beef+changes"), "crossfusion", "luad")
    root = run()
    (root / "results/crossfusion/luad/metrics.csv").write_text(METRICS.replace("0.6", "0.9"))
    with pytest.raises(ValueError, match=r"metrics.csv is not the file that its stage wrote"):
        kept.keep(root, "crossfusion", "luad")
    with pytest.raises(ValueError, match=r"make run STUDY=crossfusion COHORT=blca"):
        kept.keep(root, "crossfusion", "blca")
    assert not (root / "data/results").exists()


def test_too_much_is_refused_and_what_was_committed_stays(run, monkeypatch):
    root = run()
    kept.keep(root, "crossfusion", "luad")
    monkeypatch.setattr(kept, "LARGEST", 100)
    with pytest.raises(ValueError, match=r"at most 0\.0001 MB are kept"):
        kept.keep(root, "crossfusion", "luad")
    assert (root / "data/results/crossfusion/luad/metrics.csv").is_file()
    assert kept.faults(root)[-1].endswith("MB, at most 0.0001")


def test_the_committed_table_is_read_until_the_cohort_is_run_here(run):
    root = run()
    kept.keep(root, "crossfusion", "luad")
    (root / "results").rename(root / "aside")
    (cohort,) = results.cohorts().itertuples()
    assert [cohort.here, cohort.folder] == [False, root / "data/results/crossfusion/luad"]
    assert results.metrics(results.cohorts())["estimate"].tolist() == [0.6]
    (root / "results/crossfusion/luad/manifests").mkdir(parents=True)  # begun, and not evaluated
    assert not results.cohorts()["here"].any()
    run(**{"metrics.csv": METRICS.replace("0.6", "0.65")})
    assert results.cohorts()["here"].all()
    assert results.metrics(results.cohorts())["estimate"].tolist() == [0.65]


def test_damage_is_found(run):
    root = run()
    kept.keep(root, "crossfusion", "luad")
    there = root / "data/results/crossfusion/luad"
    (there / "tables/differences.csv").write_text(TABLES["tables/clinical.csv"])
    (there / "tables/extra.csv").write_text("a\n1\n")
    faults = kept.faults(root)
    assert [fault.split(": ", 1)[1] for fault in faults] == [
        "tables/extra.csv is in one of folder and record",
        "tables/differences.csv is not the file that was recorded",
        "tables/differences.csv has rows of single patients",
    ]


def test_what_is_committed_is_whole_and_every_metric_a_number_with_its_reason(root):
    assert kept.faults(root) == []
    for path in (root / results.KEPT).glob("*/*/metrics.csv"):
        table = results.read(path)
        assert set(table["cohort"]) == {path.parent.name}
        assert (table["estimate"].notna() | table["how"].str.contains("not computable")).all(), path
        assert ((table["low"] <= table["high"]) | table["low"].isna()).all(), path
        assert results.kind_of(root, path.parts[-3], path.parent.name) != "phantom"


def test_committed_curves_fall_and_belong_to_a_model_of_the_table(root):
    found = list((root / results.KEPT).glob("*/*/tables/kaplan_meier.csv"))
    for path in found:
        curves = results.read(path)
        keys = [name for name in ("setting", "where", "model", "cut", "group") if name in curves]
        for _, curve in curves.groupby(keys):
            assert curve["time"].iloc[0] == 0
            assert (
                curve[["low", "survival", "high"]]
                .dropna()
                .T.apply(lambda row: row.is_monotonic_increasing)
                .all()
            )
            assert curve["survival"].is_monotonic_decreasing
            assert curve["at_risk"].is_monotonic_decreasing
    assert len(found) > 0
