"""ISLES'24 as its releases, documents and users' copies have it: the small tree of `isles_tree`."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.stroke.clinical import POSTPROCEDURAL
from lib.stroke.cohort import MAPPING, find_patients, merged_tables, patient_of, read_clinical

sys.path.insert(0, str(Path(__file__).parent))
from isles_tree import BASELINE, OUTCOME, current, mixed, older, table, touch


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "isles24" / "train"
    current(root)
    older(root)
    mixed(root)
    return tmp_path


def read(folder, mapping=(), **others):
    return read_clinical(find_patients(folder)["tables"], MAPPING | dict(mapping), **others)


def test_every_patient_is_found_once_under_one_name(tree):
    found = find_patients(tree)
    assert found.index.tolist() == [f"sub-stroke{number:04d}" for number in (1, 2, 7, 9, 12)]
    nearer = find_patients(tree / "isles24" / "train")
    pd.testing.assert_frame_equal(nearer.drop(columns="note"), found.drop(columns="note"))
    problems = found["problem"]
    assert problems[problems.ne("")].to_dict() == {
        "sub-stroke0009": "no CTP series",
        "sub-stroke0012": "no outcome table",
    }


def test_each_release_s_series_and_tables_are_found(tree):
    found, inside = find_patients(tree), tree / "isles24" / "train"
    row = found.loc["sub-stroke0001"]
    assert row["series"] == str(inside / "raw_data/sub-stroke0001/ses-01/sub-stroke0001_ses-01_ctp.nii.gz")
    assert len(row["tables"]) == 2
    assert all(path.is_file() for path in row["tables"])
    assert (row["problem"], row["note"]) == ("", "")
    row = found.loc["sub-stroke0002"]  # an older release
    assert row["series"].endswith(
        "rawdata/sub-strokecase0002/ses-0001/sub-strokecase0002_ses-0001_ctp.nii.gz"
    )
    assert row["tables"][0].name == "sub-strokecase0002_ses-0001_demographic_baseline.xlsx"
    assert found.loc["sub-stroke0007", "series"].endswith("sub-stroke0007_ses-01_CTP.nii")
    assert len(found.loc["sub-stroke0009", "tables"]) == 3
    row = found.loc["sub-stroke0012"]
    assert row["series"].endswith("space-ncct_ctp.nii.gz"), "as acquired it is empty"
    assert "sub-stroke0012_ses-01_ctp.nii.gz is empty and is not taken" in row["note"]


def test_two_series_are_a_problem_not_a_choice(tmp_path):
    current(tmp_path)
    touch(tmp_path / "rawdata" / "sub-strokecase0001" / "ses-0001" / "sub-strokecase0001_ses-0001_ctp.nii.gz")
    row = find_patients(tmp_path).iloc[0]
    assert row["series"] == ""
    assert row["problem"].endswith("are both its series: remove all but one")


def test_other_session_and_other_patient_s_folder(tmp_path):
    current(tmp_path)
    for name in ("sub-stroke0001_ses-02_space-ncct_ctp", "sub-stroke0001_ses-02_ctp"):
        touch(tmp_path / "derivatives" / "sub-stroke0001" / "ses-02" / f"{name}.nii.gz")
    touch(tmp_path / "raw_data" / "sub-stroke0001" / "ses-01" / "sub-stroke0005_ses-01_ctp.nii.gz")
    found = find_patients(tmp_path)
    assert "ses-01" in found.loc["sub-stroke0001", "series"]
    assert found.loc["sub-stroke0001", "note"].count("is of session 2, not 1, and is not taken") == 2
    assert found.loc["sub-stroke0005", "problem"] == "no CTP series; no outcome table"
    assert "lies in a folder of sub-stroke0001 and is not taken" in found.loc["sub-stroke0005", "note"]


@pytest.mark.parametrize(
    ("text", "patient"),
    [
        ("sub-stroke0001", "sub-stroke0001"),
        ("train/raw_data/sub-strokecase0189/ses-0001/x.nii.gz", "sub-stroke0189"),
        ("SUB-STROKE12_ses-01", "sub-stroke0012"),
        ("sub-stroke00123", "sub-stroke0123"),
        ("clinical_data-description.xlsx", ""),
    ],
)
def test_one_spelling(text, patient):
    assert patient_of(text) == patient


def test_clinical_values_by_hand(tree):
    found, nan = read(tree), np.nan
    expected = {  # age, onset to CTP, CTP to recanalisation, nihss, sex, htn, smoking, af, mtici, mrs
        "sub-stroke0001": [71, 90, 90, 12, 0, 1, nan, 0, 1, 3],
        "sub-stroke0002": [nan, 90, 90, 12, 1, nan, nan, 0, 2, 5],
        "sub-stroke0007": [nan, 90, 90, nan, 0, 1, nan, 0, 1, nan],
        "sub-stroke0009": [71, 90, 90, 12, 0, 1, nan, 0, 1, 3],
        "sub-stroke0012": [71, 90, 90, 12, 0, 1, nan, 0, nan, nan],
    }
    assert found.index.tolist() == list(expected)
    np.testing.assert_array_equal(found[[*POSTPROCEDURAL, "mrs"]], list(expected.values()))
    assert set(found["note"]) == {""}
    back = read_clinical(find_patients(tree)["tables"][::-1])
    pd.testing.assert_frame_equal(back.loc[found.index], found)


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_one_table_for_all(tmp_path, kind):
    for number in (3, 4, 5):
        touch(tmp_path / "raw_data" / f"sub-stroke{number:04d}" / f"sub-stroke{number:04d}_ctp.nii.gz")
    (tmp_path / "phenotype").mkdir()
    baseline = pd.DataFrame([BASELINE, BASELINE | {"Age": "64"}])
    baseline.insert(0, "Subject_ID", ["sub-strokecase0004", "sub-stroke0003"])
    outcome = pd.DataFrame([OUTCOME, OUTCOME | {"mRS 3 months": "0"}]).assign(
        patient=["sub-stroke0003", "sub-stroke0004"]
    )
    for name, content in (("demographic_baseline", baseline), ("outcome", outcome)):
        path = tmp_path / "phenotype" / f"{name}.{kind}"
        content.to_csv(path, index=False) if kind == "csv" else content.to_excel(path, index=False)
    found = read(tmp_path)
    np.testing.assert_array_equal(found["age"], [64, 71, np.nan])
    np.testing.assert_array_equal(found["mrs"], [3, 0, np.nan])
    assert found["note"].tolist()[:2] == ["", ""]
    assert (
        found["note"][2] == f"demographic_baseline.{kind} has no row of it; outcome.{kind} has no row of it"
    )
    (tmp_path / "phenotype" / f"outcome.{kind}").unlink()
    outcome.drop(columns="patient").to_csv(tmp_path / "phenotype" / "outcome.csv", index=False)
    with pytest.raises(ValueError, match=r"outcome\.csv names no patients"):
        read(tmp_path)


def test_tables_that_disagree_are_refused(tree):
    root = tree / "isles24" / "train" / "phenotype" / "sub-stroke0009" / "ses-01"
    table(root / "sub-stroke0009_ses-01_demographic_baseline.xlsx", BASELINE | {"Age": "72"})
    with pytest.raises(
        ValueError, match=r"patient sub-stroke0009: age is '71' in .*csv and '72' in .*xlsx; correct"
    ):
        read(tree)
    table(root / "sub-stroke0009_ses-01_demographic_baseline.xlsx", BASELINE | {"Age": "nan", "CRP": "3.1"})
    raw, _ = merged_tables(find_patients(tree)["tables"])
    assert raw.loc["sub-stroke0009", ["Age", "CRP"]].tolist() == ["71", "3.1"]


def test_two_rows_of_one_patient_are_refused(tmp_path):
    current(tmp_path)
    path = (
        tmp_path
        / "phenotype"
        / "sub-stroke0001"
        / "ses-01"
        / "sub-stroke0001_ses-01_demographic_baseline.csv"
    )
    pd.DataFrame([BASELINE, BASELINE]).to_csv(path, index=False)
    with pytest.raises(ValueError, match="has 2 rows of patient sub-stroke0001, and one is expected"):
        read(tmp_path)
    pd.DataFrame([BASELINE]).assign(patient="sub-stroke0002").to_csv(path, index=False)
    with pytest.raises(ValueError, match="has 0 rows of patient sub-stroke0001"):
        read(tmp_path)


def test_values_no_patient_has_are_named_or_missing(tmp_path):
    current(tmp_path, baseline=BASELINE | {"Door to recanalization": "00:10:00"})
    with pytest.raises(
        ValueError,
        match="ctp_to_recanalisation_min of patient sub-stroke0001 is -10, 0 to 10080 minutes are expected",
    ):
        read(tmp_path)
    found = read(tmp_path, implausible="missing")
    assert found["ctp_to_recanalisation_min"].isna().all()
    assert found["note"].iloc[0].startswith("ctp_to_recanalisation_min is -10")


def test_mapping_is_declared(tmp_path):
    current(tmp_path)
    other = read(tmp_path, {"smoking": "diabetes", "mrs": "mRS DISCHARGE"})
    assert other.iloc[0][["smoking", "mrs"]].tolist() == [0, 4]
    assert read(tmp_path, {"smoking": 1})["smoking"].tolist() == [1]
    with pytest.raises(ValueError, match="no table has a column 'NIHSS at admision'; nearest: NIHSS at ad"):
        read(tmp_path, {"nihss": "NIHSS at admision"})


def test_patient_without_any_table_is_said(tmp_path):
    current(tmp_path)
    touch(tmp_path / "raw_data" / "sub-stroke0006" / "ses-01" / "sub-stroke0006_ses-01_ctp.nii.gz")
    patients, found = find_patients(tmp_path), read(tmp_path)
    assert patients["problem"].tolist() == ["", "no outcome table"]
    assert patients.loc["sub-stroke0006", "note"] == "no baseline table"
    assert found["note"].tolist() == ["", "no clinical table"]
    assert found.loc["sub-stroke0006", [*POSTPROCEDURAL, "mrs"]].isna().all()
