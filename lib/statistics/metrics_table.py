"""The rows of metrics.csv: `spot_rows` of spots in sections, `outcome_rows` of patients with a yes-or-no outcome,
`survival_rows` of patients' times to an event; and the tables beside them. What a row averages and resamples is told
in `lib.statistics.intervals`, and in its `how`.

A metric that cannot be computed has NaN for estimate, low and high (an empty field in the file) and the reason in `how`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd

from lib.statistics.classification import (
    METRICS,
    NotComputable,
    called,
    gmm_threshold,
    platt,
    prevalence_threshold,
    probability,
)
from lib.statistics.concordance import auc_at, brier_at, harrell_draws, uno
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

NAMES, ENDS = ["model", "cohort", "setting", "metric"], ["estimate", "low", "high"]
COLUMNS = [*NAMES, *ENDS, "n", "events", "seeds", "how"]
SPOT_CUTS = {
    "gmm": "cut from a two-Gaussian mixture of the section's scores, no labels",
    "calibrated": "cut at probability 0.5, calibrated on training spots",
    "oracle": "ORACLE cut from the section's true prevalence, reads test labels",
}
SPOT_CALLED = ("f1", "sensitivity", "specificity", "precision", "accuracy")
OUTCOME_CALLED = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "f1")
RISK_CUTS = {
    "fold_median": "cut at the median of each fold",
    "pooled_median": "cut at one median over all folds",
}


def _row(
    names: Sequence[str], counts: Sequence[int], measured: Callable[[], Interval], words: str = ""
) -> dict:
    """A row of `COLUMNS`: names (model, cohort, setting, metric), counts (n, events, seeds), and what was measured, or why not."""
    row = dict.fromkeys(COLUMNS, np.nan) | dict(zip(COLUMNS, names, strict=False))
    row |= dict(zip(("n", "events", "seeds"), counts, strict=True))
    try:
        found = measured()
        row |= {name: getattr(found, name) for name in (*ENDS, "n", "events")}
        return row | {"how": "; ".join(part for part in (words, found.how) if part)}
    except NotComputable as reason:
        return row | {"how": f"not computable: {reason}"}


def written_out(row: pd.Series) -> str:
    """A row's estimate and interval as text."""
    if np.isnan(row["estimate"]):
        return "not computable"
    return f"{row['estimate']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def _spot_calls(sections: Sequence[ScoredSection], rule: str) -> tuple[list[ScoredSection], dict[str, str]]:
    """Each section with 0/1 calls as scores, seed by seed, and why sections without a cut are left out."""
    decided, left_out = [], {}
    for section in sections:
        try:
            if rule == "gmm":
                cuts = [gmm_threshold(scores) for scores in section.every_score()]
            elif rule == "oracle":
                share = float(section.labels.mean())
                cuts = [prevalence_threshold(scores, share) for scores in section.scores]
            else:
                if section.scores.min() < 0 or section.scores.max() > 1:
                    raise ValueError(f"{section.name}: the calibrated rule needs probabilities")
                cuts = [0.5] * len(section.scores)
            decided.append(section.with_scores(called(section.scores, np.array(cuts)[:, None])))
        except NotComputable as reason:
            left_out[f"{section.section} of {section.patient}"] = str(reason)
    return decided, left_out


def spot_row(
    model: str,
    cohort: str,
    setting: str,
    metric: str,
    sections: Sequence[ScoredSection],
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, object]:
    """One row of metrics.csv of spots.

    Parameters
    ----------
    metric : str
        "auc", "ap", "prevalence", "brier" (needs probabilities), or one of `SPOT_CALLED` with its rule of `SPOT_CUTS`,
        such as "f1_gmm", "f1_calibrated" (needs probabilities), "sensitivity_oracle".
    sections : sequence of ScoredSection
        Scores, or probabilities where the metric needs them.
    """
    base, _, rule = metric.partition("_")
    if bool(rule) != (base in SPOT_CALLED) or (rule and rule not in SPOT_CUTS):
        raise ValueError(
            f'unknown metric "{metric}": {", ".join(SPOT_CALLED)} need a threshold rule in their name, such as f1_gmm, '
            f"and take one of {', '.join(SPOT_CUTS)}; the others take none"
        )

    def measured() -> Interval:
        decided, left_out = _spot_calls(sections, rule) if rule else (sections, {})
        if not decided:
            raise NotComputable("; ".join(f"section {name}: {why}" for name, why in left_out.items()))
        return interval(decided, base, draws, seed, left_out=left_out)

    events = int(sum(section.labels.sum() for section in sections))
    counts = (sum(section.labels.size for section in sections), events, len(sections[0].scores))
    row = _row((model, cohort, setting, metric), counts, measured)
    return row | {"how": f"{SPOT_CUTS[rule]}; {row['how']}"} if rule else row


def spot_rows(
    model: str,
    cohort: str,
    setting: str,
    sections: Sequence[ScoredSection],
    probabilities: Sequence[ScoredSection] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Every metric of one model on the spots of one setting.

    Parameters
    ----------
    sections : sequence of ScoredSection
        Test scores; higher = more cancer-like.
    probabilities : sequence of ScoredSection, optional
        The same spots under `classification.probability` fitted on training spots: adds the calibrated cut and brier.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`; rows auc, ap, prevalence, brier, then f1, sensitivity, specificity for each rule of `SPOT_CUTS`.
    """
    wanted = [(metric, sections) for metric in ("auc", "ap", "prevalence")]
    wanted.append(("brier", probabilities))
    for rule in SPOT_CUTS:
        under = probabilities if rule == "calibrated" else sections
        wanted += [(f"{metric}_{rule}", under) for metric in ("f1", "sensitivity", "specificity")]
    rows = [
        spot_row(model, cohort, setting, metric, under, draws, seed)
        for metric, under in wanted
        if under is not None
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def section_rows(
    sections: Sequence[ScoredSection], metric: str = "auc", draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """A metric of every section alone, for a forest: label, patient, estimate, low, high, n, events, how.

    The intervals resample the section's spatial blocks only. Metric names as `spot_row`.
    """
    rows = [
        {"label": section.section, "patient": section.patient}
        | spot_row("", "", "", metric, [section], draws, seed)
        for section in sections
    ]
    return pd.DataFrame(rows, columns=["label", "patient", *ENDS, "n", "events", "how"])


def calibrated(scores: pd.DataFrame) -> pd.DataFrame:
    """Test spots of one run with a `probability` of cancer, fitted on its training spots (Platt).

    The fit saw training spots the model was fitted on, so it is as sure as the model is on those.

    Parameters
    ----------
    scores : DataFrame
        One run: section, patient, spot, label, split ("train" or "test"), score (higher = more cancer-like).
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
        # one order for labels, scores and places, whatever the predictions have
        table = rows.pivot(index="seed", columns="spot", values=column).reindex(index=seeds, columns=xy.index)
        if table.isna().any(axis=None):
            seed = table.index[table.isna().any(axis=1)][0]
            raise ValueError(f"seed {seed} did not score every spot of section {name}: run 3-train again")
        labels = labels.loc[xy.index]
        sections.append(ScoredSection.of_spots(patient, name, labels, table.to_numpy(), xy.to_numpy(), side))
    return sections


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
    """Every metric of one model of a yes-or-no outcome on patients it was not trained on.

    Parameters
    ----------
    predictions : DataFrame
        One row a held-out patient and seed: patient, fold, seed, label (1 has the outcome), score (higher = more likely
        so); optionally probability (0 to 1) and, for each rule, `called_<rule>` (0 or 1), cut by a threshold that was
        fitted on training patients.
    rules : mapping of rule to str, optional
        What each rule is, for `how`; see `lib.statistics.classification`.
    pooled : bool
        Compare patients of different folds too: only where all folds score on one scale, as one model tested outside
        does. Else the mean over folds of what is computed within each.
    draws, seed : int
        Of the bootstrap over patients, within fold and outcome.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`; rows auc, ap, prevalence, brier where there are probabilities, and `<metric>_<rule>` for
        `OUTCOME_CALLED`.

    Raises
    ------
    ValueError
        A column is missing, a patient twice in one seed or with two labels or folds, or seeds of other patients.
    """
    needed = ["patient", "fold", "seed", "label", "score"]
    if missing := [column for column in needed if column not in predictions]:
        raise ValueError(f"predictions of {name} lack {missing}; they have {list(predictions.columns)}")
    if predictions.duplicated(["seed", "patient"]).any():
        raise ValueError(f"{name} predicts a patient twice in one seed")
    calls = [column for column in predictions if column.startswith("called_")]
    columns = ["label", "score", *(["probability"] if "probability" in predictions else []), *calls]
    wide = {column: _wide(name, predictions, column) for column in columns}
    if (predictions.groupby("patient")[["label", "fold"]].nunique() > 1).any(axis=None):
        raise ValueError(f"{name}: a patient has two labels or is held out by two folds")
    patients = predictions.drop_duplicates("patient").sort_values("patient")
    fold = np.zeros(len(patients)) if pooled else patients["fold"].to_numpy()
    labels = wide["label"][0]
    wanted = [(metric, metric, "score", "") for metric in ("auc", "ap", "prevalence")]
    wanted += [("brier", "brier", "probability", "")] if "probability" in wide else []
    for column in calls:
        rule = column.removeprefix("called_")
        words = (rules or {}).get(rule, rule)
        wanted += [(f"{metric}_{rule}", metric, column, words) for metric in OUTCOME_CALLED]
    mean = "all patients together" if pooled else f"mean over {len(set(fold))} folds"
    events = int(labels.sum())

    def measured(metric: str, column: str) -> Interval:
        def within(rows: np.ndarray) -> list[DrawsFunction]:
            return [partial(METRICS[metric], labels[rows], values[rows]) for values in wide[column]]

        return patient_interval(
            mean_over_folds(fold, within),
            patients["patient"].to_numpy(),
            draws=draws,
            seed=seed,
            strata=strata(fold, labels),
            events=events,
        )

    rows = []
    for row, metric, column, rule in wanted:
        words = "; ".join(part for part in (rule, mean) if part)
        counts = (len(patients), events, len(wide["score"]))
        rows.append(_row((name, cohort, setting, row), counts, partial(measured, metric, column), words))
    return pd.DataFrame(rows, columns=COLUMNS)


def _wide(name: str, predictions: pd.DataFrame, column: str) -> np.ndarray:
    """(seeds, patients), patients in the order of their names."""
    table = predictions.pivot(index="seed", columns="patient", values=column).sort_index(axis=1)
    if not np.isfinite(values := table.to_numpy(dtype=float)).all():
        patient = table.columns[~np.isfinite(values).all(axis=0)][0]
        raise ValueError(f"{name}: patient {patient} has no finite {column} in every seed")
    return values


def survival_draws(
    model: HeldOut,
    metric: str,
    horizons: Sequence[float] = (),
    censoring: Mapping[str, Censoring] | None = None,
) -> DrawsFunction:
    """Draws function of a survival metric, mean over seeds within each fold, then over folds.

    Parameters
    ----------
    metric : str
        "c_index", "c_index_ipcw", "auc_t_<months>", "brier_t_<months>", "ibs".
    horizons : sequence of float
        The last one limits c_index_ipcw and ibs.
    censoring : mapping of fold to Censoring
        Of the fold's training patients; c_index needs none.

    Raises
    ------
    NotComputable
        Survival probabilities are asked of a model that gives a bare risk; or an event or horizon lies where the
        censoring is unknown.
    ValueError
        An unknown metric, or a horizon at which the model says nothing.
    """
    name, _, at = metric.partition("_t_")
    if metric not in ("c_index", "c_index_ipcw", "ibs") and not (name in ("auc", "brier") and at):
        raise ValueError(f'unknown metric "{metric}"')
    if name in ("brier", "ibs"):
        if model.survival is None:
            raise NotComputable("the model gives a risk and no survival probabilities")
        times = model.times[model.times <= horizons[-1]] if metric == "ibs" else np.array([float(at)])
        columns = np.flatnonzero(np.isin(model.times, times))
        if columns.size < times.size:
            raise ValueError(f"{metric}: the model gives survival at {model.times.tolist()} months only")

    def of_seed(rows: np.ndarray, seed: int) -> DrawsFunction:
        time, event, risk = model.time[rows], model.event[rows], model.risk[seed, rows]
        if metric == "c_index":
            return partial(harrell_draws, time, event, risk)
        fitted = censoring[model.fold[rows[0]]]
        if metric == "c_index_ipcw":
            return uno(time, event, risk, horizons[-1], fitted)
        if name == "auc":
            return auc_at(time, event, risk, float(at), fitted)
        return brier_at(time, event, model.survival[seed][np.ix_(rows, columns)], times, fitted)

    def within(rows: np.ndarray) -> list[DrawsFunction]:
        return [of_seed(rows, seed) for seed in range(len(model.risk))]

    return mean_over_folds(model.fold, within)


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
    """One row of metrics.csv of survival; see `survival_draws`."""

    def measured() -> Interval:
        return patient_interval(
            survival_draws(model, metric, horizons, censoring),
            model.patient,
            **_resampling(model, draws, seed),
        )

    words = f"mean over {len(set(model.fold))} folds, each on the patients it held out"
    return _row((name, cohort, setting, metric), _counts(model), measured, words)


def _resampling(model: HeldOut, draws: int, seed: int) -> dict[str, object]:
    n, events, _ = _counts(model)
    return {"draws": draws, "seed": seed, "strata": strata(model.fold, model.event), "n": n, "events": events}


def _counts(model: HeldOut) -> tuple[int, int, int]:
    return model.time.size, int(model.event.sum()), len(model.risk)


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
    """Every metric of one survival model in one setting, such as a cancer type.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`; rows c_index, c_index_ipcw, auc_t and brier_t at each horizon, ibs, and the log-rank p of high
        against low risk under both rules of `RISK_CUTS`.
    """
    metrics = ["c_index", "c_index_ipcw", *(f"auc_t_{h:g}" for h in horizons)]
    metrics += [*(f"brier_t_{h:g}" for h in horizons), "ibs"]
    rows = [
        survival_row(name, cohort, setting, model, metric, horizons, censoring, draws, seed)
        for metric in metrics
    ]
    for test in risk_groups({name: model}).itertuples():
        how = f"log-rank p, {RISK_CUTS[test.cut]}, at or above is high risk; "
        how += f"not computable: {test.why}" if test.why else f"chi-square {test.chi_square:.2f}"
        names, (n, events, seeds) = (name, cohort, setting, f"logrank_p_{test.cut}"), _counts(model)
        rows.append(dict(zip(COLUMNS, (*names, test.p, np.nan, np.nan, n, events, seeds, how), strict=True)))
    return pd.DataFrame(rows, columns=COLUMNS)


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
        model, cut (a rule of `RISK_CUTS`), high, high_events, low, low_events, chi_square, p, why. Without two groups the
        numbers are NaN and `why` says the reason.
    """
    rows = []
    for name, model in models.items():
        for rule in RISK_CUTS:
            row: dict[str, object] = {"model": name, "cut": rule, "why": ""}
            try:
                group = risk_group(model, rule)
                for side in ("high", "low"):
                    row |= {side: (group == side).sum(), f"{side}_events": model.event[group == side].sum()}
                test = logrank(model.time, model.event, group)
                row |= {"chi_square": test.statistic, "p": test.p}
            except NotComputable as reason:
                row["why"] = str(reason)
            rows.append(row)
    columns = ["model", "cut", "high", "high_events", "low", "low_events", "chi_square", "p", "why"]
    return pd.DataFrame(rows, columns=columns)


def c_index_by_fold(models: Mapping[str, HeldOut]) -> pd.DataFrame:
    """Harrell's c-index of every fold, mean over seeds: model, fold, n, events, c_index (NaN without a pair)."""
    rows = []
    for name, model in models.items():
        for fold in dict.fromkeys(model.fold.tolist()):
            held_out = model.on(model.patient[model.fold == fold])
            value = survival_draws(held_out, "c_index")(np.ones((1, held_out.time.size), dtype=int))[0]
            n, events, _ = _counts(held_out)
            rows.append({"model": name, "fold": fold, "n": n, "events": events, "c_index": float(value)})
    return pd.DataFrame(rows)


def c_index_differences(models: Mapping[str, HeldOut], draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Paired differences of the c-index between all pairs of models, on the patients that both held out.

    Returns
    -------
    DataFrame
        model, minus, difference (above 0 the first is better), low, high, n, how.
    """
    rows = []
    for (a, first), (b, second) in combinations(models.items(), 2):
        first, second = first.on(second.patient), second.on(first.patient)
        found = paired_patient_difference(
            survival_draws(first, "c_index"),
            survival_draws(second, "c_index"),
            first.patient,
            **_resampling(first, draws, seed),
        )
        rows.append((a, b, found.estimate, found.low, found.high, found.n, found.how))
    return pd.DataFrame(rows, columns=["model", "minus", "difference", "low", "high", "n", "how"])
