"""A slide's tiles, seen by an encoder at every scale."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lib.features.crops import white_share
from lib.features.encoders import Encoder
from lib.features.feature_files import write_features
from lib.features.tile_grid import TileGrid, um_per_px_at
from lib.features.tile_pass import tile_batches
from lib.inputs.slides import Slide

MOSTLY = 0.8


class Embedded(NamedTuple):
    """The tiles of one scale.

    Attributes
    ----------
    features : ndarray of float32, shape (n, dim)
    coords : ndarray of float32, shape (n, 2)
        Centres, level-0 pixels.
    counts : dict
        n_white: tiles of which more than 80 % looks like glass, kept; n_failed: tiles that could not be decoded,
        neither in features nor in coords.
    """

    features: np.ndarray
    coords: np.ndarray
    counts: dict[str, int]


def embed_slide(
    slide: Slide, grid: TileGrid, encoder: Encoder, batch: int = 64, most_failed: float = 0.02
) -> dict[int, Embedded]:
    """Encode every tile of a grid in one pass over the slide.

    The encoder sees whole tiles brought to its `input_px`, whatever the scale: its own `crop_um` plays no part. While
    it works, a thread decodes what comes next.

    Parameters
    ----------
    slide : Slide
    grid : TileGrid
        Of this slide; `grid.failed` is filled.
    encoder : Encoder
    batch : int
        Tiles at a time.
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
    if grid.status != "ok" or not all(len(grid.tiles[scale]) for scale in grid.scales):
        note = f" ({grid.note})" if grid.note else ""
        raise ValueError(f"slide {grid.slide} has no tiles to embed: {grid.status}{note}")
    features = {scale: np.empty((len(grid.tiles[scale]), encoder.dim), np.float32) for scale in grid.scales}
    whole = {scale: np.zeros(len(grid.tiles[scale]), bool) for scale in grid.scales}
    n_white = dict.fromkeys(grid.scales, 0)
    for scale, indices, crops in tile_batches(slide, grid, encoder.input_px, batch):
        features[scale][indices] = encoder.encode(crops)
        whole[scale][indices] = True
        n_white[scale] += int((white_share(crops) > MOSTLY).sum())
    embedded = {}
    for scale, kept in whole.items():
        lost, n_failed = int((~kept).sum()), len(grid.failed[scale])
        if lost != n_failed:
            raise RuntimeError(
                f"slide {grid.slide}: {lost} of {len(kept)} tiles at {scale}x were not decoded, {n_failed} are "
                "counted as failed: a defect of lib.features.tile_pass"
            )
        if n_failed > most_failed * len(kept) or n_failed == len(kept):
            raise ValueError(
                f"slide {grid.slide}: {n_failed} of {len(kept)} tiles at {scale}x cannot be decoded, more than "
                f"{most_failed:.1%}: fetch the slide again, or raise most_failed"
            )
        tiles = features[scale] if kept.all() else features[scale][kept]
        counts = {"n_white": n_white[scale], "n_failed": n_failed}
        embedded[scale] = Embedded(tiles, grid.centres(scale)[kept], counts)
    return embedded


def embedding_paths(
    folder: str | os.PathLike, encoder: str, slide: str, scales: Iterable[int]
) -> dict[int, Path]:
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
    """Write a slide's features, one file a scale, each atomically.

    Parameters
    ----------
    folder : path
        See `embedding_paths`.
    grid : TileGrid
    encoder : Encoder
    embedded : mapping of int -> Embedded
        From `embed_slide`.
    dtype : "float16" or "float32"
        float16 halves the files; a value beyond 65504 is refused.

    Returns
    -------
    dict of int -> Path
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
