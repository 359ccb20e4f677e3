"""Masks and label maps: several regions, each a whole number, and the names of those numbers; as images, or as DICOM:
segmentations (SEG), and structure sets (RTSTRUCT), whose contours become voxels.

highdicom reads segmentations, whatever their type and order of frames. Contours are filled by scikit-image by the rule of
every segmentation, a voxel belongs to a structure when its centre does. rt-utils (1.2.7), the usual library for them, rounds
the corners to whole pixels and fills the outline too: of a box of 450 voxels it makes 561.
"""

import os
import re
import warnings
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import highdicom
import nibabel
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.misc import is_dicom
from skimage.draw import polygon2mask

from lib.files import read_json
from lib.inputs.dicom import unsheared
from lib.inputs.tables import nearest_name, plain
from lib.inputs.volumes import Geometry, geometry_of, image_of, is_nifti, opened, placed, read_labels, upright
from lib.names import some

TOTALSEGMENTATOR = dict(spleen=1, kidney_right=2, kidney_left=3, liver=5, stomach=6, pancreas=7, aorta=52)
"""Of TotalSegmentator's 117 classes (task total, version 2) those compared with a map the tool made."""

PREFIX = "totalsegmentator:"


class LabelNames(NamedTuple):
    """Names of a map's regions with their numbers, and where they stand."""

    numbers: dict[str, int]
    source: str


def read_label(path: str | os.PathLike, like: Geometry, label: int | str | None = 1) -> np.ndarray:
    """Read one region of a label map that belongs to a volume, from whatever grid, by its place: bool (z, y, x), not empty.

    `path` is .nii, .nii.gz, .nrrd or .mha in any orientation; a DICOM segmentation or structure set, or a folder that holds
    one. `like` is the volume's. `label` is the number of the region, 1 or more, or its name (see `label_number`); None:
    everything above 0.

    Raises
    ------
    FileNotFoundError
    ValueError
        Values that are no whole numbers of 0 or more; an empty map, or one without the label; a name that is not known;
        the size of the volume with another header, or more than 2 % of the region lost (`lib.inputs.volumes.placed`).
    """
    found, number, what = regions(path), None, "the mask"
    labels = None if found else read_labels(path)
    if label is not None:
        number = label_number(path, label)
        if isinstance(number, bool) or number != int(number) or number < 1:
            raise ValueError(f"{path}: a label is a whole number of 1 or more, it is {number!r}")
        name = str(label).strip()
        what = f"label {number}" + (f" ({name})" if name != str(number) else "")
    if found:
        mask, grid = region(found, number, like)
        there = [f"{each} ({name})" for name, each in found.names]
    else:
        mask, grid = labels.values > 0 if number is None else labels.values == number, labels.geometry
        there = [f"{each:.0f}" for each in np.unique(labels.values) if each]
    fault = ""
    if not mask.any():
        fault = f"has no {what}: its labels are {some(there)}" if there else "is empty: no voxel is above 0"
    elif not (mask := placed(mask, grid, like, path, what)).any():
        fault = f"has {what}, which is lost between the voxels of the volume: {like}"
    if fault:
        raise ValueError(f"{path} {fault}")
    if isinstance(label, int) and len(there) > 1:  # nobody's choice for this mask: 1 is an organ in some sets
        warnings.warn(f"{path}: {what} is read, of {some(there)}", stacklevel=2)
    return mask


def label_number(path: str | os.PathLike, label: int | str) -> int:
    """The number of a region of the label map at `path`.

    `label` is a number ("5" too), which is given back; a name, looked for in what `label_names` finds, whatever its case,
    with underscores, hyphens or spaces; or "totalsegmentator:liver", one of `TOTALSEGMENTATOR`, for a map of that tool that
    was stored again without its names. A ValueError where the map's names are not known, or this is none of them.
    """
    if not isinstance(label, str):
        return label
    if re.fullmatch(r"-?\d+", label.strip()):
        return int(label)
    by_tool = plain(label).startswith(PREFIX)
    names = LabelNames(TOTALSEGMENTATOR, "the table verified here") if by_tool else label_names(path)
    numbers = {_key(name): number for name, number in names.numbers.items()}
    key = _key(plain(label).removeprefix(PREFIX))
    if key in numbers:
        return numbers[key]
    said = f"{names.source} has the names {', '.join([*names.numbers][:12])}{nearest_name(key, numbers)}"
    if not numbers:
        tool = f", or {PREFIX}{key} if TotalSegmentator made it" if key in TOTALSEGMENTATOR else ""
        said = f'give its number{tool}, or lay a {_bare(Path(path))}.json beside it such as {{"liver": 5}}'
    raise ValueError(f"{path} does not say which label is {label!r}: {said}")


def label_names(path: str | os.PathLike) -> LabelNames:
    """What a label map's regions are called, from the first of these that is there; no names where nothing is.

    The file's own table (a DICOM segmentation or structure set; NIfTI with the table of labels TotalSegmentator writes; 3D
    Slicer's .seg.nrrd); MASK.json beside it; labels.json in its folder; nnU-Net's dataset.json in its folder or the one
    above. A json maps names to numbers, or numbers to names, itself or under "labels". A ValueError where it has a name
    twice with different numbers, or a number that is not whole.
    """
    path = Path(path)
    pairs, source, folder = _own_table(path), f"{path.name} itself", path.parent
    beside = [folder / f"{name}.json" for name in (_bare(path), "labels", "dataset")]
    for table in (*beside, folder.parent / "dataset.json"):
        if not pairs and table.is_file():
            pairs, source = _json(table), str(table)
    numbers: dict[str, int] = {}
    seen: dict[str, str] = {}
    for name, number in pairs:
        whole = not isinstance(number, bool) and re.fullmatch(r"\d+", str(number).strip())
        if not whole or seen.setdefault(_key(name), str(number)) != str(number):
            said = (
                f"{source}: the label of {name!r} is {number!r}, where a whole number, only one, is expected"
            )
            raise ValueError(said)
        numbers[name] = int(number)
    return LabelNames({name: number for name, number in numbers.items() if number}, source)


def _key(name: str) -> str:
    return "_".join(re.split(r"[\s_\-]+", plain(name)))


def _bare(path: Path) -> str:
    return re.sub(r"(\.nii\.gz|\.seg\.nrrd|\.[^.]*)$", "", path.name)


def _own_table(path: Path) -> list[tuple[str, object]]:
    """What the map's own header says."""
    if found := regions(path):
        return found.names
    if not is_nifti(path):
        image = opened(path)
        names = [key for key in image.GetMetaDataKeys() if re.fullmatch(r"Segment\d+_Name", key)]
        numbers = [image.GetMetaData(key.replace("_Name", "_LabelValue")) for key in names]
        return list(zip(map(image.GetMetaData, names), numbers, strict=True))
    for extension in nibabel.load(path).header.extensions:
        content = extension.get_content()
        content = content if isinstance(content, bytes) else str(content).encode()
        if b"<LabelTable>" in content:
            root = ElementTree.fromstring(content.strip(b"\0 \n"))
            return [((each.text or "").strip(), each.get("Key")) for each in root.iter("Label")]
    return []


def _json(table: Path) -> list[tuple[str, object]]:
    content = read_json(table)
    labels = content.get("labels", {} if table.name == "dataset.json" else content)
    if labels and all(re.fullmatch(r"\d+", key.strip()) for key in labels):  # as nnU-Net 1 wrote them
        return [(str(name), number) for number, name in labels.items()]
    return list(labels.items())


# ------------------------------------------------------------ segmentations and structure sets of DICOM


KINDS = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.481.3"}
MUCH = 1.5  # times the usual distance: planes are missing between
IN_SLICE = 0.2  # of the distance of slices: a contour that is nearer to one was drawn in it
LEANING = 0.01  # sine of the angle between the way of the planes and their normal: half a degree
SAME_MM = 0.01  # planes of several segments at one place
IN_LINE_MM = 0.3  # that a leaning plane may lie beside the line of the others
IN_PLANE = 0.1  # of the distance of slices: how far the points of a contour may lie out of one


class Regions(NamedTuple):
    """A file of regions: where it is, its header, its regions' names and numbers as they stand."""

    path: Path
    header: Dataset
    names: list[tuple[str, int]]

    @property
    def frame(self) -> str:
        """The UID of the frame of reference it was drawn in, "" where it names none."""
        rois = self.header.get("StructureSetROISequence")
        if rois:
            return str(rois[0].get("ReferencedFrameOfReferenceUID") or "")
        return str(self.header.get("FrameOfReferenceUID") or "")


def regions(path: str | os.PathLike) -> Regions | None:
    """What a DICOM segmentation or structure set holds, a file or the only one of a folder; None for anything else."""
    path = Path(path)
    found = []
    for each in sorted(path.iterdir()) if path.is_dir() else [path]:
        if each.is_file() and (header := _header(each)) is not None:
            found.append((each, header))
    if not found and not path.is_dir():
        return None
    if len(found) != 1:
        names = ", ".join(each.name for each, _ in found) or "none"
        raise ValueError(f"{path} holds {len(found)} masks of DICOM (SEG, RTSTRUCT), not one: {names}")
    path, header = found[0]
    if "SegmentSequence" in header:
        segments = header.SegmentSequence
        names = [(str(each.get("SegmentLabel", "")), int(each.SegmentNumber)) for each in segments]
    else:
        rois = header.get("StructureSetROISequence", [])
        names = [(str(each.get("ROIName", "")), int(each.ROINumber)) for each in rois]
    return Regions(path, header, names)


def _header(path: Path) -> Dataset | None:
    if not is_dicom(path):
        return None
    kind = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).get("SOPClassUID")
    return pydicom.dcmread(path, stop_before_pixels=True) if kind in KINDS else None


def region(found: Regions, number: int | None, like: Geometry) -> tuple[np.ndarray, Geometry]:
    """The voxels (z, y, x) of one region, or of all of them, and their grid; empty where it has none."""
    if number is not None and number not in dict(map(reversed, found.names)):
        return np.zeros(like.size[::-1], bool), like
    return (_segment if "SegmentSequence" in found.header else _structure)(found, number, like)


def _segment(found: Regions, number: int | None, like: Geometry) -> tuple[np.ndarray, Geometry]:
    numbers = [each for _, each in found.names] if number is None else [number]
    dataset = pydicom.dcmread(found.path)
    groups = [*dataset.get("SharedFunctionalGroupsSequence", []), *dataset.PerFrameFunctionalGroupsSequence]
    measures = [each.PixelMeasuresSequence[0] for each in groups if "PixelMeasuresSequence" in each]
    try:
        normal, step, way = _stacked(groups)
        if way is not None or not any("SpacingBetweenSlices" in each for each in measures):
            # empty planes are left out of most files: a region in two pieces looks like one whose planes lie far apart; and
            # where the gantry was tilted, what is stated is the way of the table
            axis = int(np.abs(normal @ np.reshape(like.direction, (3, 3))).argmax())
            thick = max((float(each.get("SliceThickness") or 0) for each in measures), default=0.0)
            usual = like.spacing_mm[axis]
            step = step if 0 < step <= MUCH * max(usual, thick) else usual
            if step > MUCH * usual:
                said = f"{found.path}: its planes are {step:g} mm apart, the scan's {usual:g} mm"
                warnings.warn(said, stacklevel=4)
            for each in measures:
                each.SpacingBetweenSlices = f"{step:.8g}"
        segments = highdicom.seg.Segmentation.from_dataset(dataset, copy=False)
        lean = None if way is None else 1.0
        volume = segments.get_volume(segment_numbers=numbers, perpendicular_tol=lean)
    except (RuntimeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{found.path}: its planes cannot be stacked ({error}); give the mask on the grid of its scan, as NIfTI"
        ) from error
    inside = (volume.array >= 0.5 if volume.array.dtype.kind == "f" else volume.array > 0).any(-1)
    steps = volume.affine[:3, 2::-1]  # of columns, rows, slices
    spacing = np.linalg.norm(steps, axis=0)
    axes = steps / spacing
    image = image_of(inside, Geometry(spacing, volume.affine[:3, 3], axes.ravel(), inside.shape[::-1]))
    if way is not None:
        image = unsheared(image, way, axes.T, 0, like)
    image = upright(image, found.path, "keep", 0)
    return sitk.GetArrayFromImage(image) > 0, geometry_of(image)


def _stacked(groups: list[Dataset]) -> tuple[np.ndarray, float, np.ndarray | None]:
    """How the planes of a segmentation lie: their normal, the least distance of two (0 of one alone), mm, and, where a tilted
    gantry shifts them against each other, the way from the first to the last, mm; else None.
    """
    rows, places = (
        np.array([each[part][0][name].value for each in groups if part in each], float)
        for part, name in (
            ("PlaneOrientationSequence", "ImageOrientationPatient"),
            ("PlanePositionSequence", "ImagePositionPatient"),
        )
    )
    axes = rows[0].reshape(2, 3)
    normal = np.cross(*axes)
    places = places[np.argsort(places @ normal)]
    gaps, way = np.diff(places @ normal), places[-1] - places[0]
    step = float(min(gaps[gaps > SAME_MM], default=0.0))
    if np.linalg.norm(axes @ way) <= LEANING * np.linalg.norm(way):
        return normal, step, None
    beside = np.cross(places - places[0], way / np.linalg.norm(way))
    if np.linalg.norm(beside, axis=1).max() > IN_LINE_MM:
        raise ValueError("they do not lie in a line")
    return normal, step, way


def _structure(found: Regions, number: int | None, like: Geometry) -> tuple[np.ndarray, Geometry]:
    """Closed contours of a structure as voxels, on the planes in which they were drawn.

    Contours of one plane exclude each other (a hole is a contour within a contour). A plane reaches half-way to the next
    one, so that a structure drawn in every second slice is whole.
    """
    drawn: list[tuple[int, np.ndarray]] = []
    for each in found.header.get("ROIContourSequence", []):
        if number in (None, int(each.ReferencedROINumber)):
            every = each.get("ContourSequence", [])
            closed = [c for c in every if "CLOSED" in c.get("ContourGeometricType", "")]
            points = [np.reshape(np.asarray(c.ContourData, float), (-1, 3)) for c in closed]
            drawn += [(int(each.ReferencedROINumber), p) for p in points]
    if not drawn:
        return np.zeros(like.size[::-1], bool), like
    planar = _in_their_planes([points for _, points in drawn], like)
    axes = np.reshape(planar.direction, (3, 3)) / planar.spacing_mm
    contours = [(owner, (points - planar.origin_mm) @ axes) for owner, points in drawn]
    if any(np.ptp(points[:, 2]) > IN_PLANE for _, points in contours):
        said = f"{found.path}: its contours do not lie in parallel planes, as slices do; give it as NIfTI"
        raise ValueError(said)
    depths = np.array([points[:, 2].mean() for _, points in contours])
    in_slices = np.abs(depths - np.rint(depths)).max() <= IN_SLICE
    planes = np.unique(np.round(depths, 0 if in_slices else 1))
    gaps = np.diff(planes)
    step = float(gaps.min()) if len(gaps) else 1.0
    low = np.floor(np.min([points.min(0) for _, points in contours], 0)[:2]) - 1
    high = np.ceil(np.max([points.max(0) for _, points in contours], 0)[:2]) + 1
    size = (*(high - low).astype(int) + 1, int(np.rint((planes[-1] - planes[0]) / step)) + 1)
    if empty := size[2] - len(planes):
        warnings.warn(f"{found.path}: {empty} planes between its contours have none", stacklevel=4)
    mask: dict[int, np.ndarray] = {}
    for (owner, points), depth in zip(contours, depths, strict=True):
        k = int(np.rint((depth - planes[0]) / step))
        own = mask.setdefault(owner, np.zeros(size[::-1], bool))
        own[k] ^= polygon2mask(size[1::-1], (points[:, :2] - low)[:, ::-1])
    origin = planar.points([[*low, planes[0]]])[0]
    spacing = (*planar.spacing_mm[:2], planar.spacing_mm[2] * step)
    grid = planar._replace(spacing_mm=spacing, origin_mm=tuple(origin), size=size)
    return np.logical_or.reduce([*mask.values()]), grid


def _in_their_planes(contours: list[np.ndarray], like: Geometry) -> Geometry:
    """The grid itself where contours (n, 3), mm, lie in its slices; else one turned into their planes, as of a tilted gantry."""
    axes = np.reshape(like.direction, (3, 3))
    if all(np.ptp(points @ axes[:, 2]) <= IN_PLANE * like.spacing_mm[2] for points in contours):
        return like
    spread = np.concatenate([points - points.mean(0) for points in contours])
    normal = np.linalg.eigh(spread.T @ spread)[1][:, 0]
    normal = normal * np.sign(normal @ axes[:, 2])
    x = axes[:, 0] - (axes[:, 0] @ normal) * normal
    x /= np.linalg.norm(x)
    turned = np.stack([x, np.cross(normal, x), normal], axis=1)
    # columns of voxels fall onto those of the scan where the planes were turned about them
    first = contours[0].mean(0)
    first = first - ((first - like.origin_mm) @ axes[:, 0] % like.spacing_mm[0]) * x
    gaps = np.diff(np.sort([points.mean(0) @ normal for points in contours]))
    step = min(gaps[gaps > like.spacing_mm[2] / 2], default=like.spacing_mm[2])
    return like._replace(
        spacing_mm=(*like.spacing_mm[:2], float(step)),
        origin_mm=tuple(first),
        direction=tuple(turned.ravel()),
    )
