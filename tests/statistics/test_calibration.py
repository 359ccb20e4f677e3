import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from lib.statistics.calibration import brier, calibration_bins
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
