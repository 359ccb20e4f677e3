"""A cohort's raw input behind one face: an ISLES'24 tree, phantoms written as one, one's own patients, or the reference's
own arrays.

Another kind of input is another class with the members of `Isles`: `scans`, `remarks`, `film`, `write`, `depends`,
`tables`, `patients` and `folds` are all that 1-preprocess asks for.

The reference's code (Amador et al., doi 10.1016/j.media.2024.103381) reads `<ID>/preprocessed.npz`, its README says
`<ID>_preprocessed.npz`; the time axis is last; one csv has variables and outcome; the partition is a pickle.
"""

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data import fetch_all, read_sources
from lib.files import size_of, write_json
from lib.inputs.tables import looked_over, nearest_name, plain, read_pickle
from lib.inputs.volumes import sidecar_of
from lib.params import read_yaml
from lib.stroke import clinical, cohort, phantom
from lib.stroke.clinical import CATEGORICAL, POSTPROCEDURAL, RANGES
from lib.stroke.params import StrokeParams
from lib.stroke.perfusion import NUMBERS, Prepared, prepare, remarks_on, write_prepared
from lib.stroke.series import Series, read_series, write_series_features
from lib.training.folds import stratified_folds


class Isles:
    """Scans as NIfTI (`scans`: patient -> file), clinical tables beside them; `remarks` say who is left out and why."""

    def __init__(self, root: Path, params: StrokeParams):
        self.root, self.params = root, params
        tree = cohort.find_patients(root)
        usable = tree[tree["problem"] == ""]
        self.scans = {name: Path(path) for name, path in usable["series"].items()}
        lost = tree.loc[tree["problem"] != "", "problem"].items()
        self.remarks = [f"left out: {name}: {problem}" for name, problem in lost]
        self.remarks += [f"{name}: {note}" for name, note in usable["note"].items() if note]

    def film(self, name: str) -> Series:
        """A patient's scan, HU."""
        return read_series(self.scans[name], self.params.interval_s or None, self.params.oblique)

    def example(self) -> tuple[str, Series, Prepared]:
        """The first patient whose scan can be prepared, with film and prepared scan; who comes before is printed."""
        for name in self.scans:
            try:
                film = self.film(name)
                return name, film, prepare(film, self.params.preparation)
            except ValueError as error:
                print(f"{name}: {error}")
        raise ValueError("no patient has a scan that can be prepared: see what is said of each above")

    def write(self, name: str, target: Path) -> None:
        """Prepare a scan, and write it to `target` with what it says of itself beside it."""
        film = self.film(name)
        prepared = prepare(film, self.params.preparation)
        write_prepared(target, prepared)
        facts = film.facts | {key: getattr(prepared, key) for key in NUMBERS}
        facts["note"] = "; ".join(filter(None, (*film.notes, remarks_on(prepared))))
        write_json(facts, target.with_suffix(".json"))

    def depends(self, name: str) -> dict:
        """A scan of hundreds of megabytes is known by its size, not read to the end for a checksum."""
        return {"bytes": self.scans[name].stat().st_size}

    def tables(self, names: Sequence[str]) -> list[Path]:
        """Files of clinical values."""
        return [path for paths in self._tables(names) for path in paths]

    def patients(self, names: Sequence[str]) -> pd.DataFrame:
        """By patient: the clinical variables, mrs, note, label (1 unfavourable, NaN where the outcome is not known)."""
        table = self._clinical(names)
        unfavourable = (table["mrs"] >= self.params.unfavourable_from).astype(float)
        return table.assign(label=unfavourable.where(table["mrs"].notna()))

    def folds(self, patients: pd.DataFrame) -> pd.Series:
        """The fold that holds each patient out, "" where none does, NaN for who takes no part; by the table's index."""
        people = {name: name for name in patients.index}
        split = stratified_folds(people, dict(patients["label"]), self.params.folds, self.params.seed)
        return pd.Series({name: fold.name for fold in split for name in fold.test})

    def _clinical(self, names: Sequence[str]) -> pd.DataFrame:
        mapping = cohort.MAPPING | self.params.mapping
        return cohort.read_clinical(self._tables(names), mapping, self.params.implausible)

    def _tables(self, names: Sequence[str]) -> pd.Series:
        return cohort.find_patients(self.root).loc[list(names), "tables"]


class Phantoms(Isles):
    """Patients made from a seed, written as an ISLES'24 tree when they are wanted."""

    def __init__(self, root: Path, params: StrokeParams):
        self.root, self.params, self.remarks = root, params, []
        asked = params.phantom
        self.drawn = phantom.draw(asked.patients, asked.seed, asked.effect).set_index("patient", drop=False)
        self.scans = {name: phantom.series_path(root, name) for name in self.drawn.index}

    def film(self, name: str) -> Series:
        phantom.write_patient(self.root, self.drawn.loc[name], self.params.phantom.seed)
        return super().film(name)

    def depends(self, name: str) -> dict:
        return {"phantom": self.drawn.loc[name].to_dict() | {"seed": self.params.phantom.seed}}


class Patients(Isles):
    """One's own patients: a table that names the films, which may be files of any kind."""

    def __init__(self, root: Path, params: StrokeParams):
        self.params = params
        self.table, path, self.remarks = clinical.read_patients(root, params.mapping, params.implausible)
        self.files, lost = [path], self.table.loc[self.table["problem"] != "", "problem"]
        self.remarks += [f"left out: {name}: {problem}" for name, problem in lost.items()]
        self.scans = {name: Path(path) for name, path in self.table["film"].drop(lost.index).items()}

    def film(self, name: str) -> Series:
        own = self.table.loc[name]
        interval_s = own["interval_s"] if own["interval_s"] > 0 else self.params.interval_s
        return read_series(self.scans[name], interval_s or None, self.params.oblique, own["series"])

    def depends(self, name: str) -> dict:
        path, own = self.scans[name], self.table.loc[name]
        files = [each for each in path.rglob("*") if each.is_file()] or [path]
        stated = {"interval_s": str(own["interval_s"]), "series": own["series"], "sidecar": sidecar_of(path)}
        return {"files": len(files), "bytes": size_of(path)} | stated

    def tables(self, names: Sequence[str]) -> list[Path]:
        return self.files

    def _clinical(self, names: Sequence[str]) -> pd.DataFrame:
        wanted = self.table.columns.intersection([*POSTPROCEDURAL, "mrs", "note", "hospital"])
        return self.table.loc[list(names), wanted]


class Form(Patients):
    """ISLES'24's clinical table, of patients whose scans are not here: there is no film."""

    def __init__(self, path: Path, params: StrokeParams):
        self.params, self.files, self.scans, self.remarks = params, [path], {}, ["no scans, the form alone"]
        self.table = cohort.read_form(path, params.implausible)

    def _clinical(self, names: Sequence[str]) -> pd.DataFrame:
        return self.table  # names are of those with a scan, and nobody has one here


class Arrays(Patients):
    """Arrays prepared elsewhere, of which neither HU nor millimetres are known; one csv, and a partition."""

    def __init__(self, root: Path, params: StrokeParams, raw: Path):
        self.params, self.remarks = params, []
        self.files = [raw / name for name in (params.arrays_clinical, params.partition) if name]
        self.table = clinical.read_reference_table(
            self.files[0], clinical.REFERENCE | params.mapping, params.implausible
        )
        self.scans = array_paths(root, self.table.index)

    def write(self, name: str, target: Path) -> None:
        write_series_features(target, read_array(self.scans[name], self.params.shape, self.params.frames))
        write_json({}, target.with_suffix(".json"))

    def depends(self, name: str) -> dict:
        return Isles.depends(self, name)

    def patients(self, names: Sequence[str]) -> pd.DataFrame:
        return self.table.loc[list(names)].assign(mrs=float("nan"))

    def folds(self, patients: pd.DataFrame) -> pd.Series:
        if not self.params.partition:
            return super().folds(patients)
        part = read_partition(self.files[1], self.table.index)
        return patients.index.to_series().map(part).map({"test": "test", "train": "", "val": ""})


def raw_input(params: StrokeParams, folder: Path, downloads: Path) -> Isles:
    """The raw input of a cohort: below `folder` for a phantom, else below `downloads`, fetched where it can be."""
    if params.phantom:
        return Phantoms(folder / "raw", params)
    if params.cohort in read_sources().cohorts:
        fetch_all(params.cohort)
    if params.isles_form:
        return Form(downloads / params.isles_form, params)
    if params.own_patients:
        return Patients(downloads / params.own_patients, params)
    if params.isles:
        return Isles(downloads / params.isles, params)
    return Arrays(downloads / params.arrays, params, downloads)


def variables_table(patients: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles, or counts, of the clinical variables, in how many patients they are missing, and what is odd."""
    rows = []
    for name in POSTPROCEDURAL:
        known, remark = patients[name].dropna(), ""
        if name in CATEGORICAL:
            counts = (f"{level} {(known == code).sum()}" for code, level in enumerate(CATEGORICAL[name]))
            words = ", ".join(counts)
        else:
            words = "{1:.0f} ({0:.0f} to {2:.0f})".format(*known.quantile([0.25, 0.5, 0.75]))
            try:
                remark = looked_over(known, name, RANGES[name])
            except ValueError as error:  # which `implausible` lets pass
                remark = str(error)
        rows.append(
            (name, words if len(known) else "known of nobody", int(patients[name].isna().sum()), remark)
        )
    return pd.DataFrame(rows, columns=["column", "median (quartiles), or counts", "missing", "remark"])


# ------------------------------------------------------------ the reference's own input


LAYOUTS = ("{}/preprocessed.npz", "{}_preprocessed.npz")
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


def read_partition(path: str | Path, patients: Iterable[str]) -> dict[str, str]:
    """Read who trains, who chooses and who is tested: the part ("train", "val" or "test") of each patient in one.

    A .yaml or .yml has train, val and test with a list each; a .pickle or .pkl a dictionary of lists, tuples, sets or numpy
    arrays. "training", "validation" and "testing" are understood, and val may be left out. A name that is not among the
    `patients` is a ValueError.
    """
    path, known = Path(path), dict.fromkeys(patients)
    is_pickle = path.suffix.lower() in (".pickle", ".pkl")
    # YAML as texts: another loader reads the patient 0012 as the number ten
    content = read_pickle(path) if is_pickle else read_yaml(path, texts=True)
    lists = list | tuple | set | frozenset | np.ndarray
    if not isinstance(content, dict) or not all(isinstance(each, lists) for each in content.values()):
        raise ValueError(f"{path}: train, val and test with a list each are expected")
    parts: dict[str, str] = {}
    for name, members in content.items():
        if (part := PARTS.get(plain(name))) is None:
            raise ValueError(f"{path}: {name!r} is no part{nearest_name(name, ('train', 'val', 'test'))}")
        for patient in (str(member).strip() for member in members):
            if patient in parts:
                fault = (
                    f"is in {parts[patient]} and in {part} (to choose by the test patients, leave val out)"
                )
                raise ValueError(f"{path}: patient {patient} {fault}")
            if patient not in known:
                near = nearest_name(patient, [*known][:1000])
                fault = f"of {part} is not among the {len(known)} patients known{near}"
                raise ValueError(f"{path}: patient {patient} {fault}")
            parts[patient] = part
    if lost := {"train", "test"} - set(parts.values()):
        raise ValueError(f"{path} has no patients to {min(lost)}")
    return parts
