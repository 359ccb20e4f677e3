import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Annotation

from lib.figures import style
from lib.figures.survival import by_epoch, by_fold, kaplan_meier
from lib.statistics.classification import NotComputable
from lib.statistics.survival import kaplan_meier as estimate
from lib.statistics.survival import logrank

TIME = np.array([5.0, 5, 8, 10, 12, 14, 20, 20, 31, 40])
EVENT = np.array([1, 0, 1, 0, 1, 1, 0, 1, 0, 1])
RISK = np.array(["high", "high", "low", "low", "high", "high", "low", "low", "high", "low"])
SIX = np.repeat(["a", "b", "c", "d", "e", "f"], [2, 2, 2, 2, 1, 1])


def curves(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def notes(ax):
    ax.figure.canvas.draw()
    return [text for text in ax.texts if isinstance(text, Annotation)]


def numbers(ax):
    """Rows of the table, as read off the picture from top to bottom and left to right."""
    rows = {}
    for text in notes(ax):
        if text.get_text().isdigit():
            box = text.get_window_extent()
            rows.setdefault(round(box.y0), []).append((box.x0 + box.width / 2, int(text.get_text())))
    return [sorted(rows[height]) for height in sorted(rows, reverse=True)]


def test_one_cohort_is_its_estimate_with_band_and_ticks(ax):
    kaplan_meier(ax, TIME, EVENT)
    table = estimate(TIME, EVENT)
    line = curves(ax)["10 patients, 6 events"]
    np.testing.assert_allclose(line.get_xydata(), table[["time", "survival"]])
    assert line.get_drawstyle() == "steps-post"  # survival holds until the next event
    (ticks,) = (drawn for drawn in ax.lines if drawn.get_label() == "_censored")
    assert ticks.get_xdata().tolist() == [5, 10, 20, 31]
    np.testing.assert_allclose(
        ticks.get_ydata(), np.interp([5, 10, 20, 31], table["time"], table["survival"])
    )
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(table["low"].min())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (months)", "survival probability")
    assert ax.get_legend().get_title().get_text() == ""


def test_risk_groups_keep_their_colours_and_the_key_tells_sizes_and_test(ax):
    kaplan_meier(ax, TIME, EVENT, RISK, labels={"high": "from the median on"})
    drawn = curves(ax)
    assert list(drawn) == ["low: 3/5", "from the median on: 3/5"]
    assert [line.get_color() for line in drawn.values()] == [style.OTHER, style.CANCER]
    p = logrank(TIME, EVENT, RISK).p
    assert ax.get_legend().get_title().get_text() == f"log-rank p = {p:.2g}\nevents/patients"
    other = ax.figure.add_subplot()
    kaplan_meier(other, TIME, EVENT, (RISK == "high").astype(int))
    assert [line.get_color() for line in curves(other).values()] == [style.OTHER, style.CANCER]


def test_a_clear_difference_is_below_a_thousandth_and_none_at_all_is_told(ax):
    time, group = np.r_[np.arange(1, 31), np.arange(101, 131)], np.repeat(["high", "low"], 30)
    kaplan_meier(ax, time, np.ones(60), group)
    assert "log-rank p < 0.001" in ax.get_legend().get_title().get_text()
    other = ax.figure.add_subplot()
    kaplan_meier(other, time, np.zeros(60), group)
    assert "log-rank not computable" in other.get_legend().get_title().get_text()


def test_numbers_at_risk_stand_below_their_ticks(ax):
    kaplan_meier(ax, TIME, EVENT, RISK)
    rows = numbers(ax)
    ticks = ax.get_xticks()
    assert ticks[0] == 0
    assert ticks[-1] <= 40
    assert len(ticks) >= 4
    at = ax.transData.transform(np.c_[ticks, np.zeros(ticks.size)])[:, 0]
    for row, name in zip(rows, ["low", "high"], strict=True):
        assert [count for _, count in row] == [int((TIME[name == RISK] >= tick).sum()) for tick in ticks]
        np.testing.assert_allclose([x for x, _ in row], at, atol=1)
    words = [text.get_text() for text in notes(ax)]
    assert words[0] == "number at risk"
    assert {"low", "high"} <= set(words)


@pytest.mark.parametrize(("width", "ticks"), [(2.2, 4), (3.2, 5), (6.4, 7)])
def test_a_wide_panel_has_more_columns(ax, width, ticks):
    ax.figure.set_size_inches(width, 3)
    kaplan_meier(ax, TIME * 4, EVENT)
    assert ax.get_xticks().tolist() == np.linspace(0, 144, ticks).tolist()


@pytest.mark.parametrize(("width", "groups"), [(2.2, RISK), (3.2, None), (3.2, SIX)])
def test_nothing_overlaps_in_panels_of_any_width(width, groups):
    with mpl.rc_context(style.RC):
        fig, axes = plt.subplots(2, 2, figsize=(2 * width, 2 * width + (groups is SIX)))
        for ax in axes.flat:
            many = None if groups is None else np.tile(groups, 200)
            kaplan_meier(ax, np.tile(TIME * 3, 200), np.tile(EVENT, 200), many)
            ax.set_title("CANCER")
        fig.canvas.draw()
        boxes = []
        for ax in axes.flat:
            texts = [*ax.texts, ax.xaxis.label, ax.yaxis.label, ax.title]
            texts += [*ax.get_xticklabels(), *ax.get_yticklabels()]
            boxes += [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
        page = fig.bbox
        for number, (name, box) in enumerate(boxes):
            assert page.x0 - 1 <= box.x0, name
            assert box.x1 <= page.x1 + 1, name
            assert page.y0 - 1 <= box.y0, name
            for other, another in boxes[:number]:
                assert not box.padded(-0.6).overlaps(another.padded(-0.6)), (name, other)
    plt.close("all")


def test_follow_up_of_no_length_is_drawn(ax):
    kaplan_meier(ax, [0, 0, 0], [0, 1, 0])
    assert ax.get_xlim() == (0, 1.01)
    assert [count for _, count in numbers(ax)[0]] == [3, 0]


def test_patients_without_a_group_are_not_dropped_silently(ax):
    with pytest.raises(ValueError, match="one name for each"):
        kaplan_meier(ax, TIME, EVENT, RISK[:3])
    with pytest.raises(ValueError, match="1 of 10 patients have no group"):
        kaplan_meier(ax, TIME, EVENT, pd.Series(RISK).where(np.arange(10) != 2))
    with pytest.raises(NotComputable, match="no patient"):
        kaplan_meier(ax, [], [])
    assert not ax.lines


@pytest.mark.real
def test_real_cohorts_share_a_page(mirror):
    with mpl.rc_context(style.RC):
        axes = plt.subplots(1, 2, figsize=(7, 3.6))[1]
        for ax, cancer in zip(axes, ("gbmlgg", "brca"), strict=True):
            table = pd.read_csv(mirror / "tcga" / "survival" / f"tcga_{cancer}_survival.csv")
            table = table.drop_duplicates("case_id").dropna(subset=["survival_months", "age"])
            group = np.where(table["age"] >= table["age"].median(), "high", "low")
            kaplan_meier(ax, table["survival_months"], 1 - table["censorship"], group)
            counts = [[count for _, count in row] for row in numbers(ax)]
            assert sum(row[0] for row in counts) == len(table)
            assert all(np.diff(row).max() <= 0 for row in counts)
            assert 4 <= len(counts[0]) <= 7
    plt.close("all")


HISTORY = pd.DataFrame(
    {"fold": [0, 0, 0, 1, 1], "epoch": [0, 1, 2, 0, 1], "c_index": [0.5, 0.6, 0.7, 0.6, 0.65]}
)
FOLDS = pd.DataFrame({"model": ["age"] * 3 + ["Cox"] * 3, "fold": [2, 0, 1] * 2})
FOLDS["c_index"] = [0.7, 0.5, 0.6, 0.7, np.nan, 0.6]
INTERVALS = pd.DataFrame({"model": ["Cox"], "estimate": [0.66], "low": [0.58], "high": [0.74]})


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def dots(ax, marker):
    return [np.c_[line.get_xdata(), line.get_ydata()] for line in ax.lines if line.get_marker() == marker]


def test_the_mean_ends_with_the_first_fold_that_ends(ax):
    by_epoch(ax, HISTORY)
    assert lines(ax)["fold 0"].get_ydata().tolist() == [0.5, 0.6, 0.7]
    np.testing.assert_allclose(lines(ax)["mean"].get_ydata(), [0.55, 0.625, np.nan])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "c-index")


def test_the_epoch_kept_is_a_ring_on_each_fold_or_one_line(ax, words):
    by_epoch(ax, HISTORY, chosen={0: 2, 1: 0})
    (first, second) = (line for line in ax.lines if line.get_label() == "_chosen")
    assert (*first.get_xdata(), *first.get_ydata()) == (2, 0.7)
    assert (*second.get_xdata(), *second.get_ydata()) == (0, 0.6)
    assert first.get_markeredgecolor() == lines(ax)["fold 0"].get_color() == style.PALETTE[0]
    assert "epoch kept" in words(ax)


@pytest.mark.parametrize("height", [2, 5])
def test_the_key_stays_clear_of_the_axis_in_panels_of_any_height(ax, height):
    ax.figure.set_size_inches(3.2, height)
    by_epoch(ax, HISTORY, chosen={0: 1, 1: 1})
    ax.figure.canvas.draw()
    key = ax.get_legend().get_window_extent()
    label = ax.xaxis.label.get_window_extent()
    assert key.y1 < label.y0 + 2
    assert key.y0 > -1
    assert label.y0 - key.y1 < 20


def test_histories_that_are_refused(ax):
    with pytest.raises(ValueError, match="duplicate"):
        by_epoch(ax, pd.concat([HISTORY, HISTORY]))
    with pytest.raises(ValueError, match="no value"):
        by_epoch(ax, HISTORY.assign(c_index=np.nan))
    with pytest.raises(ValueError, match="epoch 2, chosen in fold 1"):
        by_epoch(ax, HISTORY, chosen={1: 2})


def test_each_fold_is_a_dot_and_the_mean_a_diamond(ax, words):
    by_fold(ax, FOLDS)
    age, _ = dots(ax, "o")
    assert age[:, 0].tolist() == [0.5, 0.6, 0.7]  # fold 0 on top
    assert (np.diff(age[:, 1]) > 0).all()
    assert ax.yaxis_inverted()
    assert [diamond[0, 0] for diamond in dots(ax, "D")] == pytest.approx([0.6, 0.65])
    assert "age\n0.600" in words(ax)


def test_a_fold_without_a_value_is_told(ax, words):
    by_fold(ax, FOLDS)
    assert "Cox\n0.650\n2 of 3 folds" in words(ax)
    other = ax.figure.add_subplot()
    by_fold(other, FOLDS.assign(c_index=np.nan))
    assert [tick.get_text() for tick in other.get_yticklabels()] == [
        "age\nnot computable",
        "Cox\nnot computable",
    ]
    assert dots(other, "D") == []


def test_intervals_stand_in_place_of_the_plain_mean(ax, words):
    by_fold(ax, FOLDS, INTERVALS)
    assert [diamond[0, 0] for diamond in dots(ax, "D")] == pytest.approx([0.6, 0.66])
    assert any(list(line.get_xdata()) == [0.58, 0.74] for line in ax.lines)
    assert "Cox\n0.660 (0.580 to 0.740)" in words(ax)


def test_tables_of_folds_that_are_refused(ax):
    with pytest.raises(ValueError, match="a fold twice"):
        by_fold(ax, pd.concat([FOLDS, FOLDS]))
    with pytest.raises(ValueError, match="a model twice"):
        by_fold(ax, FOLDS, pd.concat([INTERVALS, INTERVALS]))
