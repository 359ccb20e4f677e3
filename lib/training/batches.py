"""Batches of spots in which every spot is encoded once and neighbours are gathered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset


@dataclass(frozen=True)
class Spots:
    """The spots of one or more sections, stacked.

    Attributes
    ----------
    image, genes : Tensor (n, features) or None
        Scaled features; None where the modality is left out.
    labels : Tensor (n,)
        1 cancer, 0 other, NaN undetermined: never scored in a loss, still a neighbour.
    neighbours : Tensor (n, k), int64
        Rows of this stack; itself first.
    xy : ndarray (n, 2)
        Positions within the section.
    section : ndarray (n,)
        Section name of each spot.
    """

    image: Tensor | None
    genes: Tensor | None
    labels: Tensor
    neighbours: Tensor
    xy: np.ndarray
    section: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def stack(cls, parts: Sequence["Spots"]) -> "Spots":
        """Put sections on top of each other, neighbours renumbered."""
        starts = np.cumsum([0, *map(len, parts)][:-1])
        return cls(
            None if parts[0].image is None else torch.cat([p.image for p in parts]),
            None if parts[0].genes is None else torch.cat([p.genes for p in parts]),
            torch.cat([p.labels for p in parts]),
            torch.cat([p.neighbours + int(start) for p, start in zip(parts, starts, strict=True)]),
            np.concatenate([p.xy for p in parts]),
            np.concatenate([p.section for p in parts]),
        )

    def batch(self, centres: np.ndarray) -> dict[str, Tensor | None]:
        """What the model needs to score the spots `centres`: their neighbourhoods, each spot once."""
        around = self.neighbours[torch.as_tensor(centres)]
        spots, local = torch.unique(around, return_inverse=True)
        return {
            "image": None if self.image is None else self.image[spots],
            "genes": None if self.genes is None else self.genes[spots],
            "neighbours": local,
            "labels": self.labels[torch.as_tensor(centres)],
        }


def patches(spots: Spots, size: int) -> list[np.ndarray]:
    """Cut each section into compact pieces of at most `size` spots, by halving along its longer side.

    Neighbours fall into the same piece, so that a batch of pieces encodes few spots more than it scores.
    """

    def halves(rows: np.ndarray) -> list[np.ndarray]:
        if len(rows) <= size:
            return [rows]
        xy = spots.xy[rows]
        order = rows[np.argsort(xy[:, np.ptp(xy, axis=0).argmax()], kind="stable")]
        middle = len(order) // 2
        return [*halves(order[:middle]), *halves(order[middle:])]

    _, first = np.unique(spots.section, return_index=True)
    names = spots.section[np.sort(first)]
    return [piece for name in names for piece in halves(np.flatnonzero(spots.section == name))]


class SpotBatches(IterableDataset):
    """An endless supply of epochs: shuffled batches of labelled centres with their neighbours.

    Parameters
    ----------
    spots : Spots
    batch_size : int
        Centres a batch, about: whole patches are put together until the size is reached.
    patch_size : int
        Spots a patch. 1 takes single spots at random, as the released code does.
    seed : int
        The order of batches depends on it and on nothing else.
    """

    def __init__(self, spots: Spots, batch_size: int, patch_size: int, seed: int):
        self.spots, self.batch_size = spots, batch_size
        self.random = np.random.default_rng(seed)
        labelled = ~torch.isnan(spots.labels).numpy()
        if patch_size == 1:
            self.patches = list(np.flatnonzero(labelled)[:, None])
        else:
            cut = [piece[labelled[piece]] for piece in patches(spots, patch_size)]
            self.patches = [piece for piece in cut if len(piece)]

    def centres(self) -> Iterator[np.ndarray]:
        """One epoch of batches, as rows of `spots`; a lone last spot joins the batch before (batch statistics need two)."""
        batches: list[list[np.ndarray]] = [[]]
        for i in self.random.permutation(len(self.patches)):
            if sum(map(len, batches[-1])) >= self.batch_size:
                batches.append([])
            batches[-1].append(self.patches[i])
        if len(batches) > 1 and sum(map(len, batches[-1])) == 1:
            last = batches.pop()
            batches[-1] += last
        yield from map(np.concatenate, batches)

    def __iter__(self) -> Iterator[dict[str, Tensor | None]]:
        for centres in self.centres():
            yield self.spots.batch(centres)
