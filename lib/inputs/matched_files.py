"""The tables of a matched cohort's files: scans and slides, each with its patient, and what is wrong with a file."""

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pandas as pd

from lib.inputs.clinical_values import NO_YES, code, is_missing, number
from lib.inputs.names import check_names, fault_of
from lib.inputs.slide_scale import COARSEST, FINEST
from lib.inputs.text_tables import nearest_name, plain, read_texts

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
    """At most one scan a patient, as `lib.inputs.matched.Matched.scans`; `label` where the table does not say."""
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
    """Any number of slides a patient, as `lib.inputs.matched.Matched.slides`."""
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
