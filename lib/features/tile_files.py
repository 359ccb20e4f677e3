"""A slide's grid of tiles on disk: made once, read by whoever embeds or draws it."""

import os
from pathlib import Path

import numpy as np

from lib.features.feature_files import attributes_of, whole
from lib.features.tile_grid import STATUSES, TileGrid, Tiles
from lib.files import written_hdf5
from lib.inputs.hdf5_files import opened

ABOUT = ("slide", "status", "mode", "tile_px", "cell_px", "um_per_px", "note")
PARTS = ("coords", "places", "origins", "tissue")


def write_grid(path: str | os.PathLike, grid: TileGrid) -> None:
    """Write a grid atomically; equal grids give equal bytes. What failed to decode is not part of it.

    x20/coords (n, 2) int64     x20/places (n, 2) int64     x20/origins (n,) int64     x20/tissue (n,) float32
    x10/..., x5/...             origins (k, 2) int64        attributes: slide, status, mode, tile_px, ...
    """
    with written_hdf5(path) as file:
        for name in ABOUT:
            file.attrs[name] = getattr(grid, name)
        file.attrs["size"] = np.array(grid.size, np.int64)
        file.create_dataset("origins", data=grid.origins, track_times=False)
        for scale in grid.scales:
            for name in PARTS:
                values = getattr(grid.tiles[scale], name)
                file.create_dataset(f"x{scale}/{name}", data=values, track_times=False)


def read_grid(path: str | os.PathLike) -> TileGrid:
    """Read a grid that `write_grid` wrote.

    Raises
    ------
    FileNotFoundError
    ValueError
        Not such a file, or cut short.
    """
    with opened(path, "a grid of tiles", "tile the slide again") as file:
        known = attributes_of(file)
        scales = sorted(
            (int(name[1:]) for name in file if name[:1] == "x" and name[1:].isdecimal()), reverse=True
        )
        if lacking := [name for name in (*ABOUT, "size") if name not in known] or not scales:
            raise ValueError(
                f"{Path(path).name} is no grid of tiles (it lacks {lacking}): tile the slide again"
            )
        tiles = {s: Tiles(*(whole(file[f"x{s}/{name}"]) for name in PARTS)) for s in scales}
        size = tuple(int(side) for side in known.pop("size"))
        about = {name: known[name] if known[name] is not None else "None" for name in ABOUT}
        grid = TileGrid(**about, size=size, tiles=tiles, origins=whole(file["origins"]))
    if bad := _faults(grid):
        raise ValueError(f"{Path(path).name} is damaged: {bad}; tile the slide again")
    return grid


def _faults(grid: TileGrid) -> str:
    """What is wrong with a grid, in words; empty if nothing."""
    if (
        grid.status not in STATUSES
        or len(grid.size) != 2
        or not 0 < grid.um_per_px < np.inf
        or grid.tile_px < 1
    ):
        return (
            f"status {grid.status!r}, size {grid.size}, {grid.um_per_px} µm per pixel, tile_px {grid.tile_px}"
        )
    for scale, tiles in grid.tiles.items():
        shapes = [getattr(tiles, name).shape for name in PARTS]
        if shapes != [(len(tiles), 2), (len(tiles), 2), (len(tiles),), (len(tiles),)]:
            return f"its tiles at {scale}x have {' and '.join(map(str, shapes))} numbers"
        if len(tiles) and not (tiles.origins.min() >= 0 and tiles.origins.max() < len(grid.origins)):
            return f"tiles at {scale}x count from an origin that it does not have"
        if len(tiles) and (np.abs(tiles.coords) > 2**40).any():
            return f"tiles at {scale}x lie beyond any slide"
    return ""
