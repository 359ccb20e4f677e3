"""What is measured of the predictions of a CrossFusion cohort."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from lib.crossfusion.cohort import stored_predictions
from lib.crossfusion.params import CrossFusionParams
from lib.data import RAW
from lib.figures import style
from lib.figures.curves import calibration_at_horizon as draw_calibration
from lib.figures.curves import decision_curve
from lib.stage import Stage
from lib.statistics import metrics_table
from lib.statistics.calibration import calibration_at_horizon, decision_curve_at_horizon
from lib.statistics.survival import Censoring, HeldOut

Models = dict[str, dict[str, HeldOut]]  # cancer type -> model -> its held-out patients


def held_out_patients(stage: Stage, cohort: pd.DataFrame) -> Models:
    """Predictions of the clinical baselines, of the models trained here and of those that others stored.

    A prediction whose patient, outcome or fold is not that of the cohort is refused (`HeldOut.of`).
    """
    tables = [stage.read("clinical.csv")]
    if (stage.folder / "predictions.csv").is_file():
        tables.append(stage.read("predictions.csv"))
    for model, place in stage.params.predictions.items():
        if place == "planted":
            stored = stage.read("raw/predictions.csv")
            stored = stored[stored["model"] == model.partition(":")[2]]
            stored = stored.assign(fold=stored["patient"].map(cohort["fold"]))
        else:
            stored = stored_predictions(RAW / place)
            for path in sorted((RAW / place).glob("*.pkl")):
                stage.reads(path)
        stored = stored.rename(columns={"risk": "score"}).assign(model=model, seed=0)
        tables.append(stored.assign(setting=stored["patient"].map(cohort["cancer"])))
    predictions = pd.concat([table for table in tables if len(table)], ignore_index=True)
    models: Models = {}
    for (setting, model), rows in predictions.groupby(["setting", "model"], sort=False):
        models.setdefault(setting, {})[model] = HeldOut.of(rows, cohort)
    return models


def _censoring(cohort: pd.DataFrame, setting: str) -> dict[str, Censoring]:
    """How patients leave follow-up, learnt from each fold's training patients."""
    patients = cohort[cohort["cancer"] == setting]
    columns = ["time_months", "event"]
    return {
        fold: Censoring.fit(*patients.loc[patients["fold"] != fold, columns].to_numpy().T)
        for fold in patients["fold"].unique()
    }


def metric_rows(models: Models, cohort: pd.DataFrame, params: CrossFusionParams) -> pd.DataFrame:
    """Every metric of every model; how patients leave follow-up is learnt from each fold's training patients."""
    rows = []
    for setting, contenders in models.items():
        about = (params.horizons, _censoring(cohort, setting), params.bootstrap_draws)
        for model, one in contenders.items():
            rows.append(metrics_table.survival_rows(model, params.cohort, setting, one, *about))
    return pd.concat(rows, ignore_index=True)


def difference_rows(
    models: Models, cohort: pd.DataFrame, params: CrossFusionParams, metrics: Sequence[str]
) -> pd.DataFrame:
    """Paired differences of metrics between all models of each cancer type that have them."""
    parts = []
    for setting, contenders in models.items():
        about = (params.horizons, _censoring(cohort, setting), params.bootstrap_draws)
        for metric in metrics:
            error = metric.startswith(("brier", "ibs"))
            able = {name: one for name, one in contenders.items() if not error or one.survival is not None}
            table = metrics_table.survival_differences(able, metric, *about)
            parts.append(table.assign(metric=metric, setting=setting))
    return pd.concat(parts, ignore_index=True)


def shown_metrics(metrics: pd.DataFrame, models: Models) -> Iterator[tuple[str, pd.DataFrame]]:
    """A caption and a table, model against metric: those of order, then those of error, for each cancer type."""
    rows = metrics[~metrics["metric"].str.startswith("logrank")]
    rows = rows.assign(text=rows.apply(metrics_table.written_out, axis=1))
    error = rows["metric"].str.contains("brier") | (rows["metric"] == "ibs")
    for setting in models:
        for kind, which in (("order", ~error), ("error (lower is better)", error)):
            some = rows[which & (rows["setting"] == setting)]
            wide = some.pivot(index="model", columns="metric", values="text")[some["metric"].unique()]
            named = [name for name in models[setting] if (wide.loc[name] != "not computable").any()]
            yield f"**{setting}**, {kind}", wide.loc[named].reset_index()


def habits_table(c_index: pd.DataFrame) -> pd.DataFrame:
    """CrossFusion with and without the released code's habits, against the one without any, for each cancer type."""
    rows = c_index[c_index["model"].str.startswith("crossfusion")]
    base = rows[rows["model"] == "crossfusion"].set_index("setting")["estimate"]
    table = rows[["setting", "model", "estimate", "low", "high"]].rename(columns={"estimate": "c_index"})
    return table.assign(**{"against crossfusion": table["c_index"] - table["setting"].map(base)})


def calibration_panels(axes, models: Mapping[str, HeldOut], horizon: float) -> None:
    """Calibration (left) and net benefit (right) of the models that give probabilities, at one horizon."""
    sure = {n: one for n, one in models.items() if one.survival is not None and np.ptp(one.risk) > 0}
    most = max((one.patient.size for one in sure.values()), default=0)
    for number, (name, one) in enumerate(sure.items()):
        colour = style.PALETTE[number % len(style.PALETTE)]
        dead = 1 - one.survival.mean(axis=0)[:, list(one.times).index(horizon)]
        bins = calibration_at_horizon(one.time, one.event, dead, horizon)
        draw_calibration(axes[0], bins, horizon, name, colour)
        if one.patient.size == most:
            thresholds = np.arange(0.02, 0.7, 0.02)
            benefit = decision_curve_at_horizon(one.time, one.event, dead, horizon, thresholds)
            decision_curve(axes[1], benefit, name, colour)
