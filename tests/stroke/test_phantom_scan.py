"""The scan of a stroke: a head, closed forms of the bolus, a lesion as large as asked for, voxels that follow the physics."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.ndimage import binary_erosion
from scipy.special import gamma, gammainc

from lib.stroke.phantom_scan import (
    DENSITY,
    LABELS,
    ORIENTATIONS,
    TISSUES,
    Anatomy,
    Bolus,
    Scan,
    anatomy,
    arterial,
    geometry,
    head,
    series,
    tissue_curve,
    venous,
)
from lib.stroke.series import Series, read_series, write_series

SECONDS = np.arange(0.0, 60.0)
SHAPE, SPACING = (16, 64, 64), (3.0, 3.0, 5.0)
STILL = {"motion_mm": 0.0, "motion_degrees": 0.0}
QUIET = Scan(noise=0.0, **STILL)


def area(bolus: Bolus) -> float:
    """Under the arterial curve, HU s, in closed form."""
    return bolus.peak * bolus.b * np.exp(bolus.a) * bolus.a**-bolus.a * gamma(bolus.a + 1)


# the head


@pytest.fixture(scope="module", params=range(3))
def drawn(request):
    return head(np.random.default_rng(request.param), SHAPE, SPACING)


def ml(labels, *names: str) -> float:
    return np.isin(labels, [LABELS[name] for name in names]).sum() * np.prod(SPACING) / 1000


def test_volumes_are_a_head_s_and_its_sides_alike(drawn):
    labels, (x, _, _), _, branches = drawn
    assert 550 < ml(labels, "grey", "white") < 950
    assert 0.3 < ml(labels, "grey") / ml(labels, "grey", "white") < 0.6
    assert 60 < ml(labels, "csf") < 200
    assert 4 < ml(labels, "artery") < 25
    assert 10 < ml(labels, "vein") < 45
    assert ml(labels, "oligaemia", "penumbra", "core") == 0
    x = np.broadcast_to(x, SHAPE)
    tissue = np.isin(labels, [LABELS["grey"], LABELS["white"]])
    left, right = (tissue & (x > 0)).sum(), (tissue & (x < 0)).sum()
    assert abs(left - right) < 0.06 * (left + right)
    assert (x[branches] > 20).sum() > 10
    assert (x[branches] < -20).sum() > 10


def test_skull_is_closed_and_the_head_does_not_touch_the_edge(drawn):
    labels = drawn[0]
    brain, outside = labels >= LABELS["csf"], labels <= LABELS["scalp"]
    for axis in (1, 2):
        for step in (1, -1):
            assert not (brain & np.roll(outside, step, axis)).any()
        assert (np.take(labels, [0, -1], axis) == LABELS["air"]).all()


# the bolus


def test_arterial_curve_is_the_formula():
    curve = arterial(np.array([5.0, 4.0, 13.25, 13.15, 13.35]), Bolus(300, 5, 5.5, 1.5))
    np.testing.assert_allclose(curve[:3], [0, 0, 300])
    assert (curve[3:] < 300).all()
    for bolus in (Bolus(), Bolus(85, 0.6, 2.2, 4.9)):
        whole = quad(lambda t, bolus=bolus: arterial(t, bolus), bolus.arrival, bolus.arrival + 200, limit=500)
        np.testing.assert_allclose(area(bolus), whole[0], rtol=1e-6)


def test_tissue_curve_has_a_closed_form():
    bolus, mtt = Bolus(), 10.0
    since = np.maximum(SECONDS - bolus.arrival, 0)
    rate = 1 / bolus.b - 1 / mtt
    scale = area(bolus) / (bolus.b * rate) ** (bolus.a + 1)
    exact = scale * np.exp(-since / mtt) * gammainc(bolus.a + 1, since * rate)
    curve = tissue_curve(SECONDS, 18, mtt, bolus=bolus)
    np.testing.assert_allclose(curve, DENSITY * 18 / 6000 * exact, atol=1e-3)


# the stroke


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


@pytest.mark.parametrize(("side", "sign"), [("left", 1), ("right", -1)])
def test_lesion_lies_on_its_side(side, sign):
    made = anatomy(5, core_ml=40, penumbra_ml=60, side=side)
    x = (np.arange(64) - 31.5) * sign  # the x axis grows to the patient's left
    across = np.broadcast_to(x, made.labels.shape)
    for name in ("core", "penumbra"):
        assert (across[of(made, name)] > 0).mean() > 0.99


def test_only_tissue_is_taken_and_the_occluded_artery_carries_nothing(stroke):
    lesion = of(stroke, "core") | of(stroke, "penumbra") | of(stroke, "oligaemia")
    assert set(np.unique(stroke.healthy[lesion])) <= {LABELS["grey"], LABELS["white"]}
    assert (stroke.healthy[(stroke.labels != stroke.healthy) & ~lesion] == LABELS["artery"]).all()
    columns = np.argwhere(of(stroke, "artery"))[:, 2]
    assert (columns < 24).any()
    assert not (columns > 38).any()


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


def test_vessels_enhance_first_artery_then_vein_and_the_lesion_late_and_weakly(stroke, quiet):
    enhancement = quiet.values - quiet.values[0]
    vein = enhancement[:, binary_erosion(of(stroke, "vein"), np.ones((1, 3, 3)))].max(axis=1)
    artery = enhancement[:, of(stroke, "artery")].max(axis=1)
    np.testing.assert_allclose(vein.max(), venous(quiet.seconds).max(), rtol=0.05)
    assert 0.6 * arterial(quiet.seconds).max() < artery.max() <= 301
    assert 4 <= vein.argmax() - artery.argmax() <= 9
    curves = {name: enhancement[:, of(stroke, name)].mean(axis=1) for name in TISSUES}
    peaks = {name: curve.max() for name, curve in curves.items()}
    assert peaks["grey"] > peaks["oligaemia"] > peaks["penumbra"] > peaks["core"]
    assert curves["penumbra"].argmax() >= curves["grey"].argmax() + 5


def test_noise_and_motion_have_the_strength_asked_for(stroke, quiet):
    inside = stroke.labels > 0
    noise = series(stroke, Scan(noise=4.0, **STILL), seed=1).values - quiet.values
    np.testing.assert_allclose(noise[:, inside].std(), 4.0, rtol=0.03)
    assert not noise[:, ~inside].any()
    moved = series(stroke, Scan(noise=0.0, motion_mm=0.3, motion_degrees=0.2), seed=2)
    change = np.abs(moved.values - quiet.values)
    assert not change[0].any()
    assert change[1:, of(stroke, "skull")].mean() > 5
    assert change[:, binary_erosion(of(stroke, "white"), np.ones((3, 5, 5)))].mean() < 1


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_orientation_only_changes_the_storage(stroke, quiet, code, tmp_path):
    turned = series(stroke, QUIET._replace(orientation=code, frames=3, interval_s=1.41))
    assert turned.geometry.orientation == code
    write_series(tmp_path / "ctp.nii.gz", turned, "int16")
    read = read_series(tmp_path / "ctp.nii.gz")
    assert (read.stored_as, read.geometry.orientation) == (code, "LPS")
    np.testing.assert_allclose(read.interval_s, 1.41, rtol=1e-5)
    np.testing.assert_allclose(read.geometry.origin_mm, geometry(stroke).origin_mm, atol=1e-3)
    np.testing.assert_array_equal(read.values[0], quiet.values[0])
