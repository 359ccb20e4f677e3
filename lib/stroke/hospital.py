"""A made-up hospital: films of CT perfusion and one table, with four things that real ones have; `make hospital
STUDY=stroke`."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from lib.files import write_csv
from lib.inputs.volumes import Geometry
from lib.stroke.phantom import draw
from lib.stroke.phantom_scan import Scan, anatomy, series

PATIENTS, FRAMES = 14, 44
UNEVEN, BLANK, NO_FILM, NO_OUTCOME = 1, 4, 8, 9
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
            values, kept, sidecar = np.rint(scanned.values).astype(np.int16), np.arange(FRAMES), {}
            if number == UNEVEN:
                kept = np.r_[:32, 32:FRAMES:3]
                sidecar = {"FrameTimesStart": kept.tolist()}
            if number == BLANK:
                values[-1] = 0
            film = f"films/{name}.nii.gz"
            if number == 2:
                film, interval_s = f"films/{name}", 1
                for frame, volume in enumerate(values):
                    _write(folder / film / f"ctp_{frame}.nii.gz", volume, scanned.geometry)
            else:
                _write(folder / film, values[kept], scanned.geometry, 0 if sidecar else 1, sidecar)
        form = {"age": int(row.age), "nihss": int(row.nihss), "sex": "FM"[int(row.male)], "ward": "3B"}
        form |= {"onset_to_ctp_min": int(row.onset_to_ctp_min), "mtici": TICI[int(row.mtici)]}
        outcome = "" if number == NO_OUTCOME else (0, 1, 4, 5)[number % 4]
        rows.append({"patient": name, "film": film, "interval_s": interval_s, **form, "mrs": outcome})
    write_csv(pd.DataFrame(rows), folder / "patients.csv")


def _write(
    path: Path, values: np.ndarray, geometry: Geometry, interval_s: float = 0, sidecar: dict | None = None
) -> None:
    """NIfTI, 3D or 4D with its interval, or with a sidecar as dcm2niix writes one."""
    affine = np.diag([*(np.array(geometry.spacing_mm) * [-1, -1, 1]), 1.0])
    affine[:3, 3] = np.array(geometry.origin_mm) * [-1, -1, 1]
    image = nibabel.Nifti1Image(values.T, affine)
    if interval_s:
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = interval_s
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    if sidecar:
        path.with_name(path.name.removesuffix(".nii.gz") + ".json").write_text(
            json.dumps(sidecar), encoding="utf-8"
        )
