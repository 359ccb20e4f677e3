"""ISLES'24: which files a patient has, whatever the release called them, and the clinical tables beside them.

Riedel et al., arXiv 2408.11142; Zenodo record 17652035 and its older versions. What differs between releases, documents
and users' copies, and is therefore found by each file's own name and not by its place:

- raw_data or rawdata, below train/ or not; ses-01 or ses-0001; sub-stroke0001 or sub-strokecase0001;
- clinical tables as csv or xlsx, in a folder a patient and session or side by side, or one table for all;
- "mRS 3 months" or "MRS 3 months", "TICI postinterventional" or "mTici postinterventional"; times as clock times;
- missing values as empty cells, null, and the letters nan.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lib.inputs.tables import is_missing, plain, read_texts
from lib.stroke.clinical import LEVELS, mapped

MAPPING = {
    "age": "Age",
    "onset_to_ctp_min": "Onset to door + Door to imaging",
    "ctp_to_recanalisation_min": "Door to recanalization - Door to imaging",
    "nihss": "NIHSS at admission",
    "sex": "Sex",
    "hypertension": "Hypertension",
    "smoking": "",  # ISLES'24 has nothing of the kind
    "atrial_fibrillation": "Atrial fibrillation",
    "mtici": "TICI postinterventional | mTici postinterventional",
    "mrs": "mRS 3 months",
}
PATIENT = re.compile(r"sub-stroke(?:case)?0*(\d+)(?!\d)", re.IGNORECASE)
PATIENT_COLUMNS = (
    *("patient", "patient_id", "subject", "subject_id", "participant_id"),
    *("case", "case_id", "id"),
)
SESSION = re.compile(r"ses-0*(\d+)(?!\d)", re.IGNORECASE)
SERIES = re.compile(r"(?:.*[_-])?ctp\.nii(?:\.gz)?", re.IGNORECASE)
# as acquired, else brought to the NCCT's grid, else whatever there is
SPACES = ("raw", "ncct", "derivatives")
TABLES = {"baseline table": re.compile(r"demographic|baseline"), "outcome table": re.compile(r"outcome")}


def patient_of(name: str) -> str:
    """Patient in a file's, a folder's or a cell's text, always spelled "sub-stroke0001"; "" where there is none."""
    numbers = PATIENT.findall(name)
    return f"sub-stroke{int(numbers[-1]):04d}" if numbers else ""


def find_patients(root: str | Path) -> pd.DataFrame:
    """Find every patient's series and clinical tables below a folder: the unpacked release, or a copy of parts of it.

    Indexed by patient ("sub-stroke0001"), sorted: series (path of the 4D CTP, "" where there is none); tables (list of paths);
    problem (why the patient cannot be used, "" if nothing is wrong); note (what else is odd).
    """
    root = Path(root)
    files: dict[str, list[str]] = {}  # below root
    shared: list[str] = []  # tables of several patients
    for path in sorted(_files(root)):
        inside = path.relative_to(root).as_posix()
        if patient := patient_of(path.name) or patient_of(inside):
            files.setdefault(patient, []).append(inside)
        elif "phenotype" in inside.lower().split("/")[:-1]:
            shared.append(inside)
    if not files:
        raise FileNotFoundError(f"{root} holds no file of a patient sub-strokeNNNN, as ISLES'24 unpacks")
    rows = {patient: _files_of_patient(patient, files[patient], shared, root) for patient in sorted(files)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("patient")


def _files(root: Path) -> Iterator[Path]:
    """Files below a folder without hidden files, spreadsheets' locks and archives' litter."""
    for folder, inner, names in os.walk(root, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith((".", "__MACOSX"))]
        yield from (Path(folder, name) for name in names if not name.startswith((".", "~$")))


def _files_of_patient(patient: str, files: list[str], shared: list[str], root: Path) -> dict[str, object]:
    problems: list[str] = []
    notes: list[str] = []
    tables: list[Path] = []
    whole: list[str] = []
    for inside in files:
        if other := {patient_of(part) for part in inside.split("/")} - {patient, ""}:
            notes.append(f"{inside} lies in a folder of {min(other)} and is not taken")
        elif not (root / inside).stat().st_size:
            notes.append(f"{inside} is empty and is not taken")
        else:
            whole.append(inside)
    series = _series(whole, notes)
    if len(series) != 1:
        both = f"{' and '.join(series)} are both its series: remove all but one"
        problems.append(both if series else "no CTP series")
    kept = [one for one in [*whole, *shared] if one.lower().endswith((".csv", ".tsv", ".xlsx"))]
    for kind, pattern in TABLES.items():
        found = [root / inside for inside in kept if pattern.search(Path(inside).name.lower())]
        tables += found
        if not found:
            (problems if kind == "outcome table" else notes).append(f"no {kind}")
    about = {"problem": "; ".join(problems), "note": "; ".join(notes)}
    return {"series": str(root / series[0]) if len(series) == 1 else "", "tables": tables, **about}


def _series(files: list[str], notes: list[str]) -> list[str]:
    """The CT perfusion of the first session, one if all is well; says what was left and why."""
    spaces: dict[str, list[str]] = {}
    for inside in files:
        name = Path(inside).name.lower()
        if not SERIES.fullmatch(name):
            continue
        if (session := SESSION.findall(name) or SESSION.findall(inside)) and int(session[-1]) != 1:
            notes.append(f"{inside} is of session {int(session[-1])}, not 1, and is not taken")
            continue
        beyond = "derivatives" if "derivatives" in inside.lower().split("/") else "raw"
        spaces.setdefault("ncct" if "space-ncct" in name else beyond, []).append(inside)
    return next((spaces[space] for space in SPACES if space in spaces), [])


def read_clinical(
    tables: pd.Series, mapping: Mapping[str, str | float] = MAPPING, implausible: str = "refuse"
) -> pd.DataFrame:
    """Read the clinical tables of `find_patients`: a list of paths for each patient, who is the index.

    `mapping` and `implausible` are those of `lib.stroke.clinical.mapped`, which says what is refused. By patient, in their
    order: age (years), onset_to_ctp_min, ctp_to_recanalisation_min, nihss, sex, hypertension, smoking, atrial_fibrillation (0
    or 1), mtici (0 for 0 to 2a, 1 for 2b, 2 for 2c and 3), mrs (0 to 6), all float64 and NaN where missing; note.
    """
    raw, notes = merged_tables(tables)
    table = mapped(raw, mapping, implausible=implausible)
    table["note"] = ["; ".join(filter(None, both)) for both in zip(notes, table["note"], strict=True)]
    return table


def read_form(path: str | Path, implausible: str = "refuse") -> pd.DataFrame:
    """Read ISLES'24's clinical table of 129 patients without their scans, as cleaned by others (data/sources.yaml).

    Its age is a z-score over all patients and is brought back to years (70.456 + 15.029 z, about); onset to door exists as a
    z-score only, and is not read. Patients 133 to 182 have no TICI, no measured laboratory values and ages between whole years,
    as if they came from a second centre; that is an inference. As of `read_clinical`, with hospital ("first", or "second
    (inferred)").
    """
    raw = read_texts(path)
    if lost := {"subject_id", "Age_z", "mRS 3 months"} - set(raw):
        raise ValueError(f"{path} has no column {min(lost)}: it is not the table of data/sources.yaml")
    raw = raw.set_index(raw["subject_id"].map(patient_of).rename("patient"))
    years = 70.456 + 15.029 * raw["Age_z"].astype(float)
    named = MAPPING | {"age": "years", "sex": "Sex", "mtici": "TICI", "onset_to_ctp_min": ""}
    levels = LEVELS | {"sex": {"0": 0, "1": 1}}
    raw = raw.assign(years=years.map("{:.1f}".format))
    table = mapped(raw, named | {"ctp_to_recanalisation_min": ""}, levels, implausible)
    number = raw.index.str[-4:].astype(int)
    hospital = np.where((number >= 133) & (number <= 182), "second (inferred)", "first")
    return table.assign(hospital=hospital)


def merged_tables(tables: pd.Series) -> tuple[pd.DataFrame, list[str]]:
    """Gather what several tables say of each patient, of whom no two may contradict each other.

    A table whose path names one patient has one row; any other has a column `PATIENT_COLUMNS` and a row a patient. Returned
    are texts, one row a patient, a column for each name that occurs in any table, whatever its case and spaces, "" where a
    patient's tables do not have it; and for each patient what its tables lack, "" if nothing.
    """
    content = {path: _by_patient(path) for path in dict.fromkeys(tables.explode().dropna())}
    columns: dict[str, str] = {}  # plain name -> as it was spelled first
    records, notes = [], []
    for patient, paths in tables.items():
        record: dict[str, tuple[str, Path]] = {}
        lacking = []
        for path in paths:
            rows = content[path].loc[content[path].index == patient]
            if len(rows) > 1 or (rows.empty and patient_of(str(path))):
                raise ValueError(f"{path} has {len(rows)} rows of patient {patient}, and one is expected")
            lacking += [f"{path.name} has no row of it"] if rows.empty else []
            for spelled, text in rows.iloc[0].items() if len(rows) else ():
                name = plain(spelled)
                columns.setdefault(name, spelled)
                known, where = record.get(name, ("", path))
                if is_missing(known):
                    record[name] = (text, path)
                elif not is_missing(text) and _comparable(known) != _comparable(text):
                    both = f"{known!r} in {where} and {text!r} in {path}"
                    raise ValueError(f"patient {patient}: {name} is {both}; correct or remove one")
        records.append({columns[name]: text for name, (text, _) in record.items()})
        notes.append("; ".join(lacking) if record or lacking else "no clinical table")
    return pd.DataFrame(records, tables.index, list(columns.values()), dtype=str).fillna(""), notes


def _by_patient(path: Path) -> pd.DataFrame:
    """A table of texts by the patient that a row or else the path names."""
    table, owner = read_texts(path), patient_of(str(path))
    named = next((column for column in table if plain(column) in PATIENT_COLUMNS), None)
    who = table[named].map(patient_of) if named else pd.Series("", table.index)
    if owner and not who.any():
        return table.set_axis([owner] * len(table))
    if not named:
        raise ValueError(f"{path} names no patients: a column patient or patient_id is expected")
    return table.drop(columns=named).set_axis(who)


def _comparable(text: str) -> float | str:
    """A cell for comparison: 71 and 71.0, 1:23:00 and 01:23:00 are the same."""
    try:
        return float(text)
    except ValueError:
        return re.sub(r"\b0+(?=\d)", "", plain(text))
