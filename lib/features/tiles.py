"""Tiles of a slide at every scale: on one grid in µm, or where CLAM puts them; on disk, decoded in one pass, embedded.

Each 5x cell is decoded once; coarser tiles are averages of what was read.
"""

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from lib.data import RAW
from lib.features.clam import PRESETS, Preset, inside_contour, read_preset, read_process_list, segment
from lib.features.feature_files import SCALES, Encoder, attributes_of, count_white, whole, write_features
from lib.features.tissue import find_tissue
from lib.files import opened, written, written_hdf5
from lib.inputs.slides import UNKNOWN, Slide, UnreadableTile, overview
from lib.params import Tiling

CELL_SCALE = 5  # the coarsest scale: a cell of the grid is one of its tiles, and the unit of decoding
# most by which level 0 may be coarser than the finest scale: scanners called 20x lie between 0.4 and 0.6 µm
COARSEST = 1.25
COARSER = 1.02  # most by which a level may be coarser than the finest scale and still be read for it
PICTURE_PX = 2048  # longest side of a slide's pictures
LEFT_OUT = "left out: the process_list has process 0, or no row of it"
COVERED = 0.9  # share of a slide's tissue below which it is said how much its tiles cover
AHEAD = 4  # decoded cells that wait for the encoder


def um_per_px_at(scale: int) -> float:
    """µm per pixel of a scale named by its magnification: 0.5 at 20, 1 at 10, 2 at 5."""
    return 10.0 / scale


@dataclass(frozen=True)
class Tiles:
    """Tiles of one scale, in rows from the top left."""

    coords: np.ndarray  # int64 (n, 2): x, y of the top left corner, level-0 pixels
    places: np.ndarray  # int64 (n, 2): column and row on the grid of this scale, counted from its origin
    origins: np.ndarray  # int64 (n,): which of the grid's `origins`
    tissue: np.ndarray  # float32 (n,): share that is tissue, 0 to 1; NaN where it was not measured

    def __len__(self) -> int:
        return len(self.coords)


@dataclass
class TileGrid:
    """The kept tiles of a slide by scale. A 5x cell holds 4 tiles of 10x and 16 of 20x.

    `origins` (k, 2) are level-0 pixels: one, (0, 0), of the exact mode; one a contour of clam_compat, or more of them
    where its tiles overlap. `failed` are indices of tiles that could not be decoded, by scale, filled by `tile_batches`.
    """

    slide: str
    # "ok" (every scale has a tile), "tiny", "no tissue kept", "unreadable", or what `Tissue` has instead of tissue
    status: str
    mode: str  # "exact" or "clam_compat"
    tile_px: int  # side of a tile in pixels of its scale
    cell_px: float  # side of a 5x cell in level-0 pixels, not rounded
    um_per_px: float  # of level 0
    size: tuple[int, int]  # width and height of level 0
    tiles: dict[int, Tiles]
    origins: np.ndarray = field(default_factory=lambda: np.zeros((1, 2), np.int64))
    failed: dict[int, list[int]] = field(default_factory=dict)
    note: str = ""  # what a reader should know beside the status
    # of tissue and of holes in it, each (m, 2) level-0 pixels; for pictures, not filed
    outlines: tuple[list, list] = ((), ())
    # share of the tissue that lies under a scale's tiles
    coverage: dict[int, float] = field(default_factory=dict)

    @property
    def scales(self) -> tuple[int, ...]:
        """From fine to coarse."""
        return tuple(sorted(self.tiles, reverse=True))

    def side_px(self, scale: int) -> float:
        """Side of a tile in level-0 pixels; not rounded."""
        return self.cell_px * CELL_SCALE / scale

    def edges(self, scale: int, steps: np.ndarray) -> np.ndarray:
        """Level-0 pixel, from the origin, at which the column or row `steps` begins.

        Rounded from the exact place, so that tiles touch without gap or overlap and errors do not add up.
        """
        return np.rint(np.asarray(steps) * self.side_px(scale)).astype(np.int64)

    def centres(self, scale: int) -> np.ndarray:
        """Centres of the tiles, level-0 pixels: float32 (n, 2)."""
        return (self.tiles[scale].coords + self.side_px(scale) / 2).astype(np.float32)


ABOUT = ("slide", "status", "mode", "tile_px", "cell_px", "um_per_px", "note")
PARTS = ("coords", "places", "origins", "tissue")


def write_grid(path: str | os.PathLike, grid: TileGrid) -> None:
    """Write a grid atomically; equal grids give equal bytes. What failed to decode is not part of it.

    x20/coords (n, 2) int64     x20/places (n, 2) int64     x20/origins (n,) int64     x20/tissue (n,) float32
    x10/..., x5/...             origins (k, 2) int64        attributes: slide, status, mode, tile_px, ...
    """
    with written_hdf5(path) as file:
        file.attrs.update({name: getattr(grid, name) for name in ABOUT})
        file.attrs["size"] = np.array(grid.size, np.int64)
        file.create_dataset("origins", data=grid.origins, track_times=False)
        for scale in grid.scales:
            for name in PARTS:
                values = getattr(grid.tiles[scale], name)
                file.create_dataset(f"x{scale}/{name}", data=values, track_times=False)
            file[f"x{scale}"].attrs["coverage"] = grid.coverage.get(scale, np.nan)


def read_grid(path: str | os.PathLike) -> TileGrid:
    """Read a grid that `write_grid` wrote; FileNotFoundError or ValueError where it is not one, or cut short."""
    with opened(path, "a grid of tiles", "tile the slide again") as file:
        known = attributes_of(file)
        scales = sorted((int(name[1:]) for name in file if name != "origins"), reverse=True)
        tiles = {scale: Tiles(*(whole(file[f"x{scale}/{name}"]) for name in PARTS)) for scale in scales}
        about = {name: known[name] for name in ABOUT}
        covered = {scale: float(file[f"x{scale}"].attrs["coverage"]) for scale in scales}
        about["coverage"] = {scale: share for scale, share in covered.items() if share == share}
        size = tuple(known["size"].tolist())
        return TileGrid(**about, size=size, tiles=tiles, origins=whole(file["origins"]))


def write_pictures(folder: Path, slide: Slide, grid: TileGrid, preset: Preset | None = None) -> None:
    """Write `folder`/masks/<slide>.jpg, the outlines of tissue (green) and holes (blue), and stitches/<slide>.jpg, the tiles.

    Both as CLAM draws them: on the coarsest level up to 64 times, the tiles of the
    finest scale on black. Here no side is longer than 2,048 pixels; a slide that cannot be read is grey.
    """
    down = max(down for down in slide.downsamples if down <= 64)
    times = max(down, max(slide.size) / PICTURE_PX)
    size = tuple(max(1, round(side / times)) for side in slide.size)
    try:
        mask = overview(slide, slide.downsamples.index(down), size)[0]
    except UnreadableTile:
        mask = np.full((size[1], size[0], 3), UNKNOWN, np.uint8)
    stitch, scale = np.zeros_like(mask), size / np.array(slide.size)
    line = int((preset.line_thickness if preset else max(slide.size) / 200) * np.sqrt(scale.prod()))
    finest = grid.scales[0]
    width, height = np.ceil(grid.side_px(finest) * scale).astype(int)
    for x, y in np.ceil(grid.tiles[finest].coords * scale).astype(int).tolist():
        stitch[y : y + height, x : x + width] = mask[y : y + height, x : x + width]
    for lines, colour in zip(grid.outlines, ((0, 255, 0), (0, 0, 255)), strict=True):
        shrunk = [(line * scale).astype(np.int32) for line in lines]
        cv2.drawContours(mask, shrunk, -1, colour, max(1, line))
    for name, picture in (("masks", mask), ("stitches", stitch)):
        with written(Path(folder, name, f"{grid.slide}.jpg")) as part:
            Image.fromarray(picture).save(part, quality=75)


def exact_tiles(slide: Slide, scales=SCALES, tile_px: int = 256, least_tissue: float = 0.5) -> TileGrid:
    """Tiles of exact physical size on one grid anchored at the slide's corner.

    A tile is `tile_px` pixels of its scale (256 px are 128, 256 and 512 µm at 20, 10 and 5), and is kept where at least
    `least_tissue` of it (0 to 1) is tissue, at each scale by itself. The last column and row go beyond the slide's border,
    where it is white and no tissue: a core biopsy on a tight crop has no other 5x tile.

    `scales` are of 40, 20, 10 and 5: 20 means 0.5 µm per pixel. A blank, tiny or pen-marked slide is no error, but a named
    status; a scale finer than the slide is one. The note says where less than 90 % of the tissue is covered.
    """
    grid = _empty(slide, "exact", tile_px, tile_px * um_per_px_at(CELL_SCALE) / slide.um_per_px, scales)
    coarsest = min(grid.scales)
    side = grid.side_px(coarsest)
    if np.prod(np.minimum(slide.size, side)) < least_tissue * side**2:
        um = [each * slide.um_per_px for each in (*slide.size, side)]
        said = "{:.0f} x {:.0f} µm are less than {:.0%} of a tile of {}x, {:.0f} µm wide: lower least_tissue"
        return replace(grid, status="tiny", note=said.format(*um[:2], least_tissue, coarsest, um[2]))
    try:
        tissue = find_tissue(slide)
    except UnreadableTile as error:
        return replace(grid, status="unreadable", note=str(error))
    grid.outlines, notes = tissue.outlines(), [slide.note, *tissue.notes]
    if tissue.left_out:
        return replace(grid, status=tissue.left_out, note="; ".join(filter(None, notes)))
    area = tissue.mask.sum() * np.prod(tissue.px)
    for scale in grid.scales:
        counts = [int(np.ceil(side / grid.side_px(scale) - 1e-6)) for side in slide.size]
        edges = [grid.edges(scale, np.arange(count + 1)) for count in counts]
        share = tissue.share(*edges)
        rows, columns = np.nonzero((share >= least_tissue) & (share > 0))
        coords = np.stack([edges[0][columns], edges[1][rows]], 1)
        kept = share[rows, columns].astype(np.float32)
        grid.tiles[scale] = Tiles(coords, np.stack([columns, rows], 1), np.zeros(len(rows), np.int64), kept)
        grid.coverage[scale] = min(1.0, float(kept.sum() * grid.side_px(scale) ** 2 / area))
    if poor := [f"{share:.0%} at {scale}x" for scale, share in grid.coverage.items() if share < COVERED]:
        said = f"tiles cover {', '.join(poor)} of the tissue: a lower least_tissue than {least_tissue:g} covers more"
        notes.append(said)
    grid.note = "; ".join(filter(None, notes))
    return _judged(grid)


def clam_tiles(slide: Slide, preset: Preset, found, patch_px=256, step_px=None) -> Tiles:
    """Tiles identical to those of CLAM's fast pipeline (Lu et al. 2021, doi 10.1038/s41551-020-00682-w).

    Each contour of `found` (`lib.features.clam.segment`) has a grid of its own, from the corner of its box, so that tiles of
    neighbours may overlap. `patch_px` is the side and `step_px` the step (default: the side), level-0 pixels, one number or
    those of x and y. Contour
    by contour, columns first; `origins` are their numbers, `places` count steps, `tissue` is NaN.
    """
    parts, patch = [], np.broadcast_to(patch_px, 2)
    step = patch if step_px is None else np.broadcast_to(step_px, 2)
    for contour, holes in zip(found.contours, found.holes, strict=True):
        first = contour.min(0).astype(np.int64)
        stop = contour.max(0) + 1
        if not preset.use_padding:
            stop = np.minimum(stop, np.array(slide.size) - patch + 1)
        x, y = (np.arange(first[i], stop[i], step[i]) for i in (0, 1))
        coords = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
        coords = coords[inside_contour(coords, contour, holes, int(patch[0]), preset.contour_fn)]
        parts.append((coords, (coords - first) // step))
    none = np.empty((0, 2), np.int64)
    coords, places = (np.concatenate([none, *(part[i] for part in parts)]) for i in (0, 1))
    origins = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    return Tiles(coords, places, origins, np.full(len(coords), np.nan, np.float32))


def clam_grid(
    slide: Slide, preset: Preset, scales=SCALES, tile_px: int = 256, step: int = 0, patch_level: int = -1
) -> TileGrid:
    """CLAM's tiles at each scale, as a grid that one pass can decode; `step` and `patch_level` as in `Tiling`.

    As the CrossFusion paper has it: magnifications are nominal (512, 1,024 and 2,048 level-0 pixels of a 40x slide;
    half of that at 20x), and the tiles of each scale are kept by CLAM's rule at that patch size. With a patch level the
    finest scale has CLAM's own tiles of `tile_px` pixels of that level, whatever it magnifies, and coarser ones are twice
    and four times as wide. `tissue` is NaN. Beyond the slide's border tiles are black, as CLAM's padding is.
    """
    nominal = max(1, round(um_per_px_at(20) / slide.um_per_px))
    grid = _empty(slide, "clam_compat", tile_px, float(tile_px * nominal * 20 // CELL_SCALE), scales)
    down, finest = None, grid.scales[0]
    if patch_level >= 0:
        if patch_level >= len(slide.file_levels):
            levels = len(slide.file_levels)
            raise ValueError(f"{slide.path.name} has no level {patch_level}: patch_level is below {levels}")
        down = slide.size / np.array(slide.file_levels[patch_level][0])
        grid.cell_px = float(round(tile_px * down[0]) * finest // CELL_SCALE)
    try:
        found = segment(slide, preset)
    except UnreadableTile as error:
        return replace(grid, status="unreadable", note=str(error))
    grid.outlines = found.contours, [hole for holes in found.holes for hole in holes]
    grid.note = "; ".join(filter(None, [slide.note, found.sentence]))
    if not found.contours:
        return replace(grid, status="no tissue kept" if found.seen else "blank")
    firsts, keys, counts = np.array([contour.min(0) for contour in found.contours], np.int64), [], []
    for scale in grid.scales:
        side = round(grid.side_px(scale))
        # CLAM cuts the level's downsample to a whole number
        patch = side if down is None else tile_px * (finest // scale) * down.astype(int)
        tiles = clam_tiles(slide, preset, found, patch, patch * (step or tile_px) // tile_px)
        places, phase = np.divmod(tiles.coords - firsts[tiles.origins], side)
        grid.tiles[scale] = replace(tiles, places=places)
        keys.append(np.column_stack([tiles.origins, phase]))
        counts.append(len(tiles))
    # where tiles overlap, those that lie side by side share a grid
    known, origins = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    grid.origins = firsts[known[:, 0]] + known[:, 1:]
    for scale, own in zip(grid.scales, np.split(origins.ravel(), np.cumsum(counts)[:-1]), strict=True):
        grid.tiles[scale] = replace(grid.tiles[scale], origins=own)
    return _judged(grid)


def _empty(slide: Slide, mode: str, tile_px: int, cell_px: float, scales) -> TileGrid:
    scales = tuple(sorted(set(scales), reverse=True))
    if slide.um_per_px > COARSEST * um_per_px_at(scales[0]):
        raise ValueError(
            f"{slide.path.name} has {slide.um_per_px:.3g} µm per pixel, and {scales[0]}x means "
            f"{um_per_px_at(scales[0]):g}, so its detail is not there: leave the slide out (or, in gcmlm, lower `scale`)"
        )
    none = np.empty((0, 2), np.int64)
    tiles = dict.fromkeys(scales, Tiles(none, none, none[:, 0], none[:, 0].astype(np.float32)))
    return TileGrid(slide.name, "ok", mode, tile_px, cell_px, slide.um_per_px, tuple(slide.size), tiles)


def _judged(grid: TileGrid) -> TileGrid:
    if bare := [f"{scale}x" for scale, tiles in grid.tiles.items() if not len(tiles)]:
        grid.status = "no tissue kept"
        grid.note = "; ".join(filter(None, [f"no tile is kept at {', '.join(bare)}", grid.note]))
    return grid


def tiled(slide: Slide, how: Tiling, preset: Preset | None = None, scales=SCALES) -> TileGrid:
    """The tiles of a slide at each scale: on one grid in µm, or under a preset of CLAM (see `presets_of`)."""
    if preset is None:
        return exact_tiles(slide, scales, how.tile_px, how.least_tissue)
    return clam_grid(slide, preset, scales, how.tile_px, how.step, how.patch_level)


def presets_of(how: Tiling, slides: Iterable[str]) -> dict[str, Preset | None]:
    """The slides that are to be tiled, each with its preset of CLAM; None where tiles are laid exactly.

    Slides that the process_list leaves out are not among them. Errors as of `read_preset` and `read_process_list`, whose
    files lie in data/raw.
    """
    if how.tiling == "exact":
        return dict.fromkeys(slides)
    preset = read_preset(how.preset if how.preset in PRESETS else RAW / how.preset)
    if how.process_list:
        return read_process_list(RAW / how.process_list, preset, slides)
    return dict.fromkeys(slides, preset)


def tile_batches(slide: Slide, grid: TileGrid, input_px: int, batch: int = 64) -> Iterator[tuple]:
    """The tiles of a grid, every scale, in one pass over the slide.

    A cell is read from the coarsest level that is fine enough for the grid's finest scale and brought to that scale's
    pixels by area averaging; coarser scales are averages of the result. Decoding runs in a thread ahead of the caller.

    `input_px` is the side of the crops, whatever the grid's tile_px; `grid.failed` is emptied, then filled. Yields the scale,
    indices (b,) into `grid.tiles[scale]`, b at most `batch`, and crops, uint8 (b, input_px, input_px, 3). Each index comes
    once; those of tiles that cannot be decoded never do.
    """
    if (grid.slide, tuple(grid.size)) != (slide.name, tuple(slide.size)):
        raise ValueError(f"the grid is of slide {grid.slide} {grid.size}, not of {slide.name} {slide.size}")
    grid.failed = {scale: [] for scale in grid.tiles}
    waiting = {scale: ([], []) for scale in grid.tiles}
    for scale, indices, crops in _ahead(_cells(slide, grid, input_px)):
        numbers, pictures = waiting[scale]
        numbers.extend(indices)
        pictures.extend(crops)
        while len(numbers) >= batch:
            yield scale, np.array(numbers[:batch]), np.stack(pictures[:batch])
            del numbers[:batch], pictures[:batch]
    for scale, (numbers, pictures) in waiting.items():
        if numbers:
            yield scale, np.array(numbers), np.stack(pictures)


def _cells(slide: Slide, grid: TileGrid, input_px: int) -> Iterator[tuple[int, list[int], list[np.ndarray]]]:
    """Crops of each cell, scale by scale."""
    finest = max(grid.scales)
    parts, level = finest // CELL_SCALE, level_for(slide, grid.side_px(finest) / grid.tile_px)
    read = slide.read if grid.mode == "exact" else partial(_black_beyond, slide)
    for (origin, row, column), wanted in _by_cell(grid).items():
        along = [grid.edges(finest, np.arange(parts + 1) + parts * place) for place in (column, row)]
        edges_x, edges_y = (grid.origins[origin][i] + along[i] for i in (0, 1))
        cell, holes = _read_cell(read, slide.downsamples[level], level, edges_x, edges_y, input_px)
        for scale, items in wanted.items():
            times = finest // scale  # finest tiles along a tile of this scale
            side = (parts // times * input_px,) * 2
            picture = cell if times == 1 else cv2.resize(cell, side, interpolation=cv2.INTER_AREA)
            kept, crops = [], []
            for index, x, y in items:
                if holes[y * times : (y + 1) * times, x * times : (x + 1) * times].any():
                    grid.failed[scale].append(index)
                else:
                    kept.append(index)
                    place = np.s_[y * input_px : (y + 1) * input_px, x * input_px : (x + 1) * input_px]
                    crops.append(picture[place])
            yield scale, kept, crops


def level_for(slide: Slide, times: float) -> int:
    """The coarsest level that is fine enough for a scale so many times coarser than level 0; 0 where none is."""
    return max((i for i, down in enumerate(slide.downsamples) if down <= COARSER * times), default=0)


def _by_cell(grid: TileGrid) -> dict[tuple[int, int, int], dict[int, list[tuple[int, int, int]]]]:
    """(origin, row, column) of each cell with a tile -> scale -> (index, x, y within the cell), in reading order."""
    cells = {}
    for scale, tiles in grid.tiles.items():
        parts = scale // CELL_SCALE
        columns, rows = (tiles.places // parts).T
        within = tiles.places % parts
        keys = zip(tiles.origins.tolist(), rows.tolist(), columns.tolist(), strict=True)
        for index, key in enumerate(keys):
            cells.setdefault(key, {}).setdefault(scale, []).append((index, *within[index].tolist()))
    return dict(sorted(cells.items()))


def _black_beyond(slide: Slide, x: int, y: int, size: tuple[int, int], level: int) -> np.ndarray:
    """A region of a slide, black beyond its border as CLAM's padding is."""
    pixels = slide.read(x, y, size, level)
    right, bottom = np.rint((np.array(slide.size) - (x, y)) / slide.downsamples[level]).clip(0).astype(int)
    pixels[:, right:] = pixels[bottom:] = 0
    return pixels


def _read_cell(read, times, level, edges_x, edges_y, input_px) -> tuple[np.ndarray, np.ndarray]:
    """A cell's finest tiles, each resized from its own whole pixels, side by side; which of them are unreadable."""
    parts = len(edges_x) - 1
    x, y = (np.rint((edges - edges[0]) / times).astype(int) for edges in (edges_x, edges_y))
    cell, holes = np.empty((parts * input_px, parts * input_px, 3), np.uint8), np.zeros((parts, parts), bool)
    try:
        pixels = read(edges_x[0], edges_y[0], (x[-1], y[-1]), level)
    except UnreadableTile:
        pixels = None  # tile by tile then: one damaged spot costs the tiles that show it and no other
    for row, column in np.ndindex(parts, parts):
        try:
            if pixels is None:
                side = (x[column + 1] - x[column], y[row + 1] - y[row])
                tile = read(edges_x[column], edges_y[row], side, level)
            else:
                tile = pixels[y[row] : y[row + 1], x[column] : x[column + 1]]
        except UnreadableTile:
            holes[row, column] = True
            continue
        place = np.s_[row * input_px : (row + 1) * input_px, column * input_px : (column + 1) * input_px]
        cell[place] = cv2.resize(tile, (input_px, input_px), interpolation=cv2.INTER_AREA)
    return cell, holes


def _ahead(items: Iterator) -> Iterator:
    """The items of an iterator; the next few are made in a thread meanwhile."""
    end = object()
    with ThreadPoolExecutor(1, "tiles") as pool:
        waiting = deque(pool.submit(next, items, end) for _ in range(AHEAD))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item


class Embedded(NamedTuple):
    """The tiles of one scale, as an encoder sees them."""

    features: np.ndarray  # float32, (n, dim)
    coords: np.ndarray  # float32, (n, 2): centres, level-0 pixels
    # n_white: mostly glass, kept; n_failed: not decoded, neither in features nor in coords
    counts: dict[str, int]


def embed_slide(slide: Slide, grid: TileGrid, encoder: Encoder, batch=64, most_failed: float = 0.02) -> dict:
    """Encode every tile of a grid in one pass over the slide: `Embedded` by scale. A thread decodes what comes next meanwhile.

    The encoder sees whole tiles brought to its `input_px`, whatever the scale: its own `crop_um` plays no part. A ValueError
    where the grid has no tiles, with its status, and where more than the share `most_failed` (0 to 1) of a scale's tiles
    cannot be decoded.
    """
    if grid.status != "ok":
        raise ValueError(f"slide {grid.slide} has no tiles to embed: {grid.status} ({grid.note})")
    features = {scale: np.empty((len(grid.tiles[scale]), encoder.dim), np.float32) for scale in grid.scales}
    decoded = {scale: np.zeros(len(grid.tiles[scale]), bool) for scale in grid.scales}
    n_white, encoder = dict.fromkeys(grid.scales, 0), encoder.of_slide(lambda: slide.thumbnail())
    for scale, indices, crops in tile_batches(slide, grid, encoder.input_px, batch):
        features[scale][indices] = encoder.encode(crops)
        decoded[scale][indices] = True
        n_white[scale] += count_white(crops)
    embedded = {}
    for scale, kept in decoded.items():
        n_failed = int((~kept).sum())
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


def write_embedding(folder: Path, grid: TileGrid, encoder: Encoder, embedded: Mapping) -> dict[int, Path]:
    """Write a slide's features as float16, one file a scale (see `embedding_paths`), each atomically."""
    paths, exact = embedding_paths(folder, encoder.name, grid.slide, embedded), grid.mode == "exact"
    for scale, tiles in embedded.items():
        write_features(
            paths[scale],
            tiles.features,
            tiles.coords,
            encoder=encoder.name,
            revision=encoder.revision,
            um_per_px=grid.um_per_px,
            crop_um=grid.tile_px * um_per_px_at(scale) if exact else grid.side_px(scale) * grid.um_per_px,
            counts={**tiles.counts, "scale": scale},
            dtype="float16",
        )
    return paths
