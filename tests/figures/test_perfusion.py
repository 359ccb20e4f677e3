import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lib.figures import style
from lib.stroke.bolus import ArterialInput
from lib.stroke.figures import (
    CORE,
    HYPOPERFUSED,
    SCALES,
    curve_check,
    draw_slice,
    frame_montage,
    lesion_overlay,
    map_row,
)
from lib.stroke.maps import Lesions, Maps

SECONDS = 1.5 * np.arange(12)
SERIES = np.arange(12 * 3 * 6 * 8, dtype=np.float32).reshape(12, 3, 6, 8)
SPACING_MM = (2.0, 3.0, 5.0)


@pytest.fixture
def axes():
    """Function: so many Axes of a fresh figure in the book's look."""
    with plt.rc_context(style.RC):
        yield lambda number: plt.subplots(1, number)[1]
    plt.close("all")


def found(factor=2.0, venous=True, remarks=()):
    curve = 100 * np.exp(-(((SECONDS - 7) / 3) ** 2))
    vein = 90 * np.exp(-(((SECONDS - 10) / 4) ** 2)) if venous else None
    voxels = np.zeros((10, 3), int)
    return ArterialInput(curve * factor, curve, voxels, vein, voxels[: 7 if venous else 0], factor, remarks)


def drawn(ax):
    """The arrays on an Axes, hidden voxels as NaN."""
    return [np.ma.filled(image.get_array().astype(float), np.nan) for image in ax.images]


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def test_a_slice_keeps_its_proportions_and_names_the_sides(ax):
    draw_slice(ax, SERIES[0, 1], SPACING_MM)
    assert ax.get_aspect() == 1.5
    right, left = ax.texts
    assert (right.get_text(), left.get_text()) == ("R", "L")
    assert right.get_position()[0] < left.get_position()[0]  # as if seen from the patient's feet
    assert not ax.xaxis_inverted()
    assert ax.yaxis_inverted()  # row 0, the front, is up


def test_montage_shows_one_slice_at_the_times_it_says(axes):
    panels = frame_montage(axes(4), SERIES, SECONDS, 1, SPACING_MM, limits=(0, 500))
    for ax, frame in zip(panels, (0, 4, 7, 11), strict=True):
        np.testing.assert_array_equal(drawn(ax)[0], SERIES[frame, 1])
        assert ax.get_title() == f"{SECONDS[frame]:.0f} s"
        assert ax.images[0].get_clim() == (0, 500)
    assert panels[0].figure.axes[-1].get_ylabel() == "HU"


def test_montage_of_chosen_frames_and_of_too_few(axes):
    panels = frame_montage(axes(2), SERIES, SECONDS, 0, frames=[3, 5])
    np.testing.assert_array_equal(drawn(panels[1])[0], SERIES[5, 0])
    with pytest.raises(ValueError, match="3 frames for 2 panels"):
        frame_montage(axes(2), SERIES, SECONDS, 0, frames=[3, 5, 6])


def test_maps_stand_in_order_with_their_units_and_the_outside_empty(axes):
    values = np.full((3, 6, 8), 5.0, np.float32)
    values[:, 0] = np.nan
    values[1, 3, 3] = 700
    maps = Maps(values, values + 1, values + 2, values + 3, np.zeros((3, 6, 8), bool), 0.4, 3.0)
    panels = map_row(axes(4), maps, 1, SPACING_MM, limits={"tmax": (0, 20)})
    assert [ax.get_title() for ax in panels] == ["CBF", "CBV", "MTT", "Tmax"]
    bars = panels[0].figure.axes[4:]
    assert [bar.get_ylabel() for bar in bars] == ["ml/100 g/min", "ml/100 g", "s", "s"]
    for number, ax in enumerate(panels):
        np.testing.assert_array_equal(drawn(ax)[0], maps[number][1])
        assert np.isnan(drawn(ax)[0][0]).all()
    assert panels[3].images[0].get_clim() == (0, 20)
    assert panels[0].images[0].get_clim() == SCALES["cbf"].limits
    assert panels[0].images[0].colorbar.extend == "max"


def test_dark_is_poorly_perfused_in_all_four_maps():
    for name, scale in SCALES.items():
        ends = [np.mean(plt.get_cmap(scale.colours)(end)[:3]) for end in (0.0, 1.0)]
        assert (ends[0] < ends[1]) == (name in ("cbf", "cbv"))


def test_curves_are_drawn_as_used_with_baseline_and_window(ax, words):
    curve_check(ax, found(), SECONDS, baseline=(0, 3), window=(2, 10))
    shown = lines(ax)
    np.testing.assert_array_equal(shown["artery (10 voxels, ×2.00)"].get_ydata(), found().curve)
    np.testing.assert_array_equal(shown["artery as measured"].get_ydata(), found().measured)
    np.testing.assert_array_equal(shown["vein (7 voxels)"].get_ydata(), found().venous)
    spans = {patch.get_label(): patch for patch in ax.patches}
    assert spans["baseline (3 frames)"].get_x() == -0.75
    assert spans["baseline (3 frames)"].get_width() == 3 * 1.5
    assert spans["window (8 frames)"].get_x() == 2 * 1.5 - 0.75
    assert ax.get_xlabel() == "time (s)"
    assert "(HU)" in ax.get_ylabel()
    assert "window (8 frames)" in words(ax)


def test_an_uncorrected_artery_is_drawn_once_and_remarks_are_written(ax):
    curve_check(ax, found(factor=1.0, venous=False, remarks=("no vein was found", "cut off")), SECONDS)
    assert [name for name in lines(ax) if not name.startswith("_")] == ["artery (10 voxels)"]
    assert ax.get_title(loc="left") == "no vein was found\ncut off"


def test_tissue_has_an_axis_of_its_own_whose_zero_is_the_vessels_zero(ax):
    tissue = found().measured / 30
    curve_check(ax, found(), SECONDS, tissue=tissue)
    (second,) = (each for each in ax.figure.axes if each is not ax)
    np.testing.assert_array_equal(second.lines[0].get_ydata(), tissue)
    heights = [each.transData.transform((0, 0))[1] for each in (ax, second)]
    assert heights[0] == pytest.approx(heights[1])
    assert "tissue" in " ".join(text.get_text() for text in ax.get_legend().get_texts())


def test_lesions_lie_over_the_slice_in_their_colours_with_volumes(ax, words):
    core, late = np.zeros((3, 6, 8), bool), np.zeros((3, 6, 8), bool)
    late[1, 1:4, 2:6], core[1, 2, 3:5] = True, True
    lesions = Lesions(core, late, 12.3, 80.4, 68.1, 6.5, "right", 20.0, 0.0)
    lesion_overlay(ax, SERIES[0], lesions, 1, SPACING_MM)
    under, around, inside = drawn(ax)
    np.testing.assert_array_equal(under, SERIES[0, 1])
    np.testing.assert_array_equal(np.isfinite(around), (late & ~core)[1])
    np.testing.assert_array_equal(np.isfinite(inside), core[1])
    for image, colour in zip(ax.images[1:], (HYPOPERFUSED, CORE), strict=True):
        assert image.get_cmap()(0.5)[:3] == pytest.approx(to_rgb(colour))
    assert "core, 12 ml" in words(ax)
    assert "hypoperfused, 80 ml with core" in words(ax)


def test_a_slice_without_lesion_is_left_as_it_is(ax):
    nothing = np.zeros((3, 6, 8), bool)
    lesion_overlay(ax, SERIES[0], Lesions(nothing, nothing, 0, 0, 0, np.nan, "both", 20, 0), 0, legend=False)
    assert ax.get_legend() is None
    assert all(np.isnan(over).all() for over in drawn(ax)[1:])
