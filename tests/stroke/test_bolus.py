import numpy as np
import pytest

from lib.stroke.bolus import arterial_input, checked, noise_hu


def inside(voxels, where):
    """Share of voxels (n, 3) that lie in a mask."""
    return where[tuple(voxels.T)].mean()


@pytest.mark.parametrize("noise", [0.0, 2.0, 5.0])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_artery_and_vein_are_found_and_the_curve_is_the_true_one(brain_scan, noise, share):
    """Whether a third of a voxel is artery or all of it."""
    scan = brain_scan(noise=noise, share=share)
    found = arterial_input(scan.enhancement, scan.mask, 1.0)
    assert inside(found.voxels, scan.named["artery"]) == inside(found.venous_voxels, scan.named["vein"]) == 1
    assert len(found.voxels) == len(found.venous_voxels) == 10
    assert found.curve.sum() == pytest.approx(scan.artery.sum(), rel=0.08)
    assert np.corrcoef(found.curve, scan.artery)[0, 1] > 0.997
    assert found.factor == pytest.approx(1 / share, rel=0.15)  # the highest of noisy voxels are taken
    np.testing.assert_allclose(found.curve, found.measured * found.factor)
    assert all("no correction was made" in words for words in found.remarks)


def test_the_same_scan_gives_the_same_voxels_scaled_or_later(brain_scan):
    scan = brain_scan()
    first = arterial_input(scan.enhancement, scan.mask, 1.0)
    bright = arterial_input(4 * scan.enhancement, scan.mask, 1.0)
    late = arterial_input(np.roll(scan.enhancement, 7, axis=0), scan.mask, 1.0)
    for other in (bright, late):
        np.testing.assert_array_equal(other.voxels, first.voxels)
        np.testing.assert_array_equal(other.venous_voxels, first.venous_voxels)
    np.testing.assert_allclose(bright.curve, 4 * first.curve, rtol=1e-5)
    np.testing.assert_allclose(late.curve, np.roll(first.curve, 7), rtol=1e-5)


@pytest.mark.parametrize(
    ("frames", "height"), [(slice(9, 10), 900), (slice(2, 7), 120), (slice(3, None), 120)]
)
def test_spikes_and_edges_that_move_before_the_bolus_are_no_arteries(brain_scan, frames, height):
    scan = brain_scan()
    values = scan.enhancement.copy()
    values[frames, 6, 20:24, 20:24] += height  # early, and higher than tissue
    assert inside(arterial_input(values, scan.mask, 1.0).voxels, scan.named["artery"]) == 1


def test_an_artery_behind_an_occlusion_is_passed_over(brain_scan):
    """As high as the other side's, but 4 s later."""
    scan = brain_scan(noise=1.0)
    values = scan.enhancement.copy()
    values[:, 3:5, 13:15, 24:29] = np.roll(0.6 * scan.artery, 4)[:, None, None, None]
    assert inside(arterial_input(values, scan.mask, 1.0).voxels, scan.named["artery"]) == 1


def test_a_lone_early_voxel_is_no_artery():
    """The moving rim of the skull enhanced early in one voxel of a phantom, and was taken for its artery."""
    random = np.random.default_rng(0)
    seconds = np.arange(48.0)
    enhancement = random.normal(0, 1, (48, 6, 8, 8)).astype(np.float32)
    bolus = 280 * ((seconds / 19) * np.exp(1 - seconds / 19)) ** 12
    enhancement[:, 1:4, 2:4, 2:4] += bolus[:, None, None, None]
    enhancement[:, 4, 7, 7] = np.interp(seconds, [0, 5, 10, 19, 24, 30, 47], [-10, -18, 45, 70, 20, 15, 5])
    enhancement[:, 5] += 0.02 * bolus[:, None, None]  # tissue
    found = arterial_input(enhancement, np.ones((6, 8, 8), bool), 1.0)
    assert [4, 7, 7] not in found.voxels.tolist()
    assert len(found.voxels) == 10
    np.testing.assert_allclose(found.measured, bolus, atol=4)


def test_what_is_odd_is_remarked(brain_scan):
    scan = brain_scan(noise=0.5)
    no_vein = arterial_input(scan.enhancement, scan.mask & ~scan.named["vein"], 1.0)
    assert (no_vein.factor, no_vein.venous) == (1.0, None)
    assert any("no vein was found" in words for words in no_vein.remarks)
    first = np.zeros_like(scan.mask)
    first[3, 13, 17:21] = True
    few = arterial_input(scan.enhancement, scan.mask & (~scan.named["artery"] | first), 1.0)
    assert inside(few.voxels, first) == 1
    assert "4 arterial voxels were found, 10 were wanted" in few.remarks
    cut = arterial_input(scan.enhancement[:22], scan.mask, 1.0)
    assert any("cut off" in words for words in cut.remarks)


@pytest.mark.parametrize("noise", [0.5, 3.0])
def test_noise_is_measured_whatever_the_baseline_and_the_bolus(noise):
    random, seconds = np.random.default_rng(0), np.arange(48.0)[:, None]
    bolus = 9 * np.exp(-(((seconds - 16) / 5) ** 2)) + random.normal(0, 30, 2000)
    assert noise_hu(bolus + random.normal(0, noise, (48, 2000))) == pytest.approx(noise, rel=0.04)


def test_what_cannot_be_used_is_refused(brain_scan):
    scan = brain_scan(noise=2.0)
    with pytest.raises(ValueError, match="nothing in the mask enhances like a vessel"):
        arterial_input(np.random.default_rng(0).normal(0, 2, scan.enhancement.shape), scan.mask, 1.0)
    values, mask = np.zeros((4, 3, 5, 5)), np.ones((3, 5, 5), bool)
    for odd in (mask[:2], mask.astype(float), ~mask):
        with pytest.raises(ValueError, match="must be bool, not empty, and fit"):
            checked(values, odd)
    values[:, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="curves of 1 of 75 voxels"):
        checked(values, mask)
