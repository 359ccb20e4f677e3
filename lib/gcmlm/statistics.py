"""Cox regression as papers print it, and whether a signature would choose the same features again on other patients.

Hazard ratios are without a penalty, fitted by lifelines (Efron's ties), and say whether they hold: how many events a
coefficient has, whether the events are separated, whether hazards are proportional.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceError
from numpy.typing import ArrayLike
from scipy.stats import chi2, norm, rankdata

from lib.statistics.intervals import MOST
from lib.statistics.metrics_table import survival_rows
from lib.statistics.survival import Censoring, HeldOut, checked_outcomes

COLUMNS = ["column", "level", "hazard_ratio", "low", "high", "p", "n", "events"]
PER_COEFFICIENT = 10  # events; Peduzzi et al., J Clin Epidemiol 48:1503 (1995)
# One patient with an event against one without gives a standard error of log hazard near 1.4; Newton's steps on a
# likelihood that rises for ever end where it is in the hundreds.
SEPARATED = 10.0


def by_time(
    who: str,
    rows: pd.DataFrame,
    cohort: pd.DataFrame,
    name: str,
    where: str,
    horizons: Sequence[float],
    draws: int,
) -> pd.DataFrame:
    """C-index and time-dependent AUC of one model in one place, as rows of metrics.csv.

    `rows`: its predictions of tested patients, ranked by hazard where it has one; `cohort` (index: patient) teaches how
    soon patients are lost: those who trained the model, as all else. The one model that meets other hospitals (`where`
    "external") is taken as given.
    """
    ranked = rows.assign(score=rows["hazard"].fillna(rows["score"])).drop(columns=["label", "hazard"])
    held = HeldOut.of(ranked, cohort.assign(fold=cohort["fold"].fillna("external")))
    held = replace(held, trained=where != "external")
    trained = cohort[cohort["set"] == "internal"]
    censoring = {
        fold: Censoring.fit(*trained.loc[trained["fold"] != fold, ["time_months", "event"]].to_numpy().T)
        for fold in set(held.fold)
    }
    metrics = survival_rows(who, name, where, held, horizons, censoring, draws)
    return metrics[metrics["metric"].str.startswith(("c_index", "auc_t"))]


def univariable(
    table: pd.DataFrame, time: str, event: str, columns: Sequence[str], trained: Sequence[str] = ()
) -> pd.DataFrame:
    """`multivariable` of each column alone, on the patients who have it."""
    alone = [multivariable(table, time, event, [each], trained) for each in columns]
    return pd.concat(alone, ignore_index=True).drop(columns="ph_p")


def multivariable(
    table: pd.DataFrame, time: str, event: str, columns: Sequence[str], trained: Sequence[str] = ()
) -> pd.DataFrame:
    """Cox regression on all columns together, on complete cases, unpenalised, Efron's ties, Wald intervals of 95 %.

    Parameters
    ----------
    table : DataFrame
        One row a patient.
    time, event : str
        Columns of the follow-up (0 or longer) and of the event (1) or censoring (0); none missing.
    columns : sequence of str
        Numbers, whose hazard ratio is per standard deviation of the patients in the fit (of 0 and 1: of 1 against 0), or
        words and booleans, which are categories: each level against the most frequent one of the table.
    trained : sequence of str
        Those that are held-out scores of a cross-validation. Its models share training patients, which nearly doubles the
        variance of the coefficient where the score is worth nothing (`lib.statistics.intervals.training_share`): else 14 to
        17 % of such scores have p < .05.

    Returns
    -------
    DataFrame
        column; level (for a number its step); hazard_ratio (above 1: earlier event), low, high, p (Wald); n, events
        (of the level, or of the fit for a number); ph_p, of the score test `proportional_hazards`, small where the ratio
        changes over time; how: what was left out, what is doubtful. The level compared with has hazard ratio 1 and no
        interval. Without a value: NaN, and the reason in `how`.
    """
    whole = table[list(columns)].notna().all(axis=1)
    cases = table[whole].reset_index(drop=True)
    died = cases[event].astype(int)
    rows, design = [], {}
    for name in columns:
        for row, values in _terms(name, cases[name], table[name].value_counts(), died):
            if values is not None:
                design[len(rows)] = values
            rows.append({"column": name, **row})
    design = pd.DataFrame(design, index=cases.index)
    result = pd.DataFrame(rows).assign(low=np.nan, high=np.nan, p=np.nan, ph_p=np.nan)
    notes = [] if whole.all() else [f"{int((~whole).sum())} of {len(table)} patients lack a value: left out"]
    fit, failed = _cox(design.assign(_time=cases[time].astype(float), _event=died))
    if fit is not None:
        share = died.sum() / design.shape[1]
        if share < PER_COEFFICIENT:
            notes.append(
                f"{died.sum()} events for {design.shape[1]} coefficient{'s' * (design.shape[1] > 1)}: fewer than "
                f"{PER_COEFFICIENT} for each ({share:.1f}), so doubtful"
            )
        # a level's unit is itself; a number may be in any unit
        error = fit.standard_errors_ * design.std().where(result.loc[list(design), "is_number"], 1.0)
        finite = error.index[np.isfinite(error) & (error < SEPARATED)]
        log = fit.params_[finite]
        spread = fit.standard_errors_[finite] * np.sqrt(1 + MOST * result.loc[finite, "column"].isin(trained))
        reach = norm.isf(0.025) * spread
        for name, value in (("hazard_ratio", log), ("low", log - reach), ("high", log + reach)):
            result.loc[finite, name] = np.exp(value)
        result.loc[finite, "p"] = 2 * norm.sf(np.abs(log / spread))
        failed = "the likelihood has no maximum: events separate (hazard ratio 0 or infinite)"
        if len(finite) == len(error):
            outcome = cases[time].astype(float), died
            result.loc[list(design), "ph_p"], _ = proportional_hazards(design, *outcome, fit.params_)
        elif len(error) > 1:
            notes.append("a column of this fit separates the events: proportional hazards not tested")
    lost = result["hazard_ratio"].isna()
    result["how"] = result["how"].mask(lost, "not computable: " + result["how"].replace("", failed))
    result["how"] = ["; ".join(filter(None, [each, *notes])) for each in result["how"]]
    return result[[*COLUMNS, "ph_p", "how"]]


def _terms(
    name: str, column: pd.Series, counts: pd.Series, died: pd.Series
) -> Iterator[tuple[dict, pd.Series | None]]:
    """Rows of the table for a column, and what enters the fit for each; `counts` of its levels in the whole table."""
    row = {"level": "", "is_number": False, "n": len(died), "events": int(died.sum()), "hazard_ratio": np.nan}
    if column.nunique() < 2:
        same = f"the same ({column.iloc[0]}) for all {len(column)}"
        yield row | {"how": same if len(column) else "no patient has all values"}, None
    elif pd.api.types.is_numeric_dtype(column) and column.dtype != bool:
        binary = set(column.unique()) <= {0, 1}
        step = 1.0 if binary else column.std()
        words = "1 against 0" if binary else f"per SD ({step:.4g})"
        yield row | {"level": words, "is_number": True, "how": ""}, column.astype(float) / step
    else:
        # of equally frequent levels the first by name, so that the order of patients decides nothing
        first, *others = sorted(column.unique(), key=lambda level: (-counts[level], str(level)))
        for level in [first, *sorted(others, key=str)]:
            held = column == level
            row |= {"level": str(level), "n": int(held.sum()), "events": int(died[held].sum())}
            if level == first:
                yield row | {"hazard_ratio": 1.0, "how": "compared with"}, None
            else:
                none = f"none of the {row['n']} patients of this level has an event"
                yield row | {"how": "" if row["events"] else none}, held.astype(float)


def _cox(frame: pd.DataFrame) -> tuple[CoxPHFitter | None, str]:
    """The fit, or None and why there is none."""
    design = frame.drop(columns=["_time", "_event"])
    if not design.shape[1]:
        return None, "no column differs between patients"
    if not frame["_event"].any():
        return None, f"none of the {len(frame)} patients has an event"
    scaled = (design - design.mean()) / design.std()
    if np.linalg.matrix_rank(scaled.to_numpy(), tol=1e-6 * np.sqrt(len(scaled))) < design.shape[1]:
        return None, "the columns of this fit are linearly dependent: leave one out"
    with warnings.catch_warnings(record=True) as heard:
        # separation and failure to converge are judged here, by standard errors and by these words
        warnings.simplefilter("always")
        try:
            fit = CoxPHFitter().fit(frame, "_time", "_event")
        except (ConvergenceError, np.linalg.LinAlgError) as error:
            return None, f"the fit does not converge ({str(error).splitlines()[0][:100]})"
    if any("failed to converge" in str(each.message) for each in heard):
        return None, "the fit does not converge, as where a column puts the events in order without fault"
    return fit, ""


def printed(alone: pd.DataFrame, together: pd.DataFrame) -> pd.DataFrame:
    """`univariable` and `multivariable` of the same columns side by side, as text: a row a level of `alone`.

    column, level, n, events (of `alone`), univariable, p, multivariable, "p (multivariable)", "p (proportional hazards)".
    """
    steps = {"level": r"^per SD .*"}, {"level": "per SD"}  # the fits may have different patients
    keys = ["column", "level"]
    together = (
        alone[keys].replace(*steps, regex=True).merge(together.replace(*steps, regex=True), "left", keys)
    )

    def ratio(row: pd.Series) -> str:
        if np.isnan(row["hazard_ratio"]):
            return "not computable"
        interval = f"{row['hazard_ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        return "1 (reference)" if np.isnan(row["low"]) else interval

    def p(value: float) -> str:
        return "" if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"

    return alone[[*keys, "n", "events"]].assign(
        **{
            "univariable": alone.apply(ratio, axis=1),
            "p": alone["p"].map(p),
            "multivariable": together.apply(ratio, axis=1),
            "p (multivariable)": together["p"].map(p),
            "p (proportional hazards)": together["ph_p"].map(p),
        }
    )


def proportional_hazards(
    values: ArrayLike, time: ArrayLike, event: ArrayLike, coefficients: ArrayLike
) -> tuple[np.ndarray, float]:
    """p that the hazard ratio of each column of a Cox model does not change with the rank of time (columns,), and of all.

    The score test of R's `cox.zph(transform = "rank", terms = FALSE)`, survival 3 and later: each column (n, columns)
    times rank is a new covariate, at the `coefficients` (columns,) of a fit with Efron's ties and without a penalty. The
    older approximation, which lifelines has, errs by up to .7 in p where events are few.

    References
    ----------
    Grambsch and Therneau, Biometrika 81 (1994), 515, doi:10.1093/biomet/81.3.515.
    """
    time, event = checked_outcomes(time, event)
    values = np.asarray(values, dtype=float)
    hazard = np.exp((values - values.mean(axis=0)) @ np.asarray(coefficients, dtype=float))
    ranks, columns = rankdata(time), values.shape[1]
    ranks -= ranks[event].mean()
    score, information = np.zeros(2 * columns), np.zeros((2 * columns, 2 * columns))
    for at in np.unique(time[event]):
        dead = event & (time == at)
        growing = np.array([1, ranks[dead][0]])
        for share in np.arange(dead.sum()) / dead.sum():  # Efron
            weight = hazard * ((time >= at) - share * dead)
            weight /= weight.sum()
            apart = values - weight @ values
            score += np.kron(growing, apart[dead].mean(axis=0))
            information += np.kron(np.outer(growing, growing), (apart.T * weight) @ apart)
    score[:columns] = 0

    def p(tested: list[int]) -> float:
        kept = [*range(columns), *(columns + each for each in tested)]
        statistic = score[kept] @ np.linalg.solve(information[np.ix_(kept, kept)], score[kept])
        return float(chi2.sf(statistic, len(tested)))

    return np.array([p([each]) for each in range(columns)]), p(list(range(columns)))


def stability(
    fit: Callable[[pd.DataFrame, pd.Series], pd.Series],
    table: pd.DataFrame,
    label: pd.Series,
    resamples: int = 50,
    share: float = 0.8,
    seed: int = 0,
) -> tuple[pd.DataFrame, tuple[float, float, float]]:
    """Fit again and again on a share of the patients, drawn without replacement within each label, and count.

    `fit` takes table and label of some patients and gives a coefficient a feature, 0 where not selected; everything
    learned is to be learned inside.

    Returns
    -------
    DataFrame
        One row a feature, most often selected first: feature; coefficient (fitted on all patients); mean, low, high
        (mean, 2.5 % and 97.5 % quantiles over resamples, 0 where not selected); frequency (share of resamples that select
        it, 0 to 1); sign_agreement (of those, the share with the commoner sign, 0.5 to 1; NaN where never selected).
    (float, float, float)
        See `nogueira`.
    """
    codes = pd.factorize(label)[0]
    strata = [np.flatnonzero(codes == each) for each in np.unique(codes)]
    fits = [fit(table, label)]
    for number in range(resamples):
        rng = np.random.default_rng([seed, number])
        draws = [rng.choice(each, max(1, round(share * each.size)), replace=False) for each in strata]
        drawn = np.sort(np.concatenate(draws))
        fits.append(fit(table.iloc[drawn], label.iloc[drawn]))
    frame = pd.DataFrame(fits).fillna(0.0).reset_index(drop=True) + 0.0  # no -0
    drawn = frame.iloc[1:]
    chosen = drawn != 0
    positive = (drawn > 0).sum() / chosen.sum().replace(0, np.nan)
    features = pd.DataFrame(
        {
            "coefficient": frame.iloc[0],
            "mean": drawn.mean(),
            "low": drawn.quantile(0.025),
            "high": drawn.quantile(0.975),
            "frequency": chosen.mean(),
            "sign_agreement": np.maximum(positive, 1 - positive),
        }
    )
    features = features.rename_axis("feature").reset_index().assign(size=lambda each: each["mean"].abs())
    features = features.sort_values(["frequency", "size", "feature"], ascending=[False, False, True])
    return features.drop(columns="size").reset_index(drop=True), nogueira(chosen)


def nogueira(chosen: ArrayLike) -> tuple[float, float, float]:
    """Stability of feature selection, corrected for chance, of bool (sets, candidates), True where a set holds the feature.

    The index and its 95 % interval: 1 always the same features, 0 as by lot.
    The interval takes the feature sets for independent draws. Resamples of the same patients are so given these
    patients: it says how well this many resamples know the index, not what other patients would give. NaN where no set
    holds any feature, or all hold every one: chance is then no yardstick.

    References
    ----------
    Nogueira, Sechidis and Brown, JMLR 18(174) (2018): definition 4, theorem 7, corollary 9.
    """
    chosen = np.asarray(chosen).astype(float)
    sets, candidates = chosen.shape
    frequency, share = chosen.mean(axis=0), chosen.mean(axis=1)
    filled = share.mean()
    chance = filled * (1 - filled)
    if not chance:
        return np.nan, np.nan, np.nan
    index = 1 - np.mean(sets / (sets - 1) * frequency * (1 - frequency)) / chance
    parts = (chosen @ frequency / candidates - share * filled) / chance
    parts += index / 2 * (2 * share * filled - share - filled + 1) / chance
    reach = norm.ppf(0.975) * np.sqrt(4 / sets**2 * np.sum((parts - parts.mean()) ** 2))
    return float(index), float(index - reach), float(index + reach)
