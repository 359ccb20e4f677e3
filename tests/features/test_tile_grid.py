import numpy as np
import pytest

from lib.features.tiles import TileGrid, Tiles, um_per_px_at


def grid(cell_px=2052.104208416834):
    coords = np.array([[0, 0], [513, 513]])
    tiles = Tiles(coords, coords // 513, np.zeros(2, np.int64), np.ones(2, np.float32))
    empty = Tiles(coords[:0], coords[:0], np.zeros(0, np.int64), np.zeros(0, np.float32))
    return TileGrid("a", "ok", "exact", 256, cell_px, 0.2495, (9000, 9000), {5: empty, 20: tiles})


def test_scales_are_named_by_magnification():
    assert [um_per_px_at(scale) for scale in (40, 20, 10, 5)] == [0.25, 0.5, 1.0, 2.0]
    assert grid().scales == (20, 5)
    assert grid().side_px(20) == pytest.approx(128 / 0.2495)


def test_tiles_of_all_scales_share_edges_and_rounding_does_not_add_up():
    made = grid()
    fine, middle, coarse = (made.edges(scale, np.arange(401)) for scale in (20, 10, 5))
    np.testing.assert_array_equal(fine[::2], middle[:201])
    np.testing.assert_array_equal(fine[::4], coarse[:101])
    assert np.abs(fine - np.arange(401) * made.side_px(20)).max() <= 0.5


def test_centres_and_failed_share():
    made = grid()
    np.testing.assert_allclose(made.centres(20), [[256.513, 256.513], [769.513, 769.513]], atol=1e-3)
    assert made.centres(20).dtype == np.float32
    made.failed[20].append(1)
    assert made.failed_share(20) == 0.5
    assert np.isnan(made.failed_share(5))
    assert grid().failed == {20: [], 5: []}  # not shared between grids
