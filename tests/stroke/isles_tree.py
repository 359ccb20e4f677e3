"""A small ISLES'24 tree with every inconsistency of its releases, documents and users' copies.

The layouts and spellings are those of Zenodo's records 16748089 to 17652035, of the challenge's repository and of what
users report; the patients are invented, and no picture holds one.
"""

import datetime

import openpyxl
import pandas as pd

BASELINE = {
    "Center": "1",
    "Sex": "F",
    "Age": "71",
    "Atrial fibrillation": "0.0",
    "Hypertension": "1.0",
    "Diabetes": "0.0",
    "Hyperlipidemia": "2.0",  # occurs
    "Wake-up": "0",
    "Onset to door": "01:10:00",
    "NIHSS at admission": "12",
    "mRS premorbid": "0",
    "Door to imaging": "00:20:00",
    "Door to recanalization": "01:50:00",
}
OUTCOME = {"NIHSS 24h": "5", "mRS discharge": "4", "mRS 3 months": "3", "TICI postinterventional": "2b"}


def touch(path, content=b"\x1f\x8bnot opened here"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def table(path, columns):
    """Write one row as csv or as xlsx with the types a spreadsheet gives it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        pd.DataFrame([columns]).to_csv(path, index=False)
        return path
    book = openpyxl.Workbook()
    book.active.append(list(columns))
    book.active.append([typed(value) for value in columns.values()])
    book.save(path)
    return path


def typed(text):
    if isinstance(text, str) and text.count(":") == 2:
        return datetime.time.fromisoformat(text)
    return text if not text or text == "nan" or not text[0].isdigit() or text[-1] in "abc" else float(text)


def current(root, name="sub-stroke0001", kind="csv", baseline=BASELINE, outcome=OUTCOME):
    """A patient as the release of November 2025 has it."""
    raw, derived, clinic = (root / part / name for part in ("raw_data", "derivatives", "phenotype"))
    for image in ("ncct", "cta", "ctp", "tmax"):
        inside = f"ses-01/{'perfusion-maps/' if image == 'tmax' else ''}{name}_ses-01_"
        touch(raw / f"{inside}{image}.nii.gz")
        touch(derived / f"{inside}space-ncct_{image}.nii.gz")
    touch(raw / "ses-02" / f"{name}_ses-02_dwi.nii.gz")
    touch(derived / "ses-02" / f"{name}_ses-02_space-ncct_lesion-msk.nii.gz")
    table(clinic / "ses-01" / f"{name}_ses-01_demographic_baseline.{kind}", baseline)
    table(clinic / "ses-02" / f"{name}_ses-02_outcome.{kind}", outcome)


def older(root, name="sub-strokecase0002"):
    """A patient as the challenge's repository and the record's text write it."""
    for image in ("ncct", "cta", "ctp"):
        touch(root / "rawdata" / name / "ses-0001" / f"{name}_ses-0001_{image}.nii.gz")
    touch(root / "derivatives" / name / "ses-0002" / f"{name}_ses-0002_lesion-msk.nii.gz")
    baseline = {f" {key.upper()} ": value for key, value in BASELINE.items()}
    baseline |= {" SEX ": "m", " AGE ": "nan", " HYPERTENSION ": "null", " CENTER ": "2"}
    outcome = {"MRS 3 months": "5", "mTici postinterventional": "2c", "NIHSS 24h": ""}
    table(root / "phenotype" / f"{name}_ses-0001_demographic_baseline.xlsx", baseline)
    table(root / "phenotype" / f"{name}_ses-0002_outcome.xlsx", outcome)


def mixed(root):
    """Patients somebody copied together."""
    raw, derived, clinic = (root / part for part in ("raw_data", "derivatives", "phenotype"))
    # not gzipped, folders and files in other cases, tables side by side and nested once more than they should be
    touch(root / "Raw_Data" / "sub-stroke0007" / "SES-01" / "sub-stroke0007_ses-01_CTP.nii")
    deep = clinic / "sub-stroke0007" / "sub-stroke0007" / "ses-01"
    unknown = {"Age": "", "NIHSS at admission": "NaN"}
    table(deep / "sub-stroke0007_ses-01_demographic_baseline.csv", BASELINE | unknown)
    table(clinic / "sub-stroke0007_ses-02_outcome.xlsx", OUTCOME | {"mRS 3 months": "nan"})
    # without a CTP; the same table as csv and xlsx
    current(root, "sub-stroke0009")
    (raw / "sub-stroke0009" / "ses-01" / "sub-stroke0009_ses-01_ctp.nii.gz").unlink()
    (derived / "sub-stroke0009" / "ses-01" / "sub-stroke0009_ses-01_space-ncct_ctp.nii.gz").unlink()
    table(clinic / "sub-stroke0009" / "ses-01" / "sub-stroke0009_ses-01_demographic_baseline.xlsx", BASELINE)
    # registered series only; a second lesion without the tag; no outcome
    current(root, "sub-stroke0012")
    (raw / "sub-stroke0012" / "ses-01" / "sub-stroke0012_ses-01_ctp.nii.gz").write_bytes(b"")
    touch(derived / "sub-stroke0012" / "ses-02" / "sub-stroke0012_ses-02_lesion-msk.nii.gz")
    (clinic / "sub-stroke0012" / "ses-02" / "sub-stroke0012_ses-02_outcome.csv").unlink()
    # what no patient's file is
    touch(root / "clinical_data-description.xlsx")
    touch(root / "__MACOSX" / "raw_data" / "._sub-stroke0099_ses-01_ctp.nii.gz")
    touch(root / "__MACOSX" / "sub-stroke0098_ses-01_ctp.nii.gz")
    touch(raw / "sub-stroke0001" / "ses-01" / "._sub-stroke0001_ses-01_ctp.nii.gz")
    touch(clinic / "sub-stroke0001" / "ses-01" / "~$sub-stroke0001_ses-01_demographic_baseline.xlsx")
