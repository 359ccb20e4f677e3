"""Head-and-neck radiomics with clinical data: CT and PET before and after radiotherapy, locoregional recurrence.

Wang et al., arXiv 2208.14452, repository wangkaiwan/LRO_ReliableRadiomics; 150 of its 224 patients, as
ct/lro_headneck of data/sources.yaml. There is no time to recurrence and no follow-up: yes or no is all that is known.

In every feature sheet of the repository the last column is the outcome itself: a model that is given it has an AUC of 1.
Those sheets are not read, and a table in which any column is the outcome is refused.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.inputs.names import check_names
from lib.inputs.text_tables import plain, read_columns, read_texts

WHEN = {"pre": ("pre",), "post": ("post",), "both": ("pre", "post")}
MODALITIES = ("ct", "pet")
NAMES = "RadiomicsFeatureName.xlsx"
OUTCOME = "label"


class Lro(NamedTuple):
    """The tables of a study without time.

    Attributes
    ----------
    tables : dict of str -> DataFrame
        "clinical", "ct", "pet": float64, the same patients (str) as index in the same order, no missing value.
    label : Series of float, indexed by patient
        1 locoregional recurrence, 0 none.
    note : str
        What a reader should know; empty if nothing.
    """

    tables: dict[str, pd.DataFrame]
    label: pd.Series
    note: str


def read_lro(folder: str | Path, when: str = "pre") -> Lro:
    """Read the tables.

    Parameters
    ----------
    folder : path
        clinical.csv (patient, ten factors, label) and {ct,pet}_fea_{pre,post}.csv.gz (patient, 257 features) or the
        same as .csv; RadiomicsFeatureName.xlsx, one row of names, where it is there.
    when : "pre" | "post" | "both"
        Scans before radiotherapy, after it, or both; then columns begin with pre_ or post_. Recurrence is predicted
        before treatment by "pre" alone.

    Returns
    -------
    Lro
        Clinical factors in small letters (t_stage, hpv_status, age in years); features under the sheet's names, which
        say SUV for CT too (there it is HU), or f000, f001, ... where the sheet does not name as many.

    Raises
    ------
    FileNotFoundError
        A table is missing.
    ValueError
        A word `when` is not; a patient twice, or not the same patients in all tables; a value that is no number, with
        patient and column; a label that is neither 0 nor 1; a column that is the outcome.
    """
    folder = Path(folder)
    if when not in WHEN:
        raise ValueError(f"when is {when!r}: choose one of {', '.join(WHEN)}")
    clinical = _table(folder / "clinical.csv")
    if OUTCOME not in clinical:
        raise ValueError(f"{folder / 'clinical.csv'} has no column {OUTCOME}, 1 for a recurrence")
    label = clinical.pop(OUTCOME)
    if (odd := ~label.isin((0, 1))).any():
        raise ValueError(f"label of patient {label.index[odd][0]} is {label[odd].iloc[0]:g}, not 0 or 1")
    clinical.columns = [plain(name).replace(" ", "_").replace("-", "_") for name in clinical]
    tables, notes = {"clinical": clinical}, []
    _no_outcome(clinical, label, folder / "clinical.csv")
    for modality in MODALITIES:
        parts = []
        for phase in WHEN[when]:
            path = _found(folder, f"{modality}_fea_{phase}")
            part = _table(path)
            if list(part.index) != list(label.index):
                odd = sorted(set(part.index) ^ set(label.index)) or ["in another order"]
                raise ValueError(
                    f"{path} and clinical.csv do not have the same patients: {', '.join(odd[:3])}"
                )
            _no_outcome(part, label, path)
            part, said = _named(part, folder / NAMES)
            notes += [said] if said and said not in notes else []
            parts.append(part.add_prefix(f"{phase}_") if when == "both" else part)
        tables[modality] = pd.concat(parts, axis=1)
    return Lro(tables, label, "; ".join(notes))


def _found(folder: Path, stem: str) -> Path:
    for suffix in (".csv.gz", ".csv"):
        if (path := folder / f"{stem}{suffix}").is_file():
            return path
    sheets = [path.name for path in folder.glob("*.xls*") if plain(path.stem) == stem]
    hint = (
        f"; {sheets[0]} is the repository's own sheet, whose last column is the outcome: it is not read"
        if sheets
        else ": run `make data COHORT=lro`"
    )
    raise FileNotFoundError(f"{folder / stem}.csv.gz is not there{hint}")


def _table(path: Path) -> pd.DataFrame:
    """Numbers, indexed by patient."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: run `make data COHORT=lro`")
    table = read_columns(path, dtype={"patient": str})
    if "patient" not in table:
        raise ValueError(
            f"{path} has no column patient, as the repository's own sheets, whose last column is the outcome: "
            "take the tables of the source ct/lro_headneck"
        )
    table = table.set_index("patient")
    if (twice := table.index.duplicated()).any():
        raise ValueError(
            f"{path}: patient {table.index[twice][0]} stands twice; one row a patient is expected"
        )
    check_names(table.index.fillna("").astype(str), path)
    numbers = table.apply(pd.to_numeric, errors="coerce").astype(float)
    if (odd := ~np.isfinite(numbers.to_numpy())).any():
        row, column = np.argwhere(odd)[0]
        raise ValueError(
            f"{path}: {table.columns[column]} of patient {table.index[row]} is {table.iloc[row, column]}, "
            f"a number is needed ({int(odd.sum())} such cells)"
        )
    return numbers


def _no_outcome(table: pd.DataFrame, label: pd.Series, path: Path) -> None:
    """Refuse a column that tells the label: two values, one for each outcome."""
    for name, column in table.items():
        if plain(name) in (OUTCOME, "outcome") or (
            column.nunique() == 2 and label.nunique() == 2 and (column.groupby(label).nunique() == 1).all()
        ):
            raise ValueError(
                f"{path}: column {name} is the outcome itself, as the last column of the repository's sheets is: "
                "remove it"
            )


def _named(table: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, str]:
    """The table with the names of the sheet's header, or why it keeps its own."""
    if not path.is_file():
        return table, f"{path.name} is not there: features are numbered"
    names = list(read_texts(path))
    if len(names) != table.shape[1] or len(set(names)) != len(names):
        return (
            table,
            f"{path.name} has {len(names)} names for {table.shape[1]} features: features are numbered",
        )
    return table.set_axis(names, axis=1), ""
