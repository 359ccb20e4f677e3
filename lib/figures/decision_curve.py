"""What treating those a model calls is worth, over thresholds."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes


def decision_curve(ax: Axes, table: pd.DataFrame, label: str = "", color: str | None = None) -> Axes:
    """Net benefit of a model against treating all and treating none.

    The x axis ends where no patient is called any more, the y axis a little below 0, under which no model
    is worth using; treating all falls further.

    Parameters
    ----------
    ax : Axes
        May hold other models' curves of the same patients already.
    table : DataFrame
        Of `lib.statistics.net_benefit`: threshold (0 to 1), called (patients), net_benefit (true positives
        per patient, less the false ones at the threshold's odds), treat_all. Where net_benefit is NaN the line has a gap.
    label : str
        Model.
    color : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        A column is missing, nothing has a value, or treating all is worth something else than in the
        curves already drawn: those are other patients.
    """
    if missing := [
        column for column in ("threshold", "called", "net_benefit", "treat_all") if column not in table
    ]:
        raise ValueError(f"the decision curve's table lacks {missing}; it has {list(table.columns)}")
    if table["net_benefit"].isna().all():
        raise ValueError("no threshold has a net benefit, so there is no decision curve to draw")
    table = table.sort_values("threshold")
    everybody = table["threshold"].to_numpy(float), table["treat_all"].to_numpy(float)
    framed = [line for line in ax.lines if line.get_label() == "treat all"]
    if framed:
        drawn = framed[0].get_xdata(), framed[0].get_ydata()
        same = np.isin(everybody[0], drawn[0])
        if not np.allclose(np.interp(everybody[0][same], *drawn), everybody[1][same], equal_nan=True):
            raise ValueError("treating all is worth something else here: these are not the same patients")
    else:
        ax.plot(*everybody, color="0.55", lw=1.1, label="treat all")
        ax.axhline(0, color="0.15", lw=1.1, ls="--", zorder=1, label="treat none")
        ax.set(xlabel="threshold probability", ylabel="net benefit (per patient)")
    # from the first threshold that nobody reaches the curve is 0 and tells nothing more
    reached = np.flatnonzero(table["called"] > 0)
    shown = table.iloc[: reached[-1] + 2] if reached.size else table
    ax.plot(shown["threshold"], shown["net_benefit"], color=color, label=label or "model")
    models = [line for line in ax.lines if line.get_label() not in ("treat all", "treat none")]
    ends = np.concatenate([line.get_xdata() for line in models])
    gains = np.concatenate([line.get_ydata() for line in models])
    top = max(np.nanmax(gains), everybody[1].max(), 0.01)
    ax.set_xlim(ends.min(), ends.max())
    ax.set_ylim(-np.clip(-1.1 * np.nanmin(gains), 0.08 * top, 0.3 * top), 1.08 * top)
    ax.legend(loc="upper right")
    return ax
