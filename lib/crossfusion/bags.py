"""Bags: the tiles of a slide or of a patient at several scales, read from whichever files there are."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from lib.features.feature_files import LAYOUT, SCALES, bag_files, read_foreign


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


class TileFeatures(NamedTuple):
    """The tiles of one scale.

    Attributes
    ----------
    features : ndarray of float16 or float32, shape (n, dim)
        As stored.
    coords : ndarray of float32, shape (n, 2), or None
        Centres. None where the file holds none (a bare tensor).
    """

    features: np.ndarray
    coords: np.ndarray | None


Bag = dict[int, TileFeatures]


def read_bag(folder: str | os.PathLike, slide: str, scales: Iterable[int] = SCALES) -> Bag:
    """Read a slide's tiles at several scales.

    Parameters
    ----------
    folder, slide, scales
        As `bag_files`.

    Returns
    -------
    dict of int -> TileFeatures
        By scale. Centres are in level-0 pixels, in µm from STAMP's files; None if any scale's file has none. CLAM
        records no tile size: its corners are moved by half of the distance between neighbours.

    Raises
    ------
    FileNotFoundError
        A scale has no file: a slide with one of its scales missing is never passed over.
    ValueError
        Scales of different encoders, widths or units of coordinates; a file that records another scale, or tiles whose
        recorded sizes do not go with the scales.
    """
    files = {scale: read_foreign(path) for scale, path in bag_files(folder, slide, scales).items()}
    known = {scale: file.attributes for scale, file in files.items()}
    encoders = {s: f"{about['encoder']} {about.get('revision', '')}".strip() for s, about in known.items()}
    for what, values in {
        "encoders": {scale: encoder for scale, encoder in encoders.items() if encoder},
        "widths": {scale: file.features.shape[1] for scale, file in files.items()},
        "units of coordinates": {
            s: known[s]["coords_unit"] for s, file in files.items() if file.coords is not None
        },
    }.items():
        if len(set(values.values())) > 1:
            differ = ", ".join(f"{scale}x {value}" for scale, value in values.items())
            raise ValueError(f"slide {slide}: its scales have different {what}: {differ}")
    for scale, about in known.items():
        recorded = about.get("scale") or about.get("target_magnification") or scale
        if float(recorded) != scale:
            raise ValueError(f"slide {slide}: the features taken for {scale}x are those of {recorded}x")
    sides = {scale: side for scale, about in known.items() if (side := _side(about))}
    covered = [scale * side for scale, side in sides.items()]
    if sides and max(covered) > 1.1 * min(covered):
        differ = ", ".join(f"{scale}x {side:.6g}" for scale, side in sides.items())
        raise ValueError(
            f"slide {slide}: the tiles' sides do not go with the scales: {differ}; are the folders of two scales exchanged?"
        )
    if any(file.coords is None for file in files.values()):
        return {scale: TileFeatures(file.features, None) for scale, file in files.items()}
    unknown = finest_side({scale: file.coords for scale, file in files.items()}) * max(files)
    bag = {}
    for scale, file in files.items():
        corners = known[scale]["layout"] != LAYOUT
        shift = sides.get(scale, unknown / scale) / 2 if corners else 0
        bag[scale] = TileFeatures(file.features, (file.coords + shift).astype(np.float32))
    return bag


def _side(about: Mapping) -> float:
    """Side of a tile in the unit of the coordinates; 0 where the file does not record it."""
    if about["layout"] == LAYOUT:
        return about["crop_um"] / about["um_per_px"]
    return float(about.get("patch_size_level0") or about.get("tile_size_um") or 0)


def patient_bag(bags: Sequence[Bag]) -> Bag:
    """One bag of all slides of a patient, slide after slide, which must have the same scales and widths.

    Centres are in sides of the finest tile, since slides differ in µm per pixel, and the slides stand side by side, so
    that no two tiles of different slides fall together. None if any slide has none.
    """
    shapes = [{scale: tiles.features.shape[1] for scale, tiles in bag.items()} for bag in bags]
    if odd := [i for i, shape in enumerate(shapes) if shape != shapes[0]]:
        raise ValueError(
            f"slide {odd[0] + 1} of the patient has scales and widths {shapes[odd[0]]}, the first has {shapes[0]}"
        )
    located = all(tiles.coords is not None for bag in bags for tiles in bag.values())
    placed, right = {scale: [] for scale in bags[0]}, 0
    for bag in bags if located else ():
        side = finest_side({scale: tiles.coords for scale, tiles in bag.items()}) or np.inf
        ratio = max(bag) / min(bag)
        furthest = 0
        for scale, tiles in bag.items():
            # a slide of one tile a scale has no measure: its tiles belong together
            coords = tiles.coords.astype(float) / side + (0 if np.isfinite(side) else ratio / 2)
            placed[scale].append(coords + np.array([right, 0]))
            furthest = max(furthest, coords[:, 0].max())
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

    Parameters
    ----------
    bag : dict of int -> TileFeatures
        From `read_bag` or `patient_bag`.
    cap : int
        Most tiles of the finest scale; a bag with no more is returned as it is. One cell is drawn in any case, even if
        it holds more.
    seed : int or sequence of int
        Equal seeds draw equal tiles; give the epoch with it to draw anew in each.

    Returns
    -------
    dict of int -> TileFeatures
        At least one tile of every scale, in the order of the bag.
    """
    finest, n = max(bag), len(bag[max(bag)].features)
    if n <= cap:
        return bag
    rng = np.random.default_rng(seed)
    if any(tiles.coords is None for tiles in bag.values()):
        kept = {}
        for scale, (features, _) in bag.items():
            size = max(1, int(len(features) * cap / n))
            kept[scale] = np.sort(rng.choice(len(features), size, replace=False))
    else:
        kept = _cells_drawn(bag, finest, cap, rng)
    return {
        scale: TileFeatures(features[kept[scale]], None if coords is None else coords[kept[scale]])
        for scale, (features, coords) in bag.items()
    }


def _cells_drawn(bag: Bag, finest: int, cap: int, rng: np.random.Generator) -> dict[int, np.ndarray]:
    cell = finest_side({scale: tiles.coords for scale, tiles in bag.items()}) * finest / min(bag)
    places = {scale: np.floor(tiles.coords / cell).astype(np.int64) for scale, tiles in bag.items()}
    every = np.concatenate(list(places.values()))
    left, (width, _) = every.min(0), np.ptp(every, axis=0) + 1
    keys = {scale: (place - left) @ [1, width] for scale, place in places.items()}
    _, number = np.unique(np.concatenate(list(keys.values())), return_inverse=True)
    cells = dict(zip(bag, np.split(number, np.cumsum([len(key) for key in keys.values()])[:-1]), strict=True))
    counts = {scale: np.bincount(own, minlength=number.max() + 1) for scale, own in cells.items()}
    order = rng.permutation(number.max() + 1)
    # one cell with tiles of every scale goes first, so that no scale is left without
    complete = np.all([counts[scale][order] > 0 for scale in bag], axis=0)
    first = int(complete.argmax())
    order = np.concatenate([order[first : first + 1], order[:first], order[first + 1 :]])
    fits = np.cumsum(counts[finest][order]) <= cap
    fits[0] = True
    chosen = np.zeros(number.max() + 1, bool)
    chosen[order[fits]] = True
    kept = {scale: np.flatnonzero(chosen[own]) for scale, own in cells.items()}
    return {
        scale: rows if len(rows) else rng.integers(len(cells[scale]), size=1) for scale, rows in kept.items()
    }
