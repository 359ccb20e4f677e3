"""A matched cohort of phantom patients after gastrectomy: clinical factors, CT with label maps, slides, and months to
liver metastasis, which hang on what the three hide.

    score = 0.58 clinical + 0.58 CT + 0.58 slide + 0.15 CT x slide
    log hazard = 6 (effect score + sqrt(1 - effect^2) stranger's score)
    cumulative hazard = level (1 - exp(-(t / 24)^8)) exp(log hazard)

The hazard is steep and ends: who is at risk has the metastasis within two and a half years, nearly all others never,
so that the outcome is almost decided by the score, of which no modality alone shows more than a third.
"""

import functools
import itertools
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from lib.files import write_csv
from lib.gcmlm.cohort import metachronous
from lib.gcmlm.phantom_ct import FIELD_MM, LABELS, ORIENTATIONS, SCANNERS, write_ct
from lib.phantoms.slides import Look, Stain, write_slide
from lib.stage import Stage

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


def patients(n: int, external: int = 0, seed: int = 7, effect: float = 1.0) -> pd.DataFrame:
    """Draw a cohort of two hospitals.

    Parameters
    ----------
    n : int
        Patients of the internal hospital A.
    external : int
        Patients of hospital B, older and of higher stages. Those of A are the same whatever it is.
    seed : int
    effect : float
        Share of the score in the log hazard, 0 to 1. With 0 a stranger's score takes its place: the outcome has the
        same frequencies and nothing of the patient tells it; factors and signals are those of another effect.

    Returns
    -------
    DataFrame
        patient ("GC-0001", ...), hospital ("A", "B"); age (years), male (0 or 1), t_stage (1 to 4), n_stage (0 to 3),
        lauren ("intestinal", "mixed", "diffuse"), histology, cea (ng/ml), the last three empty or NaN in some;
        clinical_signal (of stages, Lauren and CEA, standardised in hospital A), ct_signal, slide_signal (standard
        normal); score, log_hazard; time_months (from surgery to liver metastasis or the last look), event (1: liver
        metastasis); label (see `lib.gcmlm.cohort.metachronous`).
    """
    parts = [
        _hospital(np.random.default_rng([seed, number]), size, name, effect)
        for number, (name, size) in enumerate(zip(HOSPITALS, (n, external), strict=True))
        if size
    ]
    table = pd.concat(parts, ignore_index=True)
    table.insert(0, "patient", [f"GC-{number:04d}" for number in range(1, len(table) + 1)])
    return table


def oracle_aucs(effect: float = 1.0, n: int = 20_000, seed: int = 11) -> dict[str, float]:
    """AUC for `label` that a large cohort of hospital A allows to whoever sees the signals: ceilings for any model.

    Logistic regression with squares and products, fitted on one half of the patients, tested on the other.

    Returns
    -------
    dict
        By subset of `MODALITIES`, joined by "+".
    """
    table = patients(n, 0, seed, effect)
    table = table[table["label"].notna()]
    label, fitted = table["label"].to_numpy(), np.arange(len(table)) < len(table) // 2
    aucs = {}
    for size in range(1, len(MODALITIES) + 1):
        for subset in itertools.combinations(MODALITIES, size):
            inputs = table[[SIGNALS[name] for name in subset]].to_numpy()
            model = make_pipeline(
                PolynomialFeatures(2, include_bias=False), StandardScaler(), LogisticRegression(max_iter=1000)
            )
            scores = model.fit(inputs[fitted], label[fitted]).decision_function(inputs[~fitted])
            aucs["+".join(subset)] = float(roc_auc_score(label[~fitted], scores))
    return aucs


def _hospital(random: np.random.Generator, n: int, hospital: str, effect: float) -> pd.DataFrame:
    """Patients of one hospital, without names."""
    table, stranger = (_measured(random, n, hospital) for _ in range(2))
    table["score"] = _score(table)
    table["log_hazard"] = STEEPNESS * (effect * table["score"] + np.sqrt(1 - effect**2) * _score(stranger))
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


def _measured(random: np.random.Generator, n: int, hospital: str) -> pd.DataFrame:
    """Factors and signals."""
    table = _factors(random, n, hospital)
    middle, spread = _standard()
    table["clinical_signal"] = (_clinical(table) - middle) / spread
    table["ct_signal"], table["slide_signal"] = random.normal(size=(2, n))
    return table


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


def _score(table: pd.DataFrame) -> np.ndarray:
    clinical, ct, slide = (table[SIGNALS[name]].to_numpy() for name in MODALITIES)
    return WEIGHT * (clinical + ct + slide) + JOINT * ct * slide


WITHOUT = 0.04  # share of patients without CT, and of others without a slide
SECOND_SLIDE = 6  # every how many patients
DICOM = 20  # every how many patients' scans are DICOM series, the others NIfTI
SLIDE_UM = 512.0  # side: one tile at 5x, a dozen with tissue at 20x
UM_PER_PX = {"A": 0.5, "B": 0.25}
LOOKS = {  # the same nuclei, stained in two laboratories
    "A": Look(Stain(), eosin=0.20, stretch=1.25),
    "B": Look(Stain(haematoxylin=(0.58, 0.715, 0.38), eosin=(0.20, 0.81, 0.545)), eosin=0.21, stretch=1.25),
}
TRUTH = (
    *SIGNALS.values(),
    "score",
    "log_hazard",
    "label",
    "has_ct",
    "slides",
    "as_dicom",
    "mask_orientation",
)


class Paths(NamedTuple):
    """Files of a patient: scan and label map, None without CT; slides, perhaps none."""

    image: Path | None
    mask: Path | None
    slides: tuple[Path, ...]


def draw(n: int, external: int = 0, seed: int = 7, effect: float = 1.0) -> pd.DataFrame:
    """`patients` with their files, before any is written; effect 0 for the null twin, whose pictures are the same.

    Returns
    -------
    DataFrame
        One row a patient: the columns of `patients`; has_ct, as_dicom (0 or 1; a folder with a series, else .nii.gz),
        slides (0 to 2), mask_orientation (of the label map's file).
    """
    table, parts = patients(n, external, seed, effect), []
    for number, hospital in enumerate(HOSPITALS):
        random, size = np.random.default_rng([seed, 10, number]), int((table["hospital"] == hospital).sum())
        lacks = random.uniform(size=size)
        slides = np.where(np.arange(1, size + 1) % SECOND_SLIDE == 0, 2, 1)
        parts.append(
            pd.DataFrame(
                {
                    "has_ct": (lacks >= WITHOUT).astype(int),
                    "as_dicom": (np.arange(1, size + 1) % DICOM == DICOM // 2).astype(int),
                    "slides": np.where((lacks >= WITHOUT) & (lacks < 2 * WITHOUT), 0, slides),
                    "mask_orientation": random.choice(ORIENTATIONS, size, p=[0.6, 0.1, 0.1, 0.1, 0.1]),
                }
            )
        )
    return pd.concat([table, pd.concat(parts, ignore_index=True)], axis=1)


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
        count = round(FIELD_MM[2] / SCANNERS[row.hospital].spacing_mm[2])
        files[:1] = [paths.image / f"IM{k:04d}.dcm" for k in range(1, count + 1)]
    return files


def write_patient(folder: str | os.PathLike, row, seed: int = 7) -> Paths:
    """Write scan, label map and slides of a row of `draw`, each atomically; `seed` is that of `draw`.

    Equal rows and seeds give equal bytes, whoever else is written and whatever the outcome.
    """
    paths, number = paths_of(folder, row), int(row.patient.removeprefix("GC-"))
    if paths.image is not None:
        how = (row.hospital, row.mask_orientation, row.patient)
        write_ct(paths.image, paths.mask, row.ct_signal, [seed, 11, number], *how)
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
    """Write clinical.csv, scans.csv and slides.csv of a matched cohort, and truth.csv for no model to read."""
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
    write_csv(drawn[["patient", *TRUTH]], folder / "truth.csv")


def write_cohort(stage: Stage, folder: Path) -> None:
    """Write the phantom that a stage's parameters ask for, and oracle.json: what a model that saw its secrets could reach."""
    asked = stage.params.phantom
    drawn = draw(asked.patients, asked.external, asked.seed, asked.effect).set_index("patient", drop=False)
    pictured = drawn[(drawn["has_ct"] == 1) | (drawn["slides"] > 0)]
    followed = ["time_months", "event", "label", "score", "log_hazard"]  # no picture depends on them
    stage.write(oracle_aucs(asked.effect), "oracle.json")
    stage.each(
        [f"raw/{name}" for name in pictured.index],
        lambda unit: write_patient(folder, drawn.loc[unit.removeprefix("raw/")], asked.seed),
        outputs=lambda unit: files_of(folder, drawn.loc[unit.removeprefix("raw/")]),
        depends=lambda unit: (
            drawn.loc[unit.removeprefix("raw/")].drop(followed).to_dict() | {"seed": asked.seed}
        ),
    )
    write_tables(folder, drawn)
