"""The bolus: closed forms, areas and delays."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gammainc

from lib.stroke.phantom_scan import DENSITY, RESIDUES, TISSUES, Bolus, arterial, residue, tissue_curve, venous

SECONDS = np.arange(0.0, 60.0)


def integral(bolus: Bolus, seconds: np.ndarray) -> np.ndarray:
    """Closed form of the arterial curve's integral."""
    return bolus.area * gammainc(bolus.a + 1, np.maximum(seconds - bolus.arrival, 0) / bolus.b)


def test_arterial_curve_peaks_when_and_as_high_as_said():
    curve = arterial(np.array([5.0, 4.0, 13.25, 13.15, 13.35]), peak=300, arrival=5, a=5.5, b=1.5)
    np.testing.assert_allclose(curve[:3], [0, 0, 300])
    assert (curve[3:] < 300).all()


def test_arterial_curve_is_the_formula():
    peak, arrival, a, b = 214.0, 3.0, 4.0, 2.1
    formula = peak * ((9 - arrival) / (a * b)) ** a * np.exp(a - (9 - arrival) / b)
    np.testing.assert_allclose(arterial(9.0, peak, arrival, a, b), formula)


@pytest.mark.parametrize("bolus", [Bolus(), Bolus(85, 0.6, 2.2, 4.9)])
def test_area_is_the_integral(bolus):
    end = bolus.arrival + 200
    numeric = quad(lambda t: arterial(t, *bolus), bolus.arrival, end, limit=500)[0]
    np.testing.assert_allclose(bolus.area, numeric, rtol=1e-6)


@pytest.mark.parametrize("shape", RESIDUES)
def test_residue_starts_at_one_and_integrates_to_the_transit_time(shape):
    fine = np.arange(0, 200, 0.001)
    assert residue(0.0, 6.0, shape) == 1
    assert residue(-0.1, 6.0, shape) == 0
    np.testing.assert_allclose(residue(fine, 6.0, shape).sum() * 0.001, 6.0, rtol=1e-3)


def test_box_has_a_closed_form():
    bolus = Bolus()
    exact = integral(bolus, SECONDS - 3) - integral(bolus, SECONDS - 3 - 4.37)
    curve = tissue_curve(SECONDS, 60, 4.37, 3.0, "box", bolus)
    np.testing.assert_allclose(curve, DENSITY * 60 / 6000 * exact, atol=2e-3)


def test_exponential_has_a_closed_form():
    bolus, mtt = Bolus(), 10.0
    since = np.maximum(SECONDS - bolus.arrival, 0)
    rate = 1 / bolus.b - 1 / mtt
    scale = bolus.area / (bolus.b * rate) ** (bolus.a + 1)
    exact = scale * np.exp(-since / mtt) * gammainc(bolus.a + 1, since * rate)
    curve = tissue_curve(SECONDS, 18, mtt, bolus=bolus)
    np.testing.assert_allclose(curve, DENSITY * 18 / 6000 * exact, atol=1e-3)


@pytest.mark.parametrize("shape", RESIDUES)
def test_naive_integration_agrees(shape):
    bolus = Bolus(200, 2.0, 4.0, 2.0)

    def at(when: float) -> float:
        return quad(
            lambda s: arterial(when - 1.5 - s, *bolus) * residue(s, 6.0, shape), 0, 50, points=[6.0, 12.0]
        )[0]

    naive = [DENSITY * 35 / 6000 * at(when) for when in (8.0, 13.0, 27.0)]
    curve = tissue_curve([8.0, 13.0, 27.0], 35, 6.0, 1.5, shape, bolus)
    np.testing.assert_allclose(curve, naive, rtol=2e-3)


def test_tissues_peak_as_the_specification_measured():
    table = np.array(
        [[t.cbf, t.mtt, t.delay] for t in (TISSUES[n] for n in ("grey", "white", "penumbra", "core"))]
    )
    curves = tissue_curve(SECONDS, *table.T)
    assert curves.shape == (60, 4)
    np.testing.assert_allclose(curves.max(axis=0), [9.2, 4.3, 4.5, 1.3], atol=0.06)


@pytest.mark.parametrize("shape", RESIDUES)
def test_area_gives_the_blood_volume(shape):
    seconds = np.arange(0, 200, 0.5)
    curve = tissue_curve(seconds, 35, 6.0, 2.0, shape)
    cbv = 100 * curve.sum() * 0.5 / (DENSITY * Bolus().area)
    np.testing.assert_allclose(cbv, 35 * 6 / 60, rtol=1e-3)


def test_many_tissues_at_once_are_each_alone():
    cbf, mtt = np.meshgrid([10.0, 60.0], [3.0, 5.0, 9.0])
    together = tissue_curve(SECONDS, cbf, mtt, 1.0)
    assert together.shape == (60, 3, 2)
    np.testing.assert_allclose(together[:, 2, 1], tissue_curve(SECONDS, 60.0, 9.0, 1.0), atol=1e-9)


def test_flow_scales_and_delay_shifts():
    plain = tissue_curve(SECONDS, 20, 5.0)
    np.testing.assert_allclose(tissue_curve(SECONDS, 40, 5.0), 2 * plain, atol=1e-9)
    np.testing.assert_allclose(tissue_curve(SECONDS, 20, 5.0, 3.0)[3:], plain[:-3], atol=1e-3)
    np.testing.assert_allclose(tissue_curve(SECONDS + 7, 20, 5.0, bolus=Bolus(arrival=12)), plain, atol=1e-9)


def test_no_flow_no_curve():
    assert not tissue_curve(SECONDS, 0, 4.0).any()


def test_vein_is_later_and_lower_with_the_same_area():
    seconds = np.arange(0, 150, 0.25)
    artery, vein = arterial(seconds), venous(seconds)
    np.testing.assert_allclose(vein.sum(), artery.sum(), rtol=1e-3)
    assert 4 <= seconds[vein.argmax()] - seconds[artery.argmax()] <= 9
    assert vein.max() < artery.max()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((-1.0, 4.0), "negative"),
        ((60.0, 0.0), "above 0 s"),
        ((60.0, np.nan), "above 0 s"),
        ((60.0, 4.0, 0.0, "sinc"), "'sinc'.*exponential"),
    ],
)
def test_nonsense_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        tissue_curve(SECONDS, *arguments)


def test_curve_without_width_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        arterial(SECONDS, b=0.0)
