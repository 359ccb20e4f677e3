"""What a trained CrossFusion takes from where."""

import os

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from lib.features.bags import Bag
from lib.training.survival_cases import tensors
from lib.training.survival_contenders import builder
from lib.training.survival_recipe import Recipe


def load_model(path: str | os.PathLike, name: str, dim: int, recipe: Recipe, variant: str) -> nn.Module:
    """A contender with weights that `lib.training.survival_runs` wrote, in evaluation mode."""
    build, _ = builder(name, dim, recipe, variant)
    model = build()
    model.load_state_dict(load_file(path))
    return model.eval()


@torch.inference_mode()
def received(model: nn.Module, bag: Bag) -> dict[int, np.ndarray]:
    """Attention that each context tile receives from all 10x tiles together, mean over heads, by scale (5 and 20).

    The asking tiles have no such map: their rows sum to 1 whatever the model sees, and the published map of them shows
    rounding.
    """
    maps = model(*tensors(bag), attention="received").attention
    return {5: maps["coarse_cross"][0].mean(0).numpy(), 20: maps["fine_cross"][0].mean(0).numpy()}
