"""Feature files: one a section, slide or case, contiguous HDF5, read in one stroke.

    features (n, dim) float16 or float32     coords (n, 2) float32     names (n) UTF-8, may be absent
    attributes: encoder, revision, um_per_px, crop_um, n, dim, n_white, n_failed, ...

Equal content gives equal bytes: nothing in the file knows the time or the machine.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from lib.files import written_hdf5
from lib.inputs.hdf5_files import opened

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
        Names the file and what is wrong: not HDF5 or cut short, another layout (see `lib.features.foreign`), lengths
        that differ, NaN or infinity.
    """
    with opened(path, "a feature file", AGAIN) as file:
        attributes = attributes_of(file)
        if attributes.get("layout") != LAYOUT or "features" not in file or "coords" not in file:
            raise ValueError(
                f"{path} is not a feature file of this project (it holds {', '.join(file) or 'nothing'}): "
                "lib.features.foreign.read_foreign reads those of CLAM, TRIDENT and STAMP"
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
