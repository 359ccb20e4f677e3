"""The patients' tables, one a modality: whose rows there are.

Which modalities a model is given: every choice of one or more of them.

Clinical factors as numbers: numbers stay, categories become columns of 0 and 1 against the most frequent one.

Refuse features that are the outcome in disguise: a label left in a feature sheet makes every model look perfect.

A single feature rarely separates outcomes completely, but among a thousand features of a few patients one does by
chance; so a feature is refused where its association is both near perfect and beyond chance for the number of features
tried (Bonferroni). Where there are too few events for that, nothing can be told from numbers, and only names are.

Numbers of a feature table made comparable by what the training patients say: gaps filled, scaled, clipped.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import comb
from scipy.stats import norm, rankdata, t

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


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """All non-empty choices, the small ones first, each in the cohort's order: 7 of 3 modalities.

    Raises
    ------
    ValueError
        No modality, one named twice, or a name with a "+", which joins names.
    """
    names = tuple(modalities)
    if not names or len(set(names)) < len(names) or any("+" in name or not name for name in names):
        raise ValueError(
            f"modalities are {list(names)}: give one or more, each once and without '+' in its name"
        )
    return [chosen for size in range(1, len(names) + 1) for chosen in combinations(names, size)]


def subset_name(subset: Sequence[str]) -> str:
    """ "clinical+ct" of ("clinical", "ct")."""
    return "+".join(subset)


def subset_of(name: str) -> tuple[str, ...]:
    """("clinical", "ct") of "clinical+ct"."""
    return tuple(name.split("+"))


RARE = 5  # training patients; categories seen in fewer share the column "other"
OTHER, UNKNOWN = "other", "unknown"


class ClinicalFactors:
    """Levels of the categories, learnt from the training patients.

    A factor is a category where its column holds texts. A missing text is the level "unknown"; a level that fewer than
    five training patients have, or none, is "other"; where there is no column "other" either, a new level counts as
    the reference. Missing numbers stay missing, for `lib.gcmlm.tables` to fill.

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
