"""Sections with a known effect, for every test of the statistics room."""

import numpy as np
import pytest

from lib.statistics.intervals import ScoredSection


def grid(side: int) -> np.ndarray:
    """Positions of side x side spots, pitch 1."""
    return np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2).astype(float)


@pytest.fixture
def cohort():
    """Function (patients, side, effect, seed, seeds) -> sections, 4 x 4 spots a block."""

    def made(patients=4, side=12, effect=1.0, seed=0, seeds=1) -> list[ScoredSection]:
        random = np.random.default_rng(seed)
        sections = []
        for number in range(patients):
            labels = (random.random(side * side) < 0.4).astype(float)
            scores = effect * labels + random.normal(size=(seeds, side * side))
            scores = np.round(scores, 1)  # ties
            sections.append(
                ScoredSection.of_spots(f"P{number}", f"P{number}a", labels, scores, grid(side), 4.0)
            )
        return sections

    return made
