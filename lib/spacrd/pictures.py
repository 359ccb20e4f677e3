"""Pictures of whole sections: any file to RGB."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

DARK = "_HE_image_dark.png"
DARK_WIDTH = 2000
INSET = (slice(0, 535), slice(1500, 2000))
SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif")
TIFFS = (".tif", ".tiff", ".btf")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr")
COLOURS = ("RGB", "YCBCR", "MINISBLACK")
OUTSIDE = 0.05  # share of spots that may lie beyond the picture's border


def open_picture(path: str | Path) -> np.ndarray:
    """Read a picture of a section at its full size.

    HER2ST's ``*_HE_image_dark.png`` carry the pathologist's outlines in an inset (rows 0-534, columns 1500-1999): it
    is painted white here, as the file is opened, so that no crop can ever see a label. Their background was blacked
    out (exactly 0, 0, 0) and is painted white as well, or a crop at the tissue's edge would read as the darkest nuclei.

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
    ValueError
        Other than 8-bit RGB or grey (fluorescence, 16 bit, CMYK), cut off, or a dark picture of a size whose inset is
        not known.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    rgb = _slide(path) if suffix in SLIDES else _tiff(path) if suffix in TIFFS else _plain(path)
    if path.name.endswith(DARK):
        if rgb.shape[1] != DARK_WIDTH:
            raise ValueError(
                f"{path} is {rgb.shape[1]} pixels wide: the inset with the pathologist's outlines is known only in "
                f"pictures of {DARK_WIDTH} pixels, so this one would leak the label"
            )
        rgb[INSET] = 255
        rgb[(rgb == 0).all(axis=2)] = 255
    return rgb


def check_frame(path: Path, size: tuple[int, int], xy: np.ndarray, scale: tuple[float, float]) -> None:
    """Refuse a picture (width, height) of another frame than the spots' positions (n, 2): more than 5 % lie outside.

    `scale` takes a full-resolution pixel to a pixel of the picture. The usual cause is a picture of another resolution.
    """
    outside = ((xy * scale < 0) | (xy * scale >= size)).any(axis=1)
    if outside.mean() > OUTSIDE:
        raise ValueError(
            f"{int(outside.sum())} of {len(xy)} spots lie outside {path} ({size[0]} x {size[1]} pixels, scale "
            f"{scale[0]:.4g}): the picture is of another resolution or section than the positions"
        )


def shrunk(
    rgb: np.ndarray, scale: tuple[float, float], longest: int, resample=Image.Resampling.BOX
) -> tuple[np.ndarray, float]:
    """The picture with its longer side at `longest` pixels or less, and its pixels per full-resolution pixel.

    One number for both axes, as scanpy and squidpy have it, also where `scale` (sx, sy) differs between them.
    """
    full = np.array(rgb.shape[1::-1]) / scale
    factor = min(longest / full.max(), *scale)
    size = np.maximum(1, (full * factor).round().astype(int))
    return np.asarray(Image.fromarray(rgb).resize(tuple(size.tolist()), resample)), float(factor)


def _plain(path: Path) -> np.ndarray:
    # Pillow takes more than 179 million pixels for an attack; full-resolution sections are larger than that
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as picture:
            if picture.mode not in MODES:
                raise ValueError(f"{path} holds pixels of the kind {picture.mode}: save it as 8-bit RGB")
            return (
                _over_white(picture.convert("RGBA"))
                if picture.has_transparency_data
                else np.array(picture.convert("RGB"))
            )
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _over_white(above: Image.Image) -> np.ndarray:
    white = Image.new("RGBA", above.size, "white")
    white.alpha_composite(above)
    return np.array(white.convert("RGB"))


def _slide(path: Path) -> np.ndarray:
    import openslide

    with openslide.OpenSlide(path) as slide:
        return _over_white(slide.read_region((0, 0), 0, slide.dimensions))


def _tiff(path: Path) -> np.ndarray:
    with tifffile.TiffFile(path) as file:
        series, page = file.series[0], file.pages[0]
        for each in series.pages:  # tiles beyond the file's end would be read as black
            ends = (
                [at + n for at, n in zip(each.dataoffsets, each.databytecounts, strict=True)] if each else []
            )
            if ends and max(ends) > path.stat().st_size:
                raise ValueError(f"{path} is cut off: fetch it again")
        values, axes = series.asarray(), series.axes
    values, axes = values.squeeze(), "".join(a for a, n in zip(axes, values.shape, strict=True) if n > 1)
    channels = [i for i, axis in enumerate(axes) if axis not in "YX"]
    sizes = [values.shape[i] for i in channels]
    if values.dtype != np.uint8 or page.photometric.name not in COLOURS or sizes not in ([], [3], [4]):
        raise ValueError(
            f"{path} holds {values.dtype} {page.photometric.name} with axes {axes} {values.shape}: "
            "expected one 8-bit RGB picture, not fluorescence"
        )
    if not channels:
        return np.repeat(values[..., None], 3, axis=2)
    values = np.moveaxis(values, channels[0], 2)
    if sizes == [4]:
        alpha = values[..., 3:].astype(np.float32) / 255
        colours = values[..., :3] * (1 if 1 in page.extrasamples else alpha)  # 1: already multiplied
        values = np.rint(np.minimum(colours + 255 * (1 - alpha), 255)).astype(np.uint8)
    return np.ascontiguousarray(values)
