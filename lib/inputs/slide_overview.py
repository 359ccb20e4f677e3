"""A whole level of a slide in small, read in strips: memory does not grow with the slide."""

import cv2
import numpy as np

from lib.inputs.stored_tiles import UnreadableTile

STRIP_PX = 2**22  # pixels of a level held at a time
LEAF_PX = 256  # side at which a search for unreadable pixels ends
UNKNOWN = 128


def overview(slide, level: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A whole level brought to a smaller size by area averaging.

    Parameters
    ----------
    slide : lib.inputs.slides.Slide
    level : int
    size : (int, int)
        Width and height of the result.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB; mid-grey where unreadable.
    ndarray of bool, shape (height, width)
        True where some pixel behind it could not be decoded.

    Raises
    ------
    UnreadableTile
        Nothing of the level can be decoded.
    """
    full_width, full_height = slide.level_sizes[level]
    width, height = size
    rows = max(1, int(STRIP_PX / full_width * height / full_height))
    picture, unreadable = np.empty((height, width, 3), np.uint8), np.zeros((height, width), bool)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        top, bottom = (round(edge * full_height / height) for edge in (start, stop))
        strip, holes = _strip(slide, level, 0, top, full_width, max(1, bottom - top))
        picture[start:stop] = cv2.resize(strip, (width, stop - start), interpolation=cv2.INTER_AREA)
        if holes is not None:
            share = cv2.resize(holes.astype(np.float32), (width, stop - start), interpolation=cv2.INTER_AREA)
            unreadable[start:stop] = share > 0
    if unreadable.all():
        raise UnreadableTile(f"{slide.path.name}: nothing of level {level} can be decoded; fetch it again")
    picture[unreadable] = UNKNOWN
    return picture, unreadable


def _strip(slide, level, x, y, width, height) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels, and where they are unreadable (None: nowhere), found by halving the longer side."""
    times = slide.downsamples[level]
    try:
        return slide.read(round(x * times), round(y * times), (width, height), level), None
    except UnreadableTile:
        if max(width, height) <= LEAF_PX:
            return np.full((height, width, 3), UNKNOWN, np.uint8), np.ones((height, width), bool)
    axis = 1 if width >= height else 0
    half = max(width, height) // 2
    if axis:
        parts = [(x, y, half, height), (x + half, y, width - half, height)]
    else:
        parts = [(x, y, width, half), (x, y + half, width, height - half)]
    pixels, holes = zip(*(_strip(slide, level, *part) for part in parts), strict=True)
    holes = [
        np.zeros(some.shape[:2], bool) if hole is None else hole
        for some, hole in zip(pixels, holes, strict=True)
    ]
    return np.concatenate(pixels, axis), np.concatenate(holes, axis)
