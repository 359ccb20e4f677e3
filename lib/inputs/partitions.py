"""Which patient is for training, which for choosing and which for testing: a partition somebody else made.

The reference (Amador et al., doi 10.1016/j.media.2024.103381) keeps its own as a pickle, and a pickle can run any
program: it is read by an unpickler that knows texts, whole numbers, containers of them and, in place of numpy's own
arrays, one that only lists them.
"""

import pickle
import re
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from lib.inputs.names import check_names
from lib.inputs.text_tables import nearest_name, plain, read_texts
from lib.inputs.yaml_files import read_yaml

PARTS = ("train", "val", "test")
ALSO = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
PATIENT_COLUMNS = ("patient", "patient_id", "id", "subject", "case")
PART_COLUMNS = ("part", "partition", "split", "set")
PLAIN = re.compile(r"[<>=|]?[iuU]\d+")


def read_partition(path: str | Path, patients: Iterable[str] | None = None) -> pd.DataFrame:
    """Read a partition of patients.

    Parameters
    ----------
    path : path
        .yaml or .yml: train, val and test with a list each; .csv or .tsv: either the columns patient and part, or the
        columns train, val and test with the patients below; .pickle or .pkl: a dictionary of lists, tuples, sets or
        numpy arrays. "training", "validation" and "testing" are understood, and val may be left out.
    patients : names, optional
        All that are known. Those in no part come last, with the part "".

    Returns
    -------
    DataFrame
        patient (str; numbers as they are written, so 12 and not 012), part ("train", "val", "test" or ""), in the
        file's order, sets sorted.

    Raises
    ------
    FileNotFoundError
        The file is missing.
    ValueError
        It is of another kind or broken, a pickle asks for anything but the above (nothing of it was run), a part is
        unknown or empty, a patient is in two parts, twice in one, or unknown.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: a partition is a .yaml, .csv or .pickle")
    readers = {".yaml": _yaml, ".yml": _yaml, ".csv": _csv, ".tsv": _csv, ".pickle": _pickle, ".pkl": _pickle}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path} is no partition that can be read: save it as .yaml, .csv or .pickle")
    rows = []
    been: dict[str, str] = {}
    for name, members in readers[path.suffix.lower()](path):
        part = ALSO.get(plain(name), plain(name))
        if part not in PARTS:
            raise ValueError(f"{path}: {name!r} is no part{nearest_name(name, PARTS)}")
        for patient in (_name(member, path) for member in members):
            if patient in been:
                twice = f"twice in {part}" if been[patient] == part else f"in {been[patient]} and in {part}"
                hint = (
                    "; to choose by the test patients, leave val out"
                    if {part, been[patient]} == {"val", "test"}
                    else ""
                )
                raise ValueError(f"{path}: patient {patient} is {twice}{hint}")
            been[patient] = part
            rows.append((patient, part))
    for part in ("train", "test"):
        if part not in been.values():
            raise ValueError(f"{path} has no patients to {part}")
    check_names(been, path)
    if patients is not None:
        known = [str(patient) for patient in patients]
        if strange := [patient for patient in been if patient not in set(known)]:
            raise ValueError(
                f"{path}: patient {strange[0]} of {been[strange[0]]} is not among the {len(known)} patients known"
                + nearest_name(strange[0], known[:1000])
            )
        rows += [(patient, "") for patient in known if patient not in been]
    return pd.DataFrame(rows, columns=["patient", "part"])


def _name(member: object, path: Path) -> str:
    if isinstance(member, str) and member.strip():
        return member.strip()
    if isinstance(member, int) and not isinstance(member, bool):
        return str(member)
    raise ValueError(f"{path}: {member!r} is no patient's name; a text or a whole number is expected")


def _members(found: object, path: Path) -> list[tuple[str, list]]:
    """Parts and their lists from a dictionary."""
    if not isinstance(found, dict):
        raise ValueError(
            f"{path} holds a {type(found).__name__}; train, val and test with a list each are expected"
        )
    for name, members in found.items():
        if not isinstance(members, list | tuple | set | frozenset):
            raise ValueError(f"{path}: {name} is a {type(members).__name__}; a list of patients is expected")
    return [
        (str(name), sorted(members, key=str) if isinstance(members, set | frozenset) else list(members))
        for name, members in found.items()
    ]


def _yaml(path: Path) -> list[tuple[str, list]]:
    # texts only: another loader reads the patient 0012 as the number ten
    return _members(read_yaml(path, texts=True), path)


def _csv(path: Path) -> list[tuple[str, list]]:
    table = read_texts(path)
    names = {plain(column): column for column in table}
    patient = next((names[name] for name in PATIENT_COLUMNS if name in names), None)
    part = next((names[name] for name in PART_COLUMNS if name in names), None)
    if patient and part:
        return [(one, [name]) for name, one in zip(table[patient], table[part], strict=True)]
    if all(ALSO.get(name, name) in PARTS for name in names):
        return [(column, [name for name in table[column] if name]) for column in table]
    raise ValueError(f"{path} has neither the columns patient and part nor the columns train, val and test")


def _pickle(path: Path) -> list[tuple[str, list]]:
    try:
        found = _Names(BytesIO(path.read_bytes())).load()
    except Exception as error:  # a broken pickle raises nearly anything
        raise ValueError(f"{path}: refused to unpickle: {error}; save it as .yaml or .csv") from error
    return _members(found, path)


class _Kind:
    """In numpy's dtype's place: whole numbers, texts, or objects that are listed one by one."""

    def __init__(self, kind: str = "", *rest: object):
        if not isinstance(kind, str) or not (PLAIN.fullmatch(kind) or kind in ("O", "O8")):
            raise pickle.UnpicklingError(
                f"it holds an array of {kind}, and only texts and whole numbers are admitted"
            )
        self.name = kind

    def __setstate__(self, state: tuple) -> None:
        if self.name[0] not in "<>=|" and state[1] in ("<", ">"):
            self.name = state[1] + self.name

    def listed(self, content: object) -> list:
        if isinstance(content, list):
            return content
        if self.name.startswith("O"):
            raise pickle.UnpicklingError("it holds an array of objects that are not listed")
        return np.frombuffer(content, np.dtype(self.name)).tolist()


class _Listed(list):
    """In the place of numpy's array: its content, row by row."""

    def __setstate__(self, state: tuple) -> None:
        *_, kind, _order, content = state
        self[:] = kind.listed(content)


class _Names(pickle.Unpickler):
    """Unpickler that admits containers of texts and whole numbers."""

    def find_class(self, module: str, name: str) -> object:
        arrays = {
            "_reconstruct": lambda *_: _Listed(),
            "scalar": lambda kind, content: kind.listed(content)[0],
            "_frombuffer": lambda content, kind, *_: _Listed(kind.listed(content)),
        }
        admitted = {
            (home, each.__name__): each for home in ("builtins", "__builtin__") for each in (set, frozenset)
        }
        admitted["__builtin__", "bytes"] = lambda: b""  # what old protocols write for no bytes
        admitted["_codecs", "encode"] = lambda text, _: text.encode("latin-1")
        admitted |= {("numpy", "ndarray"): "ndarray", ("numpy", "dtype"): _Kind}
        for home in ("numpy.core", "numpy._core"):
            admitted |= {(f"{home}.multiarray", one): arrays[one] for one in ("_reconstruct", "scalar")}
            admitted[f"{home}.numeric", "_frombuffer"] = arrays["_frombuffer"]
        if (module, name) not in admitted:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only lists of names are admitted")
        return admitted[module, name]
