"""Censoring-weighted metrics of many resamples at once: each function returns counts (draws, n) -> values (draws,).

The censoring is fitted elsewhere (on training patients) and held fixed, as a threshold is: then these metrics are
weighted sums over patients or pairs, and a resample only changes the weights.

The rows of metrics.csv of survival models.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from lib.statistics import intervals as weighted
from lib.statistics.classification import NotComputable
from lib.statistics.concordance import harrell_draws
from lib.statistics.intervals import (
    DrawsFunction,
    Interval,
    mean_over_folds,
    paired_patient_difference,
    patient_interval,
    strata,
)
from lib.statistics.spot_metrics import COLUMNS
from lib.statistics.survival import Censoring, HeldOut, fold_median, logrank, pooled_median


def uno(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, tau: float, censoring: Censoring
) -> DrawsFunction:
    """`concordance.uno` in every draw; NaN in one without a comparable pair."""
    weights = censoring.weights(time, event & (time < tau)) ** 2
    return lambda counts: harrell_draws(time, event, risk, counts, event_weights=weights)


def auc_at(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, horizon: float, censoring: Censoring
) -> DrawsFunction:
    """`horizon.auc_at` at one horizon in every draw; NaN in one without a case or without a control."""
    case, control = event & (time <= horizon), time > horizon
    weights = np.where(control, 1.0, censoring.weights(time, case))
    kept = np.flatnonzero(case | control)
    labels = case[kept].astype(float)
    return lambda counts: weighted.auc(labels, risk[kept], counts[:, kept] * weights[kept])


def brier(
    time: np.ndarray, event: np.ndarray, survival: np.ndarray, times: np.ndarray, censoring: Censoring
) -> DrawsFunction:
    """`horizon.brier_at` at one time, or `horizon.integrated_brier` over several, in every draw.

    Parameters
    ----------
    survival : array (n, times)
    times : array (times,)
        Ascending; several are integrated by trapezoids and divided by their range.
    """
    terms = np.empty(survival.shape)
    for column, at in enumerate(times):
        died = censoring.weights(time, event & (time <= at)) * survival[:, column] ** 2
        alive = (time > at) * (1 - survival[:, column]) ** 2 / censoring.survival(np.array([at]))
        terms[:, column] = died + alive
    term = np.trapezoid(terms, times, axis=1) / (times[-1] - times[0]) if len(times) > 1 else terms[:, 0]
    return lambda counts: counts @ term / counts.sum(axis=1)


RULES = {"fold_median": "cut at the median of each fold", "pooled_median": "cut at one median over all folds"}
MEAN = "mean over {folds} folds, each on the patients it held out"


def c_index(model: HeldOut) -> DrawsFunction:
    """Harrell's c-index, mean over seeds within each fold, then over folds: counts (draws, n) -> (draws,)."""

    def within(rows: np.ndarray) -> list[DrawsFunction]:
        time, event = model.time[rows], model.event[rows]
        return [_given(harrell_draws, time, event, risk[rows]) for risk in model.risk]

    return mean_over_folds(model.fold, within)


def _given(function: Callable, *first: object) -> DrawsFunction:
    return lambda counts: function(*first, counts)


def _censored(
    model: HeldOut,
    censoring: Mapping[str, Censoring],
    one: Callable[[np.ndarray, int, Censoring], DrawsFunction],
) -> DrawsFunction:
    """Mean over folds of a metric that needs the censoring of the fold's training patients."""

    def within(rows: np.ndarray) -> list[DrawsFunction]:
        fitted = censoring[model.fold[rows[0]]]
        return [one(rows, seed, fitted) for seed in range(len(model.risk))]

    return mean_over_folds(model.fold, within)


def draws_of(
    model: HeldOut, metric: str, horizons: Sequence[float], censoring: Mapping[str, Censoring]
) -> DrawsFunction:
    """A metric's draws function, by its name in metrics.csv.

    Parameters
    ----------
    model : HeldOut
    metric : str
        "c_index", "c_index_ipcw", "auc_t_<months>", "brier_t_<months>", "ibs".
    horizons : sequence of float
        The last one limits c_index_ipcw and ibs.
    censoring : mapping of fold to Censoring
        Of the fold's training patients.

    Raises
    ------
    NotComputable
        Survival probabilities are asked of a model that gives a bare risk; or an event or horizon lies where
        the censoring is unknown.
    ValueError
        An unknown metric, or a horizon at which the model says nothing.
    """
    t, e = model.time, model.event
    name, _, at = metric.partition("_t_")
    if metric == "c_index":
        return c_index(model)
    if metric == "c_index_ipcw":
        return _censored(
            model,
            censoring,
            lambda rows, seed, g: uno(t[rows], e[rows], model.risk[seed, rows], horizons[-1], g),
        )
    if name == "auc" and at:
        return _censored(
            model,
            censoring,
            lambda rows, seed, g: auc_at(t[rows], e[rows], model.risk[seed, rows], float(at), g),
        )
    if metric != "ibs" and not (name == "brier" and at):
        raise ValueError(f'unknown metric "{metric}"')
    if model.survival is None:
        raise NotComputable("the model gives a risk and no survival probabilities")
    times = model.times[model.times <= horizons[-1]] if metric == "ibs" else np.array([float(at)])
    columns = np.flatnonzero(np.isin(model.times, times))
    if columns.size < times.size:
        raise ValueError(f"{metric}: the model gives survival at {model.times.tolist()} months only")
    return _censored(
        model,
        censoring,
        lambda rows, seed, g: brier(t[rows], e[rows], model.survival[seed][np.ix_(rows, columns)], times, g),
    )


def row(
    name: str,
    cohort: str,
    setting: str,
    model: HeldOut,
    metric: str,
    horizons: Sequence[float],
    censoring: Mapping[str, Censoring],
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, object]:
    """One row of metrics.csv; see `draws_of`. Without a value: NaN for estimate, low and high, the reason in `how`."""
    found: dict[str, object] = {"estimate": np.nan, "low": np.nan, "high": np.nan}
    try:
        interval = patient_interval(
            draws_of(model, metric, horizons, censoring),
            model.patient,
            draws=draws,
            seed=seed,
            strata=strata(model.fold, model.event),
            n=model.time.size,
            events=int(model.event.sum()),
        )
        found = {end: getattr(interval, end) for end in found}
        how = f"{MEAN.format(folds=len(set(model.fold)))}; {interval.how}"
    except NotComputable as reason:
        how = f"not computable: {reason}"
    return _row((name, cohort, setting, metric), model, found, how)


def _row(names: tuple[str, str, str, str], model: HeldOut, found: Mapping, how: str) -> dict[str, object]:
    about = {**dict(zip(("model", "cohort", "setting", "metric"), names, strict=True)), **found}
    counts = {"n": model.time.size, "events": int(model.event.sum()), "seeds": len(model.risk)}
    return {**about, **counts, "how": how}


def group(model: HeldOut, rule: str) -> np.ndarray:
    """ "high" or "low" risk of each patient by a rule of `RULES`; risks are averaged over seeds.

    NotComputable where the rule leaves a group empty.
    """
    risk = model.risk.mean(axis=0)
    return fold_median(risk, model.fold) if rule == "fold_median" else pooled_median(risk)


def groups(models: Mapping[str, HeldOut]) -> pd.DataFrame:
    """High against low risk of every model under every rule: sizes, deaths, chi-square and log-rank p.

    Returns
    -------
    DataFrame
        model, cut (a rule of `RULES`), high, high_events, low, low_events, chi_square, p, why. Without two groups
        the numbers are NaN and `why` says the reason.
    """
    rows = []
    for name, model in models.items():
        for rule in RULES:
            row: dict[str, object] = {"model": name, "cut": rule, "why": ""}
            try:
                own = group(model, rule)
                for side in ("high", "low"):
                    row |= {
                        side: np.count_nonzero(own == side),
                        f"{side}_events": model.event[own == side].sum(),
                    }
                test = logrank(model.time, model.event, own)
                row |= {"chi_square": test.statistic, "p": test.p}
            except NotComputable as reason:
                row["why"] = str(reason)
            rows.append(row)
    columns = ["model", "cut", "high", "high_events", "low", "low_events", "chi_square", "p", "why"]
    return pd.DataFrame(rows, columns=columns)


def evaluation(
    name: str,
    cohort: str,
    setting: str,
    model: HeldOut,
    horizons: Sequence[float],
    censoring: Mapping[str, Censoring],
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Every metric of one model in one setting, such as a cancer type.

    Returns
    -------
    DataFrame
        Columns `lib.statistics.spot_metrics.COLUMNS`; rows c_index, c_index_ipcw, auc_t and brier_t at each horizon,
        ibs, and the log-rank p of high against low risk under both rules.
    """
    names = ["c_index", "c_index_ipcw", *(f"auc_t_{h:g}" for h in horizons)]
    names += [*(f"brier_t_{h:g}" for h in horizons), "ibs"]
    rows = [row(name, cohort, setting, model, metric, horizons, censoring, draws, seed) for metric in names]
    for test in groups({name: model}).itertuples():
        how = f"log-rank p, {RULES[test.cut]}, at or above is high risk"
        how += f"; not computable: {test.why}" if test.why else f"; chi-square {test.chi_square:.2f}"
        found = {"estimate": test.p, "low": np.nan, "high": np.nan}
        rows.append(_row((name, cohort, setting, f"logrank_p_{test.cut}"), model, found, how))
    return pd.DataFrame(rows, columns=COLUMNS)


def by_fold(models: Mapping[str, HeldOut]) -> pd.DataFrame:
    """Harrell's c-index of every fold, mean over seeds: model, fold, n, events, c_index (NaN without a pair)."""
    rows = []
    for name, model in models.items():
        for fold in dict.fromkeys(model.fold.tolist()):
            own = np.flatnonzero(model.fold == fold)
            counts = np.ones((1, own.size), dtype=int)
            values = [harrell_draws(model.time[own], model.event[own], r[own], counts)[0] for r in model.risk]
            about = {"model": name, "fold": fold, "n": own.size, "events": int(model.event[own].sum())}
            rows.append({**about, "c_index": float(np.mean(values))})
    return pd.DataFrame(rows)


def differences(models: Mapping[str, HeldOut], draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Paired differences of the c-index between all pairs of models, on the patients that both held out.

    Returns
    -------
    DataFrame
        model, minus, difference (above 0 the first is better), low, high, n, how.
    """
    rows = []
    for (a, first), (b, second) in combinations(models.items(), 2):
        first, second = first.on(second.patient), second.on(first.patient)
        found: Interval = paired_patient_difference(
            c_index(first),
            c_index(second),
            first.patient,
            draws=draws,
            seed=seed,
            strata=strata(first.fold, first.event),
            n=first.time.size,
            events=int(first.event.sum()),
        )
        ends = {"difference": found.estimate, "low": found.low, "high": found.high}
        rows.append({"model": a, "minus": b, **ends, "n": found.n, "how": found.how})
    return pd.DataFrame(rows, columns=["model", "minus", "difference", "low", "high", "n", "how"])


def written_out(row: pd.Series) -> str:
    """A row's estimate and interval as text."""
    if np.isnan(row["estimate"]):
        return "not computable"
    return f"{row['estimate']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
