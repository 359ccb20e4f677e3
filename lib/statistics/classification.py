"""How well scores, or a yes-or-no call made from them, tell positive cases (spots, patients) from the rest.

Rules that turn a score into a call. A case is called where its score is at or above the cut.

Named rules for a cut on patients' scores, fitted on training patients. At or above the cut is called.

Two models' calls on the same cases: which one is right where only one is.
"""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.metrics import roc_auc_score as _roc_auc_score
from sklearn.mixture import GaussianMixture
from statsmodels.stats import contingency_tables


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


def _scores(scores: ArrayLike) -> np.ndarray:
    scores = np.asarray(scores, dtype=float).ravel()
    if not np.isfinite(scores).all():
        raise NotComputable(
            f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are NaN or infinite"
        )
    if np.unique(scores).size < 2:
        raise NotComputable("the scores take fewer than two values, so no cut separates them")
    return scores


def gmm_threshold(scores: ArrayLike, variant: str = "described") -> float:
    """Cut where two fitted Gaussians are equally likely; needs no label.

    A mixture of two Gaussians is fitted to the scores; the cut is the root of the difference of the two
    weighted densities between the two means (Brent), or the midpoint of the means where the difference
    does not change sign there (one component lies wholly over the other).

    Parameters
    ----------
    scores : array (n,)
        Scores of one section; higher = more cancer-like.
    variant : {"described", "released"}
        The released code sorts the means but leaves the spreads and weights in the order of the fit, so
        where the fit returns the higher component first each mean gets the other's spread and weight.
        "released" repeats that, for comparison only.

    Returns
    -------
    float
        On the scale of the scores.

    Raises
    ------
    NotComputable
        Scores that are not finite or take fewer than two values.
    ValueError
        Unknown variant.

    References
    ----------
    The rule the SpaCRD paper names (arXiv 2603.06186). The released code defines it and never calls it;
    its scores were cut by `prevalence_threshold`.
    """
    if variant not in ("described", "released"):
        raise ValueError(f'variant must be "described" or "released", got "{variant}"')
    scores = _scores(scores)
    if variant == "described":
        scores = np.sort(scores)  # the fit's start depends on the order of the spots; the cut must not
    mixture = GaussianMixture(n_components=2, random_state=0).fit(scores[:, None])
    mean, share = mixture.means_.ravel(), mixture.weights_
    spread = np.sqrt(mixture.covariances_.ravel())
    order = np.argsort(mean)
    mean = mean[order]
    if variant == "described":
        spread, share = spread[order], share[order]

    def difference(x: float) -> float:
        # logarithms: far from a narrow component its density underflows, and the sign with it
        low, high = norm.logpdf(x, mean, spread) + np.log(share)
        return low - high

    if difference(mean[0]) * difference(mean[1]) < 0:
        return float(brentq(difference, *mean))
    return float(mean.mean())


def prevalence_threshold(scores: ArrayLike, positive_share: float) -> float:
    """ORACLE cut of the released SpaCRD code: as many spots are called as truly are cancer.

    The percentile equal to the true share of other spots. It reads the test labels through their
    prevalence, so what it gives is no performance; nor is it a bound, for another cut may give a higher F1.

    Parameters
    ----------
    scores : array (n,)
        Scores of one section; higher = more cancer-like.
    positive_share : float
        Prevalence of cancer, strictly between 0 and 1.

    Returns
    -------
    float
        On the scale of the scores.

    Raises
    ------
    NotComputable
        A prevalence of 0 or 1, or unusable scores.
    """
    if not 0 < positive_share < 1:
        raise NotComputable(f"the prevalence is {positive_share:g}: one class only, so no cut is defined")
    return float(np.percentile(_scores(scores), 100 * (1 - positive_share)))


def platt(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Slope and intercept that turn a score into a probability of being positive; fit on TRAINING cases only.

    Logistic regression of the label on the score with Platt's smoothed targets, (N1 + 1) / (N1 + 2) and
    1 / (N0 + 2), which keep the slope finite where the classes separate.

    Parameters
    ----------
    labels : array (n,)
        1 positive, 0 other.
    scores : array (n,)
        Higher = more likely positive. A slope below 0 says that they did not point that way in training.

    Returns
    -------
    slope, intercept : float
        For `probability`.

    Raises
    ------
    NotComputable
        One class only, undetermined labels, or scores that are not finite or all equal.

    References
    ----------
    Platt, Advances in Large Margin Classifiers (1999).
    """
    labels, scores = checked(labels, scores)
    _scores(scores)
    positive = labels.sum()
    other = labels.size - positive
    if not positive or not other:
        raise NotComputable(f"the training cases hold {int(positive)} positive and {int(other)} other cases")
    target = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (other + 2))
    centre, spread = scores.mean(), scores.std()
    standard = np.tile((scores - centre) / spread, 2)[:, None]
    # a soft target t is the same case twice, as positive with weight t and as other with weight 1 - t
    regression = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    regression.fit(
        standard, np.repeat([1, 0], labels.size), sample_weight=np.concatenate([target, 1 - target])
    )
    slope = float(regression.coef_[0, 0] / spread)
    return slope, float(regression.intercept_[0] - slope * centre)


def probability(scores: ArrayLike, slope: float, intercept: float) -> np.ndarray:
    """Probability of being positive, 0 to 1, of scores of any shape under a fit of `platt`."""
    return expit(slope * np.asarray(scores, dtype=float) + intercept)


def called(scores: ArrayLike, threshold: ArrayLike) -> np.ndarray:
    """1.0 where a score is at or above the cut, else 0.0; the shape of `scores`."""
    return (np.asarray(scores, dtype=float) >= threshold).astype(float)


RULES = "youden, fixed, sensitivity90 (or another whole percentage from 1 to 100)"


def _both(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = checked(labels, scores)
    if labels.min() == labels.max():
        raise NotComputable(
            f"all {labels.size} training cases have the label {labels[0]:g}; a cut needs both"
        )
    return labels == 1, scores


def youden_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """Cut of the greatest sensitivity + specificity on TRAINING cases; of several the lowest, which misses less.

    Parameters
    ----------
    labels : array (n,)
        1 positive, 0 other.
    scores : array (n,)
        Higher = more likely positive.

    Returns
    -------
    float
        One of the scores. Where no cut is better than calling every case, the lowest.

    Raises
    ------
    NotComputable
        One class only, undetermined labels, scores that are not finite.

    References
    ----------
    Youden, Cancer 3:32 (1950), doi:10.1002/1097-0142(1950)3:1<32::AID-CNCR2820030106>3.0.CO;2-3.
    """
    labels, scores = _both(labels, scores)
    cuts, home = np.unique(scores, return_inverse=True)
    positive = np.bincount(home, weights=labels)[::-1].cumsum()[::-1]  # called at each cut
    other = np.bincount(home, weights=~labels)[::-1].cumsum()[::-1]
    # whole numbers, so that equal ones are equal
    index = positive * (~labels).sum() - other * labels.sum()
    return float(cuts[np.argmax(index)])


def sensitivity_threshold(labels: ArrayLike, scores: ArrayLike, at_least: float) -> float:
    """Highest cut whose sensitivity on TRAINING cases is at least `at_least`, in (0, 1].

    Parameters, direction and errors as `youden_threshold`; one of the positive cases' scores. On other
    cases the sensitivity may well be lower.
    """
    if not 0 < at_least <= 1:
        raise ValueError(f"a sensitivity lies above 0 and at most at 1, got {at_least:g}")
    labels, scores = _both(labels, scores)
    found = np.sort(scores[labels])[::-1]
    wanted = int(np.ceil(at_least * found.size - 1e-9))  # 0.9 of 10 is 9, not 10
    return float(found[wanted - 1])


def threshold(rule: str, labels: ArrayLike, scores: ArrayLike) -> tuple[float, str]:
    """Cut by a named rule, and the rule in words for `how`.

    Parameters
    ----------
    rule : str
        "youden"; "fixed" (0.5: scores must be probabilities); "sensitivity90", at least 90 %. A metric
        bears its rule in its name: f1_youden, specificity_sensitivity90.
    labels, scores : arrays (n,)
        TRAINING cases.

    Returns
    -------
    cut : float
    words : str

    Raises
    ------
    ValueError
        Unknown rule; "fixed" with scores that are no probabilities.
    NotComputable
        As `youden_threshold`.
    """
    if rule == "youden":
        return youden_threshold(labels, scores), "cut of greatest sensitivity + specificity on training cases"
    if rule == "fixed":
        scores = np.asarray(scores, dtype=float)
        if scores.size and (scores.min() < 0 or scores.max() > 1):
            raise ValueError("the fixed cut of 0.5 needs probabilities, these scores leave 0 to 1")
        return 0.5, "cut at probability 0.5"
    if named := re.fullmatch(r"sensitivity(100|[1-9]\d?)", rule):
        share = int(named[1]) / 100
        words = f"highest cut with sensitivity of at least {share:g} on training cases"
        return sensitivity_threshold(labels, scores, share), words
    raise ValueError(f'unknown threshold rule "{rule}"; known are {RULES}')


FEW = 25  # cases that only one model calls rightly, below which the chi-square is too rough


@dataclass(frozen=True)
class McNemar:
    """Cases only a, and only b, calls rightly; the two-sided p, and the test it comes from.

    `statistic` is the smaller of the two counts for the exact test, else the chi-square with continuity
    correction, one degree of freedom.
    """

    only_a: int
    only_b: int
    statistic: float
    p: float
    how: str


def mcnemar(
    labels: ArrayLike,
    called_a: ArrayLike,
    called_b: ArrayLike,
    test: Literal["auto", "exact", "chi-square"] = "auto",
) -> McNemar:
    """Test whether two models are right equally often on the same cases.

    Parameters
    ----------
    labels : array (n,)
        1 positive, 0 other; one row a patient. Only the positive rows compare sensitivities, only the
        others specificities.
    called_a, called_b : arrays (n,)
        0 or 1.
    test : {"auto", "exact", "chi-square"}
        "auto" is exact below 25 cases that only one model calls rightly.

    Returns
    -------
    McNemar

    Raises
    ------
    NotComputable
        The two are right on the same cases, or labels are undetermined.
    ValueError
        Calls that are not 0 or 1, lengths that differ, unknown test.

    References
    ----------
    McNemar, Psychometrika 12:153 (1947), doi:10.1007/BF02295996.
    """
    if test not in ("auto", "exact", "chi-square"):
        raise ValueError(f'test must be "auto", "exact" or "chi-square", got "{test}"')
    accuracy(labels, called_a)  # refuses what is no label or no call
    accuracy(labels, called_b)
    labels = np.asarray(labels, dtype=float)
    right_a, right_b = labels == np.asarray(called_a), labels == np.asarray(called_b)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    if only_a + only_b == 0:
        raise NotComputable(
            f"the two models are right on the same {int(right_a.sum())} of {labels.size} cases"
        )
    exact = test == "exact" or (test == "auto" and only_a + only_b < FEW)
    table = [[int((right_a & right_b).sum()), only_a], [only_b, int((~right_a & ~right_b).sum())]]
    found = contingency_tables.mcnemar(table, exact=exact, correction=True)
    how = "McNemar, exact" if exact else "McNemar, chi-square with continuity correction"
    return McNemar(only_a, only_b, float(found.statistic), float(found.pvalue), how)
