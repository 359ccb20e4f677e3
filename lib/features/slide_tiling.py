"""Find slides on disk and lay their tiles."""

import os
from collections.abc import Collection
from pathlib import Path

from lib.features.clam_presets import read_preset
from lib.features.tile_grid import SCALES, TileGrid
from lib.features.tiles import clam_grid, exact_tiles
from lib.inputs.slides import Slide

SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".dcm")


def found_slides(folder: str | os.PathLike, names: Collection[str] | None = None) -> dict[str, Path]:
    """Slides of a folder and its subfolders, by name without suffix; of `names` those that have a file.

    Raises
    ------
    ValueError
        Two files of one name: which of them is meant is not known.
    """
    found, names = {}, None if names is None else set(names)
    for path in sorted(Path(folder).rglob("*")):
        if path.suffix.lower() in SUFFIXES and (names is None or path.stem in names) and path.is_file():
            if path.stem in found:
                raise ValueError(f"slide {path.stem} is there twice, as {found[path.stem]} and {path}")
            found[path.stem] = path
    return found


def tiled(
    slide: Slide,
    tiling: str,
    preset: str,
    tile_px: int,
    least_tissue: float,
    scales: tuple[int, ...] = SCALES,
) -> TileGrid:
    """The tiles of a slide at each scale: "exact" on one grid in µm, or "clam_compat" under a CLAM preset.

    Raises
    ------
    ValueError
        Another tiling, or what `exact_tiles` and `clam_grid` refuse.
    """
    if tiling == "exact":
        return exact_tiles(slide, scales, tile_px, least_tissue)
    if tiling == "clam_compat":
        return clam_grid(slide, read_preset(preset), scales, tile_px)
    raise ValueError(f"tiling {tiling!r} is neither exact nor clam_compat")
