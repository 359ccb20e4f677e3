"""TransMIL: self-attention among tiles, approximated through landmarks.

Shao et al., NeurIPS 2021, arXiv 2106.00908; Nyström attention by Xiong et al., AAAI 2021, arXiv 2102.03902. Sizes as
CrossFusion's authors ran it. The order of the tiles matters: they are folded into a square, and landmarks are means of
neighbours in the row.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.attention import LOOKS
from lib.models.hazards import Hazards
from lib.models.square_grid import PPEG, squared, unsquared
from lib.models.tile_bag import check_bag, check_choice


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
