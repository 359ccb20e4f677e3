"""The bootstrap: of patients, and of spots within sections within patients.

How folds, sections and seeds become one number, stated here, once, for every study:

- A metric is taken within a fold (or a section): scores of models that were trained apart are not comparable.
- Seeds are averaged within the fold: the mean of the metric, never the metric of a mean score.
- Folds are averaged with equal weight; sections within their patient, then patients. A fold in which the metric has no
  value makes the whole not computable: a mean over the lucky folds would be another quantity.
- Patients are resampled within their fold, events and censored apart, so every draw keeps each fold's size. Sections are
  averaged within their patient, whose values have Student's interval; of one patient, blocks of neighbouring spots are drawn.
- A bootstrap takes the trained models as given. Models of a cross-validation share training patients, so their folds err
  together and the interval has to be wider: `training_share` says by how much for metrics of order (c-index, AUC).

Both kinds meet in `bootstrap`, which draws again what has no value (never scored 0), and in `ends`, which makes the
interval of the draws' spread. How often it misses the truth is measured in `benchmarks/interval_coverage.py`.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.spatial.distance import pdist
from scipy.special import expit, logit
from scipy.stats import t as student

from lib.statistics.classification import METRICS, NotComputable

DrawsFunction = Callable[[np.ndarray], np.ndarray]  # counts (draws, rows) -> values (draws,), NaN where none
CELLS = 4_000_000  # counts given to a draws function at once: 16 MB
ATTEMPTS = 100
LEVEL = 0.95  # of every interval
MOST = 0.85  # what training adds to the variance at chance, by simulation
STEADY = 4.0  # standard errors from chance at which it adds half of that
SHARED = "widened for shared training patients"


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval (NaN where none covers); n cases (or patients), events of them positive; how
    it was made; `share`, by how much training raised the variance that the bootstrap saw (0: not).
    """

    estimate: float
    low: float
    high: float
    n: int
    events: int
    how: str
    share: float = 0.0


def chance_of(metric: str) -> float | None:
    """What a model that knows nothing gets: .5 for metrics of order, None where that is not known beforehand."""
    return 0.5 if metric.startswith(("auc", "c_index")) else None


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


def training_share(signal: ArrayLike) -> np.ndarray:
    """Variance that shared training patients add to a cross-validated metric of order, as a share of the bootstrap's.

    `signal` is how far the truth lies from chance, in standard errors of a bootstrap that takes the models as given.
    Without signal, training and test patients play one part: the mean over folds is a sum over pairs of folds, each counted
    twice, so its variance is up to twice what the test patients alone give. The surer the signal, the more the models of
    different folds agree, and the share falls. No estimator of it is unbiased (Bengio and Grandvalet 2004); this curve,
    0.85 / (1 + (signal / 4)^2), was chosen so that intervals, differences and tests miss in about 2 to 6 % of the studies
    simulated in `benchmarks/interval_coverage.py`. The corrected resampled t adds 1 / (1 - 1 / folds) whatever the signal.

    References
    ----------
    Bengio and Grandvalet, JMLR 5 (2004), 1089. Nadeau and Bengio, Machine Learning 52 (2003), 239,
    doi:10.1023/A:1024068626366. Bates, Hastie and Tibshirani, JASA 119 (2024), 1434, doi:10.1080/01621459.2023.2197686.
    """
    return MOST / (1 + (np.asarray(signal) / STEADY) ** 2)


def ends(
    estimate: float,
    sd: float,
    *,
    chance: float | None = None,
    share: float = 0.0,
    df: float = np.inf,
    bounded: bool = True,
) -> tuple[float, float]:
    """The two ends of a 95 % interval around an estimate with standard error `sd`, Student's with `df` degrees of freedom.

    `bounded` metrics (0 to 1) get theirs on the logit scale. The variance is raised by `share`, or, with `chance`, by
    `training_share` of each truth that is tried (those that a test at that truth would not reject). NaN where the draws did
    not spread, as at an AUC of 1: that is no sign of certainty.
    """
    if not sd > 0 or (bounded and not 0 < estimate < 1):
        return np.nan, np.nan
    quantile = student.isf((1 - LEVEL) / 2, df)
    centre, sd = (logit(estimate), sd / (estimate * (1 - estimate))) if bounded else (estimate, sd)
    reach = np.array([-1.0, 1.0]) * quantile * np.sqrt(1 + share)
    if chance is not None:
        signal, most = (centre - logit(chance)) / sd, quantile * np.sqrt(1 + MOST)

        def beyond(truth: float, side: float) -> float:
            return (truth - signal) * side - quantile * np.sqrt(1 + training_share(truth))

        sides = -1, 1
        reach = [s * brentq(lambda r, s=s: beyond(signal + s * r, s), 0, most) for s in sides]
    low, high = centre + sd * np.asarray(reach)
    return (float(expit(low)), float(expit(high))) if bounded else (float(low), float(high))


def _share(estimates: ArrayLike, sds: ArrayLike, chance: float) -> float:
    """Mean `training_share` of one or two metrics; 0 of one whose draws do not spread. On the logit scale."""
    signals = [
        (logit(value) - logit(chance)) * value * (1 - value) / sd if 0 < value < 1 and sd > 0 else np.inf
        for value, sd in zip(estimates, sds, strict=True)
    ]
    return float(np.mean(training_share(signals)))


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
    draws: int = 1000,
    seed: int = 0,
    strata: Sequence[Hashable] | None = None,
    chance: float | None = None,
    trained: bool = False,
    bounded: bool = True,
    minus: DrawsFunction | None = None,
) -> Interval:
    """Metric on all rows, with an interval from resampled patients, on the logit scale.

    `draws_function` takes counts (draws, rows), how often each row is in each draw, and returns values (draws,), NaN where
    a draw has none: `functools.partial(classification.auc, labels, scores)`. The estimate is its value at counts of 1.
    `patients` and `strata` (rows,) as in `draw_counts`; `events` is for the row of metrics.csv. `trained`: the scores are of
    models that share training patients with one another, as a cross-validation's do. Metrics with a `chance` level are then
    widened (`training_share`); others get no interval, and `how` tells where it would lie if the trained models were all
    there is. `how` tells what was drawn, and how many draws had no value and were drawn again.

    With `minus`, another model's metric on the same rows is taken off, under the same draws: above 0 the first scores higher.
    Of `trained` models and metrics without a chance level (Brier, ibs) the interval is then Nadeau and Bengio's corrected
    resampled t over the folds (`MeanOverFolds`), which in simulations is somewhat too wide.
    """
    home, members = patients_by_stratum(patients, strata)
    functions = [draws_function] if minus is None else [draws_function, minus]
    whole = np.ones((1, home.size), np.int32)
    estimates = [float(evaluated(one, whole)[0]) for one in functions]
    estimate = estimates[0] - sum(estimates[1:])
    if np.isnan(estimate):
        lacking = sorted({name for one in functions for name in getattr(one, "lacking", list)()})
        where = f"in fold {', '.join(map(str, lacking))}" if lacking else "on all the patients"
        raise NotComputable(f"the metric has no value {where} (no event, one class or no pair)")
    random = np.random.default_rng(seed)

    def draw(number: int) -> np.ndarray:
        counts = draw_counts(patients, number, random, strata)
        return np.array([evaluated(one, counts) for one in functions])

    drawn, again = bootstrap(draw, draws, "patients (draw within strata of the outcome, or gather more)")
    count = int(home.max()) + 1
    rows = f" ({home.size} rows)" if home.size > count else ""
    within = f" within {len(members)} strata" if len(members) > 1 else ""
    how = f"bootstrap of {count} patients{rows}{within}, {draws} draws"
    how += f"; {again} draws without a value redrawn" if again else ""
    if isinstance(draws_function, MeanOverFolds) and minus is None and (spread := draws_function.spread()):
        how += f"; {spread}"
    # the variance of a bootstrap within strata of m is (m - 1) / m of what it estimates
    unbiased = np.sqrt(count / max(count - len(members), count / 2))
    sds = unbiased * drawn.std(axis=1, ddof=1)
    sd = sds[0] if minus is None else unbiased * (drawn[0] - drawn[1]).std(ddof=1)
    share = _share(estimates, sds, chance) if trained and chance is not None else 0.0
    how += f", {SHARED} (variance {1 + share:.2f} times)" if share else ""
    inverted = chance if trained and minus is None else None
    low, high = ends(estimate, sd, chance=inverted, share=share, bounded=bounded and minus is None)
    if trained and chance is None and minus is not None:
        folds = draws_function.by_fold() - minus.by_fold()
        sd = folds.std(ddof=1) * np.sqrt(1 / folds.size + 1 / (folds.size - 1)) if folds.size > 1 else 0.0
        low, high = ends(estimate, sd, df=folds.size - 1, bounded=False)
        how = f"corrected resampled t over {folds.size} folds"
    elif trained and chance is None:
        how = f"the models as given: {low:.3f} to {high:.3f} ({how})"
        how = f"no interval, for training adds what one cross-validation does not show; {how}"
        low = high = np.nan
    elif np.isnan(low):
        how += "; every draw gave the same value, which says nothing of how far off the truth may lie"
    how = how if minus is None else f"paired; {how}"
    return Interval(estimate, low, high, count, events, how, share)


def strata(fold: ArrayLike, event: ArrayLike) -> np.ndarray:
    """Name of each row's resampling stratum: its fold, and whether the event happened."""
    return np.array([f"{f}, {'event' if e else 'censored'}" for f, e in zip(fold, event, strict=True)])


class MeanOverFolds:
    """Draws function that averages a metric over seeds, then over folds; NaN where a fold or seed has none.

    `fold` (n,) held out each row; `within` takes the row numbers of one fold and returns a draws function for each seed.
    """

    def __init__(self, fold: ArrayLike, within: Callable[[np.ndarray], Sequence[DrawsFunction]]) -> None:
        fold = np.asarray(fold)
        self.names, self.whole = list(dict.fromkeys(fold.tolist())), np.ones((1, fold.size), np.int32)
        rows = [np.flatnonzero(fold == name) for name in self.names]
        self.parts = [(each, list(within(each))) for each in rows]

    def by_run(self, counts: np.ndarray) -> np.ndarray:
        """Values of each fold and seed: (folds, seeds, draws)."""
        return np.array([[one(counts[:, rows]) for one in seeds] for rows, seeds in self.parts])

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        return self.by_run(counts).mean(axis=1).mean(axis=0)

    def by_fold(self) -> np.ndarray:
        """The metric of each fold, mean over seeds: (folds,)."""
        return self.by_run(self.whole)[..., 0].mean(axis=1)

    def lacking(self) -> list:
        """Folds in which the metric has no value."""
        return [name for name, value in zip(self.names, self.by_fold(), strict=True) if np.isnan(value)]

    def spread(self) -> str:
        """Standard deviation of the metric over folds, and over seeds, where there are several."""
        return _spread(self.by_run(self.whole)[..., 0], ("folds", "seeds"))


def _spread(values: np.ndarray, names: Sequence[str]) -> str:
    """In words, the standard deviation along each axis of the means over the others."""
    said = []
    for axis, name in enumerate(names):
        means = values.mean(axis=tuple(other for other in range(values.ndim) if other != axis))
        if means.size > 1:
            said.append(f"{means.std(ddof=1):.3f} over {means.size} {name}")
    return f"standard deviation {', '.join(said)}" if said else ""


def of_scores(metric: Callable, labels: np.ndarray, scores: np.ndarray, fold: ArrayLike) -> DrawsFunction:
    """Draws function of a metric of `classification` on labels (n,) and scores (seeds, n), as `MeanOverFolds`."""
    return MeanOverFolds(fold, lambda rows: [partial(metric, labels[rows], one[rows]) for one in scores])


def spatial_blocks(xy: ArrayLike, side: float) -> np.ndarray:
    """Block of neighbouring spots each spot belongs to, int (n,): squares of a grid laid over positions xy (n, 2).

    Neighbouring spots share tissue and are no independent observations; the bootstrap resamples these blocks, not
    spots. `block_side` measures a side (in the unit of `xy`).
    """
    xy = np.asarray(xy, dtype=float)
    if xy.ndim != 2 or xy.shape[1] != 2 or not np.isfinite(xy).all() or not side > 0:
        raise ValueError(f"positions must be finite, (n, 2), and the side above 0, got {xy.shape}, {side}")
    cell = np.floor((xy - xy.min(0)) / side).astype(int)
    return np.unique(cell[:, 1] * (cell[:, 0].max() + 1) + cell[:, 0], return_inverse=True)[1]


def block_side(xy: ArrayLike, labels: ArrayLike, pitch: float) -> float:
    """Side of a spatial block, in the unit of xy (n, 2): the distance at which labels (n,) agree no more than by chance.

    That is the first whole number of pitches at which the correlogram of the labels (NaN: left out) is down to 0.1; at
    least 2 pitches, and at most what leaves six blocks: wider patches leave nothing to resample. Of more than 3,000 spots
    every so-manieth is asked. Labels of one kind only get 5 pitches.

    References
    ----------
    Lahiri, Resampling Methods for Dependent Data (2003), chapter 12: blocks have to outgrow the range of the dependence.
    """
    known = ~np.isnan(labels := np.asarray(labels, dtype=float))
    xy, labels = np.asarray(xy, dtype=float)[known], labels[known]
    if labels.size < 2 or labels.std() == 0:
        return 5 * pitch
    step = -(-labels.size // 3000)
    apart, some = pdist(xy[::step]) / pitch, labels[::step] - labels.mean()
    lag = np.rint(apart).astype(int)
    near = lag < 64
    first, second = np.triu_indices(some.size, 1)
    products = np.bincount(lag[near], weights=(some[first] * some[second])[near], minlength=64)
    counts = np.bincount(lag[near], minlength=64)
    correlogram = products / np.maximum(counts, 1) / labels.var()
    down = np.flatnonzero((counts > 0) & (correlogram <= 0.1) & (np.arange(64) >= 2))
    widest = np.sqrt(labels.size / 6)
    return float(pitch * max(2, min(down[0] if down.size else 64, widest)))


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
    sections: Sequence[Sequence[ScoredSection]], metric: str, draws: int = 1000, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Metric of one patient in each draw of the spatial blocks of each section: (rivals, draws); and redraws.

    `sections` (rivals, sections) hold the same spots under the scores of each rival, who see the same draws. The metric is
    taken per section, averaged over seeds, then over sections. Equal seeds give equal draws, whatever the order of sections
    and of spots. Davison and Hinkley, Bootstrap Methods and their Application (1997), 8.3.
    """
    by_section, redraws = [], 0
    ordered = sorted(zip(*sections, strict=True), key=lambda same: same[0].section)
    for same, stream in zip(ordered, np.random.SeedSequence(seed).spawn(len(ordered)), strict=True):
        draw = partial(_draw_blocks, same, METRICS[metric], np.random.default_rng(stream))
        what = f"the spatial blocks of {same[0].name} (take smaller ones), {metric},"
        drawn, again = bootstrap(draw, draws, what)
        by_section.append(drawn)
        redraws += again
    return np.mean(by_section, axis=0), redraws


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
    minus: Sequence[ScoredSection] | None = None,
    trained: bool = False,
    called: Callable[[ScoredSection], ScoredSection] = lambda section: section,
) -> Interval:
    """Metric averaged over patients, with Student's interval of their spread; of one patient, of its blocks (`section_draws`).

    The metric, a name in `classification.METRICS`, is taken per section and seed, averaged over seeds, within the patient,
    and over patients; the sections' `scores` hold what it wants: scores (auc, ap), 0/1 calls (f1, ...), or probabilities
    (brier); or `called` makes calls of scores (the cut is held fixed over the draws). With `minus`, the same spots under
    another model's scores, the other's is taken off (see `comparison.paired_difference`). Sections without a value, or a cut,
    are left out and named in `how` with the reason; NotComputable where none has one.

    Degrees of freedom are patients less one, so with three patients an interval is 2.2 times as long as with many.
    `trained`: each patient was tested by a model trained on the others; the variance is raised by `training_share` for
    the AUC, and doubled for other metrics and their differences (about Nadeau and Bengio's correction with a patient a
    fold). Of one patient spatial blocks are drawn, and their number stands for that of patients.
    """
    reasons, usable, rivals = {}, [], [sections] if minus is None else [sections, minus]
    values: dict[str, list[list[float]]] = {}
    seeds: dict[str, list[list[float]]] = {}
    for same in zip(*(chain(*by_patient(rival).values()) for rival in rivals), strict=True):
        try:
            same = [called(section) for section in same]
            by_seed = [[METRICS[metric](s.labels, row) for row in s.scores] for s in same]
        except NotComputable as reason:
            reasons[f"{same[0].section} of {same[0].patient}"] = str(reason)
            continue
        usable.append(same)
        values.setdefault(same[0].patient, []).append([np.mean(each) for each in by_seed])
        seeds.setdefault(same[0].patient, []).append(by_seed[0])
    if not usable:
        raise NotComputable("; ".join(f"section {name}: {reason}" for name, reason in reasons.items()))
    patients = np.array([np.mean(each, axis=0) for each in values.values()]).T  # (rivals, patients)
    means = patients.mean(axis=1)
    estimate = float(means[0] - means[1:].sum())
    several, again = patients.shape[1] > 1, 0
    if several:
        errors = patients.std(axis=1, ddof=1), (patients[0] - patients[1:].sum(axis=0)).std(ddof=1)
        (sds, sd), df = (error / np.sqrt(patients.shape[1]) for error in errors), patients.shape[1] - 1
    else:
        drawn, again = section_draws(list(zip(*usable, strict=True)), metric, draws, seed)
        df = sum(np.unique(same[0].blocks).size for same in usable) - 1
        # a bootstrap of n blocks sees (n - 1) / n of their variance
        sd = _middle_spread(drawn, estimate) * np.sqrt((df + 1) / df) if df else 0.0
    chance = chance_of(metric) if trained and several else None
    share = float(trained and several) if chance is None else _share(means, sds, chance)
    inverted = chance if minus is None else None
    low, high = ends(estimate, sd, chance=inverted, share=share, df=df, bounded=minus is None)
    low, high = map(float, np.clip([low, high], -1, 1))  # few patients, two models that differ much
    first = [same[0] for same in usable]
    n, events = (int(sum(part(section.labels) for section in first)) for part in (np.size, np.sum))
    how = _described(first, reasons, draws, again)
    spread = _spread(np.array([np.mean(each, axis=0) for each in seeds.values()]), ("patients", "seeds"))
    how += f"; {spread}" if spread and minus is None else ""
    how += f"; {SHARED} (variance {1 + share:.2f} times)" if share else ""
    return Interval(estimate, low, high, n, events, how, share)


def _middle_spread(drawn: np.ndarray, estimate: float) -> float:
    """Standard error of a metric, or of a difference, (1 or 2, draws), from the middle 95 % of its draws.

    In a few draws of few blocks one class is all but gone, and a standard deviation would be that of these. One metric's
    spread is that of its logit, at the estimate.
    """
    low, high = np.quantile(drawn[0] - drawn[1:].sum(axis=0), [0.025, 0.975])
    if len(drawn) == 1:
        low, high = logit(np.clip([low, high], 0.001, 0.999)) * estimate * (1 - estimate)
    return (high - low) / (2 * student.isf(0.025, np.inf))


def _described(sections: Sequence[ScoredSection], reasons: Mapping[str, str], draws: int, again: int) -> str:
    """One line on what an interval averages over, what was resampled, and what was left out."""
    patients, seeds = len({section.patient for section in sections}), len(sections[0].scores)
    mean = f"mean over {patients} patients" + (f" ({len(sections)} sections)" * (len(sections) > patients))
    spread = f"Student's t, {patients - 1} degrees of freedom"
    if patients == 1:
        mean = f"one patient, {len(sections)} section{'s' if len(sections) > 1 else ''}"
        spread = f"bootstrap of spatial blocks, {draws} draws, so it says nothing of other patients"
    undetermined = sum(section.undetermined for section in sections)
    parts = [
        mean,
        f"mean over {seeds} seeds" if seeds > 1 else "",
        spread,
        f"{again} section draws without a value redrawn" if again else "",
        f"{undetermined} undetermined spots left out" if undetermined else "",
        *(f"section {name} left out: {reason}" for name, reason in reasons.items()),
    ]
    return "; ".join(part for part in parts if part)
