"""JPEG tiles of TIFF-like slides (Aperio, generic TIFF), decoded without OpenSlide's compositing.

OpenSlide spends four fifths of a read on compositing and copies; the pixels are the same, which `StoredTiles.agrees`
verifies on every slide before anything is taken from here.
"""

import os
from itertools import product
from pathlib import Path

import numpy as np
import tifffile

JPEG = 7
END = b"\xff\xd9"


class UnreadableTile(ValueError):
    """Pixels inside a slide that cannot be decoded."""


class AbsentTile(LookupError):
    """A tile that the scanner left out."""


class StoredTiles:
    """Tiled JPEG pages of a TIFF that are levels of a slide.

    Parameters
    ----------
    path : path
    sizes : sequence of (width, height)
        The levels, as OpenSlide has them; a level whose page is not tiled JPEG is left to OpenSlide.

    Raises
    ------
    ValueError
        No level can be read here: not a TIFF, or none of its pages fits.
    """

    def __init__(self, path: str | os.PathLike, sizes: list[tuple[int, int]]):
        if Path(path).suffix.lower() not in (".svs", ".tif", ".tiff"):
            raise ValueError(f"{path} is no TIFF")
        try:
            self.file = tifffile.TiffFile(path)
            self.pages = self._levels(sizes)
        except Exception as error:
            self.close()
            raise ValueError(f"{path} is read by OpenSlide alone: {error}") from error
        if not self.pages:
            self.close()
            raise ValueError(f"{path} has no level of JPEG tiles")
        self.descriptor = os.open(path, os.O_RDONLY)

    def _levels(self, sizes) -> dict[int, tifffile.TiffPage]:
        pages = {}
        for page in self.file.pages:
            usable = page.is_tiled and page.compression == JPEG and page.samplesperpixel == 3
            if usable and (size := (page.imagewidth, page.imagelength)) in sizes:
                # the page's tables are read here, because tifffile's own file is not safe between threads
                page.decode, page.jpegtables, page.dataoffsets, page.databytecounts  # noqa: B018
                pages.setdefault(sizes.index(size), page)
        return pages

    def close(self) -> None:
        if "descriptor" in self.__dict__:
            os.close(self.__dict__.pop("descriptor"))
        if "file" in self.__dict__:
            self.file.close()

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Pixels of a region inside a level.

        Parameters
        ----------
        level : int
            A key of `pages`.
        x, y, width, height : int
            In pixels of that level, wholly inside it.

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)
            RGB.

        Raises
        ------
        AbsentTile
            The file stores nothing for a tile of the region.
        UnreadableTile
            A stored tile is cut short or no JPEG.
        """
        page = self.pages[level]
        side_x, side_y = page.tilewidth, page.tilelength
        region = np.empty((height, width, 3), np.uint8)
        columns, rows = (
            range(x // side_x, -(-(x + width) // side_x)),
            range(y // side_y, -(-(y + height) // side_y)),
        )
        for row, column in product(rows, columns):
            tile = self._tile(page, row * (-(-page.imagewidth // side_x)) + column)
            left, top = column * side_x - x, row * side_y - y
            u, v = max(left, 0), max(top, 0)
            u1, v1 = min(left + tile.shape[1], width), min(top + tile.shape[0], height)
            region[v:v1, u:u1] = tile[v - top : v1 - top, u - left : u1 - left]
        return region

    def _tile(self, page: tifffile.TiffPage, index: int) -> np.ndarray:
        if index >= min(len(page.databytecounts), len(page.dataoffsets)):
            raise UnreadableTile(f"tile {index} is not listed")
        size = page.databytecounts[index]
        if size == 0:
            raise AbsentTile(f"tile {index} is not stored")
        data = os.pread(self.descriptor, size, page.dataoffsets[index])
        # libjpeg fills what is missing with grey and only warns: a tile cut short is told by its missing end
        if len(data) != size or data.rstrip(b"\0")[-2:] != END:
            raise UnreadableTile(f"stored tile {index} is cut short")
        try:
            tile = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0]
        except Exception as error:
            raise UnreadableTile(f"stored tile {index}: {error}") from error
        if tile is None or tile.dtype != np.uint8 or tile.shape[-1] != 3:
            raise UnreadableTile(f"stored tile {index} is no RGB")
        return tile[0]
