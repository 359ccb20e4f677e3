"""Clinical variables: what the texts of a clinic's table say, and the nine of a stroke patient as the model takes them.

Amador et al., Medical Image Analysis 99:103381 (2025), doi 10.1016/j.media.2024.103381; their order, continuous first.
Time to recanalisation and mTICI are known only after thrombectomy: `ADMISSION` is what is known before.
Which column is which variable is declared, never guessed: see `mapped`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.inputs.tables import nearest_name, plain, read_texts

WEEK_MIN = 7 * 24 * 60.0
RANGES = {
    "age": (0.0, 120.0),
    "onset_to_ctp_min": (0.0, WEEK_MIN),
    "ctp_to_recanalisation_min": (0.0, WEEK_MIN),
    "nihss": (0.0, 42.0),
}
CONTINUOUS = tuple(RANGES)  # years, minutes, minutes, points
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
CODES = {name: range(len(levels)) for name, levels in CATEGORICAL.items()} | {"mrs": range(7)}

NO_YES = {"0": 0, "no": 0, "n": 0, "false": 0, "1": 1, "yes": 1, "y": 1, "true": 1}
LEVELS = {
    "sex": {"f": 0, "female": 0, "m": 1, "male": 1},  # 0 and 1 would not say which is which
    "hypertension": NO_YES,
    "smoking": NO_YES,
    "atrial_fibrillation": NO_YES,
    "mtici": {"0": 0, "1": 0, "2a": 0, "2b": 1, "2c": 2, "3": 2},
    "mrs": {str(grade): grade for grade in CODES["mrs"]},
}
MISSING = frozenset(
    [
        *("", "nan", "null", "none", "na", "n/a", "#n/a", "<na>", "nat"),
        *("missing", "unknown", "not available", ".", "-", "--", "?"),
    ]
)
CLOCK = re.compile(
    r"(?P<sign>-?)(?:(?P<days>\d+) days?,? )?(?P<h>\d+):(?P<m>[0-5]\d)(?::(?P<s>[0-5]\d(?:\.\d+)?))?"
)
PLAIN_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)
OPERATOR = re.compile(r"\s+([+-])\s+")  # with spaces around: "Wake-up" is a column
PATIENT_COLUMNS = (
    *("patient", "patient_id", "subject", "subject_id", "participant_id"),
    *("case", "case_id", "id"),
)
MOST_SAID = 5
DECLARE = "correct the table, or set implausible to missing, or declare what is meant in the mapping"


def is_missing(text: str) -> bool:
    """Whether a cell says that there is no value (`MISSING`, in any case)."""
    return text.strip().casefold() in MISSING


def number(text: str) -> float:
    """A number, NaN where missing; a ValueError for anything else, such as "12,5", "inf" or "1_2"."""
    if is_missing(text):
        return np.nan
    value = float(text) if PLAIN_NUMBER.fullmatch(text) else np.inf
    if not np.isfinite(value):
        raise ValueError(f"{text!r} is no number")
    return value


def minutes(text: str) -> float:
    """Minutes of a duration: "1:23:00", "01:23", "-0:05:00", "0 days 01:23:00", or a number, which is minutes already."""
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
    """Code of a category, NaN where missing. Case, spaces, "TICI" in front and ".0" behind do not matter."""
    if is_missing(text):
        return np.nan
    name = re.sub(r"^(\d+)\.0+$", r"\1", re.sub(r"^m?tici\s*", "", plain(text)))
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
        Variable (`POSTPROCEDURAL`, and `mrs`) to a column's name; to a sum or a difference of two or more, "Onset to
        door + Door to imaging", missing where one of them is; to names of which a patient's table has one, "TICI |
        mTICI"; to a number, the same for all patients; or to "", missing for all. `mrs` may be left out.
    levels : dict, optional
        Categories of some variables, text to code, in place of those in `LEVELS`.
    implausible : "refuse" | "missing"
        What becomes of a number out of `RANGES`; the latter is said in `note`.

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
    known, levels = (*POSTPROCEDURAL, "mrs"), {**LEVELS, **(levels or {})}
    wrong = [
        f"{name} is no clinical variable{nearest_name(name, known)}"
        for name in [*mapping, *levels]
        if name not in known
    ]
    wrong += [
        f"the mapping does not say what {name} is: name a column, a number, or '' for none"
        for name in POSTPROCEDURAL
        if name not in mapping
    ]
    for name, texts in levels.items():
        codes = CODES.get(name, ())
        wrong += [
            f"levels of {name}: {text!r} is {value}, and a code of {[*codes]} is needed"
            for text, value in texts.items()
            if value not in codes
        ]
    _refuse(wrong, DECLARE)
    raw = raw.set_axis(patients.astype(str))
    table = pd.DataFrame(
        {name: _evaluated(raw, name, meant, levels.get(name), wrong) for name, meant in mapping.items()},
        index=raw.index,
    )
    notes: dict[str, list[str]] = {patient: [] for patient in raw.index}
    for name, (low, high) in RANGES.items():
        for patient, value in table[name].dropna().items():
            if not low <= value <= high:
                said = f"{name} is {value:g}, not between {low:g} and {high:g}"
                wrong += [f"patient {patient}: {said}"] if implausible == "refuse" else []
                notes[patient].append(f"{said}: taken as missing")
        table[name] = table[name].where(table[name].between(low, high))
    _refuse(wrong, DECLARE)
    table.insert(0, "patient", table.index)
    table["note"] = ["; ".join(one) for one in notes.values()]
    return table.reset_index(drop=True)


def _refuse(wrong: list[str], advice: str) -> None:
    if wrong:
        more = f" (and {len(wrong) - MOST_SAID} more)" if len(wrong) > MOST_SAID else ""
        raise ValueError(f"{'; '.join(wrong[:MOST_SAID])}{more}; {advice}")


def _evaluated(
    raw: pd.DataFrame,
    name: str,
    expression: str | float | None,
    levels: Mapping[str, int] | None,
    wrong: list[str],
) -> np.ndarray:
    """One variable of all patients, who are the index; what cannot be read is added to `wrong`."""
    nothing = np.full(len(raw), np.nan)
    if expression is None or not str(expression).strip():
        return nothing
    is_column = plain(expression) in {plain(column) for column in raw}
    constant = pd.to_numeric(expression, errors="coerce")
    if not is_column and (isinstance(expression, float) or not np.isnan(constant)):
        if np.isfinite(constant) and (levels is None or constant in levels.values()):
            return np.full(len(raw), float(constant))
        wrong.append(
            f"{name} is declared {constant:g} for all, which is no value of it; '' says that it is missing"
        )
        return nothing
    parts = [expression] if is_column else OPERATOR.split(expression.strip())
    if len(parts) > 1 and levels is not None:
        wrong.append(f"{name} is a category, so {expression!r}, a sum, cannot be it")
        return nothing
    values = [_column(raw, name, part, levels, wrong) for part in parts[::2]]
    return values[0] + sum(
        each if sign == "+" else -each for sign, each in zip(parts[1::2], values[1:], strict=True)
    )


def _column(
    raw: pd.DataFrame, name: str, part: str, levels: Mapping[str, int] | None, wrong: list[str]
) -> np.ndarray:
    """Values of one column, or of several names separated by |, of which each patient's table has one."""
    columns = {plain(column): column for column in raw}
    names = [one.strip() for one in part.split("|")]
    spelled = list(dict.fromkeys(columns[plain(one)] for one in names if plain(one) in columns))
    values, is_time = np.full(len(raw), np.nan), name.endswith("_min")
    if not spelled:
        wrong.append(
            f"{name}: no table has a column {part.strip()!r}{nearest_name(names[0], columns.values())}"
        )
        return values
    texts = []
    for row, (patient, cells) in enumerate(raw[spelled].iterrows()):
        stated = {column: cell for column, cell in cells.items() if not is_missing(cell)}
        if len({plain(cell) for cell in stated.values()}) > 1:
            both = " and ".join(f"{column} {cell!r}" for column, cell in stated.items())
            wrong.append(f"patient {patient} has {both}: which is {name}?")
        texts.append(next(iter(stated.values()), ""))
        try:
            if levels is not None:
                values[row] = code(texts[row], levels)
            else:
                values[row] = minutes(texts[row]) if is_time else number(texts[row])
        except ValueError as error:
            wrong.append(f"{' | '.join(spelled)} of patient {patient}: {error}")
    bare = [row for row, text in enumerate(texts) if ":" not in text and np.nan_to_num(values[row])]
    if is_time and bare and any(":" in text for text in texts):
        wrong.append(
            f"{' | '.join(spelled)} is a clock time for some patients and a plain number for {len(bare)}, as "
            f"{texts[bare[0]]} of patient {raw.index[bare[0]]}, whose unit is then not known"
        )
    return values


def gathered(
    patients: Sequence[str], paths: Iterable[Iterable[str]], patient_of: Callable[[str], str]
) -> tuple[pd.DataFrame, list[str]]:
    """Gather what several tables say of each patient, of whom no two may contradict each other.

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
    ValueError
        Two tables of a patient disagree, a table has not one row of its patient, or names no patients.
    """
    tables: dict[str, pd.DataFrame] = {}
    columns: dict[str, str] = {}
    records: list[dict[str, str]] = []
    notes = []
    for patient, own in zip(patients, paths, strict=True):
        record: dict[str, tuple[str, str]] = {}
        lacking = []
        for path in own:
            if path not in tables:
                tables[path] = read_texts(path)
            row = _row_of(tables[path], patient, path, patient_of)
            if not row:
                lacking.append(f"{Path(path).name} has no row of it")
            for spelled, text in row.items():
                name = plain(spelled)
                columns.setdefault(name, spelled)
                known, where = record.get(name, ("", ""))
                if is_missing(known):
                    record[name] = (text, path)
                elif not is_missing(text) and _value(known) != _value(text):
                    raise ValueError(
                        f"patient {patient}: {name} is {known!r} in {where} and {text!r} in {path}; correct or remove one"
                    )
        records.append({columns[name]: text for name, (text, _) in record.items()})
        notes.append("; ".join(lacking) if record or lacking else "no clinical table")
    raw = pd.DataFrame(records, index=range(len(records)), columns=list(columns.values()), dtype=str)
    return raw.fillna(""), notes


def _row_of(table: pd.DataFrame, patient: str, path: str, patient_of: Callable[[str], str]) -> dict[str, str]:
    of_one = bool(patient_of(path))
    named = next((column for column in table if plain(column) in PATIENT_COLUMNS), None)
    if named is not None and (not of_one or table[named].map(patient_of).any()):
        rows = table[table[named].map(patient_of) == patient].drop(columns=named)
        if rows.empty and not of_one:
            return {}
    elif of_one:
        rows = table
    else:
        raise ValueError(f"{path} names no patients: a column patient or patient_id is expected")
    if len(rows) != 1:
        raise ValueError(f"{path} has {len(rows)} rows of patient {patient}, and one is expected")
    return rows.iloc[0].to_dict()


def _value(text: str) -> float | str:
    """A cell for comparison: 71 and 71.0, 1:23:00 and 01:23:00 are the same."""
    try:
        return float(text)
    except ValueError:
        return re.sub(r"\b0+(?=\d)", "", plain(text))


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
        return cls(table[columns].min().to_dict(), table[columns].max().to_dict())

    def transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Continuous variables between 0 (lowest fitted) and 1 (highest), clipped beyond; NaN stays NaN.

        A variable that was the same for all fitted rows tells nothing and is 0 everywhere; one that was missing in all
        of them has no scale, so that a value of it is refused.
        """
        table, scaled = checked(table), {}
        for name in (name for name in self.low if name in table):
            low, span = self.low[name], self.high[name] - self.low[name]
            if np.isnan(low) and table[name].notna().any():
                raise ValueError(
                    f"{name} was missing in all rows the scaler was fitted on, and is known here"
                )
            scaled[name] = ((table[name] - low) / span).clip(0.0, 1.0) if span else 0.0 * table[name]
        return pd.DataFrame(scaled, index=table.index)


def variables(which: str) -> tuple[str, ...]:
    """Names of the variables of "admission" (seven) or "postprocedural" (all nine)."""
    return SETS[which]


def unfavourable(mrs: pd.Series, least: int = 3) -> pd.Series:
    """1.0 where the modified Rankin scale is `least` (3) or higher, 0.0 where lower, NaN where it is missing."""
    return (mrs >= least).astype(float).where(mrs.notna())


def checked(table: pd.DataFrame, names: Iterable[str] = ()) -> pd.DataFrame:
    """A copy of the table with its clinical variables as float64, if they are what they should be.

    Parameters
    ----------
    table : DataFrame
        One row a patient, named by the column `patient` or else by the index; the clinical variables among its columns,
        and `mrs` where known, are checked. Others pass. NaN is a missing value and allowed.
    names : iterable of str
        Variables that must be there.

    Raises
    ------
    ValueError
        A variable is missing, a patient stands twice, a value is no number or out of range (`RANGES`), or no code of
        `CATEGORICAL`; it names variable, patient and value.
    """
    wrong = [
        f"the table has no column {name}{nearest_name(name, table.columns)}"
        for name in names
        if name not in table
    ]
    people = table["patient"] if "patient" in table else table.index.to_series()
    wrong += [f"patient {patient} stands twice" for patient in people[people.duplicated().to_numpy()]]
    table = table.copy()
    for name in (name for name in (*POSTPROCEDURAL, "mrs") if name in table):
        numbers, codes = pd.to_numeric(table[name], errors="coerce").astype(float), CODES.get(name)
        right = numbers.isin(codes) if codes else numbers.between(*RANGES[name])
        needed = (
            "one of {}".format(", ".join(map(str, codes)))
            if codes
            else "a number from {:g} to {:g}".format(*RANGES[name])
        )
        odd = (~right & table[name].notna()).to_numpy()
        wrong += [
            f"{name} of patient {patient} is {value}, and {needed} is needed"
            for patient, value in zip(people[odd], table[name][odd], strict=True)
        ]
        table[name] = numbers
    _refuse(wrong, "correct the table")
    return table


def arrays(table: pd.DataFrame, scaler: Scaler, names: tuple[str, ...]) -> Arrays:
    """Clinical variables as the model takes them, n rows with the columns `names` (see `variables`), NaN = missing.

    The scaler was fitted on the training rows; a variable it does not know is refused, and what `checked` refuses.
    """
    table = checked(table, names)
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
