"""Training: seeds, stages, what may reach the weights; every contender; the plan; runs on disk, killed and resumed."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score

from lib.features.feature_files import write_features
from lib.spacrd import train as module
from lib.spacrd.features import Spots, fold_features, smooth
from lib.spacrd.model import SpaCRD
from lib.spacrd.params import CONTENDERS, NEURAL, Setting, SpaCRDParams
from lib.spacrd.spots import write_section
from lib.spacrd.train import Data, compete, components, design, fit, fit_linear, predict, settings_of, train
from lib.training.folds import Fold
from lib.training.runs import Checkpoint, Run, plan_runs

sys.path.insert(0, str(Path(__file__).parent))
import released as formula

SHORT = {"contrastive_epochs": 1, "fusion_epochs": 1, "classifier_epochs": 1, "genes": 10}
SHORT = SpaCRDParams(**SHORT, learning_rate=1e-4, device="cpu")
FOLD = Fold("A", ("B1", "C1"), ("A1", "A2"))


def recipe(**changed):
    return SHORT.model_copy(update=changed)


@pytest.fixture(autouse=True)
def small_patches(monkeypatch):
    monkeypatch.setattr(module, "PATCH", 30)


def two(toy, **options):
    return Spots.stack([toy("A1", 0, **options), toy("B1", 1, **options)])


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def auc(model, spots):
    known = ~torch.isnan(spots.labels).numpy()
    return roc_auc_score(spots.labels.numpy()[known], predict(model, spots)[known])


def relabelled(spots, labels):
    return dataclasses.replace(spots, labels=labels)


def same_weights(one, other):
    torch.testing.assert_close(weights(one), weights(other), rtol=0, atol=0)


# one training


@pytest.mark.parametrize("variant", ["described", "released"])
def test_a_seed_decides_everything(toy, variant):
    first, again, other = (train(two(toy), SHORT, seed=seed, variant=variant) for seed in (1, 1, 2))
    same_weights(first[0], again[0])
    assert first[1].equals(again[1])
    assert not torch.allclose(weights(first[0]), weights(other[0]))
    np.testing.assert_array_equal(predict(first[0], toy()), predict(again[0], toy()))


def test_stage_one_moves_the_encoders_alone_and_uses_no_label(toy, monkeypatch):
    spots, seen, after = two(toy), [], []

    def watched(loop, *rest, **options):
        before = {name: p.detach().clone() for name, p in loop.model.named_parameters()}
        history = run(loop, *rest, **options)
        moved = {name for name, p in loop.model.named_parameters() if not torch.equal(p, before[name])}
        seen.append((moved, set(before)))
        after.append(weights(loop.model))
        return history

    run = module.run
    monkeypatch.setattr(module, "run", watched)
    for labels in (spots.labels, 1 - spots.labels):
        model, _ = train(relabelled(spots, labels), SHORT, seed=1)
    (first, every), (joint, _) = seen[:2]
    assert first == {name for name in every if name.startswith(("image_encoder.", "gene_encoder."))}
    # the key's bias cancels in the softmax, so nothing moves it
    assert every - joint == {"attentions.0.key.bias", "attentions.1.key.bias"}
    assert all(p.requires_grad for p in model.parameters())
    torch.testing.assert_close(after[0], after[2], rtol=0, atol=0)
    assert not torch.allclose(after[1], after[3])


def test_history_has_a_row_an_epoch_and_the_held_outs_auc(toy, monkeypatch):
    monkeypatch.setattr(module, "WATCH_EVERY", 2)
    held_out, params = toy("C1", 2), recipe(contrastive_epochs=2, fusion_epochs=3, classifier_epochs=1)
    model, history = train(two(toy), params, seed=1, held_out=held_out)
    assert history["stage"].tolist() == ["I contrastive"] * 2 + ["II fusion"] * 3 + ["III classifier"]
    assert history["epoch"].tolist() == [0, 1, 0, 1, 2, 3]
    terms = {"reconstruction", "category", "separation", "classification", "fused_variance", "held_out_auc"}
    assert set(history) == {"epoch", "stage", "contrastive"} | terms
    assert history["contrastive"].notna().tolist() == [True] * 2 + [False] * 4
    assert (history["contrastive"].head(2) < np.log(64) + 1).all()
    assert history["held_out_auc"].notna().tolist() == [False, False, False, True, False, True]
    assert history["held_out_auc"].iloc[-1] == pytest.approx(auc(model, held_out), abs=1e-6)
    centres = model.class_centres.detach()
    assert history["separation"].iloc[-1] == pytest.approx(-float((centres[0] - centres[1]).norm()), rel=0.05)
    assert not model.training


@pytest.mark.parametrize("variant", ["described", "released"])
def test_a_planted_effect_is_learnt_in_its_direction(toy, variant):
    params = recipe(contrastive_epochs=2, classifier_epochs=5, learning_rate=1e-3)
    spots, held_out = two(toy), toy("C1", 2)
    model, _ = train(spots, params, seed=1, variant=variant)
    assert auc(model, held_out) > 0.9
    model, _ = train(relabelled(spots, 1 - spots.labels), params, seed=1, variant=variant)
    assert auc(model, held_out) < 0.1


def test_an_undetermined_spot_scores_but_enters_no_loss(toy):
    spots = two(toy)
    model, history = train(spots, SHORT, seed=1)
    assert torch.isnan(spots.labels).sum() == 4
    assert torch.isfinite(weights(model)).all()
    terms = history.loc[history["stage"] != "I contrastive"].drop(columns=["contrastive", "stage"])
    assert np.isfinite(terms.to_numpy(float)).all()
    assert np.isfinite(predict(model, spots)).all()
    as_other, _ = train(relabelled(spots, spots.labels.nan_to_num(0)), SHORT, seed=1)
    assert not torch.allclose(weights(model), weights(as_other))


def test_the_head_learns_in_stage_three_only(toy, monkeypatch):
    seen = []

    class Watched(module.Fusion):
        def loss_of(self, batch):
            seen.append((len(self.history), self.model.head[0].weight.detach().clone()))
            return super().loss_of(batch)

    monkeypatch.setattr(module, "Fusion", Watched)
    model, _ = train(two(toy), recipe(contrastive_epochs=0, fusion_epochs=2), seed=1)
    before = [weight for epoch, weight in seen if epoch < 2]
    assert len(before) > 2
    assert all(torch.equal(weight, before[0]) for weight in before)
    assert not torch.equal(model.head[0].weight, before[0])


@pytest.mark.parametrize("variant", ["described", "released"])
def test_a_killed_training_goes_on_to_the_same_weights(toy, tmp_path, monkeypatch, variant):
    params = recipe(fusion_epochs=2, classifier_epochs=2)
    whole, history = train(two(toy), params, seed=1, variant=variant)
    to = Checkpoint(tmp_path / "x.safetensors", "key", every_s=0)

    def killed(self):
        if len(self.history) == 2:
            raise KeyboardInterrupt
        return watched(self)

    watched = module.Fusion.watched
    with monkeypatch.context() as patch, pytest.raises(BaseException):  # noqa: B017, PT011, PT012  Lightning's own
        patch.setattr(module.Fusion, "watched", killed)
        train(two(toy), params, seed=1, variant=variant, checkpoint=to)
        raise KeyboardInterrupt
    assert (tmp_path / "x.safetensors").is_file()
    model, again = train(two(toy), params, seed=1, variant=variant, checkpoint=to)
    same_weights(model, whole)
    pd.testing.assert_frame_equal(again, history)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("variant", "steps"), [("released", 6), ("described", 5)])
def test_a_lone_last_spot_is_a_batch_of_its_own_as_released(toy, variant, steps):
    spots = two(toy)
    spots = relabelled(spots, spots.labels.nan_to_num(0))
    spots.labels[116:] = np.nan  # 116 labelled spots: five batches of 23 and one spot
    seen = []
    params = recipe(batch_size=23, contrastive_epochs=0, classifier_epochs=1, fusion_epochs=0)

    class Watched(module.Fusion):
        def loss_of(self, batch):
            seen.append(len(batch["labels"]))
            return super().loss_of(batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Fusion", Watched)
        patch.setattr(module, "PATCH", 1)
        train(spots, params, seed=1, variant=variant)
    assert (len(seen), sum(seen)) == (steps, 116)


def test_the_authors_code_and_the_released_recipe_train_to_the_same_weights(monkeypatch):
    """wenwenmin/SpaCRD at 91eebc18e3f1, from counts to scores: three epochs of each stage, no dropout, numbers in float64.

    `released_weights.csv` was made by running process_HBC.process, main.training and the model's scoring of the third
    section on the cohort of `formula_sections`, with the formula's image features in place of UNI's, its initial weights,
    its order of spots in the authors' DataLoader and its draws in place of `torch.randn_like`; `current_epoch` was 47
    greater, so that three epochs lie on each side of the classifier's begin at 50. The rate is 1e-3, a hundred times
    theirs, so that weights move by far more than the tolerance. Keys' biases cancel in the softmax and are left out.
    """
    params = recipe(contrastive_epochs=3, fusion_epochs=3, classifier_epochs=3, genes=24, learning_rate=1e-3)
    params = params.model_copy(update={"batch_size": 32, "undetermined": "negative"})
    fold, start = Fold("C", ("A1", "B1"), ("C1",)), {}
    raw = formula.formula_sections(), formula.formula_images()
    training, test = fold_features(fold, *raw, params, as_released=True)

    class Ordered(module.Batches):
        epoch = -1

        def permutation(self, n):
            self.epoch += 1
            return formula.formula_order(self.epoch, n)

        def __iter__(self):
            self.random = self
            return super().__iter__()

    def begun(*dims, **options):
        model = SpaCRD(*dims, **options)
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        start.update(formula.formula_state(shapes))
        model.load_state_dict(start)
        return model

    steps = iter(range(100))
    monkeypatch.setattr(module, "SpaCRD", begun)
    monkeypatch.setattr(module, "Batches", Ordered)
    monkeypatch.setattr(torch, "randn_like", lambda like: formula.formula_draws(next(steps), like))
    torch.set_default_dtype(torch.float64)
    try:
        spots = [one.tensors("minmax", image=True, genes=True, anywhere=True) for one in (*training, *test)]
        spots = [dataclasses.replace(s, image=s.image.double(), genes=s.genes.double()) for s in spots]
        model, _ = train(Spots.stack(spots[:2]), params, seed=0, variant="released")
        found = {**model.state_dict(), "scores": torch.as_tensor(predict(model, spots[2]))}
    finally:
        torch.set_default_dtype(torch.float32)
    right = pd.read_csv(Path(__file__).with_name("released_weights.csv"), index_col="tensor")
    assert next(steps) == 12
    for name, row in right.iterrows():
        assert formula.digest(found[name]) == pytest.approx(row.tolist(), abs=1e-4), name
    moved = [(found[name] - start[name]).abs().mean() for name in right.index if name.endswith("2.weight")]
    assert min(moved) > 1e-3


# contenders


@pytest.fixture
def features(cohort, pictures):
    return fold_features(FOLD, cohort, pictures, SHORT)


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_finds_a_planted_effect(features, name):
    params = recipe(classifier_epochs=3, learning_rate=1e-3, batch_size=512)
    training, test = features
    scores, history, model = compete(name, training, test, params, seed=1)
    for section, score in zip([*training, *test], scores, strict=True):
        known = ~np.isnan(section.labels)
        assert roc_auc_score(section.labels[known], score[known]) > (0.6 if "image" in name else 0.8)
    assert (model is None) == history.empty == (name not in NEURAL)
    sees = CONTENDERS[name]
    pair = name in NEURAL and sees.image and sees.genes
    assert ("contrastive" in history) == pair, "a pair has a stage I"


@pytest.mark.parametrize("name", ["marker-smoothed", "linear-both-smoothed", "spacrd"])
def test_labels_of_the_test_sections_do_not_change_a_score(features, name, monkeypatch):
    monkeypatch.setattr(module, "WATCH_EVERY", 1)
    training, test = features
    flipped = [dataclasses.replace(s, labels=1 - s.labels) for s in test]
    one, other = (compete(name, training, tested, SHORT, seed=1)[0] for tested in (test, flipped))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_marker_is_the_mean_over_the_neighbourhood(features):
    training, test = features
    scores = compete("marker-smoothed", training, test, SHORT, seed=1)[0]
    naive = [np.mean([s.marker[j] for j in row]) for s in (*training, *test) for row in s.neighbours]
    np.testing.assert_allclose(np.concatenate(scores), naive, rtol=1e-5)
    blind = [dataclasses.replace(s, marker=None) for s in test]
    with pytest.raises(ValueError, match="section A1, A2 lacks ERBB2"):
        compete("marker-smoothed", training, blind, SHORT, seed=1)


@pytest.mark.parametrize("name", NEURAL)
def test_a_neural_contender_sees_what_its_name_says(features, monkeypatch, name):
    asked, sees = {}, CONTENDERS[name]

    def untrained(spots, params, **options):
        asked.update(options, spots=spots)
        dims = [0 if x is None else x.shape[1] for x in (spots.image, spots.genes)]
        return SpaCRD(*dims, fusion=options["fusion"]), pd.DataFrame()

    monkeypatch.setattr(module, "train", untrained)
    training, test = features
    compete(name, training, test, SHORT, seed=3)
    spots, released = asked["spots"], name.endswith("-released")
    assert (spots.image is not None, spots.genes is not None) == (sees.image, sees.genes)
    assert (asked["fusion"], asked["seed"]) == (sees.fusion, 3)
    assert spots.section.tolist() == ["B1"] * 60 + ["C1"] * 60
    assert asked["held_out"].section.tolist() == ["A1"] * 60 + ["A2"] * 60
    assert asked["variant"] == ("released" if released else "described")
    near = [s.neighbours_anywhere if released else s.neighbours for s in training]
    np.testing.assert_array_equal(spots.neighbours, np.concatenate([near[0], near[1] + 60]))
    assert not np.array_equal(training[0].neighbours, training[0].neighbours_anywhere)
    compete(name, training, test, recipe(variant="released"), seed=3)
    assert asked["variant"] == "released", "the study's variant is every contender's"


# the linear yardstick

BOTH = CONTENDERS["linear-both"]
SMOOTHED = CONTENDERS["linear-both-smoothed"]


def naive(features, labels, weights, new):
    """Principal components by singular values, and logistic regression by a general minimiser."""
    mean, deviation = features.mean(0), features.std(0)
    known = ~np.isnan(labels)
    _, _, axes = np.linalg.svd((features - mean) / deviation, full_matrices=False)
    x = ((features - mean) / deviation @ axes.T)[known]
    y, weight = labels[known], weights[known] / weights[known].mean()
    cancer = weight[y == 1].sum() / weight.sum()
    weight = weight / np.where(y == 1, 2 * cancer, 2 * (1 - cancer))

    def loss(b):
        wrong = np.logaddexp(0, np.where(y == 1, -1, 1) * (b[0] + x @ b[1:]))
        return 0.5 * b[1:] @ b[1:] + 0.01 * weight @ wrong

    options = {"maxiter": 5000, "ftol": 1e-14}
    b = minimize(loss, np.zeros(x.shape[1] + 1), method="L-BFGS-B", options=options).x
    return b[0] + (new - mean) / deviation @ axes.T @ b[1:]


def test_the_linear_yardstick_equals_the_naive_version(features):
    training, (test, _) = features
    small = ("image", "genes", "labels", "spots", "xy", "neighbours", "neighbours_anywhere")
    # sections of unlike size, so that their weights matter
    shorter = {f: getattr(training[0], f)[:25] for f in small}
    training = [dataclasses.replace(training[0], **shorter), *training[1:]]
    pipeline = fit_linear(training, BOTH)
    stacked = np.concatenate([design(s, BOTH) for s in training])
    labels = np.concatenate([s.labels for s in training])
    alike = np.concatenate([np.full(len(s.labels), 1 / len(s.labels)) for s in training])
    new = design(test, BOTH)
    np.testing.assert_array_equal(new, np.hstack([test.image, test.genes]))
    slow = naive(stacked, labels, alike, new)
    np.testing.assert_allclose(pipeline.decision_function(new), slow, atol=2e-3)
    assert np.abs(naive(stacked, labels, np.ones(len(labels)), new) - slow).max() > 0.02
    np.testing.assert_array_equal(design(test, SMOOTHED)[:, :8], smooth(test.image, test.neighbours))


def test_undetermined_spots_shape_the_components_but_not_the_decision(features):
    training = features[0]
    before = fit_linear(training, SMOOTHED)
    unknown = dataclasses.replace(training[1], labels=np.full(60, np.nan, np.float32))
    after = fit_linear([training[0], unknown], SMOOTHED)
    np.testing.assert_array_equal(before["pca"].components_, after["pca"].components_)
    assert not np.allclose(before["logisticregression"].coef_, after["logisticregression"].coef_)
    wide = [dataclasses.replace(s, image=np.tile(s.image, 10) ** 2) for s in training]
    assert fit_linear(wide, BOTH)["pca"].n_components_ == 50


# the plan

COHORT = pd.DataFrame({"section": ["A1", "A2", "B1", "C1"], "patient": list("AABC")})
COHORT["picture"] = ["1.jpg", "2.jpg", "3.jpg", None]
GENES = Setting(encoder="", genes=True)
WITH_PICTURES = Setting(sections=["A1", "A2", "B1"], encoder="colour", genes=True)
MODELS = ["marker-smoothed", "linear-genes", "linear-image", "spacrd-genes", "spacrd"]


def planned(**settings):
    return settings_of(SpaCRDParams(settings=settings, models=MODELS), COHORT)


def test_every_fold_of_every_setting_has_its_contenders():
    plan = planned(genes=GENES, both=WITH_PICTURES)
    assert plan["genes"][1] == ["marker-smoothed", "linear-genes", "spacrd-genes"]
    assert plan["both"][1] == MODELS
    assert plan["genes"][0][0] == Fold("A", ("B1", "C1"), ("A1", "A2"))
    assert [fold.name for fold in plan["genes"][0]] == ["A", "B", "C"]
    assert [fold.name for fold in plan["both"][0]] == ["A", "B"]
    runs = plan_runs(plan, [4, 5], trained=NEURAL, first_seed_only=["spacrd-genes"])
    assert len(runs) == 3 * 3 + 2 * (4 + 2)
    (fold,), _ = planned(x=Setting(sections=["A1", "A2", "B1"], test=["B1"], encoder=""))["x"]
    assert fold == ("transfer", ("A1", "A2"), ("B1",))


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (Setting(test=["A2"], encoder=""), "patient A is in training and in test"),
        (Setting(sections=["A1", "Z9"], encoder=""), "'x': Z9 is no section of the cohort: A1"),
        (Setting(test=["Z9"], encoder=""), "Z9 is no section"),
        (Setting(), r"'x': C1 is no section with a picture .*: A1, A2, B1$"),
        (Setting(sections=["A1", "A2"], test=["A1", "A2"], encoder=""), "leaves none to train on"),
        (Setting(sections=["A1", "A2"], encoder=""), "needs two patients"),
    ],
)
def test_a_plan_that_cannot_be(setting, says):
    with pytest.raises(ValueError, match=says):
        planned(x=setting)


# runs on disk


def one(model, seed=1):
    return Run("both", FOLD, model, seed)


def write_pictures(folder, name, names, features):
    about = {"encoder": "colour", "revision": "1", "um_per_px": 2.0, "crop_um": 150.0}
    about["counts"] = {"n_white": 0, "n_failed": 0}
    path = folder / "features" / f"{name}.colour.h5"
    write_features(path, features, np.zeros((len(names), 2)), names=names, **about)


@pytest.fixture
def folder(tmp_path, cohort, pictures):
    for name, section in cohort.items():
        write_section(section, tmp_path / "sections" / f"{name}.h5ad")
        write_pictures(tmp_path, name, list(section.obs_names), pictures[name])
    return tmp_path


def test_a_run_names_its_files_and_what_it_depends_on(folder):
    params = recipe(settings={"both": Setting(), "genes": Setting(encoder="")})
    data, names = Data(folder, params), ("B1", "C1", "A1", "A2")
    sections = [folder / f"sections/{name}.h5ad" for name in names]
    assert data.files(Run("genes", FOLD, "spacrd-genes", 1)) == sections
    pictures = [folder / f"features/{name}.colour.h5" for name in names]
    assert data.files(one("spacrd")) == [*sections, *pictures]

    def depends(**changed):
        return Data(folder, params.model_copy(update=changed)).depends(one("spacrd"))

    assert depends() == depends(shards=2, seeds=[9], device="gpu")
    changed = {"learning_rate": 0.1, "genes": 7, "variant": "released", "undetermined": "negative"}
    assert all(depends(**{name: value}) != depends() for name, value in changed.items())


def test_a_run_scores_the_test_spots_whoever_ran_before(folder, cohort):
    """Contenders of one fold share features; none leaves a trace in them."""
    data = Data(folder, SHORT)
    for name in ("spacrd-released", "linear-both", "marker-smoothed"):
        assert set(fit(one(name), data).scores["section"]) == {"A1", "A2"}
    result, again = fit(one("spacrd"), data), fit(one("spacrd"), Data(folder, SHORT))
    pd.testing.assert_frame_equal(result.scores, again.scores)
    assert list(result.scores) == ["patient", "section", "spot", "label", "split", "score", "probability"]
    rows = result.scores[result.scores["section"] == "A2"]
    assert rows["spot"].tolist() == cohort["A2"].obs_names.tolist()
    model = SpaCRD(8, 10)
    model.load_state_dict(dict(result.weights))
    spots = data.features(one("spacrd"))[1][1].tensors("minmax", image=True, genes=True)
    np.testing.assert_allclose(rows["score"], predict(model, spots), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", ["other order", "one spot less"])
def test_pictures_of_other_spots_are_refused(folder, cohort, pictures, how):
    kept = slice(None, None, -1) if how == "other order" else slice(0, -1)
    write_pictures(folder, "B1", list(cohort["B1"].obs_names)[kept], pictures["B1"][kept])
    with pytest.raises(ValueError, match=r"B1.* other spots"):
        fit(one("linear-image"), Data(folder, SHORT))


def test_scores_that_are_not_finite_are_refused(folder, monkeypatch):
    monkeypatch.setattr(module, "predict", lambda model, spots: np.full(len(spots), np.nan, np.float32))
    with pytest.raises(ValueError, match="spacrd-genes gave scores that are not finite"):
        fit(one("spacrd-genes"), Data(folder, SHORT))


def test_components_use_no_label_and_lie_in_one_space(features):
    training, test = features
    sees = CONTENDERS["linear-both-smoothed"]
    found = components([*training, *test], sees)
    assert [part.shape for part in found] == [(len(one.labels), 5) for one in (*training, *test)]
    blind = [dataclasses.replace(one, labels=one.labels * np.nan) for one in (*training, *test)]
    np.testing.assert_array_equal(np.concatenate(components(blind, sees)), np.concatenate(found))
    together = np.concatenate(found)
    np.testing.assert_allclose(np.cov(together.T), np.diag(together.var(axis=0, ddof=1)), atol=1e-4)
