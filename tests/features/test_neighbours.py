import numpy as np
import pytest

from lib.spacrd.features import nearest, smooth


def grid(width, height, pitch=1.0):
    """Positions of width x height spots: full of ties."""
    return pitch * np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 2).astype(float)


def hexagons(width, height):
    xy = grid(width, height)
    return np.column_stack([xy[:, 0] + 0.5 * (xy[:, 1] % 2), xy[:, 1] * np.sqrt(3) / 2])


def scattered(n=150):
    return np.random.default_rng(0).uniform(0, 9, (n, 2))


def distances(xy, index):
    return np.linalg.norm(xy[index] - xy[:, None], axis=-1)


def naive(xy, k):
    """The k smallest distances of each spot, by looking at all pairs; which of equals comes first is nobody's business."""
    found = []
    for here in xy:
        found.append(sorted(float(np.hypot(*(there - here))) for there in xy)[:k])
    return np.array(found)


@pytest.mark.parametrize(
    "xy", [grid(9, 8), hexagons(8, 9), scattered()], ids=["square", "hexagonal", "scattered"]
)
@pytest.mark.parametrize("k", [2, 5, 7])
def test_nearest_equals_all_pairs(xy, k):
    index = nearest(xy, k)
    assert index.shape == (len(xy), k)
    assert index.dtype == np.int64
    np.testing.assert_allclose(distances(xy, index), naive(xy, k), atol=1e-9)
    np.testing.assert_array_equal(index[:, 0], np.arange(len(xy)))
    assert all(len(set(row)) == k for row in index)


def test_one_neighbour_is_the_spot_itself():
    np.testing.assert_array_equal(nearest(grid(3, 3), 1), np.arange(9)[:, None])


@pytest.mark.parametrize("copies", [2, 12], ids=["twins", "more at one place than neighbours"])
def test_a_spot_comes_first_among_spots_at_its_own_place(copies):
    xy = np.concatenate([grid(4, 4), np.tile([[1.0, 1.0]], (copies - 1, 1))])
    index = nearest(xy, 7)
    np.testing.assert_array_equal(index[:, 0], np.arange(len(xy)))
    assert all(len(set(row)) == 7 for row in index)
    np.testing.assert_allclose(distances(xy, index), naive(xy, 7), atol=1e-9)
    np.testing.assert_array_equal(nearest(xy, 7, radius=0.5)[:, 0], np.arange(len(xy)))


def test_no_neighbour_across_a_gap_in_the_tissue():
    left = grid(3, 2)
    xy = np.concatenate([left, left + np.array([10, 0])])
    side = np.arange(12) // 6
    near = nearest(xy, 7, radius=2.2)
    assert (side[near] == side[:, None]).all()
    assert distances(xy, near).max() <= 2.2
    itself = np.arange(12)[:, None]
    far = distances(xy, nearest(xy, 7)) > 2.2
    assert far.any(axis=1).all()
    np.testing.assert_array_equal(near, np.where(far, itself, nearest(xy, 7)))
    assert (side[nearest(xy, 7)] != side[:, None]).any()


def test_radius_wide_enough_changes_nothing():
    np.testing.assert_array_equal(nearest(scattered(), 7, radius=1e9), nearest(scattered(), 7))


def test_too_few_spots_are_an_error():
    with pytest.raises(ValueError, match=r"6 spots has no 7 neighbours"):
        nearest(grid(3, 2), 7)
    assert nearest(grid(7, 1), 7).shape == (7, 7)


def test_shift_rotation_and_scale_do_not_change_the_neighbours():
    xy, angle = scattered(), 0.7
    turned = xy @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    before = nearest(xy, 7, radius=1.1)
    assert (before == np.arange(len(xy))[:, None])[:, 1:].any(), "no neighbour lies beyond the radius"
    np.testing.assert_array_equal(nearest(xy + np.array([1e4, -300]), 7, radius=1.1), before)
    np.testing.assert_array_equal(nearest(turned, 7, radius=1.1), before)
    np.testing.assert_array_equal(nearest(37 * xy, 7, radius=37 * 1.1), before)


def test_order_of_spots_does_not_change_the_neighbours():
    xy = scattered()
    order = np.random.default_rng(1).permutation(len(xy))
    np.testing.assert_array_equal(order[nearest(xy[order], 7)], nearest(xy, 7)[order])


def test_smooth_equals_a_naive_loop():
    xy = scattered(60)
    values = np.random.default_rng(2).normal(size=(60, 3)).astype(np.float32)
    index = nearest(xy, 7, radius=1.0)
    loop = np.array([sum(values[j].astype(float) for j in row) / 7 for row in index])
    found = smooth(values, index)
    np.testing.assert_allclose(found, loop, rtol=1e-4, atol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_allclose(smooth(values[:, 0], index), loop[:, 0], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(smooth(values, np.arange(60)[:, None]), values)
