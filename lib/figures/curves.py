"""Curves over a threshold, and over training.

Predicted against observed probability.

What treating those a model calls is worth, over thresholds.

Modified Rankin scale at 90 days, from no symptoms (0) to death (6): one bar a group, as stroke trials show it.
"""

from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_curve, roc_curve

from lib.figures import style
from lib.statistics.classification import auc, average_precision
from lib.statistics.intervals import Interval, ScoredSection, by_patient

_GRID = np.linspace(0, 1, 401)


def _named(label: str, metric: str, value: float, interval: Interval | None) -> str:
    number = f"{metric} {value:.3f}"
    if interval is not None:
        number = f"{metric} {interval.estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})"
    return f"{label}: {number}" if label else number


def _framed(ax: Axes, line: str) -> bool:
    return any(str(drawn.get_label()).startswith(line) for drawn in ax.lines)


def _roc_frame(ax: Axes) -> None:
    if not _framed(ax, "_chance"):
        ax.plot([0, 1], [0, 1], color="0.6", lw=0.9, ls="--", zorder=0, label="_chance")
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        ax.set(xlabel="1 − specificity", ylabel="sensitivity")


def _recall_frame(ax: Axes, share: float) -> None:
    if not _framed(ax, "prevalence"):
        ax.axhline(share, color="0.4", lw=0.9, ls="--", zorder=0, label=f"prevalence {share:.2f}")
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        ax.set(xlabel="sensitivity", ylabel="precision")


def _roc_at(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    false_positive, true_positive, _ = roc_curve(labels, scores, drop_intermediate=False)
    # where the curve is vertical the upper end counts, which interp takes from the last of equal positions
    return np.r_[0.0, np.interp(_GRID[1:], false_positive, true_positive)]


def _precision_at(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    precision, recall, _ = precision_recall_curve(labels, scores)
    precision, recall = precision[:-1][::-1], recall[:-1][::-1]
    # the precision that average precision credits to the step in which this recall is first reached
    return precision[np.minimum(np.searchsorted(recall, _GRID), recall.size - 1)]


def roc(
    ax: Axes,
    labels: ArrayLike,
    scores: ArrayLike,
    interval: Interval | None = None,
    label: str = "",
    color: str | None = None,
) -> Axes:
    """ROC curve of one section, with the chance diagonal, and the AUC in the key.

    Parameters
    ----------
    ax : Axes
        May hold other models' curves already.
    labels : array (n,)
        1 cancer, 0 other.
    scores : array (n,)
        Higher = more cancer-like.
    interval : Interval, optional
        Its estimate and ends go into the key in place of this curve's own area.
    label : str
        Model.
    color : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    NotComputable
        As `classification.auc`.
    """
    value = auc(labels, scores)
    false_positive, true_positive, _ = roc_curve(labels, scores)
    _roc_frame(ax)
    ax.plot(false_positive, true_positive, color=color, label=_named(label, "AUC", value, interval))
    ax.legend(loc="lower right")
    return ax


def precision_recall(
    ax: Axes,
    labels: ArrayLike,
    scores: ArrayLike,
    interval: Interval | None = None,
    label: str = "",
    color: str | None = None,
) -> Axes:
    """Precision against sensitivity in steps; the dashed line is the prevalence, which chance reaches.

    Parameters, result and errors as `roc`.
    """
    value = average_precision(labels, scores)
    precision, recall, _ = precision_recall_curve(labels, scores)
    _recall_frame(ax, float(np.mean(np.asarray(labels, dtype=float))))
    name = _named(label, "AP", value, interval)
    # sklearn ends the curve at (0, 1), which was measured nowhere: the last step runs on to recall 0 instead
    precision[-1] = precision[-2]
    ax.step(recall, precision, where="post", color=color, label=name)
    ax.legend(loc="best")
    return ax


def _mean_over_patients(
    ax: Axes,
    sections: Sequence[ScoredSection],
    curve: Callable[[np.ndarray, np.ndarray], np.ndarray],
    label: str,
    color: str | None,
    each: bool,
) -> None:
    patients = []
    for own in by_patient(sections).values():
        by_section = [np.mean([curve(part.labels, row) for row in part.scores], axis=0) for part in own]
        patients.append(np.mean(by_section, axis=0))
    (line,) = ax.plot(_GRID, np.mean(patients, axis=0), color=color, lw=2, label=label)
    if each:
        ax.plot(_GRID, np.transpose(patients), color=line.get_color(), lw=0.7, alpha=0.4, zorder=1)


def mean_roc(
    ax: Axes,
    sections: Sequence[ScoredSection],
    interval: Interval,
    label: str = "",
    color: str | None = None,
    each: bool = True,
) -> Axes:
    """Mean over patients of the sensitivity at each specificity, with each patient's curve behind it.

    Scores are compared within a section only, so sections are never pooled; the area under the mean curve
    is the mean AUC.

    Parameters
    ----------
    ax : Axes
    sections : sequence of ScoredSection
        Scores, not calls. Every section needs both classes.
    interval : Interval
        Of the metric "auc", for the key.
    label, color
        As `roc`.
    each : bool
        Draw each patient's curve.

    Returns
    -------
    Axes
    """
    _roc_frame(ax)
    _mean_over_patients(ax, sections, _roc_at, _named(label, "AUC", 0, interval), color, each)
    ax.legend(loc="lower right")
    return ax


def mean_precision_recall(
    ax: Axes,
    sections: Sequence[ScoredSection],
    interval: Interval,
    label: str = "",
    color: str | None = None,
    each: bool = True,
) -> Axes:
    """Mean over patients of the precision at each sensitivity; the dashed line is the mean prevalence.

    Parameters and result as `mean_roc`; `interval` of the metric "ap".
    """
    prevalences = [np.mean([part.labels.mean() for part in own]) for own in by_patient(sections).values()]
    _recall_frame(ax, float(np.mean(prevalences)))
    _mean_over_patients(ax, sections, _precision_at, _named(label, "AP", 0, interval), color, each)
    ax.legend(loc="best")
    return ax


def history(
    ax: Axes,
    frame: pd.DataFrame,
    value: str,
    by: str | None = None,
    epoch: str = "epoch",
    order: Sequence[str] | None = None,
) -> Axes:
    """Mean of a logged number over the runs at each epoch, with the band from the lowest to the highest.

    Parameters
    ----------
    ax : Axes
    frame : DataFrame
        Long: one row a run (fold, seed) and epoch. Rows where `value` is NaN were not logged and are skipped.
    value : str
        Column drawn, and the label of the y axis.
    by : str, optional
        Column that splits runs into lines (loss term, model, stage).
    epoch : str
        Column of the x axis.
    order : sequence of str, optional
        Names that may occur in `by`: each keeps its colour over several panels, whichever of them a panel shows.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        A column is missing, or nothing was logged.
    """
    wanted = [column for column in (value, by, epoch) if column is not None]
    if missing := [column for column in wanted if column not in frame]:
        raise ValueError(f"the history lacks {missing}; it has {list(frame.columns)}")
    logged = frame.dropna(subset=[value])
    if logged.empty:
        raise ValueError(f'the history holds no value of "{value}"')
    colours = {name: style.PALETTE[i % len(style.PALETTE)] for i, name in enumerate(order or ())}
    for name, part in logged.groupby(by, sort=False) if by else [("", logged)]:
        runs = part.groupby(epoch)[value].agg(["mean", "min", "max"])
        (line,) = ax.plot(runs.index, runs["mean"], label=str(name), color=colours.get(name))
        ax.fill_between(runs.index, runs["min"], runs["max"], color=line.get_color(), alpha=0.2, lw=0)
    if by:
        ax.legend()
    ax.set(xlabel=epoch, ylabel=value)
    return ax


def _diagonal(ax: Axes) -> bool:
    """Draw it, unless another model has."""
    first = not any(drawn.get_label() == "_perfect" for drawn in ax.lines)
    if first:
        ax.plot([0, 1], [0, 1], color="0.6", lw=0.9, ls="--", zorder=0, label="_perfect")
        ax.set(aspect="equal")
    return first


def calibration_plot(
    ax: Axes, bins: pd.DataFrame, label: str = "", color: str | None = None, outcome: str = "cancer"
) -> Axes:
    """Observed share of cases against mean predicted probability; the area of a dot is its share of cases.

    Parameters
    ----------
    ax : Axes
        May hold other models' curves already.
    bins : DataFrame
        Of `lib.statistics.calibration.calibration_bins`. Empty bins have no dot.
    label : str
        Model.
    color : str, optional
    outcome : str
        What is predicted, for the axes.

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
    if _diagonal(ax):
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        ax.set(xlabel=f"predicted probability of {outcome}", ylabel=f"observed share of {outcome}")
    (line,) = ax.plot(filled["predicted"], filled["observed"], color=color, label=label or None)
    area = 12 + 250 * filled["n"] / filled["n"].sum()
    ax.scatter(filled["predicted"], filled["observed"], s=area, color=line.get_color(), lw=0, alpha=0.8)
    if label:
        ax.legend(loc="upper left")
    return ax


def calibration_at_horizon(
    ax: Axes,
    groups: pd.DataFrame,
    horizon: float,
    label: str = "",
    color: str | None = None,
    outcome: str = "death",
    unit: str = "months",
) -> Axes:
    """Share with the event by a horizon (Kaplan-Meier, with its band) against the mean prediction of a group.

    Both axes start at 0, share a scale and end above the highest band. A group whose follow-up ends before
    the horizon has no dot, and a note counts those groups.

    Parameters
    ----------
    ax : Axes
        May hold other models' dots already.
    groups : DataFrame
        Of `lib.statistics.calibration`: predicted, observed, observed_low, observed_high.
    horizon : float
        In `unit`.
    label : str
        Model.
    color : str, optional
    outcome, unit : str
        The event and the unit of time, for the axes.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        A column is missing, or no group has a value.
    """
    needed = ["predicted", "observed", "observed_low", "observed_high"]
    if missing := [column for column in needed if column not in groups]:
        raise ValueError(f"the calibration table lacks {missing}; it has {list(groups.columns)}")
    known = groups.dropna(subset=["observed"])
    if known.empty:
        raise ValueError(f"no group is followed to {horizon:g} {unit}, so there is no calibration to draw")
    if first := _diagonal(ax):
        by = f"{outcome} by {horizon:g} {unit}"
        ax.set(xlabel=f"predicted probability\nof {by}", ylabel=f"observed {by}")
    style = dict(ms=5, lw=1, color=color, label=label or None)
    (line,) = ax.plot(groups["predicted"], groups["observed"], "o-", **style)
    ends = known["observed_low"], known["observed_high"]
    ax.vlines(known["predicted"], *ends, color=line.get_color(), lw=1.2)
    highest = np.nanmax(known[["predicted", "observed", "observed_high"]].to_numpy())
    top = min(max(1.06 * highest, 0.02 if first else ax.get_xlim()[1]), 1.02)
    ax.set(xlim=(0, top), ylim=(0, top))
    if lost := len(groups) - len(known):
        told = f"{label}: " if label else ""
        told += f"{lost} of {len(groups)} groups not followed so long"
        line_up = sum(1 for text in ax.texts if "not followed" in text.get_text())
        place = dict(xycoords="axes fraction", textcoords="offset points", ha="right", size=7)
        ax.annotate(told, (1, 0), xytext=(-2, 4 + 9 * line_up), color=line.get_color(), **place)
    if label:
        ax.legend(loc="upper left")
    return ax


def decision_curve(ax: Axes, table: pd.DataFrame, label: str = "", color: str | None = None) -> Axes:
    """Net benefit of a model against treating all and treating none.

    The x axis ends where no patient is called any more, the y axis a little below 0, under which no model
    is worth using; treating all falls further.

    Parameters
    ----------
    ax : Axes
        May hold other models' curves of the same patients already.
    table : DataFrame
        Of `lib.statistics.calibration`: threshold (0 to 1), called (patients), net_benefit (true positives
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
