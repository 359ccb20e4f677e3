"""Does a model choose the same features again when some of the patients are others?"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm

from lib.statistics.classification import NotComputable

Tables = pd.DataFrame | Mapping[str, pd.DataFrame]
Fit = Callable[[Tables, pd.Series | pd.DataFrame], pd.Series]


class Agreement(NamedTuple):
    """Nogueira's stability index with its interval: 1 always the same features, 0 as by lot; `how` says why it is NaN."""

    estimate: float
    low: float
    high: float
    how: str = ""


class Stability(NamedTuple):
    """What resampling says of a selection.

    Attributes
    ----------
    features : DataFrame
        One row a feature, most often selected first: feature; coefficient (fitted on all patients); mean, low, high
        (mean, 2.5 % and 97.5 % quantiles over resamples, 0 where not selected); frequency (share of resamples that select
        it, 0 to 1); sign_agreement (of those, the share with the commoner sign, 0.5 to 1; NaN where never selected).
    coefficients : DataFrame
        (resamples, features), 0 where not selected.
    agreement : Agreement
    how : str
    """

    features: pd.DataFrame
    coefficients: pd.DataFrame
    agreement: Agreement
    how: str


def stability(
    fit: Fit,
    tables: Tables,
    outcome: pd.Series | pd.DataFrame,
    resamples: int = 50,
    share: float | str = 0.8,
    seed: int = 0,
    strata: Sequence | None = None,
) -> Stability:
    """Fit again and again on other patients, and count.

    Parameters
    ----------
    fit : callable
        (tables, outcome) of some patients -> Series of feature -> coefficient. Every candidate is to be named, those not
        selected with 0: a feature that no fit names does not exist. Everything learned is to be learned inside.
    tables : DataFrame, or mapping of modality to DataFrame
        Index: patients, each once. A patient may be missing in some of several tables.
    outcome : Series or DataFrame
        Index: the patients to draw from. A Series of labels, or columns as `fit` wants them.
    resamples : int
        At least 2.
    share : float or "bootstrap"
        Share of patients drawn without replacement, above 0 and below 1; or as many with replacement. The bootstrap
        repeats patients: a `fit` that splits its patients must keep copies (of one name) together.
    seed : int
    strata : sequence, optional
        Drawn apart, one name a patient; for a Series of labels the labels, unless given.

    Returns
    -------
    Stability

    Raises
    ------
    ValueError
        A patient twice, a share out of range, or a fit that fails or returns a coefficient that is not finite; the
        message names the resample.
    """
    if resamples < 2:
        raise ValueError(f"stability needs at least 2 resamples, got {resamples}")
    if share != "bootstrap" and not (not isinstance(share, str) and 0 < share < 1):
        raise ValueError(f'share lies above 0 and below 1, or is "bootstrap"; got {share}')
    for index in [outcome.index] + [each.index for each in _all(tables)]:
        if index.duplicated().any():
            raise ValueError(f"patient {index[index.duplicated()][0]} is twice in a table of the resampling")
    if strata is None:
        strata = outcome.to_numpy() if isinstance(outcome, pd.Series) else np.zeros(len(outcome))
    strata = pd.factorize(np.asarray(strata), use_na_sentinel=False)[0]
    if strata.size != len(outcome):
        raise ValueError(f"{strata.size} strata for {len(outcome)} patients")
    places = [np.flatnonzero(strata == each) for each in np.unique(strata)]
    whole = _coefficients(fit, tables, outcome, outcome.index, "all patients")
    found = []
    for number in range(resamples):
        rng = np.random.default_rng([seed, number])
        drawn = np.sort(np.concatenate([_drawn(rng, own, share) for own in places]))
        found.append(_coefficients(fit, tables, outcome, outcome.index[drawn], f"resample {number}"))
    frame = pd.DataFrame([whole, *found]).fillna(0.0).reset_index(drop=True) + 0.0  # no -0
    whole, table = frame.iloc[0], frame.iloc[1:].reset_index(drop=True)
    chosen = table != 0
    positive = (table > 0).sum() / chosen.sum().replace(0, np.nan)
    features = pd.DataFrame(
        {
            "coefficient": whole,
            "mean": table.mean(),
            "low": table.quantile(0.025),
            "high": table.quantile(0.975),
            "frequency": chosen.mean(),
            "sign_agreement": np.maximum(positive, 1 - positive),
        }
    )
    features = features.rename_axis("feature").reset_index()
    order = features.assign(size=features["mean"].abs()).sort_values(
        ["frequency", "size", "feature"], ascending=[False, False, True]
    )
    try:
        agreement = nogueira(chosen.to_numpy())
    except NotComputable as reason:
        agreement = Agreement(np.nan, np.nan, np.nan, f"not computable: {reason}")
    kind = "bootstraps of" if share == "bootstrap" else f"draws of {share:.0%} of"
    how = f"{resamples} {kind} {len(outcome)} patients, {table.shape[1]} candidates"
    return Stability(features.loc[order.index].reset_index(drop=True), table, agreement, how)


def nogueira(chosen: ArrayLike, level: float = 0.95) -> Agreement:
    """Stability of feature selection, corrected for chance.

    The interval takes the feature sets for independent draws. Resamples of the same patients are so given these
    patients: it says how well this many resamples know the index, not what other patients would give.

    Parameters
    ----------
    chosen : bool array (sets, candidates)
        True where the set holds the feature. At least two sets.
    level : float
        In (0, 1).

    Returns
    -------
    Agreement
        At most 1; 0 expected of sets drawn by lot. The ends may lie beyond 1.

    Raises
    ------
    NotComputable
        No set holds any feature, or all hold every one: chance is then no yardstick.
    ValueError
        Fewer than two sets, or something other than a matrix of 0 and 1.

    References
    ----------
    Nogueira, Sechidis and Brown, JMLR 18(174) (2018): definition 4, theorem 7, corollary 9.
    """
    chosen = np.asarray(chosen)
    if chosen.ndim != 2 or chosen.shape[0] < 2 or not np.isin(chosen, (0, 1)).all():
        raise ValueError(f"a matrix of 0 and 1 with at least 2 rows is needed, got shape {chosen.shape}")
    chosen = chosen.astype(float)
    sets, candidates = chosen.shape
    frequency, size = chosen.mean(axis=0), chosen.sum(axis=1)
    filled = size.mean() / candidates
    if filled in (0, 1):
        words = "no feature is" if filled == 0 else f"all {candidates} features are"
        raise NotComputable(f"{words} selected in each of {sets} sets: there is no choice to agree on")
    chance = filled * (1 - filled)
    index = 1 - np.mean(sets / (sets - 1) * frequency * (1 - frequency)) / chance
    own = size / candidates
    parts = (chosen @ frequency / candidates - own * filled) / chance
    parts += index / 2 * (2 * own * filled - own - filled + 1) / chance
    error = np.sqrt(4 / sets**2 * np.sum((parts - parts.mean()) ** 2))
    reach = norm.ppf((1 + level) / 2) * error
    how = f"{sets} sets of {size.mean():.1f} of {candidates} features on average"
    return Agreement(float(index), float(index - reach), float(index + reach), how)


def _all(tables: Tables) -> list[pd.DataFrame]:
    return [tables] if isinstance(tables, pd.DataFrame) else list(tables.values())


def _drawn(rng: np.random.Generator, own: np.ndarray, share: float | str) -> np.ndarray:
    if share == "bootstrap":
        return rng.choice(own, own.size)
    return rng.choice(own, max(1, round(share * own.size)), replace=False)


def _coefficients(fit: Fit, tables: Tables, outcome, patients: pd.Index, name: str) -> pd.Series:
    def part(table: pd.DataFrame) -> pd.DataFrame:
        return table.loc[patients[patients.isin(table.index)]]

    own = (
        part(tables)
        if isinstance(tables, pd.DataFrame)
        else {word: part(each) for word, each in tables.items()}
    )
    try:
        found = pd.Series(fit(own, outcome.loc[patients]), dtype=float)
    except Exception as error:
        raise ValueError(f"the fit on {name} ({len(patients)} patients) failed: {error}") from error
    if found.index.duplicated().any():
        raise ValueError(f"the fit on {name} names {found.index[found.index.duplicated()][0]} twice")
    if not np.isfinite(found).all():
        raise ValueError(
            f"the fit on {name} has no finite coefficient of {found.index[~np.isfinite(found)][0]}"
        )
    return found
