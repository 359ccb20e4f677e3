"""Pictures that look like haematoxylin and eosin, painted from nuclei and fibres."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from lib.phantoms.fields import at, smooth_field


@dataclass(frozen=True)
class Stain:
    """Optical density a unit of each stain adds in red, green and blue; `glass` is the light of the empty slide.

    The defaults are the reference vectors of Macenko et al., ISBI 2009, doi 10.1109/ISBI.2009.5193250.
    """

    haematoxylin: tuple[float, float, float] = (0.56, 0.72, 0.41)
    eosin: tuple[float, float, float] = (0.22, 0.80, 0.56)
    glass: tuple[int, int, int] = (244, 242, 246)


def paint(
    cancer: np.ndarray,
    tissue: np.ndarray,
    cell_px: int,
    um_per_px: float,
    stain: Stain,
    rng: np.random.Generator,
) -> np.ndarray:
    """Paint a picture in which more, larger and darker nuclei mean more cancer-like.

    Parameters
    ----------
    cancer : float array (rows, columns)
        How cancer-like the picture is to look, in about -2 (loose stroma) to 4 (dense tumour), a value a cell.
    tissue : bool array (rows, columns)
        False is empty glass.
    cell_px : int
        Pixels along a cell of the two fields.
    um_per_px : float
        µm per pixel.
    stain : Stain
    rng : Generator

    Returns
    -------
    uint8 array (rows * cell_px, columns * cell_px, 3)
        RGB.
    """
    shape = (cancer.shape[0] * cell_px, cancer.shape[1] * cell_px)
    looks = np.clip(cancer, -2.5, 4.5)
    soft = _enlarged(gaussian_filter(tissue.astype(np.float32), 0.6), cell_px)
    inside = np.clip((soft - 0.35) * 4, 0, 1)

    fibres = _fibres(shape, rng)
    loose = _enlarged(looks, cell_px)
    eosin = inside * np.clip(0.26 + 0.06 * fibres - 0.035 * loose, 0.06, None)
    haematoxylin = inside * np.clip(0.055 + 0.02 * loose, 0.02, None)

    xy = _scattered(looks, tissue, cell_px, um_per_px, rng)
    looks_there = at(looks, xy / cell_px - 0.5)
    radius = (2.9 * np.exp(0.11 * looks_there + 0.16 * rng.standard_normal(len(xy)))) / um_per_px
    dark = 0.62 * np.exp(0.10 * looks_there + 0.22 * rng.standard_normal(len(xy)))
    haematoxylin += inside * np.minimum(_nuclei(shape, xy, radius, dark, rng), 1.6)

    grain = 1.5 * rng.standard_normal(shape, dtype=np.float32)
    rgb = np.empty((*shape, 3), dtype=np.uint8)
    for i, glass in enumerate(stain.glass):
        density = haematoxylin * np.float32(stain.haematoxylin[i]) + eosin * np.float32(stain.eosin[i])
        rgb[..., i] = np.clip(np.rint(glass * np.exp(-np.float32(np.log(10)) * density) + grain), 0, 255)
    return rgb


def _enlarged(field: np.ndarray, times: int) -> np.ndarray:
    return zoom(field.astype(np.float32), times, order=1, grid_mode=True, mode="nearest")


def _fibres(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Wavy stroma: stripes at two directions, mixed by a smooth field; about -2 to 2."""
    small = (shape[0] // 2 + 1, shape[1] // 2 + 1)
    across = gaussian_filter(rng.standard_normal(small, dtype=np.float32), (0.8, 6), truncate=3)
    along = gaussian_filter(rng.standard_normal(small, dtype=np.float32), (6, 0.8), truncate=3)
    coarse = _enlarged(smooth_field((small[0] // 8 + 1, small[1] // 8 + 1), 3, rng), 8)
    mix = 1 / (1 + np.exp(-3 * coarse[: small[0], : small[1]]))
    stripes = mix * across / across.std() + (1 - mix) * along / along.std()
    return _enlarged(stripes, 2)[: shape[0], : shape[1]]


def _scattered(looks, tissue, cell_px, um_per_px, rng) -> np.ndarray:
    """Nuclei positions (n, 2) in pixels, x first: Poisson with 2,200 a mm² at 0, growing with the looks."""
    per_cell = 2200e-6 * (cell_px * um_per_px) ** 2 * np.exp(0.24 * looks) * tissue
    number = rng.poisson(per_cell)
    rows, columns = np.nonzero(number)
    times = number[rows, columns]
    corner = np.column_stack([np.repeat(columns, times), np.repeat(rows, times)])
    return (corner + rng.random(corner.shape)) * cell_px


def _nuclei(shape, xy, radius, dark, rng) -> np.ndarray:
    """Optical density of ellipses with soft edges, summed."""
    stretch = rng.uniform(1.0, 1.7, (len(xy), 1)).astype(np.float32)
    turn = rng.uniform(0, np.pi, (len(xy), 1)).astype(np.float32)
    reach = int(np.ceil(radius.max(initial=0) * np.sqrt(1.7) + 1))
    span = np.arange(-reach, reach + 1)
    dx, dy = (grid.ravel()[None] for grid in np.meshgrid(span, span))
    centre = np.floor(xy).astype(int)
    off_x = (dx - (xy[:, :1] - centre[:, :1]) + 0.5).astype(np.float32)
    off_y = (dy - (xy[:, 1:] - centre[:, 1:]) + 0.5).astype(np.float32)
    long = (off_x * np.cos(turn) + off_y * np.sin(turn)) / np.sqrt(stretch)
    short = (off_y * np.cos(turn) - off_x * np.sin(turn)) * np.sqrt(stretch)
    edge = radius[:, None].astype(np.float32) - np.sqrt(long**2 + short**2)
    value = dark[:, None].astype(np.float32) * np.clip(edge + 0.5, 0, 1)
    row, column = centre[:, 1:] + dy, centre[:, :1] + dx
    kept = (value > 0) & (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    place = row[kept] * shape[1] + column[kept]
    return (
        np.bincount(place, weights=value[kept], minlength=shape[0] * shape[1])
        .reshape(shape)
        .astype(np.float32)
    )
