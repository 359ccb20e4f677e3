"""Bags: the tiles of a slide or of a patient at several scales, read from whichever files there are."""

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from lib.features.feature_files import LAYOUT, SCALES, bag_files, read_foreign, spacing


def finest_side(coords: Mapping[int, np.ndarray]) -> float:
    """Side of the finest scale's tiles, from centres or corners (n, 2) by scale, of tiles without overlap.

    In the unit of `coords`; 0 if no scale has two tiles.
    """
    for scale in sorted(coords, reverse=True):
        if side := spacing(coords[scale]):
            return side * scale / max(coords)
    return 0.0


class TileFeatures(NamedTuple):
    features: np.ndarray  # (n, dim) float16 or float32, as stored
    coords: np.ndarray | None  # (n, 2) float32, centres; None where the file holds none (a bare tensor)


Bag = dict[int, TileFeatures]


def read_bag(folder: str | os.PathLike, slide: str, scales: Iterable[int] = SCALES) -> Bag:
    """Read a slide's tiles at several scales, from the files that `bag_files` finds.

    Centres are in level-0 pixels, in µm from STAMP's files; None if any scale's file has none. CLAM records no tile
    size: its corners are moved by half of the distance between neighbours. Refused are a scale without a file, scales of
    different encoders, widths or units of coordinates, a file that records another scale, and tiles whose sizes, recorded
    or told by their distances, do not go with the scales.
    """
    files = {scale: read_foreign(path) for scale, path in bag_files(folder, slide, scales).items()}
    known = {scale: file.attributes for scale, file in files.items()}
    encoders = {s: f"{about['encoder']} {about.get('revision', '')}".strip() for s, about in known.items()}
    located = {scale: file for scale, file in files.items() if file.coords is not None}
    recorded = {s: about.get("scale") or about.get("target_magnification") or s for s, about in known.items()}
    sides = {scale: side for scale, about in known.items() if (side := _side(about))}
    covered = [scale * side for scale, side in sides.items()]
    alike = {
        "encoders": {scale: encoder for scale, encoder in encoders.items() if encoder},
        "widths": {scale: file.features.shape[1] for scale, file in files.items()},
        "units of coordinates": {scale: known[scale]["coords_unit"] for scale in located},
    }
    faults = {f"different {what}": of for what, of in alike.items() if len(set(of.values())) > 1}
    if any(float(of) != scale for scale, of in recorded.items()):
        faults["files of another scale"] = {scale: f"those of {of}x" for scale, of in recorded.items()}
    steps = {scale: sides.get(scale) or spacing(file.coords) for scale, file in located.items()}
    if (sides and max(covered) > 1.1 * min(covered)) or not _fit(steps, files):
        sides = {scale: f"{side:g}" for scale, side in steps.items()} or sides
        faults["sides that do not go with them (are two folders exchanged?)"] = sides
    counts = {scale: len(file.features) for scale, file in sorted(files.items(), reverse=True)}
    if any(fewer < more for fewer, more in pairwise(counts.values())):
        faults["fewer tiles where they are finer (are two folders exchanged?)"] = counts
    for fault, values in faults.items():
        differ = ", ".join(f"{scale}x {value}" for scale, value in values.items())
        raise ValueError(f"slide {slide}: its scales have {fault}: {differ}")
    if len(located) < len(files):
        return {scale: TileFeatures(file.features, None) for scale, file in files.items()}
    unknown = finest_side({scale: file.coords for scale, file in files.items()}) * max(files)
    bag = {}
    for scale, file in files.items():
        corners = known[scale]["layout"] != LAYOUT
        shift = sides.get(scale, unknown / scale) / 2 if corners else 0
        bag[scale] = TileFeatures(file.features, (file.coords + shift).astype(np.float32))
    for fine, coarse in pairwise(sorted(bag, reverse=True)):
        side, tree = sides.get(coarse, unknown / coarse), cKDTree(bag[coarse].coords)
        if side and (tree.query(bag[fine].coords, p=np.inf)[0] > side).mean() > 0.5:
            raise ValueError(
                f"slide {slide}: most tiles at {fine}x lie at none of {coarse}x: is one another's?"
            )
    return bag


def _fit(steps: Mapping[int, float], files: Mapping) -> bool:
    """Whether distances of neighbouring tiles, by scale, are as far apart as the scales; of fewer than 8 tiles none need be
    neighbours.
    """
    scales = sorted((scale for scale, step in steps.items() if step), reverse=True)
    for fine, coarse in pairwise(scales):
        times = steps[coarse] / steps[fine] / (fine / coarse)
        wide = fine if times < 1 else coarse
        if not 1 / 1.5 < times < 1.5 and len(files[wide].features) >= 8:
            return False
    return True


def _side(about: Mapping) -> float:
    """Side of a tile in the unit of the coordinates; 0 where the file does not record it."""
    if about["layout"] == LAYOUT:
        return about["crop_um"] / about["um_per_px"]
    return float(about.get("patch_size_level0") or about.get("tile_size_um") or 0)


def patient_bag(bags: Sequence[Bag]) -> Bag:
    """One bag of all slides of a patient, slide after slide, of the same scales and widths.

    Centres are in sides of the finest tile, since slides differ in µm per pixel, and the slides stand side by side, so
    that no two tiles of different slides fall together. None if any slide has none.
    """
    located = all(tiles.coords is not None for bag in bags for tiles in bag.values())
    placed, right = {scale: [] for scale in bags[0]}, 0
    for bag in bags if located else ():
        side = finest_side({scale: tiles.coords for scale, tiles in bag.items()}) or np.inf
        ratio = max(bag) / min(bag)
        # a slide of one tile a scale has no measure: its tiles belong together
        shift = 0 if np.isfinite(side) else ratio / 2
        coords = {scale: tiles.coords.astype(float) / side + shift for scale, tiles in bag.items()}
        for scale, some in coords.items():
            placed[scale].append(some + np.array([right, 0]))
        furthest = max(some[:, 0].max() for some in coords.values())
        # whole cells of the coarsest scale, so that the grid of every slide keeps its place in them
        right += (np.floor(furthest / ratio) + 2) * ratio
    return {
        scale: TileFeatures(
            np.concatenate([bag[scale].features for bag in bags]),
            np.concatenate(placed[scale]).astype(np.float32) if located else None,
        )
        for scale in bags[0]
    }


def drawn(bag: Bag, cap: int, seed: int | Sequence[int]) -> Bag:
    """Draw at most `cap` tiles of the finest scale, and of the coarser ones those that show the same tissue.

    What is drawn are cells of the size of the coarsest tile, all with the same chance; a cell brings its tiles of every
    scale. So a 5x tile comes with the four 10x and sixteen 20x tiles within it. Where the bag has no coordinates, the
    scales are drawn each for itself, the same share of each.

    A bag with no more than `cap` is returned as it is. One cell is drawn in any case, even if it holds more, and at least
    one tile of every scale; tiles keep the order of the bag. Equal seeds draw equal tiles.
    """
    n = len(bag[max(bag)].features)
    if n <= cap:
        return bag
    rng = np.random.default_rng(seed)
    if all(tiles.coords is not None for tiles in bag.values()):
        rows = _cells_drawn(bag, cap, rng)
    else:
        sizes = {scale: len(tiles.features) for scale, tiles in bag.items()}
        rows = {s: np.sort(rng.choice(m, max(1, int(m * cap / n)), replace=False)) for s, m in sizes.items()}
    return {
        scale: TileFeatures(features[rows[scale]], None if coords is None else coords[rows[scale]])
        for scale, (features, coords) in bag.items()
    }


def _cells_drawn(bag: Bag, cap: int, rng: np.random.Generator) -> dict[int, np.ndarray]:
    finest = max(bag)
    side = finest_side({scale: tiles.coords for scale, tiles in bag.items()}) * finest / min(bag)
    places = [np.floor(tiles.coords[:, ::-1] / side).astype(np.int64) for tiles in bag.values()]
    found, cells = np.unique(np.concatenate(places), axis=0, return_inverse=True)  # by row, then column
    parts = np.split(cells.ravel(), np.cumsum([len(some) for some in places])[:-1])
    cell_of = dict(zip(bag, parts, strict=True))
    counts = {scale: np.bincount(own, minlength=len(found)) for scale, own in cell_of.items()}
    order = rng.permutation(len(found))
    # one cell with tiles of every scale goes first, so that no scale is left without
    first = np.all([counts[scale][order] > 0 for scale in bag], axis=0).argmax()
    order = np.r_[order[first], np.delete(order, first)]
    fits = np.cumsum(counts[finest][order]) <= cap
    fits[0] = True
    rows = {scale: np.flatnonzero(np.isin(own, order[fits])) for scale, own in cell_of.items()}
    return {s: own if len(own) else rng.integers(len(cell_of[s]), size=1) for s, own in rows.items()}
