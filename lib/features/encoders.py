"""Frozen encoders: crops of tissue in, one vector a crop out."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.features.colour import NAMES, UM_PER_PX, describe_colour
from lib.features.weights import timm_model, uni


@dataclass(frozen=True)
class Encoder:
    """What turns crops into features, and what a feature file must record about it.

    Attributes
    ----------
    name : str
        As asked for: "colour", "uni", or a timm model.
    revision : str
        Names the weights: the first 12 characters of their sha256, or the version of a descriptor without weights.
    dim : int
        Length of a feature vector.
    input_px : int
        Side of the crops it takes.
    crop_um : float
        Side of tissue a crop shows, µm.
    encode : callable
        Crops (n, input_px, input_px, 3), uint8 RGB -> features (n, dim), float32. Deterministic.
    """

    name: str
    revision: str
    dim: int
    input_px: int
    crop_um: float
    encode: Callable[[np.ndarray], np.ndarray]


def load_encoder(
    name: str, weights: str | os.PathLike = "", device: str = "auto", crop_um: float | None = None
) -> Encoder:
    """An encoder by name.

    Parameters
    ----------
    name : str
        - "colour": 38 numbers of colour and texture, no weights; crops of 150 µm.
        - "uni": UNI (ViT-L/16, 1024 numbers; Chen et al., Nat Med 2024, doi 10.1038/s41591-024-02857-3), from
          `weights`, or from the hub when HF_TOKEN is in the environment.
        - any other: a timm model, from `weights`, or its published weights from the hub.
    weights : path
        A .safetensors file, or a .pth/.pt/.bin file of plain tensors. Empty: the hub.
    device : str
        "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps".
    crop_um : float, optional
        Side of tissue a crop shows. Default 112 µm (224 pixels at 0.5 µm per pixel), 150 µm for "colour".

    Raises
    ------
    FileNotFoundError
        `weights` is not there.
    ValueError
        Unknown model; a file that does not fit the model or is not plain tensors; crop_um not positive.
    PermissionError
        UNI without token or file.
    ConnectionError
        The hub cannot be reached and the weights are not in its cache.
    """
    if crop_um is not None and not crop_um > 0:
        raise ValueError(f"crop_um is {crop_um}; it is a side in µm, above 0")
    if name == "colour":
        return _colour(crop_um or 150.0)
    if weights and not Path(weights).is_file():
        raise FileNotFoundError(f"no weights of encoder {name} at {weights}")
    model, mean, std, revision = uni(weights) if name == "uni" else timm_model(name, weights)
    dim, input_px = model.head_hidden_size, model.pretrained_cfg["input_size"][-1]
    encode = _Frozen(model, mean, std, input_px, device)
    return Encoder(name, revision, dim, input_px, crop_um or 112.0, encode)


def _colour(crop_um: float) -> Encoder:
    def encode(crops: np.ndarray) -> np.ndarray:
        return describe_colour(crops, crop_um / crops.shape[1])

    return Encoder("colour", "v1", len(NAMES), max(3, round(crop_um / UM_PER_PX)), crop_um, encode)


class _Frozen:
    """A network in evaluation mode that takes bytes."""

    def __init__(self, model, mean, std, input_px: int, device: str, batch: int = 64):
        import torch

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device, self.batch, self.input_px = torch.device(device), batch, input_px
        self.model = model.eval().requires_grad_(False).to(self.device)
        self.mean, self.std = (
            255 * torch.tensor(value, device=self.device).reshape(1, 3, 1, 1) for value in (mean, std)
        )

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        import torch

        side = self.input_px
        if crops.dtype != np.uint8 or crops.shape[1:] != (side, side, 3):
            raise ValueError(
                f"this encoder takes uint8 RGB crops (n, {side}, {side}, 3), got {crops.dtype} {crops.shape}"
            )
        features = [np.empty((0, self.model.head_hidden_size), np.float32)]
        exact = torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        )
        with torch.inference_mode(), exact:
            for start in range(0, len(crops), self.batch):
                pixels = torch.tensor(crops[start : start + self.batch], device=self.device)
                pixels = pixels.permute(0, 3, 1, 2).float().sub_(self.mean).div_(self.std)
                features.append(self.model(pixels).float().cpu().numpy())
        return np.concatenate(features)
