"""Areas under correlated ROC curves: variance, interval and paired test without resampling.

Calibration in two numbers: are probabilities right on the whole, and are they spread rightly?

Two models on the same spots: the difference of a metric, with a paired interval.

Is one model of a yes-or-no outcome better than another, on the patients that both held out?

Paired permutation test of two models on the same patients.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import logit
from scipy.stats import norm, rankdata
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.stats.proportion import proportion_confint

from lib.statistics import intervals as weighted
from lib.statistics.calibration import checked_probabilities
from lib.statistics.classification import NotComputable, auc, checked, mcnemar
from lib.statistics.intervals import (
    Interval,
    Metric,
    ScoredSection,
    bootstrap,
    computable,
    described,
    mean_over_folds,
    mean_over_patients,
    paired_patient_difference,
    patients_by_stratum,
    section_value,
    strata,
)


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


def intercept_slope(
    labels: ArrayLike, probabilities: ArrayLike, level: float = 0.95
) -> tuple[Interval, Interval]:
    """Calibration intercept (in the large) and slope, with Wald intervals.

    The intercept is that of a logistic regression of the outcome with the logit of the probability as an offset:
    0 is right, above 0 the probabilities are too low on the whole. The slope is the coefficient of that logit:
    1 is right, below 1 the probabilities are too extreme (overfitting).

    Parameters
    ----------
    labels : array (n,)
        1 positive, 0 other; one row a patient (the Wald intervals know no others).
    probabilities : array (n,)
        Above 0 and below 1.
    level : float
        In (0, 1).

    Returns
    -------
    intercept, slope : Interval

    Raises
    ------
    NotComputable
        One class only, a probability of exactly 0 or 1, one probability for all, or classes that the
        probabilities separate (the slope is infinite).
    ValueError
        Values outside 0 to 1.

    References
    ----------
    Cox, Biometrika 45:562 (1958), doi:10.1093/biomet/45.3-4.562; Van Calster et al., BMC Med 17:230 (2019),
    doi:10.1186/s12916-019-1466-7.
    """
    labels, probabilities = checked_probabilities(labels, probabilities)
    if labels.min() == labels.max():
        raise NotComputable(f"all {labels.size} cases have the label {labels[0]:g}: calibration needs both")
    if sure := int(np.isin(probabilities, (0, 1)).sum()):
        raise NotComputable(
            f"{sure} of {labels.size} probabilities are exactly 0 or 1, whose logit is infinite"
        )
    if np.ptp(probabilities) == 0:
        raise NotComputable(f"every probability is {probabilities[0]:g}, which has no calibration slope")
    positive, other = probabilities[labels == 1], probabilities[labels == 0]
    if positive.min() >= other.max() or positive.max() <= other.min():
        raise NotComputable("the probabilities separate the classes: the calibration slope is infinite")
    line = logit(probabilities)
    ones = np.ones((labels.size, 1))
    fits = (
        ("intercept, slope held at 1", GLM(labels, ones, family=Binomial(), offset=line).fit()),
        ("slope", GLM(labels, np.column_stack([ones, line]), family=Binomial()).fit()),
    )
    found = []
    for name, fit in fits:
        low, high = fit.conf_int(alpha=1 - level)[-1]
        how = f"logistic calibration {name}, Wald"
        found.append(
            Interval(float(fit.params[-1]), float(low), float(high), labels.size, int(labels.sum()), how)
        )
    return found[0], found[1]


def _paired(a: Sequence[ScoredSection], b: Sequence[ScoredSection]) -> list[ScoredSection]:
    """Sections of b in the order of a, refused where the two do not hold the same spots."""
    others = {(section.patient, section.section): section for section in b}
    names = [(section.patient, section.section) for section in a]
    if set(names) != set(others) or len(b) != len(a):
        odd = sorted(set(names) ^ set(others)) or names
        raise ValueError(f"the two models must have scored the same sections; see {odd[0][1]} of {odd[0][0]}")
    for section in a:
        other = others[section.patient, section.section]
        if not np.array_equal(section.labels, other.labels) or not np.array_equal(
            section.blocks, other.blocks
        ):
            raise ValueError(
                f"section {section.section} of patient {section.patient}: the two models' spots differ in "
                "labels, blocks or order; pair the same spots in the same order"
            )
    return [others[name] for name in names]


def paired_difference(
    sections_a: Sequence[ScoredSection],
    sections_b: Sequence[ScoredSection],
    metric: Metric,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Metric of model a minus metric of model b, with an interval from draws that both models share.

    What makes a patient hard is hard for both, so this interval is shorter than two separate ones suggest;
    two overlapping intervals do not show that models are alike.

    Parameters
    ----------
    sections_a, sections_b : sequences of ScoredSection
        The same sections, spots, labels and blocks under the two models' scores; seeds may differ in number.
    metric, draws, seed, level
        As in `intervals.interval`.

    Returns
    -------
    Interval
        estimate > 0: a scores higher. `n` and `events` count spots once.

    Raises
    ------
    ValueError
        The two do not hold the same spots.
    NotComputable
        No section has a value under both; sections without one under either are left out and named.
    """
    sections_b = _paired(sections_a, sections_b)
    kept_a, _, reasons_a = computable(sections_a, metric)
    kept_b, _, reasons_b = computable(sections_b, metric)
    reasons = reasons_b | reasons_a
    both = {(s.patient, s.section) for s in kept_a} & {(s.patient, s.section) for s in kept_b}
    if not both:
        raise NotComputable("no section has a value under both models; " + "; ".join(reasons.values()))
    kept_a = [section for section in kept_a if (section.patient, section.section) in both]
    kept_b = [section for section in kept_b if (section.patient, section.section) in both]
    drawn, redrawn = bootstrap([kept_a, kept_b], metric, draws, seed)
    low, high = np.quantile(drawn[0] - drawn[1], [(1 - level) / 2, (1 + level) / 2])
    differences: dict[str, list[float]] = {}
    for a, b in zip(kept_a, kept_b, strict=True):
        difference = section_value(a, metric) - section_value(b, metric)
        differences.setdefault(a.patient, []).append(difference)
    return Interval(
        estimate=mean_over_patients(list(differences.values())),
        low=float(low),
        high=float(high),
        n=sum(section.labels.size for section in kept_a),
        events=int(sum(section.labels.sum() for section in kept_a)),
        how="paired; " + described(kept_a, reasons, draws, redrawn),
    )


COLUMNS = ["model", "minus", "auc", "low", "high", "delong_p", "only_first", "only_second", "mcnemar_p", "n"]


def differences(models: Mapping[str, pd.DataFrame], cut: float = 0.5, draws: int = 1000, seed: int = 0):
    """Paired comparison of all pairs of models.

    Parameters
    ----------
    models : mapping of str to DataFrame
        patient, fold, seed, label, probability; one row a held-out patient and seed.
    cut : float
        Probability at or above which a patient is called, for McNemar's test.
    draws, seed : int
        Of the bootstrap over patients, within fold and outcome.

    Returns
    -------
    DataFrame
        model, minus; auc, low, high: difference of the AUC, mean over seeds, then folds, with its 95 % bootstrap
        interval; above 0 the first is better. delong_p: of the mean probability over seeds, within
        the folds. mcnemar_p: of the same, all folds together, which supposes that a probability means the same in every
        fold. only_first, only_second: patients
        that only this one of the two calls rightly. NaN where a test has no value.

    Raises
    ------
    ValueError
        Two models disagree on a patient's label or fold.
    """
    rows = []
    for (a, first), (b, second) in combinations(models.items(), 2):
        both = sorted(set(first["patient"]) & set(second["patient"]))
        about, other = (t.drop_duplicates("patient").set_index("patient").loc[both] for t in (first, second))
        if not about[["label", "fold"]].equals(other[["label", "fold"]]):
            raise ValueError(f"{a} and {b} disagree on the label or the fold of a patient")
        labels, fold = about["label"].to_numpy(), about["fold"].to_numpy()
        wide = [
            t.pivot(index="seed", columns="patient", values="probability")[both].to_numpy()
            for t in (first, second)
        ]
        found = paired_patient_difference(
            *(mean_over_folds(fold, partial(_auc, labels, values)) for values in wide),
            both,
            draws=draws,
            seed=seed,
            strata=strata(fold, labels),
            events=int(labels.sum()),
        )
        row = {"model": a, "minus": b, "auc": found.estimate, "low": found.low, "high": found.high}
        mean_a, mean_b = (values.mean(axis=0) for values in wide)
        row |= {"delong_p": np.nan, "only_first": np.nan, "only_second": np.nan, "mcnemar_p": np.nan}
        try:
            row["delong_p"] = delong_test(labels, mean_a, mean_b, folds=fold).p
            tested = mcnemar(labels, mean_a >= cut, mean_b >= cut)
            row |= {"only_first": tested.only_a, "only_second": tested.only_b, "mcnemar_p": tested.p}
        except NotComputable:  # equal scores or equal calls: nothing to test, and the row says so by its gaps
            pass
        rows.append({**row, "n": len(both)})
    return pd.DataFrame(rows, columns=COLUMNS)


def _auc(labels: np.ndarray, values: np.ndarray, rows: np.ndarray):
    return [partial(weighted.auc, labels[rows], one[rows]) for one in values]


def margin(accuracies: Mapping[str, float], n: int) -> pd.DataFrame:
    """What printed accuracies of n patients can show when nothing but the accuracies is known.

    Parameters
    ----------
    accuracies : mapping
        Model -> share of patients called rightly, as printed; the first is compared with the others.
    n : int
        Patients.

    Returns
    -------
    DataFrame
        model, accuracy, right: the number of patients nearest to it; low, high: Wilson's 95 % interval of right / n;
        fewer: patients the model is behind the first; least_p: the smallest p that McNemar's exact test can give for
        that, reached where every patient whom the other calls rightly the first does too. NaN for the first.

    References
    ----------
    Wilson, J Am Stat Assoc 22:209 (1927), doi:10.1080/01621459.1927.10502953.
    """
    rows, best = [], None
    for model, share in accuracies.items():
        right = round(share * n)
        low, high = proportion_confint(right, n, method="wilson")
        best = right if best is None else best
        fewer = best - right
        p = min(1.0, 2 * 0.5**fewer) if fewer > 0 else np.nan
        row = {"model": model, "accuracy": share, "right": right, "low": low, "high": high}
        rows.append({**row, "fewer": fewer, "least_p": p})
    return pd.DataFrame(rows)


CELLS = 4_000_000  # swapped scores held at once: 32 MB


@dataclass(frozen=True)
class Permutation:
    """Difference of a metric (a minus b), its two-sided p, and what was permuted."""

    difference: float
    p: float
    permutations: int
    exact: bool
    how: str


def row_by_row(function: Callable[[np.ndarray], float]) -> Callable[[np.ndarray], np.ndarray]:
    """Metric of every row of scores (k, n) by a function of one row (n,); slow, for want of a vectorised one."""
    return lambda scores: np.array([function(row) for row in scores])


def paired_permutation(
    metric: Callable[[np.ndarray], np.ndarray],
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    patients: Sequence[Hashable],
    *,
    permutations: int = 10_000,
    seed: int = 0,
    scale: Literal["ranks", "given"] = "ranks",
    within: Sequence[Hashable] | None = None,
) -> Permutation:
    """Would a difference this large arise if it did not matter which model scored a patient?

    For every patient the two models' scores are swapped or not, all rows of the patient together, and the
    difference of the metric is taken anew. Where all swaps are no more than `permutations` each is
    taken once (exact); else they are drawn, and the data themselves count as one of them, so p is never 0.

    Parameters
    ----------
    metric : callable
        Takes scores (k, n) and returns values (k,): `functools.partial(delong.auc_rows, labels)`, or
        `row_by_row(lambda risk: harrell(time, event, risk))`.
    scores_a, scores_b : arrays (n,)
        Higher = more likely, or earlier.
    patients : sequence (n,)
    permutations, seed : int
    scale : {"ranks", "given"}
        "ranks" puts each model's scores on their ranks first, for metrics of order (AUC, c-index): two models'
        scores need no common scale. "given" swaps them as they are, for calls and probabilities.
    within : sequence (n,), optional
        Ranks are taken within it: the fold, where each fold has a model of its own.

    Returns
    -------
    Permutation
        difference > 0: a scores higher.

    Raises
    ------
    NotComputable
        The metric has no value for a model, or for a swap.
    ValueError
        Lengths differ, scores that are not finite, unknown scale.

    References
    ----------
    Venkatraman and Begg, Biometrika 83:835 (1996), doi:10.1093/biomet/83.4.835 (ranks swapped within a
    patient); p as Phipson and Smyth, Stat Appl Genet Mol Biol 9:39 (2010), doi:10.2202/1544-6115.1585.
    """
    if scale not in ("ranks", "given"):
        raise ValueError(f'scale must be "ranks" or "given", got "{scale}"')
    a, b = np.asarray(scores_a, dtype=float), np.asarray(scores_b, dtype=float)
    home, _ = patients_by_stratum(patients)
    if not a.shape == b.shape == home.shape:
        raise ValueError(f"scores {a.shape} and {b.shape} and patients {home.shape} must have one length")
    if not np.isfinite(np.stack([a, b])).all():
        raise ValueError("scores must be finite: leave out what a model did not score, and count it, before")
    if scale == "ranks":
        a, b = _ranked(a, within), _ranked(b, within)
    count = int(home.max()) + 1
    exact = count < 60 and 2**count <= permutations
    permutations = 2**count if exact else permutations
    random = np.random.default_rng(seed)
    (observed,) = _differences(metric, a, b, np.zeros((1, home.size), bool))
    extreme = 0
    for start in range(0, permutations, step := max(1, CELLS // home.size)):
        rows = np.arange(start, min(start + step, permutations))
        if exact:
            swapped = (rows[:, None] >> np.arange(count) & 1).astype(bool)
        else:
            swapped = random.random((rows.size, count)) < 0.5
        found = _differences(metric, a, b, swapped[:, home])
        # equal differences differ by rounding, and must count as equal
        extreme += int((np.abs(found) >= abs(observed) - 1e-12).sum())
    p = extreme / permutations if exact else (extreme + 1) / (permutations + 1)
    how = f"paired permutation of {count} patients, "
    how += f"all {permutations} swaps" if exact else f"{permutations} random swaps"
    return Permutation(
        float(observed), p, permutations, exact, how + (", of ranks" if scale == "ranks" else "")
    )


def _ranked(scores: np.ndarray, within: Sequence[Hashable] | None) -> np.ndarray:
    if within is None:
        return rankdata(scores)
    return pd.Series(scores).groupby(np.asarray(within), dropna=False).rank().to_numpy()


def _differences(
    metric: Callable[[np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray, swapped: np.ndarray
) -> np.ndarray:
    """Metric of a minus that of b, with the scores swapped where told: swapped (k, n) -> (k,)."""
    found = np.asarray(metric(np.where(swapped, b, a))) - np.asarray(metric(np.where(swapped, a, b)))
    if missing := int(np.isnan(found).sum()):
        raise NotComputable(
            f"the metric has no value in {missing} of {found.size} swaps of the two models' scores"
        )
    return found
