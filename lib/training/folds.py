"""Which patients train and which are tested."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold


class Fold(NamedTuple):
    """Sections (slides, cases) of one fold; `name` is the held-out patient, "transfer", or the fold's number."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


def refuse_leak(train: Iterable[str], test: Iterable[str], patients: Mapping[str, str]) -> None:
    """Raise ValueError where a patient stands on both sides of a split; `patients` is section (slide, case) -> patient."""
    both = {patients[s] for s in train} & {patients[s] for s in test}
    if both:
        raise ValueError(
            f"patient {', '.join(sorted(both))} is in training and in test: split by patient, not by section"
        )


def leave_one_patient_out(patients: Mapping[str, str]) -> list[Fold]:
    """One fold a patient: all sections of that patient are tested, all others train."""
    names = sorted(set(patients.values()))
    if len(names) < 2:
        raise ValueError(f"leave-one-patient-out needs two patients at least, the cohort has {names}")
    return [_split(patients, {name}, name) for name in names]


def _split(patients: Mapping[str, str], tested: set[str], name: str) -> Fold:
    train = tuple(row for row, patient in patients.items() if patient not in tested)
    return Fold(name, train, tuple(row for row, patient in patients.items() if patient in tested))


def fixed_split(
    train: Sequence[str], test: Sequence[str], patients: Mapping[str, str], name: str = "transfer"
) -> Fold:
    """One fold from named sections; refuses a patient on both sides."""
    refuse_leak(train, test, patients)
    return Fold(name, tuple(train), tuple(test))


def folds_of(table: pd.DataFrame) -> list[Fold]:
    """The folds that the column `fold` names, each with the patients (the index) it holds out; who has none trains in all.

    Where there is a column `unused_in`, it names folds, with blanks between them, in which a patient does neither.
    """
    unused = table.get("unused_in", pd.Series(index=table.index, dtype=object)).fillna("").str.split()
    folds = []
    for name in sorted(table["fold"].dropna().unique()):
        test = table["fold"] == name
        train = ~test & ~unused.map(lambda names, name=name: str(name) in names)
        folds.append(Fold(str(name), tuple(table.index[train]), tuple(table.index[test])))
    return folds


def stratified_folds(
    patients: Mapping[str, str], strata: Mapping[str, object], k: int = 5, seed: int = 0
) -> list[Fold]:
    """Folds that hold about equally many patients of each stratum; all rows of a patient stay together.

    Parameters
    ----------
    patients : mapping
        Section (slide, case) -> patient.
    strata : mapping
        Patient -> what to balance, as 1 died, 0 censored.
    k, seed : int
        How many folds, and the seed of the draw.

    Returns
    -------
    list of Fold
        Named "0" to k - 1. Who is tested where depends on patients, strata and seed, not on the order of the rows,
        which is kept.

    Raises
    ------
    ValueError
        A stratum with fewer patients than folds.
    """
    people = sorted(set(patients.values()))
    kinds = [str(strata[person]) for person in people]
    if rare := [f"{kind} ({count})" for kind, count in Counter(kinds).items() if count < k]:
        raise ValueError(
            f"fewer than {k} patients are in stratum {', '.join(rare)}, what folds balance, as label or event: lower `folds`, "
            "or join strata"
        )
    splitter = StratifiedKFold(k, shuffle=True, random_state=seed).split(np.zeros(len(people)), kinds)
    tested = [{people[index] for index in places} for _, places in splitter]
    return [_split(patients, some, str(number)) for number, some in enumerate(tested)]
