"""Raw columns -> the numbers of a token, fitted on the training patients of a fold and on nobody else."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtri
from torch import Tensor

from lib.files import opened, written_hdf5
from lib.fusion.cohort import Patients
from lib.fusion.params import RNA, FusionParams
from lib.training.folds import Fold, stratified_folds
from lib.training.penalised import Outcome, Ridge

INNER_FOLDS = 5


class Inputs(NamedTuple):
    """A fold's patients as a network gets them, or some of these patients.

    Attributes
    ----------
    patients : list of str
    columns : dict of str to Tensor (n, k), float32
        Modality, in the order of the tokens -> its columns, spread about 1 among training patients; 0 where missing.
    present : Tensor (n, M), bool
        False where a patient lacks a modality.
    offset : Tensor (n,), float32
        Log hazard (of a label: log odds) by the clinic alone. Of a training patient it is what inner folds predict that
        do not hold him, so that it is as good as a held-out patient's.
    time, event : Tensor (n,), float32
        Months (0 where the outcome is a label); 1 where it happened.
    clinic : tuple of str
        Names of the clinic's columns.
    """

    patients: list[str]
    columns: dict[str, Tensor]
    present: Tensor
    offset: Tensor
    time: Tensor
    event: Tensor
    clinic: tuple[str, ...] = ()

    def of(self, patients: list[str]) -> "Inputs":
        """Some of the patients, in the order given."""
        place = {one: number for number, one in enumerate(self.patients)}
        rows = torch.tensor([place[one] for one in patients])
        columns = {name: values[rows] for name, values in self.columns.items()}
        parts = (self.present, self.offset, self.time, self.event)
        return Inputs(list(patients), columns, *(part[rows] for part in parts), self.clinic)


def inner_folds(table: pd.DataFrame, fold: Fold, seed: int, count: int = INNER_FOLDS) -> list[Fold]:
    """Folds within a fold's training patients, stratified by cancer and event; rows of one patient stay together."""
    train = table.loc[[*fold.train]]
    person = train.get("person", pd.Series(train.index, train.index))
    people = train.groupby(person.to_numpy())
    strata = people["event"].max().astype(int).astype(str)
    kinds = people["cancer"].first() + strata
    count = min(count, len(kinds))
    levels = (kinds, strata, strata.replace(strata.unique(), ""))
    # what is too rare to be dealt out evenly is not
    kinds = next(level for level in levels if (level.value_counts() >= count).all())
    return stratified_folds(dict(person), kinds.to_dict(), count, seed)


def tokens(patients: Patients, fold: Fold, params: FusionParams) -> Inputs:
    """The inputs of all patients of a fold, scaled and with the clinic's prediction by the training patients alone.

    RNA has one patient of outliers a gene: its ranks among training patients become normal scores (van der Waerden), or
    its standard scores are clipped (`rna_scale`). Everything else is standardised and clipped at `clip`. A clinical column
    that is missing takes the training median, any other 0, the mean.
    """
    table = patients.table
    rows = [*fold.train, *fold.test]
    train = np.arange(len(rows)) < len(fold.train)
    blocks = dealt(patients.blocks, params.seed) if params.random_groups else patients.blocks
    columns, present = {}, []
    for name, block in blocks.items():
        raw = block.loc[rows].to_numpy(float)
        present.append(~np.isnan(raw).all(1))
        ranked = name in RNA and params.rna_scale == "rank-normal"
        clip = np.inf if name in RNA and params.rna_scale == "raw" else params.clip
        if name == "clinic":
            raw = np.where(np.isnan(raw), _median(raw[train]), raw)
        columns[name] = (normal_scores if ranked else standard)(raw, train, clip).astype(np.float32)
    time = table["time"].loc[rows].to_numpy(float)
    event = table["event"].loc[rows].to_numpy(float)
    offset = _by_clinic(columns, Outcome(None if np.isnan(time).all() else time, event), table, fold, params)
    return Inputs(
        rows,
        {name: torch.from_numpy(values) for name, values in columns.items()},
        torch.from_numpy(np.stack(present, 1)),
        torch.from_numpy(offset.astype(np.float32)),
        torch.from_numpy(np.nan_to_num(time).astype(np.float32)),
        torch.from_numpy(event.astype(np.float32)),
        tuple(blocks["clinic"].columns) if "clinic" in blocks else (),
    )


def _median(raw: np.ndarray) -> np.ndarray:
    known = ~np.isnan(raw).all(0)
    return np.where(known, np.nanmedian(np.where(known, raw, 0.0), axis=0), 0.0)


def standard(raw: np.ndarray, train: np.ndarray, clip: float) -> np.ndarray:
    """Columns with mean 0 and spread 1 among training patients (a constant one is 0), clipped, 0 where missing."""
    known = ~np.isnan(raw[train])
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, raw[train], 0.0).sum(0) / count
    spread = np.sqrt(np.where(known, raw[train] - mean, 0.0).__pow__(2).sum(0) / count)
    scaled = (raw - mean) / np.where(spread > 1e-8 * (1 + np.abs(mean)), spread, np.inf)
    return np.clip(np.nan_to_num(scaled), -clip, clip)


def normal_scores(raw: np.ndarray, train: np.ndarray, clip: float = np.inf) -> np.ndarray:
    """Each number's rank among training patients, as the normal quantile of (rank / (n + 1)); 0 where missing.

    Ties have their middle rank; beyond all training patients it is half a rank from the end.
    """
    scores = np.zeros_like(raw)
    for number, column in enumerate(raw.T):
        known = np.sort(column[train][~np.isnan(column[train])])
        place = np.searchsorted(known, column, "left") + np.searchsorted(known, column, "right")
        scores[:, number] = ndtri((place + 1) / 2 / (len(known) + 1))
    return np.clip(np.where(np.isnan(raw), 0.0, scores), -clip, clip)


def _by_clinic(
    columns: Mapping[str, np.ndarray], outcome: Outcome, table: pd.DataFrame, fold: Fold, params: FusionParams
) -> np.ndarray:
    if "clinic" not in columns:
        return np.zeros(len(outcome.event))
    count = len(fold.train)
    place = {one: number for number, one in enumerate(fold.train)}
    inner = [
        tuple(np.array([place[one] for one in part]) for part in (one.train, one.test))
        for one in inner_folds(table, fold, params.seed)
    ]
    clinic = columns["clinic"]
    ridge = Ridge([False]).fit([clinic[:count]], outcome.at(np.arange(count)), inner)
    return np.r_[ridge.cross_fitted, ridge.predict([clinic[count:]])]


def dealt(blocks: Mapping[str, pd.DataFrame], seed: int) -> dict[str, pd.DataFrame]:
    """A control: groups of genes of the same sizes, each dealt by chance from all genes of the cohort."""
    genes = pd.concat([blocks[name] for name in RNA if name in blocks], axis=1)
    genes = genes.loc[:, ~genes.columns.duplicated()]
    random = np.random.default_rng(seed)
    named = {}
    for name, block in blocks.items():
        drawn = random.choice(genes.shape[1], block.shape[1], replace=False) if name in RNA else None
        named[name] = block if drawn is None else genes.iloc[:, np.sort(drawn)]
    return named


def write_tokens(path: str | Path, inputs: Inputs) -> None:
    """Write a fold's inputs: `columns/<modality>`, present, offset, time, event, patients."""
    with written_hdf5(path) as file:
        for name, table in inputs.columns.items():
            file.create_dataset(f"columns/{name}", data=table.numpy(), compression="gzip", compression_opts=1)
        for name in ("present", "offset", "time", "event"):
            file[name] = getattr(inputs, name).numpy()
        file["patients"] = inputs.patients
        file.attrs["modalities"], file.attrs["clinic"] = list(inputs.columns), list(inputs.clinic)


def read_tokens(path: str | Path) -> Inputs:
    """What `write_tokens` wrote; ValueError where it is something else."""
    with opened(path, "a fold's tokens", "run 2-embed again") as file:
        columns = {name: torch.from_numpy(file[f"columns/{name}"][:]) for name in file.attrs["modalities"]}
        parts = [torch.from_numpy(file[name][:]) for name in ("present", "offset", "time", "event")]
        return Inputs([*file["patients"].asstr()[:]], columns, *parts, tuple(file.attrs["clinic"]))


def whole_rna(inputs: Inputs) -> np.ndarray | None:
    """RNA as one table, (n, genes): a gene that stands in several groups once; None without RNA."""
    groups = [inputs.columns[name].numpy() for name in RNA if name in inputs.columns]
    if not groups:
        return None
    genes = np.hstack(groups)
    _, first = np.unique(genes, axis=1, return_index=True)
    return genes[:, np.sort(first)]
