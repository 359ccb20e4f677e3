"""DSMIL: one stream scores tiles, the other weighs tiles by their likeness to the highest-scored one.

Li, Li, Eliceiri: CVPR 2021, arXiv 2011.08939; sizes as CrossFusion's authors ran it.
"""

from torch import Tensor, nn

from lib.models.attention import LOOKS
from lib.models.hazards import Hazards
from lib.models.tile_bag import check_bag, check_choice

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
