"""Predicted against observed probability."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes


def _diagonal(ax: Axes) -> bool:
    """Draw it, unless another model has."""
    first = not any(drawn.get_label() == "_perfect" for drawn in ax.lines)
    if first:
        ax.plot([0, 1], [0, 1], color="0.6", lw=0.9, ls="--", zorder=0, label="_perfect")
        ax.set(aspect="equal")
    return first


def calibration_plot(
    ax: Axes, bins: pd.DataFrame, label: str = "", color: str | None = None, outcome: str = "cancer"
) -> Axes:
    """Observed share of cases against mean predicted probability; the area of a dot is its share of cases.

    Parameters
    ----------
    ax : Axes
        May hold other models' curves already.
    bins : DataFrame
        Of `lib.statistics.calibration.calibration_bins`. Empty bins have no dot.
    label : str
        Model.
    color : str, optional
    outcome : str
        What is predicted, for the axes.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        Every bin is empty.
    """
    filled = bins[bins["n"] > 0]
    if filled.empty:
        raise ValueError("every bin is empty, so there is no calibration to draw")
    if _diagonal(ax):
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        ax.set(xlabel=f"predicted probability of {outcome}", ylabel=f"observed share of {outcome}")
    (line,) = ax.plot(filled["predicted"], filled["observed"], color=color, label=label or None)
    area = 12 + 250 * filled["n"] / filled["n"].sum()
    ax.scatter(filled["predicted"], filled["observed"], s=area, color=line.get_color(), lw=0, alpha=0.8)
    if label:
        ax.legend(loc="upper left")
    return ax


def calibration_at_horizon(
    ax: Axes,
    groups: pd.DataFrame,
    horizon: float,
    label: str = "",
    color: str | None = None,
    outcome: str = "death",
    unit: str = "months",
) -> Axes:
    """Share with the event by a horizon (Kaplan-Meier, with its band) against the mean prediction of a group.

    Both axes start at 0, share a scale and end above the highest band. A group whose follow-up ends before
    the horizon has no dot, and a note counts those groups.

    Parameters
    ----------
    ax : Axes
        May hold other models' dots already.
    groups : DataFrame
        Of `lib.statistics.calibration_at_horizon`: predicted, observed, observed_low, observed_high.
    horizon : float
        In `unit`.
    label : str
        Model.
    color : str, optional
    outcome, unit : str
        The event and the unit of time, for the axes.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        A column is missing, or no group has a value.
    """
    needed = ["predicted", "observed", "observed_low", "observed_high"]
    if missing := [column for column in needed if column not in groups]:
        raise ValueError(f"the calibration table lacks {missing}; it has {list(groups.columns)}")
    known = groups.dropna(subset=["observed"])
    if known.empty:
        raise ValueError(f"no group is followed to {horizon:g} {unit}, so there is no calibration to draw")
    if first := _diagonal(ax):
        by = f"{outcome} by {horizon:g} {unit}"
        ax.set(xlabel=f"predicted probability\nof {by}", ylabel=f"observed {by}")
    style = dict(ms=5, lw=1, color=color, label=label or None)
    (line,) = ax.plot(groups["predicted"], groups["observed"], "o-", **style)
    ends = known["observed_low"], known["observed_high"]
    ax.vlines(known["predicted"], *ends, color=line.get_color(), lw=1.2)
    highest = np.nanmax(known[["predicted", "observed", "observed_high"]].to_numpy())
    top = min(max(1.06 * highest, 0.02 if first else ax.get_xlim()[1]), 1.02)
    ax.set(xlim=(0, top), ylim=(0, top))
    if lost := len(groups) - len(known):
        told = f"{label}: " if label else ""
        told += f"{lost} of {len(groups)} groups not followed so long"
        line_up = sum(1 for text in ax.texts if "not followed" in text.get_text())
        place = dict(xycoords="axes fraction", textcoords="offset points", ha="right", size=7)
        ax.annotate(told, (1, 0), xytext=(-2, 4 + 9 * line_up), color=line.get_color(), **place)
    if label:
        ax.legend(loc="upper left")
    return ax
