"""Clinical factors as numbers: numbers stay, categories become columns of 0 and 1 against the most frequent one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

RARE = 5  # training patients; categories seen in fewer share the column "other"
OTHER, UNKNOWN = "other", "unknown"


class ClinicalFactors:
    """Levels of the categories, learnt from the training patients.

    A factor is a category where its column holds texts. A missing text is the level "unknown"; a level that fewer than
    five training patients have, or none, is "other"; where there is no column "other" either, a new level counts as
    the reference. Missing numbers stay missing, for `lib.training.scaled_columns` to fill.

    Attributes
    ----------
    levels : dict
        Category -> its levels, the reference (most frequent, first by name among equals) first.
    """

    def fit(self, table: pd.DataFrame) -> "ClinicalFactors":
        """Learn from the training patients."""
        self.columns = sorted(table.columns)
        self.levels = {name: _levels(table[name]) for name in self.columns if is_category(table[name])}
        return self

    def transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Columns "age", "lauren=diffuse", ... of each patient, float64.

        Raises
        ------
        ValueError
            A factor is missing, or is a number where the training patients had texts, or the other way round.
        """
        if lost := [name for name in self.columns if name not in table]:
            raise ValueError(
                f"the clinical table lacks {lost[0]} ({len(lost)} of {len(self.columns)} factors)"
            )
        made = {}
        for name in self.columns:
            if is_category(table[name]) != (name in self.levels) and table[name].notna().any():
                kinds = ("texts", "numbers") if name in self.levels else ("numbers", "texts")
                raise ValueError(
                    f"{name} was {kinds[0]} in training and is {kinds[1]} now: write it the same way"
                )
            if name not in self.levels:
                made[name] = pd.to_numeric(table[name]).astype(np.float64)
                continue
            values = _texts(table[name])
            values = values.where(values.isin(self.levels[name]), OTHER)
            for level in self.levels[name][1:]:
                made[f"{name}={level}"] = (values == level).astype(np.float64)
        return pd.DataFrame(made, index=table.index)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"columns": self.columns, "levels": self.levels}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "ClinicalFactors":
        """What `to_dict` wrote."""
        factors = cls()
        factors.columns = list(told["columns"])
        factors.levels = {name: list(levels) for name, levels in told["levels"].items()}
        return factors


def is_category(column: pd.Series) -> bool:
    """Whether a column holds texts; truth values are numbers."""
    return not pd.api.types.is_numeric_dtype(column) and column.notna().any()


def _texts(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), UNKNOWN).astype(str)


def _levels(column: pd.Series) -> list[str]:
    counts = _texts(column).value_counts()
    kept = {level: int(count) for level, count in counts.items() if count >= RARE and level != OTHER}
    if (rest := len(column) - sum(kept.values())) >= 1:
        kept[OTHER] = rest
    return sorted(kept, key=lambda level: (-kept[level], level))
