"""Every notebook of the SpaCRD study on a small phantom: run, broken off, resumed, sharded, misused."""

import json
import re
from pathlib import Path

import anndata
import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.features.feature_files import read_features
from lib.statistics.metrics_table import COLUMNS

STAGES = ["1-preprocess", "2-embed", "3-train", "4-evaluate", "5-figures"]
MODELS = ["marker-smoothed", "linear-both-smoothed", "concatenation", "spacrd"]
SECTIONS = ["A1", "B1", "C1"]
TEXT = {"patient": str, "section": str, "spot": str, "fold": str}


def manifest(study, stage: str) -> dict:
    return json.loads((study.folder / "manifests" / f"{stage}.json").read_text(encoding="utf-8"))


# all five, uninterrupted


@pytest.mark.parametrize("stage", STAGES)
def test_what_readers_see_is_printable_and_of_no_machine(whole, stage):
    """Outputs but those of stderr, which the book leaves out."""
    cells = nbformat.read(whole.executed(stage), as_version=4).cells
    outputs = [one for cell in cells for one in cell.get("outputs", ()) if one.get("name") != "stderr"]
    folders = {str(whole.results), str(whole.parameters.parent), str(whole.tree), str(Path.home())}
    assert len(outputs) > 2
    for output in outputs:
        forms = output.get("data") or {"text/plain": output.text}
        assert set(forms) <= {"text/markdown", "text/plain", "image/png", "image/svg+xml"}
        text = "".join(form for mime, form in forms.items() if mime.startswith("text/"))
        assert not [folder for folder in folders if folder in text], text[:500]
        assert "Warning" not in text
        assert "INFO" not in text
    for cell in cells:
        if "#| label: fig-" in cell.source:
            forms = {mime for output in cell.outputs for mime in output.get("data", ())}
            assert forms & {"image/png", "image/svg+xml"}, cell.source[:80]


def test_manifests_form_a_chain(whole):
    made = {}
    for stage in STAGES:
        found = manifest(whole, stage)
        of_this_cohort = {name: digest for name, digest in found["inputs"].items() if name in made}
        assert of_this_cohort == {name: made[name] for name in of_this_cohort}
        assert stage == "1-preprocess" or of_this_cohort, f"{stage} reads nothing that was made before"
        made |= found["outputs"]
    assert {"cohort.csv", "predictions.csv", "history.csv", "metrics.csv"} <= set(made)
    assert {path.name for path in whole.folder.iterdir() if path.is_file()} <= set(made)
    for folder in ("sections", "features", "train", "weights", "tables", "figures"):
        for path in (whole.folder / folder).iterdir():
            assert f"{folder}/{path.name}" in made, "no manifest knows it, or a part file was left behind"


def test_sections_and_features_belong_together(whole):
    cohort = pd.read_csv(whole.folder / "cohort.csv", keep_default_na=False)
    assert list(cohort["section"]) == SECTIONS
    assert (cohort["cancer"] + cohort["other"] + cohort["undetermined"] == cohort["spots"]).all()
    assert ((cohort["cancer"] > 0) & (cohort["other"] > 0)).all()
    for name in SECTIONS:
        section = anndata.read_h5ad(whole.folder / "sections" / f"{name}.h5ad")
        file = read_features(whole.folder / "features" / f"{name}.colour.h5")
        assert list(file.names) == list(section.obs_names)
        assert file.attributes["crop_um"] == 150.0
        assert file.attributes["um_per_px"] == pytest.approx(section.uns["section"]["um_per_px"])


def test_predictions_are_complete(whole):
    predictions = pd.read_csv(whole.folder / "predictions.csv", dtype=TEXT)
    assert set(predictions["model"]) == set(MODELS)
    assert set(predictions["split"]) == {"test"}
    assert (predictions["fold"] == predictions["patient"]).all(), "tested by who never saw the patient"
    assert np.isfinite(predictions["score"]).all()
    assert predictions["probability"].between(0, 1).all()
    for name in SECTIONS:
        section = anndata.read_h5ad(whole.folder / "sections" / f"{name}.h5ad")
        for model in MODELS:
            rows = predictions[(predictions["section"] == name) & (predictions["model"] == model)]
            assert list(rows["spot"]) == list(section.obs_names)
            np.testing.assert_array_equal(rows["label"], section.obs["label"])
    history = pd.read_csv(whole.folder / "history.csv", dtype=TEXT)
    epochs = history.groupby(["model", "fold", "stage"]).size().unstack()
    assert set(history["model"]) == {"concatenation", "spacrd"}
    assert (epochs == [2, 1, 2]).all(axis=None)
    weights = sorted(path.name for path in (whole.folder / "weights").iterdir())
    assert weights == [f"both.{p}.{m}.s1.safetensors" for p in "ABC" for m in ("concatenation", "spacrd")]


def test_metrics_have_the_columns_of_the_design(whole):
    metrics = pd.read_csv(whole.folder / "metrics.csv")
    assert list(metrics.columns) == COLUMNS
    assert set(metrics["model"]) == set(MODELS)
    about = metrics[["cohort", "setting", "seeds"]].drop_duplicates()
    assert about.to_numpy().tolist() == [["small", "both", 1]]
    assert {"auc", "ap", "prevalence", "f1_gmm", "f1_calibrated", "f1_oracle"} <= set(metrics["metric"])
    assert not metrics.duplicated(["model", "setting", "metric"]).any()
    known = metrics.dropna(subset=["estimate"])
    assert known["estimate"].between(0, 1).all()
    assert (known["low"] <= known["high"]).all()
    unknown = metrics[metrics["estimate"].isna()]
    assert unknown["how"].str.contains("not computable: ").all()
    cohort = pd.read_csv(whole.folder / "cohort.csv")
    auc = metrics[metrics["metric"] == "auc"]
    widened = auc.set_index("model")["how"].str.contains("widened for shared training patients")
    assert widened.to_dict() == {model: model != "marker-smoothed" for model in MODELS}
    assert (auc["n"] == (cohort["cancer"] + cohort["other"]).sum()).all()
    assert (auc["events"] == cohort["cancer"].sum()).all()


def test_three_patients_give_no_verdict_and_the_interval_tells_its_false_alarms(whole):
    shown = whole.executed("4-evaluate").read_text(encoding="utf-8")
    assert shown.count("too few patients to call |") == len(MODELS) - 1
    (alarms,) = pd.read_csv(whole.folder / "tables" / "false_alarms.csv").to_dict("records")
    assert (alarms["setting"], alarms["metric"], alarms["nulls"]) == ("both", "auc", 200)
    assert alarms["false_alarms"] < 0.12
    assert 0.35 < alarms["mean"] < 0.65 < alarms["detected"] < 1


def test_every_figure_is_a_picture(whole):
    wanted = "sections depth neighbours crops component neighbourhood one-training attention history "
    for name in (wanted + "strip moran false-alarms roc forest maps tissue centres calibration").split():
        with Image.open(whole.folder / "figures" / f"{name}.png") as picture:
            low, high = picture.convert("L").getextrema()
            assert min(picture.size) > 100, name
            assert low < high, f"{name} is blank"
        text = (whole.folder / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        assert text.rstrip().endswith("</svg>")


def test_phantom_is_never_set_beside_the_paper(whole):
    published = pd.read_csv(whole.folder / "tables" / "published.csv")
    assert len(published)
    ours = [column for column in published if column.startswith(("ours", "estimate", "low", "high"))]
    assert ours
    assert published[ours].isna().all(axis=None)


# run again, in another place


def test_second_run_makes_nothing_and_leaves_the_same_bytes(after):
    study = after("5-figures", "moved")
    patterns = [f"**/*.{ending}" for ending in ("h5", "h5ad", "csv", "safetensors")]
    patterns += ["manifests/*", "figures/*", "units/*/*"]
    before = study.hashes(*patterns)
    code, said = study.run_cells("1-preprocess", "2-embed", "3-train")
    assert code == 0, said[-6000:]
    assert re.findall(r"0 made now, (\d+) kept", said) == ["3", "3", "12"]
    assert re.findall(r"(\d+) of \1 units are whole", said) == ["3", "3", "12"]
    assert study.hashes(*patterns) == before


# killed and resumed


def test_training_killed_in_the_middle_resumes_to_the_same_bytes(whole, after, tmp_path):
    study, patterns = after("2-embed"), ("train/*", "weights/*", "predictions.csv", "history.csv")
    study.kill("3-train", "train/both.B.concatenation.s1.history.csv", tmp_path / "hold")
    left = study.hashes("train/*")
    assert "train/both.A.spacrd.s1.scores.csv" in left
    assert "train/both.B.concatenation.s1.scores.csv" in left, "the unit is half done"
    assert "train/both.B.concatenation.s1.history.csv" not in left
    assert not (study.folder / "predictions.csv").exists()
    study.must_run("3-train")
    assert "8 made now, 4 kept" in study.printed("3-train", "stderr")
    assert study.hashes(*patterns) == whole.hashes(*patterns)
    assert manifest(study, "3-train") == manifest(whole, "3-train")


# misused


@pytest.mark.slow
def test_parameter_that_the_notebook_lacks_is_refused_though_papermill_only_warns(after):
    study = after("1-preprocess")
    code, said = study.run("2-embed", "-p", "crop_mu", "90")
    assert "unknown parameter: crop_mu" in said, "papermill's own warning"
    assert code != 0
    assert "notebooks/spacrd/2-embed.ipynb: unknown parameter 'crop_mu': did you mean 'crop_um'?" in said
    assert not (study.folder / "features").exists()
