"""A made-up hospital: CT with masks, slides and one table, with four things that real ones have; `make hospital STUDY=gcmlm`."""

from pathlib import Path

import pandas as pd
import SimpleITK as sitk

from lib.files import write_csv
from lib.gcmlm.phantom import FACTORS, draw, write_patient
from lib.inputs.volumes import write_image

PATIENTS, SEED = 12, 25
AWAY, LOST, NOT_THERE, NO_MASK = (f"GC-{number:04d}" for number in (3, 5, 7, 9))


def write_hospital(folder: Path) -> None:
    """Write twelve patients: one mask lies off its scan, one patient has no follow-up, one slide is not there, one scan has
    no mask; another scan is a folder of DICOM."""
    drawn, rows = draw(PATIENTS, 0, SEED), []
    drawn[["has_ct", "slides"]] = 1
    drawn["event"] = drawn.index % 2
    drawn["time_months"] = 12.0 + drawn.index + 20 * (1 - drawn["event"])
    for row in drawn.itertuples(index=False):
        paths = write_patient(folder, row, SEED)
        if row.patient == AWAY:
            mask = sitk.ReadImage(str(paths.mask))
            mask.SetOrigin([place + 1000 for place in mask.GetOrigin()])
            write_image(paths.mask, mask)
        if row.patient == NOT_THERE:
            paths.slides[0].unlink()
        image, mask, slide = (
            path.relative_to(folder).as_posix() for path in (paths.image, paths.mask, paths.slides[0])
        )
        files = {"image": image, "mask": "" if row.patient == NO_MASK else mask, "label": 1, "slides": slide}
        form = {name: getattr(row, name) for name in ("patient", *FACTORS, "time_months", "event")}
        rows.append(form | files)
    table = pd.DataFrame(rows)
    table.loc[table["patient"] == LOST, "time_months"] = float("nan")
    write_csv(table, folder / "patients.csv")
