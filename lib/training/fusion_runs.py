"""Carry out the fits of the fusion study: one model on one fold with one seed, all subsets of modalities at once."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib.files import write_csv, write_json
from lib.training.attention_fusion import AttentionFusion
from lib.training.signature_fusion import SignatureFusion
from lib.training.subsets import subset_name, subsets

FUSIONS = {"signature": SignatureFusion, "attention": AttentionFusion}
SUFFIX = {"signature": "json", "attention": "safetensors"}
EXTERNAL = "external"  # the fold that trains on all internal patients and tests the other hospital
PREDICTIONS = [
    "model",
    "setting",
    "seed",
    "fold",
    "patient",
    "split",
    "label",
    "score",
    "probability",
    "hazard",
]
COEFFICIENTS = [
    "model",
    "setting",
    "seed",
    "fold",
    "part",
    "modality",
    "feature",
    "coefficient",
    "centre",
    "spread",
]


class Unit(NamedTuple):
    """One model, fold and seed; its subsets share the signatures."""

    model: str
    fold: str
    seed: int

    @property
    def name(self) -> str:
        """Names the files."""
        return f"{self.fold}.{self.model}.s{self.seed}"


def plan_units(models: Sequence[str], folds: Sequence[str], seeds: Sequence[int]) -> dict[str, Unit]:
    """All units by name, those of the first seed first.

    Raises
    ------
    ValueError
        An unknown model.
    """
    if unknown := [model for model in models if model not in FUSIONS]:
        raise ValueError(f"{unknown[0]} is no fusion: choose {' or '.join(FUSIONS)}")
    units = [Unit(model, str(fold), int(seed)) for seed in seeds for model in models for fold in folds]
    return {unit.name: unit for unit in units}


def folds_of(cohort: pd.DataFrame) -> list[str]:
    """Folds of a cohort: those of its internal patients, and "external" where it has external ones."""
    internal = cohort["set"] == "internal"
    names = sorted(cohort.loc[internal, "fold"].astype(str).unique())
    if bad := [
        patient for patient in cohort.index[internal] if not str(cohort.at[patient, "fold"]).isdigit()
    ]:
        raise ValueError(f"patient {bad[0]} is internal and has no fold ({len(bad)} have none)")
    return names + ([EXTERNAL] if (cohort["set"] == EXTERNAL).any() else [])


def sides(cohort: pd.DataFrame, fold: str) -> tuple[list[str], list[str]]:
    """Training and tested patients of a fold.

    Raises
    ------
    ValueError
        A side without patients.
    """
    internal = cohort["set"] == "internal"
    here = cohort["fold"].astype(str) == fold
    train = internal if fold == EXTERNAL else internal & ~here
    test = cohort["set"] == EXTERNAL if fold == EXTERNAL else internal & here
    if not train.any() or not test.any():
        raise ValueError(
            f"fold {fold}: {train.sum()} patients train and {test.sum()} are tested; both sides need some"
        )
    return list(cohort.index[train]), list(cohort.index[test])


class Runs:
    """A cohort, its feature tables, and what is fitted on them.

    Parameters
    ----------
    folder : path
        `results/<study>/<cohort>/`.
    cohort : DataFrame
        Indexed by patient (str): set ("internal", "external"), fold ("" outside), label, time_months and event (where
        there are times).
    tables : mapping
        Modality -> table indexed by patient, in the order of the subsets' names. A table may lack patients.
    options : mapping
        Model -> options of `SignatureFusion`, `AttentionFusion`.
    keep_weights_of : int
        Seed whose models are written, one file a subset.
    """

    def __init__(
        self,
        folder: Path,
        cohort: pd.DataFrame,
        tables: Mapping[str, pd.DataFrame],
        options: Mapping[str, Mapping[str, Any]] | None = None,
        keep_weights_of: int = 0,
    ):
        self.folder, self.cohort, self.tables = Path(folder), cohort, dict(tables)
        self.options, self.kept = {name: dict(one) for name, one in (options or {}).items()}, keep_weights_of
        self.outcome = cohort[[name for name in ("label", "time_months", "event") if name in cohort]].astype(
            float
        )

    def outputs(self, unit: Unit) -> list[Path]:
        """Files a unit writes: predictions, coefficients, report, and the models of the first seed."""
        ends = ("predictions.csv", "coefficients.csv", "report.json")
        paths = [self.folder / "train" / f"{unit.name}.{end}" for end in ends]
        if unit.seed == self.kept:
            names = map(subset_name, subsets(list(self.tables)))
            paths += [self.folder / "weights" / f"{unit.name}.{name}.{SUFFIX[unit.model]}" for name in names]
        return paths

    def depends(self, unit: Unit) -> dict[str, Any]:
        """What a unit's result depends on besides the tables: its patients, their outcomes, the model's options."""
        train, test = sides(self.cohort, unit.fold)
        known = self.outcome.loc[[*train, *test]].astype(object)
        rows = known.where(known.notna(), None).to_numpy().tolist()
        told = {"train": train, "test": test, "outcome": rows, "options": self.options.get(unit.model, {})}
        return {"unit": unit._asdict(), "modalities": list(self.tables), **told}

    def train(self, unit: Unit) -> None:
        """Fit a unit and write its outputs."""
        predictions, coefficients, reports, fusions = self.fit(unit)
        told, numbers, report, *weights = self.outputs(unit)
        for path, fusion in zip(weights, fusions, strict=bool(weights)):
            fusion.write(path)
        write_csv(coefficients, numbers)
        write_json(reports, report)
        write_csv(predictions, told)

    def fit(self, unit: Unit) -> tuple[pd.DataFrame, pd.DataFrame, list[dict], list]:
        """Fit all subsets of a unit.

        Returns
        -------
        predictions : DataFrame
            See `PREDICTIONS`. "train" rows are cross-fitted: no training patient is scored by signatures that saw them.
        coefficients : DataFrame
            See `COEFFICIENTS`; none of "attention".
        reports : list of dict
            One a subset, with the patients tested and those left out for want of a modality.
        fusions : list
            The fitted models, in the order of the subsets.
        """
        train, test = sides(self.cohort, unit.fold)
        shared: dict = {}
        predictions, coefficients, reports, fusions = [], [], [], []
        tested = {name: table.loc[table.index.isin(test)] for name, table in self.tables.items()}
        for subset in subsets(list(self.tables)):
            who = {"model": unit.model, "setting": subset_name(subset), "seed": unit.seed, "fold": unit.fold}
            fusion = FUSIONS[unit.model](subset, seed=unit.seed, **self.options.get(unit.model, {}))
            try:
                fusion.fit(self.tables, self.outcome.loc[train], shared)
            except ValueError as error:
                raise ValueError(f"{who['model']} of {who['setting']}, fold {unit.fold}: {error}") from error
            found = fusion.predict(tested)
            for split, part in (("test", found), ("train", fusion.training_scores)):
                part = part.assign(split=split, label=self.outcome["label"].reindex(part.index), **who)
                predictions.append(part.rename_axis("patient").reset_index())
            coefficients.append(fusion.coefficients().assign(**who))
            reports.append(
                {**fusion.report, **who, "tested": len(found), "not_tested": len(test) - len(found)}
            )
            fusions.append(fusion)
        filled = [one for one in coefficients if len(one)]
        return (
            pd.concat(predictions, ignore_index=True)[PREDICTIONS],
            pd.concat(filled, ignore_index=True)[COEFFICIENTS]
            if filled
            else pd.DataFrame(columns=COEFFICIENTS),
            reports,
            fusions,
        )


def read_fusion(path: Path) -> SignatureFusion | AttentionFusion:
    """A model written by `Runs.train`, to score new patients with."""
    return (AttentionFusion if Path(path).suffix == ".safetensors" else SignatureFusion).read(path)


def collected(folder: Path, units: Mapping[str, Unit], what: str) -> pd.DataFrame:
    """Tables of all units, one below the other.

    Parameters
    ----------
    folder : path
        As given to `Runs`.
    units : mapping
    what : {"predictions", "coefficients"}
    """
    text = {"patient": str, "fold": str, "setting": str, "feature": str, "modality": str}
    tables = [pd.read_csv(Path(folder) / "train" / f"{name}.{what}.csv", dtype=text) for name in units]
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def reported(folder: Path, units: Mapping[str, Unit]) -> pd.DataFrame:
    """What the units' reports say, a row a subset: counts, columns dropped and gaps filled (numbers of them)."""
    told = []
    for name in units:
        for one in json.loads((Path(folder) / "train" / f"{name}.report.json").read_text(encoding="utf-8")):
            simple = {key: value for key, value in one.items() if not isinstance(value, (dict, list))}
            for key in ("dropped", "filled"):
                simple[key] = int(np.sum([len(part) for part in one[key].values()]))
            told.append({**simple, "wrong_way": "+".join(one.get("wrong_way", ()))})
    return pd.DataFrame(told)
