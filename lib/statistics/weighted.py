"""Metrics of one section under many weightings of its spots at once: what a bootstrap draw needs.

A draw of spatial blocks is a whole-number weight for every spot, so scores are sorted once and every
draw is a row of a cumulative sum. Each function takes labels (n,), scores (n,) and weights (draws, n),
and returns (draws,), NaN where the metric has no value in that draw. With all weights 1 each equals its
namesake in `classification` and `calibration`.
"""

from collections.abc import Callable

import numpy as np


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _by_score(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of cancer and of other spots at each distinct score, lowest first: two (draws, scores)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    sorted_weights = weights[:, order]
    cancer = sorted_weights * labels[order]
    return np.add.reduceat(cancer, starts, axis=1), np.add.reduceat(sorted_weights - cancer, starts, axis=1)


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve; a tie counts half."""
    cancer, other = _by_score(labels, scores, weights)
    below = np.cumsum(other, axis=1) - 0.5 * other
    return _share((cancer * below).sum(1), cancer.sum(1) * other.sum(1))


def average_precision(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision without interpolation."""
    cancer, other = (side[:, ::-1] for side in _by_score(labels, scores, weights))
    found = np.cumsum(cancer, axis=1)
    precision = np.nan_to_num(_share(found, found + np.cumsum(other, axis=1)))  # nothing there adds nothing
    value = _share((cancer * precision).sum(1), cancer.sum(1))
    return np.where(other.sum(1) > 0, value, np.nan)


def prevalence(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of cancer."""
    return _share(weights @ labels, weights.sum(1))


def sensitivity(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of cancer called cancer."""
    return _share(weights @ (labels * predicted), weights @ labels)


def specificity(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the rest not called cancer."""
    return _share(weights @ ((1 - labels) * (1 - predicted)), weights @ (1 - labels))


def precision(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of cancer among what is called cancer."""
    return _share(weights @ (labels * predicted), weights @ predicted)


def npv(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the rest among what is not called cancer (negative predictive value)."""
    return _share(weights @ ((1 - labels) * (1 - predicted)), weights @ (1 - predicted))


def accuracy(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share called rightly."""
    return _share(weights @ (labels == predicted).astype(float), weights.sum(1))


def f1(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and sensitivity."""
    cancer = weights @ labels
    value = _share(2 * (weights @ (labels * predicted)), cancer + weights @ predicted)
    return np.where(cancer > 0, value, np.nan)


def brier(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean squared difference of probability and outcome."""
    return _share(weights @ (probabilities - labels) ** 2, weights.sum(1))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "auc": auc,
    "ap": average_precision,
    "prevalence": prevalence,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "precision": precision,
    "ppv": precision,
    "npv": npv,
    "accuracy": accuracy,
    "f1": f1,
    "brier": brier,
}
