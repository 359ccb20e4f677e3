"""Modified Rankin scale at 90 days, from no symptoms (0) to death (6): one bar a group, as stroke trials show it."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

GRADES = range(7)


def shift_plot(ax: Axes, groups: Mapping[str, ArrayLike], unfavourable_from: int = 3) -> Axes:
    """Share of each mRS grade in each group, stacked from 0 on the left to 6 on the right.

    Parameters
    ----------
    ax : Axes
    groups : mapping
        Label -> mRS of the group's patients, whole numbers 0 to 6. Drawn from top to bottom.
    unfavourable_from : int
        First grade that counts as an unfavourable outcome; a thicker line stands before it.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        An empty group, or a grade that is none of 0 to 6.
    """
    colours = mpl.colormaps["viridis_r"](np.linspace(0.08, 0.95, len(GRADES)))
    for row, (label, grades) in enumerate(groups.items()):
        grades = np.asarray(grades, float)
        if not grades.size:
            raise ValueError(f"group {label!r} has no patients to draw")
        if not np.isin(grades, GRADES).all():
            raise ValueError(
                f"group {label!r} has a grade that is none of 0 to 6: {grades[~np.isin(grades, GRADES)][0]}"
            )
        counts = np.bincount(grades.astype(int), minlength=len(GRADES))
        left = 0.0
        for grade, count in enumerate(counts):
            share = count / grades.size
            ax.barh(row, share, left=left, color=colours[grade], edgecolor="white", height=0.72)
            if share >= 0.035:
                dark = grade >= 3
                ax.text(
                    left + share / 2,
                    row,
                    str(count),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if dark else "black",
                )
            if grade == unfavourable_from:
                ax.plot([left, left], [row - 0.42, row + 0.42], color="black", lw=2.2, solid_capstyle="butt")
            left += share
    ax.set_yticks(range(len(groups)), [f"{label}\nn = {np.size(g)}" for label, g in groups.items()])
    ax.set(
        xlim=(0, 1),
        xlabel="share of patients (numbers in the bars: patients)",
        ylim=(len(groups) - 0.5, -0.5),
    )
    ax.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0, decimals=0))
    handles = [mpl.patches.Patch(color=colours[grade], label=str(grade)) for grade in GRADES]
    ax.legend(
        handles=handles,
        title="mRS",
        ncols=7,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        fontsize=8,
        handlelength=1.0,
        columnspacing=0.9,
    )
    ax.spines[["left", "top", "right"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax
