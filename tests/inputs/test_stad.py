"""TCGA-STAD: which new tumours are liver metastases, by hand and in the real table."""

import numpy as np
import pandas as pd
import pytest

from lib.gcmlm.cohort import FACTORS, metachronous, read_stad
from lib.inputs.tcga import read_outcomes

BASE = {
    "type": "STAD",
    "age_at_initial_pathologic_diagnosis": 60,
    "gender": "MALE",
    "ajcc_pathologic_tumor_stage": "Stage IIIA",
    "clinical_stage": "[Not Applicable]",
    "histological_grade": "G3",
    "new_tumor_event_type": "",
    "new_tumor_event_site": "",
    "new_tumor_event_site_other": "",
    "new_tumor_event_dx_days_to": "",
    "OS": 0,
    "OS.time": 900,
    "PFI": 0,
    "PFI.time": 900,
}


def spread(kind, site, other, day, last=900):
    return {
        "new_tumor_event_type": kind,
        "new_tumor_event_site": site,
        "new_tumor_event_site_other": other,
        "new_tumor_event_dx_days_to": day,
        "OS.time": last,
    }


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


def table(folder, rows=ROWS, leave=()):
    path = folder / "cdr.csv"
    made = pd.DataFrame([{"bcr_patient_barcode": name, **BASE, **row} for name, row in rows.items()])
    made.drop(columns=list(leave)).to_csv(path, index=False)
    return path


def test_liver_in_either_site_but_no_new_primary(tmp_path):
    found = read_stad(table(tmp_path)).set_index("patient")
    assert found["event"].to_dict() == {
        "TCGA-AA-0001": 0,
        "TCGA-AA-0002": 1,
        "TCGA-AA-0003": 1,
        "TCGA-AA-0004": 1,
        "TCGA-BB-0005": 0,
        "TCGA-BB-0006": 0,
        "TCGA-BB-0007": 0,
        "TCGA-BB-0008": 0,
    }
    days = found["time_months"] * 30.44
    np.testing.assert_allclose(days, [900, 304.4, 152.2, 400, 900, 900, np.nan, 900])
    assert found["problem"].tolist() == [""] * 6 + ["no follow-up", ""]
    assert found["hospital"].tolist() == ["AA"] * 4 + ["BB"] * 4
    assert found.loc["TCGA-AA-0001", list(FACTORS)].tolist() == [60, 1, 3, 3]
    np.testing.assert_array_equal(
        found.loc["TCGA-BB-0008", list(FACTORS)].astype(float), [60, np.nan, np.nan, np.nan]
    )


def test_seen_later_than_the_follow_up_says(tmp_path):
    """TCGA-BR-8380 has another tumour event 446 days after its last follow-up."""
    rows = {"TCGA-BB-0006": ROWS["TCGA-BB-0006"] | {"PFI.time": 21}}
    assert read_stad(table(tmp_path, rows))["time_months"].iloc[0] == pytest.approx(467 / 30.44)


def test_patients_asked_for(tmp_path):
    found = read_stad(table(tmp_path), ["TCGA-BB-0005", "TCGA-AA-0002"])
    assert found["patient"].tolist() == ["TCGA-AA-0002", "TCGA-BB-0005"]
    with pytest.raises(ValueError, match="no STAD patient TCGA-ZZ-0009"):
        read_stad(table(tmp_path), ["TCGA-ZZ-0009"])


@pytest.mark.parametrize(
    ("rows", "leave", "said"),
    [
        ({"TCGA-AA-0002": spread("Distant Metastasis", "Liver", "", "")}, (), "liver metastasis of TCGA-AA-0002 has no day"),
        ({"TCGA-ZZ-0009": ROWS["TCGA-ZZ-0009"]}, (), "has no patient of type STAD"),
        (ROWS, ["new_tumor_event_site_other"], "has no column for new_tumor_event_site_other"),
        (ROWS, ["OS"], "has no column for os_days"),
    ],
)  # fmt: skip
def test_refused(tmp_path, rows, leave, said):
    with pytest.raises(ValueError, match=said):
        read_stad(table(tmp_path, rows, leave))


@pytest.mark.real
def test_real_numbers(mirror):
    """25 of the 349 patients with slides in PORPOISE's table, as the issue has it; 29 of all 443."""
    path = mirror / "tcga" / "tcga_cdr_subset.csv"
    assert read_stad(path)["event"].agg(["size", "sum"]).tolist() == [443, 29]
    slides = read_outcomes(mirror / "tcga" / "survival" / "tcga_stad_survival.csv")
    found = read_stad(path, slides["patient"])
    assert found["event"].agg(["size", "sum"]).tolist() == [349, 25]
    assert (found["problem"] == "").all()
    assert found[list(FACTORS)].isna().sum().tolist() == [3, 0, 8, 9]
    status = metachronous(found["time_months"], found["event"])["status"].value_counts().to_dict()
    assert status == {"censored early": 222, "free": 102, "metastasis": 18, "synchronous": 7}
