"""Attention over bags of tiles: blocks that several models use, and multiple-instance models of the 20x tiles alone.

Memory grows with the tokens, not with their square. Dropping attention weights one by one needs the whole table of
weights, and no fused kernel: 3.6 times the memory at the mean slide. `dropout_of="keys"` leaves out a share of the keys
instead, drawn anew for every layer and step, the same for all queries and heads; the softmax runs over those that stay,
so that shares still sum to one and nothing has to be rescaled. (Keys instead of weights: Li et al., DropKey, CVPR 2023.)

Tokens are folded into a square pseudo-picture, which has no meaning on the slide, and convolved. Kernels of several
sizes that are summed are one kernel: small ones are padded with zeros to the largest and added, so that one convolution
does the work of three or four. Parameters, initial values and results stay those of the parts.

The models are AMIL (Ilse, Tomczak, Welling: ICML 2018, arXiv 1802.04712), DSMIL (Li, Li, Eliceiri: CVPR 2021, arXiv
2011.08939), TransMIL (Shao et al., NeurIPS 2021, arXiv 2106.00908) in the sizes in which CrossFusion's authors ran them,
and the mean of all tiles. Parameters are counted with in_dim=2048 and 4 bins.
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


LOOKS = (None, "full", "received")
QUERIES = 256  # at once, when shares are added up


class Attention(nn.Module):
    """Queries, keys, values and output with biases.

    `dropout` is the share of keys, or the chance of a weight (`dropout_of` "weights"), to be left out, with
    `dropout_in_evaluation` also outside training: scores become random.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout=0.0,
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
        parts = map(self.split, (query, key, value))  # (1, heads, n, width / heads)
        mixed = F.scaled_dot_product_attention(*parts, dropout_p=dropout)
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


class TileModel(nn.Module):
    """What the models of 20x tiles share: they are called as CrossFusion is, and read x20, of `in_dim` features, alone."""

    def __init__(self, in_dim: int):
        super().__init__()
        self.in_dim = in_dim

    def forward(
        self, x5: Tensor | None, x10: Tensor | None, x20: Tensor, attention: str | None = None
    ) -> Hazards:
        """Hazards of one bag: x20 (1, tiles, in_dim); x5 and x10 are not read.

        With `attention` "full" or "received" the model's weights of the tiles are the map "tiles".
        """
        logits, shares = self.read(check_bag(x20, self.in_dim, "x20"), look=attention is not None)
        maps = None if attention is None or shares is None else {"tiles": shares.detach()}
        return Hazards(logits.float(), maps)


class AMIL(TileModel):
    """One learned weight a tile, from gated attention. 1,314,053 parameters, no dropout.

    The map (1, 1, tiles) sums to 1. `gate` is the width of the attention's hidden layer.
    """

    def __init__(self, in_dim: int, *, bins: int = 4, width: int = 512, gate: int = 256):
        super().__init__(in_dim)
        self.project = nn.Linear(in_dim, width)
        self.feature, self.gate = nn.Linear(width, gate), nn.Linear(width, gate)
        self.weight, self.head = nn.Linear(gate, 1), nn.Linear(width, bins)

    def read(self, x: Tensor, look: bool) -> tuple[Tensor, Tensor]:
        x = F.relu(self.project(x))  # (1, n, width)
        score = self.weight(torch.tanh(self.feature(x)) * torch.sigmoid(self.gate(x)))  # (1, n, 1)
        shares = score.transpose(1, 2).float().softmax(2)  # (1, 1, n)
        return self.head((shares.to(x.dtype) @ x).squeeze(1)), shares


class MeanPool(TileModel):
    """The plainest baseline, AMIL with all tiles of equal weight. 1,051,140 parameters; there are no maps."""

    def __init__(self, in_dim: int, *, bins: int = 4, width: int = 512):
        super().__init__(in_dim)
        self.project, self.head = nn.Linear(in_dim, width), nn.Linear(width, bins)

    def read(self, x: Tensor, look: bool) -> tuple[Tensor, None]:
        return self.head(F.relu(self.project(x)).mean(1)), None


class DSMIL(TileModel):
    """One stream scores tiles, the other weighs them by their likeness to the highest-scored one; each bin has its own.

    319,752 parameters in both variants. The map (1, bins, tiles) sums to 1 in each bin.

    Parameters
    ----------
    variant : {"described", "released"}
        Described: logits are the mean of both streams'. Released: the bag stream's alone, so that the tile stream never
        learns and the critical tile is chosen by a random direction.
    query : int
        Width in which tiles are compared.
    """

    def __init__(self, in_dim: int, variant: str = "described", *, bins: int = 4, query: int = 128):
        super().__init__(in_dim)
        self.both_streams = variant == "described"
        self.tiles = nn.Linear(in_dim, bins)
        self.query = nn.Sequential(nn.Linear(in_dim, query), nn.ReLU(), nn.Linear(query, query), nn.Tanh())
        self.bag = nn.Conv1d(bins, bins, in_dim)

    def read(self, x: Tensor, look: bool) -> tuple[Tensor, Tensor]:
        highest, critical = self.tiles(x).max(1)  # (1, bins) logits, (1, bins) tiles
        query = self.query(x)  # (1, n, query)
        asking = query[0, critical[0]].unsqueeze(0)  # (1, bins, query)
        score = asking @ query.transpose(1, 2) * query.shape[2] ** -0.5
        shares = score.float().softmax(2)  # (1, bins, n)
        bag = shares.to(x.dtype) @ x  # (1, bins, in_dim)
        logits = self.bag(bag).squeeze(2)  # (1, bins)
        return (logits + highest) / 2 if self.both_streams else logits, shares


def inverse(matrices: Tensor, steps: int = 6) -> Tensor:
    """Moore-Penrose inverse of each (..., m, m) by iteration (Xiong et al., equation 14).

    All start from the size of the largest, as the authors ran it: a matrix's result leans on the others' a little.
    """
    one = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    z = matrices.transpose(-1, -2) / (matrices.abs().sum(-2).max() * matrices.abs().sum(-1).max())
    for _ in range(steps):
        az = matrices @ z
        z = z @ (13 * one - az @ (15 * one - az @ (7 * one - az))) / 4
    return z


class NystromAttention(nn.Module):
    """Nyström attention (Xiong et al., AAAI 2021, arXiv 2102.03902): softmax(q k') v in linear time.

    It is taken as softmax(q l_k') inverse(softmax(l_q l_k')) softmax(l_q k') v with landmarks l, means of neighbours in
    the row. Multiplied from the right, both outer factors are attention with few queries or few keys, for which the
    fused kernel serves; no table of tiles by landmarks is made. Tokens are padded with zeros in front to a multiple of
    the landmarks. A convolution of the values along the row is added.
    """

    def __init__(self, width: int, heads: int, landmarks: int, kernel: int = 33, dropout: float = 0.1):
        super().__init__()
        self.heads, self.landmarks = heads, landmarks
        self.split = nn.Linear(width, 3 * width, bias=False)
        self.along = nn.Conv2d(heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads, bias=False)
        self.output, self.dropout = nn.Linear(width, width), nn.Dropout(dropout)

    def forward(self, x: Tensor, look: bool = False) -> tuple[Tensor, Tensor | None]:
        """x (1, n, width) -> (1, n, width), and with `look` the first token's row (1, heads, n), without gradient."""
        n, width = x.shape[1:]
        parts = self.split(F.pad(x, (0, 0, -n % self.landmarks, 0)))  # (1, padded, 3 width)
        # (1, heads, padded, width / heads) in float32: the inverse does not survive a lower precision
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2).float() for part in parts.chunk(3, 2)
        )
        with torch.autocast(x.device.type, enabled=False):
            marks_q, marks_k = (part.unflatten(2, (self.landmarks, -1)).mean(3) for part in (query, key))
            scale = (width // self.heads) ** -0.5
            between = inverse((marks_q @ marks_k.transpose(2, 3) * scale).softmax(3))
            # (1, heads, landmarks, width / heads)
            gathered = F.scaled_dot_product_attention(marks_q, key, value)
            mixed = F.scaled_dot_product_attention(query, marks_k, between @ gathered)
            row = None
            if look:
                with torch.no_grad():
                    first = (query[:, :, -n:][:, :, :1] @ marks_k.transpose(2, 3) * scale).softmax(3)
                    row = first @ between @ (marks_q @ key.transpose(2, 3) * scale).softmax(3)
                    row = row[:, :, 0, -n:]
        # one kernel a head, written as one a channel: twice as fast
        kernel = self.along.weight.repeat_interleave(width // self.heads, 0)
        picture = parts[..., 2 * width :].transpose(1, 2).unsqueeze(3)  # (1, width, padded, 1)
        near = F.conv2d(picture, kernel, padding=self.along.padding, groups=width).squeeze(3).transpose(1, 2)
        mixed = mixed.transpose(1, 2).flatten(2) + near
        return self.dropout(self.output(mixed))[:, -n:], row


class TransMIL(TileModel):
    """Square of 20x tiles and a class token, attention, positions from convolutions, attention.

    3,197,460 parameters; width / 2 landmarks; dropout 0.1 behind each attention, in training only. The order of the
    tiles matters: they are folded into a square. The map (1, heads, tiles) is the class token's row of the second
    attention, an approximation: single shares may lie below 0, and with the class token's own and the padding's share
    the row sums to about 1.
    """

    def __init__(self, in_dim: int, *, bins: int = 4, width: int = 512, heads: int = 8):
        super().__init__(in_dim)
        self.project = nn.Linear(in_dim, width)
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.norm1, self.attention1 = nn.LayerNorm(width), NystromAttention(width, heads, width // 2)
        self.positions = PPEG(width)
        self.norm2, self.attention2 = nn.LayerNorm(width), NystromAttention(width, heads, width // 2)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, bins)

    def read(self, x: Tensor, look: bool) -> tuple[Tensor, Tensor | None]:
        n, x = x.shape[1], squared(F.relu(self.project(x)))
        x = torch.cat([self.class_token.to(x.dtype), x], 1)  # (1, 1 + side², width)
        x = x + self.attention1(self.norm1(x))[0]
        x = self.positions(x, class_tokens=1)
        mixed, row = self.attention2(self.norm2(x), look)
        logits = self.head(self.norm((x + mixed)[:, 0]))  # (1, bins)
        return logits, unsquared(row[..., 1:], n) if look else None
