import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from seaborn.utils import relative_luminance

from lib.figures import curves, style
from lib.statistics.calibration import calibration_bins
from lib.statistics.classification import auc
from lib.statistics.intervals import Interval, ScoredSection, interval
from lib.statistics.over_cohorts import average_ranks, cliques
from lib.statistics.survival import HeldOut

RANDOM = np.random.default_rng(0)
LABELS = (RANDOM.random(150) < 0.4).astype(float)
SCORES = np.round(LABELS + RANDOM.normal(size=150), 1)


def line_of(ax, word):
    (line,) = (line for line in ax.lines if word in str(line.get_label()))
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def key(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_roc_is_the_mean_over_folds_whose_auc_the_tables_have(ax):
    """Pooled, folds on other scales gave other areas, and another order of models, than the tables."""
    folds = [(LABELS[:70], SCORES[:70] + 9), (LABELS[70:], SCORES[70:])]
    mean = np.mean([auc(*fold) for fold in folds])
    assert abs(mean - auc(LABELS, np.concatenate([scores for _, scores in folds]))) > 0.01
    curves.roc(ax, folds, label="ERBB2")
    x, y = line_of(ax, "ERBB2")
    assert np.trapezoid(y, x) == pytest.approx(mean, abs=0.003)
    curves.roc(ax, [*folds, (np.ones(3), [1, 2, 3])], label="b")
    assert key(ax) == [f"ERBB2: AUC {mean:.3f}", "b: AUC not computable"]
    assert len({line.get_color() for line in ax.lines}) == len(ax.lines) == 3  # with chance
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("1 − specificity", "sensitivity")


def test_area_under_the_mean_curves_is_the_mean_metric(ax):
    sections = []
    for number in range(3):
        labels = (RANDOM.random(120) < 0.2 + 0.2 * number).astype(float)
        scores = labels * number + RANDOM.normal(size=(2, 120))
        sections.append(ScoredSection(f"P{number}", f"S{number}", labels, scores, np.arange(120) // 10))
    found = pd.Series(vars(interval(sections, "auc", 20)))
    curves.mean_roc(ax, sections, found, label="model")
    x, y = line_of(ax, "model")
    assert np.trapezoid(y, x) == pytest.approx(found.estimate, abs=0.006)
    assert len(ax.lines) == 1 + 1 + 3  # chance, the mean, each patient
    assert key(ax) == [f"model: AUC {found.estimate:.3f} ({found.low:.3f} to {found.high:.3f})"]
    curves.mean_roc(
        ax, sections, found.replace({found.low: np.nan, found.high: np.nan}), label="without an interval"
    )
    assert key(ax)[1] == f"without an interval: AUC {found.estimate:.3f}"
    other, found = ax.figure.add_subplot(), pd.Series(vars(interval(sections, "ap", 20)))
    curves.mean_precision_recall(other, sections, found, label="model", each=False)
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
    curves.history(ax, RUNS, "loss", by="stage")
    fusion, contrastive = ax.lines[:2]
    assert (fusion.get_xdata().tolist(), fusion.get_ydata().tolist()) == ([0, 1], [5, 3])
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (2, 6)
    assert contrastive.get_ydata().tolist() == [9]  # what was not logged is not drawn as 0
    assert key(ax) == ["fusion", "contrastive"]
    other = ax.figure.add_subplot()
    curves.history(
        other, RUNS[RUNS["stage"] == "contrastive"], "loss", by="stage", order=["fusion", "contrastive"]
    )
    assert mpl.colors.to_hex(other.lines[0].get_color()).upper() == style.PALETTE[1], (
        "a colour keeps its name"
    )


def test_epochs_of_every_fold_their_mean_and_the_epoch_kept_a_panel_a_model():
    frame = pd.DataFrame({"epoch": [0, 1, 2] * 4, "fold": np.repeat(list("0101"), 3), "setting": "blca"})
    frame = frame.assign(model=np.repeat(["net", "line"], 6), c_index=np.linspace(0.5, 0.9, 12))
    figure = curves.epoch_panels(frame.assign(chosen=[0, 1, 0] * 4), "c_index", "c-index")
    assert [ax.get_title() for ax in figure.axes] == ["net, Bladder", "line, Bladder"]
    for ax, (_, rows) in zip(figure.axes, frame.groupby("model", sort=False), strict=True):
        first, second, mean = (line.get_ydata() for line in ax.lines[:3])
        np.testing.assert_allclose(np.r_[first, second], rows["c_index"])
        np.testing.assert_allclose(mean, (first + second) / 2)
        np.testing.assert_allclose(ax.collections[-1].get_offsets(), [[1, first[1]], [1, second[1]]])
    plt.close(figure)


def test_calibration_dots_stand_at_predicted_and_observed_with_area_by_size(ax):
    p = np.r_[np.full(30, 0.15), np.full(10, 0.85)]
    labels = np.r_[np.ones(6), np.zeros(24), np.ones(9), 0]
    curves.calibration_plot(ax, calibration_bins(labels, p), label="SpaCRD", outcome="metastasis")
    (dots,) = ax.collections
    np.testing.assert_allclose(dots.get_offsets(), [[0.15, 0.2], [0.85, 0.9]])
    small, large = sorted(dots.get_sizes() - 12)
    assert large / small == pytest.approx(3)
    assert ax.get_xlabel() == "predicted probability of metastasis"
    curves.calibration_plot(ax, calibration_bins(labels, p), label="ERBB2")
    assert key(ax) == ["SpaCRD", "ERBB2"]
    assert len(ax.lines) == 3  # one diagonal


GROUPS = pd.DataFrame({"predicted": [0.1, 0.2, 0.3], "observed": [0.08, 0.25, 0.3]})
GROUPS = GROUPS.assign(observed_low=[0.02, 0.15, 0.2], observed_high=[0.16, 0.37, 0.4])


def test_at_a_horizon_dots_have_bands_and_both_axes_one_scale(ax):
    curves.calibration_at_horizon(ax, GROUPS, 36, "Cox")
    np.testing.assert_allclose(np.transpose(line_of(ax, "Cox")), GROUPS[["predicted", "observed"]])
    (bands,) = ax.collections
    ends = [[x, low, high] for (x, low), (_, high) in bands.get_segments()]
    np.testing.assert_allclose(ends, GROUPS[["predicted", "observed_low", "observed_high"]])
    assert ax.get_xlim() == ax.get_ylim() == (0, pytest.approx(0.424))
    assert ax.get_ylabel() == "observed death by 36 months"
    # a second model widens the axes and never narrows them
    curves.calibration_at_horizon(ax, GROUPS * 2, 36, "age")
    curves.calibration_at_horizon(ax, GROUPS / 2, 36, "sex")
    assert ax.get_xlim()[1] == pytest.approx(0.848)
    assert key(ax) == ["Cox", "Age", "sex"]


def test_groups_not_followed_to_the_horizon_are_counted(ax, words):
    short = GROUPS.copy()
    short.loc[1, ["observed", "observed_low", "observed_high"]] = np.nan
    curves.calibration_at_horizon(ax, short, 36, "Cox")
    assert np.isnan(line_of(ax, "Cox")[1]).tolist() == [False, True, False]  # a gap, no line across it
    assert len(ax.collections[0].get_segments()) == 2
    assert "Cox: 1 of 3 groups not followed so long" in words(ax)
    with pytest.raises(ValueError, match="no group is followed to 36 months"):
        curves.calibration_at_horizon(ax, short.iloc[[1]], 36)


def benefit(share=0.3, gains=(0.25, 0.2, 0.15, 0.0, 0.0), called=(9, 8, 5, 0, 0)):
    threshold = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    treat_all = share - (1 - share) * threshold / (1 - threshold)
    table = {"threshold": threshold, "called": called, "net_benefit": gains, "treat_all": treat_all}
    return pd.DataFrame(table)


def test_a_decision_curve_stands_between_all_and_none_and_ends_where_nobody_is_called(ax):
    curves.decision_curve(ax, benefit().iloc[::-1], "Cox")
    assert key(ax) == ["treat all", "treat none", "Cox"]
    np.testing.assert_allclose(line_of(ax, "treat all")[1], benefit()["treat_all"])
    assert set(line_of(ax, "treat none")[1]) == {0}
    assert line_of(ax, "Cox")[0].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert ax.get_xlim() == (0.1, 0.4)
    low, high = ax.get_ylim()
    assert line_of(ax, "treat all")[1].min() < low < 0  # what is far below nothing is cut off
    assert high > 0.25
    curves.decision_curve(ax, benefit(gains=(0.25, np.nan, -0.05, -0.01, 0), called=(9, 8, 5, 2, 1)), "worse")
    assert -0.1 < ax.get_ylim()[0] < -0.05
    assert ax.get_xlim() == (0.1, 0.5)
    assert np.isnan(line_of(ax, "worse")[1]).tolist() == [False, True, False, False, False]


def test_shift_bars_are_shares_of_each_group(ax):
    curves.shift_plot(ax, {"low": [0, 0, 1, 6], "high": [5, 6]})
    widths = np.array([bar.get_width() for bar in ax.patches]).reshape(2, 7)
    np.testing.assert_allclose(widths, [[0.5, 0.25, 0, 0, 0, 0, 0.25], [0, 0, 0, 0, 0, 0.5, 0.5]])
    lefts = np.array([bar.get_x() for bar in ax.patches]).reshape(2, 7)
    np.testing.assert_allclose(lefts[:, 1:], widths.cumsum(axis=1)[:, :-1])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["low\nn = 4", "high\nn = 2"]
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["2", "1", "1", "1", "1"]
    assert ax.yaxis_inverted(), "the first group is on top"
    other = ax.figure.add_subplot()
    curves.shift_plot(other, {"all": [0, 1, 2, 3, 4]}, unfavourable_from=1)
    assert other.lines[0].get_xdata()[0] == pytest.approx(1 / 5), "a line before the first unfavourable grade"


TABLE = pd.DataFrame({"label": ["A1", "B1", "Mean"], "estimate": [0.9, np.nan, 0.8]})
TABLE = TABLE.assign(low=[0.8, np.nan, 0.7], high=[0.95, np.nan, 0.85])


def rows(ax):
    return [tick.get_text() for tick in ax.get_yticklabels()]


def test_first_row_is_on_top_with_its_numbers_and_what_has_no_value_says_so(ax, words):
    curves.forest(ax, TABLE, 0.5)
    assert ax.yaxis_inverted()
    assert rows(ax) == ["A1", "B1", "Mean"]
    assert "0.900 (0.800 to 0.950)" in words(ax)
    assert "not computable" in words(ax)
    assert any(np.allclose(line.get_xdata(), 0.5) for line in ax.lines)
    (interval,) = (line for line in ax.lines if np.allclose(line.get_xdata(), [0.8, 0.95]))
    assert np.allclose(interval.get_ydata(), 0)
    heights = {y for line in ax.lines[1:] for y in np.atleast_1d(line.get_ydata())}
    assert heights == {0, 2}  # no mark in B1's row


def test_an_estimate_without_an_interval_stands_alone(ax, words):
    curves.forest(ax, TABLE.head(1).assign(low=np.nan, high=np.nan))
    assert "0.900" in words(ax)
    assert "nan" not in words(ax)


def test_deals_of_the_outcome_stand_below_the_studys_own_result(ax):
    nulls = [Interval(value, value - 0.1, value + 0.1, 9, 4, "") for value in np.linspace(0.4, 0.6, 50)]
    curves.null_histogram(ax, nulls, TABLE.iloc[0].rename({"label": "model"}))
    assert sum(bar.get_height() for bar in ax.patches) == 50
    (interval,) = (line for line in ax.lines if np.allclose(line.get_xdata(), [0.8, 0.95]))
    assert interval.get_ydata()[0] > max(bar.get_height() for bar in ax.patches)
    assert key(ax) == ["nothing to find", "A1"]


def test_models_share_a_row_side_by_side(ax, words):
    curves.forest(ax, pd.concat([TABLE.assign(group="SpaCRD"), TABLE.assign(group="ERBB2")]))
    ends = [line for line in ax.lines if list(line.get_xdata()) == [0.8, 0.95]]
    assert sorted(line.get_ydata()[0] for line in ends) == [-0.2, 0.2]
    assert "SpaCRD" in words(ax)


def test_a_difference_has_its_sign_what_is_pooled_a_diamond_and_a_key_leaves_the_axes_their_width(words):
    frame = TABLE.drop(1).assign(estimate=[-0.1, 0.1], low=[-0.2, 0.0], high=[0.0, 0.2], pooled=[True, False])
    widths = []  # the key of long names lies below the whole figure
    for given in (frame, frame.assign(group=["a long name of what it is held against", "and of another"])):
        figure, narrow = curves.forest_figures(given, 0, "difference", near=0.01)
        said = words(ax := figure.axes[0])
        widths.append(ax.get_position().width)
        assert "\n".join(["−0.100 (−0.200 to +0.000)", "+0.100 (+0.000 to +0.200)"]) in said
        assert [list(line.get_xdata()) for line in ax.lines if line.get_marker() == "D"] == [[-0.1]]
        assert narrow.get_figwidth() * 96 <= 400
        dots = [line for line in narrow.axes[0].lines if len(line.get_xdata()) == 1]
        names = narrow.axes[0].texts
        assert [text.get_text() for text in names] == ["A1", "Mean"], (
            "names and no numbers, above their marks"
        )
        for text, dot in zip(names, dots, strict=True):
            assert text.get_window_extent().y0 > dot.get_window_extent().y1
        plt.close("all")
    assert widths[0] == pytest.approx(widths[1], abs=0.01)


def test_folds_are_dots_below_the_estimate_and_those_without_a_value_are_told(ax, words):
    table = pd.DataFrame({"model": ["age"] * 3 + ["Cox"] * 3, "fold": [0, 1, 2] * 2})
    table["c_index"] = [0.7, 0.5, 0.6, 0.7, np.nan, 0.6]
    curves.by_fold(
        ax, table, pd.DataFrame({"model": ["Cox"], "estimate": [0.66], "low": [0.58], "high": [0.74]})
    )
    assert rows(ax) == ["Age", "Cox\n2 of 3 folds"]
    age, cox = (line.get_xdata() for line in ax.lines[-2:])
    np.testing.assert_array_equal([age, cox], table["c_index"].to_numpy().reshape(2, 3))
    assert "0.660 (0.580 to 0.740)" in words(ax)
    assert "not computable" in words(ax)


SPOTS = pd.DataFrame({"tissue": ["connective"] * 3 + ["invasive"] * 4 + [""] * 2})
SPOTS = SPOTS.assign(
    score=[0.1, 0.2, 0.3, 0.7, 0.8, 0.9, 1.0, 0.4, 0.5], label=[0] * 3 + [1] * 4 + [np.nan] * 2
)


def test_classes_fall_by_median_and_tell_their_size_in_their_colour(ax):
    curves.scores_by_class(ax, SPOTS)
    assert rows(ax) == ["invasive (n = 4)", "unlabelled (n = 2)", "connective (n = 3)"]
    medians = [line.get_xdata()[0] for line in ax.lines if line.get_linewidth() == 2]
    assert medians == pytest.approx([0.85, 0.45, 0.2])
    points = ax.collections[-1]
    np.testing.assert_allclose(points.get_offsets()[:, 0], SPOTS["score"])
    assert np.rint(points.get_offsets()[:, 1]).tolist() == [2] * 3 + [0] * 4 + [1] * 2
    colours = [mpl.colors.to_hex(colour).upper() for colour in points.get_facecolor()]
    assert colours == [style.OTHER] * 3 + [style.CANCER] * 4 + [style.UNDETERMINED] * 2


def test_a_map_of_cancers_ends_with_their_mean():
    rows = pd.DataFrame({"label": ["concat", "concat", "age"], "setting": ["blca", "luad", "blca"]})
    figure = curves.across_cancers(rows.assign(estimate=[0.6, 0.7, 0.5]), 0.5, 0.3)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.60", "0.70", "0.65", "0.50", "0.50"]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()][-1] == "mean"
    plt.close(figure)


def test_dots_stand_at_the_ranks_and_bars_join_the_cliques(tmp_path):
    random = np.random.default_rng(2)
    values = pd.DataFrame(random.normal([0.7, 0.69, 0.65, 0.6, 0.5], 0.02, (10, 5)), columns=list("edcba"))
    ranks = average_ranks(values)
    style.use()
    figure, ax = plt.subplots(figsize=(5, 2.6))
    curves.critical_difference(ax, ranks, marked=("c",))
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == ranks.ranks.tolist()
    assert [line.get_color() == style.CANCER for line in dots] == [name == "c" for name in ranks.ranks.index]
    bars = [tuple(line.get_ydata()) for line in ax.lines if line.get_linewidth() == 2.5]
    assert bars == cliques(ranks)
    assert len(bars) > 1
    figure.savefig(tmp_path / "ranks.png", dpi=120)
    plt.close(figure)


def test_every_number_of_a_map_can_be_read_on_its_cell():
    values = np.linspace(0.14, 0.86, 37)  # from the darkest blue to the darkest red
    rows = pd.DataFrame({"label": values.astype(str), "setting": "blca", "estimate": values})
    rows.loc[len(rows)] = ["age", "luad", 0.5]  # so there are cells without a number
    figure = curves.across_cancers(rows, 0.5, 0.35)
    colours = figure.axes[0].collections[0].get_facecolors().reshape(38, 3, 4)
    for text in figure.axes[0].texts:
        column, row = (int(place) for place in text.get_position())
        pair = [relative_luminance(each) + 0.05 for each in (colours[row, column], text.get_color())]
        assert max(pair) / min(pair) >= 4.5  # what the web's guidelines (WCAG 2, 1.4.3) ask of text
    plt.close(figure)


def test_rows_that_are_one_person_s_have_no_bars_in_the_calibration_and_patients_have():
    time, risk = np.tile([1.0, 2.0, 2.0, 1.0], 20), np.linspace(0.1, 0.9, 80)
    fold, alive = np.repeat(["A", "B"], 40), 1 - risk[None, :, None]
    one = HeldOut(np.arange(80), fold, time, time == 1, risk[None], alive, np.array([1.0]))
    for bars in (True, False):
        figure, ax = plt.subplots()
        died, colour = curves.calibration_panel(ax, {"clinic": one}, 1.0, bars)["clinic"]
        np.testing.assert_allclose(died, risk)
        assert ax.lines[-1].get_color() == colour
        assert np.isfinite(ax.lines[-1].get_ydata()).sum() == 5
        shown = sum(np.isfinite(path.vertices).all() for path in ax.collections[-1].get_paths())
        assert shown == 5 * bars
        plt.close(figure)
