"""Pictures of whole sections: any file to RGB, and a crop round every spot for an encoder to see."""

import gzip
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anndata
import h5py
import numpy as np
import openslide
import tifffile
from anndata import AnnData
from PIL import Image
from scipy.ndimage import uniform_filter
from scipy.spatial import cKDTree
from sklearn.metrics import roc_auc_score

from lib.features.feature_files import Encoder, count_white
from lib.inputs.slides import SUFFIXES, is_cut_short

DARK = "_HE_image_dark.png"
DARK_WIDTH = 2000
INSET = (slice(0, 535), slice(1500, 2000))
TIFFS = (".tif", ".tiff", ".btf")
SLIDES = tuple(suffix for suffix in SUFFIXES if suffix not in (*TIFFS, ".dcm"))
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr")
COLOURS = ("RGB", "YCBCR", "MINISBLACK")
OUTSIDE = 0.05  # share of spots that may lie beyond the picture's border
LEAST_AUC = 0.92  # of darkness, spots on tissue against places off it; see `check_picture`
# correlation of a picture with a small copy of it; of the same it is .999, also as another JPEG
LEAST_LIKE = 0.99
DARKEST = 60  # of 255: where half a picture has no brighter channel, its ground is dark


def open_picture(path: str | Path) -> np.ndarray:
    """Read a picture of a section at its full size.

    HER2ST's ``*_HE_image_dark.png`` carry the pathologist's outlines in an inset (rows 0-534, columns 1500-1999): it
    is painted white here, as the file is opened, so that no crop can ever see a label. Their background was blacked
    out (exactly 0, 0, 0) and is painted white as well, or a crop at the tissue's edge would read as the darkest nuclei.

    `path` is a png, jpg (also packed, .gz), tif (pages or pyramids; the largest level is read), a slide that OpenSlide opens
    (level 0), or an h5ad, whose largest embedded picture is read. Returned is RGB, uint8 (height, width, 3); transparency is
    laid over white. Other than 8-bit RGB or grey (fluorescence, 16 bit, CMYK) is refused.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".gz":
        with unpacked(path) as plain:
            return open_picture(plain)
    if suffix == ".h5ad":
        with h5py.File(path) as file:
            return embedded(anndata.io.read_elem(file["uns"]))[0]
    rgb = _slide(path) if suffix in SLIDES else _tiff(path) if suffix in TIFFS else _plain(path)
    if path.name.endswith(DARK):
        if rgb.shape[1] != DARK_WIDTH:
            said = "the inset with the pathologist's outlines would be read, and leak the label"
            raise ValueError(f"{path} is {rgb.shape[1]} pixels wide and not {DARK_WIDTH}: {said}")
        rgb[INSET] = 255
        rgb[(rgb == 0).all(axis=2)] = 255
    return rgb


def check_picture(
    path: Path,
    size: tuple[int, int],
    small: np.ndarray,
    factor: float,
    xy: np.ndarray,
    scale: tuple[float, float],
    spot_px: float,
    bare: np.ndarray | None = None,
    most_outside: float = OUTSIDE,
    copy: np.ndarray | None = None,
) -> tuple[np.ndarray, str]:
    """Which spots at `xy` (n, 2) the picture shows, bool (n,), and a remark; refuse one that does not lie on the spots, or is no
    H&E.

    The picture is `size` (width, height); `small` and `factor` are what `shrunk` made of it. `scale` takes a full-resolution
    pixel to a pixel of the picture, `spot_px` is a spot's diameter in the former. Refused: a dark ground (fluorescence); more
    than the share `most_outside` of the spots beyond its border; a picture unlike the small `copy`, RGB, that came with the
    positions; and, where `bare` (m, 2) are places that have no tissue, one that is hardly darker under the spots than there:
    the AUC of its darkness is .984 to 1.000 in five real sections, and .56 to .86 when these are turned, mirrored, or of
    another scale. Where such places are not known, those `beside` the spots give a remark: of eight sections of HER2ST 1.00,
    and .17 to .91 when turned.
    """
    inside = ((xy * scale >= 0) & (xy * scale <= size)).all(axis=1)
    if (~inside).mean() > most_outside:
        raise ValueError(
            f"{int((~inside).sum())} of {len(xy)} spots lie outside {path} ({size[0]} x {size[1]} pixels, scale "
            f"{scale[0]:.4g}): the picture is of another resolution or section than the positions"
        )
    dark = (small.max(axis=2) < DARKEST).mean() > 0.5 or np.percentile(small.min(axis=2), 99) < DARKEST
    if dark:
        raise ValueError(
            f"{path} has a dark ground: fluorescence, or no brightfield picture; give the H&E picture, or move this one away and "
            "the section takes part with its genes"
        )
    if copy is not None and _likeness(small, copy) < LEAST_LIKE:
        raise ValueError(
            f"{path} is not the picture of which a small copy came with the positions: it is turned, mirrored or of another "
            "section. Give the picture that Space Ranger was given, or move it away and the small copy is read"
        )
    known = bare is not None and len(bare) >= 10
    darkness = uniform_filter(255 - small[..., 1].astype(np.float32), max(1, round(spot_px * factor)))
    seen = [_at(darkness, places * factor) for places in (xy, bare if known else beside(xy))]
    auc = roc_auc_score(np.repeat([1, 0], [*map(len, seen)]), np.concatenate(seen)) if len(seen[1]) else 1.0
    if len(seen[1]) < 10 or auc >= LEAST_AUC:
        return inside, ""
    said = (
        f"{path.name} does not lie on the spots: it is darker under a spot on tissue than off it in only {auc:.0%} of all pairs "
        "(99 % when right). Is it turned, mirrored, of another scale or section, or are x and y exchanged?"
    )
    if known:
        raise ValueError(f"{said} Give {path} as Space Ranger was given it, or move it away")
    return inside, f"{said} (Not so where spots on tissue were left out.)"


def beside(xy: np.ndarray) -> np.ndarray:
    """Places (m, 2) within the box of spots (n, 2), 1.5 pitches or more from all of them: glass, where all tissue has spots."""
    tree = cKDTree(xy)
    pitch = np.median(tree.query(xy, k=2)[0][:, 1])
    axes = (np.arange(low, high + 1, pitch) for low, high in zip(xy.min(0), xy.max(0), strict=True))
    places = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    return places[tree.query(places)[0] > 1.5 * pitch]


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two pictures of one frame, seen from afar; 1 where they are the same or of one colour."""
    grey = (Image.fromarray(rgb).convert("L") for rgb in (one, other))
    far = [np.asarray(picture.resize((100, 100), Image.Resampling.BOX), float).ravel() for picture in grey]
    return float(np.corrcoef(*far)[0, 1]) if min(map(np.ptp, far)) > 0 else 1.0


def _at(values: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Values of an image (height, width) at x, y; places beyond its border are left out."""
    column, row = np.floor(xy).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < values.shape[1]) & (row < values.shape[0])
    return values[row[inside], column[inside]]


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture in pixels, without reading it."""
    if path.suffix.lower() in SLIDES:
        with openslide.OpenSlide(path) as slide:
            return slide.dimensions
    if path.suffix.lower() in TIFFS:
        with tifffile.TiffFile(path) as file:
            return file.pages[0].imagewidth, file.pages[0].imagelength
    with unpacked(path) as plain, Image.open(plain) as picture:
        return picture.size


def of_frame(paths: Sequence[Path], copy_size: Sequence[int], scale: float, copy: str) -> list[Path]:
    """The pictures that are as large as a copy says, which is `scale` times as large and rounded to pixels; ValueError where
    none of some is. `copy` is what it is called.
    """
    frame, sizes = np.array(copy_size) / scale, {path: picture_size(path) for path in paths}
    off = np.maximum(2 / scale, 0.005 * frame)
    fit = [path for path, size in sizes.items() if (abs(size - frame) <= off).all()]
    if paths and not fit:
        said = " and ".join("{} has {} x {} pixels".format(path.name, *size) for path, size in sizes.items())
        raise ValueError(
            f"{said}, but {copy} and its scale {scale:g} are of a picture of {frame[0]:.0f} x {frame[1]:.0f}: it is of another "
            "scale, turned, or the instrument's own (CytAssist). Give the picture that the places were made on, or move this one "
            f"away and {copy} is read"
        )
    return fit


def shrunk(rgb: np.ndarray, scale: tuple[float, float], longest: int) -> tuple[np.ndarray, float]:
    """The picture with its longer side at `longest` pixels or less, and its pixels per full-resolution pixel.

    One number for both axes, as scanpy and squidpy have it, also where `scale` (sx, sy) differs between them.
    """
    full = np.array(rgb.shape[1::-1]) / scale
    factor = min(longest / full.max(), *scale)
    size = np.maximum(1, (full * factor).round().astype(int))
    small = Image.fromarray(rgb).resize(tuple(size.tolist()), Image.Resampling.BOX)
    return np.asarray(small), float(factor)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The file itself, or, of one that ends in .gz, its content under the same name in a folder for the time."""
    if path.suffix.lower() != ".gz":
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.stem
        with gzip.open(path) as packed, open(plain, "wb") as file:
            shutil.copyfileobj(packed, file)
        yield plain


def embedded(uns: dict) -> tuple[np.ndarray | None, float]:
    """The largest picture in `uns["spatial"]`, RGB uint8, and its pixels per full-resolution pixel; None and 1 without one."""
    found = [
        (np.asarray(image), float(library["scalefactors"][f"tissue_{name}_scalef"]))
        for library in uns.get("spatial", {}).values()
        for name, image in library.get("images", {}).items()
        if f"tissue_{name}_scalef" in library.get("scalefactors", {})
    ]
    if not found:
        return None, 1.0
    image, scale = max(found, key=lambda pair: pair[0].size)
    image = image[..., :3] * (1 if image.dtype == np.uint8 else 255)  # matplotlib reads 0 to 1
    return np.ascontiguousarray(np.rint(image).astype(np.uint8)), scale


def _plain(path: Path) -> np.ndarray:
    # Pillow takes more than 179 million pixels for an attack; full-resolution sections are larger than that
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as picture:
            if picture.mode not in MODES:
                raise ValueError(f"{path} holds pixels of the kind {picture.mode}: save it as 8-bit RGB")
            seen_through = picture.has_transparency_data
            return _over_white(picture.convert("RGBA")) if seen_through else np.array(picture.convert("RGB"))
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _over_white(above: Image.Image) -> np.ndarray:
    white = Image.new("RGBA", above.size, "white")
    white.alpha_composite(above)
    return np.array(white.convert("RGB"))


def _slide(path: Path) -> np.ndarray:
    with openslide.OpenSlide(path) as slide:
        return _over_white(slide.read_region((0, 0), 0, slide.dimensions))


def _tiff(path: Path) -> np.ndarray:
    with tifffile.TiffFile(path) as file:
        series, page = file.series[0], file.pages[0]
        if is_cut_short(path, filter(None, series.pages)):  # these tiles would be read as black
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


def crop_spots(picture: np.ndarray, centres, size_px, out_px: int, batch: int = 64) -> Iterator[np.ndarray]:
    """Cut one crop round each spot and bring it to `out_px`, in batches of uint8 (n, out_px, out_px, 3).

    `centres` (n, 2) are x, y in pixels of `picture`, origin top left; the first pixel's centre is at 0.5, 0.5. `size_px` is the
    side of the crop in these pixels, or its width and height where the picture is scaled differently in x and y: side_um /
    um_per_px * picture_scale. Nothing is rounded before the antialiased (bilinear) resize. What lies beyond the picture's
    border is white, like the glass; no spot of a section does (`check_picture`).
    """
    centres, size = np.asarray(centres, float), np.broadcast_to(np.asarray(size_px, float), 2)
    parts = (centres[start : start + batch] for start in range(0, len(centres), batch))
    return (np.stack([_crop(picture, centre, size, out_px) for centre in part]) for part in parts)


def _crop(picture: np.ndarray, centre: np.ndarray, size: np.ndarray, out_px: int) -> np.ndarray:
    corners = np.stack([centre - size / 2, centre + size / 2])  # top left, bottom right, as x, y
    (x0, y0), (x1, y1) = np.floor(corners[0]).astype(int), np.ceil(corners[1]).astype(int)
    # the part of the block that exists; a negative index would silently wrap round to the other border
    u0, v0, u1, v1 = max(x0, 0), max(y0, 0), min(x1, picture.shape[1]), min(y1, picture.shape[0])
    block = np.full((y1 - y0, x1 - x0, 3), 255, np.uint8)
    block[v0 - y0 : v1 - y0, u0 - x0 : u1 - x0] = picture[v0:v1, u0:u1]
    box = (corners - (x0, y0)).ravel().tolist()
    return np.asarray(Image.fromarray(block).resize((out_px, out_px), Image.Resampling.BILINEAR, box=box))


def embed_spots(section: AnnData, picture: np.ndarray, encoder: Encoder, as_released=False) -> tuple:
    """Crop the section's picture, uint8 RGB (height, width, 3), round every spot and encode the crops.

    Features are float32 (n, encoder.dim), in the order of the spots; counted are n_white, crops that are mostly glass, and
    n_failed, 0. `as_released` is the released code's habit: position and side of a crop are whole full-resolution pixels, the
    side cut off, and the crop begins half a side (cut off) before the position.
    """
    about = section.uns["section"]
    scale = np.asarray(about["picture_scale"], float)
    centres, side = section.obsm["spatial"], encoder.crop_um / about["um_per_px"]
    if as_released:
        side = np.floor(side)
        centres = np.rint(centres) - side // 2 + side / 2
    features, n_white, encoder = [], 0, encoder.of_slide(lambda: picture[::4, ::4])
    for crops in crop_spots(picture, centres * scale, side * scale, encoder.input_px):
        features.append(encoder.encode(crops))
        n_white += count_white(crops)
    return np.concatenate(features), {"n_white": n_white, "n_failed": 0}
