"""Image files of three to five axes opened by SimpleITK: whole, orientable, turned to the patient's axes.

SimpleITK reads a .nii.gz that was cut short, or has a damaged byte, without a word and fills up with zeros, as it does
in place of NaN. So the bytes are verified before it reads them.
"""

import gzip
import math
import os
import re
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from nibabel.spatialimages import HeaderDataError

from lib.files import written
from lib.inputs.geometry import OBLIQUE_DEG, brought_onto, geometry_of, straightened

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
