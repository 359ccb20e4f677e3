"""A critical-difference diagram: average ranks of many models, and which of them luck could have put apart."""

from matplotlib.axes import Axes

from lib import names
from lib.figures import style
from lib.statistics.over_cohorts import Ranks, cliques


def critical_difference(ax: Axes, ranks: Ranks, marked: tuple[str, ...] = ()) -> Axes:
    """Average ranks (1, the best, at the left), a model a row, the best on top; bars join models whose ranks lie nearer than
    the critical difference. `marked` models have another colour.
    """
    rows = len(ranks.ranks)
    for row, (name, rank) in enumerate(ranks.ranks.items()):
        colour = style.CANCER if name in marked else style.OTHER
        ax.plot([1, rank], [row, row], color="0.85", lw=0.8, zorder=0)
        ax.plot(rank, row, "o", ms=5, color=colour)
        ax.annotate(
            f"{rank:.1f}", (rank, row), xytext=(6, 0), textcoords="offset points", va="center", size=8
        )
    style.rows(ax, [names.label(name) for name in ranks.ranks.index])
    bars = cliques(ranks)
    right = ranks.ranks.max() + 0.08 * rows
    for number, (first, last) in enumerate(bars):
        ax.plot(
            [right + 0.02 * rows * number] * 2, [first, last], color="0.25", lw=2.5, solid_capstyle="butt"
        )
    ax.plot([1, 1 + ranks.critical], [-0.9, -0.9], color="black", lw=1.2, clip_on=False)
    ax.annotate(
        f"critical difference {ranks.critical:.1f}",
        (1, -0.9),
        xytext=(0, 4),
        textcoords="offset points",
        size=8,
    )
    ax.set(
        xlabel=f"average rank over {ranks.cohorts} cohorts (1 is best)",
        xlim=(0.6, None),
        ylim=(rows - 0.4, -1.6),
    )
    return ax
