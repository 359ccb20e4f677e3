"""Pictures of tissue: spots over the section they were read from, tiles and a model's attention over their slide."""

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import ArrayLike
from PIL import Image
from scipy.stats import rankdata

from lib.features.tiles import TileGrid
from lib.figures import style

CLASSES = (("cancer", style.CANCER), ("other", style.OTHER), ("undetermined", style.UNDETERMINED))
_SMALL = 160  # side of a picture on a contact sheet
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
    """
    xy = np.asarray(xy, dtype=float)
    margin = 1.5 * spot_px
    left, top = xy.min(0) - margin
    right, bottom = xy.max(0) + margin
    if picture is not None:
        _draw_picture(ax, picture, (left, top, right, bottom), picture_scale)
    look = dict(linewidths=0.3, edgecolors="white", facecolors=style.UNDETERMINED)
    if values is None and labels is None:
        look = dict(linewidths=0.8, edgecolors=style.PALETTE[6], facecolors="none")
    place = dict(units="xy", offsets=xy, offset_transform=ax.transData)
    spots = EllipseCollection(spot_px, spot_px, 0, alpha=opacity, **place, **look)
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


def _draw_picture(ax: Axes, picture: ArrayLike | Image.Image, view: tuple, scale: tuple) -> None:
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
        handles = [Patch(color=colour, label=name) for name, colour in shown]
        below_the_bar = ax.transAxes + ScaledTranslation(0, -24 / 72, ax.figure.dpi_scale_trans)
        place = dict(loc="upper center", bbox_to_anchor=(0.5, 0.0), bbox_transform=below_the_bar)
        ax.legend(handles=handles, **place, borderaxespad=0, ncols=3, handlelength=1, columnspacing=1.2)


def _scale_bar(ax: Axes, um_per_px: float) -> None:
    """A bar of 1, 2 or 5 times a power of ten µm, under the view, where it hides neither spot nor tissue."""
    left, right = ax.get_xlim()
    room = 0.3 * (right - left) * um_per_px
    power = 10.0 ** np.floor(np.log10(room))
    length = max(step * power for step in (1, 2, 5) if step * power <= room)
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    place = dict(loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=ax.transAxes, frameon=False)
    thick = 0.006 * (right - left)
    gaps = dict(pad=0.1, borderpad=0.3, sep=3)
    bar = AnchoredSizeBar(ax.transData, length / um_per_px, text, size_vertical=thick, **place, **gaps)
    ax.add_artist(bar)


OUTLINE, HOLE = style.PALETTE[2], style.PALETTE[0]
KEPT, FAILED = style.PALETTE[0], style.CANCER


def draw_tissue(
    ax: Axes,
    thumbnail: ArrayLike,
    grid: TileGrid,
    outlines: Sequence[np.ndarray] = (),
    holes: Sequence[np.ndarray] = (),
) -> Axes:
    """Draw the slide with outlines of its tissue and a scale bar.

    Parameters
    ----------
    thumbnail : uint8 array (height, width, 3)
        The whole slide, of any size.
    outlines, holes : sequences of array (m, 2)
        Of tissue, level-0 pixels: of `Tissue.outlines`, or a `Segmentation`'s contours and holes.
    """
    _draw_slide(ax, thumbnail, grid)
    for lines, colour, name in ((outlines, OUTLINE, "tissue"), (holes, HOLE, "hole")):
        closed = [np.vstack([line, line[:1]]) for line in lines]
        ax.add_collection(LineCollection(closed, colors=colour, linewidths=1.2, label=name))
    number = f", {len(holes)} hole{'s' * (len(holes) > 1)} in blue" if len(holes) else ""
    ax.set_title("tissue" + number)
    return ax


def draw_tiles(ax: Axes, thumbnail: ArrayLike, grid: TileGrid, scale: int) -> Axes:
    """Draw the kept tiles of one scale as squares; those that could not be decoded are filled and crossed out.

    After embedding the grid knows which tiles failed.
    """
    _draw_slide(ax, thumbnail, grid, opacity=0.6)
    squares = _squares(grid, scale)
    ax.add_collection(PolyCollection(squares, facecolors="none", edgecolors=KEPT, linewidths=0.6))
    lost = squares[grid.failed.get(scale, [])]
    if len(lost):
        filled = dict(facecolors=FAILED, edgecolors=FAILED, linewidths=0.8, alpha=0.75)
        ax.add_collection(PolyCollection(lost, **filled))
        crosses = np.concatenate([lost[:, [0, 2]], lost[:, [1, 3]]])
        ax.add_collection(LineCollection(crosses, colors="black", linewidths=0.8))
    failed = f", {len(lost)} failed" if len(lost) else ""
    ax.set_title(f"{scale}x: {len(squares)} tiles{failed}")
    return ax


def _squares(grid: TileGrid, scale: int) -> np.ndarray:
    """Corners of the tiles of a scale, level-0 pixels: (n, 4, 2)."""
    corners = grid.side_px(scale) * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    return grid.tiles[scale].coords[:, None] + corners


def contact_sheet(folder: str | os.PathLike, slides: Sequence[str], most: int = 12) -> Figure:
    """Mask and stitch of slides (`lib.features.tiles.write_pictures`), pair by pair; of more than `most` evenly chosen ones."""
    names = [list(slides)[i] for i in np.unique(np.linspace(0, len(slides) - 1, most).astype(int))]
    rows = -(-len(names) // 4)
    figure, axes = plt.subplots(rows, 8, figsize=(9.6, 1.4 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for name, pair in zip(names, axes.reshape(-1, 2), strict=False):
        for ax, kind in zip(pair, ("masks", "stitches"), strict=True):
            with Image.open(Path(folder, kind, f"{name}.jpg")) as picture:
                picture.thumbnail((_SMALL, _SMALL))
                ax.imshow(picture)
        pair[0].set_title(name.partition(".")[0], loc="left")  # of a TCGA slide, without its long number
    return figure


def _draw_slide(ax: Axes, thumbnail: ArrayLike, grid: TileGrid, opacity: float = 1.0) -> None:
    width, height = grid.size
    look = dict(extent=(0, width, height, 0), interpolation="bilinear", alpha=opacity, zorder=0)
    ax.imshow(np.asarray(thumbnail), **look)
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
    ax.spines[:].set(color="0.75", linewidth=0.6)
    _scale_bar(ax, grid.um_per_px)


def draw_received(ax: Axes, thumbnail: ArrayLike, grid: TileGrid, scale: int, attention: ArrayLike) -> Axes:
    """Draw each tile of a scale in the colour of its rank among the slide's tiles, over the slide.

    Parameters
    ----------
    attention : array (n,)
        One number a tile of `grid.tiles[scale]`; higher = more is taken from it. Only its order is drawn.

    Raises
    ------
    ValueError
        Not one number a tile: features and tiles are not of one run, or tiles failed to decode.
    """
    attention, squares = np.asarray(attention, dtype=float), _squares(grid, scale)
    if attention.shape != (len(squares),):
        raise ValueError(
            f"slide {grid.slide} has {len(squares)} tiles at {scale}x and attention for {attention.size}: "
            "embed it again"
        )
    _draw_slide(ax, thumbnail, grid)
    ranks = rankdata(attention) / max(1, attention.size)
    tiles = PolyCollection(squares, array=ranks, cmap=style.SCORES, alpha=0.6, lw=0)
    tiles.set_clim(0, 1)
    ax.add_collection(tiles)
    ax.set_title(f"received at {scale}x")
    return ax


def tile_row(axes: Sequence[Axes], tiles: Sequence[np.ndarray], name: str) -> None:
    """Draw tiles side by side, the row's name at its left; axes beyond the tiles stay empty."""
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for ax, tile in zip(axes, tiles, strict=False):
        ax.imshow(tile)
    axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
