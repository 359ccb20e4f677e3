"""A CT scan and the region of it that is studied: Hounsfield units verified, the mask at its place."""

import os
from pathlib import Path

import numpy as np

from lib.inputs.dicom import read_dicom
from lib.inputs.masks import read_label
from lib.inputs.volumes import AIR_HU, Volume, read_volume

PADDING_HU = -1500.0
"""Below it nothing was measured: scanners fill the corners outside their field with -2000 or -3024."""

TISSUE_HU = (-200.0, 200.0)
"""Fat, water, muscle, organs, most of them after contrast too."""

OFFSET = 1024
"""What scanners add to HU so that stored numbers are not negative."""

MEASURED = ("stored_as", "size", "spacing_mm", "tilt_deg", "voxels", "volume_ml", "mean_hu", "sd_hu")


def read_ct(path: str | os.PathLike, oblique: str = "refuse") -> Volume:
    """Read a CT scan in HU: a folder with one DICOM series, or one file (.nii, .nii.gz, .nrrd, .mha).

    `oblique`: see `lib.inputs.volumes.upright`. Values that are no HU are refused by `check_hounsfield`.
    """
    volume = read_dicom(path, oblique=oblique) if Path(path).is_dir() else read_volume(path, oblique)
    check_hounsfield(volume.values, path)
    return volume


def check_hounsfield(values: np.ndarray, path: str | os.PathLike) -> None:
    """Refuse values that are no HU, by five signs that no part of a CT scan shows.

    A volume cropped to soft tissue is legal: that it has no air, or no value below 0, is no sign alone. An MR volume
    with values like CT's passes.

    Raises
    ------
    ValueError
        One value throughout; all within 20 of 0 (scaled to 0..1 or to a standard deviation of 1); exactly 0 to 255
        (grey levels of a picture); fewer than 1 in 100 voxels below -50 and, of those above 200, more than half
        around 1024, where soft tissue lies as it is stored (rescale forgotten); fewer than 1 in 100 voxels above -200
        (rescaled twice, or air alone).
    """
    measured = np.asarray(values)[np.asarray(values) > PADDING_HU]
    low, high = (float(measured.min()), float(measured.max())) if measured.size else (AIR_HU, AIR_HU)
    dense, fault = measured[measured > 200], ""
    stored = (dense > OFFSET + TISSUE_HU[0]) & (dense < OFFSET + TISSUE_HU[1])
    if low == high:
        fault = "it is blank; give the scan itself"
    elif max(-low, high) < 20:
        fault = "as if scaled or standardised; give the scan before that"
    elif (low, high) == (0, 255):
        fault = "grey levels of a picture; give the scan it was made from"
    elif (measured < -50).mean() < 0.01 and dense.size and stored.mean() > 1 / 2:
        fault = (
            f"and {stored.mean():.0%} of those above 200 lie around {OFFSET}, soft tissue without the rescale "
            f"intercept; convert it again from DICOM, or subtract {OFFSET}"
        )
    elif (measured > TISSUE_HU[0]).mean() < 0.01:
        fault = "hardly any of them is tissue's; is the rescale intercept applied twice, or the scan of air alone?"
    if fault:
        raise ValueError(f"{path} is not in HU: its values reach from {low + 0:g} to {high + 0:g}, {fault}")


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
