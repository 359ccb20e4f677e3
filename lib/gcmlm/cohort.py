"""From time to liver metastasis to a yes or no, with what is not known left open.

Metachronous means later than six months after surgery (Ding et al., Nature Communications 2026, doi
10.1038/s41467-026-76382-x, at second hand). What a binary label does with patients who were followed for a short time
is not stated there: here they are neither yes nor no.

Tables of features that were made elsewhere: one row a patient, numbers in all other columns.

Head-and-neck radiomics with clinical data: CT and PET before and after radiotherapy, locoregional recurrence.

Wang et al., arXiv 2208.14452, repository wangkaiwan/LRO_ReliableRadiomics; 150 of its 224 patients, as
ct/lro_headneck of data/sources.yaml. There is no time to recurrence and no follow-up: yes or no is all that is known.

In every feature sheet of the repository the last column is the outcome itself: a model that is given it has an AUC of 1.
Those sheets are not read, and a table in which any column is the outcome is refused.

Liver metastasis in TCGA-STAD, from TCGA-CDR's first new tumour events. A demonstration, not a validation.

- TCGA-CDR (Liu et al., Cell 173:400, 2018, doi 10.1016/j.cell.2018.02.052) holds one new tumour event a patient: a
  metastasis of the liver that came after another event is not recorded, so "free" means free of a liver metastasis as
  the first event.
- Days count from the diagnosis, not from surgery, and follow-up is short: most patients free of an event were not
  seen for two years.
- Metastases were reported by many hospitals, not looked for by a protocol; stage IV at diagnosis is in the table.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.files import check_names
from lib.inputs.clinical import is_missing
from lib.inputs.tables import nearest_name, plain, read_columns, read_texts
from lib.inputs.tcga import DAYS_PER_MONTH, first_known, grade_number, read_cdr, site_of

POSITIVE, NEGATIVE, LATER = "metastasis", "free", "metastasis after the horizon"
SYNCHRONOUS, CENSORED = "synchronous", "censored early"
STATUSES = (POSITIVE, NEGATIVE, LATER, SYNCHRONOUS, CENSORED)


def metachronous(
    time_months: Sequence[float],
    event: Sequence[int],
    earliest_months: float = 6.0,
    least_follow_up_months: float = 24.0,
    horizon_months: float | None = None,
) -> pd.DataFrame:
    """Binary label of metachronous liver metastasis.

    ============================ ===== =======================================================================
    status                       label
    ============================ ===== =======================================================================
    metastasis                   1     seen later than `earliest_months`, and by `horizon_months` where given
    free                         0     followed without it for `least_follow_up_months` and to the horizon
    metastasis after the horizon 0     free at the horizon, which is all that is asked
    synchronous                  NaN   seen at or before `earliest_months`: to be left out of every analysis
    censored early               NaN   free when last seen, but not followed long enough: for time-to-event only
    ============================ ===== =======================================================================

    Parameters
    ----------
    time_months : sequence of float, length n
        Months from surgery to liver metastasis or to the last look, 0 or more. Of a Series the index names patients.
    event : sequence of 0 or 1, length n
        1: liver metastasis.
    earliest_months : float
        0 or more.
    least_follow_up_months : float
        0 or more.
    horizon_months : float, optional
        Later than `earliest_months`.

    Returns
    -------
    DataFrame
        label (1.0, 0.0 or NaN), status (one of `STATUSES`); n rows in the given order, with the index of `time_months`.

    Raises
    ------
    ValueError
        A time that is negative, missing or infinite, an event that is neither 0 nor 1, lengths that differ, or
        parameters that contradict each other.
    """
    times = pd.to_numeric(pd.Series(time_months), errors="coerce").astype(float)
    events = pd.to_numeric(pd.Series(event), errors="coerce").astype(float)
    if len(times) != len(events):
        raise ValueError(f"{len(times)} times but {len(events)} events: one each a patient is expected")
    both = isinstance(time_months, pd.Series) and isinstance(event, pd.Series)
    if both and not times.index.equals(events.index):
        raise ValueError("times and events are indexed by different patients: bring them into one table")
    for wrong, values, what in (
        (
            ~np.isfinite(times) | (times < 0),
            times,
            "time_months of {} is {}, a number of 0 or more is needed",
        ),
        (~events.isin((0, 1)).to_numpy(), events, "event of {} is {}, 0 or 1 is needed"),
    ):
        if (wrong := np.asarray(wrong, bool)).any():
            row = int(np.flatnonzero(wrong)[0])
            said = what.format(times.index[row], values.iloc[row])
            raise ValueError(f"{said} ({int(wrong.sum())} such rows): correct or leave out the patient")
    if not (np.isfinite(earliest_months) and earliest_months >= 0):
        raise ValueError(f"earliest_months is {earliest_months}, a number of 0 or more is needed")
    if not (np.isfinite(least_follow_up_months) and least_follow_up_months >= 0):
        raise ValueError(
            f"least_follow_up_months is {least_follow_up_months}, a number of 0 or more is needed"
        )
    horizon = np.inf if horizon_months is None else float(horizon_months)
    if not horizon > earliest_months:
        raise ValueError(
            f"horizon_months {horizon_months} is not later than earliest_months {earliest_months}"
        )
    time, seen = times.to_numpy(), events.to_numpy() == 1
    needed = max(least_follow_up_months, horizon if np.isfinite(horizon) else 0.0)
    status = np.select(
        [seen & (time <= earliest_months), seen & (time <= horizon), seen, time >= needed],
        [SYNCHRONOUS, POSITIVE, LATER, NEGATIVE],
        CENSORED,
    )
    label = np.select(
        [status == POSITIVE, (status == NEGATIVE) | (status == LATER)], [1.0, 0.0], default=np.nan
    )
    return pd.DataFrame({"label": label, "status": status.astype(object)}, index=times.index)


def read_feature_table(path: str | os.PathLike) -> pd.DataFrame:
    """Read features, csv or xlsx.

    Parameters
    ----------
    path : path
        A column patient, in whatever case, and numbers. Columns that PyRadiomics adds about itself (diagnostics_...)
        are left out.

    Returns
    -------
    DataFrame
        float64, indexed by patient (str); NaN where a cell is empty or says that it is.

    Raises
    ------
    FileNotFoundError
    ValueError
        No column patient, a patient twice or without name, no feature, or a cell that is no finite number.
    """
    path = Path(path)
    texts = read_texts(path)
    key = next((name for name in texts if plain(name) == "patient"), None)
    if key is None:
        raise ValueError(f"{path} has no column patient{nearest_name('patient', texts.columns)}")
    texts = texts.rename(columns={key: "patient"})
    if (blank := texts["patient"].map(is_missing)).any():
        raise ValueError(f"{path}: row {int(np.flatnonzero(blank)[0]) + 1} names no patient")
    if (twice := texts["patient"].duplicated()).any():
        raise ValueError(
            f"{path}: patient {texts['patient'][twice].iloc[0]} stands twice; one row is expected"
        )
    check_names(texts["patient"], path)
    cells = texts.set_index("patient")
    cells = cells[[name for name in cells if not plain(name).startswith("diagnostics_")]]
    if cells.empty:
        raise ValueError(f"{path} has no feature: a column of numbers beside patient is expected")
    empty = cells.map(is_missing)
    values = cells.mask(empty).apply(pd.to_numeric, errors="coerce").astype(np.float64)
    if (odd := ~empty.to_numpy(bool) & ~np.isfinite(values.to_numpy())).any():
        row, column = np.argwhere(odd)[0]
        raise ValueError(
            f"{path}: {cells.columns[column]} of patient {cells.index[row]} is {cells.iloc[row, column]!r}, a finite "
            f"number is needed ({int(odd.sum())} such cells)"
        )
    return values


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


CANCER = "STAD"
SITES = ("new_tumor_event_site", "new_tumor_event_site_other")
STAGES = ("ajcc_pathologic_tumor_stage", "clinical_stage")
FACTORS = ("age", "male", "stage", "grade")


def read_stad(path: str | Path, patients: Iterable[str] | None = None) -> pd.DataFrame:
    """Read time to liver metastasis and clinical factors of TCGA's gastric cancers.

    An event is a new tumour whose site, or whose other site, names the liver, unless its type is a new primary tumour
    and nothing else: 29 of 443 patients, and 25 of the 349 for whom PORPOISE's table has slides.

    Parameters
    ----------
    path : path
        tcga/tcga_cdr_subset.csv, or TCGA-CDR as csv.
    patients : names, optional
        Patients to keep, in the table's order, such as those of `lib.inputs.tcga.read_outcomes`, who have a slide.

    Returns
    -------
    DataFrame
        One row a patient: patient; hospital (tissue source site); age (years), male (1.0, 0.0), stage (1 to 4, AJCC,
        substages with their stage), grade (1 to 3), NaN where missing; time_months (from diagnosis to the event or to
        the last day the patient is known of: the largest of OS, PFI and the new tumour's; NaN where none is known);
        event (1 liver metastasis); event_type, event_site (texts as they stand); problem ("" or why the patient cannot
        be used).

    Raises
    ------
    FileNotFoundError
        The table is missing.
    ValueError
        See `lib.inputs.tcga.read_cdr`; no gastric cancer, a column is missing, a listed patient is not there, or an
        event without a day.
    """
    table = read_cdr(path)
    needed = (
        "age",
        "female",
        "os_days",
        "pfi_days",
        *SITES,
        "new_tumor_event_type",
        "new_tumor_event_dx_days_to",
    )
    if missing := [name for name in (*needed, STAGES[0], "histological_grade") if name not in table]:
        raise ValueError(f"{path} has no column for {missing[0]}, so liver metastasis cannot be told from it")
    table = table[table["cancer"] == CANCER].reset_index(drop=True)
    if table.empty:
        raise ValueError(f"{path} has no patient of type {CANCER}")
    if patients is not None:
        wanted = set(patients)
        if gone := sorted(wanted - set(table["patient"])):
            raise ValueError(f"{path} has no {CANCER} patient {gone[0]} ({len(gone)} such patients)")
        table = table[table["patient"].isin(wanted)].reset_index(drop=True)
    texts = [table[name].fillna("").astype(str) for name in SITES]
    liver = texts[0].str.contains("liver", case=False) | texts[1].str.contains("liver", case=False)
    event = liver & (table["new_tumor_event_type"].str.strip().str.casefold() != "new primary tumor")
    day = table["new_tumor_event_dx_days_to"]
    if (odd := event & ~(day >= 0)).any():
        raise ValueError(f"{path}: the liver metastasis of {table['patient'][odd].iloc[0]} has no day")
    last = pd.concat([table["os_days"], table["pfi_days"], day], axis=1).max(axis=1)
    both = [" ".join(filter(None, pair)) for pair in zip(*texts, strict=True)]
    return pd.DataFrame(
        {
            "patient": table["patient"],
            "hospital": table["patient"].map(site_of),
            "age": table["age"],
            "male": 1.0 - table["female"],
            "stage": first_known(table, [name for name in STAGES if name in table]),
            "grade": table["histological_grade"].map(grade_number),
            "time_months": np.where(event, day, last) / DAYS_PER_MONTH,
            "event": event.astype(int),
            "event_type": table["new_tumor_event_type"],
            "event_site": both,
            "problem": np.where(event | last.notna(), "", "no follow-up"),
        }
    )
