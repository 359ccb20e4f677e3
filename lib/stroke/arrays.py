"""The input of the reference's own code: an array a patient, one csv with variables and outcome, a partition.

Amador et al., doi 10.1016/j.media.2024.103381. Its code reads `<ID>/preprocessed.npz`, its README says
`<ID>_preprocessed.npz`; the time axis is last; the partition is a pickle, and a pickle can run any program: ours is read
by an unpickler that admits names, whole numbers and containers of them.
"""

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from lib.files import check_names
from lib.inputs.clinical import LEVELS, is_missing, mapped
from lib.inputs.tables import nearest_name, plain, read_texts
from lib.params import read_yaml

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
    name: {str(code): code for code in range(3 if name == "mtici" else 2)} for name in LEVELS if name != "mrs"
}
PARTS = {"train": "train", "training": "train", "val": "val", "validation": "val", "valid": "val"}
PARTS |= {"test": "test", "testing": "test"}


def array_paths(folder: str | Path, patients: Iterable[str]) -> dict[str, Path]:
    """The npz of each patient; refuses one without a file (FileNotFoundError), or with one in either layout."""
    folder, patients = Path(folder), [str(patient) for patient in patients]
    check_names(patients, folder)
    paths = {name: [folder / layout.format(name) for layout in LAYOUTS] for name in patients}
    there = {name: [path for path in both if path.is_file()] for name, both in paths.items()}
    if gone := [name for name, files in there.items() if not files]:
        raise FileNotFoundError(
            f"{folder} has no preprocessed.npz of {len(gone)} of {len(there)} listed patients: {', '.join(gone[:5])}"
        )
    if twice := [files for files in there.values() if len(files) > 1]:
        raise ValueError(f"{twice[0][0]} and {twice[0][1]} are of one patient: remove one")
    return {name: files[0] for name, files in there.items()}


def read_array(
    path: str | Path, shape: tuple[int, int, int] | None = None, frames: int | None = None
) -> np.ndarray:
    """Read a patient's series, preprocessed already, from an npz with `img` (height, width, slices, frames).

    `shape` and `frames` are what it must have. Returns float32 (frames, height, width, slices), as the model takes it.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = stored["img"]
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise ValueError(f"{path} is no npz with an array img of plain numbers: {error}") from error
    wanted = (*(shape or values.shape[:3]), *([frames] if frames else values.shape[3:]))
    if (
        values.ndim != 4 or values.dtype.kind not in "fiu" or values.shape != wanted
    ):  # frames first would be slices
        raise ValueError(
            f"{path}: img is {values.dtype} {values.shape}; numbers {wanted} (height, width, slices, frames) are expected"
        )
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(np.moveaxis(values, 3, 0), dtype=np.float32)
    if bad := int((~np.isfinite(values)).sum()):
        raise ValueError(f"{path}: {bad} values of img are no finite float32 numbers")
    return values


def read_clinical(
    path: str | Path,
    mapping: Mapping[str, str | float] = MAPPING,
    levels: Mapping[str, Mapping[str, int]] | None = None,
    target: str = "mRs90_binary",
    unfavourable: int = 1,
    implausible: str = "refuse",
) -> pd.DataFrame:
    """Read the reference's csv: PATIENT_ID, the columns of `mapping`, and the outcome, one row a patient.

    `mapping`, `levels`, `implausible` are those of `lib.inputs.clinical.mapped`; categories are codes from 0, unless
    `levels` says otherwise. `unfavourable` is the code of mRS 3 to 6: the reference does not say, 1 is the natural reading.

    Returns
    -------
    DataFrame
        patient (str), the nine variables (float64, NaN = missing), outcome (1.0 unfavourable, 0.0 favourable, NaN
        missing), note, then every column as it stands, its name behind "raw:".
    """
    raw = read_texts(path)
    columns = {plain(name): name for name in raw}
    for name in ("PATIENT_ID", target):
        if plain(name) not in columns:
            raise ValueError(f"{path} has no column {name}{nearest_name(name, columns.values())}")
    patients, outcome = raw[columns["patient_id"]], raw[columns[plain(target)]]
    empty = outcome.map(is_missing)
    if (bad := patients.map(is_missing) | patients.duplicated()).any():
        raise ValueError(f"{path}: PATIENT_ID {patients[bad].iloc[0]!r} is empty or stands twice")
    check_names(patients, path)
    try:
        table = mapped(raw, patients, mapping, {**CODES, **(levels or {})}, implausible)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    codes = pd.to_numeric(outcome.mask(empty), errors="coerce")
    if (odd := ~codes.isin((0, 1)) & ~empty).any():
        raise ValueError(
            f"{path}: {target} of patient {patients[odd].iloc[0]} is {outcome[odd].iloc[0]}, not 0 or 1"
        )
    table.insert(table.shape[1] - 1, "outcome", (codes == unfavourable).astype(float).where(codes.notna()))
    return pd.concat([table, raw.drop(columns=columns["patient_id"]).add_prefix("raw:")], axis=1)


def read_partition(path: str | Path, patients: Iterable[str] | None = None) -> pd.DataFrame:
    """Read who trains, who chooses and who is tested: patient (str, as written), part ("train", "val", "test" or "").

    Parameters
    ----------
    path : path
        .yaml or .yml: train, val and test with a list each; .csv or .tsv: either the columns patient and part, or the
        columns train, val and test with the patients below; .pickle or .pkl: a dictionary of lists, tuples, sets or
        numpy arrays. "training", "validation" and "testing" are understood, and val may be left out.
    patients : names, optional
        All that are known; another one is a ValueError. Those in no part come last, with the part "".
    """
    path = Path(path)
    readers = {".yaml": _yaml, ".yml": _yaml, ".csv": _csv, ".tsv": _csv, ".pickle": _pickle, ".pkl": _pickle}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path} is no partition that can be read: save it as .yaml, .csv or .pickle")
    parts: dict[str, str] = {}
    for name, members in readers[path.suffix.lower()](path):
        if (part := PARTS.get(plain(name))) is None:
            raise ValueError(f"{path}: {name!r} is no part{nearest_name(name, ('train', 'val', 'test'))}")
        for patient in (_name(member, path) for member in members):
            if patient in parts:
                raise ValueError(
                    f"{path}: patient {patient} is in {parts[patient]} and in {part}; once is enough"
                    + (
                        " (to choose by the test patients, leave val out)"
                        if "val" in (part, parts[patient])
                        else ""
                    )
                )
            parts[patient] = part
    if lost := {"train", "test"} - set(parts.values()):
        raise ValueError(f"{path} has no patients to {min(lost)}")
    check_names(parts, path)
    known = list(parts) if patients is None else [str(patient) for patient in patients]
    if strange := [patient for patient in parts if patient not in set(known)]:
        raise ValueError(
            f"{path}: patient {strange[0]} of {parts[strange[0]]} is not among the {len(known)} patients known"
            + nearest_name(strange[0], known[:1000])
        )
    parts |= {patient: "" for patient in known if patient not in parts}
    return pd.DataFrame(parts.items(), columns=["patient", "part"])


def _name(member: object, path: Path) -> str:
    if (isinstance(member, np.integer | int) and not isinstance(member, bool)) or (
        isinstance(member, str) and member.strip()
    ):
        return str(member).strip()
    raise ValueError(f"{path}: {member!r} is no patient's name; a text or a whole number is expected")


def _members(content: object, path: Path) -> list[tuple[str, list]]:
    """Parts and their lists from a dictionary; a set has no order and is sorted."""
    kinds = list | tuple | set | frozenset | np.ndarray
    if not isinstance(content, dict) or not all(isinstance(members, kinds) for members in content.values()):
        raise ValueError(f"{path}: train, val and test with a list each are expected")
    return [
        (str(name), sorted(members, key=str) if isinstance(members, set | frozenset) else list(members))
        for name, members in content.items()
    ]


def _yaml(path: Path) -> list[tuple[str, list]]:
    # texts only: another loader reads the patient 0012 as the number ten
    return _members(read_yaml(path, texts=True), path)


def _csv(path: Path) -> list[tuple[str, list]]:
    table = read_texts(path)
    names = {plain(column): column for column in table}
    patient = next((names[n] for n in ("patient", "patient_id", "id", "subject", "case") if n in names), None)
    part = next((names[n] for n in ("part", "partition", "split", "set") if n in names), None)
    if patient and part:
        return [(name, [one]) for one, name in zip(table[patient], table[part], strict=True)]
    if names.keys() <= PARTS.keys():
        return [(column, [name for name in table[column] if name]) for column in table]
    raise ValueError(f"{path} has neither the columns patient and part nor the columns train, val and test")


class _Names(pickle.Unpickler):
    """Unpickler of texts, whole numbers, containers of them and numpy's arrays of them; nothing else is run."""

    def find_class(self, module: str, name: str) -> object:
        arrays = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
        arrays |= {("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer")}
        home = module.removeprefix("numpy.core.").removeprefix("numpy._core.")
        if (module in ("builtins", "__builtin__") and name in ("set", "frozenset", "bytes")) or (
            home,
            name,
        ) in arrays:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only lists of names are admitted")


def _pickle(path: Path) -> list[tuple[str, list]]:
    content = BytesIO(path.read_bytes())
    try:
        return _members(_Names(content).load(), path)
    except Exception as error:  # a broken pickle raises nearly anything
        raise ValueError(f"{path}: refused to unpickle: {error}; save it as .yaml or .csv") from error
