"""One DICOM series of a folder as a volume: sorted by place, in Hounsfield units, refused where slices are amiss.

pydicom reads the headers, SimpleITK the pixels, compressed ones too, highdicom those of files of many frames. Who the
patient is stays in the files: the name is read for one purpose, to strike it out of a series' description.
"""

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.uid import UID

from lib.inputs import volumes
from lib.inputs.volumes import AIR_HU, Geometry, Volume, geometry_of
from lib.names import MOST_NAMED

STEP = 0.01  # share of the step by which distances between neighbouring slices may differ
SUFFIXES = (".dcm", ".dicom", ".ima")
PLACE = "ImagePositionPatient"
COUNTS = {PLACE: 3, "Rows": 1, "Columns": 1, "PixelSpacing": 2, "ImageOrientationPatient": 6}
APART = (
    *("ConvolutionKernel", "SeriesDescription", "PixelSpacing", "Rows", "ImageType", "SliceThickness", "KVP"),
    *("ImageOrientationPatient", "AcquisitionNumber", "StackID", "TemporalPositionIndex"),
    *("TemporalPositionIdentifier", "AcquisitionTime"),
)
"""What tells stacks apart that were stored under one SeriesInstanceUID."""

FRAME_WORDS = {
    "AcquisitionDateTime": "FrameAcquisitionDateTime",
    "AcquisitionNumber": "FrameAcquisitionNumber",
    "ImageType": "FrameType",
    "InstanceNumber": "InStackPositionNumber",
}
"""What a frame calls otherwise than a slice in a file of its own."""


def read_dicom(folder: str | os.PathLike, series: str | None = None, oblique: str = "refuse") -> Volume:
    """Read one DICOM series of CT of a folder, as stored values times rescale slope plus intercept (HU for CT), in LPS.

    `folder` holds files of any name, itself or in its subfolders, or is one file of many frames (enhanced CT). Files that are
    no DICOM are passed over; other series, DICOM without a picture (DICOMDIR, structures, reports) and exact copies of slices
    too, with a warning. `series` chooses where there are several of CT that state a place, localisers and maps in other units
    apart: SeriesInstanceUID, series number, description, or what tells its stacks apart (`APART`: the kernel, "B30f"). For
    `oblique` see `lib.inputs.volumes.upright`; a gantry tilted against the table shears the stack, which no grid can hold, so
    that "keep" is refused for it; "resample" interpolates every voxel from its place. Where the distance of slices changes
    within a stack whose numbers have no gap, it is interpolated to the smallest.

    Raises
    ------
    FileNotFoundError
        No such folder, or no DICOM in it.
    ValueError
        A file is damaged; several series; another modality, localiser, colour; slices of mixed size or orientation,
        missing, doubled, out of line; oblique.
    """
    folder = Path(folder)
    found = pictures(folder)
    if not found:
        said = f"{folder} holds no DICOM picture, nor do the folders below it: name the scan's"
        raise FileNotFoundError(said)
    slices = _one_series(found, folder, series)
    warn_of_voltages(slices, folder)
    slices = in_place(_without_copies(slices, folder), folder)
    image, stored_as = stack_of(slices, np.stack([pixels(each) for each in slices]), folder, oblique)
    header = kind_of(slices[0]) | {"frame": str(slices[0].get("FrameOfReferenceUID", ""))}
    return Volume(volumes.values_of(image, folder), geometry_of(image), stored_as, header=header)


def kind_of(header: Mapping[str, object] | Dataset) -> dict[str, str]:
    """What a slice, or a sidecar of dcm2niix, says it is, as `lib.inputs.volumes.check_hounsfield` takes it."""
    tags = {"modality": "Modality", "units": "RescaleType", "image_type": "ImageType"}
    return {name: str(header.get(tag, "")) for name, tag in tags.items()}


def in_place(slices: list[Dataset], folder: Path) -> list[Dataset]:
    """Headers sorted along the stack, refused where they are not one stack of measurements (see `read_dicom`)."""
    for fault in _faults(slices):
        raise ValueError(f"{folder}: {fault}")
    return sorted(slices, key=along)


def warn_of_voltages(slices: Iterable[Dataset], folder: Path) -> None:
    """Warn where slices were taken at several voltages, at each of which contrast has other HU."""
    if len(found := sorted({str(each.get("KVP") or "") for each in slices} - {""})) > 1:
        warnings.warn(f"{folder}: taken at {' and '.join(found)} kV: HU of contrast differ", stacklevel=3)


def along(header: Dataset) -> float:
    """Where a slice lies along the normal of its plane, mm."""
    return float(numbers_of(header, PLACE) @ _axes(header)[2])


def stack_of(slices: list[Dataset], values: np.ndarray, folder: Path, oblique: str) -> tuple[sitk.Image, str]:
    """Values (z, y, x) of slices in place as an image in LPS, and the orientation they were stored in."""
    across = _axes(slices[0])
    values = _evenly(values, np.array([along(each) for each in slices]), folder)
    first, last = (numbers_of(each, PLACE) for each in (slices[0], slices[-1]))
    rows_mm, columns_mm = numbers_of(slices[0], "PixelSpacing")  # DICOM states the distance of rows first
    spacing = columns_mm, rows_mm, float((last - first) @ across[2]) / (len(values) - 1)
    image = volumes.image_of(values, Geometry(spacing, first, across.T.ravel(), values.shape[::-1]))
    stored_as = geometry_of(image).orientation
    if np.linalg.norm(across[:2] @ (last - first)) > min(rows_mm, columns_mm) / 2:
        if oblique != "resample":
            way = (last - first) / np.linalg.norm(last - first)
            lean = np.degrees(np.arccos(np.clip(way @ across[2], -1, 1)))
            raise ValueError(
                f"{folder}: the gantry was tilted, slices are shifted against each other by {lean:.1f} degrees: set "
                "oblique to 'resample' (interpolated onto the patient's axes)"
            )
        image = unsheared(image, last - first, across, AIR_HU)
    return volumes.upright(image, folder, oblique, AIR_HU), stored_as


def _evenly(values: np.ndarray, places: np.ndarray, folder: Path) -> np.ndarray:
    """Slices at places (mm, rising) whose steps vary, interpolated linearly to the smallest step."""
    steps = np.diff(places)
    if not _varies(steps):
        return values
    count = int(np.rint((places[-1] - places[0]) / steps.min()))
    wanted = np.linspace(places[0], places[-1], count + 1)
    below = np.clip(np.searchsorted(places, wanted, "right") - 1, 0, len(steps) - 1)
    share = ((wanted - places[below]) / steps[below])[:, None, None].astype(values.dtype)
    warnings.warn(
        f"{folder}: slices are {steps.min():g} to {steps.max():g} mm apart: interpolated to {wanted[1] - wanted[0]:g} mm",
        stacklevel=2,
    )
    return values[below] * (1 - share) + values[below + 1] * share


def _varies(steps: np.ndarray) -> bool:
    """Whether distances of slices change between a few values, each of which stands twice or more."""
    usual = np.median(steps)
    alike = np.abs(steps[:, None] - steps) <= STEP * np.minimum(steps[:, None], steps)
    return bool((np.abs(steps - usual) > STEP * usual).any() and (alike.sum(0) > 1).all())


def pictures(folder: Path) -> list[Dataset]:
    """Headers of the pictures of a folder, or of those below it where it holds none, by file name and whatever their series.

    Of an enhanced CT there is one for each frame: what its functional groups say stands in the header itself, as in a file
    of one slice.
    """
    if folder.is_file():
        return _headers([folder], folder)
    return _headers(folder.iterdir(), folder) or _headers(folder.rglob("*"), folder)


def _headers(paths: Iterable[Path], folder: Path) -> list[Dataset]:
    slices, others = [], []
    for path in sorted(each for each in paths if not each.is_dir()):
        try:
            with warnings.catch_warnings(action="ignore"):
                header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        except OSError:  # a link to nowhere might be the last slice
            raise
        except Exception:  # what is no DICOM at all
            header = Dataset()
        known = getattr(header, "preamble", None) is not None
        kind = header.file_meta.get("MediaStorageSOPClassUID", UID("")).name if known else ""
        if "Rows" in header:
            many = header.get("Modality") == "CT" and "PerFrameFunctionalGroupsSequence" in header
            slices += _frames(header) if many else [header]
        elif "Image Storage" in kind or (not known and path.suffix.lower() in SUFFIXES):
            raise _damaged(path)
        elif known:
            others.append(f"{path.name} ({kind})")
    if others:
        many = f" and {len(others) - 1} more" if len(others) > 1 else ""
        warnings.warn(f"{folder}: passed over {others[0]}{many}, DICOM without a picture", stacklevel=4)
    return slices


def _frames(header: Dataset) -> list[Dataset]:
    """The frames of an enhanced file, each as the header of a slice."""
    common, frames = Dataset(), []
    common.update({each.tag: each for each in header if not each.keyword.endswith("GroupsSequence")})
    common.pop("NumberOfFrames", None)
    shared = header.get("SharedFunctionalGroupsSequence") or [Dataset()]
    for number, group in enumerate(header.PerFrameFunctionalGroupsSequence):
        frame = Dataset()
        frame.update(common)
        for each in [*shared[0], *group]:
            if each.VR == "SQ" and each.value:
                frame.update(each.value[0])
        for usual, special in FRAME_WORDS.items():
            if special in frame:
                frame.pop(usual, None)  # the file's own, which all frames share
                setattr(frame, usual, frame[special].value)
        frame.filename, frame.frame = header.filename, number
        frames.append(frame)
    return frames


def _damaged(path: Path) -> ValueError:
    return ValueError(f"{path.parent}: {path.name} was cut short or is damaged: fetch it again")


def _one_series(slices: list[Dataset], folder: Path, series: str | None) -> list[Dataset]:
    """The slices of one stack: the only one of CT, or the one of that UID, number, description or kernel."""
    wanted, groups, stacks = str(series or "").strip(), {}, []
    for each in slices:
        groups.setdefault(str(each.get("SeriesInstanceUID", "")), []).append(each)
    for uid, whole in groups.items():
        header = whole[0]
        number, stated = (str(header.get(f"Series{key}", "")).strip() for key in ("Number", "Description"))
        kind, shown = str(header.get("Modality", "")), without_name(stated, header)
        for name, group in _parts(whole).items():
            usual = kind == "CT" and not _is_localiser(group[0])
            fits = wanted in (uid, number, stated, shown, name) if wanted else usual
            text = f"{uid} (number {number or 'none'}, slices: {len(group)}, {kind}, {shown or 'no description'!r}"
            brief = " ".join(filter(None, (kind, name, repr(shown or number))))
            stacks.append((fits, group, text + (f", {name!r})" if name else ")"), brief))
    chosen = [stack for stack in stacks if stack[0]]
    if len(chosen) > 1:
        measured = [stack for stack in chosen if _is_stack(stack[1])]
        chosen = measured if len(measured) == 1 else chosen
    if len(stacks) == 1 and not wanted:
        chosen = stacks  # what is amiss with it is said where it is
    if len(chosen) != 1:
        known = "; ".join(text for *_, text, _ in stacks[:MOST_NAMED]) + ", ..." * (len(stacks) > MOST_NAMED)
        raise ValueError(
            f"{folder}: {len(chosen) or 'no'} series fit {wanted or 'CT'!r}; it holds {known}. "
            "Choose one with `series`"
        )
    if others := [stack[3] for stack in stacks if stack is not chosen[0]]:
        warnings.warn(f"{folder}: not read: {', '.join(others)}", stacklevel=3)
    return chosen[0][1]


def _is_stack(slices: list[Dataset]) -> bool:
    """Whether these are slices in grey that state their place and no other unit than HU: no report, no map."""
    header = slices[0]
    stated = all(len(numbers_of(header, keyword)) == count for keyword, count in COUNTS.items())
    kind = kind_of(header)
    other = volumes.another_map(kind["units"], kind["image_type"])
    return len(slices) > 1 and stated and header.get("SamplesPerPixel", 1) == 1 and not other


def _parts(slices: list[Dataset], keywords: Sequence[str] = APART) -> dict[str, list[Dataset]]:
    """The stacks that share a SeriesInstanceUID, by what tells them apart; all of them as "" where nothing does."""
    pictures = [each for each in slices if not _is_localiser(each)]
    if 0 < len(pictures) < len(slices):
        return _parts(pictures, keywords) | {"localiser": [each for each in slices if _is_localiser(each)]}
    if any(len(numbers_of(each, keyword)) != count for each in slices for keyword, count in COUNTS.items()):
        return {"": slices}
    even = not next(_faults(distinct(slices)), "")
    for number, keyword in enumerate(keywords):
        if even and keyword != APART[0]:  # two kernels may interleave; all else that does is one stack
            break
        parts: dict[str, list[Dataset]] = {}
        for each in slices:
            parts.setdefault(str(each.get(keyword, "")), []).append(each)
        if len(parts) > 1 and min(map(len, parts.values())) > 1:
            finer = {
                f"{name} {below}".strip(): some
                for name, part in parts.items()
                for below, some in _parts(part, keywords[number + 1 :]).items()
            }
            places = [sorted(map(along, part)) for part in parts.values()]
            overlap = max(each[0] for each in places) < min(each[-1] for each in places)
            overlap |= keyword == "ImageOrientationPatient"
            if overlap and not any(next(_faults(distinct(some)), "") for some in finer.values()):
                return finer
    return {"": slices}


def distinct(slices: list[Dataset]) -> list[Dataset]:
    """The first of the pictures that share a SOPInstanceUID, frames apart."""
    known: dict[tuple, Dataset] = {}
    for each in slices:
        known.setdefault((each.get("SOPInstanceUID", each.filename), getattr(each, "frame", 0)), each)
    return [*known.values()]


def _without_copies(slices: list[Dataset], folder: Path) -> list[Dataset]:
    """Slices without those that stand at the place of another one and show the same."""
    kept: dict[tuple, list[Dataset]] = {}
    copies = []
    for each in slices:
        place = tuple(np.round(numbers_of(each, PLACE), 2))
        same = kept.setdefault(place, [])
        if same and place and any(np.array_equal(pixels(each), pixels(one)) for one in same):
            copies.append(Path(each.filename).name)
        else:
            same.append(each)
    if copies:
        warnings.warn(f"{folder}: {len(copies)} exact copies of slices dropped, as {copies[0]}", stacklevel=3)
    return [each for some in kept.values() for each in some]


def without_name(text: str, header: Dataset) -> str:
    """A series' description, with every part of the patient's name struck out."""
    for part in re.split(r"[\^=\s,]+", str(header.get("PatientName", ""))):
        text = re.sub(re.escape(part), "***", text, flags=re.IGNORECASE) if len(part) > 2 else text
    return text


def _is_localiser(header: Dataset) -> bool:
    return bool(re.search("LOCALIZER|SCOUT", str(header.get("ImageType", "")).upper()))


def numbers_of(header: Dataset, keyword: str) -> np.ndarray:
    """The numbers of a header's element; none where it is missing, or any of them is no finite number."""
    try:
        numbers = np.atleast_1d(np.asarray(header[keyword].value, dtype=float))
    except (KeyError, TypeError, ValueError):
        return np.empty(0)
    return numbers if np.isfinite(numbers).all() else np.empty(0)


def _faults(slices: list[Dataset]) -> Iterator[str]:
    """What keeps pictures from being one stack of measurements, to be heeded one after the other."""
    names = [Path(each.filename).name for each in slices]
    for each, name in zip(slices, names, strict=True):
        stated, frames = each.get("Modality"), int(each.get("NumberOfFrames") or 1)
        if each.get("SamplesPerPixel", 1) != 1:
            yield f"{name} is in colour: a picture of a screen, no measurement"
        if stated != "CT":
            yield f"holds {stated or 'an unstated modality'}, CT is expected: name the folder of that series"
        if _is_localiser(each):
            yield f"{name} is a localiser: remove it, or choose another series"
        if frames > 1:
            yield f"{name} holds {frames} frames that do not say where they lie: convert it to NIfTI"
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
    if len({str(each.get("PatientID", "")) for each in slices}) > 1:
        yield "slices of several patients (PatientID) are in one series: keep those of one"
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
    numbers = [numbers_of(slices[number], "InstanceNumber") for number in order]
    whole = all(map(len, numbers)) and (np.abs(np.diff(numbers, axis=0)) == 1).all()
    if (uneven := int((np.abs(steps - usual) > STEP * usual).sum())) and not (whole and _varies(steps)):
        why = "slices are missing or two stacks are mixed; fetch the series again"
        why = "though no number is missing; give it interpolated to equal steps, as NIfTI" if whole else why
        yield (
            f"slices are {usual:g} mm apart but {steps[at]:g} mm between {along[at]:.2f} and {along[at + 1]:.2f} mm "
            f"({names[at]}, {names[at + 1]}), {uneven} uneven steps in all: {why}"
        )
    aside = (places - places[0]) @ across[:2].T
    off = np.linalg.norm(aside - ((along - along[0]) / np.ptp(along))[:, None] * aside[-1], axis=1)
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
    if (frame := getattr(header, "frame", None)) is not None:
        return _frame_values(header.filename)[frame]
    try:
        image = sitk.ReadImage(header.filename, sitk.sitkFloat32, "GDCMImageIO")
    except RuntimeError as error:
        raise _damaged(Path(header.filename)) from error
    return sitk.GetArrayFromImage(image).reshape(image.GetSize()[1::-1])


@lru_cache(1)
def _frame_values(path: str) -> np.ndarray:
    """All frames of an enhanced file, rescaled each by its own slope and intercept."""
    try:
        how = {"apply_real_world_transform": False, "apply_presentation_lut": False}
        return highdicom.imread(path).get_frames(dtype=np.float32, **how)
    except (RuntimeError, ValueError, AttributeError, EOFError, NotImplementedError) as error:
        said = str(error).splitlines()[0]
        said = f"{path}: its frames cannot be decoded ({said}): fetch it again, or store it uncompressed"
        raise ValueError(said) from error


def unsheared(
    image: sitk.Image, way: np.ndarray, across: np.ndarray, outside: float, like: Geometry | None = None
) -> sitk.Image:
    """A stack whose slices are shifted against each other, on the patient's axes; or a mask, on voxels as those of `like`.

    The image has the slices straight above each other; `way` leads from the first to the last, mm, and the rows of `across`
    (3, 3) are the directions of x, y and of the stack. `outside` is the value of what lies beyond.
    """
    # a point of the plain stack plus its height times the lean is its place in the patient
    shear = np.eye(3) + np.outer(way / (way @ across[2]) - across[2], across[2])
    plain = geometry_of(image)
    origin = np.asarray(plain.origin_mm)
    corners = origin + (plain.points(volumes.corners_of(plain)) - origin) @ shear.T
    back = sitk.AffineTransform(np.linalg.inv(shear).ravel().tolist(), [0.0] * 3, origin.tolist())
    if like is None:
        spacing = np.take(plain.spacing_mm, np.abs(np.reshape(plain.direction, (3, 3))).argmax(1))
        return volumes.brought_onto(image, volumes.upright_grid(corners, spacing), outside, transform=back)
    at = (corners - like.origin_mm) @ (np.reshape(like.direction, (3, 3)) / like.spacing_mm)
    low, high = np.floor(at.min(0) + 1e-6), np.ceil(at.max(0) - 1e-6)
    size = tuple((high - low).astype(int).tolist())
    grid = like._replace(origin_mm=tuple(like.points(low[None])[0].tolist()), size=tuple(n + 1 for n in size))
    return volumes.brought_onto(image, grid, outside, sitk.sitkNearestNeighbor, back)
