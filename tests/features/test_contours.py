from dataclasses import replace

import cv2
import numpy as np
import pytest

from lib.features.tissue import inside_contour, read_preset, seg_level, segment, side_of
from lib.inputs.slides import open_slide
from lib.phantoms.slides import write_pyramid

BIOPSY = read_preset("bwh_biopsy")


def blob(seed, side=300):
    """A ragged outline as findContours gives it: every pixel, spikes of one pixel's width included."""
    rng = np.random.default_rng(seed)
    field = cv2.GaussianBlur(rng.standard_normal((side, side)), (0, 0), 6)
    mask = np.uint8(field > 0)
    mask[rng.integers(0, side, 40), :] |= np.uint8(rng.random(side) < 0.5)
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return max(found, key=len)[:, 0]


def one_by_one(contour, points):
    return [int(cv2.pointPolygonTest(contour, tuple(map(float, point)), False)) for point in points]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [(1, 1), (16, 16), (4.003, 3.99)])
def test_many_points_at_once_are_decided_as_opencv_decides_each(seed, scale):
    contour = (blob(seed) * scale).astype(np.int32)
    rng = np.random.default_rng(seed)
    points = np.concatenate(
        [
            rng.integers(contour.min(0) - 9, contour.max(0) + 9, (3000, 2)),
            contour[rng.integers(0, len(contour), 300)],  # corners of the outline
            (contour[:-1] + contour[1:])[:300] // 2,  # between corners, often on the line
        ]
    )
    expected = one_by_one(contour, points)
    assert set(expected) == {-1, 0, 1}
    np.testing.assert_array_equal(side_of(contour, points), expected)


def test_half_pixels_are_decided_as_well():
    contour = blob(1).astype(np.int32) * 3
    points = np.random.default_rng(0).integers(0, 900, (2000, 2)) + 0.5
    np.testing.assert_array_equal(side_of(contour, points), one_by_one(contour, points))


@pytest.mark.parametrize("contour", [[[5, 5]], [[5, 5], [9, 5]], [[5, 5], [5, 9]], [[5, 5], [9, 9]]])
def test_contours_without_area_have_only_a_border(contour):
    contour = np.array(contour, np.int32)
    points = np.stack(np.meshgrid(np.arange(12), np.arange(12)), -1).reshape(-1, 2)
    np.testing.assert_array_equal(side_of(contour, points), one_by_one(contour, points))
    assert len(side_of(contour, points[:0])) == 0


@pytest.mark.parametrize("rule", ["four_pt", "four_pt_hard", "center", "basic"])
@pytest.mark.parametrize("patch", [256, 512, 255])
def test_tiles_are_kept_as_by_a_loop_over_tiles(rule, patch):
    contour, hole = blob(2) * 16, np.array([[1000, 1000], [3000, 900], [2500, 2600]], np.int32)
    coords = np.stack(np.meshgrid(np.arange(0, 4800, 97), np.arange(0, 4800, 113)), -1).reshape(-1, 2)
    kept = []
    for x, y in coords.tolist():
        middle = (x + patch // 2, y + patch // 2) if rule != "basic" else (x, y)
        shift = int(patch // 2 * 0.5)
        around = [(-shift, -shift), (shift, shift), (shift, -shift), (-shift, shift)]
        if not rule.startswith("four_pt"):
            around = [(0, 0)]
        inside = [v >= 0 for v in one_by_one(contour, [(middle[0] + a, middle[1] + b) for a, b in around])]
        in_hole = cv2.pointPolygonTest(hole, (x + patch / 2, y + patch / 2), False) > 0
        kept.append((all(inside) if rule == "four_pt_hard" else any(inside)) and not in_hole)
    found = inside_contour(coords, contour, [hole], patch, rule)
    assert 0 < found.sum() < len(found)
    np.testing.assert_array_equal(found, kept)


@pytest.fixture
def drawn(tmp_path):
    """Function: a slide with a disc of radius 700, a hole in it and a small disc beside it."""

    def made(hole=300, small=60, levels=(1, 4), **how):
        mask = np.zeros((2048, 2400), np.uint8)
        cv2.circle(mask, (1000, 1000), 700, 1, -1)
        cv2.circle(mask, (1000, 1000), hole, 0, -1)
        cv2.circle(mask, (2100, 300), small, 1, -1)
        rgb = np.array([[242, 242, 242], [200, 120, 180]], np.uint8)[mask]
        path = tmp_path / "drawn.tif"
        pictures = [cv2.resize(rgb, None, fx=1 / d, fy=1 / d, interpolation=cv2.INTER_AREA) for d in levels]
        write_pyramid(path, pictures, 0.5)
        return open_slide(path)

    return made


def test_contours_holes_and_islets_are_told_apart(drawn):
    found = segment(drawn(), replace(BIOPSY, a_t=0, a_h=0))
    assert (found.level, found.seen, found.small) == (1, 2, 0)
    assert [len(holes) for holes in found.holes] == [0, 1] or [len(holes) for holes in found.holes] == [1, 0]
    large = max(found.contours, key=len)
    assert cv2.contourArea(large) == pytest.approx(np.pi * 700**2, rel=0.02)


def test_small_tissue_and_small_holes_are_left_out_and_counted(drawn):
    # 512 x 512 pixels are the unit; the disc without its hole is 4.8 of them, the hole 1.08, the islet 0.04
    found = segment(drawn(), replace(BIOPSY, a_t=1, a_h=1))
    assert (len(found.contours), len(found.holes[0]), found.small) == (1, 1, 1)
    assert found.sentence == "2 contours found, 1 of them smaller than a_t, 1 kept"
    assert segment(drawn(), replace(BIOPSY, a_t=1, a_h=2)).holes == [[]]
    assert segment(drawn(), replace(BIOPSY, a_t=1, a_h=0, max_n_holes=0)).holes == [[]]
    none = segment(drawn(), replace(BIOPSY, a_t=5))
    assert (none.contours, none.seen, none.small) == ([], 2, 2)
    # a hole that a_h drops still counts against the area of its contour
    assert segment(drawn(hole=600), replace(BIOPSY, a_t=2, a_h=100)).contours == []


def test_contours_are_kept_and_excluded_by_number(drawn):
    both = segment(drawn(), replace(BIOPSY, a_t=0)).contours
    kept = segment(drawn(), replace(BIOPSY, a_t=0, keep_ids=(1,)))
    np.testing.assert_array_equal(kept.contours[0], both[1])
    without = segment(drawn(), replace(BIOPSY, a_t=0, exclude_ids=(1,)))
    np.testing.assert_array_equal(without.contours[0], both[0])
    assert without.not_asked == 1
    assert "1 excluded by number" in without.sentence


def test_strips_do_not_change_the_contours(drawn, monkeypatch):
    whole = segment(drawn(), BIOPSY)
    monkeypatch.setattr("lib.features.tissue.STRIP_PX", 3000)
    for expected, found in zip(whole.contours, segment(drawn(), BIOPSY).contours, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_level_is_the_coarsest_up_to_64_times_and_never_too_large(drawn, monkeypatch):
    slide = drawn(levels=(1, 4, 16))
    assert seg_level(slide, BIOPSY) == 2
    assert seg_level(slide, replace(BIOPSY, seg_level=1)) == 1
    with pytest.raises(ValueError, match="has 3 levels, the preset asks for level 3"):
        seg_level(slide, replace(BIOPSY, seg_level=3))
    monkeypatch.setattr("lib.features.tissue.MOST_PX", 1e6)
    with pytest.raises(ValueError, match="use the exact mode"):
        seg_level(slide, replace(BIOPSY, seg_level=0))


def test_otsu_finds_the_same_disc(drawn):
    fixed, otsu = (segment(drawn(), replace(BIOPSY, use_otsu=use)) for use in (False, True))
    # Otsu's threshold lies half-way up the blurred border
    assert cv2.contourArea(otsu.contours[0]) == pytest.approx(cv2.contourArea(fixed.contours[0]), rel=0.05)


def test_blank_slide_has_no_contour_and_is_no_error(tmp_path):
    write_pyramid(tmp_path / "blank.tif", [np.full((600, 600, 3), 242, np.uint8)], 0.5)
    found = segment(open_slide(tmp_path / "blank.tif"), BIOPSY)
    assert (found.contours, found.seen, found.sentence) == ([], 0, "no contour found")
