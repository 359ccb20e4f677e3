"""Whether a probability means what it says: calibration of a yes-or-no outcome and of survival at a horizon, and
decision curves: what acting on those a model calls gains, against acting on all and on none.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import logit
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from lib.statistics.classification import NotComputable, checked
from lib.statistics.intervals import LEVEL, DrawsFunction, Interval, draw_counts
from lib.statistics.survival import checked_outcomes, event_share, survival_at

THRESHOLDS = np.arange(1, 100) / 100


def _binned(probabilities: np.ndarray, bins: int, edges: str) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the bins, and the bin of each probability; the last bin includes its upper edge."""
    if edges not in ("width", "quantile") or bins < 1:
        raise ValueError(f'edges must be "width" or "quantile" and bins 1 or more, got "{edges}", {bins}')
    cuts = np.linspace(0, 1, bins + 1)
    if edges == "quantile":
        # real values begin the bins, so that none is empty
        starts = np.unique(np.quantile(probabilities, cuts[:-1], method="higher"))
        cuts = np.append(starts, probabilities.max())
    return cuts, np.clip(np.searchsorted(cuts, probabilities, side="right") - 1, 0, cuts.size - 2)


def calibration_bins(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 10, edges: str = "width"
) -> pd.DataFrame:
    """Observed share of positive cases (n,) against mean probability, in bins of equal width over 0 to 1, or of equal
    numbers of cases ("quantile"; where probabilities tie, fewer bins).

    One row a bin: low, high (edges; the last bin includes its high), n, events, predicted (mean probability), observed
    (share of positive cases). An empty bin keeps its row, with n 0 and NaN for both shares.
    """
    labels, probabilities = checked(labels, probabilities, "probabilities")
    cuts, home = _binned(probabilities, bins, edges)
    n, events, total = (
        np.bincount(home, weights=weights, minlength=cuts.size - 1)
        for weights in (None, labels, probabilities)
    )
    filled = np.where(n > 0, n, np.nan)
    counts = {"low": cuts[:-1], "high": cuts[1:], "n": n, "events": events.astype(int)}
    return pd.DataFrame({**counts, "predicted": total / filled, "observed": events / filled})


def ece(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10, edges: str = "width") -> float:
    """Expected calibration error, 0 (best) to 1: distance of observed and predicted share, averaged over the cases.

    It depends on the bins (as `calibration_bins`), and even a calibrated model's is above 0 in a finite sample: name the
    bins beside it. Naeini, Cooper and Hauskrecht, AAAI 29 (2015), doi:10.1609/aaai.v29i1.9602.
    """
    table = calibration_bins(labels, probabilities, bins, edges)
    distance = (table["observed"] - table["predicted"]).abs()
    return float((table["n"] * distance).sum() / table["n"].sum())


def intercept_slope(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Interval, Interval]:
    """Calibration intercept (in the large) and slope, with 95 % Wald intervals, which know one row a patient only.

    The intercept is that of a logistic regression of the outcome with the logit of the probability as an offset: 0 is
    right, above 0 the probabilities are too low on the whole. The slope is the coefficient of that logit: 1 is right,
    below 1 the probabilities are too extreme (overfitting).

    References
    ----------
    Cox, Biometrika 45:562 (1958), doi:10.1093/biomet/45.3-4.562; Van Calster et al., BMC Med 17:230 (2019),
    doi:10.1186/s12916-019-1466-7.
    """
    labels, probabilities = checked(labels, probabilities, "probabilities")
    if labels.min() == labels.max():
        raise NotComputable(f"all {labels.size} cases have the label {labels[0]:g}: calibration needs both")
    if sure := int(np.isin(probabilities, (0, 1)).sum()):
        said = f"{sure} of {labels.size} probabilities are exactly 0 or 1"
        raise NotComputable(f"{said}: their logit is infinite")
    if np.ptp(probabilities) == 0:
        raise NotComputable(f"every probability is {probabilities[0]:g}, which has no calibration slope")
    positive, other = probabilities[labels == 1], probabilities[labels == 0]
    if positive.min() >= other.max() or positive.max() <= other.min():
        raise NotComputable("the probabilities separate the classes: the calibration slope is infinite")
    line, ones = logit(probabilities), np.ones((labels.size, 1))

    def last(model: GLM, name: str) -> Interval:
        fit = model.fit()
        estimate, (low, high) = fit.params[-1], fit.conf_int(alpha=1 - LEVEL)[-1]
        ends = (float(value) for value in (estimate, low, high))
        return Interval(*ends, labels.size, int(labels.sum()), f"logistic calibration {name}, Wald")

    intercept = last(GLM(labels, ones, family=Binomial(), offset=line), "intercept, slope held at 1")
    return intercept, last(GLM(labels, np.column_stack([ones, line]), family=Binomial()), "slope")


def calibration_at_horizon(
    time: ArrayLike, event: ArrayLike, probabilities: ArrayLike, horizon: float, groups: int = 5
) -> pd.DataFrame:
    """Share with an event by Kaplan-Meier against mean predicted probability (n,) of it by the horizon (1 - survival), in
    quantile groups of the prediction (fewer where predictions tie). An event at the horizon counts.

    One row a group: low, high (predictions; the last includes `high`), n, events (by the horizon), at_risk (still followed
    at it), predicted (mean), observed, observed_low, observed_high. These three are NaN where a group's follow-up ends
    before the horizon with somebody free of the event; NotComputable where that of all patients does.
    """
    time, event = checked_outcomes(time, event)
    _, probabilities = checked(event, probabilities, "probabilities")
    survival_at(time, event, [horizon])  # or NotComputable
    edges, home = _binned(probabilities, groups, "quantile")
    rows = []
    for group in range(len(edges) - 1):
        times, events = time[home == group], event[home == group]
        about = edges[group], edges[group + 1], times.size, (events & (times <= horizon)).sum()
        followed, predicted = (times >= horizon).sum(), probabilities[home == group].mean()
        rows.append((*about, followed, predicted, *event_share(times, events, horizon)))
    shares = ["predicted", "observed", "observed_low", "observed_high"]
    return pd.DataFrame(rows, columns=["low", "high", "n", "events", "at_risk", *shares])


def _cox(x: np.ndarray, time: np.ndarray, event: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Coefficients of Cox regressions on x (n, columns) in many resamples, Breslow's ties: (draws, columns), NaN where the
    likelihood has no maximum. Rows stand in the order of time.
    """
    columns = x.shape[1]
    powers = np.column_stack([np.ones(len(x)), x, (x[:, :, None] * x[:, None]).reshape(len(x), -1)])
    since = np.searchsorted(time, time[event])  # at risk at each event: all rows from here on
    died, passed = counts[:, event], (counts[:, event] @ x[event])
    beta = np.zeros((len(counts), columns))
    for _ in range(25):
        hazard = counts * np.exp(beta @ x.T)
        sums = np.stack([np.flip(np.flip(hazard * each, 1).cumsum(1), 1)[:, since] for each in powers.T], -1)
        sums /= np.where(sums[..., :1] > 0, sums[..., :1], 1)
        mean, square = sums[..., 1 : columns + 1], sums[..., columns + 1 :].reshape(*died.shape, columns, -1)
        score = passed - np.einsum("de,dep->dp", died, mean)
        information = np.einsum("de,depq->dpq", died, square - mean[..., None] * mean[..., None, :])
        solvable = np.linalg.cond(information) < 1e10
        step = np.full(beta.shape, np.nan)
        step[solvable] = np.linalg.solve(information[solvable], score[solvable][..., None])[..., 0]
        beta += np.clip(step, -2, 2)
        if not (np.abs(step) > 1e-8).any():
            break
    return np.where(np.abs(step) <= 1e-8, beta, np.nan)


MEASURES = ("slope", "ici", "e50", "e90")


def survival_calibration(
    time: ArrayLike, event: ArrayLike, probabilities: ArrayLike, horizon: float
) -> DrawsFunction:
    """How far probabilities (n,) of an event by a horizon are off what a Cox regression on them finds: a function of counts
    (draws, n) that returns the four `MEASURES`, (4, draws), NaN where the regression has no maximum.

    "slope" is the coefficient of log(-log(1 - p)): 1 is right, below 1 the probabilities are too extreme. From a regression
    on its restricted cubic spline with three knots (of all patients): "ici" the mean, "e50" the median and "e90" the 90th
    percentile of the distance between predicted and regressed probability; 0 is right, though even a calibrated model's are
    above 0 in a finite sample.

    References
    ----------
    Austin, Harrell and van Klaveren, Statistics in Medicine 39 (2020), 2714, doi:10.1002/sim.8570.
    """
    time, event = checked_outcomes(time, event)
    _, probabilities = checked(event, probabilities, "probabilities")
    survival_at(time, event, [horizon])  # or NotComputable
    if sure := int(np.isin(probabilities, (0, 1)).sum()):
        said = f"{sure} of {time.size} probabilities are exactly 0 or 1"
        raise NotComputable(f"{said}: log(-log(1 - p)) is infinite")
    if not event.any() or np.ptp(probabilities) == 0:
        said = "there is no event, or every probability is the same"
        raise NotComputable(f"{said}: there is no calibration slope")
    order = np.argsort(time, kind="stable")
    time, event, probabilities = time[order], event[order], probabilities[order]
    line = np.log(-np.log1p(-probabilities))
    low, middle, high = knots = np.quantile(line, [0.1, 0.5, 0.9])
    x = [line]
    if low < middle < high:
        cubes = np.maximum(line[:, None] - knots, 0) ** 3
        x.append(cubes @ [high - middle, low - high, middle - low] / (high - middle) / (high - low) ** 2)
    x = np.column_stack([(each - each.mean()) / each.std() for each in x])

    def values(counts: np.ndarray) -> np.ndarray:
        counts = np.asarray(counts, dtype=float)[:, order]
        slope = _cox(x[:, :1], time, event, counts)[:, 0] / line.std()
        hazard = np.exp(_cox(x, time, event, counts) @ x.T)
        at_risk = np.flip(np.flip(counts * hazard, 1).cumsum(1), 1)[:, np.searchsorted(time, time)]
        died = counts * (event & (time <= horizon))
        jumps = np.divide(died, at_risk, out=np.zeros(died.shape), where=died > 0)
        baseline = jumps.sum(axis=1, keepdims=True)
        apart = np.abs(-np.expm1(-baseline * hazard) - probabilities)
        shares = [
            np.quantile(np.repeat(own, each), (0.5, 0.9))
            for own, each in zip(apart, counts.astype(int), strict=True)
        ]
        return np.vstack([slope, (counts * apart).sum(axis=1) / counts.sum(axis=1), np.transpose(shares)])

    return values


def decision_curve(
    labels: ArrayLike, probabilities: ArrayLike, thresholds: ArrayLike = THRESHOLDS, draws: int = 0
) -> pd.DataFrame:
    """Net benefit at each threshold probability (k,): true positives less false ones at the threshold's odds, over n.

    A case (n,) whose probability of being positive is at or above the threshold is called. One row a threshold:
    threshold, n, called, net_benefit (at most the prevalence), treat_all, treat_none (0); with `draws`, low and high, its
    band (95 % at each threshold, percentiles of resampled patients, so the prevalence is uncertain too).

    References
    ----------
    Vickers and Elkin, Med Decis Making 26:565 (2006), doi:10.1177/0272989X06295361.
    """
    labels, _ = checked(labels, probabilities, "probabilities")
    # events at 0, nobody censored before the horizon: Kaplan-Meier is then the share
    return decision_curve_at_horizon(1 - labels, labels, probabilities, 1, thresholds, draws)


def decision_curve_at_horizon(
    time: ArrayLike,
    event: ArrayLike,
    probabilities: ArrayLike,
    horizon: float,
    thresholds: ArrayLike = THRESHOLDS,
    draws: int = 0,
) -> pd.DataFrame:
    """Net benefit for an event by a horizon; its share among those called is by Kaplan-Meier.

    Parameters as `calibration_at_horizon`; censoring must not depend on the risk within those called. Returns as
    `decision_curve`; net_benefit is NaN where somebody is called but the follow-up of those called ends before the
    horizon (and such a draw is left out), and NotComputable where that of all does.

    References
    ----------
    Vickers, Cronin, Elkin and Gonen, BMC Med Inform Decis Mak 8:53 (2008), doi:10.1186/1472-6947-8-53.
    """
    time, event = checked_outcomes(time, event)
    _, probabilities = checked(event, probabilities, "probabilities")
    survival_at(time, event, [horizon])  # or NotComputable
    thresholds = np.asarray(thresholds, dtype=float)
    if thresholds.ndim != 1 or not ((thresholds >= 0) & (thresholds < 1)).all():
        raise ValueError("thresholds must be a vector of probabilities, 0 or more and below 1")
    order = np.argsort(time, kind="stable")
    times, starts = np.unique(time[order], return_index=True)

    def share(called: np.ndarray, counts: np.ndarray) -> np.ndarray:
        counts = (counts * called)[:, order]
        leaving, died = (np.add.reduceat(each, starts, axis=1) for each in (counts, counts * event[order]))
        at_risk = np.maximum(np.flip(np.flip(leaving, 1).cumsum(1), 1), 1)
        survival = np.prod(1 - (died / at_risk)[:, times <= horizon], axis=1)
        known = (survival == 0) | leaving[:, times >= horizon].any(axis=1)
        return np.where(known, 1 - survival, np.nan)

    counts = np.ones((1, time.size))
    if draws:
        counts = np.concatenate([counts, draw_counts(np.arange(time.size), draws)])
    odds, called, gains = thresholds / (1 - thresholds), probabilities >= thresholds[:, None], []
    for mask, odd in zip(called, odds, strict=True):
        treated = counts @ mask / time.size
        of_called = np.where(treated > 0, share(mask, counts), 0)  # who treats nobody gains nothing: a true 0
        gains.append(treated * (of_called - (1 - of_called) * odd))
    of_all = share(np.ones(time.size), counts[:1])[0]
    table = {"threshold": thresholds, "n": time.size, "called": called.sum(axis=1)}
    table |= {"net_benefit": [each[0] for each in gains]}
    if draws:
        unknown = np.full(2, np.nan)
        ends = [unknown if np.isnan(each[0]) else np.nanquantile(each[1:], (0.025, 0.975)) for each in gains]
        table |= dict(zip(("low", "high"), np.transpose(ends), strict=True))
    return pd.DataFrame({**table, "treat_all": of_all - (1 - of_all) * odds, "treat_none": 0.0})
