"""Patients of high and of low risk, by a cut-point: at the cut or above is high.

Models of different folds have scales of their own, so a median over all folds and one in each fold can disagree wildly:
for MCAT's AMIL on LUAD the log-rank p is .85 with the first and .066 with the second. A cut from the training patients
is the only one of the three that looks at no tested patient.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from lib.statistics.classification import NotComputable


def split_at(risk: ArrayLike, cut: ArrayLike) -> np.ndarray:
    """Groups by a cut-point, or by one for each patient.

    Parameters
    ----------
    risk : array (n,)
        Higher = earlier event expected; finite.
    cut : float or array (n,)

    Returns
    -------
    array (n,) of str
        "high" where risk >= cut, else "low".

    Raises
    ------
    NotComputable
        No patient, or all are on one side: there are no two groups to compare.
    ValueError
        A risk or a cut is NaN or infinite, or their shapes do not fit.
    """
    risk, cut = _finite(risk, "risk"), np.asarray(cut, dtype=float)
    if cut.shape not in ((), risk.shape) or not np.isfinite(cut).all():
        raise ValueError(
            f"one finite cut, or one for each of {risk.size} patients, is needed, not {cut.shape}"
        )
    high = risk >= cut
    if high.all() or not high.any():
        raise NotComputable(f"all {risk.size} patients are of {'high' if high.all() else 'low'} risk")
    return np.where(high, "high", "low")


def pooled_median(risk: ArrayLike) -> np.ndarray:
    """Groups by the median of all risks together, as CrossFusion does; see `split_at`."""
    return split_at(risk, np.median(_finite(risk, "risk")))


def fold_median(risk: ArrayLike, fold: ArrayLike) -> np.ndarray:
    """Groups by the median of the risks of each patient's own fold: fold (n,); see `split_at`."""
    risk = _finite(risk, "risk")
    fold = _folds(fold, risk)
    return split_at(risk, _each(fold, {name: np.median(risk[fold == name]) for name in np.unique(fold)}))


def training_cut(train_risk: ArrayLike) -> float:
    """Cut-point of a fold: the median risk of its training patients, under the model that tests the others."""
    return float(np.median(_finite(train_risk, "risk of training patients")))


def training_median(risk: ArrayLike, fold: ArrayLike, cuts: Mapping[object, float]) -> np.ndarray:
    """Groups of tested patients by the `training_cut` of each one's fold; see `split_at`.

    Raises
    ------
    ValueError
        A fold has no cut.
    """
    risk = _finite(risk, "risk")
    fold = _folds(fold, risk)
    if missing := [name for name in np.unique(fold) if name not in cuts]:
        raise ValueError(f"fold {missing[0]} has no cut, only {', '.join(map(str, cuts)) or 'none'} have")
    return split_at(risk, _each(fold, cuts))


def _each(fold: np.ndarray, cuts: Mapping[object, float]) -> np.ndarray:
    return np.array([cuts[name] for name in fold], dtype=float)


def _folds(fold: ArrayLike, risk: np.ndarray) -> np.ndarray:
    fold = np.asarray(fold)
    if fold.shape != risk.shape:
        raise ValueError(f"{risk.size} risks need as many folds, got {fold.shape}")
    return fold


def _finite(risk: ArrayLike, what: str) -> np.ndarray:
    risk = np.asarray(risk, dtype=float)
    if risk.ndim != 1:
        raise ValueError(f"{what} has shape {risk.shape}; one number a patient is needed")
    if risk.size == 0:
        raise NotComputable(f"{what}: there is no patient")
    if bad := int((~np.isfinite(risk)).sum()):
        raise ValueError(f"{what}: {bad} of {risk.size} are NaN or infinite")
    return risk
