"""Networks of timm filled with pretrained weights, from a file or from the hub."""

import difflib
import hashlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from lib.files import sha256_of

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
TRUNCATED = "resnet50_trunc"
"""CLAM's name for ResNet50 without its last stage."""

OURS = ("colour", "uni", "uni2-h", "conch", "gigapath", TRUNCATED)
"""Names of encoders that timm does not know."""


class Loaded(NamedTuple):
    """A network without classifier, and what must be known to use it.

    Attributes
    ----------
    model : Module
        Has `head_hidden_size`, the length of its features.
    mean, std : tuple of float
        What it was trained with, of RGB in 0 to 1.
    revision : str
        Names the weights.
    input_px : int
        Side of the pictures it takes.
    """

    model: "torch.nn.Module"  # noqa: F821  torch is imported by timm, when a network is asked for
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    revision: str
    input_px: int


def timm_model(name: str, weights: str | os.PathLike = "") -> Loaded:
    """A timm model without its classifier, from a file or from the hub.

    `TRUNCATED` is torchvision's ResNet50 with its third stage's 1024 channels averaged over the picture, as CLAM has it
    (Lu et al., Nat Biomed Eng 5:555, 2021, doi 10.1038/s41551-020-00682-w).
    """
    import timm
    from torch import nn

    known = "resnet50.tv_in1k" if name == TRUNCATED else name
    if not known.startswith("hf-hub:") and not timm.is_model(known):
        near = difflib.get_close_matches(name.lower(), [*OURS, *timm.list_models()], 3)
        hint = f"; nearest: {', '.join(near)}" if near else "; timm.list_models() names them all"
        raise ValueError(f"unknown encoder {name!r}{hint}")
    if weights:
        model, mean, std = _from_file(known, weights)
        revision = sha256_of(weights)[:12]
    else:
        model = published(known, name, num_classes=0)
        mean, std = _normalisation(model)
        revision = digest(model)
    if name == TRUNCATED:
        model.layer4 = nn.Identity()
        model.head_hidden_size = model.num_features = 1024
    return Loaded(model, mean, std, revision, model.pretrained_cfg["input_size"][-1])


def _from_file(name: str, weights) -> tuple:
    tensors = tensors_in(name, weights)
    if name.startswith("mobilenetv2_100") and _is_dequantised(tensors):
        # converted from TensorFlow, whose strided convolutions pad on the other side
        model = built(name, num_classes=0, pad_type="same")
        mean = std = (0.5, 0.5, 0.5)
    else:
        model = built(name, num_classes=0)
        mean, std = _normalisation(model)
    fill(model, tensors, name, weights)
    return model, mean, std


def built(name: str, **settings):
    """A timm model with random weights."""
    import timm

    return timm.create_model(name, pretrained=False, **settings)


def published(name: str, said: str, **settings):
    """A timm model with its weights from the hub; `said` is what errors call it."""
    import timm

    with hub(said, in_cache(name)):
        return timm.create_model(name, pretrained=True, **settings)


@contextmanager
def hub(said: str, cached: bool) -> Iterator[None]:
    """Turn what the hub's client raises into one sentence.

    Raises
    ------
    ConnectionError
        The weights are neither here nor to be reached.
    PermissionError
        The hub does not give them to the owner of the token.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    # the hub's client repeats a hopeless request for a minute: ask first whether the host has an address
    host = urlsplit(constants.ENDPOINT).hostname
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    reason = (
        f"the weights of encoder {said} are not on this machine and {host} cannot be reached: download them elsewhere "
        "and name the file as `weights`, or use encoder colour, which needs none"
    )
    if not (proxy or cached):
        try:
            socket.getaddrinfo(host, 443)
        except OSError as error:
            raise ConnectionError(reason) from error
    try:
        yield
    except FileNotFoundError as error:  # huggingface_hub's word for "neither cached nor reachable"
        raise ConnectionError(reason) from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if isinstance(error, GatedRepoError) or status in (401, 403):
            raise PermissionError(
                f"{host} does not give the weights of encoder {said} to the owner of HF_TOKEN (HTTP {status}): ask for "
                "access on the model's page with that account, or name a downloaded file as `weights`"
            ) from error
        raise ConnectionError(f"{reason} (HTTP {status})") from error


def in_cache(name: str) -> bool:
    """Whether the hub's cache on this machine has the weights of a timm model, or of hf-hub:owner/model."""
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


def tensors_in(name: str, weights: str | os.PathLike) -> dict:
    """The tensors of a weight file of encoder `name`, without running anything the file may contain."""
    import torch
    from safetensors.torch import load_file

    try:
        if Path(weights).suffix == ".safetensors":
            return load_file(weights)
        tensors = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{weights} is not a whole file of plain tensors for encoder {name}: {said_of(error)}"
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(value, torch.Tensor) for value in tensors.values()
    ):
        raise ValueError(f"{weights} holds no state dict (name -> tensor) for encoder {name}")
    return tensors


def said_of(error: Exception) -> str:
    """The gist of what torch or safetensors raise: their own advice is to turn the protection off."""
    found = re.search(r"Unsupported (?:global|class|operand)[^.\n]*|GLOBAL \S+", str(error))
    said = found[0] if found else next(iter(str(error).strip().splitlines()), "")
    return " ".join(said.split())[:200] or type(error).__name__


def _is_dequantised(tensors: dict) -> bool:
    """Folded batch norms say that the file comes from a quantised TensorFlow model: no trained mean is 0 everywhere."""
    mean = tensors.get("bn1.running_mean")
    return mean is not None and not mean.any() and bool((tensors["bn1.running_var"] == 1).all())


def fill(model, tensors: dict, name: str, weights: str | os.PathLike) -> None:
    """Load a file's tensors into the model, all of them but the classifier's."""
    classifier = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    classifiers = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    body = {key: value for key, value in tensors.items() if key.rpartition(".")[0] not in classifiers}
    try:
        model.load_state_dict(body, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"{weights} does not fit encoder {name}: {' '.join(str(error).split())[:400]}"
        ) from error


def digest(model) -> str:
    """The first 12 characters of the sha256 of all parameters: names the weights wherever they came from."""
    sha256 = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        sha256.update(key.encode())
        sha256.update(tensor.cpu().contiguous().numpy().tobytes())
    return sha256.hexdigest()[:12]


def _normalisation(model) -> tuple:
    from timm.data import resolve_data_config

    settings = resolve_data_config({}, model=model)
    return settings["mean"], settings["std"]
