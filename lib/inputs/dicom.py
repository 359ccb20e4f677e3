"""Slices of a folder with DICOM files: what their headers state, which series they belong to, what they are.

Who the patient is stays in the files: the name is read for one purpose, to strike it out of a series' description.

One DICOM series of a folder, as a volume: sorted by place, in Hounsfield units, refused where slices are amiss.
"""

import os
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from lib.inputs.volumes import AIR_HU, OBLIQUE, Volume, corners_of, geometry_of, upright, values_of

TAGS = {
    "series": "0020|000e",
    "number": "0020|0011",
    "description": "0008|103e",
    "modality": "0008|0060",
    "kind": "0008|0008",
    "position": "0020|0032",
    "orientation": "0020|0037",
    "spacing": "0028|0030",
    "rows": "0028|0010",
    "columns": "0028|0011",
    "colours": "0028|0002",
    "slope": "0028|1053",
    "intercept": "0028|1052",
}
NAME = "0010|0010"
NO_PICTURE = re.compile(r"1\.2\.840\.10008\.(1\.3\.10|5\.1\.4\.1\.1\.(9|11|66|88|104|481\.[3-9])(\.|$))")
"""Storage classes of a folder's index, curves, presentations, raw data, reports, documents, structures and plans."""
SUFFIXES = (".dcm", ".dicom", ".ima")


class Slice(NamedTuple):
    """A file with a picture, what its header states (see `TAGS`) and how many pictures it has."""

    path: Path
    tags: dict[str, str]
    frames: int

    def numbers(self, tag: str, count: int) -> np.ndarray:
        """So many finite numbers of a tag, or a ValueError."""
        try:
            found = np.array([float(each) for each in self.tags[tag].split("\\")])
        except ValueError:
            found = np.empty(0)
        if len(found) != count or not np.isfinite(found).all():
            raise ValueError(
                f"{self.path.parent}: slice {self.path.name} does not state its {tag} ({count} numbers): "
                "export the series again from the archive"
            )
        return found


def slices_of(folder: Path) -> list[Slice]:
    """The pictures of a folder, by file name, whatever series they belong to.

    Raises
    ------
    FileNotFoundError
        No such folder, or no picture in it.
    ValueError
        A file is damaged.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder with a DICOM series at {folder}")
    found, others = [], []
    for path in sorted(each for each in folder.iterdir() if not each.is_dir()):
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder}: {path.name} is a link that leads to no file: correct or remove it"
            )
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.SetImageIO("GDCMImageIO")
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            start = _start(path)
            if start[128:132] == b"DICM" and NO_PICTURE.match(_storage(start)):
                others.append(path.name)
            elif start[128:132] == b"DICM" or path.suffix.lower() in SUFFIXES:
                raise damaged(path) from error
            continue
        found.append(Slice(path, _tags(reader), reader.GetSize()[2] if reader.GetDimension() > 2 else 1))
    if others:
        many = f" and {len(others) - 1} more" if len(others) > 1 else ""
        warnings.warn(f"{folder}: passed over {others[0]}{many}, DICOM without a picture", stacklevel=3)
    if not found:
        below = sum(each.is_dir() for each in folder.iterdir())
        hint = f"; it has {below} subfolders: name the one with the series" if below else ""
        raise FileNotFoundError(f"{folder} holds no DICOM picture{hint}")
    return found


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(1024)


def _storage(start: bytes) -> str:
    """Storage class of a DICOM file that is no readable picture, from its first bytes."""
    stated = re.search(rb"\x02\x00\x02\x00UI(..)([0-9.]+)", start, re.DOTALL)
    return stated[2].decode() if stated else ""


def damaged(path: Path) -> ValueError:
    """What to raise for a file that cannot be read."""
    return ValueError(f"{path.parent}: {path.name} was cut short or is damaged: fetch it again")


def _tags(reader: sitk.ImageFileReader) -> dict[str, str]:
    def text(tag: str) -> str:
        stated = reader.GetMetaData(tag) if reader.HasMetaDataKey(tag) else ""
        return stated.encode("utf-8", "replace").decode().strip(" \0")

    tags = {name: text(tag) for name, tag in TAGS.items()}
    tags["as stated"] = tags["description"]  # to be chosen by, not to be shown
    for part in re.split(r"[\^=\s,]+", text(NAME)):
        if len(part) > 2:
            tags["description"] = re.sub(re.escape(part), "***", tags["description"], flags=re.IGNORECASE)
    return tags


def one_series(slices: list[Slice], folder: Path, series: str | None) -> list[Slice]:
    """The slices of one series: the only one, or the one of that UID, number or description.

    Raises
    ------
    ValueError
        None or several fit; the message names them, without the patient.
    """
    groups: dict[str, list[Slice]] = {}
    for each in slices:
        groups.setdefault(each.tags["series"], []).append(each)
    named = "; ".join(_named(group) for group in groups.values())
    if series is None:
        if len(groups) > 1:
            raise ValueError(f"{folder} holds {len(groups)} series: {named}. Choose one with `series`")
        return slices
    wanted = str(series).strip()
    fits = [
        group
        for uid, group in groups.items()
        if wanted in (uid, *(group[0].tags[tag] for tag in ("number", "description", "as stated")))
    ]
    if len(fits) != 1:
        raise ValueError(f"{folder}: {len(fits) or 'no'} series fit {wanted!r}; it holds {named}")
    return fits[0]


def _named(group: list[Slice]) -> str:
    tags = group[0].tags
    number = f"number {tags['number']}, " if tags["number"] else ""
    slices = f"{len(group)} slice" + "s" * (len(group) != 1)
    return f"{tags['series']} ({number}{slices}, {tags['modality']}, {tags['description'] or 'no description'!r})"


def check_kind(slices: list[Slice], folder: Path, modality: str | None) -> None:
    """Refuse what is no stack of grey pictures of the modality, equal in size, spacing and orientation.

    Raises
    ------
    ValueError
    """
    for each in slices:
        if each.tags["colours"] not in ("", "1"):
            raise ValueError(
                f"{folder}: {each.path.name} is in colour: a picture of a screen, no measurement"
            )
        if modality is not None and each.tags["modality"] != modality:
            raise ValueError(
                f"{folder} holds {each.tags['modality'] or 'an unstated modality'}, {modality} is expected: name the "
                "folder of that series, or set modality=None to read it all the same"
            )
        if {"LOCALIZER", "SCOUT"} & set(each.tags["kind"].upper().split("\\")):
            raise ValueError(
                f"{folder}: {each.path.name} is a localiser: remove it, or choose another series"
            )
        if each.frames > 1:
            raise ValueError(
                f"{folder}: {each.path.name} holds {each.frames} frames (enhanced DICOM), one slice a file is read: "
                "convert it to NIfTI"
            )
    for each in slices:
        if each.tags["slope"] and each.numbers("slope", 1)[0] == 0:
            raise ValueError(f"{folder}: {each.path.name} has a rescale slope of 0: fetch it again")
        if each.tags["intercept"]:
            each.numbers("intercept", 1)
    for tag, count, what in (
        ("rows", 1, "number of rows"),
        ("columns", 1, "number of columns"),
        ("spacing", 2, "pixel spacing"),
        ("orientation", 6, "orientation"),
    ):
        there = [each.numbers(tag, count) for each in slices]
        for each, numbers in zip(slices, there, strict=True):
            if not np.allclose(numbers, there[0], rtol=1e-4, atol=1e-3):
                texts = (" x ".join(f"{number:g}" for number in one) for one in (there[0], numbers))
                raise ValueError(
                    f"{folder}: slices of one series differ in {what}: {' and '.join(texts)} "
                    f"({slices[0].path.name}, {each.path.name}); keep those of one stack"
                )


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
        See `lib.inputs.volumes.upright`. A gantry tilted against the table shears the stack, which no grid can
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
