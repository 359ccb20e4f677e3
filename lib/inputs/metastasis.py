"""From time to liver metastasis to a yes or no, with what is not known left open.

Metachronous means later than six months after surgery (Ding et al., Nature Communications 2026, doi
10.1038/s41467-026-76382-x, at second hand). What a binary label does with patients who were followed for a short time
is not stated there: here they are neither yes nor no.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

POSITIVE, NEGATIVE, LATER = "metastasis", "free", "metastasis after the horizon"
SYNCHRONOUS, CENSORED = "synchronous", "censored early"
STATUSES = (POSITIVE, NEGATIVE, LATER, SYNCHRONOUS, CENSORED)


def metachronous(
    time_months: Sequence[float],
    event: Sequence[int],
    earliest_months: float = 6.0,
    least_follow_up_months: float = 24.0,
    horizon_months: float | None = None,
) -> pd.DataFrame:
    """Binary label of metachronous liver metastasis.

    ============================ ===== =======================================================================
    status                       label
    ============================ ===== =======================================================================
    metastasis                   1     seen later than `earliest_months`, and by `horizon_months` where given
    free                         0     followed without it for `least_follow_up_months` and to the horizon
    metastasis after the horizon 0     free at the horizon, which is all that is asked
    synchronous                  NaN   seen at or before `earliest_months`: to be left out of every analysis
    censored early               NaN   free when last seen, but not followed long enough: for time-to-event only
    ============================ ===== =======================================================================

    Parameters
    ----------
    time_months : sequence of float, length n
        Months from surgery to liver metastasis or to the last look, 0 or more. Of a Series the index names patients.
    event : sequence of 0 or 1, length n
        1: liver metastasis.
    earliest_months : float
        0 or more.
    least_follow_up_months : float
        0 or more.
    horizon_months : float, optional
        Later than `earliest_months`.

    Returns
    -------
    DataFrame
        label (1.0, 0.0 or NaN), status (one of `STATUSES`); n rows in the given order, with the index of `time_months`.

    Raises
    ------
    ValueError
        A time that is negative, missing or infinite, an event that is neither 0 nor 1, lengths that differ, or
        parameters that contradict each other.
    """
    times = pd.to_numeric(pd.Series(time_months), errors="coerce").astype(float)
    events = pd.to_numeric(pd.Series(event), errors="coerce").astype(float)
    if len(times) != len(events):
        raise ValueError(f"{len(times)} times but {len(events)} events: one each a patient is expected")
    both = isinstance(time_months, pd.Series) and isinstance(event, pd.Series)
    if both and not times.index.equals(events.index):
        raise ValueError("times and events are indexed by different patients: bring them into one table")
    for wrong, values, what in (
        (
            ~np.isfinite(times) | (times < 0),
            times,
            "time_months of {} is {}, a number of 0 or more is needed",
        ),
        (~events.isin((0, 1)).to_numpy(), events, "event of {} is {}, 0 or 1 is needed"),
    ):
        if (wrong := np.asarray(wrong, bool)).any():
            row = int(np.flatnonzero(wrong)[0])
            said = what.format(times.index[row], values.iloc[row])
            raise ValueError(f"{said} ({int(wrong.sum())} such rows): correct or leave out the patient")
    if not (np.isfinite(earliest_months) and earliest_months >= 0):
        raise ValueError(f"earliest_months is {earliest_months}, a number of 0 or more is needed")
    if not (np.isfinite(least_follow_up_months) and least_follow_up_months >= 0):
        raise ValueError(
            f"least_follow_up_months is {least_follow_up_months}, a number of 0 or more is needed"
        )
    horizon = np.inf if horizon_months is None else float(horizon_months)
    if not horizon > earliest_months:
        raise ValueError(
            f"horizon_months {horizon_months} is not later than earliest_months {earliest_months}"
        )
    time, seen = times.to_numpy(), events.to_numpy() == 1
    needed = max(least_follow_up_months, horizon if np.isfinite(horizon) else 0.0)
    status = np.select(
        [seen & (time <= earliest_months), seen & (time <= horizon), seen, time >= needed],
        [SYNCHRONOUS, POSITIVE, LATER, NEGATIVE],
        CENSORED,
    )
    label = np.select(
        [status == POSITIVE, (status == NEGATIVE) | (status == LATER)], [1.0, 0.0], default=np.nan
    )
    return pd.DataFrame({"label": label, "status": status.astype(object)}, index=times.index)
