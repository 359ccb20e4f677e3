"""Where the tiles of a slide lie, at every scale."""

from dataclasses import dataclass, field

import numpy as np

CELL_SCALE = 5
"""The coarsest scale: a cell of the grid is one of its tiles, and the unit of decoding."""

SCALES = (20, 10, 5)
STATUSES = ("ok", "blank", "tiny", "pen marks only", "no tissue kept", "unreadable")


def um_per_px_at(scale: int) -> float:
    """µm per pixel of a scale named by its magnification: 0.5 at 20, 1 at 10, 2 at 5."""
    return 10.0 / scale


@dataclass(frozen=True)
class Tiles:
    """Tiles of one scale, in rows from the top left.

    Attributes
    ----------
    coords : ndarray of int64, shape (n, 2)
        x, y of the top left corner, level-0 pixels.
    places : ndarray of int64, shape (n, 2)
        Column and row on the grid of this scale.
    origins : ndarray of int64, shape (n,)
        Which row of the grid's `origins` columns and rows are counted from.
    tissue : ndarray of float32, shape (n,)
        Share of the tile that is tissue, 0 to 1; NaN where it was not measured.
    """

    coords: np.ndarray
    places: np.ndarray
    origins: np.ndarray
    tissue: np.ndarray

    def __len__(self) -> int:
        return len(self.coords)


@dataclass
class TileGrid:
    """The kept tiles of a slide. A 5x cell holds 4 tiles of 10x and 16 of 20x.

    Attributes
    ----------
    slide : str
        Name.
    status : str
        One of `STATUSES`; "ok" where every scale has a tile.
    mode : "exact" | "clam_compat"
    tile_px : int
        Side of a tile in pixels of its scale.
    cell_px : float
        Side of a 5x cell in level-0 pixels.
    um_per_px : float
        µm per level-0 pixel.
    size : (int, int)
        Width and height of level 0.
    tiles : dict of int -> Tiles
        By scale.
    origins : ndarray of int64, shape (k, 2)
        Level-0 pixels: one, (0, 0), of the exact mode; one a contour of clam_compat.
    failed : dict of int -> list of int
        Indices of tiles that could not be decoded, by scale: filled by `lib.features.tile_pass.tile_batches`.
    note : str
        What a reader should know beside the status; empty if nothing.
    """

    slide: str
    status: str
    mode: str
    tile_px: int
    cell_px: float
    um_per_px: float
    size: tuple[int, int]
    tiles: dict[int, Tiles]
    origins: np.ndarray = field(default_factory=lambda: np.zeros((1, 2), np.int64))
    failed: dict[int, list[int]] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self):
        self.failed = {scale: list(self.failed.get(scale, [])) for scale in self.tiles}

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

    def failed_share(self, scale: int) -> float:
        """Share of a scale's tiles that could not be decoded; NaN where it has none."""
        return len(self.failed[scale]) / len(self.tiles[scale]) if len(self.tiles[scale]) else float("nan")
