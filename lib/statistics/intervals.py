"""The bootstrap: of patients, and of spots within sections within patients.

How folds, sections and seeds become one number, stated here, once, for every study:

- A metric is taken within a fold (or a section): scores of models that were trained apart are not comparable.
- Seeds are averaged within the fold: the mean of the metric, never the metric of a mean score.
- Folds are averaged with equal weight, sections within their patient, patients with equal weight. A fold in which the
  metric has no value makes the whole not computable: a mean over the lucky folds would be another quantity.
- Patients are resampled within their fold, events and censored apart, so every draw keeps each fold's size; spots are
  resampled in blocks of neighbours within every patient drawn.
- A draw in which the metric has no value is drawn again and counted, never scored 0.

Both kinds of draw meet in `bootstrap`, which draws again what has no value, and in `ends`, which makes an interval of
the draws.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

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
    """Values of resamples, those without a value drawn again.

    Parameters
    ----------
    draw : callable
        Number of resamples -> their values, (number,) or (rivals, number), NaN where there is none. Rivals share a
        resample, and it is drawn again for all where one has no value in it.
    draws : int
    what : str
        For the error: what was resampled, and what helps.

    Returns
    -------
    values : float array (draws,) or (rivals, draws)
    redrawn : int
        Resamples that had to be drawn again.
    """
    values = np.atleast_2d(draw(draws)).astype(float)
    redrawn, lacking = 0, np.flatnonzero(np.isnan(values).any(axis=0))
    for _ in range(ATTEMPTS - 1):
        if not lacking.size:
            break
        redrawn += lacking.size
        values[:, lacking] = draw(lacking.size)
        lacking = lacking[np.isnan(values[:, lacking]).any(axis=0)]
    if lacking.size:
        raise NotComputable(f"{lacking.size} of {draws} draws had no value in {ATTEMPTS} attempts: {what}")
    return values, redrawn


def ends(drawn: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The two ends of the interval of draws (draws,): their percentiles."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level:g}; 0.95 is usual")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def patients_by_stratum(
    patients: Sequence[Hashable], strata: Sequence[Hashable] | None = None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Number of each row's patient (rows,), and the numbers of the patients in each stratum, in the order of the strata.

    Parameters
    ----------
    patients : sequence (rows,)
        Patient of each row. Patients are numbered in the order of their names, so the order of the rows changes no draw.
    strata : sequence (rows,), optional
        What must keep its share in every draw (the event, the fold). None: one stratum.

    Raises
    ------
    ValueError
        A row without a patient or stratum, lengths that differ, or a patient with rows in two strata.
    NotComputable
        Fewer than two patients.
    """
    patients = np.asarray(patients)
    strata = np.zeros(patients.shape, int) if strata is None else np.asarray(strata)
    if patients.ndim != 1 or patients.shape != strata.shape:
        raise ValueError(
            f"patients have shape {patients.shape}, strata {strata.shape}; two vectors of one length are needed"
        )
    if missing := int((pd.isna(patients) | pd.isna(strata)).sum()):
        raise ValueError(f"{missing} of {patients.size} rows lack a patient or a stratum; name it first")
    names, home = np.unique(patients, return_inverse=True)
    if names.size < 2:
        raise NotComputable(f"{names.size} patient: resampling patients needs two or more")
    levels, level = np.unique(strata, return_inverse=True)
    stratum = np.empty(names.size, int)
    stratum[home] = level
    if (torn := stratum[home] != level).any():
        name = patients[torn][0]
        both = ", ".join(map(str, np.unique(strata[patients == name])))
        raise ValueError(f"patient {name} has rows in the strata {both}; a patient belongs to one stratum")
    return home, [np.flatnonzero(stratum == number) for number in range(levels.size)]


def draw_counts(
    patients: Sequence[Hashable],
    draws: int,
    seed: int | np.random.Generator = 0,
    strata: Sequence[Hashable] | None = None,
) -> np.ndarray:
    """How often each row is in each bootstrap draw, int32 (draws, rows); a patient's rows come, and stay away, together.

    A draw picks as many patients as there are, with replacement; with strata, within each of them. Equal seeds give
    equal draws, and fewer draws are the first of more. Errors: `patients_by_stratum`.
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
    values = np.concatenate([np.asarray(function(block), dtype=float) for block in blocks])
    if values.shape != (len(counts),):
        raise ValueError(f"a draws function must give one value a draw, {len(counts)}, gave {values.shape}")
    return values


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

    Parameters
    ----------
    draws_function : callable
        Takes counts (draws, rows), how often each row is in each draw, and returns values (draws,), NaN where a draw has
        none: `functools.partial(classification.auc, labels, scores)`, or of a plain function
        `looped(lambda rows: f1(labels[rows], called[rows]))`. The estimate is its value at counts of 1.
    patients, strata : sequences (rows,)
        As in `draw_counts`; strata of the event keep its number in every draw.
    events, n : int
        For the row of metrics.csv; n is by default the number of patients.
    draws, seed
        Number of draws (BCa wants 1,000 or more) and their seed.
    level, method
        As in `ends`.

    Returns
    -------
    Interval
        `how` tells what was drawn, how many draws had no value and were drawn again, and when all draws were equal (an
        AUC of 1, say), which says nothing of how far off the truth may lie.

    Raises
    ------
    NotComputable
        No value on all rows or in any draw, fewer than two patients, or BCa without a correction.
    """
    home, members = patients_by_stratum(patients, strata)
    estimate = float(evaluated(draws_function, np.ones((1, home.size), np.int32))[0])
    if np.isnan(estimate):
        raise NotComputable("the metric has no value on all the patients, so neither has its interval")
    random = np.random.default_rng(seed)
    (drawn,), redrawn = bootstrap(
        lambda number: evaluated(draws_function, draw_counts(patients, number, random, strata)),
        draws,
        "draw within strata of the outcome, or gather more patients",
    )
    low, high = ends(drawn, level)
    count = int(home.max()) + 1
    how = f"bootstrap of {count} patients"
    how += f" ({home.size} rows)" if home.size > count else ""
    how += f" within {len(members)} strata" if len(members) > 1 else ""
    how += f", {draws} draws, percentile"
    how += f"; {redrawn} draws without a value redrawn" if redrawn else ""
    how += "; every draw gave the same value" if np.ptp(drawn) == 0 else ""
    return Interval(estimate, low, high, count if n is None else n, events, how)


def paired_patient_difference(
    draws_function_a: DrawsFunction,
    draws_function_b: DrawsFunction,
    patients: Sequence[Hashable],
    **options,
) -> Interval:
    """Metric of model a minus that of model b on the same rows, both under the same draws; as `patient_interval`.

    A draw in which either has no value is drawn again for both. estimate > 0: a scores higher.
    """

    def difference(counts: np.ndarray) -> np.ndarray:
        return np.asarray(draws_function_a(counts), float) - np.asarray(draws_function_b(counts), float)

    found = patient_interval(difference, patients, **options)
    return replace(found, how=f"paired; {found.how}")


def strata(fold: ArrayLike, event: ArrayLike) -> np.ndarray:
    """Name of each row's resampling stratum: its fold, and whether the event happened."""
    return np.array([f"{f}, {'event' if e else 'censored'}" for f, e in zip(fold, event, strict=True)])


def mean_over_folds(
    fold: ArrayLike, within: Callable[[np.ndarray], Sequence[DrawsFunction]]
) -> DrawsFunction:
    """Draws function that averages a metric over seeds, then over folds; NaN where a fold or seed has none.

    Parameters
    ----------
    fold : array (n,)
        Fold in which each row was held out.
    within : callable
        Row numbers of one fold -> a draws function for each seed, on those rows.
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


def spatial_blocks(xy: ArrayLike, side: float) -> np.ndarray:
    """Block of neighbouring spots each spot belongs to, int (n,): squares of a grid laid over positions xy (n, 2).

    Neighbouring spots share tissue and are no independent observations; the bootstrap resamples these blocks, not
    spots. About five times the pitch is a usual side (in the unit of `xy`): wider than the distance over which labels
    agree, and still some tens of blocks a section.
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
    """One section's spots with a label, a score and a spatial block, ready for a metric.

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
        if labels.ndim != 1 or scores.ndim != 2 or not scores.shape[1] == labels.size == blocks.size:
            raise ValueError(
                f"{self.name}: labels {labels.shape}, scores {np.shape(self.scores)} and blocks {blocks.shape} "
                "do not describe the same spots"
            )
        if labels.size == 0:
            raise ValueError(f"{self.name}: no spot has a label, so nothing can be measured on it")
        if np.isnan(labels).any():
            raise ValueError(
                f"{self.name}: {int(np.isnan(labels).sum())} spots are undetermined (label NaN); "
                "build the section with ScoredSection.of_spots, which leaves them out and counts them"
            )
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "blocks", np.unique(blocks, return_inverse=True)[1])

    @property
    def name(self) -> str:
        """Section and patient, for messages."""
        return f"section {self.section} of patient {self.patient}"

    @classmethod
    def of_spots(
        cls,
        patient: str,
        section: str,
        labels: ArrayLike,
        scores: ArrayLike,
        xy: ArrayLike,
        side: float,
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


def section_value(section: ScoredSection, metric: str) -> float:
    """Metric of one section by its name in `classification.METRICS`, mean over its seeds; NotComputable as there."""
    if metric not in METRICS:
        raise ValueError(f'unknown metric "{metric}"; known are {", ".join(METRICS)}')
    return float(np.mean([METRICS[metric](section.labels, scores) for scores in section.scores]))


def section_draws(
    rivals: Sequence[Sequence[ScoredSection]], metric: str, draws: int = 1000, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Resample patients, and spatial blocks within every patient drawn; take the metric each time.

    A draw picks as many patients as there are, with replacement; each time a patient is picked, blocks of each of its
    sections are resampled afresh. The metric is taken per section, then averaged over seeds, sections, and patients.
    One patient: its blocks only.

    Parameters
    ----------
    rivals : sequence of sequences of ScoredSection
        One list of sections, or several that hold the same spots under other scores; all see the same draws.
    seed : int
        Equal seeds give equal draws, whatever the order of sections and of spots.

    Returns
    -------
    values : float array (rivals, draws)
    redrawn : int
        Section resamples that had to be drawn again.

    References
    ----------
    Davison and Hinkley, Bootstrap Methods and their Application (1997), 3.8 (two levels) and 8.3 (blocks).
    """
    grouped = [by_patient(sections) for sections in rivals]
    streams = np.random.SeedSequence(seed).spawn(1 + len(rivals[0]))
    picks = np.random.default_rng(streams.pop(0)).integers(len(grouped[0]), size=(draws, len(grouped[0])))
    values, redrawn = np.empty((len(rivals), *picks.shape)), 0
    for number, patient in enumerate(grouped[0]):
        picked = picks == number
        by_section = []
        for same in zip(*(group[patient] for group in grouped), strict=True):
            random, count = np.random.default_rng(streams.pop(0)), int(same[0].blocks.max()) + 1

            def draw(number: int, same=same, random=random, count=count) -> np.ndarray:
                blocks = random.multinomial(count, np.full(count, 1 / count), size=number)
                parts = np.array_split(blocks, max(1, -(-number * same[0].labels.size // CELLS)))
                drawn = [[_weighted(rival, metric, part) for rival in same] for part in parts]
                return np.concatenate(drawn, axis=1)

            what = f"{same[0].name}, {metric} of its {count} spatial blocks; take smaller blocks"
            drawn, again = bootstrap(draw, int(picked.sum()), what)
            by_section.append(drawn)
            redrawn += again
        values[:, picked] = np.mean(by_section, axis=0)
    return values.mean(axis=2), redrawn


def _weighted(section: ScoredSection, metric: str, blocks: np.ndarray) -> np.ndarray:
    """Metric of one section in each draw of its blocks, mean over seeds, NaN where a seed has none: (draws,)."""
    weights = blocks[:, section.blocks].astype(float)
    return np.mean([METRICS[metric](section.labels, scores, weights) for scores in section.scores], axis=0)


def computable(
    sections: Sequence[ScoredSection], metric: str, left_out: Mapping[str, str] | None = None
) -> tuple[list[ScoredSection], dict[str, str]]:
    """Sections in which a metric has a value, by patient and name, and why the others have none.

    NotComputable where no section has a value; the message gives each one's reason.
    """
    usable, reasons = [], dict(left_out or {})
    for section in sum(by_patient(sections).values(), []):
        try:
            section_value(section, metric)
            usable.append(section)
        except NotComputable as reason:
            reasons[f"{section.section} of {section.patient}"] = str(reason)
    if not usable:
        raise NotComputable("; ".join(f"section {name}: {reason}" for name, reason in reasons.items()))
    return usable, reasons


def described(sections: Sequence[ScoredSection], reasons: Mapping[str, str], draws: int, redrawn: int) -> str:
    """One line on what an interval averages over, what was resampled, and what was left out."""
    patients, seeds = len({section.patient for section in sections}), len(sections[0].scores)
    if patients > 1:
        mean = f"mean over {patients} patients"
        mean += f" ({len(sections)} sections)" if len(sections) > patients else ""
        levels = "patients and spatial blocks within"
    else:
        mean = f"one patient, {len(sections)} section{'s' if len(sections) > 1 else ''}"
        levels = "spatial blocks only, so it says nothing of other patients"
    undetermined = sum(section.undetermined for section in sections)
    parts = [
        mean,
        f"mean over {seeds} seeds" if seeds > 1 else "",
        f"bootstrap of {levels}, {draws} draws",
        f"{redrawn} section draws without a value redrawn" if redrawn else "",
        f"{undetermined} undetermined spots left out" if undetermined else "",
        *(f"section {name} left out: {reason}" for name, reason in reasons.items()),
    ]
    return "; ".join(part for part in parts if part)


def interval(
    sections: Sequence[ScoredSection],
    metric: str,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    left_out: Mapping[str, str] | None = None,
) -> Interval:
    """Metric averaged over patients, with an interval of the two-level bootstrap (`section_draws`).

    The metric is taken per section and seed, averaged over seeds, within the patient, and over patients. With few
    patients the interval is approximate and somewhat short, as every cluster bootstrap is.

    Parameters
    ----------
    sections : sequence of ScoredSection
        `scores` hold what the metric wants: scores (auc, ap), 0/1 calls (f1, sensitivity, ...), or probabilities
        (brier). A cut is part of the call: it is held fixed over the draws.
    metric : str
        A name in `classification.METRICS`.
    left_out : mapping of section to reason, optional
        Sections left out before the call, to be told in `how`.

    Raises
    ------
    NotComputable
        No section has a value. Where some have none, they are left out and `how` names each with its reason.
    """
    return sections_interval([sections], metric, draws, seed, level, left_out)


def sections_interval(
    rivals: Sequence[Sequence[ScoredSection]],
    metric: str,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    left_out: Mapping[str, str] | None = None,
) -> Interval:
    """As `interval`, of one model's sections, or of one model's metric minus another's on the same sections."""
    usable, reasons = zip(*(computable(sections, metric, left_out) for sections in rivals), strict=True)
    reasons = {name: reason for each in reversed(reasons) for name, reason in each.items()}
    shared = set.intersection(*({section.name for section in sections} for sections in usable))
    if not shared:
        raise NotComputable("no section has a value under both models; " + "; ".join(reasons.values()))
    rivals = [[section for section in sections if section.name in shared] for sections in usable]
    signs = (1, -1)[: len(rivals)]
    values: dict[str, list[float]] = {}
    for same in zip(*rivals, strict=True):
        value = sum(sign * section_value(section, metric) for sign, section in zip(signs, same, strict=True))
        values.setdefault(same[0].patient, []).append(value)
    estimate = float(np.mean([np.mean(of_patient) for of_patient in values.values()]))
    drawn, redrawn = section_draws(rivals, metric, draws, seed)
    low, high = ends(signs @ drawn, level)
    n = sum(section.labels.size for section in rivals[0])
    events = int(sum(section.labels.sum() for section in rivals[0]))
    return Interval(estimate, low, high, n, events, described(rivals[0], reasons, draws, redrawn))
