import numpy as np
import pytest
from scipy.linalg import circulant, toeplitz

from lib.stroke.bolus import inverse, residue, sample_times
from lib.stroke.phantom_scan import DENSITY, TISSUES, Bolus, arterial, tissue_curve

BOLUS = Bolus(arrival=8.0)
NAMES = ("grey", "white", "penumbra", "core")
SECONDS = np.arange(60.0)
ARTERY = arterial(SECONDS, *BOLUS)


def curves(shape="exponential", later=0.0):
    """The four tissues' curves, (60, 4)."""
    planted = [TISSUES[name] for name in NAMES]
    cbf, mtt, delay, _ = np.array(planted).T
    return tissue_curve(SECONDS, cbf, mtt, delay + later, shape, BOLUS)


def flow(found):
    return 6000 * found.max(0) / DENSITY


def recovered(found):
    """Estimated over true CBF."""
    return flow(found) / [TISSUES[name].cbf for name in NAMES]


def naive(curve, aif, interval_s, lambda_, how):
    """One voxel, from the textbook: build the matrix, decompose it, drop small singular values."""
    if how == "circulant":
        aif, curve = np.append(aif, 0 * aif), np.append(curve, 0 * curve)
        matrix = circulant(aif) * interval_s
    else:
        matrix = toeplitz(aif, 0 * aif) * interval_s
    left, sizes, right = np.linalg.svd(matrix)
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
    found = residue(curves(shape), ARTERY, 1.0, lambda_)
    np.testing.assert_allclose(recovered(found), cbf, atol=0.012)
    np.testing.assert_allclose(sample_times(60, 1.0)[found.argmax(0)], tmax, atol=1)


def test_standard_decomposition_loses_flow_with_delay_and_circulant_does_not():
    losses = {0.1: (0.63, 0.57), 0.2: (0.60, 0.49)}
    for lambda_, expected in losses.items():
        standard = [
            recovered(residue(curves(later=delay), ARTERY, 1.0, lambda_, "standard"))[0] for delay in (0, 3)
        ]
        np.testing.assert_allclose(standard, expected, atol=0.012)
    still, late = (residue(curves("box", later), ARTERY, 1.0) for later in (0, 3))
    np.testing.assert_allclose(flow(late), flow(still), rtol=1e-4)
    np.testing.assert_array_equal(late.argmax(0), still.argmax(0) + 3)


def test_tissue_that_leads_the_artery_has_negative_times():
    late_artery = arterial(SECONDS, *BOLUS._replace(arrival=13.0))
    early = residue(curves()[:, 0], late_artery, 1.0)
    assert sample_times(60, 1.0)[early.argmax()] == 2 - 5
    assert flow(early) == pytest.approx(flow(residue(curves()[:, 0], ARTERY, 1.0)), rel=1e-4)


def test_sample_times_of_padded_and_plain_residues():
    assert sample_times(3, 2.0).tolist() == [0, 2, 4, 6, -4, -2]
    assert sample_times(3, 2.0, "standard").tolist() == [0, 2, 4]


@pytest.mark.parametrize("how", ["circulant", "standard"])
@pytest.mark.parametrize("lambda_", [0.02, 0.1, 0.2])
def test_all_voxels_at_once_equal_one_after_another(how, lambda_):
    noisy = curves() + np.random.default_rng(1).normal(0, 1, (60, 4))
    fast = residue(noisy, ARTERY, 1.25, lambda_, how)
    slow = np.stack([naive(curve, ARTERY, 1.25, lambda_, how) for curve in noisy.T], axis=1)
    assert fast.shape == ((120, 4) if how == "circulant" else (60, 4))
    assert fast.dtype == np.float32
    np.testing.assert_allclose(fast, slow, atol=2e-5 * np.abs(slow).max())
    np.testing.assert_allclose(
        residue(noisy[:, 1], ARTERY, 1.25, lambda_, how), fast[:, 1], rtol=1e-3, atol=1e-8
    )


@pytest.mark.parametrize("how", ["circulant", "standard"])
def test_flow_is_linear_in_tissue_and_inverse_in_the_artery(how):
    found = residue(curves(), ARTERY, 1.0, how=how)
    np.testing.assert_allclose(residue(3 * curves(), ARTERY, 1.0, how=how), 3 * found, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(residue(curves(), 2 * ARTERY, 1.0, how=how), found / 2, rtol=1e-4, atol=1e-8)
    mixed = residue(curves() @ np.ones((4, 1)), ARTERY, 1.0, how=how)[:, 0]
    np.testing.assert_allclose(mixed, found.sum(1), atol=1e-6)


def test_without_truncation_the_artery_itself_is_a_delta():
    """A curve that falls to nothing within the scan, without zeros in its spectrum."""
    artery = np.exp(-np.arange(30.0) / 2)
    found = residue(artery, artery, 0.5, lambda_=0.0)
    np.testing.assert_allclose(found, np.eye(60)[0] / 0.5, atol=1e-4)


def test_order_of_flow_survives_half_a_hounsfield_unit_of_noise_and_core_and_penumbra_blur_at_two():
    """Rows of the specification: estimates of core and penumbra at noise of 0, .5, 1, 2 HU (true flow 5 and 18)."""
    random, core, penumbra = np.random.default_rng(2), {}, {}
    for noise in (0, 0.5, 1, 2):
        noisy = np.repeat(curves()[:, 2:], 300, axis=1)
        noisy += random.normal(0, 1, noisy.shape) * noise
        penumbra[noise], core[noise] = flow(residue(noisy, ARTERY, 1.0)).reshape(2, 300).mean(1)
    np.testing.assert_allclose(list(core.values()), (4.1, 5.3, 7.9, 13.7), rtol=0.08)
    np.testing.assert_allclose(list(penumbra.values()), (13.8, 14.3, 15.3, 19.5), rtol=0.08)
    assert core[2] / penumbra[2] > 2 * core[0] / penumbra[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(curves=np.ones((59, 2))), "do not belong together"),
        (dict(curves=np.full((60, 1), np.nan)), "NaN or infinity"),
        (dict(aif=np.zeros(60)), "rise above 0"),
        (dict(aif=np.full(60, np.nan)), "must be finite"),
        (dict(interval_s=0), "interval_s 0 must be above 0"),
        (dict(lambda_=1.0), r"lambda_ 1.0 within \[0, 1\)"),
        (dict(how="oscillating"), "'oscillating' is unknown: circulant or standard"),
    ],
)
def test_bad_input_is_refused(change, words):
    good = dict(curves=curves(), aif=ARTERY, interval_s=1.0)
    with pytest.raises(ValueError, match=words):
        residue(**{**good, **change})


def test_singular_values_of_rounding_alone_are_never_inverted():
    """A smooth artery's spectrum falls to 0: with lambda 0 the inverse must stay finite."""
    assert np.isfinite(inverse(ARTERY, 1.0, 0.0)).all()
    assert np.isfinite(inverse(ARTERY, 1.0, 0.0, "standard")).all()
