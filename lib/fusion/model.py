"""The network of the bench around any head: columns to tokens, tokens to one vector, the vector to hazards.

columns (n, k) of a modality ── Linear, ELU ── token (n, width) ─┐
...                                                              ├─ dropout ─ head ─ vector (n, width) ─ Linear ─ logits
columns (n, k) of a modality ── Linear, ELU ── token (n, width) ─┘                                        + offset
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.fusion.heads import HEADS

OFFSET = "+offset"
PARAMETERS = 20  # times width squared: what each head has, give or take what one more hidden unit brings


class Output(NamedTuple):
    """What the network says of n patients."""

    logits: Tensor  # (n, bins) hazards before the sigmoid, or (n, 1); higher = earlier death
    attention: Tensor | None  # see `lib.fusion.heads.Fused`
    loss: Tensor | float


class Fusion(nn.Module):
    """Token encoders, a head, and the output layer.

    Parameters
    ----------
    sizes : mapping
        Modality -> number of its columns, in the order of the tokens.
    head : callable
        (modalities, width, hidden) -> a module as `lib.fusion.heads` says.
    outputs : int
        Bins of the hazards, or 1.
    start : tensor (outputs,), optional
        The output layer's bias to begin with. Its weights begin at 0: everybody has the same hazards, or, with an offset,
        those that the offset says.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        head: Callable[[int, int, int], nn.Module],
        width: int,
        outputs: int,
        start: Tensor | None = None,
    ):
        super().__init__()
        self.encoders = nn.ModuleDict({name: nn.Linear(k, width) for name, k in sizes.items()})
        self.head = head(len(sizes), width, hidden_of(head, len(sizes), width))
        self.output = nn.Linear(width, outputs)
        nn.init.zeros_(self.output.weight)
        with torch.no_grad():
            self.output.bias.copy_(torch.zeros(outputs) if start is None else start)

    def tokens(self, columns: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Columns, (n, k) each, to tokens (n, modalities, width); those that a patient lacks are 0."""
        tokens = torch.stack([F.elu(layer(columns[name])) for name, layer in self.encoders.items()], -2)
        return tokens * present.unsqueeze(-1)

    def forward(
        self,
        columns: Mapping[str, Tensor],
        present: Tensor,
        offset: Tensor | float = 0.0,
        kept: Tensor | float = 1.0,
    ) -> Output:
        """Logits of n patients.

        Parameters
        ----------
        columns : mapping
            Modality -> (n, k); present (n, modalities) bool says who has which.
        offset : tensor (n,)
            Added to each bin's logit: a log hazard ratio.
        kept : tensor (n, modalities, width)
            Dropout: 0, or 1 / (1 - rate), times the tokens.
        """
        fused = self.head(self.tokens(columns, present) * kept, present)
        logits = self.output(fused.vector)
        return Output(logits + (offset.unsqueeze(-1) if torch.is_tensor(offset) else offset), *fused[1:])


def count(module: nn.Module) -> int:
    """Parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def hidden_of(head: Callable[[int, int, int], nn.Module], modalities: int, width: int) -> int:
    """Hidden units that bring a head's parameters nearest to `PARAMETERS` times width squared, 1 at least."""
    with torch.random.fork_rng(devices=[]):  # counting draws no weights
        one, two = (count(head(modalities, width, hidden)) for hidden in (1, 2))
    more = (PARAMETERS * width**2 - one) / max(1, two - one)  # a head may have no use for hidden units
    return max(1, 1 + round(more))


def head_of(name: str) -> Callable[[int, int, int], nn.Module]:
    """The class of a head: a name of `HEADS`, with or without "+offset"."""
    return HEADS[name.removesuffix(OFFSET)]
