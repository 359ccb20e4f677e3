"""A head that is not the bench's: the clinic scales and shifts what the molecular tokens say (FiLM, arXiv 1709.07871)."""

import torch
from torch import Tensor, nn

from lib.fusion.heads import Fused, feed, mean_of


class FiLM(nn.Module):
    """f([c; (1 + gamma(c)) * g + beta(c)]) with the clinic's token c and the mean g of the others."""

    def __init__(self, modalities: int, width: int, hidden: int):
        super().__init__()
        self.modulate = nn.Linear(width, 2 * width)
        self.feed = feed(2 * width, hidden, width)

    def forward(self, tokens: Tensor, present: Tensor) -> Fused:
        clinic, genes = tokens[..., 0, :], mean_of(tokens[..., 1:, :], present[..., 1:])
        gamma, beta = self.modulate(clinic).chunk(2, -1)
        return Fused(self.feed(torch.cat([clinic, (1 + gamma) * genes + beta], -1)))
