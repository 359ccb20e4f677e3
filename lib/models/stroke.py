"""StrokeNet: 4D CT perfusion and clinical variables to functional outcome at 90 days.

Amador, Pinel, Winder, Fiehler, Wilms, Forkert: Medical Image Analysis 99:103381 (2025), doi 10.1016/j.media.2024.103381.
Written from a description; the released code has no licence, and none of it is here.

    series (b, frames, h, w, z) ─ one CNN ─ frames tokens + positions ─ class token ─ self-attention ─┬─ asks ─┐
                                                                                                      ╳        ├─ head
    clinical (b, c), (b, k) ────────────── c + k tokens + positions ─ class token ── self-attention ──┴─ asks ─┘

A token is as long as the last level of the CNN has places: (h / 16)(w / 16)(z / 16), 1,024 at full size. Of the two
crossings only the class tokens are read, so only they are computed.

| switch | described | released |
|---|---|---|
| `positional` | learned | frozen: drawn once, never trained, and saved with no weights; here they are saved |
| `missing` | a missing variable's token is not attended to | refused |

Positions are added to the clinical tokens too, as the released code does; the paper's figure has them on frames only:
`clinical_positions=False`.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.clinical_tokens import ClinicalTokens
from lib.models.tile_bag import check_choice
from lib.models.volume_encoder import VolumeEncoder
from lib.models.wide_attention import WideAttention

VARIANTS = ("described", "released")
FUSIONS = ("cross", "concatenation", "imaging", "clinical")
POSITIONAL = {"described": "learned", "released": "frozen"}


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

    Parameters
    ----------
    shape : (int, int, int)
        Height, width and depth of a frame in voxels, multiples of 2 ** len(widths).
    frames : int
    variant : {"described", "released"}
        Sets what is None; see the module's docstring.
    fusion : {"cross", "concatenation", "imaging", "clinical"}
        "cross" is the model; "concatenation" puts the class tokens of the two self-attentions side by side; the
        others have one modality only.
    continuous : int
    categories : tuple of int
        Clinical variables, see `lib.models.clinical_tokens`. The paper's: age, onset to CT perfusion, CT perfusion to
        recanalisation, NIHSS; sex, hypertension, smoking, atrial fibrillation, mTICI.
    positional : {None, "learned", "frozen"}
    clinical_positions : bool
    widths : tuple of int
    channels : int
        Of the CNN's last convolution: tokens `channels` times as long. 1 is the paper's.
    heads : int
        Each as wide as a token.
    dropout : float
        Of attention weights, after the crossings' layer and in the head; in training only.
    frames_at_once, recompute, bf16
        See `lib.models.volume_encoder`.

    Notes
    -----
    154,161,410 parameters at full size with frozen positions; 41,984 more when they are learned.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (512, 512, 16),
        frames: int = 32,
        variant: str = "described",
        *,
        fusion: str = "cross",
        continuous: int = 4,
        categories: tuple[int, ...] = (2, 2, 2, 2, 3),
        positional: str | None = None,
        clinical_positions: bool = True,
        widths: tuple[int, ...] = (16, 32, 64, 128),
        channels: int = 1,
        heads: int = 8,
        dropout: float = 0.2,
        frames_at_once: int | None = None,
        recompute: bool | None = None,
        bf16: bool = False,
    ):
        super().__init__()
        check_choice(
            "StrokeNet",
            variant=(variant, VARIANTS),
            fusion=(fusion, FUSIONS),
            positional=(positional, (None, "learned", "frozen")),
        )
        step = 2 ** len(widths)
        if len(shape) != 3 or any(side < step or side % step for side in shape):
            raise ValueError(
                f"StrokeNet(shape={tuple(shape)}): height, width and depth must be multiples of {step}; "
                "pad or crop the frames"
            )
        if fusion != "imaging" and not continuous and not categories:
            raise ValueError(
                f"StrokeNet(fusion={fusion!r}) without clinical variables; name some, or use 'imaging'"
            )
        self.shape, self.frames, self.variant, self.fusion = tuple(shape), frames, variant, fusion
        self.width = width = math.prod(shape) // step**3 * channels
        positional = positional or POSITIONAL[variant]
        if fusion != "clinical":
            self.encoder = VolumeEncoder(tuple(widths), channels, frames_at_once, recompute, bf16)
            self.imaging = Branch(frames, width, heads, dropout, positional)
        if fusion != "imaging":
            self.tokens = ClinicalTokens(continuous, categories, width)
            positions = positional if clinical_positions else None
            self.clinical = Branch(len(self.tokens), width, heads, dropout, positions)
        if fusion == "cross":
            self.imaging_asks = Crossing(width, heads, dropout)
            self.clinical_asks = Crossing(width, heads, dropout)
        self.head = nn.Sequential(
            nn.Linear(width if fusion in ("imaging", "clinical") else 2 * width, 4 * width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, 2 * width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, 1),
        )
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

        Parameters
        ----------
        series : Tensor (b, frames, h, w, z)
            Standardised CT perfusion; "clinical" does not read it.
        continuous : Tensor (b, c), categorical : Tensor (b, k)
            Scaled to [0, 1]; codes from 0. "imaging" does not read them.
        missing : bool Tensor (b, c + k) or None
            True: not known, and whatever stands there is not read. All may be missing.
        attention : bool
            Also return attention weights, before dropout.

        Returns
        -------
        Outcome
            Weights by name, (b, heads, asking, asked), the class token first on both axes, rows sum to 1: "imaging" and
            "clinical" (self-attention), "imaging_asks" (frames to variables), "clinical_asks" (variables to frames). Of
            the last two the logit depends on the first row only.

        Raises
        ------
        ValueError
            Frames of another number or shape, clinical arrays of another shape, an unknown code, a value that is not
            finite and not missing, or anything missing in variant "released".
        """
        seen, imaging, clinical, masked = {}, None, None, None
        if self.fusion != "clinical":
            self._check(series)
            imaging, seen["imaging"] = self.imaging(self.encoder(series))  # (b, 1 + frames, width)
        if self.fusion != "imaging":
            if continuous is None or categorical is None:
                raise ValueError(
                    f"StrokeNet(fusion={self.fusion!r}) reads clinical variables; none were given"
                )
            if missing is None:
                missing = torch.zeros(
                    len(continuous), len(self.tokens), dtype=torch.bool, device=continuous.device
                )
            elif self.variant == "released" and missing.any():
                raise ValueError(
                    f"{int(missing.sum())} clinical values are missing; variant 'released' has no place for missing "
                    "values: fill them in, or use 'described'"
                )
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
        return (
            self.head[0].weight.new_zeros(()) if self.fusion == "clinical" else self.encoder.penalty(strength)
        )

    def _check(self, series: Tensor | None) -> None:
        expected = (self.frames, *self.shape)
        if series is None or tuple(series.shape[1:]) != expected:
            found = "none was given" if series is None else f"found {tuple(series.shape)}"
            raise ValueError(
                f"series must be (patients, frames, height, width, depth) = (b, {', '.join(map(str, expected))}), {found}"
            )


def _initial(part: nn.Module) -> None:
    if isinstance(part, nn.Linear):
        nn.init.xavier_uniform_(part.weight)
        nn.init.zeros_(part.bias)
