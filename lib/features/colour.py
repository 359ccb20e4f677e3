"""Colour and texture of an H&E crop in 38 numbers: the descriptor that needs no weights.

The honest baseline of every encoder: on HER2ST it is hard to beat.
"""

import numpy as np
from PIL import Image
from scipy.ndimage import laplace
from skimage.color import rgb2gray, rgb2hed
from skimage.feature import local_binary_pattern

UM_PER_PX = 3.44
"""All crops are brought to this scale first, else texture would measure the scanner's resolution."""

QUANTILES = (0.1, 0.5, 0.9)
CHANNELS = ("red", "green", "blue", "haematoxylin", "eosin")
STATISTICS = ("mean", "std", *(f"q{round(100 * q)}" for q in QUANTILES))
PATTERNS = 10
NAMES = (
    *(f"{channel}_{statistic}" for channel in CHANNELS for statistic in STATISTICS),
    *(f"lbp_{i}" for i in range(PATTERNS)),
    "laplacian_mean_abs",
    "laplacian_std",
    "laplacian_q90_abs",
)


def describe_colour(crops: np.ndarray, um_per_px: float) -> np.ndarray:
    """Colour, stain and texture of each crop.

    Mean, standard deviation and the 10, 50 and 90 % quantiles of red, green, blue (0 to 1) and of the haematoxylin
    and eosin densities (Ruifrok and Johnston 2001, as in scikit-image); the histogram of uniform local binary
    patterns (8 neighbours at 1 pixel; Ojala et al. 2002, doi 10.1109/TPAMI.2002.1017623); mean, spread and 90 %
    quantile of the grey picture's Laplacian.

    Parameters
    ----------
    crops : ndarray of uint8, shape (n, height, width, 3)
        RGB.
    um_per_px : float
        µm per pixel of the crops; they are resized to `UM_PER_PX` first.

    Returns
    -------
    ndarray of float32, shape (n, 38)
        Columns as in `NAMES`.
    """
    if crops.ndim != 4 or crops.shape[3] != 3 or crops.dtype != np.uint8:
        raise ValueError(f"crops are uint8 RGB (n, height, width, 3), these are {crops.dtype} {crops.shape}")
    if not um_per_px > 0:
        raise ValueError(f"um_per_px is {um_per_px}: it must be above 0")
    if not len(crops):
        return np.empty((0, len(NAMES)), np.float32)
    height, width = (max(3, round(side * um_per_px / UM_PER_PX)) for side in crops.shape[1:3])
    if (height, width) != crops.shape[1:3]:
        crops = np.stack([_resized(crop, width, height) for crop in crops])
    rgb = crops / np.float32(255)
    channels = np.concatenate([rgb, rgb2hed(rgb)[..., :2]], axis=3).reshape(len(crops), -1, len(CHANNELS))
    statistics = [channels.mean(1), channels.std(1), *np.quantile(channels, QUANTILES, axis=1)]
    by_channel = np.stack(statistics, axis=2).reshape(len(crops), -1)
    grey = rgb2gray(rgb)
    return np.hstack([by_channel, _patterns(grey), _edges(grey)]).astype(np.float32)


def _resized(crop: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(crop).resize((width, height), Image.Resampling.BOX))


def _patterns(grey: np.ndarray) -> np.ndarray:
    levels = np.round(grey * 255).astype(np.uint8)
    # the outermost pixels have no neighbours on one side
    codes = (local_binary_pattern(level, 8, 1, "uniform")[1:-1, 1:-1].astype(int).ravel() for level in levels)
    counts = np.stack([np.bincount(code, minlength=PATTERNS) for code in codes])
    return counts / counts.sum(1, keepdims=True)


def _edges(grey: np.ndarray) -> np.ndarray:
    edges = np.stack([laplace(picture, mode="nearest") for picture in grey]).reshape(len(grey), -1)
    size = np.abs(edges)
    return np.stack([size.mean(1), edges.std(1), np.quantile(size, 0.9, axis=1)], axis=1)
