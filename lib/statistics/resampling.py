"""Two-level bootstrap: patients, and blocks of neighbouring spots within a patient's sections."""

from collections.abc import Callable, Sequence

import numpy as np

from lib.statistics import calibration, classification, weighted
from lib.statistics.classification import NotComputable
from lib.statistics.scored import ScoredSection

Metric = str | Callable[[np.ndarray, np.ndarray], float]

PLAIN: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "auc": classification.auc,
    "ap": classification.average_precision,
    "prevalence": classification.prevalence,
    "sensitivity": classification.sensitivity,
    "specificity": classification.specificity,
    "precision": classification.precision,
    "ppv": classification.ppv,
    "npv": classification.npv,
    "accuracy": classification.accuracy,
    "f1": classification.f1,
    "brier": calibration.brier,
}
CELLS = 1_000_000  # spot weights held at once: 8 MB
ATTEMPTS = 100


def by_patient(sections: Sequence[ScoredSection]) -> dict[str, list[ScoredSection]]:
    """Sections of each patient, both in the order of their names.

    Raises
    ------
    ValueError
        No section, or a section given twice.
    """
    if not sections:
        raise ValueError("no section was given, so there is nothing to average")
    ordered = sorted(sections, key=lambda section: (section.patient, section.section))
    names = [(section.patient, section.section) for section in ordered]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"section {twice[0][1]} of patient {twice[0][0]} was given twice")
    patients: dict[str, list[ScoredSection]] = {}
    for section in ordered:
        patients.setdefault(section.patient, []).append(section)
    return patients


def mean_over_patients(patients: Sequence[Sequence[float]]) -> float:
    """Mean over patients of the mean over each one's sections: a patient counts once, however large."""
    return float(np.mean([np.mean(values) for values in patients]))


def section_value(section: ScoredSection, metric: Metric) -> float:
    """Metric of one section, mean over its seeds.

    Raises
    ------
    NotComputable
        It has no value in one of the seeds.
    ValueError
        An unknown metric.
    """
    function = PLAIN.get(metric) if isinstance(metric, str) else metric
    if function is None:
        raise ValueError(f'unknown metric "{metric}"; known are {", ".join(PLAIN)}')
    return float(np.mean([function(section.labels, scores) for scores in section.scores]))


def _drawn_values(section: ScoredSection, metric: Metric, weights: np.ndarray) -> np.ndarray:
    """Metric of one section in each draw, NaN where a seed has none: weights (draws, n) -> (draws,)."""
    if isinstance(metric, str):
        return np.mean([weighted.METRICS[metric](section.labels, row, weights) for row in section.scores], 0)
    values = np.full((len(section.scores), len(weights)), np.nan)
    for draw, weight in enumerate(weights.astype(int)):
        spots = np.repeat(np.arange(weight.size), weight)
        for seed, scores in enumerate(section.scores):
            try:
                values[seed, draw] = metric(section.labels[spots], scores[spots])
            except NotComputable:
                break
    return values.mean(axis=0)


def _section_draws(
    rivals: Sequence[ScoredSection], metric: Metric, draws: int, random: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Metric of the same resampled blocks under each rival's scores: (rivals, draws), and the redraws."""
    section = rivals[0]
    count = int(section.blocks.max()) + 1
    values = np.full((len(rivals), draws), np.nan)
    redrawn = 0
    for attempt in range(ATTEMPTS):
        wanting = np.flatnonzero(np.isnan(values).any(axis=0))
        if not wanting.size:
            return values, redrawn
        redrawn += wanting.size if attempt else 0
        for part in np.array_split(wanting, -(-wanting.size * section.labels.size // CELLS)):
            blocks = random.multinomial(count, np.full(count, 1 / count), size=part.size)
            weights = blocks[:, section.blocks].astype(float)
            values[:, part] = [_drawn_values(rival, metric, weights) for rival in rivals]
    raise NotComputable(
        f"section {section.section} of patient {section.patient}: no resample of its {count} spatial blocks "
        f"gave {metric} a value in {ATTEMPTS} attempts; take smaller blocks"
    )


def bootstrap(
    rivals: Sequence[Sequence[ScoredSection]], metric: Metric, draws: int = 1000, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Resample patients, and spatial blocks within every patient drawn; take the metric each time.

    A draw picks as many patients as there are, with replacement; each time a patient is picked, blocks of
    each of its sections are resampled afresh. The metric is taken per section, then averaged over seeds,
    sections, and patients. One patient: its blocks only. A resample of a section in which the metric has
    no value (no cancer spot in it, say) is drawn again and counted, never scored 0.

    Parameters
    ----------
    rivals : sequence of sequences of ScoredSection
        One list of sections, or several that hold the same spots under other scores; all see the same draws.
    metric : str or callable
        A name in `weighted.METRICS`, or `metric(labels, scores)` that raises NotComputable (slow).
    draws : int
    seed : int
        Equal seeds give equal draws, whatever the order of sections and of spots.

    Returns
    -------
    values : float array (rivals, draws)
    redrawn : int
        Section resamples that had to be drawn again.

    Raises
    ------
    NotComputable
        A section's resamples never have a value.
    ValueError
        Unknown metric, or a section given twice.

    References
    ----------
    Davison and Hinkley, Bootstrap Methods and their Application (1997), 3.8 (two levels) and 8.3 (blocks).
    """
    if isinstance(metric, str) and metric not in weighted.METRICS:
        raise ValueError(f'unknown metric "{metric}"; known are {", ".join(weighted.METRICS)}')
    grouped = [by_patient(sections) for sections in rivals]
    patients = list(grouped[0])
    streams = np.random.SeedSequence(seed).spawn(1 + len(rivals[0]))
    picks = np.random.default_rng(streams.pop(0)).integers(len(patients), size=(draws, len(patients)))
    values = np.empty((len(rivals), *picks.shape))
    redrawn = 0
    for number, patient in enumerate(patients):
        picked = picks == number
        by_section = []
        for same in zip(*(group[patient] for group in grouped), strict=True):
            drawn, again = _section_draws(
                same, metric, int(picked.sum()), np.random.default_rng(streams.pop(0))
            )
            by_section.append(drawn)
            redrawn += again
        values[:, picked] = np.mean(by_section, axis=0)
    return values.mean(axis=2), redrawn
