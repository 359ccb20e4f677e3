"""StrokeNet: 4D CT perfusion and clinical variables to functional outcome at 90 days.

Amador, Pinel, Winder, Fiehler, Wilms, Forkert: Medical Image Analysis 99:103381 (2025), doi 10.1016/j.media.2024.103381.
Written from a description; the released code has no licence, and none of it is here.

    series (b, frames, h, w, z) ─ one CNN ─ frames tokens + positions ─ class token ─ self-attention ─┬─ asks ─┐
                                                                                                      ╳        ├─ head
    clinical (b, c), (b, k) ────────────── c + k tokens + positions ─ class token ── self-attention ──┴─ asks ─┘

A token is as long as the last level of the CNN has places: (h / 16)(w / 16)(z / 16), 1,024 at full size. Of the two
crossings only the class tokens are read, so only they are computed.

A missing variable's token is not attended to. Positions are "learned", or "frozen" as in the released code: drawn once, never
trained, and saved with no weights there; here they are saved.

Positions are added to the clinical tokens too, as the released code does; the paper's figure has them on frames only:
`clinical_positions=False`.
"""

import math
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class WideAttention(nn.Module):
    """Multi-head attention whose heads are each as wide as the tokens: Keras' `MultiHeadAttention(key_dim=width)`.

    torch's own divides the width among the heads, and cannot express it. `dropout` is of single weights, in training.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.width, self.heads, self.dropout = width, heads, dropout
        inner = heads * width
        self.query, self.key = nn.Linear(width, inner), nn.Linear(width, inner)
        self.value, self.output = nn.Linear(width, inner), nn.Linear(inner, width)
        for part in (self.query, self.key, self.value):
            _glorot(part, width, heads, width)
        _glorot(self.output, heads, width, width)

    def split(self, x: Tensor) -> Tensor:  # (b, n, heads * width) -> (b, heads, n, width)
        return x.unflatten(2, (self.heads, self.width)).transpose(1, 2)

    def forward(self, asking: Tensor, asked: Tensor, masked: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """asking (b, n, width), asked (b, m, width) -> (b, n, width) and weights (b, heads, n, m), rows sum to 1.

        `masked` (b, m) bool: True is not to be attended to; one of every row at least must be False.
        """
        query, key, value = (
            self.split(part(x)) for part, x in ((self.query, asking), (self.key, asked), (self.value, asked))
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(self.width)  # (b, heads, n, m)
        if masked is not None:
            scores = scores.masked_fill(masked[:, None, None], -math.inf)
        weights = scores.softmax(3)
        mixed = F.dropout(weights, self.dropout, self.training) @ value
        return self.output(mixed.transpose(1, 2).flatten(2)), weights


def _glorot(part: nn.Linear, *kernel: int) -> None:
    """Glorot uniform as Keras reckons it on the kernel of three axes; all but the last two count as its field."""
    fans = kernel[0] * (kernel[1] + kernel[2])
    nn.init.uniform_(part.weight, -math.sqrt(6 / fans), math.sqrt(6 / fans))
    nn.init.zeros_(part.bias)


class ClinicalTokens(nn.Module):
    """One token of every clinical variable: continuous ones by a layer of their own, then categorical ones from a table.

    `continuous` counts variables scaled to [0, 1]; `categories` are the levels of each other one, coded from 0.
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
        """continuous (b, c), categorical (b, k), missing bool (b, c + k) -> tokens (b, c + k, width).

        What stands at missing places is not read, be it NaN.
        """
        c = len(self.slopes)
        numbers = continuous.masked_fill(missing[:, :c], 0)
        codes = categorical.long().masked_fill(missing[:, c:], 0)
        levels = torch.tensor(self.categories, device=codes.device)
        if not numbers.isfinite().all() or ((codes < 0) | (codes >= levels)).any():
            # a code too high would be read from the next variable's table
            raise ValueError(
                f"a clinical variable is not finite and not marked as missing, or a code is none of its levels "
                f"{self.categories}, counted from 0: {continuous.tolist()}, {categorical.tolist()}"
            )
        tokens = (numbers.unsqueeze(2) * self.slopes + self.offsets).relu()  # (b, c, width)
        return torch.cat([tokens, self.levels(codes + self.starts)], 1)


TRUNCATED = 0.87962566103423978  # spread of a normal cut at two standard deviations; Keras makes up for it


class Level(nn.Module):
    """Two convolutions of 3x3x3 with ReLU, then one of 2x2x2 that halves the volume, without."""

    def __init__(self, before: int, width: int, after: int):
        super().__init__()
        self.first = nn.Conv3d(before, width, 3, padding=1)
        self.second = nn.Conv3d(width, width, 3, padding=1)
        self.down = nn.Conv3d(width, after, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:  # (n, before, h, w, z) -> (n, after, h / 2, w / 2, z / 2)
        return self.down(F.relu_(self.second(F.relu_(self.first(x)))))


class VolumeEncoder(nn.Module):
    """A small 3-D CNN: every level halves the volume, the last leaves `channels` numbers a place, together one token.

    No batch normalisation: volumes do not see each other, so encoding them `frames_at_once` and once more when gradients
    are asked for, instead of keeping what was computed (Chen et al., arXiv 1604.06174), changes nothing but rounding. 0
    encodes all together and keeps it. `bf16` is of the convolutions: parameters, gradients and tokens stay float32.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (16, 32, 64, 128),
        channels: int = 1,
        frames_at_once: int = 0,
        bf16: bool = False,
    ):
        super().__init__()
        self.frames_at_once, self.bf16 = frames_at_once, bf16
        ins, outs = (1, *widths[:-1]), (*widths[:-1], channels)
        self.levels = nn.Sequential(*(Level(*sizes) for sizes in zip(ins, widths, outs, strict=True)))
        self.apply(_initial)

    def forward(self, series: Tensor) -> Tensor:
        """series (b, frames, h, w, z) -> (b, frames, channels * h * w * z / 8 ** levels), flattened in that order."""
        volumes = series.flatten(0, 1)
        if not self.frames_at_once:
            return self.tokens(volumes).unflatten(0, series.shape[:2])
        encode = partial(checkpoint, self.tokens, use_reentrant=False, preserve_rng_state=False)
        parts = [encode(some) for some in volumes.split(self.frames_at_once)]
        return torch.cat(parts).unflatten(0, series.shape[:2])

    def tokens(self, volumes: Tensor) -> Tensor:
        """volumes (n, h, w, z) -> (n, length)."""
        x = volumes.to(self.levels[0].first.bias.dtype)
        # channels last: up to twice as fast on processors, and one channel needs no copy for it
        x = x.unsqueeze(4).movedim(4, 1) if x.device.type == "cpu" else x.unsqueeze(1)
        with torch.autocast(x.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            return self.levels(x).flatten(1).to(x.dtype)

    def penalty(self, strength: float = 5e-5) -> Tensor:
        """L2: `strength` times the sum of squares of the 3x3x3 kernels."""
        kernels = [kernel.weight for level in self.levels for kernel in (level.first, level.second)]
        return strength * sum(kernel.square().sum() for kernel in kernels)


def _initial(part: nn.Module) -> None:
    """Keras' start: He for the large kernels, Glorot for all else."""
    if isinstance(part, nn.Conv3d) and part.kernel_size == (3, 3, 3):
        spread = math.sqrt(2 / part.weight[0].numel()) / TRUNCATED
        nn.init.trunc_normal_(part.weight, std=spread, a=-2 * spread, b=2 * spread)
        nn.init.zeros_(part.bias)
    elif isinstance(part, nn.Conv3d | nn.Linear):
        nn.init.xavier_uniform_(part.weight)
        nn.init.zeros_(part.bias)


FUSIONS = ("cross", "concatenation", "imaging", "clinical")


class Outcome(NamedTuple):
    """What the model says of a batch: the logit of an unfavourable outcome (b,), higher is worse; its attention."""

    logit: Tensor
    attention: dict[str, Tensor] | None


class Branch(nn.Module):
    """Positions, a class token before them that has none, self-attention."""

    def __init__(self, tokens: int, width: int, heads: int, dropout: float, positional: str | None):
        super().__init__()
        positions = torch.empty(tokens, width).uniform_(-0.05, 0.05)
        if positional == "learned":
            self.positions = nn.Parameter(positions)
        else:
            self.register_buffer("positions", positions if positional else None)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.attention = WideAttention(width, heads, dropout)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, masked: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (b, n, width), masked (b, 1 + n) -> (b, 1 + n, width), weights (b, heads, 1 + n, 1 + n)."""
        x = x if self.positions is None else x + self.positions
        x = torch.cat([self.class_token.expand(len(x), 1, -1), x], 1)
        mixed, weights = self.attention(x, x, masked)
        return self.norm(x + mixed), weights


class Crossing(nn.Module):
    """Tokens of one modality ask those of the other."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.attention = WideAttention(width, heads, dropout)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.linear, self.dropout = nn.Linear(width, width), nn.Dropout(dropout)
        _initial(self.linear)

    def forward(self, asking: Tensor, asked: Tensor, masked: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """asking (b, n, width), asked (b, m, width), masked (b, m) -> (b, n, width), weights (b, heads, n, m)."""
        mixed, weights = self.attention(asking, asked, masked)
        x = self.norm1(asking + mixed)
        return self.norm2(x + self.dropout(F.gelu(self.linear(x)))), weights


class StrokeNet(nn.Module):
    """The whole model and its ablations.

    154,161,410 parameters at full size with frozen positions; 41,984 more when they are learned.

    For `positional` ("learned", "frozen") see the module's docstring. Of the fusions "cross" is the model; "concatenation" puts the class tokens of the two self-attentions side by side; the
    others have one modality only. The paper's clinical variables: age, onset to CT perfusion, CT perfusion to
    recanalisation, NIHSS; sex, hypertension, smoking, atrial fibrillation, mTICI. Dropout is of attention weights, after
    the crossings' layer and in the head; the other options are those of `VolumeEncoder`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (512, 512, 16),
        frames: int = 32,
        positional: str = "learned",
        *,
        fusion: str = "cross",
        continuous: int = 4,
        categories: tuple[int, ...] = (2, 2, 2, 2, 3),
        clinical_positions: bool = True,
        widths: tuple[int, ...] = (16, 32, 64, 128),
        channels: int = 1,
        heads: int = 8,
        dropout: float = 0.2,
        frames_at_once: int = 0,
        bf16: bool = False,
    ):
        super().__init__()
        step = 2 ** len(widths)
        self.shape, self.frames, self.fusion = tuple(shape), frames, fusion
        self.width = width = math.prod(shape) // step**3 * channels
        if fusion != "clinical":
            self.encoder = VolumeEncoder(tuple(widths), channels, frames_at_once, bf16)
            self.imaging = Branch(frames, width, heads, dropout, positional)
        if fusion != "imaging":
            self.tokens = ClinicalTokens(continuous, categories, width)
            where = positional if clinical_positions else None
            self.clinical = Branch(len(self.tokens), width, heads, dropout, where)
        if fusion == "cross":
            self.imaging_asks = Crossing(width, heads, dropout)
            self.clinical_asks = Crossing(width, heads, dropout)
        sizes = (width if fusion in ("imaging", "clinical") else 2 * width, 4 * width, 2 * width)
        layers = [[nn.Linear(*both), nn.ReLU(), nn.Dropout(dropout)] for both in pairwise(sizes)]
        self.head = nn.Sequential(*layers[0], *layers[1], nn.Linear(2 * width, 1))
        self.head.apply(_initial)

    def forward(
        self,
        series: Tensor | None,
        continuous: Tensor | None = None,
        categorical: Tensor | None = None,
        missing: Tensor | None = None,
        attention: bool = False,
    ) -> Outcome:
        """Logits of a batch of patients.

        `series` (b, frames, h, w, z) is standardised CT perfusion, which "clinical" does not read; `continuous` (b, c) scaled to
        [0, 1] and `categorical` (b, k) codes from 0, which "imaging" does not read. `missing`, bool (b, c + k), marks what is not
        known: whatever stands there is not read. All may be missing.

        `attention` asks for attention weights too, before dropout: by name, (b, heads, asking, asked), the class token first on
        both axes, rows sum to 1: "imaging" and "clinical" (self-attention), "imaging_asks" (frames to variables), "clinical_asks"
        (variables to frames). Of the last two the logit depends on the first row only.
        """
        seen, imaging, clinical, masked = {}, None, None, None
        if self.fusion != "clinical":
            if series is None or tuple(series.shape[1:]) != (self.frames, *self.shape):
                raise ValueError(f"series must be (b, {self.frames}, {', '.join(map(str, self.shape))})")
            imaging, seen["imaging"] = self.imaging(self.encoder(series))  # (b, 1 + frames, width)
        if self.fusion != "imaging":
            if missing is None:
                missing = continuous.new_zeros(len(continuous), len(self.tokens), dtype=torch.bool)
            tokens = self.tokens(continuous, categorical, missing)  # (b, c + k, width)
            masked = F.pad(missing, (1, 0)) if missing.any() else None  # the class token never is
            clinical, seen["clinical"] = self.clinical(tokens, masked)  # (b, 1 + c + k, width)
        if self.fusion == "cross":
            asking = slice(None) if attention else slice(1)
            first, seen["imaging_asks"] = self.imaging_asks(imaging[:, asking], clinical, masked)
            second, seen["clinical_asks"] = self.clinical_asks(clinical[:, asking], imaging)
        else:
            first, second = imaging, clinical
        fused = torch.cat([side[:, 0] for side in (first, second) if side is not None], 1)  # (b, 2 width)
        seen = {name: weights.detach() for name, weights in seen.items()} if attention else None
        return Outcome(self.head(fused).squeeze(1), seen)

    def penalty(self, strength: float = 5e-5) -> Tensor:
        """L2 of the CNN's 3x3x3 kernels, to be added to the loss; not Adam's weight decay. 0 without a CNN."""
        none = self.head[0].weight.new_zeros(())
        return none if self.fusion == "clinical" else self.encoder.penalty(strength)
