"""How well scores, or yes-or-no calls made from them, tell positive cases (spots, patients) from the rest.

Each metric takes labels (1 positive, 0 other) and scores, calls or probabilities of n cases, higher = more likely
positive, and returns one number, or raises NotComputable with the reason. With `weights` (draws, n), how often each
case is in each resample, it returns one value a draw, NaN where there is none, and checks nothing: a bootstrap's path.

Below stand the rules that turn a score into a call (at the cut is called), DeLong's test of two AUCs, and McNemar's.
"""

import re
from collections import namedtuple
from collections.abc import Callable
from functools import wraps

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm, rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from statsmodels.stats import contingency_tables


class NotComputable(ValueError):
    """A metric has no value on these data; the message says why. It is never reported as 0."""


def checked(labels: ArrayLike, scores: ArrayLike, kind: str = "scores") -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores as float64 vectors of one length; ValueError for other lengths or labels than 0 and 1.

    NotComputable for no case, an undetermined label (NaN: leave those cases out, and count them, before), or a score that
    is NaN or infinite. Of a `kind`: "probabilities" outside 0 to 1 and "calls" other than 0 and 1 are a ValueError; scores
    for an "order" need both labels (NotComputable).
    """
    labels, scores = np.asarray(labels, dtype=float), np.asarray(scores, dtype=float)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} must be two vectors of one length")
    if labels.size == 0:
        raise NotComputable("there is no case")
    if undetermined := int(np.isnan(labels).sum()):
        raise NotComputable(f"{undetermined} of {labels.size} cases are undetermined (label NaN)")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels must be 0 (other) or 1 (positive), found {np.unique(labels)[:5].tolist()}")
    low, high = _finite(scores).min(), scores.max()
    if kind == "probabilities" and (low < 0 or high > 1):
        raise ValueError(f"probabilities lie in {low:.3g} to {high:.3g}, not in 0 to 1: use platt first")
    if kind == "calls" and not np.isin(scores, (0, 1)).all():
        raise ValueError("calls must be 0 or 1: apply a threshold to the scores first")
    if kind == "order" and labels.min() == labels.max():
        whose = f"all {labels.size} cases are" if labels.all() else f"none of the {labels.size} cases is"
        raise NotComputable(f"{whose} positive")
    return labels, scores


def _finite(scores: np.ndarray) -> np.ndarray:
    if bad := int((~np.isfinite(scores)).sum()):
        raise NotComputable(f"{bad} of {scores.size} scores are NaN or infinite")
    return scores


def _metric(kind: str, lacking: str = "{}") -> Callable:
    """Makes a metric under weights one that also takes labels and scores alone: checked, and told why it has no value."""

    def decorated(function: Callable) -> Callable:
        @wraps(function)
        def metric(labels: ArrayLike, scores: ArrayLike, weights: np.ndarray | None = None):
            if weights is not None:
                return function(labels, scores, weights)
            labels, scores = checked(labels, scores, kind)
            value = float(function(labels, scores, np.ones((1, labels.size)))[0])
            if np.isnan(value):
                raise NotComputable(lacking.format(labels.size))
            return value

        return metric

    return decorated


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _by_score(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positive and of other cases at each distinct score, lowest first: two (draws, scores)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    weights = weights[:, order]
    positive = weights * labels[order]
    return np.add.reduceat(positive, starts, axis=1), np.add.reduceat(weights - positive, starts, axis=1)


@_metric("order")
def auc(labels, scores, weights):
    """Area under the ROC curve: chance that a positive case scores above another, ties counted half; 0.5 is chance."""
    positive, other = _by_score(labels, scores, weights)
    below = np.cumsum(other, axis=1) - 0.5 * other
    return _share((positive * below).sum(1), positive.sum(1) * other.sum(1))


@_metric("order")
def average_precision(labels, scores, weights):
    """Precision at each distinct score, weighted by the recall gained there, not interpolated; chance is the prevalence."""
    positive, other = (side[:, ::-1] for side in _by_score(labels, scores, weights))
    true = np.cumsum(positive, axis=1)
    precision_at = np.nan_to_num(_share(true, true + np.cumsum(other, axis=1)))  # nothing there adds nothing
    value = _share((positive * precision_at).sum(1), positive.sum(1))
    return np.where(other.sum(1) > 0, value, np.nan)


@_metric("scores")
def prevalence(labels, scores, weights):
    """Share of positive cases, 0 to 1, whatever their scores."""
    return _share(weights @ labels, weights.sum(1))


@_metric("probabilities")
def brier(labels, probabilities, weights):
    """Mean squared difference of probability and outcome (Brier 1950); 0 is best, p (1 - p) a constant p at prevalence p."""
    return _share(weights @ (probabilities - labels) ** 2, weights.sum(1))


@_metric("calls")
def accuracy(labels, calls, weights):
    """Share of cases called rightly, 0 to 1."""
    return _share(weights @ (labels == calls).astype(float), weights.sum(1))


@_metric("calls", "none of the {} cases is positive")
def sensitivity(labels, calls, weights):
    """Share of the positive cases that are called (recall), 0 to 1."""
    return _share(weights @ (labels * calls), weights @ labels)


@_metric("calls", "all {} cases are positive")
def specificity(labels, calls, weights):
    """Share of the other cases that are not called, 0 to 1."""
    return _share(weights @ ((1 - labels) * (1 - calls)), weights @ (1 - labels))


@_metric("calls", "none of the {} cases is called positive")
def precision(labels, calls, weights):
    """Share of positive cases among those called (positive predictive value), 0 to 1."""
    return _share(weights @ (labels * calls), weights @ calls)


@_metric("calls", "all {} cases are called positive")
def npv(labels, calls, weights):
    """Share of other cases among those not called (negative predictive value), 0 to 1."""
    return _share(weights @ ((1 - labels) * (1 - calls)), weights @ (1 - calls))


@_metric("calls", "none of the {} cases is positive")
def f1(labels, calls, weights):
    """Harmonic mean of precision and sensitivity, 2TP / (2TP + FP + FN); a true 0 where no positive case is called.

    Calling every case gives 2p / (1 + p) at prevalence p: name the threshold's rule beside it.
    """
    positive = weights @ labels
    value = _share(2 * (weights @ (labels * calls)), positive + weights @ calls)
    return np.where(positive > 0, value, np.nan)


METRICS = {m.__name__: m for m in (auc, prevalence, brier, accuracy, sensitivity, specificity, precision)}
METRICS |= {"npv": npv, "f1": f1, "ap": average_precision, "ppv": precision}


def _several(scores: ArrayLike) -> np.ndarray:
    scores = _finite(np.asarray(scores, dtype=float).ravel())
    if np.unique(scores).size < 2:
        raise NotComputable("the scores take fewer than two values, so no cut separates them")
    return scores


def gmm_threshold(scores: ArrayLike) -> float:
    """Cut where two Gaussians fitted to a section's scores (n,) are equally likely; needs no label.

    The root of the difference of the two weighted densities between the means, or the midpoint of the means where the
    difference keeps its sign there. It is the rule that SpaCRD's paper names (arXiv 2603.06186). The released code
    defines it, never calls it (see `prevalence_threshold`), and sorts the means but leaves spreads and weights in the
    order of the fit, so that each mean may get the other's.
    """
    scores = np.sort(_several(scores))  # the fit's start depends on the order of the spots; the cut must not
    mixture = GaussianMixture(n_components=2, random_state=0).fit(scores[:, None])
    order = np.argsort(mixture.means_.ravel())
    mean, spread = mixture.means_.ravel()[order], np.sqrt(mixture.covariances_.ravel())[order]
    share = mixture.weights_[order]

    def difference(x: float) -> float:
        # logarithms: far from a narrow component its density underflows, and the sign with it
        low, high = norm.logpdf(x, mean, spread) + np.log(share)
        return low - high

    if difference(mean[0]) * difference(mean[1]) < 0:
        return float(brentq(difference, *mean))
    return float(mean.mean())


def prevalence_threshold(scores: ArrayLike, positive_share: float) -> float:
    """ORACLE cut of the released SpaCRD code: as many spots (n,) are called as truly are cancer, a share in (0, 1).

    It reads the test labels through their prevalence, so what it gives is no performance; nor is it a bound, for
    another cut may give a higher F1.
    """
    if not 0 < positive_share < 1:
        raise NotComputable(f"the prevalence is {positive_share:g}: one class only, so no cut is defined")
    return float(np.percentile(_several(scores), 100 * (1 - positive_share)))


def platt(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Slope and intercept that turn a score into a probability (`probability`); fit on TRAINING cases only.

    Logistic regression on Platt's smoothed targets (1999), (N1 + 1) / (N1 + 2) and 1 / (N0 + 2), which keep the slope
    finite where the classes separate. A slope below 0 says that scores did not point towards positive in training.
    """
    labels, scores = checked(labels, scores)
    _several(scores)
    positive, other = labels.sum(), (1 - labels).sum()
    if not positive or not other:
        raise NotComputable(f"the training cases hold {int(positive)} positive and {int(other)} other cases")
    target = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (other + 2))
    centre, spread = scores.mean(), scores.std()
    standard = np.tile((scores - centre) / spread, 2)[:, None]
    # a soft target t is the same case twice, as positive with weight t and as other with weight 1 - t
    regression = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    regression.fit(standard, np.repeat([1, 0], labels.size), sample_weight=np.r_[target, 1 - target])
    slope = float(regression.coef_[0, 0] / spread)
    return slope, float(regression.intercept_[0] - slope * centre)


def probability(scores: ArrayLike, slope: float, intercept: float) -> np.ndarray:
    """Probability of being positive, 0 to 1, of scores of any shape under a fit of `platt`."""
    return expit(slope * np.asarray(scores, dtype=float) + intercept)


def threshold(rule: str, labels: ArrayLike, scores: ArrayLike) -> tuple[float, str]:
    """Cut by a named rule on TRAINING cases, one of their scores, and the rule in words for `how`.

    Rules: "youden", the greatest sensitivity + specificity (Cancer 3:32, 1950), of several cuts the lowest, which misses
    less; "sensitivity90" or another whole percentage, the highest cut with at least that sensitivity. A metric bears its
    rule in its name: f1_youden, specificity_sensitivity90.
    """
    percent = re.fullmatch(r"sensitivity(100|[1-9]\d?)", rule)
    if rule != "youden" and not percent:
        raise ValueError(f'unknown threshold rule "{rule}"; known are youden and, for example, sensitivity90')
    labels, scores = checked(labels, scores)
    if labels.min() == labels.max():
        raise NotComputable(f"all {labels.size} training cases have the label {labels[0]:g}; cuts need both")
    if percent:
        share, of_positive = int(percent[1]) / 100, np.sort(scores[labels == 1])[::-1]
        cut = of_positive[int(np.ceil(share * of_positive.size - 1e-9)) - 1]  # 0.9 of 10 is 9, not 10
        return float(cut), f"highest cut with sensitivity of at least {share:g} on training cases"
    cuts, home = np.unique(scores, return_inverse=True)
    positive = np.bincount(home, weights=labels)[::-1].cumsum()[::-1]  # called at each cut
    other = np.bincount(home, weights=1 - labels)[::-1].cumsum()[::-1]
    index = positive * other[0] - other * positive[0]  # whole numbers, so that equal ones are equal
    return float(cuts[np.argmax(index)]), "cut of greatest sensitivity + specificity on training cases"


# of two AUCs, a minus b; p is two-sided
DeLong = namedtuple("DeLong", "difference standard_error low high z p")


def auc_covariance(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """AUCs (models,) of several models' scores (models, n) on the same cases, and the covariance of the estimates.

    Their dependence is not seen where a patient has several rows: take `intervals.patient_interval`.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson, Biometrics 44:837 (1988), doi:10.2307/2531595; by midranks as Sun and
    Xu, IEEE Signal Process Lett 21:1389 (2014), doi:10.1109/LSP.2014.2337313.
    """
    scores = _finite(np.atleast_2d(np.asarray(scores, dtype=float)))
    labels = checked(labels, scores[0], "order")[0] == 1
    positive, other = int(labels.sum()), int((~labels).sum())
    if min(positive, other) < 2:
        said = f"{positive} positive and {other} other cases: DeLong's variance needs two of each"
        raise NotComputable(said)
    ranks = rankdata(scores, axis=1)
    # share of the others a positive case beats, and share of the positive cases that beat another
    won = (ranks[:, labels] - rankdata(scores[:, labels], axis=1)) / other
    lost = 1 - (ranks[:, ~labels] - rankdata(scores[:, ~labels], axis=1)) / positive
    return won.mean(axis=1), np.atleast_2d(np.cov(won)) / positive + np.atleast_2d(np.cov(lost)) / other


def delong_test(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, folds: ArrayLike | None = None
) -> DeLong:
    """Paired test of two models' AUCs on the same cases (n,), with a 95 % interval; their scales may differ.

    `folds` (n,) say who was held out with whom. Scores of different folds come from different models and have no common
    scale: the difference is then the mean of those within the folds, which are independent, as the cases are others.
    NotComputable where the two order the cases alike; source as `auc_covariance`.
    """
    labels, scores_a = checked(labels, scores_a)
    labels, scores_b = checked(labels, scores_b)
    folds = np.zeros(labels.size, dtype=int) if folds is None else np.asarray(folds)
    contrast, differences, variances = np.array([1, -1]), [], []
    for fold in np.unique(folds):
        here = folds == fold
        areas, covariance = auc_covariance(labels[here], [scores_a[here], scores_b[here]])
        differences.append(areas[0] - areas[1])
        variances.append(contrast @ covariance @ contrast)
    variance = float(np.sum(variances)) / len(variances) ** 2
    if not variance > 1e-15:
        raise NotComputable("the two models order the cases alike: their difference has no variance")
    difference, error = float(np.mean(differences)), float(np.sqrt(variance))
    width, z = float(norm.ppf(0.975)) * error, difference / error
    return DeLong(difference, error, difference - width, difference + width, z, float(2 * norm.sf(abs(z))))


# cases that only a, and only b, calls rightly; the smaller of the two (exact) or chi-square; two-sided p; which test
McNemar = namedtuple("McNemar", "only_a only_b statistic p how")


def mcnemar(labels: ArrayLike, called_a: ArrayLike, called_b: ArrayLike) -> McNemar:
    """Test whether two models' 0/1 calls (n,) are right equally often on the same cases, one row a patient.

    Only the positive rows compare sensitivities, only the others specificities. Exact below 25 cases that only one calls
    rightly, else with continuity correction; as in R, 0 and p 1 where each alone is right equally often.
    McNemar, Psychometrika 12:153 (1947), doi:10.1007/BF02295996.
    """
    right = [np.equal(*checked(labels, calls, "calls")) for calls in (called_a, called_b)]
    table = [[int((a & b).sum()) for b in (right[1], ~right[1])] for a in (right[0], ~right[0])]
    only_a, only_b = table[0][1], table[1][0]
    if only_a + only_b == 0:
        raise NotComputable(f"the two models are right on the same {table[0][0]} of {right[0].size} cases")
    exact = only_a + only_b < 25
    how = "McNemar, exact" if exact else "McNemar, chi-square with continuity correction"
    if only_a == only_b:
        return McNemar(only_a, only_b, 0.0, 1.0, how)
    result = contingency_tables.mcnemar(table, exact=exact, correction=True)
    return McNemar(only_a, only_b, float(result.statistic), float(result.pvalue), how)
