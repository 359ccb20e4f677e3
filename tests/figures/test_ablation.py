from itertools import combinations, pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.gcmlm.figures import ablation_bars


def table(*modalities: str, group: str | None = None, step: float = 0.05) -> pd.DataFrame:
    subsets = [each for size in range(1, len(modalities) + 1) for each in combinations(modalities, size)]
    estimate = [0.55 + step * number for number in range(len(subsets))]
    rows = pd.DataFrame({"setting": ["+".join(each) for each in subsets], "estimate": estimate})
    rows = rows.assign(low=rows["estimate"] - 0.04, high=rows["estimate"] + 0.03)
    return rows if group is None else rows.assign(group=group)


def matrix(ax) -> list[tuple[float, str]]:
    """Place of each subset's joined dots, and the modalities it is labelled with."""
    found = [line for line in ax.findobj(plt.Line2D) if str(line.get_label()).startswith("_")]
    found = [line for line in found if line.get_marker() == "o" and line.get_linestyle() == "-"]
    return [(float(line.get_xdata()[0]), line.get_label()[1:], len(line.get_xdata())) for line in found]


def test_bars_rise_from_chance_to_their_estimates(ax, words):
    rows = table("clinical", "ct", "slide").sample(frac=1, random_state=1)
    ablation_bars(ax, rows)
    ends = sorted((bar.get_x() + bar.get_width() / 2, bar.get_y() + bar.get_height()) for bar in ax.patches)
    assert [bar.get_y() for bar in ax.patches] == [0.5] * 7
    assert len(ends) == 7
    for (place, subset, size), (x, top) in zip(matrix(ax), ends, strict=True):
        assert place == pytest.approx(x)
        assert subset.count("+") + 1 == size
        own = rows[rows["setting"].map(lambda s, subset=subset: set(s.split("+")) == set(subset.split("+")))]
        assert top == pytest.approx(own["estimate"].iloc[0])
        interval = [line for line in ax.lines if list(line.get_xdata()) == [x, x] and line.get_lw() == 1.2]
        assert list(interval[0].get_ydata()) == own[["low", "high"]].iloc[0].tolist()
    assert "0.85" in words(ax)
    assert "chance" in words(ax)


def test_subsets_stand_by_size_then_in_the_order_asked_for(ax):
    ablation_bars(ax, table("slide", "clinical", "ct"), modalities=["clinical", "ct", "slide"])
    assert [subset for _, subset, _ in matrix(ax)] == [
        "clinical",
        "ct",
        "slide",
        "clinical+ct",
        "clinical+slide",
        "ct+slide",
        "clinical+ct+slide",
    ]


def test_two_models_stand_side_by_side_in_their_colours(ax, words):
    rows = pd.concat([table("ct", "slide", group="signature"), table("ct", "slide", group="attention")])
    ablation_bars(ax, rows)
    colours = {bar.get_facecolor() for bar in ax.patches}
    assert len(ax.patches) == 6
    assert len(colours) == 2
    keys = ax.get_legend().get_patches()
    assert {key.get_facecolor() for key in keys} == colours
    spans = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches)
    assert all(left < right for (_, left), (right, _) in pairwise(spans))


def test_below_chance_a_bar_hangs_and_no_value_is_said(ax, words):
    rows = table("ct", "slide")
    rows.loc[0, ["estimate", "low", "high"]] = [0.42, 0.3, 0.5]
    rows.loc[1, ["estimate", "low", "high"]] = np.nan
    ablation_bars(ax, rows)
    assert "not computable" in words(ax)
    assert len(ax.patches) == 2
    assert min(bar.get_height() for bar in ax.patches) == pytest.approx(-0.08)
    assert ax.get_ylim()[0] < 0.3


@pytest.mark.parametrize("count", [1, 2, 4])
def test_texts_keep_apart_and_inside_beside_other_axes(ax, count):
    figure = plt.figure(figsize=(11, 4))
    both = figure.subplots(1, 2)
    names = ["clinical", "ct", "pet", "slide"][:count]
    rows = pd.concat([table(*names, group=each, step=0.02) for each in ("internal", "external")])
    for each in both:
        ablation_bars(each, rows)
    figure.canvas.draw()
    for each in both:
        assert each.get_window_extent().width > 350
        boxes = [text.get_window_extent() for text in each.texts if text.get_text()]
        assert not any(one.overlaps(two) for n, one in enumerate(boxes) for two in boxes[n + 1 :])
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 for box in boxes)
    plt.close(figure)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (table("ct").drop(columns="low"), "lacks"),
        (table("ct")[:0], "empty"),
        (pd.concat([table("ct", "slide"), table("slide", "ct")]), "is twice"),
        (table("ct").assign(low=0.9), "does not hold"),
        (table("a", "b", "c", "d", "e", step=0.01), "5 modalities"),
    ],
)
def test_refusals(ax, rows, said):
    with pytest.raises(ValueError, match=said):
        ablation_bars(ax, rows)


def test_unknown_modality_is_named(ax):
    with pytest.raises(ValueError, match=r"names \['slide'\]"):
        ablation_bars(ax, table("ct", "slide"), modalities=["ct", "clinical"])
