"""Is one model better than another on the same patients? Paired intervals and tests, adjusted for their number."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from lib.statistics.classification import NotComputable, auc, delong_test, mcnemar
from lib.statistics.intervals import (
    Interval,
    ScoredSection,
    interval,
    of_scores,
    paired_patient_difference,
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
        only_first, only_second: patients that only this one of the two calls rightly; mcnemar_p: of the same, all folds
        together, which supposes that a probability means the same in every fold. delong_holm, mcnemar_holm: `holm`
        over the table. NaN where something has no value; `why` says the reason.
    """
    pairs = combinations(models.items(), 2)
    rows = [
        {"model": a, "minus": b} | _compared(f"{a} and {b}", first, second, cut, draws, seed)
        for (a, first), (b, second) in pairs
    ]
    return adjusted(pd.DataFrame(rows, columns=[*ENDS, *TESTS, "n", "why"]))


def _compared(
    names: str, first: pd.DataFrame, second: pd.DataFrame, cut: float, draws: int, seed: int
) -> dict[str, object]:
    both = sorted(set(first["patient"]) & set(second["patient"]))
    about, other = (t.drop_duplicates("patient").set_index("patient").loc[both] for t in (first, second))
    if not about[["label", "fold"]].equals(other[["label", "fold"]]):
        raise ValueError(f"{names} disagree on the label or the fold of a patient")
    labels, fold = about["label"].to_numpy(), about["fold"].to_numpy()
    wide = [
        table.pivot(index="seed", columns="patient", values="probability")[both].to_numpy()
        for table in (first, second)
    ]
    means = [values.mean(axis=0) for values in wide]

    def interval_of_difference() -> dict[str, float]:
        functions = (of_scores(auc, labels, values, fold) for values in wide)
        options = {"draws": draws, "seed": seed, "strata": strata(fold, labels), "events": int(labels.sum())}
        difference = paired_patient_difference(*functions, both, **options)
        return {"auc": difference.estimate, "low": difference.low, "high": difference.high}

    def of_order() -> dict[str, float]:
        return {"delong_p": delong_test(labels, *means, folds=fold).p}

    def of_calls() -> dict[str, float]:
        tested = mcnemar(labels, *(mean >= cut for mean in means))
        return {"only_first": tested.only_a, "only_second": tested.only_b, "mcnemar_p": tested.p}

    row, why = {"n": len(both)}, []
    for name, measure in (("AUC", interval_of_difference), ("DeLong", of_order), ("McNemar", of_calls)):
        try:
            row |= measure()
        except NotComputable as reason:
            why.append(f"{name}: {reason}")
    return row | {"why": "; ".join(why)}


def holm(p: ArrayLike) -> np.ndarray:
    """p values (k,) adjusted for how many were looked at, so that one false one among them is as rare as each alone claims
    to be; NaN are none. Holm, Scand J Stat 6:65 (1979); by statsmodels.
    """
    p = np.array(p, dtype=float)
    known = ~np.isnan(p)
    if known.any():
        p[known] = multipletests(p[known], method="holm")[1]
    return p


def adjusted(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of `differences`, of one call or of several that are printed as one table, adjusted by `holm` over all of them."""
    return table.assign(delong_holm=holm(table["delong_p"]), mcnemar_holm=holm(table["mcnemar_p"]))


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
