"""Stage and grade as clinics write them, in order."""

import re

import numpy as np
import pandas as pd

ROMAN = {"I": 1, "II": 2, "III": 3, "IV": 4}
GRADES = {"LOW GRADE": 1, "HIGH GRADE": 3}


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
    stages = pd.DataFrame({column: table[column].map(stage_number) for column in columns})
    return stages.bfill(axis=1).iloc[:, 0]
