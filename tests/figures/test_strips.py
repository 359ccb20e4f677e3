import numpy as np
import pandas as pd
import pytest

from lib.figures import style
from lib.figures.forest import scores_by_class


def table():
    return pd.DataFrame(
        {
            "tissue": ["connective"] * 3 + ["invasive"] * 4 + [""] * 2,
            "score": [0.1, 0.2, 0.3, 0.7, 0.8, 0.9, 1.0, 0.4, 0.5],
            "label": [0] * 3 + [1] * 4 + [np.nan] * 2,
        }
    )


def test_classes_fall_by_median_and_tell_their_size(ax):
    scores_by_class(ax, table())
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [
        "invasive (n = 4)",
        "unlabelled (n = 2)",
        "connective (n = 3)",
    ]
    medians = [line.get_xdata()[0] for line in ax.lines if line.get_linewidth() == 2]
    assert medians == pytest.approx([0.85, 0.45, 0.2])


def test_every_point_is_drawn_in_its_classes_colour(ax):
    scores_by_class(ax, table())
    assert sum(len(points.get_offsets()) for points in ax.collections) == 9
    import matplotlib as mpl

    colours = [mpl.colors.to_hex(points.get_facecolor()[0]).upper() for points in ax.collections]
    assert colours == [style.CANCER, style.UNDETERMINED, style.OTHER]


def test_a_given_order_may_not_lose_a_class(ax):
    scores_by_class(ax, table(), order=["connective", "unlabelled", "invasive", "adipose"])
    assert ax.get_yticklabels()[0].get_text() == "connective (n = 3)"
    assert len(ax.get_yticks()) == 3
    with pytest.raises(ValueError, match=r"leaves out the tissue classes \['unlabelled'\]"):
        scores_by_class(ax, table(), order=["connective", "invasive"])


def test_nan_scores_are_refused(ax):
    with pytest.raises(ValueError, match="1 scores are NaN"):
        scores_by_class(ax, table().assign(score=[np.nan] + [0.5] * 8))
