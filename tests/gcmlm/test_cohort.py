"""Who counts as a metastasis, by hand and patient by patient; features made elsewhere; two real public sources."""

import gzip
import shutil

import numpy as np
import pandas as pd
import pytest

from lib.gcmlm.cohort import NAMES, STATUSES, metachronous, read_feature_table, read_lro, read_stad
from lib.inputs.tcga import read_outcomes

# metachronous


@pytest.mark.parametrize(
    ("time", "event", "label", "status"),
    [
        (6.0, 1, np.nan, "synchronous"),
        (6.01, 1, 1.0, "metastasis"),
        (90.0, 1, 1.0, "metastasis"),
        (0.0, 1, np.nan, "synchronous"),
        (24.0, 0, 0.0, "free"),
        (23.9, 0, np.nan, "censored early"),
    ],
)
def test_each_case(time, event, label, status):
    found = metachronous([time], [event]).iloc[0]
    assert found["status"] == status
    np.testing.assert_equal(found["label"], label)


def one(time, event, earliest, least):
    """The rule for one patient, in words of the table."""
    if event:
        return (np.nan, "synchronous") if time <= earliest else (1.0, "metastasis")
    return (0.0, "free") if time >= least else (np.nan, "censored early")


@pytest.mark.parametrize("rules", [(6, 24), (3, 12), (0, 0)])
def test_equals_the_rule_patient_by_patient_and_moves_with_time(rules):
    random = np.random.default_rng(3)
    times, events = random.integers(0, 241, 400) / 4, random.integers(0, 2, 400)  # on the limits too
    found = metachronous(times, events, *rules)
    expected = [one(time, event, *rules) for time, event in zip(times, events, strict=True)]
    assert found["status"].tolist() == [status for _, status in expected]
    np.testing.assert_array_equal(found["label"], [label for label, _ in expected])
    assert set(found["status"]) <= set(STATUSES)
    pd.testing.assert_frame_equal(metachronous(times + 5, events, *(rule + 5 for rule in rules)), found)


def test_more_follow_up_takes_no_certainty_back():
    """Those seen free are looked at again later: some have a metastasis now. Nobody known becomes unknown."""
    random = np.random.default_rng(4)
    times, events = random.integers(0, 241, 400) / 4, random.integers(0, 2, 400)
    more = np.where(events == 1, 0.0, random.integers(0, 100, 400) / 4)
    grown = np.where((events == 0) & (more > 0), random.integers(0, 2, 400), events)
    before, after = metachronous(times, events), metachronous(times + more, grown)
    assert (after["label"][before["label"] == 1] == 1).all()
    assert after["label"][before["label"] == 0].notna().all()
    assert after["label"].notna().sum() > before["label"].notna().sum()


def test_index_names_the_patients():
    times = pd.Series([30.0, 10.0], index=["GA2", "GA1"])
    found = metachronous(times, pd.Series([0, 1], index=["GA2", "GA1"]))
    assert found["label"].to_dict() == {"GA2": 0, "GA1": 1}
    with pytest.raises(ValueError, match="different patients"):
        metachronous(times, pd.Series([1, 0], index=["GA1", "GA2"]))


@pytest.mark.parametrize(
    ("times", "events", "said"),
    [
        ([-0.1], [0], r"time_months of 0 is -0\.1, a number of 0 or more"),
        ([np.nan], [0], "time_months of 0 is nan"),
        ([1.0], [np.nan], "event of 0 is nan, 0 or 1 is needed"),
        ([1.0], [2], r"event of 0 is 2"),
        ([1.0, 2.0], [1], "different patients"),
    ],
)
def test_times_and_events_refused(times, events, said):
    with pytest.raises(ValueError, match=said):
        metachronous(times, events)


# features made elsewhere


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_features_are_numbers_by_patient(tmp_path):
    text = "\ufeffPatient;diagnostics_Versions;original_shape_Volume;size\n7;3.0;1.5;\n10;3.0;-2e3;NA\n"
    table = read_feature_table(written(tmp_path / "ct.csv", text))
    assert list(table.index) == ["7", "10"]
    assert list(table) == ["original_shape_Volume", "size"]
    assert table["original_shape_Volume"].tolist() == [1.5, -2000.0]
    assert table["size"].isna().all()
    table = pd.DataFrame({"patient": ["a", "b"], "f": [1.25, np.nan]})
    table.to_excel(tmp_path / "x.xlsx", index=False)
    assert read_feature_table(tmp_path / "x.xlsx")["f"].iloc[0] == 1.25


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pat,f\na,1\n", "has no column patient; "),
        ("patient,f\na,1\na,2\n", "patient a stands twice"),
        ("patient,f\n,1\n", "row 1 names no patient"),
        ("patient\na\n", "has no feature"),
        (
            "patient,f,g\na,1,2\nb,x1,inf\n",
            r"f of patient b is 'x1', a finite number is needed \(2 such cells",
        ),
    ],
)
def test_features_refused(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        read_feature_table(written(tmp_path / "ct.csv", text))


# head and neck

PATIENTS, LABELS = ["1", "2", "4", "5"], [0, 0, 1, 1]


@pytest.fixture
def folder(tmp_path):
    """Four patients, three features a table."""

    def save(name, table):
        table.insert(0, "patient", PATIENTS)
        table.to_csv(tmp_path / name, index=False)

    clinical = {"Male": [0, 1, 1, 0], "T-Stage": [1, 2, 2, 4], "CRT or RT": [1, 0, 0, 1], "label": LABELS}
    save("clinical.csv", pd.DataFrame(clinical))
    for number, name in enumerate(("ct_fea_pre", "ct_fea_post", "pet_fea_pre", "pet_fea_post")):
        values = number + np.arange(12.0).reshape(4, 3) / 8
        save(f"{name}.csv.gz", pd.DataFrame(values, columns=["f000", "f001", "f002"]))
    return tmp_path


def read(path):
    return pd.read_csv(path, dtype={"patient": str})


def test_lro_tables_before_after_and_both(folder):
    tables, label, note = read_lro(folder)
    assert list(tables) == ["clinical", "ct", "pet"]
    assert list(tables["clinical"]) == ["male", "t_stage", "crt_or_rt"]
    assert label.to_dict() == dict(zip(PATIENTS, LABELS, strict=True))
    assert all(table.index.tolist() == PATIENTS for table in tables.values())
    assert tables["pet"].loc["2", "f001"] == 2.5
    assert "features are numbered" in note
    assert read_lro(folder, "post")[0]["ct"].iloc[0, 0] == 1
    both = read_lro(folder, "both")[0]["ct"]
    assert list(both) == ["pre_f000", "pre_f001", "pre_f002", "post_f000", "post_f001", "post_f002"]


def test_lro_names_where_the_count_agrees(folder):
    pd.DataFrame([["SUV_max", "SUV_min", "", "volume"]]).to_excel(folder / NAMES, header=False, index=False)
    assert list(read_lro(folder)[0]["ct"]) == ["SUV_max", "SUV_min", "volume"]
    pd.DataFrame([["SUV_max", "SUV_min"]]).to_excel(folder / NAMES, header=False, index=False)
    tables, _, note = read_lro(folder)
    assert list(tables["ct"]) == ["f000", "f001", "f002"]
    assert note == f"{NAMES} has 2 names for 3 features: features are numbered"


@pytest.mark.parametrize("turn", [lambda y: y, lambda y: 3 - y])
@pytest.mark.parametrize("table", ["pet_fea_pre.csv.gz", "clinical.csv"])
def test_lro_outcome_among_the_features_is_refused(folder, table, turn):
    """The last column of upstream's sheets; turned over or recoded it is no better."""
    content = read(folder / table).assign(f257=[turn(value) for value in LABELS])
    content.to_csv(folder / table, index=False)
    with pytest.raises(ValueError, match="column f257 is the outcome itself"):
        read_lro(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.iloc[:3], "do not have the same patients: 5"),
        (lambda t: t.iloc[::-1], "do not have the same patients: in another order"),
        (lambda t: t.assign(patient=["1", "1", "4", "5"]), "patient 1 stands twice"),
        (lambda t: t.assign(f001=[1, 2, None, 4]), "f001 of patient 4 is 'nan', a finite number is needed"),
        (lambda t: t.assign(f001=[1, 2, 3, "n"]), "f001 of patient 5 is 'n', a finite number is needed"),
    ],
)
def test_lro_tables_refused(folder, change, said):
    path = folder / "ct_fea_pre.csv.gz"
    change(read(path)).to_csv(path, index=False)
    with pytest.raises(ValueError, match=said):
        read_lro(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="run `make data COHORT=lro`"):
        read_lro(folder)


@pytest.mark.real
def test_lro_real_tables(mirror, tmp_path):
    tables, label, note = read_lro(mirror / "ct" / "lro_headneck")
    assert [table.shape for table in tables.values()] == [(150, 10), (150, 257), (150, 257)]
    assert (len(label), label.sum(), note) == (150, 38, "")
    for table in (tables["ct"], read_lro(mirror / "ct" / "lro_headneck", "post")[0]["pet"]):
        assert (table["SUV_min"] <= table["SUV_median"]).all(), "the names fit the columns"
        assert (table["SUV_mean"] <= table["SUV_max"]).all()
    assert tables["clinical"]["age"].between(28, 82).all()
    folder = shutil.copytree(mirror / "ct" / "lro_headneck", tmp_path / "lro")
    with gzip.open(folder / "ct_fea_pre.csv.gz", "rt") as file:
        table = pd.read_csv(file).assign(f257=label.to_numpy())  # as upstream's sheets have it
    table.to_csv(folder / "ct_fea_pre.csv.gz", index=False)
    with pytest.raises(ValueError, match="column f257 is the outcome itself"):
        read_lro(folder)


# TCGA-STAD

BASE = {
    "type": "STAD", "age_at_initial_pathologic_diagnosis": 60, "gender": "MALE",
    "ajcc_pathologic_tumor_stage": "Stage IIIA", "clinical_stage": "[Not Applicable]", "histological_grade": "G3",
    "new_tumor_event_type": "", "new_tumor_event_site": "", "new_tumor_event_site_other": "",
    "new_tumor_event_dx_days_to": "", "OS": 0, "OS.time": 900, "PFI": 0, "PFI.time": 900,
}  # fmt: skip


def spread(kind, site, other, day, last=900):
    sites = {"new_tumor_event_site": site, "new_tumor_event_site_other": other}
    return {"new_tumor_event_type": kind, **sites, "new_tumor_event_dx_days_to": day, "OS.time": last}


ROWS = {
    "TCGA-AA-0001": {},
    "TCGA-AA-0002": spread("Distant Metastasis", "Liver", "", 304.4),
    "TCGA-AA-0003": spread("Distant Metastasis", "Other, specify", "LIVER and lung", 152.2),
    "TCGA-AA-0004": spread("Locoregional Recurrence|Distant Metastasis", "Liver", "", 400),
    "TCGA-BB-0005": spread("New Primary Tumor", "Liver", "", 100),
    "TCGA-BB-0006": spread("Distant Metastasis", "Lung", "", 467, 21),
    "TCGA-BB-0007": {"OS.time": "", "PFI.time": ""},
    "TCGA-BB-0008": {
        "gender": "",
        "ajcc_pathologic_tumor_stage": "[Discrepancy]",
        "histological_grade": "GX",
    },
    "TCGA-ZZ-0009": {"type": "COAD", **spread("Distant Metastasis", "Liver", "", 10)},
}
FACTORS = ["age", "male", "stage", "grade"]


def cdr(folder, rows=ROWS):
    table = pd.DataFrame([{"bcr_patient_barcode": name, **BASE, **row} for name, row in rows.items()])
    table.to_csv(folder / "cdr.csv", index=False)
    return folder / "cdr.csv"


def test_stad_liver_in_either_site_but_no_new_primary(tmp_path):
    found = read_stad(cdr(tmp_path)).set_index("patient")
    assert found["event"].tolist() == [0, 1, 1, 1, 0, 0, 0, 0]
    np.testing.assert_allclose(found["time_months"] * 30.44, [900, 304.4, 152.2, 400, 900, 900, np.nan, 900])
    assert found["problem"].tolist() == [""] * 6 + ["no follow-up", ""]
    assert found["hospital"].tolist() == ["AA"] * 4 + ["BB"] * 4
    assert found.loc["TCGA-AA-0001", FACTORS].tolist() == [60, 1, 3, 3]
    np.testing.assert_array_equal(
        found.loc["TCGA-BB-0008", FACTORS].astype(float), [60, np.nan, np.nan, np.nan]
    )
    later = {"TCGA-BB-0006": ROWS["TCGA-BB-0006"] | {"PFI.time": 21}}  # seen later than the follow-up says
    assert read_stad(cdr(tmp_path, later))["time_months"].iloc[0] == pytest.approx(467 / 30.44)


def test_stad_patients_asked_for_and_an_event_without_a_day(tmp_path):
    found = read_stad(cdr(tmp_path), ["TCGA-BB-0005", "TCGA-AA-0002"])
    assert found["patient"].tolist() == ["TCGA-AA-0002", "TCGA-BB-0005"]
    with pytest.raises(ValueError, match="no STAD patient TCGA-ZZ-0009"):
        read_stad(cdr(tmp_path), ["TCGA-ZZ-0009"])
    with pytest.raises(ValueError, match="liver metastasis of TCGA-AA-0002 has no day"):
        read_stad(cdr(tmp_path, {"TCGA-AA-0002": spread("Distant Metastasis", "Liver", "", "")}))


@pytest.mark.real
def test_stad_real_numbers(mirror):
    """25 of the 349 patients with slides in PORPOISE's table; 29 of all 443."""
    path = mirror / "tcga" / "tcga_cdr_subset.csv"
    assert read_stad(path)["event"].agg(["size", "sum"]).tolist() == [443, 29]
    slides = read_outcomes(mirror / "tcga" / "survival" / "tcga_stad_survival.csv")
    found = read_stad(path, slides["patient"])
    assert found["event"].agg(["size", "sum"]).tolist() == [349, 25]
    assert (found["problem"] == "").all()
    assert found[FACTORS].isna().sum().tolist() == [3, 0, 8, 9]
    status = metachronous(found["time_months"], found["event"])["status"].value_counts().to_dict()
    assert status == {"censored early": 222, "free": 102, "metastasis": 18, "synchronous": 7}
