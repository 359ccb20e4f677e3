"""The quick elastic net and the ridge against scikit-learn's slow ones."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from lib.gcmlm.signature import elastic_net, ridge, strongest


@pytest.fixture
def data():
    random = np.random.default_rng(3)
    x = random.normal(size=(70, 12))
    x[:, 6:] = x[:, :6] + 0.5 * x[:, 6:]
    y = (random.random(70) < expit(x[:, 0] - x[:, 1] - 0.5)).astype(float)
    return (x - x.mean(0)) / x.std(0), y


@pytest.mark.parametrize("l1_ratio", [0.1, 0.5, 1.0])
def test_elastic_net_is_the_optimum_saga_creeps_to(data, l1_ratio):
    x, y = data
    strengths = np.array([0.2, 0.05, 0.01])
    intercepts, weights, converged = elastic_net(x, y, strengths, l1_ratio)
    assert converged
    for strength, intercept, b in zip(strengths, intercepts, weights, strict=True):
        slow = LogisticRegression(
            C=1 / (strength * len(y)), l1_ratio=l1_ratio, solver="saga", tol=1e-8, max_iter=100_000
        )
        if hasattr(slow, "penalty") and slow.penalty == "l2":  # before scikit-learn 1.8
            slow.set_params(penalty="elasticnet")
        slow.fit(x, y)
        np.testing.assert_allclose(b, slow.coef_[0], atol=1e-5)
        assert intercept == pytest.approx(slow.intercept_[0], abs=1e-5)


def test_the_empty_model_ends_where_strongest_says(data):
    x, y = data
    top = strongest(x, y, 0.5)
    intercepts, weights, _ = elastic_net(x, y, np.array([top * 1.001, top * 0.99]), 0.5)
    assert not weights[0].any()
    assert intercepts[0] == pytest.approx(logit(y.mean()))
    assert weights[1].any()


def test_no_columns_leave_the_prevalence(data):
    _, y = data
    intercepts, weights, converged = elastic_net(np.zeros((70, 0)), y, np.array([0.1, 0.01]), 0.5)
    assert weights.shape == (2, 0)
    assert converged
    np.testing.assert_allclose(intercepts, logit(y.mean()))


@pytest.mark.parametrize("strength", [1.0, 0.01])
def test_ridge_against_lbfgs(data, strength):
    x, y = data
    slow = LogisticRegression(C=1 / (strength * len(y)), tol=1e-10, max_iter=10_000).fit(x, y)
    intercept, b = ridge(x, y, strength)
    np.testing.assert_allclose(b, slow.coef_[0], atol=1e-5)
    assert intercept == pytest.approx(slow.intercept_[0], abs=1e-5)


def test_ridge_of_separated_patients_comes_to_rest():
    x = np.r_[np.full(10, -1.0), np.full(10, 1.0)][:, None]
    _, b = ridge(x, (x[:, 0] > 0).astype(float), 1e-3)
    assert np.isfinite(b).all()
    assert b[0] > 0
