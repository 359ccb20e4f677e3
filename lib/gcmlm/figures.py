"""The study's own figures: a scan in three planes, what each subset of the modalities is worth, features, a nomogram."""

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform, blended_transform_factory
from scipy.special import expit, logit

from lib.figures import style
from lib.gcmlm.ct import windowed
from lib.inputs.volumes import Volume

REGION = style.PALETTE[4]
FINER = 8  # a contour follows the voxels' edges: each voxel is drawn as so many points each way

# axis of the array that is looked along, its letter; letters at the left, right, top and bottom
PLANES = {"axial": (0, "z", "RLAP"), "coronal": (1, "y", "RLSI"), "sagittal": (2, "x", "APSI")}


def three_planes(
    axes: Sequence[Axes],
    volume: Volume,
    mask: np.ndarray | None = None,
    *,
    level: float = 40,
    width: float = 400,
) -> Sequence[Axes]:
    """Draw axial, coronal and sagittal slices through a region, each where its cross-section is largest, in mm.

    Radiological convention: axial and coronal with the patient's right on the left, sagittal with the front on the left.

    Parameters
    ----------
    axes : sequence of 3 Axes
    volume : Volume
        HU, LPS axes.
    mask : array of bool (z, y, x), optional
        Drawn as a contour. None: slices through the middle of the volume.
    level, width : float
        HU of the middle of the grey scale, and from black to white.
    """
    axes, (values, grid) = np.ravel(axes), volume[:2]
    if grid.orientation != "LPS":
        raise ValueError(f"planes are drawn of a volume whose axes lie LPS, it has {grid.orientation}")
    if mask is not None and (mask.shape != values.shape or not mask.any()):
        raise ValueError(
            f"a mask {mask.shape} of {mask.sum()} voxels is no region of a volume {values.shape}"
        )
    spacing = np.asarray(grid.spacing_mm[::-1])
    at = [_largest(mask, axis) if mask is not None else n // 2 for axis, n in enumerate(values.shape)]
    for ax, (name, (along, letter, sides)) in zip(axes, PLANES.items(), strict=True):
        down, across = (axis for axis in range(3) if axis != along)
        up = down == 0  # z grows upward, y downward: both as the patient stands before the reader
        ends = [0, values.shape[across] * spacing[across], 0, values.shape[down] * spacing[down]]
        ax.imshow(
            windowed(values.take(at[along], along), level, width),
            cmap="gray",
            vmin=0,
            vmax=1,
            extent=ends if up else [*ends[:2], *ends[:1:-1]],
            origin="lower" if up else "upper",
            aspect="equal",
            interpolation="nearest",
        )
        if mask is not None:
            _contour(ax, mask.take(at[along], along), spacing[across], spacing[down])
        _letters(ax, sides)
        ax.set_title(f"{name}, {letter} {at[along] + 1} of {values.shape[along]}")
        ax.set(xlabel="mm", ylabel="mm")
    axes[1].set_xlabel(f"mm\nwindow {level - width / 2:g} to {level + width / 2:g} HU")
    return axes


def _largest(mask: np.ndarray, axis: int) -> int:
    """The slice with most of a region; of several the middle one."""
    counts = mask.sum(tuple(other for other in range(3) if other != axis))
    most = np.flatnonzero(counts == counts.max())
    return int(most[(len(most) - 1) // 2])


def _contour(ax: Axes, inside: np.ndarray, across_mm: float, down_mm: float) -> None:
    """The edge of a region in one slice."""
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    box = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    fine = np.pad(box.repeat(FINER, 0).repeat(FINER, 1), 1).astype(float)
    y = (rows[0] + (np.arange(fine.shape[0]) - 0.5) / FINER) * down_mm
    x = (columns[0] + (np.arange(fine.shape[1]) - 0.5) / FINER) * across_mm
    ax.contour(x, y, fine, levels=[0.5], colors=[REGION], linewidths=1.2)


def _letters(ax: Axes, sides: str) -> None:
    """The patient's sides at the edges of a picture."""
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"))
    places += ((0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom"))
    for letter, (x, y, ha, va) in zip(sides, places, strict=True):
        text = ax.text(x, y, letter, transform=ax.transAxes, ha=ha, va=va, color="white", weight="bold")
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])  # legible on bone


ALPHA = 0.75
ROW = 0.23  # inches between the rows of dots


def ablation_bars(
    ax: Axes,
    rows: pd.DataFrame,
    modalities: Sequence[str],
    chance: float = 0.5,
    name: str = "AUC",
) -> Axes:
    """Bars that rise from chance, with intervals, over a matrix of dots: the subsets in the order of their size.

    Parameters
    ----------
    ax : Axes
        About 1 inch of width a subset, less with many; the matrix hangs below it.
    rows : DataFrame
        One row a subset and group: setting (modalities joined by "+"), estimate, low, high, group (a model), at most
        four of them; groups of a subset stand side by side. An estimate NaN is written as such.
    modalities : sequence of str
        Order of the matrix, from top to bottom.
    chance : float
        Value of a model that knows nothing, where the bars begin. A bar below it hangs down.
    name : str
        Of the metric.
    """
    groups, order = list(dict.fromkeys(rows["group"])), list(modalities)
    if rows.duplicated(["setting", "group"]).any():
        raise ValueError("a setting is twice in a group of the ablation")
    sets = {frozenset(setting.split("+")) for setting in rows["setting"]}
    subsets = sorted(sets, key=lambda each: (len(each), sorted(order.index(word) for word in each)))
    width, many = 0.78 / len(groups), len(groups) * len(subsets) > 8
    values = rows[["estimate", "low", "high"]].to_numpy(float)
    bottom, top = min(np.nanmin(values, initial=chance), chance), np.nanmax(values, initial=chance)
    ax.axhline(chance, color="0.35", lw=1.0, ls="--", zorder=3)
    for row in rows.itertuples():
        number = groups.index(row.group)
        x = subsets.index(frozenset(row.setting.split("+"))) + (number - (len(groups) - 1) / 2) * width
        _bar(ax, x, row, 0.9 * width, style.PALETTE[number], chance, many)
    keys = [Patch(color=style.PALETTE[n], alpha=ALPHA, label=str(each)) for n, each in enumerate(groups)]
    ax.legend(handles=keys, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(groups))
    span = max(top - bottom, 0.2)
    ax.set(xlim=(-0.6, len(subsets) - 0.4), ylabel=name)
    ax.set_ylim(bottom - 0.06 * span, bottom + (1.16 if many else 1.07) * span)
    ax.text(1.005, chance, "chance", transform=ax.get_yaxis_transform(), va="center", size=7.5, color="0.35")
    ax.tick_params(axis="x", bottom=False, labelbottom=False)
    ax.spines["bottom"].set_visible(False)
    _matrix(ax, order, subsets)
    return ax


def _bar(ax: Axes, x: float, row, width: float, colour: str, chance: float, many: bool) -> None:
    note = {"textcoords": "offset points", "ha": "center", "va": "bottom", "size": 7.5}
    if not np.isfinite(row.estimate):
        ax.annotate("not computable", (x, chance), (0, 4), rotation=90, color="0.35", **note)
        return
    ax.bar(x, row.estimate - chance, width, chance, color=colour, alpha=ALPHA, zorder=1)
    if np.isfinite([row.low, row.high]).all():
        ax.plot([x, x], [row.low, row.high], color="0.1", lw=1.2, zorder=2)
    highest = max(np.nanmax([row.estimate, row.high]), chance)
    ax.annotate(f"{row.estimate:.2f}", (x, highest), (0, 3), rotation=90 if many else 0, **note)


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
            draw([0, 1], [y, y], ax.transAxes, lw=ROW * 72, color="0.955", solid_capstyle="butt", zorder=0)
        lacking = [place for place, subset in enumerate(subsets) if word not in subset]
        if lacking:  # a line without points would claim the figure's corner in the layout
            draw(lacking, [y] * len(lacking), ax.transData, ls="none", marker="o", ms=7, color="0.85")
        place = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "va": "center"}
        ax.annotate(word, (0, 0), (-6, y * 72), **place)
    for place, subset in enumerate(subsets):
        held = [y for word, y in zip(order, heights, strict=True) if word in subset]
        name = "_" + "+".join(word for word in order if word in subset)
        look = {"marker": "o", "ms": 7, "lw": 2, "color": "0.15", "zorder": 4, "label": name}
        draw([place] * len(held), held, ax.transData, **look)


_RADIOMIC = re.compile(
    r"^(?:(?P<modality>.+?)[_:./ ]+)?(?P<filter>original|log-sigma-(?P<mm>\d+)-(?P<tenth>\d)\d*-mm-3D"
    r"|wavelet2?-[LH]+|square(?:root)?|logarithm|exponential|gradient|lbp-[23]D(?:-\w+?)?)"
    r"_(?P<family>shape2D|shape|firstorder|glcm|glrlm|glszm|gldm|ngtdm)_(?P<feature>\w+)$"
)
_FAMILY = {"shape": "shape", "shape2D": "2D shape", "firstorder": "first-order"}
PART = 0.78  # of the width, for the coefficients


def readable(feature: str) -> str:
    """A PyRadiomics name in words: "log-sigma-2-0-mm-3D_glcm_JointEntropy" becomes "LoG 2 mm · GLCM joint entropy".

    Filters are kept, a modality before the name too ("ct_original_..." becomes "CT · ..."); other names are returned as
    they are.
    """
    if (found := _RADIOMIC.match(feature)) is None:
        return feature
    modality, kind = found["modality"] or "", found["filter"]
    if found["mm"]:
        kind = f"LoG {float(found['mm'] + '.' + found['tenth']):g} mm"
    kind = kind.replace("squareroot", "square root").replace("lbp", "LBP").replace("wavelet-", "wavelet ")
    parts = [modality.upper() if len(modality) <= 3 else modality, "" if kind == "original" else kind]
    name = re.sub(r"(\d+)Percentile", r"\1th percentile", found["feature"])
    if not re.fullmatch(r"(Imc\d|Idm?n?|MCC)", name):
        words = re.findall(r"\d+(?:D|th)|[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
        name = " ".join(word if word.isupper() or word[0].isdigit() else word.lower() for word in words)
    else:
        name = name.upper()
    family = _FAMILY.get(found["family"], found["family"].upper())
    return " · ".join(filter(None, [*parts, f"{family} {name}"]))


def importance(ax: Axes, table: pd.DataFrame, top: int = 15, outcome: str = "outcome") -> Axes:
    """Coefficients with their spread, largest first, and at the right how often each feature is selected.

    Parameters
    ----------
    ax : Axes
        About 0.3 inch of height a feature. The frequencies are drawn in its child `ax.child_axes[0]`.
    table : DataFrame
        The first of what `lib.gcmlm.statistics.stability` returns.
    top : int
        Features drawn: those with the largest absolute mean.
    outcome : str
        What a positive coefficient makes more likely.
    """
    used = table[(table["mean"] != 0) | (table["frequency"] > 0)]
    if used.empty:
        raise ValueError("no feature was selected, so there is no importance to draw")
    size = used["mean"].abs()
    shown = used.assign(size=size).sort_values(["size", "feature"], ascending=[False, True]).head(top)
    ax.axvline(0, color="0.6", lw=0.9, ls="--", zorder=0)
    low, high = (
        min(shown[["low", "coefficient"]].min().min(), 0),
        max(shown[["high", "coefficient"]].max().max(), 0),
    )
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)
    # the frequencies stand in the right part of the same frame, so that a layout needs no second look at them
    share = ax.inset_axes([PART + 0.03, 0, 1 - PART - 0.03, 1], sharey=ax)
    for row, each in enumerate(shown.itertuples()):
        colour = style.PALETTE[1] if each.mean > 0 else style.PALETTE[0]
        ax.plot([each.low, each.high], [row, row], color=colour, lw=1.6, solid_capstyle="butt")
        ax.plot(each.mean, row, "o", ms=5.5, color=colour)
        ax.plot(each.coefficient, row, "D", ms=5, mfc="none", mec="0.15", mew=0.9)
        share.barh(row, each.frequency, 0.6, color=colour, alpha=0.75)
        text = f"{each.frequency:.0%}".replace("%", " %")
        share.text(each.frequency + 0.04, row, text, va="center", size=7.5)
    names = [readable(name) for name in shown["feature"]]
    names = [textwrap.fill(name, max(38, len(name) // 2 + 8)) for name in names]  # on two lines at most
    ax.set(yticks=range(len(shown)), yticklabels=names, ylim=(len(shown) - 0.4, -0.6))
    ax.set(xlim=(low, low + (high - low) / PART))
    ax.set_xticks([tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high])
    ax.set_xlabel(f"per SD (above 0: {outcome} more likely)", x=PART / 2)
    ax.spines["bottom"].set_bounds(low, high)
    share.set(xlim=(0, 1.5), xticks=[0, 1], xticklabels=["0", "100 %"], xlabel="selected")
    share.spines["bottom"].set_bounds(0, 1)
    share.xaxis.label.set_x(1 / 3)
    for each in (ax, share):
        each.tick_params(axis="y", length=0, labelleft=each is ax)
        each.spines["left"].set_visible(False)
    ax.plot([], [], "o-", color="0.4", ms=5.5, lw=1.6, label="mean, and 95 % of resamples")
    ax.plot([], [], "D", ms=5, mfc="none", mec="0.15", mew=0.9, label="fitted on all patients")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    return ax


POINTS = 100.0
TICK_SIZE = 7.5
PROBABILITIES = (
    0.5,
    0.1,
    0.9,
    0.01,
    0.99,
    0.2,
    0.8,
    0.05,
    0.95,
    0.3,
    0.7,
    0.02,
    0.98,
    0.4,
    0.6,
    0.001,
    0.999,
)


@dataclass(frozen=True)
class Term:
    """A variable of a logistic model.

    Attributes
    ----------
    name : str
    coefficient : float
        Log-odds per unit of the variable as it is drawn: see `unscaled`.
    low, high : float
        Range that is drawn, of the training patients.
    words : tuple of str
        What the two ends are called, of a variable that is 0 or 1.
    """

    name: str
    coefficient: float
    low: float
    high: float
    words: tuple[str, ...] = ()

    @property
    def effects(self) -> tuple[float, float]:
        """Lowest and highest log-odds within the range."""
        low, high = sorted((self.coefficient * self.low, self.coefficient * self.high))
        return low, high


def unscaled(
    coefficients: Mapping[str, float], means: Mapping[str, float], sds: Mapping[str, float], intercept: float
) -> tuple[dict[str, float], float]:
    """Coefficients per unit, and the intercept that goes with them, of a logistic model of standardised columns."""
    slopes = {name: value / sds[name] for name, value in coefficients.items()}
    return slopes, intercept - sum(slopes[name] * means[name] for name in slopes)


class Scales:
    """The arithmetic of a nomogram of `Term`s and an intercept (the log-odds where all effects are 0).

    The variable with the widest effect spans 0 to 100 points, every other one its share of that; each has 0 points where
    the probability is lowest.
    """

    def __init__(self, terms: Sequence[Term], intercept: float):
        widest = max(np.ptp(term.effects) for term in terms)
        if not widest > 0 or not np.isfinite(intercept):
            raise ValueError("there is no nomogram of a model that tells nobody apart")
        self.terms, self.per_point = {term.name: term for term in terms}, widest / POINTS
        self.lowest = intercept + sum(term.effects[0] for term in terms)
        self.most = sum(np.ptp(term.effects) for term in terms) / self.per_point

    def points(self, name: str, value: float) -> float:
        """Points of one variable's value."""
        term = self.terms[name]
        return (term.coefficient * float(value) - term.effects[0]) / self.per_point

    def total(self, values: Mapping[str, float]) -> float:
        """Points of a patient: one value a variable."""
        return sum(self.points(name, values[name]) for name in self.terms)

    def probability(self, total: float) -> float:
        """Probability that belongs to a sum of points, 0 to 1."""
        return float(expit(self.lowest + total * self.per_point))

    def total_of(self, probability: float) -> float:
        """Sum of points that belongs to a probability; below 0 or above `most` where no patient reaches it."""
        return float((logit(probability) - self.lowest) / self.per_point)


def nomogram(
    ax: Axes,
    terms: Sequence[Term],
    intercept: float,
    outcome: str = "probability",
    patient: Mapping[str, float] | None = None,
) -> Axes:
    """Points axis, one line a variable with ticks in its own units, total points, probability.

    Read a value's points straight up, add them, and read the probability straight below the total. For 3 to 10 variables
    about 0.5 inch of height each, and 1.5 for the rest. A `patient` (a value each variable) is drawn in red, with the
    points, their sum and its probability.
    """
    scales, rows = Scales(terms, intercept), len(terms) + 3
    ax.set(xlim=(-1.5, POINTS + 1.5), ylim=(rows - 0.35, -0.6))
    ax.set_yticks(range(rows), ["points", *(term.name for term in terms), "total points", outcome])
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_visible(False)
    ax.spines[:].set_visible(False)
    ax.figure.draw_without_rendering()  # gives the axes their place, so that widths of texts can be judged
    for each in range(0, 101, 10):
        ax.plot([each, each], [0, rows - 3 + 0.25], color="0.9", lw=0.6, zorder=0)
    _scale(ax, 0, {float(each): f"{each}" for each in range(0, 101, 10)}, up=True)
    for row, term in enumerate(terms, 1):
        ends = [scales.points(term.name, value) for value in (term.low, term.high)]
        # about one number an eighth of the points axis, or the two ends where the line is short
        ticks = _nice(term.low, term.high, max(int(abs(ends[1] - ends[0]) / 8), 1))
        short = abs(ends[1] - ends[0]) < 12 or len(ticks) < 2
        words = term.words or [f"{tick:.4g}" for tick in ((term.low, term.high) if short else ticks)]
        places = ends if short or term.words else [scales.points(term.name, tick) for tick in ticks]
        _scale(ax, row, dict(sorted(zip(places, words, strict=True))), sorted(ends), both=len(words) == 2)
    # the axis of totals ends on a round number at or beyond the most a patient can have
    steps = MaxNLocator(nbins=10, steps=[1, 2, 2.5, 5, 10]).tick_values(0, scales.most)
    last = float(steps[steps >= scales.most - 1e-9][0])
    along = lambda total: total / last * POINTS  # noqa: E731
    _scale(ax, rows - 2, {along(step): f"{step:g}" for step in steps if 0 <= step <= last})
    ends = scales.probability(0), scales.probability(scales.most)
    chances = [p for p in (*PROBABILITIES, *_nice(*ends, 6)) if ends[0] <= p <= ends[1] and 0 < p < 1]
    texts = {}
    for chance in chances:
        texts.setdefault(along(scales.total_of(chance)), f"{chance:.4g}")
    _scale(ax, rows - 1, texts, (0, along(scales.most)))
    if patient is not None:
        _example(ax, scales, patient, along)
    return ax


def _nice(low: float, high: float, wanted: int) -> np.ndarray:
    ticks = MaxNLocator(nbins=wanted, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return ticks[(ticks >= low - 1e-9) & (ticks <= high + 1e-9)]


def _scale(
    ax: Axes,
    row: int,
    ticks: Mapping[float, str],
    ends: Sequence[float] = (),
    up: bool = False,
    both: bool = False,
) -> None:
    """A horizontal line with ticks; a text too close to one before it is left out, or with `both` takes another side."""
    letter = 0.6 * TICK_SIZE * ax.figure.dpi / 72 * (POINTS + 3) / max(ax.get_window_extent().width, 1.0)
    side, taken = -1 if up else 1, []
    ax.plot(ends or (min(ticks), max(ticks)), [row, row], color="0.15", lw=1.1, solid_capstyle="butt")
    for x, text in ticks.items():
        half = (len(text) + 1) * letter / 2
        for lane in (side, -side) if both else (side,):
            if not any(low < x + half and x - half < high and lane == other for low, high, other in taken):
                taken.append((x - half, x + half, lane))
                ax.plot([x, x], [row, row + 0.12 * lane], color="0.15", lw=0.9)
                va = "top" if lane > 0 else "bottom"
                ax.text(x, row + 0.16 * lane, text, ha="center", va=va, size=TICK_SIZE)
                break


def _example(ax: Axes, scales: Scales, patient: Mapping[str, float], along: Callable) -> None:
    total, rows = scales.total(patient), len(scales.terms) + 3
    for row, name in enumerate(scales.terms, 1):
        x = scales.points(name, patient[name])
        ax.plot([x, x], [0, row], color=style.CANCER, lw=0.8, alpha=0.6, zorder=1)
        ax.plot(x, row, "o", ms=5, color=style.CANCER, zorder=4)
    x, right = along(total), along(total) < 0.75 * POINTS
    ax.plot([x, x], [rows - 2, rows - 1], "o-", ms=5, lw=1.2, color=style.CANCER, zorder=4)
    place = {
        "xytext": (6 if right else -6, 0),
        "textcoords": "offset points",
        "ha": "left" if right else "right",
    }
    box = {
        "va": "center",
        "size": 8,
        "color": style.CANCER,
        "bbox": {"fc": "white", "ec": "none", "pad": 1.0},
    }
    ax.annotate(f"{total:.0f} points: {scales.probability(total):.2f}", (x, rows - 1.5), **place, **box)
