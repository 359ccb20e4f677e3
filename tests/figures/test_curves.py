import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from lib.figures import style
from lib.figures.curves import (
    calibration_at_horizon,
    calibration_plot,
    decision_curve,
    history,
    mean_precision_recall,
    mean_roc,
    roc,
    shift_plot,
)
from lib.statistics.calibration import calibration_bins
from lib.statistics.classification import NotComputable, auc
from lib.statistics.intervals import ScoredSection, interval

RANDOM = np.random.default_rng(0)
LABELS = (RANDOM.random(150) < 0.4).astype(float)
SCORES = np.round(LABELS + RANDOM.normal(size=150), 1)


def line_of(ax, word):
    (line,) = (line for line in ax.lines if word in str(line.get_label()))
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def key(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_area_under_the_drawn_roc_is_the_auc_and_models_share_the_frame(ax):
    roc(ax, LABELS, SCORES, label="ERBB2")
    x, y = line_of(ax, "ERBB2")
    assert np.trapezoid(y, x) == pytest.approx(auc(LABELS, SCORES))
    roc(ax, LABELS, -SCORES, label="b")
    assert key(ax) == [f"ERBB2: AUC {auc(LABELS, SCORES):.3f}", f"b: AUC {1 - auc(LABELS, SCORES):.3f}"]
    assert len({line.get_color() for line in ax.lines}) == len(ax.lines) == 3  # with chance
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("1 − specificity", "sensitivity")
    with pytest.raises(NotComputable):
        roc(ax, np.ones(3), [1, 2, 3])


def test_area_under_the_mean_curves_is_the_mean_metric(ax):
    sections = []
    for number in range(3):
        labels = (RANDOM.random(120) < 0.2 + 0.2 * number).astype(float)
        scores = labels * number + RANDOM.normal(size=(2, 120))
        sections.append(ScoredSection(f"P{number}", f"S{number}", labels, scores, np.arange(120) // 10))
    found = interval(sections, "auc", 20)
    mean_roc(ax, sections, found, label="model")
    x, y = line_of(ax, "model")
    assert np.trapezoid(y, x) == pytest.approx(found.estimate, abs=0.006)
    assert len(ax.lines) == 1 + 1 + 3  # chance, the mean, each patient
    assert key(ax) == [f"model: AUC {found.estimate:.3f} ({found.low:.3f} to {found.high:.3f})"]
    other, found = ax.figure.add_subplot(), interval(sections, "ap", 20)
    mean_precision_recall(other, sections, found, label="model", each=False)
    assert line_of(other, "model")[1].mean() == pytest.approx(found.estimate, abs=0.006)
    share = np.mean([section.labels.mean() for section in sections])
    assert key(other)[0] == f"prevalence {share:.2f}"


RUNS = pd.DataFrame(
    {
        "epoch": [0, 1, 0, 1, 0, 1],
        "stage": ["fusion"] * 4 + ["contrastive"] * 2,
        "loss": [4.0, 2, 6, 4, 9, np.nan],
    }
)


def test_history_draws_the_mean_and_the_range_of_runs(ax):
    history(ax, RUNS, "loss", by="stage")
    fusion, contrastive = ax.lines[:2]
    assert (fusion.get_xdata().tolist(), fusion.get_ydata().tolist()) == ([0, 1], [5, 3])
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (2, 6)
    assert contrastive.get_ydata().tolist() == [9]  # what was not logged is not drawn as 0
    assert key(ax) == ["fusion", "contrastive"]
    with pytest.raises(ValueError, match="no value"):
        history(ax, RUNS.assign(loss=np.nan), "loss")


def test_an_order_keeps_colours_over_panels(ax):
    history(ax, RUNS[RUNS["stage"] == "contrastive"], "loss", by="stage", order=["fusion", "contrastive"])
    assert mpl.colors.to_hex(ax.lines[0].get_color()).upper() == style.PALETTE[1]
    assert key(ax) == ["contrastive"]


def test_calibration_dots_stand_at_predicted_and_observed_with_area_by_size(ax):
    p = np.r_[np.full(30, 0.15), np.full(10, 0.85)]
    labels = np.r_[np.ones(6), np.zeros(24), np.ones(9), 0]
    calibration_plot(ax, calibration_bins(labels, p), label="SpaCRD", outcome="metastasis")
    (dots,) = ax.collections
    np.testing.assert_allclose(dots.get_offsets(), [[0.15, 0.2], [0.85, 0.9]])
    small, large = sorted(dots.get_sizes() - 12)
    assert large / small == pytest.approx(3)
    assert ax.get_xlabel() == "predicted probability of metastasis"
    calibration_plot(ax, calibration_bins(labels, p), label="ERBB2")
    assert key(ax) == ["SpaCRD", "ERBB2"]
    assert len(ax.lines) == 3  # one diagonal


GROUPS = pd.DataFrame({"predicted": [0.1, 0.2, 0.3], "observed": [0.08, 0.25, 0.3]})
GROUPS = GROUPS.assign(observed_low=[0.02, 0.15, 0.2], observed_high=[0.16, 0.37, 0.4])


def test_at_a_horizon_dots_have_bands_and_both_axes_one_scale(ax):
    calibration_at_horizon(ax, GROUPS, 36, "Cox")
    np.testing.assert_allclose(np.transpose(line_of(ax, "Cox")), GROUPS[["predicted", "observed"]])
    (bands,) = ax.collections
    ends = [[x, low, high] for (x, low), (_, high) in bands.get_segments()]
    np.testing.assert_allclose(ends, GROUPS[["predicted", "observed_low", "observed_high"]])
    assert ax.get_xlim() == ax.get_ylim() == (0, pytest.approx(0.424))
    assert ax.get_ylabel() == "observed death by 36 months"
    # a second model widens the axes and never narrows them
    calibration_at_horizon(ax, GROUPS * 2, 36, "age")
    calibration_at_horizon(ax, GROUPS / 2, 36, "sex")
    assert ax.get_xlim()[1] == pytest.approx(0.848)
    assert key(ax) == ["Cox", "age", "sex"]


def test_groups_not_followed_to_the_horizon_are_counted(ax, words):
    short = GROUPS.copy()
    short.loc[1, ["observed", "observed_low", "observed_high"]] = np.nan
    calibration_at_horizon(ax, short, 36, "Cox")
    assert np.isnan(line_of(ax, "Cox")[1]).tolist() == [False, True, False]  # a gap, no line across it
    assert len(ax.collections[0].get_segments()) == 2
    assert "Cox: 1 of 3 groups not followed so long" in words(ax)
    with pytest.raises(ValueError, match="no group is followed to 36 months"):
        calibration_at_horizon(ax, short.iloc[[1]], 36)


def benefit(share=0.3, gains=(0.25, 0.2, 0.15, 0.0, 0.0), called=(9, 8, 5, 0, 0)):
    threshold = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    treat_all = share - (1 - share) * threshold / (1 - threshold)
    table = {"threshold": threshold, "called": called, "net_benefit": gains, "treat_all": treat_all}
    return pd.DataFrame(table)


def test_a_decision_curve_stands_between_all_and_none_and_ends_where_nobody_is_called(ax):
    decision_curve(ax, benefit().iloc[::-1], "Cox")
    assert key(ax) == ["treat all", "treat none", "Cox"]
    np.testing.assert_allclose(line_of(ax, "treat all")[1], benefit()["treat_all"])
    assert set(line_of(ax, "treat none")[1]) == {0}
    assert line_of(ax, "Cox")[0].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert ax.get_xlim() == (0.1, 0.4)
    low, high = ax.get_ylim()
    assert line_of(ax, "treat all")[1].min() < low < 0  # what is far below nothing is cut off
    assert high > 0.25
    decision_curve(ax, benefit(gains=(0.25, np.nan, -0.05, -0.01, 0), called=(9, 8, 5, 2, 1)), "worse")
    assert -0.1 < ax.get_ylim()[0] < -0.05
    assert ax.get_xlim() == (0.1, 0.5)
    assert np.isnan(line_of(ax, "worse")[1]).tolist() == [False, True, False, False, False]


def test_decision_curves_of_other_patients_do_not_share_axes(ax):
    decision_curve(ax, benefit(), "Cox")
    decision_curve(ax, benefit().iloc[1:4], "age")
    with pytest.raises(ValueError, match="not the same patients"):
        decision_curve(ax, benefit(share=0.31), "others")


def test_shift_bars_are_shares_of_each_group(ax):
    shift_plot(ax, {"low": [0, 0, 1, 6], "high": [5, 6]})
    widths = np.array([bar.get_width() for bar in ax.patches]).reshape(2, 7)
    np.testing.assert_allclose(widths, [[0.5, 0.25, 0, 0, 0, 0, 0.25], [0, 0, 0, 0, 0, 0.5, 0.5]])
    lefts = np.array([bar.get_x() for bar in ax.patches]).reshape(2, 7)
    np.testing.assert_allclose(lefts[:, 1:], widths.cumsum(axis=1)[:, :-1])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["low\nn = 4", "high\nn = 2"]
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["2", "1", "1", "1", "1"]
    assert ax.yaxis_inverted(), "the first group is on top"


@pytest.mark.parametrize("cut", [1, 3])
def test_line_stands_before_the_first_unfavourable_grade(ax, cut):
    shift_plot(ax, {"all": [0, 1, 2, 3, 4]}, unfavourable_from=cut)
    assert ax.lines[0].get_xdata()[0] == pytest.approx(cut / 5)


@pytest.mark.parametrize("grades", [[], [7], [1.5], [np.nan]])
def test_no_grade_is_drawn_that_is_none(ax, grades):
    with pytest.raises(ValueError, match="group 'x' has"):
        shift_plot(ax, {"x": grades})
