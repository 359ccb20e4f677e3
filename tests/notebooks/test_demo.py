"""Demo and null of every study, run as `make book` runs them: a planted effect is found, no other, and no number moves.

Then every notebook's last section, "Change this", done by hand: the switch is turned in the parameter cell and the
notebook is run in its own folder, as JupyterLab runs it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from goldens import golden_of, moved, summary

from lib.params import literal_cell

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted(path.name for path in (ROOT / "notebooks").iterdir() if path.is_dir())
NOTEBOOKS = sorted(Path(*path.parts[-2:]) for path in (ROOT / "notebooks").glob("*/[1-5]-*.ipynb"))
pytestmark = pytest.mark.slow


def snakemake(tree: Path, *arguments: str) -> str:
    """What was said on both channels."""
    environment = {name: value for name, value in os.environ.items() if name != "CROSSBOOK_RESULTS"}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def tree(checkout, tmp_path_factory):
    """Function study -> a clone in which its demo and null have run."""
    clone, done = checkout(tmp_path_factory.mktemp("tree")), set()

    def run(study: str) -> Path:
        if study not in done:
            snakemake(clone, "--", f"{study}_demo", f"{study}_null")
            done.add(study)
        return clone

    return run


def measured(tree: Path, study: str, cohort: str, metric: str) -> pd.DataFrame:
    # "null" is a name here, no missing value
    path = tree / "results" / study / cohort / "metrics.csv"
    metrics = pd.read_csv(path, keep_default_na=False, na_values=[""])
    return metrics[metrics["metric"] == metric].set_index("model")


@pytest.mark.parametrize("study", STUDIES)
def test_no_number_moves_and_a_second_run_has_nothing_to_do(tree, study):
    for cohort in ("demo", "null"):
        folder = tree(study) / "results" / study / cohort
        assert moved(golden_of(study, cohort), summary(folder)) == [], cohort
    said = snakemake(tree(study), "--dry-run", "--", f"{study}_demo", f"{study}_null")
    assert "Nothing to be done" in said


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=str)
def test_change_this_works_by_hand(tree, notebook, tmp_path):
    study, stage = notebook.parent.name, notebook.stem
    clone = tree(study)
    results = tmp_path / "results"
    shutil.copytree(clone / "results" / study / "demo", results / study / "demo")
    content = nbformat.read(ROOT / "notebooks" / notebook, as_version=4)
    last = next(cell.source for cell in content.cells if "## Change this" in cell.source)
    switch = literal_cell(re.search(r"```python\n(.*?)```", last, re.S)[1])
    parameters = next(cell for cell in content.cells if "parameters" in cell.metadata.get("tags", ()))
    parameters.source += "\n" + "\n".join(f"{name} = {value!r}" for name, value in switch.items())
    by_hand = clone / "notebooks" / study / f"{stage}-by-hand.ipynb"
    nbformat.write(content, by_hand)
    environment = os.environ | {"CROSSBOOK_RESULTS": str(results), "PYTHONPATH": str(clone)}
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", by_hand.name]
    done = subprocess.run(command, cwd=by_hand.parent, env=environment, capture_output=True, text=True)
    by_hand.unlink()
    assert done.returncode == 0, done.stderr[-6000:]
    used = json.loads((results / f"{study}/demo/manifests/{stage}.json").read_text())["parameters"]
    assert {name: used[name] for name in switch} == switch


def test_two_modalities_find_more_than_one(tree):
    """What is planted in the counts and what is planted in the picture carry noise that they do not share."""
    found = measured(tree("spacrd"), "spacrd", "demo", "auc")
    # four patients: Student's interval is wide, the estimate is not moved by that
    assert 0.7 < found.loc["spacrd", "low"] <= found.loc["spacrd", "high"] <= 1
    assert found.loc["spacrd", "estimate"] > 0.9
    alone = found.loc[["linear-genes-smoothed", "linear-image-smoothed"], "estimate"]
    assert found.loc["linear-both-smoothed", "estimate"] > alone.max()
    null = measured(tree("spacrd"), "spacrd", "null", "auc")
    assert null.loc["spacrd", "low"] <= 0.5 <= null.loc["spacrd", "high"]
    assert null["estimate"].between(0.3, 0.7).all()


def test_form_scan_and_slides_together_are_better_than_each_alone(tree):
    found = measured(tree("gcmlm"), "gcmlm", "demo", "auc").query("setting == 'internal'")
    alone = found.loc[[f"signature: {name}" for name in ("clinical", "ct", "slide")], "estimate"]
    assert found.loc["signature: clinical+ct+slide", "low"] > alone.max()
    null = measured(tree("gcmlm"), "gcmlm", "null", "auc").loc["signature: clinical+ct+slide"]
    assert ((null["low"] <= 0.5) & (null["high"] >= 0.5)).all()


def test_film_and_form_together_are_better_than_each_alone(tree):
    found = measured(tree("stroke"), "stroke", "demo", "auc").query("setting == 'admission'")
    alone = ["ctp", "clinical-branch", "logistic-clinical", "logistic-volumes"]
    assert found.loc["fusion", "low"] > 0.6
    assert found.loc["fusion", "estimate"] > found.loc[alone, "estimate"].max()
    null = measured(tree("stroke"), "stroke", "null", "auc").loc["fusion"]
    assert null["low"] <= 0.5 <= null["high"]


def test_survival_that_slides_show_is_found_and_no_other(tree):
    found = measured(tree("crossfusion"), "crossfusion", "demo", "c_index").set_index("setting", append=True)
    for cancer in ("phantom-a", "phantom-b"):
        assert found.loc[("crossfusion", cancer), "low"] > 0.6
        assert found.loc[("kaplan-meier", cancer), "estimate"] == 0.5
    null = measured(tree("crossfusion"), "crossfusion", "null", "c_index").loc["crossfusion"]
    assert ((null["low"] <= 0.5) & (null["high"] >= 0.5)).all()


def test_genes_that_act_are_found_beside_the_clinic_and_nothing_in_null(tree):
    found = measured(tree("fusion"), "fusion", "demo", "c_index")
    assert found.loc["clinic-offset+rna", "low"] > found.loc["clinic", "estimate"]
    assert (found.loc[["concat", "self-attention"], "low"] > 0.5).all()
    null = measured(tree("fusion"), "fusion", "null", "c_index")
    assert ((null["low"] <= 0.5) & (null["high"] >= 0.5)).all()
