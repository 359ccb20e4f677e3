"""Slides seen by an encoder: every tile of a grid at every scale."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lib.features.encoders import Encoder
from lib.features.feature_files import count_white, write_features
from lib.features.tiles import TileGrid, tile_batches, um_per_px_at
from lib.inputs.slides import Slide


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
        n_white[scale] += count_white(crops)
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
