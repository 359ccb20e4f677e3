"""Folds as their authors published them, `splits_{k}.csv` with columns train and val, against the patients at hand."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from lib.inputs import tcga
from lib.inputs.tables import read_columns
from lib.names import some
from lib.training.folds import Fold, refuse_leak


def read_folds(folder: str | Path) -> list[Fold]:
    """`splits_0.csv`, `splits_1.csv`, ... of a folder, as MCAT, PORPOISE and CrossFusion publish them.

    An id is a patient's barcode or, in CrossFusion's COAD, a slide's name. val is the tested part; the shorter of the
    two columns is padded with blanks.

    Raises
    ------
    FileNotFoundError
        No such file, or a number is skipped.
    ValueError
        An id is tested twice, or its patient is on both sides of a fold.
    """
    folds, count = [], len(list(Path(folder).glob("splits_*.csv")))
    for number in range(max(count, 1)):
        table = read_columns(Path(folder, f"splits_{number}.csv"), dtype=str)
        ids = (table[part].dropna().str.strip() for part in ("train", "val"))
        folds.append(Fold(str(number), *(tuple(column[column != ""]) for column in ids)))
    return _checked(folds, folder)


def of_patients(folds: Iterable[Fold]) -> list[Fold]:
    """Folds that name slides as folds of their patients; those that name patients come back as they are."""
    parts = [[tuple(dict.fromkeys(map(tcga.patient_of, part))) for part in fold[1:]] for fold in folds]
    folds = [Fold(fold.name, *part) for fold, part in zip(folds, parts, strict=True)]
    return _checked(folds, "folds of slides")


def _checked(folds: list[Fold], where: object) -> list[Fold]:
    for fold in folds:
        refuse_leak(fold.train, fold.test, {one: tcga.patient_of(one) for one in fold.train + fold.test})
    times = Counter(one for fold in folds for one in fold.test)
    if twice := [one for one, count in times.items() if count > 1]:
        raise ValueError(f"{where}: {some(sorted(twice), 10)} tested more than once")
    return folds


def with_outcomes(folds: Iterable[Fold], known: Iterable[str]) -> tuple[list[Fold], list[str]]:
    """Keep the ids of published folds whose outcome is known; one sentence for each kind of misfit.

    Raises
    ------
    ValueError
        A part of a fold would be empty: folds and outcomes do not belong together.
    """
    folds, known = list(folds), set(known)
    kept = [Fold(f.name, *(tuple(one for one in part if one in known) for part in f[1:])) for f in folds]
    if empty := [fold.name for fold in kept if not (fold.train and fold.test)]:
        raise ValueError(
            f"fold {empty[0]} has no outcome for any id it trains on, or tests: is it this cohort's?"
        )
    tested = {one for fold in folds for one in fold.test}
    named = tested | {one for fold in folds for one in fold.train}
    misfits = {
        "named by the folds have no outcome and are left out": named - known,
        "with an outcome are in no fold": known - named,
        "train and are never tested": {one for fold in kept for one in fold.train} - tested,
    }
    for fold in folds:
        misfits[f"are in neither part of fold {fold.name}"] = (known & named) - {*fold.train, *fold.test}
    return kept, [f"{len(ids)} {what}: {some(sorted(ids), 10)}" for what, ids in misfits.items() if ids]


def with_folds(cohort: pd.DataFrame, folds: Iterable[Fold]) -> pd.DataFrame:
    """The patients (index) that folds name, with `fold`, which holds them out, NaN where none does: those train alone.

    Where a patient is in neither part of some fold, `unused_in` names it; see `lib.training.folds.folds_of`.
    """
    folds = list(folds)
    named = {one for fold in folds for part in (fold.train, fold.test) for one in part}
    cohort = cohort[cohort.index.isin(named)].copy()
    cohort["fold"] = cohort.index.map({one: fold.name for fold in folds for one in fold.test})
    unused = {
        one: " ".join(fold.name for fold in folds if one not in {*fold.train, *fold.test})
        for one in cohort.index
    }
    return cohort.assign(unused_in=cohort.index.map(unused)) if any(unused.values()) else cohort
