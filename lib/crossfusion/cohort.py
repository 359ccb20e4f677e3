"""Fold files that others published: `splits_{k}.csv` with columns train and val, as MCAT, PORPOISE and CrossFusion do.

An id is a patient's barcode or, in CrossFusion's COAD, a slide's name.

Risks that MCAT's authors stored for their validation folds: real predictions on real patients.

Chen et al., ICCV 2021, doi 10.1109/ICCV48922.2021.00398; repository mahmoodlab/MCAT, results/ICCV. They are pickles,
and a pickle can run any program: these are read by an unpickler that knows plain numpy arrays and nothing else.
"""

import io
import pickle
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy._core.multiarray import _reconstruct, scalar

from lib.files import check_names
from lib.inputs.tables import read_columns
from lib.inputs.tcga import patient_of
from lib.training.folds import Fold, refuse_leak


@dataclass(frozen=True)
class Coverage:
    """How published folds and known outcomes fit together.

    Attributes
    ----------
    without_outcome : tuple of str
        Ids of the folds whose outcome is not known; they are in no part of the folds that are used.
    without_fold : tuple of str
        Ids with an outcome that no fold names.
    never_tested : tuple of str
        Ids with an outcome that train in some fold and are tested in none.
    absent : dict of str to tuple of str
        Fold -> ids with an outcome that are in neither of its parts while another fold names them.
    """

    without_outcome: tuple[str, ...]
    without_fold: tuple[str, ...]
    never_tested: tuple[str, ...]
    absent: dict[str, tuple[str, ...]]

    def lines(self) -> list[str]:
        """A sentence for each thing that does not fit; none where all does."""
        said = [
            (self.without_outcome, "named by the folds have no outcome and are left out"),
            (self.without_fold, "with an outcome are in no fold"),
            (self.never_tested, "train and are never tested"),
            *((ids, f"are in neither part of fold {name}") for name, ids in self.absent.items()),
        ]
        return [f"{len(ids)} {what}: {_some(ids)}" for ids, what in said if ids]


def _some(ids: Iterable[str], most: int = 10) -> str:
    ids = list(ids)
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")


def read_folds(folder: str | Path) -> list[Fold]:
    """Read `splits_0.csv`, `splits_1.csv`, ... of a folder.

    Parameters
    ----------
    folder : path
        The shorter of the columns train and val is padded with blanks; other columns are not read.

    Returns
    -------
    list of Fold
        In the order of their numbers, which are their names; val is the tested part.

    Raises
    ------
    FileNotFoundError
        No such file, or a number is skipped.
    ValueError
        A column is missing or empty, an id stands twice in a part, is tested in two folds, or is in both parts of
        one, or a patient (`lib.inputs.tcga.patient_of`) is.
    """
    folder = Path(folder)
    numbers = sorted(
        int(found[1])
        for path in folder.glob("splits_*.csv")
        if (found := re.fullmatch(r"splits_(\d+)\.csv", path.name))
    )
    if not numbers or numbers != list(range(len(numbers))):
        raise FileNotFoundError(
            f"{folder} has the folds {numbers or 'none'}: splits_0.csv, splits_1.csv, ... without a gap are needed"
        )
    folds = [_read_fold(folder / f"splits_{number}.csv", str(number)) for number in numbers]
    tested = Counter(one for fold in folds for one in fold.test)
    if twice := sorted(one for one, times in tested.items() if times > 1):
        raise ValueError(f"{folder}: {_some(twice)} tested in more than one fold")
    return folds


def _read_fold(path: Path, name: str) -> Fold:
    table = read_columns(path, dtype=str)
    if missing := [part for part in ("train", "val") if part not in table]:
        raise ValueError(f"{path} has no column {', '.join(missing)}, only {list(table.columns)[:8]}")
    parts = []
    for part in ("train", "val"):
        ids = table[part].dropna().str.strip()
        ids = ids[ids != ""]
        if ids.empty or ids.duplicated().any():
            raise ValueError(
                f"{path}: column {part} "
                + (f"has {ids[ids.duplicated()].iloc[0]} twice" if ids.size else "is empty")
            )
        parts.append(tuple(ids))
    check_names([one for part in parts for one in part], path, "id", zeros=False)
    try:
        refuse_leak(*parts, {one: patient_of(one) for part in parts for one in part})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Fold(name, *parts)


def of_patients(folds: Iterable[Fold]) -> list[Fold]:
    """Folds that name slides as folds of their patients; those that name patients come back as they are.

    Raises
    ------
    ValueError
        A patient is tested in two folds.
    """
    parts = [Fold(f.name, *(tuple(dict.fromkeys(map(patient_of, part))) for part in f[1:])) for f in folds]
    tested = Counter(one for fold in parts for one in fold.test)
    if twice := sorted(one for one, times in tested.items() if times > 1):
        raise ValueError(f"{_some(twice)} have slides that are tested in more than one fold")
    return parts


def with_outcomes(folds: Iterable[Fold], known: Iterable[str]) -> tuple[list[Fold], Coverage]:
    """Keep the ids of published folds whose outcome is known, and say what does not fit.

    Parameters
    ----------
    folds : iterable of Fold
        See `read_folds`.
    known : iterable of str
        Ids with an outcome: patients, or slides where the folds name slides.

    Returns
    -------
    folds : list of Fold
        Without the ids that have no outcome, order kept.
    coverage : Coverage
        Print its `lines()`.

    Raises
    ------
    ValueError
        A part of a fold would be empty.
    """
    folds, known = list(folds), dict.fromkeys(known)
    kept = [
        Fold(fold.name, *(tuple(one for one in part if one in known) for part in (fold.train, fold.test)))
        for fold in folds
    ]
    for fold, before in zip(kept, folds, strict=True):
        if not (fold.train and fold.test):
            raise ValueError(
                f"fold {fold.name} has no outcome for any id it {'tests' if fold.train else 'trains on'} "
                f"({_some(before.test if fold.train else before.train, 2)}): do folds and outcomes belong together?"
            )
    named = dict.fromkeys(one for fold in folds for one in fold.train + fold.test)
    tested = {one for fold in folds for one in fold.test}
    both = [one for one in known if one in named]
    parts = {fold.name: set(fold.train + fold.test) for fold in kept}
    absent = {name: tuple(one for one in both if one not in part) for name, part in parts.items()}
    return kept, Coverage(
        without_outcome=tuple(one for one in named if one not in known),
        without_fold=tuple(one for one in known if one not in named),
        never_tested=tuple(one for one in both if one not in tested),
        absent={name: ids for name, ids in absent.items() if ids},
    )


PLAIN = re.compile(r"[<>=|]?[biufcSU]\d+")
COHORT = re.compile(r"tcga_(?P<cancer>[a-z]+)_(?P<model>.+?)(?:sm)?_nll_surv.*")
FOLD = re.compile(r"split_latest_val_(?P<fold>\d+)_results\.pkl")
FIELDS = ("risk", "survival", "censorship")


class _Arrays(pickle.Unpickler):
    """Unpickler that admits numpy arrays and scalars of plain numbers and texts."""

    def find_class(self, module: str, name: str) -> object:
        known = {"ndarray": np.ndarray, "dtype": self._dtype, "_reconstruct": _reconstruct, "scalar": scalar}
        homes = (
            ("numpy",)
            if name in ("ndarray", "dtype")
            else ("numpy.core.multiarray", "numpy._core.multiarray")
        )
        if module not in homes or name not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only numpy arrays are admitted")
        return known[name]

    def _dtype(self, kind: str, *rest: bool) -> np.dtype:
        # arrays of objects or records hold addresses: their bytes, forged, would be followed
        if not isinstance(kind, str) or not PLAIN.fullmatch(kind):
            raise pickle.UnpicklingError(
                f"it holds an array of {kind}, and only numbers and texts are admitted"
            )
        return np.dtype(kind)


def read_arrays(content: bytes) -> object:
    """Content of a pickle (protocol 3 or 4) made of dicts, lists, numbers, texts and numpy arrays.

    Raises
    ------
    ValueError
        It holds anything else (nothing of it was run), or is no whole pickle.
    """
    try:
        return _Arrays(io.BytesIO(content)).load()
    except Exception as error:  # a broken pickle raises nearly anything
        raise ValueError(f"refused to unpickle: {error}") from error


def stored_predictions(folder: str | Path) -> pd.DataFrame:
    """Read every stored prediction below a folder.

    Parameters
    ----------
    folder : path
        A clone of mahmoodlab/MCAT or a folder in it: below it lie
        `tcga_<cancer>_<model>_nll_surv.../split_latest_val_<fold>_results.pkl`.

    Returns
    -------
    DataFrame
        One row a patient, model and fold: model ("AMIL", "MCAT"), cancer ("blca"), fold (int, from 0), patient, risk
        (higher = earlier death expected), time (months), event (1 died, 0 censored).

    Raises
    ------
    FileNotFoundError
        No such file is below the folder.
    ValueError
        A file holds more than arrays, or a patient without risk, follow-up and censoring, or a patient is in two
        folds of one model.
    """
    folder = Path(folder)
    tables = []
    for path in sorted(folder.rglob("split_latest_val_*_results.pkl")):
        fold, about = FOLD.fullmatch(path.name), COHORT.fullmatch(path.parent.name)
        if not fold or not about:
            raise ValueError(
                f"{path} is not named as MCAT names its results, so model and cancer are not known"
            )
        table = _read_fold_of_mcat(path)
        for place, (name, value) in enumerate(
            [("model", about["model"]), ("cancer", about["cancer"]), ("fold", int(fold["fold"]))]
        ):
            table.insert(place, name, value)
        tables.append(table)
    if not tables:
        raise FileNotFoundError(
            f"{folder} holds no split_latest_val_*_results.pkl: run `make data COHORT=mcat`"
        )
    found = pd.concat(tables, ignore_index=True).sort_values(["model", "cancer", "fold"], kind="stable")
    twice = found.duplicated(["model", "cancer", "patient"])
    if twice.any():
        row = found[twice].iloc[0]
        raise ValueError(
            f"{folder}: patient {row['patient']} of {row['cancer']} has two risks of {row['model']}"
        )
    return found.reset_index(drop=True)


def _read_fold_of_mcat(path: Path) -> pd.DataFrame:
    try:
        content = read_arrays(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no patients by name")
    rows = []
    for patient, stored in content.items():
        values = [stored.get(name) for name in FIELDS] if isinstance(stored, dict) else [None]
        if not all(isinstance(value, float | int | np.number) and np.isfinite(value) for value in values):
            raise ValueError(f"{path}: patient {patient} has no finite {', '.join(FIELDS)}")
        risk, time, censored = (float(value) for value in values)
        if censored not in (0, 1) or time < 0:
            raise ValueError(f"{path}: patient {patient} has survival {time:g} and censorship {censored:g}")
        rows.append((str(patient), risk, time, 1 - int(censored)))
    return pd.DataFrame(rows, columns=["patient", "risk", "time", "event"])
