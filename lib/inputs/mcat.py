"""Risks that MCAT's authors stored for their validation folds: real predictions on real patients.

Chen et al., ICCV 2021, doi 10.1109/ICCV48922.2021.00398; repository mahmoodlab/MCAT, results/ICCV. They are pickles,
and a pickle can run any program: these are read by an unpickler that knows plain numpy arrays and nothing else.
"""

import io
import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy._core.multiarray import _reconstruct, scalar

PLAIN = re.compile(r"[<>=|]?[biufcSU]\d+")
COHORT = re.compile(r"tcga_(?P<cancer>[a-z]+)_(?P<model>.+?)(?:sm)?_nll_surv.*")
FOLD = re.compile(r"split_latest_val_(?P<fold>\d+)_results\.pkl")
FIELDS = ("risk", "survival", "censorship")


class _Arrays(pickle.Unpickler):
    """Unpickler that admits numpy arrays and scalars of plain numbers and texts."""

    def find_class(self, module: str, name: str) -> object:
        known = {"ndarray": np.ndarray, "dtype": self._dtype, "_reconstruct": _reconstruct, "scalar": scalar}
        homes = (
            ("numpy",)
            if name in ("ndarray", "dtype")
            else ("numpy.core.multiarray", "numpy._core.multiarray")
        )
        if module not in homes or name not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only numpy arrays are admitted")
        return known[name]

    def _dtype(self, kind: str, *rest: bool) -> np.dtype:
        # arrays of objects or records hold addresses: their bytes, forged, would be followed
        if not isinstance(kind, str) or not PLAIN.fullmatch(kind):
            raise pickle.UnpicklingError(
                f"it holds an array of {kind}, and only numbers and texts are admitted"
            )
        return np.dtype(kind)


def read_arrays(content: bytes) -> object:
    """Content of a pickle (protocol 3 or 4) made of dicts, lists, numbers, texts and numpy arrays.

    Raises
    ------
    ValueError
        It holds anything else (nothing of it was run), or is no whole pickle.
    """
    try:
        return _Arrays(io.BytesIO(content)).load()
    except Exception as error:  # a broken pickle raises nearly anything
        raise ValueError(f"refused to unpickle: {error}") from error


def stored_predictions(folder: str | Path) -> pd.DataFrame:
    """Read every stored prediction below a folder.

    Parameters
    ----------
    folder : path
        A clone of mahmoodlab/MCAT or a folder in it: below it lie
        `tcga_<cancer>_<model>_nll_surv.../split_latest_val_<fold>_results.pkl`.

    Returns
    -------
    DataFrame
        One row a patient, model and fold: model ("AMIL", "MCAT"), cancer ("blca"), fold (int, from 0), patient, risk
        (higher = earlier death expected), time (months), event (1 died, 0 censored).

    Raises
    ------
    FileNotFoundError
        No such file is below the folder.
    ValueError
        A file holds more than arrays, or a patient without risk, follow-up and censoring, or a patient is in two
        folds of one model.
    """
    folder = Path(folder)
    tables = []
    for path in sorted(folder.rglob("split_latest_val_*_results.pkl")):
        fold, about = FOLD.fullmatch(path.name), COHORT.fullmatch(path.parent.name)
        if not fold or not about:
            raise ValueError(
                f"{path} is not named as MCAT names its results, so model and cancer are not known"
            )
        table = _read_fold(path)
        for place, (name, value) in enumerate(
            [("model", about["model"]), ("cancer", about["cancer"]), ("fold", int(fold["fold"]))]
        ):
            table.insert(place, name, value)
        tables.append(table)
    if not tables:
        raise FileNotFoundError(
            f"{folder} holds no split_latest_val_*_results.pkl: run `make data COHORT=mcat`"
        )
    found = pd.concat(tables, ignore_index=True).sort_values(["model", "cancer", "fold"], kind="stable")
    twice = found.duplicated(["model", "cancer", "patient"])
    if twice.any():
        row = found[twice].iloc[0]
        raise ValueError(
            f"{folder}: patient {row['patient']} of {row['cancer']} has two risks of {row['model']}"
        )
    return found.reset_index(drop=True)


def _read_fold(path: Path) -> pd.DataFrame:
    try:
        content = read_arrays(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no patients by name")
    rows = []
    for patient, stored in content.items():
        values = [stored.get(name) for name in FIELDS] if isinstance(stored, dict) else [None]
        if not all(isinstance(value, float | int | np.number) and np.isfinite(value) for value in values):
            raise ValueError(f"{path}: patient {patient} has no finite {', '.join(FIELDS)}")
        risk, time, censored = (float(value) for value in values)
        if censored not in (0, 1) or time < 0:
            raise ValueError(f"{path}: patient {patient} has survival {time:g} and censorship {censored:g}")
        rows.append((str(patient), risk, time, 1 - int(censored)))
    return pd.DataFrame(rows, columns=["patient", "risk", "time", "event"])
