"""What people read: names of models, metrics, settings and cohorts, by ``data/names.yaml`` alone, and numbers with a true minus."""

import re
from collections.abc import Iterable
from functools import cache

import pandas as pd
import yaml

from lib.params import ROOT

MOST_NAMED = 12  # patients, or cells of a column, that a sentence names

# columns of the tables of results -> the list that names what stands in them
OF_COLUMN = {
    "model": "models",
    "minus": "models",
    "who": "models",
    "metric": "metrics",
    "setting": "settings",
    "where": "settings",
    "cohort": "cohorts",
    "cut": "cuts",
}


@cache
def lists() -> dict[str, dict[str, str]]:
    """``data/names.yaml``: kind (models, metrics, ...) to identifiers to names."""
    return yaml.safe_load((ROOT / "data" / "names.yaml").read_text(encoding="utf-8"))


def known(identifier: str, kind: str) -> bool:
    """Whether a list of ``data/names.yaml`` names an identifier, by itself or by an entry with a *."""
    return _named(identifier, kind) is not None


def name(identifier: str, kind: str = "models") -> str:
    """What an identifier is called: ``name("auc_t_36", "metrics")`` is "AUC at 36 months".

    `kind` is a list of ``data/names.yaml``: models, metrics, settings, cohorts, cuts or columns. A setting may be a cohort, too.
    What the list does not have, as a hospital's own cohort, keeps its identifier.
    """
    found = _named(str(identifier), kind)
    return str(identifier) if found is None else found


def _named(identifier: str, kind: str) -> str | None:
    entries = lists()[kind]
    if identifier in entries:
        return entries[identifier]
    for pattern, words in entries.items():
        if "*" in pattern and (match := re.fullmatch(re.escape(pattern).replace(r"\*", "(.+)"), identifier)):
            return words.replace("*", _part(match[1], kind))
    return _named(identifier, "cohorts") if kind == "settings" else None


def _part(text: str, kind: str) -> str:
    """What a * stands for: a name of the same list, else parts joined by +, else the text itself."""
    parts = lists()["parts"]
    return _named(text, kind) or " + ".join(parts.get(part, part) for part in text.split("+"))


def label(text: str) -> str:
    """A label of a figure by its names: of a model, else of a setting or modalities; "a, b" part by part."""
    if ", " in str(text) and not known(text, "models") and not known(text, "settings"):
        return ", ".join(map(label, text.split(", ")))
    found = (_named(str(text), kind) for kind in ("models", "settings"))
    return next((words for words in found if words is not None), _part(str(text), "parts"))


def named(table: pd.DataFrame) -> pd.DataFrame:
    """A table as people read it: its models, metrics, settings and cohorts, and its heads, by their names."""
    table = table.copy()
    for column, kind in OF_COLUMN.items():
        if column in table:
            table[column] = [each if pd.isna(each) else name(each, kind) for each in table[column]]
    return table.rename(columns=head)


def head(column: str) -> str:
    """Head of a column: a word of the list `columns`, or a metric, or a model; else as it is."""
    found = (_named(str(column), kind) for kind in ("columns", "metrics", "models"))
    return next((words for words in found if words is not None), column)


def some(names: Iterable[object], most: int = MOST_NAMED) -> str:
    """Names for a sentence: the first `most`, each once, and how many more there are."""
    names = [*dict.fromkeys(map(str, names))]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def number(value: float, digits: int = 3, sign: bool = False) -> str:
    """A number with a true minus, "" where it is missing."""
    if pd.isna(value):
        return ""
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def interval(low: float, high: float, sign: bool = False) -> str:
    """ "0.512 to 0.634", "" where an end is missing."""
    ends = [number(end, sign=sign) for end in (low, high)]
    return " to ".join(ends) if all(ends) else ""


def with_interval(value: float, low: float, high: float, sign: bool = False) -> str:
    """ "0.573 (0.512 to 0.634)", of a difference (`sign`) "+0.038 (−0.012 to +0.088)"; without an end, the value alone."""
    ends = interval(low, high, sign)
    return number(value, sign=sign) + (f" ({ends})" if ends else "")
