"""Curves over a threshold, and over training."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_curve, roc_curve

from lib.figures import style
from lib.statistics.classification import auc, average_precision
from lib.statistics.intervals import Interval, ScoredSection
from lib.statistics.resampling import by_patient

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
