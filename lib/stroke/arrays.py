"""The reference's own input: a preprocessed 4D CTP a patient as npz, and one csv with clinical variables and outcome.

Amador et al., doi 10.1016/j.media.2024.103381. Its code reads `<ID>/preprocessed.npz`, its README says
`<ID>_preprocessed.npz`; the time axis is last; outcomes are in the csv. Partitions: `lib.stroke.cohort`.
"""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lib.files import check_names
from lib.inputs.clinical import LEVELS, is_missing, mapped
from lib.inputs.tables import nearest_name, plain, read_texts

MOST_BYTES = 4 << 30
"""Of a patient's arrays, unpacked: 32 frames of 512 x 512 x 64 voxels are 2 GB as float32."""

LAYOUTS = ("{}/preprocessed.npz", "{}_preprocessed.npz")
MAPPING = {
    "age": "Age",
    "onset_to_ctp_min": "Onset2CTP",
    "ctp_to_recanalisation_min": "CTP2Recanalization",
    "nihss": "NIHSS00",
    "sex": "Sex",
    "hypertension": "Hypertension",
    "smoking": "Smoking",
    "atrial_fibrillation": "Atrial_Fibrillation",
    "mtici": "mTICI",
}
# codes from 0, as its embeddings take them; which sex is 0 and how mTICI was grouped is not published
CODES = {
    name: {str(level): level for level in range(3 if name == "mtici" else 2)}
    for name in LEVELS
    if name != "mrs"
}


def array_paths(folder: str | Path, patients: Iterable[str]) -> dict[str, Path]:
    """The npz of each patient.

    Raises
    ------
    FileNotFoundError
        The folder is missing, or a listed patient has no file.
    ValueError
        A patient has a file in either layout: which is meant is not known.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: <ID>/preprocessed.npz are expected in it")
    paths, gone, patients = {}, [], [str(patient) for patient in patients]
    check_names(patients, folder)
    for patient in patients:
        found = [path for path in (folder / layout.format(patient) for layout in LAYOUTS) if path.is_file()]
        if len(found) > 1:
            raise ValueError(f"patient {patient} has {found[0]} and {found[1]}: remove one")
        if found:
            paths[patient] = found[0]
        else:
            gone.append(patient)
    if gone:
        raise FileNotFoundError(
            f"{folder} has no preprocessed.npz of {len(gone)} of {len(gone) + len(paths)} listed patients: "
            + ", ".join(gone[:5])
            + (", ..." if gone[5:] else "")
        )
    return paths


def read_array(
    path: str | Path, shape: tuple[int, int, int] | None = None, frames: int | None = None
) -> np.ndarray:
    """Read a patient's series, in the order in which the model takes it.

    Parameters
    ----------
    path : path
        npz with `img` (height, width, slices, frames): the file's order, whose last axis is time.
    shape : (height, width, slices), optional
        What it must be.
    frames : int, optional
        How many it must have; the reference takes 32.

    Returns
    -------
    float32 array (frames, height, width, slices)
        Intensities as they stand in the file, which is preprocessed already.

    Raises
    ------
    FileNotFoundError
        The file is missing.
    ValueError
        It is broken, has no `img`, one of objects, of another shape, with fewer or more frames, or with values that
        are no finite numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    try:
        _verify(path)
        with np.load(path, allow_pickle=False) as stored:
            names = stored.files
            values = stored["img"] if "img" in names else None
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile, TypeError) as error:
        raise ValueError(f"{path} is no npz of plain numbers: {error}") from error
    if values is None:
        raise ValueError(f"{path} has no array img{nearest_name('img', names)}")
    if values.ndim != 4 or not values.size or values.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: img is {values.dtype} {values.shape}; numbers (height, width, slices, frames) are expected"
        )
    if shape is not None and values.shape[:3] != tuple(shape):
        raise ValueError(f"{path}: img is {values.shape[:3]} voxels a frame, and {tuple(shape)} are expected")
    if frames is not None and values.shape[3] != frames:
        raise ValueError(f"{path}: img has {values.shape[3]} frames, and {frames} are expected")
    with np.errstate(over="ignore"):  # becomes infinite, and is refused below
        values = np.ascontiguousarray(np.moveaxis(values, 3, 0), dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{path}: {int((~np.isfinite(values)).sum())} values of img are no finite float32 numbers"
        )
    return values


def read_clinical(
    path: str | Path,
    mapping: Mapping[str, str | float] = MAPPING,
    levels: Mapping[str, Mapping[str, int]] | None = None,
    target: str = "mRs90_binary",
    unfavourable: int = 1,
    implausible: str = "refuse",
) -> pd.DataFrame:
    """Read the reference's csv, one row a patient.

    Parameters
    ----------
    path : path
        csv with the columns PATIENT_ID, those of `mapping` and `target`.
    mapping, levels, implausible
        As `lib.inputs.clinical.mapped` takes them; categories are codes from 0, unless `levels` says otherwise.
    target : str
        Column of the outcome, 0 or 1.
    unfavourable : 0 or 1
        Which of them is mRS 3 to 6. The reference does not say; 1 is the natural reading.

    Returns
    -------
    DataFrame
        patient (str), the nine variables (float64, NaN = missing), outcome (1.0 unfavourable, 0.0 favourable, NaN
        missing), note, then every column as it stands, its name behind "raw:".

    Raises
    ------
    FileNotFoundError
        The file is missing.
    ValueError
        No PATIENT_ID or target, a row without a patient, a patient twice, an outcome neither 0 nor 1, or what `mapped`
        refuses.
    """
    if unfavourable not in (0, 1):
        raise ValueError(f"unfavourable is {unfavourable!r}: choose 0 or 1, the code of mRS 3 to 6")
    raw = read_texts(path)
    columns = {plain(name): name for name in raw}
    for name in ("PATIENT_ID", target):
        if plain(name) not in columns:
            raise ValueError(f"{path} has no column {name}{nearest_name(name, columns.values())}")
    patients, outcome = raw[columns["patient_id"]], raw[columns[plain(target)]]
    if patients.map(is_missing).any():
        raise ValueError(
            f"{path}: {int(patients.map(is_missing).sum())} of {len(raw)} rows have no PATIENT_ID"
        )
    if patients.duplicated().any():
        raise ValueError(f"{path}: patient {patients[patients.duplicated()].iloc[0]} stands twice")
    check_names(patients, path)
    try:
        made = mapped(raw, patients, mapping, {**CODES, **(levels or {})}, implausible)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    scores = pd.to_numeric(outcome.mask(outcome.map(is_missing)), errors="coerce")
    if (odd := ~scores.isin((0, 1)) & ~outcome.map(is_missing)).any():
        raise ValueError(
            f"{path}: {target} of patient {patients[odd].iloc[0]} is {outcome[odd].iloc[0]}, not 0 or 1"
        )
    made.insert(made.shape[1] - 1, "outcome", (scores == unfavourable).astype(float).where(scores.notna()))
    return pd.concat([made, raw.drop(columns=columns["patient_id"]).add_prefix("raw:")], axis=1)


def _verify(path: Path) -> None:
    """Refuse a small file that unpacks to much."""
    with zipfile.ZipFile(path) as archive:
        promised = sum(member.file_size for member in archive.infolist())
    if promised > MOST_BYTES or promised > 200 * path.stat().st_size + (64 << 20):
        raise ValueError(f"it unpacks from {path.stat().st_size:,} to {promised:,} bytes, which no scan does")
