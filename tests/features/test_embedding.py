import numpy as np
import pytest
from anndata import AnnData
from PIL import Image

from lib.features.embedding import (
    crop_spots,
    embed_slide,
    embed_spots,
    embedding_paths,
    white_share,
    write_embedding,
)
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


# crops of spots


def stripes(height=60, width=80):
    """A picture whose pixel at x, y is (x, y, 7)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 7)], axis=2).astype(np.uint8)


def crops_of(*args, **kwargs):
    return np.concatenate(list(crop_spots(*args, **kwargs)))


def padded(picture, by):
    """The slow way to a white border: pad the whole picture."""
    return np.pad(picture, ((by, by), (by, by), (0, 0)), constant_values=255)


@pytest.mark.parametrize("centre", [(30, 20), (0, 0), (80, 60), (3, 58), (79, 1)])
def test_a_crop_at_scale_one_is_a_slice_and_white_beyond_the_border(centre):
    picture = stripes()
    x, y = centre
    expected = padded(picture, 20)[y - 8 + 20 : y + 8 + 20, x - 8 + 20 : x + 8 + 20]
    np.testing.assert_array_equal(crops_of(picture, [centre], 16, out_px=16)[0], expected)


def test_shifting_the_picture_and_the_spot_alike_changes_nothing():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (50, 50, 3), dtype=np.uint8)
    centres = rng.uniform(0, 50, (20, 2))
    moved = crops_of(padded(picture, 30), centres + 30, 13.7, out_px=9)
    np.testing.assert_array_equal(crops_of(picture, centres, 13.7, out_px=9), moved)
    parts = list(crop_spots(picture, centres, 13.7, out_px=9, batch=8))
    assert [len(part) for part in parts] == [8, 8, 4]
    np.testing.assert_array_equal(np.concatenate(parts), moved)


def test_centres_and_sides_between_pixels_are_not_rounded():
    picture = stripes()
    picture[..., 0] *= 3
    # red rises by three a pixel: the mean of a crop says where its centre lies
    for x, side in [(30.5, 10), (30.25, 10), (30.75, 10.5), (33, 11.5)]:
        crop = crops_of(picture, [[x, 30]], side, out_px=8)[0].astype(float)
        assert crop[..., 0].mean() / 3 == pytest.approx(x - 0.5, abs=0.1)
    wide = crops_of(stripes(), [[40, 30]], (40, 10), out_px=10)[0].astype(int)
    assert wide[0, -1, 0] - wide[0, 0, 0] == pytest.approx(36, abs=1)  # x is shrunk four times, y is not
    assert wide[-1, 0, 1] - wide[0, 0, 1] == pytest.approx(9, abs=1)


def test_shrinking_averages_as_pillow_does():
    rows = np.zeros((64, 64, 3), np.uint8)
    rows[::2] = 200
    assert abs(crops_of(rows, [[32, 32]], 64, out_px=8).astype(int) - 100).max() <= 10
    picture = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = Image.fromarray(picture[8:56, 8:56]).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(crops_of(picture, [[32, 32]], 48, out_px=16)[0], np.asarray(expected))


@pytest.mark.parametrize("outside", [(-0.1, 5), (80.1, 5), (5, 61), (np.nan, 5)])
def test_a_centre_outside_raises_at_once_with_its_index(outside):
    with pytest.raises(ValueError, match=r"spot 2 .*outside the picture of 80 x 60 .*1 such"):
        crop_spots(stripes(), [[5, 5], [6, 6], outside], 8)


@pytest.mark.parametrize(
    ("picture", "size"),
    [(stripes().astype(float), 8), (stripes()[..., 0], 8), (stripes(), (8, -1)), (stripes(), np.nan)],
)
def test_what_is_no_rgb_picture_or_no_size_is_refused(picture, size):
    with pytest.raises(ValueError, match=r"picture is uint8 RGB .*a side above 0"):
        crop_spots(picture, [[5, 5]], size)


def test_white_share_counts_pixels():
    crops = np.zeros((4, 10, 10, 3), np.uint8)
    crops[1, :5] = 255
    crops[2] = (230, 210, 235)  # glass is rarely pure white
    crops[3] = (235, 150, 235)  # eosin is not glass
    np.testing.assert_allclose(white_share(crops), [0, 0.5, 1, 0])


# spots of a section

SCALE = (0.25, 0.5)


@pytest.fixture
def picture():
    """White glass with a dark square of 40 x 80 picture pixels round x 60, y 100."""
    picture = np.full((200, 120, 3), 255, np.uint8)
    picture[60:140, 40:80] = (90, 60, 140)
    return picture


@pytest.fixture
def section():
    centres = np.array([[60, 100], [60, 20], [40, 100]]) / SCALE  # inside, on glass, on the edge
    section = AnnData(np.zeros((3, 1), np.float32), obsm={"spatial": centres})
    about = {"name": "Z1", "um_per_px": 0.5, "picture": "z1.png", "picture_scale": list(SCALE)}
    section.uns["section"] = about
    return section


def test_crops_lie_at_the_spots_in_both_scales(section, picture, encoder):
    # crops of 40 µm = 80 full pixels = 20 x 40 picture pixels
    features, counts = embed_spots(section, picture, encoder)
    np.testing.assert_allclose(features[:2], [[90, 60, 140], [255, 255, 255]])
    np.testing.assert_allclose(features[2], (features[0] + 255) / 2, atol=3)  # half tissue, half glass
    assert counts == {"n_white": 1, "n_failed": 0}


def test_a_crop_covers_the_asked_micrometres(section, picture):
    def encode(crops):
        return crops.min(axis=3)[:, 4].astype(np.float32)  # the middle row

    # 80 µm = 160 full pixels = 40 x 80 picture pixels: exactly the square
    exact, _ = embed_spots(section, picture, Encoder("row", "v1", 8, 8, 80.0, encode))
    np.testing.assert_array_equal(exact[0], 60)
    wider, _ = embed_spots(section, picture, Encoder("row", "v1", 8, 8, 160.0, encode))
    assert wider[0, 0] == wider[0, -1] == 255


def test_a_spot_outside_and_a_missing_picture_are_named(section, picture, encoder):
    section.obsm["spatial"][1] = (500, 20)
    with pytest.raises(ValueError, match=r"spot 1 at .*outside"):
        embed_spots(section, picture, encoder)
    section.uns["section"]["picture"] = ""
    with pytest.raises(ValueError, match="section Z1 has no picture"):
        embed_spots(section, picture, encoder)
