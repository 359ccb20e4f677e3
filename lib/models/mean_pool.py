"""Mean pooling: the plainest baseline, AMIL with all tiles of equal weight."""

import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.attention import LOOKS
from lib.models.hazards import Hazards
from lib.models.tile_bag import check_bag, check_choice


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
