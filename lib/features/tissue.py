"""Where tissue lies on a slide: by its colour on a mask of known µm per pixel.

Ink of pens is not tissue, nor is glass of whatever tint, nor what the scanner left black.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from lib.inputs.slides import Slide, overview

MASK_UM = 8.0
LEAST_SATURATION = 0.08
LEAST_MM2 = 0.005  # smaller specks are dust; half of a 128 µm tile is 0.008 mm²
INK_REACH_UM = 24.0  # how far the faint rim of an ink line goes

# grey levels between neighbours of 8 µm up to which a place is smooth as glass, and the least share of a slide that is
# glass: in tissue of real sections (CMU, TCGA, HER2ST) 0 to 1 % are as smooth, of whole ones 12 to 80 %
GLASS_RANGE, GLASS_SHARE = 4, 0.02
BLACK = 32  # brightest of what was never scanned: fills are 0, or the noise of a sensor
GROUND_MM2 = 0.25  # least of it: a pen's line is narrower


@dataclass(frozen=True)
class Tissue:
    """Mask of a slide's tissue.

    Three arrays of bool (height, width). The mask is True on tissue, and where the slide could not be read: a tile there
    must be tried, to be counted as failed. Pen marks, and what is as dark or red as they are, `ink`, are left out of it.
    """

    mask: np.ndarray
    ink: np.ndarray
    unreadable: np.ndarray
    px: tuple[float, float]  # level-0 pixels per mask pixel, in x and y
    # what a mask without tissue has instead: "blank", "pen marks only", "no brightfield", ...
    left_out: str = ""
    notes: tuple[str, ...] = ()  # what was left out, and how much

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

    Tissue is what has an HSV saturation above 0.08 after a median filter, less ink and less specks under 0.005 mm². Glass
    that is tinted is made white first (`glass_of`). What was never scanned and is black is no tissue; a slide that is dark
    where a section would let light through, fluorescence, has none. No more of the slide is in memory at a time than a strip.
    An UnreadableTile where nothing of it can be decoded.
    """
    times = max(1.0, MASK_UM / slide.um_per_px)
    size = tuple(max(1, round(side / times)) for side in slide.size)
    level = max((i for i, down in enumerate(slide.downsamples) if down <= 1.02 * times), default=0)
    rgb, unreadable = overview(slide, level, size)
    px = tuple(full / small for full, small in zip(slide.size, size, strict=True))
    um = (px[0] * px[1]) ** 0.5 * slide.um_per_px
    smooth = cv2.medianBlur(rgb, 3)
    glass = glass_of(rgb, smooth)
    del rgb  # large where the slide is
    none = np.zeros_like(unreadable)
    black = (smooth.max(axis=2) <= BLACK) & ~unreadable
    if why := _no_brightfield(smooth, black, ~black & ~unreadable):
        return Tissue(unreadable, none, unreadable, px, "no brightfield", (why,))
    white = [np.minimum(np.arange(256) * (255 / light), 255).astype(np.uint8) for light in glass]
    smooth = cv2.LUT(smooth, np.stack(white, 1)[None])
    hsv = cv2.cvtColor(smooth, cv2.COLOR_RGB2HSV, dst=smooth)
    black = _without_specks(black, GROUND_MM2 * 1e6 / um**2)
    ground = cv2.dilate(black.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0  # and what it is blended with
    ink, pens = _ink(hsv, um, ~(unreadable | ground))
    stained = (hsv[..., 1] > 255 * LEAST_SATURATION) & ~(ink | unreadable | ground)
    shares = {
        f"pen marks on {pens * ink.mean():.1%} of the slide are left out": pens * ink.sum(),
        f"dark or red areas (ink, blood or pigment) on {(1 - pens) * ink.mean():.1%} of the slide are left out; where they "
        "are tissue, take tiling: clam_compat": (1 - pens) * ink.sum(),
        f"{black.mean():.1%} of the slide was never scanned (black)": black.sum(),
    }
    mask = _without_specks(stained, LEAST_MM2 * 1e6 / um**2) | unreadable
    instead = ("pen marks only" if pens > 0.5 else "dark or red areas only") if ink.any() else "blank"
    notes = tuple(said for said, pixels in shares.items() if pixels >= 1)
    return Tissue(mask, ink, unreadable, px, "" if mask.any() else instead, notes)


def glass_of(rgb: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    """Colour of the glass on an overview (and the same after a median filter), uint8 (height, width, 3): float (3,) RGB.

    No tissue lets more light through than glass, and none is as smooth: the brightest of what is smooth, pale and not the
    white, or the one colour, with which scanners and converters fill what is left out. White where there is too little
    glass to tell, and where its tint is too faint to be taken for a stain (saturation up to 0.04), so that the threshold
    means what it says.
    """
    even = cv2.morphologyEx(rgb, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).max(axis=2) <= GLASS_RANGE
    low, high = smooth.min(axis=2), smooth.max(axis=2)
    pale = smooth[even & (low > 100) & (low < 253) & (high - low <= high // 4)].astype(np.int16)
    light, glass = pale.sum(axis=1, dtype=np.int16), np.full(3, 255.0)
    while len(pale) >= GLASS_SHARE * low.size:
        brightest = light >= np.percentile(light, 95) - 12
        glass = np.median(pale[brightest], axis=0)
        alike = (pale[brightest] == glass).all(axis=1).mean()
        if alike < 0.98 or (~brightest).sum() < 0.1 * low.size:
            break
        pale, light = pale[~brightest], light[~brightest]  # one colour to the last digit is a fill, no glass
    return glass if np.ptp(glass) > LEAST_SATURATION / 2 * glass.max() else np.full(3, 255.0)


def _no_brightfield(rgb: np.ndarray, black: np.ndarray, lit: np.ndarray) -> str:
    """Why an overview (RGB, where it is black, where it is not) is no slide that light shone through; "" if it may be one.

    A stain takes light away from a bright ground, and takes less of red than of green. Fluorescence adds light to a dark
    ground: it has no pale place, or its ground fades into what shines, where a canvas that was not scanned ends sharply.
    """
    if not lit.any():
        return ""
    said = "it looks like fluorescence, and a stained section in transmitted light (brightfield) is expected"
    value = rgb.max(axis=2)
    if np.percentile(rgb.min(axis=2)[lit], 99) < 100:
        return f"no part of it is pale: {said}"
    saturated = (value - rgb.min(axis=2)) > 0.04 * value.clip(50)
    if saturated[lit].mean() < 0.01 and np.ptp(np.percentile(value[lit], (5, 95))) > 40:
        return f"it has no colour, only shades of grey: {said}"
    near, next_to = (cv2.dilate(black.astype(np.uint8), np.ones((n, n), np.uint8)) > 0 for n in (7, 3))
    rim = value[near & ~next_to & lit]
    return f"its ground is dark: {said}" if black.mean() > 0.05 and rim.size and np.median(rim) < 100 else ""


def _ink(hsv: np.ndarray, um_per_px: float, seen: np.ndarray) -> tuple[np.ndarray, float]:
    """Pen marks, green to blue, pure red, and black where tissue would have colour; the share of them that is sure to be
    a pen's, green to blue. Blood can be as red, pigment as black.

    Haematoxylin and eosin lie between violet and pink (OpenCV hue 125 to 180); these rules ask for hues outside it, for
    a red that eosin does not reach, or for dark grey. Faint rims within 24 µm of sure ink belong to it.
    """
    hue, saturation, value = (hsv[..., i] for i in range(3))
    cold = (hue >= 35) & (hue <= 119) & (saturation > 70)
    red = ((hue <= 6) | (hue >= 174)) & (saturation > 185) & (value > 120)
    black = (value < 85) & (saturation < 70)
    sure = _without_specks((cold | red | black) & seen, 0.002 * 1e6 / um_per_px**2)
    side = 2 * int(np.ceil(INK_REACH_UM / um_per_px)) + 1
    near = cv2.dilate(sure.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))) > 0
    beside = cv2.dilate(sure.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    rim = near & (saturation > 20) & ((hue < 122) | (saturation < 90))
    return (beside | rim) & seen, float((cold & sure).sum() / max(1, sure.sum()))


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
