"""Ways to fuse a patient's tokens, one a modality, into one vector: all that differs between the bench's networks.

A head is a module made as `Head(modalities, width, hidden)` and called as

    head(tokens, present) -> Fused        tokens (n, m, width), present (n, m) bool; absent tokens are 0

`hidden` is the width of its feed-forward, which the bench chooses so that all heads have as many parameters. Token 0 is
what a published model asks with or for: the clinic. Dropout falls on the tokens, before a head. What an absent modality
holds changes nothing, and nobody attends to it.

The published heads are carried over from tiles, spots and films to modalities; each says what stands for what. t_j are
the tokens, m of them; A(asking, asked) is multi-head attention softmax(q k' / sqrt(d)) v behind its output layer.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Fused(NamedTuple):
    """What a head makes of n patients."""

    vector: Tensor  # (n, width); the output layer is linear in it
    # (n, m): share of each modality, or (n, m, m): rows ask columns; None: the head has none
    attention: Tensor | None = None
    # what a patient costs beside the likelihood: (n,), or (n, 2) if late, if early (died before the median event)
    loss: Tensor | float = 0.0


def feed(before: int, hidden: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, hidden), nn.GELU(), nn.Linear(hidden, width))


def mean_of(tokens: Tensor, present: Tensor) -> Tensor:
    """Mean of the tokens that are there: (n, m, width) -> (n, width); 0 where none is."""
    share = present.to(tokens.dtype)
    return (tokens * share.unsqueeze(-1)).sum(-2) / share.sum(-1, keepdim=True).clamp_min(1)


def shares(scores: Tensor, present: Tensor) -> Tensor:
    """Softmax over the present tokens, the last axis; an absent one gets 0, and so do all where none is there."""
    return scores.masked_fill(~present, -1e9).softmax(-1) * present


class Attention(nn.Module):
    """Multi-head attention that looks at present tokens only; who has none to look at gets 0.

    `uniform` gives every present token the same weight, and has neither queries nor keys.
    """

    def __init__(self, width: int, heads: int = 2, uniform: bool = False):
        super().__init__()
        self.heads = heads
        self.query, self.key = (None if uniform else nn.Linear(width, width) for _ in range(2))
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:  # (n, a, width) -> (n, heads, a, width / heads)
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def forward(self, asking: Tensor, asked: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """asking (n, a, width), asked (n, b, width), present (n, b) -> (n, a, width) and weights (n, a, b)."""
        there = present.unsqueeze(-2).unsqueeze(-2)  # (n, 1, 1, b)
        if self.query is None:
            scores = asked.new_zeros(there.shape).expand(*there.shape[:-2], asking.shape[-2], -1)
        else:
            query, key = self.split(self.query(asking)), self.split(self.key(asked))
            scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (n, heads, a, b)
        weights = shares(scores, there)
        mixed = (weights @ self.split(self.value(asked))).transpose(-3, -2).flatten(-2)
        return self.output(mixed), weights.mean(-3)


class Concat(nn.Module):
    """f([t_1; ...; t_m]): one layer over all tokens side by side."""

    def __init__(self, modalities: int, width: int, hidden: int):
        super().__init__()
        self.feed = feed(modalities * width, hidden, width)

    def forward(self, tokens: Tensor, present: Tensor) -> Fused:
        return Fused(self.feed(tokens.flatten(-2)))


class Mean(nn.Module):
    """f(1/m sum_j t_j)."""

    def __init__(self, modalities: int, width: int, hidden: int):
        super().__init__()
        self.feed = feed(width, hidden, width)

    def forward(self, tokens: Tensor, present: Tensor) -> Fused:
        return Fused(self.feed(mean_of(tokens, present)))


class Gated(nn.Module):
    """f(1/m sum_j sigmoid(U [t_j; mean t]) * tanh(V t_j)): gates, number by number.

    Gated multimodal units, Arevalo et al., arXiv 1702.01992, eq. 3 to 5, with one U and V for all modalities and the mean
    in place of all tokens side by side, so that modalities may be many.
    """

    def __init__(self, modalities: int, width: int, hidden: int):
        super().__init__()
        self.gate, self.value = nn.Linear(2 * width, width), nn.Linear(width, width)
        self.feed = feed(width, hidden, width)

    def forward(self, tokens: Tensor, present: Tensor) -> Fused:
        mean = mean_of(tokens, present).unsqueeze(-2).expand_as(tokens)
        gates = self.gate(torch.cat([tokens, mean], -1)).sigmoid()
        return Fused(self.feed(mean_of(gates * self.value(tokens).tanh(), present)))


class Kronecker(nn.Module):
    """f([h_1; 1] x [h_2; 1]) of h_i = o_i(sigmoid(z_i [c; g]) * relu(l_i x_i)): gated bilinear fusion.

    PORPOISE, Chen et al., Cancer Cell 40:865 (2022), and Pathomic Fusion, arXiv 1912.08937, eq. 7 to 9. There slide and
    genes are the two; here the clinic c = t_1 and the mean g of the other tokens: a product of nine vectors has no end.
    """

    def __init__(self, modalities: int, width: int, hidden: int):
        super().__init__()
        rank = width // 2
        self.layers = nn.ModuleList(nn.Linear(width, rank) for _ in range(2))
        self.gates = nn.ModuleList(nn.Linear(2 * width, rank) for _ in range(2))
        self.outputs = nn.ModuleList(nn.Linear(rank, rank) for _ in range(2))
        self.feed = feed((rank + 1) ** 2, hidden, width)

    def forward(self, tokens: Tensor, present: Tensor) -> Fused:
        sides = tokens[..., 0, :], mean_of(tokens[..., 1:, :], present[..., 1:])
        both, factors = torch.cat(sides, -1), []
        for side, layer, gate, output in zip(sides, self.layers, self.gates, self.outputs, strict=True):
            gated = output(gate(both).sigmoid() * layer(side).relu()).relu()
            factors.append(F.pad(gated, (0, 1), value=1.0))  # the 1 keeps each side's own effect
        return Fused(self.feed((factors[0].unsqueeze(-1) * factors[1].unsqueeze(-2)).flatten(-2)))


class Late(nn.Module):
    """1/m sum_j f_j(t_j): separate networks that meet in the mean of their logits (the output layer is linear)."""

    def __init__(self, modalities: int, width: int, hidden: int):
        super().__init__()
        self.networks = nn.ModuleList(feed(width, hidden, width) for _ in range(modalities))

    def forward(self, tokens: Tensor, present: Tensor) -> Fused:
        own = [network(tokens[..., j, :]) for j, network in enumerate(self.networks)]
        return Fused(mean_of(torch.stack(own, -2), present))


class SelfAttention(nn.Module):
    """u + f(norm u), u = 1/m sum_j x_j, x = t + A(norm t, norm t): every token asks all (Vaswani et al., NeurIPS 2017).

    The feed-forward stands behind the mean, not before it: a ninth of the work.
    """

    uniform = False

    def __init__(self, modalities: int, width: int, hidden: int):
        super().__init__()
        self.before, self.attention = nn.LayerNorm(width), Attention(width, uniform=self.uniform)
        self.norm, self.feed = nn.LayerNorm(width), feed(width, hidden, width)

    def forward(self, tokens: Tensor, present: Tensor) -> Fused:
        y = self.before(tokens)
        mixed, weights = self.attention(y, y, present)
        x = mean_of(tokens + mixed, present)
        return Fused(x + self.feed(self.norm(x)), weights)


class UniformAttention(SelfAttention):
    """Self-attention whose weights are 1/m: what is left of it where nobody is chosen."""

    uniform = True


class CrossFusion(nn.Module):
    """z + f(norm z), z = q + A(q, norm y), y = w_1 s + w_2 cross(s, t_1) + w_3 cross(s, s), cross(s, c) = norm(s + A(s, c)).

    CrossFusion, Soraki et al., arXiv 2503.02064: tiles at 10x ask those at 5x (coarse) and at 20x (fine), the three streams
    are weighted and summed, and a class token q reads them. Here the molecular tokens s are the tiles that ask, the clinic
    is what is coarse, the molecular tokens are what is fine. The square of tiles and its convolutions have no counterpart, and
    the one feed-forward is that of the class token.
    """

    def __init__(self, modalities: int, width: int, hidden: int):
        super().__init__()
        self.coarse = Attention(width, uniform=True)  # one key: nothing to choose
        self.fine, self.reading = Attention(width), Attention(width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.feed = feed(width, hidden, width)
        self.streams = nn.Parameter(torch.ones(3) / 3)
        self.class_token = nn.Parameter(torch.randn(1, width) * 0.02)

    def forward(self, tokens: Tensor, present: Tensor) -> Fused:
        source, clinic, there = tokens[..., 1:, :], tokens[..., :1, :], present[..., 1:]
        coarse, _ = self.coarse(source, clinic, present[..., :1])
        fine, _ = self.fine(source, source, there)
        streams = (source, self.norms[0](source + coarse), self.norms[1](source + fine))
        y = self.norms[2](sum(self.streams[k] * stream for k, stream in enumerate(streams)))
        asking = self.class_token.expand(*y.shape[:-2], 1, -1)
        read, weights = self.reading(asking, y, there)
        z = (asking + read).squeeze(-2)
        asked = F.pad(weights.squeeze(-2), (1, 0))  # the class token does not ask the clinic: its tokens have
        return Fused(z + self.feed(self.norms[3](z)), asked)


class SpaCRD(nn.Module):
    """[mu; log s2](h) of h = norm W [A(t_1, t); A(g, t_1)], and |decode(mu + s e) - h|2 + KL(N(mu, s2), N(c_k, 1)) / 2.

    SpaCRD, Xue et al., arXiv 2603.06186: a spot's image asks the genes around and its genes the images, and a variational
    reconstruction is drawn to its category's centre c_k. Here the clinic asks the molecular tokens, and their mean g asks
    the clinic (one key: nothing to choose); the categories are death before the median event, or life beyond it. Early
    and late cost a tenth of the likelihood, as in the paper's last stage.
    """

    def __init__(self, modalities: int, width: int, hidden: int):
        super().__init__()
        self.first, self.second = Attention(width), Attention(width, uniform=True)
        self.join, self.norm = nn.Linear(2 * width, width), nn.LayerNorm(width)
        self.squeeze = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.expand = nn.Linear(width // 2, width)
        self.centres = nn.Parameter(torch.randn(2, width // 2) * 0.01)

    def forward(self, tokens: Tensor, present: Tensor) -> Fused:
        clinic, others, there = tokens[..., :1, :], tokens[..., 1:, :], present[..., 1:]
        asked, weights = self.first(clinic, others, there)
        answer, _ = self.second(mean_of(others, there).unsqueeze(-2), clinic, present[..., :1])
        fused = self.norm(self.join(torch.cat([asked, answer], -1).squeeze(-2)))
        vector = self.squeeze(fused)
        mu, logvar = vector.chunk(2, -1)
        noise = torch.randn_like(mu) if self.training else 0.0
        missed = (self.expand(mu + (logvar / 2).exp() * noise) - fused).square().mean(-1, keepdim=True)
        apart = (mu.unsqueeze(-2) - self.centres).square().sum(-1)  # (n, 2)
        divergence = (apart + (logvar.exp() - logvar - 1).sum(-1, keepdim=True)) / 2
        return Fused(vector, F.pad(weights.squeeze(-2), (1, 0)), 0.1 * (missed + divergence / 2))


class StrokeNet(nn.Module):
    """f([cross(a, c); cross(c, a)]) of class tokens a, c; cross(x, y) = norm(z + gelu(W z)), z = norm(x + A(x, y)).

    mRS90's network, Amador et al., Medical Image Analysis 99:103381 (2025): frames of a film attend to each other, and the
    class tokens of film and clinic ask the other side. Here the molecular tokens stand for the frames, and the clinic's one
    token for its class token. Heads are as wide as tokens: one.
    """

    def __init__(self, modalities: int, width: int, hidden: int):
        super().__init__()
        self.among, self.asks = (Attention(width, heads=1) for _ in range(2))
        self.is_asked = Attention(width, heads=1, uniform=True)
        self.class_token = nn.Parameter(torch.zeros(1, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(5))
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.feed = feed(2 * width, hidden, width)

    def forward(self, tokens: Tensor, present: Tensor) -> Fused:
        clinic, there = tokens[..., :1, :], F.pad(present[..., 1:], (1, 0), value=True)
        frames = torch.cat([self.class_token.expand_as(clinic), tokens[..., 1:, :]], -2)
        frames = self.norms[0](frames + self.among(frames, frames, there)[0])
        asked, weights = self.asks(clinic, frames, there)
        answer, _ = self.is_asked(frames[..., :1, :], clinic, present[..., :1])
        sides = []
        for k, (own, mixed) in enumerate(((clinic, asked), (frames[..., :1, :], answer))):
            z = self.norms[1 + k](own + mixed)
            sides.append(self.norms[3 + k](z + F.gelu(self.layers[k](z))))
        # the share of the films' class token is left out
        asked = F.pad(weights.squeeze(-2)[..., 1:], (1, 0))
        return Fused(self.feed(torch.cat(sides, -1).squeeze(-2)), asked)


class ModalityAttention(nn.Module):
    """norm(y + f(norm y)), y = q + A(q, norm x), x = t + k + A(norm t, norm t): tokens ask each other, a query reads them.

    The comparator of the GC-MLM-RCSA study (`lib.gcmlm.model`), k_j telling which modality a token is of; ours, not the
    unpublished architecture.
    """

    def __init__(self, modalities: int, width: int, hidden: int):
        super().__init__()
        self.kind = nn.Parameter(torch.randn(modalities, width) * 0.02)
        self.query = nn.Parameter(torch.randn(1, width) * 0.02)
        self.among, self.reading = Attention(width), Attention(width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.feed = feed(width, hidden, width)

    def forward(self, tokens: Tensor, present: Tensor) -> Fused:
        tokens = tokens + self.kind
        y = self.norms[0](tokens)
        x = self.norms[1](tokens + self.among(y, y, present)[0])
        asking = self.query.expand(*x.shape[:-2], 1, -1)
        read, weights = self.reading(asking, x, present)
        x = (asking + read).squeeze(-2)
        return Fused(self.norms[3](x + self.feed(self.norms[2](x))), weights.squeeze(-2))


class MCAT(nn.Module):
    """f([pool(A(s, t)); pool(s)]), pool(x) = sum_j a_j x_j, a = softmax(w (tanh(V x_j) * sigmoid(U x_j))).

    MCAT, Chen et al., ICCV 2021, eq. 2 to 4: six gene groups ask the tiles of a slide (co-attention), both bags are pooled
    by gated attention and put side by side. Here the molecular tokens s ask all tokens: there is no slide. The transformers
    over each bag are left out.
    """

    def __init__(self, modalities: int, width: int, hidden: int):
        super().__init__()
        self.asks = Attention(width, heads=1)
        self.features = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.weights = nn.ModuleList(nn.Linear(width, 1) for _ in range(2))
        self.feed = feed(2 * width, hidden, width)

    def pool(self, x: Tensor, present: Tensor, k: int) -> Tensor:
        score = self.weights[k](self.features[k](x).tanh() * self.gates[k](x).sigmoid()).squeeze(-1)
        return (shares(score, present).unsqueeze(-2) @ x).squeeze(-2)

    def forward(self, tokens: Tensor, present: Tensor) -> Fused:
        source, there = tokens[..., 1:, :], present[..., 1:]
        asked, weights = self.asks(source, tokens, present)
        pooled = [self.pool(x, there, k) for k, x in enumerate((asked, source))]
        return Fused(self.feed(torch.cat(pooled, -1)), mean_of(weights, there))


HEADS = {
    "concat": Concat,
    "mean": Mean,
    "gated": Gated,
    "kronecker": Kronecker,
    "late": Late,
    "self-attention": SelfAttention,
    "uniform-attention": UniformAttention,
    "crossfusion": CrossFusion,
    "spacrd": SpaCRD,
    "mrs90": StrokeNet,
    "rcsa": ModalityAttention,
    "mcat": MCAT,
}
