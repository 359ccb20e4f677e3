"""A phantom's scan as a scanner sends it: one DICOM file a slice."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from lib.inputs.geometry import Geometry, image_of

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
INTERCEPT = -1024  # HU of a stored 0


def write_dicom(folder: str | os.PathLike, values: np.ndarray, geometry: Geometry, patient: str) -> None:
    """Write a volume as one DICOM series, all slices or none; a series already there is replaced.

    Equal arguments give equal bytes: identifiers come from the patient's name, and the date is always the same. The files'
    names run against the slices' order, as nothing but their position tells it.

    Parameters
    ----------
    folder : path
    values : ndarray of int16, shape (z, y, x)
        HU.
    geometry : Geometry
        LPS.
    patient : str
        PatientID.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    image = image_of(values, geometry)
    x_mm, y_mm, z_mm = geometry.spacing_mm
    series = _uid(patient)
    common = {
        "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
        "0008|0016": CT_STORAGE,
        "0008|0020": "20260102",  # else GDCM writes today's
        "0008|0030": "120000",
        "0008|0060": "CT",
        "0008|103e": "phantom abdomen",
        "0010|0010": "PHANTOM",
        "0010|0020": patient,
        "0018|0050": f"{z_mm:g}",
        "0018|0088": f"{z_mm:g}",
        "0020|000d": f"{series}.1",
        "0020|000e": f"{series}.2",
        "0020|0011": "1",
        "0020|0037": "1\\0\\0\\0\\1\\0",
        "0020|0052": f"{series}.3",
        "0028|0030": f"{y_mm:g}\\{x_mm:g}",
        "0028|1052": f"{INTERCEPT}",
        "0028|1053": "1",
        "0028|1054": "HU",
    }
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as room:
        part = Path(room) / "series"
        part.mkdir()
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        count = geometry.size[2]
        for k in range(count):
            cut, place = image[:, :, k : k + 1], geometry.points(np.array([[0, 0, k]]))[0]
            own = {
                "0008|0018": f"{series}.4.{k + 1}",
                "0020|0013": str(k + 1),
                "0020|0032": "\\".join(f"{each:.6g}" for each in place),
            }
            for tag, value in (common | own).items():
                cut.SetMetaData(tag, value)
            writer.SetFileName(str(part / f"IM{count - k:04d}.dcm"))
            writer.Execute(cut)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(part, folder)


def _uid(patient: str) -> str:
    """Below 2.25, the root of identifiers that anybody may make; short enough for what is added."""
    return f"2.25.{int(hashlib.sha256(patient.encode()).hexdigest()[:24], 16)}"
