"""Tables of spots and cells: columns without names, and numbers that must be numbers."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.inputs import text_tables


def read_unnamed(path: str | Path, sep: str = ",", **settings: object) -> pd.DataFrame:
    """Read a table without a header, or whose header is a row like the others; columns are numbered.

    `lib.inputs.text_tables.read_columns` would take the first row for a header and refuse equal cells in it.

    Raises
    ------
    FileNotFoundError
    ValueError
        Empty, no text, damaged, too large, a row longer than the first.
    """
    text = text_tables.whole_text(Path(path))
    try:
        return pd.read_csv(io.StringIO(text, newline=""), sep=sep, header=None, **settings)
    except ValueError as error:  # pandas' own are of that kind
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} cannot be read as a table ({said}): save it again as it was") from error


def as_numbers(
    table: pd.DataFrame, columns: Sequence[str], where: str, gaps: bool = False, most: float = 1e9
) -> pd.DataFrame:
    """The table with columns of float64.

    Parameters
    ----------
    table : DataFrame
        Texts or numbers, with the rows' names as index.
    columns : sequence of str
    where : str
        Section and file, for the message.
    gaps : bool
        Empty cells stay NaN; else they are refused.
    most : float
        Largest size of a number that can be meant: a place on a slide has no more pixels or µm.

    Raises
    ------
    ValueError
        Names the row and column of the first cell that is no such number.
    """
    table = table.copy()
    for column in columns:
        typed = table[column]
        values = pd.to_numeric(typed, errors="coerce").astype(np.float64)
        empty = typed.isna() | (typed.astype(str).str.strip() == "")
        wrong = ~(values.abs() <= most) & ~(empty & gaps)
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            typed_so = "" if empty.iloc[place] else f" but {str(typed.iloc[place])[:40]!r}"
            raise ValueError(
                f"{where} has no {column}{typed_so} for {str(table.index[place])[:60]!r} (of {len(table)} rows, "
                f"{int(wrong.sum())} are so): a number below {most:g} is expected, correct or remove the rows"
            )
        table[column] = values
    return table
