"""Pathology encoders that are given on application: UNI, UNI2-h, CONCH, Prov-GigaPath.

All see a whole tile brought to their input size. Their authors' own way differs for Prov-GigaPath alone: it shows the
middle 224 of 256 pixels.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

from lib.features.weights import IMAGENET, Loaded, built, digest, fill, hub, in_cache, published, tensors_in
from lib.files import sha256_of


class Gated(NamedTuple):
    """A pathology encoder: what it is called, where it is given, and how it is built.

    Attributes
    ----------
    title : str
    hub : str
        Repository on huggingface.co.
    architecture : str
        timm's name of what its settings change.
    settings : callable
        -> settings of `timm.create_model`; called late, since some are timm's own classes.
    """

    title: str
    hub: str
    architecture: str
    settings: Callable[[], dict]


def _uni2_h() -> dict:
    from timm.layers import SwiGLUPacked
    from torch import nn

    return {
        "img_size": 224,
        "patch_size": 14,
        "depth": 24,
        "num_heads": 24,
        "embed_dim": 1536,
        "mlp_ratio": 2.66667 * 2,
        "mlp_layer": SwiGLUPacked,
        "act_layer": nn.SiLU,
        "init_values": 1e-5,
        "no_embed_class": True,
        "reg_tokens": 8,
    }


GATED = {
    # Chen et al., Nat Med 30:850, 2024, doi 10.1038/s41591-024-02857-3: ViT-L/16, 1024 numbers
    "uni": Gated("UNI", "MahmoodLab/UNI", "vit_large_patch16_224", lambda: {"init_values": 1e-5}),
    # its successor: ViT-H/14 with 8 registers, 1536 numbers
    "uni2-h": Gated("UNI2-h", "MahmoodLab/UNI2-h", "vit_giant_patch14_224", _uni2_h),
    # Xu et al., Nature 630:181, 2024, doi 10.1038/s41586-024-07441-w: ViT-g/16, 1536 numbers
    "gigapath": Gated(
        "Prov-GigaPath",
        "prov-gigapath/prov-gigapath",
        "vit_giant_patch14_dinov2",
        lambda: {
            "img_size": 224,
            "patch_size": 16,
            "embed_dim": 1536,
            "depth": 40,
            "num_heads": 24,
            "mlp_ratio": 5.33334,
            "init_values": 1e-5,
        },
    ),
    # built by lib.features.conch, 512 numbers
    "conch": Gated("CONCH", "MahmoodLab/CONCH", "", dict),
}


def gated_model(name: str, weights: str | os.PathLike = "") -> Loaded:
    """A pathology encoder from a file, or from the hub with the token in HF_TOKEN (or from the hub's cache).

    Parameters
    ----------
    name : str
        One of `GATED`.
    weights : path
        Its pytorch_model.bin, downloaded before, or the same tensors as .safetensors.

    Raises
    ------
    PermissionError
        Neither token nor file, or the token's owner was not given access.
    ConnectionError
        The hub cannot be reached.
    ValueError
        The file does not fit.
    """
    about = GATED[name]
    if not weights and not os.environ.get("HF_TOKEN") and not in_cache(f"hf-hub:{about.hub}"):
        raise PermissionError(
            f"{about.title} is given on application: ask at https://huggingface.co/{about.hub} and put your token into "
            "the environment as HF_TOKEN, or name a downloaded pytorch_model.bin as `weights`. Open stand-ins: encoder "
            "resnet50 or mobilenetv2_100 (no pathology in their training) or colour (no weights)"
        )
    if name == "conch":
        return _conch(about, weights)
    settings = {"num_classes": 0, "dynamic_img_size": True, **about.settings()}
    if weights:
        model = built(about.architecture, **settings)
        fill(model, tensors_in(name, weights), name, weights)
        revision = sha256_of(weights)[:12]
    else:
        model = published(f"hf-hub:{about.hub}", about.title, **settings)
        revision = digest(model)
    # timm's mean and std of some of these architectures are others, but all three were trained with ImageNet's
    return Loaded(model, *IMAGENET.values(), revision, 224)


def _conch(about: Gated, weights: str | os.PathLike) -> Loaded:
    if not weights:
        from huggingface_hub import hf_hub_download

        with hub(about.title, in_cache(f"hf-hub:{about.hub}")):
            weights = hf_hub_download(about.hub, "pytorch_model.bin")
    from lib.features.conch import INPUT_PX, MEAN, STD, Conch, tensors_of

    model = Conch()
    fill(model, tensors_of(tensors_in("conch", weights)), "conch", weights)
    return Loaded(model, MEAN, STD, sha256_of(weights)[:12], INPUT_PX)
