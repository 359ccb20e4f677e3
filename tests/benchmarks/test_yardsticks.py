import numpy as np

from benchmarks.fusion_penalty import regressions
from benchmarks.fusion_yardsticks import by_rule, rank_mean
from lib.training.penalised import Outcome, Ridge


def test_the_reading_called_ours_is_the_bench_s_regression_and_ranks_are_those_of_hand():
    rng = np.random.default_rng(0)
    columns, rows = rng.normal(size=(70, 6)), np.arange(50)
    known = Outcome(rng.exponential(np.exp(-columns[:50, 0])), rng.random(50) < 0.7)
    inner = [(rows[rows % 5 != left], rows[rows % 5 == left]) for left in range(5)]
    found = by_rule(regressions(Ridge([False]), [columns], known, np.zeros(70)), known, inner)
    ridge = Ridge([False]).fit([columns[:50]], known, inner)
    np.testing.assert_allclose(found["ours"][0], ridge.cross_fitted, atol=1e-4)
    np.testing.assert_allclose(found["ours"][1], ridge.predict([columns[50:]]), atol=1e-4)
    parts = [[np.array([1, 2, 3, 4]), np.array([2.5, 9])], [np.array([1, 2, 3, 4]), np.array([4.5, 0])]]
    np.testing.assert_allclose(rank_mean(parts, held_out=False), [0.5 + 1, 1 + 0])
    np.testing.assert_allclose(rank_mean(parts, held_out=True, weight=0.5), [1 + 0.5 * 2, 2 + 0.5 * 1])
