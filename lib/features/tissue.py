"""Where tissue lies on a slide, on a mask of known µm per pixel; ink of pens is not tissue."""

from dataclasses import dataclass

import cv2
import numpy as np

from lib.inputs.slide_overview import overview
from lib.inputs.slides import Slide

MASK_UM = 8.0
LEAST_SATURATION = 0.08
LEAST_MM2 = 0.005
"""Smaller specks are dust; half of a 128 µm tile is 0.008 mm²."""

INK_REACH_UM = 24.0  # how far the faint rim of an ink line goes


@dataclass(frozen=True)
class Tissue:
    """Mask of a slide's tissue.

    Attributes
    ----------
    mask : ndarray of bool, shape (height, width)
        True on tissue, and where the slide could not be read: a tile there must be tried, to be counted as failed.
    ink : ndarray of bool, shape (height, width)
        True on pen marks, which are left out of `mask`.
    unreadable : ndarray of bool, shape (height, width)
    px : (float, float)
        Level-0 pixels per mask pixel, in x and y.
    """

    mask: np.ndarray
    ink: np.ndarray
    unreadable: np.ndarray
    px: tuple[float, float]

    def share(self, edges_x: np.ndarray, edges_y: np.ndarray) -> np.ndarray:
        """Share of each cell of a grid that is tissue, exact to fractions of a mask pixel.

        Parameters
        ----------
        edges_x, edges_y : ndarray, shapes (columns + 1,) and (rows + 1,)
            Level-0 pixels, rising. What lies outside the slide counts as no tissue.

        Returns
        -------
        ndarray of float64, shape (rows, columns), in [0, 1]
        """
        edges_x, edges_y = np.asarray(edges_x, float) / self.px[0], np.asarray(edges_y, float) / self.px[1]
        summed = cv2.integral(self.mask.astype(np.uint8))
        summed = _at_fraction(_at_fraction(summed, edges_y).T, edges_x).T
        area = np.diff(edges_y)[:, None] * np.diff(edges_x)
        return np.clip(np.diff(np.diff(summed, axis=0), axis=1) / area, 0, 1)

    def outlines(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Outlines of the tissue, and of the holes in it: lists of float64 (m, 2), level-0 pixels, for drawing."""
        found, tree = cv2.findContours(self.mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        lines = [(contour[:, 0] + 0.5) * self.px for contour in found]
        outer = [tree[0, i, 3] < 0 for i in range(len(found))]
        return (
            [line for line, is_outer in zip(lines, outer, strict=True) if is_outer],
            [line for line, is_outer in zip(lines, outer, strict=True) if not is_outer],
        )


def find_tissue(
    slide: Slide, um_per_px: float = MASK_UM, least_saturation: float = LEAST_SATURATION
) -> Tissue:
    """Find tissue by its colour.

    Tissue is what has more HSV saturation than `least_saturation` after a median filter, less ink and less specks
    under 0.005 mm². No more of the slide is in memory at a time than a strip of it.

    Parameters
    ----------
    slide : Slide
    um_per_px : float
        Of the mask. Level 0 is taken as it is where it is coarser.
    least_saturation : float
        0 to 1.

    Returns
    -------
    Tissue

    Raises
    ------
    UnreadableTile
        Nothing of the slide can be decoded.
    """
    times = max(1.0, um_per_px / slide.um_per_px)
    size = tuple(max(1, round(side / times)) for side in slide.size)
    level = max((i for i, down in enumerate(slide.downsamples) if down <= 1.02 * times), default=0)
    rgb, unreadable = overview(slide, level, size)
    px = tuple(full / small for full, small in zip(slide.size, size, strict=True))
    um = (px[0] * px[1]) ** 0.5 * slide.um_per_px
    hsv = _smoothed_hsv(rgb)
    del rgb  # large where the slide is
    ink = _ink(hsv, um) & ~unreadable
    stained = (hsv[..., 1] > 255 * least_saturation) & ~ink & ~unreadable
    del hsv
    return Tissue(_without_specks(stained, LEAST_MM2 * 1e6 / um**2) | unreadable, ink, unreadable, px)


def find_ink(rgb: np.ndarray, um_per_px: float) -> np.ndarray:
    """Pen marks: green to blue, pure red, and black where tissue would have colour.

    Haematoxylin and eosin lie between violet and pink (OpenCV hue 125 to 180); these rules ask for hues outside it, for
    a red that eosin does not reach, or for dark grey. Faint rims within 24 µm of sure ink belong to it.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (height, width, 3)
    um_per_px : float

    Returns
    -------
    ndarray of bool, shape (height, width)
    """
    return _ink(_smoothed_hsv(rgb), um_per_px)


def _smoothed_hsv(rgb: np.ndarray) -> np.ndarray:
    smooth = cv2.medianBlur(rgb, 3)
    return cv2.cvtColor(smooth, cv2.COLOR_RGB2HSV, dst=smooth)


def _ink(hsv: np.ndarray, um_per_px: float) -> np.ndarray:
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
