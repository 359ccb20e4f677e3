"""A matched cohort: a folder that says which scans and slides belong to which patient, and what became of the patient.

    clinical.csv   patient, hospital, clinical factors, time_months, event
    scans.csv      patient, image, mask, label, use      where there is CT
    slides.csv     patient, slide, path, um_per_px       where there are slides

Each may be .xlsx too. Paths count from the folder and stay in it. A patient may be without a scan or a slide.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.inputs.clinical_values import NO_YES, is_missing
from lib.inputs.matched_files import scans_of, slides_of, table_at, values_of
from lib.inputs.names import FORMULA, check_names
from lib.inputs.text_tables import nearest_name, plain

OUTCOME = ("time_months", "event")
MOST_MONTHS = 1200
"""A follow-up beyond it is a date: 43,586 is how a spreadsheet stores a day of 2019."""

Mapped = Mapping[str, str | Mapping[str, object]]


class Matched(NamedTuple):
    """What a matched cohort holds.

    Attributes
    ----------
    patients : DataFrame
        One row a patient, in the table's order: patient, hospital ("" where not told), the factors (float64, or texts
        of a category with None where missing, as `lib.training.clinical_factors` takes them), time_months (0 or more), event (1.0, 0.0), NaN where missing; problem
        ("no follow-up", or "").
    scans : DataFrame
        patient, image, mask ("" where none is named), label (a number as int, or a name), problem.
    slides : DataFrame
        patient, slide, path, um_per_px (µm per level-0 pixel, NaN where the file itself has to tell), problem.
        Paths begin with the folder. `problem` says why a file cannot be used, "" if nothing is known against it.
    """

    patients: pd.DataFrame
    scans: pd.DataFrame
    slides: pd.DataFrame


def read_matched(
    folder: str | os.PathLike,
    factors: Sequence[str] = (),
    mapping: Mapped | None = None,
    *,
    clinical: str = "clinical",
    scans: str = "scans",
    slides: str = "slides",
    label: int | str = 1,
) -> Matched:
    """Read a matched cohort. A file that is named and is not there is reported in its row; all else is refused.

    Parameters
    ----------
    folder : path
    factors : sequence of str
        Clinical factors wanted. A column whose cells are all numbers, or missing, is a number; one without any number
        is a category.
    mapping : dict, optional
        For patient, hospital, time_months, event or a factor: the name of its column in the clinical table, or
        {"column": name, "levels": {text: number}} for texts that mean numbers.
    clinical, scans, slides : str
        Names of the tables in the folder, with suffix or without. Without a suffix, those of scans and slides may be
        absent.
    label : int or str
        Region of a mask where the table of scans does not say.

    Returns
    -------
    Matched

    Raises
    ------
    FileNotFoundError
        No clinical table, or a table named with its suffix is missing.
    ValueError
        A patient twice, or none named; a factor that is no column, with the nearest name; a cell that is no number in
        a column of numbers, with patient and value; a scan or slide of a patient the clinical table does not have; two
        scans of a patient, unless a column `use` says yes to one; a slide twice; a path that leaves the folder.
    """
    folder, mapping = Path(folder), dict(mapping or {})
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: a matched cohort is one, with clinical.csv in it")
    people = _patients(table_at(folder, clinical, needed=True), factors, mapping)
    known = set(people["patient"])
    return Matched(
        people,
        scans_of(table_at(folder, scans), known, folder, label),
        slides_of(table_at(folder, slides), known, folder),
    )


def modalities(matched: Matched, factors: Iterable[str] = ()) -> pd.DataFrame:
    """Which patient has what. Those without a modality serve the subsets they have, and no fusion.

    Parameters
    ----------
    matched : Matched
    factors : names, optional
        Factors of which one must be known; else those that were read.

    Returns
    -------
    DataFrame
        patient; clinical (any factor known), ct, slide: bool, a file that nothing is known against; scans, slides: how
        many of them; failed: how many files have a problem; complete: bool, all three.
    """
    people = matched.patients
    named = list(factors) or [
        name for name in people if name not in ("patient", "hospital", *OUTCOME, "problem")
    ]
    counts = {}
    for name, table in (("scans", matched.scans), ("slides", matched.slides)):
        good = table.loc[table["problem"] == "", "patient"].value_counts()
        counts[name] = people["patient"].map(good).fillna(0).astype(int)
    bad = pd.concat([table.loc[table["problem"] != "", "patient"] for table in matched[1:]]).value_counts()
    made = pd.DataFrame(
        {
            "patient": people["patient"],
            "clinical": people[named].notna().any(axis=1),
            "ct": counts["scans"] > 0,
            "slide": counts["slides"] > 0,
            **counts,
            "failed": people["patient"].map(bad).fillna(0).astype(int),
        }
    )
    made["complete"] = made[["clinical", "ct", "slide"]].all(axis=1)
    return made


def _patients(table: pd.DataFrame, factors: Sequence[str], mapping: dict) -> pd.DataFrame:
    path, columns = table.attrs["path"], {plain(name): name for name in table}
    fixed = ("patient", "hospital", *OUTCOME)
    for name in mapping:
        if name not in (*fixed, *factors):
            raise ValueError(
                f"mapping names {name}, which is not asked for{nearest_name(name, (*fixed, *factors))}"
            )
    if twice := [name for name in factors if list(factors).count(name) > 1 or name in (*fixed, "problem")]:
        raise ValueError(f"factors name {twice[0]}, which is there already: name each factor once")

    def texts(name: str) -> tuple[pd.Series, dict | None]:
        given = mapping.get(name, name)
        given = {"column": given} if isinstance(given, str) else {"column": name, **given}
        if odd := set(given) - {"column", "levels"}:
            raise ValueError(f"mapping of {name} has {min(odd)!r}: column and levels are known")
        if plain(given["column"]) not in columns:
            raise ValueError(
                f"{path} has no column {given['column']}{nearest_name(given['column'], table.columns)}"
            )
        return table[columns[plain(given["column"])]], given.get("levels")

    patient = texts("patient")[0].reset_index(drop=True)
    if (blank := patient.map(is_missing)).any():
        raise ValueError(f"{path}: row {int(np.flatnonzero(blank)[0]) + 1} names no patient")
    if patient.duplicated().any():
        raise ValueError(
            f"{path}: patient {patient[patient.duplicated()].iloc[0]} stands twice; one row is expected"
        )
    if patient.empty:
        raise ValueError(f"{path} has a header and no patient")
    check_names(patient, path)
    made = {"patient": patient, "hospital": ""}
    if "hospital" in mapping or "hospital" in columns:
        made["hospital"] = texts("hospital")[0].map(lambda text: "" if is_missing(text) else text)
        if (odd := made["hospital"].map(lambda text: bool(FORMULA.match(text)))).any():
            raise ValueError(
                f"{path}: hospital {made['hospital'][odd].iloc[0][:60]!r} begins as a formula does: rename it"
            )
    for name in factors:
        cells, levels = texts(name)
        made[name] = values_of(cells, patient, name, path, levels)
    made["time_months"] = values_of(texts("time_months")[0], patient, "time_months", path, None, always=True)
    cells, levels = texts("event")
    made["event"] = values_of(cells, patient, "event", path, levels or NO_YES)
    found = pd.DataFrame(made)
    for name, wrong in (
        ("time_months", (found["time_months"] < 0) | (found["time_months"] > MOST_MONTHS)),
        ("event", found["event"].notna() & ~found["event"].isin((0, 1))),
    ):
        if wrong.any():
            row = found[wrong].iloc[0]
            needed = (
                "0 or 1"
                if name == "event"
                else "0 or more"
                if row[name] < 0
                else f"at most {MOST_MONTHS}, no date,"
            )
            raise ValueError(
                f"{path}: {name} of patient {row['patient']} is {row[name]:g}, {needed} is needed"
            )
    found["problem"] = np.where(found[list(OUTCOME)].isna().any(axis=1), "no follow-up", "")
    return found
