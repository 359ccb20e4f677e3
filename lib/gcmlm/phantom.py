"""A matched cohort of phantom patients after gastrectomy: clinical factors, CT with label maps, slides, and months to
liver metastasis, which hang on what the three hide.

    score = 0.58 clinical + 0.58 CT + 0.58 slide + 0.15 CT x slide
    log hazard = 6 (effect score + sqrt(1 - effect^2) stranger's score)
    cumulative hazard = level (1 - exp(-(t / 24)^8)) exp(log hazard)

The hazard is steep and ends: who is at risk has the metastasis within two and a half years, nearly all others never,
so that the outcome is almost decided by the score, of which no modality alone shows more than a third.
"""

import functools
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from scipy.special import ndtri
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from lib.files import write_csv, written
from lib.gcmlm.cohort import metachronous
from lib.gcmlm.tables import subsets
from lib.inputs.volumes import Geometry, image_of, is_nifti, write_image
from lib.phantoms.slides import Look, Stain, write_slide
from lib.stage import Stage

# ------------------------------------------------------------------------------------------------- patients

MODALITIES = ("clinical", "ct", "slide")
SIGNALS = {name: f"{name}_signal" for name in MODALITIES}
HOSPITALS = ("A", "B")  # internal, external
FACTORS = ("age", "male", "t_stage", "n_stage", "lauren", "histology", "cea")
UNKNOWN = {"lauren": 0.05, "histology": 0.03, "cea": 0.06}  # share of patients without it
WEIGHT, JOINT = 0.58, 0.15  # of each signal, of the product of CT and slide
STEEPNESS = 6.0
LEVEL = 0.22  # the median patient's cumulative hazard when all time is over
MONTHS, SHAPE = 24.0, 8.0  # of the Weibull distribution in which the hazard is spent
FOLLOW_UP = (24.0, 84.0)
LOST_EARLY = 0.05  # share of patients followed for less
STAGES_T = {"A": (0.14, 0.20, 0.42, 0.24), "B": (0.10, 0.18, 0.42, 0.30)}
STAGES_N = {"A": (0.34, 0.20, 0.22, 0.24), "B": (0.30, 0.20, 0.24, 0.26)}
COMMON = 0.75  # correlation of each of T, N and CEA with how far the tumour has come
AGES = {"A": 61.0, "B": 64.0}
HISTOLOGY = {
    "intestinal": (("tubular", "papillary", "mucinous"), (0.80, 0.15, 0.05)),
    "mixed": (("tubular", "mucinous", "poorly cohesive"), (0.55, 0.20, 0.25)),
    "diffuse": (("poorly cohesive", "mucinous", "tubular"), (0.80, 0.12, 0.08)),
}
WITHOUT = 0.04  # share of patients without CT, and of others without a slide
SECOND_SLIDE = 6  # every how many patients
DICOM = 20  # every how many patients' scans are DICOM series, the others NIfTI
ORIENTATIONS = ("LPS", "RAS", "LAS", "RPI", "PSR")  # of the label map's file; the image's is LPS


def draw(n: int, external: int = 0, seed: int = 7, effect: float = 1.0) -> pd.DataFrame:
    """Draw a cohort of two hospitals, before any file is written.

    `n` and `external` are the patients of the internal hospital A, and of B, older and of higher stages; those of A hang on
    nothing of B. `effect` is the share of the score in the log hazard, 0 to 1. With 0 a stranger's score takes its place: the
    outcome has the same frequencies and nothing of the patient tells it; factors, signals and pictures are those of another
    effect.

    Columns: patient ("GC-0001", ...), hospital ("A", "B"); age (years), male (0 or 1), t_stage (1 to 4), n_stage (0 to 3),
    lauren ("intestinal", "mixed", "diffuse"), histology, cea (ng/ml), the last three empty or NaN in some; clinical_signal (of
    stages, Lauren and CEA, standardised in hospital A), ct_signal, slide_signal (standard normal); score, log_hazard;
    time_months (from surgery to liver metastasis or the last look), event (1: liver metastasis); label (see
    `lib.gcmlm.cohort.metachronous`); has_ct, as_dicom (0 or 1; a folder with a series, else .nii.gz), slides (0 to 2),
    mask_orientation (of the label map's file).
    """
    parts = []
    for number, (hospital, size) in enumerate(zip(HOSPITALS, (n, external), strict=True)):
        if size:
            table = _hospital(np.random.default_rng([seed, number]), size, hospital, effect)
            parts.append(table.assign(**_files(np.random.default_rng([seed, 10, number]), size)))
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "patient", [f"GC-{number:04d}" for number in range(1, len(table) + 1)])
    return table


def oracle_aucs(effect: float = 1.0, n: int = 20_000, seed: int = 11) -> dict[str, float]:
    """AUC for `label` that a large cohort of hospital A allows to whoever sees the signals: ceilings for any model.

    By subset of `MODALITIES`, joined by "+": logistic regression with squares and products, fitted on one half of the
    patients, tested on the other.
    """
    table = draw(n, 0, seed, effect).dropna(subset="label")
    half, aucs = len(table) // 2, {}
    for subset in subsets(MODALITIES):
        inputs = table[[SIGNALS[name] for name in subset.split("+")]].to_numpy()
        model = make_pipeline(
            PolynomialFeatures(2, include_bias=False), StandardScaler(), LogisticRegression(max_iter=1000)
        )
        model.fit(inputs[:half], table["label"][:half])
        aucs[subset] = float(roc_auc_score(table["label"][half:], model.decision_function(inputs[half:])))
    return aucs


def _hospital(random: np.random.Generator, n: int, hospital: str, effect: float) -> pd.DataFrame:
    """Patients of one hospital, without names and files."""
    people = []
    for _ in ("the patient", "a stranger"):
        table, (middle, spread) = _factors(random, n, hospital), _standard()
        clinical, (ct, slide) = (_clinical(table) - middle) / spread, random.normal(size=(2, n))
        score = WEIGHT * (clinical + ct + slide) + JOINT * ct * slide
        people.append(table.assign(clinical_signal=clinical, ct_signal=ct, slide_signal=slide, score=score))
    table, stranger = people
    strange = np.sqrt(1 - effect**2) * stranger["score"].to_numpy()
    table["log_hazard"] = STEEPNESS * (effect * table["score"] + strange)
    spent = random.exponential(size=n) / (LEVEL * np.exp(table["log_hazard"].to_numpy()))
    with np.errstate(divide="ignore", invalid="ignore"):
        onset = np.where(spent < 1, MONTHS * (-np.log1p(-np.minimum(spent, 1))) ** (1 / SHAPE), np.inf)
    end = random.uniform(*FOLLOW_UP, n)
    lost = random.uniform(size=n) < LOST_EARLY
    end[lost] = random.uniform(3, FOLLOW_UP[0], lost.sum())
    time = np.maximum(np.round(np.minimum(onset, end), 1), 0.1)
    table = table.assign(time_months=time, event=(onset <= end).astype(int))
    # what surgery or a lost patient leaves out is drawn last: no other number hangs on it
    for column, share in UNKNOWN.items():
        table.loc[random.uniform(size=n) < share, column] = np.nan if column == "cea" else ""
    table.insert(0, "hospital", hospital)
    return table.assign(label=metachronous(table["time_months"], table["event"])["label"])


def _files(random: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """Which files the patients of a hospital have."""
    lacks, number = random.uniform(size=n), np.arange(1, n + 1)
    slides = np.where(number % SECOND_SLIDE == 0, 2, 1)
    return {
        "has_ct": (lacks >= WITHOUT).astype(int),
        "as_dicom": (number % DICOM == DICOM // 2).astype(int),
        "slides": np.where((lacks >= WITHOUT) & (lacks < 2 * WITHOUT), 0, slides),
        "mask_orientation": random.choice(ORIENTATIONS, n, p=[0.6, 0.1, 0.1, 0.1, 0.1]),
    }


def _factors(random: np.random.Generator, n: int, hospital: str) -> pd.DataFrame:
    spread = random.normal(size=n)  # how far the tumour has come: what T, N and CEA have in common
    lauren = random.choice(["intestinal", "mixed", "diffuse"], n, p=[0.52, 0.14, 0.34])
    kinds = [random.choice(HISTOLOGY[each][0], p=HISTOLOGY[each][1]) for each in lauren]
    depth, nodes, cea = COMMON * spread + np.sqrt(1 - COMMON**2) * random.normal(size=(3, n))
    return pd.DataFrame(
        {
            "age": np.clip(np.rint(random.normal(AGES[hospital], 11, n)), 25, 88).astype(int),
            "male": (random.uniform(size=n) < 0.68).astype(int),
            "t_stage": 1 + np.searchsorted(ndtri(np.cumsum(STAGES_T[hospital])[:-1]), depth),
            "n_stage": np.searchsorted(ndtri(np.cumsum(STAGES_N[hospital])[:-1]), nodes),
            "lauren": lauren,
            "histology": np.array(kinds, dtype=object),
            "cea": np.round(np.exp(1.0 + 0.8 * cea), 1),
        }
    )


def _clinical(table: pd.DataFrame) -> pd.Series:
    """Linear score of the factors; the liver is the intestinal type's metastasis, the peritoneum the diffuse type's."""
    return (
        0.9 * table["t_stage"]
        + 0.9 * table["n_stage"]
        + 0.4 * np.log(table["cea"].clip(lower=0.1))
        + 0.4 * (table["lauren"] == "intestinal")
    )


@functools.cache
def _standard() -> tuple[float, float]:
    """Mean and standard deviation of the clinical score in hospital A."""
    values = _clinical(_factors(np.random.default_rng(0), 40_000, "A"))
    return float(values.mean()), float(values.std())


# ------------------------------------------------------------------------------------------------- their files

SLIDE_UM = 512.0  # side: one tile at 5x, a dozen with tissue at 20x
UM_PER_PX = {"A": 0.5, "B": 0.25}
LOOKS = {  # the same nuclei, stained in two laboratories
    "A": Look(Stain(), eosin=0.20, stretch=1.25),
    "B": Look(Stain(haematoxylin=(0.58, 0.715, 0.38), eosin=(0.20, 0.81, 0.545)), eosin=0.21, stretch=1.25),
}


class Paths(NamedTuple):
    """Files of a patient: scan and label map, None without CT; slides, perhaps none."""

    image: Path | None
    mask: Path | None
    slides: tuple[Path, ...]


def paths_of(folder: str | os.PathLike, row) -> Paths:
    """Where the files of a row of `draw` lie below the cohort's folder; "" gives them as the tables have them."""
    folder, name = Path(folder), row.patient
    image = folder / "ct" / (name if row.as_dicom else f"{name}.nii.gz") if row.has_ct else None
    mask = folder / "masks" / f"{name}.nii.gz" if row.has_ct else None
    return Paths(image, mask, tuple(folder / "slides" / f"{name}-{k}.tiff" for k in range(1, row.slides + 1)))


def files_of(folder: str | os.PathLike, row) -> list[Path]:
    """Files of a patient, those of a DICOM series one by one."""
    paths = paths_of(folder, row)
    files = [path for path in (paths.image, paths.mask, *paths.slides) if path is not None]
    if paths.image is not None and row.as_dicom:
        count = round(FIELD_MM[2] / SCANNERS[row.hospital][0][2])
        files[:1] = [paths.image / f"IM{k:04d}.dcm" for k in range(1, count + 1)]
    return files


def write_patient(folder: str | os.PathLike, row, seed: int = 7) -> Paths:
    """Write scan, label map and slides of a row of `draw`, each atomically; `seed` is that of `draw`.

    Equal rows and seeds give equal bytes, whoever else is written and whatever the outcome.
    """
    paths, number = paths_of(folder, row), int(row.patient.removeprefix("GC-"))
    if paths.image is not None:
        drawn = abdomen(row.ct_signal, [seed, 11, number], row.hospital)
        write_ct(paths, drawn, row.mask_orientation, row.patient)
    um_per_px = UM_PER_PX[row.hospital]
    for k, path in enumerate(paths.slides):
        write_slide(
            path,
            fine=row.slide_signal,
            coarse=row.slide_signal,
            cancer=0,
            look=LOOKS[row.hospital],
            seed=int(np.random.SeedSequence([seed, 12, number, k]).generate_state(1)[0]),
            side_px=round(SLIDE_UM / um_per_px),
            um_per_px=um_per_px,
        )
    return paths


def write_tables(folder: str | os.PathLike, drawn: pd.DataFrame) -> None:
    """Write clinical.csv, scans.csv and slides.csv of a matched cohort."""
    folder, scans, slides = Path(folder), [], []
    for row in drawn.itertuples(index=False):
        files = paths_of("", row)
        if files.image is not None:
            scans.append((row.patient, files.image.as_posix(), files.mask.as_posix(), LABELS["tumour"]))
        for path in files.slides:
            slides.append((row.patient, path.stem, path.as_posix(), UM_PER_PX[row.hospital]))
    write_csv(drawn[["patient", "hospital", *FACTORS, "time_months", "event"]], folder / "clinical.csv")
    write_csv(pd.DataFrame(scans, columns=["patient", "image", "mask", "label"]), folder / "scans.csv")
    write_csv(pd.DataFrame(slides, columns=["patient", "slide", "path", "um_per_px"]), folder / "slides.csv")


def write_cohort(stage: Stage, folder: Path) -> None:
    """Write the phantom that a stage's parameters ask for, and oracle.json: what a model that saw its secrets could reach."""
    asked = stage.params.phantom
    drawn = draw(asked.patients, asked.external, asked.seed, asked.effect).set_index("patient", drop=False)
    pictured = drawn[(drawn["has_ct"] == 1) | (drawn["slides"] > 0)]
    followed = ["time_months", "event", "label", "score", "log_hazard"]  # no picture depends on them

    def row_of(unit: str) -> pd.Series:
        return drawn.loc[unit.removeprefix("raw/")]

    stage.write(oracle_aucs(asked.effect), "oracle.json")
    stage.each(
        [f"raw/{name}" for name in pictured.index],
        lambda unit: write_patient(folder, row_of(unit), asked.seed),
        outputs=lambda unit: files_of(folder, row_of(unit)),
        depends=lambda unit: row_of(unit).drop(followed).to_dict() | {"seed": asked.seed},
    )
    write_tables(folder, drawn)


# ------------------------------------------------------------------------------------------------- an abdomen in CT

LABELS = {"tumour": 1, "stomach": 2, "liver": 5}
FIELD_MM = (260.0, 200.0, 84.0)  # x, y, z covered
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


# voxels (x, y, z) in mm, noise and offset in HU, blur of the kernel in mm
SCANNERS = {"A": ((2.5, 2.5, 3.0), 8.0, 0.0, 1.5), "B": ((2.0, 2.0, 5.0), 11.0, 5.0, 1.1)}


class Abdomen(NamedTuple):
    """Values in HU (z, y, x), labels by `LABELS`, and the grid of both, LPS."""

    values: np.ndarray
    labels: np.ndarray
    geometry: Geometry


def abdomen(signal: float, seed: int | list[int], hospital: str = "A") -> Abdomen:
    """Draw a patient's upper abdomen with a tumour in the wall of the stomach.

    `signal`, in standard deviations, held within 2.5, drives how uneven the tumour is (its HU spread by 15 exp(0.5 signal)) and,
    a little, its size (a factor of 1 + 0.04 signal on a diameter of 24 to 30 mm). `seed` is anatomy, texture and noise: one
    seed, two signals, and only the tumour differs. Hospital B has slices of 5 mm, more noise, a sharper kernel and all values 5
    HU higher, see `SCANNERS`.
    """
    signal, random = float(np.clip(signal, -REACH, REACH)), np.random.default_rng(seed)
    spacing_mm, grain, offset, blur_mm = SCANNERS[hospital]
    size = tuple(round(side / step) for side, step in zip(FIELD_MM, spacing_mm, strict=True))
    x, y, z = _places(size, spacing_mm, random)
    clean, labels = _organs(x, y, z, random)
    tumour, skirt = _tumour(x, y, z, signal, random)
    clean[skirt] = TUMOUR_HU + random.normal(0, 4)
    labels[tumour] = LABELS["tumour"]
    values = gaussian_filter(clean, [blur_mm / step for step in spacing_mm[::-1]], truncate=3)
    values += UNEVEN_HU * np.exp(0.5 * signal) * _uneven(random, tumour, spacing_mm)
    noise = gaussian_filter(random.standard_normal(values.shape, np.float32), (0, 0.6, 0.6), truncate=3)
    values += offset + grain / noise.std() * noise
    origin = tuple(
        -(n - 1) / 2 * step + float(shift)
        for n, step, shift in zip(size, spacing_mm, random.uniform(-40, 40, 3).round(1), strict=True)
    )
    grid = Geometry(spacing_mm, origin, tuple(np.eye(3).ravel()), size)
    return Abdomen(np.clip(np.rint(values), -1024, 3071).astype(np.int16), labels, grid)


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
    inside = body < 0.83
    values = np.select([inside, body < 0.90, body < 1], [HU["fat"], HU["muscle"], HU["fat"]], HU["air"])
    values, labels = values.astype(np.float32), np.zeros(body.shape, np.uint8)
    values[_ball(x, y, 0 * z, (0, 66, 0), (46, 17, 1)) < 1] = HU["muscle"]  # of the back
    for name, centre, radii in ORGANS:
        centre = np.add(centre, random.normal(0, 1.5, 3))
        radii = np.multiply(radii, random.uniform(0.95, 1.05, 3))
        there = _ball(x, y, z, centre, radii) < 1
        if name in ("liver", "spleen", "kidney"):
            there &= inside
        values[there] = HU[name] + random.normal(0, 4)
        labels[there] = LABELS.get(name, 0)
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
    inside, texture = tumour[box], np.zeros(tumour.shape, np.float32)
    texture[box] = np.where(inside, (field - field[inside].mean()) / field[inside].std(), 0)
    return texture


def write_ct(paths: Paths, drawn: Abdomen, orientation: str = "LPS", patient: str = "PHANTOM") -> None:
    """Write the scan (int16, LPS; .nii.gz, or a folder for a DICOM series) and its label map (uint8, .nii.gz), atomically.

    Equal arguments give equal bytes. `orientation` is that in which the label map lies in its file; its place in the
    patient is the image's. `patient` is the PatientID of a DICOM series.
    """
    if is_nifti(paths.image):
        write_image(paths.image, image_of(drawn.values, drawn.geometry))
    else:
        write_dicom(paths.image, drawn.values, drawn.geometry, patient)
    write_image(paths.mask, sitk.DICOMOrient(image_of(drawn.labels, drawn.geometry), orientation))


def write_dicom(folder: str | os.PathLike, values: np.ndarray, geometry: Geometry, patient: str) -> None:
    """Write HU, int16 (z, y, x) on an LPS grid, as one DICOM series of one file a slice.

    Equal arguments give equal bytes: identifiers come from the patient's name, and the date is always the same. The files'
    names run against the slices' order, as nothing but their position tells it.
    """
    image, count = image_of(values, geometry), geometry.size[2]
    x_mm, y_mm, z_mm = geometry.spacing_mm
    # below 2.25, the root of identifiers that anybody may make; short enough for what is added
    series = f"2.25.{int(hashlib.sha256(patient.encode()).hexdigest()[:24], 16)}"
    common = {
        "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
        "0008|0016": "1.2.840.10008.5.1.4.1.1.2",  # CT image storage
        **{"0008|0020": "20260102", "0008|0030": "120000"},  # else GDCM writes today's
        **{"0008|0060": "CT", "0008|103e": "phantom abdomen"},
        **{"0010|0010": "PHANTOM", "0010|0020": patient},
        **{"0018|0050": f"{z_mm:g}", "0018|0088": f"{z_mm:g}"},
        **{"0020|000d": f"{series}.1", "0020|000e": f"{series}.2", "0020|0052": f"{series}.3"},
        **{"0020|0011": "1", "0020|0037": "1\\0\\0\\0\\1\\0"},
        "0028|0030": f"{y_mm:g}\\{x_mm:g}",
        **{"0028|1052": "-1024", "0028|1053": "1", "0028|1054": "HU"},  # HU of a stored 0
    }
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(count):
        cut, place = image[:, :, k : k + 1], geometry.points(np.array([[0, 0, k]]))[0]
        where = "\\".join(f"{each:.6g}" for each in place)
        own = {"0008|0018": f"{series}.4.{k + 1}", "0020|0013": str(k + 1), "0020|0032": where}
        for tag, value in (common | own).items():
            cut.SetMetaData(tag, value)
        with written(Path(folder, f"IM{count - k:04d}.dcm")) as part:
            writer.SetFileName(str(part))
            writer.Execute(cut)


# ------------------------------------------------------------------------------------------------- a made-up hospital

PATIENTS, SEED = 12, 25
AWAY, LOST, NOT_THERE, NO_MASK = (f"GC-{number:04d}" for number in (3, 5, 7, 9))


def write_hospital(folder: Path) -> None:
    """Write a made-up hospital's files, of twelve patients: one mask lies off its scan, one patient has no follow-up, one slide is not there, one scan has
    no mask; another scan is a folder of DICOM."""
    drawn, rows = draw(PATIENTS, 0, SEED), []
    drawn[["has_ct", "slides"]] = 1
    drawn["event"] = drawn.index % 2
    drawn["time_months"] = 12.0 + drawn.index + 20 * (1 - drawn["event"])
    for row in drawn.itertuples(index=False):
        paths = write_patient(folder, row, SEED)
        if row.patient == AWAY:
            mask = sitk.ReadImage(str(paths.mask))
            mask.SetOrigin([place + 1000 for place in mask.GetOrigin()])
            write_image(paths.mask, mask)
        if row.patient == NOT_THERE:
            paths.slides[0].unlink()
        image, mask, slide = (
            path.relative_to(folder).as_posix() for path in (paths.image, paths.mask, paths.slides[0])
        )
        files = {"image": image, "mask": "" if row.patient == NO_MASK else mask, "label": 1, "slides": slide}
        form = {name: getattr(row, name) for name in ("patient", *FACTORS, "time_months", "event")}
        rows.append(form | files)
    table = pd.DataFrame(rows)
    table.loc[table["patient"] == LOST, "time_months"] = float("nan")
    write_csv(table, folder / "patients.csv")
