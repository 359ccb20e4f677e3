"""Named rules for a cut on patients' scores, fitted on training patients. At or above the cut is called."""

import re

import numpy as np
from numpy.typing import ArrayLike

from lib.statistics.classification import NotComputable, checked

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
