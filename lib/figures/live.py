"""What the book's slides and films are drawn from (`lib.pieces`, ``book/pieces/*.js``): plain dictionaries, small enough for a page.

A stage writes one as ``pieces/<name>.json``; a page names it.
"""

import base64
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image
from skimage.measure import block_reduce

from lib.features.tiles import TileGrid
from lib.files import written


def slide(size: tuple[int, int], layers: Sequence[Mapping]) -> dict:
    """Layers of marks over the picture of a slide or section ("slide").

    Parameters
    ----------
    size : (width, height)
        Of the picture that the marks' places count in, pixels.
    layers : sequence of mappings
        name; x, y (n,) centres and side (edge of a square mark or diameter of a round one), in those pixels; value (n,);
        round (default False); classes: names where values are their numbers, else `low` and `high`, the ends of the colours
        (default: of the values).
    """
    made = []
    for layer in layers:
        values = np.asarray(layer["value"], dtype=float)
        known = np.isfinite(values)
        ends = {} if "classes" in layer else {"low": np.min(values[known]), "high": np.max(values[known])}
        ends |= {key: layer[key] for key in ("low", "high") if key in layer}
        marks = {key: np.round(np.asarray(layer[key], dtype=float)[known], 1).tolist() for key in "xy"}
        marks["value"] = [_rounded(value, 3) for value in values[known]]
        plain = {key: layer[key] for key in ("name", "side", "round", "classes") if key in layer}
        made.append({**plain, **{key: _rounded(end, 3) for key, end in ends.items()}, **marks})
    return {"width": int(size[0]), "height": int(size[1]), "layers": made}


def tile_layers(grid: TileGrid, values: Mapping[str, tuple[int, ArrayLike]]) -> list[dict]:
    """Layers for `slide` of numbers of tiles: name to (scale, values (n,)), one a tile of ``grid.tiles[scale]``."""
    layers = []
    for name, (scale, numbers) in values.items():
        x, y = grid.centres(scale).T
        layers.append({"name": name, "x": x, "y": y, "side": grid.side_px(scale), "value": numbers})
    return layers


def film(
    frames: np.ndarray,
    seconds: ArrayLike,
    mask: np.ndarray,
    maps: Mapping[str, tuple[np.ndarray, str, tuple[float, float], bool]],
    most: int = 96,
) -> dict:
    """One slice of a perfusion film, with the curve of the voxel under the pointer, and its maps ("film").

    Parameters
    ----------
    frames : array (frames, rows, columns)
        Enhancement above baseline, HU.
    seconds : array (frames,)
        When each was taken.
    mask : array (rows, columns)
        Brain; outside nothing is shown, and what lies around it is cut off.
    maps : mapping of name to (array (rows, columns), unit, ends of its colours, whether high is dark)
        Maps of the same slice; NaN is not shown.
    most : int
        Rows and columns at most: a larger slice is averaged in blocks.
    """
    mask = np.asarray(mask, dtype=bool)
    rows, columns = (slice(found.min(), found.max() + 1) for found in np.nonzero(mask))
    step = -(-max(rows.stop - rows.start, columns.stop - columns.start) // most)

    def packed(values: np.ndarray) -> dict:
        inside = np.where(mask, values, np.nan)[..., rows, columns]
        with warnings.catch_warnings():  # a block without brain has no mean
            warnings.simplefilter("ignore", RuntimeWarning)
            inside = block_reduce(inside, (1,) * (inside.ndim - 2) + (step, step), np.nanmean, np.nan)
        low, high = (float(end) for end in np.nanpercentile(inside, [1, 99]))
        unit = float(max(np.nanmax(np.abs(inside)) / 32_000, 1e-9))
        whole = np.where(np.isfinite(inside), np.round(np.nan_to_num(inside) / unit), -32_768).astype("<i2")
        text = base64.b64encode(whole.tobytes()).decode()
        sizes.append(inside.shape[-2:])
        return {"low": _rounded(low, 3), "high": _rounded(high, 3), "unit": unit, "values": text}

    sizes: list[tuple[int, int]] = []
    made = []
    for name, (values, unit, (low, high), turned) in maps.items():
        made.append({**packed(values), "name": name, "of": unit, "low": low, "high": high, "turned": turned})
    whole = packed(frames)
    times = [_rounded(second, 4) for second in np.asarray(seconds, dtype=float)]
    return {"rows": sizes[-1][0], "columns": sizes[-1][1], "seconds": times, "film": whole, "maps": made}


def photograph(
    picture: ArrayLike | Image.Image, path: Path, side: int = 2400, most: int = 700_000
) -> tuple[int, int]:
    """Write a picture (uint8 where it is an array) as JPEG, its longer side at most `side` pixels and the file at most `most` bytes; its size (width, height)."""
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))
    picture = picture.convert("RGB")
    picture.thumbnail((side, side))
    for quality in (82, 70, 58, 45, 30):
        with written(path) as part:
            picture.save(part, "JPEG", quality=quality, optimize=True, progressive=True)
        if path.stat().st_size <= most:
            return picture.size
    raise ValueError(f"{path.name} is larger than {most:,} bytes even at a low quality: give a smaller side")


def _rounded(value: float, digits: int) -> float | None:
    """A number with so many significant digits; None where it is not finite."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None
