"""Any file to RGB without a silent change of colour, and crops that lie where the spots do."""

import gzip

import numpy as np
import pytest
import tifffile
from anndata import AnnData
from PIL import Image

from lib.features.encoders import Encoder
from lib.features.feature_files import count_white
from lib.params import ROOT, load
from lib.spacrd.pictures import crop_spots, embed_spots, open_picture, shrunk


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (30, 50, 3), dtype=np.uint8)


def test_files_come_back_as_they_were(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", rgb)
    planar = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "planar.tif", np.moveaxis(rgb, 2, 0), **planar)
    for name in ("a.png", "a.tif", "planar.tif"):
        np.testing.assert_array_equal(open_picture(tmp_path / name), rgb)
    tifffile.imwrite(tmp_path / "grey.tif", rgb[..., 0])
    np.testing.assert_array_equal(open_picture(tmp_path / "grey.tif"), np.repeat(rgb[..., :1], 3, axis=2))
    red = np.zeros((16, 16, 3), dtype=np.uint8) + np.uint8([200, 0, 0])
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


@pytest.mark.parametrize(
    ("values", "how"),
    [
        (np.zeros((30, 50), np.uint8), {"photometric": "miniswhite"}),
        (np.zeros((30, 50, 4), np.uint8), {"photometric": "separated"}),
        (np.zeros((5, 30, 50, 3), np.uint8), {"photometric": "rgb"}),
        (np.zeros((30, 50, 3), np.float32), {"photometric": "rgb"}),
        (np.ones((2, 30, 50), np.uint16), {"metadata": {"axes": "CYX"}}),
    ],
    ids=["white is 0", "CMYK", "a stack", "fractions", "fluorescence"],
)
def test_colours_that_would_be_read_as_others_are_refused(tmp_path, values, how):
    tifffile.imwrite(tmp_path / "a.tif", values, **how)
    with pytest.raises(ValueError, match="expected one 8-bit RGB"):
        open_picture(tmp_path / "a.tif")
    Image.fromarray(np.full((30, 50), 40_000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="save it as 8-bit RGB"):
        open_picture(tmp_path / "a.png")


def test_a_large_picture_is_no_attack(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (50, 30)).save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png").shape == (30, 50, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


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


def test_packed_pictures_and_those_in_an_h5ad_are_opened(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    (tmp_path / "a.png.gz").write_bytes(gzip.compress((tmp_path / "a.png").read_bytes()))
    np.testing.assert_array_equal(open_picture(tmp_path / "a.png.gz"), rgb)
    section = AnnData(np.ones((2, 2), np.float32))
    factors = {"tissue_hires_scalef": 0.5, "tissue_lowres_scalef": 0.1}
    images = {"hires": rgb / np.float32(255), "lowres": rgb[::5, ::5]}
    section.uns["spatial"] = {"S": {"images": images, "scalefactors": factors}}
    section.write_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(open_picture(tmp_path / "a.h5ad"), rgb)


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
    x, y = centre
    expected = padded(stripes(), 20)[y - 8 + 20 : y + 8 + 20, x - 8 + 20 : x + 8 + 20]
    np.testing.assert_array_equal(crops_of(stripes(), [centre], 16, out_px=16)[0], expected)


def test_shifting_the_picture_and_the_spot_alike_changes_nothing(rgb):
    centres = np.random.default_rng(0).uniform(0, 30, (20, 2))
    moved = crops_of(padded(rgb, 30), centres + 30, 13.7, out_px=9)
    parts = list(crop_spots(rgb, centres, 13.7, out_px=9, batch=8))
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


def test_crops_lie_at_the_spots_in_both_scales_and_are_as_wide_as_asked():
    """White glass with a dark square of 40 x 80 picture pixels round x 60, y 100."""
    picture = np.full((200, 120, 3), 255, np.uint8)
    picture[60:140, 40:80] = (90, 60, 140)
    scale = (0.25, 0.5)
    centres = np.array([[60, 100], [60, 20], [40, 100]]) / scale  # inside, on glass, on the edge
    about = {"um_per_px": 0.5, "picture_scale": list(scale)}
    section = AnnData(np.zeros((3, 1), np.float32), obsm={"spatial": centres}, uns={"section": about})

    def mean(crops):
        return crops.mean((1, 2)).astype(np.float32)

    def middle_row(crops):
        return crops.min(axis=3)[:, 4].astype(np.float32)

    # crops of 40 µm = 80 full pixels = 20 x 40 picture pixels
    features, counts = embed_spots(section, picture, Encoder("mean", "v1", 3, 8, 40.0, mean))
    np.testing.assert_allclose(features[:2], [[90, 60, 140], [255, 255, 255]])
    np.testing.assert_allclose(features[2], (features[0] + 255) / 2, atol=3)  # half tissue, half glass
    assert counts == {"n_white": 1, "n_failed": 0}
    # 80 µm = 160 full pixels = 40 x 80 picture pixels: exactly the square
    exact, _ = embed_spots(section, picture, Encoder("row", "v1", 8, 8, 80.0, middle_row))
    np.testing.assert_array_equal(exact[0], 60)
    wider, _ = embed_spots(section, picture, Encoder("row", "v1", 8, 8, 160.0, middle_row))
    assert wider[0, 0] == wider[0, -1] == 255


@pytest.mark.parametrize(("um_per_px", "side"), [(1.0, 100), (0.7324, 136), (0.98, 102), (0.99, 101)])
def test_released_crops_are_the_authors_whole_pixels(um_per_px, side):
    """One spot's diameter, at the pixels that `crop_image` of the authors' UNI_histology_extractor.py cuts (91eebc1)."""
    recipe = load(ROOT / "params/spacrd/her2st-released.yaml")
    picture = np.random.default_rng(0).integers(0, 256, (400, 420, 3), dtype=np.uint8)
    spots = np.array([[200.0, 200.0], [211.5, 187.49], [99.6, 301.2]])
    about = {"um_per_px": um_per_px, "picture_scale": [1.0, 1.0]}
    section = AnnData(np.zeros((3, 1)), obsm={"spatial": spots}, uns={"section": about})

    def seen(as_released, recipe_um=recipe.crop_um):
        crops = []
        encoder = Encoder("all", "v1", 1, side, recipe_um, lambda c: crops.append(c) or np.zeros((len(c), 1)))
        embed_spots(section, picture, encoder, as_released)
        return crops[0]

    crops = seen(recipe.variant == "released")
    for (x, y), crop in zip(spots.round().astype(int), crops, strict=True):
        left, top = x - side // 2, y - side // 2
        np.testing.assert_array_equal(crop, picture[top : top + side, left : left + side])
    assert not np.array_equal(seen(False), crops)


def test_glass_is_counted():
    crops = np.zeros((4, 10, 10, 3), np.uint8)
    crops[1, :5] = 255  # half
    crops[2] = (230, 210, 235)  # glass is rarely pure white
    crops[3] = (235, 150, 235)  # eosin is not glass
    assert count_white(crops) == 1


@pytest.mark.real
@pytest.mark.parametrize("section", ["A1", "A2"])
def test_real_dark_pictures(mirrored, section):
    path = mirrored(f"her2st/app/www/imgs/{section}_HE_image_dark.png")
    read = open_picture(path)
    # the outlines are pure colours that tissue never has; they stand in the raw file and nowhere in what is read
    raw = np.asarray(Image.open(path)).astype(int)

    def outlines(rgb):
        return int(((rgb[..., 0] > 180) & (rgb[..., 1] < 60) & (rgb[..., 2] < 80)).sum())

    assert outlines(raw[:535, 1500:]) > 500
    assert outlines(read.astype(int)) < 20
    assert (read[:535, 1500:] == 255).all()
    assert (read == 255).all(axis=2).mean() > 0.55
