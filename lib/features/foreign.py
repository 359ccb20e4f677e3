"""Feature files that other pipelines wrote: CLAM, TRIDENT, STAMP. Told apart by what is in them, not by their names."""

import os
from pathlib import Path

import numpy as np

from lib.features.feature_files import (
    AGAIN,
    LAYOUT,
    FeatureFile,
    attributes_of,
    faults,
    faults_of_type,
    read_features,
    whole,
)
from lib.features.weights import said_of
from lib.inputs.hdf5_files import opened


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
