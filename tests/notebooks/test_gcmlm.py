"""Every notebook of the GC-MLM-RCSA study: a small phantom, bad files, real tables of LRO and STAD; misused."""

import base64
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import yaml
from PIL import Image
from safetensors.numpy import load_file
from scipy.special import expit

from lib.book import Chapter, cleaned, machine_folders
from lib.features.radiomics import feature_names
from lib.files import sha256_of
from lib.gcmlm.phantom import FACTORS, draw
from lib.gcmlm.train import PREDICTIONS, AttentionFusion
from lib.statistics.metrics_table import COLUMNS

sys.path.insert(0, str(Path(__file__).resolve().parent))
from cells import ROOT, STAGES
from cells import Cells as Plain

MODELS = ["signature", "attention"]
MODALITIES = ["clinical", "ct", "slide"]
SUBSETS = [*MODALITIES, "clinical+ct", "clinical+slide", "ct+slide", "clinical+ct+slide"]
FOLDS = ["0", "1", "external"]
QUICK = {
    "folds": 2,
    "inner_folds": 3,
    "radiomics_preset": "slicer",
    "bootstrap_draws": 100,
    "resamples": 10,
    "models": MODELS,
}
SEED, INSIDE, OUTSIDE = 25, 30, 10  # every trouble of the phantom is there, and 12 and 5 with metastasis


def params(name: str, **changes) -> dict:
    path = ROOT / "params" / "gcmlm" / f"{name}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) | QUICK | changes


SMALL = params(
    "demo", cohort="small", phantom={"seed": SEED, "patients": INSIDE, "external": OUTSIDE, "effect": 1.0}
)
OWN = SMALL | {"cohort": "own", "kind": "gated", "phantom": None, "matched_cohort": "own"}


class Cells(Plain):
    """With the raw files of its own tree."""

    png = True

    def run(self, *stages: str, **changes) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lib.gcmlm.cohort.ROOT", self.tree)
            return super().run(*stages, **changes)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """The network is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(AttentionFusion.__init__.__kwdefaults__, "epochs", 4)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Cells, str]:
    """All five notebooks, and what they printed. Not to be changed."""
    tree = tmp_path_factory.mktemp("gcmlm")
    done = Cells(tree, tree / "results", SMALL, "gcmlm", pages=True)
    return done, done.run(*STAGES)


@pytest.fixture
def moved(whole, tmp_path) -> Cells:
    """A copy of the stages' results in another place."""
    copy = Cells(whole[0].tree, tmp_path, SMALL, "gcmlm")
    shutil.copytree(whole[0].folder, copy.folder)
    return copy


@pytest.fixture(scope="module")
def drawn() -> pd.DataFrame:
    return draw(INSIDE, OUTSIDE, SEED).set_index("patient")


def chapter(cohort: str, stage: str) -> Chapter:
    return Chapter(f"notebooks/gcmlm/{cohort}/{stage}.ipynb", "gcmlm", cohort, stage)


def figure_cells(notebook) -> list:
    return [cell for cell in notebook.cells if re.match(r"#\| label: fig-", cell.source)]


# a phantom


@pytest.mark.parametrize("stage", STAGES)
def test_what_the_last_cell_promises_is_there(whole, stage):
    done, _ = whole
    rows = [row.split("|")[-2] for row in done.executed[stage].cells[-1].source.splitlines() if "|" in row]
    named = [name for row in rows[2:] for name in re.findall(r"`([\w/<>.*-]+[\w/>*])`", row)]
    assert named
    for name in named:
        pattern = re.sub(r"(<[^>]*>|\*)+", "*", name)
        found = [*done.folder.glob(pattern), *done.folder.glob(f"{pattern}.*")]
        assert [path for path in found if path.is_file() and path.stat().st_size], f"{stage} promises {name}"


@pytest.mark.parametrize("stage", STAGES)
def test_page_is_fit_for_the_book_and_every_figure_has_pixels(whole, stage):
    done, said = whole
    for cell in figure_cells(done.executed[stage]):
        (shown,) = (
            output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})
        )
        with Image.open(io.BytesIO(base64.b64decode(shown))) as image:
            assert np.asarray(image.convert("L"), dtype=float).std() > 5, cell.source.splitlines()[0]
    page = cleaned(done.executed[stage], chapter("small", stage), "phantom", machine_folders(done.tree))
    text = "".join(
        str(form)
        for cell in page.cells
        for output in cell.get("outputs", ())
        for mime, form in (output.get("data") or {"text/plain": output.text}).items()
        if mime.startswith("text/")
    )
    for folder in (done.tree, Path.home(), ROOT):
        assert str(folder) not in text + said
    assert "Warning" not in text
    assert not re.search(r"\|\s*(nan|None|inf)\s*\|", text), "an empty cell is empty"
    manifest = json.loads((done.folder / "manifests" / f"{stage}.json").read_text(encoding="utf-8"))
    assert manifest["failed"] == {}
    assert manifest["outputs"] == {name: sha256_of(done.folder / name) for name in manifest["outputs"]}
    assert str(done.tree) not in json.dumps(manifest)


def says_or_shows(notebook) -> None:
    """Every figure's cell has a picture, or says in words why there is none."""
    for cell in figure_cells(notebook):
        shown = [
            set(output.data) & {"image/png", "text/markdown"} for output in cell.outputs if "data" in output
        ]
        assert len(shown) == 1, cell.source.splitlines()[0]
        assert shown[0], cell.source.splitlines()[0]


def test_cohort_is_the_phantom_s(whole, drawn):
    done, said = whole
    cohort = done.read("cohort.csv").set_index("patient")
    synchronous = drawn.index[(drawn["event"] == 1) & (drawn["time_months"] <= 6)]
    assert len(synchronous) == 1, "of this seed"
    assert list(cohort.index) == [name for name in drawn.index if name not in synchronous]
    assert "synchronous, so left out: 1 patients\n" in said
    known = drawn.loc[cohort.index]
    pd.testing.assert_series_equal(cohort["label"], known["label"])
    early = (known["event"] == 0) & (known["time_months"] < 24)
    assert early.any()
    assert cohort["status"].eq("censored early").equals(early)
    assert cohort["time_months"].equals(known["time_months"])
    assert cohort["has_clinical"].all()
    assert cohort["has_ct"].equals(known["has_ct"] == 1)
    assert cohort["has_slide"].equals(known["slides"] > 0)
    assert not cohort[["has_ct", "has_slide"]].all(axis=1).all()
    assert cohort["set"].map({"internal": "A", "external": "B"}).equals(cohort["hospital"])
    assert cohort.loc[cohort["set"] == "external", "fold"].isna().all()
    assert set(cohort.loc[cohort["set"] == "internal", "fold"]) == {"0", "1"}
    spread = cohort[cohort["set"] == "internal"].groupby("fold")["label"].sum()
    assert spread.max() - spread.min() <= 1
    for factor in FACTORS:
        assert cohort[factor].isna().equals(known[factor].replace("", np.nan).isna())


def test_scans_slides_and_tables_hold_everybody_once(whole, drawn):
    done, _ = whole
    cohort = done.read("cohort.csv").set_index("patient")
    scans, slides = done.read("scans.csv").set_index("patient"), done.read("slides.csv")
    assert list(scans.index) == list(drawn.index[drawn["has_ct"] == 1])
    assert scans["status"].eq("ok").all()
    assert slides["patient"].value_counts().to_dict() == drawn["slides"][drawn["slides"] > 0].to_dict()
    assert slides["status"].eq("ok").all()
    tables = {name: done.read(f"tables/{name}.csv").set_index("patient") for name in MODALITIES}
    assert list(tables["clinical"]) == list(FACTORS)
    assert list(tables["ct"]) == list(feature_names("slicer"))
    for name, table in tables.items():
        assert table.index.is_unique
        assert set(table.index) == set(cohort.index[cohort[f"has_{name}"]])
        assert name == "clinical" or table.notna().all().all()
    counts = done.read("tables/slide_counts.csv").set_index("patient")
    own = slides[slides["patient"].isin(cohort.index)].groupby("patient")["tiles"].sum()
    assert counts["tiles"].sort_index().equals(own.sort_index())


def test_who_lacks_a_modality_is_kept_for_subsets_and_counted_out_of_fusion(whole):
    done, _ = whole
    cohort = done.read("cohort.csv").set_index("patient")
    predictions = done.read("predictions.csv")
    assert list(predictions) == PREDICTIONS
    assert list(dict.fromkeys(predictions["setting"])) == SUBSETS
    assert set(predictions["model"]) == set(MODELS)
    runs = done.read("runs.csv").set_index(["model", "setting", "fold"])
    assert len(runs) == len(MODELS) * len(SUBSETS) * len(FOLDS)
    inside = cohort["set"] == "internal"
    for (model, setting, fold), rows in predictions.groupby(["model", "setting", "fold"]):
        has = cohort[[f"has_{name}" for name in setting.split("+")]].all(axis=1)
        tests = ~inside if fold == "external" else inside & (cohort["fold"] == fold)
        trains = inside & ~tests
        sides = {split: part["patient"] for split, part in rows.groupby("split")}
        assert sorted(sides["test"]) == sorted(cohort.index[tests & has])
        assert sorted(sides["train"]) == sorted(cohort.index[trains & has])
        told = runs.loc[(model, setting, fold)]
        assert told[["patients", "excluded", "tested", "not_tested"]].tolist() == [
            (trains & has).sum(),
            (trains & ~has).sum(),
            (tests & has).sum(),
            (tests & ~has).sum(),
        ]
        assert told["labelled"] == cohort.loc[trains & has, "label"].notna().sum()
    assert runs.xs("clinical+ct+slide", level="setting")["not_tested"].sum() > 0
    assert runs.xs("clinical", level="setting")["not_tested"].sum() == 0
    assert np.isfinite(predictions["score"]).all()
    np.testing.assert_allclose(predictions["probability"], expit(predictions["score"]), rtol=1e-6)
    hazard = predictions.groupby("model")["hazard"]
    assert hazard.count()["attention"] == 0
    assert hazard.count()["signature"] > 0
    labels = predictions["patient"].map(cohort["label"])
    assert predictions["label"].equals(labels.rename("label"))


def test_metrics_have_their_columns_and_count_who_is_labelled(whole):
    done, said = whole
    metrics = done.read("metrics.csv")
    assert list(metrics) == COLUMNS
    assert not metrics.duplicated(["model", "setting", "metric"]).any()
    cohort = done.read("cohort.csv").set_index("patient")
    assert set(metrics["model"]) == {f"{model}: {subset}" for model in MODELS for subset in SUBSETS}
    for row in metrics[metrics["metric"] == "auc"].itertuples():
        has = cohort[[f"has_{name}" for name in row.model.split(": ")[1].split("+")]].all(axis=1)
        own = cohort.loc[has & (cohort["set"] == row.setting), "label"]
        assert (row.n, row.events) == (own.notna().sum(), own.sum())
    sure = metrics[metrics["estimate"].notna() & metrics["low"].notna()]
    assert (sure["low"] <= sure["estimate"]).all()
    assert (sure["estimate"] <= sure["high"]).all()
    assert len(metrics[metrics["metric"] == "auc"]) == 2 * len(MODELS) * len(SUBSETS)
    timed = metrics[metrics["metric"].str.startswith(("c_index", "auc_t"))]
    assert set(timed["setting"]) == {"internal", "external"}
    labelled = metrics.loc[metrics["metric"] == "auc", "n"].max()
    assert timed["n"].max() > labelled, "who was lost early counts where time is counted"
    assert "cut-off: " in said
    assert set(done.read("coefficients.csv")["model"]) == {"signature"}
    for name in ("differences", "calibration", "cox", "groups", "stability"):
        assert len(done.read(f"tables/{name}.csv"))
    published = done.read("tables/published.csv")
    assert published["verdict"].str.startswith("not testable").all(), "a phantom beside the paper"
    groups = done.read("tables/groups.csv").set_index(["model", "where"])
    fused = cohort[cohort[["has_ct", "has_slide"]].all(axis=1)]
    for where in ("internal", "external"):
        assert groups.loc[("signature", where), ["high", "low"]].sum() == (fused["set"] == where).sum()


def test_second_run_makes_nothing_and_leaves_the_same_bytes(moved, capfd):
    before = moved.hashes()
    moved.run(*STAGES[:3])  # what follows keeps no units
    made = re.findall(r"(\d+) made now, (\d+) kept", capfd.readouterr().err)
    assert len(made) == 5
    assert {new for new, _ in made} == {"0"}
    assert moved.hashes() == before


def test_what_is_lost_is_made_again_and_nothing_else(moved, capfd):
    before = moved.hashes()
    weights = load_file(moved.folder / "weights/ct.0.attention.s1.safetensors")
    lost = [
        "features/ct/GC-0003.json",
        "train/ct.1.signature.s1.scores.csv",
        "weights/ct.0.attention.s1.safetensors",
    ]
    for name in [*lost, "predictions.csv", "tables/ct.csv"]:
        (moved.folder / name).unlink()
    moved.run("2-embed", "3-train")
    assert re.findall(r"(\d+) made now, \d+ kept", capfd.readouterr().err)[0] == "1"
    after = moved.hashes()
    for name in before:
        # scaling kept in weights may differ in its last bit: numpy sums otherwise where memory lies otherwise
        if not name.startswith(("units/", "manifests/", "weights/")):
            assert after[name] == before[name], name
    again = load_file(moved.folder / lost[-1])
    assert all(np.allclose(again[name], weights[name], rtol=1e-6) for name in weights)


# what a hospital brings


@pytest.fixture(scope="module")
def hospital(whole, tmp_path_factory):
    """Copies of the phantom's files as a matched cohort of one's own, in a tree of its own."""

    def copied(folder: Path) -> tuple[Cells, Path]:
        raw = folder / "data" / "raw" / "own"
        shutil.copytree(whole[0].folder / "raw", raw, copy_function=os.link)
        return Cells(folder, folder / "results", OWN, "gcmlm"), raw

    return copied


def edit(path: Path, change) -> None:
    """Rewrite a table in place of the linked one."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table = change(table)
    path.unlink()
    table.to_csv(path, index=False)


def remask(path: Path, change=lambda values: values, shift_mm: float = 0) -> None:
    """Rewrite a mask in place of the linked one."""
    image = sitk.ReadImage(str(path))
    new = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(image)))
    new.CopyInformation(image)
    new.SetOrigin([place + shift_mm for place in image.GetOrigin()])
    path.unlink()
    sitk.WriteImage(new, str(path))


def one_voxel(values: np.ndarray) -> np.ndarray:
    kept = np.zeros_like(values)
    kept[tuple(np.argwhere(values == 1)[0])] = 1
    return kept


EMPTY, VOXEL, AWAY, LABEL, GONE, UNMASKED, CUT, LOST = (f"GC-{n:04d}" for n in (1, 2, 3, 4, 5, 6, 7, 8))


def spoil(raw: Path) -> None:
    masks = {name: raw / "masks" / f"{name}.nii.gz" for name in (EMPTY, VOXEL, AWAY)}
    remask(masks[EMPTY], np.zeros_like)
    remask(masks[VOXEL], one_voxel)
    remask(masks[AWAY], shift_mm=1000)
    (raw / "ct" / f"{GONE}.nii.gz").unlink()

    def rows(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[table["patient"] == LABEL, "label"] = "9"
        table.loc[table["patient"] == UNMASKED, "mask"] = ""
        return table

    edit(raw / "scans.csv", rows)
    slide = raw / "slides" / f"{CUT}-1.tiff"
    content = slide.read_bytes()
    slide.unlink()
    slide.write_bytes(content[: len(content) // 3])
    (raw / "slides" / f"{LOST}-1.tiff").unlink()


BAD = {
    EMPTY: rf"{EMPTY}\.nii\.gz is empty: no voxel is above 0",
    AWAY: rf"{AWAY}\.nii\.gz .* 0\.000 ml on its volume",
    LABEL: rf"{LABEL}\.nii\.gz has no label 9: its labels are 1, 2, 5",
}


def test_bad_scans_end_the_stage_and_with_max_failed_the_others_go_on(hospital, drawn, tmp_path):
    assert drawn.loc[[EMPTY, VOXEL, AWAY, LABEL, GONE, UNMASKED], "has_ct"].eq(1).all()
    assert drawn.loc[[CUT, LOST], "slides"].eq(1).all()
    done, raw = hospital(tmp_path)
    spoil(raw)
    with pytest.raises(RuntimeError, match=f"max_failed is 0; the first is scans/{EMPTY}: ") as ended:
        done.run("1-preprocess")
    assert "\n" not in str(ended.value)
    assert not (done.folder / "cohort.csv").exists()
    failed = json.loads((done.folder / "manifests/1-preprocess.json").read_text(encoding="utf-8"))["failed"]
    assert set(failed) == {f"scans/{name}" for name in BAD}
    for name, sentence in BAD.items():
        assert re.search(sentence, failed[f"scans/{name}"])
    said = done.run("1-preprocess", max_failed=9)
    scans, slides = done.read("scans.csv").set_index("patient"), done.read("slides.csv").set_index("slide")
    bad = {*BAD, GONE, UNMASKED}
    assert set(scans.index[scans["status"] == "failed"]) == bad
    assert set(slides.index[slides["status"] == "failed"]) == {f"{CUT}-1", f"{LOST}-1"}
    assert scans.loc[GONE, "problem"] == f"image ct/{GONE}.nii.gz is not there"
    assert f"FAILED tiles/{CUT}-1: ValueError: {CUT}-1.tiff cannot be opened as a slide" in said
    assert slides.loc[f"{LOST}-1", "note"] == f"slide slides/{LOST}-1.tiff is not there"
    assert scans.loc[list(bad), "problem"].notna().all(), "why stands in the table too"
    assert "is empty: no voxel is above 0" in scans.loc[EMPTY, "problem"]
    assert scans.loc[UNMASKED, "problem"].startswith("no mask is named")
    assert "cannot be opened as a slide" in slides.loc[f"{CUT}-1", "note"]
    assert str(tmp_path) not in scans.to_csv() + slides.to_csv()
    cohort = done.read("cohort.csv").set_index("patient")
    assert len(cohort) == INSIDE + OUTSIDE - 1, "nobody is dropped for want of a picture"
    expected = drawn.loc[cohort.index, "has_ct"].eq(1) & ~cohort.index.isin(bad)
    assert cohort["has_ct"].equals(expected)
    assert not cohort.loc[[CUT, LOST], "has_slide"].any()
    embedded = done.run("2-embed", max_failed=9)
    assert re.search(rf"FAILED features/ct/{VOXEL}: ValueError: .*\b(1|one) voxel", embedded)
    table = done.read("tables/ct.csv").set_index("patient")
    assert set(table.index) == set(cohort.index[expected]) - {VOXEL}
    assert not {CUT, LOST} & set(done.read("tables/slide.csv")["patient"])


def test_hospital_without_patients_is_not_taken_for_an_external_one(hospital, tmp_path):
    done, _ = hospital(tmp_path)
    with pytest.raises(ValueError, match=r"external_hospitals names C, where no patient is: known are A, B$"):
        done.run("1-preprocess", external_hospitals=["C"])


def test_outcome_among_the_features_ends_the_training(moved):
    label = moved.read("cohort.csv").set_index("patient")["label"]
    edit(moved.folder / "tables" / "ct.csv", lambda table: table.assign(f257=table["patient"].map(label)))
    before = sha256_of(moved.folder / "predictions.csv")
    with pytest.raises(
        ValueError, match=r"f257 of the table of ct alone tells the label with an AUC of 1\.000"
    ):
        moved.run("3-train")
    assert sha256_of(moved.folder / "predictions.csv") == before


# real tables


@pytest.mark.real
def test_head_and_neck_radiomics_go_through_every_stage(mirror, tmp_path):
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "ct").symlink_to(mirror / "ct")
    values = params("lro", cohort="headneck", seeds=[1])
    done = Cells(tmp_path, tmp_path / "results", values, "gcmlm", pages=True)
    done.run(*STAGES)
    cohort = done.read("cohort.csv")
    assert len(cohort) == 150
    assert cohort["time_months"].isna().all()
    assert cohort["set"].eq("internal").all()
    for name, width in {"clinical": 10, "ct": 257, "pet": 257}.items():
        assert done.read(f"tables/{name}.csv").shape == (150, width + 1)
    auc = done.read("metrics.csv").query("metric == 'auc'").set_index("model")
    assert auc["n"].eq(150).all()
    assert auc["setting"].eq("internal").all()
    assert 0.55 < auc.loc["signature: pet", "estimate"] < 0.85
    assert 0.55 < auc.loc["signature: clinical+ct+pet", "estimate"] < 0.85
    assert auc["low"].notna().all()
    guard = done.read("guard.csv")
    assert guard["auc"].max() < 0.97
    assert not done.read("metrics.csv")["metric"].str.startswith(("c_index", "auc_t")).any()
    for stage in STAGES:
        cleaned(done.executed[stage], chapter("headneck", stage), "open")
        says_or_shows(done.executed[stage])


@pytest.mark.real
@pytest.mark.filterwarnings("error:constrained_layout not applied")
def test_gastric_cancers_of_tcga_go_through_every_stage_with_clinical_factors_alone(mirror, tmp_path):
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "tcga").symlink_to(mirror / "tcga")
    values = params("stad", cohort="liver", models=["signature"], seeds=[1, 2])
    done = Cells(tmp_path, tmp_path / "results", values, "gcmlm", pages=True)
    said = done.run(*STAGES)
    cohort = done.read("cohort.csv")
    apart = int(re.search(r"synchronous, so left out: (\d+) patients", said)[1])
    unusable = len(re.findall(r": no follow-up, so left out\n", said))
    assert len(cohort) + apart + unusable == 349
    assert cohort["event"].sum() + apart == 25
    assert 0 < apart < 25
    metrics = done.read("metrics.csv")
    assert set(metrics["model"]) == {"signature: clinical"}
    auc = metrics[metrics["metric"] == "auc"].iloc[0]
    assert (auc["events"], auc["seeds"]) == (cohort["label"].sum(), 2)
    assert 0.3 < auc["estimate"] < 0.8
    assert sorted(done.read("predictions.csv")["seed"].unique()) == [1, 2]
    for stage in STAGES:
        cleaned(done.executed[stage], chapter("liver", stage), "open")
        says_or_shows(done.executed[stage])
