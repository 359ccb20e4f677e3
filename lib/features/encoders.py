"""Frozen encoders: crops of tissue in, one vector a crop out.

- colour: 38 numbers of colour and texture, no weights; the baseline of every encoder, on HER2ST hard to beat.
- shell: a small network that was trained to find epithelium and stroma on H&E, without a hub.
- networks of timm, filled with pretrained weights from a file or from the hub.
- pathology encoders that are given on application: UNI, UNI2-h, CONCH, Prov-GigaPath. All see a whole tile brought to
  their input size; their authors' own way differs for Prov-GigaPath alone, which is shown the middle 224 of 256 pixels.
"""

import difflib
import hashlib
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import onnxruntime
import timm
import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from PIL import Image
from scipy.ndimage import laplace
from skimage.color import rgb2gray, rgb2hed
from skimage.feature import local_binary_pattern
from timm.data import resolve_data_config
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchstain.numpy.normalizers.macenko import NumpyMacenkoNormalizer

from lib.features.feature_files import Encoder, plain_tensors
from lib.files import sha256_of

# all crops are brought to this scale first, else texture would measure the scanner's resolution
UM_PER_PX = 3.44
QUANTILES = (0.1, 0.5, 0.9)
CHANNELS = ("red", "green", "blue", "haematoxylin", "eosin")
PATTERNS = 10
NAMES = (
    *(f"{channel}_{name}" for channel in CHANNELS for name in ("mean", "std", "q10", "q50", "q90")),
    *(f"lbp_{i}" for i in range(PATTERNS)),
    *("laplacian_mean_abs", "laplacian_std", "laplacian_q90_abs"),
)


def describe_colour(crops: np.ndarray, um_per_px: float) -> np.ndarray:
    """Colour, stain and texture of each crop.

    Mean, standard deviation and the 10, 50 and 90 % quantiles of red, green, blue (0 to 1) and of the haematoxylin
    and eosin densities (Ruifrok and Johnston 2001, as in scikit-image); the histogram of uniform local binary
    patterns (8 neighbours at 1 pixel; Ojala et al. 2002, doi 10.1109/TPAMI.2002.1017623); mean, spread and 90 %
    quantile of the grey picture's Laplacian.

    Crops are uint8 RGB (n, height, width, 3), resized from `um_per_px` to `UM_PER_PX` first; the result is float32
    (n, 38), columns as in `NAMES`.
    """
    if not len(crops):
        return np.empty((0, len(NAMES)), np.float32)
    height, width = (max(3, round(side * um_per_px / UM_PER_PX)) for side in crops.shape[1:3])
    if (height, width) != crops.shape[1:3]:
        pictures = (Image.fromarray(crop).resize((width, height), Image.Resampling.BOX) for crop in crops)
        crops = np.stack([np.asarray(picture) for picture in pictures])
    rgb = crops / np.float32(255)
    channels = np.concatenate([rgb, rgb2hed(rgb)[..., :2]], axis=3).reshape(len(crops), -1, len(CHANNELS))
    statistics = [channels.mean(1), channels.std(1), *np.quantile(channels, QUANTILES, axis=1)]
    by_channel = np.stack(statistics, axis=2).reshape(len(crops), -1)
    grey = rgb2gray(rgb)
    levels = np.round(grey * 255).astype(np.uint8)
    # the outermost pixels have no neighbours on one side
    codes = (local_binary_pattern(level, 8, 1, "uniform")[1:-1, 1:-1].astype(int).ravel() for level in levels)
    patterns = np.stack([np.bincount(code, minlength=PATTERNS) / code.size for code in codes])
    edges = np.stack([laplace(picture, mode="nearest") for picture in grey]).reshape(len(grey), -1)
    size = np.abs(edges)
    edges = np.stack([size.mean(1), edges.std(1), np.quantile(size, 0.9, axis=1)], axis=1)
    return np.hstack([by_channel, patterns, edges]).astype(np.float32)


# sums of SHELL's three encoder levels, deepest first, and how many channels each has
SHELL_LEVELS = {"add_634": 128, "add_357": 64, "add_216": 32}
SHELL = "data/raw/shell/lavlab_shell/shell/weights/model_v1.onnx"  # where `make data` puts its network


def stain_channels(picture: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """How crops of a slide become what SHELL sees, from a picture of the slide, uint8 RGB (height, width, 3).

    Eosin, haematoxylin and optical density, each 0 to 1 (the 99th percentile of the picture), float32 (n, 3, height,
    width). Stains by Macenko et al. 2009 (doi 10.1109/ISBI.2009.5193250), of torchstain; the glass is as bright as the
    brightest hundredth of the picture, at least 200.
    """
    glass = float(np.clip(np.percentile(picture.mean(axis=2), 99), 200, 255))

    def density(rgb: np.ndarray) -> np.ndarray:
        return -np.log(np.minimum((rgb.astype(np.float32) + 1) / np.float32(glass), 1))

    normalizer = NumpyMacenkoNormalizer()
    normalizer.fit(picture, Io=glass)
    # eigenvectors have no sign; of the two stains eosin lets more red through
    stains = normalizer.HERef * np.sign(normalizer.HERef.sum(axis=0))
    stains = stains[:, np.argsort(stains[0])]
    mixing = np.hstack([np.linalg.pinv(stains).T, np.full((3, 1), 1 / 3)])
    mixing = (mixing / np.percentile(density(picture) @ mixing, 99, axis=(0, 1))).astype(np.float32)
    return lambda crops: np.moveaxis(density(crops) @ mixing, 3, 1).clip(0, 1)


def _shell(weights: str | os.PathLike) -> onnxruntime.InferenceSession:
    """SHELL's network with its encoder levels among the outputs."""

    def message(field: int, content: bytes) -> bytes:
        return bytes([field << 3 | 2, len(content)]) + content

    # Protocol buffers that follow one another are merged: this adds outputs (field 12) to the model's graph (field 7)
    outputs = b"".join(message(12, message(1, name.encode())) for name in SHELL_LEVELS)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, torch.get_num_threads()
    folder = str(Path(weights).parent)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    model = Path(weights).read_bytes() + message(7, outputs)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def shell(weights: str | os.PathLike, crop_um: float) -> Encoder:
    """SHELL (LaViolette lab, PyPI's lavlab-shell 0.9.1, MIT): mean and standard deviation of each channel of three levels.

    A SegResNet trained to part epithelium and stroma on H&E at 1 µm a pixel; 448 numbers. Crops are resized to that scale
    as nearly as sides that are multiples of 64 allow. `weights` is the wheel's model_v1.onnx, with model_v1.onnx.data
    beside it (`make data COHORT=shell`).
    """
    if not Path(weights).is_file():
        raise FileNotFoundError(
            f"encoder shell needs its model_v1.onnx, and {weights or 'no file'} is not it: run `make data COHORT=shell` "
            f"and name `shell: {SHELL}` under `encoder_weights`"
        )
    session, revision = _shell(weights), sha256_of(Path(f"{weights}.data"))[:12]
    side = 64 * max(1, round(crop_um / 64))

    def of_slide(picture: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        channels = stain_channels(picture)

        def encode(crops: np.ndarray) -> np.ndarray:
            features = [np.empty((0, 2 * sum(SHELL_LEVELS.values())), np.float32)]
            for start in range(0, len(crops), 16):
                levels = session.run([*SHELL_LEVELS], {"input": channels(crops[start : start + 16])})
                pooled = [f(level, axis=(2, 3)) for level in levels for f in (np.mean, np.std)]
                features.append(np.hstack(pooled))
            return np.concatenate(features)

        return encode

    def alone(crops: np.ndarray) -> np.ndarray:
        raise ValueError("encoder shell sees the stains of a slide: take `encoder.of_slide(picture)` first")

    return Encoder("shell", revision, 2 * sum(SHELL_LEVELS.values()), side, crop_um, alone, of_slide)


class Pooler(nn.Module):
    """Learned queries attend to the tokens: (b, n, context) -> (b, queries, width)."""

    def __init__(self, width: int, context: int, heads: int, queries: int):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(queries, width))
        self.attn = nn.MultiheadAttention(width, heads, kdim=context, vdim=context, batch_first=True)
        self.ln_q, self.ln_k = nn.LayerNorm(width), nn.LayerNorm(context)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        return self.attn(query, tokens, tokens, need_weights=False)[0]


class Conch(nn.Module):
    """CONCH's picture tower (Lu et al., Nat Med 30:863, 2024, doi 10.1038/s41591-024-02856-4), 512 numbers a crop.

    A ViT-B/16 at 448 pixels, its tokens pooled by one learned query (Yu et al., CoCa, arXiv 2205.01917). As in the
    authors' advice for tile features, the projection into the space shared with text is left out.
    Crops (b, 3, 448, 448), normalised with `CONCH_NORM`, -> features (b, 512).
    """

    head_hidden_size = 512

    def __init__(self, width: int = 768, depth: int = 12, heads: int = 12):
        super().__init__()
        size = {"embed_dim": width, "depth": depth, "num_heads": heads}
        self.trunk = VisionTransformer(img_size=448, num_classes=0, dynamic_img_size=True, **size)
        self.attn_pool_contrast = Pooler(self.head_hidden_size, width, heads=8, queries=1)
        self.ln_contrast = nn.LayerNorm(self.head_hidden_size)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        tokens = self.trunk.forward_features(crops)
        return self.ln_contrast(self.attn_pool_contrast(tokens)[:, 0])


def tensors_of(checkpoint: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of CONCH's picture tower in the published file, which holds the text's and the captions' too."""
    tower = {key.removeprefix("module."): tensor for key, tensor in checkpoint.items()}
    unused = ("attn_pool_caption.", "ln_caption.", "proj_contrast")
    parts = {key.partition("visual.")[2]: tower[key] for key in tower if key.startswith("visual.")}
    return {key: tensor for key, tensor in parts.items() if not key.startswith(unused)}


TRUNCATED = "resnet50_trunc"  # CLAM's name for ResNet50 without its last stage
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CONCH_NORM = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


class Gated(NamedTuple):
    """A pathology encoder: its name, its repository on huggingface.co, and how timm builds it."""

    title: str
    hub: str
    architecture: str = ""
    settings: dict = {}


_UNI2 = dict(img_size=224, patch_size=14, depth=24, num_heads=24, embed_dim=1536, mlp_ratio=2.66667 * 2)
_UNI2 |= dict(mlp_layer=SwiGLUPacked, act_layer=nn.SiLU, no_embed_class=True, reg_tokens=8)
_VIT = dict(init_values=1e-5, dynamic_img_size=True)
_GIGA = _VIT | dict(img_size=224, patch_size=16, depth=40, num_heads=24, embed_dim=1536, mlp_ratio=5.33334)

GATED = {
    # Chen et al., Nat Med 30:850, 2024, doi 10.1038/s41591-024-02857-3: ViT-L/16, 1024 numbers
    "uni": Gated("UNI", "MahmoodLab/UNI", "vit_large_patch16_224", _VIT),
    # its successor: ViT-H/14 with 8 registers, 1536 numbers
    "uni2-h": Gated("UNI2-h", "MahmoodLab/UNI2-h", "vit_giant_patch14_224", _VIT | _UNI2),
    # Xu et al., Nature 630:181, 2024, doi 10.1038/s41586-024-07441-w: ViT-g/16, 1536 numbers
    "gigapath": Gated("Prov-GigaPath", "prov-gigapath/prov-gigapath", "vit_giant_patch14_dinov2", _GIGA),
    "conch": Gated("CONCH", "MahmoodLab/CONCH"),
}

OURS = ("colour", "shell", *GATED, TRUNCATED)  # encoders that timm does not know


def network(name: str, weights: str | os.PathLike = "") -> tuple[nn.Module, tuple, str, int]:
    """A network without its classifier, from a file or from the hub (or from the hub's cache on this machine).

    With it come mean and standard deviation of RGB (0 to 1) in its training, a name of its weights, and the side of the
    pictures it takes. The module's `head_hidden_size` is the length of its features.

    `TRUNCATED` is torchvision's ResNet50 with its third stage's 1024 channels averaged over the picture, as CLAM has it
    (Lu et al., Nat Biomed Eng 5:555, 2021, doi 10.1038/s41551-020-00682-w).
    """
    known = "resnet50.tv_in1k" if name == TRUNCATED else name
    about = GATED.get(name) or Gated(name, "", known)
    source = f"hf-hub:{about.hub}" if about.hub else known
    if not source.startswith("hf-hub:") and not timm.is_model(known):
        near = difflib.get_close_matches(name.lower(), [*OURS, *timm.list_models()], 3)
        hint = f"nearest: {', '.join(near)}" if near else "timm.list_models() names them all"
        raise ValueError(f"unknown encoder {name!r}; {hint}")
    if not weights and not in_cache(source):
        _ask_for_hub(about)
    if not weights and name == "conch":
        weights = hf_hub_download(about.hub, "pytorch_model.bin")
    tensors, folded = plain_tensors(weights, f"plain tensors for encoder {name}") if weights else {}, False
    if name == "conch":
        model, tensors = Conch(), tensors_of(tensors)
    elif weights:
        mean = tensors.get("bn1.running_mean")
        # no trained mean is 0 everywhere: batch norms were folded, so the file comes from a quantised TensorFlow model,
        # whose strided convolutions pad on the other side and which was trained on -1 to 1
        folded = known.startswith("mobilenetv2_100") and mean is not None and not mean.any()
        padding = {"pad_type": "same"} if folded else {}
        model = timm.create_model(about.architecture, num_classes=0, **about.settings, **padding)
    else:
        model = timm.create_model(source, pretrained=True, num_classes=0, **about.settings)
    if weights:
        _fill(model, tensors, name, weights)
    revision = sha256_of(weights)[:12] if weights else _digest(model)
    if name == TRUNCATED:
        model.layer4 = nn.Identity()
        model.head_hidden_size = model.num_features = 1024
    if about.hub:  # timm's mean and std of some are others, but all three were trained with ImageNet's
        return model, *((CONCH_NORM, revision, 448) if name == "conch" else (IMAGENET, revision, 224))
    settings = resolve_data_config({}, model=model)
    norm = ((0.5,) * 3, (0.5,) * 3) if folded else (settings["mean"], settings["std"])
    return model, norm, revision, model.pretrained_cfg["input_size"][-1]


def _ask_for_hub(about: Gated) -> None:
    """Say what lacks before the hub's client, which repeats a hopeless request for a minute."""
    if about.hub and not os.environ.get("HF_TOKEN"):
        raise PermissionError(
            f"{about.title} is given on application: ask at https://huggingface.co/{about.hub} and put your token into "
            "the environment as HF_TOKEN, or name a downloaded pytorch_model.bin as `weights`. Open stand-ins: encoder "
            "shell (small, trained on H&E; `make data COHORT=shell`) or colour (no weights)"
        )
    host = urlsplit(constants.ENDPOINT).hostname
    try:
        if not (os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")):
            socket.getaddrinfo(host, 443)
    except OSError as error:
        raise ConnectionError(
            f"the weights of encoder {about.title} are not on this machine and {host} cannot be reached: download them "
            "elsewhere and name the file as `weights`, or use encoder colour, which needs none"
        ) from error


def in_cache(name: str) -> bool:
    """Whether the hub's cache on this machine has the weights of a timm model, or of hf-hub:owner/model."""
    repository = name.removeprefix("hf-hub:")
    if repository == name:
        repository = timm.get_pretrained_cfg(name).hf_hub_id
    files = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")
    found = (try_to_load_from_cache(repository, each) for each in files if repository)
    return any(isinstance(path, str) for path in found)


def _fill(model: nn.Module, tensors: dict, name: str, weights: str | os.PathLike) -> None:
    """Load a file's tensors into the model, all of them but the classifier's."""
    classifier = getattr(model, "pretrained_cfg", {}).get("classifier") or ()
    classifiers = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    body = {key: value for key, value in tensors.items() if key.rpartition(".")[0] not in classifiers}
    try:
        model.load_state_dict(body, strict=True)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:400]
        raise ValueError(f"{weights} does not fit encoder {name}: {said}") from error


def _digest(model: nn.Module) -> str:
    """The first 12 characters of the sha256 of all parameters: names the weights wherever they came from."""
    sha256 = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        sha256.update(key.encode())
        sha256.update(tensor.cpu().contiguous().numpy().tobytes())
    return sha256.hexdigest()[:12]


def load_encoder(name: str, weights="", device: str = "auto", crop_um: float | None = None) -> Encoder:
    """An encoder by name.

    - "colour": 38 numbers of colour and texture, no weights; crops of 150 µm.
    - "shell": 448 numbers of a network trained on H&E, from `weights`; crops of 128 µm, on the CPU.
    - "uni" (1024 numbers), "uni2-h" (1536), "conch" (512), "gigapath" (1536): pathology encoders, from `weights`,
      or from the hub when HF_TOKEN is in the environment.
    - "resnet50_trunc": ResNet50's third stage, 1024 numbers, as CLAM has it.
    - any other: a timm model, from `weights`, or its published weights from the hub. "resnet50.tv_in1k" and
      "resnet50.tv2_in1k" are torchvision's ResNet50, 2048 numbers, of which CrossFusion used one.

    `weights` is a .safetensors file, or a .pth/.pt/.bin file of plain tensors, which must fit the model; "": the hub. `device`
    is "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps". `crop_um` is the side of tissue a crop shows; for
    all but colour and shell 112 µm (224 pixels at 0.5 µm per pixel) unless given. A PermissionError without token or file, a
    ConnectionError where the hub cannot be reached, say what to do.
    """
    if name == "colour":
        um = crop_um or 150.0
        side = max(3, round(um / UM_PER_PX))

        def describe(crops: np.ndarray) -> np.ndarray:
            return describe_colour(crops, um / crops.shape[1])

        return Encoder(name, "v1", len(NAMES), side, um, describe)
    if name == "shell":
        return shell(weights, crop_um or 128.0)
    model, norm, revision, input_px = network(name, weights)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.eval().requires_grad_(False).to(device)
    encode = partial(_encoded, model, 255 * torch.tensor(norm, device=device).reshape(2, 1, 3, 1, 1))
    return Encoder(name, revision, model.head_hidden_size, input_px, crop_um or 112.0, encode)


EXACT = dict(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


@torch.inference_mode()
def _encoded(model: nn.Module, norm: torch.Tensor, crops: np.ndarray) -> np.ndarray:
    """Features of crops that are bytes; `norm` is mean and standard deviation of red, green and blue, 0 to 255."""
    batch = 16 if norm.device.type == "cpu" else 64  # more leave a CPU's caches
    features = [np.empty((0, model.head_hidden_size), np.float32)]
    with torch.backends.cudnn.flags(**EXACT):
        for start in range(0, len(crops), batch):
            pixels = torch.tensor(crops[start : start + batch], device=norm.device)
            pixels = pixels.permute(0, 3, 1, 2).float().sub_(norm[0]).div_(norm[1])
            features.append(model(pixels).float().cpu().numpy())
    return np.concatenate(features)
