"""Numbers of a feature table made comparable by what the training patients say: gaps filled, scaled, clipped."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

MAX_SAME = 0.95  # a column with one value in more than this share of the training patients tells nothing
MAX_MISSING = 0.5
CLIP = 4.0  # standard deviations: no patient is carried by one extreme value


class ScaledColumns:
    """Medians for gaps, means and standard deviations of the training patients.

    Attributes
    ----------
    names : list of str
        Columns that are used, in alphabetical order, whatever the table's order.
    fill, centre, spread : array (p,)
    missing : dict
        Used column -> training patients without a value, who were given the median.
    dropped : dict
        Column -> why it is not used.
    """

    def fit(self, table: pd.DataFrame) -> "ScaledColumns":
        """Learn from the training patients.

        Raises
        ------
        ValueError
            No row, an infinite value or a text where numbers are expected, columns of one name.
        """
        table = _sorted(table)
        values = numbers(table, list(table.columns))
        if not len(values):
            raise ValueError("a feature table has no training patient: nothing to fit")
        gaps = np.isnan(values).sum(0)
        empty = gaps > MAX_MISSING * len(values)
        middle = np.nanmedian(np.where(empty, 0.0, values), 0)
        same = (values == middle).sum(0)  # a value that most patients have is the median
        self.dropped: dict[str, str] = {}
        used = []
        for at, name in enumerate(table.columns):
            known = len(values) - gaps[at]
            if empty[at]:
                self.dropped[name] = f"missing in {gaps[at]} of {len(values)} training patients"
            elif same[at] > MAX_SAME * known:
                self.dropped[name] = f"the same value in {same[at]} of {known} training patients"
            else:
                used.append(at)
        self.names = [table.columns[at] for at in used]
        self.missing = {table.columns[at]: int(gaps[at]) for at in used if gaps[at]}
        kept = values[:, used]
        self.fill = middle[used]
        kept = np.where(np.isnan(kept), self.fill, kept)
        self.centre, self.spread = kept.mean(0), kept.std(0)
        if flat := [name for name, s in zip(self.names, self.spread, strict=True) if not s > 0]:
            raise ValueError(
                f"column {flat[0]} varies too little to be scaled in 64 bits: rescale it or leave it out"
            )
        return self

    def transform(self, table: pd.DataFrame) -> np.ndarray:
        """Standardised values (n, p), between -4 and 4.

        Raises
        ------
        ValueError
            A column is not in the table, or as in `fit`.
        """
        values = numbers(table, self.names)
        filled = np.where(np.isnan(values), self.fill, values)
        return np.clip((filled - self.centre) / self.spread, -CLIP, CLIP)

    def to_dict(self) -> dict[str, Any]:
        """All that is needed to scale a new patient, as JSON takes it."""
        return {
            "names": list(self.names),
            **{key: getattr(self, key).tolist() for key in ("fill", "centre", "spread")},
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "ScaledColumns":
        """What `to_dict` wrote."""
        columns = cls()
        columns.names, columns.missing, columns.dropped = list(told["names"]), {}, {}
        for key in ("fill", "centre", "spread"):
            setattr(columns, key, np.array(told[key], float))
        return columns


def numbers(table: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Columns as float64 (n, p), NaN where missing.

    Raises
    ------
    ValueError
        A missing column, a text, or an infinite value.
    """
    if lost := [name for name in names if name not in table]:
        raise ValueError(f"the feature table lacks column {lost[0]} ({len(lost)} of {len(names)} columns)")
    table = table[names]
    if texts := [n for n in names if not pd.api.types.is_numeric_dtype(table[n]) and table[n].notna().any()]:
        raise ValueError(
            f"column {texts[0]} holds texts where numbers are expected: encode it or leave it out"
        )
    values = table.to_numpy(np.float64, na_value=np.nan) if len(names) else np.zeros((len(table), 0))
    values = np.ascontiguousarray(values)  # sums of another layout differ in the last bit
    if np.isinf(values).any():
        row, at = np.argwhere(np.isinf(values))[0]
        raise ValueError(
            f"{names[at]} of patient {table.index[row]} is infinite: correct it or leave it empty"
        )
    return values


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    if not table.columns.is_unique:
        raise ValueError(
            f"column {table.columns[table.columns.duplicated()][0]} stands twice in a feature table"
        )
    return table[sorted(table.columns)]
