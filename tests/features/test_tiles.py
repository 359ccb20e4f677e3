import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tifffile

from lib.features.tiles import STATUSES, clam_grid, clam_tiles, exact_tiles
from lib.features.tissue import Tissue, read_preset
from lib.inputs.slides import open_slide
from lib.phantoms.slides import write_pyramid, write_slide

GLASS, TISSUE = (244, 242, 246), (200, 120, 180)
GOLDEN_SIDE, TILE = 12288, 1024


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """The drawing of shared specification: CLAM itself was run on it."""
    mask = np.zeros((GOLDEN_SIDE, GOLDEN_SIDE), np.uint8)
    cv2.ellipse(mask, (6000, 6300), (4950, 4050), 20, 0, 360, 1, -1)
    cv2.circle(mask, (6450, 5850), 1950, 0, -1)
    cv2.circle(mask, (3750, 6900), 750, 0, -1)
    cv2.circle(mask, (11400, 1050), 600, 1, -1)
    colours = np.array([[242, 242, 242], [200, 120, 180]], np.uint8)
    level_0 = (
        colours[mask[y : y + TILE, x : x + TILE]]
        for y in range(0, GOLDEN_SIDE, TILE)
        for x in range(0, GOLDEN_SIDE, TILE)
    )
    coarser = [[cv2.LUT(mask, np.resize(colours[:, i], 256)) for i in range(3)]]
    for _ in range(2):
        coarser.append(
            [cv2.resize(each, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) for each in coarser[-1]]
        )
    path = tmp_path_factory.mktemp("golden") / "golden.tif"
    how = {"compression": "zlib", "compressionargs": {"level": 1}, "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as file:
        shape = (GOLDEN_SIDE, GOLDEN_SIDE, 3)
        file.write(level_0, shape=shape, dtype=np.uint8, tile=(TILE, TILE), **how)
        for channels in coarser[1:]:
            file.write(np.stack(channels, -1), tile=(256, 256), subfiletype=1, **how)
    with open_slide(path, 0.25) as slide:
        yield slide


def digest(coords):
    return hashlib.sha256(coords.astype("<i8").tobytes()).hexdigest()


def test_coordinates_are_clams(golden):
    coords = clam_tiles(golden, read_preset("bwh_resection"))
    assert (coords.dtype, coords.shape) == (np.int64, (818, 2))
    assert (coords[0].tolist(), coords[-1].tolist()) == ([1168, 4448], [10640, 7776])
    assert digest(coords).startswith("11f957801dcbdb6b")


def test_a_loop_over_points_finds_the_same_as_the_grid(golden):
    preset = replace(read_preset("bwh_biopsy"), a_t=1)  # the islet is kept as well
    mask = cv2.medianBlur(cv2.cvtColor(golden.read(0, 0, 768, 2), cv2.COLOR_RGB2HSV)[..., 1], 11)
    mask = cv2.morphologyEx(np.uint8(mask > 15) * 255, cv2.MORPH_CLOSE, np.ones((2, 2), np.uint8))
    found, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    expected = []
    for i in np.flatnonzero(tree[0, :, 3] < 0):
        contour = (found[i] * 16).astype(np.int32)
        holes = sorted(
            (found[j] for j in np.flatnonzero(tree[0, :, 3] == i)), key=cv2.contourArea, reverse=True
        )
        x0, y0, width, height = cv2.boundingRect(contour)
        for x in range(x0, x0 + width, 512):
            for y in range(y0, y0 + height, 512):
                around = [(256 + a, 256 + b) for a in (-128, 128) for b in (-128, 128)]
                inside = any(
                    cv2.pointPolygonTest(contour, (float(x + a), float(y + b)), False) >= 0 for a, b in around
                )
                in_hole = any(
                    cv2.pointPolygonTest((hole * 16).astype(np.int32), (x + 256.0, y + 256.0), False) > 0
                    for hole in holes[:2]
                )
                if inside and not in_hole:
                    expected.append((x, y))
    coords = clam_tiles(golden, preset, patch_px=512)
    np.testing.assert_array_equal(coords, expected)
    assert (coords[:, 0] > 10500).any()


def test_other_levels_steps_and_padding(golden):
    preset = read_preset("bwh_resection")
    # 64 pixels of a level four times coarser are 256 of level 0
    np.testing.assert_array_equal(clam_tiles(golden, preset, 64, level=1), clam_tiles(golden, preset))
    dense = clam_tiles(golden, preset, 256, 128)
    assert 3.8 < len(dense) / 818 < 4.2
    assert set(map(tuple, clam_tiles(golden, preset).tolist())) <= set(map(tuple, dense.tolist()))


def test_clams_three_scales_nest_and_are_its_own_at_512_1024_2048(golden):
    preset = read_preset("bwh_resection")
    grid = clam_grid(golden, preset)
    assert (grid.mode, grid.status) == ("clam_compat", "ok")
    for scale, patch in ((20, 512), (10, 1024), (5, 2048)):
        tiles = grid.tiles[scale]
        np.testing.assert_array_equal(tiles.coords, clam_tiles(golden, preset, patch))
        assert grid.side_px(scale) == patch
        np.testing.assert_array_equal(tiles.coords, grid.origins[tiles.origins] + tiles.places * patch)
        assert np.isnan(tiles.tissue).all()


def test_tissue_too_small_for_the_preset_is_said_and_not_silent(tmp_path):
    rgb = np.full((1024, 1024, 3), GLASS, np.uint8)
    cv2.circle(rgb, (500, 500), 300, TISSUE, -1)
    slide = drawn(tmp_path, rgb)
    assert len(clam_tiles(slide, read_preset("bwh_resection"))) == 0
    grid = clam_grid(slide, read_preset("bwh_resection"))
    assert grid.status == "no tissue kept"
    assert grid.note == "1 contours found, 1 of them smaller than a_t, 0 kept"


def drawn(folder, rgb, um_per_px=0.5):
    write_pyramid(folder / "drawn.tif", [rgb], um_per_px)
    return open_slide(folder / "drawn.tif")


def disc(side=4200, radius=1700):
    rgb = np.full((side, side, 3), GLASS, np.uint8)
    cv2.circle(rgb, (side // 2, side // 2), radius, TISSUE, -1)
    return rgb


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
        np.testing.assert_allclose(
            tiles.coords * slide.um_per_px, tiles.places * um, atol=0.51 * slide.um_per_px
        )
        assert (tiles.coords + um / slide.um_per_px <= 4200.5).all()
        assert ((tiles.tissue >= 0.5) & (tiles.tissue <= 1)).all()
        middle = grid.centres(scale)
        # the disc's own border decides
        assert (np.hypot(*(middle - 2100).T) < 1700 + 10).all()
        assert np.isin([tuple(x) for x in tiles.places[tiles.tissue > 0.999]], tiles.places).all()
    for fine, coarse in ((20, 10), (10, 5)):
        full = {tuple(place) for place in grid.tiles[coarse].places[grid.tiles[coarse].tissue == 1].tolist()}
        for x, y in full:  # four quarters of pure tissue
            assert {(2 * x + i, 2 * y + j) for i in (0, 1) for j in (0, 1)} <= sets[fine]


def test_every_tile_with_tissue_enough_is_kept_and_no_other(tmp_path):
    slide = drawn(tmp_path, disc(2100, 900))
    mask = np.random.default_rng(0).random((131, 131)) < 0.5
    mask[60:, :] = True
    tissue = Tissue(mask, ~mask & False, ~mask & False, (16.0, 16.0))
    for least in (0.0, 0.5, 0.9, 1.0):
        grid = exact_tiles(slide, least_tissue=least, tissue=tissue)
        for scale, side in ((20, 16), (10, 32), (5, 64)):
            expected = [
                (x, y)
                for y in range(128 // side)
                for x in range(128 // side)
                if mask[y * side : (y + 1) * side, x * side : (x + 1) * side].mean() >= least
            ]
            assert [tuple(place) for place in grid.tiles[scale].places.tolist()] == expected


def test_more_tissue_asked_for_keeps_fewer_tiles_of_the_same_grid(tmp_path):
    slide = drawn(tmp_path, disc(2100, 900))
    loose, strict = (
        exact_tiles(slide, (20,), least_tissue=least).tiles[20].coords.tolist() for least in (0.1, 0.9)
    )
    assert len(strict) < len(loose)
    assert {tuple(place) for place in strict} < {tuple(place) for place in loose}


def test_tile_size_is_in_pixels_of_its_scale(tmp_path):
    grid = exact_tiles(drawn(tmp_path, disc()), tile_px=224)
    assert grid.side_px(20) == pytest.approx(224)
    assert set(grid.tiles[5].coords.ravel() % 896) == {0}


def test_blank_tiny_and_marked_slides_end_with_a_name(tmp_path):
    glass = np.full((1200, 1200, 3), GLASS, np.uint8)
    marked = cv2.line(glass.copy(), (100, 100), (1000, 900), (40, 60, 170), 60)
    speck = cv2.circle(glass.copy(), (600, 600), 150, TISSUE, -1)
    found = {}
    for name, rgb in (("blank", glass), ("marked", marked), ("speck", speck), ("tiny", disc(900, 400))):
        grid = exact_tiles(drawn(tmp_path, rgb))
        assert grid.status in STATUSES
        assert all(len(tiles) == 0 for tiles in grid.tiles.values()) or name == "speck"
        found[name] = (grid.status, grid.note)
    assert found["blank"] == ("blank", "")
    assert found["tiny"] == ("tiny", "450 x 450 µm hold no tile of 5x")
    assert found["marked"][0] == "pen marks only"
    assert found["marked"][1].startswith("pen marks on ")
    assert found["speck"][0] == "no tissue kept"
    assert "no tile is kept at " in found["speck"][1]
    assert clam_grid(drawn(tmp_path, glass), read_preset("tcga")).status == "blank"


def test_pen_beside_tissue_costs_no_tile_of_tissue(tmp_path):
    write_slide(tmp_path / "p.tiff", fine=0, coarse=0, cancer=0, seed=0, side_px=4096)
    with open_slide(tmp_path / "p.tiff") as slide:
        clean, rgb = exact_tiles(slide), slide.read(0, 0, 4096)
    wider = np.full((4096, 5200, 3), GLASS, np.uint8)
    wider[:, :4096] = rgb
    cv2.line(wider, (4600, 300), (4700, 3800), (30, 130, 70), 120)
    grid = exact_tiles(drawn(tmp_path, wider))
    assert grid.status == "ok"
    # the line is 2.0 %, and the pixels beside it count
    assert "pen marks on 2.6% of the slide" in grid.note
    for scale in grid.scales:
        np.testing.assert_array_equal(grid.tiles[scale].coords, clean.tiles[scale].coords)


def test_wishes_that_cannot_be_met_are_refused(tmp_path):
    slide = drawn(tmp_path, disc(2100, 900), 1.0)
    with pytest.raises(
        ValueError, match=r"drawn.tif has 1 µm per pixel, and 20x means 0.5: leave that scale out"
    ):
        exact_tiles(slide)
    assert exact_tiles(slide, (10, 5)).status == "ok"
    with pytest.raises(ValueError, match="some of 40, 20, 10 and 5"):
        exact_tiles(slide, (10, 2))
    with pytest.raises(ValueError, match="least_tissue 50"):
        exact_tiles(slide, (10,), least_tissue=50)


@pytest.mark.real
def test_real_slides(mirror):
    with open_slide(mirror / "wsi" / "cmu-1-small-region.svs") as slide:
        grid = exact_tiles(slide)
        # 256 px tiles of level 0 more than half saturated are 33; these are 256.5 px, and the mask is smoothed
        assert {scale: len(tiles) for scale, tiles in grid.tiles.items()} == {20: 34, 10: 6, 5: 1}
    with open_slide(mirror / "wsi" / "tcga-cr-7395-01a-01-ts1.svs", 0.5) as slide:
        grid = exact_tiles(slide)
        assert abs(len(grid.tiles[20]) - 149) <= 5
        assert grid.status == "ok"
    for name in ("small.svs", "unreadable.svs"):
        with open_slide(mirror / "wsi" / "openslide-fixtures" / name) as slide:
            assert exact_tiles(slide).status == "tiny"
            expected = "unreadable" if name == "unreadable.svs" else "ok"
            assert exact_tiles(slide, tile_px=4, least_tissue=0).status in (expected, "blank")
