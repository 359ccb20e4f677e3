"""Uni- and multivariable Cox regression as papers print it: hazard ratios without a penalty, and whether they hold.

Does a model choose the same features again when some of the patients are others?
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceError
from lifelines.statistics import proportional_hazard_test
from numpy.typing import ArrayLike
from scipy.stats import norm

from lib.statistics.classification import NotComputable
from lib.statistics.survival import checked_outcomes

COLUMNS = ("column", "level", "hazard_ratio", "low", "high", "p", "n", "events", "how")
PER_COEFFICIENT = 10
# One patient with an event against one without gives a standard error of log hazard near 1.4; Newton's steps on a
# likelihood that rises for ever end where it is in the hundreds.
SEPARATED = 10.0

Per = str | Mapping[str, float]


def univariable(
    table: pd.DataFrame,
    time: str,
    event: str,
    columns: Sequence[str],
    per: Per = "sd",
    categories: Sequence[str] = (),
) -> pd.DataFrame:
    """Cox regression on each column alone, unpenalised, Efron's ties, Wald intervals of 95 %.

    Parameters
    ----------
    table : DataFrame
        One row a patient.
    time, event : str
        Columns of the follow-up (0 or longer) and of the event (1) or censoring (0); none missing.
    columns : sequence of str
        Numbers, or words and booleans, which are categories: each level against the most frequent one.
    per : "sd", "unit" or mapping of column to number
        The step of a number that the hazard ratio belongs to: one standard deviation of the patients in the fit, one
        unit, or so many units (columns not named: 1). A number that is only ever 0 and 1 is always per unit.
    categories : sequence of str
        Columns of numbers that name a category (a hospital's code).

    Returns
    -------
    DataFrame
        column; level (for a number its step); hazard_ratio (above 1: earlier event), low, high, p (Wald); n, events
        (of the level, or of the fit for a number); how: what was left out, what is doubtful. The level compared with
        has hazard ratio 1 and no interval. Without a value: NaN, and the reason in `how`.

    Raises
    ------
    ValueError
        A column is missing or twice, a time or event is unusable, a step is not above 0.

    References
    ----------
    Cox, J. R. Stat. Soc. B 34:187 (1972). Ten events a coefficient: Peduzzi et al., J Clin Epidemiol 48:1503 (1995),
    doi:10.1016/0895-4356(95)00048-8.
    """
    _checked(table, time, event, columns, per)
    found = [_fitted(table, time, event, [column], per, categories) for column in columns]
    return pd.concat(found, ignore_index=True)[list(COLUMNS)]


def multivariable(
    table: pd.DataFrame,
    time: str,
    event: str,
    columns: Sequence[str],
    per: Per = "sd",
    categories: Sequence[str] = (),
) -> pd.DataFrame:
    """Cox regression on all columns together, with a check of proportional hazards.

    Parameters and errors as `univariable`; complete cases of all columns.

    Returns
    -------
    DataFrame
        As `univariable`, and ph_p: p of the test of scaled Schoenfeld residuals against the rank of time; small where
        the hazard ratio changes over time.

    References
    ----------
    Grambsch and Therneau, Biometrika 81:515 (1994), doi:10.1093/biomet/81.3.515.
    """
    _checked(table, time, event, columns, per)
    return _fitted(table, time, event, list(columns), per, categories)[[*COLUMNS[:-1], "ph_p", "how"]]


def printed(alone: pd.DataFrame, together: pd.DataFrame) -> pd.DataFrame:
    """Both analyses side by side, as text.

    Parameters
    ----------
    alone, together : DataFrame
        Of `univariable` and `multivariable`, of the same columns and steps. The fits may have different patients, so
        the standard deviations in the names of levels, n and events are those of `alone`.

    Returns
    -------
    DataFrame
        column, level, n, events, univariable, p, multivariable, "p (multivariable)", "p (proportional hazards)", note
        (of both, each sentence once).

    Raises
    ------
    ValueError
        The tables do not have the same rows.
    """
    one, two = (
        list(
            zip(table["column"], table["level"].str.replace(r"^per SD .*", "per SD", regex=True), strict=True)
        )
        for table in (alone, together)
    )
    if one != two:
        raise ValueError(
            f"the univariable and the multivariable table have different rows: {sorted(set(one) ^ set(two)) or one}; a "
            f"level may be missing, or another one the most frequent, among the complete cases: give both the same patients"
        )
    notes = [
        "; ".join(
            dict.fromkeys(
                text for how in pair for text in how.split("; ") if text not in ("", "compared with")
            )
        )
        for pair in zip(alone["how"], together["how"], strict=True)
    ]
    return alone[["column", "level", "n", "events"]].assign(
        **{
            "univariable": alone.apply(_ratio, axis=1),
            "p": alone["p"].map(_p),
            "multivariable": together.apply(_ratio, axis=1),
            "p (multivariable)": together["p"].map(_p),
            "p (proportional hazards)": together["ph_p"].map(_p),
            "note": notes,
        }
    )


def _ratio(row: pd.Series) -> str:
    if np.isnan(row["hazard_ratio"]):
        return "not computable"
    if np.isnan(row["low"]):
        return "1 (reference)"
    return f"{row['hazard_ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"


def _p(value: float) -> str:
    return "" if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _checked(table: pd.DataFrame, time: str, event: str, columns: Sequence[str], per: Per) -> None:
    if not columns or len(set(columns)) < len(columns):
        raise ValueError(f"the Cox table needs columns, each once; got {list(columns)}")
    if missing := [column for column in (time, event, *columns) if column not in table]:
        raise ValueError(f"the table lacks {missing}; it has {list(table.columns)}")
    if isinstance(per, str) and per not in ("sd", "unit"):
        raise ValueError(f'per is "sd", "unit" or a mapping of column to step, not "{per}"')
    if not isinstance(per, str) and (bad := {name: step for name, step in per.items() if not step > 0}):
        raise ValueError(f"the step of a hazard ratio is a number above 0; got {bad}")
    checked_outcomes(table[time], table[event])


def _fitted(
    table: pd.DataFrame, time: str, event: str, columns: list[str], per: Per, categories: Sequence[str]
) -> pd.DataFrame:
    """Rows of one fit, with ph_p."""
    whole = table[columns].notna().all(axis=1)
    kept = table[whole].reset_index(drop=True)
    died = kept[event].astype(int)
    design, rows = _design(kept[columns], died, per, categories)
    notes = [f"{int((~whole).sum())} of {len(table)} patients lack a value: left out"] * int(not whole.all())
    result = pd.DataFrame(rows)
    result[["hazard_ratio", "low", "high", "p", "ph_p"]] = np.nan
    result.loc[result["kind"] == "reference", "hazard_ratio"] = 1.0
    frame = design.assign(_time=kept[time].astype(float), _event=died)
    fit, reason = _cox(design, frame)
    if fit is not None:
        if (share := died.sum() / design.shape[1]) < PER_COEFFICIENT:
            notes.append(
                f"{died.sum()} events for {design.shape[1]} coefficient{'s' * (design.shape[1] > 1)}: fewer than "
                f"{PER_COEFFICIENT} for each ({share:.1f}), so doubtful"
            )
        _written_in(result, fit, frame, notes)
    said = []
    for row in result.itertuples():
        own = [row.reason or reason] if row.kind in ("number", "level") and np.isnan(row.hazard_ratio) else []
        own += [row.reason] if row.kind in ("constant", "reference") else []
        own = [f"not computable: {text}" if row.kind != "reference" else text for text in own]
        said.append("; ".join([*own, *notes]))
    return result.assign(how=said)


def _design(
    values: pd.DataFrame, died: pd.Series, per: Per, categories: Sequence[str]
) -> tuple[pd.DataFrame, list[dict]]:
    """Columns of the fit, named by their place among the table's rows, and those rows still without hazard ratios."""
    design, rows = {}, []
    for column in values:
        own = values[column]
        if own.nunique() < 2:
            text = (
                "no patient has all values" if own.empty else f"the same ({own.iloc[0]}) for all {len(own)}"
            )
            rows.append(_row(column, "", "constant", len(own), int(died.sum()), text))
        elif column in categories or not pd.api.types.is_numeric_dtype(own) or own.dtype == bool:
            counts = own.value_counts()
            # of equally frequent levels the first by name, so that the order of patients decides nothing
            first = min(counts.index[counts == counts.max()], key=str)
            for level in [first, *sorted(set(counts.index) - {first}, key=str)]:
                held = own == level
                n, events = int(held.sum()), int(died[held].sum())
                if level == first:
                    rows.append(_row(column, str(level), "reference", n, events, "compared with"))
                    continue
                design[len(rows)] = held.astype(float)
                text = "" if events else f"none of the {n} patients of this level has an event"
                rows.append(_row(column, str(level), "level", n, events, text))
        else:
            if not np.isfinite(own).all():
                raise ValueError(f"column {column} holds an infinite number: correct it, or leave it empty")
            binary = set(own.unique()) <= {0, 1}
            step = own.std() if per == "sd" else 1.0 if isinstance(per, str) else float(per.get(column, 1.0))
            step, name = (1.0, "1 against 0") if binary else (step, f"per {step:.4g}")
            name = f"per SD ({step:.4g})" if per == "sd" and not binary else name
            design[len(rows)] = own.astype(float) / step
            rows.append(_row(column, name, "number", len(own), int(died.sum()), ""))
    return pd.DataFrame(design, index=values.index), rows


def _row(column: str, level: str, kind: str, n: int, events: int, reason: str) -> dict:
    return {"column": column, "level": level, "kind": kind, "n": n, "events": events, "reason": reason}


def _cox(design: pd.DataFrame, frame: pd.DataFrame) -> tuple[CoxPHFitter | None, str]:
    """The fit, or None and why there is none."""
    if design.empty or design.shape[1] == 0:
        return None, "no column differs between patients"
    if not frame["_event"].any():
        return None, f"none of the {len(frame)} patients has an event"
    scaled = (design - design.mean()) / design.std()
    if np.linalg.matrix_rank(scaled.to_numpy(), tol=1e-6 * np.sqrt(len(scaled))) < design.shape[1]:
        return None, "the columns of this fit are linearly dependent: leave one out"
    fit = CoxPHFitter()
    with warnings.catch_warnings(record=True) as heard:
        # separation and failure to converge are judged here, by standard errors and by these words
        warnings.simplefilter("always")
        try:
            fit.fit(frame, "_time", "_event")
        except (ConvergenceError, np.linalg.LinAlgError) as error:
            return None, f"the fit does not converge ({str(error).splitlines()[0][:100]})"
    if any("failed to converge" in str(each.message) for each in heard):
        return None, "the fit does not converge, as where a column puts the events in order without fault"
    return fit, ""


def _written_in(result: pd.DataFrame, fit: CoxPHFitter, frame: pd.DataFrame, notes: list[str]) -> None:
    design = frame.drop(columns=["_time", "_event"])
    error = fit.standard_errors_
    # a level's unit is itself; a number may be in any unit
    spread = design.std().where([result.at[place, "kind"] == "number" for place in design], 1.0)
    finite = (error * spread < SEPARATED) & np.isfinite(error)
    for place in design:
        if not finite[place]:
            text = "the likelihood has no maximum: events separate (hazard ratio 0 or infinite)"
            result.at[place, "reason"] = result.at[place, "reason"] or text
            continue
        line = fit.summary.loc[place]
        names = ["exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%", "p"]
        result.loc[place, ["hazard_ratio", "low", "high", "p"]] = line[names].to_numpy()
    if not finite.all():
        if design.shape[1] > 1:
            notes.append("a column of this fit separates the events: proportional hazards not tested")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # mean ranks: lifelines' own rank takes tied times in the order of the rows
            tested = proportional_hazard_test(
                fit, frame, time_transform=lambda times, died, _: times.where(died.astype(bool)).rank()
            )
        result.loc[list(design), "ph_p"] = tested.p_value


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
