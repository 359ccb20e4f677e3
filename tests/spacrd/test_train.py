import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from lib.spacrd import train as spacrd
from lib.spacrd.features import Spots
from lib.spacrd.train import Recipe, fit, predict

SHORT = Recipe(
    contrastive_epochs=1, fusion_epochs=1, classifier_epochs=1, batch_size=64, patch_size=30, watch_every=0
)
LEARNING = dataclasses.replace(SHORT, contrastive_epochs=2, classifier_epochs=5, learning_rate=1e-3)


def train(toy, **options):
    return Spots.stack([toy("A1", 0, **options), toy("B1", 1, **options)])


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def auc(model, spots):
    known = ~torch.isnan(spots.labels).numpy()
    return roc_auc_score(spots.labels.numpy()[known], predict(model, spots)[known])


def relabelled(spots, labels):
    return dataclasses.replace(spots, labels=labels)


@pytest.mark.parametrize("variant", ["described", "released"])
def test_a_seed_decides_everything(toy, variant):
    first, again, other = (
        fit(train(toy), SHORT, seed=seed, variant=variant, device="cpu") for seed in (1, 1, 2)
    )
    torch.testing.assert_close(weights(first[0]), weights(again[0]), rtol=0, atol=0)
    assert first[1].equals(again[1])
    assert not torch.allclose(weights(first[0]), weights(other[0]))
    np.testing.assert_array_equal(predict(first[0], toy()), predict(again[0], toy()))


def test_stage_one_moves_the_encoders_and_nothing_else(toy, monkeypatch):
    seen = []

    def watched(stage, *rest):
        before = {name: p.detach().clone() for name, p in stage.model.named_parameters()}
        done(stage, *rest)
        moved = {name for name, p in stage.model.named_parameters() if not torch.equal(p, before[name])}
        seen.append((moved, set(before)))

    done = spacrd._fit
    monkeypatch.setattr(spacrd, "_fit", watched)
    model, _ = fit(train(toy), SHORT, seed=1, device="cpu")
    (first, every), (joint, _) = seen
    assert first == {name for name in every if name.startswith(("image_encoder.", "gene_encoder."))}
    # the key's bias cancels in the softmax, so nothing moves it
    assert every - joint == {"attentions.0.key.bias", "attentions.1.key.bias"}
    assert all(p.requires_grad for p in model.parameters())


def test_stage_one_uses_no_label(toy, monkeypatch):
    spots, encoders = train(toy), []

    def watched(stage, *rest):
        done(stage, *rest)
        encoders.append(weights(stage.model))

    done = spacrd._fit
    monkeypatch.setattr(spacrd, "_fit", watched)
    for labels in (spots.labels, 1 - spots.labels):
        fit(relabelled(spots, labels), SHORT, seed=1, device="cpu")
    torch.testing.assert_close(encoders[0], encoders[2], rtol=0, atol=0)
    assert not torch.allclose(encoders[1], encoders[3])


@pytest.mark.parametrize("labels", ["flipped", "unknown"])
def test_labels_of_the_held_out_do_not_reach_the_weights(toy, labels):
    held_out = toy("C1", 2)
    recipe = dataclasses.replace(SHORT, watch_every=1, classifier_epochs=2)
    changed = 1 - held_out.labels if labels == "flipped" else torch.full_like(held_out.labels, torch.nan)
    one, other = (
        fit(train(toy), recipe, seed=1, held_out=spots, device="cpu")
        for spots in (held_out, relabelled(held_out, changed))
    )
    torch.testing.assert_close(weights(one[0]), weights(other[0]), rtol=0, atol=0)


def test_watching_the_held_out_does_not_change_what_is_learnt(toy):
    held_out = toy("C1", 2)
    recipes = (dataclasses.replace(SHORT, classifier_epochs=2, watch_every=every) for every in (0, 1))
    watched = [fit(train(toy), recipe, seed=1, held_out=held_out, device="cpu")[0] for recipe in recipes]
    torch.testing.assert_close(weights(watched[0]), weights(watched[1]), rtol=0, atol=0)


def test_held_out_auc_is_the_auc_of_the_held_out(toy):
    held_out = toy("C1", 2)
    recipe = dataclasses.replace(SHORT, watch_every=1)
    model, history = fit(train(toy), recipe, seed=1, held_out=held_out, device="cpu")
    watched = history["held_out_auc"].to_numpy()
    assert np.isnan(watched).tolist() == [True, False, False]  # stage I has no score to look at
    assert watched[-1] == pytest.approx(auc(model, held_out), abs=1e-6)
    flipped = relabelled(held_out, 1 - held_out.labels)
    _, history = fit(train(toy), recipe, seed=1, held_out=flipped, device="cpu")
    assert history["held_out_auc"].iloc[-1] == pytest.approx(1 - watched[-1], abs=1e-6)


@pytest.mark.parametrize(
    "how",
    [{}, {"variant": "released"}, {"fusion": "concatenation"}, {"image": 0}, {"genes": 0}],
    ids=["described", "released", "concatenation", "genes alone", "image alone"],
)
def test_a_planted_effect_is_learnt_in_its_direction(toy, how):
    modalities = {key: how[key] for key in ("image", "genes") if key in how}
    options = {key: how[key] for key in ("variant", "fusion") if key in how}
    spots, held_out = train(toy, **modalities), toy("C1", 2, **modalities)
    model, _ = fit(spots, LEARNING, seed=1, device="cpu", **options)
    assert auc(model, held_out) > 0.9
    model, _ = fit(relabelled(spots, 1 - spots.labels), LEARNING, seed=1, device="cpu", **options)
    assert auc(model, held_out) < 0.1


def test_without_an_effect_nothing_is_found(toy):
    model, _ = fit(train(toy, effect=0), LEARNING, seed=1, device="cpu")
    assert 0.2 < auc(model, toy("C1", 2, effect=0)) < 0.8


def test_an_undetermined_spot_scores_but_enters_no_loss(toy):
    spots = train(toy)
    unknown = torch.isnan(spots.labels)
    assert unknown.sum() == 4
    model, history = fit(spots, SHORT, seed=1, device="cpu")
    assert torch.isfinite(weights(model)).all()
    terms = history.loc[history["stage"] != "I contrastive"].drop(columns=["contrastive", "stage"])
    assert np.isfinite(terms.to_numpy(float)).all()
    assert np.isfinite(predict(model, spots)).all()
    as_other, _ = fit(relabelled(spots, spots.labels.nan_to_num(0)), SHORT, seed=1, device="cpu")
    assert not torch.allclose(weights(model), weights(as_other))


def test_history_has_a_row_an_epoch(toy):
    recipe = dataclasses.replace(SHORT, contrastive_epochs=2, fusion_epochs=3, classifier_epochs=2)
    model, history = fit(train(toy), recipe, seed=1, device="cpu")
    assert history["stage"].tolist() == ["I contrastive"] * 2 + ["II fusion"] * 3 + ["III classifier"] * 2
    assert history["epoch"].tolist() == [0, 1, 0, 1, 2, 3, 4]
    terms = {"reconstruction", "category", "separation", "classification", "fused_variance"}
    assert set(history) == {"epoch", "stage", "contrastive"} | terms
    assert history["contrastive"].notna().tolist() == [True] * 2 + [False] * 5
    assert (history["contrastive"].head(2) < np.log(64) + 1).all()
    centres = model.class_centres.detach()
    assert history["separation"].iloc[-1] == pytest.approx(-float((centres[0] - centres[1]).norm()), rel=0.05)
    assert not model.training


@pytest.mark.parametrize("absent", ["image", "genes"])
def test_one_modality_has_no_stage_one(toy, absent):
    model, history = fit(train(toy, **{absent: 0}), SHORT, seed=1, device="cpu")
    assert history["stage"].tolist() == ["II fusion", "III classifier"]
    assert "contrastive" not in history
    gone, there = (model.image_encoder, model.gene_encoder)[:: 1 if absent == "image" else -1]
    assert gone is None
    assert there is not None
    assert len(model.attentions) == 1


def test_no_contrastive_epochs_skip_stage_one(toy):
    recipe = dataclasses.replace(SHORT, contrastive_epochs=0)
    assert fit(train(toy), recipe, seed=1, device="cpu")[1]["stage"].iloc[0] == "II fusion"


def test_the_head_learns_in_stage_three_only(toy, monkeypatch):
    seen = []

    def watched(stage, batch, number):
        seen.append((stage.current_epoch, stage.model.head[0].weight.detach().clone()))
        return step(stage, batch, number)

    step = spacrd.Fusion.training_step
    monkeypatch.setattr(spacrd.Fusion, "training_step", watched)
    recipe = dataclasses.replace(SHORT, contrastive_epochs=0, fusion_epochs=2)
    model, _ = fit(train(toy), recipe, seed=1, device="cpu")
    before = [weight for epoch, weight in seen if epoch < 2]
    assert len(before) > 2
    assert all(torch.equal(weight, before[0]) for weight in before)
    assert not torch.equal(model.head[0].weight, before[0])


def test_separation_weight_drives_the_class_centres_apart(toy):
    """The term is unbounded below: with a great weight the distance grows step by step."""
    recipe = dataclasses.replace(SHORT, contrastive_epochs=0, fusion_epochs=5, learning_rate=1e-2)
    distances = []
    for weight in (0.0, 10.0):
        model, _ = fit(
            train(toy), dataclasses.replace(recipe, separation_weight=weight), seed=1, device="cpu"
        )
        centres = model.class_centres.detach()
        distances.append(float((centres[0] - centres[1]).norm()))
    assert distances[1] > 1.5 * distances[0]


def test_scores_do_not_depend_on_who_else_is_scored(toy):
    """A section alone and the same section in a stack: evaluation knows no batch."""
    model, _ = fit(train(toy), SHORT, seed=1, device="cpu")
    one, other = toy("C1", 2), toy("D1", 3)
    np.testing.assert_allclose(
        predict(model, Spots.stack([other, one]))[60:], predict(model, one), rtol=1e-4, atol=1e-5
    )
    assert predict(model, one).dtype == np.float32
