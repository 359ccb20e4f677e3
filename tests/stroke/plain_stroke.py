"""StrokeNet as one would write it down: the CNN called once a frame, everything kept, one head of attention at a time.

Written for the tests and for `benchmarks/`, from the description. It borrows parameters from a model by their names and
shares no code with it. Without dropout.
"""

import math

import torch
import torch.nn.functional as F


class Plain:
    """`state` by name: parameters and positions; `kept`: which clinical tokens there are, None for all."""

    def __init__(self, state, *, categories=(2, 2, 2, 2, 3), heads=8, kept=None):
        self.state, self.categories, self.heads, self.kept = dict(state), categories, heads, kept

    def linear(self, x, name):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, x, name):
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-6) * self.state[f"{name}.weight"] + self.state[
            f"{name}.bias"
        ]

    def token(self, volume):  # (b, 1, h, w, z) -> (b, length)
        x, level = volume, 0
        while f"encoder.levels.{level}.first.weight" in self.state:
            for name, padding, stride in (("first", 1, 1), ("second", 1, 1), ("down", 0, 2)):
                at = f"encoder.levels.{level}.{name}"
                x = F.conv3d(x, self.state[f"{at}.weight"], self.state[f"{at}.bias"], stride, padding)
                x = x if name == "down" else F.relu(x)
            level += 1
        return x.flatten(1)

    def attend(self, asking, asked, name):
        width = asking.shape[-1]
        q, k, v = (
            self.linear(x, f"{name}.{part}")
            for part, x in (("query", asking), ("key", asked), ("value", asked))
        )
        heads = []
        for head in range(self.heads):
            mine = slice(head * width, (head + 1) * width)
            scores = torch.einsum("bnd,bmd->bnm", q[..., mine], k[..., mine]) / math.sqrt(width)
            heads.append(torch.softmax(scores, 2) @ v[..., mine])
        return self.linear(torch.cat(heads, 2), f"{name}.output")

    def branch(self, tokens, name, positions):
        tokens = tokens + positions
        x = torch.cat([self.state[f"{name}.class_token"].repeat(len(tokens), 1, 1), tokens], 1)
        return self.norm(x + self.attend(x, x, f"{name}.attention"), f"{name}.norm")

    def crossing(self, asking, asked, name):
        x = self.norm(asking + self.attend(asking, asked, f"{name}.attention"), f"{name}.norm1")
        y = self.linear(x, f"{name}.linear")
        return self.norm(x + y * 0.5 * (1 + torch.erf(y / math.sqrt(2))), f"{name}.norm2")

    def variables(self, continuous, categorical):
        slopes, offsets = self.state["tokens.slopes"], self.state["tokens.offsets"]
        tokens = [F.relu(continuous[:, i, None] * slopes[i] + offsets[i]) for i in range(len(slopes))]
        tables = self.state["tokens.levels.weight"].split(list(self.categories))
        return torch.stack([*tokens, *(table[categorical[:, i]] for i, table in enumerate(tables))], 1)

    def __call__(self, series, continuous, categorical):
        imaging = torch.stack([self.token(series[:, t].unsqueeze(1)) for t in range(series.shape[1])], 1)
        imaging = self.branch(imaging, "imaging", self.state["imaging.positions"])
        kept = slice(None) if self.kept is None else self.kept
        clinical = self.variables(continuous, categorical)[:, kept]
        clinical = self.branch(clinical, "clinical", self.state["clinical.positions"][kept])
        first = self.crossing(imaging, clinical, "imaging_asks")[:, 0]
        second = self.crossing(clinical, imaging, "clinical_asks")[:, 0]
        x = torch.cat([first, second], 1)
        for name in ("head.0", "head.3"):
            x = F.relu(self.linear(x, name))
        return self.linear(x, "head.6")[:, 0]
