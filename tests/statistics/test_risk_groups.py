"""Groups of high and low risk: by hand, under changes of scale, and the log-rank values of stored predictions."""

import numpy as np
import pytest

from lib.crossfusion.cohort import stored_predictions
from lib.statistics.classification import NotComputable
from lib.statistics.survival import fold_median, pooled_median, split_at, training_cut, training_median

RISK = np.array([1.0, 2, 3, 4, 10, 20, 30, 40])
FOLD = np.repeat(["0", "1"], 4)


def high(groups):
    assert set(groups) <= {"high", "low"}
    return (groups == "high").tolist()


def test_groups_by_hand():
    assert high(pooled_median(RISK)) == [False] * 4 + [True] * 4
    assert high(fold_median(RISK, FOLD)) == [False, False, True, True] * 2
    assert training_cut([5, 1, 3]) == 3.0
    assert high(training_median(RISK, FOLD, {"0": 2, "1": 40})) == [False, True, True, True] + [False] * 3 + [
        True
    ]


def test_the_cut_itself_is_high():
    assert high(split_at([1, 2, 3], 2)) == [False, True, True]
    assert high(pooled_median([1, 2, 3])) == [False, True, True]


def test_scale_of_a_fold_matters_to_the_pooled_median_only():
    risk = np.random.default_rng(0).normal(size=8)
    shifted = np.where(FOLD == "1", 5 + 3 * risk, risk)
    assert high(fold_median(shifted, FOLD)) == high(fold_median(risk, FOLD))
    assert high(pooled_median(shifted)) != high(pooled_median(risk))
    order = np.random.default_rng(1).permutation(8)
    assert (
        high(fold_median(risk[order], FOLD[order])) == np.array(high(fold_median(risk, FOLD)))[order].tolist()
    )


def test_one_group_is_no_comparison():
    with pytest.raises(NotComputable, match="all 3 patients are of high risk"):
        pooled_median([1, 1, 2])
    with pytest.raises(NotComputable, match="all 2 patients are of low risk"):
        split_at([1, 2], 3)
    with pytest.raises(NotComputable, match="there is no patient"):
        pooled_median([])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pooled_median([1, np.nan]), "risk: 1 of 2 are NaN or infinite"),
        (lambda: pooled_median([[1, 2]]), "one number a patient"),
        (lambda: fold_median([1, 2], ["0"]), "2 risks need as many folds"),
        (lambda: split_at([1, 2], [1, 2, 3]), "one finite cut"),
        (lambda: split_at([1, 2], np.nan), "one finite cut"),
        (lambda: training_median(RISK, FOLD, {"0": 1}), "fold 1 has no cut, only 0 have"),
        (lambda: training_cut([np.inf]), "risk of training patients: 1 of 1"),
    ],
)
def test_unusable_risks_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# log-rank p at the pooled and at the per-fold median, printed in the study's notes (nan: not printed)
STORED = {
    ("AMIL", "blca"): (7.30e-1, 5.56e-1),
    ("AMIL", "brca"): (3.01e-2, 1.10e-1),
    ("AMIL", "gbmlgg"): (1.23e-18, 5.46e-21),
    ("AMIL", "luad"): (8.48e-1, 6.62e-2),
    ("AMIL", "ucec"): (6.67e-3, 6.23e-4),
    ("MCAT", "blca"): (8.42e-4, None),
    ("MCAT", "brca"): (6.05e-2, None),
    ("MCAT", "gbmlgg"): (8.98e-31, None),
    ("MCAT", "luad"): (1.44e-2, None),
    ("MCAT", "ucec"): (1.30e-3, None),
}


def test_log_rank_of_stored_predictions(mirror):
    logrank = pytest.importorskip("lib.statistics.survival").logrank
    found = stored_predictions(mirror / "mcat").groupby(["model", "cancer"])
    for key, (pooled, per_fold) in STORED.items():
        rows = found.get_group(key)
        groups = pooled_median(rows["risk"])
        assert logrank(rows["time"], rows["event"], groups).p == pytest.approx(pooled, rel=5e-3), key
        if per_fold:
            groups = fold_median(rows["risk"], rows["fold"])
            assert logrank(rows["time"], rows["event"], groups).p == pytest.approx(per_fold, rel=5e-3), key
