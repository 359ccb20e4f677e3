"""Phantom patients: time to death depends on age, on stage and on something their slides would show; a made-up hospital."""

from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from lib.files import write_csv
from lib.phantoms.slides import write_pyramid, write_slide

MEDIAN_MONTHS = 30.0  # of a patient whose risk is average
FOLLOW_UP = (6.0, 120.0)  # months until the study ends for a patient, uniform
CANCERS = ("phantom-a", "phantom-b")
STAGES = ("Stage I", "Stage II", "Stage III", "Stage IV")


def planted_patients(
    patients: int, seed: int, age_effect: float = 0.4, stage_effect: float = 0.4, slide_effect: float = 0.8
) -> pd.DataFrame:
    """Draw a cohort: exponential times whose log hazard is linear in what is planted, censored at random.

    Effects are log hazard ratios per standard deviation of age, stage, and the slide's hidden pattern; all 0 in a null
    cohort, where nothing tells who dies early. Columns are patient, cancer (every second one each of `CANCERS`), age (years),
    female (0 or 1), stage; fine and coarse (standard normal: what the slides show at 20x only and at 5x only) and pattern,
    their sum over the root of 2, which is what a slide model should find; time (months), event (1 died), log_hazard.
    """
    random = np.random.default_rng(seed)
    age, fine, coarse = random.normal(size=(3, patients))
    pattern = (fine + coarse) / np.sqrt(2)
    stage = random.integers(1, 5, patients)
    log_hazard = age_effect * age + stage_effect * (stage - 2.5) / np.sqrt(1.25) + slide_effect * pattern
    death = random.exponential(MEDIAN_MONTHS / np.log(2) * np.exp(-log_hazard))
    end = random.uniform(*FOLLOW_UP, patients)
    return pd.DataFrame(
        {
            "patient": [f"PHANTOM-{number:04d}" for number in range(patients)],
            "cancer": [CANCERS[number % 2] for number in range(patients)],
            "age": np.clip(np.round(62 + 11 * age), 20, 95),
            "female": random.integers(0, 2, patients),
            "stage": np.take(STAGES, stage - 1),
            "fine": fine,
            "coarse": coarse,
            "pattern": pattern,
            "time": np.round(np.minimum(death, end), 2),
            "event": (death <= end).astype(int),
            "log_hazard": log_hazard,
        }
    )


def write_planted(folder: Path, cohort: pd.DataFrame, seed: int) -> None:
    """Write a phantom cohort as TCGA's tables are written: outcomes (one row a slide), clinical table, predictions.

    Every fifth patient has two slides. `predictions.csv` holds two models' risks for every patient: "seen", the
    hidden pattern with noise, and "blind", noise alone.
    """
    slides = cohort.loc[cohort.index.repeat(np.where(np.arange(len(cohort)) % 5 == 0, 2, 1))]
    number = slides.groupby("patient").cumcount() + 1
    outcomes = pd.DataFrame(
        {
            "case_id": slides["patient"],
            "slide_id": slides["patient"] + "-01Z-00-DX" + number.astype(str) + ".svs",
            "oncotree_code": slides["cancer"],
            "site": "PH",
            "is_female": slides["female"].astype(float),
            "age": slides["age"],
            "survival_months": slides["time"],
            "censorship": 1.0 - slides["event"],
        }
    )
    write_csv(outcomes, folder / "outcomes.csv")
    names = ["bcr_patient_barcode", "ajcc_pathologic_tumor_stage"]
    clinical = cohort[["patient", "stage"]].set_axis(names, axis=1)
    write_csv(clinical.assign(type="PHANTOM"), folder / "clinical.csv")
    noise = np.random.default_rng([seed, 1]).normal(size=(2, len(cohort)))
    risks = {"seen": cohort["pattern"] + 0.7 * noise[0], "blind": noise[1]}
    tables = [cohort[["patient"]].assign(risk=risk).assign(model=model) for model, risk in risks.items()]
    tables = pd.concat(tables, ignore_index=True)[["model", "patient", "risk"]]
    write_csv(tables, folder / "predictions.csv")


PATIENTS = 12
NO_SCALE, NOT_THERE = "S23-104 A2", "S23-107 A2"


def write_hospital(folder: Path) -> None:
    """Write a made-up hospital's files, of twelve patients, two of whom have a second slide: one whose file holds no scale, and one that is not there."""
    random, rows = np.random.default_rng(5), []
    for number in range(PATIENTS):
        patient, died = f"Pat. {number + 1}", number % 2
        seen = np.round(random.uniform(4, 60) if died else random.uniform(61, 90), 1)
        age = int(random.integers(45, 85))
        about = {"time_months": seen, "event": died, "age": age, "female": number % 3 % 2}
        for block in ("A1", "A2") if number in (4, 7) else ("A1",):
            slide = f"S23-{100 + number} {block}"
            rows.append({"patient": patient, "slide": slide, **about, "hospital": "North"})
            if slide != NOT_THERE:
                path = folder / "slides" / f"{slide}.tif"
                morphology = {"fine": float(random.normal()), "coarse": float(random.normal())}
                write_slide(path, **morphology, cancer=0, seed=len(rows), side_px=1024)
                if slide == NO_SCALE:
                    with tifffile.TiffFile(path) as file:
                        levels = [page.asarray() for page in file.pages]
                    write_pyramid(path, levels, None)
    table = pd.DataFrame(rows)
    table.loc[table["patient"] == "Pat. 3", "age"] = np.nan
    write_csv(table, folder / "patients.csv")
