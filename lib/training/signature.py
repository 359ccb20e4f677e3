"""One modality's features to one score: an elastic net, as radiomic and pathomic signatures are made."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.training.folds import stratified_folds
from lib.training.penalised_logistic import elastic_net, strongest
from lib.training.scaled_columns import ScaledColumns


class Signature:
    """Scaling, correlation filter and elastic-net logistic regression, all of it fitted on training patients.

    Strength and l1 ratio are those of the least held-out deviance over inner folds, in each of which scaling and
    filter are fitted anew: a filter that had seen the held-out patients' outcomes would make weak penalties look good.

    Parameters
    ----------
    max_correlation : float
        Of two columns with a larger |r| (Pearson), the one less correlated with the outcome is left out; among equals
        the later by name.
    most : int
        Columns the filter leaves at most.
    l1_ratios : sequence of float
    strengths : int
        Length of the path, which begins with the empty model.
    weakest : float
        Where the path ends, as a share of the strength at which the lasso is empty.
    inner_folds, seed : int

    Attributes
    ----------
    columns : ScaledColumns
        Restricted to what the filter left.
    weights : array (p,)
        Coefficients of the standardised columns; `intercept` belongs to them.
    strength, l1_ratio : float
    converged : bool
        Whether all fits came to rest.
    dropped : dict
        Column -> why it is not used.
    """

    def __init__(
        self,
        *,
        max_correlation: float = 0.9,
        most: int = 40,
        l1_ratios: Sequence[float] = (0.5, 0.1, 0.02),
        strengths: int = 10,
        weakest: float = 0.02,
        inner_folds: int = 5,
        seed: int = 0,
    ):
        if not 0 < max_correlation <= 1 or most < 1 or not all(0 < ratio <= 1 for ratio in l1_ratios):
            raise ValueError(
                f"a signature's max_correlation is {max_correlation}, most {most}, l1_ratios {list(l1_ratios)}: "
                "the first and the last lie above 0 and at most at 1, most is 1 or more"
            )
        self.max_correlation, self.most, self.l1_ratios = max_correlation, most, tuple(l1_ratios)
        self.strengths, self.weakest = strengths, weakest
        self.inner_folds, self.seed = inner_folds, seed

    def fit(self, table: pd.DataFrame, label: pd.Series) -> "Signature":
        """Fit on training patients.

        Parameters
        ----------
        table : DataFrame (n, p)
            Numbers, indexed by patient; gaps are filled with training medians.
        label : Series
            0 or 1 for each of the patients; others in it are ignored.

        Raises
        ------
        ValueError
            A patient twice or without label, fewer than three patients of an outcome, or an unusable table.
        """
        table, y = _matched(table, label)
        paths, deviances = [], []
        prepared = self._prepare(table, y)
        for ratio in self.l1_ratios:
            top = strongest(prepared[1], y, ratio)
            paths.append(np.geomspace(top, self.weakest * ratio * top, self.strengths))
        self.converged = True
        k = min(self.inner_folds, int(y.sum()), int((1 - y).sum()))
        people = list(table.index)
        row = {patient: at for at, patient in enumerate(people)}
        for fold in stratified_folds({p: p for p in people}, dict(zip(people, y, strict=True)), k, self.seed):
            train, test = ([row[p] for p in side] for side in (fold.train, fold.test))
            columns, x, _ = self._prepare(table.iloc[train], y[train])
            held_out = columns.transform(table.iloc[test])
            for ratio, path in zip(self.l1_ratios, paths, strict=True):
                intercepts, weights, ok = elastic_net(x, y[train], path, ratio)
                self.converged &= ok
                eta = held_out @ weights.T + intercepts  # (test, strengths)
                deviances.append((np.logaddexp(0, eta) - y[test, None] * eta).sum(0))
        total = np.reshape(deviances, (k, len(paths), -1)).sum(0)  # (ratios, strengths)
        best, at = np.unravel_index(total.argmin(), total.shape)
        self.columns, x, self.dropped = prepared
        intercepts, weights, ok = elastic_net(x, y, paths[best][: at + 1], self.l1_ratios[best])
        self.converged &= ok
        self.intercept, self.weights = float(intercepts[-1]), weights[-1]
        self.strength, self.l1_ratio = float(paths[best][at]), self.l1_ratios[best]
        self.patients = len(y)
        return self

    def part(self, table: pd.DataFrame) -> pd.Series:
        """Log-odds without the intercept: 0 for the mean training patient, whatever their prevalence."""
        return pd.Series(self.columns.transform(table) @ self.weights, table.index)

    def score(self, table: pd.DataFrame) -> pd.Series:
        """Log-odds of the outcome, by patient: higher = more likely."""
        return self.part(table) + self.intercept

    def coefficients(self) -> pd.DataFrame:
        """feature, coefficient (of the standardised column, 0 where the penalty left it out), centre, spread."""
        scale = {"centre": self.columns.centre, "spread": self.columns.spread}
        return pd.DataFrame({"feature": self.columns.names, "coefficient": self.weights, **scale})

    def to_dict(self) -> dict[str, Any]:
        """All that is needed to score a new patient, as JSON takes it."""
        told = {"intercept": self.intercept, "weights": self.weights.tolist()}
        return {
            **told,
            "columns": self.columns.to_dict(),
            "strength": self.strength,
            "l1_ratio": self.l1_ratio,
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Signature":
        """What `to_dict` wrote; it scores, and can be fitted anew."""
        signature = cls()
        signature.columns = ScaledColumns.from_dict(told["columns"])
        signature.weights, signature.intercept = np.array(told["weights"], float), float(told["intercept"])
        signature.strength, signature.l1_ratio = float(told["strength"]), float(told["l1_ratio"])
        return signature

    def _prepare(
        self, table: pd.DataFrame, y: np.ndarray
    ) -> tuple[ScaledColumns, np.ndarray, dict[str, str]]:
        columns = ScaledColumns().fit(table)
        x = columns.transform(table)
        kept, dropped = uncorrelated(x, y, columns.names, self.max_correlation, self.most)
        columns.names = [columns.names[at] for at in kept]
        for key in ("fill", "centre", "spread"):
            setattr(columns, key, getattr(columns, key)[kept])
        return columns, x[:, kept], {**columns.dropped, **dropped}


def uncorrelated(
    x: np.ndarray, y: np.ndarray, names: Sequence[str], max_correlation: float, most: int
) -> tuple[list[int], dict[str, str]]:
    """Columns to keep, ascending, and why the others are not: taken by |r| with the outcome, if new enough.

    Parameters
    ----------
    x : array (n, p)
        None of the columns is constant.
    y : array (n,)
    names : sequence of str
        Of the columns.
    max_correlation : float
    most : int
    """
    if not x.shape[1]:
        return [], {}
    z = (x - x.mean(0)) / np.maximum(x.std(0), np.finfo(float).tiny)
    between = np.abs(z.T @ z) / len(z)
    # rounded, so that columns which say the same stay equal whatever the machine, and the first by name is taken
    promise = np.round(np.abs(z.T @ (y - y.mean())) / len(z) / max(y.std(), 1e-12), 9)
    kept: list[int] = []
    dropped = {}
    for at in np.argsort(-promise, kind="stable"):
        if kept and (closest := between[at, kept].max()) > max_correlation:
            rival = names[kept[int(between[at, kept].argmax())]]
            dropped[names[at]] = f"|r| {closest:.3f} with {rival}"
        elif len(kept) >= most:
            dropped[names[at]] = f"not among the {most} columns most correlated with the outcome"
        else:
            kept.append(int(at))
    return sorted(kept), dropped


def _matched(table: pd.DataFrame, label: pd.Series) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows by patient's name, so that their order does not matter, and their labels."""
    if not table.index.is_unique:
        raise ValueError(
            f"patient {table.index[table.index.duplicated()][0]} stands twice in a feature table"
        )
    table = table.sort_index()
    y = label.reindex(table.index).to_numpy(np.float64, na_value=np.nan)
    if wrong := [patient for patient, one in zip(table.index, y, strict=True) if one not in (0, 1)]:
        raise ValueError(f"patient {wrong[0]} has no label 0 or 1 ({len(wrong)} of {len(y)}): leave them out")
    if min(y.sum(), (1 - y).sum()) < 3:
        raise ValueError(
            f"a signature needs three training patients of each outcome: {int(y.sum())} have it, {int((1 - y).sum())} not"
        )
    return table, y
