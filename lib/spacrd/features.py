"""What a model sees: chosen, normalised and scaled genes, image features, and each spot's neighbours, in batches."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scanpy as sc
import torch
from anndata import AnnData, concat
from scipy import sparse
from scipy.spatial import cKDTree
from torch import Tensor
from torch.utils.data import IterableDataset

from lib.spacrd.params import SpaCRDParams
from lib.training.folds import Fold, refuse_leak

LEAST_SHARED = 0.25  # of the genes of the smallest panel, that all sections must have


def nearest(xy: np.ndarray, k: int = 7, *, radius: float | None = None) -> np.ndarray:
    """The k nearest spots of each spot, itself first: int64 (n, k). `xy` (n, 2), one section's positions, any unit.

    With a `radius`, in the unit of `xy`, a neighbour farther away (across a gap in the tissue, or off its edge) is
    replaced by the spot itself; without it the k nearest are taken however far they are, as the released code does.

    The neighbours of `squidpy.gr.spatial_neighbors(coord_type="generic", n_neighs=k - 1)` wherever no two distances
    tie, in all of HER2ST; on a perfect square grid the four diagonals tie, and the two tools take others of them.
    """
    if len(xy) < k:
        raise ValueError(f"{len(xy)} spots have no {k} neighbours: lower `neighbours`, leave the section out")
    distance, index = cKDTree(xy).query(xy, k=range(1, k + 1))
    itself = np.arange(len(xy))[:, None]
    # two spots at one place: the tree may name the other one first
    for row in np.flatnonzero(index[:, 0] != itself[:, 0]):
        index[row] = [row, *[j for j in index[row] if j != row][: k - 1]]
    if radius is not None:
        index = np.where(distance <= radius, index, itself)
    return index.astype(np.int64)


def smooth(values: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Mean of `values` (n, ...) over each spot's neighbours (n, k)."""
    return values[neighbours].mean(axis=1, dtype=values.dtype)


def shared_genes(sections: Sequence[AnnData]) -> list[str]:
    """Names of the genes that every section has, sorted. ValueError where they are fewer than `LEAST_SHARED` of those of the
    section with the fewest: symbols never meet Ensembl's names, nor those of another species."""
    shared = set.intersection(*(set(section.var_names) for section in sections))
    if len(shared) < LEAST_SHARED * min(section.n_vars for section in sections):
        # one section for each way of naming, of the first ones
        named = {", ".join(one.var_names[:3]): one.uns["section"]["name"] for one in reversed(sections)}
        said = "; ".join(f"{name} has {genes}" for genes, name in reversed(list(named.items())[-4:]))
        raise ValueError(
            f"the sections share {len(shared)} genes of at least {min(one.n_vars for one in sections)} ({said}): name the "
            "genes alike in all, by symbol, and of one species"
        )
    return sorted(shared)


def variable_genes(sections: Sequence[AnnData], genes: Sequence[str], n: int, as_released=False) -> list[str]:
    """The `n` most variable of `genes`, which every section has (seurat_v3), in alphabetical order; all if no more than n.

    Give it training sections only: the genes are part of what is fitted. `as_released`: the released code's habit, the
    first section only, and logged counts, which seurat_v3 does not expect.
    """
    genes = sorted(genes)  # in a fixed order: seurat_v3 breaks ties by position
    if len(genes) <= n:
        return genes
    pool = [section[:, genes] for section in (sections[:1] if as_released else sections)]
    counts = AnnData(concat(pool, label="batch", keys=[str(i) for i in range(len(pool))], index_unique="-"))
    if as_released:
        counts.X = normalise(counts.X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = None if as_released else "batch"
        sc.pp.highly_variable_genes(counts, n_top_genes=n, flavor="seurat_v3", batch_key=batch)
    return sorted(counts.var_names[counts.var["highly_variable"]])


def normalise(counts: sparse.spmatrix) -> sparse.csr_matrix:
    """log(1 + 10,000 * count / total of the spot); a spot without counts stays zero."""
    expression = AnnData(sparse.csr_matrix(counts, dtype=np.float32, copy=True))
    sc.pp.normalize_total(expression, target_sum=1e4)
    sc.pp.log1p(expression)
    return sparse.csr_matrix(expression.X)


def expression(section: AnnData, genes: Sequence[str], among: Sequence[str] | None = None) -> np.ndarray:
    """Normalised expression (spots, genes), float32; a spot's total is taken over the genes `among` (None: all of the section).

    Sections that are compared need one and the same `among`: the same counts are a larger share of a panel of some
    hundred genes than of a whole transcriptome.
    """
    section = section if among is None else section[:, list(dict.fromkeys([*among, *genes]))]
    return normalise(section.X)[:, [section.var_names.get_loc(gene) for gene in genes]].toarray()


def scale(features: np.ndarray, how: str = "minmax") -> np.ndarray:
    """Scale each column (spots, features) within one section, so that batches meet on one range.

    This is transductive: a test section is scaled by its own numbers (not by its labels). "minmax": the paper's, to
    [0, 1], one outlier sets the scale; "robust": 1st to 99th percentile to [0, 1], clipped; "zscore": mean 0,
    standard deviation 1.
    """
    low, span = features.min(0), np.ptp(features, axis=0)
    if how == "zscore":  # a constant column's deviation is a rounding error, not 0
        low, span = features.mean(0), np.where(span > 0, features.std(0), 0)
    elif how == "robust":  # a marker seen in under 1 % of the spots would vanish: it keeps its whole range
        first, last = np.percentile(features, [1, 99], axis=0)
        low, span = np.where(last > first, first, low), np.where(last > first, last - first, span)
    scaled = (features - low) / np.where(span > 0, span, 1)
    return (np.clip(scaled, 0, 1) if how == "robust" else scaled).astype(np.float32)


@dataclass(frozen=True)
class Spots:
    """The n spots of one or more sections, stacked."""

    image: Tensor | None  # (n, features), scaled; None where the modality is left out
    genes: Tensor | None
    labels: Tensor  # (n,): 1 cancer, 0 other, NaN undetermined: never scored in a loss, still a neighbour
    neighbours: Tensor  # (n, k), int64: rows of this stack; itself first
    xy: np.ndarray  # (n, 2), within the section
    section: np.ndarray  # (n,), its name

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

    names = dict.fromkeys(spots.section.tolist())
    return [piece for name in names for piece in halves(np.flatnonzero(spots.section == name))]


def labelled_patches(spots: Spots, size: int) -> list[np.ndarray]:
    """The labelled spots of each patch; of size 1 they are single spots, as the released code takes them."""
    labelled = ~torch.isnan(spots.labels).numpy()
    if size == 1:
        return list(np.flatnonzero(labelled)[:, None])
    return [piece for piece in (piece[labelled[piece]] for piece in patches(spots, size)) if len(piece)]


class Batches(IterableDataset):
    """Each time it is gone through, one epoch: `pieces` (rows that stay together) in random order, put together to batches.

    Whole pieces are joined until `batch_size` rows are reached; fewer last rows than `least` join the batch before (batch
    statistics need two). The order depends on `seed` and on nothing else. `made` turns rows into a batch.
    """

    def __init__(self, pieces: Sequence[np.ndarray], batch_size: int, seed: int, made: Callable, least=2):
        self.pieces, self.batch_size, self.made, self.least = pieces, batch_size, made, least
        self.random = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[Any]:
        batches: list[list[np.ndarray]] = [[]]
        for i in self.random.permutation(len(self.pieces)):
            if sum(map(len, batches[-1])) >= self.batch_size:
                batches.append([])
            batches[-1].append(self.pieces[i])
        if len(batches) > 1 and sum(map(len, batches[-1])) < self.least:
            batches[-2:] = [batches[-2] + batches[-1]]
        for rows in batches:
            yield self.made(np.concatenate(rows))


@dataclass(frozen=True)
class SectionFeatures:
    """One section of n spots, unscaled."""

    name: str
    patient: str
    image: np.ndarray | None  # (n, d), encoder output
    genes: np.ndarray | None  # (n, g), log(1 + counts per 10,000) of the fold's genes
    marker: np.ndarray | None  # (n,), expression of the marker gene alone
    labels: np.ndarray
    spots: np.ndarray  # their names
    xy: np.ndarray
    neighbours: np.ndarray  # (n, k), within the radius
    # (n, k), without one, of positions in whole pixels: as the released code has it
    neighbours_anywhere: np.ndarray

    def tensors(self, scaling: str, *, image: bool, genes: bool, anywhere: bool = False) -> Spots:
        """Scaled within the section, as tensors; a modality can be left out."""
        return Spots(
            # copied into torch's own memory: sums over numpy's round otherwise where it happens to lie otherwise
            torch.tensor(scale(self.image, scaling)) if image else None,
            torch.tensor(scale(self.genes, scaling)) if genes else None,
            torch.as_tensor(self.labels, dtype=torch.float32),
            torch.as_tensor(self.neighbours_anywhere if anywhere else self.neighbours),
            self.xy,
            np.full(len(self.labels), self.name),
        )


def fold_features(
    fold: Fold,
    sections: Mapping[str, AnnData],
    images: Mapping[str, np.ndarray] | None,
    params: SpaCRDParams,
    genes: bool = True,
    as_released: bool = False,
) -> tuple[list[SectionFeatures], list[SectionFeatures]]:
    """Features of a fold's training and test sections.

    Genes are chosen on training sections alone, among those that all sections of the fold share (which names the test
    platform has is known without its counts). A spot's total is taken over the shared genes too, as in the released code.

    `sections` and `images` are raw counts (see `lib.spacrd.spots.assemble`) and encoder output (n, d) by section; `genes` says
    whether genes take part, `as_released` whether they are chosen as the released code does. A ValueError where a patient is
    on both sides, no spot of one class is in training, or sections share too few genes.
    """
    patients = {name: section.uns["section"]["patient"] for name, section in sections.items()}
    refuse_leak(fold.train, fold.test, patients)
    shared: Sequence[str] = []
    chosen: Sequence[str] = []
    if genes:
        shared = shared_genes([sections[name] for name in (*fold.train, *fold.test)])
        training = [sections[name] for name in fold.train]
        chosen = variable_genes(training, shared, params.genes, as_released=as_released)

    def features(name: str) -> SectionFeatures:
        section, marker = sections[name], params.marker
        xy, pitch = section.obsm["spatial"], section.uns["section"]["pitch_px"]
        labels = section.obs["label"].to_numpy(np.float32)
        return SectionFeatures(
            name,
            patients[name],
            images[name] if images else None,
            expression(section, chosen, shared) if genes else None,
            expression(section, [marker], shared)[:, 0] if genes and marker in section.var_names else None,
            np.nan_to_num(labels, nan=0.0) if params.undetermined == "negative" else labels,
            section.obs_names.to_numpy(str),
            xy,
            nearest(xy, params.neighbours, radius=params.neighbour_radius * pitch),
            nearest(np.rint(xy), params.neighbours),
        )

    train, test = [features(n) for n in fold.train], [features(n) for n in fold.test]
    cancer, other = (sum(int((one.labels == label).sum()) for one in train) for label in (1, 0))
    if not cancer or not other:
        raise ValueError(
            f"fold {fold.name}: the training sections {', '.join(fold.train)} have {cancer} cancer and {other} other "
            "spots; both are needed"
        )
    return train, test
