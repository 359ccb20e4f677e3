"""The rows of metrics.csv: of spots in sections, of patients with a yes-or-no outcome, of patients' survival."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd

from lib.statistics import intervals as weighted
from lib.statistics.classification import (
    NotComputable,
    called,
    gmm_threshold,
    platt,
    prevalence_threshold,
    probability,
)
from lib.statistics.concordance import harrell_draws
from lib.statistics.intervals import (
    DrawsFunction,
    Interval,
    ScoredSection,
    interval,
    mean_over_folds,
    paired_patient_difference,
    patient_interval,
    strata,
)
from lib.statistics.survival import Censoring, HeldOut, fold_median, logrank, pooled_median

COLUMNS = [
    "model",
    "cohort",
    "setting",
    "metric",
    "estimate",
    "low",
    "high",
    "n",
    "events",
    "seeds",
    "how",
]
SPOT_CUTS = {
    "gmm": "cut from a two-Gaussian mixture of the section's scores, no labels",
    "calibrated": "cut at probability 0.5, calibrated on training spots",
    "oracle": "ORACLE cut from the section's true prevalence, reads test labels",
}
CALLED = ("f1", "sensitivity", "specificity", "precision", "accuracy")


def _calls(sections: Sequence[ScoredSection], rule: str) -> tuple[list[ScoredSection], dict[str, str]]:
    """Each section's scores turned into 0/1 calls by a rule, seed by seed.

    Parameters
    ----------
    sections : sequence of ScoredSection
        Scores; for "calibrated", probabilities.
    rule : {"gmm", "calibrated", "oracle"}
        See `SPOT_CUTS`.

    Returns
    -------
    sections : list of ScoredSection
        With calls as scores; those without a cut are left out.
    left_out : dict of section to reason

    Raises
    ------
    ValueError
        Unknown rule, or probabilities outside 0 to 1.
    """
    if rule not in SPOT_CUTS:
        raise ValueError(f'unknown rule "{rule}"; known are {", ".join(SPOT_CUTS)}')
    decided, left_out = [], {}
    for section in sections:
        try:
            decided.append(section.with_scores(called(section.scores, _spot_cuts(section, rule))))
        except NotComputable as reason:
            left_out[f"{section.section} of {section.patient}"] = str(reason)
    return decided, left_out


def _spot_cuts(section: ScoredSection, rule: str) -> np.ndarray:
    """Cut of each seed, (seeds, 1)."""
    if rule == "gmm":
        return np.array([[gmm_threshold(scores)] for scores in section.every_score()])
    if rule == "oracle":
        share = float(section.labels.mean())
        return np.array([[prevalence_threshold(scores, share)] for scores in section.scores])
    if section.scores.min() < 0 or section.scores.max() > 1:
        raise ValueError(
            f"section {section.section} of patient {section.patient}: the calibrated rule needs probabilities"
        )
    return np.full((len(section.scores), 1), 0.5)


def spot_row(
    model: str,
    cohort: str,
    setting: str,
    metric: str,
    sections: Sequence[ScoredSection],
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, object]:
    """One row of metrics.csv.

    Parameters
    ----------
    model, cohort, setting : str
    metric : str
        "auc", "ap", "prevalence", "brier" (needs probabilities), or one of `CALLED` with its rule, such as
        "f1_gmm", "f1_calibrated" (needs probabilities), "sensitivity_oracle".
    sections : sequence of ScoredSection
        Scores, or probabilities where the metric needs them.
    draws, seed
        See `intervals.interval`.

    Returns
    -------
    dict
        Keys are `COLUMNS`. A metric that cannot be computed has NaN for estimate, low and high (an empty
        field in the file) and the reason in `how`.

    Raises
    ------
    ValueError
        Unknown metric name.
    """
    base, _, rule = metric.partition("_")
    if rule and base not in CALLED:
        raise ValueError(f'"{metric}": {base} takes no threshold rule; those that do are {", ".join(CALLED)}')
    if not rule and base in CALLED:
        raise ValueError(f'"{metric}" needs its threshold rule in its name, such as {base}_gmm')
    left_out: Mapping[str, str] = {}
    given = sections
    found: dict[str, object] = {"estimate": np.nan, "low": np.nan, "high": np.nan}
    try:
        if rule:
            sections, left_out = _calls(sections, rule)
            if not sections:
                raise NotComputable("; ".join(f"section {name}: {why}" for name, why in left_out.items()))
        measured = interval(sections, base, draws, seed, left_out=left_out)
        found = {name: getattr(measured, name) for name in ("estimate", "low", "high", "n", "events")}
        how = measured.how
    except NotComputable as reason:
        how = f"not computable: {reason}"
        found["n"] = sum(section.labels.size for section in given)
        found["events"] = int(sum(section.labels.sum() for section in given))
    names = {"model": model, "cohort": cohort, "setting": setting, "metric": metric}
    how = f"{SPOT_CUTS[rule]}; {how}" if rule else how
    return {**names, **found, "seeds": len(given[0].scores), "how": how}


def spot_rows(
    model: str,
    cohort: str,
    setting: str,
    sections: Sequence[ScoredSection],
    probabilities: Sequence[ScoredSection] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Every metric of one model in one setting.

    Parameters
    ----------
    sections : sequence of ScoredSection
        Test scores; higher = more cancer-like.
    probabilities : sequence of ScoredSection, optional
        The same spots under `thresholds.probability` fitted on training spots: adds f1_calibrated,
        sensitivity_calibrated, specificity_calibrated and brier.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`; rows auc, ap, prevalence, then f1, sensitivity, specificity for each rule.
    """
    wanted = [(metric, sections) for metric in ("auc", "ap", "prevalence")]
    if probabilities is not None:
        wanted.append(("brier", probabilities))
    for rule in SPOT_CUTS:
        under = probabilities if rule == "calibrated" else sections
        if under is not None:
            wanted += [(f"{metric}_{rule}", under) for metric in ("f1", "sensitivity", "specificity")]
    rows = [spot_row(model, cohort, setting, metric, under, draws, seed) for metric, under in wanted]
    return pd.DataFrame(rows, columns=COLUMNS)


def section_rows(
    sections: Sequence[ScoredSection], metric: str = "auc", draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """A metric of every section alone, for a forest: label, patient, estimate, low, high, n, events, how.

    The intervals resample the section's spatial blocks only. Metric names as `row`.
    """
    rows = []
    for section in sections:
        found = spot_row("", "", "", metric, [section], draws, seed)
        rows.append({"label": section.section, "patient": section.patient, **found})
    columns = ["label", "patient", "estimate", "low", "high", "n", "events", "how"]
    return pd.DataFrame(rows, columns=columns)


def calibrated(scores: pd.DataFrame) -> pd.DataFrame:
    """Test spots of one run with a probability of cancer, fitted on its training spots (Platt).

    Parameters
    ----------
    scores : DataFrame
        One run: section, patient, spot, label, split ("train" or "test"), score (higher = more cancer-like).

    Returns
    -------
    DataFrame
        The test rows, and `probability`, 0 to 1. The fit saw training spots the model was fitted on, so it is
        as sure as the model is on those.
    """
    train = scores[(scores["split"] == "train") & scores["label"].notna()]
    slope, intercept = platt(train["label"], train["score"])
    test = scores[scores["split"] == "test"]
    return test.assign(probability=probability(test["score"], slope, intercept).astype(np.float32))


def scored_sections(
    predictions: pd.DataFrame, places: dict[str, tuple[pd.DataFrame, float]], column: str = "score"
) -> list[ScoredSection]:
    """One model's predictions in one setting, section by section, all seeds stacked.

    Parameters
    ----------
    predictions : DataFrame
        Rows of one model and setting, in any order: seed, patient, section, spot, label and `column`.
    places : dict
        Section -> positions (n, 2) indexed by spot, and the side of a spatial block.

    Raises
    ------
    ValueError
        A seed that did not score every spot of a section (the run is not whole), or positions of other spots.
    """
    sections, seeds = [], sorted(predictions["seed"].unique())
    for (patient, name), rows in predictions.groupby(["patient", "section"], sort=True):
        xy, side = places[name]
        labels = rows.drop_duplicates("spot").set_index("spot")["label"]
        if set(labels.index) != set(xy.index):
            raise ValueError(
                f"section {name} has {len(labels)} spots in the predictions and other ones in its h5ad: run 3-train again"
            )
        spots = list(xy.index)  # one order for labels, scores and places, whatever the predictions have
        table = rows.pivot(index="seed", columns="spot", values=column).reindex(index=seeds, columns=spots)
        if table.isna().any(axis=None):
            seed = table.index[table.isna().any(axis=1)][0]
            raise ValueError(f"seed {seed} did not score every spot of section {name}: run 3-train again")
        xy = xy.loc[spots].to_numpy()
        sections.append(ScoredSection.of_spots(patient, name, labels.loc[spots], table.to_numpy(), xy, side))
    return sections


OUTCOME_CALLED = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "f1")
NEEDED = ("patient", "fold", "seed", "label", "score")


def outcome_rows(
    name: str,
    cohort: str,
    setting: str,
    predictions: pd.DataFrame,
    rules: Mapping[str, str] | None = None,
    *,
    pooled: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Every metric of one model on patients it was not trained on.

    Parameters
    ----------
    name, cohort, setting : str
    predictions : DataFrame
        One row a held-out patient and seed: patient, fold, seed, label (1 has the outcome), score (higher = more likely
        so); optionally probability (0 to 1) and, for each rule, `called_<rule>` (0 or 1), cut by a threshold that was
        fitted on training patients.
    rules : mapping of rule to str, optional
        What each rule is, for `how`; see `lib.statistics.classification`.
    pooled : bool
        Compare patients of different folds too: only where all folds score on one scale, as one model tested
        outside does. Else the mean over folds of what is computed within each.
    draws, seed : int
        Of the bootstrap over patients, within fold and outcome.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`; rows auc, ap, prevalence, brier where there are probabilities, and
        `<metric>_<rule>` for accuracy, sensitivity, specificity, ppv, npv and f1. Without a value: NaN, and the reason
        in `how`.

    Raises
    ------
    ValueError
        A column is missing, a patient twice in one seed or with two labels or folds, or seeds of other patients.
    """
    if missing := [column for column in NEEDED if column not in predictions]:
        raise ValueError(f"predictions of {name} lack {missing}; they have {list(predictions.columns)}")
    told = [c for c in predictions if c in ("label", "score", "probability") or c.startswith("called_")]
    wide = {column: _wide(name, predictions, column) for column in told}
    patients = predictions.drop_duplicates("patient").sort_values("patient")
    fold = np.zeros(len(patients)) if pooled else patients["fold"].to_numpy()
    labels = wide["label"][0]
    if (predictions.groupby("patient")[["label", "fold"]].nunique() > 1).any(axis=None):
        raise ValueError(f"{name}: a patient has two labels or is held out by two folds")
    wanted = [(metric, metric, "score", "") for metric in ("auc", "ap", "prevalence")]
    if "probability" in wide:
        wanted.append(("brier", "brier", "probability", ""))
    for rule in (column.removeprefix("called_") for column in wide if column.startswith("called_")):
        wanted += [
            (f"{metric}_{rule}", metric, f"called_{rule}", (rules or {}).get(rule, rule))
            for metric in OUTCOME_CALLED
        ]
    mean = "all patients together" if pooled else f"mean over {len(set(fold))} folds"
    rows = []
    for row, metric, column, rule in wanted:
        found, how = dict.fromkeys(("estimate", "low", "high"), np.nan), ""
        try:
            interval = patient_interval(
                mean_over_folds(fold, partial(_within, weighted.METRICS[metric], labels, wide[column])),
                patients["patient"].to_numpy(),
                draws=draws,
                seed=seed,
                strata=strata(fold, labels),
                events=int(labels.sum()),
            )
            found = {end: getattr(interval, end) for end in found}
            how = "; ".join(part for part in (rule, mean, interval.how) if part)
        except NotComputable as reason:
            how = f"not computable: {reason}"
        about = {"model": name, "cohort": cohort, "setting": setting, "metric": row, **found}
        counts = {"n": len(patients), "events": int(labels.sum()), "seeds": len(wide["score"])}
        rows.append({**about, **counts, "how": how})
    return pd.DataFrame(rows, columns=COLUMNS)


def _within(metric, labels: np.ndarray, values: np.ndarray, rows: np.ndarray) -> Sequence[DrawsFunction]:
    return [partial(metric, labels[rows], one[rows]) for one in values]


def _wide(name: str, predictions: pd.DataFrame, column: str) -> np.ndarray:
    """(seeds, patients), patients in the order of their names."""
    if predictions.duplicated(["seed", "patient"]).any():
        raise ValueError(f"{name} predicts a patient twice in one seed")
    table = predictions.pivot(index="seed", columns="patient", values=column).sort_index(axis=1)
    if not np.isfinite(values := table.to_numpy(dtype=float)).all():
        patient = table.columns[~np.isfinite(values).all(axis=0)][0]
        raise ValueError(f"{name}: patient {patient} has no finite {column} in every seed")
    return values


def written_out(row: pd.Series) -> str:
    """A row's estimate and interval as text."""
    if np.isnan(row["estimate"]):
        return "not computable"
    return f"{row['estimate']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def uno(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, tau: float, censoring: Censoring
) -> DrawsFunction:
    """`concordance.uno` in every draw; NaN in one without a comparable pair."""
    weights = censoring.weights(time, event & (time < tau)) ** 2
    return lambda counts: harrell_draws(time, event, risk, counts, event_weights=weights)


def auc_at(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, horizon: float, censoring: Censoring
) -> DrawsFunction:
    """`horizon.auc_at` at one horizon in every draw; NaN in one without a case or without a control."""
    case, control = event & (time <= horizon), time > horizon
    weights = np.where(control, 1.0, censoring.weights(time, case))
    kept = np.flatnonzero(case | control)
    labels = case[kept].astype(float)
    return lambda counts: weighted.auc(labels, risk[kept], counts[:, kept] * weights[kept])


def brier(
    time: np.ndarray, event: np.ndarray, survival: np.ndarray, times: np.ndarray, censoring: Censoring
) -> DrawsFunction:
    """`horizon.brier_at` at one time, or `horizon.integrated_brier` over several, in every draw.

    Parameters
    ----------
    survival : array (n, times)
    times : array (times,)
        Ascending; several are integrated by trapezoids and divided by their range.
    """
    terms = np.empty(survival.shape)
    for column, at in enumerate(times):
        died = censoring.weights(time, event & (time <= at)) * survival[:, column] ** 2
        alive = (time > at) * (1 - survival[:, column]) ** 2 / censoring.survival(np.array([at]))
        terms[:, column] = died + alive
    term = np.trapezoid(terms, times, axis=1) / (times[-1] - times[0]) if len(times) > 1 else terms[:, 0]
    return lambda counts: counts @ term / counts.sum(axis=1)


RISK_CUTS = {
    "fold_median": "cut at the median of each fold",
    "pooled_median": "cut at one median over all folds",
}
MEAN = "mean over {folds} folds, each on the patients it held out"


def c_index_draws(model: HeldOut) -> DrawsFunction:
    """Harrell's c-index, mean over seeds within each fold, then over folds: counts (draws, n) -> (draws,)."""

    def within(rows: np.ndarray) -> list[DrawsFunction]:
        time, event = model.time[rows], model.event[rows]
        return [_given(harrell_draws, time, event, risk[rows]) for risk in model.risk]

    return mean_over_folds(model.fold, within)


def _given(function: Callable, *first: object) -> DrawsFunction:
    return lambda counts: function(*first, counts)


def _censored(
    model: HeldOut,
    censoring: Mapping[str, Censoring],
    one: Callable[[np.ndarray, int, Censoring], DrawsFunction],
) -> DrawsFunction:
    """Mean over folds of a metric that needs the censoring of the fold's training patients."""

    def within(rows: np.ndarray) -> list[DrawsFunction]:
        fitted = censoring[model.fold[rows[0]]]
        return [one(rows, seed, fitted) for seed in range(len(model.risk))]

    return mean_over_folds(model.fold, within)


def draws_of(
    model: HeldOut, metric: str, horizons: Sequence[float], censoring: Mapping[str, Censoring]
) -> DrawsFunction:
    """A metric's draws function, by its name in metrics.csv.

    Parameters
    ----------
    model : HeldOut
    metric : str
        "c_index", "c_index_ipcw", "auc_t_<months>", "brier_t_<months>", "ibs".
    horizons : sequence of float
        The last one limits c_index_ipcw and ibs.
    censoring : mapping of fold to Censoring
        Of the fold's training patients.

    Raises
    ------
    NotComputable
        Survival probabilities are asked of a model that gives a bare risk; or an event or horizon lies where
        the censoring is unknown.
    ValueError
        An unknown metric, or a horizon at which the model says nothing.
    """
    t, e = model.time, model.event
    name, _, at = metric.partition("_t_")
    if metric == "c_index":
        return c_index_draws(model)
    if metric == "c_index_ipcw":
        return _censored(
            model,
            censoring,
            lambda rows, seed, g: uno(t[rows], e[rows], model.risk[seed, rows], horizons[-1], g),
        )
    if name == "auc" and at:
        return _censored(
            model,
            censoring,
            lambda rows, seed, g: auc_at(t[rows], e[rows], model.risk[seed, rows], float(at), g),
        )
    if metric != "ibs" and not (name == "brier" and at):
        raise ValueError(f'unknown metric "{metric}"')
    if model.survival is None:
        raise NotComputable("the model gives a risk and no survival probabilities")
    times = model.times[model.times <= horizons[-1]] if metric == "ibs" else np.array([float(at)])
    columns = np.flatnonzero(np.isin(model.times, times))
    if columns.size < times.size:
        raise ValueError(f"{metric}: the model gives survival at {model.times.tolist()} months only")
    return _censored(
        model,
        censoring,
        lambda rows, seed, g: brier(t[rows], e[rows], model.survival[seed][np.ix_(rows, columns)], times, g),
    )


def survival_row(
    name: str,
    cohort: str,
    setting: str,
    model: HeldOut,
    metric: str,
    horizons: Sequence[float],
    censoring: Mapping[str, Censoring],
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, object]:
    """One row of metrics.csv; see `draws_of`. Without a value: NaN for estimate, low and high, the reason in `how`."""
    found: dict[str, object] = {"estimate": np.nan, "low": np.nan, "high": np.nan}
    try:
        interval = patient_interval(
            draws_of(model, metric, horizons, censoring),
            model.patient,
            draws=draws,
            seed=seed,
            strata=strata(model.fold, model.event),
            n=model.time.size,
            events=int(model.event.sum()),
        )
        found = {end: getattr(interval, end) for end in found}
        how = f"{MEAN.format(folds=len(set(model.fold)))}; {interval.how}"
    except NotComputable as reason:
        how = f"not computable: {reason}"
    return _survival_row((name, cohort, setting, metric), model, found, how)


def _survival_row(
    names: tuple[str, str, str, str], model: HeldOut, found: Mapping, how: str
) -> dict[str, object]:
    about = {**dict(zip(("model", "cohort", "setting", "metric"), names, strict=True)), **found}
    counts = {"n": model.time.size, "events": int(model.event.sum()), "seeds": len(model.risk)}
    return {**about, **counts, "how": how}


def risk_group(model: HeldOut, rule: str) -> np.ndarray:
    """ "high" or "low" risk of each patient by a rule of `RISK_CUTS`; risks are averaged over seeds.

    NotComputable where the rule leaves a group empty.
    """
    risk = model.risk.mean(axis=0)
    return fold_median(risk, model.fold) if rule == "fold_median" else pooled_median(risk)


def risk_groups(models: Mapping[str, HeldOut]) -> pd.DataFrame:
    """High against low risk of every model under every rule: sizes, deaths, chi-square and log-rank p.

    Returns
    -------
    DataFrame
        model, cut (a rule of `RISK_CUTS`), high, high_events, low, low_events, chi_square, p, why. Without two groups
        the numbers are NaN and `why` says the reason.
    """
    rows = []
    for name, model in models.items():
        for rule in RISK_CUTS:
            row: dict[str, object] = {"model": name, "cut": rule, "why": ""}
            try:
                own = risk_group(model, rule)
                for side in ("high", "low"):
                    row |= {
                        side: np.count_nonzero(own == side),
                        f"{side}_events": model.event[own == side].sum(),
                    }
                test = logrank(model.time, model.event, own)
                row |= {"chi_square": test.statistic, "p": test.p}
            except NotComputable as reason:
                row["why"] = str(reason)
            rows.append(row)
    columns = ["model", "cut", "high", "high_events", "low", "low_events", "chi_square", "p", "why"]
    return pd.DataFrame(rows, columns=columns)


def survival_rows(
    name: str,
    cohort: str,
    setting: str,
    model: HeldOut,
    horizons: Sequence[float],
    censoring: Mapping[str, Censoring],
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Every metric of one model in one setting, such as a cancer type.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`; rows c_index, c_index_ipcw, auc_t and brier_t at each horizon,
        ibs, and the log-rank p of high against low risk under both rules.
    """
    names = ["c_index", "c_index_ipcw", *(f"auc_t_{h:g}" for h in horizons)]
    names += [*(f"brier_t_{h:g}" for h in horizons), "ibs"]
    rows = [
        survival_row(name, cohort, setting, model, metric, horizons, censoring, draws, seed)
        for metric in names
    ]
    for test in risk_groups({name: model}).itertuples():
        how = f"log-rank p, {RISK_CUTS[test.cut]}, at or above is high risk"
        how += f"; not computable: {test.why}" if test.why else f"; chi-square {test.chi_square:.2f}"
        found = {"estimate": test.p, "low": np.nan, "high": np.nan}
        rows.append(_survival_row((name, cohort, setting, f"logrank_p_{test.cut}"), model, found, how))
    return pd.DataFrame(rows, columns=COLUMNS)


def c_index_by_fold(models: Mapping[str, HeldOut]) -> pd.DataFrame:
    """Harrell's c-index of every fold, mean over seeds: model, fold, n, events, c_index (NaN without a pair)."""
    rows = []
    for name, model in models.items():
        for fold in dict.fromkeys(model.fold.tolist()):
            own = np.flatnonzero(model.fold == fold)
            counts = np.ones((1, own.size), dtype=int)
            values = [harrell_draws(model.time[own], model.event[own], r[own], counts)[0] for r in model.risk]
            about = {"model": name, "fold": fold, "n": own.size, "events": int(model.event[own].sum())}
            rows.append({**about, "c_index": float(np.mean(values))})
    return pd.DataFrame(rows)


def c_index_differences(models: Mapping[str, HeldOut], draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Paired c_index_differences of the c-index between all pairs of models, on the patients that both held out.

    Returns
    -------
    DataFrame
        model, minus, difference (above 0 the first is better), low, high, n, how.
    """
    rows = []
    for (a, first), (b, second) in combinations(models.items(), 2):
        first, second = first.on(second.patient), second.on(first.patient)
        found: Interval = paired_patient_difference(
            c_index_draws(first),
            c_index_draws(second),
            first.patient,
            draws=draws,
            seed=seed,
            strata=strata(first.fold, first.event),
            n=first.time.size,
            events=int(first.event.sum()),
        )
        ends = {"difference": found.estimate, "low": found.low, "high": found.high}
        rows.append({"model": a, "minus": b, **ends, "n": found.n, "how": found.how})
    return pd.DataFrame(rows, columns=["model", "minus", "difference", "low", "high", "n", "how"])
