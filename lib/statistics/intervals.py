"""An estimate with its bootstrap interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lib.statistics.classification import NotComputable
from lib.statistics.resampling import Metric, bootstrap, by_patient, mean_over_patients, section_value
from lib.statistics.scored import ScoredSection, spatial_blocks

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
