"""Whole-slide images: pixels with a scale in µm, or a sentence that says why not.

OpenSlide reads all formats. JPEG tiles of TIFF-like slides (Aperio, generic TIFF) are decoded without it, since it spends
four fifths of a read on compositing and copies; that the pixels are the same is verified on every slide that is opened.
"""

import ctypes
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from threading import Lock

import cv2
import numpy as np
import openslide
import pandas as pd
import pydicom
import tifffile
from openslide import lowlevel
from pydicom.errors import InvalidDicomError

from lib.files import check_names
from lib.inputs.tables import nearest_name

FINEST, COARSEST = 0.1, 2.4
"""µm per pixel that a scanner's level 0 may have (HEST issue 106: 0.0274 was meant to be 0.274)."""

SQUARE = 1.05  # most by which a pixel's two sides may differ
AGREE = 0.4, 1.6
"""mpp over the 10 µm / power of the objective: a 20x objective with a 2x changer is honest (0.5), 40x with 0.5 µm is not."""

REMEDY = "look up the scanner's µm per pixel and write it into params/<study>/<cohort>.yaml, um_per_px: {{{}: 0.25}}"
CONVERT = "a tiled pyramid is expected, as `vips tiffsave {} out.tif --tile --pyramid --compression jpeg --Q 90` writes it"
WHITE, UNKNOWN = 255, 128
TIFF = (".svs", ".tif", ".tiff")
SUFFIXES = (*TIFF, ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".dcm")
DICOM_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image Storage
STRIP_PX = 2**22  # pixels of a level held at a time
LEAF_PX = 256  # side at which a search for unreadable pixels ends
COMPARED_PX, ALIKE = 256, 0.98  # longer side of pictures by which levels are compared; their correlation


class UnreadableTile(ValueError):
    """Pixels inside a slide that cannot be decoded."""


def found_slides(folder: str | os.PathLike, names: Collection[str] | None = None) -> dict[str, Path]:
    """Slides of a folder and its subfolders, by name without suffix; of `names` those that have a file.

    The files of one DICOM series are one slide, of the name of any of them, or of the folder that holds this series alone.
    A ValueError for two files of one name, or names that differ in case alone; a FileNotFoundError for no such folder, where
    no names are given.
    """
    folder, found, names = Path(folder), {}, None if names is None else set(names)
    if names is None and not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder of slides")
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    named = [(path.stem, path) for path in paths if path.suffix.lower() != ".dcm" and not path.is_dir()]
    for name, path in [*named, *_dicom_slides(paths, folder, names)]:
        if (names is None or name in names) and found.setdefault(name, path) != path:
            raise ValueError(f"slide {name} is there twice, as {found[name]} and {path}")
    check_names(found, folder, "slide", zeros=False)
    return found


def check_scales(um_per_px: Collection[str], slides: Collection[str]) -> None:
    """Refuse a name under `um_per_px` that is no slide of the cohort: the slide that was meant would keep another scale."""
    if unknown := sorted(set(um_per_px) - set(slides)):
        nearest = nearest_name(unknown[0], slides)
        raise ValueError(f"um_per_px names {unknown[0]}, which is no slide of this cohort{nearest}")


def _dicom_slides(
    paths: list[Path], folder: Path, names: Collection[str] | None
) -> Iterator[tuple[str, Path]]:
    """Name and first file of each DICOM series of whole-slide images."""
    series = {}
    for path in (path for path in paths if path.suffix.lower() == ".dcm" and path.is_file()):
        try:
            about = pydicom.dcmread(path, specific_tags=["SOPClassUID", "SeriesInstanceUID"])
            key = about.SeriesInstanceUID if about.SOPClassUID == DICOM_SLIDE else ""  # a CT, say
        except (InvalidDicomError, AttributeError):
            key = path  # it is refused by its name when it is opened
        series.setdefault(key, []).append(path)
    series.pop("", None)
    alone = Counter(place for files in series.values() for place in {file.parent for file in files})
    for files in series.values():
        known, place = [file.stem for file in files], files[0].parent
        own = place != folder and alone[place] == 1  # else slides of a folder would share its name
        known = [place.name, *known] if own and len(files) > 1 else [*known, place.name] if own else known
        yield next((name for name in known if names is None or name in names), known[0]), files[0]


class Slide:
    """An open slide, of whatever OpenSlide reads; close it, or use it in a with statement. Threads may share it.

    `um_per_px`, µm per level-0 pixel that the user vouches for, is taken instead of the slide's metadata. A ValueError
    where it is no slide, or its scale is missing, contradictory or outside 0.1 to 2.4 µm.

    Attributes
    ----------
    path, name : Path, str
        The name is the file's without suffix, unless one is given; the folder's of a DICOM series.
    size, level_sizes, downsamples
        (width, height) of level 0 and of each level, pixels, and 1 for level 0; without levels that do not lie on level 0.
    file_levels : tuple of ((int, int), float)
        Size and downsample of every level of the file, as OpenSlide numbers them.
    um_per_px : float
        µm per level-0 pixel.
    note : str
        What is odd about the file, "" if nothing.
    """

    def __init__(self, path: str | os.PathLike, um_per_px: float | None = None, name: str = ""):
        path = Path(path)
        self.name = name or path.stem
        # of a DICOM series any file will do
        self.path = next(iter(sorted(path.glob("*.dcm"))), path) if path.is_dir() else path
        self._lock, self._handle = Lock(), self._opened()
        self.size = self._handle.dimensions
        sizes, stated = self._handle.level_dimensions, self._handle.level_downsamples
        self.file_levels = tuple(zip(sizes, stated, strict=True))
        self._numbers, self.level_sizes, self.downsamples = range(len(sizes)), sizes, stated
        self.um_per_px = scale_of(self._handle.properties, self.path.name, um_per_px, self.name)
        self._stored = StoredTiles(self.path, list(sizes))
        if deep := self._stored.deep:
            raise ValueError(f"{self.path.name} has {deep}: RGB of 8 bits is expected; export it again")
        for level in list(self._stored.pages):
            if not self._trusted(level):
                del self._stored.pages[level]
        true = aligned_levels(self)
        padded = [n for n, times in true.items() if times != stated[n]]
        lost = [n for n in range(len(sizes)) if n not in true]
        self._numbers, self.downsamples = [*true], tuple(true.values())
        # of a padded level the rest is canvas
        inside = {n: [int(np.ceil(side / true[n])) for side in self.size] for n in padded}
        self.level_sizes = tuple(tuple(map(min, sizes[n], inside.get(n, sizes[n]))) for n in true)
        said = {"levels {} are padded, and read at their true downsample": padded}
        said |= {"levels {} do not lie on level 0, and are not read": lost}
        self.note = "; ".join(text.format(", ".join(map(str, of))) for text, of in said.items() if of)

    def read(self, x: int, y: int, size_px: int | tuple[int, int], level: int = 0) -> np.ndarray:
        """Pixels of a region, uint8 RGB (height, width, 3); `UnreadableTile` where they cannot be decoded.

        `x` and `y` are the top left corner in level-0 pixels; `size_px` is a side, or width and height, in pixels of
        `level`. What lies outside the slide, and what the scanner left out, is white: the caller knows the bounds.
        """
        width, height = map(int, (size_px, size_px) if np.isscalar(size_px) else size_px)
        number, times = self._numbers[level], self.downsamples[level]
        stated = self.file_levels[number][1]
        if times != stated:  # OpenSlide divides by what it takes for the downsample
            x, y = round(x / times * stated), round(y / times * stated)
        try:
            region = self._from_stored(int(x), int(y), width, height, number)
            # OpenSlide knows what to show where a scanner left a tile out
            return self._from_openslide(int(x), int(y), width, height, number) if region is None else region
        except (UnreadableTile, openslide.OpenSlideError) as error:
            raise UnreadableTile(
                f"{self.path.name}: {width} x {height} pixels of level {level} at {x}, {y} cannot be decoded ({error})"
            ) from error

    def whole_level(self, level: int) -> np.ndarray:
        """One of `file_levels`, uint8 BGRA (height, width, 4), colours times alpha; `UnreadableTile` as `read`.

        As one, in the level's own pixels: corners of regions are level-0 pixels, so that with a downsample that is no
        whole number a strip begins between two rows, and OpenSlide interpolates.
        """
        try:
            return self._bgra(0, 0, *self.file_levels[level][0], level)
        except openslide.OpenSlideError as error:
            raise UnreadableTile(f"{self.path.name}: level {level} cannot be decoded ({error})") from error

    def thumbnail(self, most_px: int = 1024) -> np.ndarray:
        """The whole slide, its longer side at most `most_px` pixels: uint8 RGB (height, width, 3).

        By area averaging. What cannot be decoded is mid-grey; where nothing can, `UnreadableTile`.
        """
        times = min(1.0, most_px / max(self.size))
        size = tuple(max(1, round(side * times)) for side in self.size)
        level = max((i for i, d in enumerate(self.downsamples) if d <= 1.01 / times), default=0)
        return overview(self, level, size)[0]

    def close(self) -> None:
        self._handle.close()
        self._stored.close()

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened(self) -> openslide.OpenSlide:
        try:
            return openslide.OpenSlide(self.path)
        except (openslide.OpenSlideError, OSError) as error:
            said = f"{self.path.name} cannot be opened as a slide ({error}): {_why_not(self.path)}"
            raise ValueError(said) from error

    def _trusted(self, level: int) -> bool:
        """Whether the direct reader gives the very pixels of OpenSlide in the middle of a level."""
        (width, height), times = self.file_levels[level]
        side = min(width, height, 64)
        x, y = round((width - side) / 2 * times), round((height - side) / 2 * times)
        try:
            ours = self._from_stored(x, y, side, side, level)
            theirs = self._from_openslide(x, y, side, side, level)
        except (UnreadableTile, openslide.OpenSlideError):
            ours = None
        if ours is None:
            return False
        apart = np.abs(ours.astype(int) - theirs)
        # OpenSlide interpolates where a corner falls between pixels: a coarse level may differ a little
        exact = times == round(times) and x % times == 0 and y % times == 0
        return bool(apart.max() == 0 if exact else np.median(apart) <= 8)

    def _from_stored(self, x: int, y: int, width: int, height: int, level: int) -> np.ndarray | None:
        if level not in self._stored.pages:
            return None
        times = self._handle.level_downsamples[level]
        return self._stored.read(level, round(x / times), round(y / times), width, height)

    def _from_openslide(self, x: int, y: int, width: int, height: int, level: int) -> np.ndarray:
        bgra = self._bgra(x, y, width, height, level)
        rgb = cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGB)
        clear = WHITE - bgra[..., 3]
        # colours are premultiplied, so adding what is transparent lays them over white
        return rgb + clear[..., None] if clear.any() else rgb

    def _bgra(self, x: int, y: int, width: int, height: int, level: int) -> np.ndarray:
        # straight into an array: read_region of the package goes through three more copies
        bgra = np.empty((height, width, 4), np.uint8)
        target = bgra.ctypes.data_as(ctypes.POINTER(ctypes.c_uint32))
        with self._lock:
            try:
                lowlevel._read_region(self._handle._osr, target, x, y, level, width, height)
            except openslide.OpenSlideError:
                self._handle.close()  # after its first error an OpenSlide handle refuses everything
                self._handle = self._opened()
                raise
        return bgra


open_slide = Slide


def _why_not(path: Path) -> str:
    """What to do about a file that OpenSlide does not open."""
    if not path.is_file():
        return "there is no such file"
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            if is_cut_short(path, [page]):
                return "it is cut short, fetch it again"
            kind = "in tiles, of a kind it does not know" if page.is_tiled else "in strips, not in tiles"
            return f"it is a whole TIFF, stored {kind}: {CONVERT.format(path.name)}"
    except Exception:  # tifffile's and the format's own
        return "it is no slide, or it is cut short: fetch it again"


def is_cut_short(path: Path, pages: Iterable[tifffile.TiffPage]) -> bool:
    """Whether tiles or strips of a TIFF's pages would lie behind its end."""
    ends = [at + n for page in pages for at, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
    return max(ends, default=0) > path.stat().st_size


def aligned_levels(slide: Slide) -> dict[int, float]:
    """Number and downsample of the levels of a slide that lie on level 0: whose sides are its own over a power of 2.

    Some exports store every level on a canvas of whole tiles, and what is read there is displaced, the more the further
    from the corner (openslide#137). Such a level counts where the whole of it, at a power of 2, shows what level 0 shows.
    """
    kept = {0: 1.0}
    for level, (size, stated) in enumerate(slide.file_levels[1:], 1):
        whole = 2.0 ** np.round(np.log2(stated))
        if all(abs(full / whole - side) <= 1 for full, side in zip(slide.size, size, strict=True)):
            times = stated
        else:
            times = _true_downsample(slide, level)
        if times > 1.5 * max(kept.values()):
            kept[level] = times
    return kept


def _true_downsample(slide: Slide, level: int) -> float:
    """The power of 2 at which a level, padded behind its last row and column, shows what level 0 shows; 0 where none does."""
    size, stated = slide.file_levels[level]
    scale = min(1.0, COMPARED_PX / max(slide.size))
    found = {}
    for times in [2.0**k for k in range(1, 8) if stated / 2.2 < 2.0**k < stated * 2.2]:
        pictures = []
        for number, sides, by in ((0, slide.size, scale), (level, size, scale * times)):
            small = tuple(max(1, round(side * by)) for side in sides)
            try:
                pictures.append(overview(slide, number, small)[0].mean(axis=2))
            except UnreadableTile:
                return 0.0
        height, width = np.min([each.shape for each in pictures], axis=0)
        whole, part = (each[:height, :width].ravel() for each in pictures)
        found[times] = np.corrcoef(whole, part)[0, 1] if whole.std() and part.std() else 0.0
    best = max(found, key=found.get, default=0.0)
    return best if best and found[best] > ALIKE else 0.0


class StoredTiles:
    """Tiled JPEG pages of a TIFF that are levels of a slide, whose sizes (width, height) OpenSlide tells.

    A level whose page is not tiled JPEG is left to OpenSlide: `pages` has those that can be read here. `deep` says that
    colours have more than 8 bits, or transparency, which OpenSlide would turn into others without a word.
    """

    def __init__(self, path: str | os.PathLike, sizes: list[tuple[int, int]]):
        self.pages: dict[int, tifffile.TiffPage] = {}
        self.deep, self._file = "", open(path, "rb")  # noqa: SIM115  closed with the slide
        if Path(path).suffix.lower() not in TIFF:
            return
        try:
            with tifffile.TiffFile(path) as file:
                first = file.pages.first
                if first.bitspersample not in (1, 8) or any(first.extrasamples):
                    clear = ", one of transparency" if any(first.extrasamples) else ""
                    self.deep = f"{first.bitspersample} bits a colour{clear}"
                for page in file.pages:
                    size = page.imagewidth, page.imagelength
                    jpeg = page.is_tiled and page.compression == tifffile.COMPRESSION.JPEG
                    if jpeg and page.samplesperpixel == 3 and size in sizes:
                        # the page's tables are read here, because tifffile's own file is not safe between threads
                        page.decode, page.jpegtables, page.dataoffsets, page.databytecounts  # noqa: B018
                        self.pages.setdefault(sizes.index(size), page)
        except Exception:  # what tifffile cannot read, OpenSlide judges
            self.pages = {}

    def close(self) -> None:
        self._file.close()

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray | None:
        """Pixels, uint8 RGB (height, width, 3), of a region in pixels of a level; white outside it.

        None where the file stores nothing for a tile, `UnreadableTile` where one is cut short or no JPEG.
        """
        page = self.pages[level]
        side_x, side_y = page.tilewidth, page.tilelength
        right, bottom = min(x + width, page.imagewidth), min(y + height, page.imagelength)
        columns = range(max(x, 0) // side_x, -(-right // side_x))
        rows = range(max(y, 0) // side_y, -(-bottom // side_y))
        region = np.full((height, width, 3), WHITE, np.uint8)
        for row, column in product(rows, columns):
            tile = self._tile(page, row * (-(-page.imagewidth // side_x)) + column)
            if tile is None:
                return None
            left, top = column * side_x, row * side_y
            u, v, u1, v1 = max(left, x), max(top, y), min(left + side_x, right), min(top + side_y, bottom)
            region[v - y : v1 - y, u - x : u1 - x] = tile[v - top : v1 - top, u - left : u1 - left]
        return region

    def _tile(self, page: tifffile.TiffPage, index: int) -> np.ndarray | None:
        try:
            size = page.databytecounts[index]
            data = os.pread(self._file.fileno(), size, page.dataoffsets[index])
            # libjpeg fills what is missing with grey and only warns: a tile cut short is told by its missing end
            if len(data) != size or (size and data.rstrip(b"\0")[-2:] != b"\xff\xd9"):
                raise ValueError("it is cut short")
            tile = page.decode(data or None, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0]
        except Exception as error:
            raise UnreadableTile(f"stored tile {index}: {error}") from error
        return None if tile is None else tile[0]


def scale_of(
    properties: Mapping[str, str], name: str, override: float | None = None, slide: str = "SLIDE"
) -> float:
    """µm per level-0 pixel.

    From `override`, which the user vouches for; else from OpenSlide's properties openslide.mpp-x and -y, else from
    openslide.objective-power, for which 10 µm / power is taken (20x is 0.5, 40x 0.25). A ValueError that begins with the
    slide's `name` where there is none, outside 0.1 to 2.4 µm, where mpp and objective contradict each other, and for
    pixels that are not square. `slide` is how um_per_px names it.
    """
    keys, fault = ("openslide.mpp-x", "openslide.mpp-y", "openslide.objective-power"), ""
    numbers = {key: pd.to_numeric(properties[key], errors="coerce") for key in keys if properties.get(key)}
    wrong = [key for key, number in numbers.items() if not 0 < number < np.inf]
    x, y, power = map(numbers.get, keys)
    x, y = x or y, y or x
    if override is not None:
        mpp, source = float(override), "override"
    elif wrong:
        fault = f"has {properties[wrong[0]]!r} as {wrong[0]}, which is no size"
    elif x:
        mpp, source = float(x + y) / 2, "mpp"
        if max(x, y) / min(x, y) > SQUARE:
            fault = f"has pixels of {x:g} x {y:g} µm, and only square ones are known"
        elif power and not AGREE[0] <= mpp * power / 10 <= AGREE[1]:
            fault = f"contradicts itself: {mpp:.4g} µm per pixel, but objective {power:g}x means about {10 / power:.3g}"
    elif power:
        mpp, source = float(10 / power), "objective"
    else:
        fault = "names neither µm per pixel nor objective power"
    if not fault and not FINEST <= mpp <= COARSEST:
        fault = f"has {mpp:.4g} µm per pixel (from its {source}), outside {FINEST} to {COARSEST}: no scan of tissue, or wrong"
    if fault:
        raise ValueError(f"{name} {fault}: {REMEDY.format(slide)}")
    return mpp


def overview(slide: Slide, level: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A whole level brought to a smaller size by area averaging, in strips: memory does not grow with the slide.

    Returned are RGB, uint8 (height, width, 3) of width and height `size`, mid-grey where unreadable; and bool (height, width),
    True where some pixel behind it could not be decoded. `UnreadableTile` where nothing can.
    """
    full_width, full_height = slide.level_sizes[level]
    width, height = size
    rows = max(1, int(STRIP_PX / full_width * height / full_height))
    picture, unreadable = np.empty((height, width, 3), np.uint8), np.zeros((height, width), bool)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        top, bottom = (round(edge * full_height / height) for edge in (start, stop))
        strip, holes = _strip(slide, level, 0, top, full_width, max(1, bottom - top))
        picture[start:stop] = cv2.resize(strip, (width, stop - start), interpolation=cv2.INTER_AREA)
        if holes.any():
            share = cv2.resize(holes.astype(np.float32), (width, stop - start), interpolation=cv2.INTER_AREA)
            unreadable[start:stop] = share > 0
    if unreadable.all():
        raise UnreadableTile(f"{slide.path.name}: nothing of level {level} can be decoded; fetch it again")
    picture[unreadable] = UNKNOWN
    return picture, unreadable


def _strip(
    slide: Slide, level: int, x: int, y: int, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, and where they are unreadable, found by halving the longer side."""
    times = slide.downsamples[level]
    try:
        pixels = slide.read(round(x * times), round(y * times), (width, height), level)
        return pixels, np.zeros((height, width), bool)
    except UnreadableTile:
        if max(width, height) <= LEAF_PX:
            return np.full((height, width, 3), UNKNOWN, np.uint8), np.ones((height, width), bool)
    half = max(width, height) // 2
    if width >= height:
        parts, axis = [(x, y, half, height), (x + half, y, width - half, height)], 1
    else:
        parts, axis = [(x, y, width, half), (x, y + half, width, height - half)], 0
    pixels, holes = zip(*(_strip(slide, level, *part) for part in parts), strict=True)
    return np.concatenate(pixels, axis), np.concatenate(holes, axis)
