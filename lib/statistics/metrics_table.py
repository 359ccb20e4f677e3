"""The rows of metrics.csv: `spot_rows` of spots in sections, `outcome_rows` of patients with a yes-or-no outcome,
`survival_rows` of patients' times to an event; and the tables beside them. What a row averages and resamples is told
in `lib.statistics.intervals`, and in its `how`.

A metric that cannot be computed has NaN for estimate, low and high (an empty field in the file) and the reason in `how`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd

from lib.names import with_interval
from lib.statistics import classification, concordance, intervals, survival
from lib.statistics.calibration import MEASURES, survival_calibration
from lib.statistics.classification import METRICS, NotComputable
from lib.statistics.intervals import DrawsFunction, Interval, ScoredSection
from lib.statistics.survival import Censoring, HeldOut
from lib.training.folds import folds_of

NAMES, ENDS = ["model", "cohort", "setting", "metric"], ["estimate", "low", "high"]
COLUMNS = [*NAMES, *ENDS, "n", "events", "seeds", "how"]
RATIO = ["hazard_ratio", "hr_low", "hr_high"]  # of high against low risk
OF_A_SIDE = ("", "_events", "_median", "_median_low", "_median_high")
SIDES = {side: [f"{side}{name}" for name in OF_A_SIDE] for side in ("high", "low")}
SPOT_CUTS = {
    "gmm": "cut from a two-Gaussian mixture of the section's scores, no labels",
    "calibrated": "cut at probability 0.5, calibrated on training spots",
    "oracle": "ORACLE cut from the section's true prevalence, reads test labels",
}
OUTCOME_CALLED = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "f1")
RISK_CUTS = {
    "fold_median": "cut at the median of each fold",
    "pooled_median": "cut at one median over all folds",
}


def _row(
    names: Sequence[str], counts: Sequence[int], measured: Callable[[], Interval], words: str = ""
) -> dict:
    """A row of `COLUMNS`: names (model, cohort, setting, metric), counts (n, events, seeds), and the interval, or why none."""
    row = dict(zip(COLUMNS, (*names, np.nan, np.nan, np.nan, *counts), strict=False))
    try:
        interval = measured()
        row |= {name: getattr(interval, name) for name in (*ENDS, "n", "events")}
        return row | {"how": "; ".join(part for part in (words, interval.how) if part)}
    except NotComputable as reason:
        return row | {"how": f"not computable: {reason}"}


def written_out(row: pd.Series, sign: bool = False) -> str:
    """A row's estimate as text, with its interval where there is one; `sign`: of a difference."""
    if np.isnan(row["estimate"]):
        return "not computable"
    return with_interval(*row[["estimate", "low", "high"]], sign=sign)


def spot_rows(
    model: str,
    cohort: str,
    setting: str,
    sections: Sequence[ScoredSection],
    probabilities: Sequence[ScoredSection] | None = None,
    draws: int = 1000,
    metrics: Sequence[str] | None = None,
    *,
    trained: bool = False,
) -> pd.DataFrame:
    """Metrics of one model on the test spots of one setting, columns `COLUMNS`; `trained` as in `intervals.interval`.

    By default auc, ap, prevalence, brier, then f1, sensitivity and specificity with each rule of `SPOT_CUTS` ("f1_gmm").
    brier and the calibrated rule need `probabilities`: the same spots under `platt`'s fit on training spots.
    """
    calls = [f"{metric}_{rule}" for rule in SPOT_CUTS for metric in ("f1", "sensitivity", "specificity")]
    rows = []
    for metric in metrics or ["auc", "ap", "prevalence", "brier", *calls]:
        base, _, rule = metric.partition("_")
        under = probabilities if base == "brier" or rule == "calibrated" else sections
        words = f"{SPOT_CUTS[rule]}; " if rule else ""
        if under is not None:
            n, events = (int(sum(count(section.labels) for section in under)) for count in (np.size, np.sum))
            how = {"called": partial(_called, rule=rule)} if rule else {}
            how["trained"] = trained and base != "prevalence"  # which no model decides
            measured = partial(intervals.interval, under, base, draws, **how)
            row = _row((model, cohort, setting, metric), (n, events, len(under[0].scores)), measured)
            rows.append(row | {"how": words + row["how"]})
    return pd.DataFrame(rows, columns=COLUMNS)


def _called(section: ScoredSection, rule: str) -> ScoredSection:
    """A section with 0/1 calls in place of scores, cut by a rule seed by seed."""
    cuts = [0.5] * len(section.scores)
    if rule == "gmm":
        cuts = [classification.gmm_threshold(scores) for scores in section.every_score()]
    elif rule == "oracle":
        share = section.labels.mean()
        cuts = [classification.prevalence_threshold(scores, share) for scores in section.scores]
    elif section.scores.min() < 0 or section.scores.max() > 1:
        raise ValueError(f"{section.name}: the calibrated rule needs probabilities")
    return section.with_scores(section.scores >= np.array(cuts)[:, None])


def cut_rows(sections: Sequence[ScoredSection], steps: int = 80) -> pd.DataFrame:
    """What cuts through the mean score over seeds call cancer: section, rule, cut, called, hits, spots, cancer.

    `rule` is "" for `steps` cuts at even distances from the lowest score to the highest, else one of `SPOT_CUTS` that needs no
    training spots. `called` labelled spots are at or above the cut, `hits` of them cancer. No row is of a single spot.
    """
    rows = []
    for section in sections:
        scores, labels = section.scores.mean(axis=0), section.labels
        cuts = [("", cut) for cut in np.linspace(scores.min(), scores.max(), steps)]
        with suppress(NotComputable):
            cuts.append(("gmm", classification.gmm_threshold(section.every_score().mean(axis=0))))
        with suppress(NotComputable):
            cuts.append(("oracle", classification.prevalence_threshold(scores, labels.mean())))
        for rule, cut in cuts:
            counts = (scores >= cut).sum(), labels[scores >= cut].sum(), labels.size, labels.sum()
            rows.append((section.section, rule, float(f"{cut:.6g}"), *map(int, counts)))
    return pd.DataFrame(rows, columns=["section", "rule", "cut", "called", "hits", "spots", "cancer"])


def section_rows(sections: Sequence[ScoredSection], metric: str = "auc", draws: int = 1000) -> pd.DataFrame:
    """A metric (as `spot_rows`) of every section alone, for a forest; the intervals resample its spatial blocks only."""
    rows = [spot_rows("", "", "", [section], draws=draws, metrics=[metric]) for section in sections]
    about = {"label": [section.section for section in sections], "patient": [s.patient for s in sections]}
    columns = ["label", "patient", *ENDS, "n", "events", "how"]
    return pd.concat(rows, ignore_index=True).assign(**about)[columns]


def calibrated(scores: pd.DataFrame) -> pd.DataFrame:
    """Test spots of one run with a `probability` of cancer, fitted on its training spots (Platt), which the model was fitted
    on: so it is as sure as the model is on those. `scores` has spots with label, split ("train" or "test") and score.
    """
    train = scores[(scores["split"] == "train") & scores["label"].notna()]
    test, fit = scores[scores["split"] == "test"], classification.platt(train["label"], train["score"])
    return test.assign(probability=classification.probability(test["score"], *fit).astype(np.float32))


def scored_sections(
    predictions: pd.DataFrame, places: dict[str, tuple[pd.DataFrame, float]], column: str = "score"
) -> list[ScoredSection]:
    """One model's predictions in one setting, section by section, all seeds stacked.

    `predictions` has rows, in any order, of seed, patient, section, spot, label and `column`; `places` a section's
    positions (n, 2) indexed by spot, and the side of a spatial block. ValueError where a seed did not score every spot of
    a section (the run is not whole), or the positions are of other spots.
    """
    sections, seeds = [], sorted(predictions["seed"].unique())
    for (patient, name), rows in predictions.groupby(["patient", "section"], sort=True):
        xy, side = places[name]
        labels = rows.drop_duplicates("spot").set_index("spot")["label"]
        if set(labels.index) != set(xy.index):
            said = f"section {name} has {len(labels)} spots in the predictions and other ones in its h5ad"
            raise ValueError(f"{said}: run 3-train again")
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
) -> pd.DataFrame:
    """Every metric of one model of a yes-or-no outcome on patients it was not trained on, columns `COLUMNS`: auc, ap,
    prevalence, brier where there are probabilities, and `<metric>_<rule>` for `OUTCOME_CALLED` and each rule.

    `predictions` has one row a held-out patient and seed: patient, fold, seed, label (1 has the outcome), score (higher =
    more likely so); optionally probability (0 to 1) and, for each rule, `called_<rule>` (0 or 1), cut by a threshold that
    was fitted on training patients. `rules` says in words what each is, for `how`. `pooled` compares patients of different
    folds too: only where all folds score on one scale, as one model tested outside does; else the mean over folds of what
    is computed within each, by models that share training patients: AUCs are then widened, and what depends on a cut or on
    the probabilities has no interval (`patient_interval`). ValueError where a column is missing, a patient is in one seed
    twice or with two labels or folds, or seeds are of other patients.
    """
    needed = ["patient", "fold", "seed", "label", "score"]
    if missing := [column for column in needed if column not in predictions]:
        raise ValueError(f"predictions of {name} lack {missing}; they have {list(predictions.columns)}")
    calls = [column for column in predictions if column.startswith("called_")]
    columns = ["label", "score", *(["probability"] if "probability" in predictions else []), *calls]
    patients = predictions.drop_duplicates("patient").sort_values("patient")
    wide = {column: survival.by_seed(name, predictions, column, patients["patient"]) for column in columns}
    if (predictions.groupby("patient")[["label", "fold"]].nunique() > 1).any(axis=None):
        raise ValueError(f"{name}: a patient has two labels or is held out by two folds")
    fold = np.zeros(len(patients)) if pooled else patients["fold"].to_numpy()
    labels = wide["label"][0]
    wanted = [(metric, metric, "score", "") for metric in ("auc", "ap", "prevalence")]
    wanted += [("brier", "brier", "probability", "")] if "probability" in wide else []
    for column in calls:
        rule = column.removeprefix("called_")
        words = (rules or {}).get(rule, rule)
        wanted += [(f"{metric}_{rule}", metric, column, words) for metric in OUTCOME_CALLED]
    mean = "all patients together" if pooled else f"mean over {len(set(fold))} folds"
    counts = (len(patients), int(labels.sum()), len(wide["score"]))
    about, rows = (labels, fold, patients["patient"].to_numpy()), []
    for row, metric, column, rule in wanted:
        words = "; ".join(part for part in (rule, mean) if part)
        measured = partial(outcome_interval, metric, wide[column], *about, draws=draws, trained=not pooled)
        rows.append(_row((name, cohort, setting, row), counts, measured, words))
    return pd.DataFrame(rows, columns=COLUMNS)


def outcome_interval(
    metric: str, scores: np.ndarray, labels: np.ndarray, fold: np.ndarray, names: Sequence, minus=None, **how
) -> Interval:
    """A metric of `METRICS` of scores (seeds, n) on labels (n,), mean over seeds, then folds (n,), with its interval; with
    `minus`, less that of another model's scores. `names` of the patients (n,); `how`: draws, seed and trained of
    `intervals.patient_interval`.
    """
    rivals = [scores] if minus is None else [scores, minus]
    functions = [intervals.of_scores(METRICS[metric], labels, one, fold) for one in rivals]
    return _interval(functions, metric, names, fold, labels, **how)


def _interval(
    functions: list, metric: str, patients: Sequence, fold: np.ndarray, event: np.ndarray, **how
) -> Interval:
    """Interval of one draws function, or of the difference of two; patients are drawn within fold and outcome."""
    how |= {"strata": intervals.strata(fold, event), "events": int(event.sum())}
    function, minus = [*functions, None][:2]
    how |= {"minus": minus, "chance": intervals.chance_of(metric)}
    return intervals.patient_interval(function, patients, **how)


def survival_draws(
    model: HeldOut,
    metric: str,
    horizons: Sequence[float] = (),
    censoring: Mapping[str, Censoring] | None = None,
) -> intervals.MeanOverFolds:
    """Draws function of a survival metric, mean over seeds within each fold, then over folds.

    `metric` is "c_index", "c_index_ipcw", "auc_t_<months>", "brier_t_<months>" or "ibs", the Brier score's mean from month 0
    to the last of the `horizons`, which limits c_index_ipcw too; `censoring` of a fold is that of its training patients
    (c_index needs none). NotComputable where survival is asked of a model that gives a bare risk, or an event or horizon lies
    where the censoring is unknown.
    """
    name, _, at = metric.partition("_t_")
    if metric not in ("c_index", "c_index_ipcw", "ibs") and not (name in ("auc", "brier") and at):
        raise ValueError(f'unknown metric "{metric}"')
    if name in ("brier", "ibs"):
        if model.survival is None:
            raise NotComputable("the model gives a risk and no survival probabilities")
        until = horizons[-1] if metric == "ibs" else float(at)
        columns = np.flatnonzero(model.times <= until if metric == "ibs" else model.times == until)
        if until not in model.times:
            raise ValueError(f"{metric}: the model gives survival at {model.times.tolist()} months only")

    def of_seed(rows: np.ndarray, seed: int) -> DrawsFunction:
        time, event, risk = model.time[rows], model.event[rows], model.risk[seed, rows]
        if metric == "c_index":
            return partial(concordance.harrell_draws, time, event, risk)
        fitted = censoring[model.fold[rows[0]]]
        if metric == "c_index_ipcw":
            return concordance.uno(time, event, risk, horizons[-1], fitted)
        if name == "auc":
            return concordance.auc_at(time, event, risk, float(at), fitted)
        curves, times = model.survival[seed][np.ix_(rows, columns)], model.times[columns]
        if metric == "ibs":  # from 0 on, where everybody lives: the stretch is the same for every model
            curves, times = np.c_[np.ones(rows.size), curves], np.r_[0.0, times]
        return concordance.brier_at(time, event, curves, times, fitted)

    seeds = range(len(model.risk))
    return intervals.MeanOverFolds(model.fold, lambda rows: [of_seed(rows, seed) for seed in seeds])


def survival_interval(
    model: HeldOut,
    metric: str,
    horizons: Sequence[float] = (),
    censoring: Mapping[str, Censoring] | None = None,
    draws: int = 1000,
    seed: int = 0,
    minus: HeldOut | None = None,
) -> Interval:
    """A metric of `survival_draws` with its interval; with `minus`, less that of another model of the same patients."""
    models = [model] if minus is None else [model, minus]
    functions = [survival_draws(one, metric, horizons, censoring) for one in models]
    trained = any(one.trained for one in models)  # one is enough to make folds err together
    how = {"draws": draws, "seed": seed, "trained": trained}
    return _interval(functions, metric, model.patient, model.fold, model.event, **how)


def survival_rows(
    name: str,
    cohort: str,
    setting: str,
    model: HeldOut,
    horizons: Sequence[float],
    censoring: Mapping[str, Censoring],
    draws: int = 1000,
) -> pd.DataFrame:
    """Every metric of one survival model in one setting, such as a cancer type: c_index, c_index_ipcw, auc_t and brier_t at
    each horizon, ibs (see `survival_draws`), and the log-rank p of high against low risk under both rules of `RISK_CUTS`.
    Columns `COLUMNS`.
    """
    counts = model.time.size, int(model.event.sum()), len(model.risk)
    words = f"mean over {len(set(model.fold))} folds, each on the patients it held out"
    words += "" if model.trained else "; the risks as given, whoever made them"
    metrics = ["c_index", "c_index_ipcw", *(f"auc_t_{h:g}" for h in horizons)]
    metrics += [*(f"brier_t_{h:g}" for h in horizons), "ibs"]
    stretch = {"ibs": f"mean Brier score from month 0 to {horizons[-1]:g} (trapezoids); "}
    rows = []
    for each in metrics:
        measured = partial(survival_interval, model, each, horizons, censoring, draws)
        rows.append(_row((name, cohort, setting, each), counts, measured, stretch.get(each, "") + words))
    for test in risk_groups({name: model}).itertuples():
        how = f"log-rank p, {RISK_CUTS[test.cut]}, at or above is high risk; "
        how += "chi-square divided by 1.85 for shared training patients; " if model.trained else ""
        how += f"not computable: {test.why}" if np.isnan(test.p) else f"chi-square {test.chi_square:.2f}"
        names = name, cohort, setting, f"logrank_p_{test.cut}"
        rows.append(dict(zip(COLUMNS, (*names, test.p, np.nan, np.nan, *counts, how), strict=True)))
    return pd.DataFrame(rows, columns=COLUMNS)


def censoring(cohort: pd.DataFrame, setting: str) -> dict[str, Censoring]:
    """How patients of a cancer type leave follow-up, learnt from each fold's training patients.

    `cohort` is indexed by patient, with cancer, time_months, event and the columns of `lib.training.folds.folds_of`.
    """
    patients = cohort[cohort["cancer"] == setting]
    outcomes = patients[["time_months", "event"]]
    folds = folds_of(patients)
    return {fold.name: Censoring.fit(*outcomes.loc[list(fold.train)].to_numpy().T) for fold in folds}


def survival_table(
    models: Mapping[str, Mapping[str, HeldOut]],
    cohort: pd.DataFrame,
    name: str,
    horizons: Sequence[float],
    draws: int,
) -> pd.DataFrame:
    """`survival_rows` of every model (cancer type -> model -> its held-out patients) of the cohort `name`; see `censoring`."""
    rows = []
    for setting, contenders in models.items():
        about = (horizons, censoring(cohort, setting), draws)
        rows += [survival_rows(model, name, setting, one, *about) for model, one in contenders.items()]
    return pd.concat(rows, ignore_index=True)


def risk_group(model: HeldOut, rule: str) -> np.ndarray:
    """ "high" or "low" risk of each patient by a rule of `RISK_CUTS`; risks are averaged over seeds."""
    return survival.median_groups(model.risk.mean(axis=0), model.fold if rule == "fold_median" else None)


def risk_groups(models: Mapping[str, HeldOut]) -> pd.DataFrame:
    """High against low risk of every model under every rule of `RISK_CUTS` (`cut`): sizes, deaths, median survival with its
    interval (NaN where it is not reached), chi-square and log-rank p, hazard ratio with its interval; `why` says why there are
    no two groups, or no ratio.
    """
    rows = []
    for name, model in models.items():
        for rule in RISK_CUTS:
            row: dict[str, object] = {"model": name, "cut": rule, "why": ""}
            try:
                group = risk_group(model, rule)
                for side in SIDES:
                    time, event = model.time[group == side], model.event[group == side]
                    about = time.size, event.sum(), *survival.medians(time, event)
                    row |= dict(zip(SIDES[side], about, strict=True))
                test = survival.logrank(model.time, model.event, group, trained=model.trained)
                row |= {"chi_square": test.statistic, "p": test.p}
                ratio = survival.hazard_ratio(model.time, model.event, group == "high", trained=model.trained)
                row |= dict(zip(RATIO, ratio, strict=True))
            except NotComputable as reason:
                row["why"] = str(reason)
            rows.append(row)
    high, low = SIDES.values()
    columns = ["model", "cut", *high[:2], *low[:2], *high[2:], *low[2:], "chi_square", "p", *RATIO, "why"]
    return pd.DataFrame(rows, columns=columns)


def c_index_by_fold(models: Mapping[str, HeldOut]) -> pd.DataFrame:
    """Harrell's c-index of every fold, mean over seeds: model, fold, n, events, c_index (NaN without a pair)."""
    rows = []
    for name, model in models.items():
        folds = survival_draws(model, "c_index")
        for fold, value in zip(folds.names, folds.by_fold(), strict=True):
            event = model.event[model.fold == fold]
            rows.append((name, fold, event.size, int(event.sum()), float(value)))
    return pd.DataFrame(rows, columns=["model", "fold", "n", "events", "c_index"])


def survival_differences(
    models: Mapping[str, HeldOut],
    metric: str = "c_index",
    horizons: Sequence[float] = (),
    censoring: Mapping[str, Censoring] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Paired differences of a metric of `survival_draws` between all pairs of models, on the patients that both held out:
    model, minus, difference, low, high, n, how. NaN where it has no value, with the reason in `how`.

    Above 0 the first has the higher value: of a c-index the better one, of a Brier score or `ibs` the worse one.
    """
    rows = []
    for (a, first), (b, second) in combinations(models.items(), 2):
        first, second = first.on(second.patient), second.on(first.patient)
        paired = partial(survival_interval, first, metric, horizons, censoring, draws, seed, second)
        row = _row((a, b, "", metric), (first.time.size, int(first.event.sum()), 1), paired)
        rows.append((a, b, *(row[name] for name in (*ENDS, "n", "how"))))
    return pd.DataFrame(rows, columns=["model", "minus", "difference", "low", "high", "n", "how"])


def calibration_rows(models: Mapping[str, HeldOut], horizon: float, draws: int = 1000) -> pd.DataFrame:
    """`survival_calibration` at a horizon of every model that gives probabilities, not one to all, mean over seeds, all folds
    together; percentiles of resampled patients, the trained models as given: model, metric (slope_36), estimate, low, high,
    n, events, seeds, how.
    """
    rows = []
    for name, model in models.items():
        if model.survival is None or np.ptp(model.risk) == 0:
            continue
        died = 1 - model.survival.mean(axis=0)[:, list(model.times).index(horizon)]
        how_drawn = np.random.default_rng(0), intervals.strata(model.fold, model.event)
        values = np.full((3, len(MEASURES)), np.nan)
        try:
            function = survival_calibration(model.time, model.event, died, horizon)
            values[0] = function(np.ones((1, died.size)))[:, 0]
            draw = partial(_drawn, function, model.patient, how_drawn)
            drawn, _ = intervals.bootstrap(draw, draws, "patients")
            apart = np.quantile(drawn, (0.025, 0.975), axis=1) - values[0]
            values[1:] = values[0] + np.sqrt(1 + model.trained) * apart
            values[1:, 1:] = np.maximum(values[1:, 1:], 0)  # all but the slope are distances
            how = f"all folds together; bootstrap of {died.size} patients, {draws} draws"
            how += f", {intervals.SHARED} (variance doubled)" if model.trained else ""
        except NotComputable as reason:
            how = f"not computable: {reason}"
        counts = died.size, int(model.event.sum()), len(model.risk), how
        names = [f"{each}_{horizon:g}" for each in MEASURES]
        rows += [(name, each, *row, *counts) for each, row in zip(names, values.T, strict=True)]
    return pd.DataFrame(rows, columns=["model", *COLUMNS[3:]])


def _drawn(function: DrawsFunction, patients: np.ndarray, how_drawn: tuple, number: int) -> np.ndarray:
    return function(intervals.draw_counts(patients, number, *how_drawn))


CURVES = ["model", "cut", "group", "time", "at_risk", "survival", "low", "high"]


def group_curves(time: np.ndarray, event: np.ndarray, group: np.ndarray) -> pd.DataFrame:
    """Curves of groups (n,): group, time (months), at_risk, survival and its 95 % band low to high, four digits.

    Rows are the start, each time at which somebody died (`at_risk` is just before it), and the last look.
    """
    parts = []
    for side in sorted(set(group)):
        curve = survival.kaplan_meier(time[group == side], event[group == side])
        steps = curve[(curve["events"] > 0) | curve.index.isin([0, len(curve) - 1])]
        parts.append(steps.assign(group=side))
    found = pd.concat(parts)[CURVES[2:]].round({"time": 2, "survival": 4, "low": 4, "high": 4})
    return found.reset_index(drop=True)


def risk_curves(models: Mapping[str, HeldOut]) -> pd.DataFrame:
    """Curves of high and low risk of every model under every rule of `RISK_CUTS`, columns `CURVES`; a cut that makes no two
    groups has no rows.
    """
    parts = [pd.DataFrame(columns=CURVES)]
    for name, model in models.items():
        for rule in RISK_CUTS:
            try:
                sides = risk_group(model, rule)
            except NotComputable:
                continue
            parts.append(group_curves(model.time, model.event, sides).assign(model=name, cut=rule))
    return pd.concat(parts[1:] or parts, ignore_index=True)[CURVES]
