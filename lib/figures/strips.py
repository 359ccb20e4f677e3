"""Scores of each tissue class side by side."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lib.figures import style


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
