import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from lib.spacrd import params as study
from lib.spacrd import train as contenders
from lib.spacrd.features import fold_features
from lib.spacrd.model import SpaCRD
from lib.spacrd.train import CONTENDERS, Recipe, applicable, compete
from lib.training.folds import Fold

TINY = Recipe(contrastive_epochs=1, fusion_epochs=1, classifier_epochs=3, learning_rate=1e-3, patch_size=30)
HOW = {"recipe": TINY, "scaling": "minmax", "variant": "described", "seed": 1, "device": "cpu"}
LINEAR = [name for name, contender in CONTENDERS.items() if contender.kind == "linear"]
NEURAL = [name for name, contender in CONTENDERS.items() if contender.kind == "neural"]


@pytest.fixture
def fold(cohort, pictures):
    return fold_features(Fold("A", ("B1", "C1"), ("A1", "A2")), cohort, pictures, genes=10, marker="ERBB2")


@pytest.fixture
def asked(monkeypatch):
    """What `compete` asks of `fit`; nothing is trained."""
    found = {}

    def fit(train, recipe, **options):
        found.update(options, train=train, recipe=recipe)
        dims = [0 if x is None else x.shape[1] for x in (train.image, train.genes)]
        torch.manual_seed(0)
        return SpaCRD(*dims, fusion=options["fusion"]), pd.DataFrame()

    monkeypatch.setattr(contenders, "fit", fit)
    return found


def test_the_schema_knows_every_contender():
    assert set(study.CONTENDERS) == set(CONTENDERS)


def test_only_contenders_whose_modalities_are_there():
    names = list(CONTENDERS)
    assert applicable(names, image=True, genes=True) == names
    genes = applicable(names, image=False, genes=True)
    assert {"marker-smoothed", "spacrd-genes", "concatenation-genes"} <= set(genes)
    assert not any(CONTENDERS[name].image for name in genes)
    assert applicable(names, image=True, genes=False) == [
        "linear-image",
        "linear-image-smoothed",
        "spacrd-image",
    ]


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_finds_a_planted_effect(fold, name):
    train, test = fold
    result = compete(name, train, test, **HOW)
    scores = result.scores
    assert list(scores) == ["section", "patient", "spot", "label", "split", "score"]
    assert scores["score"].dtype == np.float32
    sections = [*train, *test]
    assert scores["section"].tolist() == [s.name for s in sections for _ in s.spots]
    assert scores["spot"].tolist() == [spot for s in sections for spot in s.spots]
    np.testing.assert_array_equal(scores["label"], np.concatenate([s.labels for s in sections]))
    assert scores.groupby("section")["split"].unique().str[0].to_dict() == {
        "A1": "test", "A2": "test", "B1": "train", "C1": "train",
    }  # fmt: skip
    for _, rows in scores[scores["label"].notna()].groupby("section"):
        assert roc_auc_score(rows["label"], rows["score"]) > (0.6 if "image" in name else 0.8)
    assert (result.model is None) == (CONTENDERS[name].kind != "neural")
    assert result.history.empty == (CONTENDERS[name].kind != "neural")


@pytest.mark.parametrize("name", ["marker-smoothed", "linear-both-smoothed", "spacrd"])
def test_labels_of_the_test_sections_do_not_change_a_score(fold, name):
    train, test = fold
    flipped = [dataclasses.replace(s, labels=1 - s.labels) for s in test]
    one, other = (compete(name, train, tested, **HOW).scores for tested in (test, flipped))
    np.testing.assert_array_equal(one["score"], other["score"])
    assert not one["label"].equals(other["label"])


def test_marker_is_the_mean_over_the_neighbourhood(fold):
    train, test = fold
    scores = compete("marker-smoothed", train, test, **HOW).scores
    naive = [np.mean([s.marker[j] for j in row]) for s in (*train, *test) for row in s.neighbours]
    np.testing.assert_allclose(scores["score"], naive, rtol=1e-5)


def test_a_marker_that_a_section_lacks_is_named(fold):
    train, test = fold
    blind = [dataclasses.replace(s, marker=None) for s in test]
    with pytest.raises(ValueError, match="marker gene is missing in section A1, A2"):
        compete("marker-smoothed", train, blind, **HOW)


@pytest.mark.parametrize("name", NEURAL)
def test_a_neural_contender_sees_what_its_name_says(fold, asked, name):
    train, test = fold
    result = compete(name, train, test, **HOW)
    contender, spots = CONTENDERS[name], asked["train"]
    assert (spots.image is not None, spots.genes is not None) == (contender.image, contender.genes)
    assert (asked["fusion"], asked["seed"], asked["device"]) == (contender.fusion, 1, "cpu")
    assert spots.section.tolist() == ["B1"] * 60 + ["C1"] * 60
    assert asked["held_out"].section.tolist() == ["A1"] * 60 + ["A2"] * 60
    released = name.endswith("-released")
    assert asked["variant"] == ("released" if released else "described")
    assert asked["recipe"].separation_weight == (0.1 if released else 0)
    assert dataclasses.replace(asked["recipe"], separation_weight=0) == TINY
    near = [s.neighbours_anywhere if released else s.neighbours for s in train]
    np.testing.assert_array_equal(spots.neighbours, np.concatenate([near[0], near[1] + 60]))
    assert not np.array_equal(train[0].neighbours, train[0].neighbours_anywhere), (
        "the rim has no far neighbours"
    )
    assert len(result.scores) == 240


def test_the_studys_variant_is_every_contenders_variant(fold, asked):
    compete("spacrd-genes", *fold, **{**HOW, "variant": "released"})
    assert asked["variant"] == "released"
    assert asked["recipe"].separation_weight == 0.1


@pytest.mark.parametrize("name", ["linear-genes", "spacrd-genes"])
def test_scores_that_are_not_finite_are_refused(fold, asked, monkeypatch, name):
    bad = np.full(60, np.nan, np.float32)
    monkeypatch.setattr(contenders, "predict", lambda model, spots: bad)
    monkeypatch.setattr("sklearn.pipeline.Pipeline.decision_function", lambda self, features: bad)
    with pytest.raises(ValueError, match=rf"{name} gave scores that are not finite"):
        compete(name, *fold, **HOW)
