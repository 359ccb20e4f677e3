"""The scan of a stroke: its lesion is as large as asked for, and its voxels follow the physics."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from lib.inputs.volumes import Series, read_series, write_series
from lib.stroke.phantom_scan import (
    DENSITY,
    LABELS,
    ORIENTATIONS,
    TISSUES,
    Anatomy,
    Bolus,
    Scan,
    _moved,
    anatomy,
    arterial,
    draw_scan,
    geometry,
    series,
    tissue_curve,
    truth,
    venous,
)

STILL = {"motion_mm": 0.0, "motion_degrees": 0.0}
QUIET = Scan(noise=0.0, **STILL)


@pytest.fixture(scope="module")
def stroke() -> Anatomy:
    return anatomy(3, core_ml=40, penumbra_ml=60, side="left")


@pytest.fixture(scope="module")
def quiet(stroke) -> Series:
    return series(stroke, QUIET)


def of(stroke: Anatomy, name: str) -> np.ndarray:
    return stroke.labels == LABELS[name]


@pytest.mark.parametrize(("core", "penumbra"), [(0, 0), (0, 5), (3, 0), (20, 70), (100, 40)])
def test_volumes_are_those_asked_for(core, penumbra):
    made = anatomy(1, core_ml=core, penumbra_ml=penumbra, side="right")
    voxel = np.prod(made.spacing_mm) / 1000
    assert abs(made.core_ml - core) <= voxel / 2 + 1e-9
    assert abs(made.penumbra_ml - penumbra) <= voxel / 2 + 1e-9
    np.testing.assert_allclose(of(made, "core").sum() * voxel, made.core_ml)
    np.testing.assert_allclose(of(made, "penumbra").sum() * voxel, made.penumbra_ml)


def test_a_lesion_larger_than_the_territory_is_shrunk_in_proportion():
    made = anatomy(1, core_ml=600, penumbra_ml=300)
    np.testing.assert_allclose(made.core_ml / made.penumbra_ml, 2, rtol=0.01)
    tissue = np.isin(made.healthy, [LABELS["grey"], LABELS["white"]]).sum() * np.prod(made.spacing_mm) / 1000
    assert 0.2 * tissue < made.core_ml + made.penumbra_ml < 0.3 * tissue


@pytest.mark.parametrize(("side", "sign"), [("left", 1), ("right", -1)])
def test_lesion_lies_on_its_side(side, sign):
    made = anatomy(5, core_ml=40, penumbra_ml=60, side=side)
    x = (np.arange(64) - 31.5) * sign  # the x axis grows to the patient's left
    across = np.broadcast_to(x, made.labels.shape)
    for name in ("core", "penumbra"):
        assert (across[of(made, name)] > 0).mean() > 0.99


def test_core_lies_within_and_only_tissue_is_taken(stroke):
    changed = stroke.labels != stroke.healthy
    lesion = of(stroke, "core") | of(stroke, "penumbra") | of(stroke, "oligaemia")
    assert set(np.unique(stroke.healthy[lesion])) <= {LABELS["grey"], LABELS["white"]}
    assert (stroke.healthy[changed & ~lesion] == LABELS["artery"]).all()

    def spread(names):
        points = (
            np.argwhere(np.isin(stroke.labels, [LABELS[name] for name in names])) * stroke.spacing_mm[::-1]
        )
        return np.linalg.norm(points - points.mean(axis=0), axis=1).mean()

    assert spread(["core"]) < spread(["core", "penumbra"]) < spread(["core", "penumbra", "oligaemia"])


def test_occluded_artery_carries_nothing(stroke):
    """Healthy side: some arteries remain far from the midline; affected side: none."""
    columns = np.argwhere(of(stroke, "artery"))[:, 2]
    assert (columns < 24).any()
    assert not (columns > 38).any()


def test_truth_is_the_tissues_table(stroke):
    maps = truth(stroke)
    for name, tissue in TISSUES.items():
        here = of(stroke, name)
        np.testing.assert_allclose(maps.mtt[here], tissue.mtt, rtol=1e-6)
        np.testing.assert_allclose(maps.delay[here], tissue.delay)
        np.testing.assert_allclose(maps.cbf[here], tissue.cbf * stroke.texture[here], rtol=1e-5)
    everywhere = maps.mtt > 0
    np.testing.assert_allclose(maps.cbv[everywhere], (maps.cbf * maps.mtt / 60)[everywhere], rtol=1e-5)
    assert not maps.cbf[of(stroke, "csf") | of(stroke, "air") | of(stroke, "artery")].any()
    assert abs(np.log(stroke.texture).mean()) < 0.05


@pytest.mark.parametrize(
    ("name", "core", "penumbra"), [("white", 0, 0), ("penumbra", 0, 120), ("core", 120, 0)]
)
def test_voxels_follow_the_physics(name, core, penumbra):
    """Deep inside a tissue, where the blur mixes nothing, enhancement is flow times the curve."""
    stroke = anatomy(3, core_ml=core, penumbra_ml=penumbra)
    quiet = series(stroke, QUIET)
    inside = binary_erosion(of(stroke, name), np.ones((3, 5, 5)))
    assert inside.any()
    tissue = TISSUES[name]
    curve = tissue_curve(quiet.seconds, tissue.cbf, tissue.mtt, tissue.delay)
    enhancement = quiet.values[:, inside] - quiet.values[0, inside]
    error = enhancement - curve[:, None] * stroke.texture[inside]
    assert np.abs(error).max() < 1.3  # HU, of which rounding twice is 1
    assert abs(error.mean()) < 0.3


def test_vessels_enhance_first_artery_then_vein(stroke, quiet):
    sinus = binary_erosion(of(stroke, "vein"), np.ones((1, 3, 3)))
    vein = (quiet.values - quiet.values[0])[:, sinus].max(axis=1)
    artery = (quiet.values - quiet.values[0])[:, of(stroke, "artery")].max(axis=1)
    np.testing.assert_allclose(vein.max(), venous(quiet.seconds).max(), rtol=0.05)
    assert 0.6 * arterial(quiet.seconds).max() < artery.max() <= 301
    assert 4 <= vein.argmax() - artery.argmax() <= 9


def test_lesion_is_late_and_weak(stroke, quiet):
    enhancement = quiet.values - quiet.values[0]
    curves = {name: enhancement[:, of(stroke, name)].mean(axis=1) for name in TISSUES}
    peaks = {name: curve.max() for name, curve in curves.items()}
    assert peaks["grey"] > peaks["oligaemia"] > peaks["penumbra"] > peaks["core"]
    assert curves["penumbra"].argmax() >= curves["grey"].argmax() + 5


def test_baseline_is_a_ct(stroke, quiet):
    expected = {"air": -1000, "white": 29, "grey": 37}
    for name, value in expected.items():
        np.testing.assert_allclose(np.median(quiet.values[0][of(stroke, name)]), value, atol=3)
    assert 700 < np.median(quiet.values[0][of(stroke, "skull")]) < 950  # thin, so that its edge is most of it
    ventricle = binary_erosion(of(stroke, "csf"), np.ones((1, 3, 3)))
    np.testing.assert_allclose(np.median(quiet.values[0][ventricle]), 5, atol=3)


def test_noise_has_the_strength_asked_for(stroke, quiet):
    noisy = series(stroke, Scan(noise=4.0, **STILL), seed=1)
    inside = stroke.labels > 0
    np.testing.assert_allclose((noisy.values - quiet.values)[:, inside].std(), 4.0, rtol=0.03)
    assert not (noisy.values - quiet.values)[:, ~inside].any()


def test_motion_is_a_shift_of_less_than_a_voxel(stroke, quiet):
    """What moves shows at the skull, hardly in the brain's middle, and the first frame stands still."""
    moved = series(stroke, Scan(noise=0.0, motion_mm=0.3, motion_degrees=0.2), seed=2)
    change = np.abs(moved.values - quiet.values)
    assert not change[0].any()
    assert change[1:, of(stroke, "skull")].mean() > 5
    brain = binary_erosion(of(stroke, "white"), np.ones((3, 5, 5)))
    assert change[:, brain].mean() < 1


def test_motion_along_one_axis_is_the_linear_shift():
    ramp = np.broadcast_to(np.arange(8.0) * 2, (1, 4, 6, 8)).copy()  # 2 HU a voxel of 4 mm along x
    pictures = _moved(ramp, (4.0, 5.0, 6.0))
    shifted = pictures[0] + 1.0 * pictures[1]  # 1 mm to the left: what was at x - 1 mm is now at x
    np.testing.assert_allclose(shifted, ramp - 0.5)
    turned = pictures[6]  # about z: at (x, y) shows what was at (x + turn y, y - turn x)
    rows = (np.arange(6) - 2.5) * 5.0
    np.testing.assert_allclose(turned[0, 0, :, 0], 0.5 * rows)


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_orientation_only_changes_the_storage(stroke, quiet, code, tmp_path):
    turned = series(stroke, QUIET._replace(orientation=code, frames=3, interval_s=1.41))
    assert turned.geometry.orientation == code
    write_series(tmp_path / "ctp.nii.gz", turned, "int16")
    read = read_series(tmp_path / "ctp.nii.gz")
    assert read.stored_as == code
    assert read.geometry.orientation == "LPS"
    np.testing.assert_allclose(read.interval_s, 1.41, rtol=1e-5)
    np.testing.assert_allclose(read.geometry.origin_mm, geometry(stroke).origin_mm, atol=1e-3)
    np.testing.assert_array_equal(read.values[0], quiet.values[0])


def test_seed_decides_everything(stroke):
    again = anatomy(3, core_ml=40, penumbra_ml=60, side="left")
    np.testing.assert_array_equal(again.labels, stroke.labels)
    np.testing.assert_array_equal(series(stroke, seed=[5, 1]).values, series(again, seed=[5, 1]).values)
    assert (series(stroke, seed=1).values != series(stroke, seed=2).values).any()


def test_scans_differ_and_begin_before_the_bolus():
    scans = [draw_scan(np.random.default_rng(seed)) for seed in range(60)]
    assert {scan.orientation for scan in scans} == set(ORIENTATIONS)
    assert len({scan.interval_s for scan in scans}) == 3
    for scan in scans:
        baseline = np.arange(3) * scan.interval_s
        end = scan.frames * scan.interval_s
        assert arterial(baseline, *scan.bolus).max() < 5
        assert arterial(end, *scan.bolus) < 0.02 * scan.bolus.peak


def test_other_shapes_cover_the_same_head():
    small = anatomy(3, shape=(8, 32, 32), core_ml=40, penumbra_ml=60)
    assert small.spacing_mm == (6.0, 6.0, 10.0)
    np.testing.assert_allclose(small.core_ml, 40, atol=0.2)
    assert series(small, Scan(frames=5, bolus=Bolus())).values.shape == (5, 8, 32, 32)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"side": "both"}, "'both'"), ({"core_ml": -1.0}, "-1"), ({"penumbra_ml": float("nan")}, "nan")],
)
def test_nonsense_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        anatomy(1, **arguments)


@pytest.mark.parametrize("code", ["LP", "LLS", "XYZ"])
def test_unknown_orientation_is_refused(stroke, code):
    with pytest.raises(ValueError, match="three letters"):
        series(stroke, Scan(orientation=code, frames=2))


def test_density_is_the_physics_own():
    """A voxel's area under the curve gives its blood volume back."""
    made = anatomy(2, core_ml=0, penumbra_ml=0)
    scan = Scan(noise=0.0, frames=90, **STILL)
    values = series(made, scan).values
    inside = binary_erosion(of(made, "white"), np.ones((3, 5, 5)))
    area = (values[:, inside] - values[0, inside]).sum(axis=0).mean()
    expected = TISSUES["white"].cbv * made.texture[inside].mean()
    np.testing.assert_allclose(100 * area / (DENSITY * scan.bolus.area), expected, rtol=0.04)
