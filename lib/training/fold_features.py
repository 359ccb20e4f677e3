"""What one fold's models see: features of training and test sections, fitted on training alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from anndata import AnnData

from lib.features.genes import expression, scale, shared_genes, variable_genes
from lib.features.neighbours import nearest
from lib.training.batches import Spots
from lib.training.folds import Fold, refuse_leak


@dataclass(frozen=True)
class SectionFeatures:
    """One section, unscaled.

    Attributes
    ----------
    image : ndarray (n, d) or None
        Encoder output.
    genes : ndarray (n, g) or None
        log(1 + counts per 10,000) of the fold's genes.
    marker : ndarray (n,) or None
        Expression of the marker gene alone.
    neighbours : ndarray (n, k)
        Within `radius`; `neighbours_anywhere` is the same without it, as the released code has it.
    """

    name: str
    patient: str
    image: np.ndarray | None
    genes: np.ndarray | None
    marker: np.ndarray | None
    labels: np.ndarray
    spots: np.ndarray
    xy: np.ndarray
    neighbours: np.ndarray
    neighbours_anywhere: np.ndarray

    def tensors(self, scaling: str, *, image: bool, genes: bool, anywhere: bool = False) -> Spots:
        """Scaled within the section, as tensors; a modality can be left out."""
        return Spots(
            torch.as_tensor(scale(self.image, scaling)) if image else None,
            torch.as_tensor(scale(self.genes, scaling)) if genes else None,
            torch.as_tensor(self.labels, dtype=torch.float32),
            torch.as_tensor(self.neighbours_anywhere if anywhere else self.neighbours),
            self.xy,
            np.full(len(self.labels), self.name),
        )


def fold_features(
    fold: Fold,
    sections: Mapping[str, AnnData],
    images: Mapping[str, np.ndarray] | None,
    *,
    genes: int,
    marker: str = "",
    neighbours: int = 7,
    neighbour_radius: float = 2.2,
    as_released: bool = False,
    undetermined: str = "excluded",
) -> tuple[list[SectionFeatures], list[SectionFeatures]]:
    """Features of a fold's training and test sections.

    Parameters
    ----------
    fold : Fold
    sections : mapping of str to AnnData
        Raw counts; see `lib.inputs.spots.check_section`.
    images : mapping of str to ndarray, or None
        Encoder output of each section.
    genes : int
        Variable genes to choose, on training sections alone, among the genes that all sections of the fold
        share (which names the test platform has is known without its counts); 0 leaves genes out.
    neighbour_radius : float
        In pitches: farther spots are no neighbours.
    as_released : bool
        Choose genes as the released code does.
    undetermined : {"excluded", "negative"}
        What an undetermined spot counts as.

    Returns
    -------
    train, test : list of SectionFeatures

    Raises
    ------
    ValueError
        A patient on both sides; no labelled spot of one class in training; sections without a shared gene.
    """
    patients = {name: section.uns["section"]["patient"] for name, section in sections.items()}
    refuse_leak(fold.train, fold.test, patients)
    chosen: Sequence[str] = []
    if genes:
        shared = shared_genes([sections[name] for name in (*fold.train, *fold.test)])
        chosen = variable_genes(
            [sections[name] for name in fold.train], shared, genes, as_released=as_released
        )

    def features(name: str) -> SectionFeatures:
        section = sections[name]
        xy, pitch = section.obsm["spatial"], section.uns["section"]["pitch_px"]
        labels = section.obs["label"].to_numpy(np.float32)
        if undetermined == "negative":
            labels = np.where(np.isnan(labels), np.float32(0), labels)
        return SectionFeatures(
            name,
            patients[name],
            images[name] if images else None,
            expression(section, chosen) if genes else None,
            expression(section, [marker])[:, 0] if genes and marker in section.var_names else None,
            labels,
            section.obs_names.to_numpy(str),
            xy,
            nearest(xy, neighbours, radius=neighbour_radius * pitch),
            nearest(xy, neighbours),
        )

    train, test = [features(n) for n in fold.train], [features(n) for n in fold.test]
    labels = np.concatenate([section.labels for section in train])
    if not (labels == 0).any() or not (labels == 1).any():
        raise ValueError(
            f"fold {fold.name}: the training sections {', '.join(fold.train)} have {int((labels == 1).sum())} cancer and "
            f"{int((labels == 0).sum())} other spots; both classes are needed, so label more sections or leave it out"
        )
    return train, test
