"""A made-up hospital: films of CT perfusion and one table, with four things that real ones have; `make hospital
STUDY=stroke`."""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.files import write_csv, write_json
from lib.inputs.volumes import Volume, write_volume
from lib.stroke.phantom import draw
from lib.stroke.phantom_scan import Scan, anatomy, series
from lib.stroke.series import write_series

PATIENTS, FRAMES = 14, 44
UNEVEN, IN_VOLUMES, BLANK, NO_FILM, NO_OUTCOME = 1, 2, 4, 8, 9
TICI = {0: "2a", 1: "2b", 2: "3"}


def write_hospital(folder: Path) -> None:
    """Write fourteen patients: one film with a frame a second and then every third, one whose last frame is blank, a patient
    without a film and one without an outcome; one film is a folder of volumes that does not say its times."""
    rows = []
    for number, row in enumerate(draw(PATIENTS, 3).itertuples(index=False)):
        name, film, interval_s = f"patient_{number + 1}", "", ""
        if number != NO_FILM:
            head = anatomy([9, number], (10, 40, 40), row.core_ml, row.penumbra_ml, row.side)
            scanned = series(head, Scan(frames=FRAMES), [9, 1, number])
            film, path = f"films/{name}.nii.gz", folder / "films" / name
            if number == UNEVEN:
                kept = np.r_[:32, 32:FRAMES:3]
                scanned = scanned._replace(values=scanned.values[kept])
                write_json({"FrameTimesStart": kept.tolist()}, path.with_suffix(".json"))
            if number == BLANK:
                scanned.values[-1] = 0
            if number == IN_VOLUMES:
                film, interval_s = f"films/{name}", 1
                for frame, values in enumerate(scanned.values):
                    write_volume(path / f"ctp_{frame}.nii.gz", Volume(values, scanned.geometry), "int16")
            else:
                write_series(folder / film, scanned, "int16")
        form = {"age": int(row.age), "nihss": int(row.nihss), "sex": "FM"[int(row.male)], "ward": "3B"}
        form |= {"onset_to_ctp_min": int(row.onset_to_ctp_min), "mtici": TICI[int(row.mtici)]}
        outcome = "" if number == NO_OUTCOME else (0, 1, 4, 5)[number % 4]
        rows.append({"patient": name, "film": film, "interval_s": interval_s, **form, "mrs": outcome})
    write_csv(pd.DataFrame(rows), folder / "patients.csv")
