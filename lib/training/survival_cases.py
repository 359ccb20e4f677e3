"""What a survival model is trained on and asked about: patients, or slides, with their tiles and what became of them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lib.features.bags import Bag, drawn


class Case(NamedTuple):
    """What is scored at once: all slides of a patient, or one slide. Its tiles are read when they are wanted:
    those of a few hundred real slides are more than a machine holds.
    """

    name: str
    patient: str
    read: Callable[[], Bag]
    time: float
    event: int

    @property
    def bag(self) -> Bag:
        """Its tiles at every scale."""
        return self.read()


def tensors(bag: Bag, device: torch.device | str = "cpu") -> list[Tensor]:
    """Features of a bag as a model takes them: x5, x10, x20, each (1, n, dim)."""
    return [
        torch.as_tensor(bag[scale].features, dtype=torch.float32, device=device)[None]
        for scale in (5, 10, 20)
    ]


class TrainingCases(Dataset):
    """Training cases with their bins; tiles are drawn anew whenever a case comes up."""

    def __init__(self, cases: Sequence[Case], bins: np.ndarray, cap: int, seed: int):
        self.cases, self.bins, self.cap = cases, bins, cap
        self.random = np.random.default_rng([seed, 2])

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, number: int):
        case = self.cases[number]
        bag = drawn(case.bag, self.cap, int(self.random.integers(2**31))) if self.cap else case.bag
        return tensors(bag), torch.tensor([self.bins[number]]), torch.tensor([case.event])


def weights_of(bins: np.ndarray, event: np.ndarray) -> np.ndarray:
    """Sampling weight of each case: 1 / the number of cases of its bin that died, or were censored, like it."""
    kind = 2 * bins + event
    return 1 / np.bincount(kind)[kind]
