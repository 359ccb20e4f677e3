"""Signatures of the modalities, joined with the clinical factors: the study's default fusion.

Ours, not the paper's, whose fusion is unpublished: the usual "signature and nomogram" of this literature.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.special import expit

from lib.files import write_json
from lib.training.clinical_factors import ClinicalFactors
from lib.training.combiner import Combiner
from lib.training.cross_fitting import CrossFitted, cross_fitted, inner_parts
from lib.training.modality_tables import CLINICAL, everywhere, rows
from lib.training.signature import Signature
from lib.training.subsets import subset_name


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
