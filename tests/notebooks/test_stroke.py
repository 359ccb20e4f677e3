"""Every notebook of the stroke study: a small phantom, a fake ISLES'24 tree, the reference's own input; misused."""

import gzip
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from lib.files import sha256_of
from lib.inputs.volumes import Volume, write_volume
from lib.statistics.metrics_table import COLUMNS
from lib.stroke.perfusion import read_prepared
from lib.stroke.phantom import draw, series_path, write_patient
from lib.stroke.series import read_series, read_series_features, write_series

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stroke"))
import cells
from film_files import write_3d, write_4d, write_dicom
from isles_tree import BASELINE, OUTCOME, current, mixed, older, touch

ROOT = Path(__file__).resolve().parents[2]
STAGES = cells.STAGES
MODELS = ["fusion", "ctp", "clinical-branch", "late-fusion", "logistic-both"]
DEMO = yaml.safe_load((ROOT / "params" / "stroke" / "demo.yaml").read_text(encoding="utf-8"))
QUICK = {
    "folds": 2,
    "frames": 2,
    "models": {"admission": MODELS},
    "epochs": 1,
    "widths": [2, 2, 2, 2],
    "channels": 4,
    "heads": 2,
    "bootstrap_draws": 100,
}
SMALL = DEMO | QUICK | {"cohort": "small", "phantom": {"seed": 3, "patients": 12, "effect": 1.5}}
PATTERNS = ("**/*.h5", "**/*.csv", "**/*.json", "**/*.nii.gz", "**/*.safetensors", "figures/*")


class Cells(cells.Cells):
    """The stroke study's notebooks."""

    def __init__(self, tree: Path, results: Path, values: dict):
        super().__init__(tree, results, values, "stroke", PATTERNS)


def check_outcome(done: Cells, models: list[str], folds: set[str], held_out: set[str]) -> None:
    """Every model predicts every held-out patient once, and is evaluated on them."""
    predictions = done.read("predictions.csv")
    assert list(dict.fromkeys(predictions["model"])) == models
    assert set(predictions["fold"]) == folds
    for _, rows in predictions.groupby(["setting", "model"]):
        assert rows["patient"].is_unique
        assert set(rows["patient"]) == held_out
    assert np.isfinite(predictions["score"]).all()
    assert predictions["probability"].between(0, 1).all()
    metrics = done.read("metrics.csv")
    assert set(metrics["model"]) == set(models)
    auc = metrics[metrics["metric"] == "auc"]
    assert (auc["n"] == len(held_out)).all()
    assert ((auc["low"] <= auc["estimate"]) & (auc["estimate"] <= auc["high"])).all()


# a phantom


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Cells, str]:
    folder = tmp_path_factory.mktemp("small")
    done = Cells(folder, folder / "results", SMALL)
    return done, done.run(*STAGES)


def test_phantom_goes_through_every_stage(whole):
    done, _ = whole
    drawn = draw(12, 3, 1.5).set_index("patient")
    cohort = done.read("cohort.csv").set_index("patient")
    assert set(cohort.index) == set(drawn.index)
    assert cohort["mrs"].eq(drawn["mrs"].loc[cohort.index]).all()
    assert cohort["label"].eq(cohort["mrs"] >= 3).all()
    for name in cohort.index:
        assert len(read_prepared(done.folder / "series" / f"{name}.h5").values) == 32
        assert read_series_features(done.folder / "features" / f"{name}.h5").shape == (2, 16, 16, 16)
    models = ["fusion", "ctp", "clinical-branch", "logistic-both", "late-fusion"]
    check_outcome(done, models, {"0", "1"}, set(drawn.index))
    assert list(done.read("metrics.csv")) == COLUMNS
    assert len(list((done.folder / "weights").iterdir())) == 6
    margin = done.read("tables/margin.csv")
    assert not [column for column in margin if column.startswith(("ours", "estimate"))], "beside the paper"
    figures = {path.stem for path in (done.folder / "figures").glob("*.svg")}
    assert figures == {
        *("frames", "outcome", "artery", "maps", "volumes", "film", "training", "patient", "epochs"),
        *("roc", "false-alarms", "calibration", "shift", "models", "attention"),
    }
    for stage in STAGES:
        manifest = json.loads((done.folder / "manifests" / f"{stage}.json").read_text(encoding="utf-8"))
        assert manifest["failed"] == {}
        assert manifest["outputs"] == {name: sha256_of(done.folder / name) for name in manifest["outputs"]}


def test_second_run_makes_nothing_and_leaves_the_same_bytes(whole, capfd):
    done, _ = whole
    before = done.hashes()
    said = done.run(*STAGES)
    assert re.findall(r"(\d+) of \1 units are whole", said) == ["12", "12", "1", "8"]
    made = re.findall(r"(\d+) made now", capfd.readouterr().err)
    assert made == ["0"] * 4
    assert done.hashes() == before


# ISLES'24


ADDED = dict(zip([f"sub-stroke{n:04d}" for n in range(21, 29)], [0, 1, 2, 1, 0, 4, 6, 2], strict=True))
MRS = {"sub-stroke0001": 3, "sub-stroke0002": 5, **ADDED, "sub-stroke0030": 5, "sub-stroke0031": 3}
ISLES = DEMO | QUICK | {"cohort": "fake", "kind": "open", "phantom": None, "isles": "fake/train"}
ISLES["models"] = {
    "admission": ["fusion", "logistic-both"],
    "postprocedural": ["clinical-branch", "logistic-clinical"],
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Callable[[int], Path]:
    """Small scans, each of another patient's head, interval and orientation."""
    folder, rows = tmp_path_factory.mktemp("scans"), draw(14, 5, 1.0)

    def scan(number: int) -> Path:
        row = rows.iloc[number]
        path = series_path(folder, row["patient"])
        if not path.exists():
            write_patient(folder, row, 5, (16, 32, 32), 40)
        return path

    return scan


@pytest.fixture(scope="module")
def isles(scans, tmp_path_factory) -> tuple[Cells, str, dict[str, Path]]:
    """The fake tree after all stages, what they said, and whose scan is which."""
    tree = tmp_path_factory.mktemp("isles")
    root = tree / "data" / "raw" / "fake" / "train"
    current(root)
    older(root)
    older(root, "sub-strokecase0030")
    mixed(root)
    for number, (name, mrs) in enumerate(ADDED.items()):
        own = {
            "Age": str(48 + 4 * number),
            "NIHSS at admission": str(3 + 2 * number),
            "Sex": "MF"[number % 2],
        }
        current(root, name, ("csv", "xlsx")[number % 2], BASELINE | own, OUTCOME | {"mRS 3 months": str(mrs)})
    current(root, "sub-stroke0031")  # raw series empty, the registered one whole
    own = {}
    for number, name in enumerate([*MRS, "sub-stroke0007"]):
        raw = root / "raw_data" / name / "ses-01" / f"{name}_ses-01_ctp.nii.gz"
        case = name.replace("stroke", "strokecase")
        older_place = root / "rawdata" / case / "ses-0001" / f"{case}_ses-0001_ctp.nii.gz"
        places = {
            **dict.fromkeys(("sub-stroke0002", "sub-stroke0030"), older_place),
            "sub-stroke0007": root / "Raw_Data/sub-stroke0007/SES-01/sub-stroke0007_ses-01_CTP.nii",
            "sub-stroke0031": root / f"derivatives/{name}/ses-01/{name}_ses-01_space-ncct_ctp.nii.gz",
        }
        own[name], place = scans(number), places.get(name, raw)
        assert place.is_file(), "the tree is another than this test knows"
        content = own[name].read_bytes()
        place.write_bytes(gzip.decompress(content) if place.suffix == ".nii" else content)
        if name == "sub-stroke0031":
            touch(raw, b"")
    done = Cells(tree, tree / "results", ISLES)
    return done, done.run(*STAGES), own


def test_fake_isles_passes_every_stage_and_who_cannot_be_used_is_named(isles):
    done, said, _ = isles
    models = ["fusion", "logistic-both", "clinical-branch", "logistic-clinical"]
    check_outcome(done, models, {"0", "1"}, set(MRS))
    for stage in STAGES:
        manifest = json.loads((done.folder / "manifests" / f"{stage}.json").read_text(encoding="utf-8"))
        assert manifest["failed"] == {}
        assert str(done.tree) not in json.dumps(manifest)
        inputs = set(manifest["inputs"])
        assert not [name for name in inputs if "ctp" in name.lower()], "99 GB are read for a checksum"
        assert stage != "1-preprocess" or any(name.endswith("0030_ses-0002_outcome.xlsx") for name in inputs)
    assert str(done.tree) not in said
    assert "left out: sub-stroke0009: no CTP series\n" in said
    assert "left out: sub-stroke0012: no outcome table\n" in said
    assert "13 patients with a scan\n" in said
    assert "without an outcome, so left out: sub-stroke0007\n" in said
    assert re.search(r"sub-stroke0031: .*sub-stroke0031_ses-01_ctp\.nii\.gz is empty and is not taken", said)


def test_values_and_scans_of_isles_are_those_in_the_files(isles):
    done, _, own = isles
    cohort = done.read("cohort.csv").set_index("patient")
    assert cohort["mrs"].to_dict() == MRS
    assert cohort["label"].to_dict() == {name: int(mrs >= 3) for name, mrs in MRS.items()}
    assert cohort["smoking"].isna().all()
    row = cohort.loc["sub-stroke0023", ["age", "nihss", "sex", "onset_to_ctp_min"]]
    assert row.tolist() == [56, 7, 1, 90]
    assert cohort.loc["sub-stroke0024", ["age", "nihss", "sex", "mtici"]].tolist() == [60, 9, 0, 1]
    assert cohort.loc["sub-stroke0002", ["age", "hypertension"]].isna().all(), "nan and null"
    scans = done.read("scans.csv").set_index("patient")
    assert set(scans.index) == set(own)
    for name, path in own.items():
        series = read_series(path)
        assert scans.loc[name, "interval_s"] == pytest.approx(series.interval_s)
        assert scans.loc[name, "stored_as"] == series.stored_as
    assert scans["interval_s"].nunique() > 1
    assert scans["stored_as"].nunique() > 2
    volumes = done.read("volumes.csv").set_index("patient")
    assert set(volumes.index) == set(MRS)
    assert volumes["hypoperfused_ml"].ge(volumes["core_ml"]).all()


def test_scans_that_are_no_film_are_named_all_at_once(scans, tmp_path):
    root, names = tmp_path / "data/raw/fake/train", [f"sub-stroke000{number}" for number in range(1, 5)]
    paths = [root / "raw_data" / name / "ses-01" / f"{name}_ses-01_ctp.nii.gz" for name in names]
    for name in names:
        current(root, name)
    whole = read_series(scans(0))
    write_volume(paths[1], Volume(whole.values[0], whole.geometry))
    write_series(paths[2], whole._replace(values=whole.values[:20]), "int16")
    order = np.random.default_rng(1).permutation(len(whole.values))
    write_series(paths[3], whole._replace(values=whole.values[order]), "int16")
    shutil.copy2(scans(0), paths[0])
    done = Cells(tmp_path, tmp_path / "results", ISLES)
    with pytest.raises(
        RuntimeError, match=r"3 of 4 units failed, max_failed is 0; the first is sub-stroke0002"
    ):
        done.run("1-preprocess")
    manifest = json.loads((done.folder / "manifests" / "1-preprocess.json").read_text(encoding="utf-8"))
    failed = manifest["failed"]
    assert list(failed) == names[1:]
    assert "CT perfusion is a series" in failed[names[1]]
    assert "the series has 20 frames and the window takes 32" in failed[names[2]]
    assert "frames are out of order" in failed[names[3]]
    assert [path.stem for path in (done.folder / "series").glob("*.h5")] == [names[0]]
    assert not (done.folder / "cohort.csv").exists()


# one's own patients


OWN = DEMO | QUICK | {"cohort": "hospital", "kind": "gated", "phantom": None, "own_patients": "hospital"}
OWN["models"] = {"admission": ["fusion", "logistic-both"], "postprocedural": ["logistic-clinical"]}
WAYS = ["plain", "unstated", "volumes", "series", "many", "sidecar"] + 6 * ["plain"]
KEPT = np.r_[:28, 30:40:3]  # a frame a second, then every third


def write_hospital(folder: Path, scans: Callable[[int], Path]) -> None:
    """Twelve patients whose films are in every format, a form of the hospital's own, and one who has no film."""
    rows = ["patient,film,series,interval_s,age,NIHSS at arrival,sex,onset_to_ctp_min,mrs,ward"]
    for number, way in enumerate(WAYS):
        film, name = read_series(scans(number)), f"Pat. {number + 1}" if number % 2 else f"patient_{number}"
        values, grid, step = np.rint(film.values), film.geometry, film.interval_s
        seconds, place, stated, series = step * np.arange(len(values)), folder / f"films {number}", "", ""
        if way == "plain":
            write_4d(place / "ctp.nii.gz", values, grid, step)
        elif way == "unstated":
            write_4d(place / "ctp.nii.gz", values, grid, None)
        elif way == "volumes":
            write_3d(place, values, grid)
        elif way == "sidecar":
            write_4d(
                place / "ctp.nii.gz",
                values[KEPT],
                grid,
                None,
                sidecar={"FrameTimesStart": seconds[KEPT].tolist()},
            )
        else:
            write_dicom(place, values, grid, seconds, each_frame=way == "many")
            series = "7" if way == "series" else ""
        stated = step if way in ("unstated", "volumes") else ""
        path = f"{place.name}/ctp.nii.gz" if way in ("plain", "unstated", "sidecar") else place.name
        form = (
            f"{50 + number},{2 + number},{'FM'[number % 2]},{90 + 5 * number},{(0, 1, 4, 5)[number % 4]},3B"
        )
        rows.append(f"{name},{path},{series},{stated},{form}")
    rows.append("late,,,,70,9,F,80,4,3B")
    (folder / "patients.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def hospital(scans, tmp_path_factory) -> tuple[Cells, str]:
    tree = tmp_path_factory.mktemp("hospital")
    write_hospital(tree / "data" / "raw" / "hospital", scans)
    done = Cells(tree, tree / "results", OWN | {"mapping": {"nihss": "NIHSS at arrival"}})
    return done, done.run(*STAGES)


def test_a_hospital_s_films_of_every_format_pass_every_stage(hospital, scans):
    done, said = hospital
    cohort, scanned = (done.read(name).set_index("patient") for name in ("cohort.csv", "scans.csv"))
    assert len(cohort) == len(scanned) == 12
    assert cohort.loc["patient_4", ["age", "nihss", "sex", "mrs"]].tolist() == [54, 6, 0, 0]
    check_outcome(done, ["fusion", "logistic-both", "logistic-clinical"], {"0", "1"}, set(cohort.index))
    assert "left out: late: no film is named\n" in said
    assert "columns not read: ward\n" in said
    assert re.search("no column of smoking", said)
    for number, way in enumerate(WAYS):
        name, film = f"Pat. {number + 1}" if number % 2 else f"patient_{number}", read_series(scans(number))
        assert scanned.loc[name, "interval_s"] == pytest.approx(film.interval_s), way
        assert scanned.loc[name, "frames"] == 40, way
        odd = "interpolated to every" in str(scanned.loc[name, "note"])
        assert odd == (way == "sidecar")


def test_a_hospital_s_broken_films_are_named_and_the_others_prepared(scans, tmp_path):
    folder = tmp_path / "data" / "raw" / "hospital"
    film, rows = read_series(scans(0)), ["patient,film,mrs"]
    blank, values = film.values.copy(), np.rint(film.values)
    blank[-1] = 0
    late = values[16:]
    films = {
        "turned": values[::-1],
        "blank": blank,
        "sound": values,
        "text": values[sorted(range(40), key=str)],
        "late": late,
    }
    for name, one in films.items():
        write_4d(folder / f"{name}.nii.gz", one, film.geometry, film.interval_s)
        rows.append(f"{name},{name}.nii.gz,3")
    (folder / "patients.csv").write_text("\n".join(rows) + "\n")
    done = Cells(tmp_path, tmp_path / "results", OWN)
    with pytest.raises(RuntimeError, match=r"4 of 5 units failed"):
        done.run("1-preprocess", preparation=DEMO["preparation"] | {"frames": 16})
    failed = json.loads((done.folder / "manifests" / "1-preprocess.json").read_text(encoding="utf-8"))[
        "failed"
    ]
    assert "frames run backwards" in failed["turned"]
    assert "frame 39 holds 0 throughout" in failed["blank"]
    assert "mean enhancement jumps" in failed["text"]
    assert "contrast is there before the film begins" in failed["late"]
    assert (done.folder / "series" / "sound.h5").exists()


# a form without films


def test_a_form_without_films_passes_every_stage_and_is_read_within_each_hospital(tmp_path):
    path = tmp_path / "data" / "raw" / "form.csv"
    path.parent.mkdir(parents=True)
    head = "subject_id,Sex,Atrial fibrillation,Hypertension,NIHSS at admission,Age_z,Onset to door_z,TICI,mRS 3 months"
    rows = [
        f"sub-stroke{number:04d},{number % 2},0,1,{3 + n},{n / 10 - 1:.2f},0.1,{'2c' if number < 133 else ''},{n * 3 % 7}"
        for n, number in enumerate([*range(1, 15), *range(133, 143)])
    ]
    path.write_text("\n".join([head, *rows]) + "\n")
    plan = {"admission": ["clinical-branch", "logistic-clinical"], "postprocedural": ["logistic-clinical"]}
    values = (
        DEMO
        | QUICK
        | {"cohort": "form", "kind": "open", "phantom": None, "isles_form": "form.csv", "models": plan}
    )
    done = Cells(tmp_path, tmp_path / "results", values)
    said = done.run(*STAGES)
    cohort = done.read("cohort.csv").set_index("patient")
    assert cohort.loc["sub-stroke0002", ["age", "nihss", "sex", "mrs"]].tolist() == [56.9, 4, 0, 3]
    assert cohort["hospital"].value_counts().to_dict() == {"first": 14, "second (inferred)": 10}
    assert cohort.loc["sub-stroke0133", "mtici"] != cohort.loc["sub-stroke0133", "mtici"]
    assert cohort["onset_to_ctp_min"].isna().all()
    assert done.read("columns.csv").set_index("column").loc["nihss", "missing"] == 0
    check_outcome(done, ["clinical-branch", "logistic-clinical"], {"0", "1"}, set(cohort.index))
    found = done.read("tables/hospitals.csv").set_index(["setting", "model", "hospital"])
    scores = done.read("predictions.csv").query("setting == 'admission' and model == 'logistic-clinical'")
    second = scores[scores["patient"] > "sub-stroke0132"]
    bad = second["patient"].map(cohort["label"]) == 1
    above = [a > b for a in second.loc[bad, "score"] for b in second.loc[~bad, "score"]]
    assert found.loc[("admission", "logistic-clinical", "second (inferred)"), "auc"] == pytest.approx(
        np.mean(above)
    )
    assert "no scans, the form alone" in said
    with pytest.raises(ValueError, match="`isles_form` has no films"):
        done.run("1-preprocess", models={"admission": ["logistic-both"]})


# the reference's own input


ARRAYS = DEMO | QUICK | {"cohort": "own", "kind": "gated", "phantom": None, "arrays": "own"}
ARRAYS |= {"arrays_clinical": "own/clinical.csv", "partition": "own/partition.yaml"}
ARRAYS["models"] = {"postprocedural": MODELS, "admission": ["logistic-clinical", "logistic-volumes"]}
PEOPLE = [f"{number:03d}" for number in range(1, 17)]
PARTITION = {"train": PEOPLE[:6], "val": PEOPLE[6:8], "test": PEOPLE[8:14]}  # 015 and 016 are in none
HEAD = "PATIENT_ID,Age,Onset2CTP,CTP2Recanalization,NIHSS00,Sex,Hypertension,Smoking,Atrial_Fibrillation,mTICI,mRs90_binary"


def write_arrays(tree: Path) -> Path:
    """Arrays in either layout, a csv with gaps, a partition in which 015 and 016 are not. 016 has no outcome."""
    folder, random, rows = tree / "data" / "raw" / "own", np.random.default_rng(2), [HEAD]
    for number, name in enumerate(PEOPLE):
        path = folder / (f"{name}_preprocessed.npz" if number % 2 else f"{name}/preprocessed.npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, img=random.normal(size=(16, 16, 16, 2)).astype(np.float32))
        outcome = "" if name == "016" else str(number // 2 % 2)
        onset, rest = "nan" if number == 3 else str(60 + 10 * number), f"{number % 2},1,0,,{number % 3}"
        rows.append(f"{name},{50 + number},{onset},{45.5 + number},{number},{rest},{outcome}")
    (folder / "clinical.csv").write_text("\n".join(rows) + "\n")
    (folder / "partition.yaml").write_text(yaml.safe_dump(PARTITION))
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> tuple[Cells, str]:
    tree = tmp_path_factory.mktemp("arrays")
    write_arrays(tree)
    done = Cells(tree, tree / "results", ARRAYS)
    return done, done.run(*STAGES)


def test_reference_s_own_input_passes_every_stage(own):
    done, said = own
    cohort = done.read("cohort.csv").set_index("patient")
    assert list(cohort.index) == PEOPLE[:14]
    assert cohort.loc[PARTITION["test"], "fold"].eq("test").all()
    assert cohort.loc[[*PARTITION["train"], *PARTITION["val"]], "fold"].isna().all()
    assert cohort["label"].tolist() == [number // 2 % 2 for number in range(14)]
    predictions = done.read("predictions.csv")
    assert set(predictions["fold"]) == {"test"}
    for _, rows in predictions.groupby(["setting", "model"]):
        assert sorted(rows["patient"]) == PARTITION["test"]
    assert predictions.groupby("setting")["model"].unique().map(list).to_dict() == {
        "admission": ["logistic-clinical"],  # arrays have no volumes
        "postprocedural": ["fusion", "ctp", "clinical-branch", "late-fusion"],
    }
    values = read_series_features(done.folder / "features" / "002.h5")
    with np.load(done.tree / "data/raw/own/002_preprocessed.npz") as stored:
        np.testing.assert_allclose(values, np.moveaxis(stored["img"], 3, 0), rtol=1e-3, atol=1e-6)
    assert "without an outcome, so left out: 016\n" in said
    assert "in no part of the partition, so left out: 015\n" in said


def test_other_plans_regressions_alone_and_first_seeds(own, tmp_path):
    done, _ = own
    other = Cells(done.tree, tmp_path, ARRAYS)
    shutil.copytree(done.folder, other.folder)
    other.run(*STAGES[2:], models={"admission": ["logistic-clinical"]})
    assert set(other.read("predictions.csv")["model"]) == set(other.read("metrics.csv")["model"])
    assert set(other.read("metrics.csv")["model"]) == {"logistic-clinical"}
    assert other.read("history.csv").empty
    models = {"postprocedural": ["ctp", "clinical-branch"]}
    other.run(*STAGES[2:4], models=models, seeds=[1, 2], first_seed_only=["ctp"])
    seeds = other.read("predictions.csv").groupby("model")["seed"].unique().map(list).to_dict()
    assert seeds == {"ctp": [1], "clinical-branch": [1, 2]}
