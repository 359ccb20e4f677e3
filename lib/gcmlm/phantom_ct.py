"""A phantom's upper abdomen in CT with a tumour in the wall of the stomach, the label map that belongs to it, and the
files of both: NIfTI, or a DICOM series of one file a slice, as a scanner sends it."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from lib.inputs.volumes import Geometry, image_of, is_nifti, write_image

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
INTERCEPT = -1024  # HU of a stored 0


def write_dicom(folder: str | os.PathLike, values: np.ndarray, geometry: Geometry, patient: str) -> None:
    """Write HU, int16 (z, y, x) on an LPS grid, as one DICOM series, all slices or none.

    Equal arguments give equal bytes: identifiers come from the patient's name, and the date is always the same. The files'
    names run against the slices' order, as nothing but their position tells it.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    image = image_of(values, geometry)
    x_mm, y_mm, z_mm = geometry.spacing_mm
    # below 2.25, the root of identifiers that anybody may make; short enough for what is added
    series = f"2.25.{int(hashlib.sha256(patient.encode()).hexdigest()[:24], 16)}"
    common = {
        "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
        "0008|0016": CT_STORAGE,
        "0008|0020": "20260102",  # else GDCM writes today's
        "0008|0030": "120000",
        "0008|0060": "CT",
        "0008|103e": "phantom abdomen",
        "0010|0010": "PHANTOM",
        "0010|0020": patient,
        "0018|0050": f"{z_mm:g}",
        "0018|0088": f"{z_mm:g}",
        "0020|000d": f"{series}.1",
        "0020|000e": f"{series}.2",
        "0020|0011": "1",
        "0020|0037": "1\\0\\0\\0\\1\\0",
        "0020|0052": f"{series}.3",
        "0028|0030": f"{y_mm:g}\\{x_mm:g}",
        "0028|1052": f"{INTERCEPT}",
        "0028|1053": "1",
        "0028|1054": "HU",
    }
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as room:
        part = Path(room) / "series"
        part.mkdir()
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        count = geometry.size[2]
        for k in range(count):
            cut, place = image[:, :, k : k + 1], geometry.points(np.array([[0, 0, k]]))[0]
            own = {
                "0008|0018": f"{series}.4.{k + 1}",
                "0020|0013": str(k + 1),
                "0020|0032": "\\".join(f"{each:.6g}" for each in place),
            }
            for tag, value in (common | own).items():
                cut.SetMetaData(tag, value)
            writer.SetFileName(str(part / f"IM{count - k:04d}.dcm"))
            writer.Execute(cut)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(part, folder)


LABELS = {"tumour": 1, "stomach": 2, "liver": 5}
FIELD_MM = (260.0, 200.0, 84.0)  # x, y, z covered
ORIENTATIONS = ("LPS", "RAS", "LAS", "RPI", "PSR")  # of the label map's file; the image's is LPS
REACH = 2.5  # standard deviations of the signal; beyond it a tumour would be gas or bone
TUMOUR_HU, UNEVEN_HU = 82.0, 15.0
UNEVEN_MM = 3.0  # standard deviation of the smoothing of the tumour's texture
HU = dict(
    air=-1000.0, fat=-100.0, muscle=55.0, bone=260.0, canal=30.0, aorta=150.0, vein=130.0, kidney=150.0, liver=105.0,
    spleen=118.0, wall=68.0, fluid=12.0, gas=-950.0,
)  # fmt: skip
# centre and radii in mm from the middle of the field; x to the left, y to the back, z up
ORGANS = (
    ("bone", (0, 48, 0), (19, 15, 400)),
    ("bone", (0, 76, 0), (5, 14, 400)),
    ("canal", (0, 66, 0), (8, 7, 400)),
    ("aorta", (9, 24, 0), (10, 10, 400)),
    ("vein", (-20, 22, 0), (12, 9, 400)),
    ("kidney", (-50, 48, -38), (22, 19, 34)),
    ("kidney", (48, 52, -34), (21, 19, 34)),
    ("spleen", (85, 42, 14), (18, 32, 32)),
    ("liver", (-56, -4, 12), (52, 62, 64)),
    ("liver", (-12, -42, 18), (44, 22, 36)),
)
STOMACH, WALL_MM = ((44, -22, 4), (36, 30, 36)), 7.0


class Scanner(NamedTuple):
    """How a hospital takes its scans: voxels (x, y, z) in mm, noise and offset in HU, blur of the kernel in mm."""

    spacing_mm: tuple[float, float, float]
    noise: float
    offset: float
    blur_mm: float


SCANNERS = {
    "A": Scanner((2.5, 2.5, 3.0), noise=8.0, offset=0.0, blur_mm=1.5),
    "B": Scanner((2.0, 2.0, 5.0), noise=11.0, offset=5.0, blur_mm=1.1),
}


class Abdomen(NamedTuple):
    """Values in HU (z, y, x), labels by `LABELS`, and the grid of both, LPS."""

    values: np.ndarray
    labels: np.ndarray
    geometry: Geometry


def abdomen(signal: float, seed: int | list[int], hospital: str = "A") -> Abdomen:
    """Draw a patient.

    Parameters
    ----------
    signal : float
        In standard deviations, held within 2.5. Drives how uneven the tumour is (its HU spread by 15 exp(0.5 signal))
        and, a little, its size (a factor of 1 + 0.04 signal on a diameter of 24 to 30 mm).
    seed : int or list of int
        Anatomy, texture and noise: one seed, two signals, and only the tumour differs.
    hospital : "A" | "B"
        See `SCANNERS`: B has slices of 5 mm, more noise, a sharper kernel and all values 5 HU higher.
    """
    signal, scanner = float(np.clip(signal, -REACH, REACH)), SCANNERS[hospital]
    random = np.random.default_rng(seed)
    size = tuple(round(side / step) for side, step in zip(FIELD_MM, scanner.spacing_mm, strict=True))
    x, y, z = _places(size, scanner.spacing_mm, random)
    clean, labels = _organs(x, y, z, random)
    tumour, skirt = _tumour(x, y, z, signal, random)
    clean[skirt] = TUMOUR_HU + random.normal(0, 4)
    labels[tumour] = LABELS["tumour"]
    sigma = [scanner.blur_mm / step for step in scanner.spacing_mm[::-1]]
    values = gaussian_filter(clean, sigma, truncate=3)
    texture = _uneven(random, tumour, scanner.spacing_mm)
    values += UNEVEN_HU * np.exp(0.5 * signal) * texture
    noise = random.standard_normal(values.shape, np.float32)
    noise = gaussian_filter(noise, (0, 0.6, 0.6), truncate=3)
    values += scanner.offset + scanner.noise / noise.std() * noise
    origin = tuple(
        -(n - 1) / 2 * step + float(shift)
        for n, step, shift in zip(size, scanner.spacing_mm, random.uniform(-40, 40, 3).round(1), strict=True)
    )
    grid = Geometry(scanner.spacing_mm, origin, tuple(np.eye(3).ravel()), size)
    return Abdomen(np.clip(np.rint(values), -1024, 3071).astype(np.int16), labels, grid)


def write_ct(
    image: str | os.PathLike,
    mask: str | os.PathLike,
    signal: float,
    seed: int | list[int],
    hospital: str = "A",
    orientation: str = "LPS",
    patient: str = "PHANTOM",
) -> Abdomen:
    """Write the scan (int16, LPS; .nii.gz, or a folder for a DICOM series) and its label map (uint8, .nii.gz), atomically.

    Equal arguments give equal bytes. `orientation` is that in which the label map lies in its file; its place in the
    patient is the image's. `patient` is the PatientID of a DICOM series; the others: see `abdomen`.
    """
    drawn = abdomen(signal, seed, hospital)
    if is_nifti(image):
        write_image(image, image_of(drawn.values, drawn.geometry))
    else:
        write_dicom(image, drawn.values, drawn.geometry, patient)
    write_image(mask, sitk.DICOMOrient(image_of(drawn.labels, drawn.geometry), orientation))
    return drawn


def _places(size, spacing_mm, random) -> tuple[np.ndarray, ...]:
    """Coordinates of the voxels' centres in the patient's own frame, mm: open arrays but for a body of its own size."""
    scale = random.uniform(0.95, 1.05, 3)
    shift = random.normal(0, 2.0, 3)
    x, y, z = (
        (((np.arange(n) - (n - 1) / 2) * step - away) / times).astype(np.float32)
        for n, step, away, times in zip(size, spacing_mm, shift, scale, strict=True)
    )
    return x[None, None, :], y[None, :, None], z[:, None, None]


def _ball(x, y, z, centre, radii) -> np.ndarray:
    """1 on the surface of an ellipsoid, less inside."""
    u, v, w = (x - centre[0]) / radii[0], (y - centre[1]) / radii[1], (z - centre[2]) / radii[2]
    return np.sqrt(u**2 + v**2 + w**2)


def _organs(x, y, z, random) -> tuple[np.ndarray, np.ndarray]:
    """HU of everything but the tumour, and labels."""
    body = _ball(x, y, 0 * z, (0, 0, 0), (122, 92, 1))
    values = np.full(body.shape, HU["air"], np.float32)
    values[body < 1] = HU["fat"]
    values[body < 0.90] = HU["muscle"]
    inside = body < 0.83
    values[inside] = HU["fat"]
    labels = np.zeros(body.shape, np.uint8)
    values[_ball(x, y, 0 * z, (0, 66, 0), (46, 17, 1)) < 1] = HU["muscle"]  # of the back
    for name, centre, radii in ORGANS:
        centre = np.add(centre, random.normal(0, 1.5, 3))
        radii = np.multiply(radii, random.uniform(0.95, 1.05, 3))
        there = _ball(x, y, z, centre, radii) < 1
        if name in ("liver", "spleen", "kidney"):
            there &= inside
        values[there] = HU[name] + random.normal(0, 4)
        if name == "liver":
            labels[there] = LABELS["liver"]
    centre, radii = STOMACH
    outer = (_ball(x, y, z, centre, radii) < 1) & inside
    lumen = _ball(x, y, z, centre, np.subtract(radii, WALL_MM)) < 1
    values[outer], labels[outer] = HU["wall"], LABELS["stomach"]
    values[lumen] = HU["fluid"]
    values[lumen & (y < centre[1] - random.uniform(4, 12))] = HU["gas"]  # the patient lies on the back
    return values, labels


def _tumour(x, y, z, signal, random) -> tuple[np.ndarray, np.ndarray]:
    """The tumour as it is outlined, and as it reaches a little beyond: at its border voxels are mixed with gas or fat."""
    centre, radii = STOMACH
    # from the front of the greater curvature to the back of the lesser: not where liver or spleen would be invaded
    turn, height = random.uniform(-0.25 * np.pi, 0.7 * np.pi), random.uniform(-0.35, 0.35)
    flat = np.sqrt(1 - height**2)
    place = centre + np.array([np.cos(turn) * flat, np.sin(turn) * flat, height]) * np.subtract(radii, 2)
    size = random.uniform(12, 15, 3) * (1 + 0.04 * signal)
    angle = np.arctan2(y - place[1], x - place[0])
    waves = sum(0.05 * random.normal() * np.cos(k * angle + random.uniform(0, 6.28)) for k in (2, 3, 4))
    far = _ball(x, y, z, place, size) * (1 + np.clip(waves, -0.15, 0.15))
    return far < 1, far < 1 + 3.5 / size.mean()


def _uneven(random, tumour, spacing_mm) -> np.ndarray:
    """Texture of zero mean and unit spread on the tumour, zero elsewhere."""
    box = tuple(slice(each.min(), each.max() + 1) for each in np.nonzero(tumour))
    # noise for the whole field: the numbers that follow must not hang on the tumour's size
    noise = random.standard_normal(tumour.shape, np.float32)[box]
    field = gaussian_filter(noise, [UNEVEN_MM / step for step in spacing_mm[::-1]], truncate=3)
    inside = tumour[box]
    field = np.where(inside, (field - field[inside].mean()) / field[inside].std(), 0)
    texture = np.zeros(tumour.shape, np.float32)
    texture[box] = field
    return texture
