import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Annotation

from lib.figures import style
from lib.figures.survival import FEWEST, kaplan_meier
from lib.statistics.classification import NotComputable
from lib.statistics.survival import hazard_ratio, logrank
from lib.statistics.survival import kaplan_meier as estimate

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
    kaplan_meier(ax, TIME[1:], EVENT[1:])  # never ten at risk, so drawn whole
    table = estimate(TIME[1:], EVENT[1:])
    line = curves(ax)["9 patients, 5 events"]
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


def test_a_curve_ends_where_fewer_than_ten_of_its_own_group_are_at_risk(ax):
    time, event = np.r_[TIME, TIME + 1, TIME + 2], np.tile(EVENT, 3)
    group = np.repeat(["low", "high"], [12, 18])
    kaplan_meier(ax, time, event, group)
    ends = {}
    for name in ("low", "high"):
        own = np.sort(time[group == name])
        line = next(drawn for label, drawn in curves(ax).items() if label.startswith(name))
        ends[name] = line.get_xdata()[-1]
        assert (own >= ends[name]).sum() >= FEWEST > (own > ends[name]).sum()
    assert ax.get_xlim() == (0, pytest.approx(1.01 * max(ends.values())))
    paper = ax.figure.add_subplot()
    kaplan_meier(paper, time, event, group, until=60, tail=True)
    assert paper.get_xlim() == (0, pytest.approx(60.6))
    thin = [line for line in paper.lines if line.get_label() == "_fewer"]
    low, high = (estimate(time[group == name], event[group == name]) for name in ("low", "high"))
    for line, table, end in zip(thin, (low, high), ends.values(), strict=True):
        rest = table[table["time"] >= end]
        np.testing.assert_allclose(line.get_xydata(), rest[["time", "survival"]])
        assert line.get_linewidth() < 1


def test_the_key_stands_above_the_axes_with_the_panels_title(ax):
    kaplan_meier(ax, TIME, EVENT, RISK, title="glioma")
    ax.figure.canvas.draw()
    key, inside = ax.get_legend(), ax.get_window_extent()
    assert key.get_title().get_text().splitlines()[0] == "glioma"
    assert key.get_window_extent().y0 >= inside.y1


def test_risk_groups_keep_their_colours_and_the_key_tells_sizes_and_test(ax):
    kaplan_meier(ax, TIME, EVENT, RISK, labels={"high": "from the median on"})
    drawn = curves(ax)
    assert list(drawn) == ["low: 3 events in 5", "from the median on: 3 events in 5"]
    assert [line.get_color() for line in drawn.values()] == [style.OTHER, style.CANCER]
    for trained in (False, True):
        held_out = ax.figure.add_subplot()
        kaplan_meier(held_out, TIME, EVENT, RISK, trained=trained)
        p = logrank(TIME, EVENT, RISK, trained=trained).p
        ratio, low, high = hazard_ratio(TIME, EVENT, RISK == "high", trained=trained)
        words = f"log-rank p = {p:.2g}\nhazard ratio {ratio:.2f} ({low:.2f} to {high:.2f})"
        assert held_out.get_legend().get_title().get_text() == words
    for events, words in ((np.ones(60), "log-rank p < 0.001"), (np.zeros(60), "log-rank not computable")):
        other, time = ax.figure.add_subplot(), np.r_[np.arange(1, 31), np.arange(101, 131)]
        kaplan_meier(other, time, events, np.repeat([True, False], 30))
        assert [line.get_color() for line in curves(other).values()] == [style.OTHER, style.CANCER]
        assert words in other.get_legend().get_title().get_text()


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
    kaplan_meier(ax, TIME[1:] * 4, EVENT[1:])
    assert ax.get_xticks().tolist() == np.linspace(0, 144, ticks).tolist()


@pytest.mark.parametrize(("width", "groups"), [(2.8, RISK), (3.2, None), (3.2, SIX)])
def test_nothing_overlaps_in_panels_of_any_width(width, groups):
    with mpl.rc_context(style.RC):
        fig, axes = plt.subplots(2, 2, figsize=(2 * width, 2 * width + 1 + (groups is SIX)))
        for ax in axes.flat:
            many = None if groups is None else np.tile(groups, 200)
            kaplan_meier(ax, np.tile(TIME * 3, 200), np.tile(EVENT, 200), many, title="CANCER")
        fig.canvas.draw()
        boxes = []
        for ax in axes.flat:
            texts = [*ax.texts, ax.xaxis.label, ax.yaxis.label, ax.title]
            texts += [*ax.get_legend().get_texts(), ax.get_legend().get_title()]
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
    with pytest.raises(ValueError, match="3 groups of 10 patients"):
        kaplan_meier(ax, TIME, EVENT, RISK[:3])
    with pytest.raises(ValueError, match="10 patients, 1 missing"):
        kaplan_meier(ax, TIME, EVENT, pd.Series(RISK).where(np.arange(10) != 2))
    with pytest.raises(NotComputable, match="no patient"):
        kaplan_meier(ax, [], [])
    assert not ax.lines
