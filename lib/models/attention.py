"""Multi-head attention over large bags: memory grows with the tokens, not with their square.

Dropping attention weights one by one needs the whole table of weights, and no fused kernel: 3.6 times the memory at
the mean slide. `dropout_of="keys"` leaves out a share of the keys instead, drawn anew for every layer and step, the
same for all queries and heads; the softmax runs over those that stay, so that shares still sum to one and nothing has
to be rescaled. It costs less than no dropout at all. (Keys instead of weights: Li et al., DropKey, CVPR 2023.)
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
