"""A made-up hospital: sections of two platforms and one table, with two things that real ones have; `make hospital
STUDY=spacrd`."""

from pathlib import Path

import pandas as pd

from lib.files import write_csv
from lib.spacrd.phantom import write_cohort


def write_hospital(folder: Path) -> None:
    """Write six sections of six patients, three in the layout of HER2ST and three of Space Ranger.

    Of the latter one is given the labels of another, and one has a spot without counts in its table of labels.
    """
    small = {"seed": 11, "patients": 3, "spots_side": 10, "effect": 1.5, "genes": 200}
    old, new = (write_cohort(folder, platform=platform, **small) for platform in ("st", "visium"))
    table = pd.concat([old, new], ignore_index=True).assign(label_grade="pathologist", note="")
    table.loc[4, "labels"] = table.loc[5, "labels"]
    with open(folder / table.loc[3, "labels"], "a", encoding="utf-8") as labels:
        labels.write("ACGTACGTACGTACGT-1,connective tissue\n")
    write_csv(table, folder / "sections.csv")
