"""A logistic model as points: each variable's, their sum, and the probability that belongs to it.

A CT scan to the eye: a region in three planes, in mm, so that thick slices look as thick as they are.

Pictures are in radiological convention: axial and coronal with the patient's right on the left, sagittal with the front
on the left.

What each subset of the modalities is worth: bars, and below them which modalities each bar has.

Which features a linear model uses, how firmly, and how often it would choose them again.

A logistic model on paper: points for each variable, their sum, and the probability that belongs to it.
"""

import re
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

POINTS = 100.0


@dataclass(frozen=True)
class Number:
    """A variable of numbers.

    Attributes
    ----------
    name : str
    coefficient : float
        Log-odds per unit of the variable as it is drawn. Of a model of standardised columns: its coefficient divided by
        the standard deviation (and the means go into the intercept: see `unscaled`).
    low, high : float
        Range that is drawn, of the training patients.
    unit : str
    """

    name: str
    coefficient: float
    low: float
    high: float
    unit: str = ""

    @property
    def effects(self) -> tuple[float, float]:
        """Lowest and highest log-odds within the range."""
        low, high = sorted((self.coefficient * self.low, self.coefficient * self.high))
        return low, high

    def effect(self, value: float) -> float:
        """Log-odds of a value."""
        return self.coefficient * float(value)


@dataclass(frozen=True)
class Levels:
    """A variable of categories: name, and log-odds of each level (of the one compared with: 0)."""

    name: str
    log_odds: Mapping[str, float]

    @property
    def effects(self) -> tuple[float, float]:
        """Lowest and highest log-odds of a level."""
        return min(self.log_odds.values()), max(self.log_odds.values())

    def effect(self, value: str) -> float:
        """Log-odds of a level."""
        if value not in self.log_odds:
            raise ValueError(f"{self.name} has no level {value!r}; it has {list(self.log_odds)}")
        return self.log_odds[value]


Term = Number | Levels


def unscaled(
    coefficients: Mapping[str, float], means: Mapping[str, float], sds: Mapping[str, float], intercept: float
) -> tuple[dict[str, float], float]:
    """Coefficients per unit, and the intercept that goes with them, of a logistic model of standardised columns."""
    own = {name: value / sds[name] for name, value in coefficients.items()}
    return own, intercept - sum(own[name] * means[name] for name in own)


class Scales:
    """The arithmetic of a nomogram.

    The variable with the widest effect spans 0 to 100 points, every other one its share of that; each has 0 points where
    the probability is lowest.

    Parameters
    ----------
    terms : sequence of Number or Levels
    intercept : float
        Log-odds where all effects are 0.

    Raises
    ------
    ValueError
        No variable, one twice, a range upside down, something not finite, or no variable with an effect.
    """

    def __init__(self, terms: Sequence[Term], intercept: float):
        names = [term.name for term in terms]
        if not terms or len(set(names)) < len(names):
            raise ValueError(f"a nomogram needs variables, each once; got {names}")
        for term in terms:
            if isinstance(term, Number) and not term.low < term.high:
                raise ValueError(f"{term.name} has no range to draw: {term.low} to {term.high}")
            if isinstance(term, Levels) and len(term.log_odds) < 2:
                raise ValueError(f"{term.name} needs two levels or more, got {list(term.log_odds)}")
        if not np.isfinite([intercept, *(end for term in terms for end in term.effects)]).all():
            raise ValueError("an effect or the intercept of the nomogram is not finite")
        widest = max(np.ptp(term.effects) for term in terms)
        if widest == 0:
            raise ValueError("every effect is 0: there is no nomogram of a model that tells nobody apart")
        self.terms, self.intercept = {term.name: term for term in terms}, float(intercept)
        self.per_point = widest / POINTS
        self.lowest = self.intercept + sum(term.effects[0] for term in terms)
        self.most = sum(np.ptp(term.effects) for term in terms) / self.per_point

    def points(self, name: str, value: float | str) -> float:
        """Points of one variable's value."""
        term = self.terms[name]
        return (term.effect(value) - term.effects[0]) / self.per_point

    def total(self, values: Mapping[str, float | str]) -> float:
        """Points of a patient: one value a variable."""
        if missing := [name for name in self.terms if name not in values]:
            raise ValueError(f"the patient of the nomogram lacks {missing}")
        return sum(self.points(name, values[name]) for name in self.terms)

    def probability(self, total: float) -> float:
        """Probability that belongs to a sum of points, 0 to 1."""
        return float(expit(self.lowest + total * self.per_point))

    def total_of(self, probability: float) -> float:
        """Sum of points that belongs to a probability; below 0 or above `most` where no patient reaches it."""
        return float((logit(probability) - self.lowest) / self.per_point)


REGION = style.PALETTE[4]
FINER = 8  # a contour follows the voxels' edges: each voxel is drawn as so many points each way

# axis of the array that is looked along, its letter; letters at the left, right, top and bottom
PLANES = {
    "axial": (0, "z", "RLAP"),
    "coronal": (1, "y", "RLSI"),
    "sagittal": (2, "x", "APSI"),
}


def three_planes(
    axes: Sequence[Axes],
    volume: Volume,
    mask: np.ndarray | None = None,
    *,
    level: float = 40,
    width: float = 400,
    margin_mm: float | None = None,
) -> Sequence[Axes]:
    """Draw axial, coronal and sagittal slices through a region, each where its cross-section is largest.

    Parameters
    ----------
    axes : sequence of 3 Axes
    volume : Volume
        HU, LPS axes.
    mask : array of bool (z, y, x), optional
        Drawn as a contour. None: slices through the middle of the volume.
    level, width : float
        HU of the middle of the grey scale, and from black to white.
    margin_mm : float, optional
        Show so much round the region; else the whole volume.

    Returns
    -------
    axes

    Raises
    ------
    ValueError
        Not three Axes; a mask of another shape or empty; axes that are not LPS.
    """
    axes, (values, grid) = np.ravel(axes), volume[:2]
    if len(axes) != 3:
        raise ValueError(f"three planes are drawn on three axes, {len(axes)} were given")
    if grid.orientation != "LPS":
        raise ValueError(f"planes are drawn of a volume whose axes lie LPS, it has {grid.orientation}")
    if mask is not None:
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != values.shape:
            raise ValueError(f"the mask has {mask.shape} voxels (z, y, x), its volume {values.shape}")
        if not mask.any():
            raise ValueError("the mask is empty: there is no region to draw")
    spacing = np.asarray(grid.spacing_mm[::-1])
    at = [_largest(mask, axis) if mask is not None else n // 2 for axis, n in enumerate(values.shape)]
    for ax, (name, (along, letter, sides)) in zip(axes, PLANES.items(), strict=True):
        down, across = (axis for axis in range(3) if axis != along)
        up = down == 0  # z grows upward, y downward: both as the patient stands before the reader
        ends = [0, values.shape[across] * spacing[across], 0, values.shape[down] * spacing[down]]
        picture = windowed(values.take(at[along], along), level, width)
        ax.imshow(
            picture,
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
            if margin_mm is not None:
                _zoom(ax, mask, across, down, spacing, margin_mm)
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


def _zoom(ax: Axes, mask: np.ndarray, across: int, down: int, spacing: np.ndarray, margin_mm: float) -> None:
    """Limit an Axes to a region's box with a margin."""
    limits = []
    for axis in (across, down):
        there = np.flatnonzero(mask.any(tuple(other for other in range(3) if other != axis)))
        first, last = there[0] * spacing[axis] - margin_mm, (there[-1] + 1) * spacing[axis] + margin_mm
        limits.append((max(first, 0), min(last, mask.shape[axis] * spacing[axis])))
    ax.set_xlim(limits[0])
    ax.set_ylim(limits[1] if down == 0 else limits[1][::-1])


def _letters(ax: Axes, sides: str) -> None:
    """The patient's sides at the edges of a picture."""
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"))
    places += ((0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom"))
    edge = [withStroke(linewidth=2, foreground="black")]  # legible on bone
    for letter, (x, y, ha, va) in zip(sides, places, strict=True):
        text = ax.text(x, y, letter, transform=ax.transAxes, ha=ha, va=va, color="white", weight="bold")
        text.set_path_effects(edge)


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


_RADIOMIC = re.compile(
    r"^(?:(?P<modality>.+?)[_:./ ]+)?"
    r"(?P<filter>original|log-sigma-(?P<mm>\d+)-(?P<tenth>\d+)-mm-3D|wavelet2?-(?P<bands>[LH]{2,3})"
    r"|squareroot|square|logarithm|exponential|gradient|lbp-[23]D(?:-\w+?)?)"
    r"_(?P<family>shape2D|shape|firstorder|glcm|glrlm|glszm|gldm|ngtdm)_(?P<feature>\w+)$"
)
_FAMILY = {"shape": "shape", "shape2D": "2D shape", "firstorder": "first-order"}
PART = 0.78  # of the width, for the coefficients
_SHORT = {"Imc1", "Imc2", "Idm", "Idmn", "Id", "Idn", "MCC"}


def readable(feature: str) -> str:
    """A PyRadiomics name in words: "log-sigma-2-0-mm-3D_glcm_JointEntropy" becomes "LoG 2 mm · GLCM joint entropy".

    Filters are kept, a modality before the name too ("ct_original_..." becomes "CT · ..."); other names are returned as
    they are.
    """
    if (found := _RADIOMIC.match(feature)) is None:
        return feature
    parts = []
    if modality := found["modality"]:
        parts.append(modality.upper() if len(modality) <= 3 else modality)
    if found["mm"]:
        parts.append(f"LoG {float(found['mm'] + '.' + found['tenth']):g} mm")
    elif found["bands"]:
        parts.append(f"wavelet {found['bands']}")
    elif found["filter"] != "original":
        parts.append(found["filter"].replace("squareroot", "square root").replace("lbp", "LBP"))
    family = _FAMILY.get(found["family"], found["family"].upper())
    return " · ".join([*parts, f"{family} {_words(found['feature'])}"])


def _words(name: str) -> str:
    if name in _SHORT:
        return name.upper()
    if percentile := re.fullmatch(r"(\d+)Percentile", name):
        return f"{percentile[1]}th percentile"
    parts = re.findall(r"\d+D|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
    return " ".join(part if part.isupper() or part[0].isdigit() else part.lower() for part in parts)


def importance(
    ax: Axes,
    table: pd.DataFrame,
    top: int = 15,
    outcome: str = "outcome",
    spread: str = "95 % of resamples",
) -> Axes:
    """Coefficients with their spread, largest first, and at the right how often each feature is selected.

    Parameters
    ----------
    ax : Axes
        About 0.3 inch of height a feature.
    table : DataFrame
        As `lib.gcmlm.statistics.Stability.features`: feature, mean (of the coefficient per standard
        deviation), low, high, frequency (0 to 1); optional: coefficient (of the fit on all patients, an open diamond).
    top : int
        Features drawn: those with the largest absolute mean.
    outcome : str
        What a positive coefficient makes more likely.
    spread : str
        What low and high are.

    Returns
    -------
    Axes
        The coefficients' own; the frequencies are its child `ax.child_axes[0]`.

    Raises
    ------
    ValueError
        A column is missing, a feature is twice, a value is not finite, or no feature has a coefficient other than 0.
    """
    columns = ["mean", "low", "high", "frequency"]
    if missing := [column for column in ("feature", *columns) if column not in table]:
        raise ValueError(f"the table of importance lacks {missing}; it has {list(table.columns)}")
    if table["feature"].duplicated().any():
        raise ValueError(f"feature {table['feature'][table['feature'].duplicated()].iloc[0]} is twice")
    if not np.isfinite(table[columns].to_numpy(float)).all():
        raise ValueError("a mean, low, high or frequency of the table of importance is not finite")
    used = table[(table["mean"] != 0) | (table["frequency"] > 0)]
    if used.empty:
        raise ValueError("no feature was selected, so there is no importance to draw")
    size = used["mean"].abs()
    shown = used.assign(size=size).sort_values(["size", "feature"], ascending=[False, True]).head(top)
    ax.axvline(0, color="0.6", lw=0.9, ls="--", zorder=0)
    low, high = min(shown["low"].min(), 0), max(shown["high"].max(), 0)
    if "coefficient" in shown:
        low, high = min(low, shown["coefficient"].min()), max(high, shown["coefficient"].max())
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)
    # the frequencies stand in the right part of the same frame, so that a layout needs no second look at them
    share = ax.inset_axes([PART + 0.03, 0, 1 - PART - 0.03, 1], sharey=ax)
    for row, each in enumerate(shown.itertuples()):
        colour = style.PALETTE[1] if each.mean > 0 else style.PALETTE[0]
        ax.plot([each.low, each.high], [row, row], color=colour, lw=1.6, solid_capstyle="butt")
        ax.plot(each.mean, row, "o", ms=5.5, color=colour)
        if "coefficient" in shown:
            ax.plot(each.coefficient, row, "D", ms=5, mfc="none", mec="0.15", mew=0.9)
        share.barh(row, each.frequency, 0.6, color=colour, alpha=0.75)
        share.text(
            each.frequency + 0.04, row, f"{each.frequency:.0%}".replace("%", " %"), va="center", size=7.5
        )
    names = [_broken(readable(name)) for name in shown["feature"]]
    label = f"per SD (above 0: {outcome} more likely)"
    ax.set(yticks=range(len(shown)), yticklabels=names, ylim=(len(shown) - 0.4, -0.6))
    ax.set(xlim=(low, low + (high - low) / PART))
    ax.set_xticks([tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high])
    ax.set_xlabel(label, x=PART / 2)
    ax.spines["bottom"].set_bounds(low, high)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    share.set(xlim=(0, 1.5), xticks=[0, 1], xticklabels=["0", "100 %"], xlabel="selected")
    share.tick_params(axis="y", length=0, labelleft=False)
    share.spines["bottom"].set_bounds(0, 1)
    share.xaxis.label.set_x(1 / 3)
    share.spines["left"].set_visible(False)
    ax.plot([], [], "o-", color="0.4", ms=5.5, lw=1.6, label=f"mean, and {spread}")
    if "coefficient" in shown:
        ax.plot([], [], "D", ms=5, mfc="none", mec="0.15", mew=0.9, label="fitted on all patients")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    return ax


def _broken(name: str) -> str:
    """A long name on two lines, after a dot or near its middle."""
    if len(name) <= 38:
        return name
    dots, spaces = ([m.end() for m in re.finditer(gap, name)] for gap in (" · ", " "))
    longer = lambda end: max(end, len(name) - end)  # noqa: E731
    places = [end for end in dots if longer(end) <= 42] or spaces
    if not places:
        return name
    place = min(places, key=longer)
    return f"{name[:place].rstrip()}\n{name[place:]}"


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
TICK_SIZE = 7.5


def nomogram(
    ax: Axes,
    terms: Sequence[Term],
    intercept: float,
    outcome: str = "probability",
    patient: Mapping[str, float | str] | None = None,
) -> Axes:
    """Points axis, one line a variable with ticks in its own units, total points, probability.

    Read a value's points straight up, add them, and read the probability straight below the total. For 3 to 10 variables
    about 0.5 inch of height each, and 1.5 for the rest.

    Parameters
    ----------
    ax : Axes
    terms : sequence of Number or Levels
        See `lib.gcmlm.figures`. Drawn from top to bottom.
    intercept : float
    outcome : str
        Name of the last axis.
    patient : mapping of variable to value, optional
        An example, drawn in red: its points, their sum and its probability.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        As `lib.gcmlm.figures.Scales`; a patient without a value of each variable.
    """
    scales = Scales(terms, intercept)
    # the axis of totals ends on a round number at or beyond the most a patient can have
    ticks = MaxNLocator(nbins=10, steps=[1, 2, 2.5, 5, 10]).tick_values(0, scales.most)
    last = float(ticks[ticks >= scales.most - 1e-9][0])
    ticks = ticks[(ticks >= 0) & (ticks <= last)]
    names = [f"{t.name} ({t.unit})" if isinstance(t, Number) and t.unit else t.name for t in terms]
    rows = len(terms) + 3
    ax.set(xlim=(-1.5, POINTS + 1.5), ylim=(rows - 0.35, -0.6))
    ax.set_yticks(range(rows), ["points", *names, "total points", outcome])
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_visible(False)
    ax.spines[:].set_visible(False)
    ax.figure.draw_without_rendering()  # gives the axes their place, so that widths of texts can be judged
    per_letter = 0.6 * TICK_SIZE  # points of type
    per_letter *= ax.figure.dpi / 72 * (POINTS + 3) / max(ax.get_window_extent().width, 1.0)
    for each in range(0, 101, 10):
        ax.plot([each, each], [0, rows - 3 + 0.25], color="0.9", lw=0.6, zorder=0)
    draw = _Line(ax, per_letter)
    draw(
        0,
        0,
        POINTS,
        {float(each): f"{each}" for each in range(0, 101, 10)},
        above=True,
        minor=range(0, 101, 2),
    )
    for row, term in enumerate(terms, 1):
        place = lambda value, name=term.name: scales.points(name, value)  # noqa: E731
        _variable(draw, row, term, place)
    along = lambda total: total / last * POINTS  # noqa: E731
    draw(rows - 2, 0, POINTS, {along(tick): f"{tick:g}" for tick in ticks}, minor=along(_between(ticks, 5)))
    _probabilities(draw, rows - 1, scales, along)
    if patient is not None:
        _example(ax, scales, patient, along)
    return ax


class _Line:
    """A scale: a horizontal line with ticks, whose texts go where there is room."""

    def __init__(self, ax: Axes, per_letter: float):
        self.ax, self.per_letter = ax, per_letter

    def __call__(
        self,
        row: int,
        start: float,
        end: float,
        ticks: Mapping[float, str],
        above: bool = False,
        minor: Sequence[float] = (),
        all_shown: bool = False,
    ) -> None:
        side = -1 if above else 1
        self.ax.plot([start, end], [row, row], color="0.15", lw=1.1, solid_capstyle="butt")
        for x in minor:
            self.ax.plot([x, x], [row, row + 0.06 * side], color="0.15", lw=0.5)
        taken: list[tuple[float, float, int]] = []
        for x, text in ticks.items():
            half = (len(text) + 1) * self.per_letter / 2
            # categories that lie close take the other side, then a second line; numbers too close are left out
            for lane in (side, -side, 2 * side) if all_shown else (side,):
                if not any(low < x + half and x - half < high and lane == own for low, high, own in taken):
                    break
            else:
                if not all_shown:
                    continue
            taken.append((x - half, x + half, lane))
            way = np.sign(lane)
            self.ax.plot([x, x], [row, row + 0.12 * way], color="0.15", lw=0.9)
            y = row + way * (0.16 + 0.28 * (abs(lane) - 1))
            self.ax.text(x, y, text, ha="center", va="top" if way > 0 else "bottom", size=TICK_SIZE)


def _variable(draw: _Line, row: int, term: Term, place: Callable[[float | str], float]) -> None:
    if isinstance(term, Levels):
        ticks = {}
        for level in sorted(term.log_odds, key=place):  # levels of one effect share a tick
            x = place(level)
            ticks[x] = f"{ticks[x]}, {level}" if x in ticks else str(level)
        draw(row, min(ticks), max(ticks), ticks, all_shown=True)
        return
    ends = sorted((place(term.low), place(term.high)))
    # about one number an eighth of the points axis, or the two ends where the line is short
    wanted = max(int((ends[1] - ends[0]) / 8), 1)
    ticks = MaxNLocator(nbins=wanted, steps=[1, 2, 2.5, 5, 10]).tick_values(term.low, term.high)
    ticks = ticks[(ticks >= term.low - 1e-9) & (ticks <= term.high + 1e-9)]
    if ends[1] - ends[0] < 12 or len(ticks) < 2:
        ticks = np.array([term.low, term.high])
        fine = np.linspace(term.low, term.high, 5)
    else:
        step = (ticks[1] - ticks[0]) / 5
        fine = np.arange(np.ceil(term.low / step), np.floor(term.high / step) + 1) * step
    draw(
        row,
        *ends,
        {place(tick): f"{tick:.4g}" for tick in sorted(ticks, key=place)},
        minor=[place(tick) for tick in fine],
        all_shown=len(ticks) == 2,
    )


def _between(ticks: np.ndarray, parts: int) -> np.ndarray:
    return np.linspace(ticks[0], ticks[-1], (len(ticks) - 1) * parts + 1)


def _probabilities(draw: _Line, row: int, scales: Scales, along: Callable) -> None:
    ends = scales.probability(0), scales.probability(scales.most)
    own = MaxNLocator(nbins=6).tick_values(*ends)
    ticks = {}
    for probability in (*PROBABILITIES, *own[(own > 0) & (own < 1)]):
        if ends[0] <= probability <= ends[1]:
            ticks.setdefault(along(scales.total_of(probability)), f"{probability:.4g}")
    fine = [each for each in np.r_[0.01:0.1:0.01, 0.1:0.9:0.05, 0.9:0.995:0.01] if ends[0] <= each <= ends[1]]
    draw(row, 0, along(scales.most), ticks, minor=[along(scales.total_of(each)) for each in fine])


def _example(ax: Axes, scales: Scales, patient: Mapping[str, float | str], along: Callable) -> None:
    total = scales.total(patient)
    rows = len(scales.terms) + 3
    for row, name in enumerate(scales.terms, 1):
        x = scales.points(name, patient[name])
        ax.plot([x, x], [0, row], color=style.CANCER, lw=0.8, alpha=0.6, zorder=1)
        ax.plot(x, row, "o", ms=5, color=style.CANCER, zorder=4)
    x = along(total)
    ax.plot([x, x], [rows - 2, rows - 1], "o-", ms=5, lw=1.2, color=style.CANCER, zorder=4)
    words = f"{total:.0f} points: {scales.probability(total):.2f}"
    right = x < 0.75 * POINTS
    ax.annotate(
        words,
        (x, rows - 1.5),
        xytext=(6 if right else -6, 0),
        textcoords="offset points",
        ha="left" if right else "right",
        va="center",
        size=8,
        color=style.CANCER,
        bbox={"fc": "white", "ec": "none", "pad": 1.0},
    )
