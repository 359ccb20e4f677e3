"""Every model of the CrossFusion study under one name: the model, its ablations, and the baselines that read slides."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from lib.models.amil import AMIL
from lib.models.crossfusion import CrossFusion
from lib.models.dsmil import DSMIL
from lib.models.mean_pool import MeanPool
from lib.models.transmil import TransMIL
from lib.training.survival import Standardised
from lib.training.survival_recipe import QUIRKS, Recipe


class Contender(NamedTuple):
    """A model's class, what it is called with, and the released code's habits that come with it."""

    model: type[nn.Module]
    options: dict[str, str] = {}
    quirks: tuple[str, ...] = ()


CONTENDERS = {
    "crossfusion": Contender(CrossFusion, {"fusion": "conv"}),
    "crossfusion-concat": Contender(CrossFusion, {"fusion": "concat"}),
    "crossfusion-single": Contender(CrossFusion, {"fusion": "single"}),
    "crossfusion-released": Contender(CrossFusion, {"fusion": "conv"}, QUIRKS),
    **{f"crossfusion+{quirk}": Contender(CrossFusion, {"fusion": "conv"}, (quirk,)) for quirk in QUIRKS},
    "amil": Contender(AMIL),
    "dsmil": Contender(DSMIL),
    "transmil": Contender(TransMIL),
    "mean-pool": Contender(MeanPool),
}


def builder(
    name: str, dim: int, recipe: Recipe, variant: str = "described"
) -> tuple[Callable[[], nn.Module], Recipe]:
    """What makes a contender's model, and the recipe it is trained by.

    Parameters
    ----------
    name : str
        See `CONTENDERS`.
    dim : int
        Features of a tile.
    recipe : Recipe
    variant : {"described", "released"}
        "released" gives every contender all habits of the released code.
    """
    contender = CONTENDERS[name]
    recipe = recipe.with_quirks(*contender.quirks, *(QUIRKS if variant == "released" else ()))
    options: dict = {"bins": recipe.bins, **contender.options}
    if contender.model is CrossFusion:
        loose = "dropout_in_evaluation" in recipe.quirks
        options |= {"width": recipe.width, "heads": recipe.heads, "dropout_in_evaluation": loose}
        # which dropout the attention has comes with the released model, not with the habit to leave it on
        whole = variant == "released" or contender.quirks == QUIRKS
        options |= {"bf16": recipe.bf16, "variant": "released" if whole else "described"}
    elif contender.model is DSMIL:
        options |= {"variant": variant}  # the released one leaves its stream of tiles untrained
    else:
        options |= {"width": recipe.width}

    def build() -> nn.Module:
        model = contender.model(dim, **options)
        return Standardised(model, dim) if recipe.standardise else model

    return build, recipe
