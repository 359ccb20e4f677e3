"""One token a modality, self-attention among them, and a learned query that reads them.

Our own comparator for the fusion of clinical, CT and slide features. It is NOT the architecture of GC-MLM-RCSA, which
is unpublished and whose letters nobody has expanded; the paper, too, compares itself with a transformer.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

WIDTH, HEADS = 16, 2
DROPOUT = 0.2  # of the tokens' hidden layers and of attention weights
INPUT_DROPOUT = 0.5  # of features: with more of them than patients the network must not lean on single ones


class ModalityAttention(nn.Module):
    """Features of each modality to one logit; `sizes` is modality -> number of its features (p), in the order of the tokens."""

    def __init__(self, sizes: Mapping[str, int]):
        super().__init__()
        self.names = tuple(sizes)
        self.embed = nn.ModuleDict({name: nn.Linear(p, WIDTH) for name, p in sizes.items()})
        self.kind = nn.Parameter(torch.randn(len(sizes), WIDTH) * 0.02)  # which modality a token is
        self.query = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        self.input_dropout, self.dropout = nn.Dropout(INPUT_DROPOUT), nn.Dropout(DROPOUT)
        self.before_self, self.before_cross = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.self_attention = nn.MultiheadAttention(WIDTH, HEADS, DROPOUT, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(WIDTH, HEADS, DROPOUT, batch_first=True)
        self.before_hidden, self.last = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.hidden = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.logit = nn.Linear(WIDTH, 1)

    def tokens(self, features: Mapping[str, Tensor]) -> Tensor:
        """Features, (n, p) each, to tokens (n, modalities, 16)."""
        embedded = [self.embed[name](self.input_dropout(features[name])) for name in self.names]
        return torch.stack(embedded, 1) + self.kind

    def forward(
        self, features: Mapping[str, Tensor], label: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Features, (n, p) each, to logits (n,), and their loss where labels (n,) of 0 and 1 are given."""
        x = self.tokens(features)  # (n, m, width)
        y = self.before_self(x)
        y, _ = self.self_attention(y, y, y, need_weights=False)
        x = x + self.dropout(y)  # (n, m, width), residual: each token has asked the others
        y, _ = self._read(x)
        x = self.query + self.dropout(y)  # (n, 1, width), residual: one token, the patient
        x = x + self.dropout(self.hidden(self.before_hidden(x)))
        logits = self.logit(self.last(x))[:, 0, 0]
        return logits, None if label is None else binary_cross_entropy_with_logits(logits, label)

    @torch.no_grad()
    def attention(self, features: Mapping[str, Tensor]) -> Tensor:
        """Who reads whom, (n, modalities + 1, modalities): a row a token, the query last; rows sum to 1.

        Attention is not importance: it says where the network looks, not what it makes of it.
        """
        x = self.tokens(features)
        y = self.before_self(x)
        y, among = self.self_attention(y, y, y)
        return torch.cat([among, self._read(x + y)[1]], 1)

    def _read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        asked = self.before_cross(x)  # (n, m, width)
        return self.cross_attention(self.query.expand(len(x), 1, -1), asked, asked)
