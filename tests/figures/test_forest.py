import numpy as np
import pandas as pd
import pytest

from lib.figures.forest import forest


def table(**columns):
    frame = pd.DataFrame(
        {
            "label": ["A1", "B1", "mean"],
            "estimate": [0.9, np.nan, 0.8],
            "low": [0.8, np.nan, 0.7],
            "high": [0.95, np.nan, 0.85],
        }
    )
    return frame.assign(**columns)


def test_first_row_is_on_top_with_its_numbers(ax, words):
    forest(ax, table(), reference=0.5)
    bottom, top = ax.get_ylim()
    assert bottom > top
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["A1", "B1", "mean"]
    assert "0.90 (0.80 to 0.95)" in words(ax)
    assert any(np.allclose(line.get_xdata(), 0.5) for line in ax.lines)
    intervals = [line for line in ax.lines if np.allclose(line.get_xdata(), [0.8, 0.95])]
    assert np.allclose(intervals[0].get_ydata(), 0)


def test_what_has_no_value_says_so(ax, words):
    forest(ax, table())
    assert "not computable" in words(ax)
    heights = [y for line in ax.lines[1:] for y in np.atleast_1d(line.get_ydata())]
    assert sorted(set(heights)) == [0, 2]  # no mark in B1's row


def test_models_share_a_row_side_by_side(ax, words):
    forest(ax, pd.concat([table(group="SpaCRD"), table(group="ERBB2")]))
    ends = [line for line in ax.lines if list(line.get_xdata()) == [0.8, 0.95]]
    heights = sorted(line.get_ydata()[0] for line in ends)
    assert heights == [-0.3, 0.3]
    assert "SpaCRD" in words(ax)


def test_a_summary_is_a_diamond(ax):
    forest(ax, table(summary=[False, False, True]))
    assert [line.get_marker() for line in ax.lines if line.get_marker() in "oD"] == ["o", "D"]


def test_refusals(ax):
    with pytest.raises(ValueError, match="lacks"):
        forest(ax, table().drop(columns="low"))
    with pytest.raises(ValueError, match="low lies above high"):
        forest(ax, table(low=[0.99, np.nan, 0.7]))
