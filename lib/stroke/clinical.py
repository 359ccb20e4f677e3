"""The nine clinical variables of a stroke patient: what a clinic's table says of them, and what the network reads.

Amador et al., Medical Image Analysis 99:103381 (2025), doi 10.1016/j.media.2024.103381; their order, continuous first.
Time to recanalisation and mTICI are known only after thrombectomy. Which column is which variable is declared, never
guessed: see `mapped`.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.inputs import tables
from lib.inputs.tables import NO_YES, USUAL, Faults, Usual, is_missing, nearest_name, number, plain
from lib.stroke.series import LONGEST_S, SHORTEST_S

WEEK_MIN = 7 * 24 * 60.0
RANGES = {
    "age": USUAL["age"],
    "onset_to_ctp_min": Usual("minutes", 0, WEEK_MIN, (30, 2880)),
    "ctp_to_recanalisation_min": Usual("minutes", 0, WEEK_MIN, (15, 1440)),
    "nihss": Usual("points", 0, 42, (1, 30)),
}
CONTINUOUS = tuple(RANGES)
CATEGORICAL = {
    "sex": ("female", "male"),
    "hypertension": ("no", "yes"),
    "smoking": ("no", "yes"),
    "atrial_fibrillation": ("no", "yes"),
    "mtici": ("0-2a", "2b", "2c-3"),
}
POSTPROCEDURAL = (*CONTINUOUS, *CATEGORICAL)
ADMISSION = tuple(name for name in POSTPROCEDURAL if name not in ("ctp_to_recanalisation_min", "mtici"))
LEVELS = {
    "sex": {"f": 0, "female": 0, "m": 1, "male": 1},  # 0 and 1 would not say which is which
    "hypertension": NO_YES,
    "smoking": NO_YES,
    "atrial_fibrillation": NO_YES,
    "mtici": {"0": 0, "1": 0, "2a": 0, "2b": 1, "2c": 2, "3": 2},
    "mrs": {str(grade): grade for grade in range(7)},
}
CLOCK = re.compile(
    r"(?P<sign>-?)(?:(?P<days>\d+) days?,? )?(?P<h>\d+):(?P<m>[0-5]\d)(?::(?P<s>[0-5]\d(?:\.\d+)?))?"
)
OPERATOR = re.compile(r"\s+([+-])\s+")  # with spaces around: "Wake-up" is a column


def variables(setting: str) -> tuple[str, ...]:
    """Names of the variables of "postprocedural" (all nine), or of any other setting (the seven of admission)."""
    return POSTPROCEDURAL if setting == "postprocedural" else ADMISSION


def minutes(text: str) -> float:
    """Minutes of a duration: "1:23:00", "01:23", "-0:05:00", "0 days 01:23:00", or a number, which is minutes already."""
    if not (found := CLOCK.fullmatch(text.strip())):
        try:
            return number(text)
        except ValueError:
            raise ValueError(f"{text!r} is neither minutes nor a duration as 1:23 or 1:23:00") from None
    total = 1440.0 * int(found["days"] or 0) + 60.0 * int(found["h"]) + int(found["m"])
    total += float(found["s"] or 0) / 60
    return -total if found["sign"] else total


def mapped(
    raw: pd.DataFrame,
    mapping: Mapping[str, str | float],
    levels: Mapping[str, Mapping[str, int]] = LEVELS,
    implausible: str = "refuse",
) -> pd.DataFrame:
    """Clinical variables from a table of texts, by a declared mapping: float64, NaN = missing, and note (str), by patient.

    Parameters
    ----------
    raw : DataFrame
        Texts, one row a patient, who is the index; "" where a patient's file has no such column.
    mapping : dict
        Variable (the nine, and `mrs`) to a column's name; to a sum or a difference of two or more, "Onset to door +
        Door to imaging", missing where one of them is; to names of which a patient's table has one, "TICI | mTICI"; to
        a number, the same for all patients; or to "", missing for all.
    levels : dict
        Categories, text to code.
    implausible : "refuse" | "missing"
        What becomes of a number out of `RANGES`; the latter is said in `note`.

    Raises
    ------
    ValueError
        An unknown variable or column, with the nearest name; a value that cannot be read or is implausible, with
        patient and column; plain numbers among clock times, whose unit is then not known.
    """
    known = (*POSTPROCEDURAL, "mrs")
    wrong = Faults(
        f"{one} is no clinical variable{nearest_name(one, known)}" for one in mapping if one not in known
    )
    named = {name: meant for name, meant in mapping.items() if name in known}
    read = {name: _evaluated(raw, name, meant, levels.get(name), wrong) for name, meant in named.items()}
    table = pd.DataFrame(read)
    notes: list[list[str]] = [[] for _ in raw.index]
    for name, usual in RANGES.items():
        found, low, high = table[name], usual.low, usual.high
        if implausible == "refuse":
            with wrong.held():
                tables.looked_over(found, name, usual, "; correct the table, or set implausible to missing")
        usually = f"not between {low:g} and {high:g} {usual.unit}: taken as missing"
        for row in np.flatnonzero((found < low) | (found > high)):
            notes[row].append(f"{name} is {found.iloc[row]:g}, {usually}")
        table[name] = found.where(found.between(low, high))
    wrong.refuse()
    return table.assign(note=["; ".join(one) for one in notes])


def _evaluated(
    raw: pd.DataFrame, name: str, meant: str | float, levels: Mapping[str, int] | None, wrong: Faults
) -> pd.Series:
    """One variable of all patients; what cannot be read is added to `wrong`."""
    meant = str(meant).strip()
    is_column = plain(meant) in map(plain, raw)
    constant = pd.to_numeric(meant, errors="coerce") if meant and not is_column else np.nan
    if not meant or not np.isnan(constant):
        if levels and meant and constant not in levels.values():
            wrong.append(f"{name} is declared {constant:g} for all, which is no value of it")
        return pd.Series(float(constant), raw.index)
    parts = [meant] if is_column else OPERATOR.split(meant)
    if len(parts) > 1 and levels:
        wrong.append(f"{name} is a category, so {meant!r}, a sum, cannot be it")
        return pd.Series(np.nan, raw.index)
    total, *others = (_column(raw, name, part, levels, wrong) for part in parts[::2])
    for sign, each in zip(parts[1::2], others, strict=True):
        total = total + each if sign == "+" else total - each
    return total


def _column(
    raw: pd.DataFrame, name: str, part: str, levels: Mapping[str, int] | None, wrong: Faults
) -> pd.Series:
    """Values of one column, or of several names separated by |, of which each patient's table has one."""
    columns = {plain(column): column for column in raw}
    spelled = [columns[plain(one)] for one in part.split("|") if plain(one) in columns]
    if not spelled:
        near = nearest_name(part.split("|")[0], columns.values())
        wrong.append(f"{name}: no table has a column {part.strip()!r}{near}")
        return pd.Series(np.nan, raw.index)
    is_time = name.endswith("_min")
    read = partial(tables.code, levels=levels) if levels else minutes if is_time else number
    texts = []
    for patient, cells in raw[spelled].iterrows():
        stated = {column: cell for column, cell in cells.items() if not is_missing(cell)}
        if len({plain(cell) for cell in stated.values()}) > 1:
            both = " and ".join(f"{column} {cell!r}" for column, cell in stated.items())
            wrong.append(f"patient {patient} has {both}: which is {name}?")
        text = next(iter(stated.values()), "")
        texts.append(re.sub(r"^\s*m?tici\s*", "", text, flags=re.IGNORECASE) if name == "mtici" else text)
    cells, what = pd.Series(texts, raw.index, dtype=str), " | ".join(spelled)
    found = tables.values(cells, f"{what} of patient", wrong, read)
    clock = cells.str.contains(":")
    bare = cells[~clock & (found.fillna(0) != 0)]
    if is_time and clock.any() and len(bare):
        wrong.append(
            f"{what} is a clock time for some patients and a plain number for {len(bare)}, as {bare.iloc[0]} of patient "
            f"{bare.index[0]}, whose unit is then not known"
        )
    return found


class Arrays(NamedTuple):
    """What `StrokeNet.forward` takes: continuous first, then categorical, in the order of `POSTPROCEDURAL`."""

    continuous: np.ndarray  # float32 (n, c), in [0, 1], 0 where missing
    categorical: np.ndarray  # int64 (n, k), codes from 0, 0 where missing
    missing: np.ndarray  # bool (n, c + k)


def arrays(table: pd.DataFrame, fitted_on: pd.DataFrame) -> Arrays:
    """The clinical variables of a table as the network takes them; NaN is missing.

    Continuous ones lie between 0, the lowest of the rows `fitted_on`, and 1, the highest, clipped beyond. What was the
    same in all of these rows tells nothing and is 0; what was missing in all of them has no scale and stays missing.
    """
    numbers = table[[name for name in CONTINUOUS if name in table]]
    codes = table[[name for name in CATEGORICAL if name in table]]
    low = fitted_on[numbers.columns].min()
    span = fitted_on[numbers.columns].max() - low
    scaled = ((numbers - low) / span.where(span != 0, np.inf)).clip(0.0, 1.0)
    return Arrays(
        scaled.fillna(0.0).to_numpy(np.float32),
        codes.fillna(0.0).to_numpy(np.int64),
        np.hstack([scaled.isna().to_numpy(bool), codes.isna().to_numpy(bool)]),
    )


# ------------------------------------------------------------ tables that are not ISLES'24's

OWN = ("patient", "film", "series", "interval_s", "hospital")


def read_patients(
    folder: str | Path, mapping: Mapping[str, str | float], implausible: str = "refuse"
) -> tuple[pd.DataFrame, Path, list[str]]:
    """Read the table of one's own patients.

    `mapping` is variable to what the table calls it, see `lib.stroke.clinical.mapped`; one that is not named is looked for by
    its own name. `implausible` ("refuse" | "missing") says what becomes of a number that no patient has.

    Returns
    -------
    table : DataFrame
        By patient: film (path, beginning with the folder), series (""), interval_s (NaN where empty), problem (why the film
        cannot be read, ""), hospital (where the table has it), the nine variables and mrs (float64, NaN missing), note.
    path : Path
        Of the table.
    remarks : list of str
        Columns that are not read and variables without a column.

    Raises
    ------
    ValueError
        No column patient, film or mrs; a patient twice or without a name; a film of two patients, or outside the
        folder; an interval outside 0.05 to 20 s; what `mapped` refuses.

    Notes
    -----
    `patients.csv` or .xlsx in the folder has a row a patient. Its columns:

        patient      name, as the hospital writes it
        film         path of the CT perfusion, counted from the folder: a 4D NIfTI, a folder of 3D NIfTI, a folder of DICOM
        series       number, description or SeriesInstanceUID, where a folder of DICOM holds several films
        interval_s   seconds between frames, where the film does not say
        hospital     where there are several: models are then read within each
        age, ...     the clinical variables (`POSTPROCEDURAL`); a column that is not there is missing for everybody
        mrs          modified Rankin scale at 90 days, 0 to 6
    """
    folder, wrong = Path(folder), Faults()
    path = tables.table_in(folder, "patients")
    raw = tables.read_texts(path)
    columns = {plain(name): name for name in raw}
    meant = {name: columns.get(name, "") for name in (*POSTPROCEDURAL, "mrs")} | dict(mapping)
    lost = [name for name in OWN[:2] if name not in columns] + ([] if meant["mrs"] else ["mrs"])
    if lost:
        raise ValueError("\n".join(f"{path} has no column {name}{nearest_name(name, raw)}" for name in lost))
    raw = raw.rename(columns={columns[name]: name for name in OWN if name in columns})
    raw = raw.assign(**{name: "" for name in OWN if name not in raw})
    tables.check_once(raw["patient"], path, wrong)
    raw = raw[~raw["patient"].map(is_missing)].set_index("patient")
    films, problem = tables.files_named(folder, raw["film"], path, "film", wrong)
    interval = tables.values(raw["interval_s"], f"{path}: interval_s of patient", wrong)
    odd = interval[interval.notna() & ~interval.between(SHORTEST_S, LONGEST_S)]
    if len(odd):
        said = tables.some(f"{patient} is {seconds:g}" for patient, seconds in odd.items())
        seconds = f"{SHORTEST_S:g} to {LONGEST_S:g}"
        wrong.append(f"{path}: interval_s of patient {said}: seconds are expected, {seconds}")
    with wrong.held(path):
        table = mapped(raw, meant, implausible=implausible)
    wrong.refuse()
    series = raw["series"].mask(raw["series"].map(is_missing), "")
    own = {"film": films, "series": series, "interval_s": interval, "problem": problem}
    own = pd.DataFrame(own, raw.index)
    if "hospital" in columns:
        own["hospital"] = raw["hospital"]
    names = [one for each in meant.values() for one in str(each).split("|")]
    used = {plain(part) for one in names for part in (one, *OPERATOR.split(one))}
    idle = [name for name in raw if plain(name) not in {*used, *OWN}]
    without = [name for name in POSTPROCEDURAL if not str(meant[name])]
    remarks = [f"columns not read: {', '.join(idle)}"] if idle else []
    near = {name: nearest_name(name, idle) for name in without}
    remarks += [f"no column of {name}{near[name] * near[name].startswith('; nearest')}" for name in without]
    return own.join(table), path, remarks


OUTCOME = "mRs90_binary"
NAMES = "Age Onset2CTP CTP2Recanalization NIHSS00 Sex Hypertension Smoking Atrial_Fibrillation mTICI"
REFERENCE = dict(zip(POSTPROCEDURAL, NAMES.split(), strict=True))
# codes from 0, as its embeddings take them; which sex is 0 and how mTICI was grouped is not published
CODES = {name: {str(code): code for code in range(len(levels))} for name, levels in CATEGORICAL.items()}


def read_reference_table(
    path: str | Path, mapping: Mapping[str, str | float] = REFERENCE, implausible: str = "refuse"
) -> pd.DataFrame:
    """Read the reference's csv: PATIENT_ID, the columns of `mapping`, and the outcome, one row a patient.

    `mapping` and `implausible` are those of `lib.stroke.clinical.mapped`; categories are codes from 0. The reference does not
    say which outcome is 1; mRS 3 to 6 is the natural reading. Indexed by patient (str): the nine variables (float64, NaN =
    missing), note, label (1.0 unfavourable, 0.0 favourable, NaN missing).
    """
    raw = tables.read_texts(path)
    columns = {plain(name): name for name in raw}
    for name in ("PATIENT_ID", OUTCOME):
        if plain(name) not in columns:
            raise ValueError(f"{path} has no column {name}{nearest_name(name, columns.values())}")
    wrong = Faults()
    tables.check_once(raw[columns["patient_id"]], path, wrong)
    raw = raw.set_index(columns["patient_id"]).rename_axis("patient")
    read, cells = partial(tables.code, levels={"0": 0, "1": 1}), raw[columns[plain(OUTCOME)]]
    label = tables.values(cells, f"{path}: {OUTCOME} of patient", wrong, read)
    with wrong.held(path):
        table = mapped(raw, mapping, CODES, implausible)
    wrong.refuse()
    return table.assign(label=label)
