"""Clinical factors and signatures' scores to one prediction: a ridge logistic regression, and Cox on the same columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter

from lib.training.penalised_logistic import ridge
from lib.training.scaled_columns import ScaledColumns

STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01)  # of the ridge; the weakest is light for a handful of columns


class Combiner:
    """Logistic and Cox regression on a few standardised columns.

    The ridge is the one of least held-out deviance over the given inner folds, the same for both regressions. A score
    made to point upwards keeps a weight of 0 or more (Breiman's rule for stacking): one whose cross-fitted values go
    the wrong way has found nothing, and turned around it would be noise. It is left out and named.

    Parameters
    ----------
    scores : sequence of str
        Columns that are signatures' scores, not factors.

    Attributes
    ----------
    columns : ScaledColumns
    weights : array (p,)
        Logistic; 0 for a column of `wrong_way`.
    log_hazards : array (p,) or None
        Cox; None where `no_cox` says why.
    wrong_way : list of str
    strength : float

    References
    ----------
    Breiman, Mach. Learn. 24:49 (1996); Cox, J. R. Stat. Soc. B 34:187 (1972), by lifelines.
    """

    def __init__(self, scores: Sequence[str] = ()):
        self.scores = tuple(scores)

    def fit(self, table: pd.DataFrame, outcome: pd.DataFrame, parts: pd.Series) -> "Combiner":
        """Fit on training patients.

        Parameters
        ----------
        table : DataFrame
            Factors and cross-fitted scores, indexed by patient.
        outcome : DataFrame
            label (0, 1, NaN), and time_months, event where there are times, for the same patients.
        parts : Series
            Inner fold of each patient.

        Raises
        ------
        ValueError
            Only one outcome among the patients.
        """
        table = table.sort_index()
        outcome, parts = outcome.reindex(table.index), parts.reindex(table.index)
        self.columns = ScaledColumns().fit(table)
        x = self.columns.transform(table)
        known = outcome["label"].notna().to_numpy()
        y = outcome["label"].to_numpy(np.float64)[known]
        if not 0 < y.sum() < len(y):
            raise ValueError(
                f"the {len(y)} training patients with all modalities of the subset have one outcome only: nothing to combine"
            )
        inside = parts.to_numpy()[known]
        self.wrong_way: list[str] = []
        while True:
            used = [at for at, name in enumerate(self.columns.names) if name not in self.wrong_way]
            self.strength = _chosen(x[known][:, used], y, inside)
            self.intercept, weights = ridge(x[known][:, used], y, self.strength)
            wrong = {self.columns.names[at]: w for at, w in zip(used, weights, strict=True) if w < 0}
            if not (wrong := {name: w for name, w in wrong.items() if name in self.scores}):
                break
            self.wrong_way.append(min(wrong, key=wrong.get))
        self.weights = np.zeros(x.shape[1])
        self.weights[used] = weights
        self._fit_cox(x[:, used], outcome, used)
        return self

    def _fit_cox(self, x: np.ndarray, outcome: pd.DataFrame, used: list[int]) -> None:
        self.log_hazards, self.no_cox = None, ""
        if not {"time_months", "event"} <= set(outcome) or outcome["time_months"].isna().all():
            self.no_cox = "no times"
            return
        timed = outcome[["time_months", "event"]].notna().all(axis=1).to_numpy()
        outcome = outcome[timed].astype({"time_months": float, "event": int})
        self.log_hazards = np.zeros(len(self.columns.names))
        if not outcome["event"].any():
            self.log_hazards, self.no_cox = None, "no event among the training patients"
        elif used:
            told = pd.DataFrame(x[timed], outcome.index, [f"x{at}" for at in used])
            told = told.assign(time=outcome["time_months"], event=outcome["event"])
            cox = CoxPHFitter(penalizer=self.strength).fit(told, "time", "event")
            self.log_hazards[used] = cox.params_.to_numpy()

    def predict(self, table: pd.DataFrame) -> pd.DataFrame:
        """score (log-odds), hazard (log, relative to the mean training patient; NaN without Cox), by patient."""
        x = self.columns.transform(table)
        hazard = np.full(len(x), np.nan) if self.log_hazards is None else x @ self.log_hazards
        return pd.DataFrame({"score": x @ self.weights + self.intercept, "hazard": hazard}, table.index)

    def coefficients(self) -> pd.DataFrame:
        """part ("combiner", "cox"), feature, coefficient (of the standardised column), centre, spread."""
        found = {"combiner": self.weights} | ({} if self.log_hazards is None else {"cox": self.log_hazards})
        scale = {"feature": self.columns.names, "centre": self.columns.centre, "spread": self.columns.spread}
        tables = [pd.DataFrame({"part": part, **scale, "coefficient": b}) for part, b in found.items()]
        return pd.concat(tables, ignore_index=True)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        hazards = None if self.log_hazards is None else self.log_hazards.tolist()
        told = {"intercept": self.intercept, "weights": self.weights.tolist(), "log_hazards": hazards}
        return {**told, "columns": self.columns.to_dict(), "scores": list(self.scores)}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Combiner":
        """What `to_dict` wrote: it predicts."""
        combiner = cls(told["scores"])
        combiner.columns = ScaledColumns.from_dict(told["columns"])
        combiner.intercept, combiner.weights = float(told["intercept"]), np.array(told["weights"], float)
        hazards = told["log_hazards"]
        combiner.log_hazards = None if hazards is None else np.array(hazards, float)
        return combiner


def _chosen(x: np.ndarray, y: np.ndarray, parts: np.ndarray) -> float:
    """Strength of the least held-out deviance; the strongest where folds cannot tell."""
    total = np.zeros(len(STRENGTHS))
    for at in np.unique(parts):
        train, test = parts != at, parts == at
        if not 0 < y[train].sum() < train.sum():
            continue
        for place, strength in enumerate(STRENGTHS):
            intercept, weights = ridge(x[train], y[train], strength)
            eta = x[test] @ weights + intercept
            total[place] += (np.logaddexp(0, eta) - y[test] * eta).sum()
    return STRENGTHS[int(total.argmin())]
