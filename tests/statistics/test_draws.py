import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.statistics import intervals as draws
from lib.statistics.classification import NotComputable
from lib.statistics.intervals import draw_counts, evaluated, looped, without_each


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), min_size=2, max_size=25), st.integers(0, 2**20)
)
@settings(max_examples=60, deadline=None)
def test_whole_patients_are_drawn_and_strata_keep_their_size(rows, seed):
    # the stratum is part of the name, so no patient lies in two
    patients = np.array([f"P{patient}-{stratum}" for patient, stratum in rows])
    strata = np.array([stratum for _, stratum in rows])
    if np.unique(patients).size < 2:
        return
    counts = draw_counts(patients, 7, seed, strata)
    assert counts.shape == (7, len(rows))
    names, first = np.unique(patients, return_index=True)
    for name in names:
        own = counts[:, patients == name]
        assert (own == own[:, :1]).all()
    for stratum in np.unique(strata):
        members = first[strata[first] == stratum]
        assert (counts[:, members].sum(axis=1) == members.size).all()
    order = np.random.default_rng(seed).permutation(len(rows))
    np.testing.assert_array_equal(draw_counts(patients[order], 7, seed, strata[order]), counts[:, order])


def test_each_patient_is_drawn_like_any_other():
    counts = draw_counts(np.arange(20), 20_000, seed=1)
    # multinomial: mean 1, variance 1 - 1/20
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.04)
    np.testing.assert_allclose(counts.var(axis=0), 0.95, atol=0.06)
    assert np.corrcoef(counts.T)[0, 1:].mean() == pytest.approx(-1 / 19, abs=0.01)


def test_seeds_and_numbers_of_draws():
    strata = np.repeat([0, 1], 10)
    some = draw_counts(np.arange(20), 5, 3, strata)
    np.testing.assert_array_equal(some, draw_counts(np.arange(20), 50, 3, strata)[:5])
    assert (some != draw_counts(np.arange(20), 5, 4, strata)).any()
    random = np.random.default_rng(3)
    np.testing.assert_array_equal(some, draw_counts(np.arange(20), 5, random, strata))
    assert (some != draw_counts(np.arange(20), 5, random, strata)).any()  # a generator moves on


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="patient B has rows in the strata 0, 1"):
        draw_counts(["A", "B", "B"], 3, strata=[0, 0, 1])
    with pytest.raises(ValueError, match="1 of 3 rows lack a patient"):
        draw_counts(np.array(["A", None, "B"], dtype=object), 3)
    with pytest.raises(ValueError, match="one length"):
        draw_counts(["A", "B"], 3, strata=[0])
    with pytest.raises(NotComputable, match="1 patient"):
        draw_counts(["A", "A"], 3)
    with pytest.raises(NotComputable, match="0 patient"):
        draw_counts([], 3)


def test_looped_repeats_rows_and_leaves_a_draw_without_a_value_empty():
    x = np.array([1.0, 2, 4])

    def mean_without_four(rows):
        if (x[rows] == 4).all():
            raise NotComputable("only fours")
        return x[rows].mean()

    values = looped(mean_without_four)(np.array([[1, 1, 1], [2, 0, 1], [0, 0, 3]]))
    np.testing.assert_allclose(values, [7 / 3, 2, np.nan])


def test_blocks_of_draws_change_nothing(monkeypatch):
    counts = draw_counts(np.arange(30), 40)
    seen = []

    def total(block):
        seen.append(len(block))
        return block @ np.arange(30.0)

    whole = evaluated(total, counts)
    monkeypatch.setattr(draws, "CELLS", 100)
    np.testing.assert_array_equal(evaluated(total, counts), whole)
    assert max(seen[1:]) <= 4
    home, members = np.arange(30), [np.arange(10), np.arange(10, 30)]
    left = without_each(total, home, members)
    assert [len(one) for one in left] == [10, 20]
    np.testing.assert_array_equal(np.concatenate(left), 435 - np.arange(30))


def test_a_draws_function_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="one value a draw, 4"):
        evaluated(lambda counts: counts, np.ones((4, 3)))
