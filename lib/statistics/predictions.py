"""From the scores of single runs to a cohort's predictions."""

import numpy as np
import pandas as pd

from lib.statistics.scored import ScoredSection
from lib.statistics.thresholds import platt, probability


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
