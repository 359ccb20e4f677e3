"""A cohort's raw input behind one face: an ISLES'24 tree, phantoms written as one, or the reference's own arrays."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lib.data import fetch_all, read_sources
from lib.files import write_json
from lib.inputs.clinical import CATEGORICAL, POSTPROCEDURAL, unfavourable
from lib.inputs.volumes import Series, describe, read_series
from lib.stroke import arrays, cohort, phantom
from lib.stroke.params import StrokeParams
from lib.stroke.perfusion import prepare
from lib.stroke.series import NUMBERS, write_prepared, write_series_features
from lib.training.folds import stratified_folds


class Isles:
    """Scans as NIfTI (`scans`: patient -> file), clinical tables beside them; `remarks` say who is left out and why."""

    def __init__(self, root: Path, params: StrokeParams):
        self.root, self.params = root, params
        tree = cohort.find_patients(root).set_index("patient", drop=False)
        usable = tree[tree["problem"] == ""]
        self.scans = {name: Path(path) for name, path in usable["series"].items()}
        lost = tree.loc[tree["problem"] != "", "problem"].items()
        self.remarks = [f"left out: {name}: {problem}" for name, problem in lost]
        self.remarks += [f"{name}: {note}" for name, note in usable["note"].items() if note]

    def film(self, name: str) -> Series:
        """A patient's scan, HU."""
        params = self.params
        return read_series(self.scans[name], interval_s=params.interval_s or None, oblique=params.oblique)

    def write(self, name: str, target: Path) -> None:
        """Prepare a scan, and write it to `target` with what it says of itself beside it."""
        film = self.film(name)
        prepared = prepare(film, self.params.preparation)
        write_prepared(target, prepared)
        facts = describe(film) | {key: getattr(prepared, key) for key in NUMBERS}
        write_json(facts, target.with_suffix(".json"))

    def depends(self, name: str) -> dict:
        """A scan of hundreds of megabytes is known by its size, not read to the end for a checksum."""
        return {"bytes": self.scans[name].stat().st_size}

    def tables(self, names: Sequence[str]) -> list[Path]:
        """Files of clinical values."""
        files = cohort.find_patients(self.root, listed=names)
        cells = [*files["baseline_table"], *files["outcome_table"]]
        return [Path(path) for cell in cells for path in cell.split(";") if path]

    def patients(self, names: Sequence[str]) -> pd.DataFrame:
        """patient, the clinical variables, mrs, label (1 unfavourable, NaN where the outcome is not known), note."""
        files, mapping = cohort.find_patients(self.root, listed=names), cohort.MAPPING | self.params.mapping
        table = cohort.read_clinical(files, mapping, implausible=self.params.implausible)
        return table.assign(label=unfavourable(table["mrs"], self.params.unfavourable_from))

    def folds(self, patients: pd.DataFrame) -> pd.Series:
        """The fold that holds each patient out, "" where none does, NaN for who takes no part; by the table's index."""
        people = {name: name for name in patients.index}
        split = stratified_folds(people, dict(patients["label"]), self.params.folds, self.params.seed)
        return patients["patient"].map({name: fold.name for fold in split for name in fold.test})


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


class Arrays(Isles):
    """Arrays prepared elsewhere, of which neither HU nor millimetres are known; one csv, and a partition."""

    def __init__(self, root: Path, params: StrokeParams, raw: Path):
        self.root, self.params, self.remarks = root, params, []
        self.clinic = raw / params.arrays_clinical
        self.partition = raw / params.partition if params.partition else None
        mapping = arrays.MAPPING | params.mapping
        self.table = arrays.read_clinical(self.clinic, mapping, implausible=params.implausible)
        self.scans = arrays.array_paths(root, self.table["patient"])

    def write(self, name: str, target: Path) -> None:
        values = arrays.read_array(self.scans[name], self.params.shape, self.params.frames)
        write_series_features(target, values)
        write_json({}, target.with_suffix(".json"))

    def tables(self, names: Sequence[str]) -> list[Path]:
        return [self.clinic, *([self.partition] if self.partition else [])]

    def patients(self, names: Sequence[str]) -> pd.DataFrame:
        table = self.table[self.table["patient"].isin(names)].rename(columns={"outcome": "label"})
        return table.assign(mrs=float("nan"))

    def folds(self, patients: pd.DataFrame) -> pd.Series:
        if not self.partition:
            return super().folds(patients)
        part = arrays.read_partition(self.partition, self.table["patient"]).set_index("patient")["part"]
        return patients["patient"].map(part).map({"test": "test", "train": "", "val": ""})


def raw_input(params: StrokeParams, folder: Path, downloads: Path) -> Isles:
    """The raw input of a cohort: below `folder` for a phantom, else below `downloads`, fetched where it can be."""
    if params.phantom:
        return Phantoms(folder / "raw", params)
    if params.cohort in read_sources().cohorts:
        fetch_all(params.cohort)
    if params.isles:
        return Isles(downloads / params.isles, params)
    return Arrays(downloads / params.arrays, params, downloads)


def described(patients: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles, or counts, of the clinical variables, and in how many patients they are missing."""
    rows = []
    for name in POSTPROCEDURAL:
        known = patients[name].dropna()
        if name in CATEGORICAL:
            words = ", ".join(
                f"{level} {(known == code).sum()}" for code, level in enumerate(CATEGORICAL[name])
            )
        else:
            low, middle, high = known.quantile([0.25, 0.5, 0.75])
            words = f"{middle:.0f} ({low:.0f} to {high:.0f})"
        words = words if len(known) else "known of nobody"
        missing = int(patients[name].isna().sum())
        rows.append({"variable": name, "median (quartiles), or counts": words, "missing": missing})
    return pd.DataFrame(rows)
