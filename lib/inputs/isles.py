"""ISLES'24: which files a patient has, whatever the release called them, and the clinical tables beside them.

Riedel et al., arXiv 2408.11142; Zenodo record 17652035 and its older versions. What differs between releases, documents
and users' copies, and is therefore found by each file's own name and not by its place:

- raw_data or rawdata, below train/ or not; ses-01 or ses-0001; sub-stroke0001 or sub-strokecase0001;
- the lesion with or without `space-ncct` in its name, in one patient twice;
- clinical tables as csv or xlsx, in a folder a patient and session or side by side, or one table for all;
- "mRS 3 months" or "MRS 3 months", "TICI postinterventional" or "mTici postinterventional"; times as clock times;
- missing values as empty cells, null, and the letters nan.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from lib.inputs.clinical_records import gathered
from lib.inputs.clinical_values import is_missing, mapped
from lib.inputs.text_tables import nearest_name, plain

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
SLOTS = {  # what a file is, by the end of its name; the session it belongs to
    "series": ("ctp", 1),
    "ncct": ("ncct", 1),
    "cta": ("cta", 1),
    "tmax": ("tmax", 1),
    "mtt": ("mtt", 1),
    "cbf": ("cbf", 1),
    "cbv": ("cbv", 1),
    "lvo": ("lvo-msk", 1),
    "lesion": ("lesion-msk", 2),
    "dwi": ("dwi", 2),
    "adc": ("adc", 2),
}
SPACES = {"raw": ("raw", "ncct", "derivatives"), "ncct": ("ncct", "derivatives", "raw")}
TABLES = {"baseline_table": re.compile(r"demographic|baseline"), "outcome_table": re.compile(r"outcome")}


def patient_of(name: str) -> str:
    """Patient in a file's, a folder's or a cell's text, always spelled "sub-stroke0001"; "" where there is none."""
    found = PATIENT.findall(name)
    return f"sub-stroke{int(found[-1]):04d}" if found else ""


def find_patients(root: str | Path, space: str = "raw", listed: Iterable[str] | None = None) -> pd.DataFrame:
    """Find every patient's files below a folder.

    Parameters
    ----------
    root : path
        The unpacked release, any folder above it, or a copy of parts of it.
    space : str
        "raw" takes the CTP series and the maps as acquired where there are any, "ncct" those brought to the NCCT's
        grid, on which the lesion lies; the other kind is taken where the wanted one is missing.
    listed : names, optional
        Patients that must be there; the result is then these, in this order.

    Returns
    -------
    DataFrame
        One row a patient, sorted: patient ("sub-stroke0001"); paths, "" where there is none: series (4D CTP), ncct,
        cta, tmax, mtt, cbf, cbv, lvo, lesion, dwi, adc; baseline_table, outcome_table (several separated by ";");
        series_space ("raw", "ncct", "derivatives", ""); problem (why the patient cannot be used, "" if
        nothing is wrong); note (what else is odd).

    Raises
    ------
    FileNotFoundError
        No folder, no patient's file in it, or a listed patient has none.
    ValueError
        Another `space`, or a patient listed twice.
    """
    root = Path(root)
    if space not in SPACES:
        raise ValueError(f"space is {space!r}: choose raw or ncct")
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder: it should hold ISLES'24 as its archive unpacks")
    files = sorted(_files(root))
    own: dict[str, list[Path]] = {}
    shared: list[Path] = []
    for path in files:
        inside = path.relative_to(root).as_posix()
        patient = patient_of(path.name) or patient_of(inside)
        if patient:
            own.setdefault(patient, []).append(path)
        elif (
            path.suffix.lower() in (".csv", ".tsv", ".xlsx") and "phenotype" in inside.lower().split("/")[:-1]
        ):
            shared.append(path)
    if not own:
        raise FileNotFoundError(f"{root} holds no file of a patient sub-strokeNNNN")
    names = sorted(own) if listed is None else [patient_of(name) or name for name in listed]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} is listed twice")
    if gone := [name for name in names if name not in own]:
        raise FileNotFoundError(
            f"{root} has no files of {gone[0]}"
            + (f" and {len(gone) - 1} more listed patients" if gone[1:] else "")
        )
    return pd.DataFrame([_row(name, own[name], shared, root, space) for name in names])


def _files(root: Path) -> Iterator[Path]:
    """Files below a folder, through links, without hidden files, spreadsheets' locks and archives' litter."""
    been = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        been.add(os.path.realpath(folder))
        inner[:] = [
            name
            for name in inner
            if not name.startswith(".")
            and name != "__MACOSX"
            and os.path.realpath(os.path.join(folder, name)) not in been
        ]
        yield from (Path(folder, name) for name in names if not name.startswith((".", "~$")))


def _row(patient: str, files: list[Path], shared: list[Path], root: Path, space: str) -> dict[str, str]:
    row = {"patient": patient}
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
    for slot in SLOTS:
        path, where = _image(slot, whole, root, space, problems if slot == "series" else notes, notes)
        row[slot] = path
        if slot == "series":
            row["series_space"] = where
    if not row["series"] and not problems:
        problems.append("no CTP series")
    for kind, pattern in TABLES.items():
        tables = [path for path in [*whole, *shared] if _is_table(path, pattern)]
        row[kind] = ";".join(str(path) for path in tables)
        if not tables:
            (problems if kind == "outcome_table" else notes).append(f"no {kind.replace('_', ' ')}")
    if not row["lesion"]:
        notes.append("no lesion mask")
    return {**row, "problem": "; ".join(problems), "note": "; ".join(notes)}


def _is_table(path: Path, pattern: re.Pattern) -> bool:
    return path.suffix.lower() in (".csv", ".tsv", ".xlsx") and bool(pattern.search(path.name.lower()))


def _image(
    slot: str, files: list[Path], root: Path, space: str, ambiguous: list[str], notes: list[str]
) -> tuple[str, str]:
    """The one file of a slot, and where it lies; says what was left and why."""
    ending, session = SLOTS[slot]
    name = re.compile(rf"(?:.*[_-])?{ending.replace('-', '[-_]')}\.nii(?:\.gz)?", re.IGNORECASE)
    order = SPACES["ncct" if session == 2 else space]
    found: dict[int, list[Path]] = {}
    for path in files:
        if not name.fullmatch(path.name):
            continue
        inside = path.relative_to(root).as_posix()
        sessions = SESSION.findall(path.name) or SESSION.findall(inside)
        if sessions and int(sessions[-1]) != session:
            notes.append(f"{inside} is of session {int(sessions[-1])}, not {session}, and is not taken")
            continue
        found.setdefault(order.index(_space_of(inside)), []).append(path)
    if not found:
        return "", ""
    best, *others = sorted(found)
    insides = [path.relative_to(root).as_posix() for path in found[best]]
    if len(insides) > 1:
        ambiguous.append(f"{len(insides)} files are its {slot}, {' and '.join(insides)}: remove all but one")
        return "", ""
    if slot == "lesion" and others:
        left = [path.relative_to(root).as_posix() for place in others for path in found[place]]
        notes.append(f"of several, {insides[0]} is its {slot}, not {' or '.join(left)}")
    return str(found[best][0]), order[best]


def _space_of(inside: str) -> str:
    if "space-ncct" in inside.rsplit("/", 1)[-1].lower():
        return "ncct"
    return "derivatives" if "derivatives" in inside.lower().split("/") else "raw"


def read_clinical(
    patients: pd.DataFrame,
    mapping: Mapping[str, str | float] = MAPPING,
    levels: Mapping[str, Mapping[str, int]] | None = None,
    implausible: str = "refuse",
) -> pd.DataFrame:
    """Read the clinical tables of patients.

    Parameters
    ----------
    patients : DataFrame
        `find_patients`' columns patient, baseline_table and outcome_table.
    mapping : dict
        Which column is which variable, for the nine and `mrs`, as `lib.inputs.clinical_values.mapped` reads it;
        `center` is a column's name or "".
    levels : dict, optional
        Categories in place of the default: mTICI 0, 1 and 2a are 0, 2b is 1, 2c and 3 are 2; F is 0 and M is 1.
    implausible : str
        "refuse" or "missing", for numbers no patient has.

    Returns
    -------
    DataFrame
        One row a patient, in their order: patient; age (years), onset_to_ctp_min, ctp_to_recanalisation_min, nihss,
        sex, hypertension, smoking, atrial_fibrillation (0 or 1), mtici (0, 1, 2), mrs (0 to 6), all float64 and NaN
        where missing; center ("" where missing); note (what was odd); then every column of the files as it stands
        there, its name behind "raw:".

    Raises
    ------
    FileNotFoundError
        A table that was found is gone.
    ValueError
        Two tables of a patient disagree, a table has several rows and names no patients, or what `mapped` refuses.
    """
    if (twice := patients["patient"].duplicated()).any():
        raise ValueError(
            f"patient {patients['patient'][twice].iloc[0]} stands twice; one row a patient is expected"
        )
    tables = zip(patients["baseline_table"], patients["outcome_table"], strict=True)
    raw, notes = gathered(
        list(patients["patient"]), [_paths(one) + _paths(two) for one, two in tables], patient_of
    )
    rest = {name: expression for name, expression in mapping.items() if name != "center"}
    if "mrs" not in rest:
        raise ValueError(
            "the mapping does not say what mrs is: name the column of the outcome at three months"
        )
    made = mapped(raw, patients["patient"], rest, levels, implausible)
    columns, center = {plain(name): name for name in raw}, mapping.get("center") or ""
    if center and plain(center) not in columns:
        raise ValueError(f"center: no table has a column {center!r}{nearest_name(center, columns.values())}")
    texts = raw[columns[plain(center)]] if center else pd.Series("", index=raw.index)
    made.insert(made.shape[1] - 1, "center", texts.mask(texts.map(is_missing), ""))
    made["note"] = ["; ".join(filter(None, both)) for both in zip(notes, made["note"], strict=True)]
    return pd.concat([made, raw.add_prefix("raw:")], axis=1)


def _paths(cell: object) -> list[str]:
    """Paths of a cell of `find_patients`, also after it went through a csv file."""
    if not isinstance(cell, str):
        return []
    return [cell] if Path(cell).is_file() else [path for path in cell.split(";") if path]
