"""Is one model better than another on the same patients, and what does an interval say where there is nothing to find?

Paired intervals and tests; and a cheap model on outcomes that were dealt out anew among the patients, 200 times. A network
cannot be trained 200 times; a linear model on the same patients, folds and outcomes can. Its false alarms are those of the
interval, and the spread of its metric tells how large a leak has to be before the interval shows it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from statsmodels.stats.proportion import proportion_confint

from lib.statistics.classification import NotComputable, delong_test, mcnemar
from lib.statistics.intervals import Interval, ScoredSection, interval
from lib.statistics.metrics_table import outcome_interval, survival_interval
from lib.statistics.survival import HeldOut, by_seed


def paired_difference(
    sections_a: Sequence[ScoredSection],
    sections_b: Sequence[ScoredSection],
    metric: str,
    draws: int = 1000,
    seed: int = 0,
    trained: bool = False,
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
    difference = interval(sections_a, metric, draws, seed, minus=sections_b, trained=trained)
    return replace(difference, how=f"paired; {difference.how}")


def differences(
    models: Mapping[str, pd.DataFrame], cut: float = 0.5, draws: int = 1000, *, trained: bool = True
) -> pd.DataFrame:
    """Paired comparison of all pairs of models of a yes-or-no outcome, on the patients that both held out.

    `trained`: the models of different folds share training patients, so interval and DeLong's variance are raised alike
    (`intervals.training_share`). McNemar's test takes the models as given, so it may call somewhat
    more than 5 % of equals different.

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
        {"model": a, "minus": b} | _compared(f"{a} and {b}", first, second, cut, draws, trained)
        for (a, first), (b, second) in pairs
    ]
    columns = ["model", "minus", "auc", "low", "high", "delong_p", "only_first", "only_second", "mcnemar_p"]
    return adjusted(pd.DataFrame(rows, columns=[*columns, "n", "why"]))


def _compared(
    names: str, first: pd.DataFrame, second: pd.DataFrame, cut: float, draws: int, trained: bool
) -> dict[str, object]:
    both = sorted(set(first["patient"]) & set(second["patient"]))
    about, other = (t.drop_duplicates("patient").set_index("patient").loc[both] for t in (first, second))
    if not about[["label", "fold"]].equals(other[["label", "fold"]]):
        raise ValueError(f"{names} disagree on the label or the fold of a patient")
    labels, fold = about["label"].to_numpy(), about["fold"].to_numpy()
    wide = [by_seed(names, table, "probability", both) for table in (first, second)]
    means = [values.mean(axis=0) for values in wide]

    def interval_of_difference() -> dict[str, float]:
        how = {"minus": wide[1], "draws": draws, "trained": trained}
        found = outcome_interval("auc", wide[0], labels, fold, both, **how)
        row["share"] = found.share
        return {"auc": found.estimate, "low": found.low, "high": found.high}

    def of_order() -> dict[str, float]:
        z = delong_test(labels, *means, folds=fold).z / np.sqrt(1 + row.get("share", 0.0))
        return {"delong_p": 2 * norm.sf(abs(z))}

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
    to be; NaN are none. Holm, Scand J Stat 6:65 (1979).
    """
    p = np.array(p, dtype=float)  # not by statsmodels, which collects garbage at each call: up to .3 s
    order, known = np.argsort(p), np.count_nonzero(~np.isnan(p))  # NaN come last
    p[order] = np.minimum(np.maximum.accumulate((known - np.arange(p.size)) * p[order]), 1)
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


def false_alarms(found: Sequence[Interval]) -> dict[str, float]:
    """Intervals (95 %) of nulls that leave out chance (.5), and the metric that would be shown in four of five studies.

    nulls; false_alarms: share, with its standard error `error`; mean and sd of the metric; detected: the smallest true
    value above .5 whose interval leaves out .5 with a chance of 80 %, from the spread of the metric and the mean length of
    the intervals, on the logit scale.
    """
    nulls = len(found)
    estimate, low, high = np.array([[each.estimate, each.low, each.high] for each in found]).T
    alarm = np.mean((low > 0.5) | (high < 0.5))
    reach = np.nanmean(logit(high) - logit(low)) / 2
    detected = expit(reach + norm.ppf(0.8) * np.nanstd(logit(estimate), ddof=1))
    error = np.sqrt(max(alarm * (1 - alarm), 0.05 * 0.95) / nulls)
    values = {"false_alarms": alarm, "error": error, "mean": estimate.mean(), "sd": estimate.std(ddof=1)}
    values |= {"detected": detected}
    return {"nulls": nulls} | {name: float(value) for name, value in values.items()}


def survival_null(values: ArrayLike, cohort: pd.DataFrame, draws: int = 300) -> Callable[[int], Interval]:
    """Function seed -> c-index of one step of a Cox regression on values (n, columns), outcomes dealt out within the fold.

    `cohort` has fold (none: trains in all and is not tested), time_months and event, a row a patient.
    """
    values, tested = _standard(values), cohort["fold"].notna().to_numpy()
    fold = cohort["fold"].astype(str).to_numpy()
    outcome = cohort[["time_months", "event"]].to_numpy(dtype=float)

    def one(seed: int) -> Interval:
        time, event = outcome[_dealt(fold, seed)].T
        order = np.argsort(time)
        residuals = np.empty(time.size)  # martingale residuals of a Cox model without columns
        residuals[order] = event[order] - np.cumsum(event[order] / np.arange(time.size, 0, -1))
        risk = np.empty(time.size)
        for name in np.unique(fold):
            out = fold == name
            risk[out] = values[out] @ (values[~out].T @ residuals[~out])
        columns = (np.arange(time.size), fold, time, event.astype(bool), risk)
        patient, *rest, risk = (column[tested] for column in columns)
        model = HeldOut(patient, *rest, risk[None])
        return survival_interval(model, "c_index", draws=draws, seed=seed)

    return one


def outcome_null(
    values: ArrayLike, fold: Sequence, label: ArrayLike, draws: int = 300
) -> Callable[[int], Interval]:
    """Function seed -> AUC of Fisher's discriminant on values (n, columns), labels (n,) dealt out within the fold."""
    values, fold = _standard(values), np.asarray(fold).astype(str)

    def one(seed: int) -> Interval:
        dealt, score = np.asarray(label, dtype=float)[_dealt(fold, seed)], np.empty(fold.size)
        for name in np.unique(fold):
            out = fold == name
            score[out] = _discriminant(values[~out], dealt[~out]).decision_function(values[out])
        how = {"draws": draws, "seed": seed, "trained": True}
        return outcome_interval("auc", score[None], dealt, fold, np.arange(fold.size), **how)

    return one


def spot_null(
    sections: Sequence[tuple], draws: int = 300, test: Collection[str] = ()
) -> Callable[[int], Interval]:
    """Function seed -> AUC over patients of a discriminant, trained on the others, where labels lie elsewhere in their section.

    A section is (patient, name, values (spots, columns), labels (spots,), xy (spots, 2), side of a block). Its labels are
    pushed by a random stretch and come back in at the other side, so patches stay patches. With names of `test` sections the
    discriminant of a fold is trained on all the others, once.
    """

    def one(seed: int) -> Interval:
        random, pushed = np.random.default_rng(seed), []
        for patient, name, values, labels, xy, side in sections:
            known = ~np.isnan(labels)
            place = xy[known] - xy[known].min(axis=0)
            period = place.max(axis=0) + side / 4
            where = (place + random.random(2) * period) % period
            _, nearest = cKDTree(place).query(where)
            pushed.append((patient, name, _standard(values[known]), labels[known][nearest], xy[known], side))
        scored = []
        for patient, name, values, labels, xy, side in pushed:
            if test and name not in test:
                continue
            others = [each for each in pushed if (each[1] not in test if test else each[0] != patient)]
            train, truth = (np.concatenate([each[part] for each in others]) for part in (2, 3))
            if np.ptp(truth) == 0:
                raise NotComputable(f"who trains for {patient} sees spots of one class only")
            scores = _discriminant(train, truth).decision_function(values)
            scored.append(ScoredSection.of_spots(patient, name, labels, scores, xy, side))
        return interval(scored, "auc", draws, seed, trained=not test)

    return one


def _standard(values: ArrayLike) -> np.ndarray:
    values = np.nan_to_num(np.asarray(values, dtype=float) - np.nanmean(values, axis=0))
    return values / np.where(values.std(axis=0) > 0, values.std(axis=0), 1)


def _discriminant(values: np.ndarray, labels: np.ndarray) -> LinearDiscriminantAnalysis:
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(values, labels)


def _dealt(fold: np.ndarray, seed: int) -> np.ndarray:
    """Rows (n,) from which each patient takes the outcome: one of the same fold."""
    random, rows = np.random.default_rng(seed), np.arange(fold.size)
    for name in np.unique(fold):
        rows[fold == name] = random.permutation(rows[fold == name])
    return rows
