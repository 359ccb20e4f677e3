"""A cohort: published folds against outcomes, stored predictions of others, the real files of both; phantoms."""

import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from lib.crossfusion.cohort import Cohort, CoxBaseline, embedded_slides, stored_predictions
from lib.crossfusion.params import CrossFusionParams
from lib.crossfusion.phantom import planted_patients, write_planted
from lib.features.tiles import LEFT_OUT
from lib.inputs.tcga import by_patient, read_outcomes
from lib.statistics.concordance import harrell


@pytest.fixture
def hospital(tmp_path, monkeypatch):
    """Function: a cohort of slides with follow-up, of these rows (patient, slide) and parameters."""
    monkeypatch.setattr("lib.crossfusion.cohort.RAW", tmp_path)

    def made(rows, **changes):
        lines = [f"{patient},{slide},10,0,60" for patient, slide in rows]
        head = "case_id,slide_id,survival_months,censorship,age"
        (tmp_path / "o.csv").write_text("\n".join([head, *lines]) + "\n")
        settings = {"phantom": None, "outcomes": "o.csv", "slides": "slides", "predictions": {}}
        params = CrossFusionParams(cohort="mine", kind="open", clinical=["age"], **settings | changes)
        (tmp_path / "slides").mkdir(exist_ok=True)
        stage = {"params": params, "folder": tmp_path, "name": "1-preprocess", "failed": {}}
        return Cohort(SimpleNamespace(**stage, reads=lambda path: path))

    return made


BARCODES = [f"TCGA-BH-A1FU-{end}.svs" for end in ("01Z-00-DX1", "11A-02-TSB", "06Z-00-DX1", "20A-01-TS1")]


def test_normal_tissue_is_left_out_by_name_unless_it_is_asked_for(hospital, tmp_path):
    rows = [*[("TCGA-BH-A1FU", slide) for slide in BARCODES], ("TCGA-BH-A1FV", "TCGA-BH-A1FV-10A-01-BS1.svs")]
    for _, slide in rows:
        (tmp_path / "slides").mkdir(exist_ok=True)
        (tmp_path / "slides" / slide).write_bytes(b"")
    raw = hospital(rows)
    table = raw.tiled([]).set_index("slide")
    kinds = ["primary tumour", "normal tissue", "metastasis", "control", "normal blood"]
    assert list(table["sample"]) == kinds
    assert list(table["status"].str.startswith("normal tissue")) == [False, True, False, True, True]
    assert set(raw.paths) == {"TCGA-BH-A1FU-01Z-00-DX1", "TCGA-BH-A1FU-06Z-00-DX1"}
    assert raw.patients()["slides"].to_dict() == {"TCGA-BH-A1FU": 2, "TCGA-BH-A1FV": 0}
    # features of them, made elsewhere, take no part either
    for slide in table.index:
        for scale in (20, 10, 5):
            path = tmp_path / "given" / f"x{scale}" / f"{slide}.h5"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    stage = SimpleNamespace(params=raw.params.model_copy(update={"features": "given"}), folder=tmp_path)
    embedded, without = embedded_slides(stage, table.reset_index())
    assert set(embedded["slide"]) == set(raw.paths)
    assert without == []
    kept = hospital(rows, normal_tissue=True)
    assert len(kept.paths) == 5
    assert not kept.tiled([])["status"].str.startswith("normal").any()


def test_what_the_process_list_leaves_out_and_other_settings_are_told(hospital, tmp_path, monkeypatch):
    monkeypatch.setattr("lib.features.tiles.RAW", tmp_path)
    names = ("a", "b", "c")
    (tmp_path / "slides").mkdir()
    for name in names:
        (tmp_path / "slides" / f"{name}.svs").write_bytes(b"")
    (tmp_path / "list.csv").write_text("slide_id,process,sthresh\na.svs,1,20\nb.svs,0,\n")
    clams = {"tiling": "clam_compat", "process_list": "list.csv"}
    raw = hospital([(f"P{name}", name) for name in names], **clams)
    assert list(raw.presets) == ["a"]
    table = raw.tiled([]).set_index("slide")
    assert table["status"].to_dict() == {"a": "failed", "b": "left out", "c": "left out"}
    assert table.loc["b", "note"] == table.loc["c", "note"] == LEFT_OUT
    before = raw.depends("a")
    assert before["preset"].sthresh == 20
    (tmp_path / "list.csv").write_text("slide_id,process,sthresh\na.svs,1,30\n")
    assert hospital([(f"P{name}", name) for name in names], **clams).depends("a") != before
    (tmp_path / "list.csv").write_text("slide_id\nx.svs\n")
    with pytest.raises(ValueError, match=r"list.csv names slide x and is no slide of this cohort"):
        hospital([(f"P{name}", name) for name in names], **clams)


def test_a_hospitals_own_identifiers_are_taken_as_they_stand(hospital):
    rows = [("patient_0", "slide_1"), ("patient_0", "slide_2.ndpi"), ("P1", "P10_a.tiff")]
    rows += [("17", "S21-12345-A1.mrxs")]
    raw = hospital(rows)
    assert list(raw.slides["slide"]) == ["slide_1", "slide_2", "P10_a", "S21-12345-A1"]
    assert raw.patients()["slides"].to_dict() == {"patient_0": 2, "P1": 1, "17": 1}
    assert "no file slide_1.svs, .tif" in raw.tiled([])["note"][0]


def test_a_scale_for_a_slide_nobody_has_is_told(hospital):
    rows = [("P1", "P1_a.svs"), ("P2", "P2_a.svs")]
    assert hospital(rows, um_per_px={"P1_a": 0.25}).params.um_per_px == {"P1_a": 0.25}
    with pytest.raises(ValueError, match=r"um_per_px names P1_a.svs, which is no slide .*; nearest: P1_a"):
        hospital(rows, um_per_px={"P1_a.svs": 0.25})


# ------------------------------------------------------------------------------ risks that MCAT's authors stored

COHORT = "tcga_blca_AMILsm_nll_surv_a0.0_5foldcv_gc32_sig_s1"
STORED = {"blca": (373, 169), "brca": (956, 130), "gbmlgg": (569, 187), "luad": (453, 158), "ucec": (480, 75)}


def one(risk=-2.0, time=24.0, censorship=0.0):
    return {"slide_id": np.array("S1"), "risk": risk, "survival": time, "censorship": censorship}


def store(folder, content, fold=0, cohort=COHORT):
    path = folder / cohort / f"split_latest_val_{fold}_results.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=3))
    return path


def test_fifty_stored_c_indices(mirror):
    folder = mirror / "mcat"
    found = stored_predictions(folder)
    sizes = found.groupby(["model", "cancer"])["event"].agg(["size", "sum"])
    assert {key: tuple(row) for key, row in zip(sizes.index, sizes.to_numpy(), strict=True)} == {
        (model, cancer): size for model in ("AMIL", "MCAT") for cancer, size in STORED.items()
    }
    compared = 0
    for summary in folder.rglob("summary_latest.csv"):
        model = "AMIL" if "AMILsm" in summary.parent.name else "MCAT"
        cancer = summary.parent.name.split("_")[1]
        mine = found[(found["model"] == model) & (found["cancer"] == cancer)]
        for fold, stored in pd.read_csv(summary)[["folds", "val_cindex"]].itertuples(index=False):
            rows = mine[mine["fold"] == fold]
            value = harrell(rows["time"], rows["event"], rows["risk"])
            assert value == pytest.approx(stored, abs=1e-6), (model, cancer, fold)
            compared += 1
    assert compared == 50


# -------------------------------------------------------------------------------------------------------- phantoms


@pytest.mark.parametrize("effects", [(0.4, 0.3, 0.8), (0.0, 0.0, 0.0)])
def test_planted_hazards_are_recovered_and_null_has_none(effects):
    cohort = planted_patients(4000, 1, *effects)
    table = cohort[["pattern", "time", "event"]].assign(age=(cohort["age"] - 62) / 11)
    stage = cohort["stage"].map({"Stage I": 1, "Stage II": 2, "Stage III": 3, "Stage IV": 4})
    table["stage"] = (stage - 2.5) / np.sqrt(1.25)
    found = CoxPHFitter().fit(table, "time", "event").params_
    np.testing.assert_allclose(found[["age", "stage", "pattern"]], effects, atol=0.07)
    assert 0.4 < cohort["event"].mean() < 0.9
    assert cohort["time"].between(0, 120).all()


def test_written_cohort_is_read_as_tcga_is(tmp_path):
    cohort = planted_patients(40, seed=2)
    pd.testing.assert_frame_equal(cohort, planted_patients(40, seed=2))
    assert not cohort["time"].equals(planted_patients(40, seed=3)["time"])
    write_planted(tmp_path, cohort, seed=7)
    slides = read_outcomes(tmp_path / "outcomes.csv")
    assert len(slides) == 48
    table = by_patient(slides).set_index("patient").loc[cohort["patient"]]
    np.testing.assert_allclose(table["time_months"], cohort["time"])
    np.testing.assert_array_equal(table["event"], cohort["event"])


# the Cox baseline: what lifelines gives, on training patients only


@pytest.fixture(scope="module")
def clinical() -> pd.DataFrame:
    stages = {"Stage I": 1.0, "Stage II": 2, "Stage III": 3, "Stage IV": 4}
    table = planted_patients(300, seed=3, slide_effect=0)
    return table.assign(stage=table["stage"].map(stages))


def fitted(table: pd.DataFrame, *columns, **options) -> CoxBaseline:
    return CoxBaseline(*columns, **options).fit(table, table["time"], table["event"])


def test_plain_numbers_give_what_lifelines_gives(clinical):
    ours = fitted(clinical, ["age", "stage"], ridge=0.0)
    theirs = CoxPHFitter().fit(clinical[["age", "stage", "time", "event"]], "time", "event")
    risk, times = ours.risk(clinical), [6.0, 24.0, 60.0]
    np.testing.assert_allclose(risk, theirs.predict_log_partial_hazard(clinical).to_numpy(), atol=1e-5)
    free = ours.survival(clinical, times)
    np.testing.assert_allclose(
        free, theirs.predict_survival_function(clinical, times=times).to_numpy().T, atol=1e-5
    )
    assert (np.diff(free[np.argsort(risk), 1]) <= 1e-12).all()  # higher risk dies earlier
    ratios = fitted(clinical, ["age", "stage"]).hazard_ratios().set_index("column")["hazard_ratio"]
    assert np.log(ratios["age"]) == pytest.approx(0.4, abs=0.15)  # as planted
    assert np.log(ratios["stage"]) == pytest.approx(0.4, abs=0.15)


def test_scale_and_held_out_patients_change_nothing_of_the_fit(clinical):
    scaled = clinical.assign(age=clinical["age"] * 365.25 + 100)
    np.testing.assert_allclose(
        fitted(clinical, ["age"]).risk(clinical), fitted(scaled, ["age"]).risk(scaled), atol=1e-8
    )
    train, test = clinical[:200], clinical[200:]
    model = fitted(train, ["age", "stage"])
    others = test.assign(age=test["age"].where(np.arange(100) == 0, 500))
    assert model.risk(others)[0] == pytest.approx(model.risk(test.iloc[:1])[0])


def test_missing_numbers_take_the_training_median(clinical):
    holed = clinical.assign(stage=clinical["stage"].mask(np.arange(300) % 3 == 0))
    model = fitted(holed, ["age", "stage"])
    filled = holed.assign(stage=holed["stage"].fillna(holed["stage"].median()))
    np.testing.assert_allclose(model.risk(holed), model.risk(filled))
    assert model.used == ["age", "stage"]
    # a hole met only when predicting is filled too
    assert np.isfinite(fitted(clinical, ["age", "stage"]).risk(holed)).all()


def test_rare_and_unseen_categories_share_a_column(clinical):
    table = clinical.assign(kind=["A"] * 150 + ["B"] * 140 + ["C"] * 6 + ["D"] * 4)
    model = fitted(table, ["age"], ["kind"])
    assert model.used == ["age", "kind_B", "kind_infrequent_sklearn"]
    one = table.iloc[[295]]
    assert model.risk(one)[0] == model.risk(one.assign(kind="never seen"))[0]


@pytest.mark.parametrize(
    ("change", "columns", "said"),
    [
        ({"age": 60.0}, ["age"], "column age is the same for every training patient"),
        ({"event": 0}, ["age"], "none of the 300 training patients had an event"),
    ],
)
def test_what_cannot_be_fitted_says_why(clinical, change, columns, said):
    with pytest.raises(ValueError, match=said):
        fitted(clinical.assign(**change), columns)
