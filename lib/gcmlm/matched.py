"""A matched cohort: a folder that says which scans and slides belong to which patient, and what became of the patient.

    clinical.csv   patient, hospital, clinical factors, time_months, event
    scans.csv      patient, image, mask, label, use      where there is CT
    slides.csv     patient, slide, path, um_per_px       where there are slides

Each may be .xlsx too. Paths count from the folder and stay in it. A patient may be without a scan or a slide.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.files import check_names
from lib.inputs.slides import COARSEST, FINEST
from lib.inputs.tables import NO_YES, code, is_missing, nearest_name, number, plain, read_texts
from lib.stage import Stage

SCANS = ("patient", "image", "mask", "label", "problem")
SLIDES = ("patient", "slide", "path", "um_per_px", "problem")
MOST_MONTHS = 1200
"""A follow-up beyond it is a date: 43,586 is how a spreadsheet stores a day of 2019."""

MISTYPED = re.compile(r"\s*(=.*|@.*|[+-]?\d+,\d+|\d{4}[-/.]\d\d?[-/.]\d\d?.*|\d\d?[-/.]\d\d?[-/.]\d{2,4}.*)")
"""No category: a formula, a number with a decimal comma, a date."""


def written_as(path: str | os.PathLike, folders: Sequence[Path]) -> str:
    """A path relative to the first of the folders that it lies below, so that no table names this machine's folders."""
    for folder in folders:
        if Path(path).is_relative_to(folder):
            return Path(path).relative_to(folder).as_posix()
    raise ValueError(f"{path} lies below none of {', '.join(map(str, folders))}: no table can name it")


def found_at(text: str, folders: Sequence[Path]) -> Path:
    """The file or folder that `written_as` wrote down; the first of the folders that has it."""
    for folder in folders:
        if (folder / text).exists():
            return folder / text
    raise FileNotFoundError(
        f"{text} is in none of {', '.join(map(str, folders))}: run the stage before again"
    )


def size_of(path: str | os.PathLike) -> int:
    """Bytes of a file, or of all files in a folder: a scan of hundreds of megabytes is known by it, not by a checksum."""
    path = Path(path)
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size


class Matched(NamedTuple):
    """What a matched cohort holds.

    Attributes
    ----------
    patients : DataFrame
        One row a patient, in the table's order: patient, hospital ("" where unknown), the factors (float64, or texts of
        a category with None where missing), time_months (0 or more), event (1.0, 0.0), NaN where missing; problem
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
    mapping: Mapping[str, str] | None = None,
    *,
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
        For patient, hospital, time_months, event or a factor: the name of its column in the clinical table.
    label : int or str
        Region of a mask where the table of scans does not say.

    Raises
    ------
    ValueError
        A patient twice, or none named; a factor that is no column, with the nearest name; a cell that is no number in
        a column of numbers; a scan or slide of a patient the clinical table does not have; two scans of a patient,
        unless a column `use` says yes to one; a slide twice; a path that leaves the folder.
    """
    folder = Path(folder)
    clinical = _table(folder, "clinical")
    if clinical is None:
        raise FileNotFoundError(f"{folder} has no clinical.csv or clinical.xlsx")
    patients = _patients(clinical, factors, dict(mapping or {}))
    known = set(patients["patient"])
    return Matched(
        patients,
        _scans(_table(folder, "scans"), known, folder, label),
        _slides(_table(folder, "slides"), known, folder),
    )


def _table(folder: Path, name: str) -> pd.DataFrame | None:
    paths = [path for end in (".csv", ".xlsx", ".tsv", ".txt") if (path := folder / f"{name}{end}").is_file()]
    if len(paths) > 1:
        raise ValueError(f"{folder} has both {paths[0].name} and {paths[1].name}: remove one")
    if not paths:
        return None
    table = read_texts(paths[0])
    table.attrs["path"] = str(paths[0])
    return table


def _patients(table: pd.DataFrame, factors: Sequence[str], mapping: dict) -> pd.DataFrame:
    path, columns = table.attrs["path"], {plain(name): name for name in table}
    fixed = ("patient", "hospital", "time_months", "event")
    if lost := [name for name in mapping if name not in (*fixed, *factors)]:
        raise ValueError(f"mapping names {lost[0]}, not asked for{nearest_name(lost[0], (*fixed, *factors))}")
    if twice := [name for name in factors if list(factors).count(name) > 1 or name in (*fixed, "problem")]:
        raise ValueError(f"factors name {twice[0]}, which is there already: name each factor once")

    def cells(name: str) -> pd.Series:
        wanted = mapping.get(name, name)
        if plain(wanted) not in columns:
            raise ValueError(f"{path} has no column {wanted}{nearest_name(wanted, table.columns)}")
        return table[columns[plain(wanted)]].reset_index(drop=True)

    patient = cells("patient")
    check_patients(patient, path)
    people = {"patient": patient, "hospital": ""}
    if "hospital" in mapping or "hospital" in columns:
        people["hospital"] = cells("hospital").map(lambda text: "" if is_missing(text) else text)
    for name in factors:
        people[name] = _values(cells(name), patient, name, path, category=True)
    people["time_months"] = time = _values(cells("time_months"), patient, "time_months", path)
    people["event"] = event = _values(cells("event"), patient, "event", path, NO_YES)
    for name, values, wrong, needed in (
        ("time_months", time, (time < 0) | (time > MOST_MONTHS), f"0 to {MOST_MONTHS} months, no date,"),
        ("event", event, ~np.isnan(event) & ~np.isin(event, (0, 1)), "0 or 1"),
    ):
        if wrong.any():
            raise ValueError(
                f"{path}: {name} of patient {patient[wrong].iloc[0]} is {values[wrong][0]:g}, {needed} is needed"
            )
    people["problem"] = np.where(np.isnan(time) | np.isnan(event), "no follow-up", "")
    return pd.DataFrame(people)


def check_patients(patient: pd.Series, path: str | os.PathLike) -> None:
    """Refuse a patient without a name, twice, or spelled in two ways."""
    if (blank := patient.map(is_missing)).any():
        raise ValueError(f"{path}: row {int(np.flatnonzero(blank)[0]) + 1} names no patient")
    if (twice := patient.duplicated()).any():
        raise ValueError(f"{path}: patient {patient[twice].iloc[0]} stands twice; one row is expected")
    check_names(patient, path)


def _values(
    cells: pd.Series,
    rows: pd.Series,
    name: str,
    path: str,
    levels: dict | None = None,
    category: bool = False,
    who: str = "patient",
) -> np.ndarray:
    """Numbers, NaN where missing; or, where a `category` may stand and no cell is a number, texts and None."""
    values, odd = np.full(len(cells), np.nan), []
    for row, (text, one) in enumerate(zip(cells, rows, strict=True)):
        if category and MISTYPED.fullmatch(text):
            raise ValueError(
                f"{path}: {name} of {who} {one} is {text[:60]!r}, a formula, a date or a decimal comma: write numbers "
                "with a point"
            )
        try:
            values[row] = number(text) if levels is None else code(text, levels)
        except ValueError as error:
            odd.append(f"{path}: {name} of {who} {one}: {error}")
    known = int(np.isfinite(values).sum())
    if odd and category and not known:
        return np.array([None if is_missing(text) else text for text in cells], dtype=object)
    if odd:
        others = f", as {known} others are" if known and levels is None else ""
        raise ValueError(f"{odd[0]}{others}; correct the table")
    return values


def _scans(table: pd.DataFrame | None, known: set[str], folder: Path, label: int | str) -> pd.DataFrame:
    """At most one scan a patient."""
    if table is None:
        return pd.DataFrame(columns=SCANS)
    path = table.attrs["path"]
    rows = _rows(table, ("patient", "image", "mask", "label", "use"), ("patient", "image"), known)
    if not (rows["use"] == "").all():
        rows = rows[_values(rows["use"], rows["patient"], "use", path, NO_YES) == 1].reset_index(drop=True)
    if (twice := rows["patient"].duplicated()).any():
        patient = rows.loc[twice, "patient"].iloc[0]
        raise ValueError(
            f"{path}: patient {patient} has {int((rows['patient'] == patient).sum())} scans: remove all but one, or "
            "add a column use with yes for the one to take"
        )
    _once(rows, ("image",), path)
    rows["problem"] = [
        "; ".join(filter(None, (_problem(folder, image, "image"), mask and _problem(folder, mask, "mask"))))
        for image, mask in zip(rows["image"], rows["mask"], strict=True)
    ]
    for name in ("image", "mask"):
        rows[name] = [str(folder / text) if text else "" for text in rows[name]]
    rows["label"] = [(int(text) if text.isdigit() else text) if text else label for text in rows["label"]]
    return rows[list(SCANS)]


def _slides(table: pd.DataFrame | None, known: set[str], folder: Path) -> pd.DataFrame:
    """Any number of slides a patient."""
    if table is None:
        return pd.DataFrame(columns=SLIDES)
    path = table.attrs["path"]
    rows = _rows(table, ("patient", "slide", "path", "um_per_px"), ("patient", "path"), known)
    rows["slide"] = rows["slide"].where(
        rows["slide"] != "", rows["path"].map(lambda text: PurePosixPath(text).stem)
    )
    check_names(rows["slide"], path, "slide", zeros=False)
    _once(rows, ("slide", "path"), path)
    rows["um_per_px"] = _values(rows["um_per_px"], rows["slide"], "um_per_px", path, who="slide")
    if (odd := rows["um_per_px"].notna() & ~rows["um_per_px"].between(FINEST, COARSEST)).any():
        raise ValueError(
            f"{path}: um_per_px of slide {rows.loc[odd, 'slide'].iloc[0]} is not within {FINEST} to {COARSEST}, as a "
            "level 0 is"
        )
    rows["problem"] = [_problem(folder, text, "slide") for text in rows["path"]]
    rows["path"] = [str(folder / text) if text else "" for text in rows["path"]]
    return rows[list(SLIDES)]


def _rows(table: pd.DataFrame, names: Sequence[str], needed: Sequence[str], known: set[str]) -> pd.DataFrame:
    """The columns of a table of files, "" where a table lacks one or a cell is empty, of patients that are known."""
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
        rows[name] = rows[name].str.replace("\\", "/")
        for text, patient in rows[[name, "patient"]].to_numpy():
            place = PurePosixPath(text)
            if place.is_absolute() or PureWindowsPath(text).drive or ".." in place.parts:
                raise ValueError(
                    f"{path}: {name} of patient {patient} is {text}, and a path must stay in the folder of the cohort"
                )
    return rows


def _once(rows: pd.DataFrame, names: Iterable[str], path: str) -> None:
    """Refuse a file or a name of two rows, whosever they are."""
    for name in names:
        if (twice := rows[name].duplicated() & (rows[name] != "")).any():
            one = rows.loc[twice, name].iloc[0]
            owners = " and ".join(rows.loc[rows[name] == one, "patient"][:2])
            raise ValueError(f"{path}: {name} {one} stands twice, of {owners}: remove one")


def _problem(folder: Path, text: str, what: str) -> str:
    path = folder / text
    if not text:
        return f"no {what} is named"
    if not path.exists():
        return f"{what} {text} is not there"
    empty = not any(path.iterdir()) if path.is_dir() else not path.stat().st_size
    return f"{what} {text} is empty" if empty else ""


def known_by(row: pd.Series, path: str) -> dict[str, object]:
    """What the work on a scan or slide depends on: its file's size, and what its row says of it."""
    return {"bytes": size_of(row[path])} | {name: row[name] for name in ("label", "um_per_px") if name in row}


def scan_report(
    stage: Stage, scans: pd.DataFrame, looked: Iterable[str], folders: Sequence[Path]
) -> pd.DataFrame:
    """The table of scans with what was read of each (`looked`: units "scans/PATIENT", a json each), or why it was not."""
    known = [
        "patient",
        "region",
        "stored_as",
        "size",
        "spacing_mm",
        "tilt_deg",
        "voxels",
        "volume_ml",
        "mean_hu",
        "sd_hu",
    ]
    facts = [json.loads((stage.folder / f"{unit}.json").read_text(encoding="utf-8")) for unit in looked]
    # a scan that failed has none: without these types the regions of all others would become "1.0", which is no label
    facts = pd.DataFrame(facts, columns=known).astype({"region": object, "voxels": "Int64"})
    report = scans[["patient", "image", "mask", "problem"]].merge(facts, on="patient", how="left")
    report["problem"] = [
        row.problem
        or _why(stage, f"scans/{row.patient}", folders)
        or ("" if row.mask else "no mask is named, and none was made")
        for row in report.itertuples()
    ]
    report["status"] = np.where(report["voxels"].notna(), "ok", "failed")
    for side in ("image", "mask"):
        report[side] = [written_as(path, folders) if path else "" for path in report[side]]
    return report


def slide_report(stage: Stage, slides: pd.DataFrame, grids: Mapping, folders: Sequence[Path]) -> pd.DataFrame:
    """The table of slides with the status of each tiling (`grids`: slide -> TileGrid), or why it failed."""
    rows = []
    for row in slides.itertuples():
        if grid := grids.get(row.slide):
            seen = (grid.status, grid.um_per_px, len(grid.tiles[stage.params.scale]), grid.note)
        else:
            seen = ("failed", np.nan, 0, row.problem or _why(stage, f"tiles/{row.slide}", folders))
        rows.append((row.patient, row.slide, written_as(row.path, folders), *seen))
    return pd.DataFrame(rows, columns=["patient", "slide", "path", "status", "um_per_px", "tiles", "note"])


def _why(stage: Stage, unit: str, folders: Sequence[Path]) -> str:
    """Why a unit failed, without the folders of this machine."""
    reason = stage.failed.get(unit, "")
    for folder in folders:
        reason = reason.replace(f"{folder}/", "")
    return reason
