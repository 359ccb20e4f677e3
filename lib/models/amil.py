"""AMIL: one learned weight a tile, from gated attention.

Ilse, Tomczak, Welling: ICML 2018, arXiv 1802.04712; sizes as CrossFusion's authors ran it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.attention import LOOKS
from lib.models.hazards import Hazards
from lib.models.tile_bag import check_bag, check_choice


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
