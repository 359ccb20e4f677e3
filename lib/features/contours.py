"""CLAM's tissue contours and its test which tiles lie in them (mahmoodlab/CLAM, described in its docs and issues)."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from lib.features.clam_presets import Preset
from lib.inputs.slides import Slide

MOST_PX = 1e8  # of the level CLAM is willing to segment
STRIP_PX = 2**20  # read at a time
REF_PX = 512  # side of the patches in which preset files count areas
DOWNSAMPLE = 64
TOUCHES = (
    1e-6  # pixels; a crossing at a multiple of 1 / height of an edge never comes nearer without touching
)


@dataclass(frozen=True)
class Segmentation:
    """Tissue as CLAM sees it.

    Attributes
    ----------
    contours : list of ndarray of int32, shape (m, 2)
        Outer contours in level-0 pixels.
    holes : list of list of ndarray
        Of each contour.
    level : int
        The level that was segmented.
    seen, small, not_asked : int
        Outer contours found; dropped as smaller than a_t; dropped by keep_ids and exclude_ids.
    """

    contours: list[np.ndarray]
    holes: list[list[np.ndarray]] = field(default_factory=list)
    level: int = 0
    seen: int = 0
    small: int = 0
    not_asked: int = 0

    @property
    def sentence(self) -> str:
        """What became of the contours."""
        if not self.seen:
            return "no contour found"
        lost = f", {self.not_asked} excluded by number" if self.not_asked else ""
        return f"{self.seen} contours found, {self.small} of them smaller than a_t{lost}, {len(self.contours)} kept"


def segment(slide: Slide, preset: Preset) -> Segmentation:
    """Segment a slide: saturation, median, threshold, closing, contours with holes, areas.

    Parameters
    ----------
    slide : Slide
    preset : Preset

    Returns
    -------
    Segmentation
        Empty for a blank slide, where CLAM itself ends the whole batch.

    Raises
    ------
    ValueError
        The level to segment has more than 1e8 pixels (CLAM: failed_seg), or does not exist.
    UnreadableTile
        Pixels of that level cannot be decoded.
    """
    level = seg_level(slide, preset)
    scale = np.array(slide.size) / np.array(slide.level_sizes[level])
    mask = _mask(slide, level, preset)
    found, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if tree is None or not len(found):
        return Segmentation([], level=level)
    parents = tree[0, :, 3]
    area = np.array([cv2.contourArea(contour) for contour in found])
    ref = int(REF_PX**2 / (scale[0] * scale[1]))
    contours, holes, small = [], [], 0
    outer = np.flatnonzero(parents == -1)
    for index in outer:
        children = np.flatnonzero(parents == index)
        net = area[index] - area[children].sum()
        if not net > preset.a_t * ref:
            small += 1
            continue
        # stable, because CLAM's sorted(reverse=True) leaves equal areas in their order
        largest = children[np.argsort(-area[children], kind="stable")][: preset.max_n_holes]
        contours.append(_scaled(found[index], scale))
        holes.append([_scaled(found[i], scale) for i in largest if area[i] > preset.a_h * ref])
    asked = set(preset.keep_ids or range(len(contours))) - set(preset.exclude_ids)
    kept = [i for i in range(len(contours)) if i in asked]
    return Segmentation(
        [contours[i] for i in kept],
        [holes[i] for i in kept],
        level,
        len(outer),
        small,
        len(contours) - len(kept),
    )


def seg_level(slide: Slide, preset: Preset) -> int:
    """The level CLAM segments: the preset's, or the coarsest up to 64 times."""
    level = preset.seg_level
    if level < 0:
        level = max((i for i, down in enumerate(slide.downsamples) if down <= DOWNSAMPLE), default=0)
    if level >= len(slide.level_sizes):
        raise ValueError(
            f"{slide.path.name} has {len(slide.level_sizes)} levels, the preset asks for level {level}"
        )
    width, height = slide.level_sizes[level]
    if width * height > MOST_PX:
        raise ValueError(
            f"{slide.path.name}: level {level} of {width} x {height} pixels is more than CLAM segments (1e8): "
            "use the exact mode, or make a pyramid of the slide"
        )
    return level


def _mask(slide: Slide, level: int, preset: Preset) -> np.ndarray:
    """Tissue as bytes 0 and 255; nothing else of the level's size is held."""
    width, height = slide.level_sizes[level]
    mask = np.empty((height, width), np.uint8)
    rows, beside = max(1, STRIP_PX // width), preset.mthresh // 2
    for y in range(0, height, rows):
        stop, above = min(y + rows, height), max(y - beside, 0)
        size = (width, min(stop + beside, height) - above)
        rgb = slide.read(0, round(above * slide.downsamples[level]), size, level)
        saturation = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)[..., 1]
        mask[y:stop] = cv2.medianBlur(saturation, preset.mthresh)[y - above : stop - above]
    kind = cv2.THRESH_BINARY + (cv2.THRESH_OTSU if preset.use_otsu else 0)
    cv2.threshold(mask, 0 if preset.use_otsu else preset.sthresh, 255, kind, dst=mask)
    if preset.close > 0:
        # an even side is off-centre: OpenCV's own anchor, as CLAM
        cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((preset.close, preset.close), np.uint8), dst=mask)
    return mask


def _scaled(contour: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return (contour[:, 0] * scale).astype(np.int32)  # truncated, as CLAM


def inside_contour(
    coords: np.ndarray, contour: np.ndarray, holes: list[np.ndarray], patch_px: int, rule: str
) -> np.ndarray:
    """Which tiles CLAM keeps.

    Parameters
    ----------
    coords : ndarray of int, shape (n, 2)
        Top left corners, level-0 pixels.
    contour : ndarray of int, shape (m, 2)
    holes : list of ndarray
    patch_px : int
        Side of a tile in level-0 pixels.
    rule : str
        "four_pt" (any of four points half-way between centre and corners lies in the contour or on it; CLAM's docs say
        all), "four_pt_hard" (all), "center", "basic" (the corner).

    Returns
    -------
    ndarray of bool, shape (n,)
        False as well where the centre lies within a hole.
    """
    shift = int(patch_px // 2 * 0.5) if rule.startswith("four_pt") else 0
    around = np.array(
        [(-shift, -shift), (shift, shift), (shift, -shift), (-shift, shift)][: 4 if shift else 1]
    )
    middle = coords if rule == "basic" else coords + patch_px // 2
    sides = side_of(contour, (middle + around[:, None]).reshape(-1, 2)).reshape(len(around), -1) >= 0
    kept = sides.all(0) if rule == "four_pt_hard" else sides.any(0)
    for hole in holes:
        left = np.flatnonzero(kept)
        kept[left] = side_of(hole, coords[left] + patch_px / 2) <= 0
    return kept


def side_of(contour: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether points lie in a contour: OpenCV's pointPolygonTest for many points at once.

    Where the contour crosses the horizontal line of a point is found for all lines together; crossings and points are
    then numbers on one axis, line after line, and a point is inside if an odd number of crossings of its line is
    beyond it.

    Parameters
    ----------
    contour : ndarray of int, shape (m, 2)
        Closed by itself; no edge higher than 10,000.
    points : ndarray, shape (n, 2)

    Returns
    -------
    ndarray of int8, shape (n,)
        1 inside, 0 on the contour, -1 outside.
    """
    result = np.full(len(points), -1, np.int8)
    low, high = contour.min(0), contour.max(0)
    near = np.flatnonzero(((points >= low) & (points <= high)).all(1))
    if not len(near):
        return result
    x, (lines, line) = points[near, 0] - low[0], np.unique(points[near, 1], return_inverse=True)
    first, last, y = _crossed(contour - [low[0], 0], lines)
    level = first[:, 1] == last[:, 1]
    # apart by more than the contour is wide, so that lines never mix
    apart = 2.0 ** np.ceil(np.log2(high[0] - low[0] + 4))
    places = line * apart + x

    a, b, here = first[~level], last[~level], y[~level]
    share = (lines[here] - a[:, 1]) / (b[:, 1] - a[:, 1])
    crossings = here * apart + a[:, 0] + share * (b[:, 0] - a[:, 0])
    # the upper end of an edge belongs to the next one
    counted = np.sort(crossings[lines[here] < np.maximum(a[:, 1], b[:, 1])])
    before = np.searchsorted(counted, places) - np.searchsorted(counted, line * apart - 1)
    result[near[before % 2 == 1]] = 1

    starts = np.concatenate([crossings, y[level] * apart + np.minimum(first[level, 0], last[level, 0])])
    ends = np.concatenate([crossings, y[level] * apart + np.maximum(first[level, 0], last[level, 0])])
    order = np.argsort(starts)
    index = np.searchsorted(starts[order], places + TOUCHES) - 1
    reach = np.maximum.accumulate(ends[order])
    result[near[(index >= 0) & (reach[index] >= places - TOUCHES)]] = 0
    return result


def _crossed(contour: np.ndarray, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every edge with every line it meets, its ends included: two ends (k, 2), and the number of the line (k,)."""
    last = contour.astype(np.float64)
    first = np.roll(last, 1, axis=0)
    bottom, top = np.minimum(first[:, 1], last[:, 1]), np.maximum(first[:, 1], last[:, 1])
    start, stop = np.searchsorted(lines, bottom), np.searchsorted(lines, top, side="right")
    number = stop - start
    edge = np.repeat(np.arange(len(contour)), number)
    line = np.arange(len(edge)) - np.repeat(np.cumsum(number) - number, number) + start[edge]
    return first[edge], last[edge], line
