"""Multi-head attention whose heads are each as wide as the tokens: Keras' `MultiHeadAttention(key_dim=width)`.

torch's own divides the width among the heads, and cannot express it.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn


class WideAttention(nn.Module):
    """Queries, keys and values of heads * width, with biases, and their weights.

    Parameters
    ----------
    width, heads : int
    dropout : float
        Of single weights, in training.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.width, self.heads, self.dropout = width, heads, dropout
        inner = heads * width
        self.query, self.key = nn.Linear(width, inner), nn.Linear(width, inner)
        self.value, self.output = nn.Linear(width, inner), nn.Linear(inner, width)
        for part in (self.query, self.key, self.value):
            _glorot(part, width, heads, width)
        _glorot(self.output, heads, width, width)

    def split(self, x: Tensor) -> Tensor:  # (b, n, heads * width) -> (b, heads, n, width)
        return x.unflatten(2, (self.heads, self.width)).transpose(1, 2)

    def forward(self, asking: Tensor, asked: Tensor, masked: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """asking (b, n, width), asked (b, m, width) -> (b, n, width) and weights (b, heads, n, m), rows sum to 1.

        `masked` (b, m) bool: True is not to be attended to; one of every row at least must be False.
        """
        query, key, value = (
            self.split(part(x)) for part, x in ((self.query, asking), (self.key, asked), (self.value, asked))
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(self.width)  # (b, heads, n, m)
        if masked is not None:
            scores = scores.masked_fill(masked[:, None, None], -math.inf)
        weights = scores.softmax(3)
        mixed = F.dropout(weights, self.dropout, self.training) @ value
        return self.output(mixed.transpose(1, 2).flatten(2)), weights


def _glorot(part: nn.Linear, *kernel: int) -> None:
    """Glorot uniform as Keras reckons it on the kernel of three axes; all but the last two count as its field."""
    fans = kernel[0] * (kernel[1] + kernel[2])
    nn.init.uniform_(part.weight, -math.sqrt(6 / fans), math.sqrt(6 / fans))
    nn.init.zeros_(part.bias)
