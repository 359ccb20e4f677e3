"""Survival: Kaplan-Meier curves with the numbers at risk below them."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from lib.figures import style
from lib.names import label
from lib.statistics.classification import NotComputable
from lib.statistics.survival import checked_outcomes, hazard_ratio, logrank
from lib.statistics.survival import kaplan_meier as estimate

# risk groups keep their colours in every panel; False and True are below and from the cut on
RISK = {"low": style.OTHER, "high": style.CANCER, False: style.OTHER, True: style.CANCER}
FEWEST = 10  # at risk: with fewer, one patient moves the curve by a tenth and more
_SMALL = 8  # points, of the table
_LINE = 10.5  # points, from row to row of the table
_STEPS = (1, 2, 3, 6, 12, 24, 36, 48, 60, 72, 96, 120, 240)  # months


def kaplan_meier(
    ax: Axes,
    time: ArrayLike,
    event: ArrayLike,
    group: ArrayLike | None = None,
    labels: Mapping | None = None,
    band: str = "pointwise",
    trained: bool = False,
    title: str = "",
    until: float | None = None,
    tail: bool = False,
) -> Axes:
    """Kaplan-Meier curves of one cohort or of its groups, on axes of their own, with 95 % log-log bands.

    A curve ends where fewer than `FEWEST` of its patients are at risk (one of a group that never had so many is drawn
    whole). Censored patients are ticks on it. The numbers at risk, everybody whose time is not before the tick, hang below
    the label of the x axis, the key stands above the axes, with a log-rank test and the hazard ratio of high against low
    risk; both belong to the axes, so a constrained or tight layout makes room for them. More than three groups have the key
    at the right: give such a panel 3 inches or more. Test and ratio are of the whole follow-up.

    Parameters
    ----------
    time : array (n,)
        Follow-up in months, 0 or longer.
    event : array (n,)
        1 the event happened, 0 censored.
    group : array (n,), optional
        Name of each patient's group. "low" and "high" (or False and True) take the colours of the risk
        groups. Without it all patients are one cohort.
    labels : mapping of group to str, optional
        Names to print.
    band : "pointwise" or "equal-precision"
        Whether the band covers each time by itself or the whole curve at once.
    trained : bool
        The groups come from held-out risks of models that share training patients (`lib.statistics.survival.logrank`).
    title : str
        Of the panel; a title set by `ax.set_title` would lie on the key.
    until : float, optional
        Months at which the axis ends, for panels that share it; else at the end of the longest curve (`end_of`).
    tail : bool
        Draw what lies beyond the last `FEWEST` at risk as well, as a thin line.

    Raises
    ------
    ValueError
        Outcomes unusable, or `group` of another length or with a missing name.
    NotComputable
        No patient.
    """
    time, event = checked_outcomes(time, event)
    alone = group is None
    group, names = _groups(group, time.size)
    colours = {name: style.PALETTE[number % len(style.PALETTE)] for number, name in enumerate(names)}
    if set(names) <= set(RISK):
        colours = {name: RISK[name] for name in names}
    titles = {name: str((labels or {}).get(name, name)) for name in names}
    for name in names:
        part = group == name
        died, size = event[part].sum(), part.sum()
        key = f"{size} patients, {died} events" if alone else f"{titles[name]}: {died} events in {size}"
        draw_curve(ax, estimate(time[part], event[part], band=band), colours[name], key, tail)
    head = [label(title), "" if alone else _tested(time, event, group, names, trained)]
    place = dict(loc="lower left", bbox_to_anchor=(0, 1.01))
    if len(names) > 3:
        ax.set_title(head.pop(0))
        place = dict(loc="upper left", bbox_to_anchor=(1, 1))
    look = dict(labelspacing=0.3, borderaxespad=0, borderpad=0.1, title_fontsize=8.5, handlelength=1.3)
    ax.legend(**place, **look, title="\n".join(filter(None, head)), alignment="left")
    until = until or end_of(time, group) or 1.0
    ticks = _ticks(ax, until)
    ax.set(xlim=(0, 1.01 * until), ylim=(0, 1.03), xticks=ticks, yticks=np.linspace(0, 1, 6))
    ax.set(xlabel="time (months)", ylabel="survival probability")
    rows = [(time[group == name, None] >= ticks).sum(axis=0) for name in names]
    _table(ax, ticks, rows, [titles[name] for name in names], [colours[name] for name in names])
    return ax


def end_of(time: ArrayLike, group: ArrayLike) -> float:
    """Months at which the longest curve of the groups ends: the last time at which one has `FEWEST` at risk.

    Of a group that never had so many, its longest follow-up. `time`, `group`: arrays (n,), n > 0.
    """
    time, group = np.asarray(time, dtype=float), np.asarray(group, dtype=object)
    last = [np.sort(time[group == name])[-FEWEST:] for name in set(group)]
    return max(float(times[0] if times.size == FEWEST else times[-1]) for times in last)


def _groups(group: ArrayLike | None, size: int) -> tuple[np.ndarray, list]:
    if group is None:
        return np.full(size, "", dtype=object), [""]
    group = np.asarray(group, dtype=object)
    if len(group) != size or pd.isna(group).any():
        raise ValueError(
            f"{len(group)} groups of {size} patients, {pd.isna(group).sum()} missing: leave out who has none, and count them, before"
        )
    names = set(group)
    return group, sorted(names, key=list(RISK).index if names <= set(RISK) else None)


def draw_curve(ax: Axes, table: pd.DataFrame, colour: str, key: str, tail: bool = False) -> None:
    """Draw one curve with its band, and a tick where patients are censored, to the last row with `FEWEST` at risk.

    `table`: time, at_risk, survival, low, high, and censored where it is known, of `lib.statistics.survival.kaplan_meier`; `tail`
    draws the rest as a thin line.
    """
    many = table["at_risk"] >= FEWEST
    if tail:
        few = table[~many | ~many.shift(-1, fill_value=True)]
        ax.step(few["time"], few["survival"], where="post", color=colour, lw=0.7, label="_fewer")
    table = table[many] if many.any() else table
    ax.step(table["time"], table["survival"], where="post", color=colour, label=key)
    look = dict(step="post", color=colour, alpha=0.17, lw=0, zorder=1)
    ax.fill_between(table["time"], table["low"], table["high"], **look)
    if "censored" in table:
        ticks = table[table["censored"] > 0]
        ax.plot(ticks["time"], ticks["survival"], "|", color=colour, ms=4.5, mew=0.7, label="_censored")


def _tested(time: np.ndarray, event: np.ndarray, group: np.ndarray, names: list, trained: bool) -> str:
    try:
        p = logrank(time, event, group, trained=trained).p
        words = "log-rank p < 0.001" if p < 0.001 else f"log-rank p = {p:.2g}"
    except NotComputable:
        return "log-rank not computable"
    if names not in (["low", "high"], [False, True]):
        return words
    try:
        ratio = hazard_ratio(time, event, group == names[1], trained=trained)
        return f"{words}\nhazard ratio {ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})"
    except NotComputable:
        return f"{words}\nhazard ratio not computable"


def _ticks(ax: Axes, until: float) -> np.ndarray:
    """Months from 0 to `until` at round steps, as many as have room for a number each."""
    wide = ax.get_window_extent().width / ax.figure.dpi * 72
    gaps = np.clip(wide / 29, 2, 7)
    powers = [factor * 10.0**power for power in range(-4, 7) for factor in (1, 2, 5)]
    step = next(step for step in (*_STEPS, *powers) if step * gaps >= until * 0.999)
    return np.arange(0, until * 1.001, step)


def _table(ax: Axes, ticks: np.ndarray, rows: list, titles: list[str], colours: list[str]) -> None:
    """One row of numbers for each title below the axes, under "number at risk" where there are several."""

    def write(text: str, x: float, along: str, shift: float, line: int, ha: str, color: str) -> None:
        # heights count from the lower edge of the axis' label, wherever tick labels and fonts have put it
        place = dict(xycoords=(along, ax.xaxis.label), textcoords="offset points", va="top", size=_SMALL)
        ax.annotate(text, (x, 0), xytext=(shift, -4 - _LINE * line), ha=ha, color=color, **place)

    margin = 0.32 * _SMALL * max(len(str(row[0])) for row in rows)
    if headed := titles != [""]:
        write("number at risk", 0, "axes fraction", -margin, 0, "left", "0.35")
    # a long name would take its room from the curves; its colour says it as well
    names = titles if max(map(len, titles)) <= 11 else ["▬"] * len(titles)
    for line, (row, name, colour) in enumerate(zip(rows, names, colours, strict=True), start=headed):
        name, colour = (name, colour) if headed else ("at risk", "0.35")
        write(name, 0, "axes fraction", -margin - 5, line, "right", colour)
        for tick, count in zip(ticks, row, strict=True):
            write(str(count), tick, "data", 0, line, "center", "black")
