import numpy as np
import pytest

from lib.stroke.bolus import arterial_input


def inside(found, where):
    """Share of found voxels (n, 3) that lie in a mask."""
    return where[tuple(found.T)].mean()


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
    again = arterial_input(scan.enhancement.copy(), scan.mask, 1.0)
    bright = arterial_input(4 * scan.enhancement, scan.mask, 1.0)
    late = arterial_input(np.roll(scan.enhancement, 7, axis=0), scan.mask, 1.0)
    for other in (again, bright, late):
        np.testing.assert_array_equal(other.voxels, first.voxels)
        np.testing.assert_array_equal(other.venous_voxels, first.venous_voxels)
    np.testing.assert_allclose(bright.curve, 4 * first.curve, rtol=1e-5)
    np.testing.assert_allclose(late.curve, np.roll(first.curve, 7), rtol=1e-5)


def test_spikes_are_no_arteries(brain_scan):
    scan = brain_scan()
    values = scan.enhancement.copy()
    values[9, 6, 20:24, 20:24] += 900  # one frame, early, higher than any vessel
    found = arterial_input(values, scan.mask, 1.0)
    assert inside(found.voxels, scan.named["artery"]) == 1
    np.testing.assert_allclose(found.curve, arterial_input(scan.enhancement, scan.mask, 1.0).curve, rtol=0.02)


@pytest.mark.parametrize("frames", [slice(2, 7), slice(3, None)])
def test_an_edge_that_moves_before_the_bolus_comes_is_no_artery(brain_scan, frames):
    scan = brain_scan()
    values = scan.enhancement.copy()
    values[frames, 6, 20:24, 20:24] += 120
    found = arterial_input(values, scan.mask, 1.0)
    assert inside(found.voxels, scan.named["artery"]) == 1


def test_an_artery_behind_an_occlusion_is_passed_over(brain_scan):
    """As high as the other side's, but 4 s later."""
    scan = brain_scan(noise=1.0)
    values = scan.enhancement.copy()
    late = np.zeros_like(scan.mask)
    late[3:5, 13:15, 24:29] = True
    values[:, late] = np.roll(0.6 * scan.artery, 4)[:, None]
    found = arterial_input(values, scan.mask, 1.0)
    assert inside(found.voxels, scan.named["artery"]) == 1


def test_given_vessels_are_averaged_as_they_are(brain_scan):
    scan = brain_scan()
    found = arterial_input(
        scan.enhancement, scan.mask, 1.0, artery=scan.named["artery"], vein=scan.named["vein"]
    )
    np.testing.assert_allclose(found.measured, scan.enhancement[:, scan.named["artery"]].mean(1), rtol=1e-5)
    np.testing.assert_allclose(found.venous, scan.enhancement[:, scan.named["vein"]].mean(1), rtol=1e-5)
    assert found.factor == pytest.approx(2, rel=0.05)
    assert len(found.voxels) == 20


def test_correction_can_be_left_out_and_without_a_vein_there_is_none(brain_scan):
    scan = brain_scan()
    plain = arterial_input(scan.enhancement, scan.mask, 1.0, correct=False)
    assert (plain.factor, plain.venous, plain.remarks) == (1.0, None, ())
    no_vein = arterial_input(scan.enhancement, scan.mask & ~scan.named["vein"], 1.0)
    np.testing.assert_array_equal(plain.curve, no_vein.curve)
    assert any("no vein was found" in words for words in no_vein.remarks)


def test_a_vein_smaller_than_the_artery_does_not_shrink_it(brain_scan):
    scan = brain_scan(noise=0.5)
    found = arterial_input(scan.enhancement, scan.mask, 1.0, vein=scan.named["grey"])
    assert found.factor == 1
    np.testing.assert_array_equal(found.curve, found.measured)
    assert any("no correction was made" in words for words in found.remarks)


def test_fewer_voxels_than_wanted_are_remarked(brain_scan):
    scan = brain_scan()
    first = np.zeros_like(scan.mask)
    first[3, 13, 17:21] = True
    found = arterial_input(scan.enhancement, scan.mask & (~scan.named["artery"] | first), 1.0)
    assert inside(found.voxels, first) == 1
    assert "4 arterial voxels were found, 10 were wanted" in found.remarks


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (slice(18, 60), "began too late"),
        (slice(0, 15), "ended too early"),
        (slice(0, 22), "area is cut off"),
    ],
)
def test_a_scan_too_short_is_remarked(brain_scan, frames, words):
    scan = brain_scan(noise=0.5)
    cut = scan.enhancement[frames]
    found = arterial_input(cut, scan.mask, 1.0, artery=scan.named["artery"], vein=scan.named["vein"])
    assert any(words in remark for remark in found.remarks)


def test_a_brain_without_vessels_is_refused_in_words(brain_scan):
    scan = brain_scan(noise=2.0)
    quiet = np.random.default_rng(0).normal(0, 2, scan.enhancement.shape)
    with pytest.raises(ValueError, match="nothing in the mask enhances like a vessel"):
        arterial_input(quiet, scan.mask, 1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda scan: dict(artery=np.zeros_like(scan.mask)), "mask of the artery .* must be bool, not empty"),
        (lambda scan: dict(vein=np.ones((2, 2, 2), bool)), r"mask of the vein .* of shape \(8, 40, 40\)"),
        (lambda scan: dict(interval_s=0), "interval_s 0 must be above 0"),
        (lambda scan: dict(voxels=0), "voxels 0 at least 1"),
        (lambda scan: dict(artery=scan.named["csf"], correct=False, enhancement=-scan.enhancement), "area"),
    ],
)
def test_bad_input_is_refused(brain_scan, change, words):
    scan = brain_scan(noise=0.1, frames=20)
    if "enhancement" in (changed := change(scan)):
        changed["enhancement"] = changed["enhancement"] - 1
    given = {"enhancement": scan.enhancement, "mask": scan.mask, "interval_s": 1.0, **changed}
    with pytest.raises(ValueError, match=words):
        arterial_input(**given)


def test_a_lone_early_voxel_is_no_artery():
    """The moving rim of the skull enhanced early in one voxel of a phantom, and was taken for its artery."""
    random = np.random.default_rng(0)
    seconds = np.arange(48.0)
    enhancement = random.normal(0, 1, (48, 6, 8, 8)).astype(np.float32)
    bolus = 280 * ((seconds / 19) * np.exp(1 - seconds / 19)) ** 12
    enhancement[:, 1:4, 2:4, 2:4] += bolus[:, None, None, None]
    lone = np.interp(seconds, [0, 5, 10, 19, 24, 30, 47], [-10, -18, 45, 70, 20, 15, 5])
    enhancement[:, 4, 7, 7] = lone
    enhancement[:, 5] += 0.02 * bolus[:, None, None]  # tissue
    found = arterial_input(enhancement, np.ones((6, 8, 8), bool), 1.0, correct=False)
    assert [4, 7, 7] not in found.voxels.tolist()
    assert len(found.voxels) == 10
    np.testing.assert_allclose(found.curve, bolus, atol=4)
