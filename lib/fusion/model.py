"""The network of the bench around any head: columns to tokens, tokens to one vector, the vector to hazards.

columns (n, k) of a modality ── Linear, ELU ── token (n, width) ─┐
...                                                              ├─ dropout ─ head ─ vector (n, width) ─ Linear ─ logits
columns (n, k) of a modality ── Linear, ELU ── token (n, width) ─┘                                        + offset
"""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lib.fusion.heads import HEADS, Fused
from lib.fusion.params import OFFSET
from lib.params import ROOT, nearest

Head = Callable[[int, int, int], nn.Module]  # (modalities, width, hidden): see `lib.fusion.heads`
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
        self, sizes: Mapping[str, int], head: Head, width: int, outputs: int, start: Tensor | None = None
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
        offset = offset.unsqueeze(-1) if torch.is_tensor(offset) else offset
        return Output(self.output(fused.vector) + offset, *fused[1:])


def count(module: nn.Module) -> int:
    """Parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def hidden_of(head: Head, modalities: int, width: int) -> int:
    """Hidden units that bring a head's parameters nearest to `PARAMETERS` times width squared, 1 at least."""
    with torch.random.fork_rng(devices=[]):  # counting draws no weights
        one, two = (count(head(modalities, width, hidden)) for hidden in (1, 2))
    more = (PARAMETERS * width**2 - one) / max(1, two - one)  # a head may have no use for hidden units
    return max(1, 1 + round(more))


def head_of(name: str, own_heads: Mapping[str, str] = MappingProxyType({})) -> Head:
    """The class of a head, with or without "+offset": of `HEADS`, or one's own (name -> "file.py:Class", see `own_head`)."""
    name = name.removesuffix(OFFSET)
    return own_head(own_heads[name]) if name in own_heads else HEADS[name]


def file_of(place: str) -> Path:
    """The file of "file.py:Class", which counts from the repository's folder."""
    return ROOT / place.partition(":")[0]


def own_head(place: str) -> Head:
    """The class in "file.py:Class", once it has shown on made-up tokens that it is a head (`lib.fusion.heads`).

    ValueError: there is no such file or class, it cannot be made or called, what it gives has another shape or numbers that
    are none, patients see each other, or `torch.func.vmap` cannot run it.
    """
    path, name = file_of(place), place.partition(":")[2]
    if not path.is_file() or not name:
        raise ValueError(f"own_heads: {place}: expected file.py:Class with a file below {ROOT.name}/")
    about = importlib.util.spec_from_file_location(f"own_head_{path.stem}", path)
    module = importlib.util.module_from_spec(about)
    about.loader.exec_module(module)
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise ValueError(f"own_heads: {path.name} has no class {name!r}: {nearest(name, known)}")
    if fault := _fault(getattr(module, name)):
        raise ValueError(f"own_heads: {place}: {fault}; see the page Bring your head")
    return getattr(module, name)


def _fault(head: Head) -> str:
    """What is wrong with a head, in words; "" where nothing is."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        present = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 0]]) > 0
        tokens = torch.randn(3, 4, 8) * present.unsqueeze(-1)
        try:
            module = head(4, 8, 6).eval()
            fused, fewer = module(tokens, present), module(tokens[1:], present[1:])
        except Exception as error:  # whatever somebody's code may raise
            return f"head(modalities=4, width=8, hidden=6)(tokens (3, 4, 8), present (3, 4)) raised {error!r}"
        if not isinstance(fused, Fused):
            return f"expected Fused, got {type(fused).__name__}"
        shapes = {"vector": [(3, 8)], "attention": [(3, 4), (3, 4, 4)], "loss": [(3,), (3, 2)]}
        for name, known in shapes.items():
            if torch.is_tensor(part := getattr(fused, name)) and part.shape not in known:
                return f"{name}: of 3 patients, 4 modalities and width 8 expected {known[0]}, got {tuple(part.shape)}"
        if not fused.vector.isfinite().all():
            return "its vector has numbers that are none: guard softmax and division where a modality lacks"
        if not torch.allclose(fused.vector[1:], fewer.vector, atol=1e-4):
            return "a patient's vector changes with who else is in the batch: normalise over tokens, not over patients"
        both = {name: torch.stack([one, one]) for name, one in module.train().named_parameters()}
        try:  # as `lib.fusion.train.Batch` runs it
            each = lambda own, seen: functional_call(module, own, (seen, present)).vector  # noqa: E731
            vmap(each, randomness="different")(both, torch.stack([tokens, tokens]))
        except Exception as error:
            why = "forward may not ask a tensor for its value (use torch.where) nor normalise over patients"
            return f"networks are trained side by side (torch.func.vmap), where {why}: {str(error).partition('. ')[0]}"
    return ""
