"""From raw files to one table of patients: who counts as a metachronous liver metastasis, and where cohorts come from.

- `metachronous`: from time and event to yes, no, or not known.
- `read_feature_table`: features of one modality that were made elsewhere, one row a patient.
- `read_lro`: head-and-neck radiomics of CT and PET with locoregional recurrence (Wang et al., arXiv 2208.14452,
  repository wangkaiwan/LRO_ReliableRadiomics; 150 of its 224 patients). Yes or no is all that is known. In the
  repository's own sheets the last column of features is the outcome itself, so those sheets are not read.
- `read_stad`: liver metastasis in TCGA-STAD, from the new tumour events of TCGA-CDR (Liu et al., Cell 173:400, 2018,
  doi 10.1016/j.cell.2018.02.052). A demonstration: one event a patient is recorded, so "free" means free of a liver
  metastasis as the first event; days count from diagnosis, not from surgery; nobody looked for metastases by protocol.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.data import fetch_all, read_sources
from lib.gcmlm.matched import SCANS, SLIDES, check_patients, read_matched
from lib.inputs.tables import is_missing, nearest_name, plain, read_columns, read_texts
from lib.inputs.tcga import DAYS_PER_MONTH, first_known, grade_number, read_cdr, read_outcomes, site_of
from lib.params import ROOT
from lib.stage import Stage

POSITIVE, NEGATIVE = "metastasis", "free"
SYNCHRONOUS, CENSORED = "synchronous", "censored early"
STATUSES = (POSITIVE, NEGATIVE, SYNCHRONOUS, CENSORED)


class Cohort(NamedTuple):
    """patients: one row each; scans, slides: see `lib.gcmlm.matched.Matched`; given: modality -> table made elsewhere."""

    patients: pd.DataFrame
    scans: pd.DataFrame
    slides: pd.DataFrame
    given: dict[str, pd.DataFrame]


def raw_folder(stage: Stage) -> Path:
    """Where a matched cohort's files lie: below the results where a phantom is made, else in data/raw."""
    return (
        stage.folder / "raw" if stage.params.phantom else ROOT / "data" / "raw" / stage.params.matched_cohort
    )


def read_cohort(stage: Stage) -> Cohort:
    """Read the cohort that the parameters name; patients who cannot be used are printed and left out."""
    params, data = stage.params, ROOT / "data" / "raw"
    if params.cohort in read_sources().cohorts:
        fetch_all(params.cohort)
    scans, slides, given = pd.DataFrame(columns=SCANS), pd.DataFrame(columns=SLIDES), {}
    if params.lro_folder:
        given, label, note = read_lro(data / params.lro_folder, params.lro_when)
        patients = label.reset_index().assign(hospital="", problem="")
        print(note or "every feature has its name")
    elif params.stad_table:
        with_slides = read_outcomes(stage.reads(data / params.stad_slides))["patient"]
        patients = read_stad(stage.reads(data / params.stad_table), with_slides)
    else:
        matched = read_matched(raw_folder(stage), params.factors, params.mapping, label=params.mask_label)
        patients, scans, slides = matched
    for row in patients[patients["problem"] != ""].itertuples():
        print(f"{row.patient}: {row.problem}, so left out")
    patients = patients[patients["problem"] == ""].set_index("patient", drop=False)
    if unknown := sorted(set(params.external_hospitals) - set(patients["hospital"])):
        known = ", ".join(sorted(set(patients["hospital"])))
        said = f"external_hospitals names {unknown[0]}, where no patient is: known are {known}"
        if not params.phantom:
            raise ValueError(said)
        print(said)
    for modality, path in params.feature_tables.items():
        given[modality] = read_feature_table(stage.reads(data / path))
        strangers = len(given[modality].index.difference(patients.index))
        print(
            f"{modality} made elsewhere: {len(given[modality])} patients, {strangers} of them not in this cohort"
        )
    return Cohort(patients, scans, slides, given)


def metachronous(
    time_months: Sequence[float],
    event: Sequence[int],
    earliest_months: float = 6.0,
    least_follow_up_months: float = 24.0,
) -> pd.DataFrame:
    """Binary label of metachronous liver metastasis.

    Metachronous is later than six months after surgery (Ding et al., Nature Communications 2026, doi
    10.1038/s41467-026-76382-x, at second hand). What the paper does with patients who were followed for a short time is
    not known: here they are neither yes nor no.

    ============== ===== =============================================================================
    status         label
    ============== ===== =============================================================================
    metastasis     1     seen later than `earliest_months`
    free           0     followed without it for `least_follow_up_months`
    synchronous    NaN   seen at or before `earliest_months`: to be left out of every analysis
    censored early NaN   free when last seen, but not followed long enough: for time-to-event only
    ============== ===== =============================================================================

    Parameters
    ----------
    time_months : sequence of float, length n
        Months from surgery to liver metastasis or to the last look, 0 or more. Of a Series the index names patients.
    event : sequence of 0 or 1, length n
        1: liver metastasis.
    earliest_months, least_follow_up_months : float

    Returns
    -------
    DataFrame
        label (1.0, 0.0 or NaN), status (one of `STATUSES`); n rows in the given order, with the index of `time_months`.

    Raises
    ------
    ValueError
        A time that is negative, missing or infinite, an event that is neither 0 nor 1, or two indices that differ.
    """
    times, events = pd.Series(time_months, dtype=float), pd.Series(event, dtype=float)
    if not times.index.equals(events.index):
        raise ValueError("times and events are of different patients: bring them into one table")
    for what, values, wrong, needed in (
        ("time_months", times, ~np.isfinite(times) | (times < 0), "a number of 0 or more"),
        ("event", events, ~events.isin((0, 1)), "0 or 1"),
    ):
        if wrong.any():
            raise ValueError(
                f"{what} of {times.index[wrong][0]} is {values[wrong].iloc[0]}, {needed} is needed"
            )
    seen = events == 1
    status = np.select(
        [seen & (times <= earliest_months), seen, times >= least_follow_up_months],
        [SYNCHRONOUS, POSITIVE, NEGATIVE],
        CENSORED,
    )
    label = np.select([status == POSITIVE, status == NEGATIVE], [1.0, 0.0], np.nan)
    return pd.DataFrame({"label": label, "status": status.astype(object)}, index=times.index)


def read_feature_table(path: str | os.PathLike) -> pd.DataFrame:
    """Read features of one modality, csv or xlsx.

    Parameters
    ----------
    path : path
        A column patient, in whatever case, and numbers. Columns that PyRadiomics adds about itself (diagnostics_...)
        are left out.

    Returns
    -------
    DataFrame
        float64, indexed by patient (str); NaN where a cell is empty or says that it is.
    """
    texts = read_texts(path)
    key = next((name for name in texts if plain(name) == "patient"), None)
    if key is None:
        raise ValueError(f"{path} has no column patient{nearest_name('patient', texts.columns)}")
    cells = _by_patient(texts.rename(columns={key: "patient"}), path)
    cells = cells[[name for name in cells if not plain(name).startswith("diagnostics_")]]
    if cells.empty:
        raise ValueError(f"{path} has no feature: a column of numbers beside patient is expected")
    return _numbers(cells, cells.map(is_missing).to_numpy(bool), path)


def _by_patient(table: pd.DataFrame, path: str | os.PathLike) -> pd.DataFrame:
    """Indexed by patient, each once."""
    patient = table["patient"].fillna("").astype(str)
    check_patients(patient, path)
    return table.assign(patient=patient).set_index("patient")


def _numbers(cells: pd.DataFrame, empty: np.ndarray, path: str | os.PathLike) -> pd.DataFrame:
    """Finite numbers, NaN where a cell is empty."""
    values = cells.mask(empty).apply(pd.to_numeric, errors="coerce").astype(np.float64)
    if (odd := ~empty & ~np.isfinite(values.to_numpy())).any():
        row, column = np.argwhere(odd)[0]
        raise ValueError(
            f"{path}: {cells.columns[column]} of patient {cells.index[row]} is {str(cells.iloc[row, column])!r}, "
            f"a finite number is needed ({int(odd.sum())} such cells)"
        )
    return values


PHASES = {"pre": ("pre",), "post": ("post",), "both": ("pre", "post")}
NAMES = "RadiomicsFeatureName.xlsx"


def read_lro(folder: str | Path, when: str = "pre") -> tuple[dict[str, pd.DataFrame], pd.Series, str]:
    """Read the head-and-neck tables.

    Parameters
    ----------
    folder : path
        clinical.csv (patient, ten factors, label) and {ct,pet}_fea_{pre,post}.csv.gz (patient, 257 features);
        RadiomicsFeatureName.xlsx, one row of names, where it is there.
    when : "pre" | "post" | "both"
        Scans before radiotherapy, after it, or both; then columns begin with pre_ or post_. Recurrence is predicted
        before treatment by "pre" alone.

    Returns
    -------
    tables : dict of str -> DataFrame
        "clinical" (small letters: t_stage, hpv_status, age in years), "ct", "pet": float64, the same patients (str) as
        index in the same order, no missing value. Features have the sheet's names, which say SUV for CT too (there it is
        HU), or f000, f001, ... where the sheet does not name as many.
    label : Series of float, indexed by patient
        1 locoregional recurrence, 0 none.
    note : str
        What a reader should know; empty if nothing.
    """
    folder = Path(folder)
    clinical = _lro_table(folder / "clinical.csv")
    label = clinical.pop("label")
    if (odd := ~label.isin((0, 1))).any():
        raise ValueError(f"label of patient {label.index[odd][0]} is {label[odd].iloc[0]:g}, not 0 or 1")
    clinical.columns = [plain(name).replace(" ", "_").replace("-", "_") for name in clinical]
    _refuse_outcome(clinical, label, folder / "clinical.csv")
    names = list(read_texts(folder / NAMES)) if (folder / NAMES).is_file() else []
    tables, note = {"clinical": clinical}, ""
    for modality in ("ct", "pet"):
        parts = []
        for phase in PHASES[when]:
            path = folder / f"{modality}_fea_{phase}.csv.gz"
            part = _lro_table(path)
            if list(part.index) != list(label.index):
                odd = sorted(set(part.index) ^ set(label.index)) or ["in another order"]
                raise ValueError(
                    f"{path} and clinical.csv do not have the same patients: {', '.join(odd[:3])}"
                )
            _refuse_outcome(part, label, path)
            if len(set(names)) == len(names) == part.shape[1]:
                part = part.set_axis(names, axis=1)
            else:
                note = f"{NAMES} has {len(names)} names for {part.shape[1]} features: features are numbered"
            parts.append(part.add_prefix(f"{phase}_") if when == "both" else part)
        tables[modality] = pd.concat(parts, axis=1)
    return tables, label, note


def _lro_table(path: Path) -> pd.DataFrame:
    path = path if path.is_file() else path.with_suffix("")  # .csv for .csv.gz
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: run `make data COHORT=lro`")
    cells = _by_patient(read_columns(path, dtype={"patient": str}), path)
    return _numbers(cells, np.zeros(cells.shape, bool), path)


def _refuse_outcome(table: pd.DataFrame, label: pd.Series, path: Path) -> None:
    """Refuse a column of two values, one for each outcome."""
    for name, column in table.items():
        if column.nunique() == 2 and label.nunique() == 2 and (column.groupby(label).nunique() == 1).all():
            raise ValueError(
                f"{path}: column {name} is the outcome itself, as the last column of the repository's sheets is: "
                "remove it"
            )


SITES = ("new_tumor_event_site", "new_tumor_event_site_other")
STAGES = ("ajcc_pathologic_tumor_stage", "clinical_stage")


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
    """
    table = read_cdr(path)
    table = table[table["cancer"] == "STAD"].reset_index(drop=True)
    if patients is not None:
        wanted = set(patients)
        if gone := sorted(wanted - set(table["patient"])):
            raise ValueError(f"{path} has no STAD patient {gone[0]} ({len(gone)} such patients)")
        table = table[table["patient"].isin(wanted)].reset_index(drop=True)
    texts = [table[name].fillna("").astype(str) for name in SITES]
    liver = texts[0].str.contains("liver", case=False) | texts[1].str.contains("liver", case=False)
    event = liver & (table["new_tumor_event_type"].str.strip().str.casefold() != "new primary tumor")
    day = table["new_tumor_event_dx_days_to"]
    if (odd := event & ~(day >= 0)).any():
        raise ValueError(f"{path}: the liver metastasis of {table['patient'][odd].iloc[0]} has no day")
    last = pd.concat([table["os_days"], table["pfi_days"], day], axis=1).max(axis=1)
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
            "event_site": [" ".join(filter(None, pair)) for pair in zip(*texts, strict=True)],
            "problem": np.where(event | last.notna(), "", "no follow-up"),
        }
    )
