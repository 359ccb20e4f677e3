import numpy as np
import pytest
from PIL import Image

from lib.features.embedding import crop_spots, white_share


def stripes(height=60, width=80):
    """A picture whose pixel at x, y is (x, y, 7)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 7)], axis=2).astype(np.uint8)


def crops_of(*args, **kwargs):
    return np.concatenate(list(crop_spots(*args, **kwargs)))


def padded(picture, by):
    """The slow way to a white border: pad the whole picture."""
    return np.pad(picture, ((by, by), (by, by), (0, 0)), constant_values=255)


def test_a_crop_at_scale_one_is_a_slice():
    picture = stripes()
    crops = crops_of(picture, [[30, 20], [40, 40]], 16, out_px=16)
    np.testing.assert_array_equal(crops[0], picture[12:28, 22:38])
    np.testing.assert_array_equal(crops[1], picture[32:48, 32:48])


@pytest.mark.parametrize("centre", [(0, 0), (80, 60), (3, 58), (79, 1), (0, 30)])
def test_what_lies_beyond_the_border_is_white_and_never_wraps(centre):
    picture = stripes()
    x, y = centre
    expected = padded(picture, 20)[y - 8 + 20 : y + 8 + 20, x - 8 + 20 : x + 8 + 20]
    np.testing.assert_array_equal(crops_of(picture, [centre], 16, out_px=16)[0], expected)
    assert (expected == 255).all(axis=2).any()


def test_a_crop_larger_than_the_picture_keeps_it_whole():
    picture = stripes(10, 12)
    crop = crops_of(picture, [[6, 5]], 20, out_px=20)[0]
    np.testing.assert_array_equal(crop[5:15, 4:16], picture)
    assert (crop == 255).all(axis=2).sum() == 400 - 120


def test_shifting_the_picture_and_the_spot_alike_changes_nothing():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (50, 50, 3), dtype=np.uint8)
    centres = rng.uniform(0, 50, (20, 2))
    moved = crops_of(padded(picture, 30), centres + 30, 13.7, out_px=9)
    np.testing.assert_array_equal(crops_of(picture, centres, 13.7, out_px=9), moved)


def test_centres_and_sides_between_pixels_are_not_rounded():
    picture = stripes()
    picture[..., 0] *= 3
    # red rises by three a pixel: the mean of a crop says where its centre lies
    for x, side in [(30.5, 10), (30.25, 10), (30.75, 10.5), (33, 11.5)]:
        crop = crops_of(picture, [[x, 30]], side, out_px=8)[0].astype(float)
        assert crop[..., 0].mean() / 3 == pytest.approx(x - 0.5, abs=0.1)
    picture = stripes()
    wide = crops_of(picture, [[40, 30]], (40, 10), out_px=10)[0].astype(int)
    assert wide[0, -1, 0] - wide[0, 0, 0] == pytest.approx(36, abs=1)  # x is shrunk four times, y is not
    assert wide[-1, 0, 1] - wide[0, 0, 1] == pytest.approx(9, abs=1)


def test_shrinking_averages_instead_of_skipping():
    rows = np.zeros((64, 64, 3), np.uint8)
    rows[::2] = 200
    crop = crops_of(rows, [[32, 32]], 64, out_px=8)
    assert abs(crop.astype(int) - 100).max() <= 10  # a resize without antialias would show 0 or 200


def test_order_and_content_do_not_depend_on_the_batch():
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    centres = rng.uniform(0, 40, (23, 2))
    whole = crops_of(picture, centres, 9.3, out_px=7, batch=100)
    parts = list(crop_spots(picture, centres, 9.3, out_px=7, batch=5))
    assert [len(part) for part in parts] == [5, 5, 5, 5, 3]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    alone = crops_of(picture, centres[17:18], 9.3, out_px=7)
    np.testing.assert_array_equal(alone[0], whole[17])
    assert whole.dtype == np.uint8
    assert list(crop_spots(picture, np.empty((0, 2)), 9)) == []


@pytest.mark.parametrize("outside", [(-0.1, 5), (80.1, 5), (5, -3), (5, 61), (np.nan, 5)])
def test_a_centre_outside_raises_at_once_with_its_index(outside):
    with pytest.raises(ValueError, match=r"spot 2 .*outside the picture of 80 x 60 .*1 such"):
        crop_spots(stripes(), [[5, 5], [6, 6], outside], 8)


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        (stripes().astype(float), 8),
        (stripes()[..., 0], 8),
        (np.dstack([stripes(), stripes()[..., :1]]), 8),
        (stripes(), 0),
        (stripes(), (8, -1)),
        (stripes(), np.nan),
    ],
)
def test_what_is_no_rgb_picture_or_no_size_is_refused(picture, size):
    with pytest.raises(ValueError, match=r"picture is uint8 RGB|must be positive"):
        crop_spots(picture, [[5, 5]], size)


def test_white_share_counts_pixels():
    crops = np.zeros((3, 10, 10, 3), np.uint8)
    crops[1, :5] = 255
    crops[2] = (230, 210, 235)  # glass is rarely pure white
    np.testing.assert_allclose(white_share(crops), [0, 0.5, 1])
    crops[2] = (235, 150, 235)  # eosin is not glass
    assert white_share(crops)[2] == 0


@pytest.mark.real
def test_spots_of_a_real_section_show_tissue_and_not_glass(mirror):
    from lib.spacrd.her2st import read_section
    from lib.spacrd.pictures import open_picture

    folder = mirror / "her2st"
    if not folder.is_dir():
        pytest.skip("the mirror has no her2st")
    section = read_section(folder, "A1")
    about = section.uns["section"]
    scale = np.asarray(about["picture_scale"])
    picture = open_picture(folder / about["picture"])
    centres, side = section.obsm["spatial"] * scale, 112 / about["um_per_px"] * scale
    assert white_share(crops_of(picture, centres, side, out_px=32)).max() < 0.5
    # upside down, which label files invite to, the same spots fall off the tissue
    flipped = np.ascontiguousarray(picture[::-1])
    assert (white_share(crops_of(flipped, centres, side, out_px=32)) > 0.8).mean() > 0.1
    # and the full-resolution pixels on the shrunk picture lie outside
    with pytest.raises(ValueError, match="outside the picture"):
        crop_spots(picture, section.obsm["spatial"], side)


def test_resize_is_pillows_own():
    rng = np.random.default_rng(2)
    picture = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = Image.fromarray(picture[8:56, 8:56]).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(crops_of(picture, [[32, 32]], 48, out_px=16)[0], np.asarray(expected))
