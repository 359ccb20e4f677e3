"""Pictures of whole sections: any file to RGB."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

DARK = "_HE_image_dark.png"
DARK_WIDTH = 2000
INSET = (slice(0, 535), slice(1500, 2000))
SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif")
TIFFS = (".tif", ".tiff", ".btf")
MOST_PIXELS = 2**31
FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "BMP", "WEBP", "JPEG2000", "PPM")  # EPS would run another program
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr")
COLOURS = ("RGB", "YCBCR", "MINISBLACK")
SMALL, MOST_SHRUNK = 256 << 20, 200
"""Bytes unpacked that are always read, and how far more may have been packed: a white picture by 1,000."""

OUTSIDE = 0.05  # share of spots that may lie beyond the picture's border


def open_picture(path: str | Path) -> np.ndarray:
    """Read a picture of a section at its full size.

    HER2ST's ``*_HE_image_dark.png`` carry the pathologist's outlines in an inset (rows 0-534, columns 1500-1999): it
    is painted white here, as the file is opened, so that no crop can ever see a label. Their background was blacked
    out (exactly 0, 0, 0); it is painted white as well, because a crop at the tissue's edge would otherwise read as
    the darkest of nuclei.

    Parameters
    ----------
    path : path
        png, jpg, tif (pages or pyramids; the largest level is read) or a slide that OpenSlide opens (level 0).

    Returns
    -------
    uint8 array (height, width, 3)
        RGB; transparency is laid over white.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no picture, is cut off, holds other than 8-bit RGB or grey, has more than 2**31 pixels or far
        more than bytes for them, or is a dark picture of another size than known.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no picture {path}: fetch it, or leave the section's picture empty")
    suffix = path.suffix.lower()
    with _damage_said(path):
        if suffix in SLIDES:
            rgb = _read_slide(path)
        elif suffix in TIFFS:
            rgb = _read_tiff(path)
        else:
            rgb = _read_plain(path)
    if path.name.endswith(DARK):
        rgb = _without_dark(rgb, path)
    return rgb


def picture_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a picture in pixels, from its header only; errors as of `open_picture`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no picture {path}: fetch it, or leave the section's picture empty")
    with _damage_said(path):
        if path.suffix.lower() in SLIDES:
            import openslide

            with openslide.OpenSlide(path) as slide:
                return slide.dimensions
        if path.suffix.lower() in TIFFS:
            import tifffile

            with tifffile.TiffFile(path, _multifile=False) as file:
                series = _series_of(file, path)
                return series.shape[series.axes.index("X")], series.shape[series.axes.index("Y")]
        with _opened(path) as picture:
            return picture.size


def check_frame(path: Path | None, xy: np.ndarray, scale: tuple[float, float], name: str) -> None:
    """Refuse a picture that is not of the frame the spots' positions are in.

    Parameters
    ----------
    path : path or None
        The picture; None passes.
    xy : float array (n, 2)
        x, y in full-resolution pixels.
    scale : (sx, sy)
        Full-resolution pixel -> pixel of the picture.
    name : str
        The section, for the message.

    Raises
    ------
    ValueError
        If more than 5 % of the spots' centres lie outside: the usual cause is a picture of another resolution.
    """
    if path is None:
        return
    size = np.array(picture_size(path))
    outside = ((xy * scale < 0) | (xy * scale >= size)).any(axis=1)
    if outside.mean() > OUTSIDE:
        raise ValueError(
            f"section {name}: {int(outside.sum())} of {len(xy)} spots lie outside {path} ({size[0]} x {size[1]} pixels, "
            f"scale {scale[0]:.4g}): the picture is of another resolution or section than the positions"
        )


@contextmanager
def _damage_said(path: Path) -> Iterator[None]:
    """Whatever a library finds broken in a picture is said in one sentence."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, ImportError):
        raise
    except Exception as error:  # Pillow, tifffile, OpenSlide and the codecs below them raise nearly anything
        if type(error) is ValueError and str(path) in str(error):
            raise
        said = " ".join(str(error).replace(str(path), path.name).split())[:200] or type(error).__name__
        raise ValueError(
            f"{path} is not a picture that can be read, or is cut off or damaged ({said}): fetch it again"
        ) from None


def _check_pixels(path: Path, width: int, height: int, bytes_a_pixel: int = 3) -> None:
    """Refuse what would fill the memory: too many pixels, or far more than the file has bytes for."""
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"{path} has {width} x {height} pixels, more than {MOST_PIXELS}: give a smaller picture"
        )
    unpacked, packed = width * height * bytes_a_pixel, path.stat().st_size
    if unpacked > SMALL and unpacked > MOST_SHRUNK * packed:
        raise ValueError(
            f"{path} claims {width} x {height} pixels and has {packed:,} bytes for them: it is cut off, or shows nothing"
        )


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    # Pillow refuses above 179 million pixels as a decompression bomb; sections of 9,272 x 9,923 are honest and
    # a full-resolution Visium picture is larger still. The limit is Pillow's global, so it is put back at once.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path, formats=FORMATS) as picture:
            _check_pixels(path, *picture.size)
            if picture.mode not in MODES:
                raise ValueError(
                    f"{path} holds pixels of the kind {picture.mode}: expected 8-bit RGB, save it as such"
                )
            yield picture
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _read_plain(path: Path) -> np.ndarray:
    with _opened(path) as picture:
        if picture.has_transparency_data:
            above = picture.convert("RGBA")
            picture = Image.new("RGBA", above.size, "white")
            picture.alpha_composite(above)
        return np.array(picture.convert("RGB"))


def _series_of(file, path: Path):
    """The largest level of a TIFF, if it is an 8-bit picture whose colours are what they seem."""
    if not file.series:
        raise ValueError(f"{path} holds no picture: fetch it again")
    series, page = file.series[0], file.pages[0]
    axes, shape = series.axes, series.shape
    if not {"X", "Y"} <= set(axes) or series.dtype != np.uint8:
        raise ValueError(
            f"{path} holds {series.dtype} with axes {axes} {shape}: expected one 8-bit RGB picture"
        )
    _check_pixels(
        path,
        shape[axes.index("X")],
        shape[axes.index("Y")],
        max(1, series.size // (shape[axes.index("X")] * shape[axes.index("Y")] or 1)),
    )
    if page.photometric.name not in COLOURS:
        raise ValueError(f"{path} holds colours as {page.photometric.name}: expected RGB, save it as such")
    return series


def _read_tiff(path: Path) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(path, _multifile=False) as file:
        series = _series_of(file, path)
        _check_whole(series, path)
        values, axes = series.asarray(), series.axes
        premultiplied = 1 in file.pages[0].extrasamples
    channel = next((axis for axis in "SC" if axis in axes), None)
    others = [i for i, axis in enumerate(axes) if axis not in ("Y", "X", channel)]
    if any(values.shape[i] != 1 for i in others):
        raise ValueError(
            f"{path} holds {values.dtype} with axes {axes} {values.shape}: expected one 8-bit RGB picture"
        )
    values = values.squeeze(axis=tuple(others))
    kept = [axis for i, axis in enumerate(axes) if i not in others]
    if channel is None:
        return np.repeat(values[..., None], 3, axis=2)
    values = np.moveaxis(values, kept.index(channel), 2)
    if values.shape[2] not in (3, 4):
        raise ValueError(f"{path} has {values.shape[2]} channels: expected RGB, not fluorescence")
    if values.shape[2] == 4:
        alpha = values[..., 3:].astype(np.float32) / 255
        colours = values[..., :3] * (1 if premultiplied else alpha)
        values = np.rint(np.minimum(colours + 255 * (1 - alpha), 255)).astype(np.uint8)
    return np.ascontiguousarray(values)


def _check_whole(series, path: Path) -> None:
    """Refuse a TIFF whose tiles lie beyond its end: they would be read as black."""
    size = path.stat().st_size
    for page in series.pages:
        if page is None:
            continue
        ends = [start + length for start, length in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if ends and max(ends) > size:
            raise ValueError(
                f"{path} is cut off: it has {size:,} bytes and needs {max(ends):,}; fetch it again"
            )


def _read_slide(path: Path) -> np.ndarray:
    import openslide

    with openslide.OpenSlide(path) as slide:
        _check_pixels(path, *slide.dimensions)
        above = slide.read_region((0, 0), 0, slide.dimensions)
        white = Image.new("RGBA", above.size, "white")
        white.alpha_composite(above)
        return np.array(white.convert("RGB"))


def _without_dark(rgb: np.ndarray, path: Path) -> np.ndarray:
    if rgb.shape[1] != DARK_WIDTH:
        raise ValueError(
            f"{path} is {rgb.shape[1]} pixels wide: the inset with the pathologist's outlines is known only in the "
            f"pictures of {DARK_WIDTH} pixels, so this one would leak the label"
        )
    rgb[INSET] = 255
    rgb[(rgb == 0).all(axis=2)] = 255
    return rgb
