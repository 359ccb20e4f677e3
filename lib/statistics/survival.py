"""Times to an event, some of them censored."""

import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from numpy.typing import ArrayLike

from lib.statistics.classification import NotComputable


def checked_outcomes(time: ArrayLike, event: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Times and events as vectors of one length, refused with a reason where unusable.

    Parameters
    ----------
    time : array (n,)
        Follow-up, 0 or longer, in one unit.
    event : array (n,)
        1 where the event happened at `time`, 0 where the patient was censored then. TCGA's `censorship`
        columns say the opposite.

    Returns
    -------
    time : float64 array (n,)
    event : bool array (n,)

    Raises
    ------
    ValueError
        Lengths differ, an event is neither 0 nor 1, or a time is negative, NaN or infinite.
    NotComputable
        No patient.
    """
    time = np.asarray(time, dtype=float)
    event = np.asarray(event)
    if time.ndim != 1 or time.shape != event.shape:
        raise ValueError(
            f"time has shape {time.shape}, event {event.shape}; two vectors of one length are needed"
        )
    if time.size == 0:
        raise NotComputable("there is no patient")
    if bad := int((~np.isfinite(time) | (time < 0)).sum()):
        raise ValueError(
            f"{bad} of {time.size} times are negative, NaN or infinite: leave those patients out, and count them, before"
        )
    if not np.isin(event, (0, 1)).all():
        raise ValueError(f"event must be 0 (censored) or 1 (event), found {np.unique(event)[:5].tolist()}")
    return time, event.astype(bool)


def checked_risk(risk: ArrayLike, patients: int) -> np.ndarray:
    """Risks (n,), higher = earlier event expected, as float64; refused where unusable.

    Raises
    ------
    ValueError
        Not one risk a patient.
    NotComputable
        A risk is NaN or infinite.
    """
    risk = np.asarray(risk, dtype=float)
    if risk.shape != (patients,):
        raise ValueError(f"risk has shape {risk.shape}; one risk for each of {patients} patients is needed")
    if bad := int((~np.isfinite(risk)).sum()):
        raise NotComputable(f"{bad} of {risk.size} risks are NaN or infinite")
    return risk


def kaplan_meier(time: ArrayLike, event: ArrayLike, level: float = 0.95) -> pd.DataFrame:
    """Kaplan-Meier curve with its band, and who was at risk.

    Parameters
    ----------
    time : array (n,)
        Follow-up, 0 or longer.
    event : array (n,)
        1 = event, 0 = censored. Who is censored at the time of an event was at risk of it.
    level : float
        Of the pointwise band (log-log, "exponential Greenwood"), in (0, 1).

    Returns
    -------
    DataFrame
        A row for time 0 and each distinct time, increasing: `time`; `at_risk` just before it, `events` and
        `censored` at it (whole numbers); `survival` from it on; `low`, `high`: its band, both 1 before the
        first event and NaN once survival is 0, where Greenwood's formula has no value.

    Raises
    ------
    ValueError
        Unusable times, events or level.
    NotComputable
        No patient.

    References
    ----------
    Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data (2002), section 1.4.
    """
    time, event = checked_outcomes(time, event)
    if not 0 < level < 1:
        raise ValueError(f"the band's level is {level}; it lies between 0 and 1")
    with np.errstate():  # lifelines turns numpy's warnings off for good
        fitted = KaplanMeierFitter(alpha=1 - level).fit(time, event)
    table = fitted.event_table
    survival = fitted.survival_function_.iloc[:, 0].to_numpy()
    band = np.where(survival[:, None] > 0, fitted.confidence_interval_.to_numpy(), np.nan)
    counts = {
        name: table[column].to_numpy().astype(int)
        for name, column in (("at_risk", "at_risk"), ("events", "observed"), ("censored", "censored"))
    }
    columns = {"time": table.index.to_numpy(dtype=float), **counts, "survival": survival}
    return pd.DataFrame({**columns, "low": band[:, 0], "high": band[:, 1]})


def at_risk(time: ArrayLike, grid: ArrayLike) -> np.ndarray:
    """Patients still followed just before each time of the grid: times (n,), grid (k,) -> int array (k,)."""
    time = np.sort(np.asarray(time, dtype=float))
    return time.size - np.searchsorted(time, np.asarray(grid, dtype=float), "left")


def _need_known(table: pd.DataFrame, until: float) -> None:
    last = table.iloc[-1]
    if until > last.time and last.survival > 0:
        raise NotComputable(
            f"the longest follow-up is {last.time:g} and survival is {last.survival:.3f} there, so nothing is "
            f"known of it at {until:g}: choose an earlier time"
        )


def survival_at(time: ArrayLike, event: ArrayLike, times: ArrayLike) -> np.ndarray:
    """Kaplan-Meier estimate at given times.

    Parameters
    ----------
    time, event
        As in `kaplan_meier`.
    times : array (k,)
        In the unit of `time`.

    Returns
    -------
    float array (k,)
        0 to 1.

    Raises
    ------
    NotComputable
        A time beyond the longest follow-up, unless survival reached 0 there.
    """
    table = kaplan_meier(time, event)
    times = np.asarray(times, dtype=float)
    _need_known(table, times.max(initial=0))
    return np.r_[1.0, table.survival][np.searchsorted(table.time, times, "right")]


def _median(time: ArrayLike, event: ArrayLike, kind: str) -> float:
    table = kaplan_meier(time, event)
    half = table.survival <= 0.5 + 1e-9  # products of ratios miss 0.5 by their rounding
    if not half.any():
        raise NotComputable(f"{kind} is not reached: the curve ends at {table.survival.iloc[-1]:.3f}")
    return float(table.time[half].iloc[0])


def median_survival(time: ArrayLike, event: ArrayLike) -> float:
    """First time at which Kaplan-Meier survival is 0.5 or less; NotComputable if it never is."""
    return _median(time, event, "the median survival")


def median_follow_up(time: ArrayLike, event: ArrayLike) -> float:
    """Median time patients would have been followed had none had the event: the reverse Kaplan-Meier.

    Being censored is the event, and the event censors. Parameters as in `kaplan_meier`; NotComputable where
    that curve does not fall to 0.5, as when nobody is censored.

    References
    ----------
    Schemper and Smith, Controlled Clinical Trials 17 (1996), 343, doi:10.1016/0197-2456(96)00075-X.
    """
    time, event = checked_outcomes(time, event)
    return _median(time, ~event, "the median follow-up (reverse Kaplan-Meier)")


def rmst(time: ArrayLike, event: ArrayLike, horizon: float) -> tuple[float, float]:
    """Restricted mean survival time: mean time free of the event up to a horizon, the area under the curve.

    Parameters
    ----------
    time, event
        As in `kaplan_meier`.
    horizon : float
        Above 0, in the unit of `time`.

    Returns
    -------
    value, standard_error : float
        In the unit of `time`; the error by Greenwood's formula.

    Raises
    ------
    NotComputable
        A horizon beyond the longest follow-up, unless survival reached 0 there.
    ValueError
        A horizon that is not above 0.

    References
    ----------
    Klein and Moeschberger, Survival Analysis (2003), section 4.5.
    """
    if not 0 < horizon < np.inf:
        raise ValueError(f"the horizon is {horizon}; it lies above 0")
    table = kaplan_meier(time, event)
    _need_known(table, horizon)
    table = table[table.time < horizon]
    areas = table.survival * np.diff(np.r_[table.time, horizon])
    beyond = areas[::-1].cumsum()[::-1]  # from each time on
    some = table.at_risk > table.events  # where none is left, there is no area beyond either
    left = table.at_risk - table.events
    terms = (beyond**2 * table.events / (table.at_risk * left))[some]
    return float(areas.sum()), float(np.sqrt(terms.sum()))
