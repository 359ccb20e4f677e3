"""Image files of three to five axes opened by SimpleITK: whole, orientable, turned to the patient's axes.

SimpleITK reads a .nii.gz that was cut short, or has a damaged byte, without a word and fills up with zeros, as it does
in place of NaN. So the bytes are verified before it reads them.
"""

import gzip
import os
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from lib.files import written
from lib.inputs.geometry import OBLIQUE_DEG, brought_onto, geometry_of, straightened

AIR_HU = -1024.0
OBLIQUE = ("refuse", "keep", "resample")
NIFTI = (".nii", ".nii.gz")


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
    except (OSError, EOFError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        raise ValueError(f"{path} was cut short or is damaged ({error}): fetch it again") from error
    except RuntimeError as error:
        said = str(error).strip().splitlines()[-1].removeprefix("ITK ERROR: ").removeprefix("sitk::ERROR: ")
        raise ValueError(f"{path} cannot be read as an image: {said}") from error
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ValueError(
            f"{path} has {image.GetNumberOfComponentsPerPixel()} numbers a voxel: one is expected"
        )
    return image


def is_nifti(path: str | os.PathLike) -> bool:
    """Whether a name ends in .nii or .nii.gz."""
    return str(path).endswith(NIFTI)


def _verify(path: Path) -> None:
    """Raise where a NIfTI file holds fewer bytes than its header promises, damaged ones, or NaN."""
    if not is_nifti(path):
        return
    image = nibabel.load(path)
    header, kind, start = image.header, image.get_data_dtype(), image.dataobj.offset
    promised = int(np.prod(image.shape, dtype=np.int64)) * kind.itemsize
    there = bad = 0
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
        stream.seek(start)
        while block := stream.read(kind.itemsize << 20):  # to the end, where gzip's checksum is
            if kind.kind == "f":
                numbers = np.frombuffer(block, kind, len(block) // kind.itemsize)
                bad += int((~np.isfinite(numbers)).sum())
            there += len(block)
    if there < promised:
        raise EOFError(f"{there} of {promised} bytes of voxels")
    if bad:
        raise ValueError(
            f"{path}: {bad} of {promised // kind.itemsize} voxels are NaN or infinite; air is {AIR_HU:g} HU"
        )
    if not int(header["qform_code"]) and not int(header["sform_code"]):
        warnings.warn(f"{path} does not say how it is oriented: x, y, z are taken as they lie", stacklevel=4)


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
