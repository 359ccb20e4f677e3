"""What texts of a clinic's table say: numbers, minutes, categories, and which of them are missing.

Which column is which variable is declared, never guessed: see `mapped`.
"""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.inputs.clinical import CATEGORICAL, CONTINUOUS, POSTPROCEDURAL, RANGES
from lib.inputs.text_tables import nearest_name, plain

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
