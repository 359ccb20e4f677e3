"""Slides: the very pixels of OpenSlide at the µm per pixel that the slide can prove, damage said and never painted over."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import openslide
import pydicom
import pytest
import tifffile
from PIL import Image

from lib.inputs import slides
from lib.inputs.slides import (
    UNKNOWN,
    StoredTiles,
    UnreadableTile,
    found_slides,
    open_slide,
    overview,
    scale_of,
)
from lib.phantoms.slides import write_pyramid


def plainly(path, x, y, size, level=0):
    """The slow reference: the package's own read_region over white."""
    with openslide.OpenSlide(path) as slide:
        region = slide.read_region((x, y), level, size)
    return np.asarray(Image.alpha_composite(Image.new("RGBA", size, "white"), region))[..., :3]


def openslides_way(slide, direct):
    """Unless `direct`, leave every level to OpenSlide."""
    if not direct:
        slide._stored.pages.clear()


def blocks(rows, columns, seed=0):
    small = np.random.default_rng(seed).integers(0, 255, (rows, columns, 3), dtype=np.uint8)
    return np.kron(small, np.ones((8, 8, 1), np.uint8))


@pytest.fixture
def rgb():
    return blocks(80, 96)  # 640 x 768


@pytest.fixture
def path(tmp_path, rgb):
    path = tmp_path / "slide.one.tiff"
    write_pyramid(path, [rgb, rgb[::4, ::4]], 0.25)
    return path


def overwrite(path, tile, data=None, at=0):
    """Write bytes, zeros over all of it unless told, over a stored tile of the first page."""
    with tifffile.TiffFile(path) as file:
        offset, size = file.pages[0].dataoffsets[tile], file.pages[0].databytecounts[tile]
    with open(path, "rb+") as file:
        file.seek(offset + at)
        file.write(b"\0" * size if data is None else data)


def test_what_a_slide_says_of_itself(path):
    with open_slide(path) as slide:
        assert (slide.path, slide.name) == (path, "slide.one")
        assert (slide.size, slide.level_sizes) == ((768, 640), ((768, 640), (192, 160)))
        assert slide.downsamples == (1.0, 4.0)
        assert slide.um_per_px == pytest.approx(0.25)
    with open_slide(path, 0.5) as slide:
        assert slide.um_per_px == 0.5
    with open_slide(path, name="P1") as slide:  # a table may call it otherwise than its file
        assert slide.name == "P1"


@pytest.mark.parametrize("direct", [True, False])
def test_pixels_are_openslides_over_white(path, direct):
    regions = [
        (0, 0, (300, 200), 0),
        (201, 133, (57, 91), 0),
        (700, 600, (100, 80), 0),  # over the border
        (-20, -30, (64, 64), 0),
        (5000, 5000, (10, 10), 0),  # outside
        (400, 200, (60, 70), 1),
    ]
    with open_slide(path) as slide:
        assert slide._stored.pages
        openslides_way(slide, direct)
        for region in regions:
            np.testing.assert_array_equal(slide.read(*region), plainly(path, *region))
        np.testing.assert_array_equal(slide.read(10, 20, 30), slide.read(10, 20, (30, 30)))


@pytest.mark.parametrize("direct", [True, False])
def test_damage_is_an_error_each_time_and_the_rest_stays_readable(path, direct):
    overwrite(path, 4)  # 256 to 512, second row
    with open_slide(path) as slide:
        openslides_way(slide, direct)
        for _ in range(2):
            with pytest.raises(
                UnreadableTile, match=r"slide.one.tiff: 20 x 20 pixels of level 0 at 300, 300"
            ):
                slide.read(300, 300, 20)
            np.testing.assert_array_equal(slide.read(0, 0, 256), plainly(path, 0, 0, (256, 256)))


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9999])
def test_a_file_cut_short_is_refused_or_gives_its_own_pixels(path, share):
    whole = path.read_bytes()
    with open_slide(path) as slide:
        expected = slide.read(0, 0, slide.size)
    path.write_bytes(whole[: int(len(whole) * share)])
    try:
        with open_slide(path) as slide:
            pixels = slide.read(0, 0, slide.size)
    except ValueError:
        return
    np.testing.assert_array_equal(pixels, expected)


def test_a_direct_reader_that_disagrees_with_openslide_is_not_used(path, monkeypatch):
    monkeypatch.setattr(StoredTiles, "_tile", lambda *_: np.zeros((256, 256, 3), np.uint8))
    with open_slide(path) as slide:
        assert not slide._stored.pages
        np.testing.assert_array_equal(slide.read(0, 0, 256), plainly(path, 0, 0, (256, 256)))


def test_threads_read_the_same_pixels(path):
    places = [(x, y) for x in range(0, 700, 100) for y in range(0, 600, 100)]
    with open_slide(path) as slide, ThreadPoolExecutor(4) as pool:
        for direct in (True, False):
            openslides_way(slide, direct)
            together = list(pool.map(lambda place: slide.read(*place, 70), places))
            for place, pixels in zip(places, together, strict=True):
                np.testing.assert_array_equal(pixels, slide.read(*place, 70))


def test_what_is_no_slide_is_refused_by_name(tmp_path, rgb):
    (tmp_path / "text.svs").write_text("no slide")
    for name in ("absent", "text"):
        with pytest.raises(ValueError, match=f"^{name}.svs cannot be opened"):
            open_slide(tmp_path / f"{name}.svs")
    for um_per_px in (None, 5.0, 0.05):
        write_pyramid(tmp_path / "bare.tif", [rgb], um_per_px)
        with pytest.raises(
            ValueError, match=r"^bare.tif.*params/<study>/<cohort>.yaml, um_per_px: {bare: 0.25}"
        ):
            open_slide(tmp_path / "bare.tif")


def test_colours_that_openslide_would_turn_into_others_are_refused(tmp_path, rgb):
    deep, clear = rgb.astype(np.uint16) * 257, np.dstack([rgb, np.full(rgb.shape[:2], 128, np.uint8)])
    about = {
        "tile": (256, 256),
        "resolution": (2e4, 2e4),
        "resolutionunit": "CENTIMETER",
        "photometric": "rgb",
    }
    tifffile.imwrite(tmp_path / "deep.tif", deep, **about)
    with pytest.raises(ValueError, match="16 bits a colour: RGB of 8 bits"):
        open_slide(tmp_path / "deep.tif")
    tifffile.imwrite(tmp_path / "clear.tif", clear, **about, extrasamples=["unassalpha"])
    with pytest.raises(ValueError, match="one of transparency"):
        open_slide(tmp_path / "clear.tif")


def test_a_tiff_in_strips_is_no_broken_download(tmp_path, rgb):
    tifffile.imwrite(tmp_path / "s.tif", rgb, photometric="rgb", rowsperstrip=64, resolution=(2e4, 2e4))
    with pytest.raises(ValueError, match=r"s.tif .* in strips, not in tiles.*vips tiffsave s.tif"):
        open_slide(tmp_path / "s.tif")
    content = (tmp_path / "s.tif").read_bytes()
    (tmp_path / "s.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"s.tif .*cut short, fetch it again"):
        open_slide(tmp_path / "s.tif")


# levels that are not where they say


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ([(4443, 3567), (2221, 1783), (1110, 891), (555, 445)], [0, 1, 2, 3]),  # halved and cut off
        ([(36832, 38432), (9208, 9608), (2302, 2402), (575, 600)], [0, 1, 2, 3]),
        ([(2050, 2050), (1200, 1025), (512, 512)], [0, 2]),  # padded in width alone, and nothing to compare
        ([(2048, 2048), (1024, 1024), (1024, 1024)], [0, 1]),  # the second is a quarter on a tile too large
    ],
)
def test_a_level_lies_on_level_0_where_its_sides_are_those_over_a_power_of_2(monkeypatch, sizes, kept):
    monkeypatch.setattr(slides, "overview", lambda *_: (np.zeros((8, 8, 3)), None))
    levels = [(size, np.mean(np.divide(sizes[0], size))) for size in sizes]
    assert [*slides.aligned_levels(SimpleNamespace(size=sizes[0], file_levels=levels))] == kept


def pieces(side=2050):
    """Two round pieces of speckled tissue on glass."""
    rgb, (y, x) = np.full((side, side, 3), 244, np.uint8), np.indices((side, side))
    grain = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 1, (side, side)), (0, 0), 9)
    tissue = np.clip(150 + 40 * grain[..., None] / grain.std() + (40, -40, 20), 0, 255).astype(np.uint8)
    inside = ((x - 1600) ** 2 + (y - 1500) ** 2 < 380**2) | ((x - 450) ** 2 + (y - 700) ** 2 < 300**2)
    rgb[inside] = tissue[inside]
    return rgb


PADDINGS = {  # (top, bottom), (left, right) of a level of this height and width
    "to whole tiles": lambda h, w: ((0, -h % 512), (0, -w % 512)),
    "in width alone": lambda h, w: ((0, 0), (0, -w % 300)),
    "on all sides": lambda h, w: ((96, 96), (96, 96)),
    "at the left, by a little": lambda h, w: ((0, 0), (12, 0)),
}


@pytest.mark.parametrize("how", PADDINGS)
def test_a_level_that_is_padded_is_read_at_its_place_or_not_at_all(tmp_path, how):
    levels = [pieces()]
    levels += [cv2.resize(levels[0], (2050 // times,) * 2, interpolation=cv2.INTER_AREA) for times in (2, 4)]
    pad = [((0, -2050 % 512),) * 2 if how == "to whole tiles" else ((0, 0), (0, 0))]
    pad += [PADDINGS[how](*level.shape[:2]) for level in levels[1:]]
    padded = [np.pad(a, [*b, (0, 0)], constant_values=244) for a, b in zip(levels, pad, strict=True)]
    write_pyramid(tmp_path / "padded.tif", padded, 0.5)
    write_pyramid(tmp_path / "control.tif", levels, 0.5)
    with open_slide(tmp_path / "padded.tif") as slide, open_slide(tmp_path / "control.tif") as control:
        assert (control.downsamples, control.note) == ((1.0, 2.0, pytest.approx(4.0, abs=0.01)), "")
        assert "levels 1, 2" in slide.note
        # what is added behind the last row or column moves nothing, once the true downsample is known
        behind = how in ("to whole tiles", "in width alone")
        assert slide.downsamples == ((1.0, 2.0, 4.0) if behind else (1.0,))
        for level in range(len(slide.downsamples)):
            for x, y in ((1500, 1400), (400, 600)):
                ours, theirs = (each.read(x, y, 90, level).astype(float) for each in (slide, control))
                assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.98


# stored tiles, read directly


@pytest.fixture
def tiles(tmp_path):
    how = {"compression": "jpeg", "photometric": "rgb", "tile": (64, 64), "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", blocks(25, 38), **how)  # 200 x 304: border tiles are not full
    return tmp_path / "a.tif"


def test_a_tile_cut_short_is_told_though_libjpeg_would_fill_it_with_grey(tiles):
    with tifffile.TiffFile(tiles) as file:
        size, last = file.pages[0].databytecounts[0], file.pages[0].dataoffsets[-1]
    overwrite(tiles, 0, b"\0" * (size // 2), at=size - size // 2)
    stored = StoredTiles(tiles, [(304, 200)])
    with pytest.raises(UnreadableTile, match="stored tile 0: it is cut short"):
        stored.read(0, 0, 0, 10, 10)
    with open(tiles, "rb+") as file:
        file.truncate(last + 10)
    with pytest.raises(UnreadableTile, match="cut short"):
        stored.read(0, 300, 199, 1, 1)


def test_a_tile_that_is_not_stored_is_no_damage(tiles):
    with tifffile.TiffFile(tiles, mode="r+b") as file:
        tag = file.pages[0].tags["TileByteCounts"]
        tag.overwrite([0, *tag.value[1:]])
    assert StoredTiles(tiles, [(304, 200)]).read(0, 0, 0, 10, 10) is None


# overviews


class Painted(SimpleNamespace):
    """A slide of one level that exists in memory only, with a part that cannot be decoded."""

    def __init__(self, rgb, broken=(0, 0, 0, 0)):
        size = rgb.shape[1::-1]
        super().__init__(path=Path("painted.tif"), size=size, level_sizes=(size,), downsamples=(1.0,))
        self.rgb, self.broken, self.most = rgb, broken, 0

    def read(self, x, y, size, level=0):
        self.most = max(self.most, size[0] * size[1])
        x0, y0, x1, y1 = self.broken
        if x < x1 and y < y1 and x + size[0] > x0 and y + size[1] > y0:
            raise UnreadableTile("broken")
        return self.rgb[y : y + size[1], x : x + size[0]]


@pytest.fixture(scope="module")
def large():
    return np.random.default_rng(0).integers(0, 255, (1200, 1600, 3), dtype=np.uint8)


@pytest.mark.parametrize("strip", [2**30, 1600 * 60])
def test_strips_give_what_the_whole_level_gives(large, monkeypatch, strip):
    monkeypatch.setattr(slides, "STRIP_PX", strip)
    slide = Painted(large)
    picture, unreadable = overview(slide, 0, (160, 120))
    np.testing.assert_array_equal(picture, cv2.resize(large, (160, 120), interpolation=cv2.INTER_AREA))
    assert not unreadable.any()
    assert slide.most <= max(strip, 1600 * 10)  # never less than one row of the result


def test_unreadable_pixels_are_marked_and_nothing_around_them(large):
    picture, unreadable = overview(Painted(large, broken=(410, 620, 411, 621)), 0, (160, 120))
    assert unreadable[62, 41]
    assert unreadable.sum() <= (256 / 10 + 1) ** 2  # a search ends at blocks of at most 256 pixels
    assert (picture[unreadable] == UNKNOWN).all()
    known = cv2.resize(large, (160, 120), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(picture[~unreadable], known[~unreadable])
    with pytest.raises(UnreadableTile, match=r"painted.tif: nothing of level 0"):
        overview(Painted(large, broken=(0, 0, 1600, 1200)), 0, (160, 120))


# µm per pixel


def properties(mpp=None, power=None, mpp_y=None):
    stated = {"openslide.mpp-x": mpp, "openslide.mpp-y": mpp_y or mpp, "openslide.objective-power": power}
    return {key: str(value) for key, value in stated.items() if value is not None}


@pytest.mark.parametrize(
    ("stated", "override", "expected"),
    [
        (properties(0.2527, 40), None, 0.2527),
        (properties(0.25, 20), None, 0.25),  # a 20x objective with a 2x changer
        (properties(None, 20), None, 0.5),
        (properties(0.50, 20, 0.51), None, 0.505),
        ({"openslide.mpp-y": "0.3"}, None, 0.3),
        (properties(), 0.5, 0.5),
        (properties(0.0274, 40), 0.274, 0.274),
    ],
)
def test_scale_comes_from_override_then_mpp_then_objective(stated, override, expected):
    assert scale_of(stated, "a.svs", override) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("stated", "override", "says"),
    [
        (properties(), None, "neither µm per pixel nor objective"),
        (properties(0.0274, 40), None, "contradicts itself: 0.0274"),
        (properties(0.499, 40), None, "contradicts itself: 0.499"),  # exported at half size, header left
        (properties(1.0, 20), None, "contradicts itself: 1"),
        (properties(0.0274), None, "outside 0.1 to 2.4"),
        (properties(None, 1), None, "from its objective"),
        (properties(0.25, 40, 0.5), None, "0.25 x 0.5"),
        (properties("zero"), None, "'zero'"),
        (properties(0.25, -40), None, "'-40' as openslide.objective-power"),
        (properties(0.25), 0.025, "0.025 µm per pixel (from its override)"),
        (properties(0.25), float("nan"), "nan µm per pixel (from its override)"),
    ],
)
def test_a_scale_that_cannot_be_trusted_is_refused_by_name(stated, override, says):
    with pytest.raises(ValueError, match=r"^a\.svs") as error:
        scale_of(stated, "a.svs", override)
    assert says in str(error.value)


# real slides


@pytest.mark.real
def test_real_slide_without_scale_is_refused_until_an_override_is_given(mirror):
    path = mirror / "wsi" / "tcga-cr-7395-01a-01-ts1.svs"
    with pytest.raises(
        ValueError,
        match=r"neither µm per pixel nor objective power.*um_per_px: {tcga-cr-7395-01a-01-ts1: 0.25}",
    ):
        open_slide(path)
    with open_slide(path, 0.5) as slide:
        assert (slide.size, slide.um_per_px) == ((4443, 3567), 0.5)
        assert slide.downsamples == (1.0, pytest.approx(2.0005, abs=1e-4))
        np.testing.assert_array_equal(slide.read(2000, 1500, 300), plainly(path, 2000, 1500, (300, 300)))


@pytest.mark.real
def test_real_slide_of_one_level_is_decoded_directly_to_the_very_pixels(mirror):
    path = mirror / "wsi" / "cmu-1-small-region.svs"
    with open_slide(path) as slide:
        assert (slide.size, slide.um_per_px) == ((2220, 2967), 0.499)
        assert list(slide._stored.pages) == [0]
        for x, y, size in [(0, 0, (500, 400)), (1111, 1713, (513, 260)), (2000, 2800, (300, 300))]:
            np.testing.assert_array_equal(slide.read(x, y, size), plainly(path, x, y, size))


@pytest.mark.real
def test_openslides_own_fixtures(mirror):
    folder = mirror / "wsi" / "openslide-fixtures"
    with pytest.raises(ValueError, match=r"boxes.tiff has 352.8 µm per pixel .* outside 0.1 to 2.4"):
        open_slide(folder / "boxes.tiff")  # 72 dots per inch
    with open_slide(folder / "unreadable.svs") as slide:
        with pytest.raises(UnreadableTile, match=r"unreadable\.svs"):
            slide.read(0, 0, 16)
        with pytest.raises(UnreadableTile, match="nothing of level 0"):
            slide.thumbnail()


def test_slides_are_found_below_the_folder_by_name(tmp_path):
    for name in ("a/S1.svs", "S2.TIF", "b/c/S3.ndpi", "S4.txt", "other.svs"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = found_slides(tmp_path, ["S1", "S2", "S3", "S4", "S5"])
    assert [path.name for path in found.values()] == ["S2.TIF", "S1.svs", "S3.ndpi"]
    assert set(found_slides(tmp_path)) == {"S1", "S2", "S3", "other"}
    assert found_slides(tmp_path / "nowhere", ["S1"]) == {}
    (tmp_path / "S1.tif").write_bytes(b"")
    with pytest.raises(ValueError, match="slide S1 is there twice"):
        found_slides(tmp_path, ["S1"])


def dicom(path, series, kind=slides.DICOM_SLIDE):
    """A file's header, which is all that is read to tell what belongs together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = pydicom.Dataset()
    about.SOPClassUID, about.SOPInstanceUID = kind, pydicom.uid.generate_uid()
    about.SeriesInstanceUID = f"1.2.3.{series}"
    about.file_meta = pydicom.dataset.FileMetaDataset()
    about.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    about.save_as(path, enforce_file_format=True)


def test_the_files_of_a_dicom_series_are_one_slide(tmp_path):
    for name, series in {"P1/a": 1, "P1/b": 1, "two/c": 2, "two/d": 3, "e": 4, "f": 4}.items():
        dicom(tmp_path / f"{name}.dcm", series)
    dicom(tmp_path / "P1" / "ct.dcm", 9, pydicom.uid.CTImageStorage)
    found = {name: path.name for name, path in found_slides(tmp_path).items()}
    assert found == {"P1": "a.dcm", "c": "c.dcm", "d": "d.dcm", "e": "e.dcm"}
    # a table may name any of the files, or the folder
    assert set(found_slides(tmp_path, ["b", "d", "f"])) == {"b", "d", "f"}
    assert set(found_slides(tmp_path, ["P1"])) == {"P1"}


@pytest.mark.real
def test_a_folder_with_a_dicom_series_is_a_slide(mirror, tmp_path):
    (tmp_path / "P1").mkdir()
    for name in ("boxes_0.dcm", "boxes_1.dcm"):
        shutil.copy(mirror / "wsi" / "openslide-fixtures" / name, tmp_path / "P1")
    assert set(found_slides(tmp_path)) == {"P1"}
    with open_slide(tmp_path / "P1", 0.5) as slide:
        assert (slide.name, slide.size) == ("P1", (16, 16))
        np.testing.assert_array_equal(
            slide.read(0, 0, 16), plainly(tmp_path / "P1/boxes_1.dcm", 0, 0, (16, 16))
        )
