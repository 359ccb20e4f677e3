import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2gray, rgb2hed
from skimage.feature import local_binary_pattern

from lib.features.encoders import NAMES, UM_PER_PX, describe_colour

COLUMN = {name: i for i, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def crops():
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 240, (6, 11, 11, 3), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(c).resize((44, 44), Image.Resampling.BICUBIC)) for c in coarse]
    )


def naive(crop):
    """One crop, one number after the other."""
    row = {}
    rgb = crop / 255
    stains = rgb2hed(rgb)
    planes = [rgb[..., 0], rgb[..., 1], rgb[..., 2], stains[..., 0], stains[..., 1]]
    for name, plane in zip(("red", "green", "blue", "haematoxylin", "eosin"), planes, strict=True):
        row |= {f"{name}_mean": plane.mean(), f"{name}_std": plane.std()}
        row |= {f"{name}_q{q}": np.percentile(plane, q) for q in (10, 50, 90)}
    grey = rgb2gray(rgb)
    codes = local_binary_pattern(np.round(grey * 255).astype(np.uint8), 8, 1, "uniform")[1:-1, 1:-1]
    row |= {f"lbp_{i}": (codes == i).mean() for i in range(10)}
    padded = np.pad(grey, 1, mode="edge")
    edges = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * grey
    row |= {"laplacian_mean_abs": abs(edges).mean(), "laplacian_std": edges.std()}
    row["laplacian_q90_abs"] = np.percentile(abs(edges), 90)
    return [row[name] for name in NAMES]


def test_equals_the_naive_version(crops):
    features = describe_colour(crops, UM_PER_PX)
    assert features.shape == (6, 38)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, [naive(crop) for crop in crops], rtol=1e-4, atol=1e-5)


def test_golden_plain_colours():
    plain = np.zeros((3, 44, 44, 3), np.uint8)
    plain[1], plain[2] = 255, (255, 0, 51)
    features = describe_colour(plain, UM_PER_PX)
    for name, values in {"red_mean": (0, 1, 1), "green_q50": (0, 1, 0), "blue_q90": (0, 1, 0.2)}.items():
        np.testing.assert_allclose(features[:, COLUMN[name]], values, atol=1e-6)
    flat = [COLUMN[name] for name in NAMES if "std" in name or "laplacian" in name]
    np.testing.assert_allclose(features[:, flat], 0, atol=1e-12)
    assert features[1, COLUMN["haematoxylin_mean"]] == 0  # white glass has no stain
    assert (features[:, COLUMN["lbp_8"]] == 1).all()  # a flat picture: all neighbours as bright as the centre


def test_each_crop_stands_alone_and_turning_it_changes_nothing(crops):
    features = describe_colour(crops, UM_PER_PX)
    np.testing.assert_array_equal(describe_colour(crops[3:4], UM_PER_PX)[0], features[3])
    np.testing.assert_array_equal(describe_colour(crops[::-1], UM_PER_PX), features[::-1])
    turned = describe_colour(np.ascontiguousarray(np.rot90(crops, axes=(1, 2))), UM_PER_PX)
    np.testing.assert_allclose(turned, features, atol=5e-3)


def test_stains_are_told_apart_and_the_order_of_the_channels_matters():
    stained = np.full((2, 44, 44, 3), (235, 150, 190), np.uint8)  # eosin's pink
    stained[1] = (90, 70, 150)  # haematoxylin's blue
    features = describe_colour(stained, UM_PER_PX)
    assert features[0, COLUMN["eosin_mean"]] > features[0, COLUMN["haematoxylin_mean"]]
    assert features[1, COLUMN["haematoxylin_mean"]] > features[0, COLUMN["haematoxylin_mean"]] + 0.05
    swapped = describe_colour(np.ascontiguousarray(stained[..., ::-1]), UM_PER_PX)  # BGR by mistake
    np.testing.assert_allclose(swapped[:, COLUMN["red_mean"]], features[:, COLUMN["blue_mean"]])
    assert swapped[1, COLUMN["haematoxylin_mean"]] < features[1, COLUMN["haematoxylin_mean"]] - 0.02


def test_scanners_of_different_resolution_agree(crops):
    fine = np.stack(
        [np.asarray(Image.fromarray(crop).resize((176, 176), Image.Resampling.NEAREST)) for crop in crops]
    )
    np.testing.assert_allclose(
        describe_colour(fine, UM_PER_PX / 4), describe_colour(crops, UM_PER_PX), atol=1e-6
    )
    assert abs(describe_colour(fine, UM_PER_PX) - describe_colour(crops, UM_PER_PX)).max() > 0.1


def test_no_crops_and_wrong_crops(crops):
    assert describe_colour(crops[:0], UM_PER_PX).shape == (0, 38)
    for wrong in (crops[0], crops.astype(float), crops[..., :2]):
        with pytest.raises(ValueError, match="crops are uint8 RGB"):
            describe_colour(wrong, UM_PER_PX)
    with pytest.raises(ValueError, match="um_per_px"):
        describe_colour(crops, 0)


def test_three_hundred_spots_take_less_than_three_seconds():
    import time

    crops = np.random.default_rng(0).integers(0, 256, (300, 44, 44, 3), dtype=np.uint8)
    start = time.perf_counter()
    assert np.isfinite(describe_colour(crops, UM_PER_PX)).all()
    assert time.perf_counter() - start < 3
