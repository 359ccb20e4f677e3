"""Spots over the tissue they were read from."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import ArrayLike
from PIL import Image

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
