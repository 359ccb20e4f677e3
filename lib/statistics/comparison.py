"""Is one model better than another on the same patients? Paired intervals, and a permutation test."""

from collections import namedtuple
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from statsmodels.stats.proportion import proportion_confint

from lib.statistics.classification import NotComputable, auc, delong_test, mcnemar
from lib.statistics.intervals import (
    CELLS,
    Interval,
    ScoredSection,
    interval,
    of_scores,
    paired_patient_difference,
    patients_by_stratum,
    strata,
)

ENDS = ["model", "minus", "auc", "low", "high"]
TESTS = ["delong_p", "only_first", "only_second", "mcnemar_p"]


def paired_difference(
    sections_a: Sequence[ScoredSection],
    sections_b: Sequence[ScoredSection],
    metric: str,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Metric of model a minus metric of model b, with an interval from draws that both models share (`intervals.interval`).

    What makes a patient hard is hard for both, so this interval is shorter than two separate ones suggest; two
    overlapping intervals do not show that models are alike. The sections hold the same spots, labels and blocks under
    the two models' scores (else ValueError); seeds may differ in number. Sections without a value under either are left
    out and named. estimate > 0: a scores higher; `n` and `events` count spots once.
    """
    a, b = ({section.name: section for section in sections} for sections in (sections_a, sections_b))
    if odd := sorted(set(a) ^ set(b)):
        raise ValueError(f"the two models must have scored the same sections; see {odd[0]}")
    for name, section in a.items():
        pairs = ((section.labels, b[name].labels), (section.blocks, b[name].blocks))
        if not all(np.array_equal(one, other) for one, other in pairs):
            raise ValueError(f"{name}: the two models' spots differ in labels, blocks or order")
    difference = interval(sections_a, metric, draws, seed, level, minus=sections_b)
    return replace(difference, how=f"paired; {difference.how}")


def differences(
    models: Mapping[str, pd.DataFrame], cut: float = 0.5, draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Paired comparison of all pairs of models of a yes-or-no outcome, on the patients that both held out.

    The models' tables hold patient, fold, seed, label, probability; one row a held-out patient and seed. A patient is
    called at a probability of `cut` or more, for McNemar's test.

    Returns
    -------
    DataFrame
        model, minus; auc, low, high: difference of the AUC, mean over seeds, then folds, with its 95 % bootstrap
        interval; above 0 the first is better. delong_p: of the mean probability over seeds, within the folds.
        mcnemar_p: of the same, all folds together, which supposes that a probability means the same in every fold.
        only_first, only_second: patients that only this one of the two calls rightly. NaN where a test has no value.
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
        functions = (of_scores(auc, labels, values, fold) for values in wide)
        options = {"draws": draws, "seed": seed, "strata": strata(fold, labels), "events": int(labels.sum())}
        difference = paired_patient_difference(*functions, both, **options)
        row = dict(zip(ENDS, (a, b, difference.estimate, difference.low, difference.high), strict=True)) | {
            "n": len(both)
        }
        first_mean, second_mean = (values.mean(axis=0) for values in wide)
        # equal scores or equal calls: nothing to test, and the row says so by its gaps
        with suppress(NotComputable):
            row["delong_p"] = delong_test(labels, first_mean, second_mean, folds=fold).p
            tested = mcnemar(labels, first_mean >= cut, second_mean >= cut)
            row |= dict(zip(TESTS[1:], (tested.only_a, tested.only_b, tested.p), strict=True))
        rows.append(row)
    return pd.DataFrame(rows, columns=[*ENDS, *TESTS, "n"])


def margin(accuracies: Mapping[str, float], n: int) -> pd.DataFrame:
    """What printed accuracies (model -> share called rightly) of n patients can show when nothing else is known.

    Table of model, accuracy, right: the number of patients nearest to it; low, high: Wilson's 95 % interval of right / n;
    fewer: patients the model is behind the first; least_p: the smallest p that McNemar's exact test can give for that,
    reached where every patient whom the other calls rightly the first does too. NaN for the first. Wilson, J Am Stat
    Assoc 22:209 (1927), doi:10.1080/01621459.1927.10502953.
    """
    table = pd.DataFrame({"model": list(accuracies), "accuracy": list(accuracies.values())})
    right = (table["accuracy"] * n).round().astype(int)
    low, high = proportion_confint(right.to_numpy(), n, method="wilson")
    fewer = right.iloc[0] - right
    least = np.where(fewer > 0, np.minimum(1.0, 2 * 0.5 ** fewer.astype(float)), np.nan)
    return table.assign(right=right, low=low, high=high, fewer=fewer, least_p=least)


# difference of a metric (a minus b), its two-sided p, and what was permuted
Permutation = namedtuple("Permutation", "difference p permutations exact how")


def paired_permutation(
    metric: Callable[[np.ndarray], np.ndarray],
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    patients: Sequence[Hashable],
    *,
    permutations: int = 10_000,
    seed: int = 0,
    ranks: bool = True,
    within: Sequence[Hashable] | None = None,
) -> Permutation:
    """Would a difference this large arise if it did not matter which model scored a patient?

    For every patient the two models' scores (n,) are swapped or not, all rows of the patient together, and the
    difference of the metric is taken anew. Where all swaps are no more than `permutations` each is taken once (exact);
    else they are drawn, and the data themselves count as one of them, so p is never 0.

    `metric` takes scores (k, n) and returns values (k,): `functools.partial(classification.auc_rows, labels)`. `ranks` puts
    each model's scores on their ranks first, for metrics of order (AUC, c-index), `within` (n,) the fold where each fold
    has a model of its own; calls and probabilities are swapped as they are.

    References
    ----------
    Venkatraman and Begg, Biometrika 83:835 (1996), doi:10.1093/biomet/83.4.835 (ranks swapped within a
    patient); p as Phipson and Smyth, Stat Appl Genet Mol Biol 9:39 (2010), doi:10.2202/1544-6115.1585.
    """
    a, b = np.asarray(scores_a, dtype=float), np.asarray(scores_b, dtype=float)
    home, _ = patients_by_stratum(patients)
    if not a.shape == b.shape == home.shape or not np.isfinite([a, b]).all():
        raise ValueError(
            f"scores {a.shape}, {b.shape} of patients {home.shape} must be finite and of one length"
        )
    if ranks:
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
    how += ", of ranks" if ranks else ""
    return Permutation(float(observed), p, permutations, exact, how)
