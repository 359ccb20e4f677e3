import numpy as np
import pytest
import tifffile

from lib.inputs.slides import AbsentTile, StoredTiles, UnreadableTile


def write(path, rgb, **how):
    how = {"compression": "jpeg", "photometric": "rgb", "tile": (64, 64), "metadata": None} | how
    tifffile.imwrite(path, rgb, **how)
    return path


def overwrite(path, tile, data, at=0):
    """Write bytes over a stored tile of the first page."""
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[tile]
    with open(path, "rb+") as file:
        file.seek(offset + at)
        file.write(data)


@pytest.fixture
def rgb():
    small = np.random.default_rng(0).integers(0, 255, (25, 38, 3), dtype=np.uint8)
    return np.kron(small, np.ones((8, 8, 1), np.uint8))  # 200 x 304: border tiles are not full


def test_any_region_is_the_same_part_of_the_whole_picture(tmp_path, rgb):
    path = write(tmp_path / "a.tif", rgb)
    whole = tifffile.imread(path)
    stored = StoredTiles(path, [(304, 200)])
    for x, y, width, height in [(0, 0, 304, 200), (63, 65, 1, 1), (60, 10, 70, 120), (250, 190, 54, 10)]:
        region = stored.read(0, x, y, width, height)
        np.testing.assert_array_equal(region, whole[y : y + height, x : x + width])
    stored.close()


def test_levels_are_found_by_their_size(tmp_path, rgb):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for picture in (rgb, rgb[::2, ::2], rgb[::4, ::4]):
            compression = None if len(picture) == 100 else "jpeg"
            file.write(picture, compression=compression, photometric="rgb", tile=(64, 64), metadata=None)
    stored = StoredTiles(path, [(304, 200), (152, 100), (76, 50)])
    assert sorted(stored.pages) == [0, 2]  # the middle one is no JPEG
    assert stored.read(2, 0, 0, 76, 50).shape == (50, 76, 3)


@pytest.mark.parametrize(
    ("data", "at"),
    [(b"\0" * 400, 0), (b"\xff\xd8\xff\xff\xff\xff\x00\x11\x22" * 3, 0)],
    ids=["zeros", "garbage"],
)
def test_damage_costs_its_own_tile_only(tmp_path, rgb, data, at):
    path = write(tmp_path / "a.tif", rgb)
    whole = tifffile.imread(path)
    overwrite(path, 6, data, at)  # second row, second of five columns
    stored = StoredTiles(path, [(304, 200)])
    with pytest.raises(UnreadableTile, match="stored tile 6"):
        stored.read(0, 120, 120, 20, 20)
    np.testing.assert_array_equal(stored.read(0, 128, 64, 64, 64), whole[64:128, 128:192])


def test_a_tile_cut_short_is_told_though_libjpeg_would_fill_it_with_grey(tmp_path, rgb):
    path = write(tmp_path / "a.tif", rgb)
    with tifffile.TiffFile(path) as file:
        size = file.pages[0].databytecounts[0]
    overwrite(path, 0, b"\0" * (size // 2), at=size - size // 2)
    with pytest.raises(UnreadableTile, match="stored tile 0 is cut short"):
        StoredTiles(path, [(304, 200)]).read(0, 0, 0, 10, 10)


def test_a_file_cut_short_is_told(tmp_path, rgb):
    path = write(tmp_path / "a.tif", rgb)
    with tifffile.TiffFile(path) as file:
        last = file.pages[0].dataoffsets[-1]
    stored = StoredTiles(path, [(304, 200)])
    with open(path, "rb+") as file:
        file.truncate(last + 10)
    with pytest.raises(UnreadableTile, match="cut short"):
        stored.read(0, 300, 199, 1, 1)


def test_a_tile_that_is_not_stored_is_no_damage(tmp_path, rgb):
    path = write(tmp_path / "a.tif", rgb)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[0].tags["TileByteCounts"]
        tag.overwrite([0, *tag.value[1:]])
    with pytest.raises(AbsentTile):
        StoredTiles(path, [(304, 200)]).read(0, 0, 0, 10, 10)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "b.tif"])
def test_what_is_no_tiled_jpeg_is_left_to_openslide(tmp_path, rgb, name):
    path = tmp_path / name
    if name == "a.tif":
        write(path, rgb, compression="zlib")
    else:
        path.write_bytes(b"not a TIFF")
    with pytest.raises(ValueError, match=name):
        StoredTiles(path, [(304, 200)])
