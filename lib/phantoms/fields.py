"""Smooth random fields: where a phantom's domains lie."""

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates


def smooth_field(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> np.ndarray:
    """A stationary Gaussian random field of zero mean and unit variance.

    Parameters
    ----------
    shape : (rows, columns)
        In cells.
    scale : float
        Smoothing (standard deviation of the kernel) in cells: structures are about four times as wide.
    rng : Generator
        The only source of chance.

    Returns
    -------
    float array of `shape`
        Unit variance over realisations, not within one: a small field may lie high or low as a whole.
    """
    # the margin keeps the border as variable as the middle, so that no field knows where the edge is
    margin = int(np.ceil(4 * scale))
    white = rng.standard_normal((shape[0] + 2 * margin, shape[1] + 2 * margin))
    field = gaussian_filter(white, scale, mode="wrap")
    field *= 2 * np.sqrt(np.pi) * scale if scale > 0.5 else 1 / field.std()
    return field[margin : margin + shape[0], margin : margin + shape[1]]


def at(field: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Value of a field at positions, linear between cells.

    Parameters
    ----------
    field : float array (rows, columns)
    xy : float array (n, 2)
        x (column) and y (row) in cells; positions outside take the border's value.

    Returns
    -------
    float array (n,)
    """
    return map_coordinates(field, np.asarray(xy, dtype=float).T[::-1], order=1, mode="nearest")


def outline(shape: tuple[int, int], margin: float, rng: np.random.Generator) -> np.ndarray:
    """A piece of tissue: a rounded square with an irregular edge.

    Parameters
    ----------
    shape : (rows, columns)
        In cells.
    margin : float
        Empty border in cells.
    rng : Generator

    Returns
    -------
    bool array of `shape`
        True on tissue.
    """
    rows, columns = np.indices(shape)
    y = (rows + 0.5 - shape[0] / 2) / (shape[0] / 2 - margin)
    x = (columns + 0.5 - shape[1] / 2) / (shape[1] / 2 - margin)
    angle = np.arctan2(y, x)
    edge = np.ones(shape)
    for wave in range(2, 9):
        edge += 0.06 / wave * rng.standard_normal() * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    return (np.abs(x) ** 4 + np.abs(y) ** 4) ** 0.25 < edge
