"""Feature files: one a section, slide or case, contiguous HDF5, read in one stroke.

    features (n, dim) float16 or float32     coords (n, 2) float32     names (n) UTF-8, may be absent
    attributes: encoder, revision, um_per_px, crop_um, n, dim, n_white, n_failed, ...

Equal content gives equal bytes: nothing in the file knows the time or the machine.

Where the features of a slide lie, scale by scale, in the folders of this project and of others.

Feature files that other pipelines wrote: CLAM, TRIDENT, STAMP. Told apart by what is in them, not by their names.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from lib.features.encoders import said_of
from lib.files import fault_of, opened, written_hdf5

LAYOUT = "crossbook"
COUNTS = ("n_white", "n_failed")
DTYPES = ("float16", "float32")
AGAIN = "embed again, or copy it from its source again"
MOST_SHRUNK = 1100
"""HDF5's compression makes a byte of at most 1032 (deflate): what claims more holds nothing."""


@dataclass(frozen=True)
class FeatureFile:
    """The content of a feature file.

    Attributes
    ----------
    features : ndarray of float16 or float32, shape (n, dim)
        As stored.
    coords : ndarray of float32, shape (n, 2), or None
        x, y in the unit `attributes["coords_unit"]`. None where a foreign file holds none.
    names : ndarray of str, shape (n,), or None
        Spot or tile names.
    attributes : dict
        encoder, revision, um_per_px (µm per unit of coords), crop_um, n, dim, n_white, n_failed, layout, ...
    """

    features: np.ndarray
    coords: np.ndarray | None
    names: np.ndarray | None
    attributes: dict


def write_features(
    path: str | os.PathLike,
    features: np.ndarray,
    coords: np.ndarray,
    *,
    encoder: str,
    revision: str,
    um_per_px: float,
    crop_um: float,
    counts: Mapping[str, int],
    names: Sequence[str] | None = None,
    dtype: str = "float32",
) -> None:
    """Write a feature file atomically.

    Parameters
    ----------
    path : path
    features : ndarray, shape (n, dim)
        Finite; within ±65504 where `dtype` is "float16".
    coords : ndarray, shape (n, 2)
        Centres, x and y in full-resolution pixels.
    encoder, revision : str
        As of `lib.features.encoders.Encoder`.
    um_per_px : float
        µm per full-resolution pixel: coords * um_per_px are µm.
    crop_um : float
        Side of tissue behind a row, µm.
    counts : mapping
        Must name n_white (crops that are mostly glass, kept in the file) and n_failed (spots that could not be read,
        not in the file); more whole numbers may be added.
    names : sequence of str, optional
        Names of the rows.
    dtype : "float32" or "float16"

    Raises
    ------
    ValueError
        Lengths that differ, NaN or infinity, float16 overflow, a missing count or provenance.
    """
    features, coords = np.asarray(features), np.asarray(coords)
    bad = faults(features, coords, names)
    if names is not None and len(set(names)) != len(names):
        bad = bad or "names are not unique"
    if dtype not in DTYPES:
        bad = f"dtype {dtype!r} is neither float32 nor float16"
    elif not (encoder and revision and um_per_px > 0 and crop_um > 0):
        bad = f"encoder {encoder!r}, revision {revision!r}, um_per_px {um_per_px} and crop_um {crop_um} must be known"
    elif missing := [name for name in COUNTS if name not in counts]:
        bad = f"counts lack {' and '.join(missing)}: say how many, 0 if none"
    if bad:
        raise ValueError(f"{path} not written: {bad}")
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(features, dtype=dtype)
    if not _finite(stored):
        raise ValueError(
            f"{path} not written: a feature of size {np.abs(features).max():.6g} does not fit {dtype}; store float32"
        )
    attributes = {
        "layout": LAYOUT,
        "encoder": encoder,
        "revision": revision,
        "um_per_px": float(um_per_px),
        "crop_um": float(crop_um),
        "coords_unit": "px",
        "n": len(stored),
        "dim": stored.shape[1],
        **{name: int(count) for name, count in counts.items()},
    }
    with written_hdf5(path) as file:
        for name in sorted(attributes):
            file.attrs[name] = attributes[name]
        file.create_dataset("features", data=stored, track_times=False)
        file.create_dataset("coords", data=coords.astype(np.float32), track_times=False)
        if names is not None:
            # fixed length: strings of variable length lie scattered on HDF5's heap
            encoded = np.char.encode(np.asarray(names, dtype=str), "utf-8")
            text = h5py.string_dtype("utf-8", max(1, encoded.dtype.itemsize))
            file.create_dataset("names", data=encoded.astype(text), dtype=text, track_times=False)


def read_features(path: str | os.PathLike) -> FeatureFile:
    """Read and verify a feature file written by `write_features`.

    Raises
    ------
    FileNotFoundError
    ValueError
        Names the file and what is wrong: not HDF5 or cut short, another layout (see `lib.features.feature_files`), lengths
        that differ, NaN or infinity.
    """
    with opened(path, "a feature file", AGAIN) as file:
        attributes = attributes_of(file)
        if attributes.get("layout") != LAYOUT or "features" not in file or "coords" not in file:
            raise ValueError(
                f"{path} is not a feature file of this project (it holds {', '.join(file) or 'nothing'}): "
                "lib.features.feature_files.read_foreign reads those of CLAM, TRIDENT and STAMP"
            )
        features, coords = whole(file["features"]), whole(file["coords"])
        names = _decoded(file["names"]) if "names" in file else None
    bad = faults_of_type(features) or faults(features, coords, names)
    if not bad and (attributes.get("n"), attributes.get("dim")) != features.shape:
        bad = f"its attributes promise {attributes.get('n')} x {attributes.get('dim')}, features are {features.shape}"
    if not bad and (
        absent := [key for key in ("encoder", "revision", "um_per_px", *COUNTS) if key not in attributes]
    ):
        bad = f"attributes {', '.join(absent)} are missing"
    if not bad and not (isinstance(attributes["um_per_px"], float) and 0 < attributes["um_per_px"] < np.inf):
        bad = f"um_per_px is {attributes['um_per_px']!r}"
    if not bad and names is not None and len(set(names.tolist())) != len(names):
        bad = "names are not unique"
    if bad:
        raise ValueError(f"{path} is damaged: {bad}; delete it and embed again")
    return FeatureFile(features, coords, names, attributes)


def read_attributes(path: str | os.PathLike) -> dict:
    """What a feature file says of itself (encoder, n, n_white, n_failed, ...), without reading its features.

    Raises
    ------
    FileNotFoundError
    ValueError
        Not an HDF5 file, or cut short.
    """
    with opened(path, "a feature file", AGAIN) as file:
        return attributes_of(file)


def whole(dataset: h5py.Dataset) -> np.ndarray:
    """Numbers of a dataset as an array, with no conversion on the way.

    Raises
    ------
    ValueError
        No numbers, or a shape that the file has not the bytes for.
    """
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None or dataset.dtype.kind not in "fiu":
        what = getattr(dataset, "dtype", type(dataset).__name__)
        raise ValueError(f"{dataset.name.strip('/')} holds no numbers but {what}")
    _refuse_claims(dataset)
    values = np.empty(dataset.shape, dataset.dtype)
    if values.size:
        dataset.read_direct(values)
    return values


def _refuse_claims(dataset: h5py.Dataset) -> None:
    needed, there = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if there * (1 if dataset.chunks is None else MOST_SHRUNK) < needed:
        raise ValueError(
            f"{dataset.name.strip('/')} claims {' x '.join(map(str, dataset.shape))} numbers, and "
            f"the file holds {there:,} bytes of them"
        )


def attributes_of(item: h5py.File | h5py.Dataset) -> dict:
    """HDF5 attributes as Python values; the text "None", TRIDENT's way to store it, as None."""
    return {name: _plain(value) for name, value in item.attrs.items()}


def faults(features: np.ndarray, coords: np.ndarray | None, names: Sequence[str] | None = None) -> str:
    """What is wrong with the three arrays of a feature file, in words; empty if nothing."""
    if features.ndim != 2 or not features.size:
        return f"features must be (n, dim) with n and dim above 0, they are {features.shape}"
    if coords is not None and coords.shape != (len(features), 2):
        return f"{len(features)} features but coords of shape {coords.shape}, expected ({len(features)}, 2)"
    if names is not None and len(names) != len(features):
        return f"{len(features)} features but {len(names)} names"
    if not _finite(features):
        rows = np.flatnonzero(~np.isfinite(features).all(1))
        return f"NaN or infinity in {len(rows)} rows of features, first in row {rows[0]}"
    return "NaN or infinity in coords" if coords is not None and not _finite(coords) else ""


def faults_of_type(features: np.ndarray) -> str:
    """Why numbers read from a file are no features, in words; empty if nothing."""
    kind = features.dtype
    if kind.kind != "f":
        return f"features are {kind}, real numbers are expected"
    if kind.itemsize > 4 and features.size and np.nanmax(np.abs(features)) > np.finfo(np.float32).max:
        return "a feature is beyond what float32 holds"
    return ""


def _finite(values: np.ndarray) -> bool:
    """Tell whether all is finite, several times faster than np.isfinite for contiguous float16 and float32."""
    fast = values.flags.c_contiguous and values.size
    if fast and values.dtype == np.float32:
        # a sum of squares is finite only if every number is; it may overflow without NaN, so look again then
        flat = values.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(np.dot(flat, flat)):
                return True
    if fast and values.dtype == np.float16:
        # all exponent bits set is NaN or infinity; doubling drops the sign, so both end above every number
        bits, step = values.reshape(-1).view(np.uint16), 1 << 16  # a step fits the cache
        return all(int((bits[i : i + step] << 1).max()) < 0xF800 for i in range(0, len(bits), step))
    return bool(np.isfinite(values).all())


def _decoded(dataset: h5py.Dataset) -> np.ndarray:
    """UTF-8 bytes as text."""
    if (
        not isinstance(dataset, h5py.Dataset)
        or dataset.dtype.kind not in "SO"
        or len(dataset.shape or ()) != 1
    ):
        raise ValueError("names holds no list of texts")
    _refuse_claims(dataset)
    names = dataset[()]
    try:
        return names.astype("S").astype(str)  # ASCII only, ten times faster
    except UnicodeDecodeError:
        return np.char.decode(names.astype("S"), "utf-8")


def _plain(value):
    value = value.decode() if isinstance(value, bytes) else value
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, str) and value == "None" else value


SCALES = (20, 10, 5)
WITHIN = ("{slide}.h5", "h5_files/{slide}.h5", "pt_files/{slide}.pt", "{slide}.pt")


def bag_files(folder: str | os.PathLike, slide: str, scales: Iterable[int] = SCALES) -> dict[int, Path]:
    """The feature file of each scale.

    Parameters
    ----------
    folder : path
        Holds, for scale 20, one of

        ============================================ =====================================================
        x20/<slide>.h5                               this project (`lib.features.embedding`), STAMP
        x20/h5_files/<slide>.h5                      CLAM
        x20/pt_files/<slide>.pt                      CLAM's tensors, CrossFusion's reference
        20x_256px_0px_overlap/features_*/<slide>.h5  TRIDENT
        ============================================ =====================================================

        20x/ instead of x20/ will do. Where the folders of the scales are named otherwise, write {scale} for the
        number: "stamp-{scale}x". The files of a single scale may lie in the folder itself.
    slide : str
        Name without suffix.
    scales : iterable of int

    Raises
    ------
    FileNotFoundError
        Names the scales without a file.
    ValueError
        A scale has several.
    """
    if fault := fault_of(slide):
        raise ValueError(f"slide {slide[:60]!r} {fault}: no features can be named after it")
    files, absent, scales = {}, [], list(scales)
    for scale in scales:
        found = []
        for place in _places(str(folder), scale, alone=len(scales) == 1):
            inside = (place / name.format(slide=slide) for name in WITHIN)
            found += [path for path in inside if path.is_file()][:1]
        if len(found) > 1:
            raise ValueError(
                f"slide {slide} has two feature files at {scale}x, {found[0]} and {found[1]}: name the folder of one "
                "encoder, with {scale} for the number"
            )
        if found:
            files[scale] = found[0]
        else:
            absent.append(f"{scale}x")
    if absent:
        raise FileNotFoundError(
            f"slide {slide} has no features at {', '.join(absent)} in {folder} (x{scales[0]}/{slide}.h5, "
            f"x{scales[0]}/h5_files/{slide}.h5, x{scales[0]}/pt_files/{slide}.pt or TRIDENT's folders): embed it"
        )
    return files


def _places(folder: str, scale: int, alone: bool) -> list[Path]:
    if "{scale}" in folder:
        return [Path(folder.replace("{scale}", str(scale)))]
    places = [Path(folder, f"x{scale}"), Path(folder, f"{scale}x")]
    places += sorted(Path(folder).glob(f"{scale}x_*/features_*"))
    return [*places, Path(folder)] if alone else places


def read_foreign(path: str | os.PathLike) -> FeatureFile:
    """Read a slide's tile features from another pipeline's file (or this project's own).

    ========= ======================================== ====================== ==========================
    layout    recognised by                            unit of coords         encoder, scale
    ========= ======================================== ====================== ==========================
    stamp     HDF5 `feats` (float16), `coords`         µm                     `extractor`, tile_size_um
    trident   HDF5 `features` with attributes          level-0 pixels         `encoder`, magnification
    clam      HDF5 `features` without attributes       level-0 pixels         not recorded
    tensor    .pt: a bare tensor (CLAM's pt_files)     no coords              not recorded
    ========= ======================================== ====================== ==========================

    A leading batch axis of length 1 is taken off.

    Parameters
    ----------
    path : path

    Returns
    -------
    FeatureFile
        `features` in the type as stored; `attributes` hold `layout`, `encoder` ("" where not recorded), `coords_unit`
        ("px", "um" or ""), `n`, `dim`, and all the file's own attributes. TRIDENT's text "None" becomes None.

    Raises
    ------
    FileNotFoundError
    ValueError
        Names the file: an empty slide (TRIDENT writes it with shape (0,)), one vector for the whole slide, coordinates
        without features, a pickle that is no tensor, lengths that differ, NaN or infinity.
    """
    if Path(path).suffix in (".pt", ".pth"):
        return _checked(path, _tensor(path), None, {"layout": "tensor", "encoder": "", "coords_unit": ""})
    with opened(path, "a feature file", AGAIN) as file:
        own = attributes_of(file)
        key = next((key for key in ("feats", "features") if key in file), None)
        if "feats" in file and "features" in file:
            raise ValueError(f"{path} holds feats and features: which of them is meant is not known")
        if key is None:
            only = (
                "tile coordinates only"
                if "coords" in file
                else f"no features ({', '.join(file) or 'nothing'})"
            )
            raise ValueError(f"{path} holds {only}: give the folder of features, not of patches")
        if own.get("layout") != LAYOUT:
            features = whole(file[key])
            coords = whole(file["coords"]) if "coords" in file else None
            of_features = attributes_of(file[key])
            of_coords = attributes_of(file["coords"]) if "coords" in file else {}
    if own.get("layout") == LAYOUT:
        return read_features(path)
    attributes = {**of_coords, **of_features, **own}
    if key == "feats":
        unit = attributes.get("unit", "um")
        known = {"layout": "stamp", "encoder": attributes.get("extractor", ""), "coords_unit": unit}
    else:
        layout = "trident" if of_features or of_coords else "clam"
        known = {"layout": layout, "encoder": attributes.get("encoder") or "", "coords_unit": "px"}
    return _checked(path, features, coords, {**attributes, **known})


def _tensor(path) -> np.ndarray:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no feature file at {path}")
    import torch

    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is not a whole file of one plain tensor: {said_of(error)}") from error
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{path} holds a {type(tensor).__name__}, expected one tensor (tiles x features)")
    if tensor.dtype == torch.bfloat16:  # numpy has none
        tensor = tensor.float()
    held = tensor.layout is torch.strided and tensor.device.type == "cpu"
    whole_of_it = held and tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()
    if not whole_of_it or tensor.is_quantized or tensor.is_complex():
        raise ValueError(
            f"{path} holds a tensor of {tensor.dtype}, {tensor.layout}, {tuple(tensor.shape)}: plain numbers are expected"
        )
    return tensor.detach().numpy()


def _checked(path, features, coords, attributes) -> FeatureFile:
    if features.ndim == 3 and len(features) == 1:
        features = features[0]
    if coords is not None and coords.ndim == 3 and len(coords) == 1:
        coords = coords[0]
    if features.ndim == 0:
        raise ValueError(f"{path} holds one number, expected features of tiles")
    if len(features) == 0 or (coords is not None and len(coords) == 0 and features.size == 0):
        raise ValueError(
            f"{path} holds no tiles (features of shape {features.shape}): no tissue was found on the slide"
        )
    if features.ndim == 1:
        raise ValueError(
            f"{path} holds one vector of {len(features)} for the whole slide, expected one a tile"
        )
    if bad := faults_of_type(features) or faults(features, coords):
        raise ValueError(f"{path} is damaged: {bad}")
    if coords is not None:
        coords = coords.astype(np.float32)
    return FeatureFile(features, coords, None, {**attributes, "n": len(features), "dim": features.shape[1]})
