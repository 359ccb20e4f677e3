"""Tiles of a slide: on one grid in µm, or where CLAM puts them."""

import numpy as np

from lib.features.clam_presets import Preset
from lib.features.contours import Segmentation, inside_contour, segment
from lib.features.tile_grid import CELL_SCALE, SCALES, TileGrid, Tiles, um_per_px_at
from lib.features.tissue import Tissue, find_tissue
from lib.inputs.slides import Slide, UnreadableTile

COARSEST = 1.25
"""Most by which level 0 may be coarser than the finest scale: scanners called 20x lie between 0.4 and 0.6 µm."""


def exact_tiles(
    slide: Slide,
    scales: tuple[int, ...] = SCALES,
    tile_px: int = 256,
    least_tissue: float = 0.5,
    tissue: Tissue | None = None,
) -> TileGrid:
    """Tiles of exact physical size on one grid anchored at the slide's corner.

    A tile is `tile_px` pixels of its scale (256 px are 128, 256 and 512 µm at 20, 10 and 5), lies wholly within the
    slide and is kept where at least `least_tissue` of it is tissue, at each scale by itself.

    Parameters
    ----------
    slide : Slide
    scales : tuple of int
        Multiples of 5 by powers of two: 20 means 0.5 µm per pixel.
    tile_px : int
    least_tissue : float
        0 to 1.
    tissue : Tissue, optional
        Where it was found before.

    Returns
    -------
    TileGrid
        With a named status; a blank, tiny or pen-marked slide is no error.

    Raises
    ------
    ValueError
        Scale not known, or finer than the slide; a share outside 0 to 1.
    """
    scales = _checked(slide, scales, tile_px)
    if not 0 <= least_tissue <= 1:
        raise ValueError(f"least_tissue {least_tissue} is a share, 0 to 1")
    cell_px = tile_px * um_per_px_at(CELL_SCALE) / slide.um_per_px
    grid = _empty(slide, "exact", tile_px, cell_px, scales)
    if min(slide.size) < np.rint(grid.side_px(min(scales))):
        um = [side * slide.um_per_px for side in slide.size]
        grid.status, grid.note = "tiny", f"{um[0]:.0f} x {um[1]:.0f} µm hold no tile of {min(scales)}x"
        return grid
    try:
        tissue = find_tissue(slide) if tissue is None else tissue
    except UnreadableTile as error:
        grid.status, grid.note = "unreadable", str(error)
        return grid
    if tissue.ink.any():
        grid.note = f"pen marks on {tissue.ink.mean():.1%} of the slide are left out"
    if not tissue.mask.any():
        grid.status = "pen marks only" if tissue.ink.any() else "blank"
        return grid
    for scale in scales:
        grid.tiles[scale] = _kept(slide, grid, scale, tissue, least_tissue)
    return _judged(grid)


def clam_tiles(
    slide: Slide,
    preset: Preset,
    patch_px: int = 256,
    step_px: int | None = None,
    level: int = 0,
    found: Segmentation | None = None,
) -> np.ndarray:
    """Coordinates identical to those of CLAM's fast pipeline (Lu et al. 2021, doi 10.1038/s41551-020-00682-w).

    Each contour has a grid of its own, from the corner of its box, so that tiles of neighbours may overlap.

    Parameters
    ----------
    slide : Slide
    preset : Preset
    patch_px, step_px : int
        In pixels of `level`; the step is the patch where not given.
    level : int
    found : Segmentation, optional
        Where it was found before.

    Returns
    -------
    ndarray of int64, shape (n, 2)
        Level-0 x, y of top left corners, contour by contour, columns first. Empty where nothing was found.
    """
    found = segment(slide, preset) if found is None else found
    times = [int(full / part) for full, part in zip(slide.size, slide.level_sizes[level], strict=True)]
    patch, step = (np.array(times) * (each or patch_px) for each in (patch_px, step_px))
    parts = [_in_contour(slide, preset, found, i, patch, step)[0] for i in range(len(found.contours))]
    return np.concatenate(parts) if parts else np.empty((0, 2), np.int64)


def clam_grid(slide: Slide, preset: Preset, scales: tuple[int, ...] = SCALES, tile_px: int = 256) -> TileGrid:
    """CLAM's tiles at each scale, as a grid that one pass can decode.

    As the CrossFusion paper has it: magnifications are nominal (512, 1,024 and 2,048 level-0 pixels of a 40x slide;
    half of that at 20x), and the tiles of each scale are kept by CLAM's rule at that patch size. `tissue` is NaN.

    Parameters
    ----------
    slide : Slide
    preset : Preset
    scales : tuple of int
    tile_px : int

    Returns
    -------
    TileGrid
        Beyond the slide's border, where CLAM's padding is black, pixels are white here.

    Raises
    ------
    ValueError
        As of `exact_tiles`; the level that CLAM would segment is too large.
    """
    scales = _checked(slide, scales, tile_px)
    nominal = max(1, round(um_per_px_at(20) / slide.um_per_px))
    grid = _empty(slide, "clam_compat", tile_px, float(tile_px * nominal * 20 // CELL_SCALE), scales)
    try:
        found = segment(slide, preset)
    except UnreadableTile as error:
        grid.status, grid.note = "unreadable", str(error)
        return grid
    grid.note = found.sentence
    if not found.contours:
        grid.status = "no tissue kept" if found.seen else "blank"
        return grid
    grid.origins = np.array([contour.min(0) for contour in found.contours], np.int64)
    for scale in scales:
        patch = np.full(2, round(grid.side_px(scale)))
        parts = [_in_contour(slide, preset, found, i, patch, patch) for i in range(len(found.contours))]
        coords, places = (np.concatenate(each) for each in zip(*parts, strict=True))
        origins = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
        grid.tiles[scale] = Tiles(coords, places, origins, np.full(len(coords), np.nan, np.float32))
    return _judged(grid)


def _checked(slide: Slide, scales, tile_px: int) -> tuple[int, ...]:
    scales = tuple(sorted(set(scales), reverse=True))
    if not scales or any(scale not in (5, 10, 20, 40) for scale in scales) or tile_px < 1:
        raise ValueError(f"scales {scales} must be some of 40, 20, 10 and 5, tile_px {tile_px} at least 1")
    if slide.um_per_px > COARSEST * um_per_px_at(scales[0]):
        raise ValueError(
            f"{slide.path.name} has {slide.um_per_px:.3g} µm per pixel, and {scales[0]}x means "
            f"{um_per_px_at(scales[0]):g}: leave that scale out, its detail is not there"
        )
    return scales


def _empty(slide: Slide, mode: str, tile_px: int, cell_px: float, scales) -> TileGrid:
    none = Tiles(*(np.empty((0, 2), np.int64) for _ in "cp"), np.empty(0, np.int64), np.empty(0, np.float32))
    tiles = dict.fromkeys(scales, none)
    return TileGrid(slide.name, "ok", mode, tile_px, cell_px, slide.um_per_px, tuple(slide.size), tiles)


def _judged(grid: TileGrid) -> TileGrid:
    if bare := [f"{scale}x" for scale, tiles in grid.tiles.items() if not len(tiles)]:
        grid.status = "no tissue kept"
        grid.note = "; ".join(filter(None, [f"no tile is kept at {', '.join(bare)}", grid.note]))
    return grid


def _kept(slide: Slide, grid: TileGrid, scale: int, tissue: Tissue, least: float) -> Tiles:
    edges = []
    for side in slide.size:
        steps = grid.edges(scale, np.arange(int(side / grid.side_px(scale)) + 2))
        edges.append(steps[steps <= side])
    share = tissue.share(*edges)
    rows, columns = np.nonzero((share >= least) & (share > 0))
    coords = np.stack([edges[0][columns], edges[1][rows]], 1)
    places = np.stack([columns, rows], 1)
    return Tiles(coords, places, np.zeros(len(rows), np.int64), share[rows, columns].astype(np.float32))


def _in_contour(slide, preset, found, index, patch, step) -> tuple[np.ndarray, np.ndarray]:
    """Kept corners (n, 2), and their column and row on the contour's own grid."""
    contour = found.contours[index]
    first = contour.min(0).astype(np.int64)
    stop = contour.max(0) + 1
    if not preset.use_padding:
        stop = np.minimum(stop, np.array(slide.size) - patch + 1)
    x, y = (np.arange(first[i], stop[i], step[i]) for i in (0, 1))
    coords = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
    coords = coords[inside_contour(coords, contour, found.holes[index], int(patch[0]), preset.contour_fn)]
    return coords, (coords - first) // step
