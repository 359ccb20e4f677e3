"""A cohort's raw input behind one face: an ISLES'24 tree, phantoms written as one, one's own patients, or the reference's
own arrays.

Another kind of input is another class with the members of `Isles`: `scans`, `remarks`, `film`, `write`, `depends`,
`tables`, `patients` and `folds` are all that 1-preprocess asks for.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lib.data import fetch_all, read_sources
from lib.files import size_of, write_json
from lib.inputs.tables import looked_over
from lib.inputs.volumes import sidecar_of
from lib.stroke import arrays, cohort, phantom
from lib.stroke.clinical import CATEGORICAL, POSTPROCEDURAL, RANGES
from lib.stroke.params import StrokeParams
from lib.stroke.patients import read_patients
from lib.stroke.perfusion import NUMBERS, Prepared, bend_of, prepare, write_prepared
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
        facts["note"] = "; ".join(filter(None, (*film.notes, bend_of(prepared))))
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
        self.table, self.path, self.remarks = read_patients(root, params.mapping, params.implausible)
        lost = self.table.loc[self.table["problem"] != "", "problem"]
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
        return [self.path]

    def _clinical(self, names: Sequence[str]) -> pd.DataFrame:
        wanted = self.table.columns.intersection([*POSTPROCEDURAL, "mrs", "note", "hospital"])
        return self.table.loc[list(names), wanted]


class Form(Isles):
    """ISLES'24's clinical table, of patients whose scans are not here: there is no film."""

    def __init__(self, path: Path, params: StrokeParams):
        self.params, self.path, self.scans, self.remarks = params, path, {}, ["no scans, the form alone"]

    def tables(self, names: Sequence[str]) -> list[Path]:
        return [self.path]

    def _clinical(self, names: Sequence[str]) -> pd.DataFrame:
        return cohort.read_form(self.path, self.params.implausible)


class Arrays(Isles):
    """Arrays prepared elsewhere, of which neither HU nor millimetres are known; one csv, and a partition."""

    def __init__(self, root: Path, params: StrokeParams, raw: Path):
        self.params, self.remarks = params, []
        self.files = [raw / name for name in (params.arrays_clinical, params.partition) if name]
        mapping = arrays.MAPPING | params.mapping
        self.table = arrays.read_clinical(self.files[0], mapping, params.implausible)
        self.scans = arrays.array_paths(root, self.table.index)

    def write(self, name: str, target: Path) -> None:
        values = arrays.read_array(self.scans[name], self.params.shape, self.params.frames)
        write_series_features(target, values)
        write_json({}, target.with_suffix(".json"))

    def tables(self, names: Sequence[str]) -> list[Path]:
        return self.files

    def patients(self, names: Sequence[str]) -> pd.DataFrame:
        return self.table.loc[list(names)].assign(mrs=float("nan"))

    def folds(self, patients: pd.DataFrame) -> pd.Series:
        if not self.params.partition:
            return super().folds(patients)
        part = arrays.read_partition(self.files[1], self.table.index)
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


def described(patients: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles, or counts, of the clinical variables, in how many patients they are missing, and what is odd."""
    rows = []
    for name in POSTPROCEDURAL:
        known = patients[name].dropna()
        words = "known of nobody"
        if len(known) and name in CATEGORICAL:
            words = ", ".join(
                f"{level} {(known == code).sum()}" for code, level in enumerate(CATEGORICAL[name])
            )
        elif len(known):
            low, middle, high = known.quantile([0.25, 0.5, 0.75])
            words = f"{middle:.0f} ({low:.0f} to {high:.0f})"
        missing = int(patients[name].isna().sum())
        try:
            remark = looked_over(known, name, RANGES[name]) if name in RANGES else ""
        except ValueError as error:  # which `implausible` lets pass
            remark = str(error)
        rows.append(
            {"variable": name, "median (quartiles), or counts": words, "missing": missing, "remark": remark}
        )
    return pd.DataFrame(rows)
