"""Estimates with their intervals, one below the other.

Scores of each tissue class side by side.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
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
    ax : Axes
    frame : DataFrame
        label, estimate, low, high. Optional: `group` (a model; groups share a label's row, each its colour)
        and `summary` (True draws a diamond, for a mean). An estimate NaN is written "not computable".
    reference : float, optional
        0.5 for AUC, 0 for a difference; None for none.
    name : str
        Of the metric, for the x axis.
    numbers : bool
        Write estimate and interval at the right.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        A column is missing, or an interval is upside down.
    """
    if missing := [column for column in ("label", "estimate", "low", "high") if column not in frame]:
        raise ValueError(f"the forest's table lacks {missing}")
    if (frame["low"] > frame["high"]).any():
        raise ValueError(f"row {frame.index[frame['low'] > frame['high']][0]}: low lies above high")
    labels = list(dict.fromkeys(frame["label"]))
    groups = list(dict.fromkeys(frame["group"])) if "group" in frame else [None]
    offsets = np.linspace(-0.3, 0.3, len(groups)) if len(groups) > 1 else [0.0]
    if reference is not None:
        ax.axvline(reference, color="0.6", lw=0.9, ls="--", zorder=0)
    for number, group in enumerate(groups):
        rows = frame if group is None else frame[frame["group"] == group]
        colour = style.PALETTE[number % len(style.PALETTE)]
        for _, row in rows.iterrows():
            _draw(ax, row, labels.index(row["label"]) + offsets[number], colour, numbers)
        if group is not None:
            ax.plot([], [], "o-", ms=4.5, lw=1.3, color=colour, label=str(group))
    if groups != [None]:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=min(len(groups), 4))
    ax.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.4, -0.6), xlabel=name)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
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


def scores_by_class(ax: Axes, frame: pd.DataFrame, order: Sequence[str] | None = None) -> Axes:
    """Box (quartiles, median; whiskers to 1.5 interquartile ranges) and points for each tissue class.

    Parameters
    ----------
    ax : Axes
    frame : DataFrame
        tissue (class a spot was given; "" is drawn as "unlabelled"), score (higher = more cancer-like).
        Optional `label` (1 cancer, 0 other, NaN undetermined) colours a class.
    order : sequence of str, optional
        Classes from top to bottom; by falling median where not given. Must name every class present.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        A column is missing, a score is not finite, or `order` leaves out a class.
    """
    if missing := [column for column in ("tissue", "score") if column not in frame]:
        raise ValueError(f"the scores' table lacks {missing}")
    if not np.isfinite(frame["score"]).all():
        raise ValueError(f"{int((~np.isfinite(frame['score'])).sum())} scores are NaN or infinite")
    frame = frame.assign(tissue=frame["tissue"].replace("", "unlabelled"))
    groups = {name: part for name, part in frame.groupby("tissue")}
    if order is None:
        order = sorted(groups, key=lambda name: (-groups[name]["score"].median(), name))
    if absent := sorted(set(groups) - set(order)):
        raise ValueError(f"the order leaves out the tissue classes {absent}")
    order = [name for name in order if name in groups]
    random = np.random.default_rng(0)
    for y, name in enumerate(order):
        part = groups[name]
        colour = _colour(part)
        ax.scatter(
            part["score"], y + random.uniform(-0.28, 0.28, len(part)), s=5, color=colour, alpha=0.45, lw=0
        )
        ax.boxplot(
            part["score"],
            positions=[y],
            orientation="horizontal",
            widths=0.55,
            showfliers=False,
            boxprops={"color": "0.15"},
            medianprops={"color": "0.15", "linewidth": 2},
            manage_ticks=False,
        )
    names = [f"{name} (n = {len(groups[name])})" for name in order]
    ax.set(yticks=range(len(order)), yticklabels=names, ylim=(len(order) - 0.4, -0.6), xlabel="score")
    return ax


def _colour(part: pd.DataFrame) -> str:
    if "label" not in part:
        return style.OTHER
    share = part["label"].mean()
    return style.UNDETERMINED if np.isnan(share) else style.CANCER if share > 0.5 else style.OTHER
