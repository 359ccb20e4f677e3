"""A matched cohort of phantom patients after gastrectomy: CT with label maps, slides, and the tables that name them."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.files import write_csv
from lib.phantoms.ct import LABELS, ORIENTATIONS, write_ct
from lib.phantoms.gastric_patients import FACTORS, HOSPITALS, patients
from lib.phantoms.slides import Look, write_slide
from lib.phantoms.stains import Stain

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
    "clinical_signal",
    "ct_signal",
    "slide_signal",
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
    """Draw a cohort's patients, before any file.

    Parameters
    ----------
    n, external, seed, effect
        See `lib.phantoms.gastric_patients.patients`; effect 0 for the null twin, whose pictures are the same.

    Returns
    -------
    DataFrame
        One row a patient: the columns of `patients`; has_ct, as_dicom (0 or 1; a folder with a series, else
        .nii.gz), slides (0 to 2), mask_orientation (of the label map's file).
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
    """Where a patient's files lie below the cohort's folder.

    Parameters
    ----------
    folder : path
        "" gives them as the tables have them.
    row : Series or named tuple
        A row of `draw`.
    """
    folder, name = Path(folder), row.patient
    image = folder / "ct" / (name if row.as_dicom else f"{name}.nii.gz") if row.has_ct else None
    mask = folder / "masks" / f"{name}.nii.gz" if row.has_ct else None
    return Paths(image, mask, tuple(folder / "slides" / f"{name}-{k}.tiff" for k in range(1, row.slides + 1)))


def files_of(folder: str | os.PathLike, row) -> list[Path]:
    """Files of a patient, those of a DICOM series one by one; an absent series is stood for by a file it lacks."""
    paths = paths_of(folder, row)
    files = [path for path in (paths.image, paths.mask, *paths.slides) if path is not None]
    if paths.image is not None and row.as_dicom:
        files[:1] = sorted(paths.image.glob("*.dcm")) or [paths.image / "IM0001.dcm"]
    return files


def write_patient(folder: str | os.PathLike, row, seed: int = 7) -> Paths:
    """Write a patient's scan, label map and slides, each atomically.

    Equal rows and seeds give equal bytes, whoever else is written and whatever the outcome.

    Parameters
    ----------
    folder : path
    row : Series or named tuple
        A row of `draw`.
    seed : int
        That of `draw`.

    Returns
    -------
    Paths
    """
    paths, number = paths_of(folder, row), int(row.patient.removeprefix("GC-"))
    if paths.image is not None:
        write_ct(
            paths.image,
            paths.mask,
            row.ct_signal,
            [seed, 11, number],
            row.hospital,
            row.mask_orientation,
            row.patient,
        )
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
    """Write clinical.csv, scans.csv and slides.csv of a matched cohort, and truth.csv for no model to read.

    Parameters
    ----------
    folder : path
    drawn : DataFrame
        From `draw`.
    """
    folder, paths = Path(folder), [paths_of("", row) for row in drawn.itertuples(index=False)]
    scans = [
        {
            "patient": row.patient,
            "image": files.image.as_posix(),
            "mask": files.mask.as_posix(),
            "label": LABELS["tumour"],
        }
        for row, files in zip(drawn.itertuples(index=False), paths, strict=True)
        if files.image is not None
    ]
    slides = [
        {
            "patient": row.patient,
            "slide": path.stem,
            "path": path.as_posix(),
            "um_per_px": UM_PER_PX[row.hospital],
        }
        for row, files in zip(drawn.itertuples(index=False), paths, strict=True)
        for path in files.slides
    ]
    write_csv(drawn[["patient", "hospital", *FACTORS, "time_months", "event"]], folder / "clinical.csv")
    write_csv(pd.DataFrame(scans, columns=["patient", "image", "mask", "label"]), folder / "scans.csv")
    write_csv(pd.DataFrame(slides, columns=["patient", "slide", "path", "um_per_px"]), folder / "slides.csv")
    write_csv(drawn[["patient", *TRUTH]], folder / "truth.csv")
