"""Which patients train and which are tested."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedKFold


class Fold(NamedTuple):
    """Sections (slides, cases) of one fold; `name` is the held-out patient, "transfer", or the fold's number."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


def refuse_leak(train: Iterable[str], test: Iterable[str], patients: Mapping[str, str]) -> None:
    """Raise ValueError where a patient stands on both sides of a split.

    Parameters
    ----------
    train, test : iterable of str
        Sections (or slides, cases).
    patients : mapping
        Section -> patient.
    """
    both = {patients[s] for s in train} & {patients[s] for s in test}
    if both:
        raise ValueError(
            f"patient {', '.join(sorted(both))} is in training and in test: split by patient, not by section"
        )


def leave_one_patient_out(patients: Mapping[str, str]) -> list[Fold]:
    """One fold a patient: all sections of that patient are tested, all others train.

    Parameters
    ----------
    patients : mapping
        Section -> patient.
    """
    names = sorted(set(patients.values()))
    if len(names) < 2:
        raise ValueError(f"leave-one-patient-out needs two patients at least, the cohort has {names}")
    return [
        Fold(
            name,
            tuple(s for s in patients if patients[s] != name),
            tuple(s for s in patients if patients[s] == name),
        )
        for name in names
    ]


def fixed_split(
    train: Sequence[str], test: Sequence[str], patients: Mapping[str, str], name: str = "transfer"
) -> Fold:
    """One fold from named sections; refuses a patient on both sides."""
    refuse_leak(train, test, patients)
    return Fold(name, tuple(train), tuple(test))


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
        Fewer than two folds, a patient without a stratum, or a stratum with fewer patients than folds.
    """
    people = sorted(set(patients.values()))
    if lost := [person for person in people if person not in strata]:
        raise ValueError(f"patient {lost[0]} has no stratum ({len(lost)} of {len(people)} have none)")
    kinds = [str(strata[person]) for person in people]
    if k < 2 or not people:
        raise ValueError(f"{k} folds of {len(people)} patients cannot be made: two folds at least are needed")
    if rare := [f"{kind} ({count})" for kind, count in Counter(kinds).items() if count < k]:
        raise ValueError(
            f"fewer than {k} patients are in stratum {', '.join(rare)}: join strata or ask for fewer folds"
        )
    splitter = StratifiedKFold(k, shuffle=True, random_state=seed)
    fold_of = {
        people[index]: number
        for number, (_, tested) in enumerate(splitter.split(np.zeros(len(people)), kinds))
        for index in tested
    }
    return [
        fixed_split(
            [row for row, person in patients.items() if fold_of[person] != number],
            [row for row, person in patients.items() if fold_of[person] == number],
            patients,
            str(number),
        )
        for number in range(k)
    ]


def nested(
    fold: Fold, patients: Mapping[str, str], strata: Mapping[str, object], k: int = 5, seed: int = 0
) -> list[Fold]:
    """Folds within a fold's training part, to choose an epoch or a setting without its tested part.

    Parameters
    ----------
    fold : Fold
    patients, strata, k, seed
        As in `stratified_folds`; rows the fold does not train on are ignored.

    Returns
    -------
    list of Fold
        Named "<fold>.0", "<fold>.1", ...; their train and test together are `fold.train`.

    Raises
    ------
    ValueError
        As in `stratified_folds`, or the fold itself leaks.
    """
    refuse_leak(fold.train, fold.test, patients)
    inner = stratified_folds({row: patients[row] for row in fold.train}, strata, k, seed)
    return [Fold(f"{fold.name}.{one.name}", one.train, one.test) for one in inner]
