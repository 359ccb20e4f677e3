"""Where on a slide a model takes its information from."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from lib.features.tile_grid import TileGrid
from lib.figures import style


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
