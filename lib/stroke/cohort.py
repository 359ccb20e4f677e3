"""Which patient is for training, which for choosing and which for testing: a partition somebody else made.

The reference (Amador et al., doi 10.1016/j.media.2024.103381) keeps its own as a pickle, and a pickle can run any
program: it is read by an unpickler that knows texts, whole numbers, containers of them and, in place of numpy's own
arrays, one that only lists them.

ISLES'24: which files a patient has, whatever the release called them, and the clinical tables beside them.

Riedel et al., arXiv 2408.11142; Zenodo record 17652035 and its older versions. What differs between releases, documents
and users' copies, and is therefore found by each file's own name and not by its place:

- raw_data or rawdata, below train/ or not; ses-01 or ses-0001; sub-stroke0001 or sub-strokecase0001;
- the lesion with or without `space-ncct` in its name, in one patient twice;
- clinical tables as csv or xlsx, in a folder a patient and session or side by side, or one table for all;
- "mRS 3 months" or "MRS 3 months", "TICI postinterventional" or "mTici postinterventional"; times as clock times;
- missing values as empty cells, null, and the letters nan.
"""

import os
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from lib.files import check_names
from lib.inputs.clinical import gathered, is_missing, mapped
from lib.inputs.tables import nearest_name, plain, read_texts
from lib.params import read_yaml

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


MAPPING = {
    "age": "Age",
    "onset_to_ctp_min": "Onset to door + Door to imaging",
    "ctp_to_recanalisation_min": "Door to recanalization - Door to imaging",
    "nihss": "NIHSS at admission",
    "sex": "Sex",
    "hypertension": "Hypertension",
    "smoking": "",  # ISLES'24 has nothing of the kind
    "atrial_fibrillation": "Atrial fibrillation",
    "mtici": "TICI postinterventional | mTici postinterventional",
    "mrs": "mRS 3 months",
    "center": "Center",
}
PATIENT = re.compile(r"sub-stroke(?:case)?0*(\d+)(?!\d)", re.IGNORECASE)
SESSION = re.compile(r"ses-0*(\d+)(?!\d)", re.IGNORECASE)
SLOTS = {  # what a file is, by the end of its name; the session it belongs to
    "series": ("ctp", 1),
    "ncct": ("ncct", 1),
    "cta": ("cta", 1),
    "tmax": ("tmax", 1),
    "mtt": ("mtt", 1),
    "cbf": ("cbf", 1),
    "cbv": ("cbv", 1),
    "lvo": ("lvo-msk", 1),
    "lesion": ("lesion-msk", 2),
    "dwi": ("dwi", 2),
    "adc": ("adc", 2),
}
SPACES = {"raw": ("raw", "ncct", "derivatives"), "ncct": ("ncct", "derivatives", "raw")}
TABLES = {"baseline_table": re.compile(r"demographic|baseline"), "outcome_table": re.compile(r"outcome")}


def patient_of(name: str) -> str:
    """Patient in a file's, a folder's or a cell's text, always spelled "sub-stroke0001"; "" where there is none."""
    found = PATIENT.findall(name)
    return f"sub-stroke{int(found[-1]):04d}" if found else ""


def find_patients(root: str | Path, space: str = "raw", listed: Iterable[str] | None = None) -> pd.DataFrame:
    """Find every patient's files below a folder.

    Parameters
    ----------
    root : path
        The unpacked release, any folder above it, or a copy of parts of it.
    space : str
        "raw" takes the CTP series and the maps as acquired where there are any, "ncct" those brought to the NCCT's
        grid, on which the lesion lies; the other kind is taken where the wanted one is missing.
    listed : names, optional
        Patients that must be there; the result is then these, in this order.

    Returns
    -------
    DataFrame
        One row a patient, sorted: patient ("sub-stroke0001"); paths, "" where there is none: series (4D CTP), ncct,
        cta, tmax, mtt, cbf, cbv, lvo, lesion, dwi, adc; baseline_table, outcome_table (several separated by ";");
        series_space ("raw", "ncct", "derivatives", ""); problem (why the patient cannot be used, "" if
        nothing is wrong); note (what else is odd).

    Raises
    ------
    FileNotFoundError
        No folder, no patient's file in it, or a listed patient has none.
    ValueError
        Another `space`, or a patient listed twice.
    """
    root = Path(root)
    if space not in SPACES:
        raise ValueError(f"space is {space!r}: choose raw or ncct")
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder: it should hold ISLES'24 as its archive unpacks")
    files = sorted(_files(root))
    own: dict[str, list[Path]] = {}
    shared: list[Path] = []
    for path in files:
        inside = path.relative_to(root).as_posix()
        patient = patient_of(path.name) or patient_of(inside)
        if patient:
            own.setdefault(patient, []).append(path)
        elif (
            path.suffix.lower() in (".csv", ".tsv", ".xlsx") and "phenotype" in inside.lower().split("/")[:-1]
        ):
            shared.append(path)
    if not own:
        raise FileNotFoundError(f"{root} holds no file of a patient sub-strokeNNNN")
    names = sorted(own) if listed is None else [patient_of(name) or name for name in listed]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} is listed twice")
    if gone := [name for name in names if name not in own]:
        raise FileNotFoundError(
            f"{root} has no files of {gone[0]}"
            + (f" and {len(gone) - 1} more listed patients" if gone[1:] else "")
        )
    return pd.DataFrame([_row(name, own[name], shared, root, space) for name in names])


def _files(root: Path) -> Iterator[Path]:
    """Files below a folder, through links, without hidden files, spreadsheets' locks and archives' litter."""
    been = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        been.add(os.path.realpath(folder))
        inner[:] = [
            name
            for name in inner
            if not name.startswith(".")
            and name != "__MACOSX"
            and os.path.realpath(os.path.join(folder, name)) not in been
        ]
        yield from (Path(folder, name) for name in names if not name.startswith((".", "~$")))


def _row(patient: str, files: list[Path], shared: list[Path], root: Path, space: str) -> dict[str, str]:
    row = {"patient": patient}
    problems: list[str] = []
    notes: list[str] = []
    whole: list[Path] = []
    for path in files:
        inside = path.relative_to(root).as_posix()
        if other := {patient_of(part) for part in inside.split("/")} - {patient, ""}:
            notes.append(f"{inside} lies in a folder of {min(other)} and is not taken")
        elif not path.stat().st_size:
            notes.append(f"{inside} is empty and is not taken")
        else:
            whole.append(path)
    for slot in SLOTS:
        path, where = _image(slot, whole, root, space, problems if slot == "series" else notes, notes)
        row[slot] = path
        if slot == "series":
            row["series_space"] = where
    if not row["series"] and not problems:
        problems.append("no CTP series")
    for kind, pattern in TABLES.items():
        tables = [path for path in [*whole, *shared] if _is_table(path, pattern)]
        row[kind] = ";".join(str(path) for path in tables)
        if not tables:
            (problems if kind == "outcome_table" else notes).append(f"no {kind.replace('_', ' ')}")
    if not row["lesion"]:
        notes.append("no lesion mask")
    return {**row, "problem": "; ".join(problems), "note": "; ".join(notes)}


def _is_table(path: Path, pattern: re.Pattern) -> bool:
    return path.suffix.lower() in (".csv", ".tsv", ".xlsx") and bool(pattern.search(path.name.lower()))


def _image(
    slot: str, files: list[Path], root: Path, space: str, ambiguous: list[str], notes: list[str]
) -> tuple[str, str]:
    """The one file of a slot, and where it lies; says what was left and why."""
    ending, session = SLOTS[slot]
    name = re.compile(rf"(?:.*[_-])?{ending.replace('-', '[-_]')}\.nii(?:\.gz)?", re.IGNORECASE)
    order = SPACES["ncct" if session == 2 else space]
    found: dict[int, list[Path]] = {}
    for path in files:
        if not name.fullmatch(path.name):
            continue
        inside = path.relative_to(root).as_posix()
        sessions = SESSION.findall(path.name) or SESSION.findall(inside)
        if sessions and int(sessions[-1]) != session:
            notes.append(f"{inside} is of session {int(sessions[-1])}, not {session}, and is not taken")
            continue
        found.setdefault(order.index(_space_of(inside)), []).append(path)
    if not found:
        return "", ""
    best, *others = sorted(found)
    insides = [path.relative_to(root).as_posix() for path in found[best]]
    if len(insides) > 1:
        ambiguous.append(f"{len(insides)} files are its {slot}, {' and '.join(insides)}: remove all but one")
        return "", ""
    if slot == "lesion" and others:
        left = [path.relative_to(root).as_posix() for place in others for path in found[place]]
        notes.append(f"of several, {insides[0]} is its {slot}, not {' or '.join(left)}")
    return str(found[best][0]), order[best]


def _space_of(inside: str) -> str:
    if "space-ncct" in inside.rsplit("/", 1)[-1].lower():
        return "ncct"
    return "derivatives" if "derivatives" in inside.lower().split("/") else "raw"


def read_clinical(
    patients: pd.DataFrame,
    mapping: Mapping[str, str | float] = MAPPING,
    levels: Mapping[str, Mapping[str, int]] | None = None,
    implausible: str = "refuse",
) -> pd.DataFrame:
    """Read the clinical tables of patients.

    Parameters
    ----------
    patients : DataFrame
        `find_patients`' columns patient, baseline_table and outcome_table.
    mapping : dict
        Which column is which variable, for the nine and `mrs`, as `lib.inputs.clinical.mapped` reads it;
        `center` is a column's name or "".
    levels : dict, optional
        Categories in place of the default: mTICI 0, 1 and 2a are 0, 2b is 1, 2c and 3 are 2; F is 0 and M is 1.
    implausible : str
        "refuse" or "missing", for numbers no patient has.

    Returns
    -------
    DataFrame
        One row a patient, in their order: patient; age (years), onset_to_ctp_min, ctp_to_recanalisation_min, nihss,
        sex, hypertension, smoking, atrial_fibrillation (0 or 1), mtici (0, 1, 2), mrs (0 to 6), all float64 and NaN
        where missing; center ("" where missing); note (what was odd); then every column of the files as it stands
        there, its name behind "raw:".

    Raises
    ------
    FileNotFoundError
        A table that was found is gone.
    ValueError
        Two tables of a patient disagree, a table has several rows and names no patients, or what `mapped` refuses.
    """
    if (twice := patients["patient"].duplicated()).any():
        raise ValueError(
            f"patient {patients['patient'][twice].iloc[0]} stands twice; one row a patient is expected"
        )
    tables = zip(patients["baseline_table"], patients["outcome_table"], strict=True)
    raw, notes = gathered(
        list(patients["patient"]), [_paths(one) + _paths(two) for one, two in tables], patient_of
    )
    rest = {name: expression for name, expression in mapping.items() if name != "center"}
    if "mrs" not in rest:
        raise ValueError(
            "the mapping does not say what mrs is: name the column of the outcome at three months"
        )
    made = mapped(raw, patients["patient"], rest, levels, implausible)
    columns, center = {plain(name): name for name in raw}, mapping.get("center") or ""
    if center and plain(center) not in columns:
        raise ValueError(f"center: no table has a column {center!r}{nearest_name(center, columns.values())}")
    texts = raw[columns[plain(center)]] if center else pd.Series("", index=raw.index)
    made.insert(made.shape[1] - 1, "center", texts.mask(texts.map(is_missing), ""))
    made["note"] = ["; ".join(filter(None, both)) for both in zip(notes, made["note"], strict=True)]
    return pd.concat([made, raw.add_prefix("raw:")], axis=1)


def _paths(cell: object) -> list[str]:
    """Paths of a cell of `find_patients`, also after it went through a csv file."""
    if not isinstance(cell, str):
        return []
    return [cell] if Path(cell).is_file() else [path for path in cell.split(";") if path]
