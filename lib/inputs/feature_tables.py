"""Tables of features that were made elsewhere: one row a patient, numbers in all other columns."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from lib.inputs.clinical_values import is_missing
from lib.inputs.names import check_names
from lib.inputs.text_tables import nearest_name, plain, read_texts


def read_feature_table(path: str | os.PathLike) -> pd.DataFrame:
    """Read features, csv or xlsx.

    Parameters
    ----------
    path : path
        A column patient, in whatever case, and numbers. Columns that PyRadiomics adds about itself (diagnostics_...)
        are left out.

    Returns
    -------
    DataFrame
        float64, indexed by patient (str); NaN where a cell is empty or says that it is.

    Raises
    ------
    FileNotFoundError
    ValueError
        No column patient, a patient twice or without name, no feature, or a cell that is no finite number.
    """
    path = Path(path)
    texts = read_texts(path)
    key = next((name for name in texts if plain(name) == "patient"), None)
    if key is None:
        raise ValueError(f"{path} has no column patient{nearest_name('patient', texts.columns)}")
    texts = texts.rename(columns={key: "patient"})
    if (blank := texts["patient"].map(is_missing)).any():
        raise ValueError(f"{path}: row {int(np.flatnonzero(blank)[0]) + 1} names no patient")
    if (twice := texts["patient"].duplicated()).any():
        raise ValueError(
            f"{path}: patient {texts['patient'][twice].iloc[0]} stands twice; one row is expected"
        )
    check_names(texts["patient"], path)
    cells = texts.set_index("patient")
    cells = cells[[name for name in cells if not plain(name).startswith("diagnostics_")]]
    if cells.empty:
        raise ValueError(f"{path} has no feature: a column of numbers beside patient is expected")
    empty = cells.map(is_missing)
    values = cells.mask(empty).apply(pd.to_numeric, errors="coerce").astype(np.float64)
    if (odd := ~empty.to_numpy(bool) & ~np.isfinite(values.to_numpy())).any():
        row, column = np.argwhere(odd)[0]
        raise ValueError(
            f"{path}: {cells.columns[column]} of patient {cells.index[row]} is {cells.iloc[row, column]!r}, a finite "
            f"number is needed ({int(odd.sum())} such cells)"
        )
    return values
