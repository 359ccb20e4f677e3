"""One DICOM series of a folder as a volume: sorted by place, in Hounsfield units, refused where slices are amiss.

pydicom reads the headers, SimpleITK the pixels, compressed ones too. Who the patient is stays in the files: the name is
read for one purpose, to strike it out of a series' description.
"""

import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.uid import UID

from lib.inputs.volumes import (
    AIR_HU,
    Volume,
    brought_onto,
    corners_of,
    geometry_of,
    upright,
    upright_grid,
    values_of,
)

STEP = 0.01  # share of the step by which distances between neighbouring slices may differ
SUFFIXES = (".dcm", ".dicom", ".ima")
PLACE = "ImagePositionPatient"
COUNTS = {PLACE: 3, "Rows": 1, "Columns": 1, "PixelSpacing": 2, "ImageOrientationPatient": 6}


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
    slices = in_place(_one_series(pictures(folder), folder, series, modality), folder, modality)
    image, stored_as = stack_of(slices, np.stack([pixels(each) for each in slices]), folder, oblique)
    return Volume(values_of(image, folder), geometry_of(image), stored_as)


def in_place(slices: list[Dataset], folder: Path, modality: str | None) -> list[Dataset]:
    """Headers sorted along the stack, refused where they are not one stack of measurements (see `read_dicom`)."""
    for fault in _faults(slices, modality):
        raise ValueError(f"{folder}: {fault}")
    return sorted(slices, key=along)


def along(header: Dataset) -> float:
    """Where a slice lies along the normal of its plane, mm."""
    return float(numbers_of(header, PLACE) @ _axes(header)[2])


def stack_of(slices: list[Dataset], values: np.ndarray, folder: Path, oblique: str) -> tuple[sitk.Image, str]:
    """Values (z, y, x) of slices in place as an image in LPS, and the orientation they were stored in."""
    across = _axes(slices[0])
    image = sitk.GetImageFromArray(values)
    first, last = (numbers_of(each, PLACE) for each in (slices[0], slices[-1]))
    rows_mm, columns_mm = numbers_of(slices[0], "PixelSpacing")  # DICOM states the distance of rows first
    image.SetSpacing((columns_mm, rows_mm, float((last - first) @ across[2]) / (len(slices) - 1)))
    image.SetOrigin(first.tolist())
    image.SetDirection(across.T.ravel().tolist())
    stored_as = geometry_of(image).orientation
    if np.linalg.norm(across[:2] @ (last - first)) > min(rows_mm, columns_mm) / 2:
        image = _unsheared(image, folder, oblique, last - first, across)
    return upright(image, folder, oblique, AIR_HU), stored_as


def pictures(folder: Path) -> list[Dataset]:
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


def numbers_of(header: Dataset, keyword: str) -> np.ndarray:
    """The numbers of a header's element; none where it is missing, or any of them is no finite number."""
    try:
        numbers = np.atleast_1d(np.asarray(header[keyword].value, dtype=float))
    except (KeyError, TypeError, ValueError):
        return np.empty(0)
    return numbers if np.isfinite(numbers).all() else np.empty(0)


def _faults(slices: list[Dataset], modality: str | None) -> Iterator[str]:
    """What keeps pictures from being one stack of measurements, to be heeded one after the other."""
    names = [Path(each.filename).name for each in slices]
    for each, name in zip(slices, names, strict=True):
        stated, frames = each.get("Modality"), int(each.get("NumberOfFrames") or 1)
        if each.get("SamplesPerPixel", 1) != 1:
            yield f"{name} is in colour: a picture of a screen, no measurement"
        if modality not in (None, stated):
            yield f"holds {stated or 'an unstated modality'}, {modality} is expected: name the folder of that series"
        if _is_localiser(each):
            yield f"{name} is a localiser: remove it, or choose another series"
        if frames > 1:
            yield f"{name} holds {frames} frames (enhanced DICOM), one slice a file is read: convert it to NIfTI"
        for keyword, count in COUNTS.items():
            if len(numbers_of(each, keyword)) != count:
                yield f"slice {name} does not state its {keyword} ({count} numbers)"
    for keyword in [keyword for keyword in COUNTS if keyword != PLACE]:
        numbers = np.array([numbers_of(each, keyword) for each in slices])
        odd = np.flatnonzero(~np.isclose(numbers, numbers[0], rtol=1e-4, atol=1e-3).all(1))
        if len(odd):
            one, two = (" x ".join(f"{number:g}" for number in numbers[n]) for n in (0, odd[0]))
            yield (
                f"slices of one series differ in {keyword}: {one} and {two} ({names[0]}, {names[odd[0]]}); "
                "keep those of one stack"
            )
    x, y = numbers_of(slices[0], "ImageOrientationPatient").reshape(2, 3)
    if np.abs(np.linalg.norm([x, y], axis=1) - 1).max() > 1e-3 or abs(x @ y) > 1e-3:
        yield f"{names[0]} has axes that are not at right angles"
    if len(slices) < 2:
        yield "holds one slice: a volume has two or more"
    yield from _gaps(slices, names)


def _gaps(slices: list[Dataset], names: list[str]) -> Iterator[str]:
    """Where slices do not lie in equal steps along a line."""
    across, places = _axes(slices[0]), np.array([numbers_of(each, PLACE) for each in slices])
    order = np.argsort(places @ across[2], kind="stable")
    places, names = places[order], [names[number] for number in order]
    along = places @ across[2]
    steps = np.diff(along)
    usual, lowest = float(np.median(steps)), int(steps.argmin())
    if doubled := int((steps < max(STEP * steps.max(), 1e-3)).sum()):
        yield (
            f"two slices lie at {along[lowest]:.2f} mm ({names[lowest]}, {names[lowest + 1]}), {doubled} such pairs in "
            "all: several phases or copies in one series; keep one"
        )
    at = int(np.argmax(np.abs(steps - usual)))
    if uneven := int((np.abs(steps - usual) > STEP * usual).sum()):
        yield (
            f"slices are {usual:g} mm apart but {steps[at]:g} mm between {along[at]:.2f} and {along[at + 1]:.2f} mm "
            f"({names[at]}, {names[at + 1]}), {uneven} uneven steps in all: slices are missing or two stacks are "
            "mixed; fetch the series again"
        )
    aside = (places - places[0]) @ across[:2].T
    off = np.linalg.norm(aside - np.linspace(0, 1, len(aside))[:, None] * aside[-1], axis=1)
    if off.max() > numbers_of(slices[0], "PixelSpacing").min() / 2:
        yield f"slice {names[off.argmax()]} lies {off.max():.1f} mm beside the others: two stacks are mixed"


def _axes(header: Dataset) -> np.ndarray:
    """Directions (3, 3) of x, y and of the stack, one a row, at right angles."""
    x, y = numbers_of(header, "ImageOrientationPatient").reshape(2, 3)
    x = x / np.linalg.norm(x)
    y = y - (y @ x) * x
    y /= np.linalg.norm(y)
    return np.array([x, y, np.cross(x, y)])


def pixels(header: Dataset) -> np.ndarray:
    """The values (rows, columns) of a slice, float32, rescaled."""
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
    spacing = np.take(plain.spacing_mm, np.abs(np.reshape(plain.direction, (3, 3))).argmax(1))
    back = sitk.AffineTransform(np.linalg.inv(shear).ravel().tolist(), [0.0] * 3, origin.tolist())
    return brought_onto(image, upright_grid(corners, spacing), AIR_HU, transform=back)
