"""How good predictions are at a horizon: time-dependent AUC and Brier score, corrected for censoring."""

import numpy as np
from numpy.typing import ArrayLike

from lib.statistics.censoring import Censoring
from lib.statistics.classification import NotComputable
from lib.statistics.survival import checked_outcomes, checked_risk, survival_at


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
