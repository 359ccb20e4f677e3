"""The rows of metrics.csv.

From the scores of single runs to a cohort's predictions.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.statistics.classification import (
    NotComputable,
    called,
    gmm_threshold,
    platt,
    prevalence_threshold,
    probability,
)
from lib.statistics.intervals import ScoredSection, interval

COLUMNS = [
    "model",
    "cohort",
    "setting",
    "metric",
    "estimate",
    "low",
    "high",
    "n",
    "events",
    "seeds",
    "how",
]
RULES = {
    "gmm": "cut from a two-Gaussian mixture of the section's scores, no labels",
    "calibrated": "cut at probability 0.5, calibrated on training spots",
    "oracle": "ORACLE cut from the section's true prevalence, reads test labels",
}
CALLED = ("f1", "sensitivity", "specificity", "precision", "accuracy")


def calls(sections: Sequence[ScoredSection], rule: str) -> tuple[list[ScoredSection], dict[str, str]]:
    """Each section's scores turned into 0/1 calls by a rule, seed by seed.

    Parameters
    ----------
    sections : sequence of ScoredSection
        Scores; for "calibrated", probabilities.
    rule : {"gmm", "calibrated", "oracle"}
        See `RULES`.

    Returns
    -------
    sections : list of ScoredSection
        With calls as scores; those without a cut are left out.
    left_out : dict of section to reason

    Raises
    ------
    ValueError
        Unknown rule, or probabilities outside 0 to 1.
    """
    if rule not in RULES:
        raise ValueError(f'unknown rule "{rule}"; known are {", ".join(RULES)}')
    decided, left_out = [], {}
    for section in sections:
        try:
            decided.append(section.with_scores(called(section.scores, _cuts(section, rule))))
        except NotComputable as reason:
            left_out[f"{section.section} of {section.patient}"] = str(reason)
    return decided, left_out


def _cuts(section: ScoredSection, rule: str) -> np.ndarray:
    """Cut of each seed, (seeds, 1)."""
    if rule == "gmm":
        return np.array([[gmm_threshold(scores)] for scores in section.every_score()])
    if rule == "oracle":
        share = float(section.labels.mean())
        return np.array([[prevalence_threshold(scores, share)] for scores in section.scores])
    if section.scores.min() < 0 or section.scores.max() > 1:
        raise ValueError(
            f"section {section.section} of patient {section.patient}: the calibrated rule needs probabilities"
        )
    return np.full((len(section.scores), 1), 0.5)


def row(
    model: str,
    cohort: str,
    setting: str,
    metric: str,
    sections: Sequence[ScoredSection],
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, object]:
    """One row of metrics.csv.

    Parameters
    ----------
    model, cohort, setting : str
    metric : str
        "auc", "ap", "prevalence", "brier" (needs probabilities), or one of `CALLED` with its rule, such as
        "f1_gmm", "f1_calibrated" (needs probabilities), "sensitivity_oracle".
    sections : sequence of ScoredSection
        Scores, or probabilities where the metric needs them.
    draws, seed
        See `intervals.interval`.

    Returns
    -------
    dict
        Keys are `COLUMNS`. A metric that cannot be computed has NaN for estimate, low and high (an empty
        field in the file) and the reason in `how`.

    Raises
    ------
    ValueError
        Unknown metric name.
    """
    base, _, rule = metric.partition("_")
    if rule and base not in CALLED:
        raise ValueError(f'"{metric}": {base} takes no threshold rule; those that do are {", ".join(CALLED)}')
    if not rule and base in CALLED:
        raise ValueError(f'"{metric}" needs its threshold rule in its name, such as {base}_gmm')
    left_out: Mapping[str, str] = {}
    given = sections
    found: dict[str, object] = {"estimate": np.nan, "low": np.nan, "high": np.nan}
    try:
        if rule:
            sections, left_out = calls(sections, rule)
            if not sections:
                raise NotComputable("; ".join(f"section {name}: {why}" for name, why in left_out.items()))
        measured = interval(sections, base, draws, seed, left_out=left_out)
        found = {name: getattr(measured, name) for name in ("estimate", "low", "high", "n", "events")}
        how = measured.how
    except NotComputable as reason:
        how = f"not computable: {reason}"
        found["n"] = sum(section.labels.size for section in given)
        found["events"] = int(sum(section.labels.sum() for section in given))
    names = {"model": model, "cohort": cohort, "setting": setting, "metric": metric}
    how = f"{RULES[rule]}; {how}" if rule else how
    return {**names, **found, "seeds": len(given[0].scores), "how": how}


def evaluation(
    model: str,
    cohort: str,
    setting: str,
    sections: Sequence[ScoredSection],
    probabilities: Sequence[ScoredSection] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Every metric of one model in one setting.

    Parameters
    ----------
    sections : sequence of ScoredSection
        Test scores; higher = more cancer-like.
    probabilities : sequence of ScoredSection, optional
        The same spots under `thresholds.probability` fitted on training spots: adds f1_calibrated,
        sensitivity_calibrated, specificity_calibrated and brier.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`; rows auc, ap, prevalence, then f1, sensitivity, specificity for each rule.
    """
    wanted = [(metric, sections) for metric in ("auc", "ap", "prevalence")]
    if probabilities is not None:
        wanted.append(("brier", probabilities))
    for rule in RULES:
        under = probabilities if rule == "calibrated" else sections
        if under is not None:
            wanted += [(f"{metric}_{rule}", under) for metric in ("f1", "sensitivity", "specificity")]
    rows = [row(model, cohort, setting, metric, under, draws, seed) for metric, under in wanted]
    return pd.DataFrame(rows, columns=COLUMNS)


def by_section(
    sections: Sequence[ScoredSection], metric: str = "auc", draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """A metric of every section alone, for a forest: label, patient, estimate, low, high, n, events, how.

    The intervals resample the section's spatial blocks only. Metric names as `row`.
    """
    rows = []
    for section in sections:
        found = row("", "", "", metric, [section], draws, seed)
        rows.append({"label": section.section, "patient": section.patient, **found})
    columns = ["label", "patient", "estimate", "low", "high", "n", "events", "how"]
    return pd.DataFrame(rows, columns=columns)


def calibrated(scores: pd.DataFrame) -> pd.DataFrame:
    """Test spots of one run with a probability of cancer, fitted on its training spots (Platt).

    Parameters
    ----------
    scores : DataFrame
        One run: section, patient, spot, label, split ("train" or "test"), score (higher = more cancer-like).

    Returns
    -------
    DataFrame
        The test rows, and `probability`, 0 to 1. The fit saw training spots the model was fitted on, so it is
        as sure as the model is on those.
    """
    train = scores[(scores["split"] == "train") & scores["label"].notna()]
    slope, intercept = platt(train["label"], train["score"])
    test = scores[scores["split"] == "test"]
    return test.assign(probability=probability(test["score"], slope, intercept).astype(np.float32))


def scored_sections(
    predictions: pd.DataFrame, places: dict[str, tuple[pd.DataFrame, float]], column: str = "score"
) -> list[ScoredSection]:
    """One model's predictions in one setting, section by section, all seeds stacked.

    Parameters
    ----------
    predictions : DataFrame
        Rows of one model and setting, in any order: seed, patient, section, spot, label and `column`.
    places : dict
        Section -> positions (n, 2) indexed by spot, and the side of a spatial block.

    Raises
    ------
    ValueError
        A seed that did not score every spot of a section (the run is not whole), or positions of other spots.
    """
    sections, seeds = [], sorted(predictions["seed"].unique())
    for (patient, name), rows in predictions.groupby(["patient", "section"], sort=True):
        xy, side = places[name]
        labels = rows.drop_duplicates("spot").set_index("spot")["label"]
        if set(labels.index) != set(xy.index):
            raise ValueError(
                f"section {name} has {len(labels)} spots in the predictions and other ones in its h5ad: run 3-train again"
            )
        spots = list(xy.index)  # one order for labels, scores and places, whatever the predictions have
        table = rows.pivot(index="seed", columns="spot", values=column).reindex(index=seeds, columns=spots)
        if table.isna().any(axis=None):
            seed = table.index[table.isna().any(axis=1)][0]
            raise ValueError(f"seed {seed} did not score every spot of section {name}: run 3-train again")
        xy = xy.loc[spots].to_numpy()
        sections.append(ScoredSection.of_spots(patient, name, labels.loc[spots], table.to_numpy(), xy, side))
    return sections
