import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.stroke.figures import SCALES, curve_check, draw_attention, draw_slice, map_row
from lib.stroke.maps import ArterialInput, Maps

SECONDS = 1.5 * np.arange(12)
SERIES = np.arange(12 * 3 * 6 * 8, dtype=np.float32).reshape(12, 3, 6, 8)
SPACING_MM = (2.0, 3.0, 5.0)


def artery(factor=2.0, venous=True):
    curve = 100 * np.exp(-(((SECONDS - 7) / 3) ** 2))
    vein = 90 * np.exp(-(((SECONDS - 10) / 4) ** 2)) if venous else None
    voxels = np.zeros((10, 3), int)
    return ArterialInput(curve * factor, curve, voxels, vein, voxels[: 7 if venous else 0], factor, ())


def drawn(ax):
    """The arrays on an Axes, hidden voxels as NaN."""
    return [np.ma.filled(image.get_array().astype(float), np.nan) for image in ax.images]


def test_a_slice_keeps_its_proportions_and_names_the_sides(axes):
    (ax,) = axes(1)
    draw_slice(ax, SERIES[0, 1], SPACING_MM)
    assert ax.get_aspect() == 1.5
    right, left = ax.texts
    assert (right.get_text(), left.get_text()) == ("R", "L")
    assert right.get_position()[0] < left.get_position()[0]  # as if seen from the patient's feet
    assert not ax.xaxis_inverted()
    assert ax.yaxis_inverted()  # row 0, the front, is up


def test_maps_stand_in_order_with_their_units_and_the_outside_empty(axes):
    values = np.full((3, 6, 8), 5.0, np.float32)
    values[:, 0] = np.nan
    values[1, 3, 3] = 700
    maps = Maps(values, values + 1, values + 2, values + 3, np.zeros((3, 6, 8), bool), 0.4, 3.0)
    panels = axes(4)
    map_row(panels, maps, 1, SPACING_MM)
    assert [ax.get_title() for ax in panels] == ["CBF", "CBV", "MTT", "Tmax"]
    bars = panels[0].figure.axes[4:]
    assert [bar.get_ylabel() for bar in bars] == ["ml/100 g/min", "ml/100 g", "s", "s"]
    for number, ax in enumerate(panels):
        np.testing.assert_array_equal(drawn(ax)[0], maps[number][1])
    assert panels[0].images[0].get_clim() == SCALES["cbf"][2]
    assert panels[0].images[0].colorbar.extend == "max"
    for name, scale in SCALES.items():  # dark is poorly perfused in all four
        ends = [np.mean(plt.get_cmap(scale[3])(end)[:3]) for end in (0.0, 1.0)]
        assert (ends[0] < ends[1]) == (name in ("cbf", "cbv"))


def test_curves_are_drawn_as_used_with_baseline_window_and_tissue(axes):
    (ax,) = axes(1)
    tissue = artery().measured / 30
    curve_check(ax, artery(), SECONDS, tissue, (0, 3), (2, 10))
    shown = {line.get_label(): line for line in ax.lines}
    np.testing.assert_array_equal(shown["artery (10 voxels, ×2.00)"].get_ydata(), artery().curve)
    np.testing.assert_array_equal(shown["artery as measured"].get_ydata(), artery().measured)
    np.testing.assert_array_equal(shown["vein (7 voxels)"].get_ydata(), artery().venous)
    spans = {patch.get_label(): (patch.get_x(), patch.get_width()) for patch in ax.patches}
    assert spans == {"baseline (3 frames)": (-0.75, 4.5), "window (8 frames)": (2.25, 12)}
    (second,) = (each for each in ax.figure.axes if each is not ax)
    np.testing.assert_array_equal(second.lines[0].get_ydata(), tissue)
    heights = [each.transData.transform((0, 0))[1] for each in (ax, second)]
    assert heights[0] == pytest.approx(heights[1]), "both axes have their zero at one height"
    (plain,) = axes(1)
    curve_check(plain, artery(factor=1.0, venous=False), SECONDS, tissue, (0, 3), (2, 10))
    assert "artery as measured" not in {line.get_label() for line in plain.lines}


def test_attention_is_the_mean_over_folds_beside_what_would_be_equal(axes):
    rows = [
        (fold, asks, name, 0.1 * (fold + number), 0.25)
        for fold in (0, 1)
        for asks, names in (("variable", ("age", "atrial_fibrillation")), ("frame", ("0", "1", "2")))
        for number, name in enumerate(names)
    ]
    left, right = axes(2)
    draw_attention([left, right], pd.DataFrame(rows, columns=["fold", "asks", "name", "attention", "equal"]))
    assert [text.get_text() for text in left.get_yticklabels()] == ["age", "atrial fibrillation"]
    assert [patch.get_width() for patch in left.patches] == pytest.approx([0.05, 0.15])
    assert [patch.get_height() for patch in right.patches] == pytest.approx([0.05, 0.15, 0.25])
