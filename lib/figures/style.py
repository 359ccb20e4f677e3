"""One look for every figure, and files whose bytes depend on the figure alone."""

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from IPython.display import Markdown, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation

from lib.files import written

# Okabe and Ito's palette: told apart under the common colour-vision deficiencies
CANCER, OTHER, UNDETERMINED = "#D55E00", "#0072B2", "#9A9A9A"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F")
SCORES = "viridis"
COLUMN_PX = 804  # width of the text on a window of 1,400 pixels
LEAST_PX = 9  # height of the smallest letters' font there

RC = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": mpl.cycler(color=PALETTE),
    "lines.linewidth": 1.6,
    "image.cmap": SCORES,
    "svg.fonttype": "path",
    "svg.hashsalt": "crossbook",
}


def use() -> None:
    """Set fonts, sizes and the palette for all figures made after it."""
    mpl.rcParams.update(RC)


def note(words: str) -> None:
    """Say in words, where a figure would stand, why there is none; the book prints them without figure number."""
    display(Markdown(words))


def rows(ax: Axes, labels: Sequence[str]) -> None:
    """Name the rows 0, 1, ... of a plot, the first on top."""
    ax.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.4, -0.6))
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def panels(count: int, size: tuple[float, float], columns: int = 2, **options) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, each `size` inches, in rows of `columns`; `options` as of `plt.subplots`, e.g. sharex."""
    columns = min(columns, count)
    rows = -(-count // columns)
    inches = (size[0] * columns, size[1] * rows)
    figure, axes = plt.subplots(rows, columns, figsize=inches, squeeze=False, **options)
    for ax in axes.flat[count:]:
        ax.set_visible(False)
    for ax in axes.flat[max(0, count - columns) : count]:  # the last of a column keeps its numbers
        ax.tick_params(labelbottom=True)
    return figure, list(axes.flat[:count])


def key(ax: Axes, columns: int = 1) -> None:
    """Put the key of the axes below them and their label, off the curves."""
    lines = 1 + ax.get_xlabel().count("\n")
    below = ScaledTranslation(0, -(22 + 13 * lines) / 72, ax.figure.dpi_scale_trans)
    place = dict(bbox_to_anchor=(0, 0), bbox_transform=ax.transAxes + below, borderaxespad=0)
    ax.legend(loc="upper left", ncols=columns, **place)


def make_legible(fig: Figure) -> None:
    """Enlarge every text that a reader would see smaller than `LEAST_PX`: a figure wider than the page's column is shrunk to it."""
    shrunk = min(1.0, COLUMN_PX / (96 * fig.get_figwidth()))
    least = LEAST_PX * 72 / 96 / shrunk
    for axis in (axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis)):
        if any(tick.get_size() < least for tick in axis.get_ticklabels()):
            axis.set_tick_params(labelsize=least)  # of ticks to come as well
    for text in fig.findobj(Text):
        if text.get_text().strip() and text.get_size() < least:
            text.set_size(least)


def save(fig: Figure, path: str | os.PathLike, png: bool = True) -> list[Path]:
    """Write a figure as svg and, unless it is for a page alone, png; their paths, of which each was written whole or not at all.

    Equal figures give equal bytes. Small text is enlarged. `path` with or without .svg or .png.
    """
    make_legible(fig)
    path = Path(path)
    name = path.stem if path.suffix in (".svg", ".png") else path.name
    # a date, and matplotlib's version in a png, would change the bytes of an unchanged figure
    metadata = {".svg": {"Date": None, "Creator": None}} | ({".png": {"Software": None}} if png else {})
    paths = [path.with_name(name + suffix) for suffix in metadata]
    with mpl.rc_context({key: RC[key] for key in ("svg.fonttype", "svg.hashsalt", "savefig.dpi")}):
        for target in paths:
            with written(target) as part:
                fig.savefig(part, metadata=metadata[target.suffix])
    return paths
