import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from lib.statistics.calibration import brier, calibration_bins, ece
from lib.statistics.classification import NotComputable


def test_brier_equals_sklearn_and_its_known_values():
    random = np.random.default_rng(0)
    p = random.random(300)
    labels = (random.random(300) < p).astype(float)
    assert brier(labels, p) == pytest.approx(brier_score_loss(labels, p))
    assert brier([1, 0, 0, 0], [0.25] * 4) == pytest.approx(0.25 * 0.75)
    assert brier([1, 0], [1, 0]) == 0


def test_bins_equal_sklearn():
    random = np.random.default_rng(1)
    p = random.random(500)
    labels = (random.random(500) < p).astype(float)
    bins = calibration_bins(labels, p)
    observed, predicted = calibration_curve(labels, p, n_bins=10)
    np.testing.assert_allclose(bins["observed"], observed)
    np.testing.assert_allclose(bins["predicted"], predicted)
    assert bins["n"].sum() == 500
    assert bins["events"].sum() == labels.sum()


def test_edges_and_empty_bins():
    bins = calibration_bins([1, 1, 0], [1.0, 0.5, 0.0], bins=4)
    assert bins["n"].tolist() == [1, 0, 1, 1]
    assert np.isnan(bins["observed"][1])
    assert np.isnan(bins["predicted"][1])


def test_scores_are_no_probabilities():
    with pytest.raises(ValueError, match=r"platt"):
        brier([1, 0], [1.2, 0.1])
    with pytest.raises(NotComputable):
        calibration_bins([1, np.nan], [0.2, 0.1])


def test_quantile_bins_equal_sklearn_and_hold_like_numbers():
    random = np.random.default_rng(2)
    p = random.random(503) ** 3
    labels = (random.random(503) < p).astype(float)
    bins = calibration_bins(labels, p, 8, "quantile")
    assert set(bins["n"]) == {62, 63}
    observed, predicted = calibration_curve(labels, p, n_bins=8, strategy="quantile")
    np.testing.assert_allclose(bins["predicted"], predicted, atol=0.01)
    np.testing.assert_allclose(bins["observed"], observed, atol=0.02)


def test_quantile_bins_of_tied_probabilities_are_fewer_and_none_is_empty():
    bins = calibration_bins([1, 0, 0, 1, 1], [0.0, 0.0, 0.0, 1.0, 1.0], 5, "quantile")
    assert bins["n"].tolist() == [3, 2]
    alone = calibration_bins([1, 0], [0.3, 0.3], 5, "quantile")
    assert alone["n"].tolist() == [2]
    assert alone["predicted"].tolist() == [0.3]
    with pytest.raises(ValueError, match="quantile"):
        calibration_bins([1, 0], [0.3, 0.3], 5, "equal")


def test_ece_by_hand_and_naive():
    # bins 0 to .5 and .5 to 1: predicted .2 observed 1/3 of 3, predicted .8 observed 1 of 2
    assert ece([1, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.7, 0.9], bins=2) == pytest.approx(
        3 / 5 * (1 / 3 - 0.2) + 2 / 5 * 0.2
    )
    random = np.random.default_rng(3)
    p, labels = random.random(300), (random.random(300) < 0.4).astype(float)
    for edges in ("width", "quantile"):
        naive = 0.0
        for row in calibration_bins(labels, p, 7, edges).itertuples():
            own = (p >= row.low) & ((p < row.high) | ((p == row.high) & (row.high == p.max())))
            naive += own.mean() * abs(labels[own].mean() - p[own].mean())
        assert ece(labels, p, 7, edges) == pytest.approx(naive)
    assert ece(labels, labels) == 0
    assert ece(labels, 1 - labels) == 1
