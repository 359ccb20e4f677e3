"""Files of a prepared CT perfusion scan, and of what the networks read of it.

    prepared   enhancement (frames, voxels of the mask) float16, mask (z, y, x), baseline (z, y, x) float16, seconds;
               attributes: spacing_mm, origin_mm, direction, frames of the window, mean and spread, ...
    features   series (frames, h, w, z) float16

Equal content gives equal bytes. Enhancement outside the mask is most of a scan: it is kept only where the scan was
prepared with its values (`masked=False`).
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.files import opened, written_hdf5
from lib.inputs.volumes import Geometry
from lib.stroke.perfusion import Prepared

NUMBERS = ("peak_frame", "first_frame", "baseline_frames", "arrival_frame", "mean_hu", "sd_hu", "tissue_kept")


def write_prepared(path: str | os.PathLike, prepared: Prepared) -> None:
    """Write a prepared scan atomically."""
    unmasked = bool(prepared.values[:, ~prepared.mask].any())
    curves = prepared.enhancement[:, prepared.mask | unmasked]
    with written_hdf5(path) as file:
        # a large vessel in the window of a poor scan can leave float16's range; HU beyond it mean nothing
        file["enhancement"] = np.clip(curves, -60_000, 60_000).astype(np.float16)
        file["baseline"] = prepared.baseline.astype(np.float16)
        file["mask"] = np.packbits(prepared.mask)
        file["seconds"] = prepared.seconds
        numbers = {name: getattr(prepared, name) for name in NUMBERS} | prepared.geometry._asdict()
        # where preparation had a ceiling, it is known by the highest value
        numbers |= {"window": len(prepared.values), "unmasked": unmasked, "most": prepared.values.max()}
        file.attrs.update(numbers)


def read_prepared(path: str | os.PathLike) -> Prepared:
    """Read it back; enhancement and values are 0 outside the mask, unless it was prepared with `masked=False`."""
    with opened(path, "a prepared scan", "run 1-preprocess again") as file:
        about = dict(file.attrs)
        curves, baseline, seconds, packed = (
            file[name][:] for name in ("enhancement", "baseline", "seconds", "mask")
        )
    mask = np.unpackbits(packed, count=baseline.size).astype(bool).reshape(baseline.shape)
    curves = curves.astype(np.float32)
    stored = mask | bool(about["unmasked"])
    enhancement = np.zeros((len(curves), *mask.shape), np.float32)
    enhancement[:, stored] = curves
    first, frames = int(about["first_frame"]), int(about["window"])
    scaled = (curves[first : first + frames] - np.float32(about["mean_hu"])) / np.float32(about["sd_hu"])
    values = np.zeros((frames, *mask.shape), np.float32)
    values[:, stored] = np.minimum(scaled, about["most"])
    numbers = {name: about[name].item() for name in NUMBERS}
    geometry = Geometry(*(tuple(np.asarray(about[name]).tolist()) for name in Geometry._fields))
    return Prepared(values, mask, geometry, seconds, baseline.astype(np.float32), enhancement, **numbers)


def write_series_features(path: str | os.PathLike, series: np.ndarray) -> None:
    """Write what the networks read of a scan, (frames, h, w, z), as float16, atomically."""
    with np.errstate(over="ignore"):
        stored = series.astype(np.float16)
    if series.ndim != 4 or not np.isfinite(stored).all():
        raise ValueError(
            f"{path} not written: a series is (frames, h, w, z), finite and within 65,504; this has the shape "
            f"{series.shape} and values from {series.min():g} to {series.max():g}"
        )
    with written_hdf5(path) as file:
        file["series"] = stored


def read_series_features(path: str | os.PathLike) -> np.ndarray:
    """Read them back, float32 (frames, h, w, z)."""
    with opened(path, "a series", "run 2-embed again") as file:
        return file["series"][:].astype(np.float32)


def read_facts(folder: str | os.PathLike, names: Sequence[str]) -> pd.DataFrame:
    """What was written beside each patient's file, one row a patient."""
    facts = [pd.read_json(Path(folder) / f"{name}.json", typ="series") for name in names]
    return pd.DataFrame(facts, index=pd.Index(names, name="patient"))
