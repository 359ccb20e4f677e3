"""The side of a slide's tiles, told from where they lie."""

from collections.abc import Mapping

import numpy as np
from scipy.spatial import cKDTree


def finest_side(coords: Mapping[int, np.ndarray]) -> float:
    """Side of the finest scale's tiles.

    Parameters
    ----------
    coords : mapping of int -> ndarray, shape (n, 2)
        Centres or corners by scale, in any unit; tiles without overlap.

    Returns
    -------
    float
        In the unit of `coords`; 0 if no scale has two tiles.
    """
    for scale in sorted(coords, reverse=True):
        if side := spacing(coords[scale]):
            return side * scale / max(coords)
    return 0.0


def spacing(coords: np.ndarray) -> float:
    """Distance of neighbouring tiles, (n, 2), from at most 1000 of them; 0 if there are not two places."""
    some = coords[:: max(1, len(coords) // 1000)]
    nearest = cKDTree(np.unique(coords, axis=0)).query(some, k=2, p=np.inf)[0][:, 1]
    nearest = nearest[np.isfinite(nearest)]
    if not len(nearest):
        return 0.0
    side = float(np.median(nearest))
    # on one grid, whole steps over all of the slide tell the side more exactly than two rounded corners
    gaps = np.concatenate([np.diff(np.unique(along)) for along in coords.T.astype(float)])
    if gaps.min() > side / 2:
        side = float(gaps.sum() / np.rint(gaps / side).sum())
    return side
