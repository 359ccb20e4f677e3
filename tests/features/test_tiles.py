import hashlib
import threading
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import h5py
import numpy as np
import pytest
import tifffile

from lib.features.clam import read_preset, segment
from lib.features.feature_files import Encoder, read_features
from lib.features.tiles import (
    TileGrid,
    Tiles,
    clam_grid,
    clam_tiles,
    embed_slide,
    embedding_paths,
    exact_tiles,
    level_for,
    read_grid,
    tile_batches,
    write_embedding,
    write_grid,
)
from lib.features.tissue import Tissue
from lib.inputs.slides import Slide, UnreadableTile, open_slide
from lib.phantoms.slides import write_pyramid, write_slide

GLASS, TISSUE = (244, 242, 246), (200, 120, 180)
GOLDEN_SIDE = 12288


def drawn(folder, rgb, um_per_px=0.5):
    write_pyramid(folder / "drawn.tif", [rgb], um_per_px)
    return open_slide(folder / "drawn.tif")


def disc(side=4200, radius=1700):
    rgb = np.full((side, side, 3), GLASS, np.uint8)
    cv2.circle(rgb, (side // 2, side // 2), radius, TISSUE, -1)
    return rgb


# the grid


def small_grid(n: int = 3) -> TileGrid:
    def tiles(k):
        places = np.column_stack([np.arange(k), np.zeros(k, np.int64)])
        return Tiles(places * 256, places, np.zeros(k, np.int64), np.linspace(0, 1, k).astype(np.float32))

    return TileGrid(
        *("S-1", "ok", "exact", 256, 1024.5, 0.499, (4000, 3000)),
        {20: tiles(4 * n), 10: tiles(2 * n), 5: tiles(n)},
        note="pen at the border",
    )


@pytest.mark.parametrize("n", [3, 0])
def test_there_and_back(tmp_path, n):
    write_grid(tmp_path / "a.h5", small_grid(n))
    back, there = read_grid(tmp_path / "a.h5"), small_grid(n)
    np.testing.assert_equal(asdict(back), asdict(there))
    write_grid(tmp_path / "b.h5", back)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_other_files_and_every_cut_of_a_file_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"] = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"a\.h5 is not a grid of tiles.*tile the slide again"):
        read_grid(tmp_path / "a.h5")
    write_grid(tmp_path / "b.h5", small_grid())
    content = (tmp_path / "b.h5").read_bytes()
    for length in range(0, len(content), 499):
        (tmp_path / "b.h5").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"b\.h5"):
            read_grid(tmp_path / "b.h5")
    with pytest.raises(FileNotFoundError):
        read_grid(tmp_path / "c.h5")


# as CLAM


class Drawn(SimpleNamespace):
    """The drawing on which CLAM itself was run, as a slide of which nothing but the coarsest level is read."""

    def whole_level(self, level):
        return cv2.cvtColor(self.coarsest, cv2.COLOR_RGB2BGRA)


@pytest.fixture(scope="module")
def golden():
    mask = np.zeros((GOLDEN_SIDE, GOLDEN_SIDE), np.uint8)
    cv2.ellipse(mask, (6000, 6300), (4950, 4050), 20, 0, 360, 1, -1)
    for centre, radius, value in (((6450, 5850), 1950, 0), ((3750, 6900), 750, 0), ((11400, 1050), 600, 1)):
        cv2.circle(mask, centre, radius, value, -1)
    colours = zip((242, 242, 242), TISSUE, strict=True)
    channels = [cv2.LUT(mask, np.resize(np.uint8(each), 256)) for each in colours]
    for _ in range(2):
        less = {"dsize": None, "fx": 0.25, "fy": 0.25, "interpolation": cv2.INTER_AREA}
        channels = [cv2.resize(each, **less) for each in channels]
    about = {"name": "golden", "path": Path("golden.tif"), "um_per_px": 0.25, "note": ""}
    about["downsamples"] = (1.0, 4.0, 16.0)
    sizes = [(GOLDEN_SIDE // times,) * 2 for times in (1, 4, 16)]
    file_levels = list(zip(sizes, about["downsamples"], strict=True))
    return Drawn(**about, size=sizes[0], file_levels=file_levels, coarsest=np.stack(channels, -1))


def clams(slide, preset, patch_px=256):
    return clam_tiles(slide, preset, segment(slide, preset), patch_px).coords


def test_coordinates_are_clams(golden):
    coords = clams(golden, read_preset("bwh_resection"))
    assert (coords.dtype, coords.shape) == (np.int64, (818, 2))
    assert (coords[0].tolist(), coords[-1].tolist()) == ([1168, 4448], [10640, 7776])
    assert hashlib.sha256(coords.astype("<i8").tobytes()).hexdigest().startswith("11f957801dcbdb6b")


def test_clams_three_scales_nest_and_are_its_own_at_512_1024_2048(golden):
    preset = read_preset("bwh_resection")
    grid = clam_grid(golden, preset)
    assert (grid.mode, grid.status) == ("clam_compat", "ok")
    for scale, patch in ((20, 512), (10, 1024), (5, 2048)):
        tiles = grid.tiles[scale]
        np.testing.assert_array_equal(tiles.coords, clams(golden, preset, patch))
        assert grid.side_px(scale) == patch
        np.testing.assert_array_equal(tiles.coords, grid.origins[tiles.origins] + tiles.places * patch)
        assert np.isnan(tiles.tissue).all()


# in µm


@pytest.mark.parametrize("um_per_px", [0.5, 0.499, 0.2532])
def test_exact_tiles_lie_on_one_grid_in_um(tmp_path, um_per_px):
    slide = drawn(tmp_path, disc(), um_per_px)
    grid = exact_tiles(slide)
    assert (grid.mode, grid.status) == ("exact", "ok")
    sets = {}
    for scale, um in ((20, 128), (10, 256), (5, 512)):
        tiles = grid.tiles[scale]
        sets[scale] = set(map(tuple, tiles.places.tolist()))
        assert len(tiles) == len(sets[scale])
        um_of, half = tiles.coords * slide.um_per_px, 0.51 * slide.um_per_px
        np.testing.assert_allclose(um_of, tiles.places * um, atol=half)
        assert (tiles.coords + um / slide.um_per_px <= 4200.5).all()
        assert ((tiles.tissue >= 0.5) & (tiles.tissue <= 1)).all()
        assert (np.hypot(*(grid.centres(scale) - 2100).T) < 1700 + 10).all(), "the disc's own border decides"
    for fine, coarse in ((20, 10), (10, 5)):
        full = {tuple(place) for place in grid.tiles[coarse].places[grid.tiles[coarse].tissue == 1].tolist()}
        for x, y in full:  # four quarters of pure tissue
            assert {(2 * x + i, 2 * y + j) for i in (0, 1) for j in (0, 1)} <= sets[fine]


def test_every_tile_with_tissue_enough_is_kept_and_no_other(tmp_path, monkeypatch):
    slide = drawn(tmp_path, disc(2100, 900))
    mask = np.random.default_rng(0).random((131, 131)) < 0.5
    mask[60:, :] = True
    canvas = np.zeros((192, 192), bool)  # what lies beyond the border is no tissue
    canvas[:131, :131] = mask
    tissue = Tissue(mask, ~mask & False, ~mask & False, (16.0, 16.0))
    monkeypatch.setattr("lib.features.tiles.find_tissue", lambda _: tissue)
    for least in (0.0, 0.5, 0.9, 1.0):
        grid = exact_tiles(slide, least_tissue=least)
        for scale, side in ((20, 16), (10, 32), (5, 64)):
            expected = [
                (x, y)
                for y in range(-(-131 // side))
                for x in range(-(-131 // side))
                if (share := canvas[y * side : (y + 1) * side, x * side : (x + 1) * side].mean()) >= least
                and share > 0
            ]
            assert [tuple(place) for place in grid.tiles[scale].places.tolist()] == expected


def test_blank_tiny_and_marked_slides_end_with_a_name(tmp_path):
    glass = np.full((1200, 1200, 3), GLASS, np.uint8)
    marked = cv2.line(glass.copy(), (100, 100), (1000, 900), (40, 60, 170), 60)
    speck = cv2.circle(glass.copy(), (600, 600), 150, TISSUE, -1)
    found = {}
    for name, rgb in (("blank", glass), ("marked", marked), ("speck", speck), ("tiny", disc(700, 340))):
        grid = exact_tiles(drawn(tmp_path, rgb))
        assert all(len(tiles) == 0 for tiles in grid.tiles.values()) or name == "speck"
        found[name] = (grid.status, grid.note)
    assert found["blank"] == ("blank", "")
    assert found["tiny"][0] == "tiny"
    assert "lower least_tissue" in found["tiny"][1]
    assert found["marked"][0] == "pen marks only"
    assert found["marked"][1].startswith("pen marks on ")
    assert found["speck"][0] == "no tissue kept"
    assert "no tile is kept at " in found["speck"][1]
    assert clam_grid(drawn(tmp_path, glass), read_preset("tcga")).status == "blank"
    small = clam_grid(drawn(tmp_path, speck), read_preset("tcga"))
    assert small.status == "no tissue kept"
    assert small.note == "3 contours found, 3 of them smaller than a_t, 0 kept"


def core(width, height, margin):
    """A core biopsy of 0.5 µm a pixel that fills its strip of glass but for a margin, µm."""
    rgb, edge = np.full((2 * height, 2 * width, 3), GLASS, np.uint8), 2 * margin
    rgb[edge:-edge, edge:-edge] = TISSUE
    return rgb


@pytest.mark.parametrize("height", [1000, 500])
def test_a_core_biopsy_on_a_tight_crop_is_covered_at_every_scale(tmp_path, height):
    """Of 0.9 and 0.44 mm: the last row of 5x tiles would lie outside the slide."""
    slide = drawn(tmp_path, core(3100, height, 20 + height // 40))
    grid = exact_tiles(slide)
    assert grid.status == "ok"
    assert min(grid.coverage.values()) >= 0.9
    assert grid.note == ""
    for scale, indices, crops in tile_batches(slide, grid, 64):
        over = grid.tiles[scale].coords[indices] + round(grid.side_px(scale)) > slide.size
        assert (crops[over[:, 1], -1].min(axis=(1, 2)) == 255).all()  # white beyond the border
    (tmp_path / "grid").mkdir()
    write_grid(tmp_path / "grid" / "a.h5", grid)
    assert read_grid(tmp_path / "grid" / "a.h5").coverage == pytest.approx(grid.coverage)


def test_a_scale_whose_tiles_miss_tissue_says_so(tmp_path):
    rgb = np.full((2048, 2048, 3), GLASS, np.uint8)
    rgb[600:1450, 100:1948] = TISSUE  # 0.41 mm of either row of 5x tiles
    grid = exact_tiles(drawn(tmp_path, rgb))
    assert grid.coverage[20] > 0.9
    assert grid.coverage[5] == 0
    assert "0% at 5x of the tissue: a lower least_tissue than 0.5" in grid.note
    assert exact_tiles(drawn(tmp_path, rgb), least_tissue=0.3).coverage[5] > 0.99


def test_a_scale_finer_than_the_slide_is_refused(tmp_path):
    slide = drawn(tmp_path, disc(2100, 900), 1.0)
    with pytest.raises(ValueError, match=r"drawn.tif has 1 µm per pixel, and 20x means 0.5, "):
        exact_tiles(slide)
    assert exact_tiles(slide, (10, 5)).status == "ok"


@pytest.mark.real
def test_real_slides(mirror):
    with open_slide(mirror / "wsi" / "cmu-1-small-region.svs") as slide:
        grid = exact_tiles(slide)
        # 256 px tiles of level 0 more than half saturated are 33; these are 256.5 px, the mask is smoothed, and the last row
        # goes 118 px beyond the border
        assert {scale: len(tiles) for scale, tiles in grid.tiles.items()} == {20: 38, 10: 8, 5: 2}
        check_against_one_by_one(slide, grid, 224, apart=255)
    with open_slide(mirror / "wsi" / "tcga-cr-7395-01a-01-ts1.svs", 0.5) as slide:
        grid = exact_tiles(slide)
        assert abs((grid.tiles[20].coords + 256 <= slide.size).all(1).sum() - 149) <= 5
        assert grid.status == "ok"
    for name in ("small.svs", "unreadable.svs"):
        with open_slide(mirror / "wsi" / "openslide-fixtures" / name) as slide:
            assert exact_tiles(slide).status == "tiny"
            expected = "unreadable" if name == "unreadable.svs" else "ok"
            assert exact_tiles(slide, tile_px=4, least_tissue=0).status in (expected, "blank")


# one pass


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
        assert (crops.shape, crops.dtype) == ((len(indices), input_px, input_px, 3), np.uint8)
        assert 1 <= len(indices) <= batch
        assert not found[scale].keys() & set(indices.tolist()), "a tile came twice"
        found[scale] |= dict(zip(indices.tolist(), crops, strict=True))
    return found


def check_against_one_by_one(slide, grid, input_px=256, apart=1):
    """The slow reference: every tile of every scale read and resized by itself."""
    for scale, crops in collected(slide, grid, input_px).items():
        assert sorted(crops) == list(range(len(grid.tiles[scale]))) != []
        for index, crop in crops.items():
            place = grid.tiles[scale].places[index]
            side = (grid.edges(scale, place + 1) - grid.edges(scale, place)).tolist()
            pixels = slide.read(*grid.tiles[scale].coords[index].tolist(), side)
            if grid.mode == "clam_compat":  # black beyond the border
                right, bottom = slide.size - grid.tiles[scale].coords[index]
                pixels[:, right:] = pixels[bottom:] = 0
            reference = cv2.resize(pixels, (input_px, input_px), interpolation=cv2.INTER_AREA)
            # the finest is the very tile; averages of averages are rounded twice where the reference rounds once
            assert np.abs(crop.astype(int) - reference).max() <= (0 if scale == 20 else apart)
            assert np.corrcoef(crop.ravel(), reference.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("um_per_px", [0.5, 0.25])
def test_three_scales_of_one_pass_are_those_read_and_resized_one_by_one(tmp_path, rgb, um_per_px):
    """A single-level slide, so that 10x and 5x have nothing else to come from."""
    slide = slide_of(tmp_path, rgb, um_per_px)
    check_against_one_by_one(slide, exact_tiles(slide))


def test_clams_tiles_come_out_of_one_pass_too(tmp_path, rgb):
    slide = slide_of(tmp_path, rgb, 0.25)
    check_against_one_by_one(slide, clam_grid(slide, read_preset("bwh_biopsy")))


def test_tiles_that_are_no_whole_number_of_pixels(tmp_path, rgb):
    slide = slide_of(tmp_path, rgb, 0.499)
    grid = exact_tiles(slide)
    check_against_one_by_one(slide, grid, 44, apart=255)
    fine, middle, coarse = (grid.edges(scale, np.arange(401)) for scale in (20, 10, 5))
    np.testing.assert_array_equal(fine[::2], middle[:201])
    np.testing.assert_array_equal(fine[::4], coarse[:101])
    assert np.abs(fine - np.arange(401) * grid.side_px(20)).max() <= 0.5, "rounding does not add up"


def test_the_coarsest_level_fine_enough_is_read(tmp_path, rgb):
    slide = slide_of(tmp_path, rgb, 0.125, (1, 2, 4, 8))
    assert [level_for(slide, times) for times in (2, 4, 8, 16)] == [1, 2, 3, 3]
    # a level of 0.504 µm will do for 0.5, a hair coarser; one of 0.52 will not
    assert [level_for(slide, 0.5 / um) for um in (0.126, 0.13, 0.6)] == [2, 1, 0]


def test_a_level_gives_what_the_full_size_gives(tmp_path, rgb):
    slide = slide_of(tmp_path, rgb, 0.2, (1, 2))
    from_level = collected(slide, exact_tiles(slide))
    bare = slide_of(tmp_path, rgb, 0.2)
    for scale, crops in collected(bare, exact_tiles(bare)).items():
        assert len(crops) >= 1
        for index, crop in crops.items():
            # two JPEGs apart, but at the same place: a shift by two pixels gives 0.93
            assert np.corrcoef(crop.ravel(), from_level[scale][index].ravel())[0, 1] > 0.97


@pytest.mark.parametrize(("scales", "batch"), [((20,), 1), ((10, 5), 7), ((40, 5), 1000)])
def test_any_choice_of_scales_and_batches_gives_the_same_tiles(tmp_path, rgb, scales, batch):
    slide = slide_of(tmp_path, rgb, 0.25)
    all_scales = collected(slide, exact_tiles(slide, (40, 20, 10, 5)), 64)
    some = collected(slide, exact_tiles(slide, scales), 64, batch)
    for scale in scales:
        assert some[scale].keys() == all_scales[scale].keys()
        for index, crop in some[scale].items():
            assert np.abs(crop.astype(int) - all_scales[scale][index]).max() <= 1


@pytest.mark.parametrize("direct", [True, False])
def test_tiles_that_cannot_be_decoded_are_counted_and_never_white(tmp_path, rgb, direct):
    slide = slide_of(tmp_path, rgb, 0.5)
    grid = exact_tiles(slide)
    intact = collected(slide, grid, 64)
    slide.close()
    with tifffile.TiffFile(tmp_path / "s.tif") as file:
        page = file.pages[0]
        offset, size = page.dataoffsets[5 * 12 + 6], page.databytecounts[5 * 12 + 6]
    with open(tmp_path / "s.tif", "rb+") as file:
        file.seek(offset)
        file.write(b"\0" * size)
    slide = open_slide(tmp_path / "s.tif")
    if not direct:
        slide._stored.pages.clear()
    for _ in range(2):  # a second pass counts anew
        found = collected(slide, grid, 64)
        for scale, place in ((20, (6, 5)), (10, (3, 2)), (5, (1, 1))):
            (lost,) = np.flatnonzero((grid.tiles[scale].places == place).all(1))
            assert grid.failed[scale] == [lost]
            assert set(intact[scale]) - set(found[scale]) == {lost}
            for index, crop in found[scale].items():
                np.testing.assert_array_equal(crop, intact[scale][index])
    # the mask of the same slide does not lose the place either: it is tried again, and fails again
    again = exact_tiles(slide)
    collected(slide, again, 64)
    assert {scale: len(lost) for scale, lost in again.failed.items()} == {20: 1, 10: 1, 5: 1}


def test_an_error_while_decoding_ahead_is_raised_here_and_the_thread_ends(tmp_path, rgb, monkeypatch):
    slide = slide_of(tmp_path, rgb, 0.5)
    grid = exact_tiles(slide)
    for batch in tile_batches(slide, grid, 64, 1):
        assert len(batch) == 3
        break  # nobody wants the rest
    monkeypatch.setattr(Slide, "read", lambda *_: (_ for _ in ()).throw(OSError("disk gone")))
    with pytest.raises(OSError, match="disk gone"):
        list(tile_batches(slide, grid, 64))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tiles")]


def test_a_grid_of_another_slide_is_refused(tmp_path, rgb):
    slide = slide_of(tmp_path, rgb, 0.5)
    with pytest.raises(ValueError, match="the grid is of slide other"):
        next(tile_batches(slide, replace(exact_tiles(slide), slide="other"), 64))


# seen by an encoder


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
    for scale, (features, coords, counts) in embedded.items():
        assert features.dtype == coords.dtype == np.float32
        # bytes are rounded
        np.testing.assert_allclose(places(features), coords, atol=0 if scale == 20 else 26)
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
    with pytest.raises(ValueError, match=r"slide painted: 1 of 8 tiles at 10x .* more than 5.0%"):
        embed_slide(Painted(broken=[(300, 300)]), grid, encoder, most_failed=0.05)
    nothing = Painted(broken=[(x, y) for x in range(8, 2048, 16) for y in range(8, 1024, 16)])
    with pytest.raises(ValueError, match=r"32 of 32 tiles at 20x cannot be decoded"):
        embed_slide(nothing, grid, encoder, most_failed=1.0)
    grid.status, grid.note = "pen marks only", "pen marks on 80.0% of the slide are left out"
    with pytest.raises(ValueError, match=r"painted has no tiles to embed: pen marks only \(pen marks on 80"):
        embed_slide(Painted(), grid, encoder)


def test_files_lie_by_encoder_and_scale(grid, encoder, tmp_path):
    embedded = embed_slide(Painted(), grid, encoder)
    paths = write_embedding(tmp_path, grid, encoder, embedded)
    assert paths == embedding_paths(tmp_path, encoder.name, "painted", (20, 10, 5))
    assert paths[5] == tmp_path / "hf-hub-some-mean" / "x5" / "painted.h5"
    for scale, um in ((20, 128), (10, 256), (5, 512)):
        file = read_features(paths[scale])
        known = file.attributes
        assert (known["crop_um"], known["um_per_px"], known["scale"]) == (um, 0.5, scale)
        assert (known["encoder"], known["revision"], known["n_failed"]) == ("hf-hub:some/mean", "v1", 0)
        np.testing.assert_array_equal(file.features, embedded[scale].features.astype(np.float16))
        np.testing.assert_array_equal(file.coords, embedded[scale].coords)
