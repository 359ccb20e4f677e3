"""Blocks of attention that several models use: multi-head attention over large bags, and squares of tokens.

Memory grows with the tokens, not with their square. Dropping attention weights one by one needs the whole table of
weights, and no fused kernel: 3.6 times the memory at the mean slide. `dropout_of="keys"` leaves out a share of the keys
instead, drawn anew for every layer and step, the same for all queries and heads; the softmax runs over those that stay,
so that shares still sum to one and nothing has to be rescaled. (Keys instead of weights: Li et al., DropKey, CVPR 2023.)

Tokens are folded into a square pseudo-picture, which has no meaning on the slide, and convolved. Kernels of several
sizes that are summed are one kernel: small ones are padded with zeros to the largest and added, so that one convolution
does the work of three or four. Parameters, initial values and results stay those of the parts.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Hazards(NamedTuple):
    """Hazards of one patient or slide, before the sigmoid."""

    logits: Tensor  # (1, bins), float32; the sigmoid is the chance to die in the bin, higher = earlier death
    # maps by name, without gradient and without dropout; None unless asked
    attention: dict[str, Tensor] | None


def check_bag(bag: Tensor | None, in_dim: int, scale: str) -> Tensor:
    """Return `bag` if it is (1, n, in_dim) with n at least 1; `scale` ("x5", "x10", "x20") names it in the error.

    Raises
    ------
    ValueError
        No bag, no tile, several slides at once, or features of another width.
    """
    if bag is None or bag.ndim != 3 or bag.shape[0] != 1 or bag.shape[1] < 1 or bag.shape[2] != in_dim:
        found = "nothing" if bag is None else f"shape {tuple(bag.shape)}"
        raise ValueError(f"bag {scale} must be (1, tiles, {in_dim}) with one tile at least, got {found}")
    return bag


def check_choice(model: str, **choices: tuple[object, tuple]) -> None:
    """Refuse a value that is not among the known ones: `check_choice("AMIL", variant=(variant, VARIANTS))`."""
    for name, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f"{model}({name}={value!r}): {name} must be one of {known}")


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


DROPOUTS = ("keys", "weights")
LOOKS = (None, "full", "received")
QUERIES = 256  # at once, when shares are added up


class Attention(nn.Module):
    """Queries, keys, values and output with biases.

    Parameters
    ----------
    width, heads : int
    dropout : float
        Share of keys, or chance of a weight, to be left out; 0 for none.
    dropout_of : {"keys", "weights"}
    dropout_in_evaluation : bool
        Also outside training: scores become random.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        dropout_of: str = "keys",
        dropout_in_evaluation: bool = False,
    ):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.dropout_of, self.dropout_in_evaluation = dropout_of, dropout_in_evaluation
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:  # (1, n, width) -> (1, heads, n, width / heads)
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def forward(self, asking: Tensor, asked: Tensor) -> Tensor:
        """asking (1, n, width), asked (1, m, width) -> (1, n, width)."""
        dropout = self.dropout if self.training or self.dropout_in_evaluation else 0.0
        if dropout and self.dropout_of == "keys":
            m = asked.shape[1]
            kept = torch.randperm(m, device=asked.device)[: m - int(dropout * m)]
            asked, dropout = asked.index_select(1, kept.sort().values), 0.0
        query, key, value = self.query(asking), self.key(asked), self.value(asked)
        mixed = F.scaled_dot_product_attention(
            self.split(query), self.split(key), self.split(value), dropout_p=dropout
        )  # (1, heads, n, width / heads)
        return self.output(mixed.transpose(1, 2).flatten(2))

    @torch.no_grad()
    def look(self, asking: Tensor, asked: Tensor, how: str | None) -> Tensor | None:
        """The weights without dropout: "full" (1, heads, n, m), rows sum to 1; "received" (1, heads, m), their mean
        over the queries, sums to 1, in memory for 256 queries; None gives None.
        """
        if how is None:
            return None
        key = self.split(self.key(asked)).transpose(2, 3)  # (1, heads, width / heads, m)
        scale = (asked.shape[2] // self.heads) ** -0.5
        rows = (
            (self.split(self.query(some)) @ key).float().mul(scale).softmax(3)
            for some in asking.split(QUERIES, 1)
        )
        if how == "full":
            return torch.cat(list(rows), 2)
        return sum(row.sum(2) for row in rows) / asking.shape[1]
