"""Find slides on disk and lay their tiles."""

import os
import warnings
from collections.abc import Collection
from pathlib import Path

from lib.features.clam_presets import read_preset
from lib.features.tile_grid import SCALES, TileGrid
from lib.features.tiles import clam_grid, exact_tiles
from lib.inputs.names import check_names
from lib.inputs.slides import Slide

SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".dcm")


def found_slides(folder: str | os.PathLike, names: Collection[str] | None = None) -> dict[str, Path]:
    """Slides of a folder and its subfolders, by name without suffix; of `names` those that have a file.

    Raises
    ------
    ValueError
        Two files of one name: which of them is meant is not known; a name that no file should have.
    FileNotFoundError
        A link that leads to no file; no such folder, where no names are given.
    """
    folder, found, outside, names = Path(folder), {}, [], None if names is None else set(names)
    if names is None and not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder of slides")
    home = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or not (names is None or path.stem in names):
            continue
        if path.is_dir():
            warnings.warn(f"{path} is a folder named like a slide and is passed over", stacklevel=2)
            continue
        if path.stem in found:
            raise ValueError(f"slide {path.stem} is there twice, as {found[path.stem]} and {path}")
        if path.is_symlink():
            if not path.is_file():
                raise FileNotFoundError(f"slide {path} is a link that leads to no file: correct or remove it")
            if not path.resolve().is_relative_to(home):
                outside.append(path)
        found[path.stem] = path
    check_names(found, folder, "slide", zeros=False)
    if outside:
        warnings.warn(
            f"{len(outside)} of {len(found)} slides are links out of {folder}, the first {outside[0].name}: what they "
            f"lead to ({outside[0].resolve()}) is read",
            stacklevel=2,
        )
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
