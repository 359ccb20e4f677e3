"""Head-and-neck radiomics: the real tables, and the trap of the sheets they come from."""

import gzip
import shutil

import numpy as np
import pandas as pd
import pytest

from lib.gcmlm.cohort import NAMES, read_lro

PATIENTS = ["1", "2", "4", "5"]
LABELS = [0, 0, 1, 1]


@pytest.fixture
def folder(tmp_path):
    """Four patients, three features a table."""
    clinical = pd.DataFrame({"Male": [0, 1, 1, 0], "T-Stage": [1, 2, 2, 4], "CRT or RT": [1, 0, 0, 1]})
    save(tmp_path / "clinical.csv", clinical.assign(label=LABELS))
    for number, name in enumerate(("ct_fea_pre", "ct_fea_post", "pet_fea_pre", "pet_fea_post")):
        values = number + np.arange(12.0).reshape(4, 3) / 8
        save(tmp_path / f"{name}.csv.gz", pd.DataFrame(values, columns=["f000", "f001", "f002"]))
    return tmp_path


def save(path, table, patients=PATIENTS):
    table = table.copy()
    table.insert(0, "patient", patients)
    table.to_csv(path, index=False)


def read(path):
    return pd.read_csv(path, dtype={"patient": str})


def test_tables_indexed_by_patient(folder):
    found = read_lro(folder)
    assert list(found.tables) == ["clinical", "ct", "pet"]
    assert list(found.tables["clinical"]) == ["male", "t_stage", "crt_or_rt"]
    assert found.label.to_dict() == dict(zip(PATIENTS, LABELS, strict=True))
    for table in found.tables.values():
        assert table.index.tolist() == PATIENTS
        assert set(table.dtypes.astype(str)) == {"float64"}
    assert found.tables["pet"].loc["2", "f001"] == 2.5
    assert found.note == f"{NAMES} is not there: features are numbered"


def test_before_after_and_both(folder):
    assert read_lro(folder, "post").tables["ct"].iloc[0, 0] == 1
    both = read_lro(folder, "both").tables["ct"]
    assert list(both) == ["pre_f000", "pre_f001", "pre_f002", "post_f000", "post_f001", "post_f002"]
    pd.testing.assert_frame_equal(
        both.filter(like="post_").rename(columns=lambda name: name[5:]), read_lro(folder, "post").tables["ct"]
    )
    with pytest.raises(ValueError, match="when is 'delta': choose one of pre, post, both"):
        read_lro(folder, "delta")


def test_names_where_the_count_agrees(folder):
    pd.DataFrame([["SUV_max", "SUV_min", "", "volume"]]).to_excel(folder / NAMES, header=False, index=False)
    assert list(read_lro(folder).tables["ct"]) == ["SUV_max", "SUV_min", "volume"]
    pd.DataFrame([["SUV_max", "SUV_min"]]).to_excel(folder / NAMES, header=False, index=False)
    found = read_lro(folder)
    assert list(found.tables["ct"]) == ["f000", "f001", "f002"]
    assert found.note == f"{NAMES} has 2 names for 3 features: features are numbered"


@pytest.mark.parametrize(
    "outcome", [LABELS, [1 - value for value in LABELS], [2 + value for value in LABELS]]
)
@pytest.mark.parametrize("table", ["pet_fea_pre.csv.gz", "clinical.csv"])
def test_outcome_among_the_features_is_refused(folder, table, outcome):
    """The last column of upstream's sheets; turned over or recoded it is no better."""
    content = read(folder / table)
    content.insert(content.shape[1], "f257", outcome)
    content.to_csv(folder / table, index=False)
    with pytest.raises(ValueError, match="column f257 is the outcome itself"):
        read_lro(folder)


def test_upstreams_own_sheets_are_not_read(folder):
    (folder / "ct_fea_pre.csv.gz").unlink()
    (folder / "CT_Fea_Pre.xlsx").write_bytes(b"x")
    with pytest.raises(
        FileNotFoundError, match=r"CT_Fea_Pre\.xlsx is the repository's own sheet, whose last column"
    ):
        read_lro(folder)
    (folder / "CT_Fea_Pre.xlsx").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"ct_fea_pre\.csv\.gz is not there: run `make data COHORT=lro`"
    ):
        read_lro(folder)
    pd.DataFrame(np.eye(4)).to_csv(folder / "ct_fea_pre.csv", index=False)
    with pytest.raises(ValueError, match="no column patient, as the repository's own sheets"):
        read_lro(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.iloc[:3], "do not have the same patients: 5"),
        (lambda t: t.iloc[::-1], "do not have the same patients: in another order"),
        (lambda t: t.assign(patient=["1", "1", "4", "5"]), "patient 1 stands twice"),
        (lambda t: t.assign(f001=[1, 2, None, 4]), "f001 of patient 4 is nan, a number is needed"),
        (lambda t: t.assign(f001=[1, 2, 3, "n"]), "f001 of patient 5 is n, a number is needed"),
    ],
)
def test_feature_tables_refused(folder, change, said):
    path = folder / "ct_fea_pre.csv.gz"
    change(read(path)).to_csv(path, index=False)
    with pytest.raises(ValueError, match=said):
        read_lro(folder)


def test_labels_and_damage_refused(folder):
    path = folder / "pet_fea_pre.csv.gz"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"pet_fea_pre\.csv\.gz cannot be read as a table"):
        read_lro(folder)
    table = read(folder / "clinical.csv")
    table.assign(label=[0, 2, 1, 1]).to_csv(folder / "clinical.csv", index=False)
    with pytest.raises(ValueError, match="label of patient 2 is 2, not 0 or 1"):
        read_lro(folder)


@pytest.mark.real
def test_real_tables(mirror, tmp_path):
    found = read_lro(mirror / "ct" / "lro_headneck")
    assert {name: table.shape for name, table in found.tables.items()} == {
        "clinical": (150, 10),
        "ct": (150, 257),
        "pet": (150, 257),
    }
    assert (len(found.label), found.label.sum(), found.note) == (150, 38, "")
    assert not any(int(patient) % 3 == 0 for patient in found.label.index)
    for when in ("pre", "post"):
        for table in (read_lro(mirror / "ct" / "lro_headneck", when).tables[name] for name in ("ct", "pet")):
            # the names fit the columns
            assert (table["SUV_min"] <= table["SUV_median"]).all()
            assert (table["SUV_mean"] <= table["SUV_max"]).all()
    assert found.tables["clinical"]["age"].between(28, 82).all()
    # upstream's sheets: the outcome as the last column
    folder = shutil.copytree(mirror / "ct" / "lro_headneck", tmp_path / "lro")
    with gzip.open(folder / "ct_fea_pre.csv.gz", "rt") as file:
        table = pd.read_csv(file)
    table["f257"] = found.label.to_numpy()
    table.to_csv(folder / "ct_fea_pre.csv.gz", index=False)
    with pytest.raises(ValueError, match="column f257 is the outcome itself"):
        read_lro(folder)
