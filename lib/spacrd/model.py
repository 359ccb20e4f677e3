"""SpaCRD: find cancer spots by two-way cross-attention of histology and gene expression.

Xue, Wan, Zhang, Min: AAAI 2026, arXiv 2603.06186. Written from the paper's description.

    image (n, image_dim) ── encoder ── z_image (n, 512) ─┐ image asks genes ┐
                                                         ├ cross-attention  ├─ fused h* (b, 512) ─ RVAE ─ [mu; logvar] ─ logit
    genes (n, gene_dim) ─── encoder ── z_genes (n, 512) ─┘ genes ask image  ┘

Every spot is encoded once; the k neighbours of a spot (itself first) are gathered afterwards. Only the centre's
query survives the published attention, so only that query is computed, and keys and values are never
projected for the b * k neighbours: the query is carried into the space of z instead (`CentreAttention`).

`variant="released"` keeps two habits of the authors' code that the paper does not describe: z is normalised over
the neighbours instead of the features, and in training every neighbour is a copy of its own, which counts in batch
statistics and draws its own dropout. `variant="described"` normalises over the features and takes every spot once.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, LATENT, HEADS = 512, 64, 8


class Encoder(nn.Module):
    """One modality to the shared space: in -> 1024 -> 512 -> 512."""

    def __init__(self, input_dim: int, dropout: float = 0.2):
        super().__init__()
        self.linear1, self.norm1 = nn.Linear(input_dim, 1024), nn.BatchNorm1d(1024)
        self.linear2, self.norm2 = nn.Linear(1024, 512), nn.BatchNorm1d(512)
        self.linear3 = nn.Linear(512, WIDTH)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, copied: Tensor | None = None) -> Tensor:
        """(n, input_dim) -> (n, 512); with `copied` (m,), the rows that copies are made of, -> (m, 512)."""
        x = self.linear1(x)
        # copies of a row part at the first dropout, not before
        x = x if copied is None else F.embedding(copied, x)
        x = self.dropout(F.relu(self.norm1(x), inplace=True))
        x = self.dropout(F.relu(self.norm2(self.linear2(x)), inplace=True))
        return self.linear3(x)


class CentreAttention(nn.Module):
    """Multi-head attention of one query, the centre spot, over its k neighbours.

    score_j = q . (W_k z_j) = (W_k' q) . z_j, and sum_j a_j W_v z_j = W_v (sum_j a_j z_j): projecting the one query and
    the one weighted mean is the same arithmetic as projecting all k neighbours, k times cheaper. The
    key's bias adds the same number to every score and cancels in the softmax.
    """

    def __init__(self, dropout: float = 0.1):
        super().__init__()
        self.query, self.key = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.value, self.output = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(dropout)

    def forward(self, centre: Tensor, around: Tensor) -> tuple[Tensor, Tensor]:
        """centre (b, 512), around (b, k, 512) -> attended (b, 512), attention (b, heads, k)."""
        size = WIDTH // HEADS
        query = self.query(centre).unflatten(1, (HEADS, size)) * size**-0.5  # (b, h, 64)
        key, value = (layer.weight.unflatten(0, (HEADS, size)) for layer in (self.key, self.value))
        query = torch.einsum("bhd,hdw->bhw", query, key)  # (b, h, 512)
        attention = (query @ around.transpose(1, 2)).softmax(-1)  # (b, h, k)
        dropped = self.dropout(attention)
        value = torch.einsum("bhw,hdw->bhd", dropped @ around, value)
        value = value + dropped.sum(-1, keepdim=True) * self.value.bias.unflatten(0, (HEADS, size))
        return self.norm(self.output(value.flatten(1))), attention


class Output(NamedTuple):
    """What the model says of b spots."""

    logit: Tensor  # (b,), higher = more cancer-like
    fused: Tensor  # (b, 512), h*
    reconstruction: Tensor  # (b, 512)
    mu: Tensor  # (b, 64)
    logvar: Tensor  # (b, 64)
    attention: Tensor | None  # (b, streams, heads, k); None without attention


class SpaCRD(nn.Module):
    """The whole model; with one modality or with plain concatenation it is its own ablation.

    `image_dim` and `gene_dim` are features a spot in each modality; 0 leaves the modality out, and the other one asks itself.
    `variant`, "described" or "released": see the module's docstring. `fusion` is "attention", or "concatenation", the plain
    mean over the k neighbours in each modality.

    Notes
    -----
    8,694,913 parameters with image_dim=1024, gene_dim=3000. Scores are logits: higher = more cancer-like.
    """

    def __init__(self, image_dim: int, gene_dim: int, variant: str = "described", fusion: str = "attention"):
        super().__init__()
        self.variant, self.released = variant, {"described": False, "released": True}[variant]
        self.image_encoder = Encoder(image_dim) if image_dim else None
        self.gene_encoder = Encoder(gene_dim) if gene_dim else None
        streams = 2 if image_dim and gene_dim else 1
        attends = {"attention": True, "concatenation": False}[fusion]
        self.attentions = nn.ModuleList(CentreAttention() for _ in range(streams)) if attends else None
        self.fusion, self.fusion_norm = nn.Linear(streams * WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.squeeze = nn.Sequential(nn.Linear(WIDTH, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())
        self.mu, self.logvar = nn.Linear(128, LATENT), nn.Linear(128, LATENT)
        wider = nn.Linear(LATENT, 128), nn.ReLU(), nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, WIDTH)
        self.expand = nn.Sequential(*wider)
        self.class_centres = nn.Parameter(torch.randn(2, LATENT) * 0.01)
        self.head = nn.Sequential(nn.Linear(2 * LATENT, 64), nn.ReLU(), nn.Linear(64, 1))

    def encode(self, image: Tensor | None, genes: Tensor | None, copied: Tensor | None = None) -> list:
        """Each modality present -> z (n, 512), not normalised; `copied`: see `Encoder.forward`."""
        pairs = ((self.image_encoder, image), (self.gene_encoder, genes))
        return [encoder(x, copied) for encoder, x in pairs if encoder is not None]

    def around(self, z: Tensor, neighbours: Tensor) -> Tensor:
        """z (n, 512), neighbours (b, k) -> normalised neighbourhoods (b, k, 512), the centre first."""
        # F.embedding is z[neighbours] with a gradient that adds up fast and in a fixed order
        if not self.released:
            return F.embedding(neighbours, F.normalize(z, dim=-1))
        spots = F.embedding(neighbours, z)
        length = spots.square().sum(1, keepdim=True).clamp_min(1e-24).sqrt()
        return spots / length  # over the neighbours, as the released code does

    def forward(self, image: Tensor | None, genes: Tensor | None, neighbours: Tensor) -> Output:
        """Score the spots `neighbours[:, 0]`.

        image (n, image_dim) and genes (n, gene_dim), None where left out, hold every spot that occurs in neighbours
        once; neighbours (b, k), int64, are rows of them, column 0 the scored spot itself.
        """
        copied = None
        if self.released and self.training:
            copied = neighbours.flatten()
            neighbours = torch.arange(len(copied), device=copied.device).view_as(neighbours)
        # 1 or 2 x (b, k, 512)
        spots = [self.around(z, neighbours) for z in self.encode(image, genes, copied)]
        attention = None
        if self.attentions is None:
            streams = [x.mean(1) for x in spots]
        else:
            pairs = zip(self.attentions, spots, reversed(spots), strict=True)
            streams, maps = zip(*(ask(own[:, 0], other) for ask, own, other in pairs), strict=True)
            attention = torch.stack([m.detach() for m in maps], 1)
        fused = self.fusion_norm(self.fusion(torch.cat(list(streams), -1)))  # (b, 512)
        hidden = self.squeeze(fused)
        mu, logvar = self.mu(hidden), self.logvar(hidden)  # (b, 64)
        # no draw outside training: looking at held-out spots must not move the random numbers of training
        latent = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu) if self.training else mu
        logit = self.head(torch.cat([mu, logvar], -1)).squeeze(-1)
        return Output(logit, fused, self.expand(latent), mu, logvar, attention)


def contrastive_loss(z_image: Tensor, z_genes: Tensor, temperature: float = 0.07) -> Tensor:
    """Symmetric InfoNCE over a batch: spot i's picture belongs to spot i's genes (stage I).

    z_image, z_genes (b, 512): encoded spots, not normalised; all other spots of the batch are negatives. The scalar is
    ln(b) where nothing has been learnt.
    """
    similarity = F.normalize(z_image, dim=-1) @ F.normalize(z_genes, dim=-1).T / temperature  # (b, b)
    own = torch.arange(len(similarity), device=similarity.device)
    return 0.5 * (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own))


def fusion_losses(output: Output, labels: Tensor, class_centres: Tensor) -> dict[str, Tensor]:
    """The terms of stages II and III, each a scalar, unweighted.

    Labels (b,) are 1 cancer, 0 other; they act in stage II already, through the class centres (2, 64).
    reconstruction: mean squared error of h*; category: KL divergence to the normal around the spot's class centre;
    separation: minus the distance of the centres (released code only, unbounded below); classification: binary
    cross-entropy.
    """
    centre = class_centres[labels.long()]  # (b, 64)
    divergence = output.logvar.exp() + (output.mu - centre).square() - output.logvar - 1
    return {
        "reconstruction": F.mse_loss(output.reconstruction, output.fused),
        "category": 0.5 * divergence.sum(-1).mean(),
        "separation": -torch.linalg.vector_norm(class_centres[0] - class_centres[1]),
        "classification": F.binary_cross_entropy_with_logits(output.logit, labels.to(output.logit.dtype)),
    }


def fused_loss(terms: dict[str, Tensor], variant: str = "described") -> Tensor:
    """Stage II's loss: reconstruction + 0.5 category; the released code pushes the class centres apart as well."""
    fused = terms["reconstruction"] + 0.5 * terms["category"]
    return fused + 0.1 * terms["separation"] if variant == "released" else fused
