"""Slides that look like haematoxylin and eosin, with a morphology planted at two scales; smooth fields and tissue."""

import os
from dataclasses import dataclass

import cv2
import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

from lib.files import written


def smooth_field(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> np.ndarray:
    """A stationary Gaussian random field of zero mean and unit variance: float (rows, columns).

    `scale` is the smoothing (standard deviation of the kernel) in cells: structures are about four times as wide. Unit
    variance is over realisations, not within one: a small field may lie high or low as a whole.
    """
    # the margin keeps the border as variable as the middle, so that no field knows where the edge is
    margin = int(np.ceil(4 * scale))
    white = rng.standard_normal((shape[0] + 2 * margin, shape[1] + 2 * margin))
    field = gaussian_filter(white, scale, mode="wrap")
    field *= 2 * np.sqrt(np.pi) * scale if scale > 0.5 else 1 / field.std()
    return field[margin : margin + shape[0], margin : margin + shape[1]]


def outline(shape: tuple[int, int], margin: float, rng: np.random.Generator) -> np.ndarray:
    """A piece of tissue, bool of `shape`: a rounded square with an irregular edge; `margin`, the empty border, in cells."""
    rows, columns = np.indices(shape)
    y = (rows + 0.5 - shape[0] / 2) / (shape[0] / 2 - margin)
    x = (columns + 0.5 - shape[1] / 2) / (shape[1] / 2 - margin)
    angle = np.arctan2(y, x)
    edge = np.ones(shape)
    for wave in range(2, 9):
        edge += 0.06 / wave * rng.standard_normal() * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    return (np.abs(x) ** 4 + np.abs(y) ** 4) ** 0.25 < edge


@dataclass(frozen=True)
class Stain:
    """Optical density a unit of each stain adds in red, green and blue; `glass` is the light of the empty slide.

    The defaults are the reference vectors of Macenko et al., ISBI 2009, doi 10.1109/ISBI.2009.5193250.
    """

    haematoxylin: tuple[float, float, float] = (0.56, 0.72, 0.41)
    eosin: tuple[float, float, float] = (0.22, 0.80, 0.56)
    glass: tuple[int, int, int] = (244, 242, 246)


REACH = 2.5  # standard deviations: beyond it nuclei and nests would leave what tissue looks like
CELL_UM = 16.0  # of the field that outlines the tissue
# side of the lattice of nests and stroma: a 20x tile of 256 px sees one of them, a 5x tile how they differ
NEST_UM = 128.0
DENSEST = 1.6  # optical density of one stain that is stored as 255
GROUND = 0.12  # of haematoxylin between nuclei
WAVER_UM = 7.0  # of the borders between nests and stroma
SPACING_UM, RADIUS_UM, DARK = 13.0, 3.3, 0.45  # of nuclei, the last an optical density
SUBPIXEL = 4  # bits


@dataclass(frozen=True)
class Look:
    """What tells one cancer type from another at any scale."""

    stain: Stain
    eosin: float  # optical density of the cytoplasm
    stretch: float  # of nuclei


LOOKS = (
    Look(Stain(), eosin=0.20, stretch=1.25),
    Look(Stain(haematoxylin=(0.65, 0.70, 0.29), eosin=(0.12, 0.85, 0.50)), eosin=0.27, stretch=1.8),
)


def write_slide(
    path: str | os.PathLike,
    *,
    fine: float,
    coarse: float,
    cancer: int,
    seed: int,
    side_px: int = 2048,
    um_per_px: float = 0.5,
    look: Look | None = None,
) -> None:
    """Write a slide: tiled JPEG TIFF with levels 1 and 4 and a resolution from which OpenSlide reads µm per pixel.

    The light that a nucleus takes and the share of nests are the same on average whatever `fine` and `coarse` are, and
    slides differ in their staining: the mean colour tells neither. Equal arguments give equal bytes.

    `fine` and `coarse` are in standard deviations, held within 2.5. The former drives what is averaged away at 5x: nuclei that
    are large, pale and unlike each other (+), or small, dark and alike (-), where each takes the same light; the latter what
    no 20x tile shows by itself: how far nests and stroma, each about as large as such a tile, are set apart from each other
    (+), down to an even sheet (-). `cancer`, 0 or 1, is stain and shape of nuclei, unless `look` gives another laboratory's.
    """
    rng = np.random.default_rng([seed, cancer])
    rgb = _painted(*np.clip([fine, coarse], -REACH, REACH), look or LOOKS[cancer], rng, side_px, um_per_px)
    small = cv2.resize(rgb, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    write_pyramid(path, [rgb, small], um_per_px)


def write_pyramid(path: str | os.PathLike, levels: list[np.ndarray], um_per_px: float | None) -> None:
    """Write pictures, uint8 (height, width, 3) from fine to coarse, as the levels of a tiled JPEG TIFF.

    `um_per_px` is that of the first level; None leaves the file without resolution.
    """
    how = {"tile": (256, 256), "compression": "jpeg", "compressionargs": {"level": 85}, "photometric": "rgb"}
    how |= {"metadata": None, "software": False}
    with written(path) as part, tifffile.TiffWriter(part) as file:
        for i, level in enumerate(levels):
            scale = {}
            if um_per_px is not None:
                times = levels[0].shape[0] / level.shape[0]
                scale = {"resolution": (1e4 / (um_per_px * times),) * 2, "resolutionunit": "CENTIMETER"}
            file.write(level, subfiletype=int(i > 0), **how, **scale)


def _painted(fine, coarse, look: Look, rng, side_px, um_per_px) -> np.ndarray:
    """RGB of the slide. Fields are laid out in small; what has the slide's size is bytes."""
    cells = int(np.ceil(side_px * um_per_px / CELL_UM))
    drawn = outline((cells, cells), max(2.0, 0.04 * cells), rng).astype(np.float32)
    tissue = cv2.GaussianBlur(drawn, (0, 0), 1)
    small, shape = (side_px // 4,) * 2, (side_px,) * 2
    nest = 0.30 * np.exp(0.45 * coarse) * _nests(tissue, rng, small, um_per_px * side_px / small[0])
    # slides differ in stain and texture by more than a morphology could shift a mean or, at the other scale, a spread
    stained_h, stained_e, wavy, mottled = np.exp(rng.normal(0, (0.06, 0.06, 0.4, 0.4)))
    texture = 0.04 * wavy * _grain(small, (3.0, 0.8), rng) + 0.025 * mottled * _grain(small, (3.5, 3.5), rng)
    cytoplasm = stained_e * look.eosin * (1 - nest) + texture
    ground = _resized(_stored(stained_h * GROUND * (1 + nest), DENSEST), shape)
    nuclei = _nuclei(fine, stained_h, look, rng, shape, um_per_px)
    inside = _resized(_stored(np.clip((_resized(tissue, small) - 0.4) * 4, 0, 1), 1), shape)
    layers = cv2.add(nuclei, ground), _resized(_stored(cytoplasm, DENSEST), shape)
    haematoxylin, eosin = (cv2.multiply(layer, inside, scale=1 / 255) for layer in layers)
    return _coloured(haematoxylin, eosin, look.stain, rng)


def _stored(field: np.ndarray, most: float) -> np.ndarray:
    return np.clip(np.rint(field * (255 / most)), 0, 255).astype(np.uint8)


def _nests(tissue, rng, shape, um_per_px) -> np.ndarray:
    """Nests (1) and stroma (-1), half of each on the tissue, with borders that waver."""
    blocks = int(np.ceil(shape[0] * um_per_px / NEST_UM))
    covered = cv2.resize(tissue, (blocks, blocks), interpolation=cv2.INTER_AREA) > 0.5
    pattern = rng.choice(np.float32([-1, 1]), covered.shape)
    pattern[covered] = rng.permutation(np.resize(np.float32([-1, 1]), covered.sum()))
    waver = [smooth_field((max(1, shape[0] // 8),) * 2, 1.5, rng).astype(np.float32) for _ in "xy"]
    reach = WAVER_UM / um_per_px
    places = [
        ((grid + reach * _resized(shift, shape) + 0.5) * um_per_px / NEST_UM - 0.5).astype(np.float32)
        for grid, shift in zip(np.indices(shape, np.float32)[::-1], waver, strict=True)
    ]
    sharp = cv2.remap(pattern, *places, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return cv2.GaussianBlur(sharp, (0, 0), 2 / um_per_px)


def _grain(shape: tuple[int, int], width: tuple[float, float], rng) -> np.ndarray:
    """Wavy or mottled ground of unit spread."""
    field = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), sigmaX=width[0], sigmaY=width[1])
    return field / field.std()


def _resized(field: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return cv2.resize(field, shape[::-1], interpolation=cv2.INTER_LINEAR)


def _nuclei(fine, stained, look: Look, rng, shape, um_per_px) -> np.ndarray:
    """Haematoxylin of the nuclei as bytes."""
    spacing = SPACING_UM / um_per_px
    side = int(np.ceil(shape[0] / spacing))
    # a jittered lattice and not a Poisson process: no clusters of nuclei that would show at 5x
    xy = (np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) + 0.5) * spacing
    xy += rng.uniform(-0.38, 0.38, xy.shape) * spacing
    spread = 0.08 * np.exp(0.3 * fine)  # pleomorphism
    size = np.maximum(np.exp(0.07 * fine + spread * rng.standard_normal(len(xy))), 0.78)
    stretch = look.stretch * np.exp(0.5 * spread * rng.standard_normal(len(xy)))
    # a nucleus of another size has the density at which it takes the light of the typical one
    light = float(np.mean(look.stain.haematoxylin))  # what the eye, or a mean over colours, sees
    taken = (1 - 10 ** (-DARK * light)) / size**2
    dark = -np.log10(1 - taken) / light
    long, short = (size * RADIUS_UM / um_per_px * stretch**sign for sign in (0.5, -0.5))
    polygons = _outlines(xy, long, short, rng.uniform(0, np.pi, len(xy)))
    shades = np.maximum(_stored(stained * dark, DENSEST), 1).tolist()
    canvas = np.zeros(shape, np.uint8)
    for polygon, shade in zip(polygons, shades, strict=True):
        cv2.fillConvexPoly(canvas, polygon, shade, cv2.LINE_AA, SUBPIXEL)
    return canvas


def _outlines(xy, long, short, turns, corners: int = 14) -> np.ndarray:
    """Ellipses as polygons in fixed-point pixels: int32 (n, corners, 2)."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    along, across = long[:, None] * np.cos(angle), short[:, None] * np.sin(angle)
    cos, sin = np.cos(turns)[:, None], np.sin(turns)[:, None]
    polygons = np.stack([along * cos - across * sin, along * sin + across * cos], -1) + xy[:, None]
    return np.rint(polygons * (1 << SUBPIXEL)).astype(np.int32)


def _coloured(haematoxylin, eosin, stain: Stain, rng) -> np.ndarray:
    """Beer and Lambert by tables: one of each stain's bytes, multiplied."""
    density = np.linspace(0, DENSEST, 256)
    grain = np.frombuffer(rng.bytes(haematoxylin.size), np.uint8).reshape(haematoxylin.shape) >> 5
    channels = []
    for i, glass in enumerate(stain.glass):
        first = np.rint(glass * 10 ** (-density * stain.haematoxylin[i])).astype(np.uint8)
        second = np.rint(255 * 10 ** (-density * stain.eosin[i])).astype(np.uint8)
        light = cv2.multiply(cv2.LUT(haematoxylin, first), cv2.LUT(eosin, second), scale=1 / 255)
        channels.append(cv2.subtract(light, grain))
    return cv2.merge(channels)
