import threading

import cv2
import numpy as np
import pytest
import tifffile

from lib.features.tiles import clam_grid, exact_tiles, level_for, tile_batches
from lib.features.tissue import read_preset
from lib.inputs.slides import Slide, UnreadableTile, open_slide
from lib.phantoms.slides import write_pyramid, write_slide


@pytest.fixture(scope="module")
def rgb(tmp_path_factory):
    path = tmp_path_factory.mktemp("pass") / "p.tiff"
    write_slide(path, fine=1, coarse=1, cancer=1, seed=2, side_px=3072)
    with open_slide(path) as slide:
        return slide.read(0, 0, 3072)


def slide_of(folder, rgb, um_per_px, downsamples=(1,)):
    levels = [cv2.resize(rgb, None, fx=1 / d, fy=1 / d, interpolation=cv2.INTER_AREA) for d in downsamples]
    write_pyramid(folder / "s.tif", levels, um_per_px)
    return open_slide(folder / "s.tif")


def collected(slide, grid, input_px=256, batch=64):
    found = {scale: {} for scale in grid.tiles}
    for scale, indices, crops in tile_batches(slide, grid, input_px, batch):
        assert crops.shape == (len(indices), input_px, input_px, 3)
        assert crops.dtype == np.uint8
        assert 1 <= len(indices) <= batch
        for index, crop in zip(indices.tolist(), crops, strict=True):
            assert index not in found[scale], "a tile came twice"
            found[scale][index] = crop
    return found


def one_by_one(slide, grid, scale, index, input_px):
    """The slow reference: every tile of every scale read and resized by itself."""
    tiles = grid.tiles[scale]
    x, y = tiles.coords[index].tolist()
    width, height = (
        grid.edges(scale, tiles.places[index] + 1) - grid.edges(scale, tiles.places[index])
    ).tolist()
    return cv2.resize(slide.read(x, y, (width, height)), (input_px, input_px), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(("um_per_px", "apart"), [(0.5, 1), (0.25, 1)])
def test_three_scales_of_one_pass_are_those_read_and_resized_one_by_one(tmp_path, rgb, um_per_px, apart):
    """A single-level slide, so that 10x and 5x have nothing else to come from."""
    slide = slide_of(tmp_path, rgb, um_per_px)
    grid = exact_tiles(slide)
    found = collected(slide, grid)
    assert grid.failed == {20: [], 10: [], 5: []}
    for scale in grid.scales:
        assert sorted(found[scale]) == list(range(len(grid.tiles[scale])))
        for index, crop in found[scale].items():
            # averages of averages: rounded twice where the reference rounds once
            difference = np.abs(crop.astype(int) - one_by_one(slide, grid, scale, index, 256))
            assert difference.max() <= (0 if scale == 20 else apart)


def check_all_scales(slide, grid, input_px):
    """The finest scale is the very tile; an average of rounded tiles may lie half a pixel off."""
    for scale, crops in collected(slide, grid, input_px).items():
        assert len(crops) == len(grid.tiles[scale]) > 0
        for index, crop in crops.items():
            reference = one_by_one(slide, grid, scale, index, input_px)
            if scale == 20:
                np.testing.assert_array_equal(crop, reference)
            assert np.corrcoef(crop.ravel(), reference.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("input_px", [224, 44])
def test_tiles_that_are_no_whole_number_of_pixels(tmp_path, rgb, input_px):
    slide = slide_of(tmp_path, rgb, 0.499)
    check_all_scales(slide, exact_tiles(slide), input_px)


def test_the_coarsest_level_fine_enough_is_read(tmp_path, rgb):
    slide = slide_of(tmp_path, rgb, 0.125, (1, 2, 4, 8))
    assert [level_for(slide, scale) for scale in (40, 20, 10, 5)] == [1, 2, 3, 3]
    assert level_for(slide_of(tmp_path, rgb, 0.126, (1, 2, 4)), 20) == 2  # 0.504: a hair coarser will do
    assert level_for(slide_of(tmp_path, rgb, 0.13, (1, 2, 4)), 20) == 1
    assert level_for(slide_of(tmp_path, rgb, 0.6, (1, 2, 4)), 20) == 0


@pytest.mark.parametrize(("um_per_px", "downsamples"), [(0.25, (1, 2, 4)), (0.2, (1, 2))])
def test_a_level_gives_what_the_full_size_gives(tmp_path, rgb, um_per_px, downsamples):
    slide = slide_of(tmp_path, rgb, um_per_px, downsamples)
    grid = exact_tiles(slide)
    assert len(grid.tiles[5]) >= 1
    from_level = collected(slide, grid)
    bare = slide_of(tmp_path, rgb, um_per_px)
    from_full = collected(bare, exact_tiles(bare))
    for scale in grid.scales:
        for index, crop in from_level[scale].items():
            # two JPEGs apart, but at the same place: a shift by two pixels gives 0.93
            assert np.corrcoef(crop.ravel(), from_full[scale][index].ravel())[0, 1] > 0.97


@pytest.mark.parametrize("scales", [(20,), (10, 5), (5,), (40, 5)])
def test_any_choice_of_scales_gives_the_same_tiles(tmp_path, rgb, scales):
    slide = slide_of(tmp_path, rgb, 0.25)
    all_scales = collected(slide, exact_tiles(slide, (40, 20, 10, 5)))
    some = collected(slide, exact_tiles(slide, scales))
    assert set(some) == set(scales)
    for scale in scales:
        for index, crop in some[scale].items():
            assert np.abs(crop.astype(int) - all_scales[scale][index]).max() <= 1


def test_each_cell_is_read_once(tmp_path, rgb, monkeypatch):
    slide = slide_of(tmp_path, rgb, 0.5)
    grid = exact_tiles(slide)
    reads, read = [], Slide.read
    monkeypatch.setattr(Slide, "read", lambda self, *where: reads.append(where[:2]) or read(self, *where))
    collected(slide, grid)
    cells = {
        tuple(place) for scale in grid.scales for place in (grid.tiles[scale].places // (scale // 5)).tolist()
    }
    assert len(reads) == len(set(reads)) == len(cells)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batches_do_not_change_the_tiles(tmp_path, rgb, batch):
    slide = slide_of(tmp_path, rgb[:2048, :2048], 0.5)
    grid = exact_tiles(slide)
    expected, found = collected(slide, grid, 64), collected(slide, grid, 64, batch)
    for scale in grid.scales:
        assert expected[scale].keys() == found[scale].keys()
        for index, crop in found[scale].items():
            np.testing.assert_array_equal(crop, expected[scale][index])


@pytest.mark.parametrize("direct", [True, False])
def test_tiles_that_cannot_be_decoded_are_counted_and_never_white(tmp_path, rgb, direct):
    slide = slide_of(tmp_path, rgb, 0.5)
    grid = exact_tiles(slide)
    whole = collected(slide, grid)
    slide.close()
    with tifffile.TiffFile(tmp_path / "s.tif") as file:
        page = file.pages[0]
        offset, size = page.dataoffsets[5 * 12 + 6], page.databytecounts[5 * 12 + 6]
    with open(tmp_path / "s.tif", "rb+") as file:
        file.seek(offset)
        file.write(b"\0" * size)
    slide = open_slide(tmp_path / "s.tif")
    if not direct:
        slide._stored = None
    for _ in range(2):  # a second pass counts anew
        found = collected(slide, grid)
        for scale, place in ((20, (6, 5)), (10, (3, 2)), (5, (1, 1))):
            (lost,) = np.flatnonzero((grid.tiles[scale].places == place).all(1))
            assert grid.failed[scale] == [lost]
            assert set(whole[scale]) - set(found[scale]) == {lost}
            for index, crop in found[scale].items():
                np.testing.assert_array_equal(crop, whole[scale][index])
    # the mask of the same slide does not lose the place either: it is tried again, and fails again
    again = exact_tiles(slide)
    collected(slide, again)
    assert {scale: len(lost) for scale, lost in again.failed.items()} == {20: 1, 10: 1, 5: 1}


def test_clams_tiles_come_out_of_one_pass_too(tmp_path, rgb):
    slide = slide_of(tmp_path, rgb, 0.25)
    grid = clam_grid(slide, read_preset("bwh_biopsy"))
    found = collected(slide, grid)
    for scale in grid.scales:
        assert len(found[scale]) == len(grid.tiles[scale]) > 0
        for index, crop in found[scale].items():
            assert np.abs(crop.astype(int) - one_by_one(slide, grid, scale, index, 256)).max() <= 1


def test_an_error_while_decoding_ahead_is_raised_here_and_the_thread_ends(tmp_path, rgb, monkeypatch):
    slide = slide_of(tmp_path, rgb, 0.5)
    grid = exact_tiles(slide)
    for batch in tile_batches(slide, grid, 64, 1):
        assert len(batch) == 3
        break  # nobody wants the rest
    monkeypatch.setattr(Slide, "read", lambda *_: (_ for _ in ()).throw(OSError("disk gone")))
    with pytest.raises(OSError, match="disk gone"):
        list(tile_batches(slide, grid, 64))
    assert not [thread for thread in threading.enumerate() if thread.name == "tiles"]


def test_a_slide_of_which_nothing_can_be_read_yields_nothing(tmp_path, rgb, monkeypatch):
    slide = slide_of(tmp_path, rgb[:2048, :2048], 0.5)
    grid = exact_tiles(slide)
    monkeypatch.setattr(Slide, "read", lambda *_: (_ for _ in ()).throw(UnreadableTile("gone")))
    assert list(tile_batches(slide, grid, 64)) == []
    assert [grid.failed_share(scale) for scale in grid.scales] == [1, 1, 1]


def test_a_grid_of_another_slide_is_refused(tmp_path, rgb):
    slide = slide_of(tmp_path, rgb, 0.5)
    grid = exact_tiles(slide)
    grid.slide = "other"
    with pytest.raises(ValueError, match="the grid is of slide other"):
        tile_batches(slide, grid, 64)
    grid.slide = "s"
    with pytest.raises(ValueError, match="at least 1"):
        tile_batches(slide, grid, 0)


@pytest.mark.real
def test_real_slide_of_one_level_gives_all_scales(mirror):
    with open_slide(mirror / "wsi" / "cmu-1-small-region.svs") as slide:
        check_all_scales(slide, exact_tiles(slide), 224)
