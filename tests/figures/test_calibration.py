import numpy as np
import pytest

from lib.figures.calibration import calibration_plot
from lib.statistics.calibration import calibration_bins


def test_dots_stand_at_predicted_and_observed_with_area_by_size(ax):
    p = np.r_[np.full(30, 0.15), np.full(10, 0.85)]
    labels = np.r_[np.ones(6), np.zeros(24), np.ones(9), 0]
    calibration_plot(ax, calibration_bins(labels, p), label="SpaCRD")
    (dots,) = ax.collections
    np.testing.assert_allclose(dots.get_offsets(), [[0.15, 0.2], [0.85, 0.9]])
    small, large = sorted(dots.get_sizes() - 12)
    assert large / small == pytest.approx(3)
    calibration_plot(ax, calibration_bins(labels, p), label="ERBB2")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["SpaCRD", "ERBB2"]
    assert len(ax.lines) == 3  # one diagonal


def test_nothing_to_draw_is_refused(ax):
    bins = calibration_bins([1, 0], [0.2, 0.3])
    with pytest.raises(ValueError, match="every bin is empty"):
        calibration_plot(ax, bins[bins["n"] == 0])
