"""Attention of a summary token: over named variables, and over frames in time."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from lib.figures import style


def draw_attention(axes: Sequence[Axes], table: pd.DataFrame) -> Sequence[Axes]:
    """Mean attention over folds as bars and a line, each fold as a dot; dashed, equal attention to every token.

    Parameters
    ----------
    axes : sequence of two Axes
        Variables, frames.
    table : DataFrame
        fold, asks ("variable" or "frame"), name, attention (0 to 1), equal.

    Returns
    -------
    axes
    """
    over_variables, over_frames = axes
    rows = table[table["asks"] == "variable"]
    names = list(dict.fromkeys(rows["name"]))
    places = rows["name"].map(names.index)
    mean = rows.groupby("name", sort=False)["attention"].mean()
    over_variables.barh(range(len(names)), mean.loc[names], color=style.PALETTE[0], alpha=0.5)
    over_variables.plot(rows["attention"], places, "o", ms=3.5, color=style.PALETTE[0])
    over_variables.axvline(rows["equal"].mean(), color="0.4", lw=0.9, ls="--")
    over_variables.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    over_variables.invert_yaxis()
    over_variables.set(xlabel="attention of the film's summary")
    rows = table[table["asks"] == "frame"].assign(frame=lambda t: t["name"].astype(int))
    mean = rows.groupby("frame")["attention"].mean()
    over_frames.plot(mean.index, mean, "-", color=style.PALETTE[1])
    over_frames.plot(rows["frame"], rows["attention"], "o", ms=3.5, color=style.PALETTE[1])
    over_frames.axhline(rows["equal"].mean(), color="0.4", lw=0.9, ls="--")
    over_frames.set(
        xlabel="frame of the network's film, from first to last", ylabel="attention of the form's summary"
    )
    if len(mean) <= 16:
        over_frames.set_xticks(mean.index)
    for ax in axes:
        ax.set_xlim(left=0) if ax is over_variables else ax.set_ylim(bottom=0)
    return axes
