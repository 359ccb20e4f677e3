"""Maps of attention over a slide."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib.features.tiles import TileGrid, Tiles
from lib.figures.pictures import draw_received


@pytest.fixture
def grid() -> TileGrid:
    places = np.array([[0, 0], [1, 0], [0, 1]])
    tiles = Tiles(places * 512, places, np.zeros(3, int), np.ones(3, np.float32))
    return TileGrid("S", "ok", "exact", 256, 2048.0, 0.25, (2048, 1536), {20: tiles})


def test_colours_are_ranks_and_squares_lie_on_their_tiles(grid):
    figure, ax = plt.subplots()
    assert draw_received(ax, np.zeros((3, 4, 3), np.uint8), grid, 20, [0.1, 9.0, 0.2]) is ax
    (tiles,) = ax.collections
    np.testing.assert_allclose(tiles.get_array(), [1 / 3, 1, 2 / 3])
    corners = [path.vertices.min(0).tolist() for path in tiles.get_paths()]
    assert corners == [[0, 0], [512, 0], [0, 512]]
    assert ax.get_ylim() == (1536, 0)
    plt.close(figure)


def test_attention_of_other_tiles_is_refused(grid):
    figure, ax = plt.subplots()
    with pytest.raises(ValueError, match="slide S has 3 tiles at 20x and attention for 2: embed it again"):
        draw_received(ax, np.zeros((3, 4, 3), np.uint8), grid, 20, [1, 2])
    plt.close(figure)
