from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from lib.inputs.slides import Slide, UnreadableTile, open_slide
from lib.phantoms.slides import write_pyramid


def plainly(path, x, y, size, level=0):
    """The slow reference: the package's own read_region over white."""
    with openslide.OpenSlide(path) as slide:
        region = slide.read_region((x, y), level, size)
    return np.asarray(Image.alpha_composite(Image.new("RGBA", size, "white"), region))[..., :3]


@pytest.fixture
def rgb():
    small = np.random.default_rng(0).integers(0, 255, (80, 96, 3), dtype=np.uint8)
    return np.kron(small, np.ones((8, 8, 1), np.uint8))  # 640 x 768


@pytest.fixture
def path(tmp_path, rgb):
    path = tmp_path / "slide.one.tiff"
    write_pyramid(path, [rgb, rgb[::4, ::4]], 0.25)
    return path


def spoil(path, tile, page=0):
    with tifffile.TiffFile(path) as file:
        offset, size = file.pages[page].dataoffsets[tile], file.pages[page].databytecounts[tile]
    with open(path, "rb+") as file:
        file.seek(offset)
        file.write(b"\0" * size)


def test_what_a_slide_says_of_itself(path):
    with open_slide(path) as slide:
        assert isinstance(slide, Slide)
        assert (slide.path, slide.name) == (path, "slide.one")
        assert (slide.size, slide.level_sizes) == ((768, 640), ((768, 640), (192, 160)))
        assert slide.downsamples == (1.0, 4.0)
        assert (slide.um_per_px, slide.scale_from) == (pytest.approx(0.25), "mpp")
    with open_slide(path, 0.5) as slide:
        assert (slide.um_per_px, slide.scale_from) == (0.5, "override")


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize(
    ("x", "y", "size", "level"),
    [
        (0, 0, (300, 200), 0),
        (201, 133, (57, 91), 0),
        (700, 600, (100, 80), 0),  # over the border
        (-20, -30, (64, 64), 0),
        (5000, 5000, (10, 10), 0),  # outside
        (400, 200, (60, 70), 1),
    ],
)
def test_pixels_are_openslides_over_white(path, direct, x, y, size, level):
    with open_slide(path) as slide:
        assert slide._stored is not None
        if not direct:
            slide._stored = None
        found = slide.read(x, y, size, level)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, plainly(path, x, y, size, level))


def test_one_number_is_a_square_and_no_pixel_is_an_error(path):
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(10, 20, 30), slide.read(10, 20, (30, 30)))
        for size, level in ((0, 0), ((5, 0), 0), (5, 2), (5, -1)):
            with pytest.raises(ValueError, match="no region"):
                slide.read(0, 0, size, level)


@pytest.mark.parametrize("direct", [True, False])
def test_damage_is_an_error_each_time_and_the_rest_stays_readable(path, direct):
    spoil(path, 4)  # 256 to 512, second row
    with open_slide(path) as slide:
        if not direct:
            slide._stored = None
        for _ in range(2):
            with pytest.raises(
                UnreadableTile, match=r"slide.one.tiff: 20 x 20 pixels of level 0 at 300, 300"
            ):
                slide.read(300, 300, 20)
            np.testing.assert_array_equal(slide.read(0, 0, 256), plainly(path, 0, 0, (256, 256)))


def test_a_direct_reader_that_disagrees_with_openslide_is_not_used(path, monkeypatch):
    monkeypatch.setattr("lib.inputs.slides.StoredTiles._tile", lambda *_: np.zeros((256, 256, 3), np.uint8))
    with open_slide(path) as slide:
        assert slide._stored is None
        np.testing.assert_array_equal(slide.read(0, 0, 256), plainly(path, 0, 0, (256, 256)))


def test_thumbnail_is_the_slide_in_small(path, rgb):
    with open_slide(path) as slide:
        small = slide.thumbnail(96)
        assert small.shape == (80, 96, 3)
        # a JPEG of random blocks strays; a shift by one block would stray by 80
        assert np.abs(small.astype(int) - rgb[::8, ::8]).mean() < 25
        assert slide.thumbnail(5000).shape == (640, 768, 3)  # never larger than it is


def test_threads_read_the_same_pixels(path):
    places = [(x, y) for x in range(0, 700, 50) for y in range(0, 600, 50)]
    with open_slide(path) as slide, ThreadPoolExecutor(4) as pool:
        for direct in (True, False):
            if not direct:
                slide._stored = None
            together = list(pool.map(lambda place: slide.read(*place, 70), places))
            for place, pixels in zip(places, together, strict=True):
                np.testing.assert_array_equal(pixels, slide.read(*place, 70))


def test_what_is_no_slide_is_refused_by_name(tmp_path, rgb):
    with pytest.raises(FileNotFoundError, match=r"absent\.svs"):
        open_slide(tmp_path / "absent.svs")
    (tmp_path / "text.svs").write_text("no slide")
    with pytest.raises(ValueError, match=r"^text.svs cannot be opened"):
        open_slide(tmp_path / "text.svs")
    write_pyramid(tmp_path / "bare.tif", [rgb], None)
    with pytest.raises(ValueError, match=r"^bare.tif"):
        open_slide(tmp_path / "bare.tif")


@pytest.mark.real
def test_real_slide_without_scale_is_refused_until_an_override_is_given(mirror):
    path = mirror / "wsi" / "tcga-cr-7395-01a-01-ts1.svs"
    with pytest.raises(ValueError, match="neither µm per pixel nor objective power") as error:
        open_slide(path)
    assert "table of overrides" in str(error.value)
    with open_slide(path, 0.5) as slide:
        assert (slide.size, slide.scale_from) == ((4443, 3567), "override")
        assert slide.downsamples == (1.0, pytest.approx(2.0005, abs=1e-4))
        np.testing.assert_array_equal(slide.read(2000, 1500, 300), plainly(path, 2000, 1500, (300, 300)))


@pytest.mark.real
def test_real_slide_of_one_level_is_decoded_directly_to_the_very_pixels(mirror):
    path = mirror / "wsi" / "cmu-1-small-region.svs"
    with open_slide(path) as slide:
        assert (slide.size, slide.um_per_px, slide.scale_from) == ((2220, 2967), 0.499, "mpp")
        assert list(slide._stored.pages) == [0]
        for x, y, size in [(0, 0, (500, 400)), (1111, 1713, (513, 260)), (2000, 2800, (300, 300))]:
            np.testing.assert_array_equal(slide.read(x, y, size), plainly(path, x, y, size))


@pytest.mark.real
def test_openslides_own_fixtures(mirror):
    folder = mirror / "wsi" / "openslide-fixtures"
    with pytest.raises(ValueError, match=r"boxes.tiff: 352.8 µm per pixel .* outside 0.1 to 2.4"):
        open_slide(folder / "boxes.tiff")  # 72 dots per inch
    with open_slide(folder / "boxes.tiff", 0.5) as slide:
        assert len(slide.downsamples) == 4
        np.testing.assert_array_equal(slide.read(7, 9, 50), plainly(folder / "boxes.tiff", 7, 9, (50, 50)))
    with open_slide(folder / "small.svs") as slide:
        assert slide.read(0, 0, 16).shape == (16, 16, 3)
    with open_slide(folder / "unreadable.svs") as slide:
        with pytest.raises(UnreadableTile, match=r"unreadable\.svs"):
            slide.read(0, 0, 16)
        with pytest.raises(UnreadableTile, match="nothing of level 0"):
            slide.thumbnail()
