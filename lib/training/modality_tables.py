"""The patients' tables, one a modality: whose rows there are."""

from collections.abc import Mapping

import pandas as pd

CLINICAL = "clinical"  # the modality whose columns are factors; any other holds features


def rows(tables: Mapping[str, pd.DataFrame], name: str, people: pd.Index | None = None) -> pd.DataFrame:
    """A modality's table, restricted to some patients where these are given.

    Raises
    ------
    ValueError
        No such table, or a patient stands twice in it.
    """
    if name not in tables:
        raise ValueError(f"there is no table of {name}: there are {sorted(tables)}")
    index = tables[name].index
    if not index.is_unique:
        raise ValueError(f"patient {index[index.duplicated()][0]} stands twice in the table of {name}")
    return tables[name] if people is None else tables[name].loc[index.isin(people)]


def everywhere(tables: Mapping[str, pd.DataFrame]) -> pd.Index:
    """Patients who are in all tables, sorted."""
    common = set.intersection(*(set(table.index) for table in tables.values()))
    return pd.Index(sorted(common), dtype=object)
