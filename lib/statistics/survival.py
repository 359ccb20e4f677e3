"""Times to an event, some of them censored: Kaplan-Meier and what is read from it, censoring weights, the log-rank
test, groups of high and low risk, and predictions for patients a model was not trained on.

`time` (n,) is follow-up of 0 or longer in one unit; `event` (n,) is 1 where the event happened then and 0 where the
patient was censored (TCGA's `censorship` columns say the opposite). A higher risk means an earlier event.
"""

from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import chi2, norm
from statsmodels.duration.survfunc import survdiff

from lib.statistics.classification import NotComputable
from lib.statistics.intervals import LEVEL, MOST


def checked_outcomes(time: ArrayLike, event: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Times (float64) and events (bool) as vectors of one length; ValueError for a time that is negative, NaN or infinite
    or an event that is neither 0 nor 1, NotComputable for no patient.
    """
    time, event = np.asarray(time, dtype=float), np.asarray(event)
    if time.ndim != 1 or time.shape != event.shape:
        raise ValueError(f"time {time.shape} and event {event.shape} must be two vectors of one length")
    if time.size == 0:
        raise NotComputable("there is no patient")
    if bad := int((~np.isfinite(time) | (time < 0)).sum()):
        raise ValueError(f"{bad} of {time.size} times are negative, NaN or infinite: leave those out before")
    if not np.isin(event, (0, 1)).all():
        raise ValueError(f"event must be 0 (censored) or 1 (event), found {np.unique(event)[:5].tolist()}")
    return time, event.astype(bool)


def checked_risk(risk: ArrayLike, patients: int) -> np.ndarray:
    """Risks (patients,) as float64; ValueError for another shape, NotComputable where one is NaN or infinite."""
    risk = np.asarray(risk, dtype=float)
    if risk.shape != (patients,):
        raise ValueError(f"risk has shape {risk.shape}; one risk for each of {patients} patients is needed")
    if bad := int((~np.isfinite(risk)).sum()):
        raise NotComputable(f"{bad} of {risk.size} risks are NaN or infinite")
    return risk


def kaplan_meier(time: ArrayLike, event: ArrayLike, band: str = "pointwise") -> pd.DataFrame:
    """Kaplan-Meier curve with its 95 % log-log band ("exponential Greenwood"), and who was at risk.

    A row for time 0 and each distinct time, increasing: `time`; `at_risk` just before it (who is censored at the time of
    an event was at risk of it), `events` and `censored` at it; `survival` from it on; `low`, `high`: its band, both 1
    before the first event and NaN once survival is 0, where Greenwood's formula has no value. A "pointwise" band covers
    each time by itself; one of "equal-precision" the whole curve at once, from the first event to the last that
    somebody outlives (NaN beyond).

    References
    ----------
    Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data (2002), section 1.4. Nair, Technometrics
    26 (1984), 265, doi:10.1080/00401706.1984.10487964, with the tail of Miller and Siegmund (1982).
    """
    time, event = checked_outcomes(time, event)
    if band not in ("pointwise", "equal-precision"):
        raise ValueError(f'band "{band}": it is "pointwise" or "equal-precision"')
    times = np.unique(np.r_[0.0, time])
    place = np.searchsorted(times, time)
    counts = (np.bincount(place, each, times.size) for each in (np.ones(time.size), event))
    leaving, events = (each.astype(int) for each in counts)
    at_risk = time.size - np.cumsum(leaving) + leaving
    survival = np.cumprod(1 - events / at_risk)
    left = at_risk - events
    variance = np.cumsum(events / (at_risk * np.where(left > 0, left, np.inf)))  # of log survival
    width, last = norm.isf((1 - LEVEL) / 2), np.inf
    inner = (events > 0) & (left > 0)
    if band == "equal-precision" and inner.any():
        log_ratio, last = np.log(variance[inner][-1] / variance[inner][0]), times[inner][-1]
        width = brentq(lambda c: norm.pdf(c) * (4 / c + (c - 1 / c) * log_ratio) - (1 - LEVEL), 1, 40)
    logs = np.log(survival, out=np.full(survival.size, -np.inf), where=survival > 0)
    spread = np.exp(width * np.sqrt(variance) / np.where(logs < 0, -logs, 1))
    ends = np.where((survival > 0) & (times <= last), survival ** np.array([spread, 1 / spread]), np.nan)
    columns = ["time", "at_risk", "events", "censored", "survival", "low", "high"]
    values = times, at_risk, events, leaving - events, survival, *ends
    return pd.DataFrame(dict(zip(columns, values, strict=True)))


def survival_at(time: ArrayLike, event: ArrayLike, times: ArrayLike) -> np.ndarray:
    """Kaplan-Meier estimate at times (k,); NotComputable beyond the longest follow-up, unless survival reached 0 there."""
    table = kaplan_meier(time, event)
    times, last = np.asarray(times, dtype=float), table.iloc[-1]
    if (until := times.max(initial=0)) > last.time and last.survival > 0:
        raise NotComputable(
            f"the longest follow-up is {last.time:g} and survival is {last.survival:.3f} there, so nothing is "
            f"known of it at {until:g}: choose an earlier time"
        )
    return np.r_[1.0, table.survival][np.searchsorted(table.time, times, "right")]


def _halved(times: pd.Series, values: pd.Series) -> float:
    """First time with a value of 0.5 or less; where it is 0.5, the midpoint to the next lower one, as in R; NaN if never."""
    low = np.flatnonzero(values <= 0.5 + 1e-8)  # products of ratios miss 0.5 by their rounding
    if not low.size:
        return np.nan
    lower = np.flatnonzero(values < values[low[0]])
    midpoint = values[low[0]] >= 0.5 - 1e-8 and lower.size
    return float(times[[low[0], lower[0]]].mean() if midpoint else times[low[0]])


def medians(time: ArrayLike, event: ArrayLike) -> tuple[float, float, float]:
    """Median survival, where the Kaplan-Meier curve falls below 0.5 (where it is 0.5 for a while: the middle of that
    stretch), and its interval, where the pointwise log-log band does; NaN where one never does.

    R's `survfit(conf.type = "log-log")`. Brookmeyer and Crowley, Biometrics 38 (1982), 29, doi:10.2307/2530286.
    """
    table = kaplan_meier(time, event)
    return tuple(_halved(table.time, table[name]) for name in ("survival", "low", "high"))


def median_follow_up(time: ArrayLike, event: ArrayLike) -> float:
    """Median time patients would have been followed had none had the event: the reverse Kaplan-Meier.

    Schemper and Smith, Controlled Clinical Trials 17 (1996), 343, doi:10.1016/0197-2456(96)00075-X.
    """
    time, event = checked_outcomes(time, event)
    median, *_ = medians(time, ~event)
    if np.isnan(median):
        raise NotComputable("the median follow-up (reverse Kaplan-Meier) is not reached")
    return median


def event_share(time: ArrayLike, event: ArrayLike, horizon: float) -> np.ndarray:
    """1 - Kaplan-Meier at a horizon (an event at it counts) and its band, (3,): share, low, high.

    NaN for no patient, and where follow-up ends before the horizon with somebody still free of the event: nothing is known.
    """
    if not np.size(time):
        return np.full(3, np.nan)
    curve = kaplan_meier(time, event)
    last = curve[curve.time <= horizon].iloc[-1]
    known = np.max(time) >= horizon or last.survival == 0
    return 1 - last[["survival", "high", "low"]].to_numpy() if known else np.full(3, np.nan)


@dataclass(frozen=True)
class Censoring:
    """Kaplan-Meier of the time to censoring, G. Fit it on the training fold, ask it about the others.

    Where a patient dies and another is censored at one time, death came first: who died was not at risk of being
    censored then, as in R's prodlim. `times` (m,), distinct and increasing, and G at each of them.
    """

    times: np.ndarray
    probability: np.ndarray

    @classmethod
    def fit(cls, time: ArrayLike, event: ArrayLike) -> "Censoring":
        """From follow-up times (n,) and events (n,), 1 = event, 0 = censored."""
        time, event = checked_outcomes(time, event)
        times, place, leaving = np.unique(time, return_inverse=True, return_counts=True)
        events = np.bincount(place, weights=event)
        staying = time.size - np.cumsum(leaving) + leaving - events
        censored = leaving - events
        share = np.divide(censored, staying, out=np.zeros(times.size), where=censored > 0)
        return cls(times, np.cumprod(1 - share))

    def survival(self, times: ArrayLike, before: bool = False) -> np.ndarray:
        """G(t), the chance not to have been censored by t, t itself included (or only `before` it), at times (k,).

        NotComputable for a time beyond the longest follow-up, unless G reached 0 there: nobody knows G then.
        """
        times, last = np.asarray(times, dtype=float), self.times[-1]
        if self.probability[-1] > 0 and (beyond := int((times > last).sum())):
            raise NotComputable(
                f"{beyond} of {times.size} times lie beyond {last:g}, the longest follow-up that the censoring "
                f"was fitted on, where nothing is known of it: choose an earlier horizon (tau)"
            )
        return np.r_[1.0, self.probability][np.searchsorted(self.times, times, "left" if before else "right")]

    def weights(self, time: ArrayLike, event: ArrayLike) -> np.ndarray:
        """Inverse-probability-of-censoring weights (n,): 1 / G(time-) for events, 0 for the censored.

        G is taken just before the event, as by Graf et al. (1999) and in R's survival and riskRegression: who was
        censored at that very time was still followed. G at the event, as scikit-survival has it, weighs too much where
        times tie: in whole years a Brier score of .177 becomes .204. NotComputable where an event lies where G is 0 or
        unknown. Robins and Finkelstein (2000), doi:10.1111/j.0006-341X.2000.00779.x.
        """
        time, event = checked_outcomes(time, event)
        followed = self.survival(time[event], before=True)
        if lost := int((followed == 0).sum()):
            raise NotComputable(
                f"{lost} of {followed.size} events lie where everybody still followed was censored, so no weight "
                f"can stand for them: choose a horizon (tau) before {time[event][followed == 0].min():g}"
            )
        weights = np.zeros(time.size)
        weights[event] = 1 / followed
        return weights


LogRank = namedtuple("LogRank", "statistic p")  # chi-squared and its p-value


def logrank(time: ArrayLike, event: ArrayLike, group: ArrayLike, *, trained: bool = False) -> LogRank:
    """Log-rank test of two or more groups (n,), by statsmodels. Klein and Moeschberger, Survival Analysis (2003), section 7.3.

    `trained`: the groups come from held-out risks of models that share training patients. Without effect that nearly doubles
    the variance (`intervals.training_share`), and the statistic is divided by 1.85: else 12 to 15 % of models that know
    nothing are called significant at 5 %.
    """
    time, event = checked_outcomes(time, event)
    code, names = pd.factorize(np.asarray(group), sort=True)
    if missing := int((code < 0).sum()):
        raise ValueError(f"{missing} of {code.size} patients have no group: leave them out, and count them")
    if len(names) < 2:
        raise NotComputable(f'all patients are in the group "{names[0]}": there is nothing to compare')
    if not event.any():
        raise NotComputable(f"all {event.size} patients are censored: there is no event to compare")
    # who is followed later was so at the first event too: only there can a group be alone, or all be gone after it
    first = time[event].min()
    followed = time >= first
    if np.unique(code[followed]).size < len(names) or (event & (time == first))[followed].all():
        groups = ", ".join(map(str, names))
        said = f"one of the groups {groups} is never at risk beside the others: they cannot be compared"
        raise NotComputable(said)
    statistic = float(survdiff(time, event, code)[0]) / (1 + MOST * trained)
    return LogRank(statistic, float(chi2.sf(statistic, len(names) - 1)))


def hazard_ratio(
    time: ArrayLike, event: ArrayLike, high: ArrayLike, *, trained: bool = False
) -> tuple[float, float, float]:
    """Hazard of the patients who are `high` (n,) of bool against that of the others, and the ends of its 95 % interval.

    Cox regression on that one column (lifelines, Efron's ties). `trained` as in `logrank`: the variance of the log ratio
    is raised 1.85 times. NotComputable where a group has no event while the other is followed: the ratio is then 0 or infinite.
    """
    time, event = checked_outcomes(time, event)
    high = np.asarray(high, dtype=bool)
    for side, words in ((high, "high"), (~high, "low")):
        until = time[~side].max() if not side.all() else -1.0
        if not event[side & (time <= until)].any():
            reason = f"none of the {side.sum()} patients of {words} risk has an event while others are"
            raise NotComputable(f"{reason} followed: there is no hazard ratio")
    table = pd.DataFrame({"time": time, "event": event, "high": high.astype(float)})
    fit = CoxPHFitter().fit(table, "time", "event")
    wide = norm.isf(0.025) * fit.standard_errors_["high"] * np.sqrt(1 + MOST * trained)
    return tuple(float(end) for end in np.exp(fit.params_["high"] + wide * np.array([0, -1, 1])))


def median_groups(risk: ArrayLike, fold: ArrayLike | None = None) -> np.ndarray:
    """Groups (n,) of str by the median of all risks (n,) together, as CrossFusion does, or of each patient's own fold: "high"
    at or above it, else "low". NotComputable where all are on one side.

    Models of different folds have scales of their own, so the two can disagree wildly: for MCAT's AMIL on LUAD the
    log-rank p is .85 with the first and .066 with the second.
    """
    risk = np.asarray(risk, dtype=float)
    fold = np.zeros(risk.size) if fold is None else np.asarray(fold)
    cut = pd.Series(risk).groupby(fold).transform("median")
    if risk.ndim != 1 or not np.isfinite(risk + cut).all():
        raise ValueError(f"finite risks (n,), each with a fold, are needed: {risk.shape}")
    high = risk >= cut.to_numpy()
    if high.all() or not high.any():
        raise NotComputable(f"all {risk.size} patients are of {'high' if high.all() else 'low'} risk")
    return np.where(high, "high", "low")


@dataclass(frozen=True)
class HeldOut:
    """Predictions of one model, each patient (n,) held out once by a fold, in the order of the cohort.

    `risk` (seeds, n) is comparable within a fold and seed only. `survival` (seeds, n, times) is the probability of being
    free of the event at each of `times` (ascending); both are None where the model gives a bare risk. `trained`: by a
    cross-validation whose folds share training patients; False for risks that are given, such as others' stored ones.
    """

    patient: np.ndarray
    fold: np.ndarray
    time: np.ndarray
    event: np.ndarray
    risk: np.ndarray
    survival: np.ndarray | None = None
    times: np.ndarray | None = None
    trained: bool = True

    @classmethod
    def of(cls, predictions: pd.DataFrame, cohort: pd.DataFrame) -> "HeldOut":
        """Join one model's predictions with the cohort; what does not belong together is a ValueError.

        `predictions` has seed, fold, patient, score; `survival_<time>` for each time where the model has them; optionally
        time and event, as whoever made the predictions knew them. `cohort` is indexed by patient: time_months, event, fold.
        """
        name = predictions["model"].iloc[0] if "model" in predictions else "the model"
        if alien := sorted(set(predictions["patient"]) - set(cohort.index)):
            raise ValueError(f"{name} predicts {len(alien)} patients the cohort lacks, such as {alien[0]}")
        stored = cohort.loc[predictions["patient"]]
        _agree(name, predictions, "fold", predictions["fold"].astype(str), stored["fold"].astype(str))
        if "event" in predictions and predictions["event"].notna().all():
            _agree(name, predictions, "event", predictions["event"].astype(int), stored["event"].astype(int))
            _agree(name, predictions, "time", predictions["time"].round(2), stored["time_months"].round(2))
        patients = cohort.loc[cohort.index.isin(set(predictions["patient"]))]
        columns = [c for c in predictions if c.startswith("survival_") and predictions[c].notna().any()]
        columns.sort(key=lambda column: float(column.removeprefix("survival_")))
        time, event = checked_outcomes(patients["time_months"], patients["event"])
        risk, *survival = (by_seed(name, predictions, c, patients.index) for c in ("score", *columns))
        survival = np.stack(survival, axis=-1) if columns else None
        times = np.array([float(c.removeprefix("survival_")) for c in columns]) if columns else None
        fold = patients["fold"].astype(str).to_numpy()
        return cls(patients.index.to_numpy(), fold, time, event, risk, survival, times)

    def on(self, patients: np.ndarray) -> "HeldOut":
        """The same model on some of its patients, in its own order."""
        rows = np.isin(self.patient, patients)
        survival = None if self.survival is None else self.survival[:, rows]
        vectors = (values[rows] for values in (self.patient, self.fold, self.time, self.event))
        return HeldOut(*vectors, self.risk[:, rows], survival, self.times, self.trained)


def by_seed(name: str, predictions: pd.DataFrame, column: str, patients: Sequence) -> np.ndarray:
    """A column of one model's predictions, (seeds, patients); ValueError where a seed has a patient twice, or a value is
    missing or infinite.
    """
    if (twice := predictions["patient"][predictions.duplicated(["seed", "patient"])]).size:
        raise ValueError(f"{name} predicts patient {twice.iloc[0]} twice in one seed")
    table = predictions.pivot(index="seed", columns="patient", values=column).reindex(columns=patients)
    if not (finite := np.isfinite(values := table.to_numpy(dtype=float))).all():
        seed, patient = np.argwhere(~finite)[0]
        where = f"{name}, seed {table.index[seed]}: patient {table.columns[patient]}"
        raise ValueError(f"{where} has no finite {column}")
    return values


def _agree(name: str, predictions: pd.DataFrame, what: str, theirs: pd.Series, ours: pd.Series) -> None:
    differ = np.flatnonzero(theirs.to_numpy() != ours.to_numpy())
    if differ.size:
        patient, their, our = (values.iloc[differ[0]] for values in (predictions["patient"], theirs, ours))
        said = f"{name}: {differ.size} patients have another {what} than in the cohort, such as"
        raise ValueError(f"{said} {patient} ({their}, in the cohort {our})")
