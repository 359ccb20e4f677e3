"""What a survival model says of one bag of tiles."""

from typing import NamedTuple

from torch import Tensor


class Hazards(NamedTuple):
    """Hazards of one patient or slide, before the sigmoid."""

    logits: Tensor  # (1, bins), float32; the sigmoid is the chance to die in the bin, higher = earlier death
    attention: (
        dict[str, Tensor] | None
    )  # maps by name, without gradient and without dropout; None unless asked
