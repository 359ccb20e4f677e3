"""CrossFusion line by line: every row, every kernel and every weight of attention on its own.

Written for the tests and for `benchmarks/`, from the paper's description. It borrows parameters from a model by their
names and shares no code with it; every sum is spelt out.
"""

import math

import torch
import torch.nn.functional as F


def exact(q, k, v):
    """Attention by einsum over (heads, rows, 128)."""
    weights = torch.einsum("hnd,hmd->hnm", q, k) / math.sqrt(q.shape[-1])
    weights = torch.exp(weights - weights.max(2, keepdim=True).values)
    return torch.einsum("hnm,hmd->hnd", weights / weights.sum(2, keepdim=True), v)


class Plain:
    """`parameters` by name. Without dropout."""

    def __init__(self, parameters, *, heads=4, residual="normalised"):
        self.parameters, self.heads, self.residual = dict(parameters), heads, residual

    def attend(self, q, k, v):
        return exact(q, k, v)

    cross = attend

    def get(self, name):
        return self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]

    def linear(self, x, name):
        weight, bias = self.get(name)
        return x @ weight.T + bias

    def norm(self, x, name):
        weight, bias = self.get(name)
        mean = x.mean(1, keepdim=True)
        variance = ((x - mean) ** 2).mean(1, keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias

    def gelu(self, x):
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    def dropped(self, x):
        return x

    def channels_dropped(self, picture):
        return picture

    def attention(self, asking, asked, name, attend):
        def heads(x, part):
            y = self.linear(x, f"{name}.{part}")
            return torch.stack(y.chunk(self.heads, 1))  # (heads, rows, 128)

        mixed = attend(heads(asking, "query"), heads(asked, "key"), heads(asked, "value"))
        return self.linear(torch.cat(list(mixed), 1), f"{name}.output")

    def feed_forward(self, x, name):
        hidden = self.dropped(self.gelu(self.linear(x, f"{name}.0")))
        return self.dropped(self.linear(hidden, f"{name}.3"))

    def crossing(self, x, context, name):
        scale = self.parameters[f"{name}.scale"][0]
        x = x + self.attention(x + scale, context + scale, f"{name}.attention", self.cross)
        y = self.norm(x, f"{name}.norm")
        return (y if self.residual == "normalised" else x) + self.feed_forward(y, f"{name}.feed_forward")

    def layers(self, x, name):
        for number in range(sum(key.startswith(f"{name}.") for key in self.parameters) // 16):
            x = self.layer(x, f"{name}.{number}")
        return x

    def layer(self, x, name):
        y = self.norm(x, f"{name}.norm1")
        base = y if self.residual == "normalised" else x
        x = base + self.attention(y, y, f"{name}.attention", self.attend)
        y = self.norm(x, f"{name}.norm2")
        return (y if self.residual == "normalised" else x) + self.feed_forward(y, f"{name}.feed_forward")

    def picture(self, x):
        side = round(math.sqrt(len(x)))
        return x.reshape(side, side, -1).permute(2, 0, 1)[None]  # (1, width, side, side), row by row

    def convolutions(self, picture, name, sizes, groups):
        parts = [self.get(f"{name}.{i}") for i in range(len(sizes))]
        each = zip(parts, sizes, strict=True)
        return sum(F.conv2d(picture, *part, padding=n // 2, groups=groups) for part, n in each)

    def pad_transformer(self, x, name, class_tokens=0):
        x = self.layers(x, f"{name}.before")
        own, square = x[:class_tokens], x[class_tokens:]
        picture = self.picture(square)
        picture = picture + self.convolutions(picture, f"{name}.positions.parts", (7, 5, 3), x.shape[1])
        x = torch.cat([own, picture[0].flatten(1).T])
        return self.norm(self.layers(x, f"{name}.after"), f"{name}.norm")

    def conv_fusion(self, streams):
        if len(streams) > 1:
            weight, bias = self.get("fusion.streams")  # (1, 3, 1, 1, 1), (1,)
            stack = torch.stack([self.picture(x)[0] for x in streams])[None]  # (1, 3, width, side, side)
            picture = F.conv3d(stack, weight, bias)[:, 0]
        else:
            picture = self.picture(streams[0])
        picture = F.relu(self.convolutions(picture, "fusion.parts", (7, 5, 3, 1), streams[0].shape[1] // 2))
        picture = self.channels_dropped(picture)
        return self.norm(self.linear(picture[0].flatten(1).T, "fusion.linear"), "fusion.norm")

    def project(self, x, name):
        if f"projections.{name}.0.weight" not in self.parameters:
            return x
        return self.norm(self.linear(x, f"projections.{name}.0"), f"projections.{name}.1")

    def pad(self, x):
        missing = math.ceil(math.sqrt(len(x))) ** 2 - len(x)
        return torch.cat([x, x[:missing]])

    def __call__(self, x5, x10, x20, fusion="conv"):
        """Bags (n, features) -> logits (bins,)."""
        if fusion == "single":
            streams = {"source": self.project(x20, "source")}
        else:
            source = self.project(x10, "source")
            streams = {
                "source": source,
                "fine": self.crossing(source, self.project(x20, "fine"), "crossings.fine"),
                "coarse": self.crossing(source, self.project(x5, "coarse"), "crossings.coarse"),
            }
        streams = [self.pad_transformer(self.pad(x), f"transformers.{name}") for name, x in streams.items()]
        if fusion == "concat":
            fused = self.norm(self.linear(torch.cat(streams, 1), "fusion.linear"), "fusion.norm")
        else:
            fused = self.conv_fusion(streams)
        tokens = torch.cat([self.parameters["class_token"][0], fused])
        return self.linear(self.pad_transformer(tokens, "final", 1)[:1], "head")[0]
