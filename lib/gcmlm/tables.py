"""The patients' tables, one a modality: from the tiles of slides to a row of numbers, the guard that nothing in them is the
outcome in disguise, and how their columns are made comparable by what the training patients say.

The reference averages the tiles of a slide and leaves open what a patient with several slides gets: here the mean of
the slides' means, so that each slide counts alike, or the mean over all tiles.
"""

import os
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import comb
from scipy.stats import mannwhitneyu, norm, spearmanr
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils.validation import validate_data

from lib.features.feature_files import read_features
from lib.files import write_csv

CLINICAL = "clinical"  # the modality whose columns are factors; any other holds features


def subsets(modalities: Sequence[str]) -> list[str]:
    """All non-empty choices, "clinical+ct" and so on, the small ones first: 7 of 3 modalities."""
    sizes = range(1, len(modalities) + 1)
    return ["+".join(chosen) for size in sizes for chosen in combinations(modalities, size)]


def common_rows(
    tables: Mapping[str, pd.DataFrame], setting: str, people: pd.Index | None = None
) -> dict[str, pd.DataFrame]:
    """The tables of a subset, restricted to the patients (of `people`) who have a row in each, sorted by name."""
    chosen = {name: tables[name] for name in setting.split("+")}
    common = set.intersection(*(set(table.index) for table in chosen.values()))
    common = pd.Index(sorted(common if people is None else common & set(people)), dtype=object)
    return {name: table.loc[common, sorted(table.columns)] for name, table in chosen.items()}


# ------------------------------------------------------------------------------------------------- tiles to patients


def slide_table(
    slides: pd.DataFrame, folder: str | os.PathLike, scale: int = 20, duplicates: bool = False
) -> pd.DataFrame:
    """Mean over the tiles of each slide: patient, slide, tiles (averaged), duplicates (left out), feat_0, ...

    `slides` has patient and slide, each slide once; `folder` is the encoder's, with x<scale>/<slide>.h5, `scale` the
    magnification whose tiles are averaged. `duplicates` keeps tiles of the same coordinates, as the reference does, whose
    contours may overlap. Else the first of them is taken, and the column `duplicates` counts the others.
    """
    rows, means = [], []
    for patient, slide in slides[["patient", "slide"]].itertuples(index=False):
        file = read_features(Path(folder, f"x{scale}", f"{slide}.h5"))
        chosen = np.arange(len(file.features))
        if not duplicates:
            chosen = np.sort(np.unique(file.coords, axis=0, return_index=True)[1])
        means.append(file.features[chosen].mean(axis=0, dtype=np.float64))
        rows.append((patient, slide, len(chosen), len(file.features) - len(chosen)))
    counts = pd.DataFrame(rows, columns=["patient", "slide", "tiles", "duplicates"])
    return pd.concat([counts, pd.DataFrame(np.stack(means)).add_prefix("feat_")], axis=1)


def patient_table(table: pd.DataFrame, rule: str = "slides") -> pd.DataFrame:
    """One row a patient from one row a slide of `slide_table`: slides, tiles, duplicates, feat_0, ..., indexed by patient.

    By the rule "slides" the mean of the slides' means, by "tiles" each weighted by its number of tiles: the mean over all.
    """
    groups = table["patient"]
    weights = {"slides": pd.Series(1.0, table.index), "tiles": table["tiles"].astype(float)}[rule]
    total = weights.groupby(groups, sort=False).sum()
    features = table.filter(regex="^feat_")
    pooled = features.mul(weights, axis=0).groupby(groups, sort=False).sum().div(total, axis=0)
    counts = table.assign(slides=1).groupby("patient", sort=False)[["slides", "tiles", "duplicates"]].sum()
    return pd.concat([counts, pooled], axis=1)


def write_reference_csv(path: str | os.PathLike, table: pd.DataFrame) -> None:
    """Write slides as the reference does: wsi, feat_0, ..., one row a slide, here sorted by name."""
    rows = table.rename(columns={"slide": "wsi"}).filter(regex="^(wsi$|feat_)")
    write_csv(rows.sort_values("wsi", ignore_index=True), path)


# ------------------------------------------------------------------------------------------------------ the guard

AUC = 0.97  # of one feature, in either direction
PHI = 0.94  # of two columns of 0 and 1: the label but for a few patients
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
    """Look at every feature alone, before anything is fitted: a label left in a sheet makes every model look perfect.

    A single feature rarely separates outcomes completely, but among a thousand features of a few patients one does by
    chance; so a feature is refused where its association is both near perfect and beyond chance for the number of
    features tried (p < 0.001 after Bonferroni). Refused are: a name that says outcome; |AUC| of 0.97 or more with the
    label, of the values, of a category's level, or of which values are missing; a column equal to the label but for a few
    patients (phi of 0.94 or more); |Spearman| of 0.95 or more with the time, over the patients with an event or over all.

    `tables` is modality -> table by patient; `outcome`, by patient, has label (0, 1, NaN), and time_months, event where there
    are times; `allowed` names features, as "feature" or "table:feature", that may pass whatever they look like. Returned is one
    row a table: table, features, strongest, auc (of the strongest feature alone, turned to 0.5 or more), refused (the sentences
    of allowed features). A ValueError names table, feature, number, and what to do; the first one, and how many more there are.
    """
    tried = sum(table.shape[1] for table in tables.values())
    refused, rows, known = [], [], set()
    for name, table in tables.items():
        table = table.loc[table.index.isin(outcome.index)].sort_index()
        mine = outcome.reindex(table.index)
        best, excused = (0.5, ""), []
        for feature in map(str, table.columns):
            named = WHOLE.fullmatch(feature.strip()) or WITHIN.search(feature)
            why = "is named like an outcome" if named else ""
            for kind, values in _looks(table[feature]):
                auc, p = _auc(values, mine["label"].to_numpy(np.float64))
                best = max(best, (auc, f"{feature}{kind}"))
                why = why or _suspicion(values, kind, auc, p, mine, tried)
            passes = {feature, f"{name}:{feature}"} & set(allowed)
            known |= passes
            if why and passes:
                excused.append(f"{feature}: {why}")
            elif why:
                refused.append(
                    f"{feature} of the table of {name} {why}: it looks like the outcome in disguise; leave the column "
                    "out, or name it as allowed if it was known at surgery"
                )
        rows.append((name, table.shape[1], best[1], best[0], "; ".join(excused)))
    if unknown := sorted(set(allowed) - known):
        raise ValueError(f"allowed names {unknown[0]}, which is no feature of {', '.join(tables)}")
    if refused:
        raise ValueError(
            refused[0] + (f" (and {len(refused) - 1} more features)" if len(refused) > 1 else "")
        )
    return pd.DataFrame(rows, columns=["table", "features", "strongest", "auc", "refused"])


def _looks(column: pd.Series) -> list[tuple[str, np.ndarray]]:
    """The ways a column could tell the label: its values, each of its levels, and where it is empty."""
    gap = column.isna().to_numpy()
    looks = [(" (which are missing)", gap.astype(float))] if gap.any() and not gap.all() else []
    if pd.api.types.is_numeric_dtype(column):
        return [("", column.to_numpy(np.float64, na_value=np.nan)), *looks]
    texts = column.astype(str).where(~gap)
    levels = [(f" ({level})", (texts == level).to_numpy(float)) for level in sorted(texts.dropna().unique())]
    return [*levels, *looks]


def _suspicion(values: np.ndarray, kind: str, auc: float, p: float, mine: pd.DataFrame, tried: int) -> str:
    """Why the numbers of a feature look like the outcome; "" if they do not."""
    if auc >= AUC and p * tried < ALPHA:
        return f"alone{kind} tells the label with an AUC of {auc:.3f}"
    label = mine["label"].to_numpy(np.float64)
    known = ~np.isnan(values) & ~np.isnan(label)
    if len(np.unique(values[known])) == 2 and 0 < label[known].sum() < known.sum():
        phi = np.corrcoef(values[known], label[known])[0, 1]  # its square times n is chi-squared
        if abs(phi) >= PHI and 2 * norm.sf(abs(phi) * np.sqrt(known.sum())) * tried < ALPHA:
            return f"alone{kind} is the label but for a few patients (phi {phi:.3f})"
    if "time_months" not in mine:
        return ""
    time = mine["time_months"].to_numpy(np.float64)
    event = mine["event"].to_numpy(np.float64) == 1
    for who, of in ((event, "of the event"), (np.ones(len(time), bool), "of the event or last look")):
        both = who & ~np.isnan(values) & ~np.isnan(time)
        if both.sum() >= LEAST and np.ptp(values[both]) and np.ptp(time[both]):
            rho, chance = spearmanr(values[both], time[both])
            if abs(rho) >= SPEARMAN and chance * tried < ALPHA:
                return f"alone{kind} goes with the time {of} (Spearman {rho:.3f})"
    return ""


def _auc(values: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """AUC turned to 0.5 or more, and its two-sided p: exact where it is 1, Mann and Whitney's normal one else."""
    known = ~np.isnan(values)
    with_event, without = values[known & (label == 1)], values[known & (label == 0)]
    pairs = len(with_event) * len(without)
    if not pairs or not np.ptp([*with_event, *without]):
        return 0.5, 1.0
    u, p = mannwhitneyu(with_event, without, use_continuity=False, method="asymptotic")
    auc = float(max(u, pairs - u) / pairs)
    return auc, min(1.0, 2 / comb(len(with_event) + len(without), len(with_event))) if auc == 1 else float(p)


# ------------------------------------------------------------------------------------- columns made comparable

RARE = 5  # training patients; categories seen in fewer share the column "other"
MAX_SAME = 0.95  # a column with one value in more than this share of the training patients tells nothing
MAX_MISSING = 0.5
CLIP = 4.0  # standard deviations: no patient is carried by one extreme value


class Telling(SelectorMixin, BaseEstimator):
    """Columns that are not empty for most training patients, and not the same for nearly all."""

    def fit(self, x: pd.DataFrame, y=None) -> "Telling":
        values = validate_data(self, x, ensure_all_finite="allow-nan", dtype=np.float64)
        gaps = np.isnan(values).sum(0)
        few = gaps > MAX_MISSING * len(values)
        middle = np.nanmedian(np.where(few, 0.0, values), 0)  # a value that most patients have is the median
        self.mask_ = ~few & ((values == middle).sum(0) <= MAX_SAME * (len(values) - gaps))
        self.tells_ = self.mask_.any()
        self.mask_[:1] |= not self.tells_  # what follows needs a column, and learns nothing from this one
        self.filled_ = int(gaps[self.mask_].sum())
        return self

    def _get_support_mask(self) -> np.ndarray:
        return self.mask_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def standardised() -> list[tuple[str, BaseEstimator]]:
    """Steps of a pipeline: useless columns out, gaps filled by medians, standard deviations, extremes held within 4."""
    return [
        ("telling", Telling()),
        ("fill", SimpleImputer(strategy="median", keep_empty_features=True)),
        ("scale", StandardScaler()),
        (
            "clip",
            FunctionTransformer(
                np.clip, kw_args={"a_min": -CLIP, "a_max": CLIP}, feature_names_out="one-to-one"
            ),
        ),
    ]


class Factors:
    """Clinical factors as numbers, by what the training patients have: numbers stay, texts become columns of 0 and 1.

    Each category has a column "factor=level" but for the most frequent one, which the others are compared with; levels
    that fewer than five patients have share "factor=other", and so does a level not seen in training; an empty cell is the
    level "unknown".
    """

    def __init__(self, table: pd.DataFrame):
        numeric, known = pd.api.types.is_numeric_dtype, table.notna().any()
        texts = [name for name in table if known[name] and not numeric(table[name])]
        counts = {name: table[name].fillna("unknown").value_counts() for name in texts}
        levels = OneHotEncoder(
            drop=[min(count.index[count == count.max()]) for count in counts.values()],
            min_frequency=min([RARE, *(count.max() for count in counts.values())]),
            handle_unknown="infrequent_if_exist",
            sparse_output=False,
            feature_name_combiner=lambda name, level: (
                f"{name}={str(level).replace('infrequent_sklearn', 'other')}"
            ),
        )
        fill = SimpleImputer(strategy="constant", fill_value="unknown")
        columns = ColumnTransformer(
            [("levels", make_pipeline(fill, levels), texts)],
            remainder="passthrough",
            verbose_feature_names_out=False,
        )
        self.columns = columns.set_output(transform="pandas").fit(table)

    def transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """float64, columns in the order of their names; a missing number stays missing."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found unknown categories")  # they are "other"
            columns = self.columns.transform(table)
        return columns[sorted(columns)].astype(np.float64)


def coefficients(prepare: Pipeline, weights: np.ndarray) -> pd.DataFrame:
    """A linear model of a pipeline's columns, one row each, as a reader can apply it.

    feature, coefficient (of the standardised column), centre, spread, fill (for an empty cell). The log-odds are the
    intercept plus, for each row, coefficient x (value - centre) / spread, the fraction held within -4 and 4.
    """
    names, steps = prepare.get_feature_names_out(), prepare.named_steps
    before = list(prepare[:2].get_feature_names_out())
    at = [before.index(name) for name in names]
    scale = {"centre": steps["scale"].mean_[at], "spread": steps["scale"].scale_[at]}
    return pd.DataFrame(
        {"feature": names, "coefficient": weights, **scale, "fill": steps["fill"].statistics_[at]}
    )
