"""Signatures of the modalities, joined with the clinical factors: the study's default fusion, by scikit-learn.

Ours, not the paper's, whose fusion is unpublished: the usual "signature and nomogram" of this literature. A modality's
features become one number, its signature's score, by an elastic net; the scores stand beside the clinical factors in a
ridge logistic regression, and in a Cox regression where times are known.

Whatever is fitted is fitted on training patients. The combiner sees them only through scores of inner folds that had not
seen them: else it would believe in whatever was overfitted most.
"""

import warnings
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from scipy.special import expit, logit
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectorMixin
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import validate_data

from lib.gcmlm.tables import CLINICAL, Factors, coefficients, common_rows, standardised
from lib.training.folds import stratified_folds

LOOSEST, STRICTEST = 1.0, 1e-3  # scikit-learn's C, 1 / (patients x glmnet's lambda), of the elastic net
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0)  # C of the combiner; the last is light for a handful of columns


def held_out_likelihood(model: LogisticRegression, x: np.ndarray, y: np.ndarray) -> float:
    """Mean log likelihood of held-out patients: scikit-learn's "neg_log_loss" in a tenth of its time."""
    eta = x @ np.ravel(model.coef_) + np.ravel(model.intercept_)
    return -float(np.logaddexp(0, np.where(y == 1, -eta, eta)).mean())


COEFFICIENTS = ["part", "modality", "feature", "coefficient", "centre", "spread", "fill", "low", "high"]
LIKE = {"scoring": held_out_likelihood, "max_iter": 5000, "use_legacy_attributes": False}


class Uncorrelated(SelectorMixin, BaseEstimator):
    """Of two columns that say the same (|r| above `most`), the first one in the table's order."""

    def __init__(self, most: float = 0.9):
        self.most = most

    def fit(self, x: np.ndarray, y=None) -> "Uncorrelated":
        """Learn which, without a look at the outcome."""
        values = validate_data(self, x)
        self.mask_ = np.zeros(values.shape[1], bool)
        with np.errstate(invalid="ignore"):  # of a constant column, which is like no other
            between = np.abs(np.nan_to_num(np.atleast_2d(np.corrcoef(values.T))))
        for at in range(len(self.mask_)):
            self.mask_[at] = not (between[at, self.mask_] > self.most).any()
        return self

    def _get_support_mask(self) -> np.ndarray:
        return self.mask_


def signature(inner_folds: int = 5, seed: int = 0) -> Pipeline:
    """One modality's features to one score: scaling, correlation filter, elastic-net logistic regression.

    Strength and mixture are those of the least held-out deviance over inner folds.
    """
    net = LogisticRegressionCV(
        Cs=np.geomspace(STRICTEST, LOOSEST, 7),
        l1_ratios=(0.1, 0.5),
        solver="saga",
        cv=StratifiedKFold(inner_folds, shuffle=True, random_state=seed),
        random_state=seed,
        **LIKE,
    )
    return Pipeline([*standardised(), ("uncorrelated", Uncorrelated()), ("net", net)])


def part(pipeline: Pipeline, table: pd.DataFrame) -> pd.Series:
    """A signature's score, by patient: log-odds without the intercept, 0 for the mean training patient."""
    return pd.Series(pipeline.decision_function(table) - pipeline[-1].intercept_[0], table.index)


def inner_parts(label: pd.Series, k: int, seed: int) -> pd.Series:
    """Inner fold of each training patient, 0 to k - 1.

    Patients with an outcome are spread evenly by it. Those without one teach no signature; they take the folds in turn,
    by name, and are scored as the others of their fold are.
    """
    known = label.dropna()
    folds = stratified_folds({p: p for p in sorted(known.index)}, dict(known.astype(int)), k, seed)
    parts = {patient: int(fold.name) for fold in folds for patient in fold.test}
    parts |= {patient: at % k for at, patient in enumerate(sorted(label.index[label.isna()]))}
    return pd.Series(parts, dtype=int).reindex(label.index)


def cross_fitted(
    table: pd.DataFrame, label: pd.Series, parts: pd.Series, seed: int = 0
) -> tuple[Pipeline, pd.Series]:
    """A modality's signature, and what it would say of its own training patients if it did not know them.

    `table` has a row for each training patient with the modality; `label` (0, 1 or NaN) and `parts` (inner folds) may
    have more. Returned are the signature that all of them taught, and the `part` of each by that of the other folds.
    """
    table = table.sort_index()
    label, parts = label.reindex(table.index), parts.reindex(table.index)
    scores = []
    for at in [*sorted(parts.unique()), None]:
        taught = label.notna() & (parts != at if at is not None else True)
        known = label[taught].astype(int)
        least = int(min(known.sum(), (1 - known).sum()))
        if least < 3:
            raise ValueError(
                f"a signature needs three training patients of each outcome, there are {least} of one"
            )
        fitted = _quietly(signature(min(int(parts.max()) + 1, least), seed), table[taught], known)
        if at is not None:
            scores.append(part(fitted, table[parts == at]))
    return fitted, pd.concat(scores).reindex(table.index)


def _quietly(model: BaseEstimator, table: pd.DataFrame, label: pd.Series) -> BaseEstimator:
    """Fit; whether a net came to rest is told by `n_iter_`."""
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        return model.fit(table, label)


def prepared(pipelines: Collection[Pipeline]) -> dict[str, int]:
    """For the report of a run: columns that were dropped, gaps that were filled."""
    return {
        "dropped": sum(one.n_features_in_ - len(one.get_feature_names_out()) for one in pipelines),
        "filled": sum(one.named_steps["telling"].filled_ for one in pipelines),
    }


class Combiner:
    """Logistic and Cox regression on a few standardised columns: factors, and the signatures' cross-fitted scores.

    The ridge is the one of least held-out deviance over the given inner folds, the same for both regressions. A score
    made to point upwards keeps a weight of 0 or more (Breiman's rule for stacking, Mach. Learn. 24:49, 1996): one whose
    cross-fitted values go the wrong way has found nothing, and turned around it would be noise. It is left out and named.

    After `fit`: prepare, which standardises the columns; weights and log_hazards by column, of the logistic and the Cox
    regression (None where `no_cox` says why); intercept; strictness, C of the ridge; wrong_way, names.
    """

    def __init__(self, scores: Sequence[str] = ()):
        self.scores = tuple(scores)

    def fit(self, table: pd.DataFrame, outcome: pd.DataFrame, parts: pd.Series) -> "Combiner":
        """Fit on training patients: `outcome` has label (0, 1, NaN) and perhaps time_months, event; `parts` inner folds."""
        outcome, parts = outcome.reindex(table.index), parts.reindex(table.index)
        known = outcome["label"].notna()
        label = outcome["label"][known].astype(int)
        self.prepare = Pipeline(standardised()).fit(table)
        x = self.standardised(table)
        self.wrong_way, self.weights = [], pd.Series(0.0, list(x))
        self.intercept, self.strictness = float(logit(label.mean())), RIDGES[0]
        while used := [name for name in x if name not in self.wrong_way]:
            ridge = _quietly(_ridge(label, parts[known]), x.loc[known, used], label)
            weights = pd.Series(ridge.coef_[0], used)
            against = weights[weights.index.isin(self.scores) & (weights < 0)]
            if against.empty:
                self.weights.update(weights)
                self.intercept = float(ridge.intercept_[0])
                self.strictness = float(ridge.C_ if hasattr(ridge, "C_") else ridge.C)
                break
            self.wrong_way.append(against.idxmin())
        self.log_hazards, self.no_cox = None, ""
        if not {"time_months", "event"} <= set(outcome):
            self.no_cox = "no times"
        elif not outcome["event"].any():
            self.no_cox = "no event among the training patients"
        else:
            self.log_hazards = 0.0 * self.weights
            if varied := [name for name in used if x[name].std() > 0]:
                frame = x[varied].join(outcome[["time_months", "event"]]).dropna()
                cox = CoxPHFitter(penalizer=1 / (len(label) * self.strictness))
                self.log_hazards.update(cox.fit(frame, "time_months", "event").params_)
        return self

    def standardised(self, table: pd.DataFrame) -> pd.DataFrame:
        """The columns as the regressions see them."""
        return pd.DataFrame(self.prepare.transform(table), table.index, self.prepare.get_feature_names_out())

    def predict(self, table: pd.DataFrame) -> pd.DataFrame:
        """score (log-odds), probability, hazard (log, against the mean training patient; NaN without Cox), by patient."""
        x = self.standardised(table)
        score = x @ self.weights + self.intercept
        hazard = np.nan if self.log_hazards is None else x @ self.log_hazards
        return pd.DataFrame({"score": score, "probability": expit(score), "hazard": hazard}, table.index)


def _ridge(label: pd.Series, parts: pd.Series) -> LogisticRegression | LogisticRegressionCV:
    """The strictest where the inner folds cannot tell."""
    places = np.arange(len(parts))
    folds = [(places[parts != at], places[parts == at]) for at in sorted(parts.unique())]
    folds = [fold for fold in folds if all(label.iloc[side].nunique() == 2 for side in fold)]
    if not folds:
        return LogisticRegression(C=RIDGES[0], max_iter=LIKE["max_iter"])
    return LogisticRegressionCV(Cs=RIDGES, l1_ratios=(0,), cv=folds, solver="newton-cholesky", **LIKE)


class SignatureFusion:
    """One subset of modalities ("clinical+ct") to log-odds, probability and log hazard.

    The factors of "clinical" enter one by one, any other modality as its signature's score. After `fit`: factors,
    signatures, combiner; report (numbers of patients, columns dropped, gaps filled; what went the wrong way);
    training_scores, by patient, without a label too: each is scored by signatures and a combiner fitted without them.
    (The combiner's few weights saw other patients' scores, made by signatures which knew them: the usual order of
    stacking.)
    """

    def __init__(self, setting: str, inner_folds: int = 5, seed: int = 0):
        self.setting, self.inner_folds, self.seed = setting, inner_folds, seed
        self.scores = [name for name in setting.split("+") if name != CLINICAL]
        self.history = pd.DataFrame(columns=["epoch", "loss"])  # nothing here learns by epochs

    def fit(
        self,
        tables: Mapping[str, pd.DataFrame],
        outcome: pd.DataFrame,
        shared: dict[str, tuple[Pipeline, pd.Series]] | None = None,
    ) -> "SignatureFusion":
        """Fit on training patients; those without a row in one of the subset's tables are left out of the combiner.

        `tables`: modality -> table indexed by patient; patients who are not in `outcome` (index: training patient; label 0,
        1 or NaN; time_months and event where there are times) are ignored. `shared`: signatures by modality, filled and
        used; hand the same to all subsets of the same training patients.
        """
        outcome = outcome.sort_index().dropna(axis=1, how="all")
        parts = inner_parts(outcome["label"], self.inner_folds, self.seed)
        shared = {} if shared is None else shared
        for name in self.scores:
            if name not in shared:
                own = common_rows(tables, name, outcome.index)[name]
                shared[name] = cross_fitted(own, outcome["label"], parts, self.seed)
        self.signatures = {name: shared[name][0] for name in self.scores}
        mine = common_rows(tables, self.setting, outcome.index)
        self.factors = Factors(mine[CLINICAL]) if CLINICAL in mine else None
        people = next(iter(mine.values())).index
        columns = self._columns(mine, {name: shared[name][1].loc[people] for name in self.scores})
        known, inside = outcome.loc[people], parts.loc[people]
        self.combiner, self.range = (
            Combiner(self.scores).fit(columns, known, inside),
            (columns.min(), columns.max()),
        )
        crossed = [
            Combiner(self.scores).fit(columns[inside != at], known, inside).predict(columns[inside == at])
            for at in sorted(inside.unique())
        ]
        self.training_scores = pd.concat(crossed).loc[people]
        nets = [one[-1] for one in self.signatures.values()]
        self.report = {
            "patients": len(people),
            "labelled": int(known["label"].notna().sum()),
            "excluded": len(outcome) - len(people),
            "converged": all(int(np.max(net.n_iter_)) < net.max_iter for net in nets),
            **prepared([*(one[:-1] for one in self.signatures.values()), self.combiner.prepare]),
            "ridge": 1 / (int(known["label"].notna().sum()) * self.combiner.strictness),
            "wrong_way": "+".join(self.combiner.wrong_way),
            "no_cox": self.combiner.no_cox,
        }
        return self

    def columns_of(self, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """What the combiner reads of each patient: clinical factors as numbers, and the signatures' scores."""
        mine = common_rows(tables, self.setting)
        return self._columns(mine, {name: part(one, mine[name]) for name, one in self.signatures.items()})

    def predict(self, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """score (log-odds, higher = more likely), probability, hazard (log, higher = earlier), by patient.

        Patients without a row in one of the subset's tables have none in the result, which is sorted by patient.
        """
        return self.combiner.predict(self.columns_of(tables))

    def coefficients(self) -> pd.DataFrame:
        """The model, enough to score a new patient by hand: a row a coefficient, and one with the combiner's intercept.

        part ("signature", "combiner", "cox", "intercept"), modality, feature (in the combiner a signature's score is named as
        its modality), coefficient, centre, spread, fill (`lib.gcmlm.tables.coefficients`); low and high, the range of the
        combiner's columns among training patients.
        """
        tables = [pd.DataFrame([{"part": "intercept", "coefficient": self.combiner.intercept}])]
        for name, one in self.signatures.items():
            tables.append(coefficients(one[:-1], one[-1].coef_[0]).assign(part="signature", modality=name))
        for name, weights in (("combiner", self.combiner.weights), ("cox", self.combiner.log_hazards)):
            if weights is not None:
                rows = coefficients(self.combiner.prepare, weights.to_numpy()).assign(part=name)
                rows["modality"] = [each if each in self.scores else CLINICAL for each in rows["feature"]]
                rows["low"], rows["high"] = (rows["feature"].map(end) for end in self.range)
                tables.append(rows)
        return pd.concat(tables, ignore_index=True).reindex(columns=COEFFICIENTS)

    def _columns(self, mine: Mapping[str, pd.DataFrame], scores: Mapping[str, pd.Series]) -> pd.DataFrame:
        factors = [self.factors.transform(mine[CLINICAL])] if self.factors is not None else []
        columns = pd.concat([*factors, pd.DataFrame(dict(scores))], axis=1)
        return columns[sorted(columns)]
