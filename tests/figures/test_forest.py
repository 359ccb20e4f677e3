import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from lib.figures import style
from lib.figures.forest import forest, scores_by_class

TABLE = pd.DataFrame({"label": ["A1", "B1", "mean"], "estimate": [0.9, np.nan, 0.8]})
TABLE = TABLE.assign(low=[0.8, np.nan, 0.7], high=[0.95, np.nan, 0.85])


def rows(ax):
    return [tick.get_text() for tick in ax.get_yticklabels()]


def test_first_row_is_on_top_with_its_numbers_and_what_has_no_value_says_so(ax, words):
    forest(ax, TABLE.assign(summary=[False, False, True]), reference=0.5)
    assert ax.yaxis_inverted()
    assert rows(ax) == ["A1", "B1", "mean"]
    assert "0.90 (0.80 to 0.95)" in words(ax)
    assert "not computable" in words(ax)
    assert any(np.allclose(line.get_xdata(), 0.5) for line in ax.lines)
    (interval,) = (line for line in ax.lines if np.allclose(line.get_xdata(), [0.8, 0.95]))
    assert np.allclose(interval.get_ydata(), 0)
    heights = {y for line in ax.lines[1:] for y in np.atleast_1d(line.get_ydata())}
    assert heights == {0, 2}  # no mark in B1's row
    assert [line.get_marker() for line in ax.lines if line.get_marker() in "oD"] == ["o", "D"]


def test_models_share_a_row_side_by_side(ax, words):
    forest(ax, pd.concat([TABLE.assign(group="SpaCRD"), TABLE.assign(group="ERBB2")]))
    ends = [line for line in ax.lines if list(line.get_xdata()) == [0.8, 0.95]]
    assert sorted(line.get_ydata()[0] for line in ends) == [-0.3, 0.3]
    assert "SpaCRD" in words(ax)


def test_an_interval_upside_down_is_refused(ax):
    with pytest.raises(ValueError, match="low lies above high"):
        forest(ax, TABLE.assign(low=[0.99, np.nan, 0.7]))


SPOTS = pd.DataFrame({"tissue": ["connective"] * 3 + ["invasive"] * 4 + [""] * 2})
SPOTS = SPOTS.assign(
    score=[0.1, 0.2, 0.3, 0.7, 0.8, 0.9, 1.0, 0.4, 0.5], label=[0] * 3 + [1] * 4 + [np.nan] * 2
)


def test_classes_fall_by_median_and_tell_their_size_in_their_colour(ax):
    scores_by_class(ax, SPOTS)
    assert rows(ax) == ["invasive (n = 4)", "unlabelled (n = 2)", "connective (n = 3)"]
    medians = [line.get_xdata()[0] for line in ax.lines if line.get_linewidth() == 2]
    assert medians == pytest.approx([0.85, 0.45, 0.2])
    points = [drawn for drawn in ax.collections if len(drawn.get_offsets())]
    assert [len(drawn.get_offsets()) for drawn in points] == [4, 2, 3]
    colours = [mpl.colors.to_hex(drawn.get_facecolor()[0]).upper() for drawn in points]
    assert colours == [style.CANCER, style.UNDETERMINED, style.OTHER]


def test_the_same_scores_give_the_same_points_and_leave_numpys_generator_alone(ax):
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    other = ax.figure.add_subplot()
    np.random.seed(5)  # noqa: NPY002
    scores_by_class(ax, SPOTS)
    assert np.random.random() == expected  # noqa: NPY002
    scores_by_class(other, SPOTS)
    for one, again in zip(ax.collections, other.collections, strict=True):
        np.testing.assert_array_equal(one.get_offsets(), again.get_offsets())


def test_nan_scores_are_refused(ax):
    with pytest.raises(ValueError, match="1 scores are NaN"):
        scores_by_class(ax, SPOTS.assign(score=[np.nan] + [0.5] * 8))
