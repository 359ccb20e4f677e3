import numpy as np
import pytest

from lib.features.embedding import embed_slide, embedding_paths, write_embedding
from lib.features.encoders import NAMES, Encoder, load_encoder
from lib.features.feature_files import read_features
from lib.features.tiles import TileGrid, Tiles, exact_tiles
from lib.inputs.slides import UnreadableTile, open_slide
from lib.phantoms.slides import write_slide

# tiles of a slide


class Painted:
    """A slide of 0.5 µm per pixel whose colour says where one is: red the column, green the row of a 20x tile."""

    name, um_per_px, downsamples, size = "painted", 0.5, (1.0,), (2048, 1024)

    def __init__(self, broken=(), glass_from=9999):
        self.broken, self.glass_from = broken, glass_from

    def read(self, x, y, size_px, level=0):
        width, height = (size_px, size_px) if np.isscalar(size_px) else size_px
        if any(x <= u < x + width and y <= v < y + height for u, v in self.broken):
            raise UnreadableTile("damaged")
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[..., 0] = 10 * ((x + np.arange(width)) // 256)
        pixels[..., 1] = 10 * ((y + np.arange(height)) // 256)[:, None]
        pixels[:, max(0, self.glass_from - x) :] = 250
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
    return Encoder("hf-hub:some/mean", "v1", 3, 8, 40.0, lambda crops: crops.mean((1, 2)).astype(np.float32))


def places(features):
    return features[:, :2] / 10 * 256 + 128


@pytest.mark.parametrize("batch", [1, 7])
def test_features_and_centres_belong_to_each_other(grid, encoder, batch):
    embedded = embed_slide(Painted(), grid, encoder, batch)
    assert list(embedded) == [20, 10, 5]
    for scale, n in ((20, 32), (10, 8), (5, 2)):
        features, coords, counts = embedded[scale]
        assert (features.shape, features.dtype, coords.dtype) == ((n, 3), np.float32, np.float32)
        np.testing.assert_allclose(
            places(features), coords, atol=0 if scale == 20 else 26
        )  # bytes are rounded
        np.testing.assert_array_equal(coords, grid.centres(scale))
        assert counts == {"n_white": 0, "n_failed": 0}


def test_white_tiles_are_counted_and_kept(grid, encoder):
    embedded = embed_slide(Painted(glass_from=1024), grid, encoder)
    assert {scale: tiles.counts["n_white"] for scale, tiles in embedded.items()} == {20: 16, 10: 4, 5: 1}
    assert len(embedded[20].features) == 32


def test_failed_tiles_are_left_out_and_counted(grid, encoder):
    embedded = embed_slide(Painted(broken=[(300, 300)]), grid, encoder, most_failed=0.5)
    assert {scale: tiles.counts["n_failed"] for scale, tiles in embedded.items()} == {20: 1, 10: 1, 5: 1}
    assert [len(tiles.features) for tiles in embedded.values()] == [31, 7, 1]
    np.testing.assert_array_equal(places(embedded[20].features), embedded[20].coords)
    assert [384, 384] not in embedded[20].coords.tolist()
    assert embedded[5].coords.tolist() == [[1536, 512]]


def test_above_the_limit_or_without_tiles_the_slide_fails(grid, encoder):
    with pytest.raises(
        ValueError, match=r"slide painted: 1 of 8 tiles at 10x cannot be decoded, more than 5.0%"
    ):
        embed_slide(Painted(broken=[(300, 300)]), grid, encoder, most_failed=0.05)
    nothing = Painted(broken=[(x, y) for x in range(8, 2048, 16) for y in range(8, 1024, 16)])
    with pytest.raises(ValueError, match=r"32 of 32 tiles at 20x cannot be decoded"):
        embed_slide(nothing, grid, encoder, most_failed=1.0)
    grid.status, grid.note = "pen marks only", "pen marks on 80.0% of the slide are left out"
    with pytest.raises(ValueError, match=r"painted has no tiles to embed: pen marks only \(pen marks on 80"):
        embed_slide(Painted(), grid, encoder)


def test_files_lie_by_encoder_and_scale(grid, encoder, tmp_path):
    embedded = embed_slide(Painted(), grid, encoder)
    paths = write_embedding(tmp_path, grid, encoder, embedded, dtype="float32")
    assert paths == embedding_paths(tmp_path, encoder.name, "painted", (20, 10, 5))
    assert paths[5] == tmp_path / "hf-hub-some-mean" / "x5" / "painted.h5"
    for scale, um in ((20, 128), (10, 256), (5, 512)):
        file = read_features(paths[scale])
        known = file.attributes
        assert (known["crop_um"], known["um_per_px"], known["scale"]) == (um, 0.5, scale)
        assert (known["encoder"], known["revision"], known["n_failed"]) == ("hf-hub:some/mean", "v1", 0)
        np.testing.assert_array_equal(file.features, embedded[scale].features)
        np.testing.assert_array_equal(file.coords, embedded[scale].coords)
    half = write_embedding(tmp_path / "half", grid, encoder, embedded)
    assert read_features(half[20]).features.dtype == np.float16


def test_a_phantom_slide_gives_the_same_whatever_the_batch(tmp_path):
    write_slide(tmp_path / "p.tif", fine=1.0, coarse=-1.0, cancer=1, seed=5)
    encoder = load_encoder("colour")
    with open_slide(tmp_path / "p.tif") as slide:
        grid = exact_tiles(slide)
        embedded, again = embed_slide(slide, grid, encoder), embed_slide(slide, grid, encoder, batch=5)
        for scale, tiles in embedded.items():
            assert len(tiles.features) == len(grid.tiles[scale]) > 0
            np.testing.assert_array_equal(again[scale].features, tiles.features)
        # the mean red of a tile, read from the slide by itself
        x, y = grid.tiles[20].coords[3]
        red = slide.read(int(x), int(y), 256)[..., 0].mean() / 255
        assert embedded[20].features[3, 0] == pytest.approx(red, abs=0.01)


@pytest.mark.real
def test_a_real_slide(mirror):
    encoder = load_encoder("colour")
    with open_slide(mirror / "wsi" / "cmu-1-small-region.svs") as slide:
        embedded = embed_slide(slide, exact_tiles(slide), encoder)
    assert len(embedded[20].features) == 34
    for tiles in embedded.values():
        assert np.isfinite(tiles.features).all()
        assert ((tiles.coords > 0) & (tiles.coords < (2220, 2967))).all()
        # H&E: red is the brightest of the three on average, green the darkest
        red, green, blue = (
            tiles.features[:, NAMES.index(f"{c}_mean")].mean() for c in ("red", "green", "blue")
        )
        assert red > blue > green
