"""TCGA's tables of outcomes: follow-up by slide and by patient, the pan-cancer clinical table TCGA-CDR, stage and grade.

Where the tables mislead:

- `censorship` is 1 for a *censored* patient; TCGA-CDR's `OS` is 1 for a *dead* one. Here `event` is 1 for the dead.
- Rows are slides: a patient with nine slides would count nine times.
- CrossFusion's table of COAD is keyed by slide (`case_id` is a slide's name); its months are whole, 23 of them 0.
- `site` went through a spreadsheet and lost its zeros ("05" became 5): the barcode has them.
- Ages are missing for some patients (LUAD 10 slides, UCEC 2). They stay missing.

Barcodes: TCGA-SS-PPPP is the patient, SS the tissue source site. Identifiers that are none are taken as they stand.
TCGA-CDR: Liu et al., Cell 173:400 (2018), doi 10.1016/j.cell.2018.02.052.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from lib.files import check_names
from lib.inputs import tables
from lib.inputs.slides import SUFFIXES
from lib.inputs.tables import NO_YES, USUAL, Faults, Usual, code, looked_over, number, read_texts, values

ROMAN = {"I": 1, "II": 2, "III": 3, "IV": 4}
GRADES = {"LOW GRADE": 1, "HIGH GRADE": 3}
DAYS_PER_MONTH = 30.44
DIED = NO_YES | {"alive": 0, "living": 0, "dead": 1, "died": 1, "deceased": 1}
FEMALE = NO_YES | {"male": 0, "m": 0, "female": 1, "f": 1}
MOST_DAYS = 100 * 365  # of a follow-up: more is a date as a spreadsheet stores it, or another unit
RANGES = USUAL | {
    "days": Usual("days", 0, MOST_DAYS, (0, MOST_DAYS)),
    "days before or after": Usual("days", -MOST_DAYS, MOST_DAYS, (-MOST_DAYS, MOST_DAYS)),
}
NEW_TUMOUR_SITES = ("new_tumor_event_site", "new_tumor_event_site_other")
ENDPOINTS = ("OS", "DSS", "DFI", "PFI")
TEXTS = (
    *("ajcc_pathologic_tumor_stage", "clinical_stage", "histological_grade"),
    *("new_tumor_event_type", "new_tumor_event_site", "new_tumor_event_site_other"),
)
SLIDE_FILE = re.compile(rf"({'|'.join(map(re.escape, SUFFIXES))})$", re.IGNORECASE)
SAMPLES = {"01": "primary tumour", "02": "recurrence", "05": "new primary"}
SAMPLES |= {"06": "metastasis", "07": "metastasis"}
NORMAL = {"10": "normal blood", "11": "normal tissue", "12": "normal buccal cells", "13": "normal cells"}
NORMAL |= {"14": "normal marrow", "20": "control"}
"""Sample types of a barcode, TCGA-SS-PPPP-tt; what is normal says nothing about a tumour."""

BARCODE = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?![A-Z0-9])")


def stage_number(text: object) -> float:
    """Stage I to IV as 1 to 4, substages (IIA, IIIC2) with their stage; NaN where there is none.

    "Stage X", "[Not Available]", "[Discrepancy]" and empty fields are missing, not a stage.
    """
    found = re.fullmatch(r"(?:STAGE\s+)?(IV|I{1,3})(?:[ABC]\d?)?", str(text).strip().upper())
    return float(ROMAN[found[1]]) if found else np.nan


def grade_number(text: object) -> float:
    """Grade G1 to G4 as 1 to 4, "Low Grade" as 1, "High Grade" as 3; NaN where there is none (GX, "[Unknown]")."""
    text = str(text).strip().upper()
    found = re.fullmatch(r"G([1-4])", text)
    return float(found[1]) if found else float(GRADES.get(text, np.nan))


def first_known(table: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Stage from the first of several columns that has one, row by row (AJCC, else clinical)."""
    return table[columns].map(stage_number).bfill(axis=1).iloc[:, 0]


def patient_of(name: str) -> str:
    """Patient of a TCGA barcode, slide name or file name (its first 12 characters); other names are the patient's."""
    found = BARCODE.match(name)
    return found[0] if found else name


def sample_of(slide: str) -> str:
    """Sample type of a TCGA slide, "primary tumour" of TCGA-A6-2683-01Z-00-DX1; "type 61" for a rare one, "" for other names."""
    found = re.match(rf"{BARCODE.pattern}-(\d\d)", slide)
    return (SAMPLES | NORMAL).get(found[1], f"type {found[1]}") if found else ""


def site_of(patient: str) -> str:
    """Tissue source site of a TCGA barcode, "A6" of TCGA-A6-2683; a ValueError where the name is none."""
    if not BARCODE.match(patient):
        raise ValueError(f"{patient} is no TCGA barcode (TCGA-A6-2683): its tissue source site is unknown")
    return patient[5:7]


def outcomes_at(path: str | Path) -> Path:
    """The table of outcomes at `path`, which may be .xlsx instead, or the one of PORPOISE that it was taken from.

    `survival/tcga_blca_survival.csv` is eight columns of PORPOISE's table, published nowhere. Where it is missing,
    `porpoise/datasets_csv_mutsig/tcga_blca_all_clean.csv.zip` beside `survival/` serves; `make data` fetches either.
    """
    path = Path(path)
    path = tables.table_in(path.parent, path.stem) if path.suffix == ".csv" else path
    name = path.name.replace("_survival.csv", "_all_clean.csv.zip")
    whole = path.parent.parent / "porpoise" / "datasets_csv_mutsig" / name
    if there := [one for one in (path, whole) if one.is_file()]:
        return there[0]
    if name == path.name:
        raise FileNotFoundError(f"{path} is not there")
    raise FileNotFoundError(f"neither {path} nor {whole}, which it was taken from, is there: run `make data`")


def read_outcomes(path: str | Path) -> pd.DataFrame:
    """Read a table of slides with the follow-up of their patients, a csv or a zip of one; see `outcomes_at`.

    Its columns are case_id, slide_id, survival_months, censorship (1 = censored) and, where known, age, is_female, site,
    oncotree_code; or, as a hospital has them, patient, slide (its file's name), time_months, event (1 or dead) and, where
    known, age, female, hospital. Others (omics) are not read.

    Returned is one row a slide, in the file's order: patient, slide (without .svs, .ndpi, ...), sample (type, see `sample_of`),
    time_months (float, 0 or longer), event (int, 1 died, 0 censored), age (years, NaN where missing), female (1.0, 0.0, NaN),
    site (tissue source site), oncotree_code ("" where missing). A ValueError where a column is missing, a slide stands twice
    or under another TCGA patient's barcode, follow-up is missing, negative or longer than a life, an age above 120, or
    censorship is neither 0 nor 1.
    """
    path, wrong = outcomes_at(path), Faults()
    theirs = ["case_id", "slide_id", "survival_months", "censorship", "age", "is_female", "site"]
    own = ["patient", "slide", "time_months", "event", "age", "female", "hospital"]
    table = read_texts(path, [*theirs, *own, "oncotree_code"])
    ours = "case_id" not in table
    names = own if ours else theirs
    if (lacking := [name for name in names[:4] if name not in table]) or table.empty:
        said = f"rows of {', '.join(own[:4])}, or of TCGA's {', '.join(theirs[:4])}, are expected"
        said += f"; no column {', '.join(lacking)} among {tables.some(read_texts(path))}" if lacking else ""
        raise ValueError(f"{path} is no table of slides with follow-up: {said}")
    cells = table.reindex(columns=[*names, "oncotree_code"]).fillna("")
    case, slide = cells[names[0]], cells[names[1]].str.replace(SLIDE_FILE, "", regex=True)
    for what, each in (("patient", case), ("slide", slide)):
        _check_barcodes(each, path, wrong, what)
    patient = case.map(patient_of)
    barcode = patient.str.match(BARCODE)
    foreign = (slide.map(patient_of) != patient) & slide.str.match(BARCODE) & barcode
    wrong += [f"{path}: slide {one} stands twice" for one in slide[slide.duplicated()]]
    wrong += [f"{path}: slide {one} is another patient's" for one in slide[foreign]]
    cells = cells.set_axis(patient)
    months = _numbers(cells[names[2]], path, wrong, "time_months", needed=True)
    outcome = _numbers(cells[names[3]], path, wrong, levels=DIED if ours else NO_YES, needed=True)
    found = pd.DataFrame(
        {
            "patient": patient,
            "slide": slide,
            "sample": slide.map(sample_of),
            "time_months": months,
            "event": outcome if ours else 1 - outcome,
            "age": _numbers(cells[names[4]], path, wrong, "age"),
            "female": _numbers(cells[names[5]], path, wrong, levels=FEMALE),
            "site": cells[names[6]].set_axis(patient.index).mask(barcode, patient.str[5:7]),
            "oncotree_code": cells["oncotree_code"].to_numpy(),
        }
    )
    if wrong:
        with wrong.held():
            by_patient(found)
    wrong.refuse()
    return found.astype({"event": int})


def by_patient(table: pd.DataFrame) -> pd.DataFrame:
    """One row a patient from `read_outcomes`' rows a slide, in the order of first appearance.

    Columns patient, slides (how many), time_months, event, age, female, site, oncotree_code. A ValueError where slides of
    one patient disagree in any of them.
    """
    facts = ["time_months", "event", "age", "female", "site", "oncotree_code"]
    groups = table.groupby("patient", sort=False)
    kinds = groups[facts].nunique(dropna=False).gt(1).stack()
    Faults(
        f"patient {patient}: slides disagree in {fact}, {found}; correct the table"
        for patient, fact in kinds.index[kinds]
        if (found := table.loc[table["patient"] == patient, fact].unique().tolist())
    ).refuse()
    rows = table.drop_duplicates("patient").set_index("patient")[facts]
    rows.insert(0, "slides", groups.size())
    return rows.reset_index()


def read_cdr(path: str | Path) -> pd.DataFrame:
    """Read TCGA-CDR, one row a patient: a csv with bcr_patient_barcode and type; the other columns are optional.

    Returned are patient, cancer (type), age (years at diagnosis), female (1.0, 0.0, NaN); for os, dss, dfi, pfi, where the
    table has them, `os_event` (1 = dead; for the others 1 = what the endpoint waits for) and `os_days`, both NaN where missing;
    stage, grade and new tumour events under their own names, texts as they stand, "" where empty. A ValueError for a patient
    twice, an event neither 0 nor 1, or a negative time; a KeyError for another table.
    """
    table, wrong = read_texts(path), Faults()
    patient = table["bcr_patient_barcode"]
    _check_barcodes(patient, path, wrong, "patient")
    wrong += [f"{path}: patient {one} stands twice" for one in patient[patient.duplicated()]]
    cells = table.set_axis(patient)
    columns = {"patient": patient.to_numpy(), "cancer": table["type"].to_numpy()}
    if (age := "age_at_initial_pathologic_diagnosis") in table:
        columns["age"] = _numbers(cells[age], path, wrong, "age")
    if "gender" in table:
        columns["female"] = _numbers(cells["gender"], path, wrong, levels={"female": 1, "male": 0})
    for name in ENDPOINTS:
        if name in table and f"{name}.time" in table:
            columns[f"{name.lower()}_event"] = _numbers(cells[name], path, wrong)
            columns[f"{name.lower()}_days"] = _numbers(cells[f"{name}.time"], path, wrong, "days")
    columns |= {name: table[name].to_numpy() for name in TEXTS if name in table}
    if (days := "new_tumor_event_dx_days_to") in table:
        columns[days] = _numbers(cells[days], path, wrong, "days before or after")
    wrong.refuse()
    return pd.DataFrame({name: np.asarray(each) for name, each in columns.items()})


def liver_metastasis(table: pd.DataFrame) -> pd.DataFrame:
    """Time to a metastasis of the liver, of rows of `read_cdr`: time_months (from diagnosis to the event or to the last day the
    patient is known of: the largest of OS, PFI and the new tumour's; NaN where none is known) and event (1 metastasis).

    An event is a new tumour whose site, or whose other site, names the liver, unless its type is a new primary tumour and
    nothing else. Only the first new tumour is recorded.
    """
    liver = np.logical_or.reduce([table[name].str.contains("liver", case=False) for name in NEW_TUMOUR_SITES])
    event = liver & (table["new_tumor_event_type"].str.strip().str.casefold() != "new primary tumor")
    day = table["new_tumor_event_dx_days_to"]
    last = pd.concat([table["os_days"], table["pfi_days"], day], axis=1).max(axis=1)
    days = day.where(event & (day >= 0)).where(event, last)
    return pd.DataFrame({"time_months": days / DAYS_PER_MONTH, "event": event.astype(int)})


def contradicted(cohort: pd.DataFrame, cdr: pd.DataFrame) -> list[str]:
    """Patients whom a cohort says dead and TCGA-CDR alive, or the reverse; both tables (`event`, `os_event`) are indexed by
    patient. ValueError where these are most of those that both know: `censorship` is then coded the other way round.
    """
    if "os_event" not in cdr:
        return []
    theirs = cdr["os_event"].reindex(cohort.index).dropna()
    differ = cohort["event"].reindex(theirs.index) != theirs
    if differ.sum() > theirs.size / 2:
        raise ValueError(
            f"TCGA-CDR contradicts the outcome of {int(differ.sum())} of {theirs.size} patients, such as "
            f"{differ.idxmax()}: is `censorship` 1 for the dead? Here it is 1 for a censored patient"
        )
    return list(theirs.index[differ])


def _check_barcodes(names: pd.Series, path: str | Path, wrong: Faults, what: str) -> None:
    """Names that are none, and barcodes typed otherwise than TCGA-A6-2683, which nobody would recognise."""
    if len(blank := np.flatnonzero(names == "") + 2):
        wrong.append(
            f"{path}: row {tables.some(blank)} names no {what} (of merged cells only the first does)"
        )
    with wrong.held():
        check_names(names[names != ""], path, what, zeros=False)
    typed = names.str.upper().str.match(BARCODE) & ~names.str.match(BARCODE)
    wrong += [f"{path}: {one!r} is a barcode in small letters: write {one.upper()}" for one in names[typed]]


def _numbers(
    cells: pd.Series,
    path: str | Path,
    wrong: Faults,
    kind: str = "",
    levels: Mapping[str, int] = NO_YES,
    needed: bool = False,
) -> pd.Series:
    """A column (indexed by patient) of a `kind` of `RANGES`, or of the codes of `levels`; what cannot be goes to `wrong`."""
    read = number if kind else partial(code, levels=levels)
    found = values(cells, f"{path}: {cells.name} of", wrong, read, needed)
    if kind:
        with wrong.held():
            looked_over(found[~found.index.duplicated()], f"{path}: {cells.name}", RANGES[kind])
    return found.reset_index(drop=True)
