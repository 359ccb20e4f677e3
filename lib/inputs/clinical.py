"""The nine clinical variables of a stroke patient, as the model takes them.

Amador et al., Medical Image Analysis 99:103381 (2025), doi 10.1016/j.media.2024.103381; their order, continuous first.
Time to recanalisation and mTICI are known only after thrombectomy: `ADMISSION` is what is known before.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.inputs.text_tables import nearest_name

CONTINUOUS = (
    "age",
    "onset_to_ctp_min",
    "ctp_to_recanalisation_min",
    "nihss",
)  # years, minutes, minutes, 0-42
CATEGORICAL = {
    "sex": ("female", "male"),
    "hypertension": ("no", "yes"),
    "smoking": ("no", "yes"),
    "atrial_fibrillation": ("no", "yes"),
    "mtici": ("0-2a", "2b", "2c-3"),
}
POSTPROCEDURAL = (*CONTINUOUS, *CATEGORICAL)
ADMISSION = tuple(name for name in POSTPROCEDURAL if name not in ("ctp_to_recanalisation_min", "mtici"))
SETS = {"admission": ADMISSION, "postprocedural": POSTPROCEDURAL}
WEEK_MIN = 7 * 24 * 60.0
RANGES = {
    "age": (0.0, 120.0),
    "onset_to_ctp_min": (0.0, WEEK_MIN),
    "ctp_to_recanalisation_min": (0.0, WEEK_MIN),
    "nihss": (0.0, 42.0),
}


class Arrays(NamedTuple):
    """What `StrokeNet.forward` takes: continuous first, then categorical, in the order of `POSTPROCEDURAL`."""

    continuous: np.ndarray  # float32 (n, c), in [0, 1], 0 where missing
    categorical: np.ndarray  # int64 (n, k), codes from 0, 0 where missing
    missing: np.ndarray  # bool (n, c + k)


class Scaler(NamedTuple):
    """Lowest and highest value of each continuous variable in the rows it was fitted on; NaN where all were missing."""

    low: dict[str, float]
    high: dict[str, float]

    @classmethod
    def fit(cls, table: pd.DataFrame) -> "Scaler":
        """Fit on the rows given: the training rows, or, as the released code does, all patients."""
        table = checked(table)
        columns = [name for name in CONTINUOUS if name in table]
        return cls(
            {name: float(table[name].min()) for name in columns},
            {name: float(table[name].max()) for name in columns},
        )

    def transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Continuous variables between 0 (lowest fitted) and 1 (highest), clipped beyond; NaN stays NaN.

        A variable that was the same for all fitted rows tells nothing and is 0 everywhere. Of the scaler's variables,
        those the table has are in the result.

        Raises
        ------
        ValueError
            A variable that was missing in all fitted rows has a value here, so there is no scale for it.
        """
        table = checked(table)
        scaled = {}
        for name in (name for name in self.low if name in table):
            values, low, span = table[name], self.low[name], self.high[name] - self.low[name]
            if np.isnan(low) and values.notna().any():
                patient = _patient(table, values.notna())
                raise ValueError(
                    f"{name} was missing in all rows the scaler was fitted on, and {patient} has it"
                )
            scaled[name] = ((values - low) / span).clip(0.0, 1.0) if span else 0.0 * values
        return pd.DataFrame(scaled, index=table.index)


def variables(which: str) -> tuple[str, ...]:
    """Names of the variables of "admission" (seven) or "postprocedural" (all nine).

    Raises
    ------
    ValueError
        Another word.
    """
    if which not in SETS:
        raise ValueError(f"clinical is {which!r}: choose one{nearest_name(which, SETS)}")
    return SETS[which]


def unfavourable(mrs: pd.Series, least: int = 3) -> pd.Series:
    """1.0 where the modified Rankin scale is `least` (3) or higher, 0.0 where lower, NaN where it is missing."""
    return (mrs >= least).astype(float).where(mrs.notna())


def checked(table: pd.DataFrame, names: tuple[str, ...] = ()) -> pd.DataFrame:
    """The table, if its clinical variables are what they should be. NaN is a missing value and allowed.

    Parameters
    ----------
    table : DataFrame
        One row a patient, named by the column `patient` or else by the index; the clinical variables among its columns,
        and `mrs` where known, are checked. Others pass.
    names : tuple of str
        Variables that must be there.

    Returns
    -------
    DataFrame
        A copy, with the clinical variables as float64.

    Raises
    ------
    ValueError
        An unknown or missing variable, a patient twice, a value that is no number or out of range (`RANGES`), or a
        category that is no code of `CATEGORICAL`; it names variable, patient and value.
    """
    for name in names:
        if name not in POSTPROCEDURAL:
            raise ValueError(f"{name} is no clinical variable{nearest_name(name, POSTPROCEDURAL)}")
        if name not in table:
            raise ValueError(f"the table has no column {name}{nearest_name(name, table.columns)}")
    people = table["patient"] if "patient" in table else table.index.to_series()
    if (twice := people.duplicated()).any():
        raise ValueError(f"{_patient(table, twice)} stands twice; one row a patient is expected")
    table = table.copy()
    for name in (*POSTPROCEDURAL, "mrs"):
        if name not in table:
            continue
        numbers = pd.to_numeric(table[name], errors="coerce").astype(float)
        codes = range(7) if name == "mrs" else range(len(CATEGORICAL.get(name, ())))
        if codes:
            wrong, needed = ~numbers.isin(codes), f"one of {', '.join(map(str, codes))}"
        else:
            low, high = RANGES[name]
            wrong, needed = ~numbers.between(low, high), f"a number from {low:g} to {high:g}"
        wrong &= table[name].notna()
        if wrong.any():
            value = table.loc[wrong, name].iloc[0]
            many = f" ({int(wrong.sum())} such rows)" if wrong.sum() > 1 else ""
            raise ValueError(f"{name} of {_patient(table, wrong)} is {value}, and {needed} is needed{many}")
        table[name] = numbers
    return table


def arrays(table: pd.DataFrame, scaler: Scaler, names: tuple[str, ...]) -> Arrays:
    """Clinical variables as the model takes them.

    Parameters
    ----------
    table : DataFrame
        n rows with the columns `names`, NaN = missing.
    scaler : Scaler
        Fitted on the training rows.
    names : tuple of str
        `variables("admission")`, `variables("postprocedural")`, or a choice of them.

    Returns
    -------
    Arrays
        `continuous` float32 (n, c), `categorical` int64 (n, k), `missing` bool (n, c + k).

    Raises
    ------
    ValueError
        See `checked` and `Scaler.transform`; or a variable the scaler was not fitted on.
    """
    table = checked(table, tuple(names))
    continuous = [name for name in CONTINUOUS if name in names]
    categorical = [name for name in CATEGORICAL if name in names]
    if strange := [name for name in continuous if name not in scaler.low]:
        raise ValueError(f"the scaler was not fitted on {strange[0]}{nearest_name(strange[0], scaler.low)}")
    patient = [name for name in ("patient",) if name in table]
    scaled, codes = scaler.transform(table[patient + continuous]), table[categorical]
    return Arrays(
        scaled.fillna(0.0).to_numpy(np.float32).reshape(len(table), len(continuous)),
        codes.fillna(0.0).to_numpy(np.int64).reshape(len(table), len(categorical)),
        np.hstack([scaled.isna().to_numpy(bool), codes.isna().to_numpy(bool)]),
    )


def _patient(table: pd.DataFrame, rows: pd.Series) -> str:
    """The first patient of some rows, for an error's sentence."""
    found = table[rows.to_numpy()]
    return f"patient {found['patient'].iloc[0] if 'patient' in table else found.index[0]}"
