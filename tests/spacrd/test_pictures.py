import numpy as np
import pytest
import tifffile
from PIL import Image

from lib.spacrd.pictures import check_frame, open_picture, shrunk


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (30, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_lossless_files_come_back_as_they_were(tmp_path, rgb, name):
    tifffile.imwrite(tmp_path / name, rgb) if name.endswith("tif") else Image.fromarray(rgb).save(
        tmp_path / name
    )
    read = open_picture(tmp_path / name)
    np.testing.assert_array_equal(read, rgb)
    assert read.dtype == np.uint8


def test_jpeg_is_rgb_in_that_order(tmp_path):
    red = np.zeros((16, 16, 3), dtype=np.uint8)
    red[..., 0] = 200
    Image.fromarray(red).save(tmp_path / "a.jpg")
    assert open_picture(tmp_path / "a.jpg")[8, 8].tolist() == pytest.approx([200, 0, 0], abs=4)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_transparency_lies_over_white(tmp_path, rgb, name):
    above = np.dstack([rgb, np.full(rgb.shape[:2], 255, dtype=np.uint8)])
    above[:10, :, 3] = 0
    if name.endswith("tif"):
        tifffile.imwrite(tmp_path / name, above, photometric="rgb", extrasamples=["unassalpha"])
    else:
        Image.fromarray(above, "RGBA").save(tmp_path / name)
    read = open_picture(tmp_path / name)
    assert (read[:10] == 255).all()
    np.testing.assert_array_equal(read[10:], rgb[10:])


def test_grey_and_planar_tiffs(tmp_path, rgb):
    tifffile.imwrite(tmp_path / "grey.tif", rgb[..., 0])
    np.testing.assert_array_equal(open_picture(tmp_path / "grey.tif"), np.repeat(rgb[..., :1], 3, axis=2))
    tifffile.imwrite(
        tmp_path / "planar.tif", np.moveaxis(rgb, 2, 0), photometric="rgb", planarconfig="separate"
    )
    np.testing.assert_array_equal(open_picture(tmp_path / "planar.tif"), rgb)


def test_fluorescence_is_not_taken_for_a_stain(tmp_path):
    tifffile.imwrite(tmp_path / "if.tif", np.ones((2, 30, 50), dtype=np.uint16), metadata={"axes": "CYX"})
    with pytest.raises(ValueError, match="expected one 8-bit RGB"):
        open_picture(tmp_path / "if.tif")


@pytest.mark.parametrize(
    ("values", "how"),
    [
        (np.zeros((30, 50), np.uint8), {"photometric": "miniswhite"}),
        (np.zeros((30, 50, 4), np.uint8), {"photometric": "separated"}),
        (np.zeros((5, 30, 50, 3), np.uint8), {"photometric": "rgb"}),
        (np.zeros((30, 50, 3), np.float32), {"photometric": "rgb"}),
    ],
    ids=["white is 0", "CMYK", "a stack", "fractions"],
)
def test_colours_that_would_be_read_as_others_are_refused(tmp_path, values, how):
    tifffile.imwrite(tmp_path / "a.tif", values, **how)
    with pytest.raises(ValueError, match="expected one 8-bit RGB"):
        open_picture(tmp_path / "a.tif")


def test_a_large_picture_is_no_attack(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (50, 30)).save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png").shape == (30, 50, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.full((30, 50), 40_000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="save it as 8-bit RGB"):
        open_picture(tmp_path / "a.png")


def test_a_tiff_cut_off_is_not_read_as_black(tmp_path, rgb):
    big = np.tile(rgb, (10, 10, 1))
    tifffile.imwrite(tmp_path / "a.tif", big, photometric="rgb", compression="zlib", tile=(64, 64))
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(0.8 * len(content))])
    with pytest.raises(ValueError):  # noqa: PT011  ours or tifffile's own
        open_picture(tmp_path / "a.tif")


def test_a_shrunk_picture_keeps_its_scale():
    """One number takes a full-resolution pixel to the small picture, also where the two axes differ a little."""
    rgb = np.zeros((400, 200, 3), np.uint8)
    rgb[100:120, 50:60] = 255  # at 0.5, 0.4: full-resolution x 100 to 120, y 250 to 300
    small, factor = shrunk(rgb, (0.5, 0.4), 250)
    assert small.shape == (250, 100, 3)
    y, x = np.argwhere(small[..., 0] > 128).mean(0) + 0.5
    assert (x / factor, y / factor) == pytest.approx((110, 275), abs=3)
    assert shrunk(rgb, (1, 1), 10_000)[0].shape == rgb.shape


def test_the_inset_with_the_outlines_is_never_seen(tmp_path):
    picture = np.full((600, 2000, 3), 90, dtype=np.uint8)
    picture[535:, :100] = 0
    Image.fromarray(picture).save(tmp_path / "A1_HE_image_dark.png")
    read = open_picture(tmp_path / "A1_HE_image_dark.png")
    assert (read[:535, 1500:] == 255).all()
    assert (read[535:, 1500:] == 90).all()
    assert (read[:535, :1500] == 90).all()
    assert (read[535:, :100] == 255).all()
    Image.fromarray(picture[:, :1000]).save(tmp_path / "A2_HE_image_dark.png")
    with pytest.raises(ValueError, match=r"1000 pixels wide.*leak"):
        open_picture(tmp_path / "A2_HE_image_dark.png")


def test_spots_outside_the_picture_are_refused(tmp_path):
    xy = np.random.default_rng(0).uniform(0, (100, 60), (40, 2))
    check_frame(tmp_path / "a.png", (50, 30), xy, (0.5, 0.5))
    with pytest.raises(ValueError, match=r"\d+ of 40 spots lie outside"):
        check_frame(tmp_path / "a.png", (50, 30), xy, (1, 1))


@pytest.mark.real
@pytest.mark.parametrize("section", ["A1", "A2"])
def test_real_dark_pictures(mirror, section):
    path = mirror / "her2st" / "app" / "www" / "imgs" / f"{section}_HE_image_dark.png"
    if not path.is_file():
        pytest.skip("no HER2ST in the mirror")
    read = open_picture(path)
    # the outlines are pure colours that tissue never has; they stand in the raw file and nowhere in what is read
    raw = np.asarray(Image.open(path)).astype(int)

    def outlines(rgb):
        return int(((rgb[..., 0] > 180) & (rgb[..., 1] < 60) & (rgb[..., 2] < 80)).sum())

    assert outlines(raw[:535, 1500:]) > 500
    assert outlines(read.astype(int)) < 20
    assert (read[:535, 1500:] == 255).all()
    assert (read == 255).all(axis=2).mean() > 0.55
