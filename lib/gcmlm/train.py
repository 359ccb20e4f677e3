"""Train the attention over modalities: the comparator of `lib.gcmlm.signature`, with the same interface.

Carry out the fits of the fusion study: one model on one fold with one seed, all subsets of modalities at once.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from scipy.special import expit
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lib.files import write_csv, write_json
from lib.gcmlm.model import ModalityAttention
from lib.gcmlm.signature import SignatureFusion, inner_parts
from lib.gcmlm.tables import CLINICAL, ClinicalFactors, ScaledColumns, everywhere, rows, subset_name, subsets
from lib.training.loop import write_weights


class AttentionFusion:
    """One subset of modalities to log-odds and probability; it knows no times, so its hazard is NaN.

    All patients make one batch, so that an epoch is one step of AdamW: a few milliseconds, in which a data loader and
    Lightning's loop would cost more than the step. The epochs are fixed beforehand; nothing is chosen by held-out
    patients.

    Parameters
    ----------
    subset : sequence of str
        Modalities; "clinical" holds factors, see `lib.gcmlm.tables`.
    inner_folds, seed : int
        Inner folds give `training_scores`, a network each; three, as every one costs a whole training.
    epochs : int
    learning_rate, weight_decay : float
    **options
        Of `ModalityAttention`.

    Attributes
    ----------
    training_scores : DataFrame
        Patient -> score, probability, hazard (NaN) of the training patients, each by a network that has not seen them.
    report : dict
        setting, patients, labelled, excluded, columns dropped and gaps filled a modality, loss at the end.
    """

    def __init__(
        self,
        subset: Sequence[str],
        *,
        inner_folds: int = 3,
        seed: int = 0,
        epochs: int = 50,
        learning_rate: float = 5e-3,
        weight_decay: float = 0.1,
        **options: Any,
    ):
        if not subset:
            raise ValueError("a fusion needs one modality at least")
        self.subset, self.inner_folds, self.seed = tuple(subset), inner_folds, seed
        self.epochs, self.options = epochs, options
        self.descent = {"lr": learning_rate, "weight_decay": weight_decay, "fused": True}

    def fit(
        self, tables: Mapping[str, pd.DataFrame], outcome: pd.DataFrame, shared: dict | None = None
    ) -> "AttentionFusion":
        """Fit on training patients that have a label and a row in each of the subset's tables.

        Parameters
        ----------
        tables, outcome
            As in `SignatureFusion.fit`; times are not used, nor `shared`.

        Raises
        ------
        ValueError
            A modality without table or without a usable column, one outcome only, or a loss that is not finite.
        """
        label = outcome.sort_index()["label"]
        parts = inner_parts(label, self.inner_folds, self.seed)
        mine = {name: rows(tables, name, label.index) for name in self.subset}
        people = everywhere(mine)
        label, parts = label.loc[people], parts.loc[people]
        found = []
        for at in sorted(parts.unique()):
            inner = _Network(self).fit(_of(mine, people[parts != at]), label)
            found.append(inner.logits(_of(mine, people[parts == at])))
        self.training_scores = _told(pd.concat(found).loc[people])
        self.network = _Network(self).fit(_of(mine, people), label)
        self.report = {
            "setting": subset_name(self.subset),
            "patients": len(people),
            "labelled": int(label.notna().sum()),
            "excluded": len(outcome) - len(people),
            "loss": self.network.loss,
            "dropped": {name: one.dropped for name, one in self.network.columns.items()},
            "filled": {name: one.missing for name, one in self.network.columns.items()},
        }
        return self

    def predict(self, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """score (log-odds, higher = more likely), probability, hazard (NaN), by patient, as in `SignatureFusion`."""
        mine = {name: rows(tables, name) for name in self.subset}
        return _told(self.network.logits(_of(mine, everywhere(mine))))

    def coefficients(self) -> pd.DataFrame:
        """No rows: a network has no coefficients to tell."""
        order = ["part", "modality", "feature", "coefficient", "centre", "spread"]
        return pd.DataFrame(columns=order)

    def write(self, path: str | os.PathLike) -> None:
        """Write all that is needed to score a new patient: safetensors, with the scaling in its metadata."""
        network = self.network
        told = {
            "subset": list(self.subset),
            "options": self.options,
            "factors": network.factors and network.factors.to_dict(),
            "columns": {name: one.to_dict() for name, one in network.columns.items()},
        }
        write_weights(network.model.state_dict(), path, {"fusion": json.dumps(told, sort_keys=True)})

    @classmethod
    def read(cls, path: str | os.PathLike) -> "AttentionFusion":
        """What `write` wrote: it predicts."""
        with safe_open(path, "pt") as file:
            told = json.loads(file.metadata()["fusion"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        fusion = cls(told["subset"], **told["options"])
        network = fusion.network = _Network(fusion)
        network.factors = told["factors"] and ClinicalFactors.from_dict(told["factors"])
        network.columns = {name: ScaledColumns.from_dict(told["columns"][name]) for name in fusion.subset}
        network.build()
        network.model.load_state_dict(state)
        network.model.eval()
        return fusion


class _Network:
    """One network with the scaling of what it reads."""

    def __init__(self, fusion: AttentionFusion):
        self.fusion, self.factors = fusion, None

    def build(self) -> None:
        sizes = {name: len(one.names) for name, one in self.columns.items()}
        if empty := [name for name, size in sizes.items() if not size]:
            raise ValueError(f"{empty[0]} has no usable column among the training patients: leave it out")
        self.model = ModalityAttention(sizes, **self.fusion.options)

    def fit(self, tables: Mapping[str, pd.DataFrame], label: pd.Series) -> "_Network":
        label = label.reindex(next(iter(tables.values())).index).dropna()
        if label.nunique() < 2:
            raise ValueError(
                f"all {len(label)} training patients had the same outcome: there is nothing to learn"
            )
        tables = _of(tables, label.index)
        if CLINICAL in tables:
            self.factors = ClinicalFactors().fit(tables[CLINICAL])
        self.columns = {name: ScaledColumns().fit(table) for name, table in self._encoded(tables).items()}
        wanted = torch.as_tensor(label.to_numpy(np.float32))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.fusion.seed)
            self.build()
            inputs = self._tensors(tables)
            adam = torch.optim.AdamW(self.model.parameters(), **self.fusion.descent)
            for _ in range(self.fusion.epochs):
                loss = binary_cross_entropy_with_logits(self.model(inputs), wanted)
                adam.zero_grad()
                loss.backward()
                adam.step()
        self.model.eval()
        self.loss = float(loss.detach())
        if not np.isfinite(self.loss):
            raise ValueError(
                "the loss of the attention is not finite: lower `learning_rate`, or look at the features"
            )
        return self

    @torch.no_grad()
    def logits(self, tables: Mapping[str, pd.DataFrame]) -> pd.Series:
        index = next(iter(tables.values())).index
        found = self.model(self._tensors(tables)).numpy().astype(np.float64) if len(index) else np.zeros(0)
        return pd.Series(found, index)

    def _encoded(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        return {
            name: self.factors.transform(table) if name == CLINICAL else table
            for name, table in tables.items()
        }

    def _tensors(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, Tensor]:
        encoded = self._encoded(tables)
        return {
            # dropout draws by memory, so that the layout must be the same
            name: torch.as_tensor(one.transform(encoded[name]), dtype=torch.float32).contiguous()
            for name, one in self.columns.items()
        }


def _of(tables: Mapping[str, pd.DataFrame], people: pd.Index) -> dict[str, pd.DataFrame]:
    return {name: table.loc[people] for name, table in tables.items()}


def _told(score: pd.Series) -> pd.DataFrame:
    return pd.DataFrame({"score": score, "probability": expit(score), "hazard": np.nan})


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
