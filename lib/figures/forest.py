"""Estimates with their intervals one below the other, and scores of each tissue class side by side."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from lib.figures import style


def forest(
    ax: Axes,
    frame: pd.DataFrame,
    reference: float | None = 0.5,
    name: str = "AUC",
    numbers: bool = True,
) -> Axes:
    """Forest of estimates, first row on top, with a line at the value of no effect.

    Parameters
    ----------
    frame : DataFrame
        label, estimate, low, high. Optional: `group` (a model; groups share a label's row, each its colour)
        and `summary` (True draws a diamond, for a mean). An estimate NaN is written "not computable".
    reference : float, optional
        0.5 for AUC, 0 for a difference; None for none.
    name : str
        Of the metric, for the x axis.
    numbers : bool
        Write estimate and interval at the right.

    Raises
    ------
    ValueError
        An interval is upside down.
    """
    if (frame["low"] > frame["high"]).any():
        raise ValueError(f"row {frame.index[frame['low'] > frame['high']][0]}: low lies above high")
    labels = list(dict.fromkeys(frame["label"]))
    groups = list(dict.fromkeys(frame["group"])) if "group" in frame else [None]
    offsets = np.linspace(-0.3, 0.3, len(groups)) if len(groups) > 1 else [0.0]
    if reference is not None:
        ax.axvline(reference, color="0.6", lw=0.9, ls="--", zorder=0)
    for number, group in enumerate(groups):
        colour = style.PALETTE[number % len(style.PALETTE)]
        for _, row in (frame if group is None else frame[frame["group"] == group]).iterrows():
            _draw(ax, row, labels.index(row["label"]) + offsets[number], colour, numbers)
        if group is not None:
            ax.plot([], [], "o-", ms=4.5, lw=1.3, color=colour, label=str(group))
    if groups != [None]:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=min(len(groups), 4))
    style.rows(ax, labels)
    ax.set_xlabel(name)
    return ax


def _draw(ax: Axes, row: pd.Series, y: float, colour: str, numbers: bool) -> None:
    text = "not computable"
    if np.isfinite(row["estimate"]):
        summary = bool(row.get("summary", False))
        ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=2 if summary else 1.3)
        ax.plot(row["estimate"], y, "D" if summary else "o", ms=6 if summary else 4.5, color=colour)
        text = f"{row['estimate']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
    if numbers:
        ax.annotate(text, (1.02, y), xycoords=("axes fraction", "data"), va="center", size=7.5, color=colour)


def scores_by_class(ax: Axes, frame: pd.DataFrame) -> Axes:
    """Box (quartiles, median; whiskers to 1.5 interquartile ranges) and points for each tissue class, by falling median.

    Parameters
    ----------
    frame : DataFrame
        tissue (class a spot was given; "" is drawn as "unlabelled"), score (higher = more cancer-like).
        Optional `label` (1 cancer, 0 other, NaN undetermined) colours a class.

    Raises
    ------
    ValueError
        A score is not finite.
    """
    if not np.isfinite(frame["score"]).all():
        raise ValueError(f"{int((~np.isfinite(frame['score'])).sum())} scores are NaN or infinite")
    frame = frame.assign(tissue=frame["tissue"].replace("", "unlabelled"))
    by_class = frame.groupby("tissue")
    sizes, medians = by_class.size(), by_class["score"].median()
    order = sorted(sizes.index, key=lambda name: (-medians[name], name))
    share = by_class["label"].mean() if "label" in frame else medians * 0
    colours = (
        share.gt(0.5).map({True: style.CANCER, False: style.OTHER}).where(share.notna(), style.UNDETERMINED)
    )
    place = dict(x="score", y="tissue", order=order, orient="h", ax=ax, legend=False)
    with style.same_jitter():
        points = dict(hue="tissue", palette=colours.to_dict(), jitter=0.28, size=2.2, alpha=0.45)
        sns.stripplot(frame, **place, **points)
    box = dict(
        width=0.55, showfliers=False, color="0.15", fill=False, linewidth=1, medianprops={"linewidth": 2}
    )
    sns.boxplot(frame, **place, **box)
    style.rows(ax, [f"{name} (n = {sizes[name]})" for name in order])
    ax.set(xlabel="score", ylabel="")
    return ax
