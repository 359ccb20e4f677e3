"""Every model of the SpaCRD study under one call: SpaCRD, its ablations and the baselines."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.features.neighbours import smooth
from lib.models.spacrd import SpaCRD
from lib.training.fold_features import SectionFeatures
from lib.training.linear import design, fit_linear
from lib.training.spacrd import Recipe, Spots, fit, predict


class Contender(NamedTuple):
    """What a model sees and how it decides."""

    kind: str  # "marker" | "linear" | "neural"
    image: bool = False
    genes: bool = False
    smoothed: bool = False  # linear: mean over the neighbourhood first
    fusion: str = "attention"
    variant: str = ""  # "" = the study's parameter


CONTENDERS = {
    "marker-smoothed": Contender("marker", genes=True, smoothed=True),
    "linear-genes": Contender("linear", genes=True),
    "linear-genes-smoothed": Contender("linear", genes=True, smoothed=True),
    "linear-image": Contender("linear", image=True),
    "linear-image-smoothed": Contender("linear", image=True, smoothed=True),
    "linear-both": Contender("linear", image=True, genes=True),
    "linear-both-smoothed": Contender("linear", image=True, genes=True, smoothed=True),
    "concatenation": Contender("neural", image=True, genes=True, fusion="concatenation"),
    "spacrd-genes": Contender("neural", genes=True),
    "spacrd-image": Contender("neural", image=True),
    "spacrd": Contender("neural", image=True, genes=True),
    "spacrd-released": Contender("neural", image=True, genes=True, variant="released"),
    "concatenation-genes": Contender("neural", genes=True, fusion="concatenation"),
    "spacrd-genes-released": Contender("neural", genes=True, variant="released"),
}


def applicable(names: Sequence[str], *, image: bool, genes: bool) -> list[str]:
    """The contenders whose modalities a setting has."""
    return [n for n in names if image >= CONTENDERS[n].image and genes >= CONTENDERS[n].genes]


class Result(NamedTuple):
    """One trained contender on one fold."""

    scores: pd.DataFrame  # section, patient, spot, label, split, score
    history: pd.DataFrame  # empty where nothing is trained by epochs
    model: SpaCRD | None


def compete(
    name: str,
    train: Sequence[SectionFeatures],
    test: Sequence[SectionFeatures],
    *,
    recipe: Recipe,
    scaling: str,
    variant: str,
    seed: int,
    device: str = "auto",
) -> Result:
    """Train one contender on a fold and score the spots of its training and test sections.

    Returns
    -------
    Result
        Scores: higher = more cancer-like, each contender on its own scale.
    """
    contender = CONTENDERS[name]
    sections, history, model = [*train, *test], pd.DataFrame(), None
    seen = {"image": contender.image, "genes": contender.genes}
    if contender.kind == "marker":
        absent = [s.name for s in sections if s.marker is None]
        if absent:
            raise ValueError(
                f"the marker gene is missing in section {', '.join(absent)}: set `marker` to a gene all sections have"
            )
        scores = [smooth(s.marker, s.neighbours) for s in sections]
    elif contender.kind == "linear":
        seen["smoothed"] = contender.smoothed
        pipeline = fit_linear(train, **seen)
        scores = [pipeline.decision_function(design(s, **seen)) for s in sections]
    else:
        variant = contender.variant or variant
        if variant == "released":
            recipe = replace(recipe, separation_weight=0.1)
        tensors = [s.tensors(scaling, **seen, anywhere=variant == "released") for s in sections]
        model, history = fit(
            Spots.stack(tensors[: len(train)]),
            recipe,
            seed=seed,
            variant=variant,
            fusion=contender.fusion,
            held_out=Spots.stack(tensors[len(train) :]),
            device=device,
        )
        scores = [predict(model, t) for t in tensors]
    tables = [
        pd.DataFrame(
            {
                "section": s.name,
                "patient": s.patient,
                "spot": s.spots,
                "label": s.labels,
                "split": split,
                "score": score,
            }
        )
        for s, score, split in zip(
            sections, scores, ["train"] * len(train) + ["test"] * len(test), strict=True
        )
    ]
    table = pd.concat(tables, ignore_index=True)
    if not np.isfinite(table["score"]).all():
        raise ValueError(
            f"{name} gave scores that are not finite: lower `learning_rate` or look at the history"
        )
    return Result(table.astype({"score": np.float32}), history, model)
