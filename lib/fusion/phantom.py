"""Phantom patients in PORPOISE's file formats: what tells who dies early is planted, and known.

The log hazard is a sum of three: the clinic (age and stage), one group of genes (oncogenes) alike in all patients, and
a choice: in tumours of high grade the protein kinases act, in others the cytokines. The first two a linear model can
have; the third needs a model in which one table tells how to read another. All effects 0: nothing tells anything.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from lib.files import write_csv, written
from lib.fusion.params import GENE_GROUPS, Phantom
from lib.training.folds import stratified_folds

CANCER = "phantom"
FOLDS = 5
SIZES = dict(zip(GENE_GROUPS, (12, 24, 24, 16, 8, 24), strict=True))  # genes a group
MEDIAN_MONTHS = 30.0  # of a patient whose risk is average
FOLLOW_UP = (12.0, 120.0)  # months until the study ends for a patient, uniform
LOADING = 0.8  # of a gene on what its group measures
STAGES = ("Stage I", "Stage II", "Stage III", "Stage IV")


def planted_patients(phantom: Phantom) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Patients and what was planted in them, and their molecular columns; see the module.

    Returns
    -------
    patients : DataFrame
        patient, age, female, stage, grade, one column a group of genes (standard normal: what it measures), time (months),
        event (1 died), log_hazard.
    molecules : DataFrame
        Columns named as PORPOISE names them: <gene>_rnaseq, _cnv, _mut.
    """
    random, number = np.random.default_rng(phantom.seed), phantom.patients
    age = random.normal(size=number)
    stage, high = random.integers(1, 5, number), random.integers(0, 2, number)
    factors = {name: random.normal(size=number) for name in GENE_GROUPS}
    clinic = (age + (stage - 2.5) / np.sqrt(1.25)) / np.sqrt(2)
    chosen = np.where(high == 1, factors["Protein Kinases"], factors["Cytokines and Growth Factors"])
    log_hazard = phantom.clinic_effect * clinic + phantom.gene_effect * factors["Oncogenes"]
    log_hazard = log_hazard + phantom.interaction_effect * chosen
    death = random.exponential(MEDIAN_MONTHS / np.log(2) * np.exp(-log_hazard))
    end = random.uniform(*FOLLOW_UP, number)
    patients = pd.DataFrame(
        {
            "patient": [f"PHANTOM-{row:04d}" for row in range(number)],
            "age": np.clip(np.round(62 + 11 * age), 20, 95),
            "female": random.integers(0, 2, number),
            "stage": np.take(STAGES, stage - 1),
            "grade": np.where(high == 1, "High Grade", "Low Grade"),
            **factors,
            "time": np.round(np.minimum(death, end), 2),
            "event": (death <= end).astype(int),
            "log_hazard": log_hazard,
        }
    )
    columns = {}
    for name, genes in genes_of().items():
        for gene in genes:
            noise = random.normal(size=number) * np.sqrt(1 - LOADING**2)
            columns.setdefault(f"{gene}_rnaseq", LOADING * factors[name] + noise)
    table = pd.DataFrame(columns).round(4)
    table.iloc[0, 0] = 36893.0  # upstream's outliers are that far out
    copies = random.integers(-2, 3, (number, 8))
    for column in range(12):  # the last four are the first four again
        table[f"G{column:03d}_cnv"] = copies[:, column % 8]
    for column in range(10):
        table[f"G{column:03d}_mut"] = (random.random(number) < 0.1).astype(int)
    return patients, table


def genes_of() -> dict[str, list[str]]:
    """Genes of each group. As in the real list, every transcription factor is in another group, too."""
    genes, number = {}, 0
    for name, size in SIZES.items():
        genes[name] = [f"G{number + i:03d}" for i in range(size)]
        number += size
    genes["Transcription Factors"] = genes["Cell Differentiation Markers"][: SIZES["Transcription Factors"]]
    return genes


def write_phantom(folder: Path, phantom: Phantom) -> None:
    """Write a phantom as PORPOISE's and TCGA-CDR's tables are written, with their traps.

    Every fifth patient has two slides; `train` follows the outcome and `site` half follows it; rows are sorted by patient;
    columns of copy number are doubled, one cell of RNA is an outlier.
    """
    patients, molecules = planted_patients(phantom)
    twice = np.where(np.arange(len(patients)) % 5 == 0, 2, 1)
    rows = patients.index.repeat(twice)
    slides = patients.loc[rows]
    number = (slides.groupby("patient").cumcount() + 1).astype(str)
    table = pd.DataFrame(
        {
            "case_id": slides["patient"],
            "slide_id": slides["patient"] + "-01Z-00-DX" + number + ".svs",
            "age": slides["age"],
            "site": np.where(rows % 2, "A", np.where(slides["event"], "B", "C")),
            "survival_months": slides["time"],
            "censorship": 1 - slides["event"],
            "is_female": slides["female"],
            "oncotree_code": "PHANTOM",
            "train": slides["event"].astype(float),
        }
    )
    table = pd.concat([table, molecules.loc[rows]], axis=1).reset_index(drop=True)
    _write_zip(table, folder / "datasets_csv_mutsig" / f"tcga_{CANCER}_all_clean.csv.zip")
    signatures = pd.DataFrame({name: pd.Series(genes) for name, genes in genes_of().items()})
    write_csv(signatures, folder / "datasets_csv" / "signatures.csv")
    names = ["bcr_patient_barcode", "ajcc_pathologic_tumor_stage", "histological_grade"]
    clinical = patients[["patient", "stage", "grade"]].set_axis(names, axis=1)
    write_csv(clinical.assign(type="PHANTOM"), folder.parent / "clinical.csv")
    event = patients.set_index("patient")["event"].to_dict()
    for fold in stratified_folds({one: one for one in event}, event, FOLDS, phantom.seed):
        parts = {"train": pd.Series(fold.train), "val": pd.Series(fold.test)}
        place = folder / "splits" / "5foldcv" / f"tcga_{CANCER}"
        write_csv(pd.DataFrame(parts), place / f"splits_{fold.name}.csv")


def _write_zip(table: pd.DataFrame, path: Path) -> None:
    """A table as the only member of a zip; equal content gives equal bytes."""
    image = io.BytesIO()
    with zipfile.ZipFile(image, "w", zipfile.ZIP_DEFLATED) as archive:
        member = zipfile.ZipInfo(path.name.removesuffix(".zip"))  # with the date of 1980
        member.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(member, table.to_csv(lineterminator="\n"))
    with written(path) as part:
        part.write_bytes(image.getvalue())
