"""Folds and seeds become one number in one way."""

import numpy as np
import pytest

from lib.statistics.intervals import mean_over_folds, strata


def share(values: np.ndarray):
    """Mean of `values` in each draw, as a draws function."""
    return lambda counts: (counts @ values) / counts.sum(1)


def test_folds_count_alike_however_large():
    fold = np.array(["a"] * 8 + ["b"] * 2)
    values = np.r_[np.zeros(8), np.ones(2)]
    combined = mean_over_folds(fold, lambda rows: [share(values[rows])])
    assert combined(np.ones((1, 10), dtype=int)) == pytest.approx([0.5])


def test_seeds_are_averaged_within_the_fold():
    fold = np.array([0, 0, 1, 1])
    seeds = np.array([[0.0, 1, 1, 1], [0.2, 0.4, 0, 0]])
    combined = mean_over_folds(fold, lambda rows: [share(one[rows]) for one in seeds])
    assert combined(np.ones((1, 4), dtype=int)) == pytest.approx([((0.5 + 0.3) / 2 + (1 + 0) / 2) / 2])


def test_naive_loop_over_draws_agrees():
    random = np.random.default_rng(0)
    fold, values = random.integers(0, 3, 30), random.normal(size=30)
    counts = random.integers(0, 3, (20, 30))
    combined = mean_over_folds(fold, lambda rows: [share(values[rows])])(counts)
    for draw, got in zip(counts, combined, strict=True):
        rows = np.repeat(np.arange(30), draw)
        assert got == pytest.approx(np.mean([values[rows[fold[rows] == f]].mean() for f in range(3)]))


def test_fold_without_a_value_leaves_the_draw_without_one():
    fold = np.array([0, 0, 1, 1])
    part = {0: lambda counts: np.array([0.5, np.nan]), 2: lambda counts: np.array([0.7, 0.9])}
    values = mean_over_folds(fold, lambda rows: [part[rows[0]]])(np.ones((2, 4), dtype=int))
    assert values[0] == pytest.approx(0.6)
    assert np.isnan(values[1])


def test_strata_tell_folds_and_events_apart():
    names = strata(["a", "a", "b"], [1, 0, 1])
    assert len(set(names)) == 3
    assert strata(["a"], [1])[0] == names[0]
