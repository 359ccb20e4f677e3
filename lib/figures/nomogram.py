"""A logistic model on paper: points for each variable, their sum, and the probability that belongs to it."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lib.figures import style
from lib.statistics.points import POINTS, Levels, Number, Scales, Term

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
        See `lib.statistics.points`. Drawn from top to bottom.
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
        As `lib.statistics.points.Scales`; a patient without a value of each variable.
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
