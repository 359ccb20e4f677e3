"""One token of every clinical variable: continuous ones by a layer of their own, categorical ones from a table."""

import math

import torch
from torch import Tensor, nn


class ClinicalTokens(nn.Module):
    """Tokens of variables, the continuous ones first.

    Parameters
    ----------
    continuous : int
        Continuous variables, scaled to [0, 1] beforehand.
    categories : tuple of int
        Levels of each categorical variable, coded from 0.
    width : int
    """

    def __init__(self, continuous: int, categories: tuple[int, ...], width: int):
        super().__init__()
        self.categories = tuple(categories)
        limit = math.sqrt(6 / (1 + width))  # Glorot of a layer from one number to `width`
        self.slopes = nn.Parameter(torch.empty(continuous, width).uniform_(-limit, limit))
        self.offsets = nn.Parameter(torch.zeros(continuous, width))
        self.levels = nn.Embedding(sum(categories), width)  # the tables of all variables, one after the other
        nn.init.uniform_(self.levels.weight, -0.05, 0.05)
        starts = torch.tensor((0, *self.categories[:-1]) if self.categories else ()).cumsum(0).long()
        self.register_buffer("starts", starts, persistent=False)

    def __len__(self) -> int:
        return len(self.slopes) + len(self.categories)

    def forward(self, continuous: Tensor, categorical: Tensor, missing: Tensor) -> Tensor:
        """Tokens (b, c + k, width).

        Parameters
        ----------
        continuous : Tensor (b, c)
        categorical : Tensor (b, k), whole numbers
        missing : bool Tensor (b, c + k)
            What stands at these places is not read, be it NaN.

        Raises
        ------
        ValueError
            A shape or a code that does not fit, or a value that is not finite and not marked as missing.
        """
        c, k = len(self.slopes), len(self.categories)
        shapes = tuple(continuous.shape), tuple(categorical.shape), tuple(missing.shape)
        b = shapes[0][0]
        if shapes != ((b, c), (b, k), (b, c + k)):
            raise ValueError(
                f"continuous, categorical and missing have shapes {shapes}; this model takes {((b, c), (b, k), (b, c + k))}"
            )
        numbers = continuous.masked_fill(missing[:, :c], 0)
        codes = categorical.long().masked_fill(missing[:, c:], 0)
        if not numbers.isfinite().all():
            row, column = (~numbers.isfinite()).nonzero()[0].tolist()
            raise ValueError(
                f"continuous variable {column} of patient {row} of the batch is {numbers[row, column].item()}; "
                "mark it in `missing`"
            )
        levels = torch.tensor(self.categories, device=codes.device)
        if ((codes < 0) | (codes >= levels)).any():
            row, column = ((codes < 0) | (codes >= levels)).nonzero()[0].tolist()
            raise ValueError(
                f"categorical variable {column} of patient {row} of the batch is {codes[row, column].item()}; its "
                f"{self.categories[column]} levels are coded from 0"
            )
        tokens = (numbers.unsqueeze(2) * self.slopes + self.offsets).relu()  # (b, c, width)
        return torch.cat([tokens, self.levels(codes + self.starts)], 1)
