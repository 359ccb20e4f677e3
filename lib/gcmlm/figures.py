"""The study's own figures: a scan in three planes, and a nomogram."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy.special import expit, logit

from lib.figures import style
from lib.inputs.volumes import Volume

REGION = style.PALETTE[4]
WINDOW_HU = (-160, 240)  # from black to white

# axis of the array that is looked along, its letter; letters at the left, right, top and bottom
PLANES = {"axial": (0, "z", "RLAP"), "coronal": (1, "y", "RLSI"), "sagittal": (2, "x", "APSI")}
PLACES = (  # of the letters: x, y, alignments
    (0.02, 0.5, "left", "center"),
    (0.98, 0.5, "right", "center"),
    (0.5, 0.98, "center", "top"),
    (0.5, 0.02, "center", "bottom"),
)


def three_planes(axes: Sequence[Axes], volume: Volume, mask: np.ndarray) -> Sequence[Axes]:
    """Draw axial, coronal and sagittal slices through a region, each where its cross-section is largest, in mm.

    Radiological convention: axial and coronal with the patient's right on the left, sagittal with the front on the left.
    `axes`: three; `volume`: HU, LPS axes; `mask`: bool (z, y, x), not empty, drawn as a contour.
    """
    values, grid = volume[:2]
    spacing = np.asarray(grid.spacing_mm[::-1])
    for ax, (name, (along, letter, sides)) in zip(axes, PLANES.items(), strict=True):
        down, across = (axis for axis in range(3) if axis != along)
        counts = mask.sum((down, across))
        most = np.flatnonzero(counts == counts.max())
        at = int(most[(len(most) - 1) // 2])
        up = down == 0  # z grows upward, y downward: both as the patient stands before the reader
        right, top = values.shape[across] * spacing[across], values.shape[down] * spacing[down]
        look = {
            "cmap": "gray",
            "vmin": WINDOW_HU[0],
            "vmax": WINDOW_HU[1],
            "aspect": "equal",
            "interpolation": "nearest",
        }
        look |= {"origin": "lower" if up else "upper", "extent": (0, right, *((0, top) if up else (top, 0)))}
        ax.imshow(values.take(at, along), **look)
        inside = np.pad(mask.take(at, along), 1).astype(float)
        y, x = ((np.arange(n) - 0.5) * spacing[a] for n, a in zip(inside.shape, (down, across), strict=True))
        ax.contour(x, y, inside, levels=[0.5], colors=[REGION], linewidths=1.2)
        ax.set(xlim=(0, right), ylim=(0, top) if up else (top, 0))
        for side, (x, y, ha, va) in zip(sides, PLACES, strict=True):
            text = ax.text(x, y, side, transform=ax.transAxes, ha=ha, va=va, color="white", weight="bold")
            text.set_path_effects([withStroke(linewidth=2, foreground="black")])  # legible on bone
        ax.set(title=f"{name}, {letter} {at + 1} of {values.shape[along]}", xlabel="mm", ylabel="mm")
    axes[1].set_xlabel("mm\nwindow {} to {} HU".format(*WINDOW_HU))
    return axes


POINTS = 100.0
ODDS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)


class Nomogram:
    """The arithmetic of a nomogram, of a logistic model of standardised columns.

    The variable with the widest effect spans 0 to 100 points, every other one its share of that; each has 0 points where the
    probability is lowest. `rows`, by variable, have coefficient (log-odds per standard deviation), centre, spread (which
    standardise it), low, high (the range that is drawn, of the training patients), as coefficients.csv has
    them of the combiner; those of coefficient 0 are left out. `intercept` is the log-odds of the patient at every centre.
    """

    def __init__(self, rows: pd.DataFrame, intercept: float):
        self.rows = rows = rows[rows["coefficient"] != 0]
        self.slope = rows["coefficient"] / rows["spread"]
        self.ends = rows[["low", "high"]].mul(self.slope, axis=0)
        effects = self.ends.max(axis=1) - self.ends.min(axis=1)
        self.per_point = effects.max() / POINTS
        self.lowest = intercept + (self.ends.min(axis=1) - self.slope * rows["centre"]).sum()
        self.most = effects.sum() / self.per_point

    def points(self, name: str, value: float | np.ndarray) -> float | np.ndarray:
        return (self.slope[name] * value - self.ends.loc[name].min()) / self.per_point

    def total(self, patient: Mapping[str, float]) -> float:
        return sum(self.points(name, patient[name]) for name in self.rows.index)

    def probability(self, total: float) -> float:
        """Probability that belongs to a sum of points, 0 to 1."""
        return float(expit(self.lowest + total * self.per_point))

    def total_of(self, probability: float) -> float:
        """Sum of points that belongs to a probability; below 0 or above `most` where no patient reaches it."""
        return float((logit(probability) - self.lowest) / self.per_point)


def nomogram(
    ax: Axes, model: Nomogram, outcome: str = "probability", patient: Mapping[str, float] | None = None
) -> Axes:
    """Points axis, one line a variable with ticks in its own units, total points, probability.

    Read a value's points straight up, add them, and read the probability straight below the total. For 3 to 10 variables
    about 0.5 inch of height each, and 1.5 for the rest. A `patient` (a value each variable) is drawn in red, with the
    points, their sum and its probability.
    """
    names = list(model.rows.index)
    last = len(names) + 2
    ax.set(xlim=(-1.5, POINTS + 1.5), ylim=(last + 0.65, -0.6))
    ax.set_yticks(range(last + 1), ["points", *names, "total points", outcome])
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_visible(False)
    ax.spines[:].set_visible(False)
    ax.vlines(np.arange(0, 101, 10), 0, last - 1.75, color="0.9", lw=0.6, zorder=0)
    _scale(ax, 0, np.arange(0, 101, 10), np.arange(0, 101, 10), side=-1)
    for row, name in enumerate(names, 1):
        low, high = model.rows.loc[name, ["low", "high"]]
        ends = model.points(name, low), model.points(name, high)
        # about one number an eighth of the points axis, or the two ends where the line is short
        ticks = np.array([low, high])
        if abs(ends[1] - ends[0]) > 12 and (low, high) != (0, 1):
            ticks = _round(low, high, int(abs(ends[1] - ends[0]) / 8))
        words = ["no", "yes"] if (low, high) == (0, 1) else [f"{tick:.4g}" for tick in ticks]
        _scale(ax, row, model.points(name, ticks), words, ends)
    # the axis of totals ends on a round number at or beyond the most a patient can have
    steps = MaxNLocator(nbins=10, steps=[1, 2, 2.5, 5, 10]).tick_values(0, model.most)
    steps = steps[: np.searchsorted(steps, model.most - 1e-9) + 1]
    along = POINTS / steps[-1]
    _scale(ax, last - 1, along * steps, [f"{step:g}" for step in steps])
    low, high = model.probability(0), model.probability(model.most)
    chances = [p for p in sorted({*ODDS, *_round(low, high, 6).round(6)}) if low <= p <= high and 0 < p < 1]
    places = [along * model.total_of(chance) for chance in chances]
    _scale(ax, last, places, [f"{chance:.4g}" for chance in chances], (0, along * model.most))
    if patient is not None:
        total = model.total(patient)
        for row, name in enumerate(names, 1):
            ax.plot(
                [model.points(name, patient[name])] * 2, [0, row], "-", color=style.CANCER, lw=0.8, alpha=0.6
            )
            ax.plot(model.points(name, patient[name]), row, "o", ms=5, color=style.CANCER, zorder=4)
        ax.plot([along * total] * 2, [last - 1, last], "o-", ms=5, lw=1.2, color=style.CANCER, zorder=4)
        text, left = f" {total:.0f} points: {model.probability(total):.2f} ", along * total < 0.75 * POINTS
        look = {"ha": "left" if left else "right", "va": "center", "size": 8, "color": style.CANCER}
        ax.text(along * total, last - 0.5, text, bbox={"fc": "white", "ec": "none", "pad": 1.0}, **look)
    return ax


def _round(low: float, high: float, wanted: int) -> np.ndarray:
    ticks = MaxNLocator(nbins=max(wanted, 1), steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return ticks[(ticks >= low - 1e-9) & (ticks <= high + 1e-9)]


def _scale(
    ax: Axes, row: int, places: Sequence[float], texts: Sequence, ends: Sequence[float] = (), side: int = 1
) -> None:
    """A horizontal line with ticks; a text too close to one before it is left out, two of a short line stand beside it."""
    ends, taken = sorted(ends or (min(places), max(places))), -np.inf
    ax.plot(ends, [row, row], color="0.15", lw=1.1, solid_capstyle="butt")
    for x, text in sorted(zip(places, map(str, texts), strict=True)):
        half = 0.6 * (len(text) + 1)  # points that the text takes to each side, on some 8 inches
        beside = len(places) == 2 and ends[1] - ends[0] < 12
        if beside or x - half > taken:
            taken = x + half
            ax.plot([x, x], [row, row + 0.12 * side], color="0.15", lw=0.9)
            ha = "center" if not beside else "right" if x == min(places) else "left"
            ax.text(x, row + 0.16 * side, text, ha=ha, va="top" if side > 0 else "bottom", size=8)
