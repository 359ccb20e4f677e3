"""Tables and numbers as Markdown, the same in every generated part."""

from collections.abc import Sequence

import pandas as pd


def pipe_table(
    columns: dict[str, str],
    rows: Sequence[Sequence[object]],
    caption: str,
    label: str,
    wide: bool = False,
) -> str:
    """A pipe table with a caption that can be referred to; its columns are as wide as their content asks.

    Parameters
    ----------
    columns : dict of str to str
        Heads, and "l" (words), "r" (numbers) or "c".
    rows : sequence of sequences
        Cells; text is written as it is, but for the bar that would end a cell.
    caption, label : str
        E.g. "The four studies.", "tbl-studies".
    wide : bool
        Whether the table may use the margin as well.

    Raises
    ------
    ValueError
        If a row has too few or too many cells.
    """
    rules = {"l": ":---", "r": "---:", "c": ":--:"}
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(rules[side] for side in columns.values())}|"]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"{label}: a row has {len(row)} cells, the table {len(columns)} columns: {row}")
        cells = [str(cell).replace("|", "\\|").replace("\n", " ") for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f": {caption} {{#{label}}}"]
    return "\n".join([f"::: {{.printed{' .column-page-right' if wide else ''}}}", "", *lines, "", ":::", ""])


def number(value: float, digits: int = 3, sign: bool = False) -> str:
    """A number with a true minus, "" where it is missing."""
    if pd.isna(value):
        return ""
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def interval(low: float, high: float, digits: int = 3, sign: bool = False) -> str:
    """ "0.512 to 0.634", "" where there is none."""
    if pd.isna(low) or pd.isna(high):
        return ""
    return f"{number(low, digits, sign)} to {number(high, digits, sign)}"


def estimate(row: pd.Series, digits: int = 3) -> str:
    """A row's estimate with its interval: "0.573 (0.512 to 0.634)"; the reason where it cannot be computed."""
    if pd.isna(row["estimate"]):
        return f"not computable: {row['how']}"
    return f"{number(row['estimate'], digits)} ({interval(row['low'], row['high'], digits)})"


def difference(
    table: pd.DataFrame | None, model: str, minus: str, setting: str
) -> tuple[float, float, float] | None:
    """A paired difference with its interval from ``tables/differences.csv``, whichever way round it stands there."""
    if table is None:
        return None
    value = "difference" if "difference" in table else next(c for c in table if c not in ("model", "minus"))
    rows = table[table["setting"] == setting] if "setting" in table else table
    for first, second, sign in ((model, minus, 1), (minus, model, -1)):
        found = rows[(rows["model"] == first) & (rows["minus"] == second)]
        if len(found):
            row = found.iloc[0]
            low, high = sorted((sign * row["low"], sign * row["high"]))
            return sign * row[value], low, high
    return None


def signed(found: tuple[float, float, float] | None) -> str:
    """A difference with its interval: "+0.038 (−0.012 to +0.088)", "" where there is none."""
    if found is None:
        return ""
    return f"{number(found[0], sign=True)} ({interval(found[1], found[2], sign=True)})"
