"""Liver metastasis in TCGA-STAD, from TCGA-CDR's first new tumour events. A demonstration, not a validation.

- TCGA-CDR (Liu et al., Cell 173:400, 2018, doi 10.1016/j.cell.2018.02.052) holds one new tumour event a patient: a
  metastasis of the liver that came after another event is not recorded, so "free" means free of a liver metastasis as
  the first event.
- Days count from the diagnosis, not from surgery, and follow-up is short: most patients free of an event were not
  seen for two years.
- Metastases were reported by many hospitals, not looked for by a protocol; stage IV at diagnosis is in the table.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from lib.inputs.staging import first_known, grade_number
from lib.inputs.tcga import DAYS_PER_MONTH, read_cdr, site_of

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
