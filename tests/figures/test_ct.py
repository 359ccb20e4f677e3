"""Three planes of a region: at its place, in mm, with the patient's sides where a radiologist looks for them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.contour import ContourSet

from lib.figures import style
from lib.gcmlm.figures import PLANES, three_planes
from lib.inputs.volumes import Geometry, Volume

SIZE, SPACING_MM = (20, 16, 8), (0.8, 0.9, 5.0)
GRID = Geometry(SPACING_MM, (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), SIZE)
# the largest cross-sections are z 2, y 5, x 14
INSIDE = np.zeros(SIZE[::-1], bool)
INSIDE[2, 3:8, 12:17] = True
INSIDE[1:4, 5, 14] = True


@pytest.fixture
def axes():
    with plt.rc_context(style.RC):
        yield plt.subplots(1, 3, figsize=(9, 3))[1]
    plt.close("all")


def volume() -> Volume:
    values = np.random.default_rng(0).normal(40, 20, SIZE[::-1]).astype(np.float32)
    values[INSIDE] = 1000
    return Volume(values, GRID)


def contour_of(ax) -> np.ndarray:
    (found,) = (each for each in ax.get_children() if isinstance(each, ContourSet))
    return np.concatenate([path.vertices for path in found.get_paths()])


def seen(ax) -> tuple[np.ndarray, tuple[float, ...]]:
    image = ax.images[0]
    return np.asarray(image.get_array()), tuple(image.get_extent())


def test_slices_are_those_of_the_largest_cross_sections(axes):
    scan = volume()
    three_planes(axes, scan, INSIDE)
    for ax, expected in zip(axes, (scan.values[2], scan.values[:, 5], scan.values[:, :, 14]), strict=True):
        np.testing.assert_allclose(seen(ax)[0], np.clip((expected + 160) / 400, 0, 1), atol=1e-6)
    assert [ax.get_title() for ax in axes] == [
        "axial, z 3 of 8",
        "coronal, y 6 of 16",
        "sagittal, x 15 of 20",
    ]


def test_pictures_are_in_millimetres_and_thick_slices_are_not_squashed(axes):
    three_planes(axes, volume(), INSIDE)
    x, y, z = (n * mm for n, mm in zip(SIZE, SPACING_MM, strict=True))
    for ax, ends in zip(axes, ((0, x, y, 0), (0, x, 0, z), (0, y, 0, z)), strict=True):
        assert seen(ax)[1] == pytest.approx(ends)
        assert ax.get_aspect() == 1  # a millimetre is as long across as up
        assert (ax.get_xlabel().split("\n")[0], ax.get_ylabel()) == ("mm", "mm")
    axes[0].figure.canvas.draw()
    box = axes[1].get_window_extent()
    assert box.height / box.width == pytest.approx(z / x, rel=0.01)


def test_contour_follows_the_edges_of_the_voxels(axes):
    three_planes(axes, volume(), INSIDE)
    for ax, (low, high) in zip(
        axes,
        (
            ((12 * 0.8, 3 * 0.9), (17 * 0.8, 8 * 0.9)),
            ((12 * 0.8, 1 * 5.0), (17 * 0.8, 4 * 5.0)),
            ((3 * 0.9, 1 * 5.0), (8 * 0.9, 4 * 5.0)),
        ),
        strict=True,
    ):
        line = contour_of(ax)
        np.testing.assert_allclose(line.min(0), low, atol=0.35)  # a sixteenth of a voxel, 5 mm at most
        np.testing.assert_allclose(line.max(0), high, atol=0.35)


def test_sides_are_where_a_radiologist_looks_for_them(axes):
    """White where the contour is: in the picture, not only in the array."""
    three_planes(axes, volume(), INSIDE)
    expected = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
    for ax, (name, (_, _, sides)) in zip(axes, PLANES.items(), strict=True):
        letters = {text.get_text(): text.get_position() for text in ax.texts}
        left, right, top, bottom = expected[name]
        assert sides == expected[name]
        assert letters[left][0] < 0.1 < 0.9 < letters[right][0]
        assert letters[bottom][1] < 0.1 < 0.9 < letters[top][1]
        assert not ax.xaxis_inverted()  # right, or front, at the left: where x, or y, begins
        assert ax.yaxis_inverted() == (name == "axial")  # front up; head up
        array, ends = seen(ax)
        columns = np.nonzero(array == 1)[1]
        centre = (columns.mean() + 0.5) / array.shape[1] * ends[1]
        assert abs(centre - contour_of(ax)[:, 0].mean()) < 1.5


def test_window_is_stated(axes, words):
    three_planes(axes, volume(), INSIDE, level=50, width=350)
    assert "window -125 to 225 HU" in words(axes[1])


def test_margin_limits_the_view_to_the_region(axes):
    three_planes(axes, volume(), INSIDE, margin_mm=2)
    assert axes[0].get_xlim() == pytest.approx((12 * 0.8 - 2, 17 * 0.8 + 2))
    assert axes[0].get_ylim() == pytest.approx((8 * 0.9 + 2, 3 * 0.9 - 2))
    assert axes[1].get_ylim() == pytest.approx((5 - 2, 20 + 2))
    three_planes(axes, volume(), INSIDE, margin_mm=8)
    assert axes[1].get_xlim() == pytest.approx((12 * 0.8 - 8, 16))  # no further than the volume
    assert axes[1].get_ylim() == pytest.approx((0, 20 + 8))


def test_without_a_mask_and_with_one_voxel(axes):
    three_planes(axes, volume())
    assert axes[0].get_title() == "axial, z 5 of 8"
    one = np.zeros(SIZE[::-1], bool)
    one[7, 0, 19] = True
    plt.close("all")
    axes = plt.subplots(1, 3)[1]
    three_planes(axes, volume(), one, margin_mm=5)
    assert [ax.get_title() for ax in axes] == [
        "axial, z 8 of 8",
        "coronal, y 1 of 16",
        "sagittal, x 20 of 20",
    ]


def test_what_cannot_be_drawn(axes):
    with pytest.raises(ValueError, match="the mask is empty"):
        three_planes(axes, volume(), INSIDE & False)
    with pytest.raises(ValueError, match=r"the mask has \(2, 2, 2\) voxels"):
        three_planes(axes, volume(), np.ones((2, 2, 2), bool))
    with pytest.raises(ValueError, match="on three axes, 2 were given"):
        three_planes(axes[:2], volume(), INSIDE)
    turned = volume()._replace(geometry=GRID._replace(direction=(-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)))
    with pytest.raises(ValueError, match="whose axes lie LPS, it has RPS"):
        three_planes(axes, turned, INSIDE)
