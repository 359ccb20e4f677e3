"""A section whose spots carry a label, a score and a spatial block."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike


def spatial_blocks(xy: ArrayLike, side: float) -> np.ndarray:
    """Block of neighbouring spots each spot belongs to: squares of a grid laid over the section.

    Neighbouring spots share tissue and are no independent observations; the bootstrap resamples these
    blocks, not spots. About five times the pitch is a usual side: wider than the distance over which
    labels agree, and still some tens of blocks a section.

    Parameters
    ----------
    xy : array (n, 2)
        Positions, any unit.
    side : float
        Side of a square, in the unit of `xy`, above 0.

    Returns
    -------
    int array (n,)
        0 to blocks - 1, row by row from the lowest y.

    Raises
    ------
    ValueError
        Positions of another shape or not finite, or a side not above 0.
    """
    xy = np.asarray(xy, dtype=float)
    if xy.ndim != 2 or xy.shape[1] != 2 or not np.isfinite(xy).all():
        raise ValueError(f"positions must be finite with shape (spots, 2), got shape {xy.shape}")
    if not side > 0:
        raise ValueError(f"the side of a block must be above 0, got {side}")
    cell = np.floor((xy - xy.min(0)) / side).astype(int)
    return np.unique(cell[:, 1] * (cell[:, 0].max() + 1) + cell[:, 0], return_inverse=True)[1]


@dataclass(frozen=True, eq=False)
class ScoredSection:
    """One section's spots, ready for a metric.

    Attributes
    ----------
    patient, section : str
        A patient may have several sections.
    labels : float array (n,)
        1 cancer, 0 other; no NaN.
    scores : float array (n,) or (seeds, n)
        Higher = more cancer-like; or 0/1 calls, or probabilities, as the metric wants.
    blocks : int array (n,)
        Spatial block of each spot, see `spatial_blocks`.
    undetermined : int
        Spots left out before because nobody knows their class; reported with every result.
    undetermined_scores : float array (undetermined,) or (seeds, undetermined), optional
        Their scores: a cut that needs no label is fitted on every spot, as it would be in use.
    """

    patient: str
    section: str
    labels: np.ndarray
    scores: np.ndarray
    blocks: np.ndarray
    undetermined: int = 0
    undetermined_scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        labels, scores = np.asarray(self.labels, dtype=float), np.atleast_2d(np.asarray(self.scores, float))
        blocks = np.asarray(self.blocks)
        where = f"section {self.section} of patient {self.patient}"
        if labels.ndim != 1 or scores.ndim != 2 or not scores.shape[1] == labels.size == blocks.size:
            raise ValueError(
                f"{where}: labels {labels.shape}, scores {np.shape(self.scores)} and blocks {blocks.shape} "
                "do not describe the same spots"
            )
        if labels.size == 0:
            raise ValueError(f"{where}: no spot has a label, so nothing can be measured on it")
        if np.isnan(labels).any():
            raise ValueError(
                f"{where}: {int(np.isnan(labels).sum())} spots are undetermined (label NaN); "
                "build the section with ScoredSection.of_spots, which leaves them out and counts them"
            )
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "blocks", np.unique(blocks, return_inverse=True)[1])

    @classmethod
    def of_spots(
        cls,
        patient: str,
        section: str,
        labels: ArrayLike,
        scores: ArrayLike,
        xy: ArrayLike,
        side: float,
        undetermined: Literal["excluded", "negative"] = "excluded",
    ) -> "ScoredSection":
        """Section from all its spots, undetermined ones (label NaN) among them.

        Parameters
        ----------
        labels, scores, patient, section
            As the attributes; labels may hold NaN.
        xy, side
            Positions (n, 2) and block side in one unit, see `spatial_blocks`.
        undetermined : {"excluded", "negative"}
            Leave undetermined spots out (sound), or count them as not cancer (the released SpaCRD labels).
        """
        labels, scores = np.asarray(labels, dtype=float), np.asarray(scores, dtype=float)
        unknown = np.isnan(labels)
        blocks = spatial_blocks(xy, side)
        if undetermined == "negative":
            return cls(patient, section, np.where(unknown, 0.0, labels), scores, blocks)
        if undetermined != "excluded":
            raise ValueError(f'undetermined must be "excluded" or "negative", got "{undetermined}"')
        return cls(
            patient,
            section,
            labels[~unknown],
            scores[..., ~unknown],
            blocks[~unknown],
            int(unknown.sum()),
            scores[..., unknown],
        )

    def every_score(self) -> np.ndarray:
        """Scores of all spots, undetermined ones last: (seeds, n + undetermined)."""
        if self.undetermined_scores is None:
            return self.scores
        return np.hstack([self.scores, np.atleast_2d(self.undetermined_scores)])

    def with_scores(self, scores: ArrayLike) -> "ScoredSection":
        """The same labelled spots with other scores, calls or probabilities: (n,) or (seeds, n)."""
        return replace(self, scores=scores, undetermined_scores=None)
