import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection

from lib.features.tiles import TileGrid, Tiles
from lib.figures import style
from lib.figures.pictures import draw_tiles, draw_tissue, slide_figure

THUMBNAIL = np.full((60, 80, 3), 200, np.uint8)


@pytest.fixture
def grid():
    tiles = {}
    for scale, side, number in ((20, 100, 6), (10, 200, 3), (5, 400, 0)):
        places = np.array([(i, 1) for i in range(number)], np.int64).reshape(-1, 2)
        tiles[scale] = Tiles(places * side, places, np.zeros(number, np.int64), np.ones(number, np.float32))
    return TileGrid("TCGA-A", "ok", "exact", 256, 400.0, 1.28, (800, 600), tiles, failed={20: [1, 4]})


def squares(ax):
    """Corners of the drawn squares: of all tiles, then of failed ones."""
    return [
        np.array([path.vertices[:4] for path in drawn.get_paths()])
        for drawn in ax.collections
        if isinstance(drawn, PolyCollection)
    ]


def test_tiles_lie_where_the_grid_says_and_failed_ones_are_marked(ax, grid):
    draw_tiles(ax, THUMBNAIL, grid, 20)
    kept, lost = squares(ax)
    np.testing.assert_array_equal(kept.min(1), grid.tiles[20].coords)
    np.testing.assert_array_equal(kept.max(1), grid.tiles[20].coords + 100)
    np.testing.assert_array_equal(lost.min(1), grid.tiles[20].coords[[1, 4]])
    (crosses,) = (drawn for drawn in ax.collections if isinstance(drawn, LineCollection))
    assert len(crosses.get_segments()) == 4
    assert ax.get_title() == "20x: 6 tiles, 2 failed"
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 800), (600, 0))


def test_nothing_failed_and_no_tiles_are_drawn_as_such(ax, grid):
    draw_tiles(ax, THUMBNAIL, grid, 10)
    assert ax.get_title() == "10x: 3 tiles"
    assert len(squares(ax)) == 1
    ax.clear()
    draw_tiles(ax, THUMBNAIL, grid, 5)
    assert ax.get_title() == "5x: 0 tiles"


def test_outlines_are_closed_and_holes_counted(ax, grid, words):
    line = np.array([[100, 100], [300, 100], [300, 300]])
    draw_tissue(ax, THUMBNAIL, grid, [line, line + 200], [line + 20])
    outer, holes = (drawn.get_segments() for drawn in ax.collections)
    assert [len(outer), len(holes)] == [2, 1]
    np.testing.assert_array_equal(outer[0][0], outer[0][-1])
    assert "1 hole in blue" in words(ax)
    assert "µm" in words(ax)


@pytest.mark.parametrize(("size", "shape"), [((800, 600), (1, 4)), ((1800, 600), (2, 2))])
def test_figure_has_a_panel_for_the_slide_and_each_scale(grid, size, shape):
    grid.size = size
    with plt.rc_context(style.RC):
        fig = slide_figure(THUMBNAIL, grid)
        titles = [ax.get_title() for ax in fig.axes if ax.get_visible()]
        assert titles == ["tissue", "20x: 6 tiles, 2 failed", "10x: 3 tiles", "5x: 0 tiles"]
        assert fig.axes[0].get_gridspec().get_geometry() == shape
        assert fig.get_suptitle() == "TCGA-A: ok"
        fig.canvas.draw()
    plt.close(fig)
