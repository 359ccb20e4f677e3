"""What a model is worth within each hospital, from one to another, and what the hospital alone would tell."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from lib.stroke.train import Data, logistic
from lib.training.folds import Fold
from lib.training.runs import Run

COLUMNS = ["setting", "model", "hospital", "patients", "unfavourable", "auc"]


def by_hospital(predictions: pd.DataFrame, patients: pd.DataFrame) -> pd.DataFrame:
    """AUC of each model within each hospital, held-out patients of all folds together, mean over seeds.

    `predictions` has setting, model, seed, patient, hospital, label (1 unfavourable), score: one row a held-out patient and
    seed; `patients` hospital and label, by patient. Returned are `COLUMNS`, hospital being "all" too, auc NaN where only one
    outcome occurs. The last row, model "hospital alone", calls each patient by the share of bad outcomes in the hospital: seen
    beforehand, so it is what could be had at most.
    """
    rows = []
    everybody = predictions.assign(hospital="all")
    for (setting, model, hospital), part in pd.concat([everybody, predictions]).groupby(
        ["setting", "model", "hospital"], sort=False
    ):
        aucs = [_auc(one["label"], one["score"]) for _, one in part.groupby("seed")]
        people = part.drop_duplicates("patient")
        counts = (len(people), int(people["label"].sum()))
        rows.append((setting, model, hospital, *counts, float(np.mean(aucs))))
    shares = patients.groupby("hospital")["label"].transform("mean")
    counts = (len(patients), int(patients["label"].sum()))
    rows.append(("", "hospital alone", "all", *counts, _auc(patients["label"], shares)))
    return pd.DataFrame(rows, columns=COLUMNS)


def across_hospitals(data: Data, settings: Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
    """AUC of the regression on the form, trained in the hospital with most patients, tested in each other: mean over seeds.

    `data.table` has hospital, too. Columns as of `by_hospital`, hospital being "<other>, trained in <most>".
    ValueError where that hospital has not two patients of each outcome.
    """
    table, model, rows = data.table, "logistic-clinical", []
    home, *others = table["hospital"].value_counts().index
    for setting in settings:
        for other in others:
            away = table[table["hospital"] == other]
            fold = Fold(str(other), tuple(table.index[table["hospital"] == home]), tuple(away.index))
            scores = [logistic(Run(setting, fold, model, seed), data) for seed in seeds]
            auc = float(np.mean([_auc(away["label"], score) for score in scores]))
            counts = (len(away), int(away["label"].sum()))
            rows.append((setting, model, f"{other}, trained in {home}", *counts, auc))
    return pd.DataFrame(rows, columns=COLUMNS)


def _auc(label: pd.Series, score: pd.Series) -> float:
    return float(roc_auc_score(label, score)) if label.nunique() > 1 else np.nan
