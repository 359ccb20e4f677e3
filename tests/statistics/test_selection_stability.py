"""Stability of a selection: by hand, by Kuncheva's older index, and on features that are planted."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from lib.gcmlm.statistics import nogueira, stability
from lib.statistics.classification import NotComputable


def test_index_and_interval_by_hand():
    """Sets {1, 2}, {1}, {1, 2} of three features.

    Frequencies 1, 2/3, 0; mean size 5/3, so chance is 5/9 * 4/9 = 20/81; sample variances 0, 1/3, 0, mean 1/9:
    index 1 - 81/180 = 0.55. The sets' parts are 1.3275, 1.13625, 1.3275; variance 4/9 * 0.024384375 = 0.0108375.
    """
    found = nogueira([[1, 1, 0], [1, 0, 0], [1, 1, 0]])
    assert found.estimate == pytest.approx(0.55)
    assert (found.high - found.estimate) / 1.959963985 == pytest.approx(np.sqrt(0.0108375))
    assert found.estimate - found.low == pytest.approx(found.high - found.estimate)
    narrow = nogueira([[1, 1, 0], [1, 0, 0], [1, 1, 0]], level=0.5)
    assert found.low < narrow.low < narrow.high < found.high


def test_sets_of_one_size_give_kunchevas_index():
    rng = np.random.default_rng([3])
    chosen = np.zeros((8, 20), int)
    for row in chosen:
        row[rng.choice(20, 6, replace=False)] = 1
    pairs = [(np.sum(a * b) - 6 * 6 / 20) / (6 - 6 * 6 / 20) for a, b in combinations(chosen, 2)]
    assert nogueira(chosen).estimate == pytest.approx(np.mean(pairs))


def test_same_sets_are_one_and_lots_are_zero():
    assert nogueira(np.tile([1, 0, 0, 1], (5, 1))).estimate == 1
    lots = np.random.default_rng([4]).random((400, 50)) < 0.2
    found = nogueira(lots)
    assert found.low < 0 < found.high
    assert found.high - found.low < 0.01


def test_order_of_sets_and_features_changes_nothing():
    rng = np.random.default_rng([6])
    chosen = rng.random((10, 12)) < rng.random(12)
    other = chosen[rng.permutation(10)][:, rng.permutation(12)]
    np.testing.assert_allclose(nogueira(chosen)[:3], nogueira(other)[:3])


@pytest.mark.parametrize(("value", "words"), [(0, "no feature is"), (1, "all 3 features are")])
def test_no_choice_has_no_stability(value, words):
    with pytest.raises(NotComputable, match=words):
        nogueira(np.full((4, 3), value))


def planted(patients: int = 150) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng([7])
    names = [f"P{number:03d}" for number in range(patients)]
    table = pd.DataFrame(rng.normal(size=(patients, 10)), names, [f"f{each}" for each in range(10)])
    odds = 1.6 * table["f2"] - 1.4 * table["f7"]
    return table, pd.Series((rng.random(patients) < 1 / (1 + np.exp(-odds))).astype(int), names)


def lasso(table: pd.DataFrame, label: pd.Series) -> pd.Series:
    model = LogisticRegression(solver="liblinear", l1_ratio=1.0, C=0.15, random_state=0).fit(
        table, label.loc[table.index]
    )
    return pd.Series(model.coef_[0], table.columns)


def test_planted_features_are_chosen_again_and_again():
    table, label = planted()
    found = stability(lasso, table, label, resamples=12)
    assert set(found.features["feature"][:2]) == {"f2", "f7"}
    own = found.features.set_index("feature")
    assert (own.loc[["f2", "f7"], "frequency"] == 1).all()
    assert (own.loc[["f2", "f7"], "sign_agreement"] == 1).all()
    assert own.loc["f2", "low"] > 0 > own.loc["f7", "high"]
    assert own.loc["f2", "low"] <= own.loc["f2", "mean"] <= own.loc["f2", "high"]
    assert own.loc["f2", "coefficient"] == pytest.approx(lasso(table, label)["f2"], rel=1e-4)
    assert found.coefficients.shape == (12, 10)
    assert found.agreement.estimate == nogueira(found.coefficients != 0).estimate > 0.2
    assert found.how == "12 draws of 80% of 150 patients, 10 candidates"


def test_equal_seeds_draw_equal_patients_within_each_label():
    table, label = planted()
    seen = []

    def watched(part, own):
        assert part.index.equals(own.index)
        seen.append(own)
        return pd.Series({"f0": 1.0, "f1": 0.0})

    stability(watched, table, label, resamples=3, seed=5)
    stability(watched, table, label, resamples=3, seed=5)
    stability(watched, table, label, resamples=3, seed=6)
    whole, *first = seen[:4]
    assert whole.equals(label)
    assert all(a.equals(b) for a, b in zip(first, seen[5:8], strict=True))
    assert not first[0].equals(first[1])
    assert not first[0].equals(seen[9])
    for one in first:
        assert one.sum() == round(0.8 * label.sum())
        assert len(one) == one.sum() + round(0.8 * (label == 0).sum())
        assert not one.index.duplicated().any()


def test_bootstrap_repeats_patients_and_tables_may_lack_some():
    table, label = planted()
    tables = {"ct": table[["f2", "f7"]], "slide": table[["f0"]][:100]}
    seen = []

    def fit(parts, own):
        assert set(parts["slide"].index) == set(own.index) & set(table.index[:100])
        seen.append(parts["ct"].index.duplicated().any())
        return pd.Series({name: 1.0 for name in ("f2", "f0")})

    stability(fit, tables, label, resamples=3, share="bootstrap")
    assert seen == [False, True, True, True]


def test_signs_that_disagree_and_features_never_chosen():
    table, label = planted()
    turns = iter([1.0, 1.0, 1.0, -1.0, 0.0])
    fit = lambda part, own: pd.Series({"f0": next(turns), "f1": 0.0})  # noqa: E731
    own = stability(fit, table, label, resamples=4).features.set_index("feature")
    assert own.loc["f0", ["mean", "frequency", "sign_agreement"]].tolist() == pytest.approx(
        [0.25, 0.75, 2 / 3]
    )
    assert own.loc["f1", "frequency"] == 0
    assert np.isnan(own.loc["f1", "sign_agreement"])


def test_nothing_selected_is_told():
    table, label = planted()
    found = stability(lambda part, own: pd.Series(0.0, part.columns), table, label, resamples=2)
    assert np.isnan(found.agreement.estimate)
    assert found.agreement.how.startswith("not computable: no feature is selected")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resamples": 1}, "at least 2"),
        ({"share": 1.0}, "share lies above 0"),
        ({"share": "all"}, "share lies above 0"),
        ({"strata": [1, 2]}, "2 strata for 150"),
        (
            {"fit": lambda part, own: pd.Series({"f0": np.nan})},
            "all patients has no finite coefficient of f0",
        ),
        ({"fit": lambda part, own: 1 / 0}, "all patients .150 patients. failed"),
        ({"fit": lambda part, own: pd.Series([1.0, 2.0], ["a", "a"])}, "names a twice"),
    ],
)
def test_refusals(change, said):
    table, label = planted()
    with pytest.raises(ValueError, match=said):
        stability(**{"fit": lasso, "tables": table, "outcome": label, **change})


def test_patient_given_twice_is_refused():
    table, label = planted()
    with pytest.raises(ValueError, match="patient P000 is twice"):
        stability(lasso, pd.concat([table, table[:1]]), label)
