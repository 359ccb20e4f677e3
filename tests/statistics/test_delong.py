import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from lib.statistics.classification import NotComputable, auc
from lib.statistics.comparison import auc_covariance, auc_rows, delong_interval, delong_test


def naive_covariance(labels, models):
    """DeLong by counting pairs: psi = 1, 1/2, 0 where a positive case scores above, level, below another."""
    positive, other = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    psi = np.array([[[np.sign(s[i] - s[j]) / 2 + 0.5 for j in other] for i in positive] for s in models])
    v10, v01 = psi.mean(axis=2), psi.mean(axis=1)
    areas = psi.mean(axis=(1, 2))
    s10 = (v10 - areas[:, None]) @ (v10 - areas[:, None]).T / (positive.size - 1)
    s01 = (v01 - areas[:, None]) @ (v01 - areas[:, None]).T / (other.size - 1)
    return areas, s10 / positive.size + s01 / other.size


cases = st.lists(
    st.tuples(st.booleans(), st.integers(-3, 3), st.integers(-3, 3)), min_size=4, max_size=30
).filter(lambda rows: 2 <= sum(label for label, *_ in rows) <= len(rows) - 2)


@given(cases)
@settings(max_examples=80, deadline=None)
def test_midranks_equal_counted_pairs_with_ties(rows):
    labels, a, b = np.array(rows, dtype=float).T
    areas, covariance = auc_covariance(labels, np.stack([a, b]))
    expected = naive_covariance(labels, [a, b])
    np.testing.assert_allclose(areas, expected[0], atol=1e-12)
    np.testing.assert_allclose(covariance, expected[1], atol=1e-12)
    np.testing.assert_allclose(areas, [auc(labels, a), auc(labels, b)], atol=1e-12)
    np.testing.assert_allclose(auc_rows(labels, [a, b]), areas, atol=1e-12)


def test_worked_example():
    # positive 4 2, other 3 1: psi = [[1, 1], [0, 1]]; v10 = 1, .5 and v01 = .5, 1: each has variance .125
    areas, covariance = auc_covariance([1, 1, 0, 0], [[4, 2, 3, 1]])
    assert areas[0] == 0.75
    assert covariance[0, 0] == pytest.approx(0.125 / 2 + 0.125 / 2)


@pytest.fixture
def scored():
    random = np.random.default_rng(0)
    labels = (random.random(200) < 0.3).astype(float)
    ease = random.normal(size=200)
    return labels, 1.2 * labels + ease, 0.6 * labels + ease + 0.5 * random.normal(size=200)


def test_test_is_the_naive_z(scored):
    labels, a, b = scored
    areas, covariance = naive_covariance(labels, [a, b])
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    found = delong_test(labels, a, b)
    z = (areas[0] - areas[1]) / error
    assert (found.difference, found.standard_error) == pytest.approx((areas[0] - areas[1], error))
    assert (found.z, found.p) == pytest.approx((z, 2 * norm.cdf(-abs(z))))
    assert (found.low, found.high) == pytest.approx(
        (found.difference - 1.959964 * error, found.difference + 1.959964 * error)
    )


def test_folds_are_the_mean_of_independent_differences(scored):
    labels, a, b = scored
    folds = np.arange(labels.size) % 3
    each = [delong_test(labels[folds == fold], a[folds == fold], b[folds == fold]) for fold in range(3)]
    found = delong_test(labels, a, b, folds=folds)
    assert found.difference == pytest.approx(np.mean([one.difference for one in each]))
    assert found.standard_error == pytest.approx(np.sqrt(sum(one.standard_error**2 for one in each)) / 3)
    # a scale of its own in each fold changes nothing, as it does to all folds together
    shifted = delong_test(labels, a + 100 * folds, b, folds=folds)
    assert shifted.p == pytest.approx(found.p)
    assert delong_test(labels, a + 100 * folds, b).p != pytest.approx(delong_test(labels, a, b).p)


def test_metamorphic(scored):
    labels, a, b = scored
    found = delong_test(labels, a, b)
    assert delong_test(labels, np.exp(a), 5 * b - 2) == found  # order alone counts
    swapped = delong_test(labels, b, a)
    assert (swapped.difference, swapped.p) == pytest.approx((-found.difference, found.p))
    order = np.random.default_rng(1).permutation(labels.size)
    assert delong_test(labels[order], a[order], b[order]).p == pytest.approx(found.p)
    flipped = delong_test(1 - labels, -a, -b)
    assert (flipped.difference, flipped.p) == pytest.approx((found.difference, found.p))


def test_interval_on_both_scales(scored):
    labels, a, _ = scored
    plain, logit = delong_interval(labels, a, scale="plain"), delong_interval(labels, a)
    error = np.sqrt(naive_covariance(labels, [a])[1][0, 0])
    assert (plain.low, plain.high) == pytest.approx(
        (plain.estimate - 1.959964 * error, plain.estimate + 1.959964 * error)
    )
    assert plain.estimate == logit.estimate == pytest.approx(auc(labels, a))
    assert (logit.low, logit.high) == pytest.approx((plain.low, plain.high), abs=0.01)
    assert (plain.n, plain.events) == (200, labels.sum())
    mirrored = delong_interval(labels, -a)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((logit.low, logit.high))
    near_one = delong_interval([0, 0, 0, 1, 1, 1], [1, 2, 4, 3, 5, 6])
    assert 0 < near_one.low < near_one.estimate < near_one.high < 1
    assert delong_interval([0, 0, 0, 1, 1, 1], [1, 2, 4, 3, 5, 6], scale="plain").high == 1


def test_p_is_uniform_where_the_models_are_alike():
    random = np.random.default_rng(3)
    p = []
    for _ in range(400):
        labels, ease = (random.random(80) < 0.4).astype(float), random.normal(size=80)
        p.append(delong_test(labels, *(labels + ease + random.normal(size=(2, 80)))).p)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(np.array(p) < 0.5) == pytest.approx(0.5, abs=0.07)


def test_not_computable_says_why(scored):
    labels, a, _ = scored
    with pytest.raises(NotComputable, match="order the cases alike"):
        delong_test(labels, a, 2 * a)
    with pytest.raises(NotComputable, match="variance 0"):
        delong_interval([0, 0, 1, 1], [1, 2, 3, 4])
    with pytest.raises(NotComputable, match="1 positive and 3 other"):
        delong_interval([0, 0, 0, 1], [1, 2, 3, 4])
    with pytest.raises(NotComputable, match="1 of 4 scores"):
        auc_rows([0, 0, 1, 1], [1, np.nan, 3, 4])
    with pytest.raises(NotComputable):
        auc_rows([1, 1], [[0.1, 0.2]])
    with pytest.raises(ValueError, match="one length"):
        auc_rows([1, 0], [[0.1, 0.2, 0.3]])
    with pytest.raises(ValueError, match="logit"):
        delong_interval(labels, a, scale="log")
