"""Phantom stroke patients, an outcome that needs form and film, and their files as ISLES'24 is unpacked.

    z = 1.6 (age - 70)/10 + 0.8 (NIHSS - 12)/5 + 0.2 log2(onset to CT/150)
      + 3 core/30 + 6 lost penumbra/60 + 6 (left hemisphere) + logistic noise
    lost share = 1 - reperfusion 2^(-CT to recanalisation/240)

Only the metadata tell how much of the penumbra was lost, only the images how much there was: the product is seen where
they meet. On which side it lies the images show, and no volume tells.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, ndtr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from lib.files import write_csv, write_json
from lib.inputs.volumes import Volume, write_volume
from lib.stroke.phantom_scan import Scan, anatomy, draw_scan, series
from lib.stroke.series import write_series

MARGINAL = (0.12, 0.16, 0.17, 0.15, 0.14, 0.08, 0.18)  # of mRS 0 to 6, with an effect or without
LARGEST_ML = 140.0  # core and penumbra together, about 40 % of a hemisphere's tissue
REPERFUSION = (0.0, 0.6, 1.0)  # by mTICI 0-2a, 2b, 2c-3
ADMISSION = ["age", "onset_to_ctp_min", "nihss", "male", "hypertension", "diabetes", "atrial_fibrillation"]
METADATA = {
    "admission": ADMISSION,
    "postprocedural": [*ADMISSION, "ctp_to_recanalisation_min", "mtici_2b", "mtici_3"],
    "imaging": ["core_ml", "penumbra_ml", "on_left"],
}
ORACLES = (*METADATA, "admission + imaging", "postprocedural + imaging")
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
    """Draw a cohort before any file.

    `effect` is the factor of everything in z but the noise. With 0 the outcome is independent of all; covariates and lesions
    are those of the same seed with another effect, and the mRS have the same frequencies.

    Columns: patient, whose numbers have gaps, age (years), nihss, onset_to_door_min, door_to_imaging_min, onset_to_ctp_min,
    ctp_to_recanalisation_min (all whole numbers), male, hypertension, diabetes, atrial_fibrillation (0 or 1), mtici (0, 1, 2),
    side ("left", "right"), collateral (0 poor to 1 good), core_ml, penumbra_ml, lost_share (of the penumbra), signal (z without
    noise), risk (probability of mRS 3 or more), mrs (0 to 6).
    """
    random = np.random.default_rng([seed, 0])
    table = _covariates(random, n)
    table["signal"] = effect * _risk_score(table)
    large = np.random.default_rng(0)
    z = effect * _risk_score(_covariates(large, 40_000)) + large.logistic(size=40_000)
    cuts = np.quantile(z, np.cumsum(MARGINAL)[:-1])
    table["risk"] = expit(table["signal"] - cuts[2])
    table["mrs"] = np.searchsorted(cuts, table["signal"] + random.logistic(size=n))
    numbers = np.cumsum(np.random.default_rng([seed, 1]).integers(1, 3, n))
    table.insert(0, "patient", [f"sub-stroke{number:04d}" for number in numbers])
    return table


def oracle_aucs(effect: float = 1.0, n: int = 20_000, seed: int = 11) -> dict[str, float]:
    """AUC that a large cohort allows for mRS 3 or more: ceilings for any model, by the names of `ORACLES`, and "truth".

    Lesion volumes stand for the images, no value is missing. Logistic regression with squares and products, fitted on
    one half of the patients, tested on the other; "truth" is the probability the outcome was drawn with.
    """
    table = draw(n, seed, effect)
    table = table.assign(
        on_left=table["side"] == "left", mtici_2b=table["mtici"] == 1, mtici_3=table["mtici"] == 2
    )
    bad, fitted = (table["mrs"] >= 3).to_numpy(), np.arange(n) < n // 2
    aucs = {}
    for name in ORACLES:
        inputs = table[[column for part in name.split(" + ") for column in METADATA[part]]].to_numpy(float)
        terms = PolynomialFeatures(2, include_bias=False)
        model = make_pipeline(StandardScaler(), terms, StandardScaler(), LogisticRegression(max_iter=1000))
        scores = model.fit(inputs[fitted], bad[fitted]).decision_function(inputs[~fitted])
        aucs[name] = float(roc_auc_score(bad[~fitted], scores))
    aucs["truth"] = float(roc_auc_score(bad[~fitted], table["risk"][~fitted]))
    return aucs


def _covariates(random: np.random.Generator, n: int) -> pd.DataFrame:
    """Everything but the outcome."""
    old, large = random.normal(size=(2, n))
    to_imaging = np.clip(np.rint(20 * 2 ** random.normal(0, 0.5, n)), 5, 60)
    to_door = np.clip(np.rint(130 * 2 ** random.normal(0, 0.85, n)), 20, 720)
    onset = to_door + to_imaging
    total = LARGEST_ML * ndtr(large) ** 1.3
    collateral = random.uniform(size=n)
    share = expit(-0.6 + 0.6 * np.log2(onset / 150) + 4 * (0.5 - collateral) + 0.5 * random.normal(size=n))
    left = random.uniform(size=n) < 0.5
    recanalisation = np.clip(np.rint(90 * 2 ** random.normal(0, 0.7, n)), 25, 400)
    mtici = random.choice(3, n, p=[0.2, 0.4, 0.4])
    table = {
        "age": np.clip(np.rint(70 + 13 * old), 30, 95),
        "nihss": np.clip(np.rint(9 + 2.8 * total / 60 + 1.5 * left + 4.5 * random.normal(size=n)), 0, 40),
        "onset_to_door_min": to_door,
        "door_to_imaging_min": to_imaging,
        "onset_to_ctp_min": onset,
        "ctp_to_recanalisation_min": recanalisation,
    }
    chances = {"male": 0.52, "hypertension": 0.6, "diabetes": 0.25, "atrial_fibrillation": 0.35}
    table |= {name: random.uniform(size=n) < chance for name, chance in chances.items()}
    return (
        pd.DataFrame(table)
        .astype(int)
        .assign(
            mtici=mtici,
            side=np.where(left, "left", "right"),
            collateral=collateral,
            core_ml=total * share,
            penumbra_ml=total * (1 - share),
            lost_share=1 - np.array(REPERFUSION)[mtici] * 2 ** (-recanalisation / 240),
        )
    )


def _risk_score(table: pd.DataFrame) -> pd.Series:
    return (
        1.6 * (table["age"] - 70) / 10
        + 0.8 * (table["nihss"] - 12) / 5
        + 0.2 * np.log2(table["onset_to_ctp_min"] / 150)
        + 3.0 * table["core_ml"] / 30
        + 6.0 * table["lost_share"] * table["penumbra_ml"] / 60
        + 6.0 * (table["side"] == "left")  # language
    )


def series_path(folder: str | Path, patient: str) -> Path:
    """Where a patient's CT perfusion lies below the cohort's folder."""
    return Path(folder) / "raw_data" / patient / "ses-01" / f"{patient}_ses-01_ctp.nii.gz"


def write_patient(
    folder: str | Path, row, seed: int = 7, shape: tuple[int, int, int] = (16, 64, 64), frames: int = 48
) -> dict[str, object]:
    """Write all files of one patient, a row of `draw`; equal arguments give equal bytes, whoever else is written.

    Below `folder`: `raw_data/<patient>/ses-01/<patient>_ses-01_ctp.nii.gz` (int16, HU),
    `phenotype/<patient>/ses-01/..._demographic_baseline.csv` and `ses-02/..._outcome.csv` with some values missing,
    and, for no model to read, `truth/<patient>.csv`: what this function returns, the row with volumes as made.
    """
    folder, number = Path(folder), int(row.patient.removeprefix("sub-stroke"))
    random = np.random.default_rng([seed, 2, number])
    stroke = anatomy([seed, 3, number], shape, row.core_ml, row.penumbra_ml, row.side)
    scan = draw_scan(random)._replace(frames=frames)
    write_series(series_path(folder, row.patient), series(stroke, scan, [seed, 4, number]), "int16")
    _write_phenotype(folder / "phenotype" / row.patient, row, random)
    truth = row.to_dict() | {name: getattr(stroke, name) for name in ("core_ml", "penumbra_ml")}
    write_csv(pd.DataFrame([truth]), folder / "truth" / f"{row.patient}.csv")
    return truth


def read_truth(folder: str | Path, patients: Iterable[str]) -> pd.DataFrame:
    """What was planted in these patients, indexed by patient: for pictures, never for a model."""
    tables = [pd.read_csv(Path(folder) / "truth" / f"{name}.csv") for name in patients]
    return pd.concat(tables).set_index("patient")


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
    table = pd.DataFrame([cells], dtype=object)
    for session, kind in (("ses-01", "demographic_baseline"), ("ses-02", "outcome")):
        part = table.loc[:, table.columns.isin(OUTCOME) == (kind == "outcome")]
        write_csv(part, folder / session / f"{row.patient}_{session}_{kind}.csv")


PATIENTS, FRAMES = 14, 44
UNEVEN, IN_VOLUMES, BLANK, NO_FILM, NO_OUTCOME = 1, 2, 4, 8, 9


def write_hospital(folder: Path) -> None:
    """Write a made-up hospital's files, of fourteen patients: one film with a frame a second and then every third, one whose last frame is blank, a patient
    without a film and one without an outcome; one film is a folder of volumes that does not say its times."""
    rows = []
    for number, row in enumerate(draw(PATIENTS, 3).itertuples(index=False)):
        name, film, interval_s = f"patient_{number + 1}", "", ""
        head = anatomy([9, number], (10, 40, 40), row.core_ml, row.penumbra_ml, row.side)
        scanned = series(head, Scan(frames=FRAMES), [9, 1, number])
        if number == UNEVEN:
            kept = np.r_[:32, 32:FRAMES:3]
            scanned = scanned._replace(values=scanned.values[kept])
            write_json({"FrameTimesStart": kept.tolist()}, folder / "films" / f"{name}.json")
        if number == BLANK:
            scanned.values[-1] = 0
        if number == IN_VOLUMES:
            film, interval_s = f"films/{name}", 1
            for frame, values in enumerate(scanned.values):
                volume = Volume(values, scanned.geometry)
                write_volume(folder / film / f"ctp_{frame}.nii.gz", volume, "int16")
        elif number != NO_FILM:
            film = f"films/{name}.nii.gz"
            write_series(folder / film, scanned, "int16")
        form = {"age": int(row.age), "nihss": int(row.nihss), "sex": "FM"[int(row.male)], "ward": "3B"}
        form |= {"onset_to_ctp_min": int(row.onset_to_ctp_min), "mtici": MTICI[int(row.mtici)][-1]}
        outcome = "" if number == NO_OUTCOME else (0, 1, 4, 5)[number % 4]
        rows.append({"patient": name, "film": film, "interval_s": interval_s, **form, "mrs": outcome})
    write_csv(pd.DataFrame(rows), folder / "patients.csv")
