"""What several cohorts say together of two models, and of many.

One cohort of a few hundred patients seldom settles whether one model is better than another by a hundredth. Several may, if
what differs from cohort to cohort is counted as error too: the next cohort is another one. A difference of a cohort comes with
its standard error, corrected for training patients that folds share (`lib.statistics.intervals`).

`pooled` asks nothing beforehand: a random-effects mean whose interval is made of how far the cohorts lie apart, so standard
errors that are all wrong by one factor do it no harm. `posterior` says how probable it is that the mean difference is worse, of
no practical importance, or better, after Corani and Benavoli, whose sampler (baycomp) wants a compiler for C++; with errors
that are known its normal model needs an integral over one number only. `average_ranks` compares many models at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import friedmanchisquare, norm, studentized_range
from scipy.stats import t as student
from statsmodels.stats.meta_analysis import combine_effects

from lib.statistics.classification import NotComputable
from lib.statistics.intervals import LEVEL

GRID = 2001  # values of the spread between cohorts


class Pooled(NamedTuple):
    """Mean difference over cohorts with its 95 % interval, and the standard deviation of true differences between them."""

    estimate: float
    low: float
    high: float
    p: float
    between: float
    cohorts: int


class Posterior(NamedTuple):
    """What to believe of the mean difference: mean, 95 % interval; probability that it lies below, within or above the
    region of practical equivalence; and the same of the true difference in one more cohort (`next_`).
    """

    mean: float
    low: float
    high: float
    worse: float
    same: float
    better: float
    next_worse: float
    next_same: float
    next_better: float


def _checked(differences: ArrayLike, errors: ArrayLike, least: int) -> tuple[np.ndarray, np.ndarray]:
    differences, errors = (np.asarray(values, dtype=float) for values in (differences, errors))
    if differences.ndim != 1 or differences.shape != errors.shape:
        raise ValueError(f"differences {differences.shape} and errors {errors.shape} must be vectors alike")
    if not (np.isfinite(differences).all() and (errors > 0).all() and np.isfinite(errors).all()):
        raise ValueError("every cohort needs a finite difference and an error above 0: leave others out")
    if differences.size < least:
        raise NotComputable(f"{differences.size} cohorts say nothing of the next: {least} or more are needed")
    return differences, errors


def pooled(differences: ArrayLike, errors: ArrayLike) -> Pooled:
    """Random-effects mean (Paule-Mandel) of differences (cohorts,) with the interval of Hartung, Knapp, Sidik and Jonkman:
    Student's, of the weighted spread of the cohorts. By statsmodels. NotComputable of fewer than two cohorts.

    References
    ----------
    Sidik and Jonkman, Statistics in Medicine 21 (2002), 3153, doi:10.1002/sim.1262. IntHout et al., BMC Medical Research
    Methodology 14 (2014), 25, doi:10.1186/1471-2288-14-25.
    """
    differences, errors = _checked(differences, errors, 2)
    found = combine_effects(differences, errors**2, method_re="iterated")
    mean, error, df = float(found.mean_effect_re), float(found.sd_eff_w_re_hksj), differences.size - 1
    reach = student.isf((1 - LEVEL) / 2, df) * error
    p = float(2 * student.sf(abs(mean) / error, df)) if error > 0 else np.nan
    between = float(np.sqrt(max(found.tau2, 0.0)))
    return Pooled(mean, mean - reach, mean + reach, p, between, differences.size)


def posterior(differences: ArrayLike, errors: ArrayLike, region: float = 0.01) -> Posterior:
    """Normal hierarchical model: a cohort's difference is normal around its true one with its error, the true ones are normal
    around their mean. Priors: every mean, and every spread between cohorts, is as likely as another (the spread up to the
    range that was seen, or ten errors). `region`: a difference nearer to 0 matters to nobody.

    The mean given the spread is normal, so only the spread is integrated, on a grid. NotComputable of fewer than three cohorts.

    References
    ----------
    Gelman et al., Bayesian Data Analysis (2013), 5.4. Corani, Benavoli et al., Machine Learning 106 (2017), 1817,
    doi:10.1007/s10994-017-5641-9. Benavoli, Corani, Demsar and Zaffalon, JMLR 18 (2017), 77.
    """
    differences, errors = _checked(differences, errors, 3)
    spreads = np.linspace(0, max(np.ptp(differences), 10 * np.median(errors)), GRID)
    variances = errors**2 + spreads[:, None] ** 2
    precision = (1 / variances).sum(axis=1)
    means = (differences / variances).sum(axis=1) / precision
    logs = -0.5 * (np.log(variances) + (differences - means[:, None]) ** 2 / variances).sum(axis=1)
    logs -= 0.5 * np.log(precision)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    own, following = precision**-0.5, np.sqrt(1 / precision + spreads**2)

    def below(at: float, sd: np.ndarray = own) -> float:
        return float(weights @ norm.cdf((at - means) / sd))

    reach = 20 * (own.max() + np.ptp(differences))
    centre = float(weights @ means)
    span = centre - reach, centre + reach
    low, high = (brentq(lambda at, q=q: below(at) - q, *span) for q in (0.025, 0.975))
    parts = []
    for sd in (own, following):
        worse, not_better = below(-region, sd), below(region, sd)
        parts += [worse, not_better - worse, 1 - not_better]
    return Posterior(centre, low, high, *parts)


def without_each(names: Sequence[str], differences: ArrayLike, errors: ArrayLike) -> pd.DataFrame:
    """`pooled` without one cohort at a time: without, estimate, low, high, between, and `changes` where the interval then
    says something else of 0 than that of all cohorts does.
    """
    differences, errors = (np.asarray(values, dtype=float) for values in (differences, errors))

    def said(found: Pooled) -> int:
        return int(found.low > 0) - int(found.high < 0)

    whole, rows = said(pooled(differences, errors)), []
    for number, name in enumerate(names):
        rest = np.arange(differences.size) != number
        found = pooled(differences[rest], errors[rest])
        rows.append((name, *found[:3], found.between, said(found) != whole))
    return pd.DataFrame(rows, columns=["without", "estimate", "low", "high", "between", "changes"])


class Ranks(NamedTuple):
    """Average rank of each model (1 is best), the difference of two average ranks that is beyond luck at 5 % when all pairs
    are looked at (Nemenyi), and Friedman's p of all models being alike.
    """

    ranks: pd.Series
    critical: float
    p: float
    cohorts: int


def average_ranks(values: pd.DataFrame) -> Ranks:
    """Ranks of models (columns) within cohorts (rows), averaged, the highest value first; ties share. ValueError where a
    model lacks a cohort, NotComputable of fewer than three models or two cohorts.

    References
    ----------
    Demsar, JMLR 7 (2006), 1.
    """
    if values.isna().any(axis=None):
        model = values.columns[values.isna().any()][0]
        cohort = values.index[values[model].isna()][0]
        raise ValueError(f"{model} has no value in {cohort}: ranks need all models")
    cohorts, models = values.shape
    if cohorts < 2 or models < 3:
        raise NotComputable(f"{models} models in {cohorts} cohorts: ranks need three and two")
    ranks = values.rank(axis=1, ascending=False).mean().sort_values()
    range_ = studentized_range.isf(0.05, models, np.inf) / np.sqrt(2)
    critical = float(range_ * np.sqrt(models * (models + 1) / (6 * cohorts)))
    p = float(friedmanchisquare(*(values[name] for name in values)).pvalue)
    return Ranks(ranks, critical, p, cohorts)


def cliques(ranks: Ranks) -> list[tuple[int, int]]:
    """First and last place of each group of models, in the order of their ranks, that luck could have put apart: the bars of
    a critical-difference diagram. Groups within another are left out.
    """
    places, found = ranks.ranks.to_numpy(), []
    for first, rank in enumerate(places):
        last = int(np.searchsorted(places, rank + ranks.critical, "right")) - 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found
