"""The small benches: what is read of other studies' data, from made files, and of the real ones where they are."""

import anndata
import numpy as np
import pandas as pd
import pytest

import lib.fusion.benches as benches
from lib.files import written_hdf5
from lib.fusion.evaluation import of_people
from lib.fusion.params import FusionParams
from lib.gcmlm.cohort import read_stad
from lib.params import load
from lib.stage import Stage
from lib.training.folds import folds_of


@pytest.fixture
def stage(tmp_path, monkeypatch, root):
    """A first stage of a cohort of params/fusion, with raw files in a folder and nothing fetched."""
    monkeypatch.setenv("CROSSBOOK_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(benches, "fetch_all", lambda name: None)

    def made(cohort: str, raw=tmp_path, **given) -> Stage:
        monkeypatch.setattr(benches, "RAW", raw)
        params = load(root / "params" / "fusion" / f"{cohort}.yaml", FusionParams)
        return Stage("fusion", "1-preprocess", params.model_copy(update=given))

    return made


def test_head_and_neck(stage, tmp_path):
    folder, random = tmp_path / "ct" / "lro_headneck", np.random.default_rng(0)
    folder.mkdir(parents=True)
    names = [
        "Male",
        "Oropharynx",
        "Nasopharynx",
        "Larynx",
        "T-Stage",
        "N-Stage",
        "HPV-Status",
        "No NPV-S",
        "CRT or RT",
        "Age",
    ]
    clinic = pd.DataFrame(random.integers(0, 2, (12, 10)), columns=names)
    clinic.insert(0, "patient", range(1, 13))
    clinic.assign(label=[0, 1] * 6).to_csv(folder / "clinical.csv", index=False)
    for kind in ("ct", "pet"):
        scans = pd.DataFrame(random.normal(size=(12, 2)), columns=["f000", "f001"])
        scans.insert(0, "patient", range(1, 13))
        scans = scans.iloc[1:] if kind == "pet" else scans
        scans.to_csv(folder / f"{kind}_fea_pre.csv.gz", index=False)
    read = benches.cohort_of(stage("lro", folds=3, least_events=2))
    assert {name: list(block) for name, block in read.patients.blocks.items()}["pet"] == [
        "pet:f000",
        "pet:f001",
    ]
    assert list(read.patients.blocks) == ["clinic", "ct", "pet"]
    assert read.patients.blocks["pet"].loc["1"].isna().all()
    assert read.patients.table["event"].tolist() == [0, 1] * 6
    assert ("lro", "pet", 1, "patients lack the modality") in set(
        read.remarks.itertuples(index=False, name=None)
    )
    assert len(folds_of(read.patients.table)) == 3


def test_the_real_recurrences(stage, mirror):
    patients = benches.cohort_of(stage("lro", raw=mirror)).patients
    assert (len(patients.table), patients.table["event"].sum()) == (150, 38)
    assert {name: block.shape[1] for name, block in patients.blocks.items()} == {
        "clinic": 10,
        "ct": 257,
        "pet": 257,
    }


def test_liver_metastases_are_those_of_the_other_study(stage, mirror):
    patients = benches.cohort_of(stage("stad-liver", raw=mirror)).patients
    theirs = read_stad(mirror / "tcga" / "tcga_cdr_subset.csv", patients.table.index).set_index("patient")
    theirs = theirs.loc[patients.table.index]
    assert (len(patients.table), patients.table["event"].sum()) == (349, 25)
    np.testing.assert_array_equal(patients.table["event"], theirs["event"])
    np.testing.assert_allclose(patients.table["time"], theirs["time_months"], atol=1e-9)
    held = [patients.table.loc[[*fold.test], "event"].sum() for fold in folds_of(patients.table)]
    assert (sum(held), min(held)) == (25, 3)
    assert patients.blocks["oncogenes"].shape[1] == 305


@pytest.fixture
def spacrd(tmp_path):
    """Two sections of two patients as spacrd leaves them: eight spots, one without a label, one without a picture."""
    home, random = tmp_path / "results" / "spacrd" / "her2st", np.random.default_rng(0)
    (home / "sections").mkdir(parents=True)
    for number, name in enumerate(("A1", "B1")):
        labels = [0.0, 1.0] * 3 + [1.0, np.nan if number == 0 else 0.0]
        counts = random.poisson(5 + 20 * number, (8, 4)).astype(np.float32)
        obs = pd.DataFrame({"label": labels}, [f"{spot}x1" for spot in range(8)])
        genes = pd.DataFrame(index=["G0", "G1", "G2", f"only{name}"])
        anndata.AnnData(counts, obs, genes).write_h5ad(home / "sections" / f"{name}.h5ad")
        with written_hdf5(home / "features" / f"{name}.shell.h5") as file:
            file["features"] = random.normal(size=(7, 3)).astype(np.float32) + 5 * number
            file["names"] = [f"{spot}x1" for spot in range(7)]
    pd.DataFrame({"section": ["A1", "B1", "C1"], "patient": list("ABC")}).to_csv(
        home / "cohort.csv", index=False
    )
    return home


def test_spots_of_one_patient_are_held_out_together(stage, spacrd):
    made = stage("her2st", least_events=2)
    read = benches.cohort_of(made)
    patients = read.patients
    assert len(patients.table) == 15
    assert list(patients.table.index[:2]) == ["A1-0x1", "A1-1x1"]
    assert (patients.table["fold"] == patients.table["person"]).all()
    assert [fold.name for fold in folds_of(patients.table)] == ["A", "B"]
    assert set(patients.blocks["genes"]) == {"genes:G0", "genes:G1", "genes:G2"}  # those in both sections
    image = patients.blocks["image"]
    assert image.isna().all(axis=1).sum() == 1
    # within a section: what differs between sections is taken away
    means = image.groupby(patients.table["person"]).mean()
    assert np.abs(means.to_numpy()).max() < 0.35
    said = {what: number for _, what, number, _ in read.remarks.itertuples(index=False)}
    assert (said["sections"], said["left out"], said["image"]) == (2, 1, 1)


def test_without_the_other_studys_stages_it_says_what_to_run(stage, spacrd):
    for path in spacrd.glob("features/*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="make run STUDY=spacrd COHORT=her2st"):
        benches.cohort_of(stage("her2st"))


def test_spots_have_no_interval():
    rows = pd.DataFrame({"estimate": [0.8], "low": [0.7], "high": [0.9], "how": ["mean over 2 folds"]})
    assert of_people(rows, pd.DataFrame({"event": [0, 1]})) is rows
    spots = of_people(rows, pd.DataFrame({"person": ["A", "A", "B"]}))
    assert spots[["low", "high"]].isna().all(axis=None)
    assert spots["how"].item().endswith("no interval: spots of 2 patients are not independent")
