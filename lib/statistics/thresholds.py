"""Rules that turn a score into a call. A case is called where its score is at or above the cut."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture

from lib.statistics.classification import NotComputable, checked


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
