"""A cohort of phantom strokes as ISLES'24 is unpacked: CT perfusion, lesion masks, clinical tables."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt

from lib.files import write_csv
from lib.inputs.volumes import Volume, write_series, write_volume
from lib.phantoms.head import LABELS
from lib.phantoms.stroke import Anatomy, anatomy, draw_scan, geometry, series
from lib.phantoms.stroke_patients import patients

MTICI = (("0", "1", "2a"), ("2b",), ("2c", "3"))
UNKNOWN = {  # share of patients in whom a column is empty
    "TICI postinterventional": 0.08,
    "NIHSS at admission": 0.03,
    "Onset to door": 0.03,
    "Hypertension": 0.04,
    "Atrial fibrillation": 0.04,
    "Door to recanalization": 0.04,
}
TOKENS = ("", "nan", "null")  # ISLES'24 has all three
OUTCOME = ("TICI postinterventional", "mRS 3 months")  # the other columns are known at the procedure's end


def draw(n: int, seed: int = 7, effect: float = 1.0) -> pd.DataFrame:
    """Draw a cohort's patients, before any file.

    Parameters
    ----------
    n : int
        Patients; their numbers have gaps.
    seed : int
    effect : float
        See `lib.phantoms.stroke_patients.patients`; 0 for the null twin, whose scans are the same.

    Returns
    -------
    DataFrame
        One row a patient: patient; the columns of `patients`, without missing values.
    """
    table = patients(n, seed, effect)
    numbers = np.cumsum(np.random.default_rng([seed, 1]).integers(1, 3, n))
    table.insert(0, "patient", [f"sub-stroke{number:04d}" for number in numbers])
    return table


def series_path(folder: str | Path, patient: str) -> Path:
    """Where a patient's CT perfusion lies below the cohort's folder."""
    return Path(folder) / "raw_data" / patient / "ses-01" / f"{patient}_ses-01_ctp.nii.gz"


def write_patient(
    folder: str | Path, row, seed: int = 7, shape: tuple[int, int, int] = (16, 64, 64), frames: int = 48
) -> dict[str, object]:
    """Write all files of one patient; equal arguments give equal bytes, whoever else is written.

    Below `folder`: `raw_data/<patient>/ses-01/<patient>_ses-01_ctp.nii.gz` (int16, HU),
    `derivatives/<patient>/ses-02/<patient>_ses-02_space-ncct_lesion-msk.nii.gz` (core and lost penumbra),
    `phenotype/<patient>/ses-01/..._demographic_baseline.csv` and `ses-02/..._outcome.csv` with some values missing,
    and, for no model to read, `truth/<patient>.csv`: what this function returns.

    Parameters
    ----------
    folder : path
    row : Series or named tuple
        A row of `draw`.
    seed : int
        That of `draw`.
    shape : (z, y, x)
        Voxels of a frame.
    frames : int

    Returns
    -------
    dict
        The row, with volumes as made; oligaemia_ml, interval_s, noise (HU), orientation (of the file), bolus_peak (HU),
        bolus_arrival (s).
    """
    folder, number = Path(folder), int(row.patient.removeprefix("sub-stroke"))
    random = np.random.default_rng([seed, 2, number])
    stroke = anatomy([seed, 3, number], shape, row.core_ml, row.penumbra_ml, row.side)
    scan = draw_scan(random)._replace(frames=frames)
    write_series(series_path(folder, row.patient), series(stroke, scan, [seed, 4, number]), "int16")
    second = folder / "derivatives" / row.patient / "ses-02"
    mask = Volume(_lesion(stroke, row.lost_share), geometry(stroke))
    write_volume(second / f"{row.patient}_ses-02_space-ncct_lesion-msk.nii.gz", mask, "uint8")
    _write_phenotype(folder / "phenotype" / row.patient, row, random)
    given = row.to_dict() if isinstance(row, pd.Series) else row._asdict()
    made = given | {
        "core_ml": stroke.core_ml,
        "penumbra_ml": stroke.penumbra_ml,
        "oligaemia_ml": stroke.oligaemia_ml,
        "interval_s": scan.interval_s,
        "noise": scan.noise,
        "orientation": scan.orientation,
        "bolus_peak": scan.bolus.peak,
        "bolus_arrival": scan.bolus.arrival,
    }
    write_csv(pd.DataFrame([made]), folder / "truth" / f"{row.patient}.csv")
    return made


def write_cohort(
    folder: str | Path,
    n: int,
    seed: int = 7,
    effect: float = 1.0,
    shape: tuple[int, int, int] = (16, 64, 64),
    frames: int = 48,
) -> pd.DataFrame:
    """`draw` a cohort and `write_patient` each of it; the truth of all, one row a patient."""
    drawn = draw(n, seed, effect).itertuples(index=False)
    return pd.DataFrame([write_patient(folder, row, seed, shape, frames) for row in drawn])


def read_truth(folder: str | Path, patients: Iterable[str]) -> pd.DataFrame:
    """What was planted in these patients, indexed by patient: for pictures, never for a model."""
    tables = [pd.read_csv(Path(folder) / "truth" / f"{name}.csv") for name in patients]
    return pd.concat(tables).set_index("patient")


def _lesion(stroke: Anatomy, lost_share: float) -> np.ndarray:
    """The infarct that stays: the core, and of the penumbra the lost share, nearest to the core first."""
    penumbra = np.flatnonzero(stroke.labels == LABELS["penumbra"])
    infarct = stroke.labels == LABELS["core"]
    if infarct.any():
        away = distance_transform_edt(~infarct, stroke.spacing_mm[::-1]).ravel()[penumbra]
        penumbra = penumbra[np.argsort(away, kind="stable")]
    infarct.ravel()[penumbra[: round(lost_share * len(penumbra))]] = True
    return infarct


def _write_phenotype(folder: Path, row, random: np.random.Generator) -> None:
    """Clinical tables, one row each, as ISLES'24 spells their columns."""
    cells = {
        "Age": row.age,
        "Sex": "M" if row.male else "F",
        "Atrial fibrillation": row.atrial_fibrillation,
        "Hypertension": row.hypertension,
        "Diabetes": row.diabetes,
        "Glucose": round(float(random.normal(130, 30))),
        "NIHSS at admission": row.nihss,
        "Onset to door": row.onset_to_door_min,
        "Door to imaging": row.door_to_imaging_min,
        "Door to recanalization": row.door_to_imaging_min + row.ctp_to_recanalisation_min,
        "Center": int(random.integers(1, 3)),
        "TICI postinterventional": random.choice(MTICI[row.mtici]),
        "mRS 3 months": row.mrs,
    }
    for column, share in UNKNOWN.items():
        if random.uniform() < share:
            cells[column] = random.choice(TOKENS)
    for session, kind in (("ses-01", "demographic_baseline"), ("ses-02", "outcome")):
        part = {
            column: [cell] for column, cell in cells.items() if (column in OUTCOME) == (kind == "outcome")
        }
        write_csv(pd.DataFrame(part), folder / session / f"{row.patient}_{session}_{kind}.csv")
