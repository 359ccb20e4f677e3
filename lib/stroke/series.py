"""Files of a prepared CT perfusion scan, and of what the networks read of it.

    prepared   enhancement (frames, voxels of the mask) float16, mask (z, y, x), baseline (z, y, x) float16, seconds;
               attributes: spacing_mm, origin_mm, direction, frames of the window, mean and spread, ...
    features   series (frames, h, w, z) float16

Equal content gives equal bytes. Enhancement outside the mask is most of a scan: it is kept only where the scan was
prepared with its values (`masked=False`).
"""

import os

import h5py
import numpy as np

from lib.features.feature_files import whole
from lib.files import opened, written_hdf5
from lib.inputs.volumes import Geometry
from lib.stroke.perfusion import Prepared

NUMBERS = ("peak_frame", "first_frame", "baseline_frames", "arrival_frame", "mean_hu", "sd_hu", "tissue_kept")


def write_prepared(path: str | os.PathLike, prepared: Prepared) -> None:
    """Write a prepared scan atomically."""
    unmasked = bool(prepared.values[:, ~prepared.mask].any())
    with written_hdf5(path) as file:
        # a large vessel in the window of a poor scan can leave float16's range; HU beyond it mean nothing
        curves = prepared.enhancement[:, prepared.mask | unmasked]
        curves = np.clip(curves, -60_000, 60_000).astype(np.float16)
        _put(file, "enhancement", curves)
        _put(file, "baseline", prepared.baseline.astype(np.float16))
        _put(file, "mask", np.packbits(prepared.mask))
        _put(file, "seconds", prepared.seconds)
        for name, value in prepared.geometry._asdict().items():
            file.attrs[name] = value
        for name in NUMBERS:
            file.attrs[name] = getattr(prepared, name)
        file.attrs["window"] = len(prepared.values)
        file.attrs["unmasked"] = unmasked
        file.attrs["most"] = prepared.values.max()  # where preparation had a ceiling, it is known by this


def read_prepared(path: str | os.PathLike) -> Prepared:
    """Read a prepared scan; enhancement and values are 0 outside the mask, unless it was prepared with `masked=False`.

    Raises
    ------
    FileNotFoundError
    ValueError
        Not such a file, or cut short.
    """
    with opened(path, "a prepared scan", "run 1-preprocess again") as file:
        if "enhancement" not in file or "window" not in file.attrs:
            raise ValueError(f"{path} is no prepared scan: it was not written by stage 1-preprocess")
        about = dict(file.attrs)
        curves, packed = whole(file["enhancement"]).astype(np.float32), whole(file["mask"])
        baseline, seconds = whole(file["baseline"]).astype(np.float32), whole(file["seconds"])
        geometry = Geometry(
            *(
                tuple(np.asarray(about[name]).tolist())
                for name in ("spacing_mm", "origin_mm", "direction", "size")
            )
        )
        if packed.size != -(-baseline.size // 8):
            raise ValueError(f"{path} is damaged: its mask is not one of {baseline.shape} voxels")
        mask = np.unpackbits(packed, count=baseline.size).astype(bool).reshape(baseline.shape)
        numbers = {name: about[name].item() for name in NUMBERS}
        if bad := _faults(curves, mask, baseline, seconds, geometry, about):
            raise ValueError(f"{path} is damaged: {bad}; run 1-preprocess again")
    first, mean, spread = numbers["first_frame"], np.float32(numbers["mean_hu"]), np.float32(numbers["sd_hu"])
    enhancement = np.zeros((len(curves), *mask.shape), np.float32)
    kept = mask | bool(about["unmasked"])
    enhancement[:, kept] = curves
    values = np.zeros((int(about["window"]), *mask.shape), np.float32)
    scaled = (curves[first : first + len(values)] - mean) / spread
    values[:, kept] = np.minimum(scaled, about["most"])
    return Prepared(
        values=values,
        mask=mask,
        geometry=geometry,
        seconds=seconds,
        baseline=baseline,
        enhancement=enhancement,
        **numbers,
    )


def write_series_features(path: str | os.PathLike, series: np.ndarray) -> None:
    """Write what the networks read of a scan, (frames, h, w, z), as float16, atomically.

    Raises
    ------
    ValueError
        Not four axes, or a value that is not finite or beyond float16 (65,504).
    """
    with np.errstate(over="ignore"):
        stored = series.astype(np.float16)
    if series.ndim != 4 or not np.isfinite(stored).all():
        raise ValueError(
            f"{path} not written: a series is (frames, h, w, z), finite and within 65,504; this has the shape "
            f"{series.shape} and values from {series.min():g} to {series.max():g}"
        )
    with written_hdf5(path) as file:
        _put(file, "series", stored)


def read_series_features(path: str | os.PathLike) -> np.ndarray:
    """Read them back, float32 (frames, h, w, z).

    Raises
    ------
    FileNotFoundError
    ValueError
        Not such a file, or cut short.
    """
    with opened(path, "a series", "run 2-embed again") as file:
        if "series" not in file:
            raise ValueError(
                f"{path} holds no series (it holds {', '.join(file) or 'nothing'}): run 2-embed again"
            )
        series = whole(file["series"]).astype(np.float32)
    if series.ndim != 4 or not series.size or not np.isfinite(series).all():
        raise ValueError(
            f"{path} is damaged: a series is (frames, h, w, z) and finite, this is {series.shape}; run 2-embed again"
        )
    return series


def _faults(curves, mask, baseline, seconds, geometry: Geometry, about: dict) -> str:
    """What is wrong with a prepared scan, in words; empty if nothing."""
    kept = mask.sum() if not about["unmasked"] else mask.size
    if curves.shape != (len(seconds), kept):
        return f"enhancement is {curves.shape}, of {len(seconds)} frames and {kept} voxels"
    if [len(part) for part in geometry] != [3, 3, 9, 3] or tuple(geometry.size)[::-1] != baseline.shape:
        return f"its grid is not one of {baseline.shape} voxels"
    if not (np.isfinite(curves).all() and np.isfinite(baseline).all() and np.isfinite(seconds).all()):
        return "it holds NaN or infinity"
    if not 0 < about["sd_hu"] < np.inf or not np.isfinite([about["mean_hu"], about["most"]]).all():
        return f"mean and standard deviation are {about['mean_hu']} and {about['sd_hu']}"
    if not 0 < int(about["window"]) <= len(curves) - int(about["first_frame"]) <= len(curves):
        return f"a window of {about['window']} frames from {about['first_frame']} on does not lie in {len(curves)}"
    return ""


def _put(file: h5py.File, name: str, values: np.ndarray) -> None:
    file.create_dataset(name, data=values, track_times=False)
