"""The input of the reference's own code: an array a patient, one csv with variables and outcome, a partition.

Amador et al., doi 10.1016/j.media.2024.103381. Its code reads `<ID>/preprocessed.npz`, its README says
`<ID>_preprocessed.npz`; the time axis is last; the partition is a pickle, and a pickle can run any program: ours is read
by an unpickler that admits names, whole numbers and containers of them.
"""

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from lib.inputs.tables import Faults, check_once, code, nearest_name, plain, read_texts, values
from lib.params import read_yaml
from lib.stroke.clinical import CATEGORICAL, mapped

LAYOUTS = ("{}/preprocessed.npz", "{}_preprocessed.npz")
OUTCOME = "mRs90_binary"
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
CODES = {name: {str(code): code for code in range(len(levels))} for name, levels in CATEGORICAL.items()}
PARTS = {"train": "train", "training": "train", "val": "val", "validation": "val", "valid": "val"}
PARTS |= {"test": "test", "testing": "test"}


def array_paths(folder: str | Path, patients: Iterable[str]) -> dict[str, Path]:
    """The npz of each patient; refuses one without a file (FileNotFoundError), or with one in either layout."""
    paths = {name: [Path(folder, layout.format(name)) for layout in LAYOUTS] for name in patients}
    there = {name: [path for path in both if path.is_file()] for name, both in paths.items()}
    if gone := [name for name, files in there.items() if not files]:
        lost = f"{len(gone)} of {len(there)} listed patients: {', '.join(gone[:5])}"
        raise FileNotFoundError(f"{folder} has no preprocessed.npz of {lost}")
    if twice := [files for files in there.values() if len(files) > 1]:
        raise ValueError(f"{twice[0][0]} and {twice[0][1]} are of one patient: remove one")
    return {name: files[0] for name, files in there.items()}


def read_array(path: str | Path, shape: tuple[int, int, int], frames: int) -> np.ndarray:
    """Read a patient's series, preprocessed already, from an npz with `img` (height, width, slices, frames).

    `shape` and `frames` are what it must have. Returns float32 (frames, height, width, slices), as the model takes it.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = stored["img"]
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise ValueError(f"{path} is no npz with an array img of plain numbers: {error}") from error
    if values.dtype.kind not in "fiu" or values.shape != (*shape, frames):  # frames first would be slices
        wanted = f"numbers {(*shape, frames)} (height, width, slices, frames) are expected"
        raise ValueError(f"{path}: img is {values.dtype} {values.shape}; {wanted}")
    return np.ascontiguousarray(np.moveaxis(values, 3, 0), dtype=np.float32)


def read_clinical(
    path: str | Path, mapping: Mapping[str, str | float] = MAPPING, implausible: str = "refuse"
) -> pd.DataFrame:
    """Read the reference's csv: PATIENT_ID, the columns of `mapping`, and the outcome, one row a patient.

    `mapping` and `implausible` are those of `lib.stroke.clinical.mapped`; categories are codes from 0. The reference does not
    say which outcome is 1; mRS 3 to 6 is the natural reading. Indexed by patient (str): the nine variables (float64, NaN =
    missing), note, label (1.0 unfavourable, 0.0 favourable, NaN missing).
    """
    raw = read_texts(path)
    columns = {plain(name): name for name in raw}
    for name in ("PATIENT_ID", OUTCOME):
        if plain(name) not in columns:
            raise ValueError(f"{path} has no column {name}{nearest_name(name, columns.values())}")
    wrong = Faults()
    check_once(raw[columns["patient_id"]], path, wrong)
    raw = raw.set_index(columns["patient_id"]).rename_axis("patient")
    what = f"{path}: {OUTCOME} of patient"
    label = values(raw[columns[plain(OUTCOME)]], what, wrong, partial(code, levels={"0": 0, "1": 1}))
    with wrong.held(path):
        table = mapped(raw, mapping, CODES, implausible)
    wrong.refuse()
    return table.assign(label=label)


def read_partition(path: str | Path, patients: Iterable[str]) -> dict[str, str]:
    """Read who trains, who chooses and who is tested: the part ("train", "val" or "test") of each patient in one.

    A .yaml or .yml has train, val and test with a list each; a .pickle or .pkl a dictionary of lists, tuples, sets or numpy
    arrays. "training", "validation" and "testing" are understood, and val may be left out. A name that is not among the
    `patients` is a ValueError.
    """
    path, known = Path(path), dict.fromkeys(patients)
    is_pickle = path.suffix.lower() in (".pickle", ".pkl")
    # YAML as texts: another loader reads the patient 0012 as the number ten
    content = _unpickled(path) if is_pickle else read_yaml(path, texts=True)
    lists = list | tuple | set | frozenset | np.ndarray
    if not isinstance(content, dict) or not all(isinstance(each, lists) for each in content.values()):
        raise ValueError(f"{path}: train, val and test with a list each are expected")
    parts: dict[str, str] = {}
    for name, members in content.items():
        if (part := PARTS.get(plain(name))) is None:
            raise ValueError(f"{path}: {name!r} is no part{nearest_name(name, ('train', 'val', 'test'))}")
        for member in members:
            patient, fault = str(member).strip(), ""
            if isinstance(member, bool) or not isinstance(member, np.integer | int | str):
                fault = "is no patient's name: a text or a whole number is expected"
            elif patient in parts:
                fault = (
                    f"is in {parts[patient]} and in {part} (to choose by the test patients, leave val out)"
                )
            elif patient not in known:
                near = nearest_name(patient, [*known][:1000])
                fault = f"of {part} is not among the {len(known)} patients known{near}"
            if fault:
                raise ValueError(f"{path}: patient {patient} {fault}")
            parts[patient] = part
    if lost := {"train", "test"} - set(parts.values()):
        raise ValueError(f"{path} has no patients to {min(lost)}")
    return parts


class _Names(pickle.Unpickler):
    """Unpickler of texts, whole numbers, containers of them and numpy's arrays of them; nothing else is run."""

    ADMITTED = {("ndarray", "numpy"), ("dtype", "numpy"), ("encode", "_codecs")}
    ADMITTED |= {(name, "multiarray") for name in ("_reconstruct", "scalar")} | {("_frombuffer", "numeric")}
    ADMITTED |= {
        (name, home) for name in ("set", "frozenset", "bytes") for home in ("builtins", "__builtin__")
    }

    def find_class(self, module: str, name: str) -> object:
        if (name, module.removeprefix("numpy.core.").removeprefix("numpy._core.")) in self.ADMITTED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only lists of names are admitted")


def _unpickled(path: Path) -> object:
    try:
        with path.open("rb") as file:
            return _Names(file).load()
    except Exception as error:  # a broken pickle raises nearly anything
        raise ValueError(f"{path}: refused to unpickle: {error}; save it as .yaml") from error
