"""What is measured of the bench's predictions: each contender, contrasts between them, and what tuning gave.

A yes-or-no outcome is a survival with one moment: who has it, has it at 1, all others are followed to 2. Harrell's c-index
is then the AUC, and the Brier score at 1 the plain one, so both kinds of outcome go one way.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import comb
from scipy.stats import norm

from lib.fusion.params import CONTENDERS, HEADS, OFFSET, RIVALS, FusionParams
from lib.statistics import metrics_table
from lib.statistics.comparison import holm
from lib.statistics.survival import HeldOut

Models = dict[str, dict[str, HeldOut]]  # cancer -> contender -> its held-out patients
# the heads of the papers that ask one modality about another; `FAMILY` is the mean of their metrics
CROSS_ATTENTION = ("crossfusion", "spacrd", "mrs90", "rcsa", "mcat")
FAMILY = "cross-attention"
BEST_REGRESSION = "clinic-offset+rna"
REGRESSIONS = ("clinic-free+rna", BEST_REGRESSION, "late:clinic+rna")
REGION = 0.01  # of a c-index: less, either way, nobody would notice
MOMENT, AFTER = 1.0, 2.0  # of a yes-or-no outcome


def outcomes(cohort: pd.DataFrame, outcome: str = "survival") -> pd.DataFrame:
    """The cohort, indexed by patient, with `time_months` and `event`, as `HeldOut` wants them."""
    cohort = cohort.set_index("patient", drop=False)
    if outcome == "binary":
        return cohort.assign(time_months=np.where(cohort["event"] == 1, MOMENT, AFTER))
    return cohort.rename(columns={"time": "time_months"})


def horizons(params: FusionParams) -> list[float]:
    """Months at which survival is asked for; of a yes-or-no outcome its one moment."""
    return [MOMENT] if params.outcome == "binary" else params.horizons


def held_out_patients(predictions: pd.DataFrame, cohort: pd.DataFrame, order: Sequence[str] = ()) -> Models:
    """Predictions of every contender by the patients' cancer, in the order given (others follow); a patient, an outcome or a
    fold that is not the cohort's is refused (`HeldOut.of`). A model of all cancers is looked at within each: pooled, most of
    a c-index is the cancer type.

    `predictions` has setting, model, seed, fold, patient, score; optionally survival_<months>, or probability (of a
    yes-or-no outcome). `cohort` is that of `outcomes`.
    """
    if "probability" in predictions:
        predictions = predictions.assign(**{f"survival_{MOMENT:g}": 1 - predictions["probability"]})
    place = {name: number for number, name in enumerate(order)}
    models: Models = {}
    cancers = predictions["patient"].map(cohort["cancer"]).fillna(predictions["setting"])
    for setting, rows in predictions.groupby(cancers, sort=False):
        names = sorted(rows["model"].unique(), key=lambda name: place.get(name, len(place)))
        models[setting] = {name: HeldOut.of(rows[rows["model"] == name], cohort) for name in names}
    return models


def metric_rows(
    models: Models, cohort: pd.DataFrame, name: str, horizons: Sequence[float], draws: int
) -> pd.DataFrame:
    """Every metric of every contender (`metrics_table.survival_table`) in the cohort `name`."""
    return of_people(metrics_table.survival_table(models, cohort, name, horizons, draws), cohort)


def of_people(rows: pd.DataFrame, cohort: pd.DataFrame) -> pd.DataFrame:
    """The rows as they are; without intervals and p where several rows of the cohort are one person's (spots): these are not
    so many independent patients, and an interval that took them for that would be far too short.
    """
    if "person" not in cohort:
        return rows
    people = cohort["person"].nunique()
    rows = rows.assign(how=rows["how"] + f"; no interval: spots of {people} patients are not independent")
    return rows.assign(**dict.fromkeys({"low", "high", "error", "p", "p_holm"} & {*rows}, np.nan))


def family(models: Mapping[str, HeldOut], names: Sequence[str] = CROSS_ATTENTION) -> HeldOut | None:
    """The heads of a family as one contender whose metric is the mean of theirs: each head's seeds count as seeds. None
    where one of them was not trained.
    """
    if not set(names) <= set(models):
        return None
    first, *others = (models[name] for name in names)
    if any(not np.array_equal(first.patient, other.patient) for other in others):
        raise ValueError(f"{', '.join(names)} did not score the same patients: run 3-train again")
    risk = np.concatenate([models[name].risk for name in names])
    known = all(models[name].survival is not None for name in names)
    survival = np.concatenate([models[name].survival for name in names]) if known else None
    times = first.times if known else None
    return HeldOut(first.patient, first.fold, first.time, first.event, risk, survival, times, first.trained)


def contrasts(models: Collection[str]) -> list[tuple[str, str, str]]:
    """(contrast, contender, minus) of what is compared, of those that were trained. All but the last were fixed before anything
    was measured; "offset minus regression" was added after the first results had been seen.

    primary: cross-attention, the mean of its heads, minus tokens concatenated. by head: each head minus the same. minus
    late, minus regression: against late fusion of networks, and the Cox model that keeps the clinic apart. offset minus
    clinic: what a head adds to the clinic that it is given. regression minus clinic: what a Cox model adds. offset minus
    regression: a head against that Cox model, the clinic kept apart in both.
    """
    # heads that somebody brought
    own = sorted({name.removesuffix(OFFSET) for name in models} - {FAMILY, *CONTENDERS})
    heads = (FAMILY, *HEADS, *own)
    pairs = [("primary", FAMILY, "concat")]
    pairs += [("by head", head, "concat") for head in (*HEADS, *own) if head != "concat"]
    pairs += [("minus late", head, "late") for head in heads if head != "late"]
    pairs += [("minus regression", head, BEST_REGRESSION) for head in heads]
    pairs += [("offset minus clinic", head + OFFSET, "clinic") for head in heads]
    pairs += [("regression minus clinic", name, "clinic") for name in REGRESSIONS]
    pairs += [("offset minus regression", head + OFFSET, BEST_REGRESSION) for head in heads]
    return [pair for pair in pairs if set(pair[1:]) <= set(models)]


def difference_rows(models: Models, draws: int, metric: str = "c_index") -> pd.DataFrame:
    """`contrasts` of each cancer: setting, contrast, model, minus, difference, low, high, error (the corrected standard error),
    p, p_holm (over the rows of a contrast), n, how. Above 0 the first is better.
    """
    parts = []
    for setting, contenders in models.items():
        able = dict(contenders)
        for suffix in ("", OFFSET):
            together = family(contenders, [name + suffix for name in CROSS_ATTENTION])
            able |= {} if together is None else {FAMILY + suffix: together}
        for contrast, first, minus in contrasts(able):
            pair = {first: able[first], minus: able[minus]}
            row = metrics_table.survival_differences(pair, metric, draws=draws)
            parts.append(row.assign(setting=setting, contrast=contrast))
    columns = ["setting", "contrast", "model", "minus", "difference", "low", "high", "error"]
    if not parts:
        return pd.DataFrame(columns=columns)
    table = pd.concat(parts, ignore_index=True)
    table["error"] = (table["high"] - table["low"]) / (2 * norm.isf(0.025))
    table["p"] = 2 * norm.sf((table["difference"] / table["error"]).abs())
    table["p_holm"] = table.groupby(["setting", "contrast"])["p"].transform(holm)
    return table[[*columns, "p", "p_holm", "n", "how"]]


def expected_best(tuning: pd.DataFrame) -> pd.DataFrame:
    """The best inner c-index that a number of trials finds, in whatever order they come: model, trials, c_index.

    Mean over folds of the expected maximum of so many of the trials, drawn without replacement; `tuning` has model, fold,
    trial, inner_c (empty of a regression, which has a path of penalties and no trials). It is the c-index of the patients who choose, so it flatters, and more so the more trials there are.
    Dodge et al., EMNLP 2019, doi:10.18653/v1/D19-1224.
    """
    rows = []
    for (model, _), some in tuning.dropna(subset="inner_c").groupby(["model", "fold"], sort=False):
        values, n = np.sort(some["inner_c"].to_numpy(float)), len(some)
        for trials in range(1, n + 1):
            largest = comb(np.arange(n), trials - 1) / comb(n, trials)  # chance that each is the largest
            rows.append((model, trials, float(largest @ values)))
    table = pd.DataFrame(rows, columns=["model", "trials", "c_index"])
    return table.groupby(["model", "trials"], sort=False, as_index=False).mean()


def chosen_head(tuning: pd.DataFrame) -> str:
    """The network whose chosen settings had the highest inner c-index, mean over folds: no tested patient chose it."""
    chosen = tuning[tuning["chosen"].astype(bool) & ~tuning["model"].isin(RIVALS)]
    return str(chosen.groupby("model", sort=False)["inner_c"].mean().idxmax())


def told_apart(chosen: str) -> list[str]:
    """Contenders whose probabilities are looked at: clinic, the best regression, the chosen head alone and with the offset."""
    head = chosen.removesuffix(OFFSET)
    return ["clinic", BEST_REGRESSION, head, head + OFFSET]


def against_yardsticks(yardsticks: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """c-indices of plain models that were measured before, and ours of the same name: cohort, model, before, ours, apart."""
    ours = metrics[metrics["metric"] == "c_index"].set_index(["setting", "model"])["estimate"].rename("ours")
    table = yardsticks.rename(columns={"value": "before"}).join(ours, on=["setting", "model"], how="inner")
    table["apart"] = table["ours"] - table["before"]
    return table[["setting", "model", "before", "ours", "apart"]]


def shown_metrics(metrics: pd.DataFrame) -> pd.DataFrame:
    """Contender against metric, with intervals, of one cancer: c-indices, then Brier scores."""
    wanted = ["c_index", "c_index_ipcw", "ibs"]
    rows = metrics[metrics["metric"].isin(wanted)]
    rows = rows.assign(text=rows.apply(metrics_table.written_out, axis=1))
    wide = rows.pivot(index="model", columns="metric", values="text")
    return wide.reindex(index=rows["model"].unique(), columns=wanted).reset_index()
