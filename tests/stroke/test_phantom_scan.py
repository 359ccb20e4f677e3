"""The scan of a stroke: a head, closed forms of the bolus, a lesion as large as asked for, voxels that follow the physics."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.ndimage import binary_erosion
from scipy.special import gamma, gammainc

from lib.stroke.phantom_scan import (
    DENSITY,
    LABELS,
    TISSUES,
    Anatomy,
    Bolus,
    Scan,
    anatomy,
    arterial,
    series,
    tissue_curve,
)
from lib.stroke.series import Series

SECONDS = np.arange(0.0, 60.0)
SHAPE, SPACING = (16, 64, 64), (3.0, 3.0, 5.0)
STILL = {"motion_mm": 0.0, "motion_degrees": 0.0}
QUIET = Scan(noise=0.0, **STILL)


def area(bolus: Bolus) -> float:
    """Under the arterial curve, HU s, in closed form."""
    return bolus.peak * bolus.b * np.exp(bolus.a) * bolus.a**-bolus.a * gamma(bolus.a + 1)


# the head


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
