"""What a model of functional outcome is trained on: patients with their series, their clinical variables and outcome."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lib.inputs.clinical import CATEGORICAL, Scaler, arrays, variables


class Case(NamedTuple):
    """One patient. The series is read when it is wanted: those of a hundred patients are more than a machine holds."""

    patient: str
    read: Callable[[], np.ndarray]  # (frames, h, w, z)
    continuous: np.ndarray  # (c,), 0 to 1
    categorical: np.ndarray  # (k,), level from 0
    missing: np.ndarray  # (c + k,), True where the value is not known
    label: int  # 1 unfavourable


class Cases(Dataset):
    """Cases as tensors: series, continuous, categorical, missing, label.

    Parameters
    ----------
    cases : sequence of Case
    series : bool
        False leaves the series unread.
    mirrored : numpy Generator, optional
        Draws, each time a case comes up, whether its left and right are exchanged.
    """

    def __init__(
        self, cases: Sequence[Case], series: bool = True, mirrored: np.random.Generator | None = None
    ):
        self.cases, self.series, self.mirrored = cases, series, mirrored

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        case = self.cases[number]
        series = torch.as_tensor(case.read(), dtype=torch.float32) if self.series else torch.empty(0)
        if self.series and self.mirrored is not None and self.mirrored.random() < 0.5:
            series = series.flip(2)  # columns run from right to left
        clinical = (torch.as_tensor(part) for part in (case.continuous, case.categorical, case.missing))
        return (series, *clinical, torch.tensor(float(case.label)))


def unknown(table: pd.DataFrame, train: Sequence[str]) -> list[str]:
    """Variables that no training patient has: there is nothing to learn of them, whoever else has them."""
    return [name for name in table if table.loc[list(train), name].isna().all()]


def filled(table: pd.DataFrame, train: Sequence[str]) -> pd.DataFrame:
    """The same clinical table without gaps: the median, or the most frequent level, of the training patients.

    Parameters
    ----------
    table : DataFrame
        Indexed by patient; the variables of `lib.inputs.clinical`.
    train : sequence of str

    Raises
    ------
    ValueError
        A variable that no training patient has.
    """
    if empty := unknown(table, train):
        raise ValueError(f"no training patient has {', '.join(empty)}, so gaps in it cannot be filled")
    known = table.loc[list(train)]
    middle = {name: known[name].mode()[0] if name in CATEGORICAL else known[name].median() for name in table}
    return table.fillna(middle)


def cases(
    people: Sequence[str],
    known: Sequence[str],
    table: pd.DataFrame,
    label: pd.Series,
    setting: str,
    reader: Callable[[str], Callable[[], np.ndarray]],
) -> list[Case]:
    """Patients ready for a model.

    Parameters
    ----------
    people : sequence of str
        Patients wanted, in this order.
    known : sequence of str
        Patients the scaler is fitted on: those of training.
    table : DataFrame
        Indexed by patient; the clinical variables.
    label : Series
        Indexed by patient; 1 unfavourable.
    setting : str
        Which variables, see `lib.inputs.clinical.variables`.
    reader : callable
        Patient -> what reads the series.
    """
    names = variables(setting)
    scaler = Scaler.fit(table.loc[list(known), list(names)])
    continuous, categorical, missing = arrays(table.loc[list(people), list(names)], scaler, names)
    return [
        Case(name, reader(name), continuous[i], categorical[i], missing[i], int(label[name]))
        for i, name in enumerate(people)
    ]
