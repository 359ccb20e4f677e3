from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from lib.inputs import slides as slide_overview
from lib.inputs.slides import UNKNOWN, UnreadableTile, overview


class Painted(SimpleNamespace):
    """A slide of one level that exists in memory only, with a part that cannot be decoded."""

    def __init__(self, rgb, broken=(0, 0, 0, 0)):
        size = rgb.shape[1::-1]
        super().__init__(path=Path("painted.tif"), size=size, level_sizes=(size,), downsamples=(1.0,))
        self.rgb, self.broken, self.most = rgb, broken, 0

    def read(self, x, y, size, level=0):
        self.most = max(self.most, size[0] * size[1])
        x0, y0, x1, y1 = self.broken
        if x < x1 and y < y1 and x + size[0] > x0 and y + size[1] > y0:
            raise UnreadableTile("broken")
        return self.rgb[y : y + size[1], x : x + size[0]]


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 255, (1200, 1600, 3), dtype=np.uint8)


@pytest.mark.parametrize("strip", [2**30, 1600 * 60, 1])
def test_strips_give_what_the_whole_level_gives(rgb, monkeypatch, strip):
    monkeypatch.setattr(slide_overview, "STRIP_PX", strip)
    slide = Painted(rgb)
    picture, unreadable = overview(slide, 0, (160, 120))
    np.testing.assert_array_equal(picture, cv2.resize(rgb, (160, 120), interpolation=cv2.INTER_AREA))
    assert not unreadable.any()
    assert slide.most <= max(strip, 1600 * 10)  # never less than one row of the result


def test_unreadable_pixels_are_marked_and_nothing_around_them(rgb):
    picture, unreadable = overview(Painted(rgb, broken=(410, 620, 411, 621)), 0, (160, 120))
    assert unreadable[62, 41]
    assert unreadable.sum() <= (256 / 10 + 1) ** 2  # a search ends at blocks of at most 256 pixels
    assert (picture[unreadable] == UNKNOWN).all()
    known = cv2.resize(rgb, (160, 120), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(picture[~unreadable], known[~unreadable])


def test_a_slide_of_which_nothing_can_be_read_is_refused(rgb):
    with pytest.raises(UnreadableTile, match=r"painted.tif: nothing of level 0"):
        overview(Painted(rgb, broken=(0, 0, 1600, 1200)), 0, (160, 120))
