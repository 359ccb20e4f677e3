"""Raw tables of a cohort with several modalities -> patients, their outcome, their fold and one table a modality.

What must not be an input, and why (PORPOISE's tables; each is said in the table of columns that stage 1 shows):

- `site` is the hospital, whose death rate alone has a c-index of .77 in GBMLGG: kept beside the outcome for analyses
  by site, never in a modality.
- `train` is the authors' own split and carries outcome; the number of the row is the order of barcodes, hence of sites.
- Rows are slides: molecular columns do not vary within a patient, who counts once.
- Many columns of copy number are identical: one of each remains.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.data import RAW, fetch_all
from lib.files import opened, written_hdf5
from lib.fusion.params import GENE_GROUPS, MODALITIES, FusionParams
from lib.fusion.phantom import CANCER, write_phantom
from lib.inputs import tcga
from lib.inputs.tables import Faults, check_once, column_report, nearest_name, read_columns
from lib.names import some
from lib.stage import Stage
from lib.statistics.concordance import harrell
from lib.training.folds import folds_of, stratified_folds
from lib.training.published_folds import read_folds, with_folds, with_outcomes

SUFFIXES = {"_rnaseq": "rna", "_cnv": "copy_number", "_mut": "mutations"}
CLINIC = ("age", "female", "stage", "grade")
NEVER = {
    "site": "the hospital, which tells who dies: kept for analyses by site, never an input",
    "train": "somebody's split, which may carry the outcome (PORPOISE's does): never an input",
    "Unnamed: 0": "the row's number, sorted by site: never an input",
}
READ = ("case_id", "slide_id", "survival_months", "censorship", "age", "is_female", "oncotree_code")
GLIOBLASTOMA = 4.0  # its grade by definition, which TCGA-CDR leaves empty
LEAST_KNOWN = 0.5  # of the patients of several cancers together: a column known for fewer is left out


class Patients(NamedTuple):
    """A cohort.

    Attributes
    ----------
    table : DataFrame
        One row a patient (index `patient`): cancer, time (months), event (1 died, 0 censored; of a binary outcome the
        label), fold, which holds the patient out; of TCGA also site and metastasis (1: a slide of one); where rows are spots
        or the like, `person` is whose they are.
    blocks : dict of str to DataFrame
        Modality, in the order of the tokens -> its columns of numbers, same index. A row without any number: the patient
        lacks the modality.
    """

    table: pd.DataFrame
    blocks: dict[str, pd.DataFrame]


class Read(NamedTuple):
    """The patients of a cohort, and what was left out or is odd: cancer, what, number, remark."""

    patients: Patients
    remarks: pd.DataFrame


def read_cohort(stage: Stage) -> Read:
    """The raw tables of a stage's cohort: fetched, or drawn for a phantom, then read.

    Raises
    ------
    ValueError
        See `read_porpoise` and `read_own`; or no cancer has `least_events`.
    """
    params, rows = stage.params, []
    if params.table:
        path = stage.reads(RAW / params.table)
        patients, remarks = read_own(path, params)
        rows += [(params.cohort, *remark) for remark in remarks]
    else:
        patients = _of_porpoise(stage, rows)
    return Read(patients, pd.DataFrame(rows, columns=["cancer", "what", "number", "remark"]))


def _of_porpoise(stage: Stage, rows: list[tuple]) -> Patients:
    """The patients of PORPOISE's tables, or of a phantom in the same form; remarks go to `rows`."""
    params, raw, folder = stage.params, RAW, RAW / stage.params.porpoise
    cancers, paths = params.cancers, params.clinical_tables
    if params.phantom:
        raw = stage.folder / "raw"
        folder, cancers, paths = raw / "porpoise", [CANCER], ["clinical.csv"]
        write_phantom(folder, params.phantom)
    else:
        fetch_all("bench")  # a cohort of another study may have the cancer's name
    groups = read_signatures(stage.reads(folder / "datasets_csv" / "signatures.csv"))
    clinic = [tcga.read_cdr(stage.reads(raw / path)) for path in paths]
    clinic = pd.concat(clinic).set_index("patient") if clinic else None
    parts = {}
    for cancer in cancers:
        table = stage.reads(folder / "datasets_csv_mutsig" / f"tcga_{cancer}_all_clean.csv.zip")
        part, remarks = read_porpoise(table, groups, clinic)
        official = folder / "splits" / "5foldcv" / f"tcga_{cancer}"
        for path in sorted(official.glob("splits_*.csv")):
            stage.reads(path)
        folds, said = with_outcomes(read_folds(official), part.table.index)
        part = _only(part, with_folds(part.table, folds).dropna(subset="fold").assign(cancer=cancer))
        remarks += [("folds", len(said), remark) for remark in said]
        if fault := too_few(part.table, params.least_events):
            remarks.append(("left out", len(part.table), fault))
        else:
            parts[cancer] = part
        rows += [(cancer, *remark) for remark in remarks]
    if not parts:
        raise ValueError(
            f"{params.cohort}: {rows[-1][-1]}; lower `least_events`, or pool cancers as pan does"
        )
    return next(iter(parts.values())) if len(parts) == 1 else pooled(parts, rows)


def _only(patients: Patients, table: pd.DataFrame) -> Patients:
    return Patients(table, {name: block.loc[table.index] for name, block in patients.blocks.items()})


def read_signatures(path: str | Path) -> dict[str, list[str]]:
    """Genes of each token of `GENE_GROUPS`, from PORPOISE's signatures.csv: one column a group, a gene may be in several.

    ValueError: a group is missing, or has no gene.
    """
    table = read_columns(path, dtype=str)
    if absent := [name for name in GENE_GROUPS if name not in table or table[name].isna().all()]:
        raise ValueError(
            f"{path} has no genes of the group {absent[0]}: fetch PORPOISE's signatures.csv again"
        )
    return {token: list(dict.fromkeys(table[of].dropna().str.strip())) for of, token in GENE_GROUPS.items()}


def read_porpoise(
    path: str | Path, groups: Mapping[str, Sequence[str]], clinic: pd.DataFrame | None = None
) -> tuple[Patients, list[tuple]]:
    """One cancer of PORPOISE: `tcga_<cancer>_all_clean.csv.zip`, one row a slide.

    Parameters
    ----------
    path : path
    groups : mapping
        See `read_signatures`.
    clinic : DataFrame, optional
        TCGA-CDR by patient, for stage and grade.

    Returns
    -------
    patients : Patients
        Without folds.
    remarks : list of tuple
        what, number, remark.

    Raises
    ------
    ValueError
        See `lib.inputs.tcga.read_outcomes` and `by_patient`; or a molecular column varies within a patient, holds text, or
        there is nothing but the clinic.
    """
    slides = tcga.read_outcomes(path)
    table = tcga.by_patient(slides).set_index("patient")
    table = table.rename(columns={"time_months": "time"})
    table["metastasis"] = (slides["sample"] == "metastasis").groupby(slides["patient"]).any().astype(int)
    raw = read_columns(path, low_memory=False)
    raw.index = pd.Index(slides["patient"], name="patient")
    kinds = {name: next((k for s, k in SUFFIXES.items() if name.endswith(s)), "") for name in raw}
    remarks = [("slides", len(raw), f"rows of {len(table)} patients: each counts once")]
    remarks += [(name, 1, reason) for name, reason in NEVER.items() if name in raw]
    unknown = [name for name, kind in kinds.items() if not kind and name not in {*READ, *NEVER}]
    if unknown:
        remarks.append(("unknown columns", len(unknown), f"left out: {some(unknown, 5)}"))
    if late := int(table["metastasis"].sum()):
        remarks.append(("late entry", late, "patients with a metastasis's slide: they had lived to have one"))
    facts, said = _clinic(table, clinic)
    blocks, remarks = {"clinic": facts}, remarks + said
    for kind in SUFFIXES.values():
        columns = [name for name, its in kinds.items() if its == kind]
        block = _by_patient(raw[columns], table.index, path).rename(columns=lambda n: n.rpartition("_")[0])
        block, said = _distinct(block, kind) if kind == "copy_number" else (block, [])
        remarks += said
        if block.shape[1] == 0:
            remarks.append((kind, 0, "no such column: the modality is absent"))
        elif kind == "rna":
            blocks |= _grouped(block, groups, remarks)
        else:
            blocks[kind] = block
    blocks, said = _without_empty(blocks)
    if len(blocks) < 2:
        raise ValueError(
            f"{path} has no column of RNA (_rnaseq), copy number (_cnv) or mutations (_mut): nothing to fuse"
        )
    return Patients(table, blocks), remarks + said


def _clinic(table: pd.DataFrame, cdr: pd.DataFrame | None) -> tuple[pd.DataFrame, list[tuple]]:
    """age, female, stage and grade (1 to 4) of patients, with what is odd: a stage that is not known is missing."""
    facts, remarks = table[["age", "female"]].copy(), []
    if cdr is not None:
        absent = table.index.difference(cdr.index)
        if len(absent):
            remarks.append(("clinic", len(absent), "patients are not in TCGA-CDR: no stage and grade"))
        if odd := tcga.contradicted(table, cdr):
            remarks.append(
                (
                    "outcome",
                    len(odd),
                    f"TCGA-CDR says otherwise whether they died, the table is kept: {some(odd, 5)}",
                )
            )
        staged = [name for name in ("ajcc_pathologic_tumor_stage", "clinical_stage") if name in cdr]
        facts["stage"] = tcga.first_known(cdr, staged).reindex(table.index) if staged else np.nan
        if "histological_grade" in cdr:
            grade = cdr["histological_grade"].map(tcga.grade_number)
            facts["grade"] = grade.mask(cdr["cancer"] == "GBM", GLIOBLASTOMA).reindex(table.index)
    for name in facts.columns[facts.notna().any()]:
        if missing := int(facts[name].isna().sum()):
            remarks.append((name, missing, "patients without it take the median of the training patients"))
    return facts.astype(float), remarks


def _by_patient(rows: pd.DataFrame, patients: pd.Index, path: str | Path) -> pd.DataFrame:
    """The first row of each patient; ValueError where a later one differs, or a cell is no number."""
    texts = rows.select_dtypes(exclude="number").columns
    for name in texts:
        rows = rows.assign(**{name: pd.to_numeric(rows[name], errors="coerce")})
    first = rows[~rows.index.duplicated()].loc[patients]
    values, repeated = rows.to_numpy(float), first.loc[rows.index].to_numpy(float)
    differ = ~((values == repeated) | np.isnan(values) & np.isnan(repeated))
    if differ.any():
        row, column = np.argwhere(differ)[0]
        raise ValueError(
            f"{path}: slides of patient {rows.index[row]} disagree in {rows.columns[column]}; correct the table"
        )
    return first.astype(float)


def _distinct(block: pd.DataFrame, kind: str) -> tuple[pd.DataFrame, list[tuple]]:
    """One of each set of identical columns."""
    again = pd.DataFrame(block.to_numpy().T).duplicated().to_numpy()
    said = [(kind, int(again.sum()), f"columns equal another one: {int((~again).sum())} remain")]
    return block.loc[:, ~again], said if again.any() else []


def _grouped(
    block: pd.DataFrame, groups: Mapping[str, Sequence[str]], remarks: list[tuple]
) -> dict[str, pd.DataFrame]:
    """RNA as one table a group of genes; a gene stands in each of its groups."""
    named = {gene for genes in groups.values() for gene in genes}
    if stray := [gene for gene in block if gene not in named]:
        remarks.append(("rna", len(stray), f"genes are in no group and left out: {some(stray, 5)}"))
    found = {name: [gene for gene in genes if gene in block] for name, genes in groups.items()}
    return {name: block[genes] for name, genes in found.items() if genes}


def _without_empty(blocks: Mapping[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], list[tuple]]:
    """Blocks without the columns that no patient has, in the order of the tokens."""
    kept, remarks = {}, []
    for name, block in blocks.items():
        empty = list(block.columns[block.isna().all()])
        if empty:
            remarks.append((name, len(empty), f"columns without any value are left out: {some(empty, 5)}"))
        if len(empty) < block.shape[1]:
            kept[name] = block.drop(columns=empty)
            lacking = int(kept[name].isna().all(axis=1).sum())
            remarks += [(name, lacking, "patients lack the modality")] if lacking else []
    return kept, remarks


def too_few(table: pd.DataFrame, least_events: int) -> str:
    """Why a cohort is too small to be asked, in words; "" where it is not."""
    events = int(table["event"].sum())
    if events < least_events:
        return f"{events} events, fewer than {least_events}"
    held = table.groupby("fold")["event"].sum() if "fold" in table else pd.Series(dtype=int)
    for fold, count in held.items():
        if count in (0, events):
            said = (
                "no event, so it has no c-index" if count == 0 else "every event, so nothing is left to learn"
            )
            return f"fold {fold} holds out {said}"
    return ""


def pooled(parts: Mapping[str, Patients], rows: list[tuple]) -> Patients:
    """Several cancers as one cohort: cancer type goes into the clinic; columns that few patients have are left out."""
    table = pd.concat([part.table for part in parts.values()])
    if table.index.has_duplicates:
        raise ValueError(
            f"patient {table.index[table.index.duplicated()][0]} stands in two cancers: correct the tables"
        )
    blocks = {}
    for name in MODALITIES:
        having = [part.blocks[name] for part in parts.values() if name in part.blocks]
        if not having:
            continue
        block = pd.concat(having)
        known = block.notna().mean()
        scarce = known.index[known < LEAST_KNOWN] if name != "clinic" else known.index[:0]
        if len(scarce):
            said = f"columns are known for fewer than {LEAST_KNOWN:.0%}: left out"
            rows.append(("all", name, len(scarce), said))
        blocks[name] = block.drop(columns=scarce).reindex(table.index)
    kinds = pd.get_dummies(table["cancer"], prefix="cancer", dtype=float)
    blocks["clinic"] = blocks["clinic"].join(kinds)
    blocks, said = _without_empty(blocks)
    rows += [("all", *remark) for remark in said]
    return Patients(table, blocks)


def read_own(path: str | Path, params: FusionParams) -> tuple[Patients, list[tuple]]:
    """A table of anybody: patient, time_months and event (binary: label), perhaps fold, and the columns of `modalities`.

    Rows are patients, or spots and the like where a column `case` names them; folds keep a patient's rows together.

    Raises
    ------
    ValueError
        All that is wrong, a line each: a column is missing or holds text, a row stands twice, a patient is in two folds, too
        few events.
    """
    table, faults = read_columns(path, dtype={"patient": str, "case": str, "fold": str}), Faults()
    outcome = ["event"] if params.outcome == "binary" else ["time_months", "event"]
    table = table.rename(columns={"label": "event"}) if params.outcome == "binary" else table
    needed = ["patient", *outcome]
    key = "case" if "case" in table else "patient"
    faults += [f"{path} has no column {name}" for name in needed if name not in table]
    if key in table:
        check_once(table[key].fillna(""), path, faults, key)
        table = table.set_index(table[key].rename("patient"), drop=False)
    for name in {*outcome} & {*table}:
        table[name] = pd.to_numeric(table[name], errors="coerce")
        wrong = ~table[name].isin((0, 1)) if name == "event" else ~(table[name] >= 0)
        if wrong.any():
            kind = "0 or 1" if name == "event" else "months, 0 or more,"
            faults.append(
                f"{path}: {name} of {some(table.index[wrong])} is no {kind}: correct it, or leave the row out"
            )
    blocks, used = {}, {"patient", "case", "time_months", "event", "fold", "cancer", *NEVER}
    for name, patterns in params.modalities.items():
        for pattern in patterns:
            if pattern in NEVER:
                faults.append(f"{path}: {pattern} in the modality {name}: {NEVER[pattern]}; take it out")
            elif not any(fnmatchcase(column, pattern) for column in table):
                faults.append(
                    f"{path} has no column {pattern} of the modality {name}{nearest_name(pattern, table.columns)}"
                )
        found = [c for c in table if c not in used and any(fnmatchcase(c, pattern) for pattern in patterns)]
        blocks[name] = table[found].apply(_numbers, path=path, faults=faults)
        used |= {*found}
    faults.refuse()
    person = table["patient"]
    if not (fault := too_few(table, params.least_events)) and "fold" not in table:
        strata = table["event"].groupby(person.to_numpy()).max().to_dict()
        folds = stratified_folds(person.to_dict(), strata, params.folds, params.seed)
        table["fold"] = table.index.map({one: fold.name for fold in folds for one in fold.test})
        fault = too_few(table, params.least_events)
    if fault:
        faults.append(f"{path}: {fault}; lower `least_events`, or ask for fewer `folds`")
    form = [block for name, block in blocks.items() if name.startswith("clin")]
    odd = column_report(pd.concat([table.filter(["time_months"]), *form], axis=1), path).query("remark != ''")
    parts = table["fold"].groupby(person.to_numpy()).nunique() if "fold" in table else pd.Series(dtype=int)
    faults += [
        f"{path}: patient {one} is in {count} folds: put all rows of a patient into one"
        for one, count in parts[parts > 1].items()
    ]
    faults.refuse()
    remarks = [(name, 1, reason) for name, reason in NEVER.items() if name in table]
    remarks += odd[["column", "known", "remark"]].itertuples(index=False, name=None)
    if unknown := [name for name in table if name not in used and not name.startswith("Unnamed:")]:
        remarks.append(("unknown columns", len(unknown), f"of no modality, left out: {some(unknown, 5)}"))
    blocks, said = _without_empty(blocks)
    about = {"cancer": table.get("cancer", params.cohort), "time": table.get("time_months", np.nan)}
    kept = table[["event", "fold", *(["site"] if "site" in table else [])]].assign(**about)
    if key == "case":
        kept["person"] = person
    return Patients(kept, blocks), remarks + said


def _numbers(column: pd.Series, path: str | Path, faults: Faults) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    if (wrong := ~np.isfinite(numbers) & column.notna()).any():
        said = f"{path}: {column.name} of {some(column.index[wrong])} is {str(column[wrong].iloc[0])!r}"
        faults.append(f"{said}: write numbers with a point, categories as numbers")
    return numbers.astype(float)


# ------------------------------------------------------------------------------------------- what stage 1 leaves


def write_patients(stage: Stage, patients: Patients) -> None:
    """Write cohort.csv, and blocks/<modality>.h5 of each modality: values (float32), patients, columns."""
    stage.write(patients.table.reset_index(), "cohort.csv")
    for old in (stage.folder / "blocks").glob("*.h5"):  # of a run with other modalities
        old.unlink()
    for name, block in patients.blocks.items():
        write_block(stage.file(f"blocks/{name}.h5"), block)


def read_patients(stage: Stage) -> Patients:
    """What `write_patients` wrote, modalities in the order of the tokens."""
    table = stage.read("cohort.csv")
    table = table.set_index(table.columns[0])
    paths = {path.stem: path for path in (stage.folder / "blocks").glob("*.h5")}
    order = stage.params.modalities or MODALITIES
    blocks = {name: read_block(stage.reads(paths[name])) for name in order if name in paths}
    return Patients(table, {name: block.loc[table.index] for name, block in blocks.items()})


def write_block(path: str | Path, block: pd.DataFrame) -> None:
    """One modality's table: rows are named by its index, columns by their names."""
    with written_hdf5(path) as file:
        file.create_dataset("values", data=block.to_numpy(np.float32), compression="gzip", compression_opts=1)
        file["rows"], file["columns"] = list(map(str, block.index)), list(map(str, block.columns))


def read_block(path: str | Path) -> pd.DataFrame:
    """What `write_block` wrote; ValueError where it is something else."""
    with opened(path, "a modality's table", "run 1-preprocess again") as file:
        values, rows, columns = file["values"][:], file["rows"].asstr()[:], file["columns"].asstr()[:]
    return pd.DataFrame(values, rows, columns).rename_axis("patient")


PRIOR = 5.0  # patients' worth of the cohort's own rate that a hospital's rate is pulled by


def by_site(table: pd.DataFrame) -> pd.DataFrame:
    """How well the hospital alone orders patients, for one who cheats: cancer, hospitals, c_index (mean over the folds).

    A held-out patient has the share of events among the training patients of the same hospital, pulled towards that of
    all. A table without `site`, or an outcome without times, has no rows.
    """
    rows = []
    for cancer, part in table.groupby("cancer") if {"site", "time"} <= {*table} else ():
        values = []
        for fold in folds_of(part):
            train, test = part.loc[[*fold.train]], part.loc[[*fold.test]]
            rate = train["event"].mean()
            sums = train.groupby("site")["event"].agg(["sum", "size"])
            rates = (sums["sum"] + PRIOR * rate) / (sums["size"] + PRIOR)
            values.append(harrell(test["time"], test["event"], test["site"].map(rates).fillna(rate)))
        rows.append({"cancer": cancer, "hospitals": part["site"].nunique(), "c_index": np.mean(values)})
    return pd.DataFrame(rows, columns=["cancer", "hospitals", "c_index"])
