"""Where tissue lies on a slide: by its colour on a mask of known µm per pixel, or by CLAM's contours.

Ink of pens is not tissue. The second half follows mahmoodlab/CLAM step by step, so that coordinates are its very own.
"""

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import pandas as pd
import shapely
from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass as checked_dataclass

from lib.inputs.slides import Slide, overview

MASK_UM = 8.0
LEAST_SATURATION = 0.08
LEAST_MM2 = 0.005
"""Smaller specks are dust; half of a 128 µm tile is 0.008 mm²."""

INK_REACH_UM = 24.0  # how far the faint rim of an ink line goes


@dataclass(frozen=True)
class Tissue:
    """Mask of a slide's tissue.

    Three arrays of bool (height, width). The mask is True on tissue, and where the slide could not be read: a tile there
    must be tried, to be counted as failed. Pen marks, `ink`, are left out of it.
    """

    mask: np.ndarray
    ink: np.ndarray
    unreadable: np.ndarray
    px: tuple[float, float]  # level-0 pixels per mask pixel, in x and y

    def share(self, edges_x: np.ndarray, edges_y: np.ndarray) -> np.ndarray:
        """Share of each cell of a grid that is tissue, 0 to 1, exact to fractions of a mask pixel: float64 (rows, columns).

        Edges are level-0 pixels, rising, (columns + 1,) and (rows + 1,). What lies outside the slide is no tissue.
        """
        edges_x, edges_y = np.asarray(edges_x, float) / self.px[0], np.asarray(edges_y, float) / self.px[1]
        summed = cv2.integral(self.mask.astype(np.uint8))
        summed = _at_fraction(_at_fraction(summed, edges_y).T, edges_x).T
        area = np.diff(edges_y)[:, None] * np.diff(edges_x)
        return np.clip(np.diff(np.diff(summed, axis=0), axis=1) / area, 0, 1)

    def outlines(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Outlines of the tissue, and of the holes in it: lists of float64 (m, 2), level-0 pixels, for drawing."""
        found, tree = cv2.findContours(self.mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        lines = ([], [])
        for i, contour in enumerate(found):
            lines[int(tree[0, i, 3] >= 0)].append((contour[:, 0] + 0.5) * self.px)  # a hole has a parent
        return lines


def find_tissue(slide: Slide) -> Tissue:
    """Find tissue by its colour, on a mask of 8 µm per pixel; level 0 is taken as it is where it is coarser.

    Tissue is what has an HSV saturation above 0.08 after a median filter, less ink and less specks under 0.005 mm².
    No more of the slide is in memory at a time than a strip of it.

    Raises
    ------
    UnreadableTile
        Nothing of the slide can be decoded.
    """
    times = max(1.0, MASK_UM / slide.um_per_px)
    size = tuple(max(1, round(side / times)) for side in slide.size)
    level = max((i for i, down in enumerate(slide.downsamples) if down <= 1.02 * times), default=0)
    rgb, unreadable = overview(slide, level, size)
    px = tuple(full / small for full, small in zip(slide.size, size, strict=True))
    um = (px[0] * px[1]) ** 0.5 * slide.um_per_px
    smooth = cv2.medianBlur(rgb, 3)
    del rgb  # large where the slide is
    hsv = cv2.cvtColor(smooth, cv2.COLOR_RGB2HSV, dst=smooth)
    ink = _ink(hsv, um) & ~unreadable
    stained = (hsv[..., 1] > 255 * LEAST_SATURATION) & ~ink & ~unreadable
    return Tissue(_without_specks(stained, LEAST_MM2 * 1e6 / um**2) | unreadable, ink, unreadable, px)


def _ink(hsv: np.ndarray, um_per_px: float) -> np.ndarray:
    """Pen marks: green to blue, pure red, and black where tissue would have colour.

    Haematoxylin and eosin lie between violet and pink (OpenCV hue 125 to 180); these rules ask for hues outside it, for
    a red that eosin does not reach, or for dark grey. Faint rims within 24 µm of sure ink belong to it.
    """
    hue, saturation, value = (hsv[..., i] for i in range(3))
    cold = (hue >= 35) & (hue <= 119) & (saturation > 70)
    red = ((hue <= 6) | (hue >= 174)) & (saturation > 185) & (value > 120)
    black = (value < 85) & (saturation < 70)
    sure = _without_specks(cold | red | black, 0.002 * 1e6 / um_per_px**2)
    side = 2 * int(np.ceil(INK_REACH_UM / um_per_px)) + 1
    near = cv2.dilate(sure.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))) > 0
    beside = cv2.dilate(sure.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return beside | (near & (saturation > 20) & ((hue < 122) | (saturation < 90)))


def _without_specks(mask: np.ndarray, least_px: float) -> np.ndarray:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= least_px
    large[0] = False
    return large[labels]


def _at_fraction(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rows of an array at fractional places, linear between them; the border's beyond it."""
    places = np.clip(places, 0, len(rows) - 1)
    below = np.minimum(places.astype(int), len(rows) - 2)
    part = (places - below)[:, None]
    return rows[below] * (1 - part) + rows[below + 1] * part


MOST_PX = 1e8  # of the level CLAM is willing to segment
STRIP_PX = 2**20  # whose colours are converted at a time
REF_PX = 512  # side of the patches in which preset files count areas
DOWNSAMPLE = 64


def _numbers(text: object) -> object:
    if not isinstance(text, str):
        return text
    return () if text.strip().lower() in ("none", "nan", "") else tuple(text.split(","))


Numbers = Annotated[tuple[int, ...], BeforeValidator(_numbers)]


@checked_dataclass(frozen=True)
class Preset:
    """The settings of a preset file that bear on coordinates; CLAM's own names.

    Attributes
    ----------
    seg_level : int
        Level to segment; -1: the coarsest up to 64 times.
    sthresh, mthresh, close, use_otsu
        Saturation above which is tissue (0 to 255), side of the median filter (odd), side of the closing, Otsu instead.
    a_t, a_h, max_n_holes
        Least area of tissue and of holes in patches of 512 x 512 level-0 pixels; most holes a contour.
    use_padding : bool
        Tiles may hang over the slide's border.
    contour_fn : str
        See `inside_contour`.
    keep_ids, exclude_ids : tuple of int
        Contours by number, after filtering; empty: all, none.
    """

    seg_level: int
    sthresh: int
    mthresh: int
    close: int
    use_otsu: bool
    a_t: float
    a_h: float
    max_n_holes: int
    use_padding: bool
    contour_fn: Literal["four_pt", "four_pt_hard", "center", "basic"]
    keep_ids: Numbers = ()
    exclude_ids: Numbers = ()


PRESETS = {
    "bwh_resection": Preset(-1, 15, 11, 4, False, 100, 16, 8, True, "four_pt"),
    "bwh_biopsy": Preset(-1, 15, 11, 2, False, 1, 1, 2, True, "four_pt"),
    "tcga": Preset(-1, 8, 7, 4, False, 16, 4, 8, True, "four_pt"),
}
"""CLAM's own preset files."""


def read_preset(source: str | os.PathLike) -> Preset:
    """A preset by name (see `PRESETS`), or from a csv file as CLAM's: a header and one row.

    Raises
    ------
    FileNotFoundError, ValueError
        Neither a known name nor a file; a column lacks, more rows than one, or a value is not of its kind.
    """
    if source in PRESETS:
        return PRESETS[source]
    if not Path(source).is_file():
        raise FileNotFoundError(
            f"no preset {source}: known are {', '.join(PRESETS)}, or give a csv file like CLAM's"
        )
    rows = pd.read_csv(source, dtype=str, keep_default_na=False).to_dict("records")
    try:
        (row,) = rows
        return Preset(**{one.name: row[one.name].strip() for one in fields(Preset) if one.name in row})
    except ValueError as error:
        raise ValueError(f"{source} is no preset of CLAM, a header and one row: {error}") from error


@dataclass(frozen=True)
class Segmentation:
    """Tissue as CLAM sees it."""

    contours: list[np.ndarray]  # outer ones, int32 (m, 2) in level-0 pixels
    holes: list[list[np.ndarray]] = field(default_factory=list)  # those of each contour
    level: int = 0  # that was segmented
    seen: int = 0  # outer contours found
    small: int = 0  # of them smaller than a_t
    not_asked: int = 0  # of them dropped by keep_ids and exclude_ids

    @property
    def sentence(self) -> str:
        """What became of the contours."""
        if not self.seen:
            return "no contour found"
        lost = f", {self.not_asked} excluded by number" if self.not_asked else ""
        return f"{self.seen} contours found, {self.small} of them smaller than a_t{lost}, {len(self.contours)} kept"


def segment(slide: Slide, preset: Preset) -> Segmentation:
    """Segment a slide: saturation, median, threshold, closing, contours with holes, areas.

    A blank slide gives an empty segmentation, where CLAM itself ends the whole batch.

    Raises
    ------
    ValueError, UnreadableTile
        The level to segment has more than 1e8 pixels (CLAM: failed_seg), does not exist, or cannot be decoded.
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
    contours, holes = [], []
    outer = np.flatnonzero(parents == -1)
    large = [index for index in outer if area[index] - area[parents == index].sum() > preset.a_t * ref]
    asked = set(preset.keep_ids or range(len(large))) - set(preset.exclude_ids)
    for index in (index for number, index in enumerate(large) if number in asked):
        children = np.flatnonzero(parents == index)
        # stable, because CLAM's sorted(reverse=True) leaves equal areas in their order
        largest = children[np.argsort(-area[children], kind="stable")][: preset.max_n_holes]
        contours.append(_scaled(found[index], scale))
        holes.append([_scaled(found[i], scale) for i in largest if area[i] > preset.a_h * ref])
    seen, small = len(outer), len(outer) - len(large)
    return Segmentation(contours, holes, level, seen, small, len(large) - len(contours))


def seg_level(slide: Slide, preset: Preset) -> int:
    """The level CLAM segments: the preset's, or the coarsest up to 64 times."""
    level = preset.seg_level
    if level < 0:
        level = max((i for i, down in enumerate(slide.downsamples) if down <= DOWNSAMPLE), default=0)
    if level >= len(slide.level_sizes) or np.prod(slide.level_sizes[level]) > MOST_PX:
        raise ValueError(
            f"{slide.path.name}: level {level} is not there, or has more pixels than CLAM segments (1e8; levels are "
            f"{slide.level_sizes}): use the exact mode"
        )
    return level


def _mask(slide: Slide, level: int, preset: Preset) -> np.ndarray:
    """Tissue as bytes 0 and 255; 5 bytes a pixel of the level are held, where CLAM holds 12."""
    bgra = slide.whole_level(level)
    mask, rows = np.empty(bgra.shape[:2], np.uint8), max(1, STRIP_PX // bgra.shape[1])
    for y in range(0, len(mask), rows):
        mask[y : y + rows] = _saturation(bgra[y : y + rows])
    del bgra
    cv2.medianBlur(mask, preset.mthresh, dst=mask)
    kind = cv2.THRESH_BINARY + (cv2.THRESH_OTSU if preset.use_otsu else 0)
    cv2.threshold(mask, 0 if preset.use_otsu else preset.sthresh, 255, kind, dst=mask)
    if preset.close > 0:
        # an even side is off-centre: OpenCV's own anchor, as CLAM
        cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((preset.close, preset.close), np.uint8), dst=mask)
    return mask


def _saturation(bgra: np.ndarray) -> np.ndarray:
    """Saturation as CLAM sees it: alpha is divided out of the colours and then ignored, what is clear is black."""
    bgr, alpha = bgra[..., :3], bgra[..., 3:]
    partly = (alpha > 0) & (alpha < 255)
    if partly.any():
        bgr = np.where(partly, (bgr * np.uint16(255) // np.maximum(alpha, 1)).astype(np.uint8), bgr)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)[..., 1]


def _scaled(contour: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return (contour[:, 0] * scale).astype(np.int32)  # truncated, as CLAM


def inside_contour(
    coords: np.ndarray, contour: np.ndarray, holes: list[np.ndarray], patch_px: int, rule: str
) -> np.ndarray:
    """Which tiles CLAM keeps: bool (n,), False as well where the centre lies within a hole.

    Parameters
    ----------
    coords : ndarray of int, shape (n, 2)
        Top left corners; all in level-0 pixels, the tiles' side `patch_px` too.
    rule : str
        "four_pt" (any of four points half-way between centre and corners lies in the contour or on it; CLAM's docs say
        all), "four_pt_hard" (all), "center", "basic" (the corner).
    """
    shift = int(patch_px // 2 * 0.5) if rule.startswith("four_pt") else 0
    around = [(-shift, -shift), (shift, shift), (shift, -shift), (-shift, shift)][: 4 if shift else 1]
    points = (coords if rule == "basic" else coords + patch_px // 2) + np.array(around)[:, None]
    touched = shapely.intersects_xy(_polygon(contour), points[..., 0], points[..., 1])
    kept = touched.all(0) if rule == "four_pt_hard" else touched.any(0)
    for hole in holes:
        kept &= ~shapely.contains_xy(_polygon(hole), *(coords + patch_px / 2).T)
    return kept


def _polygon(contour: np.ndarray) -> shapely.Polygon:
    """A contour to ask points of: GEOS counts crossings exactly, and as OpenCV's pointPolygonTest where it touches itself."""
    polygon = shapely.Polygon(contour if len(contour) > 2 else np.concatenate([contour] * 3))
    shapely.prepare(polygon)
    return polygon
