"""Where tissue lies on a slide: by its colour on a mask of known µm per pixel. Ink of pens is not tissue."""

from dataclasses import dataclass

import cv2
import numpy as np

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
