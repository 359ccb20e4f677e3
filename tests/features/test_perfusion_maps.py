import time

import numpy as np
import pytest

from lib.stroke.bolus import arterial_input, residue, sample_times
from lib.stroke.maps import DENSITY, perfusion_maps
from lib.stroke.phantom_scan import TISSUES

NAMES = ("grey", "white", "penumbra", "core")


@pytest.fixture(scope="module")
def clean(brain_scan):
    return brain_scan(noise=0.0)


def middle(values, scan, name):
    return float(np.median(values[scan.named[name]]))


def test_maps_of_a_clean_scan_have_the_planted_values_and_units(clean):
    maps = perfusion_maps(clean.enhancement, clean.mask, clean.artery, 1.0)
    assert (maps.smoothing_mm, maps.noise_hu) == (0.0, pytest.approx(0, abs=0.01))
    shares, peaks = (0.53, 0.59, 0.77, 0.81), (2, 3, 8, 10)
    for name, share, when in zip(NAMES, shares, peaks, strict=True):
        planted = TISSUES[name]
        assert middle(maps.cbv, clean, name) == pytest.approx(planted.cbv, rel=0.06)
        assert middle(maps.cbf, clean, name) == pytest.approx(share * planted.cbf, rel=0.02)
        assert middle(maps.mtt, clean, name) == pytest.approx(planted.mtt / share, rel=0.06)
        assert middle(maps.tmax, clean, name) == pytest.approx(when, abs=1)
        assert 2 <= middle(maps.tmax, clean, name) - planted.delay <= 4
    assert np.isnan(maps.cbf[~clean.mask]).all()
    assert np.isfinite(maps.cbf[clean.mask]).all()
    assert middle(maps.cbf, clean, "csf") == 0
    assert np.isnan(maps.mtt[clean.named["csf"]]).all()
    np.testing.assert_array_equal(maps.vessels, clean.named["artery"] | clean.named["vein"])
    assert {each.dtype for each in maps[:4]} == {np.dtype(np.float32)}


@pytest.mark.parametrize("how", ["circulant", "standard"])
def test_maps_equal_a_deconvolution_voxel_by_voxel(brain_scan, how):
    scan = brain_scan(noise=1.0, interval_s=1.25, frames=40)
    maps = perfusion_maps(scan.enhancement, scan.mask, scan.artery, 1.25, how=how, smoothing_mm=0)
    for at in map(tuple, np.argwhere(scan.mask)[::701]):
        curve = scan.enhancement[(slice(None), *at)]
        found = residue(curve, scan.artery, 1.25, how=how)
        assert maps.cbf[at] == pytest.approx(6000 * found.max() / DENSITY, rel=1e-4)
        assert maps.tmax[at] == sample_times(40, 1.25, how)[found.argmax()]
        cbv = 100 * curve.sum() / scan.artery.sum() / DENSITY
        assert maps.cbv[at] == pytest.approx(cbv, rel=1e-3, abs=1e-4)
        transit = 60 * cbv / maps.cbf[at] if cbv > 0 and maps.cbf[at] > 0 else np.nan
        assert maps.mtt[at] == pytest.approx(transit, rel=1e-3, nan_ok=True)
    assert (maps.cbv[scan.mask] < 0).any()
    assert np.nanmin(maps.mtt) > 0


def test_flow_is_linear_and_indifferent_to_delay_and_start(clean):
    maps = perfusion_maps(clean.enhancement, clean.mask, clean.artery, 1.0)
    tissue = clean.mask & ~maps.vessels
    half = perfusion_maps(clean.enhancement / 2, clean.mask, clean.artery, 1.0)
    np.testing.assert_allclose(half.cbf[tissue], maps.cbf[tissue] / 2, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(half.cbv[tissue], maps.cbv[tissue] / 2, rtol=1e-4, atol=1e-4)
    later = perfusion_maps(np.roll(clean.enhancement, 3, 0), clean.mask, np.roll(clean.artery, 3), 1.0)
    np.testing.assert_array_equal(later.tmax[tissue], maps.tmax[tissue])
    behind = perfusion_maps(clean.enhancement, clean.mask, np.roll(clean.artery, 2), 1.0)
    grey = clean.named["grey"]
    np.testing.assert_allclose(behind.cbf[grey], maps.cbf[grey], rtol=1e-3)
    np.testing.assert_allclose(behind.tmax[grey], maps.tmax[grey] - 2)


def test_noise_is_smoothed_to_the_goal_and_flow_keeps_its_order(brain_scan):
    scan = brain_scan(noise=3.0)
    found = arterial_input(scan.enhancement, scan.mask, 1.0)
    maps = perfusion_maps(scan.enhancement, scan.mask, found, 1.0, spacing_mm=scan.geometry.spacing_mm)
    assert 0.25 < maps.noise_hu <= 0.5
    assert 2 < maps.smoothing_mm <= 6
    flows = [middle(maps.cbf, scan, name) for name in NAMES]
    assert flows == sorted(flows, reverse=True)
    for name in ("grey", "white", "penumbra"):
        assert middle(maps.cbv, scan, name) == pytest.approx(TISSUES[name].cbv, rel=0.2)
    assert middle(maps.tmax, scan, "grey") <= 4 < 6 < middle(maps.tmax, scan, "penumbra")
    rough = perfusion_maps(scan.enhancement, scan.mask, found, 1.0, smoothing_mm=0)
    assert rough.noise_hu == pytest.approx(3, rel=0.05)
    assert middle(rough.cbf, scan, "core") > 1.8 * middle(maps.cbf, scan, "core")


def test_vessels_do_not_leak_into_the_tissue_beside_them(brain_scan):
    """The artery's neighbours are grey matter or white, not fifty times as full of blood."""
    scan = brain_scan(noise=0.0)
    maps = perfusion_maps(scan.enhancement, scan.mask, scan.artery, 1.0, smoothing_mm=4.0)
    beside = scan.mask[3] & ~scan.named["artery"][3] & ~scan.named["vein"][3]
    assert maps.cbv[3][beside].max() <= TISSUES["grey"].cbv * 1.01
    assert maps.cbv[scan.named["artery"]].min() == pytest.approx(50 / DENSITY, rel=0.01)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(aif=np.ones(7)), r"arterial curve of shape \(7,\) does not fit enhancement of 20 frames"),
        (dict(aif=np.r_[1.0, -np.ones(19)]), "area under the arterial curve is -18"),
        (dict(aif=np.zeros(20)), "rise above 0"),
        (dict(mask=np.zeros((8, 40, 40), bool)), "not empty"),
        (dict(how="oscillating"), "unknown"),
    ],
)
def test_bad_input_is_refused(brain_scan, change, words):
    scan = brain_scan(frames=20)
    good = dict(enhancement=scan.enhancement, mask=scan.mask, aif=scan.artery, interval_s=1.0)
    with pytest.raises(ValueError, match=words):
        perfusion_maps(**{**good, **change})


def test_a_book_sized_scan_takes_less_than_a_second():
    """64 x 64 x 16 x 48; measured 0.3 s on one core."""
    random = np.random.default_rng(0)
    values = random.normal(0, 2, (48, 16, 64, 64)).astype(np.float32)
    artery = 300 * np.exp(-(((np.arange(48) - 14) / 4.0) ** 2))
    best = np.inf
    for _ in range(3):  # somebody else's work on the same machine does not count
        start = time.process_time()
        perfusion_maps(values, np.ones((16, 64, 64), bool), artery, 1.0, spacing_mm=(3, 3, 5))
        best = min(best, time.process_time() - start)
    assert best < 1
