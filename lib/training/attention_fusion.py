"""Train the attention over modalities: the comparator of `lib.training.signature_fusion`, with the same interface."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from scipy.special import expit
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lib.models.modality_attention import ModalityAttention
from lib.training.clinical_factors import ClinicalFactors
from lib.training.cross_fitting import inner_parts
from lib.training.modality_tables import CLINICAL, everywhere, rows
from lib.training.scaled_columns import ScaledColumns
from lib.training.subsets import subset_name
from lib.training.weight_files import write_weights


class AttentionFusion:
    """One subset of modalities to log-odds and probability; it knows no times, so its hazard is NaN.

    All patients make one batch, so that an epoch is one step of AdamW: a few milliseconds, in which a data loader and
    Lightning's loop would cost more than the step. The epochs are fixed beforehand; nothing is chosen by held-out
    patients.

    Parameters
    ----------
    subset : sequence of str
        Modalities; "clinical" holds factors, see `lib.training.clinical_factors`.
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
