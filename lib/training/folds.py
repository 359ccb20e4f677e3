"""Which patients train and which are tested.

Folds that keep each hospital on one side: a model cannot score by knowing where a slide was stained.

Howard et al., Nature Communications 12:4423 (2021), doi 10.1038/s41467-021-24698-1, solve the same with a commercial
solver; here whole sites are dealt out, largest first, then moved and swapped while that evens the folds.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from lib.inputs.tcga import site_of


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


STARTS = 20
GAIN = 1e-9  # less is rounding, and would let two sites change places forever


def site_folds(
    patients: Mapping[str, str],
    strata: Mapping[str, object],
    k: int = 5,
    seed: int = 0,
    sites: Mapping[str, str] | None = None,
) -> list[Fold]:
    """Folds that test whole sites and hold about equally many patients, and as many of each stratum.

    Parameters
    ----------
    patients : mapping
        Row (slide, section, case) -> patient.
    strata : mapping
        Patient -> what to balance besides the number of patients, as 1 died, 0 censored.
    k, seed : int
        How many folds, and the seed of the starts after the first.
    sites : mapping, optional
        Patient -> site; default: from the TCGA barcode (`lib.inputs.tcga.site_of`).

    Returns
    -------
    list of Fold
        Named "0" to k - 1. The result does not depend on the order of the rows, which it keeps. See `imbalance`.

    Raises
    ------
    ValueError
        Fewer than k sites, a patient without a stratum or site, or no TCGA barcode where `sites` is not given.
    """
    people = sorted(set(patients.values()))
    homes = {person: site_of(person) for person in people} if sites is None else dict(sites)
    for what, known in (("stratum", strata), ("site", homes)):
        if lost := [person for person in people if person not in known]:
            raise ValueError(f"patient {lost[0]} has no {what} ({len(lost)} of {len(people)} have none)")
    counts = pd.crosstab(
        pd.Series([homes[person] for person in people], name="site"),
        pd.Series([str(strata[person]) for person in people], name="stratum"),
    )
    if len(counts) < k or k < 2:
        raise ValueError(f"{k} folds cannot be made of {len(counts)} sites: ask for fewer, two at least")
    where = dict(zip(counts.index, _dealt(counts.to_numpy(), k, seed), strict=True))
    fold_of = {row: where[homes[person]] for row, person in patients.items()}
    folds = []
    for fold in range(k):
        train = tuple(row for row in patients if fold_of[row] != fold)
        test = tuple(row for row in patients if fold_of[row] == fold)
        refuse_shared_site(train, test, patients, homes)
        folds.append(Fold(str(fold), train, test))
    return folds


def refuse_shared_site(
    train: tuple[str, ...], test: tuple[str, ...], patients: Mapping[str, str], sites: Mapping[str, str]
) -> None:
    """Raise ValueError where a patient, or a site, stands on both sides of a split."""
    refuse_leak(train, test, patients)
    if both := {sites[patients[row]] for row in train} & {sites[patients[row]] for row in test}:
        raise ValueError(f"site {', '.join(sorted(both))} is in training and in test: split by site")


def imbalance(
    folds: list[Fold],
    patients: Mapping[str, str],
    strata: Mapping[str, object],
    sites: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """What each fold tests, beside an equal share.

    Returns
    -------
    DataFrame
        fold, sites, patients, one column a stratum with its patients, and `patients_off`, `<stratum>_off`: by how
        much of an equal share the fold is over (+) or under (-), 0.1 = a tenth.
    """
    rows = []
    for fold in folds:
        people = sorted({patients[row] for row in fold.test})
        homes = {site_of(person) if sites is None else sites[person] for person in people}
        counted = pd.Series([str(strata[person]) for person in people]).value_counts()
        rows.append({"fold": fold.name, "sites": len(homes), "patients": len(people)} | counted.to_dict())
    table = pd.DataFrame(rows)
    counted = ["patients", *sorted(set(table) - {"fold", "sites", "patients"})]
    table[counted] = table[counted].fillna(0).astype(int)
    for name in counted:
        table[f"{name}_off"] = table[name] / table[name].mean() - 1
    return table[["fold", "sites", *counted, *(f"{name}_off" for name in counted)]]


def cost_of(counts: np.ndarray, where: np.ndarray, k: int) -> float:
    """Sum of squared relative deviations from an equal share, over folds and over strata and their total.

    Parameters
    ----------
    counts : int array (sites, strata)
    where : int array (sites,)
        Fold of each site.
    """
    return float((_deviations(_shares(counts, k), where, k) ** 2).sum())


def _shares(counts: np.ndarray, k: int) -> np.ndarray:
    """Each site's patients, and its patients of each stratum, in units of a fold's equal share."""
    columns = np.column_stack([counts.sum(1), counts])
    return columns * k / columns.sum(0)


def _deviations(shares: np.ndarray, where: np.ndarray, k: int) -> np.ndarray:
    return np.stack([shares[where == fold].sum(0) for fold in range(k)]) - 1


def _dealt(counts: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Fold of each site: the best of several starts, each evened until no move or swap helps."""
    random = np.random.default_rng(seed)
    shares = _shares(counts, k)
    size = shares.sum(1)
    best, least = None, np.inf
    for start in range(STARTS):
        noise = 1 if start == 0 else random.uniform(0.5, 1.5, size.size)
        where = _evened(shares, _greedy(shares, np.argsort(-size * noise, kind="stable"), k), k)
        cost = (_deviations(shares, where, k) ** 2).sum()
        if cost < least - GAIN:
            best, least = where, cost
    return best


def _greedy(shares: np.ndarray, order: np.ndarray, k: int) -> np.ndarray:
    where, room = np.empty(len(shares), dtype=int), -np.ones((k, shares.shape[1]))
    for turn, site in enumerate(order):
        growth = (2 * room * shares[site] + shares[site] ** 2).sum(1)
        # the last sites go where none is yet: a fold must not stay empty
        empty = [fold for fold in range(k) if fold not in where[order[:turn]]]
        open_folds = empty if len(empty) == len(order) - turn else range(k)
        fold = min(open_folds, key=growth.__getitem__)
        where[site], room[fold] = fold, room[fold] + shares[site]
    return where


def _evened(shares: np.ndarray, where: np.ndarray, k: int) -> np.ndarray:
    """Move a site to another fold, or swap two, whichever helps most, until nothing does."""
    where = where.copy()
    sites = np.arange(len(shares))
    while True:
        off = _deviations(shares, where, k)
        # gain of taking `step` from fold a and giving it to fold b: |a - s|^2 + |b + s|^2 - |a|^2 - |b|^2
        move = 2 * ((off[None] - off[where][:, None]) * shares[:, None]).sum(2)
        move += 2 * (shares**2).sum(1)[:, None]
        alone = np.bincount(where, minlength=k)[where] == 1
        move[sites, where] = move[alone] = 0
        step = shares[:, None] - shares[None]
        swap = 2 * ((off[where][None] - off[where][:, None]) * step).sum(2) + 2 * (step**2).sum(2)
        swap[where[:, None] == where[None]] = 0
        if min(move.min(), swap.min()) > -GAIN:
            return where
        if move.min() <= swap.min():
            site, fold = np.unravel_index(move.argmin(), move.shape)
            where[site] = fold
        else:
            one, other = np.unravel_index(swap.argmin(), swap.shape)
            where[one], where[other] = where[other], where[one]
