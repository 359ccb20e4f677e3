"""The section table of a cohort, and the loader each of its rows needs."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from anndata import AnnData

from lib.files import check_names
from lib.inputs.tables import read_columns
from lib.spacrd import her2st, visium, xenium
from lib.spacrd.spots import check_section

COLUMNS = ("section", "patient", "platform", "folder", "labels", "label_grade", "note")
PLATFORMS = ("st", "visium", "xenium")
GRADES = ("pathologist", "transferred", "weak", "planted", "none")


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a cohort's section table.

    Parameters
    ----------
    path : path
        csv with the columns section, patient, platform ("st", "visium", "xenium"), folder and labels (both relative
        to the raw folder; "" for the layout's own), label_grade ("pathologist", "transferred", "weak", "planted", or
        "none" for a section that is to be scored without labels) and note. One row a section.

    Returns
    -------
    DataFrame
        Strings throughout, empty cells as "".

    Raises
    ------
    FileNotFoundError, ValueError
        Names the file, the row and what was expected.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no section table {path}: expected a csv with the columns {', '.join(COLUMNS)}"
        )
    table = read_columns(path, dtype=str, keep_default_na=False)
    if missing := [column for column in COLUMNS if column not in table]:
        raise ValueError(f"{path} has no column {missing}: expected {', '.join(COLUMNS)}")
    if table.empty:
        raise ValueError(f"{path} lists no section")
    table = table.apply(lambda column: column.str.strip())
    if table["section"].duplicated().any():
        raise ValueError(
            f"{path} lists a section twice: {table['section'][table['section'].duplicated()].iloc[0]}"
        )
    for column, allowed in (("platform", PLATFORMS), ("label_grade", GRADES)):
        odd = table[~table[column].isin(allowed)]
        if len(odd):
            raise ValueError(
                f"{path}: section {odd['section'].iloc[0]} has {column} {odd[column].iloc[0]!r}, expected one of {allowed}"
            )
    for column in ("section", "patient"):
        if (table[column] == "").any():
            raise ValueError(
                f"{path}: row {int((table[column] == '').to_numpy().argmax()) + 2} has no {column}"
            )
        check_names(table[column], path, column, zeros=False)
    for column in ("folder", "labels"):
        for section, text in table[["section", column]].itertuples(index=False):
            if PurePosixPath(text.replace("\\", "/")).is_absolute() or ".." in text.replace("\\", "/").split(
                "/"
            ):
                raise ValueError(
                    f"{path}: {column} of section {section} is {text}, outside of the folder of raw files"
                )
    return table


def read_section(row: Mapping, raw_folder: str | Path) -> AnnData:
    """Read one section of a cohort, by the loader of its platform.

    Parameters
    ----------
    row : mapping
        A row of `read_table`.
    raw_folder : path
        The cohort's folder of raw files.

    Returns
    -------
    AnnData
        As `lib.spacrd.spots.check_section` wants it; the picture's path is relative to `raw_folder`.

    Raises
    ------
    FileNotFoundError, ValueError
        As the loader; if the section has no label at all although its grade says so; if the labels are not of the
        grade's kind; if the patient is not the one the files name.
    """
    row, raw_folder = dict(row), Path(raw_folder)
    name, patient, grade = row["section"], row["patient"], row["label_grade"]
    folder = raw_folder / row["folder"]
    labels = raw_folder / row["labels"] if row["labels"] else None
    if row["platform"] == "st":
        section = her2st.read_section(folder, name, labels=labels)
    elif row["platform"] == "visium":
        section = visium.read_section(folder, name, patient, labels=labels)
    elif row["platform"] == "xenium":
        section = xenium.read_section(folder, name, patient, labels=labels)
    else:
        raise ValueError(f"section {name}: unknown platform {row['platform']!r}, expected one of {PLATFORMS}")

    about = section.uns["section"]
    if about["patient"] != patient:
        raise ValueError(
            f"section {name}: the section table says patient {patient}, the files patient {about['patient']}"
        )
    if about["picture"]:
        about["picture"] = (Path(row["folder"]) / about["picture"]).as_posix()
    _grade(section, grade)
    check_section(section)
    return section


def _grade(section: AnnData, grade: str) -> None:
    name = section.uns["section"]["name"]
    source = section.obs["label_source"].astype(str).to_numpy(dtype=object)
    if grade == "none":
        section.obs["label"] = np.full(section.n_obs, np.nan, dtype=np.float32)
        section.obs["tissue"], section.obs["label_source"] = "", "none"
        return
    if not np.isfinite(section.obs["label"]).any():
        raise ValueError(
            f"section {name} has no labels but its label_grade is {grade!r}: name a label file in the section table, "
            "or set label_grade to none to score it without evaluating"
        )
    if grade == "planted":
        source[source == "pathologist"] = "planted"
        section.obs["label_source"] = source
        return
    if grade != "weak" and set(source) - {"none"} != {grade}:
        raise ValueError(
            f"section {name}: label_grade {grade!r} but its labels are {sorted(set(source) - {'none'})}: "
            "correct the section table"
        )


def files_of(row: Mapping, raw_folder: str | Path) -> list[Path]:
    """The raw files a section is read from, for a manifest: its own, and its patient's labelled section's.

    Parameters
    ----------
    row : mapping
        A row of `read_table`.
    raw_folder : path

    Returns
    -------
    list of Path
        Existing files, sorted. Empty where the folder is not there: reading will say so.
    """
    folder = Path(raw_folder) / row["folder"]
    own = [Path(raw_folder) / row["labels"]] if row["labels"] else []
    patterns = her2st.patterns(row["section"]) if row["platform"] == "st" else ("**/*",)
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(found | {path for path in own if path.is_file()})
