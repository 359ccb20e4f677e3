"""One DICOM series of a folder as a volume: sorted by place, in Hounsfield units, refused where slices are amiss.

pydicom reads the headers, SimpleITK the pixels, compressed ones too. Who the patient is stays in the files: the name is
read for one purpose, to strike it out of a series' description.
"""

import os
import re
import warnings
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.uid import UID

from lib.inputs.volumes import AIR_HU, Volume, corners_of, geometry_of, upright, values_of

STEP = 0.01  # share of the step by which distances between neighbouring slices may differ
SUFFIXES = (".dcm", ".dicom", ".ima")


def read_dicom(
    folder: str | os.PathLike, series: str | None = None, oblique: str = "refuse", modality: str | None = "CT"
) -> Volume:
    """Read one DICOM series of a folder, as stored values times rescale slope plus intercept (HU for CT), in LPS.

    Parameters
    ----------
    folder : path
        Files of any name, not those of its subfolders. Files that are no DICOM are passed over; DICOM files without a
        picture (DICOMDIR, structures, reports) too, with a warning.
    series : str, optional
        SeriesInstanceUID, series number or description, where there are several of the modality, localisers apart.
    oblique : "refuse" | "keep" | "resample"
        See `lib.inputs.volumes.upright`. A gantry tilted against the table shears the stack, which no grid can
        hold, so that "keep" is refused for it; "resample" interpolates every voxel from its place.
    modality : str, optional
        None: any.

    Raises
    ------
    FileNotFoundError
        No such folder, or no DICOM in it.
    ValueError
        A file is damaged; several series; another modality, localiser, colour, several frames a file; slices of mixed
        size or orientation, missing, doubled, out of line; oblique.
    """
    folder = Path(folder)
    slices = _one_series(_slices(folder), folder, series, modality)
    _check(slices, folder, modality)
    slices, sheared = _stacked(slices, folder)
    stack = np.stack([_pixels(each) for each in slices])
    first, last = (_numbers(each, "ImagePositionPatient", 3) for each in (slices[0], slices[-1]))
    across = _axes(slices[0])
    image = sitk.GetImageFromArray(stack)
    rows_mm, columns_mm = _numbers(slices[0], "PixelSpacing", 2)  # DICOM states the distance of rows first
    image.SetSpacing((columns_mm, rows_mm, float((last - first) @ across[2]) / (len(slices) - 1)))
    image.SetOrigin(first.tolist())
    image.SetDirection(across.T.ravel().tolist())
    stored_as = geometry_of(image).orientation
    if sheared:
        image = _unsheared(image, folder, oblique, last - first, across)
    image = upright(image, folder, oblique, AIR_HU)
    return Volume(values_of(image, folder), geometry_of(image), stored_as)


def _slices(folder: Path) -> list[Dataset]:
    """Headers of the pictures of a folder, by file name, whatever series they belong to."""
    slices, others = [], []
    for path in sorted(each for each in folder.iterdir() if not each.is_dir()):
        try:
            with warnings.catch_warnings(action="ignore"):
                header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        except OSError:  # a link to nowhere might be the last slice
            raise
        except Exception:  # what is no DICOM at all
            header = Dataset()
        is_dicom = getattr(header, "preamble", None) is not None
        kind = header.file_meta.get("MediaStorageSOPClassUID", UID("")).name if is_dicom else ""
        if "Rows" in header:
            slices.append(header)
        elif "Image Storage" in kind or (not is_dicom and path.suffix.lower() in SUFFIXES):
            raise _damaged(path)
        elif is_dicom:
            others.append(f"{path.name} ({kind})")
    if others:
        many = f" and {len(others) - 1} more" if len(others) > 1 else ""
        warnings.warn(f"{folder}: passed over {others[0]}{many}, DICOM without a picture", stacklevel=3)
    if not slices:
        below = sum(each.is_dir() for each in folder.iterdir())
        raise FileNotFoundError(
            f"{folder} holds no DICOM picture; it has {below} subfolders: name that of the series"
        )
    return slices


def _damaged(path: Path) -> ValueError:
    return ValueError(f"{path.parent}: {path.name} was cut short or is damaged: fetch it again")


def _one_series(
    slices: list[Dataset], folder: Path, series: str | None, modality: str | None
) -> list[Dataset]:
    """The slices of one series: the only one of the modality, or the one of that UID, number or description."""
    wanted, groups, about, fits = str(series or "").strip(), {}, [], []
    for each in slices:
        groups.setdefault(str(each.get("SeriesInstanceUID", "")), []).append(each)
    for uid, group in groups.items():
        header = group[0]
        number, stated = (str(header.get(f"Series{key}", "")).strip() for key in ("Number", "Description"))
        kind, shown = str(header.get("Modality", "")), stated
        for part in re.split(r"[\^=\s,]+", str(header.get("PatientName", ""))):
            shown = re.sub(re.escape(part), "***", shown, flags=re.IGNORECASE) if len(part) > 2 else shown
        about.append(
            f"{uid} (number {number or 'none'}, slices: {len(group)}, {kind}, {shown or 'no description'!r})"
        )
        usual = modality in (None, kind) and not _is_localiser(header)
        if wanted in (uid, number, stated, shown) if wanted else usual or len(groups) == 1:
            fits.append(group)
    if len(fits) != 1:
        raise ValueError(
            f"{folder}: {len(fits) or 'no'} series fit {wanted or modality or 'any modality'!r}; it holds "
            f"{'; '.join(about)}. Choose one with `series`"
        )
    return fits[0]


def _is_localiser(header: Dataset) -> bool:
    return bool(re.search("LOCALIZER|SCOUT", str(header.get("ImageType", "")).upper()))


def _numbers(header: Dataset, keyword: str, count: int) -> np.ndarray:
    """So many finite numbers of a header."""
    try:
        numbers = np.atleast_1d(np.asarray(header[keyword].value, dtype=float))
    except (KeyError, TypeError, ValueError):
        numbers = np.empty(0)
    if len(numbers) != count or not np.isfinite(numbers).all():
        path = Path(header.filename)
        raise ValueError(
            f"{path.parent}: slice {path.name} does not state its {keyword} ({count} numbers): export the series again "
            "from the archive"
        )
    return numbers


def _check(slices: list[Dataset], folder: Path, modality: str | None) -> None:
    """Refuse what is no stack of grey pictures of the modality, equal in size, spacing and orientation."""
    for each in slices:
        name, stated, frames = (
            Path(each.filename).name,
            each.get("Modality"),
            int(each.get("NumberOfFrames") or 1),
        )
        fault = ""
        if each.get("SamplesPerPixel", 1) != 1:
            fault = f"{name} is in colour: a picture of a screen, no measurement"
        elif modality not in (None, stated):
            fault = f"holds {stated or 'an unstated modality'}, {modality} is expected: name the folder of that series"
        elif _is_localiser(each):
            fault = f"{name} is a localiser: remove it, or choose another series"
        elif frames > 1:
            fault = f"{name} holds {frames} frames (enhanced DICOM), one slice a file is read: convert it to NIfTI"
        if fault:
            raise ValueError(f"{folder}: {fault}")
    for keyword, count, what in (
        ("Rows", 1, "number of rows"),
        ("Columns", 1, "number of columns"),
        ("PixelSpacing", 2, "pixel spacing"),
        ("ImageOrientationPatient", 6, "orientation"),
    ):
        numbers = np.array([_numbers(each, keyword, count) for each in slices])
        odd = np.flatnonzero(~np.isclose(numbers, numbers[0], rtol=1e-4, atol=1e-3).all(1))
        if len(odd):
            one, two = (" x ".join(f"{number:g}" for number in numbers[n]) for n in (0, odd[0]))
            names = ", ".join(Path(slices[n].filename).name for n in (0, odd[0]))
            raise ValueError(
                f"{folder}: slices of one series differ in {what}: {one} and {two} ({names}); keep those of one stack"
            )


def _axes(header: Dataset) -> np.ndarray:
    """Directions (3, 3) of x, y and of the stack, one a row, at right angles."""
    x, y = _numbers(header, "ImageOrientationPatient", 6).reshape(2, 3)
    lengths = np.linalg.norm([x, y], axis=1)
    if np.abs(lengths - 1).max() > 1e-3 or abs(x @ y) > 1e-3:
        raise ValueError(f"{header.filename} has axes that are not at right angles")
    x = x / lengths[0]
    y = y - (y @ x) * x
    y /= np.linalg.norm(y)
    return np.array([x, y, np.cross(x, y)])


def _stacked(slices: list[Dataset], folder: Path) -> tuple[list[Dataset], bool]:
    """Slices by place, in equal steps along a line, and whether that line leans by more than half a pixel."""
    if len(slices) < 2:
        raise ValueError(f"{folder} holds one slice: a volume has two or more")
    across = _axes(slices[0])
    places = np.array([_numbers(each, "ImagePositionPatient", 3) for each in slices])
    order = np.argsort(places @ across[2], kind="stable")
    slices, places = [slices[number] for number in order], places[order]
    names, along = [Path(each.filename).name for each in slices], places @ across[2]
    steps = np.diff(along)
    usual, pixel = float(np.median(steps)), float(_numbers(slices[0], "PixelSpacing", 2).min())
    doubled, uneven = steps < max(STEP * steps.max(), 1e-3), np.abs(steps - usual) > STEP * usual
    aside = (places - places[0]) @ across[:2].T
    line = np.outer(np.arange(len(slices)) / (len(slices) - 1), aside[-1])
    off = np.linalg.norm(aside - line, axis=1)
    fault = ""
    if doubled.any():
        at = int(steps.argmin())
        fault = (
            f"two slices lie at {along[at]:.2f} mm ({names[at]}, {names[at + 1]}), {int(doubled.sum())} such pairs in all: "
            "several phases or copies in one series; keep one"
        )
    elif uneven.any():
        at = int(np.argmax(np.abs(steps - usual)))
        fault = (
            f"slices are {usual:g} mm apart but {steps[at]:g} mm between {along[at]:.2f} and {along[at + 1]:.2f} mm "
            f"({names[at]}, {names[at + 1]}), {int(uneven.sum())} uneven steps in all: slices are missing or two stacks are "
            "mixed; fetch the series again"
        )
    elif off.max() > pixel / 2:
        at = int(off.argmax())
        fault = f"slice {names[at]} lies {off[at]:.1f} mm beside the others: two stacks are mixed"
    if fault:
        raise ValueError(f"{folder}: {fault}")
    return slices, bool(np.linalg.norm(aside[-1]) > pixel / 2)


def _pixels(header: Dataset) -> np.ndarray:
    try:
        image = sitk.ReadImage(header.filename, sitk.sitkFloat32, "GDCMImageIO")
    except RuntimeError as error:
        raise _damaged(Path(header.filename)) from error
    return sitk.GetArrayFromImage(image).reshape(image.GetSize()[1::-1])


def _unsheared(
    image: sitk.Image, folder: Path, oblique: str, way: np.ndarray, across: np.ndarray
) -> sitk.Image:
    """A stack whose slices are shifted against each other, on the patient's axes."""
    height = way @ across[2]
    if oblique != "resample":
        lean = np.degrees(np.arccos(np.clip(height / np.linalg.norm(way), -1, 1)))
        raise ValueError(
            f"{folder}: the gantry was tilted, slices are shifted against each other by {lean:.1f} degrees: set "
            "oblique to 'resample' (interpolated onto the patient's axes)"
        )
    # a point of the plain stack plus its height times the lean is its place in the patient
    shear = np.eye(3) + np.outer(way / height - across[2], across[2])
    plain = geometry_of(image)
    origin = np.asarray(plain.origin_mm)
    corners = origin + (plain.points(corners_of(plain)) - origin) @ shear.T
    low, high = corners.min(0), corners.max(0)
    spacing = np.take(plain.spacing_mm, np.abs(np.reshape(plain.direction, (3, 3))).argmax(1))
    size = np.ceil((high - low) / spacing - 1e-6).astype(int) + 1
    back = sitk.AffineTransform(np.linalg.inv(shear).ravel().tolist(), [0.0] * 3, origin.tolist())
    straight = (low.tolist(), spacing.tolist(), np.eye(3).ravel().tolist())
    return sitk.Resample(image, size.tolist(), back, sitk.sitkLinear, *straight, AIR_HU)
