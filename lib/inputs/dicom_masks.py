"""Masks as DICOM: segmentations (SEG), and structure sets (RTSTRUCT), whose contours become voxels.

highdicom reads segmentations, whatever their type and order of frames. Contours are filled by scikit-image by the rule of
every segmentation, a voxel belongs to a structure when its centre does. rt-utils (1.2.7), the usual library for them, rounds
the corners to whole pixels and fills the outline too: of a box of 450 voxels it makes 561.
"""

import os
import warnings
from pathlib import Path
from typing import NamedTuple

import highdicom
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.misc import is_dicom
from skimage.draw import polygon2mask

from lib.inputs.dicom import unsheared
from lib.inputs.volumes import Geometry, geometry_of, upright

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
        found = (
            rois[0].get("ReferencedFrameOfReferenceUID") if rois else self.header.get("FrameOfReferenceUID")
        )
        return str(found or "")


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
        raise ValueError(
            f"{path} holds {len(found)} masks of DICOM (SEG, RTSTRUCT), one is expected: {names}"
        )
    path, header = found[0]
    if "SegmentSequence" in header:
        names = [
            (str(each.get("SegmentLabel", "")), int(each.SegmentNumber)) for each in header.SegmentSequence
        ]
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
                warnings.warn(
                    f"{found.path}: its planes are {step:g} mm apart, the scan's {usual:g} mm", stacklevel=4
                )
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
    image = sitk.GetImageFromArray(inside.astype(np.uint8))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetDirection((steps / np.linalg.norm(steps, axis=0)).ravel().tolist())
    if way is not None:
        across = (steps / np.linalg.norm(steps, axis=0)).T
        image = unsheared(image, way, across, 0, like)
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
            closed = [
                c for c in each.get("ContourSequence", []) if "CLOSED" in c.get("ContourGeometricType", "")
            ]
            points = [np.reshape(np.asarray(c.ContourData, float), (-1, 3)) for c in closed]
            drawn += [(int(each.ReferencedROINumber), p) for p in points]
    if not drawn:
        return np.zeros(like.size[::-1], bool), like
    planar = _in_their_planes([points for _, points in drawn], like)
    axes = np.reshape(planar.direction, (3, 3)) / planar.spacing_mm
    contours = [(owner, (points - planar.origin_mm) @ axes) for owner, points in drawn]
    if any(np.ptp(points[:, 2]) > IN_PLANE for _, points in contours):
        raise ValueError(
            f"{found.path}: its contours do not lie in parallel planes, as slices do; give the mask as NIfTI"
        )
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
    grid = planar._replace(
        spacing_mm=(*planar.spacing_mm[:2], planar.spacing_mm[2] * step), origin_mm=tuple(origin), size=size
    )
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
