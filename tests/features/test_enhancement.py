import numpy as np
import pytest

from lib.stroke.bolus import checked, noise_hu, smoothed, smoothing_width

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("noise", [0.5, 3.0])
def test_noise_is_measured_whatever_the_baseline_and_the_bolus(noise):
    seconds = np.arange(48.0)[:, None]
    bolus = 9 * np.exp(-(((seconds - 16) / 5) ** 2)) + RANDOM.normal(0, 30, 2000)
    curves = bolus + RANDOM.normal(0, noise, (48, 2000))
    assert noise_hu(curves) == pytest.approx(noise, rel=0.04)


def test_noise_of_two_frames_cannot_be_told():
    with pytest.raises(ValueError, match="3 successive frames"):
        noise_hu(np.zeros((2, 5)))


def naive_average(values, mask, width_mm, spacing_mm, at):
    """Weighted mean over the mask's voxels, one weight after another."""
    x_mm, y_mm, z_mm = spacing_mm
    total = weight = 0.0
    for z, y, x in np.argwhere(mask):
        far = ((z - at[0]) * z_mm) ** 2 + ((y - at[1]) * y_mm) ** 2 + ((x - at[2]) * x_mm) ** 2
        each = np.exp(-far / 2 / width_mm**2)
        total, weight = total + each * values[z, y, x], weight + each
    return total / weight


def test_smoothing_equals_a_weighted_mean_of_the_mask_alone():
    values = RANDOM.normal(0, 1, (2, 5, 12, 14)).astype(np.float32)
    mask = RANDOM.random((5, 12, 14)) < 0.7
    values[:, ~mask] = 1000
    found = smoothed(values, mask, 3.0, (2.0, 2.5, 5.0))
    for at in np.argwhere(mask)[::90]:
        expected = naive_average(values[1], mask, 3.0, (2.0, 2.5, 5.0), at)
        assert found[1][tuple(at)] == pytest.approx(expected, abs=0.02)  # the Gaussian ends at 3 widths
    assert (found[:, ~mask] == 0).all()


def test_a_constant_stays_and_no_width_changes_nothing():
    mask = RANDOM.random((4, 10, 10)) < 0.5
    flat = np.full((1, 4, 10, 10), 7.0, np.float32)
    np.testing.assert_allclose(smoothed(flat, mask, 4.0, (1, 1, 2))[0, mask], 7, rtol=1e-5)
    values = RANDOM.normal(0, 1, (3, 4, 10, 10)).astype(np.float32)
    np.testing.assert_array_equal(smoothed(values, mask, 0, (1, 1, 2)), values * mask)


@pytest.mark.parametrize("noise", [0.4, 2.0, 4.0])
def test_width_found_brings_noise_to_the_goal_and_no_further(noise):
    values = RANDOM.normal(0, noise, (30, 8, 40, 40)).astype(np.float32)
    mask = np.ones((8, 40, 40), bool)
    width, left = smoothing_width(values, mask, (3, 3, 5), 0.5, 9.0)
    after = smoothed(values, mask, width, (3, 3, 5))
    assert after.std() == pytest.approx(left, rel=0.1)
    assert left <= 0.5
    if noise == 0.4:
        assert width == 0
    else:
        assert smoothed(values, mask, 0.75 * width, (3, 3, 5)).std() > 0.5


def test_width_stops_at_the_widest_and_says_what_noise_is_left():
    values = RANDOM.normal(0, 20, (10, 4, 30, 30)).astype(np.float32)
    width, left = smoothing_width(values, np.ones((4, 30, 30), bool), (3, 3, 5), 0.5, 5.0)
    assert width == 5.0
    assert left > 0.5


def test_width_of_next_to_nothing_is_refused():
    with pytest.raises(ValueError, match="2 frames and 900 voxels"):
        smoothing_width(np.zeros((2, 1, 30, 30)), np.ones((1, 30, 30), bool), (1, 1, 1))


@pytest.mark.parametrize(
    ("enhancement", "mask", "words"),
    [
        (np.zeros((4, 3, 5)), np.ones((4, 3, 5), bool), "do not fit"),
        (np.zeros((4, 3, 5, 5)), np.ones((3, 5, 4), bool), "do not fit"),
        (np.zeros((4, 3, 5, 5)), np.ones((3, 5, 5)), "must be bool"),
        (np.zeros((4, 3, 5, 5)), np.zeros((3, 5, 5), bool), "not empty"),
        (np.full((4, 3, 5, 5), np.nan), np.ones((3, 5, 5), bool), "curves of 75 of 75 voxels"),
    ],
)
def test_what_cannot_be_used_is_refused(enhancement, mask, words):
    with pytest.raises(ValueError, match=words):
        checked(enhancement, mask)


def test_nan_outside_the_mask_does_no_harm():
    values, mask = np.zeros((4, 1, 5, 5)), np.ones((1, 5, 5), bool)
    values[:, 0, 0, 0], mask[0, 0, 0] = np.nan, False
    assert np.isfinite(smoothed(*checked(values, mask), 1.0, (1, 1, 1))).all()
