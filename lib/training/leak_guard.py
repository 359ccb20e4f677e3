"""Refuse features that are the outcome in disguise: a label left in a feature sheet makes every model look perfect.

A single feature rarely separates outcomes completely, but among a thousand features of a few patients one does by
chance; so a feature is refused where its association is both near perfect and beyond chance for the number of features
tried (Bonferroni). Where there are too few events for that, nothing can be told from numbers, and only names are.
"""

import re
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from scipy.special import comb
from scipy.stats import norm, rankdata, t

AUC = 0.97  # of one feature, in either direction
SPEARMAN = 0.95  # with the time of the event or of the last look
ALPHA = 0.001  # after Bonferroni over all features of all tables
LEAST = 8  # patients for a correlation with time

# a column that is nothing else
WHOLE = re.compile(
    r"(outcome|label|target|class|event|time|status|y|recurrence|relapse|progression|metasta[st]is|metastases|survival|"
    r"death|dead|died|deceased|alive|censor(ed|ing)?|follow[ _-]?up|(o|d|p|r|m)fs|dss|os|pfi|dfi|prediction|risk|hazard)"
    r"([._ -]?(label|event|time|status|months?|days?|years?|binary|class|0|1))*",
    re.IGNORECASE,
)
# a column that says so among other things
WITHIN = re.compile(
    r"(days|months|years|time)[._ -]?to[._ -](death|last|event|recurrence|relapse|metasta|progression|new|follow)|"
    r"vital[._ -]?status|new[._ -]?tumou?r|(overall|disease|progression|recurrence|metastasis)[._ -]?free|"
    r"overall[._ -]survival|metachronous|last[._ -]?(contact|follow)|cause[._ -]of[._ -]death",
    re.IGNORECASE,
)


def refuse_disguised_outcomes(
    tables: Mapping[str, pd.DataFrame], outcome: pd.DataFrame, allowed: Collection[str] = ()
) -> pd.DataFrame:
    """Look at every feature alone, before anything is fitted.

    Refused are: a name that says outcome; |AUC| of 0.97 or more with the label, of the values, of a category's level, or
    of which values are missing; a column equal to the label but for a few patients (phi of 0.94 or more); |Spearman| of
    0.95 or more with the time, over the patients with an event or over all. The numbers count where p < 0.001 after
    Bonferroni.

    Parameters
    ----------
    tables : mapping
        Modality -> table indexed by patient.
    outcome : DataFrame
        Indexed by patient: label (0, 1, NaN), and time_months, event where there are times.
    allowed : collection of str
        Features, as "feature" or "table:feature", that may pass whatever they look like.

    Returns
    -------
    DataFrame
        table, features, strongest, auc (of the strongest feature alone, turned to 0.5 or more), refused (the sentences
        of allowed features, "" where there are none): one row a table.

    Raises
    ------
    ValueError
        Naming table, feature, number, and what to do; the first one, and how many more there are.
    """
    tried = sum(table.shape[1] for table in tables.values())
    found, told, known = [], [], set()
    for name, table in tables.items():
        table = table.loc[table.index.isin(outcome.index)].sort_index()
        mine = outcome.reindex(table.index)
        label = mine["label"].to_numpy(np.float64)
        best, excused = (0.5, ""), []
        for feature in table.columns:
            why = _of_name(str(feature))
            for kind, values in _looks(table[feature]):
                auc, p = _auc(values, label)
                best = max(best, (auc, f"{feature}{kind}"))
                why = why or _of_numbers(values, kind, auc, p * tried, label, mine, tried)
            known |= {str(feature), f"{name}:{feature}"} & set(allowed)
            if why and {str(feature), f"{name}:{feature}"} & set(allowed):
                excused.append(f"{feature}: {why}")
            elif why:
                found.append(
                    f"{feature} of the table of {name} {why}: it looks like the outcome in disguise; leave the column "
                    "out, or name it as allowed if it was known at surgery"
                )
        told.append((name, table.shape[1], best[1], best[0], "; ".join(excused)))
    if unknown := sorted(set(allowed) - known):
        raise ValueError(
            f"allowed names {unknown[0]}, which is no feature of {', '.join(tables)}: correct or remove it"
        )
    if found:
        raise ValueError(found[0] + (f" (and {len(found) - 1} more features)" if len(found) > 1 else ""))
    return pd.DataFrame(told, columns=["table", "features", "strongest", "auc", "refused"])


def _of_name(feature: str) -> str:
    return "is named like an outcome" if WHOLE.fullmatch(feature.strip()) or WITHIN.search(feature) else ""


def _looks(column: pd.Series) -> list[tuple[str, np.ndarray]]:
    """The ways a column could tell the label: its values, each of its levels, and where it is empty."""
    gap = column.isna().to_numpy()
    looks = [(" (which are missing)", gap.astype(float))] if gap.any() and not gap.all() else []
    if pd.api.types.is_numeric_dtype(column):
        return [("", column.to_numpy(np.float64, na_value=np.nan)), *looks]
    texts = column.astype(str).where(~gap)
    levels = [(f" ({level})", (texts == level).to_numpy(float)) for level in sorted(texts.dropna().unique())]
    return [*levels, *looks]


def _of_numbers(
    values: np.ndarray, kind: str, auc: float, p: float, label: np.ndarray, mine: pd.DataFrame, tried: int
) -> str:
    if auc >= AUC and p < ALPHA:
        return f"alone{kind} tells the label with an AUC of {auc:.3f}"
    known = ~np.isnan(values) & ~np.isnan(label)
    if len(np.unique(values[known])) == 2 and 0 < label[known].sum() < known.sum():
        # of two columns of 0 and 1 the correlation is phi, whose square times n is chi-squared
        phi = np.corrcoef(values[known], label[known])[0, 1]
        if abs(phi) >= 0.94 and 2 * norm.sf(abs(phi) * np.sqrt(known.sum())) * tried < ALPHA:
            return f"alone{kind} is the label but for a few patients (phi {phi:.3f})"
    if "time_months" not in mine:
        return ""
    time = mine["time_months"].to_numpy(np.float64)
    event = mine["event"].to_numpy(np.float64) == 1
    for who, of in ((event, "of the event"), (np.ones(len(time), bool), "of the event or last look")):
        rho, p = _spearman(values[who], time[who])
        if abs(rho) >= SPEARMAN and p * tried < ALPHA:
            return f"alone{kind} goes with the time {of} (Spearman {rho:.3f})"
    return ""


def _auc(values: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """AUC turned to 0.5 or more, and its two-sided p: exact where it is 1, Mann and Whitney's normal one with ties else."""
    known = ~np.isnan(values) & ~np.isnan(label)
    values, label = values[known], label[known]
    n, events = len(label), int(label.sum())
    others = n - events
    if not events or not others:
        return 0.5, 1.0
    ranks = rankdata(values)
    auc = (ranks[label == 1].sum() - events * (events + 1) / 2) / (events * others)
    auc = max(auc, 1 - auc)
    if auc == 1:
        return 1.0, min(1.0, 2 / comb(n, events))
    _, ties = np.unique(ranks, return_counts=True)
    spread = (n + 1 - (ties**3 - ties).sum() / (n * (n - 1))) / (12 * events * others)
    return float(auc), float(2 * norm.sf((auc - 0.5) / np.sqrt(spread))) if spread > 0 else 1.0


def _spearman(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    known = ~np.isnan(a) & ~np.isnan(b)
    a, b = rankdata(a[known]), rankdata(b[known])
    if len(a) < LEAST or not np.ptp(a) or not np.ptp(b):
        return 0.0, 1.0
    rho = float(np.corrcoef(a, b)[0, 1])
    if 1 - abs(rho) < 1e-12:
        return rho, 0.0
    return rho, float(2 * t.sf(abs(rho) * np.sqrt((len(a) - 2) / (1 - rho**2)), len(a) - 2))
