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
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from lib.inputs.clinical import gathered, is_missing, mapped
from lib.inputs.tables import nearest_name, plain

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
    "center": "Center",
}
PATIENT = re.compile(r"sub-stroke(?:case)?0*(\d+)(?!\d)", re.IGNORECASE)
SESSION = re.compile(r"ses-0*(\d+)(?!\d)", re.IGNORECASE)
SERIES = re.compile(r"(?:.*[_-])?ctp\.nii(?:\.gz)?", re.IGNORECASE)
SPACES = (
    "raw",
    "ncct",
    "derivatives",
)  # as acquired, else brought to the NCCT's grid, else whatever there is
TABLES = {"baseline_table": re.compile(r"demographic|baseline"), "outcome_table": re.compile(r"outcome")}


def patient_of(name: str) -> str:
    """Patient in a file's, a folder's or a cell's text, always spelled "sub-stroke0001"; "" where there is none."""
    numbers = PATIENT.findall(name)
    return f"sub-stroke{int(numbers[-1]):04d}" if numbers else ""


def find_patients(root: str | Path, listed: Iterable[str] | None = None) -> pd.DataFrame:
    """Find every patient's series and clinical tables below a folder: the unpacked release, or a copy of parts of it.

    Patients `listed` must be there; the result is then these, in this order.

    Returns
    -------
    DataFrame
        One row a patient, sorted: patient ("sub-stroke0001"); series (path of the 4D CTP, "" where there is none);
        series_space ("raw", "ncct", "derivatives", ""); baseline_table, outcome_table (several separated by ";");
        problem (why the patient cannot be used, "" if nothing is wrong); note (what else is odd).
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder: it should hold ISLES'24 as its archive unpacks")
    files: dict[str, list[Path]] = {}
    shared: list[Path] = []  # tables of several patients
    for path in sorted(_files(root)):
        inside = path.relative_to(root).as_posix()
        if patient := patient_of(path.name) or patient_of(inside):
            files.setdefault(patient, []).append(path)
        elif _is_table(path) and "phenotype" in inside.lower().split("/")[:-1]:
            shared.append(path)
    names = sorted(files) if listed is None else [patient_of(name) or name for name in listed]
    if not files or (lost := [name for name in names if name not in files]):
        raise FileNotFoundError(f"{root} holds no file of {lost[0] if files else 'a patient sub-strokeNNNN'}")
    return pd.DataFrame([_row(name, files[name], shared, root) for name in names])


def _files(root: Path) -> Iterator[Path]:
    """Files below a folder without hidden files, spreadsheets' locks and archives' litter."""
    for folder, inner, names in os.walk(root, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith((".", "__MACOSX"))]
        yield from (Path(folder, name) for name in names if not name.startswith((".", "~$")))


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".tsv", ".xlsx")


def _row(patient: str, files: list[Path], shared: list[Path], root: Path) -> dict[str, str]:
    problems: list[str] = []
    notes: list[str] = []
    whole: list[Path] = []
    for path in files:
        inside = path.relative_to(root).as_posix()
        if other := {patient_of(part) for part in inside.split("/")} - {patient, ""}:
            notes.append(f"{inside} lies in a folder of {min(other)} and is not taken")
        elif not path.stat().st_size:
            notes.append(f"{inside} is empty and is not taken")
        else:
            whole.append(path)
    series, space = _series(whole, root, problems, notes)
    row = {"patient": patient, "series": series, "series_space": space}
    for kind, pattern in TABLES.items():
        tables = [path for path in [*whole, *shared] if _is_table(path) and pattern.search(path.name.lower())]
        row[kind] = ";".join(map(str, tables))
        if not tables:
            (problems if kind == "outcome_table" else notes).append(f"no {kind.replace('_', ' ')}")
    return {**row, "problem": "; ".join(problems), "note": "; ".join(notes)}


def _series(files: list[Path], root: Path, problems: list[str], notes: list[str]) -> tuple[str, str]:
    """The one CT perfusion of the first session, and the space it is in; says what was left and why."""
    spaces: dict[str, list[str]] = {}
    for inside in (path.relative_to(root).as_posix() for path in files if SERIES.fullmatch(path.name)):
        name = inside.rsplit("/", 1)[-1].lower()
        if (session := SESSION.findall(name) or SESSION.findall(inside)) and int(session[-1]) != 1:
            notes.append(f"{inside} is of session {int(session[-1])}, not 1, and is not taken")
            continue
        beyond = "derivatives" if "derivatives" in inside.lower().split("/") else "raw"
        spaces.setdefault("ncct" if "space-ncct" in name else beyond, []).append(inside)
    space = next((space for space in SPACES if space in spaces), "")
    if not space:
        problems.append("no CTP series")
    elif len(spaces[space]) > 1:
        problems.append(f"{' and '.join(spaces[space])} are both its series: remove all but one")
    else:
        return str(root / spaces[space][0]), space
    return "", ""


def read_clinical(
    patients: pd.DataFrame,
    mapping: Mapping[str, str | float] = MAPPING,
    levels: Mapping[str, Mapping[str, int]] | None = None,
    implausible: str = "refuse",
) -> pd.DataFrame:
    """Read the clinical tables of `find_patients`' rows.

    `mapping` says which column is which variable, for the nine and `mrs`, as `lib.inputs.clinical.mapped` reads it;
    `center` is a column's name or "". `levels` are categories in place of the default: mTICI 0, 1 and 2a are 0, 2b is
    1, 2c and 3 are 2; F is 0 and M is 1. `implausible` is "refuse" or "missing", for numbers no patient has.

    Returns
    -------
    DataFrame
        One row a patient, in their order: patient; age (years), onset_to_ctp_min, ctp_to_recanalisation_min, nihss,
        sex, hypertension, smoking, atrial_fibrillation (0 or 1), mtici (0, 1, 2), mrs (0 to 6), all float64 and NaN
        where missing; center ("" where missing); note (what was odd); then every column of the files as it stands
        there, its name behind "raw:".
    """
    tables = patients[["baseline_table", "outcome_table"]].fillna("").agg(";".join, axis=1)
    paths = [[path for path in cell.split(";") if path] for cell in tables]
    raw, notes = gathered(list(patients["patient"]), paths, patient_of)
    rest = {name: expression for name, expression in mapping.items() if name != "center"}
    if "mrs" not in rest:
        raise ValueError("the mapping does not say what mrs is: name the column of the outcome at 3 months")
    table = mapped(raw, patients["patient"], rest, levels, implausible)
    columns, center = {plain(name): name for name in raw}, mapping.get("center") or ""
    if center and plain(center) not in columns:
        raise ValueError(f"center: no table has a column {center!r}{nearest_name(center, columns.values())}")
    texts = raw[columns[plain(center)]] if center else pd.Series("", index=raw.index)
    table.insert(table.shape[1] - 1, "center", texts.mask(texts.map(is_missing), ""))
    table["note"] = ["; ".join(filter(None, both)) for both in zip(notes, table["note"], strict=True)]
    return pd.concat([table, raw.add_prefix("raw:")], axis=1)
