"""Is one model better than another on the same patients? Paired intervals, and a permutation test."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from statsmodels.stats.proportion import proportion_confint

from lib.statistics.classification import NotComputable, auc, delong_test, mcnemar
from lib.statistics.intervals import (
    CELLS,
    Interval,
    ScoredSection,
    mean_over_folds,
    paired_patient_difference,
    patients_by_stratum,
    sections_interval,
    strata,
)


def paired_difference(
    sections_a: Sequence[ScoredSection],
    sections_b: Sequence[ScoredSection],
    metric: str,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Metric of model a minus metric of model b, with an interval from draws that both models share.

    What makes a patient hard is hard for both, so this interval is shorter than two separate ones suggest; two
    overlapping intervals do not show that models are alike.

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
    a, b = ({section.name: section for section in sections} for sections in (sections_a, sections_b))
    if odd := sorted(set(a) ^ set(b)):
        raise ValueError(f"the two models must have scored the same sections; see {odd[0]}")
    for name, section in a.items():
        pairs = ((section.labels, b[name].labels), (section.blocks, b[name].blocks))
        if not all(np.array_equal(one, other) for one, other in pairs):
            raise ValueError(
                f"{name}: the two models' spots differ in labels, blocks or order; pair the same spots in the same order"
            )
    difference = sections_interval([sections_a, sections_b], metric, draws, seed, level)
    return replace(difference, how=f"paired; {difference.how}")


def differences(
    models: Mapping[str, pd.DataFrame], cut: float = 0.5, draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Paired comparison of all pairs of models of a yes-or-no outcome, on the patients that both held out.

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
        interval; above 0 the first is better. delong_p: of the mean probability over seeds, within the folds.
        mcnemar_p: of the same, all folds together, which supposes that a probability means the same in every fold.
        only_first, only_second: patients that only this one of the two calls rightly. NaN where a test has no value.

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
            table.pivot(index="seed", columns="patient", values="probability")[both].to_numpy()
            for table in (first, second)
        ]
        found = paired_patient_difference(
            *(mean_over_folds(fold, partial(_auc_of_seeds, labels, values)) for values in wide),
            both,
            draws=draws,
            seed=seed,
            strata=strata(fold, labels),
            events=int(labels.sum()),
        )
        row = {"model": a, "minus": b, "auc": found.estimate, "low": found.low, "high": found.high}
        mean_a, mean_b = (values.mean(axis=0) for values in wide)
        row |= dict.fromkeys(("delong_p", "only_first", "only_second", "mcnemar_p"), np.nan)
        try:
            row["delong_p"] = delong_test(labels, mean_a, mean_b, folds=fold).p
            tested = mcnemar(labels, mean_a >= cut, mean_b >= cut)
            row |= {"only_first": tested.only_a, "only_second": tested.only_b, "mcnemar_p": tested.p}
        except NotComputable:  # equal scores or equal calls: nothing to test, and the row says so by its gaps
            pass
        rows.append({**row, "n": len(both)})
    columns = [
        "model",
        "minus",
        "auc",
        "low",
        "high",
        "delong_p",
        "only_first",
        "only_second",
        "mcnemar_p",
        "n",
    ]
    return pd.DataFrame(rows, columns=columns)


def _auc_of_seeds(labels: np.ndarray, values: np.ndarray, rows: np.ndarray) -> list[Callable]:
    return [partial(auc, labels[rows], one[rows]) for one in values]


def margin(accuracies: Mapping[str, float], n: int) -> pd.DataFrame:
    """What printed accuracies of n patients can show when nothing but the accuracies is known.

    Parameters
    ----------
    accuracies : mapping
        Model -> share of patients called rightly, as printed; the first is compared with the others.

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
    table = pd.DataFrame({"model": list(accuracies), "accuracy": list(accuracies.values())})
    right = (table["accuracy"] * n).round().astype(int)
    low, high = proportion_confint(right.to_numpy(), n, method="wilson")
    fewer = right.iloc[0] - right
    least = np.where(fewer > 0, np.minimum(1.0, 2 * 0.5 ** fewer.astype(float)), np.nan)
    return table.assign(right=right, low=low, high=high, fewer=fewer, least_p=least)


@dataclass(frozen=True)
class Permutation:
    """Difference of a metric (a minus b), its two-sided p, and what was permuted."""

    difference: float
    p: float
    permutations: int
    exact: bool
    how: str


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

    For every patient the two models' scores (n,) are swapped or not, all rows of the patient together, and the
    difference of the metric is taken anew. Where all swaps are no more than `permutations` each is taken once (exact);
    else they are drawn, and the data themselves count as one of them, so p is never 0.

    Parameters
    ----------
    metric : callable
        Takes scores (k, n) and returns values (k,): `functools.partial(classification.auc_rows, labels)`, or
        `row_by_row(lambda risk: harrell(time, event, risk))`.
    scale : {"ranks", "given"}
        "ranks" puts each model's scores on their ranks first, for metrics of order (AUC, c-index): two models' scores
        need no common scale. "given" swaps them as they are, for calls and probabilities.
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
    if not a.shape == b.shape == home.shape or not np.isfinite([a, b]).all():
        raise ValueError(
            f"scores {a.shape} and {b.shape} of patients {home.shape} must be finite and of one length: leave out "
            "what a model did not score, and count it, before"
        )
    if scale == "ranks":
        groups = np.zeros(a.size, int) if within is None else pd.factorize(np.asarray(within))[0]
        a, b = (pd.Series(scores).groupby(groups).rank().to_numpy() for scores in (a, b))

    def swaps(swapped: np.ndarray) -> np.ndarray:
        values = np.asarray(metric(np.where(swapped, b, a))) - np.asarray(metric(np.where(swapped, a, b)))
        if missing := int(np.isnan(values).sum()):
            raise NotComputable(f"the metric has no value in {missing} of {values.size} swaps")
        return values

    count = int(home.max()) + 1
    exact = count < 60 and 2**count <= permutations
    permutations = 2**count if exact else permutations
    random = np.random.default_rng(seed)
    (observed,) = swaps(np.zeros((1, home.size), bool))
    extreme = 0
    for start in range(0, permutations, step := max(1, CELLS // home.size)):
        rows = np.arange(start, min(start + step, permutations))
        if exact:
            swapped = (rows[:, None] >> np.arange(count) & 1).astype(bool)
        else:
            swapped = random.random((rows.size, count)) < 0.5
        # equal differences differ by rounding, and must count as equal
        extreme += int((np.abs(swaps(swapped[:, home])) >= abs(observed) - 1e-12).sum())
    p = extreme / permutations if exact else (extreme + 1) / (permutations + 1)
    how = f"paired permutation of {count} patients, "
    how += f"all {permutations} swaps" if exact else f"{permutations} random swaps"
    how += ", of ranks" if scale == "ranks" else ""
    return Permutation(float(observed), p, permutations, exact, how)
