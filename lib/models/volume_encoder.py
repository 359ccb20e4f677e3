"""A small 3-D CNN that makes one token of every volume, over as many volumes as memory lets.

There is no batch normalisation: volumes do not see each other, so encoding them in parts, and once more when gradients
are asked for instead of keeping what was computed (Chen et al., arXiv 1604.06174), changes nothing but rounding.
"""

import math
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

TRUNCATED = 0.87962566103423978  # spread of a normal cut at two standard deviations; Keras makes up for it
AT_ONCE = 2**23  # numbers in the largest activation, 32 MB: larger parts are not faster
SMALL = 20_480  # columns up to which torch takes a slow and hungry convolution for one volume alone
KEPT = 2**28  # numbers that may be kept for the backward pass: 1 GB


class Level(nn.Module):
    """Two convolutions of 3x3x3 with ReLU, then one of 2x2x2 that halves the volume, without."""

    def __init__(self, before: int, width: int, after: int):
        super().__init__()
        self.first, self.second = (
            nn.Conv3d(before, width, 3, padding=1),
            nn.Conv3d(width, width, 3, padding=1),
        )
        self.down = nn.Conv3d(width, after, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:  # (n, before, h, w, z) -> (n, after, h / 2, w / 2, z / 2)
        return self.down(F.relu_(self.second(F.relu_(self.first(x)))))


class VolumeEncoder(nn.Module):
    """Tokens of volumes: every level halves the volume, the last leaves `channels` numbers a place.

    Parameters
    ----------
    widths : tuple of int
        Channels of the levels. Height, width and depth must be multiples of 2 ** levels.
    channels : int
        Numbers a place of the last level.
    frames_at_once : int or None
        Volumes in one part; None for what keeps activations small enough to be quick.
    recompute : bool or None
        Forget activations and compute them again when gradients are asked for: a third more time, memory of one part
        only. None does so where they would pass 1 GB.
    bf16 : bool
        Convolutions in bfloat16; parameters, gradients and tokens stay float32.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (16, 32, 64, 128),
        channels: int = 1,
        frames_at_once: int | None = None,
        recompute: bool | None = None,
        bf16: bool = False,
    ):
        super().__init__()
        if frames_at_once is not None and frames_at_once < 1:
            raise ValueError(f"frames_at_once={frames_at_once}: one frame at least must be encoded at once")
        self.frames_at_once, self.recompute, self.bf16 = frames_at_once, recompute, bf16
        ins, outs = (1, *widths[:-1]), (*widths[:-1], channels)
        self.levels = nn.Sequential(*(Level(*sizes) for sizes in zip(ins, widths, outs, strict=True)))
        kept = sum(2 * width / 8**i for i, width in enumerate(widths))
        self.a_voxel = widths[0], kept  # numbers of the largest activation, and of all that are kept
        self.apply(_initial)

    def forward(self, series: Tensor) -> Tensor:
        """series (b, frames, h, w, z) -> (b, frames, channels * h * w * z / 8 ** levels), flattened in that order."""
        volumes = series.flatten(0, 1)
        largest, kept = (numbers * math.prod(volumes.shape[1:]) for numbers in self.a_voxel)
        least = 2 if math.prod(volumes.shape[1:3]) <= SMALL else 1
        part = self.frames_at_once or max(least, AT_ONCE // largest)
        again = kept * len(volumes) > KEPT if self.recompute is None else self.recompute
        tokens = [
            checkpoint(self.tokens, some, use_reentrant=False, preserve_rng_state=False)
            if again
            else self.tokens(some)
            for some in volumes.split(part)
        ]
        return torch.cat(tokens).unflatten(0, series.shape[:2])

    def tokens(self, volumes: Tensor) -> Tensor:
        """volumes (n, h, w, z) -> (n, length)."""
        x = volumes.to(self.levels[0].first.bias.dtype)
        # channels last: up to twice as fast on processors, and one channel needs no copy for it
        x = x.unsqueeze(4).movedim(4, 1) if x.device.type == "cpu" else x.unsqueeze(1)
        with torch.autocast(x.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            return self.levels(x).flatten(1).to(x.dtype)

    def penalty(self, strength: float = 5e-5) -> Tensor:
        """L2: `strength` times the sum of squares of the 3x3x3 kernels."""
        kernels = [kernel.weight for level in self.levels for kernel in (level.first, level.second)]
        return strength * sum(kernel.square().sum() for kernel in kernels)


def _initial(part: nn.Module) -> None:
    if not isinstance(part, nn.Conv3d):
        return
    if part.kernel_size == (3, 3, 3):  # He
        spread = math.sqrt(2 / part.weight[0].numel()) / TRUNCATED
        nn.init.trunc_normal_(part.weight, std=spread, a=-2 * spread, b=2 * spread)
    else:
        nn.init.xavier_uniform_(part.weight)
    nn.init.zeros_(part.bias)
