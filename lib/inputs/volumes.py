"""Grids in space: where the voxels of a volume lie in the patient, in mm.

Coordinates are DICOM's and SimpleITK's: x grows to the patient's left, y to posterior, z to superior (LPS). NIfTI's own
(RAS) has x and y the other way round; SimpleITK turns them on reading.

Image files of three to five axes opened by SimpleITK: whole, orientable, turned to the patient's axes.

SimpleITK reads a .nii.gz that was cut short, or has a damaged byte, without a word and fills up with zeros, as it does
in place of NaN. So the bytes are verified before it reads them.

Seconds between the frames of a series: what its NIfTI header says, what the user says, and whether they agree.

When the frames of a series were taken, and how they are brought onto a clock of equal steps.

Volumes and series of volumes: CT in Hounsfield units on a grid in the patient, whatever way the file stores it.

Arrays have SimpleITK's order, (z, y, x) and (frames, z, y, x), and lie LPS: x grows to the patient's left, y to
posterior, z to superior.
"""

import gzip
import itertools
import json
import math
import os
import re
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import SimpleITK as sitk
from nibabel.spatialimages import HeaderDataError

from lib.files import written
from lib.inputs.tables import read_columns

OBLIQUE_DEG = 1.0
"""Tilt from which a grid counts as oblique, degrees; below it is rounding, or a head not held quite straight."""

SAME_GRID = 0.05
"""Grids whose corners lie within this share of a voxel's shortest side are one grid: headers round to float32."""


class Geometry(NamedTuple):
    """The grid of a volume.

    Attributes
    ----------
    spacing_mm : tuple of 3 floats
        Distance of neighbouring voxels along x, y, z, mm.
    origin_mm : tuple of 3 floats
        Centre of the first voxel, LPS, mm.
    direction : tuple of 9 floats
        3 x 3 cosines, row by row; column k is the direction in which index k grows. The identity is LPS.
    size : tuple of 3 ints
        Voxels along x, y, z: an array of the grid has the shape `size[::-1]`.
    """

    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: tuple[float, ...]
    size: tuple[int, int, int]

    @property
    def orientation(self) -> str:
        """Where x, y and z grow to, as three letters: LPS is left, posterior, superior."""
        return sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(self.direction)

    @property
    def tilt_deg(self) -> float:
        """Largest angle between an axis of the grid and the patient's axis nearest to it, degrees."""
        cosines = np.abs(np.reshape(self.direction, (3, 3))).max(0)
        return float(np.degrees(np.arccos(np.minimum(cosines, 1))).max())

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, ml."""
        return float(np.prod(self.spacing_mm)) / 1000

    def points(self, indices: np.ndarray) -> np.ndarray:
        """Places (n, 3) in mm, LPS, of voxel indices (n, 3) in the order x, y, z; fractions allowed."""
        steps = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing_mm)
        return np.asarray(self.origin_mm) + np.asarray(indices, dtype=float) @ steps.T

    def __str__(self) -> str:
        """In words, for messages."""
        size, spacing, origin = (
            sep.join(f"{number:.6g}" for number in numbers)
            for sep, numbers in ((" x ", self.size), (" x ", self.spacing_mm), (", ", self.origin_mm))
        )
        return f"{size} voxels of {spacing} mm, {self.orientation}, first at ({origin}) mm"


def geometry_of(image: sitk.Image) -> Geometry:
    """The grid of a three-dimensional SimpleITK image."""
    return Geometry(image.GetSpacing(), image.GetOrigin(), image.GetDirection(), image.GetSize())


def image_of(values: np.ndarray, geometry: Geometry) -> sitk.Image:
    """A SimpleITK image of an array (z, y, x) on its grid; bool becomes uint8.

    Raises
    ------
    ValueError
        The array's shape is not the grid's.
    """
    if values.shape != geometry.size[::-1]:
        raise ValueError(f"an array (z, y, x) of shape {values.shape} does not lie on {geometry}")
    image = sitk.GetImageFromArray(values.astype(np.uint8) if values.dtype == bool else values)
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(geometry.direction)
    return image


def same_grid(one: Geometry, other: Geometry) -> bool:
    """Whether two grids have as many voxels, at the same places (to `SAME_GRID` of a voxel)."""
    if tuple(one.size) != tuple(other.size):
        return False
    corners = corners_of(one)
    apart = np.linalg.norm(one.points(corners) - other.points(corners), axis=1)
    return bool(apart.max() <= SAME_GRID * min(*one.spacing_mm, *other.spacing_mm))


def corners_of(geometry: Geometry) -> np.ndarray:
    """Indices (8, 3) of the outermost voxels."""
    return np.array(list(itertools.product(*((0, n - 1) for n in geometry.size))))


def straightened(geometry: Geometry) -> Geometry:
    """The grid along the patient's axes that covers an oblique one, with its spacing."""
    places = geometry.points(corners_of(geometry))
    low, high = places.min(0), places.max(0)
    size = np.ceil((high - low) / geometry.spacing_mm - 1e-6).astype(int) + 1
    return Geometry(geometry.spacing_mm, tuple(low.tolist()), tuple(np.eye(3).ravel()), tuple(size.tolist()))


def brought_onto(image: sitk.Image, grid: Geometry, outside: float, how: int = sitk.sitkLinear) -> sitk.Image:
    """An image sampled where the voxels of another grid lie: linear, or `sitk.sitkNearestNeighbor` for a mask.

    Parameters
    ----------
    image : sitk.Image
        Three-dimensional.
    grid : Geometry
    outside : float
        Value of voxels more than half a voxel outside the image.
    how : int
        SimpleITK's interpolator.
    """
    return sitk.Resample(
        image, grid.size, sitk.Transform(), how, grid.origin_mm, grid.spacing_mm, grid.direction, outside
    )


AIR_HU = -1024.0
OBLIQUE = ("refuse", "keep", "resample")
NIFTI = (".nii", ".nii.gz")
MOST_BYTES = 16 << 30
"""Of voxels: 40 frames of 512 x 512 x 320 as float32 are 13 GB."""

MOST_SHRUNK, MOST_BEHIND = 100, 64 << 20
"""Voxels beyond 1 GB are not packed to less than a hundredth, and nothing of such size follows them."""

SPACING_MM = (0.01, 100.0)
LARGEST = 1e6
"""Of a voxel: no scanner's unit reaches it."""

SAME_PLACE = 0.5
"""Share of a voxel by which two statements of a header may differ."""


def opened(path: str | os.PathLike) -> sitk.Image:
    """Read an image file (NIfTI, NRRD, MetaImage, ...) after verifying that it is whole.

    Raises
    ------
    FileNotFoundError
    ValueError
        Cut short or damaged; no image; axes that are not at right angles; colour.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no image at {path}")
    try:
        _verify(path)
        image = sitk.ReadImage(str(path))
    except (OSError, EOFError, zlib.error, HeaderDataError, nibabel.filebasedimages.ImageFileError) as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} was cut short or is damaged ({said}): fetch it again") from error
    except (RuntimeError, MemoryError) as error:
        said = next(iter(reversed(str(error).strip().splitlines())), type(error).__name__)
        said = said.removeprefix("ITK ERROR: ").removeprefix("sitk::ERROR: ")
        said = re.sub(r"\w+\(0x[0-9a-f]+\): ", "", said)[:200]
        raise ValueError(f"{path} cannot be read as an image: {said}") from error
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path} was cut short or is damaged ({error}): fetch it again") from error
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ValueError(
            f"{path} has {image.GetNumberOfComponentsPerPixel()} numbers a voxel: one is expected"
        )
    geometry = np.array([*image.GetSpacing()[:3], *image.GetOrigin()[:3], *image.GetDirection()])
    low, high = SPACING_MM
    if not np.isfinite(geometry).all() or not all(low <= side <= high for side in image.GetSpacing()[:3]):
        raise ValueError(
            f"{path} has voxels of {' x '.join(f'{side:g}' for side in image.GetSpacing()[:3])} mm: {low:g} to {high:g} "
            "are expected; correct its header"
        )
    return image


def is_nifti(path: str | os.PathLike) -> bool:
    """Whether a name ends in .nii or .nii.gz."""
    return str(path).endswith(NIFTI)


def _verify(path: Path) -> None:
    """Raise where a file holds fewer bytes than its header promises, damaged ones, NaN, or none but another file's."""
    if not is_nifti(path):
        with open(path, "rb") as file:
            start = file.read(1 << 16)
        found = re.search(rb"(?im)^\s*(?:data ?file\s*:|ElementDataFile\s*=)\s*([^\r\n]+)", start)
        if found and found[1].strip().upper() != b"LOCAL":
            raise ValueError(
                f"{path} says that its voxels lie in {found[1].decode('utf-8', 'replace')[:60].strip()}: one file with "
                "header and voxels is expected"
            )
        return
    image = nibabel.load(path)
    kind, start = image.get_data_dtype(), image.dataobj.offset
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
        header = type(image.header).from_fileobj(
            stream, check=False
        )  # as it stands: nibabel has mended its own
    if header["magic"].item()[:3] not in (b"n+1", b"n+2"):
        raise ValueError(f"{path} says that its voxels lie in another file: one .nii with both is expected")
    if not image.shape or min(image.shape) < 1:
        raise ValueError(f"{path} has {' x '.join(map(str, image.shape)) or 'no'} voxels")
    promised = math.prod(image.shape) * kind.itemsize
    if promised > MOST_BYTES or (promised > 1 << 30 and promised > MOST_SHRUNK * path.stat().st_size):
        raise ValueError(
            f"{path} claims {promised:,} bytes of voxels in a file of {path.stat().st_size:,}: it is no scan"
        )
    _verify_header(header, path)
    there = bad = 0
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
        stream.seek(start)
        while block := stream.read(kind.itemsize << 20):  # to the end, where gzip's checksum is
            if kind.kind == "f":
                numbers = np.frombuffer(block, kind, len(block) // kind.itemsize)
                bad += int((~np.isfinite(numbers)).sum())
            there += len(block)
            if there > promised + MOST_BEHIND:
                raise ValueError(
                    f"{path} goes on long after the {promised:,} bytes of voxels that its header promises"
                )
    if there < promised:
        raise EOFError(f"{there} of {promised} bytes of voxels")
    if bad:
        raise ValueError(
            f"{path}: {bad} of {promised // kind.itemsize} voxels are NaN or infinite; air is {AIR_HU:g} HU"
        )
    if not int(header["qform_code"]) and not int(header["sform_code"]):
        warnings.warn(f"{path} does not say how it is oriented: x, y, z are taken as they lie", stacklevel=4)


def _verify_header(header: nibabel.Nifti1Header, path: Path) -> None:
    """Raise where scale or place are no numbers; warn where a header states two places, of which ITK takes one."""
    slope, intercept = (float(header[name]) for name in ("scl_slope", "scl_inter"))
    if np.isinf(slope) or slope < 0 or (slope and np.isfinite(slope) and not np.isfinite(intercept)):
        raise ValueError(
            f"{path} has the slope {slope:g} and the intercept {intercept:g}: correct its header"
        )
    forms = [form for form in (header.get_sform(coded=True), header.get_qform(coded=True)) if form[1]]
    sides = np.array(header["pixdim"][1:4], dtype=float)
    if (
        not all(np.isfinite(form[0]).all() for form in forms)
        or not np.isfinite(sides).all()
        or (sides == 0).any()
    ):
        raise ValueError(f"{path} does not say where its voxels lie: its header holds 0, NaN or infinity")
    if any(abs(np.linalg.det(affine[:3, :3])) < 1e-9 for affine, _ in forms):
        raise ValueError(f"{path} does not say where its voxels lie: two of its axes are one")
    shape = np.array([*header.get_data_shape(), 1, 1][:3])
    if len(forms) == 2:
        corners = np.array(
            [[x, y, z, 1] for x in (0, shape[0]) for y in (0, shape[1]) for z in (0, shape[2])]
        )
        apart = np.abs(corners @ (forms[0][0] - forms[1][0]).T).max()
    elif forms:
        apart = np.abs(shape * (np.linalg.norm(forms[0][0][:3, :3], axis=0) - np.abs(sides))).max()
    if forms and apart > SAME_PLACE * np.abs(sides).min():
        warnings.warn(
            f"{path} states two places for its voxels, {apart:g} mm apart: one of them is wrong", stacklevel=5
        )


def upright(image: sitk.Image, path: str | os.PathLike, oblique: str, outside: float) -> sitk.Image:
    """Turn a three-dimensional image to LPS by flips and swaps of axes, which change no voxel.

    Parameters
    ----------
    image : sitk.Image
    path : path
        For the sentences.
    oblique : "refuse" | "keep" | "resample"
        What is done with axes more than `OBLIQUE_DEG` off the patient's (a tilted gantry): refuse; keep the voxels and
        the tilted direction; or interpolate linearly onto a straight grid that covers it.
    outside : float
        Value of the straight grid's voxels outside the image.

    Raises
    ------
    ValueError
    """
    if oblique not in OBLIQUE:
        raise ValueError(f"oblique must be one of {', '.join(OBLIQUE)}, it is {oblique!r}")
    image = sitk.DICOMOrient(image, "LPS")
    geometry = geometry_of(image)
    if geometry.tilt_deg <= OBLIQUE_DEG or oblique == "keep":
        return image
    if oblique == "resample":
        return brought_onto(sitk.Cast(image, sitk.sitkFloat32), straightened(geometry), outside)
    raise ValueError(
        f"{path} is oblique, tilted by {geometry.tilt_deg:.1f} degrees: set oblique to 'keep' (voxels as they are, "
        "slices tilted) or to 'resample' (interpolated onto the patient's axes)"
    )


def frames_of(image: sitk.Image) -> Iterator[sitk.Image]:
    """The volumes (x, y, z) of an image of axes x, y, z, frames or x, y, z, 1, frames."""
    between = (0,) * (image.GetDimension() - 4)
    for frame in range(image.GetSize()[-1]):
        yield image[(slice(None),) * 3 + between + (frame,)]


def values_of(image: sitk.Image, path: str | os.PathLike) -> np.ndarray:
    """Voxels (z, y, x) as float32, all finite.

    Raises
    ------
    ValueError
        NaN or infinity (in files other than NIfTI).
    """
    values = sitk.GetArrayViewFromImage(image).astype(np.float32)
    if bad := values.size - int(np.isfinite(values).sum()):
        raise ValueError(f"{path}: {bad} of {values.size} voxels are NaN or infinite; air is {AIR_HU:g} HU")
    if values.size and (most := float(np.abs(values).max())) > LARGEST:
        raise ValueError(f"{path}: a voxel is {most:g}, which no scan holds: is its scale wrong?")
    return values


def write_image(path: str | os.PathLike, image: sitk.Image) -> None:
    """Write an image atomically as NIfTI; .nii.gz at compression level 1, with equal bytes for equal content.

    Raises
    ------
    ValueError
        The name does not end in .nii or .nii.gz.
    """
    if not is_nifti(path):
        raise ValueError(f"{path}: volumes are written as .nii or .nii.gz")
    with written(path) as part:
        if part.suffix == ".nii":
            sitk.WriteImage(image, str(part))
            return
        # SimpleITK's NIfTI writer does not heed the level of compression: three times slower for the same size
        with tempfile.TemporaryDirectory(dir=part.parent, prefix=".part-") as folder:
            plain = Path(folder) / "plain.nii"
            sitk.WriteImage(image, str(plain))
            with open(part, "wb") as file, gzip.GzipFile("", "wb", 1, file, mtime=0) as stream:
                stream.write(plain.read_bytes())


SHORTEST_S, LONGEST_S = 0.05, 20.0
"""Seconds between frames that CT perfusion may have; a header outside says something else (1400 is ms)."""

AGREE = 0.01  # share by which two intervals may differ: headers and tables round


def header_interval(path: str | os.PathLike, given: float | None = None) -> tuple[float | None, str]:
    """Seconds between frames by a NIfTI header: pixdim[4] in the unit of xyzt_units.

    ITK reads 0 ("not known") as 1; this does not. Where the header names no unit of time, seconds are meant.
    A fifth axis that holds the frames behind a single fourth has its own pixdim[5]; the two must not contradict.

    Parameters
    ----------
    path : path
        .nii or .nii.gz of four or five axes.
    given : float, optional
        What the user says: decides where pixdim[4] and pixdim[5] contradict each other.

    Returns
    -------
    float or None, str
        Seconds and "", or None and why the header does not say.
    """
    header = nibabel.load(path).header
    unit = header.get_xyzt_units()[1]
    scale = {"msec": 1e-3, "usec": 1e-6}.get(unit, 1.0)
    axes = [4, 5] if header["dim"][0] == 5 and header["dim"][4] == 1 else [4]
    numbers = [float(header["pixdim"][axis]) for axis in axes]
    known = [number * scale for number in numbers if np.isfinite(number) and number > 0]
    said = " and ".join(
        f"pixdim[{axis}] = {number:g}" for axis, number in zip(axes, numbers, strict=True)
    ) + (f" {unit}" if unit != "unknown" else " without a unit of time")
    usable = [seconds for seconds in known if SHORTEST_S <= seconds <= LONGEST_S]
    if not usable:
        return None, f"its header says {said}"
    if not np.allclose(usable, usable[0], rtol=AGREE):
        usable = [seconds for seconds in usable if given is not None and agree(seconds, given)]
        if not usable:
            return None, f"its header contradicts itself ({said})"
    return round(usable[0], 6), ""  # float32 in the header: 1.41 is 1.40999997


def interval_of(path: str | os.PathLike, given: float | None, ignore_header: bool) -> float:
    """Seconds between frames from the header and what the user says, which must not contradict.

    Raises
    ------
    ValueError
        Neither says; they differ by more than a percent; outside 0.05 to 20 s.
    """
    if given is not None and not SHORTEST_S <= given <= LONGEST_S:
        raise ValueError(
            f"{path}: an interval of {given:g} s between frames lies outside {SHORTEST_S} to {LONGEST_S:g} s"
        )
    header, why = (None, "its header is not asked") if ignore_header else header_interval(path, given)
    if header is None and given is None:
        raise ValueError(f"{path}: the time between frames is not known, {why}: give interval_s, in seconds")
    if header is not None and given is not None and not agree(header, given):
        raise ValueError(
            f"{path}: its header says {header:g} s between frames and the parameters {given:g} s: "
            "find out which is right, then correct either, or set ignore_header"
        )
    return header if given is None else float(given)


def agree(one: float, other: float) -> bool:
    """Whether two intervals are the same to a percent."""
    return abs(one - other) <= AGREE * other


JITTER = 0.05  # share of the interval by which a frame may be off the regular clock
NAMES = ("seconds", "frametimesstart", "volumetiming", "time_s", "times")


def clock_of(
    path: str | os.PathLike,
    frames: int,
    interval_s: float | None,
    seconds: Sequence[float] | np.ndarray | str | os.PathLike | None,
    regular: bool,
    ignore_header: bool,
) -> tuple[np.ndarray, float | None]:
    """Times of a file's frames, and the step to interpolate to; parameters as of `lib.inputs.volumes.read_series`.

    Returns
    -------
    ndarray of float64, shape (frames,)
        Seconds, in the file's order of frames.
    float or None
        Step of the clock to bring them onto; None where they run in equal steps already.

    Raises
    ------
    FileNotFoundError
    ValueError
    """
    if seconds is None:
        return interval_of(path, interval_s, ignore_header) * np.arange(frames), None
    listed = read_seconds(seconds) if isinstance(seconds, (str, os.PathLike)) else seconds
    times = checked_seconds(listed, frames, path)
    if bad := irregularity(times):
        if not regular:
            raise ValueError(f"{path}: {bad}; set regular=True to sort and interpolate them to equal steps")
        return times, interval_s or float(np.median(np.diff(np.sort(times))))
    step = interval_of(path, regular_interval(times), ignore_header)
    if interval_s is None or agree(interval_s, step):
        return times, None
    if not regular:
        raise ValueError(
            f"{path}: its frames are {step:g} s apart by their times and {interval_s:g} s by interval_s; "
            "set regular=True to interpolate them to that"
        )
    return times, interval_s


def read_seconds(path: str | os.PathLike) -> np.ndarray:
    """Times of frames from a file beside the series: .json (a list, or BIDS' FrameTimesStart), .csv (column seconds).

    Raises
    ------
    FileNotFoundError
    ValueError
        No such list or column, or something in it is no number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of frame times at {path}")
    try:
        content = (
            json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else read_columns(path)
        )
        if not isinstance(content, list):
            found = [name for name in content if str(name).strip().lower() in NAMES]
            if len(found) != 1:
                raise ValueError(f"exactly one of {', '.join(NAMES)} is expected, there is {list(content)}")
            content = content[found[0]]
        return np.asarray(content, dtype=float)
    except (ValueError, TypeError, RecursionError) as error:  # what json, pandas and numpy raise
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} does not say when the frames were taken: {said}") from error


def regular_interval(seconds: np.ndarray) -> float | None:
    """The interval of times that go up in equal steps (to 5 % of a step), else None."""
    step = (seconds[-1] - seconds[0]) / (len(seconds) - 1)
    clock = seconds[0] + step * np.arange(len(seconds))
    return float(step) if step > 0 and np.abs(seconds - clock).max() <= JITTER * step else None


def checked_seconds(seconds: np.ndarray, frames: int, path: str | os.PathLike) -> np.ndarray:
    """Times, one a frame, finite and all different, or a sentence.

    Raises
    ------
    ValueError
    """
    seconds = np.asarray(seconds, dtype=float)
    if seconds.shape != (frames,):
        raise ValueError(
            f"{path} has {frames} frames and {seconds.size} times are given: one a frame is needed"
        )
    if not np.isfinite(seconds).all():
        raise ValueError(f"{path}: the time of frame {np.flatnonzero(~np.isfinite(seconds))[0]} is no number")
    order = np.argsort(seconds, kind="stable")
    if len(twice := np.flatnonzero(np.diff(seconds[order]) <= 0)):
        one, two = order[twice[0]], order[twice[0] + 1]
        raise ValueError(f"{path}: frames {one} and {two} have the same time, {seconds[one]:g} s")
    return seconds


def irregularity(seconds: np.ndarray) -> str:
    """What is wrong with times as a regular clock, in words; empty if nothing."""
    steps = np.diff(seconds)
    if (steps <= 0).any():
        at = int(np.flatnonzero(steps <= 0)[0])
        return f"frames are out of order: frame {at} at {seconds[at]:g} s, frame {at + 1} at {seconds[at + 1]:g} s"
    if regular_interval(seconds) is None:
        return f"frames are irregular: {steps.min():g} to {steps.max():g} s apart"
    return ""


def on_a_clock(values: np.ndarray, seconds: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Frames in the order of their times, interpolated linearly to equal steps.

    Parameters
    ----------
    values : ndarray of float32, shape (frames, z, y, x)
    seconds : ndarray, shape (frames,)
        All different, in any order.
    step : float
        Seconds between the new frames.

    Returns
    -------
    ndarray of float32, shape (new frames, z, y, x); ndarray, shape (new frames,)
        From the first time to the last that the steps reach; nothing is extrapolated.
    """
    order = np.argsort(seconds)
    times = seconds[order]
    clock = times[0] + step * np.arange(int((times[-1] - times[0]) / step + 1e-6) + 1)
    right = np.clip(np.searchsorted(times, clock), 1, len(times) - 1)
    share = np.clip((clock - times[right - 1]) / (times[right] - times[right - 1]), 0, 1).astype(np.float32)
    made = np.empty((len(clock), *values.shape[1:]), dtype=np.float32)
    for frame, (after, part) in enumerate(zip(right, share, strict=True)):
        made[frame] = (1 - part) * values[order[after - 1]] + part * values[order[after]]
    return made, clock


class Volume(NamedTuple):
    """A volume: values float32 (z, y, x), HU where it is CT; its grid; how the file had its axes."""

    values: np.ndarray
    geometry: Geometry
    stored_as: str = ""


class Series(NamedTuple):
    """Volumes taken one after another.

    Attributes
    ----------
    values : ndarray of float32, shape (frames, z, y, x)
        HU.
    geometry : Geometry
    seconds : ndarray of float64, shape (frames,)
        Since the first frame; equal steps.
    stored_as : str
        Orientation of the file's axes, "RAS" for example; "" where there was no file.
    """

    values: np.ndarray
    geometry: Geometry
    seconds: np.ndarray
    stored_as: str = ""

    @property
    def interval_s(self) -> float:
        """Seconds between frames.

        Raises
        ------
        ValueError
            Frames are not in equal steps.
        """
        if bad := irregularity(np.asarray(self.seconds, dtype=float)):
            raise ValueError(f"{bad}; read_series interpolates with regular=True")
        return regular_interval(np.asarray(self.seconds, dtype=float))


def read_volume(path: str | os.PathLike, oblique: str = "refuse") -> Volume:
    """Read one volume (.nii, .nii.gz, .nrrd, .mha) in any orientation.

    Parameters
    ----------
    path : path
    oblique : "refuse" | "keep" | "resample"
        See `lib.inputs.volumes.upright`.

    Returns
    -------
    Volume

    Raises
    ------
    FileNotFoundError
    ValueError
        Damaged, oblique, NaN, or several frames.
    """
    image = _single(opened(path), path)
    turned = upright(image, path, oblique, AIR_HU)
    return Volume(values_of(turned, path), geometry_of(turned), geometry_of(image).orientation)


def read_mask(path: str | os.PathLike, like: Geometry, resample: bool = False) -> np.ndarray:
    """Read a mask that belongs to a volume: true where the file is above 0.

    Parameters
    ----------
    path : path
    like : Geometry
        Of the volume.
    resample : bool
        Bring a mask from another grid over by its place in the patient, nearest neighbour; else that is refused.

    Returns
    -------
    ndarray of bool, shape (z, y, x)
        May be empty (no lesion).

    Raises
    ------
    FileNotFoundError
    ValueError
        Another grid; values that are no whole numbers of 0 or more; nothing of the mask falls inside the volume.
    """
    image = upright(_single(opened(path), path), path, "keep", 0)
    values = values_of(image, path)
    if (values < 0).any() or (values != np.rint(values)).any():
        raise ValueError(
            f"{path} is no mask: its values reach from {values.min():g} to {values.max():g}, "
            "whole numbers of 0 or more are expected"
        )
    mask, grid = values > 0, geometry_of(image)
    if same_grid(grid, like):
        return mask
    if not resample:
        raise ValueError(
            f"{path} lies on another grid than its volume: the mask has {grid}; the volume has {like}. "
            "Give the mask of this volume, or resample=True to bring it over"
        )
    brought = (
        sitk.GetArrayFromImage(brought_onto(image_of(mask, grid), like, 0, sitk.sitkNearestNeighbor)) > 0
    )
    if mask.any() and not brought.any():
        raise ValueError(
            f"{path}: no voxel of the mask falls inside the volume ({grid}; the volume has {like})"
        )
    return brought


def read_series(
    path: str | os.PathLike,
    interval_s: float | None = None,
    seconds: Sequence[float] | np.ndarray | str | os.PathLike | None = None,
    *,
    regular: bool = False,
    oblique: str = "refuse",
    ignore_header: bool = False,
) -> Series:
    """Read a series of volumes, 4D NIfTI in any orientation.

    Parameters
    ----------
    path : path
        .nii or .nii.gz of axes x, y, z, frames; a single fourth axis before the frames (ISLES 2018) is passed over.
    interval_s : float, optional
        Seconds between frames, where the header does not say (pixdim[4] of 0, or outside 0.05 to 20 s).
        With `regular`, the step to interpolate to.
    seconds : sequence of float, or path of a .json or .csv, optional
        When each frame was taken; see `lib.inputs.volumes.read_seconds`.
    regular : bool
        Bring frames out of order or at unequal times into order and, linearly, onto equal steps; else those are
        refused.
    oblique : "refuse" | "keep" | "resample"
        See `lib.inputs.volumes.upright`.
    ignore_header : bool
        Do not compare `interval_s` or `seconds` with a header that is known to be wrong.

    Returns
    -------
    Series

    Raises
    ------
    FileNotFoundError
    ValueError
        One volume instead of a series; interval unknown or contradicted; frames out of order or irregular; damaged,
        oblique, NaN.
    """
    if not is_nifti(path):
        raise ValueError(
            f"{path}: a series is read from .nii or .nii.gz, whose header tells the time of its frames"
        )
    image = opened(path)
    size = image.GetSize()
    if len(size) < 4 or size[-1] < 2 or (len(size) == 5 and size[3] != 1):
        raise ValueError(
            f"{path} has {' x '.join(map(str, size))} voxels: CT perfusion is a series of volumes, "
            "axes x, y, z, frames, with at least two frames"
        )
    stored_as = geometry_of(next(frames_of(image))).orientation
    times, step = clock_of(path, size[-1], interval_s, seconds, regular, ignore_header)
    values = None
    for number, frame in enumerate(frames_of(image)):
        frame = upright(frame, path, oblique, AIR_HU)
        if values is None:
            geometry = geometry_of(frame)
            values = np.empty((size[-1], *geometry.size[::-1]), dtype=np.float32)
        values[number] = values_of(frame, path)
    if step is not None:
        values, times = on_a_clock(values, times, step)
    return Series(values, geometry, times - times[0], stored_as)


def write_volume(path: str | os.PathLike, volume: Volume, dtype: str = "float32") -> None:
    """Write a volume or a mask atomically as .nii or .nii.gz.

    Parameters
    ----------
    path : path
    volume : Volume
        Any orientation.
    dtype : "float32" | "int16" | "uint8"
        Whole-number types are rounded to; what does not fit is refused.

    Raises
    ------
    ValueError
    """
    write_image(path, image_of(_stored(volume.values, dtype, path), volume.geometry))


def write_series(path: str | os.PathLike, series: Series, dtype: str = "float32") -> None:
    """Write a series atomically as 4D NIfTI, its interval in pixdim[4] in seconds.

    Parameters
    ----------
    path : path
        .nii or .nii.gz.
    series : Series
        Any orientation; equal steps.
    dtype : "float32" | "int16"
        int16 rounds to whole HU.

    Raises
    ------
    ValueError
        Irregular times, a shape that is not the grid's, values that do not fit.
    """
    interval, grid = series.interval_s, series.geometry
    if series.values.shape != (len(series.seconds), *grid.size[::-1]):
        raise ValueError(
            f"{path} not written: values {series.values.shape} are not {len(series.seconds)} frames on {grid}"
        )
    image = sitk.GetImageFromArray(_stored(series.values, dtype, path), isVector=False)
    direction = np.eye(4)
    direction[:3, :3] = np.reshape(grid.direction, (3, 3))
    image.SetSpacing((*grid.spacing_mm, interval))
    image.SetOrigin((*grid.origin_mm, 0.0))
    image.SetDirection(direction.ravel().tolist())
    write_image(path, image)


def describe(series: Series) -> dict:
    """What the log of a reading says: grid, orientation, frames and interval."""
    grid = series.geometry
    return {
        "size": list(grid.size),
        "spacing_mm": [round(number, 6) for number in grid.spacing_mm],
        "origin_mm": [round(number, 6) for number in grid.origin_mm],
        "direction": [round(number, 6) for number in grid.direction],
        "orientation": grid.orientation,
        "stored_as": series.stored_as,
        "tilt_deg": round(grid.tilt_deg, 3),
        "frames": len(series.values),
        "interval_s": round(series.interval_s, 6),
    }


def _single(image: sitk.Image, path: str | os.PathLike) -> sitk.Image:
    """The one volume of an image."""
    size = image.GetSize()
    if len(size) == 4 and size[3] == 1:
        return next(frames_of(image))
    if len(size) != 3:
        raise ValueError(f"{path} has {' x '.join(map(str, size))} voxels: one volume (x, y, z) is expected")
    return image


def _stored(values: np.ndarray, dtype: str, path: str | os.PathLike) -> np.ndarray:
    """Values in the type of the file."""
    if not np.isfinite(values).all():
        raise ValueError(f"{path} not written: values are NaN or infinite")
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return np.ascontiguousarray(values, dtype=kind)
    low, high = float(values.min()), float(values.max())
    if low < np.iinfo(kind).min - 0.5 or high > np.iinfo(kind).max + 0.5:
        raise ValueError(f"{path} not written: values from {low:g} to {high:g} do not fit {dtype}")
    return np.rint(values).astype(kind)
