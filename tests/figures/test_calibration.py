import numpy as np
import pandas as pd
import pytest

from lib.figures.curves import calibration_at_horizon, calibration_plot
from lib.statistics.calibration import calibration_bins

GROUPS = pd.DataFrame(
    {
        "predicted": [0.1, 0.2, 0.3],
        "observed": [0.08, 0.25, 0.3],
        "observed_low": [0.02, 0.15, 0.2],
        "observed_high": [0.16, 0.37, 0.4],
    }
)


def dots(ax, label):
    (line,) = (line for line in ax.lines if line.get_label() == label)
    return line.get_xydata()


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


def test_the_outcome_is_named(ax):
    calibration_plot(ax, calibration_bins([1, 0], [0.2, 0.3]), outcome="metastasis")
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "predicted probability of metastasis",
        "observed share of metastasis",
    )


def test_at_a_horizon_dots_have_bands_and_both_axes_one_scale(ax):
    calibration_at_horizon(ax, GROUPS, 36, "Cox")
    np.testing.assert_allclose(dots(ax, "Cox"), GROUPS[["predicted", "observed"]])
    (bands,) = ax.collections
    ends = [[x, low, high] for (x, low), (_, high) in bands.get_segments()]
    np.testing.assert_allclose(ends, GROUPS[["predicted", "observed_low", "observed_high"]])
    assert ax.get_xlim() == ax.get_ylim() == (0, pytest.approx(0.424))
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "predicted probability\nof death by 36 months",
        "observed death by 36 months",
    )


def test_a_second_model_widens_the_axes_and_never_narrows_them(ax):
    calibration_at_horizon(ax, GROUPS, 36, "Cox")
    calibration_at_horizon(ax, GROUPS * 2, 36, "age")
    assert ax.get_xlim()[1] == pytest.approx(0.848)
    calibration_at_horizon(ax, GROUPS / 2, 36, "sex")
    assert ax.get_xlim()[1] == pytest.approx(0.848)
    assert sum(line.get_label() == "_perfect" for line in ax.lines) == 1
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["Cox", "age", "sex"]


def test_groups_not_followed_to_the_horizon_are_counted(ax, words):
    short = GROUPS.copy()
    short.loc[1, ["observed", "observed_low", "observed_high"]] = np.nan
    calibration_at_horizon(ax, short, 36, "Cox")
    assert np.isnan(dots(ax, "Cox")[:, 1]).tolist() == [False, True, False]  # a gap, no line across it
    assert len(ax.collections[0].get_segments()) == 2
    assert "Cox: 1 of 3 groups not followed so long" in words(ax)
    with pytest.raises(ValueError, match="no group is followed to 36 months"):
        calibration_at_horizon(ax, short.iloc[[1]], 36)
    with pytest.raises(ValueError, match=r"lacks \['observed_low'\]"):
        calibration_at_horizon(ax, GROUPS.drop(columns="observed_low"), 36)


def test_nothing_to_draw_is_refused(ax):
    bins = calibration_bins([1, 0], [0.2, 0.3])
    with pytest.raises(ValueError, match="every bin is empty"):
        calibration_plot(ax, bins[bins["n"] == 0])
