"""What a model is worth within each hospital, and what the hospital alone would tell."""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score


def by_hospital(predictions: pd.DataFrame, patients: pd.DataFrame) -> pd.DataFrame:
    """AUC of each model within each hospital, held-out patients of all folds together, mean over seeds.

    Parameters
    ----------
    predictions : DataFrame
        setting, model, seed, patient, hospital, label (1 unfavourable), score: one row a held-out patient and seed.
    patients : DataFrame
        hospital, label; indexed by patient.

    Returns
    -------
    DataFrame
        setting, model, hospital ("all" too), patients, unfavourable, auc (NaN where only one outcome occurs). The last
        row, model "hospital alone", calls each patient by the share of bad outcomes in the hospital: seen beforehand, so
        it is what could be had at most.
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
    return pd.DataFrame(rows, columns=["setting", "model", "hospital", "patients", "unfavourable", "auc"])


def _auc(label: pd.Series, score: pd.Series) -> float:
    return float(roc_auc_score(label, score)) if label.nunique() > 1 else np.nan
