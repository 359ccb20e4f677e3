"""A CT scan and the region of it that is studied: Hounsfield units verified, the mask at its place, a window."""

import os
from pathlib import Path
from typing import NamedTuple

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


class Region(NamedTuple):
    """A scan and its region: mask bool (z, y, x) on the volume's grid."""

    volume: Volume
    mask: np.ndarray


def read_ct(path: str | os.PathLike, oblique: str = "refuse", series: str | None = None) -> Volume:
    """Read a CT scan in HU: a folder with one DICOM series, or one file (.nii, .nii.gz, .nrrd, .mha).

    `oblique`: see `lib.inputs.volumes.upright`; `series`: of a folder with several, see `lib.inputs.dicom.read_dicom`.
    Values that are no HU are refused by `check_hounsfield`.
    """
    folder = Path(path).is_dir()
    volume = read_dicom(path, series, oblique) if folder else read_volume(path, oblique)
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
    if low == high:
        raise ValueError(f"{path} is blank: every voxel is {low + 0:g}; give the scan itself")
    reach = f"its values reach from {low:g} to {high:g}"
    if max(-low, high) < 20:
        raise ValueError(
            f"{path} is not in HU: {reach}, as if scaled or standardised; give the scan before that"
        )
    if (low, high) == (0, 255):
        raise ValueError(
            f"{path} is not in HU: {reach}, grey levels of a picture; give the scan it was made from"
        )
    dense = measured[measured > 200]
    tissue = (dense > OFFSET + TISSUE_HU[0]) & (dense < OFFSET + TISSUE_HU[1])
    if (measured < -50).mean() < 0.01 and dense.size and tissue.mean() > 1 / 2:
        raise ValueError(
            f"{path} is not in HU: {reach} and {tissue.mean():.0%} of those above 200 lie around {OFFSET}, soft tissue "
            f"without the rescale intercept; convert it again from DICOM, or subtract {OFFSET}"
        )
    if (share := float((measured > TISSUE_HU[0]).mean())) < 0.01:
        raise ValueError(
            f"{path}: {share:.2%} of its voxels lie above {TISSUE_HU[0]:g} HU, so there is no tissue; is the rescale "
            "intercept applied twice, or the scan blank?"
        )


def read_region(
    image: str | os.PathLike,
    mask: str | os.PathLike,
    label: int | str | None = 1,
    *,
    oblique: str = "keep",
    resample: bool = False,
    series: str | None = None,
) -> Region:
    """Read a scan and a region, the mask laid on it by its place in the patient.

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
    series : str, optional
    """
    volume = read_ct(image, oblique, series)
    return Region(volume, read_label(mask, volume.geometry, label, resample))


def measured(volume: Volume, mask: np.ndarray) -> dict[str, object]:
    """What a scan and its region say of themselves, for the table of scans: `MEASURED`, HU and ml rounded."""
    inside, grid = volume.values[mask], volume.geometry
    return {
        "stored_as": volume.stored_as,
        "size": " x ".join(map(str, grid.size)),
        "spacing_mm": " x ".join(f"{side:.3g}" for side in grid.spacing_mm),
        "tilt_deg": round(grid.tilt_deg, 2),
        "voxels": int(mask.sum()),
        "volume_ml": round(float(mask.sum()) * grid.voxel_ml, 3),
        "mean_hu": round(float(inside.mean()), 2) if inside.size else None,
        "sd_hu": round(float(inside.std()), 2) if inside.size else None,
    }


def windowed(values: np.ndarray, level: float = 40, width: float = 400) -> np.ndarray:
    """HU as float32 from 0 (level - width / 2 and below) to 1 (level + width / 2 and above)."""
    low = np.float32(level - width / 2)
    return np.clip((np.asarray(values, dtype=np.float32) - low) / np.float32(width), 0, 1)
