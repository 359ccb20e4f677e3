"""From raw files to one table of patients: cohorts, who counts as a metachronous liver metastasis, and what was read.

- `read_matched`: a folder that says which scans and slides belong to which patient, and what became of the patient.

      clinical.csv   patient, hospital, clinical factors, time_months, event
      scans.csv      patient, image, mask, label, series, use      where there is CT
      slides.csv     patient, slide, path, um_per_px       where there are slides

  Or `patients.csv` has the columns of clinical.csv and those of the tables that are not there: image, mask, label, series and
  slides (paths, separated by ;), um_per_px (of all the patient's slides). Each may be .xlsx too. Paths count from the folder
  and stay in it. A patient may be without a scan or a slide.
- `read_lro`: head-and-neck radiomics of CT and PET with locoregional recurrence (Wang et al., arXiv 2208.14452,
  repository wangkaiwan/LRO_ReliableRadiomics; 150 of its 224 patients). Yes or no is all that is known. In the
  repository's own sheets the last column of features is the outcome itself, so those sheets are not read.
- `read_stad`: liver metastasis in TCGA-STAD, from the new tumour events of TCGA-CDR (Liu et al., Cell 173:400, 2018,
  doi 10.1016/j.cell.2018.02.052). A demonstration: one event a patient is recorded, so "free" means free of a liver
  metastasis as the first event; days count from diagnosis, not from surgery; nobody looked for metastases by protocol.
- `read_feature_table`: features of one modality that were made elsewhere, one row a patient.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.data import fetch_all, read_sources
from lib.files import size_of
from lib.gcmlm.ct import MEASURED
from lib.inputs.slides import check_scales
from lib.inputs.tables import (
    NO_YES,
    Faults,
    check_once,
    code,
    column_report,
    files_named,
    is_missing,
    nearest_name,
    number,
    plain,
    read_texts,
    table_in,
    values,
)
from lib.inputs.tcga import (
    NORMAL,
    first_known,
    grade_number,
    liver_metastasis,
    read_cdr,
    read_outcomes,
    sample_of,
    site_of,
)
from lib.params import ROOT
from lib.stage import Stage

POSITIVE, NEGATIVE = "metastasis", "free"
SYNCHRONOUS, CENSORED = "synchronous", "censored early"
SCANS = ["patient", "image", "mask", "label", "series", "problem"]
SLIDES = ["patient", "slide", "path", "um_per_px", "problem"]
MISTYPED = re.compile(r"\s*(=.*|@.*|[+-]?\d+,\d+|\d{4}[-/.]\d\d?[-/.]\d\d?.*|\d\d?[-/.]\d\d?[-/.]\d{2,4}.*)")
"""No category: a formula, a number with a decimal comma, a date."""


class Cohort(NamedTuple):
    """What a cohort holds.

    `patients`: one row a patient, in the table's order: patient, hospital ("" where unknown), the factors (float64, or texts of
    a category with None where missing), time_months (0 or more), event (1.0, 0.0), NaN where missing; problem ("no follow-up",
    or ""). `scans`: patient, image, mask ("" where none is named), label (its row's, else that of all), series (of a folder that
    holds several, see `lib.inputs.dicom.read_dicom`; ""), problem. `slides`: patient, slide, path, um_per_px (µm per level-0
    pixel, NaN where the file itself has to tell), problem. Paths begin with the folder; `problem` says why a file cannot be
    used, "" if nothing is known against it. `given`: modality -> table of features made elsewhere, indexed by patient.
    `columns`: one row a clinical column of numbers, see `lib.inputs.tables.column_report`.
    """

    patients: pd.DataFrame
    scans: pd.DataFrame
    slides: pd.DataFrame
    given: dict[str, pd.DataFrame]
    columns: pd.DataFrame


def raw_folder(stage: Stage) -> Path:
    """Where a matched cohort's files lie: below the results where a phantom is made, else in data/raw."""
    params = stage.params
    return stage.folder / "raw" if params.phantom else ROOT / "data" / "raw" / params.matched_cohort


def read_cohort(stage: Stage) -> Cohort:
    """Read the cohort that the parameters name; patients who cannot be used are printed and left out."""
    params, data = stage.params, ROOT / "data" / "raw"
    if params.cohort in read_sources().cohorts:
        fetch_all(params.cohort)
    scans, slides, given = pd.DataFrame(columns=SCANS), pd.DataFrame(columns=SLIDES), {}
    if params.lro_folder:
        given, label = read_lro(data / params.lro_folder)
        patients = label.reset_index().assign(hospital="", problem="")
    elif params.stad_table:
        with_slides = read_outcomes(stage.reads(data / params.stad_slides))["patient"]
        patients = read_stad(stage.reads(data / params.stad_table), with_slides)
    else:
        matched = read_matched(raw_folder(stage), params.factors, params.mapping, label=params.mask_label)
        patients, scans, slides, *_ = matched
        check_scales(params.um_per_px, slides["slide"])
        sample = slides["slide"].map(sample_of)
        if not params.normal_tissue:
            normal = sample.isin(NORMAL.values()) & (slides["problem"] == "")
            slides.loc[normal, "problem"] = sample[normal] + ", left out: normal_tissue: true would keep it"
        for kind, count in sample[sample != ""].value_counts().items():
            print(f"{count} slides of {kind}")
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
    return Cohort(patients, scans, slides, given, _columns(patients, params.cohort))


def metachronous(
    time_months: pd.Series,
    event: pd.Series,
    earliest_months: float = 6.0,
    least_follow_up_months: float = 24.0,
) -> pd.DataFrame:
    """Binary label of metachronous liver metastasis: label (1.0, 0.0 or NaN) and status, by patient.

    Metachronous is later than six months after surgery (Ding et al., Nature Communications 2026, doi
    10.1038/s41467-026-76382-x, at second hand). What the paper does with patients who were followed for a short time is
    not known: here they are neither yes nor no. `time_months` is from surgery to the metastasis (`event` 1) or the last look.

    ============== ===== =============================================================================
    status         label
    ============== ===== =============================================================================
    metastasis     1     seen later than `earliest_months`
    free           0     followed without it for `least_follow_up_months`
    synchronous    NaN   seen at or before `earliest_months`: to be left out of every analysis
    censored early NaN   free when last seen, but not followed long enough: for time-to-event only
    ============== ===== =============================================================================
    """
    seen = event == 1
    rules = [seen & (time_months <= earliest_months), seen, time_months >= least_follow_up_months]
    kinds = np.select(rules, [SYNCHRONOUS, POSITIVE, NEGATIVE], CENSORED)
    status = pd.Series(kinds, event.index, dtype=object)
    return pd.DataFrame({"label": status.map({POSITIVE: 1.0, NEGATIVE: 0.0}), "status": status})


# ------------------------------------------------------------------------------------------------- a matched cohort


def read_matched(
    folder: str | os.PathLike,
    factors: Sequence[str] = (),
    mapping: Mapping[str, str] | None = None,
    *,
    label: int | str = 1,
) -> Cohort:
    """Read a matched cohort. A file that is named and is not there is reported in its row; all else is refused.

    Of the `factors` wanted a column whose cells are all numbers, or missing, is a number; one without any number is a category.
    `mapping` has, for patient, hospital, time_months, event or a factor, the name of its column in the clinical table; `label` is
    the region of a mask where the table of scans does not say.

    A ValueError for a patient twice, or none named; a factor that is no column, with the nearest name; a cell that is no number
    in a column of numbers, or one that nobody has, or a code of what is missing (`lib.inputs.tables.looked_over`); a scan or
    slide of a patient the clinical table does not have; two scans of a patient, unless a column `use` says yes to one; a slide
    twice; a path that leaves the folder.
    """
    folder, wrong = Path(folder), Faults()
    several, alone = ([path.name for path in folder.glob(f"{name}.*")] for name in ("clinical", "patients"))
    if several and alone:
        raise ValueError(f"{folder} has both {several[0]} and {alone[0]}: remove one")
    one = not several
    path = table_in(folder, "patients" if one else "clinical")
    table = read_texts(path)
    patients = _patients(table, path, factors, mapping or {}, wrong)
    if one:
        files = table.drop(columns=[name for name in table if plain(name) == "patient"])
        table = files.assign(patient=patients["patient"].to_numpy()).drop_duplicates("patient")
    columns = scans = slides = None
    with wrong.held():
        columns = _columns(patients, path)
    known, held = set(patients["patient"]), (table, path) if one else None
    with wrong.held():
        scans = _scans(folder, known, label, held, wrong)
    with wrong.held():
        slides = _slides(folder, known, held, wrong)
    wrong.refuse()
    return Cohort(patients, scans, slides, {}, columns)


def _columns(patients: pd.DataFrame, source: str | os.PathLike) -> pd.DataFrame:
    numbers = patients.set_index("patient", drop=False).drop(columns=["event", "label"], errors="ignore")
    return column_report(numbers, source)


def _column(table: pd.DataFrame, name: str, path: Path) -> pd.Series:
    """The column of this name, however its case and spaces are spelled."""
    spelled = next((column for column in table if plain(column) == plain(name)), None)
    if spelled is None:
        raise ValueError(f"{path} has no column {name}{nearest_name(name, table.columns)}")
    return table[spelled].reset_index(drop=True)


def _patients(
    table: pd.DataFrame, path: Path, factors: Sequence[str], mapping: Mapping, wrong: Faults
) -> pd.DataFrame:
    wanted = ("patient", "hospital", *factors, "time_months", "event")
    names = {name: mapping.get(name, name) for name in wanted}
    if lost := sorted(set(mapping) - set(names)):
        raise ValueError(f"mapping names {lost[0]}, not asked for{nearest_name(lost[0], names)}")
    if "hospital" not in mapping and "hospital" not in map(plain, table):
        table = table.assign(hospital="")
    cells = dict.fromkeys(names, pd.Series("", range(len(table))))
    for name, column in names.items():
        with wrong.held():
            cells[name] = _column(table, column, path)
    patient = cells["patient"]
    check_once(patient, path, wrong)
    people = {"patient": patient, "hospital": _spelled_alike(cells["hospital"])}
    cells = {name: column.set_axis(patient) for name, column in cells.items()}
    people |= {name: _factor(cells[name], f"{path}: {name} of patient", wrong) for name in factors}
    for name, read in (("time_months", number), ("event", partial(code, levels=NO_YES))):
        people[name] = values(cells[name], f"{path}: {name} of patient", wrong, read).to_numpy()
    lost = np.isnan(people["time_months"]) | np.isnan(people["event"])
    return pd.DataFrame(people | {"problem": np.where(lost, "no follow-up", "")})


def _spelled_alike(cells: pd.Series) -> pd.Series:
    """Texts, those that differ in case or spaces alone as the first of them; "" where missing."""
    first: dict[str, str] = {}
    return cells.map(lambda text: "" if is_missing(text) else first.setdefault(plain(text), text))


def _factor(cells: pd.Series, what: str, wrong: Faults) -> np.ndarray:
    """Numbers, NaN where missing; or, where no cell is a number and none a mistyped one, texts and None."""
    faults, texts = Faults(), cells[~cells.map(is_missing)]
    found = values(cells, what, faults).to_numpy()
    measured = texts.str.match(r"[<>]?\s*\d").all() and texts.nunique() > 10  # as 8.9 ng/ml
    if faults and np.isnan(found).all() and not measured and not texts.str.fullmatch(MISTYPED).any():
        return np.array([text or None for text in _spelled_alike(cells)], dtype=object)
    known = int(np.isfinite(found).sum())
    others = f", as {known} others are" if known else ""
    said = f"{others}; correct the table: numbers with a point, no units, no formulas, no dates"
    wrong += [each + said for each in faults]
    return found


def _scans(folder: Path, known: set[str], label: int | str, one: tuple | None, wrong: Faults) -> pd.DataFrame:
    """At most one scan a patient."""
    rows, path = _rows(folder, "scans", "image", ("mask", "label", "series", "use"), known, one, wrong)
    rows = rows.set_index("patient", drop=False)
    if not (rows["use"] == "").all():
        used = values(rows["use"], f"{path}: use of patient", wrong, partial(code, levels=NO_YES))
        rows = rows[used == 1]
    counts = rows["patient"].value_counts(sort=False)
    wrong += [
        f"{path}: patient {patient} has {count} scans: remove all but one, or add a column use with yes for the one to take"
        for patient, count in counts[counts > 1].items()
    ]
    masked = rows["mask"] != ""
    rows["image"], rows["problem"] = files_named(folder, rows["image"], path, "image", wrong)
    rows["mask"], problem = files_named(folder, rows["mask"], path, "mask", wrong)
    rows["problem"] = np.where(masked & (rows["problem"] == ""), problem, rows["problem"])
    rows["label"] = [text or label for text in rows["label"]]
    return rows[SCANS].reset_index(drop=True)


def _slides(folder: Path, known: set[str], one: tuple | None, wrong: Faults) -> pd.DataFrame:
    rows, path = _rows(folder, "slides", "path", ("slide", "um_per_px"), known, one, wrong)
    stems = rows["path"].map(lambda text: PurePosixPath(text.replace("\\", "/")).stem)
    rows["slide"] = rows["slide"].where(rows["slide"] != "", stems)
    check_once(rows["slide"], path, wrong, "slide", zeros=False)
    cells = rows["um_per_px"].set_axis(rows["slide"])
    rows["um_per_px"] = values(cells, f"{path}: um_per_px of slide", wrong).to_numpy()
    cells = rows["path"].set_axis(rows["patient"])
    rows["path"], rows["problem"] = files_named(folder, cells, path, "slide", wrong)
    return rows[SLIDES]


def _rows(
    folder: Path,
    name: str,
    file: str,
    others: Sequence[str],
    known: set[str],
    one: tuple | None,
    wrong: Faults,
) -> tuple[pd.DataFrame, Path]:
    """A table of files, "" where it lacks a column or a cell is empty, of patients that are known; none where it is not.

    `file` is the column of the files. `one` is the table of patients, with its path, which has the columns of the files
    that no other table has.
    """
    alone = list(folder.glob(f"{name}.*"))
    if one and not alone:
        table, path = one
        listed = [column for column in table if plain(column) == ("slides" if name == "slides" else file)]
        cells = table[listed[0]] if listed else pd.Series("", table.index)
        table = table.drop(columns=listed).assign(**{file: cells.str.split(";")}).explode(file)
        table[file] = table[file].str.strip()
        table = table[~table[file].map(is_missing)]
    elif not alone:
        return pd.DataFrame(columns=["patient", file, *others], dtype=str), folder / name
    else:
        path = table_in(folder, name)
        table = read_texts(path)
    table = table.assign(**{each: "" for each in others if each not in map(plain, table)})
    rows = pd.DataFrame({each: _column(table, each, path) for each in ("patient", file, *others)})
    rows = rows.map(lambda text: "" if is_missing(text) else text)
    wrong += [
        f"{path}: patient {patient or '(none)'} is not in the clinical table{nearest_name(patient, known)}"
        for patient in sorted(set(rows["patient"]) - known)
    ]
    return rows, path


# ------------------------------------------------------------------------------------------------- features, public sets


def read_feature_table(path: str | os.PathLike) -> pd.DataFrame:
    """Read features of one modality, csv or xlsx: float64, indexed by patient (str), NaN where a cell says that it is empty.

    A column patient, in whatever case, and numbers. Columns that PyRadiomics adds about itself (diagnostics_...) are
    left out.
    """
    texts, wrong = read_texts(path), Faults()
    patient = _column(texts, "patient", path).rename("patient")
    check_once(patient, path, wrong)
    cells = texts.set_axis(patient)
    wanted = [n for n in texts if plain(n) != "patient" and not plain(n).startswith("diagnostics_")]
    found = {name: values(cells[name], f"{path}: {name} of patient", wrong) for name in wanted}
    wrong.refuse()
    return pd.DataFrame(found, cells.index)


def read_lro(folder: str | Path) -> tuple[dict[str, pd.DataFrame], pd.Series]:
    """Read the head-and-neck tables: of scans before radiotherapy, by which recurrence is predicted before treatment.

    `folder` has clinical.csv (patient, ten factors, label) and {ct,pet}_fea_pre.csv.gz (patient, 257 features), and
    RadiomicsFeatureName.xlsx, one row of names, where it is there. Returned are the tables "clinical" (small letters: t_stage,
    hpv_status, age in years), "ct", "pet": float64, patients (str) as index, features named as in the sheet, which says SUV for
    CT too (there it is HU); and the label by patient, 1 locoregional recurrence, 0 none.
    """
    tables = {}
    for name, file in (("clinical", "clinical.csv"), ("ct", "ct_fea_pre.csv"), ("pet", "pet_fea_pre.csv")):
        path = Path(folder) / file
        path = path if path.is_file() else path.with_name(f"{file}.gz")
        tables[name] = read_feature_table(path)
    clinical = tables["clinical"]
    label = clinical.pop("label")
    if (odd := ~label.isin((0, 1))).any():
        raise ValueError(f"label of patient {label.index[odd][0]} is {label[odd].iloc[0]:g}, not 0 or 1")
    clinical.columns = [plain(name).replace(" ", "_").replace("-", "_") for name in clinical]
    if (names := Path(folder) / "RadiomicsFeatureName.xlsx").is_file():
        tables |= {name: tables[name].set_axis(list(read_texts(names)), axis=1) for name in ("ct", "pet")}
    return tables, label


STAGES = ("ajcc_pathologic_tumor_stage", "clinical_stage")


def read_stad(path: str | Path, patients: Iterable[str] | None = None) -> pd.DataFrame:
    """Read time to liver metastasis and clinical factors of TCGA's gastric cancers, of `patients` or of all, in its order.

    An event is a new tumour whose site, or whose other site, names the liver, unless its type is a new primary tumour and
    nothing else: 29 of 443 patients, and 25 of the 349 for whom PORPOISE's table has slides. `path` is
    tcga/tcga_cdr_subset.csv, or TCGA-CDR as csv.

    Columns: patient; hospital (tissue source site); age (years), male (1.0, 0.0), stage (1 to 4, AJCC, substages with their
    stage), grade (1 to 3), NaN where missing; time_months (from diagnosis to the event or to the last day the patient is known
    of: the largest of OS, PFI and the new tumour's); event (1 liver metastasis); problem ("", or "no follow-up" where no day is
    known).
    """
    table = read_cdr(path)
    table = table[table["cancer"] == "STAD"]
    if patients is not None:
        table = table[table["patient"].isin(set(patients))]
    outcome = liver_metastasis(table)
    return pd.DataFrame(
        {
            "patient": table["patient"],
            "hospital": table["patient"].map(site_of),
            "age": table["age"],
            "male": 1.0 - table["female"],
            "stage": first_known(table, [name for name in STAGES if name in table]),
            "grade": table["histological_grade"].map(grade_number),
            **outcome,
            "problem": np.where(outcome["time_months"].notna(), "", "no follow-up"),
        }
    ).reset_index(drop=True)


# ------------------------------------------------------------------------------------------------- what was read


def written_as(path: str | os.PathLike, folders: Sequence[Path]) -> str:
    """A path relative to the first of the folders that it lies below, so that no table names this machine's folders."""
    folder = next(folder for folder in folders if Path(path).is_relative_to(folder))
    return Path(path).relative_to(folder).as_posix()


def found_at(text: str, folders: Sequence[Path]) -> Path:
    """The file or folder that `written_as` wrote down; the first of the folders that has it."""
    return next((folder / text for folder in folders if (folder / text).exists()), folders[0] / text)


def known_by(row: pd.Series, path: str) -> dict[str, object]:
    """What the work on a scan or slide depends on: its file's size, and what its row says of it."""
    said = {name: row[name] for name in ("label", "series", "um_per_px") if name in row}
    return {"bytes": size_of(row[path])} | said


def scan_report(
    stage: Stage, scans: pd.DataFrame, looked: Iterable[str], folders: Sequence[Path]
) -> pd.DataFrame:
    """The table of scans with what was read of each (`looked`: units "scans/PATIENT", a json each), or why it was not."""
    facts = [json.loads((stage.folder / f"{unit}.json").read_text(encoding="utf-8")) for unit in looked]
    # a scan that failed has none: without these types the regions of all others would become "1.0", which is no label
    facts = pd.DataFrame(facts, columns=["patient", "region", *MEASURED])
    facts = facts.astype({"region": object, "voxels": "Int64"})
    report = scans[["patient", "image", "mask", "series", "problem"]].merge(facts, on="patient", how="left")
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
    """The table of slides with the status of each tiling (`grids`: slide -> TileGrid), the share of tissue that its tiles
    cover, or why it failed.
    """
    rows = []
    for row in slides.itertuples():
        if grid := grids.get(row.slide):
            covered = round(grid.coverage.get(stage.params.scale, np.nan), 3)
            seen = (grid.status, grid.um_per_px, len(grid.tiles[stage.params.scale]), covered, grid.note)
        else:
            status = "left out" if row.problem.startswith("left out") else "failed"
            seen = (status, np.nan, 0, np.nan, row.problem or _why(stage, f"tiles/{row.slide}", folders))
        rows.append((row.patient, row.slide, written_as(row.path, folders), *seen))
    columns = ["patient", "slide", "path", "status", "um_per_px", "tiles", "coverage", "note"]
    return pd.DataFrame(rows, columns=columns)


def _why(stage: Stage, unit: str, folders: Sequence[Path]) -> str:
    """Why a unit failed, without the folders of this machine."""
    reason = stage.failed.get(unit, "")
    for folder in folders:
        reason = reason.replace(f"{folder}/", "")
    return reason
