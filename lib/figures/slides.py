"""A slide as the pipeline sees it: tissue found, tiles kept at each scale, tiles that failed."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lib.features.tile_grid import TileGrid
from lib.figures import style
from lib.figures.maps import _scale_bar

OUTLINE, HOLE = style.PALETTE[2], style.PALETTE[0]
KEPT, FAILED = style.PALETTE[0], style.CANCER
HEIGHT, WIDEST = 3.0, 3.6  # inches of a panel
TWO_ROWS = 1.6  # slides wider than this stand two by two


def slide_figure(
    thumbnail: ArrayLike,
    grid: TileGrid,
    outlines: Sequence[np.ndarray] = (),
    holes: Sequence[np.ndarray] = (),
) -> Figure:
    """The slide with its tissue, and beside it its tiles at each scale.

    Parameters
    ----------
    thumbnail : uint8 array (height, width, 3)
        The whole slide, of any size.
    grid : TileGrid
        After embedding it knows which tiles failed.
    outlines, holes : sequences of array (m, 2)
        Of tissue, level-0 pixels: of `Tissue.outlines`, or a `Segmentation`'s contours and holes.

    Returns
    -------
    Figure
    """
    width, height = grid.size
    number = 1 + len(grid.tiles)
    columns = (number + 1) // 2 if width > TWO_ROWS * height else number
    rows = -(-number // columns)
    panel = min(WIDEST, max(1.8, HEIGHT * width / height))
    fig, axes = plt.subplots(
        rows, columns, figsize=(columns * panel, rows * (panel * height / width + 0.5) + 0.25), squeeze=False
    )
    axes = axes.ravel()
    draw_tissue(axes[0], thumbnail, grid, outlines, holes)
    for ax, scale in zip(axes[1:], grid.scales, strict=False):
        draw_tiles(ax, thumbnail, grid, scale)
    for ax in axes[number:]:
        ax.set_visible(False)
    fig.suptitle(f"{grid.slide}: {grid.status}", fontsize=10)
    return fig


def draw_tissue(
    ax: Axes,
    thumbnail: ArrayLike,
    grid: TileGrid,
    outlines: Sequence[np.ndarray] = (),
    holes: Sequence[np.ndarray] = (),
) -> Axes:
    """Draw the slide with outlines of its tissue and a scale bar; arguments as of `slide_figure`."""
    _draw_slide(ax, thumbnail, grid)
    for lines, colour, name in ((outlines, OUTLINE, "tissue"), (holes, HOLE, "hole")):
        closed = [np.vstack([line, line[:1]]) for line in lines]
        ax.add_collection(LineCollection(closed, colors=colour, linewidths=1.2, label=name))
    number = f", {len(holes)} hole{'s' * (len(holes) > 1)} in blue" if len(holes) else ""
    ax.set_title("tissue" + number)
    return ax


def draw_tiles(ax: Axes, thumbnail: ArrayLike, grid: TileGrid, scale: int) -> Axes:
    """Draw the kept tiles of one scale as squares; those that could not be decoded are filled and crossed out.

    Parameters
    ----------
    ax : Axes
    thumbnail, grid
        As of `slide_figure`.
    scale : int
        A key of `grid.tiles`.

    Returns
    -------
    Axes
    """
    _draw_slide(ax, thumbnail, grid, opacity=0.6)
    corners = (
        grid.tiles[scale].coords + grid.side_px(scale) * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])[:, None]
    )
    squares = corners.transpose(1, 0, 2)
    ax.add_collection(PolyCollection(squares, facecolors="none", edgecolors=KEPT, linewidths=0.6))
    lost = squares[grid.failed[scale]]
    if len(lost):
        ax.add_collection(
            PolyCollection(lost, facecolors=FAILED, edgecolors=FAILED, linewidths=0.8, alpha=0.75)
        )
        crosses = np.concatenate([lost[:, [0, 2]], lost[:, [1, 3]]])
        ax.add_collection(LineCollection(crosses, colors="black", linewidths=0.8))
    failed = f", {len(lost)} failed" if len(lost) else ""
    ax.set_title(f"{scale}x: {len(squares)} tiles{failed}")
    return ax


def _draw_slide(ax: Axes, thumbnail: ArrayLike, grid: TileGrid, opacity: float = 1.0) -> None:
    width, height = grid.size
    ax.imshow(
        np.asarray(thumbnail), extent=(0, width, height, 0), interpolation="bilinear", alpha=opacity, zorder=0
    )
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
    ax.spines[:].set(color="0.75", linewidth=0.6)
    _scale_bar(ax, grid.um_per_px)
