"""How well scores, or a yes-or-no call made from them, tell positive cases (spots, patients) from the rest."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score
from sklearn.metrics import roc_auc_score as _roc_auc_score


class NotComputable(ValueError):
    """A metric has no value on these data; the message says why. It is never reported as 0."""


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores as float64 vectors of one length, refused with a reason where unusable.

    Parameters
    ----------
    labels : array (n,)
        1 positive (cancer, recurrence), 0 other. NaN (undetermined) is refused: leave those cases out, and
        count them, before.
    scores : array (n,)
        Finite; higher = more likely positive.

    Returns
    -------
    labels, scores : float64 arrays (n,)

    Raises
    ------
    ValueError
        Lengths differ, or a label is neither 0 nor 1.
    NotComputable
        No case, an undetermined label, or a score that is NaN or infinite.
    """
    labels = np.asarray(labels, dtype=float)
    scores = np.asarray(scores, dtype=float)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(
            f"labels have shape {labels.shape}, scores {scores.shape}; two vectors of one length are needed"
        )
    if labels.size == 0:
        raise NotComputable("there is no case")
    if undetermined := int(np.isnan(labels).sum()):
        raise NotComputable(f"{undetermined} of {labels.size} cases are undetermined (label NaN)")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels must be 0 (other) or 1 (positive), found {np.unique(labels)[:5].tolist()}")
    if bad := int((~np.isfinite(scores)).sum()):
        raise NotComputable(f"{bad} of {scores.size} scores are NaN or infinite")
    return labels, scores


def _need_positive(labels: np.ndarray) -> None:
    if not labels.any():
        raise NotComputable(f"none of the {labels.size} cases is positive")


def _need_other(labels: np.ndarray) -> None:
    if labels.all():
        raise NotComputable(f"all {labels.size} cases are positive")


def _called(labels: ArrayLike, predicted: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels, predicted = checked(labels, predicted)
    if not np.isin(predicted, (0, 1)).all():
        raise ValueError("predicted must be 0 or 1: apply a threshold to the scores first")
    return labels, predicted


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: chance that a positive case scores above another, ties counted half.

    Parameters
    ----------
    labels : array (n,)
        1 positive, 0 other.
    scores : array (n,)
        Higher = more likely positive; any scale.

    Returns
    -------
    float
        0 to 1; 0.5 is chance.

    Raises
    ------
    NotComputable
        Undetermined labels, one class only, or scores that are not finite.
    """
    labels, scores = checked(labels, scores)
    _need_positive(labels)
    _need_other(labels)
    return float(_roc_auc_score(labels, scores))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision: precision at each distinct score, weighted by the recall gained there.

    No interpolation. Chance is the prevalence, so it is shown beside it. Parameters, direction and errors
    as in `auc`; 0 to 1.
    """
    labels, scores = checked(labels, scores)
    _need_positive(labels)
    _need_other(labels)
    return float(average_precision_score(labels, scores))


def prevalence(labels: ArrayLike, scores: ArrayLike | None = None) -> float:
    """Share of positive cases, 0 to 1. `scores` are taken, and ignored, for a uniform call."""
    labels, _ = checked(labels, np.zeros(np.shape(labels)))
    return float(labels.mean())


def sensitivity(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Share of the positive cases called positive (recall), 0 to 1. NotComputable without a positive case."""
    labels, predicted = _called(labels, predicted)
    _need_positive(labels)
    return float(predicted[labels == 1].mean())


def specificity(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Share of the other cases not called positive, 0 to 1. NotComputable where every case is positive."""
    labels, predicted = _called(labels, predicted)
    _need_other(labels)
    return float(1 - predicted[labels == 0].mean())


def precision(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Share of positive cases among those called positive, 0 to 1. NotComputable where none is called."""
    labels, predicted = _called(labels, predicted)
    if not predicted.any():
        raise NotComputable(f"none of the {predicted.size} cases is called positive")
    return float(labels[predicted == 1].mean())


def ppv(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Positive predictive value, the clinic's word for `precision`."""
    return precision(labels, predicted)


def npv(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Negative predictive value: share of other cases among those not called, 0 to 1. NotComputable where all are called."""
    labels, predicted = _called(labels, predicted)
    if predicted.all():
        raise NotComputable(f"all {predicted.size} cases are called positive")
    return float(1 - labels[predicted == 0].mean())


def accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Share of cases called rightly, 0 to 1."""
    labels, predicted = _called(labels, predicted)
    return float((labels == predicted).mean())


def f1(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Harmonic mean of precision and sensitivity for the positive class, 2TP / (2TP + FP + FN), 0 to 1.

    Calling every case positive gives 2p / (1 + p) at prevalence p: name the threshold's rule beside it.
    NotComputable without a positive case; 0 is a true 0: positive cases are there and none is found.
    """
    labels, predicted = _called(labels, predicted)
    _need_positive(labels)
    return float(2 * (labels * predicted).sum() / (labels.sum() + predicted.sum()))
