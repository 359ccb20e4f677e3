"""Square crops of a section's picture, one round each spot."""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

WHITE = 255


def crop_spots(
    picture: np.ndarray,
    centres: np.ndarray,
    size_px: float | Sequence[float],
    out_px: int = 224,
    batch: int = 64,
) -> Iterator[np.ndarray]:
    """Cut one crop round each spot and bring it to `out_px`.

    Centres and sizes may fall between pixels: nothing is rounded before the antialiased (bilinear) resize. What lies
    beyond the border of the picture is white, like the glass.

    Parameters
    ----------
    picture : ndarray of uint8, shape (height, width, 3)
        RGB.
    centres : ndarray, shape (n, 2)
        x, y in pixels of `picture`, origin top left; the first pixel's centre is at 0.5, 0.5.
    size_px : float or (float, float)
        Side of the crop in pixels of `picture`, or its width and height where the picture is scaled
        differently in x and y: side_um / um_per_px * picture_scale.
    out_px : int
        Side of the result in pixels.
    batch : int
        Crops at a time.

    Yields
    ------
    ndarray of uint8, shape (at most batch, out_px, out_px, 3)
        RGB, in the order of `centres`.

    Raises
    ------
    ValueError
        Not an RGB picture of bytes; a size that is not positive; a centre outside the picture (named by its index).
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"a picture is uint8 RGB (height, width, 3), this is {picture.dtype} {picture.shape}"
        )
    width, height = np.broadcast_to(np.asarray(size_px, float), 2)
    if not (np.isfinite([width, height]).all() and min(width, height) > 0 and out_px > 0 and batch > 0):
        raise ValueError(f"size_px {size_px}, out_px {out_px} and batch {batch} must be positive")
    centres = np.asarray(centres, float).reshape(-1, 2)
    inside = (centres >= 0).all(1) & (centres <= picture.shape[1::-1]).all(1)
    if not inside.all():
        first = np.flatnonzero(~inside)[0]
        raise ValueError(
            f"spot {first} at x, y = {centres[first].round(1).tolist()} lies outside the picture of "
            f"{picture.shape[1]} x {picture.shape[0]} pixels ({(~inside).sum()} such spots in all): "
            "check the scale between the full-resolution pixels and this picture"
        )
    return _batches(picture, centres, width, height, out_px, batch)


def _batches(picture, centres, width, height, out_px, batch) -> Iterator[np.ndarray]:
    for start in range(0, len(centres), batch):
        yield np.stack(
            [_crop(picture, x, y, width, height, out_px) for x, y in centres[start : start + batch]]
        )


def _crop(picture, x, y, width, height, out_px) -> np.ndarray:
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    x0, y0, x1, y1 = (int(edge) for edge in (*np.floor([left, top]), *np.ceil([right, bottom])))
    # the part of the block that exists; a negative index would silently wrap round to the other border
    u0, v0, u1, v1 = max(x0, 0), max(y0, 0), min(x1, picture.shape[1]), min(y1, picture.shape[0])
    block = np.full((y1 - y0, x1 - x0, 3), WHITE, np.uint8)
    block[v0 - y0 : v1 - y0, u0 - x0 : u1 - x0] = picture[v0:v1, u0:u1]
    box = (left - x0, top - y0, right - x0, bottom - y0)
    return np.asarray(Image.fromarray(block).resize((out_px, out_px), Image.Resampling.BILINEAR, box=box))


def white_share(crops: np.ndarray, threshold: int = 200) -> np.ndarray:
    """Share of each crop's pixels that look like glass: red, green and blue all above `threshold`.

    At 200, three of HER2ST's pictures (A2, B4, C2; glass from 207 to 255) give over 0.8 for 99 % of crops of bare glass and for
    none of the spots, fat included.

    Parameters
    ----------
    crops : ndarray of uint8, shape (n, height, width, 3)

    Returns
    -------
    ndarray of float64, shape (n,), in [0, 1]
    """
    return (crops.min(axis=3) > threshold).mean(axis=(1, 2))
