"""What each subset of the modalities is worth: bars, and below them which modalities each bar has."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation, Transform, blended_transform_factory

from lib.figures import style

ALPHA = 0.75
ROW = 0.23  # inches between the rows of dots


def ablation_bars(
    ax: Axes,
    rows: pd.DataFrame,
    modalities: Sequence[str] | None = None,
    chance: float = 0.5,
    name: str = "AUC",
) -> Axes:
    """Bars that rise from chance, with intervals, over a matrix of dots.

    Subsets stand in the order of their size, then of their modalities. A bar below chance hangs down.

    Parameters
    ----------
    ax : Axes
        About 1 inch of width a subset, less with many; the matrix hangs below it.
    rows : DataFrame
        One row a subset: setting (modalities joined by "+", "clinical+ct"), estimate, low, high. Optional: `group` (a
        model or a cohort), at most four; groups of a subset stand side by side. An estimate NaN is written as such.
    modalities : sequence of str, optional
        Order of the matrix, from top to bottom; else that of first mention. One to four.
    chance : float
        Value of a model that knows nothing, where the bars begin.
    name : str
        Of the metric.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        A column is missing, a setting is twice in a group or names an unknown modality, an interval is upside down or
        does not hold its estimate, or there are too many groups or modalities.
    """
    groups = list(dict.fromkeys(rows["group"])) if "group" in rows else [None]
    order, subsets = _checked(rows, groups, modalities)
    width = 0.78 / len(groups)
    values = rows[["estimate", "low", "high"]].to_numpy(float)
    bottom, top = min(np.nanmin(values, initial=chance), chance), np.nanmax(values, initial=chance)
    ax.axhline(chance, color="0.35", lw=1.0, ls="--", zorder=3)
    for number, group in enumerate(groups):
        own = rows if group is None else rows[rows["group"] == group]
        colour = style.PALETTE[number]
        shift = (number - (len(groups) - 1) / 2) * width
        for row in own.itertuples():
            x = subsets.index(frozenset(row.setting.split("+"))) + shift
            _bar(ax, x, row, 0.9 * width, colour, chance, many=len(groups) * len(subsets) > 8)
    if groups != [None]:
        keys = [Patch(color=style.PALETTE[n], alpha=ALPHA, label=str(each)) for n, each in enumerate(groups)]
        ax.legend(handles=keys, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(groups))
    room = 0.16 if len(groups) * len(subsets) > 8 else 0.07
    span = max(top - bottom, 0.2)
    ax.set(
        xlim=(-0.6, len(subsets) - 0.4), ylim=(bottom - 0.06 * span, bottom + (1 + room) * span), ylabel=name
    )
    ax.text(1.005, chance, "chance", transform=ax.get_yaxis_transform(), va="center", size=7.5, color="0.35")
    ax.tick_params(axis="x", bottom=False, labelbottom=False)
    ax.spines["bottom"].set_visible(False)
    _matrix(ax, order, subsets)
    return ax


def _checked(
    rows: pd.DataFrame, groups: list, modalities: Sequence[str] | None
) -> tuple[list[str], list[frozenset[str]]]:
    """Modalities, and subsets in the order in which they are drawn."""
    if missing := [column for column in ("setting", "estimate", "low", "high") if column not in rows]:
        raise ValueError(f"the ablation's table lacks {missing}; it has {list(rows.columns)}")
    if rows.empty:
        raise ValueError("the ablation's table is empty")
    mentioned = list(dict.fromkeys(word for setting in rows["setting"] for word in setting.split("+")))
    order = list(modalities or mentioned)
    if unknown := [word for word in mentioned if word not in order]:
        raise ValueError(f"the ablation names {unknown}; its modalities are {order}")
    if len(order) > 4 or len(groups) > 4:
        raise ValueError(f"{len(order)} modalities and {len(groups)} groups; at most 4 of each can be drawn")
    sets = rows["setting"].map(lambda setting: frozenset(setting.split("+")))
    twice = pd.DataFrame({"set": sets, "group": rows.get("group", "")}).duplicated()
    if twice.any():
        raise ValueError(f'setting "{rows["setting"][twice].iloc[0]}" is twice in the ablation')
    wrong = (rows["low"] > rows["estimate"]) | (rows["estimate"] > rows["high"])
    if wrong.any():
        raise ValueError(f'the interval of "{rows["setting"][wrong].iloc[0]}" does not hold its estimate')
    places = {each: (len(each), sorted(order.index(word) for word in each)) for each in set(sets)}
    return order, sorted(places, key=places.get)


def _bar(ax: Axes, x: float, row, width: float, colour: str, chance: float, many: bool) -> None:
    turned = {"rotation": 90} if many else {}
    if not np.isfinite(row.estimate):
        ax.annotate(
            "not computable",
            (x, chance),
            xytext=(0, 4),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="bottom",
            size=7.5,
            color="0.35",
        )
        return
    ax.bar(x, row.estimate - chance, width, chance, color=colour, alpha=ALPHA, zorder=1)
    if np.isfinite([row.low, row.high]).all():
        ax.plot([x, x], [row.low, row.high], color="0.1", lw=1.2, zorder=2)
    highest = max(np.nanmax([row.estimate, row.high]), chance)
    ax.annotate(
        f"{row.estimate:.2f}",
        (x, highest),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        va="bottom",
        size=7.5,
        **turned,
    )


def _matrix(ax: Axes, order: list[str], subsets: list[frozenset[str]]) -> None:
    """Filled where a subset has the modality, a line through what it joins."""
    # inches below the axes: dots keep their distance however high the bars are
    inches = ax.figure.dpi_scale_trans + ScaledTranslation(0, 0, ax.transAxes)
    heights = [-ROW * (row + 0.8) for row in range(len(order))]

    def draw(x: Sequence[float], y: Sequence[float], across: Transform, **look) -> None:
        line = Line2D(x, y, transform=blended_transform_factory(across, inches), **look)
        ax.add_artist(line).set_clip_on(False)

    for row, (word, y) in enumerate(zip(order, heights, strict=True)):
        if row % 2 == 0:
            band = {"lw": ROW * 72, "color": "0.955", "solid_capstyle": "butt", "zorder": 0}
            draw([0, 1], [y, y], ax.transAxes, **band)
        lacking = [place for place, subset in enumerate(subsets) if word not in subset]
        if lacking:  # a line without points would claim the figure's corner in the layout
            draw(lacking, [y] * len(lacking), ax.transData, ls="none", marker="o", ms=7, color="0.85")
        ax.annotate(
            word,
            (0, 0),
            xycoords="axes fraction",
            xytext=(-6, y * 72),
            textcoords="offset points",
            ha="right",
            va="center",
        )
    for place, subset in enumerate(subsets):
        held = [y for word, y in zip(order, heights, strict=True) if word in subset]
        name = "_" + "+".join(word for word in order if word in subset)
        look = {"marker": "o", "ms": 7, "lw": 2, "color": "0.15", "zorder": 4, "label": name}
        draw([place] * len(held), held, ax.transData, **look)
