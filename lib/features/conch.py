"""CONCH's picture tower (Lu et al., Nat Med 30:863, 2024, doi 10.1038/s41591-024-02856-4), 512 numbers a crop.

A ViT-B/16 at 448 pixels, its tokens pooled by one learned query (Yu et al., CoCa, arXiv 2205.01917). As in the authors'
advice for tile features, the projection into the space shared with text is left out.
"""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
INPUT_PX = 448


class Pooler(nn.Module):
    """Learned queries attend to the tokens."""

    def __init__(self, width: int, context: int, heads: int, queries: int):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(queries, width))
        self.attn = nn.MultiheadAttention(width, heads, kdim=context, vdim=context, batch_first=True)
        self.ln_q, self.ln_k = nn.LayerNorm(width), nn.LayerNorm(context)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (b, n, context) -> (b, queries, width)."""
        tokens = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        return self.attn(query, tokens, tokens, need_weights=False)[0]


class Conch(nn.Module):
    """Crops (b, 3, 448, 448), normalised with `MEAN` and `STD`, -> features (b, 512)."""

    head_hidden_size = 512

    def __init__(self, width: int = 768, depth: int = 12, heads: int = 12):
        super().__init__()
        self.trunk = VisionTransformer(
            img_size=INPUT_PX,
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            num_classes=0,
            dynamic_img_size=True,
        )
        self.attn_pool_contrast = Pooler(self.head_hidden_size, width, heads=8, queries=1)
        self.ln_contrast = nn.LayerNorm(self.head_hidden_size)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        tokens = self.trunk.forward_features(crops)
        return self.ln_contrast(self.attn_pool_contrast(tokens)[:, 0])


def tensors_of(checkpoint: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of this tower in the published file, which holds the text's and the captions' too."""
    tower = {
        key.removeprefix("module.").removeprefix("visual."): tensor
        for key, tensor in checkpoint.items()
        if key.removeprefix("module.").startswith("visual.")
    }
    unused = ("attn_pool_caption.", "ln_caption.", "proj_contrast")
    return {key: tensor for key, tensor in tower.items() if not key.startswith(unused)}
