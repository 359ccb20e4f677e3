"""The artery of a planted scan; deconvolution against a textbook SVD and measured recoveries; maps with their units."""

import numpy as np
import pytest
from scipy.linalg import circulant

from lib.inputs.volumes import Geometry
from lib.stroke.maps import (
    DENSITY,
    Maps,
    arterial_input,
    inverse,
    left_of_midline,
    lesion_volumes,
    mismatch,
    parenchyma,
    perfusion_maps,
    sample_times,
    smoothed,
    smoothing_width,
)
from lib.stroke.params import Preparation
from lib.stroke.perfusion import prepare
from lib.stroke.phantom import draw, series_path, write_patient
from lib.stroke.phantom_scan import TISSUES, Bolus, arterial
from lib.stroke.series import read_series

NAMES = ("grey", "white", "penumbra", "core")
BOLUS = Bolus(arrival=8.0)
SECONDS = np.arange(60.0)
ARTERY = arterial(SECONDS, BOLUS)
RESIDUES = {
    "exponential": lambda after: np.exp(-after),
    "box": lambda after: (after < 1).astype(float),
    "linear": lambda after: np.maximum(1 - after / 2, 0),
}


def curves(shape="exponential", later=0.0):
    """The four tissues' curves, (60, 4), by plain convolution at 0.02 s."""
    fine = np.arange(0, 60, 0.02)
    artery = arterial(fine, BOLUS)
    found = []
    for tissue in (TISSUES[name] for name in NAMES):
        held = np.convolve(artery, RESIDUES[shape](fine / tissue.mtt))[: len(fine)] * 0.02
        found.append(
            DENSITY * tissue.cbf / 6000 * np.interp(SECONDS - tissue.delay - later, fine, held, left=0)
        )
    return np.stack(found, 1)


def residue(curve, aif=ARTERY, interval_s=1.0, lambda_=0.1):
    return inverse(aif, interval_s, lambda_) @ np.asarray(curve, np.float32)


def flow(found):
    return 6000 * found.max(0) / DENSITY


def recovered(found):
    """Estimated over true CBF."""
    return flow(found) / [TISSUES[name].cbf for name in NAMES]


def naive(curve, aif, interval_s, lambda_):
    """One voxel, from the textbook: build the matrix, decompose it, drop small singular values."""
    aif, curve = np.append(aif, 0 * aif), np.append(curve, 0 * curve)
    left, sizes, right = np.linalg.svd(circulant(aif) * interval_s)
    share = [1 / size if size >= lambda_ * sizes[0] else 0.0 for size in sizes]
    return right.T @ np.diag(share) @ left.T @ curve


@pytest.mark.parametrize(
    ("shape", "lambda_", "cbf", "tmax"),
    [
        ("exponential", 0.02, (0.65, 0.69, 0.85, 0.88), (2, 2, 7, 10)),
        ("exponential", 0.10, (0.53, 0.59, 0.77, 0.81), (2, 3, 8, 10)),
        ("exponential", 0.20, (0.48, 0.53, 0.73, 0.77), (3, 3, 9, 11)),
        ("box", 0.02, (1.03, 1.12, 1.06, 1.12), (2, 3, 12, 10)),
        ("box", 0.10, (0.76, 0.87, 1.18, 1.13), (2, 3, 10, 13)),
        ("linear", 0.10, (0.65, 0.72, 0.88, 0.91), (2, 3, 9, 11)),
    ],
)
def test_what_truncation_leaves_of_flow_is_as_measured(shape, lambda_, cbf, tmax):
    """Measured independently, by an SVD of its own and tissue curves of its own, for the project's specification."""
    found = residue(curves(shape), lambda_=lambda_)
    np.testing.assert_allclose(recovered(found), cbf, atol=0.015)
    np.testing.assert_allclose(sample_times(60, 1.0)[found.argmax(0)], tmax, atol=1)


def test_delay_costs_no_flow():
    still, late = (residue(curves("box", later)) for later in (0, 3))
    np.testing.assert_allclose(flow(late), flow(still), rtol=1e-3)
    np.testing.assert_array_equal(late.argmax(0), still.argmax(0) + 3)


def test_tissue_that_leads_the_artery_has_negative_times():
    early = residue(curves()[:, 0], arterial(SECONDS, BOLUS._replace(arrival=13.0)))
    assert sample_times(60, 1.0)[early.argmax()] == 2 - 5
    assert flow(early) == pytest.approx(flow(residue(curves()[:, 0])), rel=1e-3)
    assert sample_times(3, 2.0).tolist() == [0, 2, 4, 6, -4, -2]


def test_all_voxels_at_once_equal_a_textbook_svd_one_after_another():
    noisy = curves() + np.random.default_rng(1).normal(0, 1, (60, 4))
    for lambda_ in (0.02, 0.1, 0.2):
        fast = residue(noisy, ARTERY, 1.25, lambda_)
        slow = np.stack([naive(curve, ARTERY, 1.25, lambda_) for curve in noisy.T], axis=1)
        np.testing.assert_allclose(fast, slow, atol=2e-5 * np.abs(slow).max())
    found = residue(curves())
    np.testing.assert_allclose(residue(3 * curves()), 3 * found, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(residue(curves(), 2 * ARTERY), found / 2, rtol=1e-4, atol=1e-8)
    assert np.isfinite(inverse(ARTERY, 1.0, 0.0)).all(), "rounding is never inverted"


def test_order_of_flow_survives_half_a_hounsfield_unit_of_noise_and_core_and_penumbra_blur_at_two():
    """Rows of the specification: estimates of core and penumbra at noise of 0, .5, 1, 2 HU (true flow 5 and 18)."""
    random, core, penumbra = np.random.default_rng(2), {}, {}
    for noise in (0, 0.5, 1, 2):
        noisy = np.repeat(curves()[:, 2:], 300, axis=1)
        noisy += random.normal(0, 1, noisy.shape) * noise
        penumbra[noise], core[noise] = flow(residue(noisy)).reshape(2, 300).mean(1)
    np.testing.assert_allclose(list(core.values()), (4.1, 5.3, 7.9, 13.7), rtol=0.08)
    np.testing.assert_allclose(list(penumbra.values()), (13.8, 14.3, 15.3, 19.5), rtol=0.08)


# maps


@pytest.fixture(scope="module")
def clean(brain_scan):
    return brain_scan(noise=0.0)


def middle(values, scan, name):
    return float(np.median(values[scan.named[name]]))


def test_maps_of_a_clean_scan_have_the_planted_values_and_units(clean):
    maps = perfusion_maps(clean.enhancement, clean.mask, clean.artery, 1.0)
    assert (maps.smoothing_mm, maps.noise_hu) == (0.0, pytest.approx(0, abs=0.01))
    for name, share, when in zip(NAMES, (0.53, 0.59, 0.77, 0.81), (2, 3, 8, 10), strict=True):
        planted = TISSUES[name]
        assert middle(maps.cbv, clean, name) == pytest.approx(planted.cbf * planted.mtt / 60, rel=0.06)
        assert middle(maps.cbf, clean, name) == pytest.approx(share * planted.cbf, rel=0.02)
        assert middle(maps.mtt, clean, name) == pytest.approx(planted.mtt / share, rel=0.06)
        assert middle(maps.tmax, clean, name) == pytest.approx(when, abs=1)
    assert np.isnan(maps.cbf[~clean.mask]).all()
    assert np.isfinite(maps.cbf[clean.mask]).all()
    assert middle(maps.cbf, clean, "csf") == 0
    assert np.isnan(maps.mtt[clean.named["csf"]]).all()
    np.testing.assert_array_equal(maps.vessels, clean.named["artery"] | clean.named["vein"])


def test_maps_equal_a_deconvolution_voxel_by_voxel(brain_scan):
    scan = brain_scan(noise=1.0, interval_s=1.25, frames=40)
    maps = perfusion_maps(scan.enhancement, scan.mask, scan.artery, 1.25, smoothing_mm=0)
    for at in map(tuple, np.argwhere(scan.mask)[::701]):
        curve = scan.enhancement[(slice(None), *at)]
        found = residue(curve, scan.artery, 1.25)
        assert maps.cbf[at] == pytest.approx(6000 * found.max() / DENSITY, rel=1e-4)
        assert maps.tmax[at] == sample_times(40, 1.25)[found.argmax()]
        cbv = 100 * curve.sum() / scan.artery.sum() / DENSITY
        assert maps.cbv[at] == pytest.approx(cbv, rel=1e-3, abs=1e-4)
        transit = 60 * cbv / maps.cbf[at] if cbv > 0 and maps.cbf[at] > 0 else np.nan
        assert maps.mtt[at] == pytest.approx(transit, rel=1e-3, nan_ok=True)


def test_noise_is_smoothed_to_the_goal_and_flow_keeps_its_order(brain_scan):
    scan = brain_scan(noise=3.0)
    artery = arterial_input(scan.enhancement, scan.mask, 1.0).curve
    maps = perfusion_maps(scan.enhancement, scan.mask, artery, 1.0, spacing_mm=scan.geometry.spacing_mm)
    assert 0.25 < maps.noise_hu <= 0.5
    assert 2 < maps.smoothing_mm <= 6
    flows = [middle(maps.cbf, scan, name) for name in NAMES]
    assert flows == sorted(flows, reverse=True)
    assert middle(maps.tmax, scan, "grey") <= 4 < 6 < middle(maps.tmax, scan, "penumbra")
    rough = perfusion_maps(scan.enhancement, scan.mask, artery, 1.0, smoothing_mm=0)
    assert rough.noise_hu == pytest.approx(3, rel=0.05)
    assert middle(rough.cbf, scan, "core") > 1.8 * middle(maps.cbf, scan, "core")


def test_vessels_do_not_leak_into_the_tissue_beside_them(clean):
    """The artery's neighbours are grey matter or white, not fifty times as full of blood."""
    maps = perfusion_maps(clean.enhancement, clean.mask, clean.artery, 1.0, smoothing_mm=4.0)
    beside = clean.mask[3] & ~clean.named["artery"][3] & ~clean.named["vein"][3]
    assert maps.cbv[3][beside].max() <= 4.0 * 1.01
    assert maps.cbv[clean.named["artery"]].min() == pytest.approx(50 / DENSITY, rel=0.01)


def test_an_artery_without_area_is_refused(brain_scan):
    scan = brain_scan(frames=20)
    with pytest.raises(ValueError, match="has an area of -18"):
        perfusion_maps(scan.enhancement, scan.mask, np.r_[1.0, -np.ones(19)], 1.0)


# smoothing


def test_smoothing_equals_a_weighted_mean_of_the_mask_alone():
    random, spacing = np.random.default_rng(0), np.array([5.0, 2.5, 2.0])  # z, y, x
    values = random.normal(0, 1, (2, 5, 12, 14)).astype(np.float32)
    mask = random.random((5, 12, 14)) < 0.7
    values[:, ~mask] = 1000
    found = smoothed(values, mask, 3.0, tuple(spacing[::-1]))
    inside = np.argwhere(mask)
    for at in inside[::90]:
        weight = np.exp(-(((inside - at) * spacing) ** 2).sum(1) / 2 / 3.0**2)
        expected = (weight * values[1][mask]).sum() / weight.sum()
        assert found[1][tuple(at)] == pytest.approx(expected, abs=0.02)  # the Gaussian ends at 3 widths
    assert (found[:, ~mask] == 0).all()
    np.testing.assert_array_equal(smoothed(values, mask, 0, (1, 1, 2)), values * mask)


@pytest.mark.parametrize(("noise", "widest"), [(0.4, 9.0), (4.0, 9.0), (20.0, 5.0)])
def test_width_found_brings_noise_to_the_goal_and_no_further(noise, widest):
    values = np.random.default_rng(0).normal(0, noise, (12, 8, 40, 40)).astype(np.float32)
    mask = np.ones((8, 40, 40), bool)
    width = smoothing_width(values, mask, (3, 3, 5), 0.5, widest)
    left, less = (smoothed(values, mask, each, (3, 3, 5)).std() for each in (width, 0.75 * width))
    assert {0.4: width == 0, 4.0: left < 0.55 < less, 20.0: width == 5 and left > 0.5}[noise]


# the artery


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


def test_a_scan_without_vessels_is_refused(brain_scan):
    scan = brain_scan()
    with pytest.raises(ValueError, match="nothing in the mask enhances like a vessel"):
        arterial_input(np.random.default_rng(0).normal(0, 2, scan.enhancement.shape), scan.mask, 1.0)


SHAPE = (4, 20, 20)
GEOMETRY = Geometry((2.0, 2.0, 5.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1), SHAPE[::-1])  # 0.02 ml a voxel
MASK = np.zeros(SHAPE, bool)
MASK[:, 2:18, 2:18] = True


def drawn(cbf, tmax, vessels=None):
    """Maps of given flow and Tmax; blood volume and transit time are not looked at."""
    nothing = np.full(SHAPE, np.nan, np.float32)
    vessels = np.zeros(SHAPE, bool) if vessels is None else vessels
    return Maps(cbf.astype(np.float32), nothing, nothing, tmax.astype(np.float32), vessels, 0.4, 3.0)


def stroke(columns=slice(12, 17)):
    """Flow 20 and Tmax 2; a late block of 5 x 8 x 4 voxels with flow 9, a half of it with flow 5."""
    cbf, tmax = np.where(MASK, 20.0, np.nan), np.where(MASK, 2.0, np.nan)
    cbf[:, 5:13, columns], tmax[:, 5:13, columns] = 9, 8
    cbf[:, 5:9, columns], tmax[:, 5:9, columns] = 5, 11
    return cbf, tmax


def test_volumes_are_the_voxels_beyond_the_thresholds():
    found = lesion_volumes(drawn(*stroke()), MASK, GEOMETRY)
    assert found.hypoperfused_ml == pytest.approx(5 * 8 * 4 * 0.02)
    assert found.core_ml == pytest.approx(5 * 4 * 4 * 0.02)
    assert found.mismatch_ml == pytest.approx(1.6)
    assert (found.normal_side, found.normal_cbf) == ("right", 20)
    np.testing.assert_array_equal(found.core, stroke()[0] == 5)
    strict = lesion_volumes(drawn(*stroke()), MASK, GEOMETRY, core_rcbf=0.5, tmax_s=10)
    assert strict.hypoperfused_ml == strict.core_ml == pytest.approx(1.6)


def test_a_mirrored_brain_has_mirrored_lesions():
    found = lesion_volumes(drawn(*stroke()), MASK, GEOMETRY)
    other = lesion_volumes(drawn(*stroke(slice(3, 8))), MASK, GEOMETRY)
    assert other.normal_side == "left"
    np.testing.assert_array_equal(other.core, found.core[..., ::-1])
    np.testing.assert_array_equal(other.hypoperfused, found.hypoperfused[..., ::-1])


def test_flow_is_relative_to_normal_tissue_alone():
    """Whatever the unit, and whatever flows on the side of the stroke or in vessels."""
    cbf, tmax = stroke()
    vessels = np.zeros(SHAPE, bool)
    vessels[:, 15:17, 3:6] = True
    cbf[vessels], cbf[:, 14:18, 11:18] = 900, 60
    plain = lesion_volumes(drawn(*stroke()), MASK, GEOMETRY)
    for factor in (1, 0.1):
        found = lesion_volumes(drawn(factor * cbf, tmax, vessels), MASK, GEOMETRY)
        assert found.normal_cbf == pytest.approx(factor * 20)
        np.testing.assert_array_equal(found.core, plain.core)


def test_low_flow_in_time_speckle_and_vessels_are_no_lesion():
    cbf, tmax = stroke()
    in_time = np.where(np.arange(20)[:, None] < 9, np.minimum(tmax, 5), tmax)
    assert lesion_volumes(drawn(cbf, in_time), MASK, GEOMETRY).core_ml == 0
    none = lesion_volumes(drawn(cbf, np.minimum(tmax, 4)), MASK, GEOMETRY)
    assert (none.core_ml, none.hypoperfused_ml, none.mismatch_ml, none.normal_side) == (0, 0, 0, "both")
    tmax[0, 3, 3], tmax[2, 15, 4:6] = 9, 9
    assert lesion_volumes(drawn(cbf, tmax), MASK, GEOMETRY).hypoperfused_ml == pytest.approx(3.2)
    vessels = np.zeros(SHAPE, bool)
    vessels[:, 5:9, 12:17] = True
    found = lesion_volumes(drawn(*stroke(), vessels), MASK, GEOMETRY)
    assert (found.core_ml, found.hypoperfused_ml) == (0, pytest.approx(1.6))


@pytest.mark.parametrize("front", [True, False])
def test_sides_are_told_in_a_head_that_is_tilted_and_off_centre(front):
    """By a strip beside the midline, which the image's own columns would give to either side."""
    z, y, x = np.indices((10, 60, 60))
    across = (x - 26) * np.cos(0.2) + (y - 30) * np.sin(0.2)
    along = (y - 30) * np.cos(0.2) - (x - 26) * np.sin(0.2)
    mask = (across / 17) ** 2 + (along / 24) ** 2 + ((z - 4.5) / 8) ** 2 < 1
    strip = mask & (np.abs(across - (-2 if front else 2)) < 1.2) & ((along < -12) if front else (along > 12))
    cbf, tmax = np.where(mask, 20.0, np.nan), np.where(strip, 9.0, 2.0)
    found = lesion_volumes(Maps(cbf, cbf, cbf, tmax, np.zeros_like(mask), 0.4, 3.0), mask, GEOMETRY)
    assert found.hypoperfused.sum() > 50
    assert found.normal_side == ("left" if front else "right")
    assert (left_of_midline(mask) == (across > 0))[mask].mean() > 0.94


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_noisy_scan_shows_its_stroke_on_the_planted_side(brain_scan, side):
    scan = brain_scan(noise=2.0, side=side)
    artery = arterial_input(scan.enhancement, scan.mask, 1.0).curve
    maps = perfusion_maps(scan.enhancement, scan.mask, artery, 1.0, spacing_mm=scan.geometry.spacing_mm)
    lesions = lesion_volumes(maps, parenchyma(scan.baseline, scan.mask), scan.geometry)
    core, penumbra = scan.named["core"], scan.named["penumbra"]
    assert lesions.normal_side == {"left": "right", "right": "left"}[side]
    assert dice(lesions.hypoperfused, core | penumbra) > 0.9
    assert dice(lesions.core, core) > 0.6
    assert (lesions.core & ~core & ~penumbra).sum() * scan.geometry.voxel_ml < 1


def test_a_clean_scan_shows_its_stroke_exactly_and_a_healthy_one_none(brain_scan):
    for lesion in (True, False):
        scan = brain_scan(noise=0.0, lesion=lesion)
        maps = perfusion_maps(scan.enhancement, scan.mask, scan.artery, 1.0)
        found = lesion_volumes(maps, parenchyma(scan.baseline, scan.mask), scan.geometry)
        np.testing.assert_array_equal(found.core, scan.named["core"])
        np.testing.assert_array_equal(found.hypoperfused, scan.named["core"] | scan.named["penumbra"])


def test_parenchyma_leaves_out_csf_air_and_bone(brain_scan):
    scan = brain_scan(noise=3.0)
    found = parenchyma(scan.baseline, scan.mask)
    inner = scan.named["csf"].copy()
    inner[:, :, :18] = inner[:, :, 22:] = inner[:, :18] = inner[:, 22:] = False
    assert not found[inner].any()
    assert found[scan.named["white"] | scan.named["grey"]].mean() > 0.97
    assert not found[~scan.mask].any()
    bone = np.where(scan.named["grey"], 900, scan.baseline)
    assert not parenchyma(bone, scan.mask)[scan.named["grey"]].any()


def test_without_normal_tissue_nothing_is_measured():
    for flow, late, words in (
        (20.0, 9.0, "nothing tells what flow is normal"),
        (0.0, 1.0, "both side has no tissue with blood flow"),
    ):
        with pytest.raises(ValueError, match=words):
            lesion_volumes(drawn(np.where(MASK, flow, np.nan), np.where(MASK, late, np.nan)), MASK, GEOMETRY)


def test_a_phantom_s_scan_read_as_a_clinic_reads_it(tmp_path):
    row = draw(6, seed=3).iloc[0].copy()
    row["core_ml"], row["penumbra_ml"] = 40.0, 70.0
    truth = write_patient(tmp_path, row, seed=3)
    scan = prepare(read_series(series_path(tmp_path, row["patient"])), Preparation(ceiling_hu=None))
    found = mismatch(scan).row()
    assert found["hypoperfused_ml"] == pytest.approx(truth["core_ml"] + truth["penumbra_ml"], rel=0.25)
    assert 0 < found["core_ml"] < truth["core_ml"] * 1.1
    assert found["mismatch_ml"] == pytest.approx(found["hypoperfused_ml"] - found["core_ml"])
    assert found["normal_side"] == {"left": "right", "right": "left"}[truth["side"]]
    assert (found["artery_voxels"], found["remarks"]) == (10, "")
    strict, loose = mismatch(scan, tmax_s=10.0), mismatch(scan, lambda_=0.3, core_rcbf=0.38, tmax_s=4.0)
    assert strict.lesions.hypoperfused_ml < found["hypoperfused_ml"] < loose.lesions.hypoperfused_ml
    assert not np.allclose(strict.maps.cbf[scan.mask], loose.maps.cbf[scan.mask])
