"""The real demo and its null twin, run by Snakemake as `make book` runs them: a planted effect is found, no other."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lib.book import read_executed

ROOT = Path(__file__).resolve().parents[2]


def snakemake(tree: Path, *arguments: str) -> tuple[int, str]:
    """Exit code, and what was said on both channels."""
    environment = {name: value for name, value in os.environ.items() if name != "CROSSBOOK_RESULTS"}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(tree),
    }
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def trees(checkout, tmp_path_factory):
    """A clone in which a study's demo and null have run, the clone of the first study that was asked for."""
    tree, done = checkout(tmp_path_factory.mktemp("tree")), set()

    def run(study: str) -> Path:
        if study not in done:
            code, said = snakemake(tree, "--", f"{study}_demo", f"{study}_null")
            assert code == 0, said[-8000:]
            done.add(study)
        return tree

    return run


def stages(study: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "notebooks" / study).glob("*.ipynb"))


def measured(tree: Path, study: str, cohort: str, metric: str) -> pd.DataFrame:
    # "null" is a name here, no missing value
    path = tree / "results" / study / cohort / "metrics.csv"
    metrics = pd.read_csv(path, keep_default_na=False, na_values=[""])
    assert set(metrics["cohort"]) == {cohort}
    return metrics[metrics["metric"] == metric].set_index("model")


def auc(tree: Path, cohort: str) -> pd.DataFrame:
    return measured(tree, "spacrd", cohort, "auc")


def executed(tree: Path, study: str) -> Path:
    """The tree, once every stage of demo and null is found whole in it."""
    for cohort in ("demo", "null"):
        folder = tree / "results" / study / cohort
        for stage in stages(study):
            read_executed(folder / "notebooks" / f"{stage}.ipynb", stage)
            assert (folder / "manifests" / f"{stage}.json").is_file()
        left = {path.name for path in (folder / "notebooks").iterdir()}
        assert left == {f"{stage}.ipynb" for stage in stages(study)}
    return tree


def test_all_stages_are_executed(trees):
    executed(trees("spacrd"), "spacrd")


def test_planted_effect_is_found(trees):
    found = auc(trees("spacrd"), "demo").loc["spacrd"]
    assert 0.8 < found["low"] <= found["estimate"] <= found["high"] <= 1


def test_two_modalities_find_more_than_one(trees):
    """What is planted in the counts and what is planted in the picture carry noise that they do not share."""
    found = auc(trees("spacrd"), "demo")["estimate"]
    assert found["linear-both-smoothed"] > max(found["linear-genes-smoothed"], found["linear-image-smoothed"])


def test_without_an_effect_nothing_is_found(trees):
    found = auc(trees("spacrd"), "null")
    assert found.loc["spacrd", "low"] <= 0.5 <= found.loc["spacrd", "high"]
    assert found["estimate"].between(0.3, 0.7).all()


def test_second_run_has_nothing_to_do(trees):
    tree = trees("spacrd")
    before = {path: path.stat().st_mtime_ns for path in (tree / "results").rglob("*") if path.is_file()}
    for arguments in ([], ["--dry-run"]):
        code, said = snakemake(tree, *arguments, "--", "spacrd_demo", "spacrd_null")
        assert code == 0, said
        assert "Nothing to be done" in said
    assert {
        path: path.stat().st_mtime_ns for path in (tree / "results").rglob("*") if path.is_file()
    } == before


@pytest.mark.slow
def test_form_scan_and_slides_together_are_better_than_each_alone(trees):
    tree = executed(trees("gcmlm"), "gcmlm")
    found = measured(tree, "gcmlm", "demo", "auc").query("setting == 'internal'")
    alone = found.loc[[f"signature: {name}" for name in ("clinical", "ct", "slide")], "estimate"]
    assert found.loc["signature: clinical+ct+slide", "low"] > alone.max()
    null = measured(tree, "gcmlm", "null", "auc").loc["signature: clinical+ct+slide"]
    assert ((null["low"] <= 0.5) & (null["high"] >= 0.5)).all()


@pytest.mark.slow
def test_film_and_form_together_are_better_than_each_alone(trees):
    tree = executed(trees("stroke"), "stroke")
    found = measured(tree, "stroke", "demo", "auc").query("setting == 'admission'")
    alone = ["ctp", "clinical-branch", "logistic-clinical", "logistic-volumes"]
    assert found.loc["fusion", "low"] > 0.6
    assert found.loc["fusion", "estimate"] > found.loc[alone, "estimate"].max()
    null = measured(tree, "stroke", "null", "auc").loc["fusion"]
    assert null["low"] <= 0.5 <= null["high"]


@pytest.mark.slow
def test_survival_that_slides_show_is_found_and_no_other(trees):
    tree = executed(trees("crossfusion"), "crossfusion")
    found = measured(tree, "crossfusion", "demo", "c_index").set_index("setting", append=True)
    assert set(found.index.get_level_values("setting")) == {"phantom-a", "phantom-b"}
    for cancer in ("phantom-a", "phantom-b"):
        assert found.loc[("crossfusion", cancer), "low"] > 0.6
        assert found.loc[("kaplan-meier", cancer), "estimate"] == 0.5
    null = measured(tree, "crossfusion", "null", "c_index").loc["crossfusion"]
    assert ((null["low"] <= 0.5) & (null["high"] >= 0.5)).all()
