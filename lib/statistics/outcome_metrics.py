"""The rows of metrics.csv of models that tell patients with an outcome from those without."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from lib.statistics import intervals as weighted
from lib.statistics.classification import NotComputable
from lib.statistics.intervals import DrawsFunction, mean_over_folds, patient_interval, strata
from lib.statistics.spot_metrics import COLUMNS

CALLED = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "f1")
NEEDED = ("patient", "fold", "seed", "label", "score")


def evaluation(
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
        Columns `lib.statistics.spot_metrics.COLUMNS`; rows auc, ap, prevalence, brier where there are probabilities, and
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
            (f"{metric}_{rule}", metric, f"called_{rule}", (rules or {}).get(rule, rule)) for metric in CALLED
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
