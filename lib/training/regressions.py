"""The Cox regression that every model of survival is measured by."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


class CoxBaseline:
    """Cox regression with everything fitted on the training patients: medians, scales, categories, coefficients.

    Numbers are standardised, and missing ones take the training median: that a number is missing says more of the
    hospital than of the patient, so it is no column of its own. Categories seen in fewer than `rare` training patients,
    or never, share one column. `ridge` is the weight of the L2 penalty on standardised coefficients, against the mean log
    likelihood. Cox, J. R. Stat. Soc. B 34:187 (1972); Efron's ties and Breslow's baseline, by lifelines.
    """

    def __init__(
        self, numbers: Sequence[str], categories: Sequence[str] = (), ridge: float = 0.01, rare: int = 10
    ):
        self.numbers, self.categories = list(numbers), list(categories)
        self.ridge, self.rare = ridge, rare

    def fit(self, table: pd.DataFrame, time: Sequence[float], event: Sequence[int]) -> "CoxBaseline":
        """Fit on the training patients; ValueError where a column is constant, or no event happened."""
        event = np.asarray(event).astype(bool)
        columns = [*self.numbers, *self.categories]
        if not event.any():
            raise ValueError(f"none of the {event.size} training patients had an event: nothing to fit")
        if constant := [name for name in columns if table[name].nunique(dropna=True) < 2]:
            raise ValueError(f"column {constant[0]} is the same for every training patient: leave it out")
        standardised = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
        one_hot = OneHotEncoder(
            drop="first", min_frequency=self.rare, handle_unknown="infrequent_if_exist", sparse_output=False
        )
        named = make_pipeline(SimpleImputer(strategy="constant", fill_value="unknown"), one_hot)
        parts = [("n", standardised, self.numbers), ("c", named, self.categories)]
        self._columns = ColumnTransformer(parts, verbose_feature_names_out=False)
        encoded = self._columns.set_output(transform="pandas").fit_transform(table)
        encoded = encoded.loc[:, encoded.std() > 0]  # a column of one value has no coefficient
        self.used = list(encoded.columns)
        self.model = CoxPHFitter(penalizer=self.ridge)
        self.model.fit(encoded.assign(_time=np.asarray(time, dtype=float), _event=event), "_time", "_event")
        return self

    def risk(self, table: pd.DataFrame) -> np.ndarray:
        """Log partial hazard, (n,): higher = earlier event; 0 is the average training patient."""
        return self.model.predict_log_partial_hazard(self._encoded(table)).to_numpy()

    def survival(self, table: pd.DataFrame, times: Sequence[float]) -> np.ndarray:
        """Probability of being free of the event at each time, (n, times), 0 to 1."""
        return self.model.predict_survival_function(self._encoded(table), times=list(times)).to_numpy().T

    def hazard_ratios(self) -> pd.DataFrame:
        """Column, hazard ratio per standard deviation (or against the first category), 95 % interval, p: with a ridge those
        of a shrunken fit, for orientation, not for testing.
        """
        names = {"exp(coef)": "hazard_ratio", "exp(coef) lower 95%": "low", "exp(coef) upper 95%": "high"}
        table = self.model.summary.rename(columns=names)[[*names.values(), "p"]]
        return table.rename_axis("column").reset_index()

    def _encoded(self, table: pd.DataFrame) -> pd.DataFrame:
        return self._columns.transform(table)[self.used]
