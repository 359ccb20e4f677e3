"""Slides and sections seen by an encoder: every tile of a grid at every scale, or a crop round every spot."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from anndata import AnnData
from PIL import Image

from lib.features.encoders import Encoder
from lib.features.feature_files import write_features
from lib.features.tiles import TileGrid, tile_batches, um_per_px_at
from lib.inputs.slides import Slide

WHITE = 255
MOSTLY = 0.8  # share of a crop above which it counts as glass


def white_share(crops: np.ndarray, threshold: int = 200) -> np.ndarray:
    """Share of each crop's pixels that look like glass: red, green and blue all above `threshold`.

    At 200, three of HER2ST's pictures (A2, B4, C2; glass from 207 to 255) give over 0.8 for 99 % of crops of bare glass
    and for none of the spots, fat included.

    Crops are uint8 (n, height, width, 3), shares float64 (n,).
    """
    return (crops.min(axis=3) > threshold).mean(axis=(1, 2))


class Embedded(NamedTuple):
    """The tiles of one scale.

    counts has n_white: tiles of which more than 80 % looks like glass, kept; n_failed: tiles that could not be decoded,
    neither in features nor in coords.
    """

    features: np.ndarray  # float32, (n, dim)
    coords: np.ndarray  # float32, (n, 2): centres, level-0 pixels
    counts: dict[str, int]


def embed_slide(
    slide: Slide, grid: TileGrid, encoder: Encoder, batch: int = 64, most_failed: float = 0.02
) -> dict[int, Embedded]:
    """Encode every tile of a grid in one pass over the slide; a thread decodes what comes next meanwhile.

    The encoder sees whole tiles brought to its `input_px`, whatever the scale: its own `crop_um` plays no part.

    Parameters
    ----------
    grid : TileGrid
        Of this slide; `grid.failed` is filled.
    most_failed : float
        Largest share of a scale's tiles that may fail to decode, 0 to 1.

    Returns
    -------
    dict of int -> Embedded
        By scale, in the order of the grid's tiles.

    Raises
    ------
    ValueError
        The grid has no tiles (with its status), or more of them failed than `most_failed` allows.
    """
    if grid.status != "ok":
        note = f" ({grid.note})" if grid.note else ""
        raise ValueError(f"slide {grid.slide} has no tiles to embed: {grid.status}{note}")
    features = {scale: np.empty((len(grid.tiles[scale]), encoder.dim), np.float32) for scale in grid.scales}
    decoded = {scale: np.zeros(len(grid.tiles[scale]), bool) for scale in grid.scales}
    n_white = dict.fromkeys(grid.scales, 0)
    for scale, indices, crops in tile_batches(slide, grid, encoder.input_px, batch):
        features[scale][indices] = encoder.encode(crops)
        decoded[scale][indices] = True
        n_white[scale] += int((white_share(crops) > MOSTLY).sum())
    embedded = {}
    for scale, kept in decoded.items():
        n_failed = len(grid.failed[scale])
        assert n_failed == (~kept).sum(), (
            f"slide {grid.slide}: tiles at {scale}x are neither decoded nor failed"
        )
        if n_failed > most_failed * len(kept) or n_failed == len(kept):
            raise ValueError(
                f"slide {grid.slide}: {n_failed} of {len(kept)} tiles at {scale}x cannot be decoded, more than "
                f"{most_failed:.1%}: fetch the slide again, or raise most_failed"
            )
        counts = {"n_white": n_white[scale], "n_failed": n_failed}
        embedded[scale] = Embedded(features[scale][kept], grid.centres(scale)[kept], counts)
    return embedded


def embedding_paths(folder: str | os.PathLike, encoder: str, slide: str, scales: Iterable[int]) -> dict:
    """Where the features of a slide lie, by scale: `folder`/<encoder>/x20/<slide>.h5, x10, x5.

    What no file name takes in the encoder's name (hf-hub:owner/model) becomes a hyphen.
    """
    place = Path(folder, re.sub(r"[^\w.+-]+", "-", encoder))
    return {scale: place / f"x{scale}" / f"{slide}.h5" for scale in scales}


def write_embedding(
    folder: str | os.PathLike,
    grid: TileGrid,
    encoder: Encoder,
    embedded: Mapping[int, Embedded],
    dtype: str = "float16",
) -> dict[int, Path]:
    """Write a slide's features, one file a scale (see `embedding_paths`), each atomically.

    float16 halves the files; a value beyond 65504 is refused, then take float32.
    """
    paths = embedding_paths(folder, encoder.name, grid.slide, embedded)
    for scale, tiles in embedded.items():
        write_features(
            paths[scale],
            tiles.features,
            tiles.coords,
            encoder=encoder.name,
            revision=encoder.revision,
            um_per_px=grid.um_per_px,
            crop_um=grid.tile_px * um_per_px_at(scale),
            counts={**tiles.counts, "scale": scale},
            dtype=dtype,
        )
    return paths


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

    Yields
    ------
    ndarray of uint8, shape (at most batch, out_px, out_px, 3)
        RGB, in the order of `centres`.

    Raises
    ------
    ValueError
        Not an RGB picture of bytes; a size that is not positive; a centre outside the picture (named by its index).
    """
    width, height = np.broadcast_to(np.asarray(size_px, float), 2)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not min(width, height) > 0:
        raise ValueError(
            f"a picture is uint8 RGB (height, width, 3) and a crop has a side above 0, these are {picture.dtype} "
            f"{picture.shape} and {size_px}"
        )
    centres = np.asarray(centres, float).reshape(-1, 2)
    inside = (centres >= 0).all(1) & (centres <= picture.shape[1::-1]).all(1)
    if not inside.all():
        first = np.flatnonzero(~inside)[0]
        raise ValueError(
            f"spot {first} at x, y = {centres[first].round(1).tolist()} lies outside the picture of "
            f"{picture.shape[1]} x {picture.shape[0]} pixels ({(~inside).sum()} such spots in all): "
            "check the scale between the full-resolution pixels and this picture"
        )
    starts = range(0, len(centres), batch)
    parts = (centres[start : start + batch] for start in starts)
    return (np.stack([_crop(picture, x, y, width, height, out_px) for x, y in part]) for part in parts)


def _crop(picture, x, y, width, height, out_px) -> np.ndarray:
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    x0, y0, x1, y1 = (int(edge) for edge in (*np.floor([left, top]), *np.ceil([right, bottom])))
    # the part of the block that exists; a negative index would silently wrap round to the other border
    u0, v0, u1, v1 = max(x0, 0), max(y0, 0), min(x1, picture.shape[1]), min(y1, picture.shape[0])
    block = np.full((y1 - y0, x1 - x0, 3), WHITE, np.uint8)
    block[v0 - y0 : v1 - y0, u0 - x0 : u1 - x0] = picture[v0:v1, u0:u1]
    box = (left - x0, top - y0, right - x0, bottom - y0)
    return np.asarray(Image.fromarray(block).resize((out_px, out_px), Image.Resampling.BILINEAR, box=box))


def embed_spots(section: AnnData, picture: np.ndarray, encoder: Encoder) -> tuple[np.ndarray, dict[str, int]]:
    """Crop the picture round every spot and encode the crops.

    Parameters
    ----------
    section : AnnData
        Needs obsm["spatial"] (full-resolution pixels) and uns["section"] with um_per_px and picture_scale.
    picture : ndarray of uint8, shape (height, width, 3)
        The section's picture, RGB, full-resolution pixels times picture_scale.

    Returns
    -------
    features : ndarray of float32, shape (n, encoder.dim)
        In the order of the section's spots.
    counts : dict
        n_white: spots of whose crop more than 80 % looks like glass; n_failed: 0, a crop that cannot be cut raises.
    """
    about = section.uns["section"]
    if not about["picture"]:
        raise ValueError(f"section {about['name']} has no picture: run it with genes only")
    scale = np.asarray(about["picture_scale"], float)
    size_px = encoder.crop_um / about["um_per_px"] * scale
    features, n_white = [], 0
    for crops in crop_spots(picture, section.obsm["spatial"] * scale, size_px, encoder.input_px):
        features.append(encoder.encode(crops))
        n_white += int((white_share(crops) > MOSTLY).sum())
    return np.concatenate(features), {"n_white": n_white, "n_failed": 0}
