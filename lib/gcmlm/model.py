"""One token a modality, self-attention among them, and a learned query that reads them.

Our own comparator for the fusion of clinical, CT and slide features. It is NOT the architecture of GC-MLM-RCSA, which
is unpublished and whose letters nobody has expanded; the paper, too, compares itself with a transformer.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class ModalityAttention(nn.Module):
    """Features of each modality to one logit.

    Parameters
    ----------
    sizes : mapping
        Modality -> number of its features (p). The order is that of the tokens.
    width, heads : int
        `width` is a multiple of `heads`.
    dropout : float
        Of the tokens' hidden layers and of attention weights.
    input_dropout : float
        Of the features: with more features than patients the network must not lean on single ones.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        width: int = 16,
        heads: int = 2,
        dropout: float = 0.2,
        input_dropout: float = 0.5,
    ):
        super().__init__()
        self.names = tuple(sizes)
        self.embed = nn.ModuleDict({name: nn.Linear(p, width) for name, p in sizes.items()})
        self.kind = nn.Parameter(torch.randn(len(sizes), width) * 0.02)  # which modality a token is
        self.query = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.input_dropout, self.dropout = nn.Dropout(input_dropout), nn.Dropout(dropout)
        self.before_self, self.before_cross = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.before_hidden, self.last = nn.LayerNorm(width), nn.LayerNorm(width)
        self.hidden = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.logit = nn.Linear(width, 1)

    def forward(self, features: Mapping[str, Tensor], missing: Tensor | None = None) -> Tensor:
        """Features, (n, p) each, to logits (n,); `missing` (n, modalities) is True where a patient has no such token.

        What stands in the features of a missing token does not matter, as long as it is finite. A patient who lacks
        all modalities is refused.
        """
        if missing is not None and missing.all(1).any():
            raise ValueError("a patient has no modality at all: leave the patient out")
        tokens = [self.embed[name](self.input_dropout(features[name])) for name in self.names]
        x = torch.stack(tokens, 1) + self.kind  # (n, m, width)
        y = self.before_self(x)
        y, _ = self.self_attention(y, y, y, key_padding_mask=missing, need_weights=False)
        x = x + self.dropout(y)  # (n, m, width), residual
        y, _ = self._read(x, missing)
        x = self.query + self.dropout(y)  # (n, 1, width), residual
        x = x + self.dropout(self.hidden(self.before_hidden(x)))
        return self.logit(self.last(x))[:, 0, 0]

    @torch.no_grad()
    def shares(self, features: Mapping[str, Tensor], missing: Tensor | None = None) -> Tensor:
        """How much the query reads of each token, (n, m), rows sum to 1. Attention is not importance."""
        tokens = [self.embed[name](features[name]) for name in self.names]
        x = torch.stack(tokens, 1) + self.kind
        y = self.before_self(x)
        x = x + self.self_attention(y, y, y, key_padding_mask=missing, need_weights=False)[0]
        return self._read(x, missing)[1][:, 0]

    def _read(self, x: Tensor, missing: Tensor | None) -> tuple[Tensor, Tensor]:
        asked = self.before_cross(x)  # (n, m, width)
        asking = self.query.expand(len(x), 1, -1)  # (n, 1, width)
        return self.cross_attention(asking, asked, asked, key_padding_mask=missing)
