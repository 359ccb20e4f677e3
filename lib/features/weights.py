"""Networks of timm filled with pretrained weights, from a file or from the hub."""

import difflib
import hashlib
import os
import socket
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from lib.files import sha256_of

UNI = "hf-hub:MahmoodLab/UNI"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class Loaded(NamedTuple):
    """A network without classifier, the mean and spread it was trained with (of RGB in 0 to 1), and its revision."""

    model: "torch.nn.Module"  # noqa: F821  torch is imported by timm, when a network is asked for
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    revision: str


def uni(weights: str | os.PathLike = "") -> Loaded:
    """UNI from a file, or from the hub with the token in HF_TOKEN."""
    settings = {"num_classes": 0, "init_values": 1e-5, "dynamic_img_size": True}
    if weights:
        # ViT-L's own mean and std in timm are 0.5; UNI was trained with ImageNet's
        model = _built("vit_large_patch16_224", **settings)
        _fill(model, _tensors("uni", weights), "uni", weights)
        return Loaded(model, *IMAGENET.values(), sha256_of(weights)[:12])
    if not os.environ.get("HF_TOKEN"):
        raise PermissionError(
            "UNI is given on application: ask at https://huggingface.co/MahmoodLab/UNI and put your token into the "
            "environment as HF_TOKEN, or name a downloaded pytorch_model.bin as `weights`. Open stand-ins: encoder "
            "mobilenetv2_100 (no pathology in its training) or colour (no weights)"
        )
    model = _published(UNI, **settings)
    return Loaded(model, *_normalisation(model), _digest(model))


def timm_model(name: str, weights: str | os.PathLike = "") -> Loaded:
    """A timm model without its classifier, from a file or from the hub."""
    import timm

    if not name.startswith("hf-hub:") and not timm.is_model(name):
        near = difflib.get_close_matches(name, ["colour", "uni", *timm.list_models()], 3)
        hint = f"; nearest: {', '.join(near)}" if near else "; timm.list_models() names them all"
        raise ValueError(f"unknown encoder {name!r}{hint}")
    if not weights:
        model = _published(name, num_classes=0)
        return Loaded(model, *_normalisation(model), _digest(model))
    tensors = _tensors(name, weights)
    if name.startswith("mobilenetv2_100") and _is_dequantised(tensors):
        # converted from TensorFlow, whose strided convolutions pad on the other side
        model = _built(name, num_classes=0, pad_type="same")
        mean = std = (0.5, 0.5, 0.5)
    else:
        model = _built(name, num_classes=0)
        mean, std = _normalisation(model)
    _fill(model, tensors, name, weights)
    return Loaded(model, mean, std, sha256_of(weights)[:12])


def _built(name: str, **settings):
    import timm

    return timm.create_model(name, pretrained=False, **settings)


def _published(name: str, **settings):
    """A model with its weights from the hub."""
    import timm
    from huggingface_hub import constants

    # the hub's client repeats a hopeless request for a minute: ask first whether the host has an address
    host = urlsplit(constants.ENDPOINT).hostname
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    reason = (
        f"the weights of encoder {name} are not on this machine and {host} cannot be reached: download them elsewhere "
        "and name the file as `weights`, or use encoder colour, which needs none"
    )
    if not (proxy or _in_cache(name)):
        try:
            socket.getaddrinfo(host, 443)
        except OSError as error:
            raise ConnectionError(reason) from error
    try:
        return timm.create_model(name, pretrained=True, **settings)
    except FileNotFoundError as error:  # huggingface_hub's word for "neither cached nor reachable"
        raise ConnectionError(reason) from error


def _in_cache(name: str) -> bool:
    import timm
    from huggingface_hub import try_to_load_from_cache

    if name.startswith("hf-hub:"):
        repository = name.removeprefix("hf-hub:")
    else:
        repository = timm.get_pretrained_cfg(name).hf_hub_id
    files = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")
    return bool(repository) and any(
        isinstance(try_to_load_from_cache(repository, file), str) for file in files
    )


def _tensors(name: str, weights) -> dict:
    """The tensors of a weight file, without running anything the file may contain."""
    import torch
    from safetensors.torch import load_file

    try:
        if Path(weights).suffix == ".safetensors":
            return load_file(weights)
        tensors = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{weights} is not a whole file of plain tensors for encoder {name}: {error}"
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(value, torch.Tensor) for value in tensors.values()
    ):
        raise ValueError(f"{weights} holds no state dict (name -> tensor) for encoder {name}")
    return tensors


def _is_dequantised(tensors: dict) -> bool:
    """Folded batch norms say that the file comes from a quantised TensorFlow model: no trained mean is 0 everywhere."""
    mean = tensors.get("bn1.running_mean")
    return mean is not None and not mean.any() and bool((tensors["bn1.running_var"] == 1).all())


def _fill(model, tensors: dict, name: str, weights) -> None:
    """Load a file's tensors into the model, all of them but the classifier's."""
    classifier = model.pretrained_cfg.get("classifier") or ()
    classifiers = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    body = {key: value for key, value in tensors.items() if key.rpartition(".")[0] not in classifiers}
    try:
        model.load_state_dict(body, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"{weights} does not fit encoder {name}: {' '.join(str(error).split())[:400]}"
        ) from error


def _digest(model) -> str:
    """The first 12 characters of the sha256 of all parameters: names the weights wherever they came from."""
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _normalisation(model) -> tuple:
    from timm.data import resolve_data_config

    settings = resolve_data_config({}, model=model)
    return settings["mean"], settings["std"]
