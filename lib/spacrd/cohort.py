"""The section table of a cohort, the reader each of its rows needs, and one row a section of what was read."""

from collections.abc import Mapping
from pathlib import Path

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
    """
    table = read_columns(path, dtype=str, keep_default_na=False)
    if missing := [column for column in COLUMNS if column not in table]:
        raise ValueError(f"{path} has no column {missing}: expected {', '.join(COLUMNS)}")
    table = table.apply(lambda column: column.str.strip())
    if table.empty or table["section"].duplicated().any():
        twice = ", ".join(table["section"][table["section"].duplicated()])
        raise ValueError(f"{path} lists {'a section twice: ' + twice if twice else 'no section'}")
    for column, allowed in (("platform", PLATFORMS), ("label_grade", GRADES)):
        odd = table[~table[column].isin(allowed)]
        if len(odd):
            raise ValueError(
                f"{path}: section {odd['section'].iloc[0]} has {column} {odd[column].iloc[0]!r}, expected one of {allowed}"
            )
    for column in ("section", "patient"):  # they name files and join tables
        check_names(table[column], path, column, zeros=False)
    return table


def read_section(row: Mapping, raw_folder: str | Path) -> AnnData:
    """Read one section of a cohort, by the reader of its platform.

    Parameters
    ----------
    row : mapping
        A row of `read_table`.
    raw_folder : path
        The cohort's folder of raw files; the section's picture is named relative to it.

    Raises
    ------
    FileNotFoundError, ValueError
        As the reader; if the section has no label at all although its grade says so; if the labels are not of the
        grade's kind; if the patient is not the one the files name.
    """
    name, patient, grade = row["section"], row["patient"], row["label_grade"]
    folder = Path(raw_folder) / row["folder"]
    labels = Path(raw_folder) / row["labels"] if row["labels"] else None
    if row["platform"] == "st":
        section = her2st.read_section(folder, name, labels)
    else:
        reader = {"visium": visium, "xenium": xenium}[row["platform"]]
        section = reader.read_section(folder, name, patient, labels=labels)
    about = section.uns["section"]
    if about["patient"] != patient:
        raise ValueError(f"the section table says patient {patient}, the files patient {about['patient']}")
    if about["picture"]:
        about["picture"] = (Path(row["folder"]) / about["picture"]).as_posix()
    source = section.obs["label_source"].astype(str)
    kinds = set(source) - {"none"}
    if grade == "none":
        section.obs["label"] = np.full(section.n_obs, np.nan, dtype=np.float32)
        section.obs["tissue"], section.obs["label_source"] = "", "none"
    elif not section.obs["label"].notna().any():
        raise ValueError(
            f"section {name} has no labels but its label_grade is {grade!r}: name a label file in the section table, "
            "or set label_grade to none to score it without evaluating"
        )
    elif grade == "planted":
        section.obs["label_source"] = source.replace("pathologist", "planted").to_numpy(dtype=object)
    elif grade != "weak" and kinds != {grade}:
        raise ValueError(
            f"section {name}: label_grade {grade!r} but its labels are {sorted(kinds)}: correct the section table"
        )
    check_section(section)
    return section


def files_of(row: Mapping, raw_folder: str | Path) -> list[Path]:
    """The raw files a section (a row of `read_table`) is read from: its own, and its patient's labelled section's."""
    folder = Path(raw_folder) / row["folder"]
    patterns = her2st.patterns(row["section"]) if row["platform"] == "st" else ("**/*",)
    files = {path for pattern in patterns for path in folder.glob(pattern)}
    files |= {Path(raw_folder) / row["labels"]} if row["labels"] else set()
    return sorted(path for path in files if path.is_file())
