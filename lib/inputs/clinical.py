"""The nine clinical variables of a stroke patient, as the model takes them.

Amador et al., Medical Image Analysis 99:103381 (2025), doi 10.1016/j.media.2024.103381; their order, continuous first.
Time to recanalisation and mTICI are known only after thrombectomy: `ADMISSION` is what is known before.

What texts of a clinic's table say: numbers, minutes, categories, and which of them are missing.

Which column is which variable is declared, never guessed: see `mapped`.

What several tables say of each patient: one row of texts a patient, and no two tables that contradict each other.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.inputs.tables import nearest_name, plain, read_texts

CONTINUOUS = (
    "age",
    "onset_to_ctp_min",
    "ctp_to_recanalisation_min",
    "nihss",
)  # years, minutes, minutes, 0-42
CATEGORICAL = {
    "sex": ("female", "male"),
    "hypertension": ("no", "yes"),
    "smoking": ("no", "yes"),
    "atrial_fibrillation": ("no", "yes"),
    "mtici": ("0-2a", "2b", "2c-3"),
}
POSTPROCEDURAL = (*CONTINUOUS, *CATEGORICAL)
ADMISSION = tuple(name for name in POSTPROCEDURAL if name not in ("ctp_to_recanalisation_min", "mtici"))
SETS = {"admission": ADMISSION, "postprocedural": POSTPROCEDURAL}
WEEK_MIN = 7 * 24 * 60.0
RANGES = {
    "age": (0.0, 120.0),
    "onset_to_ctp_min": (0.0, WEEK_MIN),
    "ctp_to_recanalisation_min": (0.0, WEEK_MIN),
    "nihss": (0.0, 42.0),
}


class Arrays(NamedTuple):
    """What `StrokeNet.forward` takes: continuous first, then categorical, in the order of `POSTPROCEDURAL`."""

    continuous: np.ndarray  # float32 (n, c), in [0, 1], 0 where missing
    categorical: np.ndarray  # int64 (n, k), codes from 0, 0 where missing
    missing: np.ndarray  # bool (n, c + k)


class Scaler(NamedTuple):
    """Lowest and highest value of each continuous variable in the rows it was fitted on; NaN where all were missing."""

    low: dict[str, float]
    high: dict[str, float]

    @classmethod
    def fit(cls, table: pd.DataFrame) -> "Scaler":
        """Fit on the rows given: the training rows, or, as the released code does, all patients."""
        table = checked(table)
        columns = [name for name in CONTINUOUS if name in table]
        return cls(
            {name: float(table[name].min()) for name in columns},
            {name: float(table[name].max()) for name in columns},
        )

    def transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Continuous variables between 0 (lowest fitted) and 1 (highest), clipped beyond; NaN stays NaN.

        A variable that was the same for all fitted rows tells nothing and is 0 everywhere. Of the scaler's variables,
        those the table has are in the result.

        Raises
        ------
        ValueError
            A variable that was missing in all fitted rows has a value here, so there is no scale for it.
        """
        table = checked(table)
        scaled = {}
        for name in (name for name in self.low if name in table):
            values, low, span = table[name], self.low[name], self.high[name] - self.low[name]
            if np.isnan(low) and values.notna().any():
                patient = _patient(table, values.notna())
                raise ValueError(
                    f"{name} was missing in all rows the scaler was fitted on, and {patient} has it"
                )
            scaled[name] = ((values - low) / span).clip(0.0, 1.0) if span else 0.0 * values
        return pd.DataFrame(scaled, index=table.index)


def variables(which: str) -> tuple[str, ...]:
    """Names of the variables of "admission" (seven) or "postprocedural" (all nine).

    Raises
    ------
    ValueError
        Another word.
    """
    if which not in SETS:
        raise ValueError(f"clinical is {which!r}: choose one{nearest_name(which, SETS)}")
    return SETS[which]


def unfavourable(mrs: pd.Series, least: int = 3) -> pd.Series:
    """1.0 where the modified Rankin scale is `least` (3) or higher, 0.0 where lower, NaN where it is missing."""
    return (mrs >= least).astype(float).where(mrs.notna())


def checked(table: pd.DataFrame, names: tuple[str, ...] = ()) -> pd.DataFrame:
    """The table, if its clinical variables are what they should be. NaN is a missing value and allowed.

    Parameters
    ----------
    table : DataFrame
        One row a patient, named by the column `patient` or else by the index; the clinical variables among its columns,
        and `mrs` where known, are checked. Others pass.
    names : tuple of str
        Variables that must be there.

    Returns
    -------
    DataFrame
        A copy, with the clinical variables as float64.

    Raises
    ------
    ValueError
        An unknown or missing variable, a patient twice, a value that is no number or out of range (`RANGES`), or a
        category that is no code of `CATEGORICAL`; it names variable, patient and value.
    """
    for name in names:
        if name not in POSTPROCEDURAL:
            raise ValueError(f"{name} is no clinical variable{nearest_name(name, POSTPROCEDURAL)}")
        if name not in table:
            raise ValueError(f"the table has no column {name}{nearest_name(name, table.columns)}")
    people = table["patient"] if "patient" in table else table.index.to_series()
    if (twice := people.duplicated()).any():
        raise ValueError(f"{_patient(table, twice)} stands twice; one row a patient is expected")
    table = table.copy()
    for name in (*POSTPROCEDURAL, "mrs"):
        if name not in table:
            continue
        numbers = pd.to_numeric(table[name], errors="coerce").astype(float)
        codes = range(7) if name == "mrs" else range(len(CATEGORICAL.get(name, ())))
        if codes:
            wrong, needed = ~numbers.isin(codes), f"one of {', '.join(map(str, codes))}"
        else:
            low, high = RANGES[name]
            wrong, needed = ~numbers.between(low, high), f"a number from {low:g} to {high:g}"
        wrong &= table[name].notna()
        if wrong.any():
            value = table.loc[wrong, name].iloc[0]
            many = f" ({int(wrong.sum())} such rows)" if wrong.sum() > 1 else ""
            raise ValueError(f"{name} of {_patient(table, wrong)} is {value}, and {needed} is needed{many}")
        table[name] = numbers
    return table


def arrays(table: pd.DataFrame, scaler: Scaler, names: tuple[str, ...]) -> Arrays:
    """Clinical variables as the model takes them.

    Parameters
    ----------
    table : DataFrame
        n rows with the columns `names`, NaN = missing.
    scaler : Scaler
        Fitted on the training rows.
    names : tuple of str
        `variables("admission")`, `variables("postprocedural")`, or a choice of them.

    Returns
    -------
    Arrays
        `continuous` float32 (n, c), `categorical` int64 (n, k), `missing` bool (n, c + k).

    Raises
    ------
    ValueError
        See `checked` and `Scaler.transform`; or a variable the scaler was not fitted on.
    """
    table = checked(table, tuple(names))
    continuous = [name for name in CONTINUOUS if name in names]
    categorical = [name for name in CATEGORICAL if name in names]
    if strange := [name for name in continuous if name not in scaler.low]:
        raise ValueError(f"the scaler was not fitted on {strange[0]}{nearest_name(strange[0], scaler.low)}")
    patient = [name for name in ("patient",) if name in table]
    scaled, codes = scaler.transform(table[patient + continuous]), table[categorical]
    return Arrays(
        scaled.fillna(0.0).to_numpy(np.float32).reshape(len(table), len(continuous)),
        codes.fillna(0.0).to_numpy(np.int64).reshape(len(table), len(categorical)),
        np.hstack([scaled.isna().to_numpy(bool), codes.isna().to_numpy(bool)]),
    )


def _patient(table: pd.DataFrame, rows: pd.Series) -> str:
    """The first patient of some rows, for an error's sentence."""
    found = table[rows.to_numpy()]
    return f"patient {found['patient'].iloc[0] if 'patient' in table else found.index[0]}"


MISSING = frozenset(
    [
        *("", "nan", "null", "none", "na", "n/a", "#n/a", "<na>", "nat"),
        *("missing", "unknown", "not available", ".", "-", "--", "?"),
    ]
)
NO_YES = {"0": 0, "no": 0, "n": 0, "false": 0, "1": 1, "yes": 1, "y": 1, "true": 1}
LEVELS = {
    "sex": {"f": 0, "female": 0, "m": 1, "male": 1},  # 0 and 1 would not say which is which
    "hypertension": NO_YES,
    "smoking": NO_YES,
    "atrial_fibrillation": NO_YES,
    "mtici": {"0": 0, "1": 0, "2a": 0, "2b": 1, "2c": 2, "3": 2},
    "mrs": {str(grade): grade for grade in range(7)},
}
MINUTES = ("onset_to_ctp_min", "ctp_to_recanalisation_min")
CLOCK = re.compile(
    r"(?P<sign>-?)(?:(?P<days>\d+) days?,? )?(?P<h>\d+):(?P<m>[0-5]\d)(?::(?P<s>[0-5]\d(?:\.\d+)?))?"
)
PLAIN_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)
OPERATOR = re.compile(r"\s+([+-])\s+")  # with spaces around: "Wake-up" is a column
MOST_SAID = 5


def is_missing(text: str) -> bool:
    """Whether a cell says that there is no value (`MISSING`, in any case)."""
    return text.strip().casefold() in MISSING


def number(text: str) -> float:
    """A number, NaN where missing.

    Raises
    ------
    ValueError
        The text is something else.
    """
    if is_missing(text):
        return np.nan
    # float() takes 1_2 for 12, and digits of other scripts
    value = float(text) if PLAIN_NUMBER.fullmatch(text) else np.inf
    if not np.isfinite(value):
        raise ValueError(f"{text!r} is no number")
    return value


def minutes(text: str) -> float:
    """Minutes of a duration: "1:23:00", "01:23", "-0:05:00", "0 days 01:23:00", or a number, which is minutes already.

    Raises
    ------
    ValueError
        The text is something else.
    """
    found = CLOCK.fullmatch(text.strip())
    if not found:
        try:
            return number(text)
        except ValueError:
            raise ValueError(f"{text!r} is neither minutes nor a duration as 1:23 or 1:23:00") from None
    total = 1440.0 * int(found["days"] or 0) + 60.0 * int(found["h"]) + int(found["m"])
    total += float(found["s"] or 0) / 60
    return -total if found["sign"] else total


def code(text: str, levels: Mapping[str, int]) -> float:
    """Code of a category, NaN where missing. Case, spaces, "TICI" in front and ".0" behind do not matter.

    Raises
    ------
    ValueError
        A category that is not among the levels.
    """
    if is_missing(text):
        return np.nan
    name = re.sub(r"^m?tici\s*", "", plain(text))
    name = re.sub(r"^(\d+)\.0+$", r"\1", name)
    known = {plain(level): value for level, value in levels.items()}
    if name not in known:
        raise ValueError(f"{text!r} is no category it has{nearest_name(name, known)}")
    return float(known[name])


def mapped(
    raw: pd.DataFrame,
    patients: pd.Series,
    mapping: Mapping[str, str | float],
    levels: Mapping[str, Mapping[str, int]] | None = None,
    implausible: str = "refuse",
) -> pd.DataFrame:
    """Clinical variables from a table of texts, by a declared mapping.

    Parameters
    ----------
    raw : DataFrame
        Texts, one row a patient, "" where a patient's file has no such column.
    patients : Series of str
        Their names, in the rows' order.
    mapping : dict
        Variable (the nine of `lib.inputs.clinical`, and `mrs`) to a column's name; to a sum or a difference of two or
        more, "Onset to door + Door to imaging", missing where one of them is; to names of which a patient's table has
        one, "TICI | mTICI"; to a number, the same for all patients; or to "", missing for all. `mrs` may be left out.
    levels : dict, optional
        Categories of some variables, text to code, in place of those in `LEVELS`.
    implausible : str
        What becomes of a number out of `lib.inputs.clinical.RANGES`: "refuse", or "missing", said in `note`.

    Returns
    -------
    DataFrame
        patient, the variables of the mapping (float64, NaN = missing), note (str).

    Raises
    ------
    ValueError
        An unknown variable or column, with the nearest name; a value that cannot be read or is implausible, with
        patient and column; plain numbers among clock times, whose unit is then not known.
    """
    known = (*POSTPROCEDURAL, "mrs")
    for name in [*mapping, *(levels or {})]:
        if name not in known:
            raise ValueError(f"{name} is no clinical variable{nearest_name(name, known)}")
    if silent := [name for name in POSTPROCEDURAL if name not in mapping]:
        raise ValueError(
            f"the mapping does not say what {silent[0]} is: name a column, a number, or '' for none"
        )
    if implausible not in ("refuse", "missing"):
        raise ValueError(f"implausible is {implausible!r}: choose refuse or missing")
    made = pd.DataFrame({"patient": patients.astype(str).to_numpy()})
    wrong: list[str] = []
    for name, expression in mapping.items():
        given = {**LEVELS, **{key: dict(value) for key, value in (levels or {}).items()}}.get(name)
        if given is not None:
            _codes_exist(name, given)
        made[name] = _evaluated(raw, made["patient"], name, expression, given, wrong)
    if wrong:
        more = f" (and {len(wrong) - MOST_SAID} more)" if len(wrong) > MOST_SAID else ""
        raise ValueError(
            "; ".join(wrong[:MOST_SAID]) + more + "; correct the table, or declare it in the mapping"
        )
    made["note"] = _out_of_range(made, implausible)
    return made


def _codes_exist(name: str, levels: Mapping[str, int]) -> None:
    most = 7 if name == "mrs" else len(CATEGORICAL.get(name, ()))
    if not most:
        raise ValueError(f"{name} is a number and has no levels")
    for text, value in levels.items():
        if value not in range(most):
            raise ValueError(
                f"levels of {name}: {text!r} is {value}, and a code from 0 to {most - 1} is needed"
            )


def _evaluated(
    raw: pd.DataFrame,
    patients: pd.Series,
    name: str,
    expression: str | float | None,
    levels: Mapping[str, int] | None,
    wrong: list[str],
) -> np.ndarray:
    """One variable of all patients; what cannot be read is added to `wrong`."""
    if expression is None or not str(expression).strip():
        return np.full(len(raw), np.nan)
    columns = {plain(column) for column in raw}
    if _is_number(expression) and plain(expression) not in columns:
        value = float(expression)
        if not np.isfinite(value):
            raise ValueError(f"{name} is declared {value} for all; '' says that it is missing")
        if levels is not None and value not in set(levels.values()):
            raise ValueError(f"{name} is declared {value:g} for all, which is no code of it")
        return np.full(len(raw), value)
    whole = plain(expression) in columns
    parts = [expression] if whole else OPERATOR.split(expression.strip())
    if len(parts) > 1 and levels is not None:
        raise ValueError(f"{name} is a category, so {expression!r}, a sum, cannot be it")
    total = np.zeros(len(raw))
    for sign, part in zip(["+", *parts[1::2]], parts[::2], strict=True):
        values = _column(raw, patients, name, part, levels, wrong)
        total = total + values if sign == "+" else total - values
    return total


def _is_number(text: str | float) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _texts(
    raw: pd.DataFrame, patients: pd.Series, name: str, part: str, wrong: list[str]
) -> tuple[str, pd.Series]:
    """Texts of one column, or of several names separated by |, of which each patient's table has one."""
    columns = {plain(column): column for column in raw}
    names = [one.strip() for one in part.split("|")]
    found = list(dict.fromkeys(columns[plain(one)] for one in names if plain(one) in columns))
    if not found:
        raise ValueError(
            f"{name}: no table has a column {part.strip()!r}{nearest_name(names[0], columns.values())}"
        )
    texts = raw[found[0]].copy()
    for other in found[1:]:
        said, more = ~texts.map(is_missing), ~raw[other].map(is_missing)
        for row in np.flatnonzero(said & more & (texts.map(plain) != raw[other].map(plain))):
            wrong.append(
                f"{found[0]} of patient {patients.iloc[row]} is {texts.iloc[row]!r} and {other} "
                f"{raw[other].iloc[row]!r}: which is {name}?"
            )
        texts = texts.where(said, raw[other])
    return " | ".join(found), texts


def _column(
    raw: pd.DataFrame,
    patients: pd.Series,
    name: str,
    part: str,
    levels: Mapping[str, int] | None,
    wrong: list[str],
) -> np.ndarray:
    column, texts = _texts(raw, patients, name, part, wrong)
    values = np.full(len(raw), np.nan)
    for row, text in enumerate(texts):
        try:
            if levels is not None:
                values[row] = code(text, levels)
            else:
                values[row] = minutes(text) if name in MINUTES else number(text)
        except ValueError as error:
            wrong.append(f"{column} of patient {patients.iloc[row]}: {error}")
    if name in MINUTES:
        clock = texts.str.contains(":").to_numpy(bool)
        bare = np.flatnonzero(~clock & (np.nan_to_num(values) != 0))
        if clock.any() and len(bare):
            wrong.append(
                f"{column} is a clock time for {int(clock.sum())} patients and a plain number for {len(bare)}, as "
                f"{texts.iloc[bare[0]]} of patient {patients.iloc[bare[0]]}, whose unit is then not known"
            )
    return values


def _out_of_range(made: pd.DataFrame, implausible: str) -> list[str]:
    """Refuse numbers no patient has, or make them missing and say so."""
    notes: list[list[str]] = [[] for _ in range(len(made))]
    for name in (name for name in CONTINUOUS if name in made):
        low, high = RANGES[name]
        for row in np.flatnonzero(made[name].notna() & ~made[name].between(low, high)):
            said = f"{name} is {made.loc[row, name]:g}, not between {low:g} and {high:g}"
            if implausible == "refuse":
                raise ValueError(
                    f"patient {made.loc[row, 'patient']}: {said}; correct the table, or set implausible to missing"
                )
            notes[row].append(f"{said}: taken as missing")
            made.loc[row, name] = np.nan
    return ["; ".join(one) for one in notes]


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
