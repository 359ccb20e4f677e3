import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from lib.features.clam import inside_contour, read_preset, read_process_list, seg_level, segment
from lib.features.feature_files import Encoder, read_features
from lib.features.tiles import (
    clam_grid,
    clam_tiles,
    embed_slide,
    presets_of,
    tile_batches,
    write_embedding,
    write_pictures,
)
from lib.inputs.slides import UnreadableTile, open_slide
from lib.params import Tiling
from lib.phantoms.slides import write_pyramid

PINK = (200, 120, 180)
BIOPSY = read_preset("bwh_biopsy")


def opened(folder, rgb, um_per_px=0.5, levels=(1,)):
    shrunk = [cv2.resize(rgb, None, fx=1 / d, fy=1 / d, interpolation=cv2.INTER_AREA) for d in levels]
    write_pyramid(folder / "s.tif", shrunk, um_per_px)
    return open_slide(folder / "s.tif")


# CLAM's presets


OWN = {"seg_level": -1, "sthresh": 15, "mthresh": 11, "close": 4, "use_otsu": "FALSE", "a_t": 100, "a_h": 16}
OWN |= {"max_n_holes": 8, "vis_level": -1, "line_thickness": 150, "white_thresh": 5, "black_thresh": 50}
OWN |= {"use_padding": "TRUE", "contour_fn": "four_pt", "keep_ids": "none", "exclude_ids": "none"}


def preset_file(folder, values, rows=1):
    """A file as CLAM's: no name, one row."""
    lines = [",".join(values), *[",".join(f'"{value}"' for value in values.values())] * rows]
    (folder / "mine.csv").write_text("\n".join(lines) + "\n")
    return folder / "mine.csv"


def test_a_file_like_clams_is_read(tmp_path):
    assert read_preset(preset_file(tmp_path, OWN)) == read_preset("bwh_resection")
    other = {"use_otsu": "True", "use_padding": "FALSE", "contour_fn": "center", "exclude_ids": "3,5"}
    changed = read_preset(preset_file(tmp_path, OWN | other))
    assert (changed.use_otsu, changed.use_padding, changed.contour_fn) == (True, False, "center")
    assert (changed.exclude_ids, changed.keep_ids, changed.a_t) == ((3, 5), (), 100)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sthresh": "many"}, "sthresh"),
        ({"contour_fn": "five_pt"}, "five_pt"),
        ({"a_t": "0.5"}, "whole numbers"),  # CLAM takes 0
    ],
)
def test_a_wrong_value_is_named(tmp_path, changed, says):
    with pytest.raises(ValueError, match=rf"mine.csv is no preset of CLAM(.|\n)*{says}"):
        read_preset(preset_file(tmp_path, OWN | changed))


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"mine.csv is no preset .*one row"):
        read_preset(preset_file(tmp_path, OWN, rows=2))
    with pytest.raises(ValueError, match=r"mine.csv is no preset(.|\n)*a_h"):
        read_preset(preset_file(tmp_path, {name: value for name, value in OWN.items() if name != "a_h"}))
    with pytest.raises(FileNotFoundError, match="known are clam, bwh_resection, bwh_biopsy, tcga"):
        read_preset("bwh")


# its list of slides

LIST = """slide_id,process,sthresh,mthresh,close,use_otsu,keep_ids,exclude_ids,a_t,contour_fn,status
a.svs,1,20,5,0,TRUE,"0,2",none,0.5,basic,tbp
b.SVS,,,,,,,,,,
c.1,1.0,8.0,,,False,none,1.0,,,processed
d,0,,,,,,,,,
"""


def test_a_process_list_gives_settings_a_slide_and_the_preset_the_rest(tmp_path):
    (tmp_path / "list.csv").write_text(LIST)
    listed = read_process_list(tmp_path / "list.csv", BIOPSY, ["a", "b", "c.1", "d", "e"])
    assert list(listed) == ["a", "b", "c.1"]
    a = {"sthresh": 20, "mthresh": 5, "close": 0, "use_otsu": True, "keep_ids": (0, 2), "a_t": 0.5}
    assert listed["a"] == replace(BIOPSY, **a, contour_fn="basic")
    assert listed["b"] == BIOPSY
    assert listed["c.1"] == replace(BIOPSY, sthresh=8, exclude_ids=(1,))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("slide_id", "slide", "list.csv is no process_list .*column slide_id"),
        (",a_t,", ",a,", "list.csv is no process_list .*a_t for a"),
        ("a.svs", "x.svs", "names slide x and is no slide of this cohort"),
        ("b.SVS", "a", "names slide a twice"),
        ("TRUE", "maybe", r"list.csv, slide a: (.|\n)*use_otsu"),
        ("c.1,1.0", "c.1,yes", "slide c.1 has process 'yes'"),
        ('a.svs,1,20,5,0,TRUE,"0,2",none,0.5,basic,tbp\nb.SVS,,', "b,0,", "no slide with process 1"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_by_name(tmp_path, old, new, says):
    text = LIST.replace(old, new)
    (tmp_path / "list.csv").write_text(text.replace("c.1,1.0", "c.1,0") if "no slide" in says else text)
    with pytest.raises(ValueError, match=says):
        read_process_list(tmp_path / "list.csv", BIOPSY, ["a", "b", "c.1", "d"])


def test_presets_are_one_for_all_or_of_each_slide_and_exact_tiles_need_none(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.features.tiles.RAW", tmp_path)
    (tmp_path / "list.csv").write_text(LIST)
    preset_file(tmp_path, OWN)
    names = ["a", "b", "c.1", "d"]
    assert presets_of(Tiling(), names) == dict.fromkeys(names)
    clams = {"tiling": "clam_compat", "preset": "mine.csv"}
    assert presets_of(Tiling(**clams), names) == dict.fromkeys(names, read_preset("bwh_resection"))
    listed = presets_of(Tiling(**clams, process_list="list.csv"), names)
    assert (list(listed), listed["b"]) == (["a", "b", "c.1"], read_preset("bwh_resection"))
    for changed in ({"process_list": "list.csv"}, {"step": 128}, {"patch_level": 0}):
        with pytest.raises(ValueError, match="give tiling: clam_compat"):
            Tiling(**changed)


# CLAM's contours


def blob(seed, side=300):
    """A ragged outline as findContours gives it: every pixel, spikes of one pixel's width included."""
    rng = np.random.default_rng(seed)
    mask = np.uint8(cv2.GaussianBlur(rng.standard_normal((side, side)), (0, 0), 6) > 0)
    mask[rng.integers(0, side, 40), :] |= np.uint8(rng.random(side) < 0.5)
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return max(found, key=len)[:, 0]


def one_by_one(contour, points):
    return np.array([cv2.pointPolygonTest(contour, tuple(map(float, point)), False) for point in points])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [(1, 1), (16, 16), (4.003, 3.99)])
def test_many_points_at_once_are_decided_as_opencv_decides_each(seed, scale):
    contour = (blob(seed) * scale).astype(np.int32)
    rng = np.random.default_rng(seed)
    anywhere = rng.integers(contour.min(0) - 9, contour.max(0) + 9, (2000, 2))
    corners = contour[rng.integers(0, len(contour), 300)]
    between = (contour[:-1] + contour[1:])[:300] // 2  # often on the line
    points = np.concatenate([anywhere, corners, between])
    expected = one_by_one(contour, points)
    assert set(expected) == {-1, 0, 1}
    np.testing.assert_array_equal(inside_contour(points, contour, [], 1, "basic"), expected >= 0)
    # the centre of a tile of one pixel lies between pixels; only holes ask for it
    around = np.array([[-9, -9], [9000, -9], [9000, 9000], [-9, 9000]])
    in_hole = ~inside_contour(points, around, [contour], 1, "basic")
    np.testing.assert_array_equal(in_hole, one_by_one(contour, points + 0.5) > 0)


@pytest.mark.parametrize("contour", [[[5, 5]], [[5, 5], [9, 5]], [[5, 5], [9, 9]]])
def test_contours_without_area_have_only_a_border(contour):
    contour = np.array(contour, np.int32)
    points = np.stack(np.meshgrid(np.arange(12), np.arange(12)), -1).reshape(-1, 2)
    expected = one_by_one(contour, points) >= 0
    np.testing.assert_array_equal(inside_contour(points, contour, [], 1, "basic"), expected)
    assert len(inside_contour(points[:0], contour, [], 1, "basic")) == 0


@pytest.fixture
def drawn(tmp_path):
    """Function: a slide with a disc of radius 700, a hole in it and a small disc beside it."""

    def made(hole=300, levels=(1, 4)):
        mask = np.zeros((2048, 2400), np.uint8)
        for centre, radius, value in (((1000, 1000), 700, 1), ((1000, 1000), hole, 0), ((2100, 300), 60, 1)):
            cv2.circle(mask, centre, radius, value, -1)
        return opened(tmp_path, np.array([[242, 242, 242], PINK], np.uint8)[mask], levels=levels)

    return made


def test_contours_holes_and_islets_are_told_apart(drawn):
    found = segment(drawn(), replace(BIOPSY, a_t=0, a_h=0))
    assert (found.level, found.seen, found.small) == (1, 2, 0)
    assert sorted(len(holes) for holes in found.holes) == [0, 1]
    area = cv2.contourArea(max(found.contours, key=len))
    assert area == pytest.approx(np.pi * 700**2, rel=0.02)
    # its threshold lies half-way up the blurred border
    otsu = segment(drawn(), replace(BIOPSY, use_otsu=True))
    assert cv2.contourArea(otsu.contours[0]) == pytest.approx(area, rel=0.05)


def test_small_tissue_and_holes_and_numbers_not_asked_for_are_left_out(drawn):
    # 512 x 512 pixels are the unit; the disc without its hole is 4.8 of them, the hole 1.08, the islet 0.04
    found = segment(drawn(), replace(BIOPSY, a_t=1, a_h=1))
    assert (len(found.contours), len(found.holes[0]), found.small) == (1, 1, 1)
    assert found.sentence == "2 contours found, 1 of them smaller than a_t, 1 kept"
    assert segment(drawn(), replace(BIOPSY, a_t=1, a_h=2)).holes == [[]]
    assert segment(drawn(), replace(BIOPSY, a_t=1, a_h=0, max_n_holes=0)).holes == [[]]
    both = segment(drawn(), replace(BIOPSY, a_t=0)).contours
    for asked, number in (({"keep_ids": (1,)}, 1), ({"exclude_ids": (1,)}, 0)):
        (kept,) = segment(drawn(), replace(BIOPSY, a_t=0, **asked)).contours
        np.testing.assert_array_equal(kept, both[number])
    # CLAM: IndexError; the last one may be called -1 there, being a place in a list
    (last,) = segment(drawn(), replace(BIOPSY, a_t=0, keep_ids=(-1,))).contours
    np.testing.assert_array_equal(last, both[1])
    for asked in ({"keep_ids": (0, 2)}, {"exclude_ids": (2,)}):
        with pytest.raises(ValueError, match=rf"s.tif: {next(iter(asked))} has 2, but its contours .* are 2"):
            segment(drawn(), replace(BIOPSY, a_t=0, **asked))
    none = segment(drawn(), replace(BIOPSY, a_t=5))
    assert (none.contours, none.seen, none.small) == ([], 2, 2)
    # a hole that a_h drops still counts against the area of its contour
    assert segment(drawn(hole=600), replace(BIOPSY, a_t=2, a_h=100)).contours == []


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """A slide of soft-edged tissue whose level 1 is 2.0002 times coarser (sizes halved and rounded down), and losslessly so."""
    path = tmp_path_factory.mktemp("waves") / "waves.tif"
    y, x = np.ogrid[:2501, :2203]
    height = np.sin(x / 97) + np.sin(y / 71 + x / 50) + np.sin((x - y) / 23)
    height = height + 0.7 * np.sin(x / 5) * np.sin(y / 6)
    share = np.rint(np.clip(height / 3, 0, 1) * 24)[..., None] / 24
    rgb = np.uint8(243 * (1 - share) + np.array(PINK) * share)
    about = {"tile": (256, 256), "photometric": "rgb", "compression": "deflate", "metadata": None}
    with tifffile.TiffWriter(path) as file:
        for i, level in enumerate((rgb, rgb[1::2, 1::2])):
            scale = {"resolution": (20000 >> i,) * 2, "resolutionunit": "CENTIMETER"}
            file.write(level, subfiletype=i, **about, **scale)
    with open_slide(path) as slide:
        yield slide


# preset, CLAM's own names -> tiles and the start of their checksum, as mahmoodlab/CLAM 53e2409 writes them for `waves`
# with --seg --patch --patch_size 64 --step_size 64 (create_patches_fp.py, OpenSlide 4.0.1, OpenCV 5.0)
SMALL = {"a_t": 0, "mthresh": 3, "close": 0}
NO_PAD = {"a_t": 0, "use_padding": False}
CLAMS = [
    ({}, 658, "d85fb7e8d1ef88fb"),
    ({**SMALL, "a_h": 0, "sthresh": 8, "contour_fn": "four_pt_hard"}, 363, "77644e6551c696b8"),
    ({**SMALL, "use_otsu": True}, 604, "abfa4757675bfb58"),
    ({**SMALL, "sthresh": 60, "contour_fn": "center"}, 122, "0f471c28dc001ee4"),
    ({**NO_PAD, "sthresh": 30, "mthresh": 5, "close": 5, "contour_fn": "basic"}, 465, "b51468caecd9587c"),
]


@pytest.mark.parametrize(("changed", "tiles", "checksum"), CLAMS)
def test_a_level_of_odd_downsample_is_segmented_as_clam_does(waves, changed, tiles, checksum):
    preset = replace(BIOPSY, **changed)
    coords = clam_tiles(waves, preset, segment(waves, preset), 64).coords
    assert len(coords) == tiles
    assert hashlib.sha256(coords.astype("<i8").tobytes()).hexdigest()[:16] == checksum


@pytest.mark.parametrize(
    ("patch", "step", "level", "tiles", "checksum"),
    [
        (64, 32, 0, 2592, "02282605263b09d0"),
        (64, 96, 0, 297, "fa81843be8b45fcf"),
        (64, 50, 1, 314, "57100e236e77a2c2"),
        (32, 0, 1, 658, "d85fb7e8d1ef88fb"),
    ],
)
def test_tiles_overlap_or_lie_apart_on_any_level_as_clams(waves, patch, step, level, tiles, checksum):
    """As above, with --patch_size, --step_size and --patch_level."""
    grid = clam_grid(waves, BIOPSY, (20,), patch, step, level)
    (found,) = grid.tiles.values()
    assert len(found) == tiles
    assert hashlib.sha256(found.coords.astype("<i8").tobytes()).hexdigest()[:16] == checksum
    assert grid.side_px(20) == patch << level
    np.testing.assert_array_equal(grid.origins[found.origins] + found.places * (patch << level), found.coords)
    shown = {}
    for _, some, crops in tile_batches(waves, grid, patch):
        shown |= dict(zip(some.tolist(), crops, strict=True))
    assert sorted(shown) == list(range(tiles))
    for index in (0, tiles // 2, tiles - 1):
        pixels = waves.read(*found.coords[index].tolist(), patch << level)
        expected = cv2.resize(pixels, (patch, patch), interpolation=cv2.INTER_AREA)
        # level 1 of this file is every second pixel of level 0, not their mean
        np.testing.assert_allclose(shown[index].mean((0, 1)), expected.mean((0, 1)), atol=3 if level else 0)


def test_tiles_of_level_0_are_the_pixels_that_clam_reads_black_beyond_the_border(waves):
    """CLAM's extractor takes wsi.read_region(coord, patch_level, patch_size).convert("RGB")."""
    grid = clam_grid(waves, BIOPSY, (20,), 200, patch_level=0)
    coords, beyond = grid.tiles[20].coords, 0
    for _, indices, crops in tile_batches(waves, grid, 200):
        for index, crop in zip(indices, crops, strict=True):
            region = waves._handle.read_region(coords[index].tolist(), 0, (200, 200)).convert("RGB")
            np.testing.assert_array_equal(crop, np.asarray(region))
            beyond += bool((coords[index] + 200 > waves.size).any())
    assert (len(coords), beyond) == (91, 5)


def test_a_patch_level_makes_tiles_of_two_sizes_on_scanners_of_two_resolutions(waves, tmp_path):
    """128 µm under nominal magnification whatever the scanner; with --patch_level 0 half of it at 40x."""
    for um_per_px, level, um in ((0.5, -1, 128), (0.25, -1, 128), (0.5, 0, 128), (0.25, 0, 64)):
        with open_slide(waves.path, um_per_px) as slide:
            grid = clam_grid(slide, BIOPSY, (20,), patch_level=level)
            encoder = Encoder("mean", "v1", 3, 8, 128.0, lambda crops: crops.mean((1, 2)).astype(np.float32))
            paths = write_embedding(tmp_path, grid, encoder, embed_slide(slide, grid, encoder))
        assert grid.side_px(20) * um_per_px == um
        assert read_features(paths[20]).attributes["crop_um"] == um


def test_mask_and_stitch_are_drawn_as_clams(waves, tmp_path):
    """CLAM's own masks/waves.jpg equals ours in every pixel; its stitch reads each tile anew, and is 0.8 grey levels apart."""
    grid = clam_grid(waves, BIOPSY, (20,), 64, patch_level=0)
    write_pictures(tmp_path, waves, grid, replace(BIOPSY, line_thickness=20))
    mask, stitch = (np.asarray(Image.open(tmp_path / kind / "waves.jpg")) for kind in ("masks", "stitches"))
    width, height = waves.level_sizes[1]
    assert mask.shape == stitch.shape == (height, width, 3)
    x, y = (np.concatenate(grid.outlines[0]) * [width / 2203, height / 2501]).astype(int).T
    assert (mask[y, x, 1] > 200).mean() > 0.95, "the outline is green"
    assert (mask[y, x, 0] < 90).mean() > 0.95
    under = np.zeros((height, width), bool)
    for x, y in grid.tiles[20].coords // 2:
        under[y : y + 32, x : x + 32] = True
    assert stitch[cv2.dilate(np.uint8(under), np.ones((19, 19))) == 0].max() < 9
    assert stitch[cv2.erode(np.uint8(under), np.ones((19, 19))) == 1].min() > 90


def test_a_damaged_level_is_not_taken_for_glass(tmp_path):
    opened(tmp_path, np.full((1024, 1024, 3), PINK, np.uint8)).close()
    with tifffile.TiffFile(tmp_path / "s.tif") as file:
        end = file.pages[0].dataoffsets[5] + file.pages[0].databytecounts[5]
    with open(tmp_path / "s.tif", "rb+") as file:
        file.seek(end - 9)
        file.write(b"\0" * 9)
    undecodable = pytest.raises(UnreadableTile, match=r"s.tif: level 0 cannot be decoded")
    with open_slide(tmp_path / "s.tif") as slide, undecodable:
        segment(slide, BIOPSY)


def test_level_is_the_coarsest_up_to_64_times_and_never_too_large(drawn, monkeypatch):
    slide = drawn(levels=(1, 4, 16))
    assert seg_level(slide, BIOPSY) == 2
    assert seg_level(slide, replace(BIOPSY, seg_level=1)) == 1
    with pytest.raises(ValueError, match="level 3 is not there"):
        seg_level(slide, replace(BIOPSY, seg_level=3))
    monkeypatch.setattr("lib.features.clam.MOST_PX", 1e6)
    with pytest.raises(ValueError, match="use the exact mode"):
        seg_level(slide, replace(BIOPSY, seg_level=0))


def test_blank_slide_has_no_contour_and_is_no_error(tmp_path):
    found = segment(opened(tmp_path, np.full((600, 600, 3), 242, np.uint8)), BIOPSY)
    assert (found.contours, found.seen, found.sentence) == ([], 0, "no contour found")


@pytest.mark.parametrize(("changed", "tiles", "checksum"), CLAMS)
def test_a_level_that_is_no_whole_number_of_times_coarser_is_segmented_as_clam_does(
    waves, changed, tiles, checksum
):
    preset = replace(BIOPSY, **changed)
    coords = clam_tiles(waves, preset, segment(waves, preset), 64).coords
    assert len(coords) == tiles
    assert hashlib.sha256(coords.astype("<i8").tobytes()).hexdigest()[:16] == checksum
