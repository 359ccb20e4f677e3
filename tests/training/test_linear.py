import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize

from lib.spacrd.features import fold_features, smooth
from lib.spacrd.train import design, fit_linear
from lib.training.folds import Fold

BOTH = {"image": True, "genes": True, "smoothed": True}


@pytest.fixture
def fold(cohort, pictures):
    return fold_features(Fold("C", ("A1", "A2", "B1"), ("C1",)), cohort, pictures, genes=10)


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
        return 0.5 * b[1:] @ b[1:] + 0.01 * weight @ np.logaddexp(
            0, np.where(y == 1, -1, 1) * (b[0] + x @ b[1:])
        )

    b = minimize(
        loss, np.zeros(x.shape[1] + 1), method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-14}
    ).x
    return b[0] + (new - mean) / deviation @ axes.T @ b[1:]


def test_design_puts_modalities_side_by_side(fold):
    one = fold[0][0]
    plain = design(one, image=True, genes=True, smoothed=False)
    np.testing.assert_array_equal(plain, np.hstack([one.image, one.genes]))
    assert plain.dtype == np.float64
    np.testing.assert_array_equal(design(one, image=False, genes=True, smoothed=False), one.genes)
    smoothed = design(one, image=True, genes=False, smoothed=True)
    np.testing.assert_array_equal(smoothed, smooth(one.image, one.neighbours))


def test_fit_equals_the_naive_version(fold):
    train, (test,) = fold
    # sections of unlike size, so that their weights matter
    small = {
        field: getattr(train[0], field)[:25]
        for field in ("image", "genes", "labels", "spots", "xy", "neighbours", "neighbours_anywhere")
    }
    train = [dataclasses.replace(train[0], **small), *train[1:]]
    how = {"image": True, "genes": True, "smoothed": False}
    pipeline = fit_linear(train, **how)
    features, labels = (
        np.concatenate([design(s, **how) for s in train]),
        np.concatenate([s.labels for s in train]),
    )
    weights = np.concatenate([np.full(len(s.labels), 1 / len(s.labels)) for s in train])
    new = design(test, **how)
    slow = naive(features, labels, weights, new)
    assert np.std(slow) > 0.2
    np.testing.assert_allclose(pipeline.decision_function(new), slow, atol=2e-3)
    assert np.abs(naive(features, labels, np.ones(len(labels)), new) - slow).max() > 0.02


def test_undetermined_spots_shape_the_components_but_not_the_decision(fold):
    train = fold[0]
    before = fit_linear(train, **BOTH)
    unknown = np.full(60, np.nan, np.float32)
    after = fit_linear([*train[:2], dataclasses.replace(train[2], labels=unknown)], **BOTH)
    np.testing.assert_array_equal(before["pca"].components_, after["pca"].components_)
    assert not np.allclose(before["logisticregression"].coef_, after["logisticregression"].coef_)
    odd = dataclasses.replace(train[2], labels=unknown, image=np.zeros_like(train[2].image))
    assert not np.allclose(fit_linear([*train[:2], odd], **BOTH)["pca"].components_, after["pca"].components_)


def test_flipped_labels_turn_the_scores_round(fold):
    train, (test,) = fold
    new = design(test, **BOTH)
    score = fit_linear(train, **BOTH).decision_function(new)
    flipped = [dataclasses.replace(s, labels=1 - s.labels) for s in train]
    np.testing.assert_allclose(fit_linear(flipped, **BOTH).decision_function(new), -score, atol=1e-3)
    known = ~np.isnan(test.labels)
    assert score[known & (test.labels == 1)].mean() > score[known & (test.labels == 0)].mean() + 0.5


def test_at_most_fifty_components(fold):
    train = fold[0]
    random = np.random.default_rng(0)
    wide = [dataclasses.replace(s, image=random.normal(size=(60, 80)).astype(np.float32)) for s in train]
    assert fit_linear(wide, image=True, genes=False, smoothed=False)["pca"].n_components_ == 50
    assert fit_linear(train, image=True, genes=False, smoothed=False)["pca"].n_components_ == 8
    assert fit_linear(wide[:1], image=True, genes=True, smoothed=False)["pca"].n_components_ == 50
