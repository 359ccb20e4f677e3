"""Fold a row of tokens into a square pseudo-picture and convolve it. The square has no meaning on the slide.

Kernels of several sizes that are summed are one kernel: small ones are padded with zeros to the largest and added, so
that one convolution does the work of three or four. Parameters, initial values and results stay those of the parts.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def side_of(n: int) -> int:
    """Side of the smallest square that holds n tokens."""
    return math.isqrt(n - 1) + 1


def squared(x: Tensor) -> Tensor:
    """Tokens (1, n, width) -> (1, side², width): the first tokens come a second time at the end."""
    n = x.shape[1]
    return torch.cat([x, x[:, : side_of(n) ** 2 - n]], 1)


def unsquared(shares: Tensor, n: int) -> Tensor:
    """Shares of attention (..., side²) -> (..., n): what a repeated token received is added to the token's own."""
    own, again = shares[..., :n], shares[..., n:]
    return own + F.pad(again, (0, n - again.shape[-1]))


def convolutions(width_in: int, width_out: int, sizes: tuple[int, ...]) -> nn.ModuleList:
    """Convolutions of several kernel sizes that keep the picture's size and are summed; groups = width_out."""
    return nn.ModuleList(
        nn.Conv2d(width_in, width_out, size, padding=size // 2, groups=width_out) for size in sizes
    )


def convolved(x: Tensor, parts: nn.ModuleList) -> Tensor:
    """Sum of `convolutions` of a square of tokens: (1, side², width_in) -> (1, side², width_out)."""
    side, largest = side_of(x.shape[1]), max(part.kernel_size[0] for part in parts)
    kernel = sum(F.pad(part.weight, [(largest - part.kernel_size[0]) // 2] * 4) for part in parts)
    outputs, inputs = kernel.shape[:2]  # inputs a group
    # depthwise convolution and a sum over each group: several times faster than few channels a group
    picture = x.transpose(1, 2).unflatten(2, (side, side))  # (1, width_in, side, side)
    picture = F.conv2d(picture, kernel.flatten(0, 1).unsqueeze(1), padding=largest // 2, groups=x.shape[2])
    tokens = picture.flatten(2).transpose(1, 2)  # (1, side², width_in)
    if inputs > 1:
        tokens = tokens.unflatten(2, (outputs, inputs)).sum(3)
    return tokens + sum(part.bias for part in parts)


class PPEG(nn.Module):
    """Positions from convolutions: the square plus its depthwise 7x7, 5x5 and 3x3 (Shao et al., NeurIPS 2021)."""

    def __init__(self, width: int):
        super().__init__()
        self.parts = convolutions(width, width, (7, 5, 3))

    def forward(self, x: Tensor, class_tokens: int = 0) -> Tensor:
        """(1, class_tokens + side², width) -> the same shape; class tokens come first and pass unchanged."""
        square = x[:, class_tokens:]
        square = square + convolved(square, self.parts)
        return torch.cat([x[:, :class_tokens], square], 1) if class_tokens else square
