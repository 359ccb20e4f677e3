import numpy as np
import pytest

from lib.inputs.volumes import Geometry
from lib.stroke.maps import (
    Maps,
    arterial_input,
    left_of_midline,
    lesion_volumes,
    mismatch,
    parenchyma,
    perfusion_maps,
)
from lib.stroke.params import Preparation
from lib.stroke.perfusion import prepare
from lib.stroke.phantom import draw, series_path, write_patient
from lib.stroke.series import read_series

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
