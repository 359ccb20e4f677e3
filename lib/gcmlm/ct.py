"""A CT scan and the region of it that is studied: Hounsfield units verified, the mask at its place."""

import os
from pathlib import Path

import numpy as np

from lib.inputs.dicom import read_dicom
from lib.inputs.hounsfield import check_hounsfield
from lib.inputs.masks import read_label
from lib.inputs.volumes import Volume, read_volume

MEASURED = ("stored_as", "size", "spacing_mm", "tilt_deg", "voxels", "volume_ml", "mean_hu", "sd_hu")


def read_ct(path: str | os.PathLike, oblique: str = "refuse") -> Volume:
    """Read a CT scan in HU: a folder with one DICOM series, or one file (.nii, .nii.gz, .nrrd, .mha).

    `oblique`: see `lib.inputs.volumes.upright`. Values that are no HU are refused by `check_hounsfield`.
    """
    volume = read_dicom(path, oblique=oblique) if Path(path).is_dir() else read_volume(path, oblique)
    check_hounsfield(volume.values, path)
    return volume


def read_region(
    image: str | os.PathLike,
    mask: str | os.PathLike,
    label: int | str | None = 1,
    *,
    oblique: str = "keep",
    resample: bool = False,
) -> tuple[Volume, np.ndarray]:
    """Read a scan, and a region bool (z, y, x) that is laid on it by its place in the patient.

    Parameters
    ----------
    image : path
        See `read_ct`.
    mask : path
    label : int or str, optional
        Number or name, see `lib.inputs.masks.read_label`; None: everything above 0.
    oblique : "keep" | "refuse" | "resample"
        "resample" puts the scan on another grid, so its mask then needs `resample` too.
    resample : bool
        Bring a mask from another grid over; else that is refused.
    """
    volume = read_ct(image, oblique)
    return volume, read_label(mask, volume.geometry, label, resample)


def measured(volume: Volume, mask: np.ndarray) -> dict[str, object]:
    """What a scan and its region, not empty, say of themselves, for the table of scans: `MEASURED`, HU and ml rounded."""
    inside, grid = volume.values[mask], volume.geometry
    return {
        "stored_as": volume.stored_as,
        "size": " x ".join(map(str, grid.size)),
        "spacing_mm": " x ".join(f"{side:.3g}" for side in grid.spacing_mm),
        "tilt_deg": round(grid.tilt_deg, 2),
        "voxels": int(mask.sum()),
        "volume_ml": round(float(mask.sum()) * grid.voxel_ml, 3),
        "mean_hu": round(float(inside.mean()), 2),
        "sd_hu": round(float(inside.std()), 2),
    }
