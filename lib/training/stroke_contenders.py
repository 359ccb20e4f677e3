"""Every model of the stroke study under one name: the fusion, its rivals and its habits one at a time."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from lib.inputs.clinical import CATEGORICAL, CONTINUOUS, variables
from lib.models.stroke import StrokeNet
from lib.training.stroke import Standardised
from lib.training.stroke_recipe import QUIRKS, RELEASED, Recipe

VOLUMES = ("core_ml", "hypoperfused_ml", "mismatch_ml")
STRENGTHS = np.logspace(-3, 1, 9)  # of the logistic regressions, chosen by inner folds
TINY = np.finfo(float).eps


class Contender(NamedTuple):
    """What a model sees and how it decides."""

    kind: str  # "network" | "logistic" | "late"
    fusion: str = ""  # of a network, see `lib.models.stroke.StrokeNet`
    series: bool = True  # sees the scan: its series, or the volumes of its maps
    clinical: bool = True
    quirks: tuple[str, ...] = ()


CONTENDERS = {
    "fusion": Contender("network", "cross"),
    "fusion-released": Contender("network", "cross", quirks=RELEASED),
    **{f"fusion+{quirk}": Contender("network", "cross", quirks=(quirk,)) for quirk in QUIRKS},
    "concatenation": Contender("network", "concatenation"),
    "ctp": Contender("network", "imaging", clinical=False),
    "clinical-branch": Contender("network", "clinical", series=False),
    "late-fusion": Contender("late"),
    "logistic-clinical": Contender("logistic", series=False),
    "logistic-volumes": Contender("logistic", clinical=False),
    "logistic-both": Contender("logistic"),
}


def builder(
    name: str, setting: str, shape: Sequence[int], frames: int, recipe: Recipe, variant: str = "described"
) -> tuple[Callable[[], nn.Module], Recipe, bool]:
    """What makes a network, the recipe it is trained by, and whether gaps have to be filled before it.

    Parameters
    ----------
    name : str
        See `CONTENDERS`.
    setting : {"admission", "postprocedural"}
        Clinical variables.
    shape : (h, w, z)
    frames : int
    recipe : Recipe
    variant : {"described", "released"}
        "released" gives every network all habits of the released code.
    """
    contender = CONTENDERS[name]
    released = variant == "released" or contender.quirks == RELEASED
    recipe = recipe.with_quirks(*contender.quirks, *(RELEASED if released else ()))
    names = variables(setting)
    options = {
        "variant": "released" if released else "described",
        "fusion": contender.fusion,
        "continuous": sum(one in CONTINUOUS for one in names),
        "categories": tuple(len(CATEGORICAL[one]) for one in names if one in CATEGORICAL),
        "positional": "frozen" if "frozen_positions" in recipe.quirks else "learned",
        "widths": tuple(recipe.widths),
        "channels": recipe.channels,
        "heads": recipe.heads,
        "dropout": recipe.dropout,
        "frames_at_once": recipe.frames_at_once or None,
        "bf16": recipe.bf16,
    }

    def build() -> nn.Module:
        model = StrokeNet(tuple(shape), frames, **options)
        scaled = recipe.standardise and contender.series
        return Standardised(model, frames, shape) if scaled else model

    return build, recipe, released


def logistic(table: pd.DataFrame, label: pd.Series, seed: int) -> Pipeline:
    """Logistic regression on standardised columns, its strength of shrinking chosen by five inner folds.

    Parameters
    ----------
    table : DataFrame
        Training patients, without gaps; volumes in ml are taken as log(1 + ml).
    label : Series
        1 unfavourable.

    Raises
    ------
    ValueError
        No column, or fewer than two patients of an outcome.
    """
    if table.empty or min((label == outcome).sum() for outcome in (0, 1)) < 2:
        raise ValueError(
            f"a logistic regression needs a variable and two patients of each outcome: there are {table.shape[1]} "
            f"variables, {int((label == 1).sum())} patients with an unfavourable outcome, {int((label == 0).sum())} without"
        )
    folds = StratifiedKFold(min(5, int(label.value_counts().min())), shuffle=True, random_state=seed)
    regression = LogisticRegressionCV(Cs=STRENGTHS, cv=folds, scoring="neg_log_loss", max_iter=1000)
    return make_pipeline(StandardScaler(), regression).fit(table, label)


def columns(name: str, setting: str) -> list[str]:
    """Columns that a logistic regression reads."""
    contender = CONTENDERS[name]
    return [*(variables(setting) if contender.clinical else ()), *(VOLUMES if contender.series else ())]


def late_fusion(predictions: pd.DataFrame) -> pd.DataFrame:
    """The mean probability of `ctp` and `clinical-branch`, patient by patient, within setting, seed and fold.

    Parameters
    ----------
    predictions : DataFrame
        setting, model, seed, fold, patient, score (logit), probability.

    Raises
    ------
    ValueError
        The two do not predict the same patients.
    """
    keys = ["setting", "seed", "fold", "patient"]
    parts = {name: predictions[predictions["model"] == name] for name in ("ctp", "clinical-branch")}
    ctp, clinical = (part.set_index(keys)["probability"].sort_index() for part in parts.values())
    settings = set(ctp.index.unique("setting")) & set(clinical.index.unique("setting"))
    ctp, clinical = (part[part.index.get_level_values("setting").isin(settings)] for part in (ctp, clinical))
    if not ctp.index.equals(clinical.index):
        raise ValueError("late-fusion needs ctp and clinical-branch of the same patients, seeds and folds")
    mean = (ctp + clinical) / 2
    table = mean.rename("probability").reset_index().assign(model="late-fusion")
    # two probabilities that were rounded to 1 have no finite logit
    return table.assign(score=logit(table["probability"].clip(TINY, 1 - TINY)))
