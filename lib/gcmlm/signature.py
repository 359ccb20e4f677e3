"""Logistic regressions that shrink: the elastic net along a path of strengths, and the ridge.

Both minimise the mean negative log likelihood plus `strength` x (`l1_ratio` |b|_1 + (1 - `l1_ratio`) / 2 |b|_2^2); the
intercept is free. The strength is glmnet's lambda, 1 / (n C) of scikit-learn.

One modality's features to one score: an elastic net, as radiomic and pathomic signatures are made.

Scores of training patients by models that have not seen them.

Clinical factors and signatures' scores to one prediction: a ridge logistic regression, and Cox on the same columns.

Signatures of the modalities, joined with the clinical factors: the study's default fusion.

Ours, not the paper's, whose fusion is unpublished: the usual "signature and nomogram" of this literature.
"""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from scipy.special import expit, logit
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import enet_path

from lib.files import write_json
from lib.gcmlm.tables import CLINICAL, ClinicalFactors, ScaledColumns, everywhere, rows, subset_name
from lib.training.folds import stratified_folds

STEPS = 100  # of Newton, for one strength
STILL = 1e-7  # largest change of a coefficient at which a fit is finished
FLAT = 1e-5  # least weight of a patient, as in glmnet: one who is certain has no curvature left


def strongest(x: np.ndarray, y: np.ndarray, l1_ratio: float) -> float:
    """The least strength at which every coefficient is 0."""
    return float(np.abs(x.T @ (y - y.mean())).max() / len(y) / l1_ratio) if x.size else 1.0


def elastic_net(
    x: np.ndarray, y: np.ndarray, strengths: np.ndarray, l1_ratio: float
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Elastic-net logistic regression at each strength, from the strongest on.

    Newton's steps, each a weighted least squares solved by scikit-learn's coordinate descent and started from the
    last solution: the exact optimum in a fraction of what `saga` needs to come near it.

    Parameters
    ----------
    x : array (n, p)
        Standardised columns.
    y : array (n,)
        0 and 1, both present.
    strengths : array (s,)
        Descending.
    l1_ratio : float
        Above 0, at most 1.

    Returns
    -------
    intercepts (s,), coefficients (s, p), converged

    References
    ----------
    Friedman, Hastie, Tibshirani, J. Stat. Softw. 33(1) (2010), section 3.
    """
    intercept, coefficients = logit(y.mean()), np.zeros(x.shape[1])
    found, converged = [], True
    with warnings.catch_warnings(), config_context(skip_parameter_validation=True, assume_finite=True):
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # what counts is whether Newton's steps come to rest
        for strength in strengths if x.shape[1] else ():
            for _ in range(STEPS):
                last, last_intercept = coefficients, intercept
                chance = expit(x @ coefficients + intercept)
                weight = np.maximum(chance * (1 - chance), FLAT)
                wanted = x @ coefficients + intercept + (y - chance) / weight
                centre, mean = weight @ x / weight.sum(), weight @ wanted / weight.sum()
                root = np.sqrt(weight)
                _, step, _ = enet_path(
                    np.asfortranarray((x - centre) * root[:, None]),
                    (wanted - mean) * root,
                    l1_ratio=l1_ratio,
                    alphas=[strength],
                    coef_init=coefficients.copy(),  # it is written to
                    tol=1e-8,
                    max_iter=10_000,
                    check_input=False,
                )
                coefficients = step[:, 0]
                intercept = mean - centre @ coefficients
                if max(np.abs(coefficients - last).max(), abs(intercept - last_intercept)) < STILL:
                    break
            else:
                converged = False
            found.append((intercept, coefficients))
    if not found:
        found = [(intercept, coefficients)] * len(strengths)
    return np.array([one[0] for one in found]), np.array([one[1] for one in found]), converged


def ridge(x: np.ndarray, y: np.ndarray, strength: float) -> tuple[float, np.ndarray]:
    """Ridge logistic regression: intercept and coefficients (p,).

    Raises
    ------
    ValueError
        Newton's steps do not come to rest.
    """
    whole = np.column_stack([np.ones(len(y)), x])
    penalty = strength * np.diag([0.0, *np.ones(x.shape[1])])
    b = np.array([logit(y.mean()), *np.zeros(x.shape[1])])

    def cost(b: np.ndarray) -> float:
        eta = whole @ b
        return np.mean(np.logaddexp(0, eta) - y * eta) + b @ penalty @ b / 2

    for _ in range(STEPS):
        chance = expit(whole @ b)
        curvature = (whole * (chance * (1 - chance))[:, None]).T @ whole / len(y) + penalty
        step = np.linalg.solve(curvature, whole.T @ (y - chance) / len(y) - penalty @ b)
        while cost(b + step) > cost(b) + 1e-12 and np.abs(step).max() > STILL:
            step = step / 2
        b = b + step
        if np.abs(step).max() < STILL:
            return float(b[0]), b[1:]
    raise ValueError(
        f"a ridge logistic regression of {x.shape[1]} columns on {len(y)} patients did not converge"
    )


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


class CrossFitted(NamedTuple):
    """A modality's signature, and what it would say of its own training patients if it did not know them."""

    signature: Signature  # of all training patients: scores new ones
    part: (
        pd.Series
    )  # training patient -> log-odds without intercept, by the signature of the other inner folds
    converged: bool  # of all fits


def inner_parts(label: pd.Series, k: int, seed: int) -> pd.Series:
    """Inner fold of each training patient, 0 to k - 1.

    Patients with an outcome are spread evenly by it. Those without one teach no signature; they take the folds in turn,
    by name, and are scored as the others of their fold are.

    Raises
    ------
    ValueError
        Fewer than k patients of an outcome.
    """
    known = label.dropna()
    folds = stratified_folds({p: p for p in sorted(known.index)}, dict(known.astype(int)), k, seed)
    parts = {patient: int(fold.name) for fold in folds for patient in fold.test}
    parts |= {patient: at % k for at, patient in enumerate(sorted(label.index[label.isna()]))}
    return pd.Series(parts, dtype=int).reindex(label.index)


def cross_fitted(
    table: pd.DataFrame, label: pd.Series, parts: pd.Series, options: Mapping[str, Any]
) -> CrossFitted:
    """Fit a modality's signature on all training patients, and on all but each inner fold.

    Parameters
    ----------
    table : DataFrame
        Training patients that have the modality, a row each.
    label : Series
        Training patient -> 0, 1 or NaN.
    parts : Series
        See `inner_parts`.
    options : mapping
        Of `Signature`.

    Raises
    ------
    ValueError
        As `Signature.fit` does.
    """
    table = table.sort_index()
    label, parts = label.reindex(table.index), parts.reindex(table.index)
    known = label.notna()
    whole = Signature(**options).fit(table[known], label[known])
    found, converged = [], whole.converged
    for at in sorted(parts.unique()):
        inner = Signature(**options).fit(table[known & (parts != at)], label)
        found.append(inner.part(table[parts == at]))
        converged &= inner.converged
    return CrossFitted(whole, pd.concat(found).reindex(table.index), converged)


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


class SignatureFusion:
    """One subset of modalities to log-odds, probability and log hazard.

    Parameters
    ----------
    subset : sequence of str
        Modalities; the factors of "clinical" enter one by one, any other modality enters as its signature's score.
    inner_folds, seed : int
        Folds that cross-fit the scores of training patients.
    **options
        Of `Signature`.

    Attributes
    ----------
    training_scores : DataFrame
        Patient -> score, probability, hazard of the training patients. Each is scored by signatures and a combiner
        fitted without them. (The combiner's few weights saw other patients' scores, made by signatures which knew
        them: the usual order of stacking.) The patients without label are in it too.
    report : dict
        patients, excluded, wrong_way, converged, no_cox, strengths, columns dropped and gaps filled a modality.
    """

    def __init__(self, subset: Sequence[str], *, inner_folds: int = 5, seed: int = 0, **options: Any):
        if not subset:
            raise ValueError("a fusion needs one modality at least")
        self.subset, self.inner_folds, self.seed = tuple(subset), inner_folds, seed
        self.options = {"seed": seed, **options}

    def fit(
        self,
        tables: Mapping[str, pd.DataFrame],
        outcome: pd.DataFrame,
        shared: dict[str, CrossFitted] | None = None,
    ) -> "SignatureFusion":
        """Fit on training patients; those without a row in one of the subset's tables are left out of the combiner.

        Parameters
        ----------
        tables : mapping
            Modality -> table indexed by patient; patients who are not in `outcome` are ignored.
        outcome : DataFrame
            Indexed by training patient: label (0, 1, NaN); time_months and event where there are times.
        shared : dict, optional
            Signatures by modality, filled and used: hand the same to all subsets of the same training patients.

        Raises
        ------
        ValueError
            A modality without table, or what the parts raise.
        """
        outcome = outcome.sort_index()
        parts = inner_parts(outcome["label"], self.inner_folds, self.seed)
        shared = {} if shared is None else shared
        mine = {name: rows(tables, name, outcome.index) for name in self.subset}
        for name in self.subset:
            if name != CLINICAL and name not in shared:
                shared[name] = cross_fitted(mine[name], outcome["label"], parts, self.options)
        scores = [name for name in self.subset if name != CLINICAL]
        self.signatures = {name: shared[name].signature for name in scores}
        people = everywhere(mine)
        self.factors = ClinicalFactors().fit(mine[CLINICAL].loc[people]) if CLINICAL in mine else None
        crossed = {name: shared[name].part.loc[people] for name in scores}
        columns = self._columns(mine, people, crossed)
        known, inside = outcome.loc[people], parts.loc[people]
        self.combiner = Combiner(scores).fit(columns, known, inside)
        told = []
        for at in sorted(inside.unique()):
            train, test = inside.index[inside != at], inside.index[inside == at]
            told.append(
                Combiner(scores).fit(columns.loc[train], known.loc[train], inside).predict(columns.loc[test])
            )
        self.training_scores = _with_probability(pd.concat(told).loc[people])
        self.report = {
            "setting": subset_name(self.subset),
            "patients": len(people),
            "labelled": int(known["label"].notna().sum()),
            "excluded": len(outcome) - len(people),
            "wrong_way": self.combiner.wrong_way,
            "no_cox": self.combiner.no_cox,
            "converged": all(shared[name].converged for name in scores),
            "ridge": self.combiner.strength,
            "strength": {name: one.strength for name, one in self.signatures.items()},
            "l1_ratio": {name: one.l1_ratio for name, one in self.signatures.items()},
            "dropped": {
                **{name: one.dropped for name, one in self.signatures.items()},
                "combiner": self.combiner.columns.dropped,
            },
            "filled": {
                **{name: one.columns.missing for name, one in self.signatures.items()},
                "combiner": self.combiner.columns.missing,
            },
        }
        return self

    def predict(self, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """score (log-odds, higher = more likely), probability, hazard (log, higher = earlier), by patient.

        Patients without a row in one of the subset's tables have none in the result, which is sorted by patient.

        Raises
        ------
        ValueError
            A modality without table, or a table without one of the columns.
        """
        return _with_probability(self.combiner.predict(self.columns_of(tables)))

    def columns_of(self, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """What the combiner reads of each patient: clinical factors as numbers, and the signatures' scores.

        Raises
        ------
        ValueError
            As `predict`.
        """
        mine = {name: rows(tables, name) for name in self.subset}
        people = everywhere(mine)
        scores = {name: one.part(mine[name].loc[people]) for name, one in self.signatures.items()}
        return self._columns(mine, people, scores)

    def coefficients(self) -> pd.DataFrame:
        """part ("signature", "combiner", "cox"), modality, feature, coefficient (standardised), centre, spread.

        In the combiner a signature's score is the feature named as its modality.
        """
        found = [
            one.coefficients().assign(part="signature", modality=name)
            for name, one in self.signatures.items()
        ]
        combined = self.combiner.coefficients()
        combined["modality"] = [name if name in self.signatures else CLINICAL for name in combined["feature"]]
        order = ["part", "modality", "feature", "coefficient", "centre", "spread"]
        return pd.concat([*found, combined], ignore_index=True)[order]

    def write(self, path: str | os.PathLike) -> None:
        """Write all that is needed to score a new patient, as JSON."""
        told = {
            "subset": list(self.subset),
            "factors": self.factors and self.factors.to_dict(),
            "signatures": {name: one.to_dict() for name, one in self.signatures.items()},
            "combiner": self.combiner.to_dict(),
        }
        write_json(told, path)

    @classmethod
    def read(cls, path: str | os.PathLike) -> "SignatureFusion":
        """What `write` wrote: it predicts."""
        told = json.loads(Path(path).read_text(encoding="utf-8"))
        fusion = cls(told["subset"])
        fusion.factors = told["factors"] and ClinicalFactors.from_dict(told["factors"])
        fusion.signatures = {name: Signature.from_dict(one) for name, one in told["signatures"].items()}
        fusion.combiner = Combiner.from_dict(told["combiner"])
        return fusion

    def _columns(
        self, mine: Mapping[str, pd.DataFrame], people: pd.Index, scores: Mapping[str, pd.Series]
    ) -> pd.DataFrame:
        factors = [self.factors.transform(mine[CLINICAL].loc[people])] if self.factors else []
        columns = pd.concat([*factors, pd.DataFrame(dict(scores), people)], axis=1)
        if columns.columns.has_duplicates:
            name = columns.columns[columns.columns.duplicated()][0]
            raise ValueError(f"{name} is a clinical factor and a modality: rename the factor")
        return columns


def _with_probability(found: pd.DataFrame) -> pd.DataFrame:
    return found.assign(probability=expit(found["score"]))[["score", "probability", "hazard"]]
