import numpy as np
import pytest

import lib.features.embedding
from lib.crossfusion.bags import read_bag
from lib.features.embedding import embed_slide, embedding_paths, write_embedding
from lib.features.encoders import NAMES, Encoder, load_encoder
from lib.features.feature_files import read_features
from lib.features.tiles import TileGrid, Tiles, exact_tiles
from lib.inputs.slides import UnreadableTile, open_slide
from lib.phantoms.slides import write_slide


class Painted:
    """A slide of 0.5 µm per pixel whose colour says where one is: red the column, green the row of a 20x tile."""

    name, um_per_px, downsamples, size = "painted", 0.5, (1.0,), (2048, 1024)

    def __init__(self, broken=()):
        self.broken = broken

    def read(self, x, y, size_px, level=0):
        width, height = (size_px, size_px) if np.isscalar(size_px) else size_px
        if any(x <= u < x + width and y <= v < y + height for u, v in self.broken):
            raise UnreadableTile("damaged")
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[..., 0] = 10 * ((x + np.arange(width)) // 256)
        pixels[..., 1] = 10 * ((y + np.arange(height)) // 256)[:, None]
        return pixels


@pytest.fixture
def grid():
    """Every tile of the painted slide."""
    tiles = {}
    for scale, side in ((20, 256), (10, 512), (5, 1024)):
        x, y = np.meshgrid(np.arange(2048 // side), np.arange(1024 // side))
        places = np.stack([x.ravel(), y.ravel()], 1)
        zeros = np.zeros(len(places), np.int64)
        tiles[scale] = Tiles(places * side, places, zeros, zeros.astype(np.float32))
    return TileGrid("painted", "ok", "exact", 256, 1024.0, 0.5, (2048, 1024), tiles)


@pytest.fixture
def encoder():
    """The mean colour, which in the painted slide is the place."""
    return Encoder("hf-hub:some/mean", "v1", 3, 8, 112.0, lambda crops: crops.mean((1, 2)).astype(np.float32))


def places(features):
    return features[:, :2] / 10 * 256 + 128


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_features_and_centres_belong_to_each_other(grid, encoder, batch):
    embedded = embed_slide(Painted(), grid, encoder, batch)
    assert list(embedded) == [20, 10, 5]
    for scale, n in ((20, 32), (10, 8), (5, 2)):
        features, coords, counts = embedded[scale]
        assert (features.shape, features.dtype) == ((n, 3), np.float32)
        assert (coords.shape, coords.dtype) == ((n, 2), np.float32)
        np.testing.assert_allclose(
            places(features), coords, atol=26
        )  # means of bytes are rounded at 10x and 5x
        np.testing.assert_array_equal(coords, grid.centres(scale))
        assert counts == {"n_white": 0, "n_failed": 0}
    np.testing.assert_array_equal(places(embedded[20].features), embedded[20].coords)


def test_white_tiles_are_counted_and_kept(grid, encoder, monkeypatch):
    slide = Painted()
    half = slide.read

    def read(x, y, size_px, level=0):
        pixels = half(x, y, size_px, level)
        pixels[:, max(0, 1024 - x) :] = 250
        return pixels

    monkeypatch.setattr(slide, "read", read)
    embedded = embed_slide(slide, grid, encoder)
    assert {scale: tiles.counts["n_white"] for scale, tiles in embedded.items()} == {20: 16, 10: 4, 5: 1}
    assert len(embedded[20].features) == 32


def test_failed_tiles_are_left_out_and_counted(grid, encoder):
    slide = Painted(broken=[(300, 300)])
    embedded = embed_slide(slide, grid, encoder, most_failed=0.5)
    assert {scale: tiles.counts["n_failed"] for scale, tiles in embedded.items()} == {20: 1, 10: 1, 5: 1}
    assert [len(tiles.features) for tiles in embedded.values()] == [31, 7, 1]
    np.testing.assert_array_equal(places(embedded[20].features), embedded[20].coords)
    assert [384, 384] not in embedded[20].coords.tolist()
    assert embedded[5].coords.tolist() == [[1536, 512]]


def test_above_the_limit_the_slide_fails(grid, encoder):
    slide = Painted(broken=[(300, 300)])
    with pytest.raises(
        ValueError, match=r"slide painted: 1 of 8 tiles at 10x cannot be decoded, more than 5.0%"
    ):
        embed_slide(slide, grid, encoder, most_failed=0.05)
    nothing = Painted(broken=[(x, y) for x in range(8, 2048, 16) for y in range(8, 1024, 16)])
    with pytest.raises(ValueError, match=r"32 of 32 tiles at 20x cannot be decoded"):
        embed_slide(nothing, grid, encoder, most_failed=1.0)


def test_a_grid_without_tiles_is_refused_with_its_status(grid, encoder):
    grid.status, grid.note = "pen marks only", "pen marks on 80.0% of the slide are left out"
    with pytest.raises(
        ValueError, match=r"slide painted has no tiles to embed: pen marks only \(pen marks on 80"
    ):
        embed_slide(Painted(), grid, encoder)


def test_tiles_that_get_lost_on_the_way_are_noticed(grid, encoder, monkeypatch):
    def some(slide, grid, input_px, batch):
        yield 20, np.arange(31), np.zeros((31, input_px, input_px, 3), np.uint8)

    monkeypatch.setattr(lib.features.embedding, "tile_batches", some)
    with pytest.raises(RuntimeError, match="1 of 32 tiles at 20x were not decoded, 0 are counted as failed"):
        embed_slide(Painted(), grid, encoder)


def test_files_lie_by_encoder_and_scale_and_are_read_as_a_bag(grid, encoder, tmp_path):
    embedded = embed_slide(Painted(), grid, encoder)
    paths = write_embedding(tmp_path, grid, encoder, embedded, dtype="float32")
    assert paths == embedding_paths(tmp_path, encoder.name, "painted", (20, 10, 5))
    assert paths[5] == tmp_path / "hf-hub-some-mean" / "x5" / "painted.h5"
    for scale, um in ((20, 128), (10, 256), (5, 512)):
        known = read_features(paths[scale]).attributes
        assert (known["crop_um"], known["um_per_px"], known["scale"]) == (um, 0.5, scale)
        assert (known["encoder"], known["revision"], known["n_failed"]) == ("hf-hub:some/mean", "v1", 0)
    bag = read_bag(tmp_path / "hf-hub-some-mean", "painted")
    for scale, tiles in embedded.items():
        np.testing.assert_array_equal(bag[scale].features, tiles.features)
        np.testing.assert_array_equal(bag[scale].coords, tiles.coords)
    half = write_embedding(tmp_path / "half", grid, encoder, embedded)
    assert read_features(half[20]).features.dtype == np.float16


def test_a_phantom_slide_from_pixels_to_bag(tmp_path):
    write_slide(tmp_path / "p.tif", fine=1.0, coarse=-1.0, cancer=1, seed=5)
    encoder = load_encoder("colour")
    with open_slide(tmp_path / "p.tif") as slide:
        grid = exact_tiles(slide)
        embedded = embed_slide(slide, grid, encoder)
        write_embedding(tmp_path / "features", grid, encoder, embedded, dtype="float32")
        again = embed_slide(slide, exact_tiles(slide), encoder, batch=5)
        bag = read_bag(tmp_path / "features" / "colour", "p")
        for scale, tiles in embedded.items():
            assert len(tiles.features) == len(grid.tiles[scale]) > 0
            np.testing.assert_array_equal(again[scale].features, tiles.features)
            np.testing.assert_array_equal(bag[scale].features, tiles.features)
        # the mean red of a tile, read from the slide by itself
        x, y = grid.tiles[20].coords[3]
        red = slide.read(int(x), int(y), 256)[..., 0].mean() / 255
        assert embedded[20].features[3, 0] == pytest.approx(red, abs=0.01)


@pytest.mark.real
def test_a_real_slide(mirror):
    path = mirror / "wsi" / "cmu-1-small-region.svs"
    if not path.is_file():
        pytest.skip("the mirror has no cmu-1-small-region.svs")
    encoder = load_encoder("colour")
    with open_slide(path) as slide:
        grid = exact_tiles(slide)
        embedded = embed_slide(slide, grid, encoder)
    assert 20 <= len(embedded[20].features) <= 88
    for tiles in embedded.values():
        assert np.isfinite(tiles.features).all()
        assert tiles.counts["n_failed"] == 0
        assert ((tiles.coords > 0) & (tiles.coords < (2220, 2967))).all()
        # H&E: red is the brightest of the three on average, green the darkest
        columns = [NAMES.index(f"{colour}_mean") for colour in ("red", "green", "blue")]
        red, green, blue = tiles.features[:, columns].mean(0)
        assert red > blue > green
