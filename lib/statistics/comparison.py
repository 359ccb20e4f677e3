"""Two models on the same spots: the difference of a metric, with a paired interval."""

from collections.abc import Sequence

import numpy as np

from lib.statistics.classification import NotComputable
from lib.statistics.intervals import Interval, computable, described
from lib.statistics.resampling import Metric, bootstrap, mean_over_patients, section_value
from lib.statistics.scored import ScoredSection


def _paired(a: Sequence[ScoredSection], b: Sequence[ScoredSection]) -> list[ScoredSection]:
    """Sections of b in the order of a, refused where the two do not hold the same spots."""
    others = {(section.patient, section.section): section for section in b}
    names = [(section.patient, section.section) for section in a]
    if set(names) != set(others) or len(b) != len(a):
        odd = sorted(set(names) ^ set(others)) or names
        raise ValueError(f"the two models must have scored the same sections; see {odd[0][1]} of {odd[0][0]}")
    for section in a:
        other = others[section.patient, section.section]
        if not np.array_equal(section.labels, other.labels) or not np.array_equal(
            section.blocks, other.blocks
        ):
            raise ValueError(
                f"section {section.section} of patient {section.patient}: the two models' spots differ in "
                "labels, blocks or order; pair the same spots in the same order"
            )
    return [others[name] for name in names]


def paired_difference(
    sections_a: Sequence[ScoredSection],
    sections_b: Sequence[ScoredSection],
    metric: Metric,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Metric of model a minus metric of model b, with an interval from draws that both models share.

    What makes a patient hard is hard for both, so this interval is shorter than two separate ones suggest;
    two overlapping intervals do not show that models are alike.

    Parameters
    ----------
    sections_a, sections_b : sequences of ScoredSection
        The same sections, spots, labels and blocks under the two models' scores; seeds may differ in number.
    metric, draws, seed, level
        As in `intervals.interval`.

    Returns
    -------
    Interval
        estimate > 0: a scores higher. `n` and `events` count spots once.

    Raises
    ------
    ValueError
        The two do not hold the same spots.
    NotComputable
        No section has a value under both; sections without one under either are left out and named.
    """
    sections_b = _paired(sections_a, sections_b)
    kept_a, _, reasons_a = computable(sections_a, metric)
    kept_b, _, reasons_b = computable(sections_b, metric)
    reasons = reasons_b | reasons_a
    both = {(s.patient, s.section) for s in kept_a} & {(s.patient, s.section) for s in kept_b}
    if not both:
        raise NotComputable("no section has a value under both models; " + "; ".join(reasons.values()))
    kept_a = [section for section in kept_a if (section.patient, section.section) in both]
    kept_b = [section for section in kept_b if (section.patient, section.section) in both]
    drawn, redrawn = bootstrap([kept_a, kept_b], metric, draws, seed)
    low, high = np.quantile(drawn[0] - drawn[1], [(1 - level) / 2, (1 + level) / 2])
    differences: dict[str, list[float]] = {}
    for a, b in zip(kept_a, kept_b, strict=True):
        difference = section_value(a, metric) - section_value(b, metric)
        differences.setdefault(a.patient, []).append(difference)
    return Interval(
        estimate=mean_over_patients(list(differences.values())),
        low=float(low),
        high=float(high),
        n=sum(section.labels.size for section in kept_a),
        events=int(sum(section.labels.sum() for section in kept_a)),
        how="paired; " + described(kept_a, reasons, draws, redrawn),
    )
