"""Feature files, one a section, slide or case: this project's layout, and readers of what other pipelines write.

    features (n, dim) float16 or float32     coords (n, 2) float32     names (n) UTF-8, may be absent
    attributes: layout, encoder, revision, um_per_px, crop_um, coords_unit, n, dim, n_white, n_failed, ...

Contiguous HDF5, read in one stroke; equal content gives equal bytes. Files of CLAM, TRIDENT and STAMP are told apart by
what is in them, not by their names.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from scipy.spatial import cKDTree

from lib.files import opened, written_hdf5

LAYOUT = "crossbook"
SCALES = (20, 10, 5)
AGAIN = "embed again, or copy it from its source again"
WITHIN = ("{slide}.h5", "h5_files/{slide}.h5", "pt_files/{slide}.pt", "{slide}.pt")


def count_white(crops: np.ndarray) -> int:
    """How many crops, uint8 (n, height, width, 3), are glass, as `n_white` counts: over 80 % of pixels all above 200.

    With 200, three of HER2ST's pictures (A2, B4, C2; glass from 207 to 255) have 99 % of crops of bare glass counted
    and none of the spots, fat included.
    """
    return int(((crops.min(axis=3) > 200).mean(axis=(1, 2)) > 0.8).sum())


@dataclass(frozen=True)
class Encoder:
    """What turns crops into features, and what a feature file must record about it."""

    name: str  # as asked for: "colour", "uni", ..., or a timm model
    # the first 12 characters of the weights' sha256, or the version of a descriptor without weights
    revision: str
    dim: int  # length of a feature vector
    input_px: int  # side of the crops it takes
    crop_um: float  # side of tissue a crop shows, µm
    # crops (n, input_px, input_px, 3), uint8 RGB -> features (n, dim), float32; deterministic on one machine
    encode: Callable[[np.ndarray], np.ndarray]
    # of encoders that see stains, not colours: from a picture of a slide, uint8 RGB, to `encode` for its crops
    stained: Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]] | None = None

    def of_slide(self, picture: Callable[[], np.ndarray]) -> "Encoder":
        """This encoder for the crops of one slide; `picture` shows the slide, and is asked for only where it matters."""
        return replace(self, encode=self.stained(picture())) if self.stained else self


@dataclass(frozen=True)
class FeatureFile:
    features: np.ndarray  # float16 or float32 as stored, (n, dim)
    # float32, (n, 2): x, y in the unit attributes["coords_unit"]; None where a foreign file holds none
    coords: np.ndarray | None
    names: np.ndarray | None  # of spots or tiles, (n,)
    # encoder, revision, um_per_px (µm per unit of coords), crop_um, n, dim, n_white, n_failed, ...
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

    `features` (n, dim) are finite, and within ±65504 where `dtype` is "float16". `coords` (n, 2) are centres, x and y in
    full-resolution pixels; coords * um_per_px are µm, as `crop_um` is, the side of tissue behind a row. `counts` are n_white
    (crops that are mostly glass, kept in the file), n_failed (spots that could not be read, not in the file), and more whole
    numbers.
    """
    features, coords = np.asarray(features), np.asarray(coords)
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(features, dtype=dtype)
    bad = _fault(features, coords, names)
    if not (um_per_px > 0 and crop_um > 0):
        bad = f"um_per_px {um_per_px} and crop_um {crop_um} must be known"
    elif not bad and not np.isfinite(stored).all():
        bad = f"a feature of size {np.abs(features).max():.6g} does not fit {dtype}; store float32"
    if bad:
        raise ValueError(f"{path} not written: {bad}")
    attributes = {name: int(count) for name, count in counts.items()}
    attributes |= {"layout": LAYOUT, "encoder": encoder, "revision": revision, "coords_unit": "px"}
    attributes |= {"um_per_px": float(um_per_px), "crop_um": float(crop_um)}
    attributes |= {"n": len(stored), "dim": stored.shape[1]}
    with written_hdf5(path) as file:
        for name in sorted(attributes):
            file.attrs[name] = attributes[name]
        file.create_dataset("features", data=stored, track_times=False)
        file.create_dataset("coords", data=coords.astype(np.float32), track_times=False)
        if names is not None:
            # fixed length: strings of variable length lie scattered on HDF5's heap
            encoded = np.char.encode(np.asarray(names, dtype=str), "utf-8")
            text = h5py.string_dtype("utf-8", encoded.dtype.itemsize)
            file.create_dataset("names", data=encoded.astype(text), dtype=text, track_times=False)


def read_features(path: str | os.PathLike) -> FeatureFile:
    """Read and verify a feature file written by `write_features`; an error names the file and what is wrong."""
    with opened(path, "a feature file", AGAIN) as file:
        attributes = attributes_of(file)
        if attributes.get("layout") != LAYOUT:
            raise ValueError("not of this project: read_foreign reads those of CLAM, TRIDENT and STAMP")
        features, coords = whole(file["features"]), whole(file["coords"])
        names = np.char.decode(file["names"][()].astype("S"), "utf-8") if "names" in file else None
        if bad := _fault(features, coords, names):
            raise ValueError(bad)
    return FeatureFile(features, coords, names, attributes)


def read_attributes(path: str | os.PathLike) -> dict:
    """What a feature file says of itself (encoder, n, n_white, n_failed, ...), without reading its features."""
    with opened(path, "a feature file", AGAIN) as file:
        return attributes_of(file)


def whole(dataset: h5py.Dataset) -> np.ndarray:
    """Numbers of a dataset as an array, with no conversion on the way.

    A ValueError where none are stored: HDF5 gives zeros for what a writer that was killed had only announced.
    """
    if dataset.dtype.kind not in "fiu" or (dataset.size and not dataset.id.get_storage_size()):
        raise ValueError(f"{dataset.name.strip('/')} claims {dataset.shape} numbers and holds none")
    values = np.empty(dataset.shape, dataset.dtype)
    if values.size:
        dataset.read_direct(values)
    return values


def attributes_of(item: h5py.File | h5py.Dataset) -> dict:
    """HDF5 attributes as Python values; the text "None", TRIDENT's way to store it, as None."""
    found = {}
    for name, value in item.attrs.items():
        value = value.item() if isinstance(value, np.generic) else value
        value = value.decode() if isinstance(value, bytes) else value
        found[name] = None if isinstance(value, str) and value == "None" else value
    return found


def _fault(features: np.ndarray, coords: np.ndarray | None, names: Sequence[str] | None = None) -> str:
    """What is wrong with the three arrays of a feature file, in words; empty if nothing."""
    if 0 in features.shape:
        return f"it holds no tiles (features of shape {features.shape}): no tissue was found"
    if features.dtype.kind != "f" or features.ndim != 2:
        return f"features must be real numbers (n, dim), one row a tile, they are {features.dtype} {features.shape}"
    if coords is not None and coords.shape != (len(features), 2):
        return f"{len(features)} features but coords of shape {coords.shape}, expected ({len(features)}, 2)"
    if names is not None and len(names) != len(features):
        return f"{len(features)} features but {len(names)} names"
    if names is not None and len(set(names)) != len(names):
        return "names are not unique"
    if not np.isfinite(features).all():
        rows = np.flatnonzero(~np.isfinite(features).all(1))
        return f"NaN or infinity in {len(rows)} rows of features, first in row {rows[0]}"
    return "NaN or infinity in coords" if coords is not None and not np.isfinite(coords).all() else ""


def bag_files(folder: str | os.PathLike, slide: str, scales: Iterable[int] = SCALES) -> dict[int, Path]:
    """The feature file of each scale of a slide, whose name is without suffix. `folder` holds, for scale 20, one of

    ============================================ =====================================================
    x20/<slide>.h5                               this project (`lib.features.tiles`), STAMP
    x20/h5_files/<slide>.h5                      CLAM
    x20/pt_files/<slide>.pt                      CLAM's tensors, CrossFusion's reference
    20x_256px_0px_overlap/features_*/<slide>.h5  TRIDENT
    ============================================ =====================================================

    20x/ instead of x20/ will do. Where the folders of the scales are named otherwise, write {scale} for the number:
    "stamp-{scale}x". The files of a single scale may lie in the folder itself.
    A scale that has no file, or several, is refused.
    """
    files, scales = {}, list(scales)
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
    if absent := [f"{scale}x" for scale in scales if scale not in files]:
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
    stamp     HDF5 `feats` (float16), `coords`         µm; "" if not known    `extractor`, tile_size_um
    trident   HDF5 `features` with attributes          level-0 pixels         `encoder`, magnification
    clam      HDF5 `features` without attributes       level-0 pixels         not recorded
    tensor    .pt: a bare tensor (CLAM's pt_files)     no coords              not recorded
    ========= ======================================== ====================== ==========================

    STAMP's first version states neither unit nor size: a step of 224 is a tile of 256 µm, as STAMP itself reads it. Its second
    has `tile_size` with `unit`, for which `tile_size_um` is written here too.

    A leading batch axis of length 1 is taken off. `attributes` hold `layout`, `encoder` ("" where not recorded),
    `coords_unit` ("px", "um" or ""), `n`, `dim`, and all the file's own attributes. A ValueError names what is no bag: an
    empty slide (TRIDENT writes it with shape (0,)), one vector for the whole slide or patient, most tiles at the place of
    another, rows of zeros, a pickle that is no tensor, NaN or infinity.
    """
    if Path(path).suffix in (".pt", ".pth"):
        tensor = plain_tensors(path, "one plain tensor")
        if not hasattr(tensor, "numpy"):
            raise ValueError(f"{path} holds a {type(tensor).__name__}, and not one tensor (tiles x features)")
        features = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).detach().numpy()
        return _foreign(path, features, None, {"layout": "tensor", "encoder": "", "coords_unit": ""})
    with opened(path, "a feature file", AGAIN) as file:
        about = attributes_of(file)
        keys = [key for key in ("feats", "features") if key in file]
        if len(keys) != 1:
            raise ValueError(f"it holds {', '.join(file)}: features, or feats of STAMP, are expected")
        if about.get("layout") != LAYOUT:
            features, of_features = whole(file[keys[0]]), attributes_of(file[keys[0]])
            coords = whole(file["coords"]) if "coords" in file else None
            of_coords = attributes_of(file["coords"]) if "coords" in file else {}
    if about.get("layout") == LAYOUT:
        return read_features(path)
    about = {**of_coords, **of_features, **about}
    if keys == ["feats"]:
        known = {"layout": "stamp", "encoder": about.get("extractor", "")}
        known["coords_unit"], size = about.get("unit") or "", about.get("tile_size")
        if um := about.get("tile_size_um") or (size if known["coords_unit"] == "um" else 0):
            known |= {"coords_unit": "um", "tile_size_um": float(um)}
        elif coords is not None and round(size or spacing(coords)) == 224:
            coords, known = coords * (256 / 224), known | {"coords_unit": "um", "tile_size_um": 256.0}
    else:
        layout = "trident" if of_features or of_coords else "clam"
        known = {"layout": layout, "encoder": about.get("encoder") or "", "coords_unit": "px"}
    return _foreign(path, features, coords, {**about, **known})


def _foreign(path, features, coords, attributes) -> FeatureFile:
    features, coords = (
        each[0] if each is not None and each.ndim == 3 and len(each) == 1 else each
        for each in (features, coords)
    )
    bad = _fault(features, coords)
    kind = attributes.get("feat_type") or "tile"
    if not bad and (kind != "tile" or (coords is None and len(features) == 1)):
        bad = f"one vector for a whole {kind if kind != 'tile' else 'slide'}, and features of its tiles are expected"
    elif not bad and coords is not None and 2 * len(np.unique(coords, axis=0)) < len(coords):
        places = len(np.unique(coords, axis=0))
        bad = f"its {len(coords)} tiles lie at {places} places: where they are was lost"
    elif not bad and (zeros := int((~features.any(axis=1)).sum())):
        bad = f"the features of {zeros} of its {len(features)} tiles are all 0: they were never written"
    if bad:
        raise ValueError(f"{path} cannot be used: {bad}")
    coords = None if coords is None else coords.astype(np.float32)
    return FeatureFile(features, coords, None, {**attributes, "n": len(features), "dim": features.shape[1]})


def spacing(coords: np.ndarray) -> float:
    """Distance of neighbouring tiles, from places (n, 2), of at most 1000 of them; 0 if there are not two places."""
    some = coords[:: max(1, len(coords) // 1000)]
    nearest = cKDTree(np.unique(coords, axis=0)).query(some, k=2, p=np.inf)[0][:, 1]
    side = float(np.median(nearest))
    if not np.isfinite(side):
        return 0.0
    # on one grid, whole steps over all of the slide tell the side more exactly than two rounded corners
    gaps = np.concatenate([np.diff(np.unique(along)) for along in coords.T.astype(float)])
    return float(gaps.sum() / np.rint(gaps / side).sum()) if gaps.min() > side / 2 else side


def plain_tensors(path: str | os.PathLike, what: str) -> object:
    """What a .safetensors or .pt file holds, which must be tensors alone (`what`, for the error): nothing of it is run."""
    import torch
    from safetensors.torch import load_file

    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # its words are left out: torch advises to turn the protection off
        raise ValueError(f"{path} is not a whole file of {what} ({type(error).__name__})") from error
