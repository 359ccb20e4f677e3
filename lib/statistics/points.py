"""A logistic model as points: each variable's, their sum, and the probability that belongs to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

POINTS = 100.0


@dataclass(frozen=True)
class Number:
    """A variable of numbers.

    Attributes
    ----------
    name : str
    coefficient : float
        Log-odds per unit of the variable as it is drawn. Of a model of standardised columns: its coefficient divided by
        the standard deviation (and the means go into the intercept: see `unscaled`).
    low, high : float
        Range that is drawn, of the training patients.
    unit : str
    """

    name: str
    coefficient: float
    low: float
    high: float
    unit: str = ""

    @property
    def effects(self) -> tuple[float, float]:
        """Lowest and highest log-odds within the range."""
        low, high = sorted((self.coefficient * self.low, self.coefficient * self.high))
        return low, high

    def effect(self, value: float) -> float:
        """Log-odds of a value."""
        return self.coefficient * float(value)


@dataclass(frozen=True)
class Levels:
    """A variable of categories: name, and log-odds of each level (of the one compared with: 0)."""

    name: str
    log_odds: Mapping[str, float]

    @property
    def effects(self) -> tuple[float, float]:
        """Lowest and highest log-odds of a level."""
        return min(self.log_odds.values()), max(self.log_odds.values())

    def effect(self, value: str) -> float:
        """Log-odds of a level."""
        if value not in self.log_odds:
            raise ValueError(f"{self.name} has no level {value!r}; it has {list(self.log_odds)}")
        return self.log_odds[value]


Term = Number | Levels


def unscaled(
    coefficients: Mapping[str, float], means: Mapping[str, float], sds: Mapping[str, float], intercept: float
) -> tuple[dict[str, float], float]:
    """Coefficients per unit, and the intercept that goes with them, of a logistic model of standardised columns."""
    own = {name: value / sds[name] for name, value in coefficients.items()}
    return own, intercept - sum(own[name] * means[name] for name in own)


class Scales:
    """The arithmetic of a nomogram.

    The variable with the widest effect spans 0 to 100 points, every other one its share of that; each has 0 points where
    the probability is lowest.

    Parameters
    ----------
    terms : sequence of Number or Levels
    intercept : float
        Log-odds where all effects are 0.

    Raises
    ------
    ValueError
        No variable, one twice, a range upside down, something not finite, or no variable with an effect.
    """

    def __init__(self, terms: Sequence[Term], intercept: float):
        names = [term.name for term in terms]
        if not terms or len(set(names)) < len(names):
            raise ValueError(f"a nomogram needs variables, each once; got {names}")
        for term in terms:
            if isinstance(term, Number) and not term.low < term.high:
                raise ValueError(f"{term.name} has no range to draw: {term.low} to {term.high}")
            if isinstance(term, Levels) and len(term.log_odds) < 2:
                raise ValueError(f"{term.name} needs two levels or more, got {list(term.log_odds)}")
        if not np.isfinite([intercept, *(end for term in terms for end in term.effects)]).all():
            raise ValueError("an effect or the intercept of the nomogram is not finite")
        widest = max(np.ptp(term.effects) for term in terms)
        if widest == 0:
            raise ValueError("every effect is 0: there is no nomogram of a model that tells nobody apart")
        self.terms, self.intercept = {term.name: term for term in terms}, float(intercept)
        self.per_point = widest / POINTS
        self.lowest = self.intercept + sum(term.effects[0] for term in terms)
        self.most = sum(np.ptp(term.effects) for term in terms) / self.per_point

    def points(self, name: str, value: float | str) -> float:
        """Points of one variable's value."""
        term = self.terms[name]
        return (term.effect(value) - term.effects[0]) / self.per_point

    def total(self, values: Mapping[str, float | str]) -> float:
        """Points of a patient: one value a variable."""
        if missing := [name for name in self.terms if name not in values]:
            raise ValueError(f"the patient of the nomogram lacks {missing}")
        return sum(self.points(name, values[name]) for name in self.terms)

    def probability(self, total: float) -> float:
        """Probability that belongs to a sum of points, 0 to 1."""
        return float(expit(self.lowest + total * self.per_point))

    def total_of(self, probability: float) -> float:
        """Sum of points that belongs to a probability; below 0 or above `most` where no patient reaches it."""
        return float((logit(probability) - self.lowest) / self.per_point)
