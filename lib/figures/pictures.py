"""Spots over the tissue they were read from.

A slide as the pipeline sees it: tissue found, tiles kept at each scale, tiles that failed.

Where on a slide a model takes its information from.
"""

from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection, PatchCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.transforms import ScaledTranslation
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import ArrayLike
from PIL import Image
from scipy.stats import rankdata

from lib.features.tiles import TileGrid
from lib.figures import style

CLASSES = (("cancer", style.CANCER), ("other", style.OTHER), ("undetermined", style.UNDETERMINED))
_WIDEST = 900  # pixels of a drawn picture: more is not seen and makes large svg files


def picture_with_spots(
    ax: Axes,
    picture: ArrayLike | Image.Image | None,
    xy: ArrayLike,
    *,
    spot_px: float,
    values: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    picture_scale: tuple[float, float] = (1.0, 1.0),
    um_per_px: float | None = None,
    limits: tuple[float, float] | None = None,
    value_name: str = "score",
    legend: bool = True,
    opacity: float = 0.85,
) -> Axes:
    """Draw a section's spots, by value or by label, over its picture or on white.

    The view is cut to the spots and a margin, so that an inset beside the tissue is not shown.

    Parameters
    ----------
    ax : Axes
    picture : (height, width, 3) uint8 array, PIL image, or None
        The H&E picture as its file holds it; None draws the spots on white.
    xy : array (n, 2)
        Spot centres in pixels of the full-resolution picture, origin top left.
    spot_px : float
        Spot diameter in the same pixels. Drawn to scale.
    values : array (n,), optional
        A number a spot, higher = more cancer-like; NaN is drawn grey. Either this or `labels`, or neither
        (outlines only).
    labels : array (n,), optional
        1 cancer, 0 other, NaN undetermined: three fixed colours.
    picture_scale : (float, float)
        Full-resolution pixel to pixel of the given picture, along x and y.
    um_per_px : float, optional
        µm a full-resolution pixel; draws a scale bar.
    limits : (float, float), optional
        Values at the two ends of the colours; the smallest and largest value by default.
    value_name : str
        Title of the colour bar.
    legend : bool
        Draw the colour bar or the key of the classes.
    opacity : float
        0 to 1, of the spots.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        Both values and labels, or another number of them than of spots.
    """
    xy = np.asarray(xy, dtype=float)
    if values is not None and labels is not None:
        raise ValueError("give values or labels, not both: a spot has one colour")
    given = values if values is not None else labels
    if given is not None and np.shape(given) != (len(xy),):
        raise ValueError(f"{len(xy)} spots but values or labels of shape {np.shape(given)}")
    margin = 1.5 * spot_px
    left, top = xy.min(0) - margin
    right, bottom = xy.max(0) + margin
    if picture is not None:
        _draw_picture(ax, picture, (left, top, right, bottom), picture_scale)
    spots = EllipseCollection(
        spot_px,
        spot_px,
        0,
        units="xy",
        offsets=xy,
        offset_transform=ax.transData,
        linewidths=0.3 if given is not None else 0.8,
        edgecolors="white" if given is not None else style.PALETTE[6],
        facecolors="none" if given is None else style.UNDETERMINED,
        alpha=opacity,
    )
    if values is not None:
        _paint_values(ax, spots, np.asarray(values, dtype=float), limits, value_name, legend)
    elif labels is not None:
        _paint_labels(ax, spots, np.asarray(labels, dtype=float), legend)
    ax.add_collection(spots)
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if um_per_px is not None:
        _scale_bar(ax, um_per_px)
    return ax


def _draw_picture(
    ax: Axes, picture: ArrayLike | Image.Image, view: tuple[float, float, float, float], scale
) -> None:
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(np.asarray(picture))
    factor = np.array([*scale, *scale], dtype=float)
    low, high = np.zeros(4), np.tile(picture.size, 2)
    box = np.clip(np.array(view) * factor + [0, 0, 1, 1], low, high).astype(int)
    part = picture.crop(tuple(box.tolist())).convert("RGB")
    part.thumbnail((_WIDEST, _WIDEST))
    left, top, right, bottom = box / factor
    ax.imshow(part, extent=(left, right, bottom, top), interpolation="bilinear", zorder=0)


def _paint_values(ax: Axes, spots: EllipseCollection, values, limits, name: str, legend: bool) -> None:
    spots.set_array(np.ma.masked_invalid(values))
    colours = mpl.colormaps[style.SCORES].with_extremes(bad=style.UNDETERMINED)
    spots.set_cmap(colours)
    spots.set_clim(*(limits if limits is not None else (np.nanmin(values), np.nanmax(values))))
    if legend:
        bar = ax.figure.colorbar(spots, ax=ax, shrink=0.6, pad=0.02, aspect=18)
        bar.set_label(name)
        bar.outline.set_visible(False)
        bar.solids.set_alpha(1)


def _paint_labels(ax: Axes, spots: EllipseCollection, labels: np.ndarray, legend: bool) -> None:
    which = np.where(np.isnan(labels), 2, np.where(labels == 1, 0, 1))
    spots.set_facecolor([CLASSES[number][1] for number in which])
    if legend:
        shown = [CLASSES[number] for number in np.unique(which)]
        below_the_bar = ScaledTranslation(0, -24 / 72, ax.figure.dpi_scale_trans)
        ax.legend(
            handles=[Patch(color=colour, label=name) for name, colour in shown],
            loc="upper center",
            bbox_to_anchor=(0.5, 0.0),
            bbox_transform=ax.transAxes + below_the_bar,
            borderaxespad=0,
            ncols=3,
            handlelength=1,
            columnspacing=1.2,
        )


def _scale_bar(ax: Axes, um_per_px: float) -> None:
    """A bar of 1, 2 or 5 times a power of ten µm, under the view, where it hides neither spot nor tissue."""
    left, right = ax.get_xlim()
    room = 0.3 * (right - left) * um_per_px
    power = 10.0 ** np.floor(np.log10(room))
    length = max(step * power for step in (1, 2, 5) if step * power <= room)
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    bar = AnchoredSizeBar(
        ax.transData,
        length / um_per_px,
        text,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes,
        frameon=False,
        pad=0.1,
        borderpad=0.3,
        sep=3,
        size_vertical=0.006 * (right - left),
    )
    ax.add_artist(bar)


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


def draw_received(ax: Axes, thumbnail: ArrayLike, grid: TileGrid, scale: int, attention: ArrayLike) -> Axes:
    """Draw each tile of a scale in the colour of its rank among the slide's tiles, over the slide.

    Parameters
    ----------
    ax : Axes
    thumbnail : uint8 array (height, width, 3)
        The whole slide, of any size.
    grid : TileGrid
    scale : int
    attention : array (n,)
        One number a tile of `grid.tiles[scale]`; higher = more is taken from it. Only its order is drawn.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        Not one number a tile: features and tiles are not of one run, or tiles failed to decode.
    """
    attention, coords = np.asarray(attention, dtype=float), grid.tiles[scale].coords
    if attention.shape != (len(coords),):
        raise ValueError(
            f"slide {grid.slide} has {len(coords)} tiles at {scale}x and attention for {attention.size}: embed it again"
        )
    width, height = grid.size
    ax.imshow(np.asarray(thumbnail), extent=(0, width, height, 0), interpolation="bilinear")
    side = grid.side_px(scale)
    tiles = PatchCollection([Rectangle(xy, side, side) for xy in coords], cmap=style.SCORES, alpha=0.6, lw=0)
    tiles.set_array(rankdata(attention) / max(1, attention.size))
    tiles.set_clim(0, 1)
    ax.add_collection(tiles)
    ax.set(
        xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[], title=f"received at {scale}x"
    )
    return ax
