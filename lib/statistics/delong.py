"""Areas under correlated ROC curves: variance, interval and paired test without resampling."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata

from lib.statistics.classification import NotComputable, auc, checked
from lib.statistics.intervals import Interval


@dataclass(frozen=True)
class DeLong:
    """Difference of two AUCs on the same cases: a minus b, its standard error, interval, z and p (two-sided)."""

    difference: float
    standard_error: float
    low: float
    high: float
    z: float
    p: float


def _positive(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Which cases are positive, and the scores as (models, n), both checked."""
    scores = np.atleast_2d(np.asarray(scores, dtype=float))
    if bad := int((~np.isfinite(scores)).sum()):
        raise NotComputable(f"{bad} of {scores.size} scores are NaN or infinite")
    auc(labels, scores[0])  # refuses undetermined labels, one class only, another length
    return np.asarray(labels) == 1, scores


def auc_rows(labels: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """AUC of each row of scores (models, n) against one vector of labels (n,): (models,), by midranks.

    Raises
    ------
    NotComputable, ValueError
        As `classification.auc`.
    """
    labels, scores = _positive(labels, scores)
    positive = int(labels.sum())
    ranks = rankdata(scores, axis=1)[:, labels].mean(axis=1)
    return (ranks - (positive + 1) / 2) / (labels.size - positive)


def auc_covariance(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """AUCs of several models on the same cases, and the covariance of the estimates.

    Parameters
    ----------
    labels : array (n,)
        1 positive, 0 other. One row a patient: where a patient has several, their dependence is not seen,
        take `patients.patient_interval`.
    scores : array (models, n)
        Higher = more likely positive.

    Returns
    -------
    aucs : array (models,)
    covariance : array (models, models)

    Raises
    ------
    NotComputable
        Fewer than two positive or two other cases, or as `classification.auc`.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson, Biometrics 44:837 (1988), doi:10.2307/2531595; by midranks as Sun and
    Xu, IEEE Signal Process Lett 21:1389 (2014), doi:10.1109/LSP.2014.2337313.
    """
    labels, scores = _positive(labels, scores)
    positive = int(labels.sum())
    other = labels.size - positive
    if min(positive, other) < 2:
        raise NotComputable(
            f"{positive} positive and {other} other cases: DeLong's variance needs two of each"
        )
    ranks = rankdata(scores, axis=1)
    # share of the others a positive case beats, and share of the positive cases that beat another
    won = (ranks[:, labels] - rankdata(scores[:, labels], axis=1)) / other
    lost = 1 - (ranks[:, ~labels] - rankdata(scores[:, ~labels], axis=1)) / positive
    covariance = np.atleast_2d(np.cov(won)) / positive + np.atleast_2d(np.cov(lost)) / other
    return won.mean(axis=1), covariance


def delong_interval(
    labels: ArrayLike,
    scores: ArrayLike,
    level: float = 0.95,
    scale: Literal["logit", "plain"] = "logit",
) -> Interval:
    """AUC with DeLong's interval.

    Parameters
    ----------
    labels, scores : arrays (n,)
        As `auc_covariance`.
    level : float
        In (0, 1).
    scale : {"logit", "plain"}
        Symmetric on the logit, which stays within 0 to 1; or on the AUC itself, cut at 0 and 1.

    Raises
    ------
    NotComputable
        The variance is 0 (the classes are separated), or as `auc_covariance`.
    ValueError
        Unknown scale.
    """
    if scale not in ("logit", "plain"):
        raise ValueError(f'scale must be "logit" or "plain", got "{scale}"')
    (area,), covariance = auc_covariance(labels, scores)
    error = float(np.sqrt(covariance[0, 0]))
    if not error > 0:
        raise NotComputable(f"the AUC is {area:g} and DeLong's variance 0, which gives no interval")
    width = norm.ppf((1 + level) / 2) * error
    if scale == "logit":
        centre, width = np.log(area / (1 - area)), width / (area * (1 - area))
        low, high = 1 / (1 + np.exp(-(centre - width))), 1 / (1 + np.exp(-(centre + width)))
    else:
        low, high = max(0.0, area - width), min(1.0, area + width)
    labels = np.asarray(labels)
    how = f"DeLong, {scale} scale" if scale == "logit" else "DeLong"
    return Interval(float(area), float(low), float(high), labels.size, int(labels.sum()), how)


def delong_test(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    level: float = 0.95,
    folds: ArrayLike | None = None,
) -> DeLong:
    """Paired test of two models' AUCs on the same cases.

    Parameters
    ----------
    labels, scores_a, scores_b : arrays (n,)
        As `auc_covariance`; the scales of the two scores may differ.
    level : float
        Of the interval of the difference.
    folds : array (n,), optional
        Who was held out with whom. Scores of different folds come from different models and have no common scale: the
        difference is then the mean of those within the folds, which are independent, as the cases are others.

    Raises
    ------
    NotComputable
        The two order the cases alike, so that their difference has no variance; or as `auc_covariance`, in any fold.

    References
    ----------
    As `auc_covariance`.
    """
    labels, scores_a = checked(labels, scores_a)
    labels, scores_b = checked(labels, scores_b)
    folds = np.zeros(labels.size, dtype=int) if folds is None else np.asarray(folds)
    contrast, differences, variances = np.array([1, -1]), [], []
    for fold in np.unique(folds):
        here = folds == fold
        areas, covariance = auc_covariance(labels[here], np.stack([scores_a[here], scores_b[here]]))
        differences.append(areas[0] - areas[1])
        variances.append(contrast @ covariance @ contrast)
    variance = float(np.sum(variances)) / len(variances) ** 2
    if not variance > 1e-15:
        raise NotComputable("the two models order the cases alike: their difference has no variance")
    difference, error = float(np.mean(differences)), float(np.sqrt(variance))
    width, z = float(norm.ppf((1 + level) / 2)) * error, difference / error
    return DeLong(difference, error, difference - width, difference + width, z, float(2 * norm.sf(abs(z))))
