"""Penalised regressions against scikit-survival, scikit-learn and the conditions that a minimum has."""

import numpy as np
import pytest
from lifelines.utils import concordance_index
from scipy.optimize import check_grad
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sksurv.linear_model import CoxPHSurvivalAnalysis

from lib.training.penalised import FREE, ElasticNet, Outcome, Ridge, baseline, minimum, survival


def drawn(patients=120, wide=40, seed=0):
    """Columns (one clinical, many others), and months in steps so that many are tied."""
    random = np.random.default_rng(seed)
    clinic, others = random.normal(size=(patients, 2)), random.normal(size=(patients, wide))
    risk = clinic[:, 0] + others[:, 0]
    death, end = random.exponential(np.exp(-risk)), random.uniform(0.2, 3, patients)
    time = np.ceil(10 * np.minimum(death, end))
    rows = np.arange(patients)
    inner = [(rows[rows % 4 != part], rows[rows % 4 == part]) for part in range(4)]
    return clinic, others, Outcome(time, (death <= end).astype(float)), inner


@pytest.mark.parametrize("labelled", [False, True])
def test_gradient_is_that_of_the_loss(labelled):
    _, _, outcome, _ = drawn()
    loss = (outcome._replace(time=None) if labelled else outcome).loss()
    score = np.random.default_rng(1).normal(size=120)
    assert check_grad(lambda s: loss(s)[0], lambda s: loss(s)[1], score) < 1e-6


@pytest.mark.parametrize("penalty", [1.0, 0.01])
def test_ridge_is_scikit_survivals(penalty):
    _, others, outcome, inner = drawn()
    ours = Ridge([False], penalties=[penalty]).fit([others], outcome, inner)
    known = np.array([*zip(outcome.event == 1, outcome.time, strict=True)], dtype="?,f8")
    scaled = others / np.sqrt(others.shape[1])
    theirs = CoxPHSurvivalAnalysis(alpha=penalty * len(others), ties="breslow").fit(scaled, known)
    expected = theirs.predict(scaled - scaled.mean(0))
    np.testing.assert_allclose(
        ours.predict([others]) - ours.predict([others]).mean(), expected - expected.mean(), atol=2e-3
    )


def test_of_a_label_it_is_scikit_learns_logistic_regression():
    _, others, outcome, inner = drawn()
    label = outcome._replace(time=None)
    ours = Ridge([False], penalties=[0.01]).fit([others], label, inner)
    scaled = others / np.sqrt(others.shape[1])
    theirs = LogisticRegression(C=1 / (0.01 * len(others)), tol=1e-8, max_iter=1000)
    expected = theirs.fit(scaled - scaled.mean(0), label.event).decision_function(scaled - scaled.mean(0))
    np.testing.assert_allclose(ours.predict([others]), expected, atol=5e-3)


def test_many_columns_weigh_no_more_than_few():
    clinic, others, outcome, inner = drawn()
    once = Ridge([False]).fit([others], outcome, inner)
    twice = Ridge([False]).fit([np.hstack([others, others])], outcome, inner)
    assert once.penalty == twice.penalty
    np.testing.assert_allclose(once.cross_fitted, twice.cross_fitted, atol=1e-3)
    blocks = Ridge([False, False], by_block=True, penalties=[0.1])
    few = blocks.fit([clinic, others], outcome, inner).predict([clinic, others])
    many = blocks.fit([clinic, np.hstack([others] * 3)], outcome, inner).predict(
        [clinic, np.hstack([others] * 3)]
    )
    np.testing.assert_allclose(few, many, atol=1e-3)


def test_free_columns_stay_what_they_are_alone_where_all_else_is_shrunk_away():
    clinic, others, outcome, inner = drawn()
    both = Ridge([True, False], penalties=[1e6]).fit([clinic, others], outcome, inner)
    alone = Ridge([True]).fit([clinic], outcome, inner)
    np.testing.assert_allclose(both.coefficients[:3], alone.coefficients[:3], atol=1e-3)
    assert np.abs(both.coefficients[3:]).max() < 1e-4
    assert alone.coefficients[1] == pytest.approx(1, abs=0.35)  # as planted


def test_an_offset_is_taken_as_it_stands():
    clinic, others, outcome, inner = drawn()
    offset = clinic[:, 0]
    ridge = Ridge([False], penalties=[0.01])
    one = ridge.fit([others], outcome, inner, offset).predict([others], offset)
    shifted = ridge.fit([others], outcome, inner, offset + 5).predict([others], offset)
    np.testing.assert_allclose(one, shifted, atol=1e-3)
    strong = Ridge([False], penalties=[1e6]).fit([others], outcome, inner, offset)
    np.testing.assert_allclose(strong.predict([others], offset), offset, atol=1e-3)


def test_what_is_left_out_of_an_inner_fold_does_not_reach_its_prediction():
    _, others, outcome, inner = drawn()
    fitted = Ridge([False], penalties=[0.1]).fit([others], outcome, inner)
    one, first = inner[0]
    later = outcome.event.copy()
    later[first] = 1 - later[first]
    again = Ridge([False], penalties=[0.1]).fit([others], Outcome(outcome.time, later), inner)
    np.testing.assert_allclose(fitted.cross_fitted[first], again.cross_fitted[first], atol=1e-6)
    assert np.abs(fitted.cross_fitted[one] - again.cross_fitted[one]).max() > 0.01


def test_noise_gets_the_strongest_penalty_and_a_signal_does_not():
    _, others, outcome, inner = drawn()
    assert Ridge([False]).fit([others[:, 1:]], outcome, inner).penalty > 1
    assert Ridge([False]).fit([others[:, :2]], outcome, inner).penalty < 1


@pytest.mark.parametrize("labelled", [False, True])
def test_elastic_net_ends_where_no_column_gains(labelled):
    """The conditions of Karush, Kuhn and Tucker: slope + shrinkage is 0 for columns in, below the penalty for those out."""
    clinic, others, outcome, _ = drawn()
    outcome = outcome._replace(time=None) if labelled else outcome
    net = ElasticNet(penalties=np.logspace(0, -1, 12))
    path = net._path(clinic, others, outcome)
    highest = np.abs(others.T @ outcome.loss()(clinic @ path[0][1:3] + path[0][0])[1]).max() / net.l1_share
    for share, found in zip(net.penalties, path, strict=True):
        penalty, inside = share * highest, found[3:] != 0
        score = found[0] + clinic @ found[1:3] + others @ found[3:]
        slope = outcome.loss()(score)[1]
        pull = others.T @ slope + penalty * (1 - net.l1_share) * found[3:]
        most = penalty * net.l1_share
        np.testing.assert_allclose(pull[inside], -most * np.sign(found[3:][inside]), atol=0.05 * highest)
        assert (np.abs(pull[~inside]) <= most + 0.02 * highest).all()
        np.testing.assert_allclose(clinic.T @ slope + FREE * found[1:3], 0, atol=0.01)
    assert not path[0][3:].any()
    assert path[-1][3:].any()


def test_breslows_hazard_and_the_survival_made_of_it():
    _, _, outcome, _ = drawn()
    score = np.zeros(120)
    months = [0.0, 5.0, 12.0]
    cumulative = baseline(score, outcome, months)
    naive = [
        sum(
            ((outcome.time == t) & (outcome.event == 1)).sum() / (outcome.time >= t).sum()
            for t in np.unique(outcome.time)
            if t <= month
        )
        for month in months
    ]
    np.testing.assert_allclose(cumulative, naive)
    curves = survival(np.array([-1.0, 0.0, 2.0]), cumulative)
    assert (np.diff(curves, axis=1) <= 0).all()
    assert (np.diff(curves[:, 1:], axis=0) < 0).all()


def test_minimum_is_one_from_anywhere():
    clinic, _, outcome, _ = drawn()
    weights = np.full(2, 0.01)
    np.testing.assert_allclose(
        minimum(clinic, weights, outcome),
        minimum(clinic, weights, outcome, start=np.array([5.0, -5.0])),
        atol=1e-3,
    )


def test_concordance_is_lifelines_and_of_labels_the_auc():
    random = np.random.default_rng(3)
    time, event, risk = random.integers(1, 30, 60), random.integers(0, 2, 60), random.integers(0, 9, 60)
    # of equal times lifelines counts a death before a censored patient; ours leaves the pair out
    time = time + random.permutation(60) / 100
    found = Outcome(time, event).concordance(np.stack([risk, -risk]))
    expected = concordance_index(time, -risk, event)
    np.testing.assert_allclose(found, [expected, 1 - expected])
    (auc,) = Outcome(None, event).concordance(risk[None])
    assert auc == pytest.approx(roc_auc_score(event, risk))
    assert Outcome(time, 0 * event).concordance(risk[None]).tolist() == [0.5]
