"""One DICOM series of a folder, as a volume: sorted by place, in Hounsfield units, refused where slices are amiss."""

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from lib.inputs.dicom_slices import Slice, check_kind, damaged, one_series, slices_of
from lib.inputs.geometry import corners_of, geometry_of
from lib.inputs.volume_files import AIR_HU, OBLIQUE, upright, values_of
from lib.inputs.volumes import Volume

STEP = 0.01
"""Share of the step by which distances between neighbouring slices may differ."""


def read_dicom(
    folder: str | os.PathLike, series: str | None = None, oblique: str = "refuse", modality: str | None = "CT"
) -> Volume:
    """Read the one DICOM series of a folder.

    Parameters
    ----------
    folder : path
        Files of any name, not those of its subfolders. Files that are no DICOM are passed over; DICOM files without a
        picture (DICOMDIR, structures, reports) too, with a warning.
    series : str, optional
        Where there are several: SeriesInstanceUID, series number or description.
    oblique : "refuse" | "keep" | "resample"
        See `lib.inputs.volume_files.upright`. A gantry tilted against the table shears the stack, which no grid can
        hold, so that "keep" is refused for it; "resample" interpolates every voxel from its place.
    modality : str, optional
        None: any.

    Returns
    -------
    Volume
        Stored values times rescale slope plus intercept: HU for CT. LPS.

    Raises
    ------
    FileNotFoundError
        No such folder, or no DICOM in it.
    ValueError
        A file is damaged; several series; another modality, localiser, colour, several frames a file; slices of mixed
        size or orientation, missing, doubled, out of line; oblique.
    """
    folder = Path(folder)
    if oblique not in OBLIQUE:
        raise ValueError(f"oblique must be one of {', '.join(OBLIQUE)}, it is {oblique!r}")
    slices = one_series(slices_of(folder), folder, series)
    check_kind(slices, folder, modality)
    slices, sheared = _stacked(slices, folder)
    stack = np.stack([_values(each) for each in slices])
    first, last = (each.numbers("position", 3) for each in (slices[0], slices[-1]))
    across = _axes(slices[0])
    image = sitk.GetImageFromArray(stack)
    rows_mm, columns_mm = slices[0].numbers("spacing", 2)  # DICOM states the distance of rows first
    image.SetSpacing((columns_mm, rows_mm, float((last - first) @ across[2]) / (len(slices) - 1)))
    image.SetOrigin(first.tolist())
    image.SetDirection(across.T.ravel().tolist())
    stored_as = geometry_of(image).orientation
    if sheared:
        image = _unsheared(image, folder, oblique, last - first, across)
    image = upright(image, folder, oblique, AIR_HU)
    return Volume(values_of(image, folder), geometry_of(image), stored_as)


def _axes(one: Slice) -> np.ndarray:
    """Directions (3, 3) of x, y and of the stack, one a row, at right angles."""
    x, y = one.numbers("orientation", 6).reshape(2, 3)
    lengths = np.linalg.norm([x, y], axis=1)
    if np.abs(lengths - 1).max() > 1e-3 or abs(x @ y) > 1e-3:
        raise ValueError(f"{one.path.parent}: slice {one.path.name} has axes that are not at right angles")
    x = x / lengths[0]
    y = y - (y @ x) * x
    y /= np.linalg.norm(y)
    return np.array([x, y, np.cross(x, y)])


def _stacked(slices: list[Slice], folder: Path) -> tuple[list[Slice], bool]:
    """Slices by place, in equal steps along a line, and whether that line leans by more than half a pixel."""
    if len(slices) < 2:
        raise ValueError(f"{folder} holds one slice: a volume has two or more")
    across = _axes(slices[0])
    places = np.array([each.numbers("position", 3) for each in slices])
    order = np.argsort(places @ across[2], kind="stable")
    slices, places = [slices[number] for number in order], places[order]
    along = places @ across[2]
    steps = np.diff(along)
    if (steps < max(STEP * steps.max(), 1e-3)).any():
        number = int(steps.argmin())
        raise ValueError(
            f"{folder}: two slices lie at {along[number]:.2f} mm ({slices[number].path.name}, "
            f"{slices[number + 1].path.name}), {int((steps < max(STEP * steps.max(), 1e-3)).sum())} such pairs in all: "
            "several phases or copies in one series; keep one"
        )
    usual = float(np.median(steps))
    if (uneven := np.abs(steps - usual) > STEP * usual).any():
        number = int(np.argmax(np.abs(steps - usual)))
        raise ValueError(
            f"{folder}: slices are {usual:g} mm apart but {steps[number]:g} mm between {along[number]:.2f} and "
            f"{along[number + 1]:.2f} mm ({slices[number].path.name}, {slices[number + 1].path.name}), "
            f"{int(uneven.sum())} uneven steps in all: slices are missing or two stacks are mixed; fetch the series again"
        )
    pixel = float(slices[0].numbers("spacing", 2).min())
    aside = (places - places[0]) @ across[:2].T
    line = np.outer(np.arange(len(slices)) / (len(slices) - 1), aside[-1])
    if (off := np.linalg.norm(aside - line, axis=1)).max() > pixel / 2:
        worst = int(off.argmax())
        raise ValueError(
            f"{folder}: slice {slices[worst].path.name} at {along[worst]:.2f} mm lies {off[worst]:.1f} mm beside the "
            "others: two stacks are mixed"
        )
    return slices, bool(np.linalg.norm(aside[-1]) > pixel / 2)


def _values(one: Slice) -> np.ndarray:
    try:
        image = sitk.ReadImage(str(one.path), sitk.sitkFloat32, "GDCMImageIO")
    except RuntimeError as error:
        raise damaged(one.path) from error
    return sitk.GetArrayFromImage(image).reshape(image.GetSize()[1::-1])


def _unsheared(
    image: sitk.Image, folder: Path, oblique: str, way: np.ndarray, across: np.ndarray
) -> sitk.Image:
    """A stack whose slices are shifted against each other, on the patient's axes."""
    lean = np.degrees(np.arccos(np.clip(way @ across[2] / np.linalg.norm(way), -1, 1)))
    if oblique != "resample":
        raise ValueError(
            f"{folder}: the gantry was tilted, slices are shifted against each other by {lean:.1f} degrees: set "
            "oblique to 'resample' (interpolated onto the patient's axes)"
        )
    # a point of the plain stack plus its height times the lean is its place in the patient
    height = way @ across[2]
    shear = np.eye(3) + np.outer(way / height - across[2], across[2])
    plain = geometry_of(image)
    origin = np.asarray(plain.origin_mm)
    corners = origin + (plain.points(corners_of(plain)) - origin) @ shear.T
    low, high = corners.min(0), corners.max(0)
    nearest = np.abs(np.reshape(plain.direction, (3, 3))).argmax(1)
    spacing = np.take(plain.spacing_mm, nearest)
    size = np.ceil((high - low) / spacing - 1e-6).astype(int) + 1
    back = sitk.AffineTransform(np.linalg.inv(shear).ravel().tolist(), [0.0] * 3, origin.tolist())
    straight = (low.tolist(), spacing.tolist(), np.eye(3).ravel().tolist())
    return sitk.Resample(image, size.tolist(), back, sitk.sitkLinear, *straight, AIR_HU)
