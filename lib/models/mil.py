"""AMIL: one learned weight a tile, from gated attention.

Ilse, Tomczak, Welling: ICML 2018, arXiv 1802.04712; sizes as CrossFusion's authors ran it.

DSMIL: one stream scores tiles, the other weighs tiles by their likeness to the highest-scored one.

Li, Li, Eliceiri: CVPR 2021, arXiv 2011.08939; sizes as CrossFusion's authors ran it.

TransMIL: self-attention among tiles, approximated through landmarks.

Shao et al., NeurIPS 2021, arXiv 2106.00908; Nyström attention by Xiong et al., AAAI 2021, arXiv 2102.03902. Sizes as
CrossFusion's authors ran it. The order of the tiles matters: they are folded into a square, and landmarks are means of
neighbours in the row.

Mean pooling: the plainest baseline, AMIL with all tiles of equal weight.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.attention import LOOKS, PPEG, Hazards, check_bag, check_choice, squared, unsquared


class AMIL(nn.Module):
    """Gated attention over the 20x tiles.

    Parameters
    ----------
    in_dim : int
        Features a tile.
    variant : {"described", "released"}
        The same model: nothing released differs from what is described.
    bins, width, gate : int
        `gate` is the width of the attention's hidden layer.

    Notes
    -----
    1,314,053 parameters with in_dim=2048 and 4 bins. No dropout.
    """

    def __init__(
        self, in_dim: int, variant: str = "described", *, bins: int = 4, width: int = 512, gate: int = 256
    ):
        super().__init__()
        check_choice("AMIL", variant=(variant, ("described", "released")))
        self.in_dim = in_dim
        self.project = nn.Linear(in_dim, width)
        self.feature, self.gate = nn.Linear(width, gate), nn.Linear(width, gate)
        self.weight, self.head = nn.Linear(gate, 1), nn.Linear(width, bins)

    def forward(
        self, x5: Tensor | None, x10: Tensor | None, x20: Tensor, attention: str | None = None
    ) -> Hazards:
        """Hazards of one bag: x20 (1, tiles, in_dim); x5 and x10 are not read.

        With `attention` "full" or "received", the map "tiles" (1, 1, tiles) sums to 1.
        """
        check_choice("AMIL.forward", attention=(attention, LOOKS))
        x = F.relu(self.project(check_bag(x20, self.in_dim, "x20")))  # (1, n, width)
        score = self.weight(torch.tanh(self.feature(x)) * torch.sigmoid(self.gate(x)))  # (1, n, 1)
        shares = score.transpose(1, 2).float().softmax(2)  # (1, 1, n)
        pooled = (shares.to(x.dtype) @ x).squeeze(1)  # (1, width)
        return Hazards(self.head(pooled).float(), {"tiles": shares.detach()} if attention else None)


VARIANTS = ("described", "released")


class DSMIL(nn.Module):
    """Dual-stream pooling of the 20x tiles; every bin has its own critical tile.

    Parameters
    ----------
    in_dim : int
        Features a tile.
    variant : {"described", "released"}
        Sets `both_streams` if it is None.
    both_streams : bool or None
        True, described: logits are the mean of both streams'. False, released: the bag stream's alone, so that the
        tile stream never learns and the critical tile is chosen by a random direction.
    bins, query : int
        `query` is the width in which tiles are compared.

    Notes
    -----
    319,752 parameters with in_dim=2048 and 4 bins, in both variants.
    """

    def __init__(
        self,
        in_dim: int,
        variant: str = "described",
        *,
        both_streams: bool | None = None,
        bins: int = 4,
        query: int = 128,
    ):
        super().__init__()
        check_choice("DSMIL", variant=(variant, VARIANTS))
        self.in_dim = in_dim
        self.both_streams = variant == "described" if both_streams is None else both_streams
        self.tiles = nn.Linear(in_dim, bins)
        self.query = nn.Sequential(nn.Linear(in_dim, query), nn.ReLU(), nn.Linear(query, query), nn.Tanh())
        self.bag = nn.Conv1d(bins, bins, in_dim)

    def forward(
        self, x5: Tensor | None, x10: Tensor | None, x20: Tensor, attention: str | None = None
    ) -> Hazards:
        """Hazards of one bag: x20 (1, tiles, in_dim); x5 and x10 are not read.

        With `attention` "full" or "received", the map "tiles" (1, bins, tiles) sums to 1 in each bin.
        """
        check_choice("DSMIL.forward", attention=(attention, LOOKS))
        x = check_bag(x20, self.in_dim, "x20")
        highest, critical = self.tiles(x).max(1)  # (1, bins) logits, (1, bins) tiles
        query = self.query(x)  # (1, n, query)
        asking = query[0, critical[0]].unsqueeze(0)  # (1, bins, query)
        score = asking @ query.transpose(1, 2) * query.shape[2] ** -0.5
        shares = score.float().softmax(2)  # (1, bins, n)
        bag = shares.to(x.dtype) @ x  # (1, bins, in_dim)
        logits = self.bag(bag).squeeze(2)  # (1, bins)
        if self.both_streams:
            logits = (logits + highest) / 2
        return Hazards(logits.float(), {"tiles": shares.detach()} if attention else None)


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
    """softmax(q k') v as softmax(q l_k') inverse(softmax(l_q l_k')) softmax(l_q k') v, with landmarks l, in linear time.

    Multiplied from the right, both outer factors are attention with few queries or few keys, for which the fused
    kernel serves; no table of tiles by landmarks is made. Tokens are padded with zeros in front to a multiple of the
    landmarks. A convolution of the values along the row is added.
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


class TransMIL(nn.Module):
    """Square of 20x tiles and a class token, attention, positions from convolutions, attention.

    Parameters
    ----------
    in_dim : int
        Features a tile.
    variant : {"described", "released"}
        The same model: nothing released differs from what is described.
    bins, width, heads : int
        width / 2 landmarks.

    Notes
    -----
    3,197,460 parameters with in_dim=2048 and 4 bins. Dropout 0.1 behind each attention, in training only.
    """

    def __init__(
        self, in_dim: int, variant: str = "described", *, bins: int = 4, width: int = 512, heads: int = 8
    ):
        super().__init__()
        check_choice("TransMIL", variant=(variant, ("described", "released")))
        self.in_dim = in_dim
        self.project = nn.Linear(in_dim, width)
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.norm1, self.attention1 = nn.LayerNorm(width), NystromAttention(width, heads, width // 2)
        self.positions = PPEG(width)
        self.norm2, self.attention2 = nn.LayerNorm(width), NystromAttention(width, heads, width // 2)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, bins)

    def forward(
        self, x5: Tensor | None, x10: Tensor | None, x20: Tensor, attention: str | None = None
    ) -> Hazards:
        """Hazards of one bag: x20 (1, tiles, in_dim); x5 and x10 are not read.

        With `attention` "full" or "received", the map "tiles" (1, heads, tiles) is the class token's row of the
        second attention. It is an approximation: single shares may lie below 0, and with the class token's own and
        the padding's share the row sums to about 1.
        """
        check_choice("TransMIL.forward", attention=(attention, LOOKS))
        x = F.relu(self.project(check_bag(x20, self.in_dim, "x20")))
        n, x = x.shape[1], squared(x)
        x = torch.cat([self.class_token.to(x.dtype), x], 1)  # (1, 1 + side², width)
        x = x + self.attention1(self.norm1(x))[0]
        x = self.positions(x, class_tokens=1)
        mixed, row = self.attention2(self.norm2(x), look=attention is not None)
        logits = self.head(self.norm((x + mixed)[:, 0])).float()  # (1, bins)
        return Hazards(logits, {"tiles": unsquared(row[..., 1:], n)} if attention else None)


class MeanPool(nn.Module):
    """Linear and ReLU a tile, the mean over the 20x tiles, one linear layer.

    Parameters
    ----------
    in_dim : int
        Features a tile.
    variant : {"described", "released"}
        The same model: it is not among the authors' baselines.
    bins, width : int

    Notes
    -----
    1,051,140 parameters with in_dim=2048 and 4 bins.
    """

    def __init__(self, in_dim: int, variant: str = "described", *, bins: int = 4, width: int = 512):
        super().__init__()
        check_choice("MeanPool", variant=(variant, ("described", "released")))
        self.in_dim = in_dim
        self.project, self.head = nn.Linear(in_dim, width), nn.Linear(width, bins)

    def forward(
        self, x5: Tensor | None, x10: Tensor | None, x20: Tensor, attention: str | None = None
    ) -> Hazards:
        """Hazards of one bag: x20 (1, tiles, in_dim); x5 and x10 are not read. There are no maps."""
        check_choice("MeanPool.forward", attention=(attention, LOOKS))
        x = check_bag(x20, self.in_dim, "x20")
        pooled = F.relu(self.project(x)).mean(1)  # (1, width)
        return Hazards(self.head(pooled).float(), None)
