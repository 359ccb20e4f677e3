"""Frozen encoders: crops of tissue in, one vector a crop out."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.features.colour import NAMES, UM_PER_PX, describe_colour
from lib.features.pathology import GATED, gated_model
from lib.features.weights import Loaded, timm_model


@dataclass(frozen=True)
class Encoder:
    """What turns crops into features, and what a feature file must record about it.

    Attributes
    ----------
    name : str
        As asked for: "colour", "uni", ..., or a timm model.
    revision : str
        Names the weights: the first 12 characters of their sha256, or the version of a descriptor without weights; then
        "+float16" or "+bfloat16" where the network ran in mixed precision.
    dim : int
        Length of a feature vector.
    input_px : int
        Side of the crops it takes.
    crop_um : float
        Side of tissue a crop shows, µm.
    encode : callable
        Crops (n, input_px, input_px, 3), uint8 RGB -> features (n, dim), float32. Deterministic on one machine.
    """

    name: str
    revision: str
    dim: int
    input_px: int
    crop_um: float
    encode: Callable[[np.ndarray], np.ndarray]


def load_encoder(
    name: str,
    weights: str | os.PathLike = "",
    device: str = "auto",
    crop_um: float | None = None,
    precision: str = "full",
    batch: int | None = None,
) -> Encoder:
    """An encoder by name.

    Parameters
    ----------
    name : str
        - "colour": 38 numbers of colour and texture, no weights; crops of 150 µm.
        - "uni" (1024 numbers), "uni2-h" (1536), "conch" (512), "gigapath" (1536): pathology encoders, see
          `lib.features.pathology`; from `weights`, or from the hub when HF_TOKEN is in the environment.
        - "resnet50_trunc": ResNet50's third stage, 1024 numbers, as CLAM has it.
        - any other: a timm model, from `weights`, or its published weights from the hub. "resnet50.tv_in1k" and
          "resnet50.tv2_in1k" are torchvision's ResNet50, 2048 numbers, of which CrossFusion used one.
    weights : path
        A .safetensors file, or a .pth/.pt/.bin file of plain tensors. Empty: the hub.
    device : str
        "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps".
    crop_um : float, optional
        Side of tissue a crop shows. Default 112 µm (224 pixels at 0.5 µm per pixel), 150 µm for "colour".
    precision : "full", "mixed" or "auto"
        "full": float32. "mixed": float16 on a CUDA device, bfloat16 elsewhere; crops whose features overflow are done
        again in float32. "auto": mixed on a CUDA device, else full. On a CPU with bfloat16 instructions, mixed takes
        less than half the time; features of MobileNetV2 keep a cosine of 0.998 with those in float32.
    batch : int, optional
        Most crops through the network at a time. Default 64, and 16 on a CPU, where more leave its caches:
        MobileNetV2 then takes half the time of 64.

    Raises
    ------
    FileNotFoundError
        `weights` is not there.
    ValueError
        Unknown model; a file that does not fit the model or is not plain tensors; crop_um not positive; unknown
        precision.
    PermissionError
        A pathology encoder without token or file, or one that the token's owner was not given.
    ConnectionError
        The hub cannot be reached and the weights are not in its cache.
    """
    if crop_um is not None and not crop_um > 0:
        raise ValueError(f"crop_um is {crop_um}; it is a side in µm, above 0")
    if precision not in ("full", "mixed", "auto"):
        raise ValueError(f"precision {precision!r} is none of full, mixed, auto")
    if name == "colour":
        return _colour(crop_um or 150.0)
    if weights and not Path(weights).is_file():
        raise FileNotFoundError(f"no weights of encoder {name} at {weights}")
    loaded = gated_model(name, weights) if name in GATED else timm_model(name, weights)
    encode = _Frozen(loaded, device, precision, batch)
    revision = f"{loaded.revision}+{encode.half}" if encode.half else loaded.revision
    return Encoder(name, revision, loaded.model.head_hidden_size, loaded.input_px, crop_um or 112.0, encode)


def _colour(crop_um: float) -> Encoder:
    def encode(crops: np.ndarray) -> np.ndarray:
        return describe_colour(crops, crop_um / crops.shape[1])

    return Encoder("colour", "v1", len(NAMES), max(3, round(crop_um / UM_PER_PX)), crop_um, encode)


class _Frozen:
    """A network in evaluation mode that takes bytes."""

    def __init__(self, loaded: Loaded, device: str, precision: str, batch: int | None):
        import torch

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device, self.input_px = torch.device(device), loaded.input_px
        self.batch = batch or (16 if self.device.type == "cpu" else 64)
        cuda = self.device.type == "cuda"
        mixed = precision == "mixed" or (precision == "auto" and cuda)
        self.half = ("float16" if cuda else "bfloat16") if mixed else ""
        self.model = loaded.model.eval().requires_grad_(False).to(self.device)
        self.mean, self.std = (
            255 * torch.tensor(value, device=self.device).reshape(1, 3, 1, 1)
            for value in (loaded.mean, loaded.std)
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
                features.append(self._encoded(pixels).cpu().numpy())
        return np.concatenate(features)

    def _encoded(self, pixels):
        import torch

        if not self.half:
            return self.model(pixels).float()
        with torch.autocast(self.device.type, getattr(torch, self.half)):
            features = self.model(pixels).float()
        if (overflown := ~features.isfinite().all(1)).any():
            features[overflown] = self.model(pixels[overflown]).float()
        return features
