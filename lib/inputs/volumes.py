"""Volumes: CT in Hounsfield units on a grid in the patient, whatever way the file stores it.

Arrays have SimpleITK's order, (z, y, x). Coordinates are DICOM's and SimpleITK's, LPS: x grows to
the patient's left, y to posterior, z to superior; in NIfTI's own (RAS) x and y grow the other way.

NIfTI is read by nibabel from its unpacked content, so that gzip's checksum is verified: SimpleITK reads a .nii.gz that was
cut short, or has a damaged byte, without a word and fills up with zeros, as it does in place of NaN.
"""

import gzip
import itertools
import os
import re
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import nibabel
import numpy as np
import scipy.linalg
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from lib.files import read_json, written

OBLIQUE_DEG = 1.0
"""Tilt from which a grid counts as oblique, degrees; below it is rounding, or a head not held quite straight."""

SAME_GRID = 0.05
"""Grids whose corners lie within this share of a voxel's shortest side are one grid: headers round to float32."""

SAME_PLACE = 0.5  # share of a voxel by which two statements of a header may differ
SPACING_MM = (0.15, 100.0)  # finer than scans of a trunk or head: centimetres
MOST_LOST = 0.02  # share of a mask's volume that may be lost on the grid of its scan
SHEARED = (
    "does not say where its voxels lie: finite numbers are expected, and axes at right angles, which those of a sheared "
    "(tilted) scan are not; give its DICOM series with oblique: resample, which straightens it"
)
DAMAGED = (OSError, EOFError, zlib.error, HeaderDataError, ImageFileError, WrapStructError)


class Geometry(NamedTuple):
    """The grid of a volume.

    `spacing_mm` of neighbouring voxels along x, y, z; `origin_mm`, the centre of the first voxel, LPS; `direction`, 3 x 3
    cosines row by row, column k being the direction in which index k grows (the identity is LPS); `size`, voxels along x,
    y, z: an array of the grid has the shape `size[::-1]`.
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
        return float(np.prod(self.spacing_mm)) / 1000

    def points(self, indices: np.ndarray) -> np.ndarray:
        """Places (n, 3) in mm, LPS, of voxel indices (n, 3) in the order x, y, z; fractions allowed."""
        steps = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing_mm)
        return np.asarray(self.origin_mm) + np.asarray(indices, dtype=float) @ steps.T

    def __str__(self) -> str:
        size, spacing, origin = (
            sep.join(f"{number:.6g}" for number in numbers)
            for sep, numbers in ((" x ", self.size), (" x ", self.spacing_mm), (", ", self.origin_mm))
        )
        return f"{size} voxels of {spacing} mm, {self.orientation}, first at ({origin}) mm"


class Volume(NamedTuple):
    """A volume.

    `values` float32 (z, y, x), HU where it is CT; its grid; how the file had its axes, "RAS" for example; what was odd while
    reading; what the header says it is (modality, units, image_type as `lib.inputs.volumes.check_hounsfield` takes them;
    frame, the UID of its frame of reference).
    """

    values: np.ndarray
    geometry: Geometry
    stored_as: str = ""
    remark: str = ""
    header: Mapping[str, str] = MappingProxyType({})


def geometry_of(image: sitk.Image) -> Geometry:
    """The grid of a three-dimensional SimpleITK image."""
    return Geometry(image.GetSpacing(), image.GetOrigin(), image.GetDirection(), image.GetSize())


def image_of(values: np.ndarray, geometry: Geometry) -> sitk.Image:
    """A SimpleITK image of an array (z, y, x) on its grid; bool becomes uint8."""
    if values.shape != geometry.size[::-1]:
        raise ValueError(f"an array (z, y, x) of shape {values.shape} does not lie on {geometry}")
    values = values.astype(np.uint8) if values.dtype == bool else values
    image = sitk.GetImageFromArray(values, isVector=False)
    image.SetSpacing([*map(float, geometry.spacing_mm)])
    image.SetOrigin([*map(float, geometry.origin_mm)])
    image.SetDirection([*map(float, geometry.direction)])
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


def brought_onto(
    image: sitk.Image,
    grid: Geometry,
    outside: float,
    how: int = sitk.sitkLinear,
    transform: sitk.Transform = sitk.Transform(),  # noqa: B008  never changed
) -> sitk.Image:
    """An image sampled where the voxels of another grid lie: linear, or `sitk.sitkNearestNeighbor` for a mask.

    `outside` is the value of voxels more than half a voxel outside the image; `transform` takes a place of the grid to
    its place in the image.
    """
    place = grid.origin_mm, grid.spacing_mm, grid.direction
    return sitk.Resample(image, grid.size, transform, how, *place, outside)


def upright_grid(places: np.ndarray, spacing: Sequence[float]) -> Geometry:
    """The grid on the patient's axes that covers places (n, 3) in mm."""
    low, high = places.min(0), places.max(0)
    size = np.ceil((high - low) / spacing - 1e-6).astype(int) + 1
    return Geometry(tuple(spacing), tuple(low.tolist()), tuple(np.eye(3).ravel()), tuple(size.tolist()))


def is_nifti(path: str | os.PathLike) -> bool:
    """Whether a name ends in .nii or .nii.gz."""
    return str(path).endswith((".nii", ".nii.gz"))


def opened(path: str | os.PathLike) -> sitk.Image:
    """Read an image file (NIfTI, NRRD, MetaImage, ...) of three to five axes.

    A ValueError where it is damaged or no image, or has axes that are not at right angles, colours or voxels of an
    impossible size.
    """
    path, (low, high) = Path(path), SPACING_MM
    path.stat()  # a file that is not there says so itself
    try:
        image = _nifti(path) if is_nifti(path) else sitk.ReadImage(str(path))
    except (*DAMAGED, RuntimeError, TypeError) as error:  # some speak of several lines, the last one tells
        said = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise ValueError(f"{path} cannot be read as an image, it may have been cut short ({said})") from error
    sides, numbers = image.GetSpacing()[:3], image.GetNumberOfComponentsPerPixel()
    axes = np.reshape(image.GetDirection(), (image.GetDimension(), -1))
    if not np.allclose(axes.T @ axes, np.eye(len(axes)), atol=1e-3):
        raise ValueError(f"{path} {SHEARED}")
    if numbers > 1 or not all(low <= side <= high for side in sides):
        sides = " x ".join(f"{side:g}" for side in sides)
        raise ValueError(
            f"{path} has {numbers} numbers a voxel and voxels of {sides} mm: one number, and {low:g} to {high:g} mm are "
            "expected"
        )
    if set(image.GetSpacing()[:3]) == {1.0} and not any(image.GetOrigin()[:3]):
        said = "voxels of 1 x 1 x 1 mm and begins at 0, 0, 0: was a header lost? Then volumes are wrong"
        warnings.warn(f"{path} has {said}", stacklevel=2)
    return image


def _nifti(path: Path) -> sitk.Image:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    kind = nibabel.Nifti2Image if content[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nibabel.Nifti1Image
    stored = kind.from_bytes(content)
    header = kind.header_class(content[: kind.header_class.sizeof_hdr], check=False)  # nibabel mends its own
    values = np.asanyarray(stored.dataobj)
    native = np.float32 if values.dtype.kind == "f" else values.dtype.newbyteorder("=")
    values = values.astype(native, copy=False)
    affine = _affine(header, path) * [[-1], [-1], [1], [1]]  # RAS to LPS
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    unit = {"meter": 1e3, "micron": 1e-3}.get(header.get_xyzt_units()[0], 1.0)
    image = sitk.GetImageFromArray(values.T, isVector=False)
    further = stored.ndim - 3  # axes of time, whose steps their reader knows
    image.SetSpacing([*(spacing * unit).tolist(), *[1.0] * further])
    image.SetOrigin([*(affine[:3, 3] * unit).tolist(), *[0.0] * further])
    image.SetDirection(scipy.linalg.block_diag(affine[:3, :3] / spacing, np.eye(further)).ravel().tolist())
    return image


def _affine(header: nibabel.Nifti1Header, path: Path) -> np.ndarray:
    """Voxel indices to RAS by sform, else qform; where two statements of the header differ, that is said or refused."""
    forms = [form for form, code in (header.get_sform(coded=True), header.get_qform(coded=True)) if code]
    sides, shape = np.abs(header["pixdim"][1:4].astype(float)), np.array(header.get_data_shape()[:3])
    if not forms:
        warnings.warn(f"{path} does not say how it is oriented: x, y, z are taken as they lie", stacklevel=5)
        forms = [np.diag([-sides[0], -sides[1], sides[2], 1.0])]
    first, last, fault = forms[0], forms[-1], ""
    spacing = np.linalg.norm(first[:3, :3], axis=0)
    axes = first[:3, :3] / np.maximum(spacing, 1e-30)
    if not (np.isfinite(first).all() and np.allclose(axes.T @ axes, np.eye(3), atol=1e-3)):
        fault = SHEARED
    elif ((first[:3, :3] * last[:3, :3]).sum(0) < 0).any():
        fault = "has left and right, or another pair of sides, exchanged between its sform and its qform: correct one"
    if fault:
        raise ValueError(f"{path} {fault}")
    corners = np.array(list(itertools.product(*((0, n) for n in shape), (1,))))
    apart = max(np.abs(corners @ (first - last).T).max(), np.abs(shape * (spacing - sides)).max())
    if apart > SAME_PLACE * sides.min():
        said = f"{path} states two places for its voxels, {apart:g} mm apart: one of them is wrong"
        warnings.warn(said, stacklevel=5)
    return first


def upright(image: sitk.Image, path: str | os.PathLike, oblique: str, outside: float) -> sitk.Image:
    """Turn a three-dimensional image to LPS by flips and swaps of axes, which change no voxel.

    `oblique` says what is done with axes more than `OBLIQUE_DEG` off the patient's (a tilted gantry): "refuse"; "keep" the
    voxels and the tilted direction; or "resample", linearly onto a straight grid that covers it, whose voxels outside the
    image are `outside`. The path is for the sentence.
    """
    image = sitk.DICOMOrient(image, "LPS")
    geometry = geometry_of(image)
    if geometry.tilt_deg <= OBLIQUE_DEG or oblique == "keep":
        return image
    if oblique == "resample":
        grid = upright_grid(geometry.points(corners_of(geometry)), geometry.spacing_mm)
        return brought_onto(sitk.Cast(image, sitk.sitkFloat32), grid, outside)
    raise ValueError(
        f"{path} is oblique, tilted by {geometry.tilt_deg:.1f} degrees: set oblique to 'keep' (voxels as they are, "
        "slices tilted) or to 'resample' (interpolated onto the patient's axes)"
    )


def values_of(image: sitk.Image, path: str | os.PathLike) -> np.ndarray:
    """Voxels (z, y, x) as float32, refused where any is NaN or infinite."""
    values = sitk.GetArrayViewFromImage(image).astype(np.float32)
    if bad := values.size - int(np.isfinite(values).sum()):
        raise ValueError(f"{path}: {bad} of {values.size} voxels are NaN or infinite; air is {AIR_HU:g} HU")
    return values


def read_volume(path: str | os.PathLike, oblique: str = "refuse") -> Volume:
    """Read one volume (.nii, .nii.gz, .nrrd, .mha) in any orientation; for `oblique` see `upright`."""
    image = opened(path)
    size = image.GetSize()
    if size[3:] == (1,):
        image = image[:, :, :, 0]
    elif len(size) != 3:
        raise ValueError(f"{path} has {' x '.join(map(str, size))} voxels: one volume (x, y, z) is expected")
    turned = upright(image, path, oblique, AIR_HU)
    return Volume(values_of(turned, path), geometry_of(turned), geometry_of(image).orientation)


@contextmanager
def remarks(path: str | os.PathLike) -> Iterator[list[str]]:
    """What is warned of within, each sentence once and without the folders of this machine: filled at the end."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield found
    texts = (str(each.message) for each in said if each.category is UserWarning)
    found += dict.fromkeys(text.replace(f"{Path(path).parent}{os.sep}", "") for text in texts)


def sidecar_of(path: Path) -> dict:
    """What dcm2niix says of a file, in a .json of its name; empty where there is none."""
    beside = path.with_name(re.sub(r"(\.nii\.gz|\.[^.]*)$", ".json", path.name))
    return read_json(beside) if beside.is_file() and beside != path else {}


def read_labels(path: str | os.PathLike) -> Volume:
    """Read a mask or a label map: a volume of whole numbers of 0 or more, tilted where the file is."""
    labels = read_volume(path, oblique="keep")
    whole = np.rint(labels.values)  # stored with a slope, under the header of a CT, 2 comes back as 1.99997
    if (whole < 0).any() or np.abs(labels.values - whole).max() > 0.01:
        raise ValueError(
            f"{path} is no mask: its values reach from {labels.values.min():g} to {labels.values.max():g}, "
            "whole numbers of 0 or more are expected"
        )
    return labels._replace(values=whole)


def placed(
    mask: np.ndarray, grid: Geometry, like: Geometry, path: str | os.PathLike, what: str = "the mask"
) -> np.ndarray:
    """A mask (z, y, x) of a grid on the grid of its volume, `like`; path and `what` are for the sentences.

    From another grid it is brought over by its place in the patient, nearest neighbour. Refused where both have as many
    voxels a side and lie elsewhere, whatever the order of axes (a header that was lost), and where more than 2 % of its
    volume is lost (on a grid turned against its own, 1 / √voxels more); a gain of more than 2 % is a warning.
    """
    if same_grid(grid, like):
        return mask
    moved = sitk.GetArrayFromImage(brought_onto(image_of(mask, grid), like, 0, sitk.sitkNearestNeighbor)) > 0
    before, after = (float(each.sum()) * one.voxel_ml for each, one in ((mask, grid), (moved, like)))
    said = f"{what} has {before:.3f} ml in its file, {after:.3f} ml on its volume"
    if sorted(grid.size) == sorted(like.size):
        raise ValueError(
            f"{path} has the size of its volume but another header, one of the two is wrong: it has {grid}; the volume "
            f"has {like} ({said}). Write the mask again with the header of its scan, or give the scan it was drawn on"
        )
    # a small region on a grid that is turned loses and gains voxels at its rim
    turned = not np.allclose(grid.direction, like.direction, atol=1e-3)
    if after < (1 - MOST_LOST - turned / np.sqrt(mask.sum())) * before:
        raise ValueError(
            f"{path} does not fit its volume: {said} (it has {grid}; the volume has {like}). Give the mask "
            "that was drawn on this scan"
        )
    if after > (1 + MOST_LOST) * before:
        warnings.warn(f"{path}: {said}", stacklevel=3)
    return moved


def write_image(path: str | os.PathLike, image: sitk.Image) -> None:
    """Write an image atomically as NIfTI; .nii.gz at compression level 1, with equal bytes for equal content."""
    # SimpleITK's NIfTI writer does not heed the level of compression: three times slower for the same size
    with written(path) as part, tempfile.TemporaryDirectory(dir=part.parent, prefix=".part-") as folder:
        plain = Path(folder, "plain.nii") if part.suffix == ".gz" else part
        sitk.WriteImage(image, str(plain))
        if plain != part:
            part.write_bytes(gzip.compress(plain.read_bytes(), 1, mtime=0))


def write_volume(path: str | os.PathLike, volume: Volume, dtype: str = "float32") -> None:
    """Write a volume or a mask in any orientation, atomically as .nii or .nii.gz.

    `dtype` is "float32", "int16" or "uint8"; whole-number types are rounded to, and what does not fit is refused.
    """
    write_image(path, image_of(stored(volume.values, dtype, path), volume.geometry))


def stored(values: np.ndarray, dtype: str, path: str | os.PathLike) -> np.ndarray:
    """Values in the type of a file; a ValueError where they do not fit."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return np.ascontiguousarray(values, dtype=kind)
    low, high = float(values.min()), float(values.max())
    if not (low >= np.iinfo(kind).min - 0.5 and high <= np.iinfo(kind).max + 0.5):  # nor is NaN
        raise ValueError(f"{path} not written: values from {low:g} to {high:g} do not fit {dtype}")
    return np.rint(values).astype(kind)


# ------------------------------------------------------------ whether numbers are Hounsfield units


AIR_HU = -1024.0
PADDING_HU = -1500.0
"""Below it nothing was measured: scanners fill the corners outside their field with -2000 or -3024."""

TISSUE_HU = (-200.0, 200.0)
"""Fat, water, muscle, organs, most of them after contrast too."""

OFFSET = 1024
"""What scanners add to HU so that stored numbers are not negative."""

FAT_HU = -50.0  # below it lie fat and air, of which every whole scan has some
CUT_HU = -300.0  # a scan whose lowest value is higher, and that of many voxels, was cut to a window
CUT, FEW, NONE = 0.05, 0.01, 0.001  # shares of voxels
DENSE_HU, DENSE = 4000.0, 0.03  # metal reaches beyond it, in few voxels
HIGHEST_HU = 32767.0
MASKED_HU = 80.0  # brain; a part that was masked to 0 and is brighter cannot be told from grey levels
OTHER_MAPS = re.compile(
    r"\b(IODINE|WATER|CALCIUM|URIC_?ACID|FAT_?FRACTION|Z_?EFF\w*|EFF_ATOMIC_NUM|ELECTRON_DENSITY|RHO_?Z?|"
    r"MAT_(SPECIFIC|FRACTIONAL|VALUE_BASED)|CBF|CBV|MTT|TTP|TMAX|PERFUSION_MAP|OVERLAY|RGB|M(AX|IN)_IP|(THIN|THICK)?_?M(IN)?IP)\b"
)
VIRTUAL = re.compile(r"\b(VMI|(DE_)?MONO(_?\d+ ?KEV)?|VNC|VIRTUAL_\w+|MAT_(REMOVED|MODIFIED))\b|HU_MOD")
"""HU of one energy, or without a material: numbers of such a scan do not compare with those of others."""


def check_hounsfield(
    values: np.ndarray,
    path: str | os.PathLike,
    *,
    modality: str = "",
    units: str = "",
    image_type: str = "",
    whole: bool = False,
) -> str:
    """Refuse values that are no HU, by what the header says and by signs that no part of a CT scan shows.

    `values`, of any shape, are a scan, or a film's frames before the contrast arrives. `modality`, `units` and `image_type`
    are DICOM's Modality, RescaleType and ImageType, or a sidecar's, "" where nothing says it; RescaleType US is "unspecified",
    which many scanners write of HU. `whole` says that the field of view is as it was scanned (a DICOM series), so that air or
    fat must be there. Returned is what is odd and yet may be HU, for the table that the stage shows; "" if nothing is.

    Raises
    ------
    ValueError
        Another modality or unit, or a map of a material. One value throughout; all within 20 of 0 (scaled); any above
        32,767 or 3 in 100 above 4,000 (signed numbers read as unsigned); exactly 0 to 255; fewer than 1 in 100 voxels
        below -50 and, of those above 200, more than half around 1024 (rescale forgotten); fewer than 1 in 100 voxels
        within -200 to 300; a window cut out (1 in 20 voxels have the lowest value) and moved, so that tissue's most
        frequent value is not within -150 to 180, or is above 80 where the window ends at 0; a whole scan without fat or
        air.
    """
    said = f"says {modality}; name the folder or `series` of the CT"
    if modality.strip().upper() in ("", "CT"):
        other = another_map(units, image_type)
        said = other and f"says that it is a map ({other}); name the `series` of the scan itself"
    if said:
        raise ValueError(f"{path} is not in HU: its header {said}")
    measured = np.asarray(values)[np.asarray(values) > PADDING_HU]
    low, high = (float(measured.min()), float(measured.max())) if measured.size else (AIR_HU, AIR_HU)
    dense, fault = measured[measured > TISSUE_HU[1]], ""
    stored = (dense > OFFSET + TISSUE_HU[0]) & (dense < OFFSET + TISSUE_HU[1])
    cut = low > CUT_HU and (measured == low).mean() >= CUT
    tissue = _commonest(measured[measured > low] if cut else measured)
    moved = low > 0 or not -150 <= tissue <= 180 or (low == 0 and tissue > MASKED_HU)
    light, over = ((measured < FAT_HU).mean(), (measured > DENSE_HU).mean()) if measured.size else (0.0, 0.0)
    if low == high:
        fault = "it is blank; give the scan itself"
    elif max(-low, high) < 20:
        fault = "as if scaled or standardised; give the scan before that"
    elif high > HIGHEST_HU or over > DENSE:
        fault = f"{over:.1%} of them above {DENSE_HU:g}: signed numbers stored as unsigned; convert it again"
    elif (low, high) == (0, 255):
        fault = "grey levels of a picture; give the scan it was made from"
    elif light < FEW and dense.size and stored.mean() > 1 / 2:
        fault = (
            f"and {stored.mean():.0%} of those above 200 lie around {OFFSET}, soft tissue without the rescale "
            f"intercept; convert it again from DICOM, or subtract {OFFSET}"
        )
    elif ((measured > TISSUE_HU[0]) & (measured < 300)).mean() < FEW:
        fault = "hardly any of them is tissue's; is the rescale intercept applied twice, or the scan of air alone?"
    elif cut and moved:
        fault = (
            f"{(measured == low).mean():.0%} of them the lowest, and most tissue around {tissue:.0f}: a window of grey "
            "levels; give the scan it was made from (what is masked out of a scan is to be -1024)"
        )
    elif whole and light < NONE:
        fault = "without air or fat: a map made of the scan; name the series of the scan itself"
    elif (whole or light >= CUT) and not -150 <= tissue <= 180:
        fault = f"most tissue around {tissue:.0f}; convert it again"
    if fault:
        raise ValueError(f"{path} is not in HU: its values reach from {low + 0:g} to {high + 0:g}, {fault}")
    virtual = VIRTUAL.search(f"{image_type} {units}".upper())
    remark = f"{virtual[0]}: HU of one energy or after a material was changed" if virtual else ""
    if cut:
        remark = f"{(measured == low).mean():.0%} of the voxels have the lowest value, {low:g} HU"
        remark += ": masked or cut"
    elif light < NONE:
        remark = f"no air and no fat, values from {low:g} to {high:g}: a part of a scan, if these are HU"
    elif not -150 <= tissue <= 180:
        remark = f"the most frequent value of tissue is {tissue:.0f} HU"
    return remark


def another_map(units: str, image_type: str) -> str:
    """The unit (RescaleType) or the kind (ImageType) that says that a picture is not in HU, "" where none does."""
    if units.strip().upper() not in ("", "HU", "US", "HU_MOD"):
        return f"in the unit {units.strip()}"
    kind = OTHER_MAPS.search(image_type.upper())
    return kind[0] if kind else ""


def _commonest(values: np.ndarray) -> float:
    """The middle of the fullest 60 HU of what is no lung or air, in steps of 20; 0 where there is nothing."""
    counts, edges = np.histogram(values, np.arange(CUT_HU, 3001, 20))
    middle = np.convolve(counts, [1, 1, 1], "same").argmax() * 20 + edges[0] + 10
    return float(middle) if counts.any() else 0.0
