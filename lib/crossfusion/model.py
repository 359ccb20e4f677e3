"""CrossFusion: survival from a slide's tiles at 5x, 10x and 20x.

Soraki, Wang, Liu, Elmore, Shapiro: MIDL 2026, PMLR 315:2906-2921, arXiv 2503.02064. Written from a description.

    x5  (1, C, in) ─ project ─ asked by x10 ─┐ coarse ┐
    x10 (1, N, in) ─ project ────────────────┼ source ┼ square, Pad-Transformer each ─ fused ─┐
    x20 (1, M, in) ─ project ─ asked by x10 ─┘ fine   ┘                                       │
                         class token + (1, P, 512) ─ Pad-Transformer ─ class token ─ logits (1, bins)

P is the smallest square number not below N. No coordinates are used: 10x tiles are folded into a square in the order
they come in, so their order matters; the order of 5x and of 20x tiles does not.

`variant` sets how self-attention drops out:

| | described | released |
|---|---|---|
| what is left out | keys | weights, whose table takes memory with the square of the tiles |
| `dropout_in_evaluation`, unless given | False | True: the attention's dropout never rests, scores are random |

`residual="normalised"` is the released sum around the normalised tokens, in both variants; "input" sums as the paper's
section 3.3.2 says. What follows from arithmetic alone is not a switch: of the last layer only the class token is read, so
only it is computed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.attention import (
    LOOKS,
    PPEG,
    Attention,
    Hazards,
    check_bag,
    check_choice,
    convolutions,
    convolved,
    squared,
)

FUSIONS = ("conv", "concat", "single")
STREAMS = ("source", "fine", "coarse")
DROPOUT = {
    "described": {"dropout_of": "keys", "dropout_in_evaluation": False},
    "released": {"dropout_of": "weights", "dropout_in_evaluation": True},
}


def feed_forward(width: int, dropout: float) -> nn.Sequential:
    wide, narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
    return nn.Sequential(wide, nn.GELU(), nn.Dropout(dropout), narrow, nn.Dropout(dropout))


class CrossAttention(nn.Module):
    """10x tokens ask the tokens of another scale; attention itself has no dropout here."""

    def __init__(self, width: int, heads: int, dropout: float, residual: str):
        super().__init__()
        self.residual = residual
        self.scale = nn.Parameter(torch.empty(1, 1, width))
        self.attention = Attention(width, heads)
        self.norm = nn.LayerNorm(width)
        self.feed_forward = feed_forward(width, dropout)

    def forward(self, x: Tensor, context: Tensor, look: str | None) -> tuple[Tensor, Tensor | None]:
        """x (1, N, width), context (1, M, width) -> (1, N, width), map as `Attention.look` gives it."""
        asking, asked = x + self.scale, context + self.scale
        x = x + self.attention(asking, asked)
        y = self.norm(x)
        base = y if self.residual == "normalised" else x
        return base + self.feed_forward(y), self.attention.look(asking, asked, look)


class Layer(nn.Module):
    """Self-attention and feed-forward, each after a normalisation."""

    def __init__(self, width: int, dropout: float, residual: str, attention: dict):
        super().__init__()
        self.residual = residual
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, **attention)
        self.norm2, self.feed_forward = nn.LayerNorm(width), feed_forward(width, dropout)

    def forward(self, x: Tensor, look: str | None, first_only: bool = False) -> tuple[Tensor, Tensor | None]:
        """x (1, n, width) -> (1, n, width), or (1, 1, width) with `first_only`; map as `Attention.look` gives it."""
        y = self.norm1(x)
        asking, base = y, y if self.residual == "normalised" else x
        if first_only:
            asking, base = y[:, :1], base[:, :1]
        seen = self.attention.look(y if look == "full" else asking, y, look)
        x = base + self.attention(asking, y)
        z = self.norm2(x)
        return (z if self.residual == "normalised" else x) + self.feed_forward(z), seen


class PadTransformer(nn.Module):
    """Layers, positions from convolutions, as many layers, a normalisation."""

    def __init__(self, width: int, dropout: float, residual: str, attention: dict, layers: int):
        super().__init__()

        def block() -> nn.ModuleList:
            return nn.ModuleList(Layer(width, dropout, residual, attention) for _ in range(layers))

        self.before = block()
        self.positions = PPEG(width)
        self.after = block()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, look: str | None, class_token: bool = False) -> tuple[Tensor, list]:
        """x (1, P, width) -> the same shape; (1, 1 + P, width) with `class_token` -> (1, 1, width), that token.

        The maps are those of the last layer before and after the convolutions.
        """
        for layer in self.before:
            x, first = layer(x, look if layer is self.before[-1] else None)
        x = self.positions(x, int(class_token))
        for layer in self.after[:-1]:
            x, _ = layer(x, None)
        x, second = self.after[-1](x, look, first_only=class_token)
        return self.norm(x), [first, second]


class ConvFusion(nn.Module):
    """Streams weighted by learned numbers and summed, then convolved as a picture (Conv Processor)."""

    def __init__(self, streams: int, width: int, dropout: float):
        super().__init__()
        self.streams = nn.Conv3d(streams, 1, 1) if streams > 1 else None
        self.parts = convolutions(width, width // 2, (7, 5, 3, 1))
        self.dropout = nn.Dropout2d(dropout)
        self.linear, self.norm = nn.Linear(width // 2, width), nn.LayerNorm(width)

    def forward(self, streams: list[Tensor]) -> Tensor:  # streams x (1, P, width) -> (1, P, width)
        x = streams[0]
        if self.streams is not None:  # a kernel of one voxel: a weighted sum, and no stack to be made for it
            weights = self.streams.weight.flatten()
            x = sum(w * s for w, s in zip(weights, streams, strict=True)) + self.streams.bias
        x = F.relu(convolved(x, self.parts))  # (1, P, width / 2)
        x = self.dropout(x.transpose(1, 2).unsqueeze(3)).squeeze(3).transpose(1, 2)  # whole channels
        return self.norm(self.linear(x))


class ConcatFusion(nn.Module):
    """Streams side by side, mixed by one linear layer ("w/o CP")."""

    def __init__(self, streams: int, width: int):
        super().__init__()
        self.linear, self.norm = nn.Linear(streams * width, width), nn.LayerNorm(width)

    def forward(self, streams: list[Tensor]) -> Tensor:  # streams x (1, P, width) -> (1, P, width)
        return self.norm(self.linear(torch.cat(streams, 2)))


class CrossFusion(nn.Module):
    """The whole model and its two ablations.

    Parameters
    ----------
    in_dim : int
        Features a tile. Equal to `width`: they are taken as they are, not projected.
    fusion : {"conv", "concat", "single"}
        "conv" is the model; "concat" mixes the streams by a linear layer; "single" reads 20x only.
    variant, residual, dropout_in_evaluation
        See the module's docstring.
    layers : int
        Of self-attention before, and as many after, the convolutions of each Pad-Transformer.
    dropout, attention_dropout : float
        Of feed-forward layers and of the channels of the convolution, in training only; of self-attention.
    bf16 : bool
        Matrix products in bfloat16; parameters, gradients and logits stay float32.

    Notes
    -----
    24,536,584 parameters ("conv"), 25,147,908 ("concat"), 9,730,564 ("single") with in_dim=2048 and 4 bins.
    """

    def __init__(
        self,
        in_dim: int,
        fusion: str = "conv",
        variant: str = "described",
        *,
        bins: int = 4,
        width: int = 512,
        heads: int = 4,
        layers: int = 1,
        dropout: float = 0.3,
        attention_dropout: float = 0.2,
        dropout_in_evaluation: bool | None = None,
        residual: str = "normalised",
        bf16: bool = False,
    ):
        super().__init__()
        check_choice("CrossFusion", fusion=(fusion, FUSIONS), variant=(variant, tuple(DROPOUT)))
        attention = {"heads": heads, "dropout": attention_dropout} | DROPOUT[variant]
        if dropout_in_evaluation is not None:
            attention["dropout_in_evaluation"] = dropout_in_evaluation
        self.in_dim, self.bf16 = in_dim, bf16
        streams = STREAMS[:1] if fusion == "single" else STREAMS

        def projection() -> nn.Module:
            if in_dim == width:
                return nn.Identity()
            return nn.Sequential(nn.Linear(in_dim, width), nn.LayerNorm(width))

        self.projections = nn.ModuleDict({name: projection() for name in streams})
        asked = [name for name in streams if name != "source"]
        self.crossings = nn.ModuleDict({n: CrossAttention(width, heads, dropout, residual) for n in asked})
        transformer = (width, dropout, residual, attention, layers)
        self.transformers = nn.ModuleDict({name: PadTransformer(*transformer) for name in streams})
        fused = (len(streams), width)
        self.fusion = ConcatFusion(*fused) if fusion == "concat" else ConvFusion(*fused, dropout)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.final = PadTransformer(*transformer)
        self.head = nn.Linear(width, bins)
        self.apply(_initial)
        for crossing in self.crossings.values():
            nn.init.trunc_normal_(crossing.scale, std=0.02)
        nn.init.normal_(self.class_token, std=1e-6)

    def forward(self, x5: Tensor | None, x10: Tensor | None, x20: Tensor, attention=None) -> Hazards:
        """Hazards of one bag: tiles (1, tiles, in_dim) of a slide or patient at 5x, 10x, 20x ("single" reads x20 only).

        `attention` also returns maps, without dropout. "full": every query's row over its keys, memory with the square
        of the tiles: "coarse_cross" (1, heads, N, C) and "fine_cross" (1, heads, N, M); "coarse_pre", "coarse_post",
        "fine_pre", ..., "source_post" (1, heads, P, P), before and after the convolutions; "final_pre", "final_post"
        (1, heads, 1 + P, 1 + P), the class token first. "received": what each key receives, the mean over queries, for
        slides of any size; this is the published heatmap. Its "final_post" is the class token's row, the only one that
        the logits depend on. `lib.models.attention.unsquared` takes P back to N tiles.

        A ValueError where a bag has no tiles or the wrong shape, or `attention` is unknown.
        """
        check_choice("CrossFusion.forward", attention=(attention, LOOKS))
        scales = {"source": ("x10", x10), "fine": ("x20", x20), "coarse": ("x5", x5)}
        if not self.crossings:
            scales = {"source": ("x20", x20)}
        bags = {name: check_bag(bag, self.in_dim, scale) for name, (scale, bag) in scales.items()}
        with torch.autocast(x20.device.type, torch.bfloat16, enabled=self.bf16):
            return self._hazards(bags, attention)

    def _hazards(self, bags: dict[str, Tensor], look: str | None) -> Hazards:
        maps = {}
        tokens = {name: self.projections[name](bag) for name, bag in bags.items()}
        source = tokens["source"]  # (1, N, width)
        for name, crossing in self.crossings.items():
            tokens[name], maps[f"{name}_cross"] = crossing(source, tokens[name], look)  # (1, N, width)
        streams = []
        for name, transformer in self.transformers.items():
            stream, seen = transformer(squared(tokens[name]), look)  # (1, P, width)
            streams.append(stream)
            maps[f"{name}_pre"], maps[f"{name}_post"] = seen
        fused = self.fusion(streams)  # (1, P, width)
        fused = torch.cat([self.class_token.to(fused.dtype), fused], 1)  # (1, 1 + P, width)
        token, (maps["final_pre"], maps["final_post"]) = self.final(fused, look, class_token=True)
        logits = self.head(token[:, 0]).float()  # (1, bins)
        return Hazards(logits, maps if look else None)


def _initial(part: nn.Module) -> None:
    if isinstance(part, nn.Linear):
        nn.init.trunc_normal_(part.weight, std=0.02)
        nn.init.zeros_(part.bias)
    elif isinstance(part, nn.Conv2d | nn.Conv3d):
        nn.init.kaiming_normal_(part.weight, mode="fan_out")
        nn.init.zeros_(part.bias)
