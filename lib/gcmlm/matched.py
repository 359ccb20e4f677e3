"""Where a file lies: its path as tables hold it, relative to one of a few folders, and how large it is.

The tables of a matched cohort's files: scans and slides, each with its patient, and what is wrong with a file.

A matched cohort: a folder that says which scans and slides belong to which patient, and what became of the patient.

    clinical.csv   patient, hospital, clinical factors, time_months, event
    scans.csv      patient, image, mask, label, use      where there is CT
    slides.csv     patient, slide, path, um_per_px       where there are slides

Each may be .xlsx too. Paths count from the folder and stay in it. A patient may be without a scan or a slide.
"""

import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.files import FORMULA, check_names, fault_of
from lib.inputs.clinical import NO_YES, code, is_missing, number
from lib.inputs.slides import COARSEST, FINEST
from lib.inputs.tables import nearest_name, plain, read_texts


def written_as(path: str | os.PathLike, folders: Sequence[Path]) -> str:
    """A path relative to the first of the folders that it lies below, so that no table names this machine's folders.

    Raises
    ------
    ValueError
        It lies below none of them.
    """
    for folder in folders:
        if Path(path).is_relative_to(folder):
            return Path(path).relative_to(folder).as_posix()
    raise ValueError(f"{path} lies below none of {', '.join(map(str, folders))}: no table can name it")


def found_at(text: str, folders: Sequence[Path]) -> Path:
    """The file or folder that `written_as` wrote down; the first of the folders that has it.

    Raises
    ------
    FileNotFoundError
    """
    for folder in folders:
        if (folder / text).exists():
            return folder / text
    raise FileNotFoundError(
        f"{text} is in none of {', '.join(map(str, folders))}: run the stage before again"
    )


def size_of(path: str | os.PathLike) -> int:
    """Bytes of a file, or of all files in a folder: a scan of hundreds of megabytes is known by it, not by a checksum.

    Raises
    ------
    FileNotFoundError
    """
    path = Path(path)
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size


SCANS = ("patient", "image", "mask", "label", "problem")
SLIDES = ("patient", "slide", "path", "um_per_px", "problem")
TABLES = (".csv", ".xlsx", ".tsv", ".txt")
MISTYPED = re.compile(r"\s*(=.*|@.*|[+-]?\d+,\d+|\d{4}[-/.]\d\d?[-/.]\d\d?.*|\d\d?[-/.]\d\d?[-/.]\d{2,4}.*)")
"""No category: a formula, a number with a decimal comma, a date."""


def table_at(folder: Path, name: str, needed: bool = False) -> pd.DataFrame | None:
    """A table of the folder, its columns named plainly; None where it may be absent and is."""
    _inside(name, "the name of a table")
    if Path(name).suffix.lower() in TABLES:
        found = [folder / name]
    else:
        found = [path for suffix in TABLES if (path := folder / f"{name}{suffix}").is_file()]
    if len(found) > 1:
        raise ValueError(f"{folder} has both {found[0].name} and {found[1].name}: remove one, or name it")
    if not found:
        if needed:
            raise FileNotFoundError(f"{folder} has no {name}.csv or {name}.xlsx")
        return None
    table = read_texts(found[0])
    table.attrs["path"] = str(found[0])
    return table


def scans_of(table: pd.DataFrame | None, known: set[str], folder: Path, label: int | str = 1) -> pd.DataFrame:
    """At most one scan a patient, as `lib.gcmlm.matched.Matched.scans`; `label` where the table does not say."""
    if table is None:
        return pd.DataFrame(columns=SCANS)
    rows = _rows(table, ("patient", "image", "mask", "label", "use"), ("patient", "image"), known)
    path = table.attrs["path"]
    if rows["use"].map(is_missing).all():
        chosen = pd.Series(True, rows.index)
    else:
        chosen = pd.Series(values_of(rows["use"], rows["patient"], "use", path, NO_YES), rows.index) == 1
    rows = rows[chosen].reset_index(drop=True)
    if (twice := rows["patient"].duplicated()).any():
        patient = rows.loc[twice, "patient"].iloc[0]
        raise ValueError(
            f"{path}: patient {patient} has {int((rows['patient'] == patient).sum())} scans: remove all but one, or "
            "add a column use with yes for the one to take"
        )
    _once(rows, "image", path)
    rows["problem"] = [
        "; ".join(filter(None, (_problem(folder, image, "image"), mask and _problem(folder, mask, "mask"))))
        for image, mask in zip(rows["image"], rows["mask"], strict=True)
    ]
    for name in ("image", "mask"):
        rows[name] = [str(folder / text) if text else "" for text in rows[name]]
    rows["label"] = [_label(text) if text else label for text in rows["label"]]
    return rows[list(SCANS)]


def slides_of(table: pd.DataFrame | None, known: set[str], folder: Path) -> pd.DataFrame:
    """Any number of slides a patient, as `lib.gcmlm.matched.Matched.slides`."""
    if table is None:
        return pd.DataFrame(columns=SLIDES)
    rows = _rows(table, ("patient", "slide", "path", "um_per_px"), ("patient", "path"), known)
    path = table.attrs["path"]
    rows["slide"] = [
        slide or PurePosixPath(file).stem for slide, file in zip(rows["slide"], rows["path"], strict=True)
    ]
    for slide in rows["slide"]:
        if fault := fault_of(slide):
            raise ValueError(f"{path}: slide {slide[:60]!r} is no plain name, it {fault}: rename it")
    check_names(rows["slide"], path, "slide", zeros=False)
    for name in ("slide", "path"):
        _once(rows, name, path)
    rows["um_per_px"] = values_of(rows["um_per_px"], rows["slide"], "um_per_px", path, None, True, "slide")
    for odd, said in (
        (rows["um_per_px"] <= 0, "is not above 0"),
        (
            rows["um_per_px"].notna() & ~rows["um_per_px"].between(FINEST, COARSEST),
            f"is not within {FINEST} to {COARSEST}, as a level 0 is",
        ),
    ):
        if odd.any():
            raise ValueError(f"{path}: um_per_px of slide {rows.loc[odd, 'slide'].iloc[0]} {said}")
    rows["problem"] = [_problem(folder, text, "slide") for text in rows["path"]]
    rows["path"] = [str(folder / text) if text else "" for text in rows["path"]]
    return rows[list(SLIDES)]


def _rows(table: pd.DataFrame, names: Sequence[str], needed: Sequence[str], known: set[str]) -> pd.DataFrame:
    """The columns of a table of files, "" where a table lacks one, of patients that are known."""
    path, columns = table.attrs["path"], {plain(name): name for name in table}
    if missing := [name for name in needed if name not in columns]:
        raise ValueError(f"{path} has no column {missing[0]}{nearest_name(missing[0], table.columns)}")
    empty = pd.Series("", table.index)
    rows = pd.DataFrame({name: table[columns[name]] if name in columns else empty for name in names})
    rows = rows.map(lambda text: "" if is_missing(text) else text)
    for patient in rows["patient"]:
        if patient not in known:
            raise ValueError(
                f"{path}: patient {patient or '(none)'} is not in the clinical table{nearest_name(patient, known)}"
            )
    for name in {"image", "mask", "path"} & set(names):
        rows[name] = [
            _inside(text, f"{path}: {name} of patient {patient}")
            for text, patient in rows[[name, "patient"]].to_numpy()
        ]
    return rows


def _once(rows: pd.DataFrame, name: str, path: str) -> None:
    """Refuse a file or a name of two rows, whosever they are."""
    if (twice := rows[name].duplicated() & (rows[name] != "")).any():
        one = rows.loc[twice, name].iloc[0]
        owners = " and ".join(rows.loc[rows[name] == one, "patient"][:2])
        raise ValueError(f"{path}: {name} {one} stands twice, of {owners}: remove one")


def _inside(text: str, what: str) -> str:
    """A path with forward slashes that stays below the folder it counts from."""
    text = text.replace("\\", "/")
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).drive or ".." in PurePosixPath(text).parts:
        raise ValueError(
            f"{what} is {text}, and a path must stay in the folder of the cohort: give it from there"
        )
    return text


def _problem(folder: Path, text: str, what: str) -> str:
    path = folder / text
    if not text:
        return f"no {what} is named"
    if max(len(os.fsencode(part)) for part in PurePosixPath(text).parts) > 255 or "\0" in text:
        return f"{what} {text[:60]}... is no file's name"
    if path.exists() and not path.resolve().is_relative_to(folder.resolve()):
        warnings.warn(
            f"{folder}: {what} {text} is a link to {path.resolve()}, outside of the folder", stacklevel=5
        )
    if path.is_dir():
        return "" if any(path.iterdir()) else f"{what} {text} is an empty folder"
    if not path.is_file():
        return f"{what} {text} is not there"
    return "" if path.stat().st_size else f"{what} {text} is an empty file"


def _label(text: str) -> int | str:
    try:
        value = number(text)
    except ValueError:
        return text
    return int(value) if value == int(value) else text


def values_of(
    cells: pd.Series,
    patient: pd.Series,
    name: str,
    path: str,
    levels: dict | None,
    always: bool = False,
    who: str = "patient",
) -> np.ndarray:
    """Numbers, NaN where missing; or, unless `always`, a category's texts with None where missing."""
    made, odd = np.full(len(cells), np.nan), []
    for row, text in enumerate(cells):
        try:
            made[row] = number(text) if levels is None else code(text, levels)
        except ValueError as error:
            odd.append((row, error))
    known = np.isfinite(made).sum()
    if levels is None and not always:
        for text, one in zip(cells, patient, strict=True):
            if MISTYPED.fullmatch(text):
                raise ValueError(
                    f"{path}: {name} of {who} {one} is {text[:60]!r}, a formula, a date or a decimal comma: write "
                    "numbers with a point"
                )
    if odd and levels is None and not known and not always:
        return np.array([None if is_missing(text) else text for text in cells], dtype=object)
    if odd:
        row, error = odd[0]
        others = f", as {known} others are" if known and levels is None else ""
        raise ValueError(
            f"{path}: {name} of {who} {patient.iloc[row]}: {error}{others}; correct the table, or give its levels "
            "in the mapping"
        )
    return made


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
        of a category with None where missing, as `lib.gcmlm.tables` takes them), time_months (0 or more), event (1.0, 0.0), NaN where missing; problem
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
