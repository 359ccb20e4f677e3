import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import EllipseCollection, LineCollection, PolyCollection
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from PIL import Image

from lib.features.tiles import TileGrid, Tiles
from lib.figures import style
from lib.figures.pictures import contact_sheet, draw_received, draw_tiles, draw_tissue, picture_with_spots

XY = np.stack(np.meshgrid(np.arange(5), np.arange(4)), -1).reshape(-1, 2) * 20.0 + [200, 100]
THUMBNAIL = np.full((60, 80, 3), 200, np.uint8)


def shown_at(ax, xy):
    """Pixel of the drawn picture under each position, found through the axes alone."""
    (image,) = ax.images
    left, right, bottom, top = image.get_extent()
    array = np.asarray(image.get_array())
    column = (xy[:, 0] - left) / (right - left) * array.shape[1]
    row = (xy[:, 1] - top) / (bottom - top) * array.shape[0]
    return array[row.astype(int), column.astype(int)]


def spots_of(ax):
    (spots,) = (drawn for drawn in ax.collections if isinstance(drawn, EllipseCollection))
    ax.figure.canvas.draw()
    return spots


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 0.5), (0.5, 0.25), (2.0, 2.0)])
def test_a_spot_lies_on_its_pixel_at_any_picture_scale(ax, scale):
    height, width = round(400 * scale[1]), round(600 * scale[0])
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    for x, y in XY:  # a red square of 8 full-resolution pixels under every spot, black between
        picture[
            round((y - 4) * scale[1]) : round((y + 4) * scale[1]),
            round((x - 4) * scale[0]) : round((x + 4) * scale[0]),
        ] = [255, 0, 0]
    picture_with_spots(ax, picture, XY, spot_px=10, picture_scale=scale)
    assert (shown_at(ax, XY)[:, 0] > 200).all()
    assert (shown_at(ax, XY[:-1] + 10)[:, 0] < 60).mean() > 0.9


def test_a_large_picture_is_made_small_and_stays_in_place(ax):
    picture = np.zeros((4000, 6000, 3), dtype=np.uint8)
    xy = XY * 10
    for x, y in xy.astype(int):
        picture[y - 40 : y + 40, x - 40 : x + 40] = [255, 0, 0]
    picture_with_spots(ax, Image.fromarray(picture), xy, spot_px=100)
    assert max(ax.images[0].get_array().shape) <= 900
    assert (shown_at(ax, xy)[:, 0] > 200).all()


def test_view_is_cut_to_the_spots(ax):
    # an inset with the pathologist's outlines beside the tissue must not be seen
    picture_with_spots(ax, np.zeros((400, 600, 3), np.uint8), XY, spot_px=10)
    assert ax.get_xlim() == (185, 295)
    assert ax.get_ylim() == (175, 85)  # y runs down
    left, right, bottom, top = ax.images[0].get_extent()
    assert (left, right, bottom, top) == pytest.approx((185, 295, 175, 85), abs=2)


def test_labels_have_three_fixed_colours(ax, words):
    labels = np.tile([1.0, 0.0, np.nan, 1.0], 5)
    spots = spots_of(picture_with_spots(ax, None, XY, spot_px=10, labels=labels, opacity=1))
    assert spots.get_widths().tolist() == [10]
    np.testing.assert_array_equal(spots.get_offsets(), XY)
    colours = [mpl.colors.to_hex(colour) for colour in spots.get_facecolor()[:4]]
    expected = [style.CANCER, style.OTHER, style.UNDETERMINED, style.CANCER]
    assert [colour.upper() for colour in colours] == expected
    assert all(name in words(ax) for name in ("cancer", "other", "undetermined"))


def test_values_are_coloured_between_limits_and_nan_is_grey(ax):
    values = np.linspace(0, 1, 20)
    values[3] = np.nan
    spots = spots_of(picture_with_spots(ax, None, XY, spot_px=10, values=values, limits=(0, 1), opacity=1))
    colours = spots.get_facecolor()
    viridis = mpl.colormaps["viridis"]
    np.testing.assert_allclose(colours[0], viridis(0.0))
    np.testing.assert_allclose(colours[19], viridis(1.0))
    assert mpl.colors.to_hex(colours[3]).upper() == style.UNDETERMINED
    assert ax.figure.axes[1].get_ylabel() == "score"


@pytest.mark.parametrize(
    ("um_per_px", "text", "length"), [(1.0, "20 µm", 20), (10.0, "200 µm", 20), (50.0, "1 mm", 20)]
)
def test_scale_bar_is_a_round_length(ax, words, um_per_px, text, length):
    # the view is 110 px wide, the bar at most 0.3 of it
    picture_with_spots(ax, None, XY, spot_px=10, um_per_px=um_per_px)
    (bar,) = (drawn for drawn in ax.artists if isinstance(drawn, AnchoredSizeBar))
    assert text in words(ax)
    assert bar.size_bar.findobj(mpl.patches.Rectangle)[0].get_width() == pytest.approx(length)


@pytest.mark.real
def test_her2st_a1_spots_lie_on_tissue(ax, mirrored):
    picture = mirrored("her2st/app/www/imgs/A1_HE_image_dark.png")
    table = pd.read_csv(mirrored("her2st/data/ST-spotfiles/A1_selection.tsv"), sep="\t")
    xy = table[["pixel_x", "pixel_y"]].to_numpy()
    scale = (2000 / 6954, 2138 / 7435)
    picture_with_spots(ax, Image.open(picture), xy, spot_px=101, picture_scale=scale, um_per_px=200 / 202.5)
    assert (shown_at(ax, xy).max(axis=1) > 20).mean() > 0.98  # the background is blacked out
    # the inset with the pathologist's outlines: columns 1500 on, rows to 534
    _, right, _, top = ax.images[0].get_extent()
    assert right * scale[0] < 1500 or top * scale[1] > 534


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
    ax.clear()
    draw_tiles(ax, THUMBNAIL, grid, 5)  # none, and none failed
    assert ax.get_title() == "5x: 0 tiles"


def test_outlines_are_closed_and_holes_counted(ax, grid, words):
    line = np.array([[100, 100], [300, 100], [300, 300]])
    draw_tissue(ax, THUMBNAIL, grid, [line, line + 200], [line + 20])
    outer, holes = (drawn.get_segments() for drawn in ax.collections)
    assert [len(outer), len(holes)] == [2, 1]
    np.testing.assert_array_equal(outer[0][0], outer[0][-1])
    assert "1 hole in blue" in words(ax)
    assert "µm" in words(ax)


def test_attention_is_drawn_by_its_rank_on_the_tiles_it_belongs_to(ax, grid):
    draw_received(ax, THUMBNAIL, grid, 10, [0.1, 9.0, 0.2])
    (tiles,) = ax.collections
    np.testing.assert_allclose(tiles.get_array(), [1 / 3, 1, 2 / 3])
    np.testing.assert_array_equal(squares(ax)[0].min(1), grid.tiles[10].coords)
    assert ax.get_ylim() == (600, 0)
    with pytest.raises(ValueError, match="TCGA-A has 3 tiles at 10x and attention for 2: embed it again"):
        draw_received(ax, THUMBNAIL, grid, 10, [1, 2])


def test_a_contact_sheet_shows_evenly_chosen_slides_in_their_order(tmp_path):
    for number in range(30):
        for kind, red in (("masks", 0), ("stitches", 100)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.new("RGB", (400, 300), (red + 3 * number, 0, 0)).save(tmp_path / kind / f"s{number}.jpg")
    for slides, shown in ((30, 12), (3, 3)):
        names = [f"s{number}" for number in range(slides)]
        axes = contact_sheet(tmp_path, names).axes
        drawn = [ax for ax in axes if ax.images]
        titles = [ax.get_title("left") for ax in drawn[::2]]
        assert (titles[0], titles[-1], len(titles)) == (names[0], names[-1], shown)
        for title, mask, stitch in zip(titles, drawn[::2], drawn[1::2], strict=True):
            for ax, red in ((mask, 0), (stitch, 100)):
                assert ax.images[0].get_array()[..., 0].mean() == pytest.approx(
                    red + 3 * int(title[1:]), abs=2
                )
