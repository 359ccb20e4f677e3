"""C-index of models, fold by fold."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from lib.figures import style


def by_epoch(
    ax: Axes,
    history: pd.DataFrame,
    chosen: int | Mapping[int, int] | None = None,
    value: str = "c_index",
    name: str = "c-index",
) -> Axes:
    """C-index of each fold at each epoch, their mean where every fold was still trained, and the epoch kept.

    Parameters
    ----------
    ax : Axes
    history : DataFrame
        One row a fold and epoch: fold, epoch, and `value`. Rows where it is NaN were not logged: the line
        has a gap there.
    chosen : int, or mapping of fold to epoch, optional
        The epoch kept: one for all folds is a vertical line, one for each fold a ring on its line.
    value : str
        Column drawn.
    name : str
        For the y axis.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        A column is missing, a fold has an epoch twice, nothing was logged, or a chosen epoch was not logged.
    """
    if missing := [column for column in ("fold", "epoch", value) if column not in history]:
        raise ValueError(f"the history lacks {missing}; it has {list(history.columns)}")
    if history.duplicated(["fold", "epoch"]).any():
        raise ValueError("the history has an epoch twice in one fold: draw one model and one seed at a time")
    runs = history.pivot(index="epoch", columns="fold", values=value)
    if runs.isna().all(axis=None):
        raise ValueError(f'the history holds no value of "{value}"')
    ax.axhline(0.5, color="0.6", lw=0.9, ls="--", zorder=0, label="_chance")
    colours = {fold: style.PALETTE[number % len(style.PALETTE)] for number, fold in enumerate(runs)}
    for fold, line in runs.items():
        ax.plot(line.index, line, lw=1, alpha=0.85, color=colours[fold], label=f"fold {fold}")
    if len(runs.columns) > 1:
        ax.plot(runs.index, runs.mean(axis=1, skipna=False), color="0.15", lw=2.2, label="mean")
    if isinstance(chosen, Mapping):
        for fold, epoch in chosen.items():
            if fold not in runs or epoch not in runs.index or np.isnan(runs.at[epoch, fold]):
                raise ValueError(f'epoch {epoch}, chosen in fold {fold}, has no value of "{value}"')
            edge = dict(mfc="white", mec=colours[fold], mew=1.6, ms=6.5, zorder=4)
            ax.plot(epoch, runs.at[epoch, fold], "o", label="_chosen", **edge)
        ax.plot([], [], "o", mfc="white", mec="0.3", mew=1.6, ms=6.5, label="epoch kept")
    elif chosen is not None:
        if chosen not in runs.index:
            raise ValueError(f"epoch {chosen} was chosen, but the history ends at {runs.index.max()}")
        ax.axvline(chosen, color="0.15", lw=1, ls=":", label="epoch kept")
    # below the axis' label whatever the panel's height, so in points
    below = ax.transAxes + ScaledTranslation(0, -32 / 72, ax.figure.dpi_scale_trans)
    place = dict(loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below)
    ax.legend(**place, ncols=4, columnspacing=1.2, handlelength=1.3)
    ax.set(xlabel="epoch", ylabel=name)
    ax.xaxis.get_major_locator().set_params(integer=True)
    return ax


def by_fold(
    ax: Axes,
    table: pd.DataFrame,
    intervals: pd.DataFrame | None = None,
    value: str = "c_index",
    reference: float | None = 0.5,
    name: str = "c-index",
    numbers: bool = True,
) -> Axes:
    """A dot for each fold of each model, first model on top, with the mean and its interval below the dots.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        One row a model and fold: model, fold, and `value`. NaN is a fold in which it is not computable; the
        number of the others is then written below the mean.
    intervals : DataFrame, optional
        model, estimate, low, high (rows of metrics.csv): drawn in place of the plain mean. A model without
        a row keeps its plain mean.
    value : str
        Column drawn.
    reference : float, optional
        Value of chance.
    name : str
        For the x axis.
    numbers : bool
        Write mean and interval below the model's name.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        A column is missing, a model has a fold twice, or intervals are upside down, double, or of a model
        that the table lacks.
    """
    if missing := [column for column in ("model", "fold", value) if column not in table]:
        raise ValueError(f"the table of folds lacks {missing}; it has {list(table.columns)}")
    if table.duplicated(["model", "fold"]).any():
        raise ValueError("the table has a fold twice in one model: draw one cohort and one seed at a time")
    models = list(dict.fromkeys(table["model"]))
    found = _intervals(intervals, models)
    if reference is not None:
        ax.axvline(reference, color="0.6", lw=0.9, ls="--", zorder=0, label="_reference")
    labels = []
    for y, model in enumerate(models):
        values = table.loc[table["model"] == model].sort_values("fold")[value].to_numpy(float)
        colour = style.PALETTE[y % len(style.PALETTE)]
        heights = y - 0.12 + (np.linspace(-0.14, 0.14, values.size) if values.size > 1 else np.zeros(1))
        ax.plot(values, heights, "o", ms=4, color=colour, alpha=0.55, mew=0)
        text = _summary(ax, y + 0.22, values, found.get(model), colour)
        labels.append(f"{model}\n{text}" if numbers else str(model))
    ax.set(yticks=range(len(models)), yticklabels=labels, ylim=(len(models) - 0.4, -0.6), xlabel=name)
    ax.xaxis.get_major_locator().set_params(nbins=5)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def _intervals(intervals: pd.DataFrame | None, models: list) -> dict:
    if intervals is None:
        return {}
    if missing := [column for column in ("model", "estimate", "low", "high") if column not in intervals]:
        raise ValueError(f"the table of intervals lacks {missing}; it has {list(intervals.columns)}")
    if strangers := sorted(set(intervals["model"]) - set(models)):
        raise ValueError(f"intervals of {strangers}, of which the table has no fold")
    if intervals["model"].duplicated().any():
        raise ValueError("the table of intervals has a model twice: draw one cohort and one metric at a time")
    if (intervals["low"] > intervals["high"]).any():
        raise ValueError("an interval's low lies above its high")
    return {row["model"]: row for _, row in intervals.iterrows()}


def _summary(ax: Axes, y: float, values: np.ndarray, row: pd.Series | None, colour: str) -> str:
    """Draw a model's mean, with its interval if there is one; the same in words."""
    valued = values[np.isfinite(values)]
    mean = (valued.mean() if valued.size else np.nan) if row is None else row["estimate"]
    if not np.isfinite(mean):
        return "not computable"
    ax.plot(mean, y, "D", ms=5.5, color=colour)
    text = f"{mean:.3f}"
    if row is not None:
        ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.8)
        text += f" ({row['low']:.3f} to {row['high']:.3f})"
    return text if valued.size == values.size else f"{text}\n{valued.size} of {values.size} folds"
