"""Predicted against observed share of cancer."""

import pandas as pd
from matplotlib.axes import Axes


def calibration_plot(ax: Axes, bins: pd.DataFrame, label: str = "", color: str | None = None) -> Axes:
    """Observed share of cancer against mean predicted probability; the area of a dot is its share of spots.

    Parameters
    ----------
    ax : Axes
        May hold other models' curves already.
    bins : DataFrame
        Of `lib.statistics.calibration.calibration_bins`. Empty bins have no dot.
    label : str
        Model.
    color : str, optional

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
    if not any(drawn.get_label() == "_perfect" for drawn in ax.lines):
        ax.plot([0, 1], [0, 1], color="0.6", lw=0.9, ls="--", zorder=0, label="_perfect")
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        ax.set(xlabel="predicted probability of cancer", ylabel="observed share of cancer")
    (line,) = ax.plot(filled["predicted"], filled["observed"], color=color, label=label or None)
    area = 12 + 250 * filled["n"] / filled["n"].sum()
    ax.scatter(filled["predicted"], filled["observed"], s=area, color=line.get_color(), lw=0, alpha=0.8)
    if label:
        ax.legend(loc="upper left")
    return ax
