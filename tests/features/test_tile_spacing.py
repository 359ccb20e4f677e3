import numpy as np
import pytest

from lib.crossfusion.bags import finest_side, spacing


def grid(columns, rows, side):
    return np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2) * float(side)


def test_neighbours_tell_the_side():
    assert spacing(grid(7, 5, 512)) == 512
    assert spacing(grid(2, 1, 512)) == 512
    assert spacing(grid(1, 1, 512)) == 0
    assert spacing(np.repeat(grid(1, 1, 512), 3, axis=0)) == 0


def test_rounded_corners_do_not_add_up():
    corners = np.rint(grid(300, 200, 506.5))
    assert spacing(corners) == pytest.approx(506.5, abs=0.01)


def test_contours_with_grids_of_their_own():
    parts = [(grid(6, 6, 512), (0, 0)), (grid(4, 5, 512), (5000, 77)), (grid(9, 2, 512), (77, 9001))]
    assert spacing(np.concatenate([part + np.array(origin) for part, origin in parts])) == 512


def test_holes_do_not_matter():
    rng = np.random.default_rng(0)
    corners = grid(40, 40, 512)
    assert spacing(corners[rng.random(len(corners)) < 0.3]) == 512


def test_the_finest_scale_with_two_tiles_decides():
    one = grid(1, 1, 512)
    assert finest_side({20: grid(8, 4, 512), 10: grid(4, 2, 1024), 5: grid(2, 1, 2048)}) == 512
    assert finest_side({20: one, 10: one, 5: grid(2, 1, 2048)}) == 512
    assert finest_side({20: one, 5: one}) == 0
