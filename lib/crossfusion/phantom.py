"""Phantom patients whose time to death depends on age, on stage and on something their slides would show."""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.files import write_csv

MEDIAN_MONTHS = 30.0  # of a patient whose risk is average
FOLLOW_UP = (6.0, 120.0)  # months until the study ends for a patient, uniform
CANCERS = ("phantom-a", "phantom-b")
STAGES = ("Stage I", "Stage II", "Stage III", "Stage IV")


def patients(
    n: int = 240,
    seed: int = 7,
    age_effect: float = 0.4,
    stage_effect: float = 0.4,
    slide_effect: float = 0.8,
) -> pd.DataFrame:
    """Draw a cohort: exponential times whose log hazard is linear in what is planted, censored at random.

    Parameters
    ----------
    n : int
    seed : int
    age_effect, stage_effect, slide_effect : float
        Log hazard ratio per standard deviation of age, stage, and the slide's hidden pattern; all 0 in a null
        cohort, where nothing tells who dies early.

    Returns
    -------
    DataFrame
        patient, cancer (every second one each of `CANCERS`), age (years), female (0 or 1), stage; fine and coarse
        (standard normal: what the slides show at 20x only and at 5x only) and pattern, their sum over the root of 2,
        which is what a slide model should find; time (months), event (1 died), log_hazard.
    """
    random = np.random.default_rng(seed)
    age, fine, coarse = random.normal(size=(3, n))
    pattern = (fine + coarse) / np.sqrt(2)
    stage = random.integers(1, 5, n)
    log_hazard = age_effect * age + stage_effect * (stage - 2.5) / np.sqrt(1.25) + slide_effect * pattern
    death = random.exponential(MEDIAN_MONTHS / np.log(2) * np.exp(-log_hazard))
    end = random.uniform(*FOLLOW_UP, n)
    return pd.DataFrame(
        {
            "patient": [f"PHANTOM-{number:04d}" for number in range(n)],
            "cancer": [CANCERS[number % 2] for number in range(n)],
            "age": np.clip(np.round(62 + 11 * age), 20, 95),
            "female": random.integers(0, 2, n),
            "stage": [STAGES[number - 1] for number in stage],
            "fine": fine,
            "coarse": coarse,
            "pattern": pattern,
            "time": np.round(np.minimum(death, end), 2),
            "event": (death <= end).astype(int),
            "log_hazard": log_hazard,
        }
    )


def write_cohort(folder: Path, cohort: pd.DataFrame, seed: int = 7) -> None:
    """Write a phantom cohort as TCGA's tables are written: outcomes (one row a slide), clinical table, predictions.

    Every fifth patient has two slides. `predictions.csv` holds two models' risks for every patient: "seen", the
    hidden pattern with noise, and "blind", noise alone.
    """
    random = np.random.default_rng([seed, 1])
    copies = np.where(np.arange(len(cohort)) % 5 == 0, 2, 1)
    slides = cohort.loc[cohort.index.repeat(copies)].reset_index(drop=True)
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
    clinical = pd.DataFrame(
        {
            "bcr_patient_barcode": cohort["patient"],
            "type": "PHANTOM",
            "ajcc_pathologic_tumor_stage": cohort["stage"],
        }
    )
    write_csv(clinical, folder / "clinical.csv")
    noise = random.normal(size=(2, len(cohort)))
    risks = {"seen": cohort["pattern"] + 0.7 * noise[0], "blind": noise[1]}
    tables = [
        pd.DataFrame({"model": model, "patient": cohort["patient"], "risk": risk})
        for model, risk in risks.items()
    ]
    write_csv(pd.concat(tables, ignore_index=True), folder / "predictions.csv")
