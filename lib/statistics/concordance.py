"""How well a risk orders patients by their times to the event: c-indices after Harrell and after Uno.

How good predictions are at a horizon: time-dependent AUC and Brier score, corrected for censoring.

Cox's proportional hazards on a table of clinical columns: the baseline of every survival model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from numpy.typing import ArrayLike
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from lib.statistics.classification import NotComputable
from lib.statistics.survival import Censoring, checked_outcomes, checked_risk, survival_at

BLOCK = 64  # patients with an event whose pairs are held at once


class NoComparablePair(NotComputable):
    """No event was outlived by another patient, so no two patients can be put in order."""


@dataclass(frozen=True)
class _Pairs:
    """Comparable pairs without writing them down: each event against all patients from a position on.

    Patients stand in the order of time, events before the censored of the same time.
    """

    order: np.ndarray  # (n,) patients in that order
    rank: np.ndarray  # (n,) place of each one's risk among all risks, lowest 0
    events: np.ndarray  # (e,) positions of the patients with an event
    start: np.ndarray  # (e,) position of the first patient who outlived each, n if none did
    below: np.ndarray  # (e,) ranks below this one are lower risks
    upto: np.ndarray  # (e,) ranks from `below` to before this one are tied risks


def _pairs(time: ArrayLike, event: ArrayLike, risk: ArrayLike, tied_tol: float) -> _Pairs:
    time, event = checked_outcomes(time, event)
    risk = checked_risk(risk, time.size)
    if not tied_tol >= 0:
        raise ValueError(f"tied_tol is {tied_tol}; 0 or more is needed")
    key = 2 * np.unique(time, return_inverse=True)[1] + ~event
    order = np.argsort(key, kind="stable")
    key = key[order]
    events = np.flatnonzero(key % 2 == 0)
    by_risk = np.argsort(risk, kind="stable")
    rank = np.empty(risk.size, dtype=np.int64)
    rank[by_risk] = np.arange(risk.size)
    own = risk[order][events]
    return _Pairs(
        order=order,
        rank=rank[order],
        events=events,
        start=np.searchsorted(key, key[events], "right"),
        below=np.searchsorted(risk[by_risk], own - tied_tol, "left"),
        upto=np.searchsorted(risk[by_risk], own + tied_tol, "right"),
    )


def _counted(rank: np.ndarray, start: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """How many of rank[start:] are below the limit, for each start and limit: O((n + e) log n).

    Ranks are split bit by bit from the highest, lows before highs, each half in its old order (a wavelet
    matrix): each stretch [start, n) stays a stretch, and where a limit's bit is 1 the lows in it count.

    References
    ----------
    Claude, Navarro and Ordonez, Information Systems 47 (2015), 15, doi:10.1016/j.is.2014.06.002.
    """
    end = np.full_like(start, rank.size)
    found = np.zeros_like(start)
    for bit in reversed(range(int(rank.size).bit_length())):
        high = (rank >> bit & 1).astype(bool)
        lows = np.r_[0, np.cumsum(~high)]
        low_start, low_end = lows[start], lows[end]
        above = (limit >> bit & 1).astype(bool)
        found += np.where(above, low_end - low_start, 0)
        start = np.where(above, lows[-1] + start - low_start, low_start)
        end = np.where(above, lows[-1] + end - low_end, low_end)
        rank = np.r_[rank[~high], rank[high]]
    return found


def _index(pairs: _Pairs, weights: np.ndarray | None = None) -> float:
    """Weight of concordant pairs, ties half, in that of the comparable ones; `weights` are the events'."""
    lower = _counted(pairs.rank, pairs.start, pairs.below) + _counted(pairs.rank, pairs.start, pairs.upto)
    longer = pairs.rank.size - pairs.start
    if weights is not None:
        lower, longer = weights * lower, weights * longer
    if not longer.sum():
        counted = pairs.events.size if weights is None else int((weights > 0).sum())
        raise NoComparablePair(
            f"of {pairs.rank.size} patients {counted} had an event that counts, and nobody outlived one of them: "
            f"no two patients can be put in order"
        )
    return float(lower.sum() / 2 / longer.sum())


def harrell(time: ArrayLike, event: ArrayLike, risk: ArrayLike, tied_tol: float = 1e-8) -> float:
    """Harrell's c-index: chance that, of two comparable patients, the one with the higher risk dies first.

    Two patients are comparable if one had the event and the other outlived it: a longer time, or the same
    time and censored. Two events at one time are not comparable, nor are two censored patients. A pair of
    tied risks counts half. So does `sksurv.metrics.concordance_index_censored`, and lifelines with
    tied_tol = 0.

    Parameters
    ----------
    time : array (n,)
        Follow-up, 0 or longer; only its order matters.
    event : array (n,)
        1 = event, 0 = censored.
    risk : array (n,)
        Higher = earlier event expected; any scale.
    tied_tol : float
        Risks that differ by no more than this are tied.

    Returns
    -------
    float
        0 to 1; 0.5 is chance.

    Raises
    ------
    NoComparablePair
        All are censored, or nobody outlived an event.
    NotComputable
        No patient, or a risk that is NaN or infinite.
    ValueError
        Lengths differ, or unusable times or events.

    References
    ----------
    Harrell et al., JAMA 247 (1982), 2543, doi:10.1001/jama.1982.03320430047030.
    """
    return _index(_pairs(time, event, risk, tied_tol))


def harrell_draws(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    counts: ArrayLike,
    tied_tol: float = 1e-8,
    event_weights: ArrayLike | None = None,
) -> np.ndarray:
    """Harrell's c-index in many resamples at once, each told by how often every patient is in it.

    Equal to `harrell` of the repeated rows. Time grows with draws x events x n, memory with draws x n.

    Parameters
    ----------
    time, event, risk, tied_tol
        As in `harrell`.
    counts : array (draws, n)
        Whole numbers, 0 or more; a bootstrap's row sums up to n.
    event_weights : array (n,), optional
        Weight of the pairs of each patient who had the event, the same in all draws: 1 / G^2 makes it Uno's.

    Returns
    -------
    float array (draws,)
        0 to 1, NaN in a draw without a comparable pair.

    Raises
    ------
    NotComputable, ValueError
        As in `harrell`, except that a draw without a comparable pair does not raise; `counts` of another
        shape, or below 0.
    """
    pairs = _pairs(time, event, risk, tied_tol)
    n = pairs.rank.size
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[1] != n:
        raise ValueError(f"counts have shape {counts.shape}; (draws, {n}) is needed, a column a patient")
    if not (counts >= 0).all():
        raise ValueError("counts must be 0 or more")
    counts = counts[:, pairs.order].astype(float)
    leading = counts[:, pairs.events]
    if event_weights is not None:
        leading = leading * np.asarray(event_weights, dtype=float)[pairs.order][pairs.events]
    since = counts.sum(axis=1, keepdims=True) - np.cumsum(counts, axis=1)  # of those after each position
    concordant, comparable = np.zeros((2, len(counts)))
    for first in range(0, pairs.events.size, BLOCK):
        block = slice(first, first + BLOCK)
        own, start = leading[:, block], pairs.start[block]
        comparable += np.einsum("de,de->d", own, since[:, start - 1])
        rank = pairs.rank[start[0] :]
        lower = (rank < pairs.below[block, None]) + (rank < pairs.upto[block, None]).astype(float)
        lower *= np.arange(start[0], n) >= start[:, None]
        concordant += np.einsum("de,de->d", own, counts[:, start[0] :] @ lower.T)
    return np.divide(concordant / 2, comparable, out=np.full(len(counts), np.nan), where=comparable > 0)


def uno(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    tau: float | None = None,
    censoring: Censoring | None = None,
    tied_tol: float = 1e-8,
) -> float:
    """Uno's c-index: Harrell's with each pair weighted by 1 / G(time of the event)^2.

    Harrell's depends on who happened to be censored; this one does not, if censoring depends on nothing
    the risk knows. Equals `sksurv.metrics.concordance_index_ipcw`.

    Parameters
    ----------
    time, event, risk, tied_tol
        As in `harrell`.
    tau : float, optional
        Only pairs whose event came before tau count, so that late events with large weights do not rule.
    censoring : Censoring, optional
        Fitted on the training fold; on these patients if not given.

    Returns
    -------
    float
        0 to 1; 0.5 is chance.

    Raises
    ------
    NoComparablePair
        All are censored, or nobody outlived an event (before tau).
    NotComputable, ValueError
        As in `harrell`; or an event where G is 0 or unknown, which a smaller tau mends.

    References
    ----------
    Uno et al., Statistics in Medicine 30 (2011), 1105, doi:10.1002/sim.4154, equation 6.
    """
    pairs = _pairs(time, event, risk, tied_tol)
    time, event = checked_outcomes(time, event)
    counted = event if tau is None else event & (time < tau)
    weights = (censoring or Censoring.fit(time, event)).weights(time, counted) ** 2
    return _index(pairs, weights[pairs.order][pairs.events])


def _checked_times(time: np.ndarray, times: ArrayLike) -> np.ndarray:
    times = np.asarray(times, dtype=float)
    if times.ndim != 1 or not times.size or not np.isfinite(times).all():
        raise ValueError(f"times must be a vector of finite horizons, got {times!r}")
    if late := times[times >= time.max()].tolist():
        raise NotComputable(
            f"nobody was followed beyond the horizons {late}: choose horizons before {time.max():g}"
        )
    return times


def _checked_survival(survival: ArrayLike, shape: tuple[int, int]) -> np.ndarray:
    survival = np.asarray(survival, dtype=float)
    if survival.shape != shape:
        raise ValueError(f"survival has shape {survival.shape}; {shape} is needed: patients, times")
    if bad := int((~((survival >= 0) & (survival <= 1))).sum()):
        raise NotComputable(f"{bad} of {survival.size} survival probabilities are NaN or outside 0 to 1")
    return survival


def auc_at(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    times: ArrayLike,
    censoring: Censoring | None = None,
    tied_tol: float = 1e-8,
) -> np.ndarray:
    """Cumulative/dynamic AUC: chance that who had the event by t had a higher risk than who was free of it at t.

    Cases (event at or before t) are weighted by 1 / G(time of the event), controls (followed beyond t)
    alike; who was censored by t is neither. Ties in risk count half. Equals
    `sksurv.metrics.cumulative_dynamic_auc`.

    Parameters
    ----------
    time : array (n,)
        Follow-up, 0 or longer.
    event : array (n,)
        1 = event, 0 = censored.
    risk : array (n,)
        Higher = earlier event expected; any scale.
    times : array (k,)
        Horizons, in the unit of `time`.
    censoring : Censoring, optional
        Fitted on the training fold; on these patients if not given.
    tied_tol : float
        Risks that differ by no more than this are tied.

    Returns
    -------
    float array (k,)
        0 to 1; 0.5 is chance.

    Raises
    ------
    NotComputable
        No case or no control at a horizon, a risk that is NaN or infinite, or a case where G is 0 or unknown.
    ValueError
        Shapes differ, or unusable times or events.

    References
    ----------
    Uno et al., JASA 102 (2007), 527, doi:10.1198/016214507000000149.
    Hung and Chiang, Canadian Journal of Statistics 38 (2010), 8, doi:10.1002/cjs.10046.
    """
    time, event = checked_outcomes(time, event)
    risk = checked_risk(risk, time.size)
    times = _checked_times(time, times)
    censoring = censoring or Censoring.fit(time, event)
    values = np.empty(times.size)
    for place, horizon in enumerate(times):
        case = event & (time <= horizon)
        if not case.any():
            raise NotComputable(f"nobody had the event by the horizon {horizon:g}: choose a later one")
        weights = censoring.weights(time[case], event[case])
        controls = np.sort(risk[time > horizon])
        below = np.searchsorted(controls, risk[case] - tied_tol, "left")
        upto = np.searchsorted(controls, risk[case] + tied_tol, "right")
        values[place] = weights @ (below + upto) / 2 / (weights.sum() * controls.size)
    return values


def brier_at(
    time: ArrayLike,
    event: ArrayLike,
    survival: ArrayLike,
    times: ArrayLike,
    censoring: Censoring | None = None,
) -> np.ndarray:
    """Brier score at horizons: mean squared error of the predicted survival, weighted against censoring.

    Who had the event at or before t should have survival 0 and weighs 1 / G(time of the event); who was
    followed beyond t should have 1 and weighs 1 / G(t); who was censored by t weighs 0 and counts in the
    mean's n. Equals `sksurv.metrics.brier_score`. Compare with that of `null_survival`.

    Parameters
    ----------
    time, event, times, censoring
        As in `auc_at`.
    survival : array (n, k)
        Predicted probability of being free of the event beyond each horizon.

    Returns
    -------
    float array (k,)
        0 and more, lower = better; predicting 0.5 for everybody gets about 0.25.

    Raises
    ------
    NotComputable
        Nobody was followed beyond a horizon, a probability is NaN or outside 0 to 1, or G is 0 or unknown
        where it is needed.
    ValueError
        Shapes differ, or unusable times or events.

    References
    ----------
    Graf et al., Statistics in Medicine 18 (1999), 2529,
    doi:10.1002/(SICI)1097-0258(19990915/30)18:17/18<2529::AID-SIM274>3.0.CO;2-5.
    """
    time, event = checked_outcomes(time, event)
    times = _checked_times(time, times)
    survival = _checked_survival(survival, (time.size, times.size))
    censoring = censoring or Censoring.fit(time, event)
    followed = censoring.survival(times)
    if (followed == 0).any():
        raise NotComputable(f"G is 0 at the horizons {times[followed == 0].tolist()}: choose earlier ones")
    dead = event[:, None] & (time[:, None] <= times)
    alive = time[:, None] > times
    weights = censoring.weights(time, event & (time <= times.max()))[:, None]
    return (survival**2 * dead * weights + (1 - survival) ** 2 * alive / followed).mean(axis=0)


def integrated_brier(
    time: ArrayLike,
    event: ArrayLike,
    survival: ArrayLike,
    times: ArrayLike,
    censoring: Censoring | None = None,
) -> float:
    """Mean of the Brier score over the stretch of the horizons (trapezoids), which must increase.

    Parameters and errors as in `brier_at`; ValueError for fewer than two horizons, or such as do not
    increase. Equals `sksurv.metrics.integrated_brier_score`. 0 and more, lower = better.
    """
    scores = brier_at(time, event, survival, times, censoring)
    times = np.asarray(times, dtype=float)
    if times.size < 2 or (np.diff(times) <= 0).any():
        raise ValueError(f"the Brier score is integrated over two or more increasing times, got {times}")
    return float(np.trapezoid(scores, times) / (times[-1] - times[0]))


def null_survival(time: ArrayLike, event: ArrayLike, times: ArrayLike, patients: int) -> np.ndarray:
    """The prediction that knows nobody: the Kaplan-Meier curve for all, as a scale for Brier scores.

    Parameters
    ----------
    time, event : arrays (m,)
        Outcomes of the training fold.
    times : array (k,)
        Horizons.
    patients : int
        How many to predict for.

    Returns
    -------
    float array (patients, k)
        Equal rows. Errors: `lib.statistics.survival.survival_at`.
    """
    return np.tile(survival_at(time, event, times), (patients, 1))


class CoxBaseline:
    """Cox regression with everything fitted on the training patients: medians, scales, categories, coefficients.

    Numbers are standardised, and missing ones take the training median: that a number is missing says more of
    the hospital than of the patient, so it is no column of its own. Categories seen in fewer than `rare` training
    patients, or never, share one column.

    Parameters
    ----------
    numbers, categories : sequence of str
        Columns of the table.
    ridge : float
        Weight of the L2 penalty on standardised coefficients, against the mean log likelihood.
    rare : int

    References
    ----------
    Cox, J. R. Stat. Soc. B 34:187 (1972); Efron's ties and Breslow's baseline, by lifelines.
    """

    def __init__(
        self, numbers: Sequence[str], categories: Sequence[str] = (), ridge: float = 0.01, rare: int = 10
    ):
        if not numbers and not categories:
            raise ValueError("a Cox baseline needs at least one column")
        self.numbers, self.categories = list(numbers), list(categories)
        self.ridge, self.rare = ridge, rare

    def fit(self, table: pd.DataFrame, time: Sequence[float], event: Sequence[int]) -> "CoxBaseline":
        """Fit on the training patients.

        Raises
        ------
        ValueError
            A column is missing, or is the same for every training patient, or no event happened.
        """
        time, event = checked_outcomes(time, event)
        if missing := [name for name in [*self.numbers, *self.categories] if name not in table]:
            raise ValueError(f"the clinical table lacks {missing}; it has {list(table.columns)}")
        if not event.any():
            raise ValueError(f"none of the {event.size} training patients had an event: nothing to fit")
        constant = [n for n in [*self.numbers, *self.categories] if table[n].nunique(dropna=True) < 2]
        if constant:
            raise ValueError(f"column {constant[0]} is the same for every training patient: leave it out")
        self._columns = ColumnTransformer(
            [
                (
                    "n",
                    make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
                    self.numbers,
                ),
                (
                    "c",
                    make_pipeline(
                        SimpleImputer(strategy="constant", fill_value="unknown"),
                        OneHotEncoder(
                            drop="first",
                            min_frequency=self.rare,
                            handle_unknown="infrequent_if_exist",
                            sparse_output=False,
                        ),
                    ),
                    self.categories,
                ),
            ],
            verbose_feature_names_out=False,
        ).set_output(transform="pandas")
        encoded = self._columns.fit_transform(table)
        encoded = encoded.loc[:, encoded.std() > 0]  # a column of one value has no coefficient
        self.used = list(encoded.columns)
        self.model = CoxPHFitter(penalizer=self.ridge)
        self.model.fit(encoded.assign(_time=time, _event=event), "_time", "_event")
        return self

    def risk(self, table: pd.DataFrame) -> np.ndarray:
        """Log partial hazard, (n,): higher = earlier event; 0 is the average training patient."""
        return self.model.predict_log_partial_hazard(self._encoded(table)).to_numpy()

    def survival(self, table: pd.DataFrame, times: Sequence[float]) -> np.ndarray:
        """Probability of being free of the event at each time, (n, times), 0 to 1."""
        return self.model.predict_survival_function(self._encoded(table), times=list(times)).to_numpy().T

    def hazard_ratios(self) -> pd.DataFrame:
        """Column, hazard ratio per standard deviation (or against the first category), 95 % interval, p.

        With a ridge the intervals are those of a shrunken fit: for orientation, not for testing.
        """
        summary = self.model.summary
        names = {"exp(coef)": "hazard_ratio", "exp(coef) lower 95%": "low", "exp(coef) upper 95%": "high"}
        table = summary.rename(columns=names)[[*names.values(), "p"]]
        return table.rename_axis("column").reset_index()

    def _encoded(self, table: pd.DataFrame) -> pd.DataFrame:
        return self._columns.transform(table)[self.used]
