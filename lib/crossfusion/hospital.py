"""A made-up hospital: its slides and one table, with three things that real ones have; `make hospital STUDY=crossfusion`."""

from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from lib.files import write_csv
from lib.phantoms.slides import write_pyramid, write_slide

PATIENTS = 12
NO_SCALE, NOT_THERE = "S23-104 A2", "S23-107 A2"


def write_hospital(folder: Path) -> None:
    """Write twelve patients, two of whom have a second slide: one whose file holds no scale, and one that is not there."""
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
