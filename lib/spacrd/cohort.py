"""The section table of a cohort, the reader each of its rows needs, and one row a section of what was read."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from lib.data import fetch_all, read_sources
from lib.files import check_names
from lib.inputs.tables import PLAIN_NUMBER, Faults, check_once, nearest_name, plain, read_texts
from lib.params import ROOT
from lib.spacrd import her2st
from lib.spacrd.h5ad import read_csv, read_h5ad
from lib.spacrd.params import SpaCRDParams
from lib.spacrd.phantom import write_cohort
from lib.spacrd.spots import CLASSES
from lib.spacrd.tenx import read_visium, read_xenium

COLUMNS = ("section", "patient", "platform", "folder", "labels", "label_grade", "note")
# columns a table may have, with classes of tissue
COUNTS_AS = {"cancer": 1.0, "other": 0.0, "undetermined": np.nan}
# of a folder, labels, classes; name, patient and platform are named, and for an h5ad or csv um_per_px
READERS = {"visium": read_visium, "xenium": read_xenium, "h5ad": read_h5ad, "csv": read_csv}
PLATFORMS = ("st", *READERS)
GRADES = ("pathologist", "transferred", "weak", "planted", "none")


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a cohort's section table.

    A csv with the columns section, patient, platform ("st", "visium", "xenium", "h5ad", "csv"), folder and labels (both
    relative to the raw folder; "" for the layout's own; of an h5ad also the file and a column of its obs), label_grade
    ("pathologist", "transferred", "weak", "planted", or "none" for a section that is to be scored without labels) and note;
    one row a section. It may have cancer, other and undetermined, classes of tissue (separated by ;) that the labels use beyond
    `lib.spacrd.spots.CLASSES` and what each counts as, and um_per_px, for an h5ad or csv that does not tell.
    All are strings, empty cells "".
    """
    table, wrong = read_texts(path).rename(columns=plain), Faults()
    if missing := [column for column in COLUMNS if column not in table and column != "note"]:
        known = nearest_name(missing[0], table)
        raise ValueError(f"{path} has no column {', '.join(missing)} of {', '.join(COLUMNS)}{known}")
    table = table.reindex(columns=list(dict.fromkeys([*COLUMNS, *table]))).fillna("")
    for column, allowed in (("platform", PLATFORMS), ("label_grade", GRADES)):
        table[column] = table[column].str.casefold()
        odd = table[~table[column].isin(allowed)]
        wrong += [
            f"{path}: section {section} has {column} {value!r}, not one of {', '.join(allowed)}"
            for section, value in odd[["section", column]].to_numpy()
        ]
    wrong += [] if len(table) else [f"{path}: no section"]
    check_once(table["section"], path, wrong, "section", zeros=False)
    with wrong.held():  # they name files and join tables
        check_names(table["patient"], path, "patient", zeros=False)
    wrong.refuse()
    return table


def classes_of(row: Mapping) -> dict[str, float]:
    """What each class of tissue counts as in a section (1 cancer, 0 other, NaN undetermined): the known ones, and its row's."""
    declared: dict[str, str] = {}
    for column in COUNTS_AS:
        for name in filter(None, map(plain, str(row.get(column, "")).split(";"))):
            if declared.setdefault(name, column) != column:
                twice = f"the section table lists {name!r} under {declared[name]} and under {column}"
                raise ValueError(f"section {row['section']}: {twice}")
    return CLASSES | {name: COUNTS_AS[column] for name, column in declared.items()}


def read_section(row: Mapping, raw_folder: str | Path) -> AnnData:
    """Read one section of a cohort, by the reader of its platform.

    `row` is one of `read_table`'s; the section's picture is named relative to the folder of raw files. A ValueError where there
    is no label although the grade says so, labels are not of its kind, or the patient is not the one the files name.
    """
    name, patient, grade = row["section"], row["patient"], row["label_grade"]
    folder, classes = Path(raw_folder) / row["folder"], classes_of(row)
    labels = Path(raw_folder) / row["labels"] if row["labels"] else None
    if row["platform"] == "st":
        section = her2st.read_section(folder, name, labels, classes)
    else:
        if row["platform"] == "h5ad" and labels and not labels.is_file():
            labels = row["labels"]  # a column of its obs
        named = {"name": name, "patient": patient, "platform": row["platform"]}
        named |= {"um_per_px": _scale_of(row)} if row["platform"] in ("h5ad", "csv") else {}
        section = READERS[row["platform"]](folder, labels, classes, **named)
    about = section.uns["section"]
    if about["patient"] != patient:
        raise ValueError(f"the section table says patient {patient}, the files patient {about['patient']}")
    if about["picture"]:
        home = Path(row["folder"]).parent if folder.is_file() else Path(row["folder"])
        about["picture"] = Path(os.path.normpath(home / about["picture"])).as_posix()
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
        raise ValueError(f"section {name}: label_grade {grade!r} but its labels are {sorted(kinds)}")
    return section


def _scale_of(row: Mapping) -> float | None:
    text = str(row.get("um_per_px", ""))
    if text and not (PLAIN_NUMBER.fullmatch(text) and 0 < float(text) < 100):
        raise ValueError(f"section {row['section']}: um_per_px {text!r} is no number of µm per pixel")
    return float(text) if text else None


def files_of(row: Mapping, raw_folder: str | Path) -> list[Path]:
    """The raw files a section (a row of `read_table`) is read from: its own, and its patient's labelled section's."""
    folder = Path(raw_folder) / row["folder"]
    patterns = her2st.patterns(row["section"]) if row["platform"] == "st" else ("**/*",)
    files = {path for pattern in patterns for path in folder.glob(pattern)}
    # an h5ad and its picture
    near = (folder.parent, folder.parent.parent / "wsis") if folder.is_file() else ()
    files |= {path for home in near for path in home.glob(f"{folder.stem}.*")}
    files |= {Path(raw_folder) / row["labels"]} if row["labels"] else set()
    return sorted(path for path in files if path.is_file())


def obtain(params: SpaCRDParams, folder: Path) -> pd.DataFrame:
    """Write the phantom's raw files below `folder`, or fetch those of an open cohort; return all section tables.

    They are as `read_table`, by section, with `source`, which says where the raw files lie (`source_of`).
    """
    if params.phantom:
        planted = params.phantom.model_dump(include={"seed", "effect", "spots_side"})
        planted["null"] = params.phantom.unrelated_labels
        tables = {"phantom": write_cohort(folder, patients=params.phantom.patients, **planted)}
        if params.phantom.second_platform:
            tables["second"] = write_cohort(folder / "second", patients=3, platform="visium", **planted)
    else:
        tables = {source_of(table): read_table(ROOT / table) for table in params.sections}
        if params.cohort in read_sources().cohorts:
            fetch_all(params.cohort)
    parts = [table.assign(source=source) for source, table in tables.items()]
    table = pd.concat(parts, ignore_index=True).fillna("")
    return table.set_index("section", drop=False, verify_integrity=True)


def source_of(table: str) -> str:
    """The folder below data/raw with a section table's files: its own, where it lies there, else one of its name."""
    own = Path(table).parent.as_posix().removeprefix("data/raw")
    return own.strip("/") if table.startswith("data/raw/") else Path(table).stem


def raw_folder(source: str, folder: Path) -> Path:
    """Where the raw files of a section table lie: of a phantom below the cohort's `folder`, else in data/raw."""
    phantoms = {"phantom": folder / "raw", "second": folder / "raw" / "second"}
    return phantoms.get(source, ROOT / "data" / "raw" / source)


def remarks(sections: Iterable[AnnData]) -> pd.DataFrame:
    """What was left out of each section's raw files, or is odd in them: columns section, remark; a row a remark."""
    told = [(section.uns["section"]["name"], section.uns["section"]["dropped"]) for section in sections]
    rows = [(name, remark) for name, said in told for remark in said.split("; ") if remark]
    return pd.DataFrame(rows, columns=["section", "remark"])


def summary(section: AnnData, row: Mapping) -> dict:
    """One row of cohort.csv: a section and its row of the section table."""
    labels, about = section.obs["label"].to_numpy(), section.uns["section"]
    return {
        "section": about["name"],
        "patient": about["patient"],
        "source": row["source"],
        "platform": about["platform"],
        "labels": row["label_grade"],
        "spots": section.n_obs,
        "genes": section.n_vars,
        "median_counts": int(np.median(np.asarray(section.X.sum(1)))),
        "cancer": int((labels == 1).sum()),
        "other": int((labels == 0).sum()),
        "undetermined": int(np.isnan(labels).sum()),
        "pitch_px": round(float(about["pitch_px"]), 1),
        "um_per_px": round(float(about["um_per_px"]), 3),
        "picture": about["picture"],
        "split": "leave one patient out",
        "note": row["note"],
    }
