"""A CT scan and the region of it that is studied: Hounsfield units verified, the mask at its place."""

import os
from pathlib import Path

import numpy as np
from pydicom.misc import is_dicom

from lib.inputs.dicom import kind_of, read_dicom
from lib.inputs.masks import read_label, regions
from lib.inputs.volumes import Volume, check_hounsfield, read_volume, remarks, sidecar_of

MEASURED = ("stored_as", "size", "spacing_mm", "tilt_deg", "voxels", "volume_ml", "mean_hu", "sd_hu")
MEASURED += ("remark",)
AIR_BELOW_HU = -500.0
MOST_AIR = 0.05


def read_ct(path: str | os.PathLike, oblique: str = "refuse", series: str = "") -> Volume:
    """Read a CT scan in HU: a folder with DICOM, a file of many frames, or one file (.nii, .nii.gz, .nrrd, .mha).

    `oblique`: see `lib.inputs.volumes.upright`; `series`: see `lib.inputs.dicom.read_dicom`. Values that are no HU are
    refused by `lib.inputs.volumes.check_hounsfield`, which for a NIfTI heeds the sidecar that dcm2niix writes. What was
    odd is the volume's `remark`.
    """
    path = Path(path)
    dicom = path.is_dir() or (path.is_file() and is_dicom(path))
    with remarks(path) as said:
        volume = read_dicom(path, series, oblique) if dicom else read_volume(path, oblique)
        stated = volume.header if dicom else kind_of(sidecar_of(path))
    about = {name: stated[name] for name in ("modality", "units", "image_type")}
    said.append(check_hounsfield(volume.values, path, **about, whole=dicom))
    return volume._replace(remark="; ".join(filter(None, said)))


def read_region(
    image: str | os.PathLike,
    mask: str | os.PathLike,
    label: int | str | None = 1,
    *,
    oblique: str = "keep",
    series: str = "",
) -> tuple[Volume, np.ndarray]:
    """Read a scan (see `read_ct`), and a region bool (z, y, x) that is laid on it by its place in the patient.

    For `label` see `lib.inputs.masks.read_label`; None: everything above 0. `oblique` ("keep" | "refuse" | "resample") and
    `series` are of the scan; its mask follows. The volume's `remark` says of scan and mask what is odd: more than 1 in 20 voxels
    of the region being air, for one.
    """
    volume = read_ct(image, oblique, series)
    drawn, frame = regions(mask), volume.header.get("frame", "")
    if drawn and frame and drawn.frame not in ("", frame):
        raise ValueError(
            f"{mask} was drawn in another frame of reference than its scan: places of the two cannot be compared; give the "
            "mask that was drawn on this scan"
        )
    with remarks(mask) as said:
        inside = read_label(mask, volume.geometry, label)
    if (air := (volume.values[inside] < AIR_BELOW_HU).mean()) > MOST_AIR:
        said.append(f"{air:.0%} of the region is air: does the mask lie on its scan?")
    return volume._replace(remark="; ".join(filter(None, [volume.remark, *said]))), inside


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
        "remark": volume.remark,
    }
