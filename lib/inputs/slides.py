"""Whole-slide images: pixels with a scale in µm, or a sentence that says why not."""

import ctypes
import os
import struct
from pathlib import Path
from threading import Lock
from types import TracebackType

import cv2
import numpy as np
import openslide
import tifffile
from openslide import lowlevel

from lib.inputs.slide_overview import overview
from lib.inputs.slide_scale import scale_of
from lib.inputs.stored_tiles import AbsentTile, StoredTiles, UnreadableTile

__all__ = ["Slide", "UnreadableTile", "open_slide"]

WHITE = 255
LAYOUT = {256, 257, 258, 259, 262, 277, 322, 323, 324, 325, 530}
"""TIFF's tags of size, compression, colour and places of tiles."""


class Slide:
    """An open slide. Made by `open_slide`; close it, or use it in a with statement. Threads may share it.

    Attributes
    ----------
    path : Path
    name : str
        File name without suffix.
    size : (int, int)
        Width and height of level 0, pixels.
    level_sizes : tuple of (int, int)
        Width and height of each level.
    downsamples : tuple of float
        Of each level, 1 for level 0.
    um_per_px : float
        µm per level-0 pixel.
    scale_from : "mpp" | "objective" | "override"
    """

    def __init__(self, path: str | os.PathLike, um_per_px: float | None = None):
        self.path = Path(path)
        self.name = self.path.stem
        self._lock, self._stored = Lock(), None
        self._handle = self._opened()
        try:
            self.size = self._handle.dimensions
            self.level_sizes = tuple(self._handle.level_dimensions)
            self.downsamples = tuple(self._handle.level_downsamples)
            self.um_per_px, self.scale_from = scale_of(self._handle.properties, self.path.name, um_per_px)
            self._stored = self._trusted_tiles()
        except BaseException:
            self.close()
            raise

    def read(self, x: int, y: int, size_px: int | tuple[int, int], level: int = 0) -> np.ndarray:
        """Pixels of a region.

        Parameters
        ----------
        x, y : int
            Top left corner in level-0 pixels.
        size_px : int or (int, int)
            Side, or width and height, in pixels of `level`.
        level : int

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)
            RGB. What lies outside the slide, and what the scanner left out, is white: the caller knows the bounds.

        Raises
        ------
        UnreadableTile
            Pixels of the region cannot be decoded.
        """
        width, height = (size_px, size_px) if np.isscalar(size_px) else size_px
        if width < 1 or height < 1 or not 0 <= level < len(self.downsamples):
            raise ValueError(f"{self.name}: no region of {width} x {height} pixels at level {level}")
        if self._stored is not None and level in self._stored.pages:
            try:
                return self._from_stored(int(x), int(y), int(width), int(height), level)
            except AbsentTile:
                pass  # OpenSlide knows what to show where a scanner left a tile out
            except UnreadableTile as error:
                raise UnreadableTile(
                    f"{self.path.name}: {width} x {height} pixels of level {level} at {x}, {y} cannot be decoded ({error})"
                ) from error
        return self._from_openslide(int(x), int(y), int(width), int(height), level)

    def thumbnail(self, most_px: int = 1024) -> np.ndarray:
        """The whole slide, its longer side at most `most_px` pixels: uint8 RGB (height, width, 3).

        By area averaging. What cannot be decoded is mid-grey; where nothing can, `UnreadableTile`.
        """
        times = min(1.0, most_px / max(self.size))
        size = tuple(max(1, round(side * times)) for side in self.size)
        level = max((i for i, d in enumerate(self.downsamples) if d <= 1.01 / times), default=0)
        return overview(self, level, size)[0]

    def close(self) -> None:
        """Close the files."""
        self._handle.close()
        if self._stored is not None:
            self._stored.close()

    def __enter__(self) -> "Slide":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> openslide.OpenSlide:
        if not self.path.exists():
            raise FileNotFoundError(f"no slide at {self.path}")
        _refuse_depth(self.path)
        try:
            return openslide.OpenSlide(self.path)
        except (openslide.OpenSlideError, OSError) as error:
            raise ValueError(
                f"{self.path.name} cannot be opened as a slide ({error}): fetch it again"
            ) from error

    def _trusted_tiles(self) -> StoredTiles | None:
        """The direct reader, where it gives the very pixels of OpenSlide in the middle of each level."""
        try:
            stored = StoredTiles(self.path, list(self.level_sizes))
        except ValueError:
            return None
        for level in list(stored.pages):
            (width, height), times = self.level_sizes[level], self.downsamples[level]
            side = min(width, height, 64)
            x, y = round((width - side) / 2 * times), round((height - side) / 2 * times)
            try:
                ours = stored.read(level, round(x / times), round(y / times), side, side)
                # OpenSlide interpolates where a corner falls between pixels: a coarse level may differ a little
                near = 0 if times == round(times) and x % times == 0 and y % times == 0 else 8
                apart = np.abs(ours.astype(int) - self._from_openslide(x, y, side, side, level))
                if (apart.max() if near == 0 else np.median(apart)) > near:
                    del stored.pages[level]
            except (UnreadableTile, AbsentTile):
                del stored.pages[level]
        if stored.pages:
            return stored
        stored.close()
        return None

    def _from_stored(self, x: int, y: int, width: int, height: int, level: int) -> np.ndarray:
        x, y = round(x / self.downsamples[level]), round(y / self.downsamples[level])
        full_width, full_height = self.level_sizes[level]
        u, v, u1, v1 = max(x, 0), max(y, 0), min(x + width, full_width), min(y + height, full_height)
        if (u, v, u1, v1) == (x, y, x + width, y + height):
            return self._stored.read(level, x, y, width, height)
        region = np.full((height, width, 3), WHITE, np.uint8)
        if u < u1 and v < v1:
            region[v - y : v1 - y, u - x : u1 - x] = self._stored.read(level, u, v, u1 - u, v1 - v)
        return region

    def _from_openslide(self, x: int, y: int, width: int, height: int, level: int) -> np.ndarray:
        # straight into an array: read_region of the package goes through three more copies
        bgra = np.empty((height, width, 4), np.uint8)
        target = bgra.ctypes.data_as(ctypes.POINTER(ctypes.c_uint32))
        with self._lock:
            try:
                lowlevel._read_region(self._handle._osr, target, x, y, level, width, height)
            except openslide.OpenSlideError as error:
                # after its first error an OpenSlide handle refuses everything
                self._handle.close()
                self._handle = self._opened()
                raise UnreadableTile(
                    f"{self.path.name}: {width} x {height} pixels of level {level} at {x}, {y} cannot be decoded ({error})"
                ) from error
        rgb = cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGB)
        clear = WHITE - bgra[..., 3]
        # colours are premultiplied, so adding what is transparent lays them over white
        return rgb + clear[..., None] if clear.any() else rgb


def _refuse_depth(path: Path) -> None:
    """Refuse colours of more than 8 bits, and transparency: OpenSlide would turn them into others without a word."""
    if path.suffix.lower() not in (".svs", ".tif", ".tiff") or not path.is_file():
        return
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            bits, extra = page.bitspersample, tuple(page.extrasamples)
            lost = _listed(file, page) & LAYOUT - set(page.tags.keys())
    except Exception:  # what tifffile cannot read, OpenSlide judges
        return
    if lost:
        raise ValueError(
            f"{path.name} is damaged: its directory does not say how tiles are stored; fetch it again"
        )
    if bits not in (1, 8):
        raise ValueError(f"{path.name} has {bits} bits a colour: 8 are expected; export it again")
    if any(extra):
        raise ValueError(f"{path.name} has a channel of transparency: export it again as RGB")


def _listed(file: tifffile.TiffFile, page: tifffile.TiffPage) -> set[int]:
    """Numbers of the tags that a page's directory lists, whether or not their values can be read."""
    about, stream = file.tiff, file.filehandle
    stream.seek(page.offset)
    count = struct.unpack(about.tagnoformat, stream.read(about.tagnosize))[0]
    entries = stream.read(min(count, 1000) * about.tagsize)
    return {
        struct.unpack_from(about.byteorder + "H", entries, at)[0]
        for at in range(0, len(entries) - 1, about.tagsize)
    }


def open_slide(path: str | os.PathLike, um_per_px: float | None = None) -> Slide:
    """Open a slide.

    Parameters
    ----------
    path : path
        Whatever OpenSlide reads.
    um_per_px : float, optional
        µm per level-0 pixel from a table of overrides (`lib.inputs.slide_scale.read_overrides`): taken instead of the
        slide's metadata.

    Returns
    -------
    Slide

    Raises
    ------
    FileNotFoundError
    ValueError
        Not a slide; or its scale is missing, contradictory or outside 0.1 to 2.4 µm per pixel.
    """
    return Slide(path, um_per_px)
