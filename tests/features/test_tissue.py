import cv2
import numpy as np
import pytest

from lib.features.tissue import Tissue, find_tissue
from lib.inputs.slides import open_slide
from lib.phantoms.slides import write_pyramid, write_slide

PENS = {"blue": (40, 60, 170), "green": (30, 130, 70), "red": (215, 25, 40), "black": (35, 33, 38)}
GLASS, PINK = (244, 242, 246), (200, 120, 180)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    path = tmp_path_factory.mktemp("tissue") / "p.tiff"
    write_slide(path, fine=0, coarse=1, cancer=0, seed=1, side_px=1024)
    with open_slide(path) as slide:
        return slide.read(0, 0, 1024)


def opened(folder, rgb, um_per_px=0.5, levels=(1,)):
    shrunk = [cv2.resize(rgb, None, fx=1 / d, fy=1 / d, interpolation=cv2.INTER_AREA) for d in levels]
    write_pyramid(folder / "s.tif", shrunk, um_per_px)
    return open_slide(folder / "s.tif")


# the mask


def test_share_is_the_mean_of_the_mask_under_each_cell_and_none_beyond_the_slide():
    mask = np.random.default_rng(0).random((30, 40)) < 0.4
    tissue = Tissue(mask, ~mask, ~mask, (16.0, 16.0))
    edges_x, edges_y = np.array([0, 64, 100, 320, 640]), np.array([0, 33, 160, 480])
    found = tissue.share(edges_x, edges_y)
    pixels = np.kron(mask, np.ones((16, 16)))
    for row, column in np.ndindex(3, 4):
        part = pixels[edges_y[row] : edges_y[row + 1], edges_x[column] : edges_x[column + 1]]
        assert found[row, column] == pytest.approx(part.mean())
    full = Tissue(np.ones((4, 4), bool), *[np.zeros((4, 4), bool)] * 2, (10.0, 10.0))
    np.testing.assert_allclose(full.share(np.array([0, 30, 60]), np.array([0, 40])), [[1, 1 / 3]])


@pytest.mark.parametrize("levels", [(1,), (1, 4, 16)])
def test_disc_is_found_at_its_place_and_size_and_dust_is_left_out(tmp_path, levels):
    rgb = np.full((1600, 2000, 3), GLASS, np.uint8)
    cv2.circle(rgb, (1200, 700), 500, PINK, -1)
    cv2.circle(rgb, (200, 200), 60, PINK, -1)  # 0.0028 mm²
    tissue = find_tissue(opened(tmp_path, rgb, levels=levels))
    assert (tissue.mask.shape, tissue.px) == ((100, 125), (16.0, 16.0))
    truth = np.hypot(*(np.indices((100, 125)) * 16 + 8 - np.array([700, 1200])[:, None, None])) < 500
    assert (tissue.mask != truth).mean() < 0.015  # of which the border is 2 %
    assert not tissue.mask[:25, :25].any()
    assert not tissue.ink.any()
    (outer,), holes = tissue.outlines()
    np.testing.assert_allclose([outer.min(0), outer.max(0)], [[700, 200], [1700, 1200]], atol=16)
    assert holes == []


def test_phantom_tissue_is_tissue_and_neither_glass_nor_ink(tmp_path, phantom):
    tissue = find_tissue(opened(tmp_path, phantom))
    shape = tissue.mask.shape[::-1]
    glass = cv2.resize(np.uint8(phantom.min(2) > 225), shape, interpolation=cv2.INTER_AREA) == 1
    assert not tissue.mask[cv2.erode(np.uint8(glass), np.ones((3, 3))) > 0].any()
    assert tissue.mask[16:48, 16:48].mean() > 0.95
    assert not tissue.ink.any()


@pytest.mark.parametrize("pen", PENS)
def test_ink_is_found_and_tissue_around_it_stays(tmp_path, phantom, pen):
    clean = find_tissue(opened(tmp_path, phantom)).mask
    marked, line = phantom.copy(), ((100, 20), (700, 1000))  # glass, tissue, glass
    cv2.line(marked, *line, PENS[pen], 40, cv2.LINE_AA)
    tissue = find_tissue(opened(tmp_path, marked))
    under = cv2.line(np.zeros(phantom.shape[:2], np.float32), *line, 1, 40)
    covered = cv2.resize(under, tissue.mask.shape[::-1], interpolation=cv2.INTER_AREA)
    assert tissue.ink[covered == 1].mean() > 0.95
    assert not tissue.mask[tissue.ink].any()
    away = cv2.dilate(np.uint8(covered > 0), np.ones((9, 9))) == 0
    np.testing.assert_array_equal(tissue.mask[away], clean[away])


def slab(colour, glass=GLASS, noise=1.5, seed=0):
    """A square of one colour with nuclei, 512 to 2048 px, on glass of another, 2304 px wide."""
    rng = np.random.default_rng(seed)
    grain = rng.normal(0, noise, (2, 256, 256, 3)).astype(np.float32)  # the same in every field of 256 px
    rgb = np.array(glass, np.float32) + np.tile(grain[0], (9, 9, 1))
    inside = np.array(colour, np.float32) * np.array(glass) / 245 + np.tile(grain[1], (6, 6, 1))
    nuclei = cv2.GaussianBlur(rng.standard_normal((1536, 1536), np.float32), (0, 0), 5)
    rgb[512:2048, 512:2048] = inside - 25 * (nuclei / nuclei.std()).clip(0)[..., None]
    return np.clip(rgb, 0, 255).astype(np.uint8)


SLAB = np.pad(np.ones((96, 96), bool), ((32, 16), (32, 16)))  # on the mask


@pytest.mark.parametrize(
    "glass",
    [
        (245, 244, 245),
        (223, 215, 213),
        (236, 226, 205),  # yellowed mounting medium
        (205, 215, 228),
        (221, 208, 224),  # HER2ST's B4: as pink as a pale stain
        (228, 240, 215),
        (190, 178, 170),  # a dim lamp
    ],
)
@pytest.mark.parametrize("fill", [None, 255, 247])
def test_glass_is_no_tissue_whatever_its_tint(tmp_path, glass, fill):
    rgb = slab(PINK, glass)
    if fill:
        rgb[:, :256] = fill  # a column that the scanner left out
    tissue = find_tissue(opened(tmp_path, rgb, levels=(1, 4)))
    assert (tissue.mask != SLAB).mean() < 0.02
    assert not tissue.ink.any()


def test_tissue_alone_is_not_taken_for_glass(tmp_path):
    pale = slab((225, 190, 215))[512:2048, 512:2048]
    assert find_tissue(opened(tmp_path, pale)).mask.mean() > 0.98


@pytest.mark.parametrize(("black", "noise"), [(0, 0), (3, 3), (16, 6)])
def test_ground_that_was_not_scanned_is_no_tissue_and_no_ink(tmp_path, black, noise):
    rgb = slab(PINK)
    dark = np.random.default_rng(1).normal(black, noise, (2304, 576, 3))
    rgb[:, 1728:] = np.clip(dark, 0, 255)
    tissue = find_tissue(opened(tmp_path, rgb, levels=(1, 4)))
    expected = SLAB.copy()
    expected[:, 108:] = False
    assert (tissue.mask != expected).mean() < 0.02
    assert not tissue.ink.any()
    assert [note for note in tissue.notes if "25.0% of the slide was never scanned" in note]


def fluorescence(kind, seed=0):
    """Light on a dark ground: a smooth field, or nuclei; blue, grey or of three colours."""
    rng = np.random.default_rng(seed)
    field = cv2.resize(rng.normal(0, 1, (96, 96)), (2304, 2304), interpolation=cv2.INTER_CUBIC)
    field = (field - field.min()) / np.ptp(field)
    nuclei = cv2.GaussianBlur((rng.random((2304, 2304)) < 2e-4) * 1.0, (0, 0), 9)
    nuclei = np.minimum(nuclei / nuclei.max() * 2, 1)
    rgb = np.zeros((2304, 2304, 3))
    if kind == "DAPI":
        rgb[..., 2] = field * 180
    elif kind == "grey":
        rgb += field[..., None] * 250
    elif kind == "dim":
        rgb += 8 + 60 * nuclei[..., None]
    else:
        rgb[..., 2], rgb[..., 1], rgb[..., 0] = nuclei * 255, field**3 * 255, np.roll(nuclei, 90, 1) * 200
    grain = np.tile(rng.normal(2, 1, (256, 256, 3)), (9, 9, 1))
    return np.clip(rgb + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["DAPI", "grey", "dim", "three colours"])
def test_fluorescence_is_no_brightfield(tmp_path, kind):
    tissue = find_tissue(opened(tmp_path, fluorescence(kind), levels=(1, 4)))
    assert tissue.left_out == "no brightfield"
    assert not tissue.mask.any()


@pytest.mark.parametrize("colour", [(205, 45, 55), (190, 35, 45), (60, 55, 58), (45, 40, 50)])
def test_blood_and_pigment_are_not_called_a_pen(tmp_path, colour):
    rgb = slab(PINK)
    rgb[512:2048, 512:2048] = colour
    tissue = find_tissue(opened(tmp_path, rgb, levels=(1, 4)))
    assert tissue.left_out == "dark or red areas only"
    (note,) = tissue.notes
    assert "dark or red areas (ink, blood or pigment) on 4" in note
    assert "clam_compat" in note


def test_unreadable_places_count_as_tissue_so_that_they_are_tried(tmp_path, monkeypatch):
    rgb = np.full((64, 64, 3), GLASS, np.uint8)
    unreadable = np.zeros((64, 64), bool)
    unreadable[10:20, 30:40] = True
    rgb[unreadable] = 128
    monkeypatch.setattr("lib.features.tissue.overview", lambda *_: (rgb, unreadable))
    slide = opened(tmp_path, np.full((1024, 1024, 3), GLASS, np.uint8))
    np.testing.assert_array_equal(find_tissue(slide).mask, unreadable)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "scale", "least", "most"),
    [("cmu-1-small-region.svs", None, 0.33, 0.40), ("tcga-cr-7395-01a-01-ts1.svs", 0.5, 0.60, 0.70)],
)
def test_real_slides_have_tissue_and_no_ink(mirror, name, scale, least, most):
    with open_slide(mirror / "wsi" / name, scale) as slide:
        tissue = find_tissue(slide)
    assert least < tissue.mask.mean() < most
    assert not tissue.ink.any()
