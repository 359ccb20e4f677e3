"""The spots around a spot."""

import numpy as np
from scipy.spatial import cKDTree


def nearest(xy: np.ndarray, k: int = 7, *, radius: float | None = None) -> np.ndarray:
    """The k nearest spots of each spot within its section, itself first.

    Parameters
    ----------
    xy : ndarray, shape (n, 2)
        Positions of one section's spots, any unit.
    k : int
        Neighbours, the spot itself included.
    radius : float, optional
        In the unit of `xy`. A neighbour farther away (across a gap in the tissue, or off its edge) is replaced by the
        spot itself. Without it the k nearest are taken however far they are, as the released code does.

    Returns
    -------
    ndarray of int64, shape (n, k)
    """
    if len(xy) < k:
        raise ValueError(
            f"a section of {len(xy)} spots has no {k} neighbours a spot: lower `neighbours` or leave it out"
        )
    distance, index = cKDTree(xy).query(xy, k=range(1, k + 1))
    itself = np.arange(len(xy))[:, None]
    # two spots at one place: the tree may name the other one first
    for row in np.flatnonzero(index[:, 0] != itself[:, 0]):
        others = [j for j in index[row] if j != row][: k - 1]
        index[row] = [row, *others]
    if radius is not None:
        index = np.where(distance <= radius, index, itself)
    return index.astype(np.int64)


def smooth(values: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Mean of `values` (n, ...) over each spot's neighbours (n, k)."""
    return values[neighbours].mean(axis=1, dtype=values.dtype)
