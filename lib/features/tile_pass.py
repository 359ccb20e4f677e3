"""All scales of a slide out of one pass: each 5x cell is decoded once, coarser tiles are averages of what was read."""

from collections.abc import Iterator
from queue import Full, Queue
from threading import Event, Thread

import cv2
import numpy as np

from lib.features.tile_grid import CELL_SCALE, TileGrid, um_per_px_at
from lib.inputs.slides import Slide, UnreadableTile

COARSER = 1.02
"""Most by which a level may be coarser than the finest scale and still be read for it."""

AHEAD = 4  # decoded cells that wait for the encoder


def tile_batches(
    slide: Slide, grid: TileGrid, input_px: int, batch: int = 64
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The tiles of a grid, every scale, in one pass over the slide.

    A cell is read from the coarsest level that is fine enough for the grid's finest scale and brought to that scale's
    pixels by area averaging; coarser scales are averages of the result. Decoding runs in a thread ahead of the caller.

    Parameters
    ----------
    slide : Slide
    grid : TileGrid
        Of this slide. `grid.failed` is emptied, then filled.
    input_px : int
        Side of the crops, whatever the grid's tile_px.
    batch : int
        Most crops at a time.

    Yields
    ------
    scale : int
    indices : ndarray of int64, shape (b,)
        Into `grid.tiles[scale]`. Each index comes once; those of tiles that cannot be decoded never do.
    crops : ndarray of uint8, shape (b, input_px, input_px, 3)
        RGB.

    Raises
    ------
    ValueError
        The grid belongs to another slide; a side or batch below 1.
    """
    if (grid.slide, tuple(grid.size)) != (slide.name, tuple(slide.size)):
        raise ValueError(f"the grid is of slide {grid.slide} {grid.size}, not of {slide.name} {slide.size}")
    if input_px < 1 or batch < 1:
        raise ValueError(f"input_px {input_px} and batch {batch} must be at least 1")
    grid.failed = {scale: [] for scale in grid.tiles}
    return _batches(slide, grid, input_px, batch)


def _batches(slide, grid, input_px, batch):
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
    finest = max(grid.tiles, default=CELL_SCALE)
    parts = finest // CELL_SCALE
    level = level_for(slide, finest)
    for (origin, row, column), wanted in _by_cell(grid).items():
        along = [grid.edges(finest, np.arange(parts + 1) + parts * place) for place in (column, row)]
        edges_x, edges_y = (grid.origins[origin][i] + along[i] for i in (0, 1))
        pixels, holes, cuts = _read_cell(slide, level, edges_x, edges_y)
        cell = _mosaic(pixels, cuts, input_px)
        for scale, items in wanted.items():
            times = finest // scale
            side = parts // times
            picture = (
                cell if times == 1 else cv2.resize(cell, (side * input_px,) * 2, interpolation=cv2.INTER_AREA)
            )
            kept, crops = [], []
            for index, x, y in items:
                if (
                    holes is not None
                    and holes[y * times : (y + 1) * times, x * times : (x + 1) * times].any()
                ):
                    grid.failed[scale].append(index)
                    continue
                kept.append(index)
                crops.append(picture[y * input_px : (y + 1) * input_px, x * input_px : (x + 1) * input_px])
            yield scale, kept, crops


def level_for(slide: Slide, scale: int) -> int:
    """The coarsest level that is fine enough for a scale; 0 where none is."""
    most = COARSER * um_per_px_at(scale) / slide.um_per_px
    return max((i for i, times in enumerate(slide.downsamples) if times <= most), default=0)


def _by_cell(grid: TileGrid) -> dict[tuple[int, int, int], dict[int, list[tuple[int, int, int]]]]:
    """(origin, row, column) of each cell with a tile -> scale -> (index, x, y within the cell), in reading order."""
    cells = {}
    for scale, tiles in grid.tiles.items():
        parts = scale // CELL_SCALE
        columns, rows = (tiles.places // parts).T
        within = tiles.places % parts
        for index, key in enumerate(
            zip(tiles.origins.tolist(), rows.tolist(), columns.tolist(), strict=True)
        ):
            cells.setdefault(key, {}).setdefault(scale, []).append((index, *within[index].tolist()))
    return dict(sorted(cells.items()))


def _read_cell(slide, level, edges_x, edges_y) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Pixels of a cell at a level; which of its finest tiles are unreadable (None: none); where these begin and end."""
    times = slide.downsamples[level]
    cuts = np.stack([np.rint((edges - edges[0]) / times).astype(int) for edges in (edges_x, edges_y)])
    x, y = cuts
    try:
        return slide.read(edges_x[0], edges_y[0], (x[-1], y[-1]), level), None, cuts
    except UnreadableTile:
        pass
    # tile by tile, so that one damaged spot costs the tiles that show it and no other
    cell, holes = np.empty((y[-1], x[-1], 3), np.uint8), np.zeros((len(y) - 1, len(x) - 1), bool)
    for row, column in np.ndindex(holes.shape):
        part = (x[column + 1] - x[column], y[row + 1] - y[row])
        try:
            pixels = slide.read(edges_x[column], edges_y[row], part, level)
            cell[y[row] : y[row + 1], x[column] : x[column + 1]] = pixels
        except UnreadableTile:
            holes[row, column] = True
    return cell, holes, cuts


def _mosaic(pixels: np.ndarray, cuts: np.ndarray, input_px: int) -> np.ndarray:
    """The finest tiles, each resized from its own whole pixels, side by side."""
    x, y = cuts
    cell = np.empty(((len(y) - 1) * input_px, (len(x) - 1) * input_px, 3), np.uint8)
    for row, column in np.ndindex(len(y) - 1, len(x) - 1):
        tile = pixels[y[row] : y[row + 1], x[column] : x[column + 1]]
        place = np.s_[row * input_px : (row + 1) * input_px, column * input_px : (column + 1) * input_px]
        cell[place] = cv2.resize(tile, (input_px, input_px), interpolation=cv2.INTER_AREA)
    return cell


def _ahead(items: Iterator) -> Iterator:
    """The items of an iterator that runs in a thread; its error is raised here."""
    queue, stop, end = Queue(AHEAD), Event(), object()

    def put(item) -> bool:
        while not stop.is_set():
            try:
                queue.put(item, timeout=0.1)
                return True
            except Full:
                continue
        return False

    def run():
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((end, None))
        except BaseException as error:
            put((end, error))

    thread = Thread(target=run, daemon=True, name="tiles")
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stop.set()
        thread.join()
