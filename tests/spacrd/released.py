"""SpaCRD the slow way, as the released scheme works: every neighbour re-encoded, every query computed.

Written for the tests and for `benchmarks/`, independently of `lib.spacrd.model`, from the description in its
docstring. It shares no code with it; only `load` knows the other's names.
"""

import math
import zlib

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from anndata import AnnData
from scipy import sparse
from torch import nn


def mlp(width):
    return nn.Sequential(
        nn.Linear(width, 1024), nn.BatchNorm1d(1024), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(1024, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(512, 512),
    )  # fmt: skip


class SlowSpaCRD(nn.Module):
    """Takes (b, k, features) neighbourhood copies; `axis` 1 normalises over the neighbours, 2 over the features."""

    def __init__(self, image_dim, gene_dim, axis):
        super().__init__()
        self.axis = axis
        self.encoders = nn.ModuleList([mlp(image_dim), mlp(gene_dim)])

        def attention():
            return nn.ModuleDict({n: nn.Linear(512, 512) for n in "qkvo"} | {"norm": nn.LayerNorm(512)})

        self.attentions = nn.ModuleList(attention() for _ in range(2))
        self.attention_dropout = nn.Dropout(0.1)
        self.fusion, self.fusion_norm = nn.Linear(1024, 512), nn.LayerNorm(512)
        self.squeeze = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())
        self.mu, self.logvar = nn.Linear(128, 64), nn.Linear(128, 64)
        wider = nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 512)
        self.expand = nn.Sequential(*wider)
        self.centres = nn.Parameter(torch.randn(2, 64) * 0.01)
        self.head = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1))

    def attend(self, layer, asking, asked):
        def heads(x):
            return x.view(len(x), -1, 8, 64).transpose(1, 2)  # (b, 8, k, 64)

        q, k, v = heads(layer["q"](asking)), heads(layer["k"](asked)), heads(layer["v"](asked))
        weights = self.attention_dropout(torch.softmax(q @ k.mT / math.sqrt(64), -1))
        mixed = (weights @ v).transpose(1, 2).reshape(len(q), -1, 512)
        return layer["norm"](layer["o"](mixed))

    def forward(self, image, genes):
        b, k = image.shape[:2]
        spots = [
            F.normalize(encoder(x.reshape(b * k, -1)).view(b, k, 512), dim=self.axis)
            for encoder, x in zip(self.encoders, (image, genes), strict=True)
        ]
        pairs = zip(self.attentions, (spots, spots[::-1]), strict=True)
        asked = [self.attend(layer, *pair) for layer, pair in pairs]
        fused = self.fusion_norm(self.fusion(torch.cat([a[:, 0] for a in asked], -1)))
        hidden = self.squeeze(fused)
        mu, logvar = self.mu(hidden), self.logvar(hidden)
        rebuilt = self.expand(mu + torch.exp(logvar / 2) * torch.randn_like(mu))
        return self.head(torch.cat([mu, logvar], 1))[:, 0], fused, rebuilt, mu, logvar


def total_loss(model, outputs, labels, *, classify):
    """The released total: reconstruction, class divergence, separation; plus cross-entropy in stage III."""
    logit, fused, rebuilt, mu, logvar = outputs
    own = torch.stack([model.centres[int(label)] for label in labels])
    divergence = 0.5 * (logvar.exp() + (mu - own) ** 2 - logvar - 1).sum() / len(labels)
    apart = (model.centres[0] - model.centres[1]).norm()
    loss = ((rebuilt - fused) ** 2).mean() + 0.5 * divergence - 0.1 * apart
    if classify:
        loss = F.binary_cross_entropy_with_logits(logit, labels.float()) + 0.1 * loss
    return loss


def load(slow, fast):
    """Copy the weights of `lib.spacrd.model.SpaCRD` into the slow version."""
    pairs = [
        *((slow.encoders[i][j], getattr(encoder, name))
          for i, encoder in enumerate((fast.image_encoder, fast.gene_encoder))
          for j, name in ((0, "linear1"), (1, "norm1"), (4, "linear2"), (5, "norm2"), (8, "linear3"))),
        *((theirs[letter], getattr(ours, name))
          for theirs, ours in zip(slow.attentions, fast.attentions, strict=True)
          for letter, name in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output"), ("norm", "norm"))),
        *((getattr(slow, n), getattr(fast, n)) for n in ("fusion", "fusion_norm", "squeeze", "mu", "logvar", "expand", "head")),
    ]  # fmt: skip
    for theirs, ours in pairs:
        theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        slow.centres.copy_(fast.class_centres)
    return slow


# One small cohort, one initial state, one order of spots and one set of draws, by formula: what the authors' own code was
# run on. `RandomState`, because its stream never changes.


def formula_sections():
    """Two sections to train on and one to test, their genes only partly the same: AnnData by name."""
    sections = {}
    kinds = [("A1", 29, range(0, 60)), ("B1", 32, range(10, 90)), ("C1", 24, range(5, 50))]
    for number, (name, spots, genes) in enumerate(kinds):
        random = np.random.RandomState(number)
        level = np.random.RandomState(9).gamma(0.6, 8, 90)[list(genes)]
        cancer = np.arange(spots) % 3 == 0
        counts = random.poisson(
            level * random.gamma(2, 0.5, (spots, 1)) * np.exp(random.normal(0, 0.7, (spots, len(level))))
        )
        counts[cancer, 8:14] *= 3
        counts[:, 0] += 1  # no spot is empty
        label = np.where(np.arange(spots) == 5, np.nan, cancer).astype(np.float32)
        sections[name] = AnnData(
            sparse.csr_matrix(counts, dtype=np.float32),
            obs=pd.DataFrame({"label": label}, index=[f"{name}-{i}" for i in range(spots)]),
            var=pd.DataFrame(index=[f"g{i:02}" for i in genes]),
            obsm={"spatial": np.column_stack(np.divmod(np.arange(spots), 7)) * 40.0 + random.normal(0, 2, (spots, 2))},
            uns={"section": {"name": name, "patient": name[0], "pitch_px": 40.0}},
        )  # fmt: skip
    return sections


def formula_images():
    """Image features of these sections, 20 a spot, by name."""
    return {
        name: np.random.RandomState(50 + i).normal(size=(one.n_obs, 20)).astype(np.float32)
        for i, (name, one) in enumerate(formula_sections().items())
    }


def formula_state(shapes):
    """Initial weights by name in `lib.spacrd.model.SpaCRD`, from their names alone; statistics as they begin."""
    state = {}
    for name, shape in shapes.items():
        drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        if "running" in name or "batches" in name:
            state[name] = torch.full(shape, float("var" in name))
        elif "norm" in name:
            state[name] = torch.tensor(0.1 * drawn + name.endswith("weight"), dtype=torch.get_default_dtype())
        else:
            state[name] = torch.tensor(drawn * (0.1 if len(shape) == 1 or "centres" in name else shape[1] ** -0.5), dtype=torch.get_default_dtype())  # fmt: skip
    return state


def formula_order(epoch, spots):
    return np.random.RandomState(100 + epoch).permutation(spots)


def formula_draws(step, like):
    return torch.tensor(np.random.RandomState(1000 + step).standard_normal(like.shape))


def digest(tensor):
    """Entries, mean, norm, and the product with a wave over all entries, which tells their order."""
    values = tensor.detach().double().flatten()
    wave = torch.cos(torch.arange(len(values), dtype=torch.float64))
    return [len(values), values.mean().item(), values.norm().item(), (values @ wave).item()]
