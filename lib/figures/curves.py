"""Predictions drawn: ROC, precision, calibration, decision curves, grades of mRS, forests of estimates, ranks, trainings."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from textwrap import fill

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from seaborn.utils import relative_luminance
from sklearn.metrics import precision_recall_curve, roc_curve

from lib import names
from lib.figures import style
from lib.statistics import calibration
from lib.statistics.classification import NotComputable, auc
from lib.statistics.intervals import Interval, ScoredSection, by_patient
from lib.statistics.metrics_table import written_out
from lib.statistics.over_cohorts import Ranks, cliques
from lib.statistics.survival import HeldOut

_GRID = np.linspace(0, 1, 401)


def _named(label: str, metric: str, row: pd.Series) -> str:
    return f"{names.label(label)}: {metric} {written_out(row)}"


def _diagonal(ax: Axes) -> bool:
    """Draw it, unless another model has; tell whether this is the first."""
    first = not any(line.get_label() == "_diagonal" for line in ax.lines)
    if first:
        ax.plot([0, 1], [0, 1], color="0.6", lw=0.9, ls="--", zorder=0, label="_diagonal")
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return first


def roc(
    ax: Axes, folds: Sequence[tuple[ArrayLike, ArrayLike]], label: str = "", color: str | None = None
) -> Axes:
    """Mean over folds of the sensitivity at each specificity, with the mean AUC in the key; models may share the axes.

    Scores are compared within a fold only, so folds are never pooled, and the key says what the tables say. A model with a
    fold of one class has no curve, and the key says so.

    Parameters
    ----------
    folds : sequence of (labels, scores), (n,) each, a pair a fold and seed
        Labels are 1 the outcome, 0 none; scores higher = the outcome more likely.
    label : str
        Model.
    """
    pairs = [(np.asarray(labels, float), np.asarray(scores, float)) for labels, scores in folds]
    try:
        found = f"AUC {np.mean([auc(*pair) for pair in pairs]):.3f}"
        curve = np.mean([_roc_at(*pair) for pair in pairs], axis=0)
    except NotComputable:
        found, curve = "AUC not computable", np.full(_GRID.size, np.nan)
    _diagonal(ax)
    ax.plot(_GRID, curve, color=color, label=f"{names.label(label)}: " * bool(label) + found)
    ax.set(xlabel="1 − specificity", ylabel="sensitivity")
    style.key(ax)
    return ax


def null_histogram(ax: Axes, nulls: Sequence[Interval], own: pd.Series, name: str = "AUC") -> Axes:
    """Histogram of what a cheap model reached where there is nothing to find, chance, and a study's own result above it.

    Parameters
    ----------
    nulls : sequence of Interval
        Of outcomes dealt out anew (`lib.statistics.comparison`).
    own : Series
        A row of metrics.csv: model, estimate, low, high.
    """
    counts, _, _ = ax.hist([each.estimate for each in nulls], bins=15, color="0.75", label="nothing to find")
    top = 1.12 * counts.max()
    ax.plot([0.5, 0.5], [0, 1.2 * counts.max()], color="0.4", lw=0.9, ls="--")
    ax.plot([own["low"], own["high"]], [top, top], color=style.PALETTE[1], lw=1.3)
    ax.plot(own["estimate"], top, "o", ms=5, color=style.PALETTE[1], label=names.label(own["model"]))
    ax.set(xlabel=name, ylabel="deals of the outcome", ylim=(0, 1.6 * counts.max()))
    ax.legend(loc="upper left")
    return ax


def _roc_at(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    false_positive, true_positive, _ = roc_curve(labels, scores, drop_intermediate=False)
    # where the curve is vertical the upper end counts, which interp takes from the last of equal positions
    return np.r_[0.0, np.interp(_GRID[1:], false_positive, true_positive)]


def _precision_at(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    precision, recall, _ = precision_recall_curve(labels, scores)
    precision, recall = precision[:-1][::-1], recall[:-1][::-1]
    # the precision that average precision credits to the step in which this recall is first reached
    return precision[np.minimum(np.searchsorted(recall, _GRID), recall.size - 1)]


def _mean_over_patients(ax, sections, curve, label, color, each) -> None:
    patients = []
    for parts in by_patient(sections).values():
        by_section = [np.mean([curve(part.labels, row) for row in part.scores], axis=0) for part in parts]
        patients.append(np.mean(by_section, axis=0))
    (line,) = ax.plot(_GRID, np.mean(patients, axis=0), color=color, lw=2, label=label)
    if each:
        ax.plot(_GRID, np.transpose(patients), color=line.get_color(), lw=0.7, alpha=0.4, zorder=1)


def mean_roc(
    ax: Axes, sections: Sequence[ScoredSection], row: pd.Series, label: str = "", color: str = "C0", each=True
) -> Axes:
    """Mean over patients of the sensitivity at each specificity, with each patient's curve behind it.

    Scores are compared within a section only, so sections are never pooled; the area under the mean curve
    is the mean AUC.

    Parameters
    ----------
    sections : sequence of ScoredSection
        Scores, not calls. Every section needs both classes.
    row : Series
        Of metrics.csv, the metric "auc", for the key.
    each : bool
        Draw each patient's curve.
    """
    _diagonal(ax)
    _mean_over_patients(ax, sections, _roc_at, _named(label, "AUC", row), color, each)
    ax.set(xlabel="1 − specificity", ylabel="sensitivity")
    style.key(ax)
    return ax


def mean_precision_recall(
    ax: Axes, sections: Sequence[ScoredSection], row: pd.Series, label: str = "", color: str = "C0", each=True
) -> Axes:
    """Mean over patients of the precision at each sensitivity; the dashed line is the mean prevalence.

    Parameters as `mean_roc`; `row` of the metric "ap".
    """
    if not any(str(line.get_label()).startswith("prevalence") for line in ax.lines):
        shares = [np.mean([part.labels.mean() for part in parts]) for parts in by_patient(sections).values()]
        share = float(np.mean(shares))
        ax.axhline(share, color="0.4", lw=0.9, ls="--", zorder=0, label=f"prevalence {share:.2f}")
    _mean_over_patients(ax, sections, _precision_at, _named(label, "AP", row), color, each)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel="sensitivity", ylabel="precision")
    style.key(ax)
    return ax


def history(
    ax: Axes, frame: pd.DataFrame, value: str, by: str | None = None, order: Sequence[str] | None = None
) -> Axes:
    """Mean of a logged number over the runs at each epoch, with the band from the lowest to the highest.

    Parameters
    ----------
    frame : DataFrame
        Long: epoch, `value`, `by`, one row a run (fold, seed) and epoch. Rows where `value` is NaN were not logged and are skipped.
    value : str
        Column drawn, and the label of the y axis.
    by : str, optional
        Column that splits runs into lines (loss term, model, stage).
    order : sequence of str, optional
        Names that may occur in `by`: each keeps its colour over several panels, whichever of them a panel shows.
    """
    logged, lines = frame.dropna(subset=[value]), {}
    if by:
        names = list(order or dict.fromkeys(logged[by]))
        colours = {name: style.PALETTE[number % len(style.PALETTE)] for number, name in enumerate(names)}
        lines = dict(hue=by, hue_order=[name for name in names if name in set(logged[by])], palette=colours)
    sns.lineplot(logged, x="epoch", y=value, errorbar=("pi", 100), err_kws={"lw": 0}, ax=ax, **lines)
    if by:
        style.key(ax, columns=2)
    ax.xaxis.get_major_locator().set_params(integer=True)
    return ax


def epoch_panels(frame: pd.DataFrame, value: str, label: str) -> Figure:
    """One panel a setting and model: `value` of each fold by epoch, their mean in black, a dot where an epoch was kept.

    `frame` has setting, model, fold, epoch, chosen and `value`, of one seed; `label` names the y axis.
    """
    frame = frame.assign(panel=(frame["model"] + ", " + frame["setting"]).map(names.label))
    axis, size = {"x": "epoch", "y": value}, {"height": 2.4, "aspect": 1.2}
    size["col_wrap"] = min(4, frame["panel"].nunique())
    with plt.rc_context({"figure.constrained_layout.use": False}):
        grid = sns.relplot(frame, **axis, hue="fold", col="panel", kind="line", legend=False, **size)
    grid.map_dataframe(sns.lineplot, **axis, color="black", lw=2, errorbar=None)
    for ax, (_, rows) in zip(grid.axes.flat, frame.groupby("panel", sort=False), strict=True):
        sns.scatterplot(rows[rows["chosen"].astype(bool)], **axis, hue="fold", legend=False, ax=ax)
        ax.xaxis.get_major_locator().set_params(integer=True)
    grid.set_titles("{col_name}").set(ylabel=label)
    return grid.figure


def calibration_plot(
    ax: Axes, bins: pd.DataFrame, label: str = "", color: str | None = None, outcome: str = "cancer"
) -> Axes:
    """Observed share of cases against mean predicted probability; the area of a dot is its share of cases.

    Parameters
    ----------
    bins : DataFrame
        Of `lib.statistics.calibration.calibration_bins`. Empty bins have no dot.
    label : str
        Model; several may share the axes.
    outcome : str
        What is predicted, for the axes.
    """
    filled = bins[bins["n"] > 0]
    _diagonal(ax)
    ax.set(xlabel=f"predicted probability of {outcome}", ylabel=f"observed share of {outcome}")
    (line,) = ax.plot(filled["predicted"], filled["observed"], color=color, label=names.label(label) or None)
    area = 12 + 250 * filled["n"] / filled["n"].sum()
    ax.scatter(filled["predicted"], filled["observed"], s=area, color=line.get_color(), lw=0, alpha=0.8)
    if label:
        style.key(ax)
    return ax


def calibration_at_horizon(
    ax: Axes, groups: pd.DataFrame, months: float, label: str = "", color: str | None = None
) -> Axes:
    """Share that died by a horizon (Kaplan-Meier, with its band) against the mean prediction of a group.

    Both axes start at 0, share a scale and end above the highest band. A group whose follow-up ends before
    the horizon has no dot, and a note counts those groups.

    Parameters
    ----------
    groups : DataFrame
        Of `lib.statistics.calibration`: predicted, observed, observed_low, observed_high.
    months : float
        The horizon.
    label : str
        Model; several may share the axes.

    Raises
    ------
    ValueError
        No group has a value.
    """
    known = groups.dropna(subset=["observed"])
    if known.empty:
        raise ValueError(f"no group is followed to {months:g} months, so there is no calibration to draw")
    reached = 0.02 if _diagonal(ax) else ax.get_xlim()[1]
    by = f"death by {months:g} months"
    ax.set(xlabel=f"predicted probability\nof {by}", ylabel=f"observed {by}")
    dots = dict(ms=5, lw=1, color=color, label=names.label(label) or None)
    (line,) = ax.plot(groups["predicted"], groups["observed"], "o-", **dots)
    colour = line.get_color()
    ax.vlines(known["predicted"], known["observed_low"], known["observed_high"], color=colour, lw=1.2)
    highest = np.nanmax(known[["predicted", "observed", "observed_high"]].to_numpy())
    top = min(max(1.06 * highest, reached), 1.02)
    ax.set(xlim=(0, top), ylim=(0, top))
    if lost := len(groups) - len(known):
        text = (
            f"{names.label(label)}: " * bool(label) + f"{lost} of {len(groups)} groups not followed so long"
        )
        above = 4 + 9 * sum("not followed" in other.get_text() for other in ax.texts)
        place = dict(xycoords="axes fraction", textcoords="offset points", ha="right", size=8)
        ax.annotate(text, (1, 0), xytext=(-2, above), color=colour, **place)
    if label:
        style.key(ax)
    return ax


def calibration_panel(
    ax: Axes, models: Mapping[str, HeldOut], months: float, bars: bool = True
) -> dict[str, tuple[np.ndarray, str]]:
    """`calibration_at_horizon` of the models that give probabilities, each in its colour; who cannot be drawn is printed.
    No `bars` where several rows are one person's, which are no independent patients.

    Returned are, of each that is drawn, the probability of the event by the horizon (n,), mean over seeds, and the colour.
    """
    drawn, sure = {}, {name: one for name, one in models.items() if one.survival is not None}
    for (name, one), colour in zip(sure.items(), cycle(style.PALETTE), strict=False):
        died = 1 - one.survival.mean(axis=0)[:, list(one.times).index(months)]
        try:
            groups = calibration.calibration_at_horizon(one.time, one.event, died, months)
        except NotComputable as reason:
            print(f"{name} is not drawn: {reason}")
            continue
        if not bars:
            groups[["observed_low", "observed_high"]] = np.nan
        calibration_at_horizon(ax, groups, months, name, colour)
        drawn[name] = died, colour
    return drawn


def decision_curve(ax: Axes, table: pd.DataFrame, label: str = "", color: str | None = None) -> Axes:
    """Net benefit of a model against treating all and treating none.

    The x axis ends where no patient is called any more, the y axis a little below 0, under which no model
    is worth using; treating all falls further.

    Parameters
    ----------
    table : DataFrame
        Of `lib.statistics.calibration`: threshold (0 to 1), called (patients), net_benefit (true positives
        per patient, less the false ones at the threshold's odds), treat_all. Where net_benefit is NaN the line has a gap.
        With low and high a band is drawn.
    label : str
        Model; several of the same patients may share the axes.
    """
    table = table.sort_values("threshold")
    if not ax.lines:
        ax.plot(table["threshold"], table["treat_all"], color="0.55", lw=1.1, label="treat all")
        ax.axhline(0, color="0.15", lw=1.1, ls="--", zorder=1, label="treat none")
        ax.set(xlabel="threshold probability", ylabel="net benefit (per patient)")
    # from the first threshold that nobody reaches the curve is 0 and tells nothing more
    reached = np.flatnonzero(table["called"] > 0)
    shown = table.iloc[: reached[-1] + 2] if reached.size else table
    look = dict(color=color, label=names.label(label) or "model")
    (line,) = ax.plot(shown["threshold"], shown["net_benefit"], **look)
    if "low" in shown:
        look = dict(color=line.get_color(), alpha=0.12, lw=0, zorder=1)
        ax.fill_between(shown["threshold"], shown["low"], shown["high"], **look)
    models = [line for line in ax.lines if line.get_label() not in ("treat all", "treat none")]
    ends = np.concatenate([line.get_xdata() for line in models])
    gains = np.concatenate([line.get_ydata() for line in models])
    top = max(np.nanmax(gains), table["treat_all"].max(), 0.01)
    ax.set_xlim(ends.min(), ends.max())
    ax.set_ylim(-np.clip(-1.1 * np.nanmin(gains), 0.08 * top, 0.3 * top), 1.08 * top)
    style.key(ax, columns=2)
    return ax


def shift_plot(ax: Axes, groups: Mapping[str, ArrayLike], unfavourable_from: int = 3) -> Axes:
    """Share of each grade of the modified Rankin scale in each group, from no symptoms (0) to death (6), stacked.

    Parameters
    ----------
    groups : mapping
        Label -> mRS of the group's patients, whole numbers 0 to 6. Drawn from top to bottom.
    unfavourable_from : int
        First grade that counts as an unfavourable outcome; a thicker line stands before it.
    """
    colours = mpl.colormaps["viridis_r"](np.linspace(0.08, 0.95, 7))
    for row, grades in enumerate(groups.values()):
        counts = np.bincount(np.asarray(grades, int), minlength=7)
        shares = counts / counts.sum()
        left = np.r_[0, np.cumsum(shares)]
        bars = ax.barh([row] * 7, shares, left=left[:7], color=colours, edgecolor="white", height=0.72)
        texts = [str(count) if share >= 0.035 else "" for count, share in zip(counts, shares, strict=True)]
        for grade, text in enumerate(ax.bar_label(bars, texts, label_type="center", fontsize=8)):
            text.set_color("white" if grade >= 3 else "black")
        cut = [left[unfavourable_from]] * 2
        ax.plot(cut, [row - 0.42, row + 0.42], color="black", lw=2.2, solid_capstyle="butt")
    ax.set_yticks(range(len(groups)), [f"{label}\nn = {np.size(g)}" for label, g in groups.items()])
    ax.set(xlim=(0, 1), ylim=(len(groups) - 0.5, -0.5))
    ax.set_xlabel("share of patients (numbers in the bars: patients)")
    ax.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0, decimals=0))
    handles = [mpl.patches.Patch(color=colour, label=str(grade)) for grade, colour in enumerate(colours)]
    above = dict(loc="lower center", bbox_to_anchor=(0.5, 1.0))
    ax.legend(handles=handles, title="mRS", ncols=7, handlelength=1.0, columnspacing=0.9, **above)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def forest(
    ax: Axes, frame: pd.DataFrame, reference=0.5, name="AUC", numbers=True, near=0.0, above=0.0
) -> Axes:
    """Forest of estimates, first row on top, with a line at the value of no effect and a band behind every other row.

    Parameters
    ----------
    frame : DataFrame
        label, estimate, low, high. Optional: `group` (a model; groups share a label's row, each its colour), `pooled` (True: a
        diamond, for what several rows say together). An estimate that is NaN is written "not computable".
    reference : float
        0.5 for AUC, 0 for a difference.
    name : str
        Of the metric, for the x axis.
    numbers : bool
        Write estimate and interval at the right.
    near : float
        What lies no farther than this from the reference nobody would notice: it is shaded.
    above : float
        Share of a row's height that its name takes above the marks; 0 writes it beside them.
    """
    labels, grouped = list(dict.fromkeys(frame["label"])), "group" in frame
    groups = list(dict.fromkeys(frame["group"])) if grouped else [None]
    colours = dict(zip(groups, cycle(style.PALETTE), strict=False))
    for row in range(0, len(labels), 2):  # it keeps the marks of a row together
        ax.axhspan(row - 0.5, row + 0.5, color="0.5", alpha=0.09, lw=0, zorder=-1)
    if near:
        ax.axvspan(reference - near, reference + near, color="0.5", alpha=0.2, lw=0, zorder=-1)
    ax.axvline(reference, color="0.6", lw=0.9, ls="--", zorder=0)
    for at, label in enumerate(labels):
        some = frame[frame["label"] == label]
        if grouped:
            some = some.sort_values("group", key=lambda group: group.map(groups.index), kind="stable")
        offsets = np.linspace(-1, 1, len(some)) * (0.2 if len(some) == 2 else 0.3) if len(some) > 1 else [0.0]
        for (_, row), offset in zip(some.iterrows(), offsets, strict=True):
            y = at + above / 2 + (1 - above) * offset
            _draw(ax, row, y, colours[row.get("group")], numbers, reference == 0)
    for group, colour in colours.items() if grouped else ():
        ax.plot([], [], "o-", ms=4.5, lw=1.3, color=colour, label=names.label(group))
    style.rows(ax, [names.label(each) for each in labels])
    if above:
        ax.set_yticks([])
        for at, label in enumerate(labels):
            ax.text(0.01, at - 0.46, _folded(label), transform=ax.get_yaxis_transform(), va="top", size=8.5)
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    ax.set_xlabel(name)
    if grouped:
        style.key(ax, columns=min(len(groups), 3))
    return ax


def _draw(ax: Axes, row: pd.Series, y: float, colour: str, numbers: bool, sign: bool) -> None:
    if np.isfinite(row["estimate"]):
        marker, size, width = ("D", 6, 2.2) if row.get("pooled", False) is True else ("o", 4.5, 1.3)
        ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=width)
        ax.plot(row["estimate"], y, marker, ms=size, color=colour)
    if numbers:
        place = dict(xycoords=("axes fraction", "data"), va="center", size=8, color=colour)
        ax.annotate(written_out(row, sign), (1.02, y), **place)


def _folded(label: str) -> str:
    """A row's name, in lines for a telephone."""
    return fill(names.label(label).replace("\n", " "), 52)


def forest_figures(frame: pd.DataFrame, *how, width: float = 8.4, **options) -> list[Figure]:
    """One `forest`, as high as its rows ask for, the key of its groups below the whole width, so wide in inches; and the same for
    a telephone, 4 inches wide: names above their marks, no numbers.
    """
    labels, most = frame["label"].unique(), frame["label"].value_counts().max()
    lines, folded = (max(say(str(one)).count("\n") + 1 for one in labels) for say in (str, _folded))
    row, rest = (0.4, 1.1) if "group" in frame else (0.27, 0.8)  # inches; the rest has the key
    low = 0.1 + 0.12 * most + 0.14 * folded  # a row of the narrow one
    narrow = {"numbers": False, "above": (0.04 + 0.14 * folded) / low}
    drawn = []
    for wide, high, room, more in ((width, row * lines**0.5, 108, {}), (4, low, 50, narrow)):
        figure, ax = plt.subplots(figsize=(wide, high * len(labels) + rest), layout="constrained")
        forest(ax, frame, *how, **options | more)
        if key := ax.get_legend():
            key.remove()
            marks, words = ax.get_legend_handles_labels()
            columns = len(words) if len("".join(words)) + 6 * len(words) < room else 1
            figure.legend(marks, words, loc="outside lower left", ncols=columns)
        drawn.append(figure)
    return drawn


def ceiling(ax: Axes, value: float) -> None:
    """A dotted line at what a model could reach at best that knew how a phantom's outcome was made."""
    ax.axvline(value, color="0.2", lw=1.1, ls=":", zorder=0)
    place = dict(xycoords=("data", "axes fraction"), xytext=(-3, -5), textcoords="offset points")
    ax.annotate(f"ceiling {value:.2f}", (value, 1), ha="right", va="center", size=8, color="0.2", **place)


def by_fold(ax: Axes, table: pd.DataFrame, intervals: pd.DataFrame) -> Axes:
    """Forest of the c-index of models, first model on top, with a dot for each fold below the estimate.

    Parameters
    ----------
    table : DataFrame
        model, fold, c_index; NaN is a fold in which it is not computable: how many are then stands beside the model.
    intervals : DataFrame
        model, estimate, low, high, one row a model (of metrics.csv).
    """
    folds = {model: rows.to_numpy(float) for model, rows in table.groupby("model", sort=False)["c_index"]}
    valued = {model: np.isfinite(values).sum() for model, values in folds.items()}
    rows = intervals.set_index("model").reindex(list(folds))
    rows["label"] = [
        names.label(model) + f"\n{valued[model]} of {len(values)} folds" * int(valued[model] < len(values))
        for model, values in folds.items()
    ]
    forest(ax, rows, 0.5, "c-index")
    for y, values in enumerate(folds.values()):
        ax.plot(values, np.full(len(values), y + 0.25), "o", ms=4, color=style.PALETTE[0], alpha=0.55, mew=0)
    return ax


def scores_by_class(ax: Axes, frame: pd.DataFrame) -> Axes:
    """Box (quartiles, median; whiskers to 1.5 interquartile ranges) and points for each tissue class, by falling median.

    Parameters
    ----------
    frame : DataFrame
        tissue (class a spot was given; "" is drawn as "unlabelled"), score (higher = more cancer-like).
        Optional `label` (1 cancer, 0 other, NaN undetermined) colours a class.
    """
    frame = frame.assign(tissue=frame["tissue"].replace("", "unlabelled"))
    by_class = frame.groupby("tissue")
    sizes, medians = by_class.size(), by_class["score"].median()
    order = sorted(sizes.index, key=lambda name: (-medians[name], name))
    share = by_class["label"].mean() if "label" in frame else medians * 0
    colours = share.gt(0.5).map({True: style.CANCER, False: style.OTHER})
    colours = colours.where(share.notna(), style.UNDETERMINED)
    box = dict(width=0.55, showfliers=False, color="0.15", fill=False, linewidth=1)
    sns.boxplot(frame, x="score", y="tissue", order=order, ax=ax, medianprops={"linewidth": 2}, **box)
    y = frame["tissue"].map(order.index) + np.random.default_rng(0).uniform(-0.28, 0.28, len(frame))
    ax.scatter(frame["score"], y, s=5, c=frame["tissue"].map(colours), alpha=0.45, lw=0)
    style.rows(ax, [f"{name} (n = {sizes[name]})" for name in order])
    ax.set(xlabel="score", ylabel="")
    return ax


def across_cancers(rows: pd.DataFrame, centre: float, reach: float) -> Figure:
    """Rows of label, setting and estimate as a map, a column a setting, their mean last: a panel a cancer would be metres high.

    The palest colour is at `centre`, the darkest `reach` from it.
    """
    table = rows.pivot(index="label", columns="setting", values="estimate").reindex(rows["label"].unique())
    mean = table.mean(axis=1).to_numpy()
    table = table.rename(index=names.name, columns=lambda one: names.name(one, "settings")).assign(mean=mean)
    high = 0.4 + 0.07 * table.columns.str.len().max() + 0.21 * len(table)
    figure, ax = plt.subplots(figsize=(3 + 0.42 * table.shape[1], high))  # the columns' words stand upright
    how = {"vmin": centre - reach, "vmax": centre + reach, "annot_kws": {"size": 7}, "cbar": False}
    sns.heatmap(table, cmap="vlag", annot=True, fmt=".2f", ax=ax, **how).set(xlabel="", ylabel="")
    cells = ax.collections[0]
    valued = ~np.ma.getmaskarray(cells.get_array()).ravel()
    for text, colour in zip(ax.texts, cells.get_facecolors()[valued], strict=True):
        # below this luminance white stands out more (seaborn's bound is .41, which leaves white on pale red)
        text.set_color("white" if relative_luminance(colour) < 0.179 else "black")
    return figure


def critical_difference(ax: Axes, ranks: Ranks, marked: tuple[str, ...] = ()) -> Axes:
    """Average ranks (1, the best, at the left), a model a row, the best on top; bars join models whose ranks lie nearer than
    the critical difference. `marked` models have another colour.
    """
    rows, note = len(ranks.ranks), dict(textcoords="offset points", size=8)
    for row, (name, rank) in enumerate(ranks.ranks.items()):
        colour = style.CANCER if name in marked else style.OTHER
        ax.plot([1, rank], [row, row], color="0.85", lw=0.8, zorder=0)
        ax.plot(rank, row, "o", ms=5, color=colour)
        ax.annotate(f"{rank:.1f}", (rank, row), xytext=(6, 0), va="center", **note)
    style.rows(ax, [names.label(name) for name in ranks.ranks.index])
    right = ranks.ranks.max() + 0.08 * rows
    for number, ends in enumerate(cliques(ranks)):
        at = right + 0.02 * rows * number
        ax.plot([at, at], ends, color="0.25", lw=2.5, solid_capstyle="butt")
    ax.plot([1, 1 + ranks.critical], [-0.9, -0.9], color="black", lw=1.2, clip_on=False)
    ax.annotate(f"critical difference {ranks.critical:.1f}", (1, -0.9), xytext=(0, 4), **note)
    ax.set(xlabel=f"average rank over {ranks.cohorts} cohorts (1 is best)")
    ax.set(xlim=(0.6, None), ylim=(rows - 0.4, -1.6))
    return ax
