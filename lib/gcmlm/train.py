"""The two contenders on one fold: `fit(run, data)` gives their scores of tested and of training patients."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from sklearn.pipeline import Pipeline
from torch import Tensor

from lib.gcmlm.model import ModalityAttention
from lib.gcmlm.signature import COEFFICIENTS, SignatureFusion, inner_parts, prepared
from lib.gcmlm.tables import CLINICAL, Factors, common_rows, standardised
from lib.training import folds
from lib.training.folds import Fold
from lib.training.runs import Checkpoint, Result, Run

DESCENT = {"lr": 5e-3, "weight_decay": 0.1, "fused": True}
EXTERNAL = "external"  # the fold that trains on all internal patients and tests the other hospital
PREDICTIONS = [
    *("model", "setting", "seed", "fold", "patient", "split"),
    *("label", "score", "probability", "hazard"),
]


def folds_of(cohort: pd.DataFrame) -> list[Fold]:
    """Folds of a cohort (index: patient): those of its internal patients, and "external" where it has external ones."""
    inside, outside = (cohort[cohort["set"] == name] for name in ("internal", EXTERNAL))
    external = [Fold(EXTERNAL, tuple(inside.index), tuple(outside.index))] if len(outside) else []
    return [*folds.folds_of(inside), *external]


@dataclass
class Data:
    """A cohort and its feature tables.

    `cohort`, by patient: set, fold, label (0, 1, NaN), time_months and event (NaN where there are no times); `tables`:
    modality -> table by patient, who may be missing; `shared`: signatures by fold and seed, which subsets have in common.
    """

    folder: Path
    cohort: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    inner_folds: int = 5
    shared: dict[tuple, dict] = field(default_factory=dict)

    def files(self, run: Run) -> list[Path]:
        return [
            self.folder / "cohort.csv",
            *(self.folder / "tables" / f"{name}.csv" for name in run.setting.split("+")),
        ]


def fit(run: Run, data: Data, checkpoint: Checkpoint | None = None) -> Result:
    """Fit a subset of the modalities on a fold.

    Returns
    -------
    Result
        scores: see `PREDICTIONS`; the "train" rows are cross-fitted: no training patient is scored by models that saw
        them. history: loss by epoch, of attention. tables: "coefficients" (of signature), "report" (one row).
    """
    outcome = data.cohort[["label", "time_months", "event"]].loc[list(run.fold.train)].astype(float)
    if run.model == "signature":
        fusion = SignatureFusion(run.setting, data.inner_folds, run.seed)
        fusion.fit(data.tables, outcome, data.shared.setdefault((run.fold.name, run.seed), {}))
        told, weights = fusion.coefficients(), ({}, {})  # the table is the whole model
    else:
        fusion = AttentionFusion(run.setting, seed=run.seed).fit(data.tables, outcome)
        told, weights = pd.DataFrame(columns=COEFFICIENTS), fusion.stored()
    tested = {name: table[table.index.isin(run.fold.test)] for name, table in data.tables.items()}
    scores = {"test": fusion.predict(tested), "train": fusion.training_scores}
    parts = [part.rename_axis("patient").reset_index().assign(split=split) for split, part in scores.items()]
    predictions = pd.concat(parts, ignore_index=True).assign(**run.about)
    predictions["label"] = predictions["patient"].map(data.cohort["label"])
    counts = {"tested": len(scores["test"]), "not_tested": len(run.fold.test) - len(scores["test"])}
    tables = {"coefficients": told, "report": pd.DataFrame([fusion.report | counts])}
    return Result(predictions[PREDICTIONS], fusion.history, *weights, tables)


class AttentionFusion:
    """One subset of modalities to log-odds and probability; it knows no times, so its hazard is NaN.

    All patients make one batch, so that an epoch is one step of AdamW: a few milliseconds, in which a data loader and
    Lightning's loop would cost more than the step. The epochs are fixed beforehand; nothing is chosen by held-out
    patients.

    Inner folds give `training_scores`, a network each; three, as every one costs a whole training. After `fit`:
    training_scores, history (epoch, loss of the training patients), report.
    """

    def __init__(self, setting: str, *, inner_folds: int = 3, seed: int = 0, epochs: int = 50):
        self.setting, self.inner_folds, self.seed, self.epochs = setting, inner_folds, seed, epochs

    def fit(self, tables: Mapping[str, pd.DataFrame], outcome: pd.DataFrame) -> "AttentionFusion":
        """Fit on training patients that have a label and a row in each of the subset's tables."""
        label = outcome.sort_index()["label"]
        parts = inner_parts(label, self.inner_folds, self.seed)
        mine = common_rows(tables, self.setting, label.index)
        people = next(iter(mine.values())).index
        label, parts = label.loc[people], parts.loc[people]
        crossed = []
        for at in sorted(parts.unique()):
            self._train({name: table[parts != at] for name, table in mine.items()}, label[parts != at])
            crossed.append(self.predict({name: table[parts == at] for name, table in mine.items()}))
        self.training_scores = pd.concat(crossed).loc[people]
        self.history = self._train(mine, label)
        self.report = {
            "patients": len(people),
            "labelled": int(label.notna().sum()),
            "excluded": len(outcome) - len(people),
            "loss": self.history["loss"].iloc[-1],
            **prepared(self.scaling.prepare.values()),
        }
        return self

    def _train(self, tables: Mapping[str, pd.DataFrame], label: pd.Series) -> pd.DataFrame:
        """Train a network on those of the tables' patients that have a label; the loss by epoch."""
        label = label.dropna()
        if label.nunique() < 2:
            raise ValueError(
                f"all {len(label)} training patients had the same outcome: there is nothing to learn"
            )
        tables = {name: table.loc[label.index] for name, table in tables.items()}
        self.scaling = Scaling(tables)
        inputs, wanted, losses = self.scaling.tensors(tables), torch.as_tensor(label.to_numpy(np.float32)), []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.model = ModalityAttention(self.scaling.sizes)
            adam = torch.optim.AdamW(self.model.parameters(), **DESCENT)
            for _ in range(self.epochs):
                _, loss = self.model(inputs, wanted)
                adam.zero_grad()
                loss.backward()
                adam.step()
                losses.append(float(loss.detach()))
        self.model.eval()
        return pd.DataFrame({"epoch": range(len(losses)), "loss": losses})

    @torch.no_grad()
    def predict(self, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """score (log-odds, higher = more likely), probability, hazard (NaN), by patient, as in `SignatureFusion`."""
        mine = common_rows(tables, self.setting)
        index = next(iter(mine.values())).index
        logits = self.model(self.scaling.tensors(mine))[0].numpy().astype(np.float64) if len(index) else []
        score = pd.Series(logits, index, dtype=float)
        return pd.DataFrame({"score": score, "probability": expit(score), "hazard": np.nan})

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Weights, and the columns that each modality's layer reads, with their scaling."""
        columns = {name: list(one.get_feature_names_out()) for name, one in self.scaling.prepare.items()}
        scaling = {}
        for name, one in self.scaling.prepare.items():
            for kind, values in (("centre", one["scale"].mean_), ("spread", one["scale"].scale_)):
                scaling[f"scaling.{name}.{kind}"] = torch.as_tensor(values)
            scaling[f"scaling.{name}.fill"] = torch.as_tensor(one["fill"].statistics_)
        about = {"setting": self.setting, "columns": json.dumps(columns, sort_keys=True)}
        return self.model.state_dict() | scaling, about


class Scaling:
    """What the network reads of each patient: factors as numbers, gaps filled, standardised by training patients."""

    def __init__(self, tables: Mapping[str, pd.DataFrame]):
        self.factors = Factors(tables[CLINICAL]) if CLINICAL in tables else None
        encoded = self._encoded(tables)
        self.prepare = {name: Pipeline(standardised()).fit(table) for name, table in encoded.items()}
        self.sizes = {name: len(one.get_feature_names_out()) for name, one in self.prepare.items()}

    def tensors(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, Tensor]:
        """Modality -> (n, p), float32."""
        encoded = self._encoded(tables)
        # dropout draws by memory, so that the layout must be the same
        return {
            name: torch.as_tensor(one.transform(encoded[name]), dtype=torch.float32).contiguous()
            for name, one in self.prepare.items()
        }

    def _encoded(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        encoded = dict(tables)
        if self.factors is not None:
            encoded[CLINICAL] = self.factors.transform(tables[CLINICAL])
        return encoded
