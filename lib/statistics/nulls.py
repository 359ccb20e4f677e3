"""What the very intervals that a study prints say where there is nothing to find: a cheap model on outcomes that were dealt
out anew among the patients, 200 times.

A network cannot be trained 200 times; a linear model on the same patients, folds and outcomes can. Its false alarms are
those of the interval, and the spread of its metric tells how large a leak has to be before the interval shows it.
"""

from collections.abc import Callable, Collection, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from lib.statistics import intervals
from lib.statistics.classification import METRICS, NotComputable
from lib.statistics.intervals import Interval, ScoredSection
from lib.statistics.metrics_table import survival_interval
from lib.statistics.survival import HeldOut

POWER = 0.8


def false_alarms(one: Callable[[int], Interval], nulls: int = 200) -> dict[str, float]:
    """Intervals (95 %) of the nulls that leave out chance (.5), and the metric that would be shown in four of five studies.

    nulls; false_alarms: share, with its standard error `error`; mean and sd of the metric; detected: the smallest true
    value above .5 whose interval leaves out .5 with a chance of 80 %, from the spread of the metric and the mean length of
    the intervals, on the logit scale.
    """
    found = [one(seed) for seed in range(nulls)]
    estimate, low, high = np.array([[each.estimate, each.low, each.high] for each in found]).T
    alarm = np.mean((low > 0.5) | (high < 0.5))
    reach = np.nanmean(logit(high) - logit(low)) / 2
    detected = expit(reach + norm.ppf(POWER) * np.nanstd(logit(estimate), ddof=1))
    error = np.sqrt(max(alarm * (1 - alarm), 0.05 * 0.95) / nulls)
    spread = {"mean": estimate.mean(), "sd": estimate.std(ddof=1), "detected": detected}
    return {"nulls": nulls, "false_alarms": float(alarm), "error": float(error)} | {
        name: float(value) for name, value in spread.items()
    }


def survival_null(values: ArrayLike, cohort: pd.DataFrame, draws: int = 300) -> Callable[[int], Interval]:
    """Function seed -> c-index of one step of a Cox regression on values (n, columns), outcomes dealt out within the fold.

    `cohort` has fold, time_months and event, a row a patient.
    """
    values = _standard(values)
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
        model = HeldOut(np.arange(time.size), fold, time, event.astype(bool), risk[None])
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
        function = intervals.of_scores(METRICS["auc"], dealt, score[None], fold)
        options = {"events": int(dealt.sum()), "strata": intervals.strata(fold, dealt), "trained": True}
        return intervals.patient_interval(
            function, np.arange(fold.size), chance=0.5, draws=draws, seed=seed, **options
        )

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
        return intervals.interval(scored, "auc", draws, seed, trained=not test)

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
