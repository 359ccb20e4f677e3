"""Metrics of one section under many weightings of its spots at once: what a bootstrap draw needs.

A draw of spatial blocks is a whole-number weight for every spot, so scores are sorted once and every
draw is a row of a cumulative sum. Each function takes labels (n,), scores (n,) and weights (draws, n),
and returns (draws,), NaN where the metric has no value in that draw. With all weights 1 each equals its
namesake in `classification` and `calibration`.

A section whose spots carry a label, a score and a spatial block.

Two-level bootstrap: patients, and blocks of neighbouring spots within a patient's sections.

Resamples of patients: how often each row of data is in each draw.

Ends of a bootstrap interval corrected for bias and skewness (BCa).

An estimate with its bootstrap interval.

An estimate over patients, or the difference of two, with its bootstrap interval.

How folds and seeds become one number. Stated here, once, for every study.

- A metric is taken within a fold: scores of models that were trained apart are not comparable.
- Seeds are averaged within the fold: the mean of the metric, never the metric of a mean score.
- Folds are averaged with equal weight, as the survival papers print it. A fold in which the metric has no value
  makes the whole not computable: a mean over the lucky folds would be another quantity.
- Patients are resampled within their fold, events and censored apart; so every draw keeps each fold's size.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from lib.statistics import calibration, classification
from lib.statistics.classification import NotComputable


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _by_score(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of cancer and of other spots at each distinct score, lowest first: two (draws, scores)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    sorted_weights = weights[:, order]
    cancer = sorted_weights * labels[order]
    return np.add.reduceat(cancer, starts, axis=1), np.add.reduceat(sorted_weights - cancer, starts, axis=1)


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve; a tie counts half."""
    cancer, other = _by_score(labels, scores, weights)
    below = np.cumsum(other, axis=1) - 0.5 * other
    return _share((cancer * below).sum(1), cancer.sum(1) * other.sum(1))


def average_precision(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision without interpolation."""
    cancer, other = (side[:, ::-1] for side in _by_score(labels, scores, weights))
    found = np.cumsum(cancer, axis=1)
    precision = np.nan_to_num(_share(found, found + np.cumsum(other, axis=1)))  # nothing there adds nothing
    value = _share((cancer * precision).sum(1), cancer.sum(1))
    return np.where(other.sum(1) > 0, value, np.nan)


def prevalence(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of cancer."""
    return _share(weights @ labels, weights.sum(1))


def sensitivity(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of cancer called cancer."""
    return _share(weights @ (labels * predicted), weights @ labels)


def specificity(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the rest not called cancer."""
    return _share(weights @ ((1 - labels) * (1 - predicted)), weights @ (1 - labels))


def precision(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of cancer among what is called cancer."""
    return _share(weights @ (labels * predicted), weights @ predicted)


def npv(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the rest among what is not called cancer (negative predictive value)."""
    return _share(weights @ ((1 - labels) * (1 - predicted)), weights @ (1 - predicted))


def accuracy(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share called rightly."""
    return _share(weights @ (labels == predicted).astype(float), weights.sum(1))


def f1(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and sensitivity."""
    cancer = weights @ labels
    value = _share(2 * (weights @ (labels * predicted)), cancer + weights @ predicted)
    return np.where(cancer > 0, value, np.nan)


def brier(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean squared difference of probability and outcome."""
    return _share(weights @ (probabilities - labels) ** 2, weights.sum(1))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "auc": auc,
    "ap": average_precision,
    "prevalence": prevalence,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "precision": precision,
    "ppv": precision,
    "npv": npv,
    "accuracy": accuracy,
    "f1": f1,
    "brier": brier,
}


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
        return np.mean([METRICS[metric](section.labels, row, weights) for row in section.scores], 0)
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
        A name in `METRICS`, or `metric(labels, scores)` that raises NotComputable (slow).
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
    if isinstance(metric, str) and metric not in METRICS:
        raise ValueError(f'unknown metric "{metric}"; known are {", ".join(METRICS)}')
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


DrawsFunction = Callable[[np.ndarray], np.ndarray]  # counts (draws, rows) -> values (draws,), NaN where none
CELLS_DRAWS = 4_000_000  # counts given to a draws function at once: 16 MB


def patients_by_stratum(
    patients: Sequence[Hashable], strata: Sequence[Hashable] | None = None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Number of each row's patient, and the numbers of the patients in each stratum.

    Parameters
    ----------
    patients : sequence (rows,)
        Patient of each row. Patients are numbered in the order of their names, so the order of the rows
        changes no draw.
    strata : sequence (rows,), optional
        What must keep its share in every draw (the event, the fold). None: one stratum.

    Returns
    -------
    home : int array (rows,)
    members : list of int arrays
        One a stratum, in the order of the strata's names.

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
    own = np.empty(names.size, int)
    own[home] = level
    if (torn := own[home] != level).any():
        name = patients[torn][0]
        found = ", ".join(str(stratum) for stratum in np.unique(strata[patients == name]))
        raise ValueError(f"patient {name} has rows in the strata {found}; a patient belongs to one stratum")
    return home, [np.flatnonzero(own == number) for number in range(levels.size)]


def draw_counts(
    patients: Sequence[Hashable],
    draws: int,
    seed: int | np.random.Generator = 0,
    strata: Sequence[Hashable] | None = None,
) -> np.ndarray:
    """How often each row is in each bootstrap draw; a patient's rows come, and stay away, together.

    A draw picks as many patients as there are, with replacement; with strata, within each of them.

    Parameters
    ----------
    patients, strata
        As `patients_by_stratum`.
    draws : int
    seed : int or Generator
        Equal seeds give equal draws, and fewer draws are the first of more.

    Returns
    -------
    int32 array (draws, rows)

    Raises
    ------
    ValueError, NotComputable
        As `patients_by_stratum`.
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


def looped(function: Callable[[np.ndarray], float]) -> DrawsFunction:
    """Draws function of a plain one: slow, for metrics without a vectorised version.

    Parameters
    ----------
    function : callable
        Takes row numbers, some of them repeated, and returns the metric on those rows; where it raises
        NotComputable the draw has no value (NaN).
    """

    def values(counts: np.ndarray) -> np.ndarray:
        found = np.full(len(counts), np.nan)
        for draw, count in enumerate(counts):
            try:
                found[draw] = function(np.repeat(np.arange(count.size), count))
            except NotComputable:
                continue
        return found

    return values


def evaluated(function: DrawsFunction, counts: np.ndarray) -> np.ndarray:
    """Draws function over blocks of draws, so that what it holds does not grow with their number: (draws,)."""
    blocks = np.array_split(counts, max(1, -(-counts.size // CELLS_DRAWS)))
    values = np.concatenate([np.asarray(function(block), dtype=float) for block in blocks])
    if values.shape != (len(counts),):
        raise ValueError(f"a draws function must give one value a draw, {len(counts)}, gave {values.shape}")
    return values


def without_each(
    function: DrawsFunction, home: np.ndarray, members: Iterable[np.ndarray]
) -> list[np.ndarray]:
    """Jackknife: the value without each patient, one array a stratum; arguments as `patients_by_stratum` gives.

    Raises
    ------
    NotComputable
        Without some patient there is no value.
    """
    found = []
    for stratum in members:
        blocks = np.array_split(stratum, -(-stratum.size * home.size // CELLS_DRAWS))
        left = [evaluated(function, (home != block[:, None]).astype(np.int32)) for block in blocks]
        found.append(np.concatenate(left))
    if missing := int(np.isnan(np.concatenate(found)).sum()):
        raise NotComputable(
            f"without one patient the metric has no value, for {missing} patients, so BCa has no "
            "acceleration: take the percentile interval"
        )
    return found


def acceleration(jackknife: Sequence[np.ndarray]) -> float:
    """A sixth of the skewness of the estimate, from its values without one patient each.

    Parameters
    ----------
    jackknife : sequence of arrays
        One a stratum: the estimate without each of the stratum's patients. A stratum of one patient says
        nothing of spread and adds nothing.

    Returns
    -------
    float
        0 where no patient changes the estimate.

    References
    ----------
    Efron, J Am Stat Assoc 82:171 (1987), doi:10.1080/01621459.1987.10478410; for several samples Davison
    and Hinkley, Bootstrap Methods and their Application (1997), 5.3.
    """
    influence = [(values.size - 1) * (values.mean() - values) / values.size for values in jackknife]
    joined = np.concatenate(influence)
    variance = (joined**2).sum()
    return float((joined**3).sum() / (6 * variance**1.5)) if variance > 0 else 0.0


def bca_ends(
    drawn: np.ndarray, estimate: float, jackknife: Sequence[np.ndarray], level: float = 0.95
) -> tuple[float, float]:
    """Ends of the BCa interval.

    Parameters
    ----------
    drawn : array (draws,)
        The bootstrap values.
    estimate : float
        The value on the data themselves.
    jackknife : sequence of arrays
        As `acceleration`.
    level : float
        In (0, 1).

    Raises
    ------
    NotComputable
        Every draw lies on one side of the estimate, or the correction runs past the ends.

    References
    ----------
    Efron, J Am Stat Assoc 82:171 (1987), doi:10.1080/01621459.1987.10478410.
    """
    below = ((drawn < estimate).mean() + (drawn <= estimate).mean()) / 2
    if below in (0, 1):
        raise NotComputable(
            f"every one of {drawn.size} draws lies {'above' if below == 0 else 'below'} the estimate "
            f"{estimate:.4g}, so BCa has no bias correction: take more draws, or the percentile interval"
        )
    bias, skew = ndtri(below), acceleration(jackknife)
    wanted = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
    if (skew * wanted >= 1).any():
        raise NotComputable(
            f"the acceleration {skew:.3g} is too large for a BCa interval: take the percentile interval"
        )
    low, high = np.quantile(drawn, ndtr(bias + wanted / (1 - skew * wanted)))
    return float(low), float(high)


__all__ = ["Interval", "ScoredSection", "bootstrap", "interval", "spatial_blocks"]


@dataclass(frozen=True)
class Interval:
    """An estimate and the two ends of its percentile interval.

    Attributes
    ----------
    estimate, low, high : float
        Mean over patients, and the ends.
    n, events : int
        Spots and cancer spots that entered.
    how : str
        What was averaged and resampled, what was left out and why.
    """

    estimate: float
    low: float
    high: float
    n: int
    events: int
    how: str


def computable(
    sections: Sequence[ScoredSection], metric: Metric, left_out: Mapping[str, str] | None = None
) -> tuple[list[ScoredSection], list[list[float]], dict[str, str]]:
    """Sections in which a metric has a value, those values by patient, and why the others have none.

    Raises
    ------
    NotComputable
        No section has a value; the message gives each one's reason.
    """
    kept, values, reasons = [], [], dict(left_out or {})
    for own in by_patient(sections).values():
        found = []
        for section in own:
            try:
                found.append(section_value(section, metric))
                kept.append(section)
            except NotComputable as reason:
                reasons[f"{section.section} of {section.patient}"] = str(reason)
        if found:
            values.append(found)
    if not kept:
        raise NotComputable("; ".join(f"section {name}: {reason}" for name, reason in reasons.items()))
    return kept, values, reasons


def described(sections: Sequence[ScoredSection], reasons: Mapping[str, str], draws: int, redrawn: int) -> str:
    """One line on what an interval averages over, what was resampled, and what was left out."""
    patients = len({section.patient for section in sections})
    seeds = len(sections[0].scores)
    if patients > 1:
        mean = f"mean over {patients} patients"
        mean += f" ({len(sections)} sections)" if len(sections) > patients else ""
        levels = "patients and spatial blocks within"
    else:
        mean = f"one patient, {len(sections)} section{'s' if len(sections) > 1 else ''}"
        levels = "spatial blocks only, so it says nothing of other patients"
    parts = [mean, f"mean over {seeds} seeds" if seeds > 1 else "", f"bootstrap of {levels}, {draws} draws"]
    parts.append(f"{redrawn} section draws without a value redrawn" if redrawn else "")
    undetermined = sum(section.undetermined for section in sections)
    parts.append(f"{undetermined} undetermined spots left out" if undetermined else "")
    parts += [f"section {name} left out: {reason}" for name, reason in reasons.items()]
    return "; ".join(part for part in parts if part)


def interval(
    sections: Sequence[ScoredSection],
    metric: Metric,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    left_out: Mapping[str, str] | None = None,
) -> Interval:
    """Metric averaged over patients, with a percentile interval of the two-level bootstrap.

    The metric is taken per section and seed, averaged over seeds, within the patient, and over patients.
    With few patients the interval is approximate and somewhat short, as every cluster bootstrap is.

    Parameters
    ----------
    sections : sequence of ScoredSection
        `scores` hold what the metric wants: scores (auc, ap), 0/1 calls (f1, sensitivity, ...), or
        probabilities (brier). A cut is part of the call: it is held fixed over the draws.
    metric : str or callable
        See `bootstrap`.
    draws, seed, level
        Bootstrap draws, their seed, and the interval's level in (0, 1).
    left_out : mapping of section to reason, optional
        Sections left out before the call, to be told in `how`.

    Returns
    -------
    Interval

    Raises
    ------
    NotComputable
        No section has a value. Where some have none, they are left out and `how` names each with its reason.
    """
    kept, values, reasons = computable(sections, metric, left_out)
    drawn, redrawn = bootstrap([kept], metric, draws, seed)
    low, high = np.quantile(drawn[0], [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        estimate=mean_over_patients(values),
        low=float(low),
        high=float(high),
        n=sum(section.labels.size for section in kept),
        events=int(sum(section.labels.sum() for section in kept)),
        how=described(kept, reasons, draws, redrawn),
    )


__all___of_patients = ["draw_counts", "looped", "paired_patient_difference", "patient_interval"]

ATTEMPTS_PATIENTS = 100


def _drawn(
    function: DrawsFunction,
    patients: Sequence[Hashable],
    draws: int,
    seed: int,
    strata: Sequence[Hashable] | None,
) -> tuple[np.ndarray, int]:
    """Values of the draws, and how many draws had none and were drawn again."""
    random = np.random.default_rng(seed)
    values, redrawn = np.full(draws, np.nan), 0
    for attempt in range(ATTEMPTS_PATIENTS):
        wanting = np.flatnonzero(np.isnan(values))
        if not wanting.size:
            break
        redrawn += wanting.size if attempt else 0
        values[wanting] = evaluated(function, draw_counts(patients, wanting.size, random, strata))
    if lacking := int(np.isnan(values).sum()):
        raise NotComputable(
            f"{lacking} of {draws} draws of patients had no value in {ATTEMPTS} attempts; "
            "draw within strata of the outcome, or gather more patients"
        )
    return values, redrawn


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
    method: Literal["percentile", "bca"] = "percentile",
) -> Interval:
    """Metric on all rows, with an interval from resampled patients.

    Parameters
    ----------
    draws_function : callable
        Takes counts (draws, rows), how often each row is in each draw, and returns values (draws,), NaN
        where a draw has none: `functools.partial(weighted.auc, labels, scores)`, or of a plain function
        `looped(lambda rows: f1(labels[rows], called[rows]))`. The estimate is its value at counts of 1.
    patients, strata : sequences (rows,)
        As `draws.draw_counts`; strata of the event keep its number in every draw.
    events, n : int
        For the row of metrics.csv; n is by default the number of patients.
    draws, seed
        Number of draws (BCa wants 1,000 or more) and their seed.
    level : float
        In (0, 1).
    method : {"percentile", "bca"}
        Quantiles of the draws, or corrected for bias and skewness (see `bca.bca_ends`).

    Returns
    -------
    Interval
        `how` tells what was drawn, how many draws had no value and were drawn again, and when all draws
        were equal (an AUC of 1, say), which says nothing of how far off the truth may lie.

    Raises
    ------
    NotComputable
        No value on all rows or in any draw, fewer than two patients, or BCa without a correction.
    ValueError
        Unknown method or level, or a patient in two strata.
    """
    if method not in ("percentile", "bca"):
        raise ValueError(f'method must be "percentile" or "bca", got "{method}"')
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level:g}; 0.95 is usual")
    home, members = patients_by_stratum(patients, strata)
    estimate = float(evaluated(draws_function, np.ones((1, home.size), np.int32))[0])
    if np.isnan(estimate):
        raise NotComputable("the metric has no value on all the patients, so neither has its interval")
    drawn, redrawn = _drawn(draws_function, patients, draws, seed, strata)
    if method == "bca":
        low, high = bca_ends(drawn, estimate, without_each(draws_function, home, members), level)
    else:
        low, high = (float(end) for end in np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]))
    count = int(home.max()) + 1
    how = f"bootstrap of {count} patients"
    how += f" ({home.size} rows)" if home.size > count else ""
    how += f" within {len(members)} strata" if len(members) > 1 else ""
    how += f", {draws} draws, {'BCa' if method == 'bca' else 'percentile'}"
    how += f"; {redrawn} draws without a value redrawn" if redrawn else ""
    how += "; every draw gave the same value" if np.ptp(drawn) == 0 else ""
    return Interval(estimate, low, high, count if n is None else n, events, how)


def paired_patient_difference(
    draws_function_a: DrawsFunction,
    draws_function_b: DrawsFunction,
    patients: Sequence[Hashable],
    **options,
) -> Interval:
    """Metric of model a minus that of model b on the same rows, both under the same draws of patients.

    Parameters
    ----------
    draws_function_a, draws_function_b : callables
        As in `patient_interval`; each is given the same counts. A draw in which either has no value is
        drawn again for both.
    patients, options
        As `patient_interval`.

    Returns
    -------
    Interval
        estimate > 0: a scores higher.

    Raises
    ------
    NotComputable, ValueError
        As `patient_interval`.
    """

    def difference(counts: np.ndarray) -> np.ndarray:
        return np.asarray(draws_function_a(counts), float) - np.asarray(draws_function_b(counts), float)

    found = patient_interval(difference, patients, **options)
    return Interval(found.estimate, found.low, found.high, found.n, found.events, f"paired; {found.how}")


def strata(fold: ArrayLike, event: ArrayLike) -> np.ndarray:
    """Name of each row's resampling stratum: its fold, and whether the event happened."""
    return np.array([f"{f}, {'event' if e else 'censored'}" for f, e in zip(fold, event, strict=True)])


def mean_over_folds(
    fold: ArrayLike, within: Callable[[np.ndarray], Sequence[DrawsFunction]]
) -> DrawsFunction:
    """A draws function that averages a metric over seeds, then over folds.

    Parameters
    ----------
    fold : array (n,)
        Fold in which each row was held out.
    within : callable
        Row numbers of one fold -> a draws function for each seed, on those rows.

    Returns
    -------
    callable
        counts (draws, n) -> values (draws,); NaN where a fold or seed has none.
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
