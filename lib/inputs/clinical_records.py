"""What several tables say of each patient: one row of texts a patient, and no two tables that contradict each other."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from lib.inputs.clinical_values import is_missing
from lib.inputs.text_tables import plain, read_texts

PATIENT_COLUMNS = (
    "patient",
    "patient_id",
    "subject",
    "subject_id",
    "participant_id",
    "case",
    "case_id",
    "id",
)


def gathered(
    patients: Sequence[str], paths: Iterable[Iterable[str]], patient_of: Callable[[str], str]
) -> tuple[pd.DataFrame, list[str]]:
    """Gather the tables of patients.

    Parameters
    ----------
    patients : sequence of str
    paths : for each patient the tables that may hold a row of it
        A table whose path names one patient has one row; any other has a column `PATIENT_COLUMNS` and a row a patient.
    patient_of : function
        Patient named in a path or a cell, in the spelling of `patients`; "" where none is.

    Returns
    -------
    raw : DataFrame
        Texts, one row a patient in their order, a column for each name that occurs in any table, whatever its case and
        spaces; "" where a patient's tables do not have it.
    notes : list of str
        For each patient what its tables lack, "" if nothing.

    Raises
    ------
    FileNotFoundError
        A table is missing.
    ValueError
        Two tables of a patient disagree, a table has not one row of its patient, or names no patients.
    """
    read: dict[str, pd.DataFrame] = {}
    columns: dict[str, str] = {}
    records: list[dict[str, tuple[str, str]]] = []
    notes = []
    for patient, tables in zip(patients, paths, strict=True):
        record: dict[str, tuple[str, str]] = {}
        said = []
        for path in tables:
            if path not in read:
                read[path] = read_texts(path)
            row = _row_of(read[path], patient, path, patient_of)
            if not row:
                said.append(f"{Path(path).name} has no row of it")
            for name, text in row.items():
                columns.setdefault(plain(name), name)
                _add(record, plain(name), text, path, patient)
        records.append(record)
        notes.append("; ".join(said) if record or said else "no clinical table")
    texts = {
        spelled: [record.get(name, ("", ""))[0] for record in records] for name, spelled in columns.items()
    }
    return pd.DataFrame(texts, index=range(len(records)), dtype=str), notes


def _row_of(table: pd.DataFrame, patient: str, path: str, patient_of: Callable[[str], str]) -> dict[str, str]:
    own = bool(patient_of(path))
    named = next((column for column in table if plain(column) in PATIENT_COLUMNS), None)
    if named is not None and (own is False or table[named].map(patient_of).any()):
        rows = table[table[named].map(patient_of) == patient].drop(columns=named)
        if not len(rows) and not own:
            return {}
    elif own:
        rows = table
    else:
        raise ValueError(f"{path} names no patients: a column patient or patient_id is expected")
    if len(rows) != 1:
        raise ValueError(f"{path} has {len(rows)} rows of patient {patient}, and one is expected")
    return rows.iloc[0].to_dict()


def _add(record: dict[str, tuple[str, str]], name: str, text: str, path: str, patient: str) -> None:
    """Add a cell to what is known of a patient; two tables may say the same, or one of them nothing."""
    known, where = record.get(name, ("", ""))
    if is_missing(known):
        record[name] = (text, path)
    elif not is_missing(text) and _value(known) != _value(text):
        raise ValueError(
            f"patient {patient}: {name} is {known!r} in {where} and {text!r} in {path}; correct or remove one"
        )


def _value(text: str) -> float | str:
    """A cell for comparison: 71 and 71.0, 1:23:00 and 01:23:00 are the same."""
    try:
        return float(text)
    except ValueError:
        return re.sub(r"\b0+(?=\d)", "", plain(text))
