"""The bootstrap: of patients, and of spots within sections within patients.

How folds, sections and seeds become one number, stated here, once, for every study:

- A metric is taken within a fold (or a section): scores of models that were trained apart are not comparable.
- Seeds are averaged within the fold: the mean of the metric, never the metric of a mean score.
- Folds are averaged with equal weight; sections within their patient, then patients. A fold in which the metric has no
  value makes the whole not computable: a mean over the lucky folds would be another quantity.
- Patients are resampled within their fold, events and censored apart, so every draw keeps each fold's size; spots are
  resampled in blocks of neighbours within every patient drawn.

Both kinds meet in `bootstrap`, which draws again what has no value (never scored 0), and in `ends`.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lib.statistics.classification import METRICS, NotComputable

DrawsFunction = Callable[[np.ndarray], np.ndarray]  # counts (draws, rows) -> values (draws,), NaN where none
CELLS = 4_000_000  # counts given to a draws function at once: 16 MB
ATTEMPTS = 100


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval; n cases (or patients), events of them positive; how it was made."""

    estimate: float
    low: float
    high: float
    n: int
    events: int
    how: str


def bootstrap(draw: Callable[[int], np.ndarray], draws: int, what: str) -> tuple[np.ndarray, int]:
    """Values of resamples, (draws,) or (rivals, draws), and how many had to be drawn again for want of a value.

    `draw` makes the values, (number,) or (rivals, number), of a number of resamples, NaN where there is none. Rivals share
    a resample, and it is drawn again for all where one has no value in it. `what` says in the error what was resampled.
    """
    values, again = draw(draws), 0
    for attempt in range(ATTEMPTS):
        lacking = np.flatnonzero(np.isnan(np.atleast_2d(values)).any(axis=0))
        if not lacking.size:
            return values, again
        if attempt < ATTEMPTS - 1:
            again += lacking.size
            values[..., lacking] = draw(lacking.size)
    raise NotComputable(f"{lacking.size} of {draws} draws of {what} had no value in {ATTEMPTS} attempts")


def ends(drawn: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The two ends of the interval of draws (draws,): their percentiles."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def patients_by_stratum(
    patients: Sequence[Hashable], strata: Sequence[Hashable] | None = None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Number of each row's patient (rows,), in the order of their names, and the numbers of each stratum's patients.

    `strata` (rows,) is what must keep its share in every draw (the event, the fold); a patient belongs to one.
    """
    patients = np.asarray(patients)
    strata = np.zeros(patients.shape, int) if strata is None else np.asarray(strata)
    if missing := int((pd.isna(patients) | pd.isna(strata)).sum()):
        raise ValueError(f"{missing} of {patients.size} rows lack a patient or a stratum; name it first")
    names, home = np.unique(patients, return_inverse=True)
    if names.size < 2:
        raise NotComputable(f"{names.size} patient: resampling patients needs two or more")
    levels, level = np.unique(strata, return_inverse=True)
    stratum = np.empty(names.size, int)
    stratum[home] = level
    if (torn := stratum[home] != level).any():
        raise ValueError(f"patient {patients[torn][0]} has rows in two strata; a patient belongs to one")
    return home, [np.flatnonzero(stratum == number) for number in range(levels.size)]


def draw_counts(
    patients: Sequence[Hashable],
    draws: int,
    seed: int | np.random.Generator = 0,
    strata: Sequence[Hashable] | None = None,
) -> np.ndarray:
    """How often each row is in each bootstrap draw, int32 (draws, rows); a patient's rows come, and stay away, together.

    A draw picks as many patients as there are, with replacement; with strata, within each of them. Equal seeds give
    equal draws whatever the order of the rows, and fewer draws are the first of more. Errors: `patients_by_stratum`.
    """
    home, members = patients_by_stratum(patients, strata)
    counts = np.empty((draws, home.max() + 1), np.int32)
    streams = np.random.default_rng(seed).spawn(len(members))
    for stratum, random in zip(members, streams, strict=True):
        picks = random.integers(stratum.size, size=(draws, stratum.size))
        picks += stratum.size * np.arange(draws)[:, None]
        drawn = np.bincount(picks.ravel(), minlength=draws * stratum.size)
        counts[:, stratum] = drawn.reshape(draws, stratum.size)
    return counts[:, home]


def evaluated(function: DrawsFunction, counts: np.ndarray) -> np.ndarray:
    """Draws function over blocks of draws, so that what it holds does not grow with their number: (draws,)."""
    blocks = np.array_split(counts, max(1, -(-counts.size // CELLS)))
    return np.concatenate([np.asarray(function(block), dtype=float) for block in blocks])


def patient_interval(
    draws_function: DrawsFunction,
    patients: Sequence[Hashable],
    *,
    events: int,
    n: int | None = None,
    draws: int = 1000,
    seed: int = 0,
    strata: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Interval:
    """Metric on all rows, with an interval from resampled patients.

    `draws_function` takes counts (draws, rows), how often each row is in each draw, and returns values (draws,), NaN where
    a draw has none: `functools.partial(classification.auc, labels, scores)`. The estimate is its value at counts of 1.
    `patients` and `strata` (rows,) as in `draw_counts`; `events` and `n` (by default the number of patients) are for the
    row of metrics.csv. `how` tells what was drawn, how many draws had no value and were drawn again, and when all draws
    were equal (an AUC of 1, say), which says nothing of how far off the truth may lie.
    """
    home, members = patients_by_stratum(patients, strata)
    estimate = float(evaluated(draws_function, np.ones((1, home.size), np.int32))[0])
    if np.isnan(estimate):
        raise NotComputable("the metric has no value on all the patients, so neither has its interval")
    random = np.random.default_rng(seed)

    def draw(number: int) -> np.ndarray:
        return evaluated(draws_function, draw_counts(patients, number, random, strata))

    drawn, again = bootstrap(draw, draws, "patients (draw within strata of the outcome, or gather more)")
    count = int(home.max()) + 1
    how = f"bootstrap of {count} patients"
    how += f" ({home.size} rows)" if home.size > count else ""
    how += f" within {len(members)} strata" if len(members) > 1 else ""
    how += f", {draws} draws, percentile"
    how += f"; {again} draws without a value redrawn" if again else ""
    how += "; every draw gave the same value" if np.ptp(drawn) == 0 else ""
    return Interval(estimate, *ends(drawn, level), count if n is None else n, events, how)


def paired_patient_difference(
    first: DrawsFunction, second: DrawsFunction, patients: Sequence[Hashable], **options
) -> Interval:
    """`patient_interval` of the first model's metric minus the second's on the same rows, both under the same draws.

    A draw in which either has no value is drawn again for both. estimate > 0: the first scores higher.
    """

    def difference(counts: np.ndarray) -> np.ndarray:
        return np.asarray(first(counts), float) - np.asarray(second(counts), float)

    paired = patient_interval(difference, patients, **options)
    return replace(paired, how=f"paired; {paired.how}")


def strata(fold: ArrayLike, event: ArrayLike) -> np.ndarray:
    """Name of each row's resampling stratum: its fold, and whether the event happened."""
    return np.array([f"{f}, {'event' if e else 'censored'}" for f, e in zip(fold, event, strict=True)])


def mean_over_folds(
    fold: ArrayLike, within: Callable[[np.ndarray], Sequence[DrawsFunction]]
) -> DrawsFunction:
    """Draws function that averages a metric over seeds, then over folds; NaN where a fold or seed has none.

    `fold` (n,) held out each row; `within` takes the row numbers of one fold and returns a draws function for each seed.
    """
    fold = np.asarray(fold)
    parts = []
    for name in dict.fromkeys(fold.tolist()):
        rows = np.flatnonzero(fold == name)
        parts.append((rows, list(within(rows))))

    def values(counts: np.ndarray) -> np.ndarray:
        by_fold = [np.mean([one(counts[:, rows]) for one in seeds], axis=0) for rows, seeds in parts]
        return np.mean(by_fold, axis=0)

    return values


def of_scores(metric: Callable, labels: np.ndarray, scores: np.ndarray, fold: ArrayLike) -> DrawsFunction:
    """Draws function of a metric of `classification` on labels (n,) and scores (seeds, n), as `mean_over_folds`."""
    return mean_over_folds(fold, lambda rows: [partial(metric, labels[rows], one[rows]) for one in scores])


def spatial_blocks(xy: ArrayLike, side: float) -> np.ndarray:
    """Block of neighbouring spots each spot belongs to, int (n,): squares of a grid laid over positions xy (n, 2).

    Neighbouring spots share tissue and are no independent observations; the bootstrap resamples these blocks, not
    spots. About five times the pitch is a usual side (in the unit of `xy`): wider than the distance over which labels
    agree, and still some tens of blocks a section.
    """
    xy = np.asarray(xy, dtype=float)
    if xy.ndim != 2 or xy.shape[1] != 2 or not np.isfinite(xy).all() or not side > 0:
        raise ValueError(f"positions must be finite, (n, 2), and the side above 0, got {xy.shape}, {side}")
    cell = np.floor((xy - xy.min(0)) / side).astype(int)
    return np.unique(cell[:, 1] * (cell[:, 0].max() + 1) + cell[:, 0], return_inverse=True)[1]


@dataclass(frozen=True, eq=False)
class ScoredSection:
    """One section's spots (n,) with a label, a score and a spatial block, ready for a metric.

    `labels` are 1 cancer, 0 other, no NaN. `scores` (n,) or (seeds, n), higher = more cancer-like, may be 0/1 calls or
    probabilities, as the metric wants. `undetermined` spots, whose class nobody knows, were left out and are reported with
    every result; their scores are kept for a cut that needs no label and is fitted on every spot, as it would be in use.
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
        if labels.ndim != 1 or not scores.shape[1] == labels.size == np.size(self.blocks):
            raise ValueError(f"{self.name}: labels, scores and blocks do not describe the same spots")
        if labels.size == 0 or np.isnan(labels).any():
            unknown = int(np.isnan(labels).sum())
            raise ValueError(f"{self.name}: {unknown} of {labels.size} spots are undetermined; see of_spots")
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "blocks", np.unique(self.blocks, return_inverse=True)[1])

    @property
    def name(self) -> str:
        """Section and patient, for messages."""
        return f"section {self.section} of patient {self.patient}"

    @classmethod
    def of_spots(
        cls, patient: str, section: str, labels: ArrayLike, scores: ArrayLike, xy: ArrayLike, side: float
    ) -> "ScoredSection":
        """Section from all its spots (n,) at positions xy (n, 2), without undetermined ones (label NaN), which are counted;
        `side` is that of a spatial block, in the unit of xy.
        """
        labels, scores = np.asarray(labels, dtype=float), np.asarray(scores, dtype=float)
        known, blocks = ~np.isnan(labels), spatial_blocks(xy, side)
        spots = labels[known], scores[..., known], blocks[known]
        return cls(patient, section, *spots, int((~known).sum()), scores[..., ~known])

    def every_score(self) -> np.ndarray:
        """Scores of all spots, undetermined ones last: (seeds, n + undetermined)."""
        if self.undetermined_scores is None:
            return self.scores
        return np.hstack([self.scores, np.atleast_2d(self.undetermined_scores)])

    def with_scores(self, scores: ArrayLike) -> "ScoredSection":
        """The same labelled spots with other scores, calls or probabilities: (n,) or (seeds, n)."""
        return replace(self, scores=scores, undetermined_scores=None)


def by_patient(sections: Sequence[ScoredSection]) -> dict[str, list[ScoredSection]]:
    """Sections of each patient, both in the order of their names; ValueError for none, or one given twice."""
    if not sections:
        raise ValueError("no section was given, so there is nothing to average")
    patients: dict[str, list[ScoredSection]] = {}
    for section in sorted(sections, key=lambda section: (section.patient, section.section)):
        of_patient = patients.setdefault(section.patient, [])
        if of_patient and of_patient[-1].section == section.section:
            raise ValueError(f"{section.name} was given twice")
        of_patient.append(section)
    return patients


def section_draws(
    rivals: Sequence[Sequence[ScoredSection]], metric: str, draws: int = 1000, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Metric in each draw of patients, and of spatial blocks within every patient drawn: (rivals, draws); and redraws.

    A draw picks as many patients as there are, with replacement; each time a patient is picked, blocks of each of its
    sections are resampled afresh. The metric is taken per section, then averaged over seeds, sections, and patients.
    One patient: its blocks only. Rivals hold the same spots under other scores, and see the same draws. Equal seeds give
    equal draws, whatever the order of sections and of spots.

    References
    ----------
    Davison and Hinkley, Bootstrap Methods and their Application (1997), 3.8 (two levels) and 8.3 (blocks).
    """
    grouped = [by_patient(sections) for sections in rivals]
    streams = np.random.SeedSequence(seed).spawn(1 + len(rivals[0]))
    picks = np.random.default_rng(streams.pop(0)).integers(len(grouped[0]), size=(draws, len(grouped[0])))
    values, redraws = np.empty((len(rivals), *picks.shape)), 0
    for number, patient in enumerate(grouped[0]):
        picked = picks == number
        by_section = []
        for same in zip(*(group[patient] for group in grouped), strict=True):
            draw = partial(_draw_blocks, same, METRICS[metric], np.random.default_rng(streams.pop(0)))
            what = f"the spatial blocks of {same[0].name} (take smaller ones), {metric},"
            drawn, again = bootstrap(draw, int(picked.sum()), what)
            by_section.append(drawn)
            redraws += again
        values[:, picked] = np.mean(by_section, axis=0)
    return values.mean(axis=2), redraws


def _draw_blocks(
    rivals: Sequence[ScoredSection], metric: Callable, random: np.random.Generator, draws: int
) -> np.ndarray:
    """Metric, mean over seeds, of one section under each rival's scores, in draws of its blocks: (rivals, draws)."""
    blocks, count = rivals[0].blocks, int(rivals[0].blocks.max()) + 1
    counts = random.multinomial(count, np.full(count, 1 / count), size=draws)
    values = []
    for part in np.array_split(counts, max(1, -(-draws * blocks.size // CELLS))):
        weights = part[:, blocks].astype(float)
        values.append([np.mean([metric(r.labels, s, weights) for s in r.scores], axis=0) for r in rivals])
    return np.concatenate(values, axis=1)


def interval(
    sections: Sequence[ScoredSection],
    metric: str,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    left_out: Mapping[str, str] | None = None,
    minus: Sequence[ScoredSection] | None = None,
) -> Interval:
    """Metric averaged over patients, with an interval of the two-level bootstrap (`section_draws`).

    The metric, a name in `classification.METRICS`, is taken per section and seed, averaged over seeds, within the patient,
    and over patients; the sections' `scores` hold what it wants: scores (auc, ap), 0/1 calls (f1, ...; the cut is held
    fixed over the draws), or probabilities (brier). With `minus`, the same spots under another model's scores, the other's
    is taken off (see `comparison.paired_difference`). Sections without a value are left out and named in `how` with the
    reason, as those in `left_out`; NotComputable where none has one. With few patients the interval is approximate and
    somewhat short, as every cluster bootstrap is.
    """
    reasons, usable, rivals = dict(left_out or {}), [], [sections] if minus is None else [sections, minus]
    values: dict[str, list[float]] = {}
    for same in zip(*(chain(*by_patient(rival).values()) for rival in rivals), strict=True):
        try:
            each = [np.mean([METRICS[metric](s.labels, row) for row in s.scores]) for s in same]
        except NotComputable as reason:
            reasons[f"{same[0].section} of {same[0].patient}"] = str(reason)
            continue
        usable.append(same)
        values.setdefault(same[0].patient, []).append(each[0] - sum(each[1:]))
    if not usable:
        raise NotComputable("; ".join(f"section {name}: {reason}" for name, reason in reasons.items()))
    estimate = float(np.mean([np.mean(of_patient) for of_patient in values.values()]))
    drawn, again = section_draws(list(zip(*usable, strict=True)), metric, draws, seed)
    low, high = ends(drawn[0] - drawn[1:].sum(axis=0), level)
    first = [same[0] for same in usable]
    n, events = (int(sum(part(section.labels) for section in first)) for part in (np.size, np.sum))
    return Interval(estimate, low, high, n, events, _described(first, reasons, draws, again))


def _described(sections: Sequence[ScoredSection], reasons: Mapping[str, str], draws: int, again: int) -> str:
    """One line on what an interval averages over, what was resampled, and what was left out."""
    patients, seeds = len({section.patient for section in sections}), len(sections[0].scores)
    mean = f"mean over {patients} patients" + (f" ({len(sections)} sections)" * (len(sections) > patients))
    levels = "patients and spatial blocks within"
    if patients == 1:
        mean = f"one patient, {len(sections)} section{'s' if len(sections) > 1 else ''}"
        levels = "spatial blocks only, so it says nothing of other patients"
    undetermined = sum(section.undetermined for section in sections)
    parts = [
        mean,
        f"mean over {seeds} seeds" if seeds > 1 else "",
        f"bootstrap of {levels}, {draws} draws",
        f"{again} section draws without a value redrawn" if again else "",
        f"{undetermined} undetermined spots left out" if undetermined else "",
        *(f"section {name} left out: {reason}" for name, reason in reasons.items()),
    ]
    return "; ".join(part for part in parts if part)
