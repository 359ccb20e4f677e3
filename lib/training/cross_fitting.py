"""Scores of training patients by models that have not seen them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from lib.training.folds import stratified_folds
from lib.training.signature import Signature


class CrossFitted(NamedTuple):
    """A modality's signature, and what it would say of its own training patients if it did not know them."""

    signature: Signature  # of all training patients: scores new ones
    part: (
        pd.Series
    )  # training patient -> log-odds without intercept, by the signature of the other inner folds
    converged: bool  # of all fits


def inner_parts(label: pd.Series, k: int, seed: int) -> pd.Series:
    """Inner fold of each training patient, 0 to k - 1.

    Patients with an outcome are spread evenly by it. Those without one teach no signature; they take the folds in turn,
    by name, and are scored as the others of their fold are.

    Raises
    ------
    ValueError
        Fewer than k patients of an outcome.
    """
    known = label.dropna()
    folds = stratified_folds({p: p for p in sorted(known.index)}, dict(known.astype(int)), k, seed)
    parts = {patient: int(fold.name) for fold in folds for patient in fold.test}
    parts |= {patient: at % k for at, patient in enumerate(sorted(label.index[label.isna()]))}
    return pd.Series(parts, dtype=int).reindex(label.index)


def cross_fitted(
    table: pd.DataFrame, label: pd.Series, parts: pd.Series, options: Mapping[str, Any]
) -> CrossFitted:
    """Fit a modality's signature on all training patients, and on all but each inner fold.

    Parameters
    ----------
    table : DataFrame
        Training patients that have the modality, a row each.
    label : Series
        Training patient -> 0, 1 or NaN.
    parts : Series
        See `inner_parts`.
    options : mapping
        Of `Signature`.

    Raises
    ------
    ValueError
        As `Signature.fit` does.
    """
    table = table.sort_index()
    label, parts = label.reindex(table.index), parts.reindex(table.index)
    known = label.notna()
    whole = Signature(**options).fit(table[known], label[known])
    found, converged = [], whole.converged
    for at in sorted(parts.unique()):
        inner = Signature(**options).fit(table[known & (parts != at)], label)
        found.append(inner.part(table[parts == at]))
        converged &= inner.converged
    return CrossFitted(whole, pd.concat(found).reindex(table.index), converged)
