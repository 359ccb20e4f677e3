from functools import partial
from itertools import product

import numpy as np
import pytest

from lib.statistics import comparison as permutation
from lib.statistics.classification import NotComputable, accuracy, auc
from lib.statistics.comparison import auc_rows, delong_test, paired_permutation, row_by_row


@pytest.fixture
def scored():
    random = np.random.default_rng(0)
    labels = np.tile([1.0, 0], 50)
    ease = random.normal(size=100)
    return labels, labels + ease, 0.4 * labels + ease + 0.7 * random.normal(size=100), np.arange(100)


def test_every_swap_by_hand():
    # a is right on 3 of 3 patients, b on none: of 8 swaps 2 differ by as much
    labels = np.array([1.0, 0, 1])
    found = paired_permutation(
        row_by_row(partial(accuracy, labels)), labels, 1 - labels, ["x", "y", "z"], scale="given"
    )
    assert (found.difference, found.p, found.permutations, found.exact) == (1, 2 / 8, 8, True)
    assert found.how == "paired permutation of 3 patients, all 8 swaps"


def test_all_swaps_equal_the_naive_loop_with_rows_of_a_patient_together():
    random = np.random.default_rng(2)
    labels, patients = np.tile([1.0, 0], 7), np.repeat([3, 1, 2, 0, 5, 4, 6], 2)
    a, b = labels + random.normal(size=14), random.normal(size=14)
    observed, extreme = auc(labels, a) - auc(labels, b), 0
    for swaps in product([False, True], repeat=7):
        swapped = np.array(swaps)[patients]
        difference = auc(labels, np.where(swapped, b, a)) - auc(labels, np.where(swapped, a, b))
        extreme += abs(difference) >= abs(observed) - 1e-12
    found = paired_permutation(partial(auc_rows, labels), a, b, patients, scale="given")
    assert found.p == extreme / 128
    alone = paired_permutation(partial(auc_rows, labels), a, b, range(14), scale="given", permutations=2**14)
    assert alone.p != found.p
    assert found.exact
    # drawn swaps come near it
    drawn = paired_permutation(
        partial(auc_rows, labels), a, b, patients, scale="given", permutations=127, seed=5
    )
    assert drawn.p == pytest.approx(found.p, abs=0.1)
    assert not drawn.exact


def test_agrees_with_delong_and_is_symmetric(scored):
    labels, a, b, patients = scored
    metric = partial(auc_rows, labels)
    found = paired_permutation(metric, a, b, patients, permutations=4000)
    assert found.difference == pytest.approx(auc(labels, a) - auc(labels, b))
    assert found.p == pytest.approx(delong_test(labels, a, b).p, abs=0.02)
    swapped = paired_permutation(metric, b, a, patients, permutations=4000)
    assert (swapped.difference, swapped.p) == pytest.approx((-found.difference, found.p))
    # ranks need no common scale
    assert paired_permutation(metric, np.exp(3 * a), b, patients, permutations=4000) == found


def test_the_smallest_p_and_a_model_against_itself(scored):
    labels, a, _, patients = scored
    metric = partial(auc_rows, labels)
    best = paired_permutation(metric, labels, -labels, patients, permutations=99)
    assert best.p == 1 / 100
    assert paired_permutation(metric, a, a, patients, permutations=99).p == 1


def test_p_is_uniform_where_the_models_are_alike():
    random = np.random.default_rng(2)
    p = []
    for seed in range(200):
        labels, ease = np.tile([1.0, 0], 20), random.normal(size=40)
        a, b = labels + ease + random.normal(size=(2, 40))
        p.append(
            paired_permutation(partial(auc_rows, labels), a, b, range(40), permutations=199, seed=seed).p
        )
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.1)


def test_ranks_within_folds_ignore_the_level_of_a_fold(scored):
    labels, a, b, patients = scored
    fold = np.repeat(["x", "y"], 50)

    def by_fold(scores):
        return np.mean([auc_rows(labels[fold == f], scores[:, fold == f]) for f in ("x", "y")], axis=0)

    options = dict(permutations=500, within=fold)
    found = paired_permutation(by_fold, a, b, patients, **options)
    assert (
        paired_permutation(by_fold, a + 10 * (fold == "x"), b - 10 * (fold == "x"), patients, **options)
        == found
    )


def test_blocks_change_nothing(scored, monkeypatch):
    labels, a, b, patients = scored
    metric = partial(auc_rows, labels)
    found = paired_permutation(metric, a, b, patients, permutations=300)
    monkeypatch.setattr(permutation, "CELLS", 1000)
    assert paired_permutation(metric, a, b, patients, permutations=300) == found


def test_refusals(scored):
    labels, a, b, patients = scored
    metric = partial(auc_rows, labels)
    with pytest.raises(ValueError, match="one length"):
        paired_permutation(metric, a, b[:-1], patients)
    with pytest.raises(ValueError, match="finite"):
        paired_permutation(metric, np.r_[np.nan, a[1:]], b, patients)
    with pytest.raises(ValueError, match="ranks"):
        paired_permutation(metric, a, b, patients, scale="rank")
    with pytest.raises(NotComputable, match="no value in 1 of 1"):
        paired_permutation(lambda scores: np.full(len(scores), np.nan), a, b, patients)
