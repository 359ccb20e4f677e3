"""The mRS shift plot."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib.figures.curves import shift_plot


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_bars_are_shares_of_each_group(ax):
    shift_plot(ax, {"low": [0, 0, 1, 6], "high": [5, 6]})
    widths = np.array([bar.get_width() for bar in ax.patches]).reshape(2, 7)
    np.testing.assert_allclose(widths, [[0.5, 0.25, 0, 0, 0, 0, 0.25], [0, 0, 0, 0, 0, 0.5, 0.5]])
    lefts = np.array([bar.get_x() for bar in ax.patches]).reshape(2, 7)
    np.testing.assert_allclose(lefts[:, 1:], widths.cumsum(axis=1)[:, :-1])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["low\nn = 4", "high\nn = 2"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first group is on top"


@pytest.mark.parametrize("cut", [1, 3])
def test_line_stands_before_the_first_unfavourable_grade(ax, cut):
    shift_plot(ax, {"all": [0, 1, 2, 3, 4]}, unfavourable_from=cut)
    assert ax.lines[0].get_xdata()[0] == pytest.approx(cut / 5)


@pytest.mark.parametrize("grades", [[], [7], [1.5], [np.nan], [-1]])
def test_no_grade_is_drawn_that_is_none(ax, grades):
    with pytest.raises(ValueError, match="group 'x' has"):
        shift_plot(ax, {"x": grades})
