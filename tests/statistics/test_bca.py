import numpy as np
import pytest
from scipy import stats

from lib.statistics.classification import NotComputable
from lib.statistics.intervals import acceleration, bca_ends


def jackknife(x, function):
    return np.array([function(np.delete(x, i)) for i in range(x.size)])


@pytest.mark.parametrize("function", [np.mean, np.std, stats.skew])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_ends_are_scipys_on_scipys_own_draws(function, level):
    x = np.random.default_rng(0).exponential(size=40)
    found = stats.bootstrap((x,), function, method="BCa", confidence_level=level, n_resamples=999, rng=1)
    ends = bca_ends(found.bootstrap_distribution, function(x), [jackknife(x, function)], level)
    assert ends == pytest.approx(tuple(found.confidence_interval), abs=1e-12)


def test_strata_are_scipys_independent_samples():
    random = np.random.default_rng(2)
    x, y = random.exponential(size=30), random.exponential(size=18) ** 2

    def ratio(x, y, axis=-1):
        return x.mean(axis=axis) / y.mean(axis=axis)

    found = stats.bootstrap((x, y), ratio, method="BCa", n_resamples=999, rng=3)
    left = [jackknife(x, lambda part: ratio(part, y)), jackknife(y, lambda part: ratio(x, part))]
    ends = bca_ends(found.bootstrap_distribution, ratio(x, y), left)
    assert ends == pytest.approx(tuple(found.confidence_interval), abs=1e-12)


def test_acceleration_of_a_mean_is_a_sixth_of_its_skewness():
    x = np.random.default_rng(4).exponential(size=50)
    assert acceleration([jackknife(x, np.mean)]) == pytest.approx(stats.skew(x) / 6 / np.sqrt(50))
    assert acceleration([jackknife(-x, np.mean)]) == pytest.approx(-stats.skew(x) / 6 / np.sqrt(50))
    assert acceleration([np.full(5, 0.7)]) == 0
    # a stratum of one patient adds nothing
    assert acceleration([jackknife(x, np.mean), np.array([3.0])]) == acceleration([jackknife(x, np.mean)])


def test_without_bias_or_skewness_the_ends_are_the_quantiles():
    drawn = np.linspace(-1, 1, 2001)
    ends = bca_ends(drawn, 0.0, [np.array([-1.0, 0, 1])])
    assert ends == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_no_correction_is_told():
    with pytest.raises(NotComputable, match="lies above the estimate"):
        bca_ends(np.array([1.0, 2]), 0.0, [np.array([0.0, 1])])
    with pytest.raises(NotComputable, match="lies below the estimate"):
        bca_ends(np.array([1.0, 2]), 3.0, [np.array([0.0, 1])])
    with pytest.raises(NotComputable, match="acceleration"):
        bca_ends(np.r_[np.zeros(999), 1.0], 0.5, [np.r_[-1.0, np.zeros(99)]], level=0.9999)
