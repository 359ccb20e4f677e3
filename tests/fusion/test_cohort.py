"""Raw tables of a cohort: what the real ones hold, what each trap does, what is refused and what it says."""

import zipfile

import numpy as np
import pandas as pd
import pytest

from lib.fusion.cohort import (
    by_site,
    pooled,
    read_block,
    read_cohort,
    read_own,
    read_patients,
    read_porpoise,
    read_signatures,
    too_few,
    write_patients,
)
from lib.fusion.params import GENE_GROUPS, FusionParams, Phantom
from lib.fusion.phantom import CANCER, genes_of, planted_patients, write_phantom
from lib.inputs.tcga import read_cdr
from lib.stage import Stage
from lib.training.folds import folds_of

GROUPS = {"oncogenes": ["A", "B"], "cytokines": ["B", "C"]}


def table(**columns) -> pd.DataFrame:
    """Three patients, the first of whom has two slides; as PORPOISE writes them."""
    rows = {
        "case_id": ["P1", "P1", "P2", "P3"],
        "slide_id": ["P1-1.svs", "P1-2.svs", "P2-1.svs", "P3-1.svs"],
        "age": [60.0, 60.0, np.nan, 70.0],
        "site": ["X", "X", "Y", "X"],
        "survival_months": [10.0, 10.0, 20.0, 30.0],
        "censorship": [0, 0, 1, 0],
        "is_female": [1, 1, 0, 1],
        "oncotree_code": "T",
        "train": [1.0, 1.0, 0.0, 1.0],
        "A_rnaseq": [0.1, 0.1, 0.2, 36893.0],
        "B_rnaseq": [1.0, 1.0, 2.0, 3.0],
    }
    return pd.DataFrame(rows | columns)


@pytest.fixture
def read(tmp_path):
    """Write a table as the only member of a zip, and read it."""

    def written(rows: pd.DataFrame, **options):
        path = tmp_path / "tcga_x_all_clean.csv.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("another_name.csv", rows.to_csv())
        return read_porpoise(path, GROUPS, **options)

    return written


# patients, deaths, columns of copy number (distinct), mutations; known stage and grade: as in the study's notes
REAL = {
    "paad": (166, 90, 45, 14, 164, 164),
    "kirp": (260, 40, 0, 20, 246, 0),
    "gbmlgg": (569, 187, 23, 16, 0, 568),
    "ucec": (480, 75, 5, 1406, 480, 480),
}


@pytest.mark.parametrize("cancer", REAL)
def test_real_tables_hold_what_the_notes_say(cancer, mirror):
    porpoise = mirror / "tcga" / "porpoise"
    groups = read_signatures(porpoise / "datasets_csv" / "signatures.csv")
    clinic = pd.concat(
        read_cdr(mirror / "tcga" / name) for name in ("tcga_cdr_subset.csv", "tcga_cdr_six_more.csv")
    )
    path = porpoise / "datasets_csv_mutsig" / f"tcga_{cancer}_all_clean.csv.zip"
    patients, remarks = read_porpoise(path, groups, clinic.set_index("patient"))
    blocks = {name: block.shape[1] for name, block in patients.blocks.items()}
    known = [
        int(patients.blocks["clinic"].get(name, pd.Series()).notna().sum()) for name in ("stage", "grade")
    ]
    found = (
        len(patients.table),
        patients.table["event"].sum(),
        blocks.get("copy_number", 0),
        blocks["mutations"],
    )
    assert (*found, *known) == REAL[cancer]
    said = {what for what, *_ in remarks}
    assert {"site", "train", "Unnamed: 0"} <= said
    assert ("rna" in said) == (cancer == "ucec")  # it has none, and that is said
    if cancer == "paad":
        assert [blocks[name] for name in GENE_GROUPS.values()] == [82, 305, 492, 415, 134, 421]
        others = set().union(
            *(patients.blocks[name] for name in GENE_GROUPS.values() if "factors" not in name)
        )
        assert set(patients.blocks["transcription_factors"]) <= others


def test_a_patient_counts_once_however_many_slides(read):
    patients, _ = read(table())
    assert list(patients.table.index) == ["P1", "P2", "P3"]
    assert list(patients.table["event"]) == [1, 0, 1]  # censorship 1 is censored
    assert {name: list(block) for name, block in patients.blocks.items()} == {
        "clinic": ["age", "female"],
        "oncogenes": ["A", "B"],
        "cytokines": ["B"],
    }
    with pytest.raises(ValueError, match="slides of patient P1 disagree in B_rnaseq"):
        read(table(B_rnaseq=[1.0, 9.0, 2.0, 3.0]))


def test_hospital_split_and_row_number_are_no_inputs_and_are_named(read):
    patients, remarks = read(table())
    inputs = {column for block in patients.blocks.values() for column in block}
    assert not inputs & {"site", "train", "Unnamed: 0"}
    assert {"site", "train", "Unnamed: 0"} <= {what for what, *_ in remarks}
    assert list(patients.table["site"]) == ["X", "Y", "X"]


def test_what_is_left_out_is_said(read):
    odd = table(
        A_cnv=[1, 1, 0, 2],
        B_cnv=[1, 1, 0, 2],
        C_cnv=[1, 1, 0, 0],
        D_cnv=np.nan,
        Z_rnaseq=[1.0, 1.0, 2.0, 3.0],
        weight=3,
        A_methylation=0.5,
    )
    patients, remarks = read(odd)
    said = {what: (number, words) for what, number, words in remarks}
    assert said["unknown columns"] == (2, "left out: weight, A_methylation")
    assert said["rna"] == (1, "genes are in no group and left out: Z")
    assert said["mutations"][1] == "no such column: the modality is absent"
    assert list(patients.blocks["copy_number"]) == ["A", "C"]
    numbers = {number for what, number, _ in remarks if what == "copy_number"}
    assert numbers == {1}  # one doubled, one without a value
    assert said["age"] == (1, "patients without it take the median of the training patients")


def test_a_table_without_molecules_is_refused(read):
    with pytest.raises(ValueError, match="nothing to fuse"):
        read(table().drop(columns=["A_rnaseq", "B_rnaseq"]))


def test_metastases_are_counted_as_late_entries(read):
    rows = table(case_id=["TCGA-AA-0001", "TCGA-AA-0001", "TCGA-AA-0002", "TCGA-AA-0003"])
    rows["slide_id"] = rows["case_id"] + ["-01Z-00-DX1", "-06Z-00-DX1", "-01Z-00-DX1", "-06Z-00-DX1"]
    patients, remarks = read(rows)
    assert list(patients.table["metastasis"]) == [1, 0, 1]
    assert ("late entry", 2) in {(what, number) for what, number, _ in remarks}


def test_a_glioblastoma_is_of_grade_four_where_the_clinic_leaves_it_empty(read):
    clinic = pd.DataFrame(
        {"cancer": ["GBM", "LGG", "LGG"], "histological_grade": ["[Not Available]", "G2", "GX"]},
        index=["P1", "P2", "P3"],
    )
    grades = read(table(), clinic=clinic)[0].blocks["clinic"]["grade"]
    assert list(grades[:2]) == [4.0, 2.0]
    assert np.isnan(grades.iloc[2])


@pytest.mark.parametrize(
    ("events", "folds", "said"),
    [
        ([1, 0, 1, 0], "0011", ""),
        ([1, 0, 0, 0], "0011", "1 events, fewer than 2"),
        ([1, 1, 0, 0], "0011", "fold 0"),
    ],
)
def test_too_few_events_and_folds_without_one(events, folds, said):
    rows = pd.DataFrame({"event": events, "fold": list(folds)})
    assert too_few(rows, 2).startswith(said)
    assert bool(too_few(rows, 2)) == bool(said)


# ------------------------------------------------------------------------------------------- cohorts as stages read them


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A first stage with results in a folder of its own."""
    monkeypatch.setenv("CROSSBOOK_RESULTS", str(tmp_path))
    return lambda **given: Stage("fusion", "1-preprocess", FusionParams(**given))


def test_the_phantom_has_the_traps_of_the_real_files_and_what_was_planted(stage, tmp_path):
    made = stage(phantom=Phantom(patients=120))
    cohort = read_cohort(made)
    said = {what: number for _, what, number, _ in cohort.remarks.itertuples(index=False)}
    assert said["slides"] == 144
    assert said["copy_number"] == 4
    patients = cohort.patients
    assert patients.blocks["clinic"].columns.tolist() == ["age", "female", "stage", "grade"]
    assert (
        patients.blocks["oncogenes"].to_numpy().max()
        < 10
        < patients.blocks["tumor_suppressors"].to_numpy().max()
    )
    assert sorted(len(fold.test) for fold in folds_of(patients.table)) == [24] * 5
    assert (
        by_site(patients.table)["c_index"].item() > 0.55
    )  # every second patient's hospital follows the outcome
    write_patients(made, patients)
    again = read_patients(made)
    pd.testing.assert_frame_equal(again.blocks["mutations"], patients.blocks["mutations"].astype("float32"))
    assert list(again.blocks) == list(patients.blocks)
    assert folds_of(again.table) == folds_of(patients.table)


def test_planted_effects_are_there_and_a_null_has_none():
    phantom = Phantom(patients=4000, seed=1)
    drawn, molecules = planted_patients(phantom)
    high = drawn["grade"] == "High Grade"
    for name, acts in (("Protein Kinases", high), ("Cytokines and Growth Factors", ~high)):
        slope = np.polyfit(drawn.loc[acts, name], drawn.loc[acts, "log_hazard"], 1)[0]
        assert slope == pytest.approx(phantom.interaction_effect, abs=0.06)
        slope = np.polyfit(drawn.loc[~acts, name], drawn.loc[~acts, "log_hazard"], 1)[0]
        assert slope == pytest.approx(0, abs=0.08)
    gene = molecules[genes_of()["Oncogenes"][0] + "_rnaseq"]
    assert np.corrcoef(gene, drawn["Oncogenes"])[0, 1] == pytest.approx(0.8, abs=0.03)
    effects = dict.fromkeys(("clinic_effect", "gene_effect", "interaction_effect"), 0.0)
    null, same = planted_patients(phantom.model_copy(update=effects))
    assert (null["log_hazard"] == 0).all()
    pd.testing.assert_frame_equal(molecules, same)


def test_equal_phantoms_are_equal_bytes(tmp_path):
    for name in "ab":
        write_phantom(tmp_path / name / "porpoise", Phantom(patients=60))
    files = sorted(
        path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*") if path.is_file()
    )
    assert len(files) == 8
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)


def test_a_cohort_with_too_few_events_says_what_can_be_done(stage):
    with pytest.raises(ValueError, match=r"demo: \d+ events, fewer than 300; lower `least_events`"):
        read_cohort(stage(phantom=Phantom(patients=60), least_events=300))


def test_a_patient_held_out_twice_is_refused(stage, tmp_path):
    made = stage(phantom=Phantom(patients=60))
    read_cohort(made)
    folds = sorted((made.folder / "raw/porpoise/splits/5foldcv" / f"tcga_{CANCER}").glob("*.csv"))
    first = pd.read_csv(folds[0])
    second = pd.read_csv(folds[1])
    second.loc[0, "val"] = first.loc[0, "val"]
    second["train"] = second["train"].where(second["train"] != first.loc[0, "val"])
    second.to_csv(folds[1], index=False)
    from lib.training.published_folds import read_folds

    with pytest.raises(ValueError, match="tested more than once"):
        read_folds(folds[0].parent)


def test_cancers_together_have_the_cancer_in_the_clinic_and_the_columns_that_most_have(read):
    one, _ = read(table(A_mut=[1, 1, 0, 1], B_mut=[0, 0, 1, 1]))
    two, _ = read(table(A_mut=[1, 1, 0, 1], A_cnv=[1, 1, 0, 2]).assign(case_id=["Q1", "Q1", "Q2", "Q3"]))
    three, _ = read(table(A_mut=[0, 0, 0, 1]).assign(case_id=["R1", "R1", "R2", "R3"]))
    rows = []
    parts = {
        name: part._replace(table=part.table.assign(cancer=name))
        for name, part in zip("xyz", (one, two, three), strict=False)
    }
    whole = pooled(parts, rows)
    assert list(whole.blocks["clinic"])[2:] == ["cancer_x", "cancer_y", "cancer_z"]
    assert whole.blocks["clinic"][["cancer_x", "cancer_y", "cancer_z"]].sum(axis=1).eq(1).all()
    assert list(whole.blocks["mutations"]) == ["A"]  # B is known for a third
    lacking = whole.blocks["copy_number"].isna().all(axis=1)
    assert set(lacking.index[lacking]) == {"P1", "P2", "P3", "R1", "R2", "R3"}
    assert ("all", "mutations", 1, "columns are known for fewer than 50%: left out") in rows
    assert ("all", "copy_number", 6, "patients lack the modality") in rows
    with pytest.raises(ValueError, match="patient P1 stands in two cancers"):
        pooled({"x": parts["x"], "y": parts["x"]}, [])


# ------------------------------------------------------------------------------------------------- anybody's own table

OWN = {
    "cohort": "own",
    "phantom": None,
    "table": "own.csv",
    "modalities": {"clinic": ["age"], "genes": ["g*"]},
}


def own(tmp_path, rows: pd.DataFrame, **given):
    path = tmp_path / "own.csv"
    rows.to_csv(path, index=False)
    return read_own(path, FusionParams(**OWN | {"folds": 2, "least_events": 2} | given))


def rows_of(**columns) -> pd.DataFrame:
    count = 8
    rows = {"patient": [f"P{number}" for number in range(count)], "time_months": np.arange(1.0, count + 1)}
    rows |= {"event": [0, 1] * 4, "age": 60.0 + np.arange(count), "g1": np.arange(count), "g2": 1.5}
    return pd.DataFrame(rows | columns)


def test_own_table(tmp_path):
    patients, remarks = own(tmp_path, rows_of(height=170))
    assert {name: list(block) for name, block in patients.blocks.items()} == {
        "clinic": ["age"],
        "genes": ["g1", "g2"],
    }
    assert remarks == [("unknown columns", 1, "of no modality, left out: height")]
    assert patients.table.groupby("fold")["event"].sum().tolist() == [2, 2]
    labelled, _ = own(tmp_path, rows_of().rename(columns={"event": "label"}), outcome="binary")
    assert labelled.table["event"].tolist() == [0, 1] * 4


def test_an_own_table_of_another_unit_or_language(tmp_path):
    rows = rows_of(g2=np.arange(8) + 0.5)
    truth, _ = own(tmp_path, rows)
    _, remarks = own(tmp_path, rows.assign(time_months=rows["time_months"] / 12))
    assert ("time_months", 8, "median 0.375 months: are these years?") in remarks
    rows.to_csv(tmp_path / "own.csv", index=False, sep=";", decimal=",")
    params = FusionParams(**OWN | {"folds": 2, "least_events": 2})
    for name, block in read_own(tmp_path / "own.csv", params)[0].blocks.items():
        pd.testing.assert_frame_equal(block, truth.blocks[name])


@pytest.mark.parametrize("trap", ["site", "train"])
def test_what_tells_the_outcome_enters_no_modality(tmp_path, trap):
    rows = rows_of(**{trap: [0, 1] * 4})  # the outcome itself
    patients, remarks = own(tmp_path, rows, modalities={"all": ["*"]})
    assert trap not in patients.blocks["all"]
    assert trap in {what for what, *_ in remarks}
    with pytest.raises(ValueError, match=f"{trap} in the modality clinic"):
        own(tmp_path, rows, modalities={"clinic": ["age", trap]})


def test_rows_of_one_patient_stay_in_one_fold(tmp_path):
    spots = rows_of(case=[f"s{n}" for n in range(8)], patient=list("AABBCCDD"))
    patients, _ = own(tmp_path, spots)
    assert patients.table.index.tolist() == [f"s{n}" for n in range(8)]
    assert patients.table.groupby("patient")["fold"].nunique().eq(1).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patient": ["P1"] * 8}, "patient P1 stands twice"),
        (
            {"patient": list("AABBCCDD"), "case": list("abcdefgh"), "fold": list("01100110")},
            "patient A is in 2 folds",
        ),
        ({"event": [2] * 8}, "event of P0, P1, .* is no 0 or 1"),
        ({"time_months": [-1.0] * 8}, "time_months of P0, P1, .* is no months, 0 or more"),
        ({"age": ["old"] * 8}, "age of P0, P1, .* is 'old': write numbers with a point, categories as"),
        ({"g1": [np.inf] * 8}, "g1 of P0, P1, .* is 'inf': write numbers"),
        ({"age": [62, 71, 999, 80, 55, 66, 47, 59]}, "age of patient P2 is 999, 0 to 120 years .*a code of"),
        ({"age": [62, 71, 66, -9, 55, 66, 47, 59]}, "age of patient P3 is -9, .*a code of what is missing"),
        ({"time_months": np.arange(400, 2000, 200)}, "time_months of patient P5 is 1400, .*are these days"),
        ({"event": [0] * 7 + [1]}, "1 events, fewer than 2; lower `least_events`"),
        ({"fold": ["0"] * 4 + ["1"] * 4, "event": [1] * 2 + [0] * 6}, "fold 0 holds out every event"),
        ({"fold": list("00112233"), "event": [1, 0, 0, 0, 1, 0, 1, 0]}, "fold 1 holds out no event"),
    ],
)
def test_own_tables_that_cannot_be_right_are_refused(tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        own(tmp_path, rows_of(**change))


def test_all_faults_of_an_own_table_are_said_at_once(tmp_path):
    rows = rows_of(event=[2] + [0, 1] * 3 + [1], g1=["high", *range(7)]).rename(columns={"age": "years"})
    with pytest.raises(ValueError, match="has no column age") as refused:
        own(tmp_path, rows)
    said = str(refused.value).splitlines()
    assert len(said) == 3
    assert [next(name for name in ("event of P0", "age", "g1 of P0") if name in line) for line in said]


def test_a_time_beside_a_label_is_no_input(tmp_path):
    rows = rows_of().rename(columns={"event": "label"})
    patients, _ = own(tmp_path, rows, outcome="binary", modalities={"all": ["*"]})
    assert "time_months" not in patients.blocks["all"]


def test_a_modality_without_columns_names_the_nearest(tmp_path):
    with pytest.raises(ValueError, match=r"no column ages of the modality clinic; nearest: age"):
        own(tmp_path, rows_of(), modalities={"clinic": ["ages"], "genes": ["g*"]})
    with pytest.raises(ValueError, match="has no column event"):
        own(tmp_path, rows_of().drop(columns="event"))


def test_a_broken_table_of_a_modality_is_named(tmp_path):
    (tmp_path / "clinic.h5").write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match=r"clinic\.h5 is not a modality's table.*run 1-preprocess again"):
        read_block(tmp_path / "clinic.h5")
