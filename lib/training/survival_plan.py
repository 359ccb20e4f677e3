"""The training runs of the CrossFusion study: one contender, trained on one fold of one cancer type with one seed."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from lib.training.folds import Fold


class Unit(NamedTuple):
    """One training run."""

    cancer: str
    fold: Fold
    model: str
    seed: int

    @property
    def name(self) -> str:
        """Names the run's files."""
        return f"{self.cancer}.{self.fold.name}.{self.model}.s{self.seed}"


def plan_units(
    cohort: pd.DataFrame,
    slides: pd.DataFrame,
    models: Sequence[str],
    seeds: Sequence[int],
    first_seed_only: Sequence[str] = (),
) -> tuple[dict[str, Unit], list[str]]:
    """All runs of a cohort, by name, and what stands in the way of some.

    Patients without an embedded slide take no part in training and are held out by nobody.

    Parameters
    ----------
    cohort : DataFrame
        patient, cancer, event, fold (the fold that holds the patient out).
    slides : DataFrame
        patient of every slide that has features.
    models, seeds : sequence
    first_seed_only : sequence of str
        Contenders run with the first seed alone, to save time.

    Returns
    -------
    dict of str to Unit, list of str
        One sentence for each cancer type that cannot be trained on.
    """
    units, obstacles = {}, []
    seen = cohort[cohort["patient"].isin(set(slides["patient"]))]
    for cancer, everybody in cohort.groupby("cancer", sort=True):
        own = seen[seen["cancer"] == cancer]
        if (
            own["fold"].nunique() < everybody["fold"].nunique()
            or own["event"].sum() < 2 * own["fold"].nunique()
        ):
            obstacles.append(
                f"{cancer}: {len(own)} of {len(everybody)} patients have slides with features, "
                f"{int(own['event'].sum())} of them died: too few to train on every fold"
            )
            continue
        for name in sorted(own["fold"].unique()):
            inside = own["fold"] != name
            fold = Fold(str(name), tuple(own["patient"][inside]), tuple(own["patient"][~inside]))
            for model in models:
                for seed in seeds[:1] if model in first_seed_only else seeds:
                    unit = Unit(str(cancer), fold, model, seed)
                    units[unit.name] = unit
    return units, obstacles
