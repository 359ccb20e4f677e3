import numpy as np
import pandas as pd
import pytest

from lib.figures import style
from lib.figures.survival import by_epoch, by_fold

HISTORY = pd.DataFrame(
    {
        "fold": [0, 0, 0, 1, 1],
        "epoch": [0, 1, 2, 0, 1],
        "c_index": [0.5, 0.6, 0.7, 0.6, 0.65],
    }
)
FOLDS = pd.DataFrame(
    {
        "model": ["age"] * 3 + ["Cox"] * 3,
        "fold": [2, 0, 1] * 2,
        "c_index": [0.7, 0.5, 0.6, 0.7, np.nan, 0.6],
    }
)
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


def test_one_fold_has_no_mean(ax):
    by_epoch(ax, HISTORY[HISTORY["fold"] == 0])
    assert "mean" not in lines(ax)


def test_the_epoch_kept_is_a_ring_on_each_fold_or_one_line(ax, words):
    by_epoch(ax, HISTORY, chosen={0: 2, 1: 0})
    (first, second) = (line for line in ax.lines if line.get_label() == "_chosen")
    assert (*first.get_xdata(), *first.get_ydata()) == (2, 0.7)
    assert (*second.get_xdata(), *second.get_ydata()) == (0, 0.6)
    assert first.get_markeredgecolor() == lines(ax)["fold 0"].get_color() == style.PALETTE[0]
    assert "epoch kept" in words(ax)
    other = ax.figure.add_subplot()
    by_epoch(other, HISTORY, chosen=1)
    assert set(lines(other)["epoch kept"].get_xdata()) == {1}


@pytest.mark.parametrize("height", [2, 5])
def test_the_key_stays_clear_of_the_axis_in_panels_of_any_height(ax, height):
    ax.figure.set_size_inches(3.2, height)
    by_epoch(ax, HISTORY, chosen=1)
    ax.figure.canvas.draw()
    key = ax.get_legend().get_window_extent()
    label = ax.xaxis.label.get_window_extent()
    assert key.y1 < label.y0 + 2
    assert key.y0 > -1
    assert label.y0 - key.y1 < 20


def test_histories_that_are_refused(ax):
    with pytest.raises(ValueError, match=r"lacks \['fold'\]"):
        by_epoch(ax, HISTORY.drop(columns="fold"))
    with pytest.raises(ValueError, match="twice"):
        by_epoch(ax, pd.concat([HISTORY, HISTORY]))
    with pytest.raises(ValueError, match="no value"):
        by_epoch(ax, HISTORY.assign(c_index=np.nan))
    with pytest.raises(ValueError, match="epoch 2, chosen in fold 1"):
        by_epoch(ax, HISTORY, chosen={1: 2})
    with pytest.raises(ValueError, match="epoch 3 was chosen"):
        by_epoch(ax, HISTORY, chosen=3)


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
    other = ax.figure.add_subplot()
    by_fold(other, FOLDS, INTERVALS, numbers=False)
    assert "0.660" not in words(other)


def test_tables_of_folds_that_are_refused(ax):
    with pytest.raises(ValueError, match=r"folds lacks \['model'\]"):
        by_fold(ax, FOLDS.drop(columns="model"))
    with pytest.raises(ValueError, match="a fold twice"):
        by_fold(ax, pd.concat([FOLDS, FOLDS]))
    with pytest.raises(ValueError, match=r"intervals lacks \['low'\]"):
        by_fold(ax, FOLDS, INTERVALS.drop(columns="low"))
    with pytest.raises(ValueError, match=r"intervals of \['MCAT'\]"):
        by_fold(ax, FOLDS, INTERVALS.assign(model="MCAT"))
    with pytest.raises(ValueError, match="a model twice"):
        by_fold(ax, FOLDS, pd.concat([INTERVALS, INTERVALS]))
    with pytest.raises(ValueError, match="low lies above"):
        by_fold(ax, FOLDS, INTERVALS.assign(low=0.8))
