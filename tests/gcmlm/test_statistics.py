"""Cox tables: what statsmodels finds too, and every reason for a missing number. Stability of a selection, by hand."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from sklearn.linear_model import LogisticRegression
from statsmodels.duration.hazard_regression import PHReg

from lib.gcmlm.statistics import (
    MOST,
    by_time,
    multivariable,
    nogueira,
    printed,
    proportional_hazards,
    stability,
    univariable,
)


def drawn(patients: int = 240, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng([seed])
    table = pd.DataFrame(
        {
            "age": rng.normal(60, 10, patients),
            "stage": rng.choice(["I", "II", "III"], patients, p=[0.5, 0.3, 0.2]),
            "sex": rng.integers(0, 2, patients),
            "score": rng.normal(size=patients),
        }
    )
    died = rng.exponential(30 / np.exp(0.7 * table["score"] + 0.04 * (table["age"] - 60)))
    left = rng.uniform(5, 60, patients)
    # whole months, so that there are ties
    return table.assign(time=np.ceil(np.minimum(died, left)), event=(died <= left).astype(int))


@pytest.fixture(scope="module")
def cohort() -> pd.DataFrame:
    return drawn()


def rows(table: pd.DataFrame, column: str) -> pd.DataFrame:
    return table[table["column"] == column].set_index("level")


def test_statsmodels_finds_the_same_with_efrons_ties_per_standard_deviation(cohort):
    found = multivariable(cohort, "time", "event", ["age", "stage", "sex", "score"])
    sd = cohort[["age", "score"]].std()
    assert found["level"].tolist() == [
        f"per SD ({sd['age']:.4g})", "I", "II", "III", "1 against 0", f"per SD ({sd['score']:.4g})"
    ]  # fmt: skip
    design = pd.DataFrame(
        {
            "age": cohort["age"] / sd["age"],
            "two": cohort["stage"] == "II",
            "three": cohort["stage"] == "III",
            "sex": cohort["sex"],
            "score": cohort["score"] / sd["score"],
        }
    )
    theirs = PHReg(cohort["time"], design.astype(float), status=cohort["event"], ties="efron").fit()
    ours = found[found["level"] != "I"]
    np.testing.assert_allclose(ours["hazard_ratio"], np.exp(theirs.params), rtol=1e-4)
    np.testing.assert_allclose(ours[["low", "high"]], np.exp(theirs.conf_int()), rtol=1e-3)
    np.testing.assert_allclose(ours["p"], theirs.pvalues, rtol=1e-3)
    alone = univariable(cohort, "time", "event", ["score"]).loc[0]
    assert alone["low"] < np.exp(0.7 * sd["score"]) < alone["high"]


def test_levels_are_compared_with_the_most_frequent_one_and_counted(cohort):
    found = univariable(cohort, "time", "event", ["stage"])
    assert found["level"].tolist() == ["I", "II", "III"]
    assert found["n"].tolist() == [int((cohort["stage"] == level).sum()) for level in found["level"]]
    assert found["events"].sum() == cohort["event"].sum()
    assert (found.loc[0, "hazard_ratio"], found.loc[0, "how"]) == (1.0, "compared with")
    assert found.loc[0, ["low", "high", "p"]].isna().all()


def test_patients_without_a_value_are_left_out_and_counted(cohort):
    holed = cohort.assign(age=cohort["age"].mask(np.arange(240) < 7), stage=cohort["stage"].astype(object))
    holed.loc[239, "stage"] = None
    alone = univariable(holed, "time", "event", ["age", "score"])
    assert alone["n"].tolist() == [233, 240]
    assert alone["how"].tolist() == ["7 of 240 patients lack a value: left out", ""]
    both = multivariable(holed, "time", "event", ["age", "stage"])
    assert both.loc[0, "n"] == 232
    assert "8 of 240 patients lack a value" in both.loc[0, "how"]
    whole = multivariable(holed.dropna(), "time", "event", ["age", "stage"])
    pd.testing.assert_series_equal(both["hazard_ratio"], whole["hazard_ratio"])


def test_separation_gives_no_number_and_its_reason(cohort):
    spared = cohort.index[cohort["event"] == 0][:15]
    parted = cohort.assign(kind=np.where(cohort.index.isin(spared), "B", "A"), time_again=-cohort["time"])
    alone = univariable(parted, "time", "event", ["kind", "time_again", "age"])
    level = rows(alone, "kind").loc["B"]
    assert np.isnan(level["hazard_ratio"])
    assert level["how"] == "not computable: none of the 15 patients of this level has an event"
    ordered = rows(alone, "time_again").iloc[0]
    assert np.isnan(ordered["hazard_ratio"])
    assert ordered["how"].startswith("not computable: ")
    assert np.isfinite(rows(alone, "age").iloc[0]["hazard_ratio"])
    both = multivariable(parted, "time", "event", ["age", "kind"])
    assert np.isnan(rows(both, "kind").loc["B", "hazard_ratio"])
    # the other column's estimate stands, and says beside what
    assert rows(both, "age").iloc[0]["hazard_ratio"] > 1
    assert "separates the events" in rows(both, "age").iloc[0]["how"]


def test_separation_of_a_number_alone_is_seen():
    """Only the highest values have events: no tie to a level without events, no failure of lifelines either."""
    rng = np.random.default_rng([5])
    value = np.sort(rng.normal(size=60))
    table = pd.DataFrame({"value": value, "time": 10.0, "event": 0})
    table.loc[57:, ["time", "event"]] = [[1, 1], [2, 1], [3, 1]]
    table.loc[57:, "value"] = [9.0, 8.0, 7.0]
    found = univariable(table, "time", "event", ["value"]).loc[0]
    assert np.isnan(found["hazard_ratio"])
    assert found["how"].startswith("not computable")


def test_no_event_constants_and_dependent_columns_say_so(cohort):
    none = univariable(cohort.assign(event=0), "time", "event", ["age"]).loc[0]
    assert none["how"] == "not computable: none of the 240 patients has an event"
    same = multivariable(cohort.assign(site="A"), "time", "event", ["site", "age"])
    assert "the same (A) for all 240" in same.loc[0, "how"]
    assert np.isfinite(same.loc[1, "hazard_ratio"])
    twice = multivariable(cohort.assign(years=cohort["age"] * 2 + 3), "time", "event", ["age", "years"])
    assert twice["hazard_ratio"].isna().all()
    assert twice["how"].str.contains("linearly dependent").all()


def test_proportional_hazards_are_checked():
    """An effect that turns round with time is noticed; one that stays is not."""
    rng = np.random.default_rng([2])
    group = rng.integers(0, 2, 600)
    steady = rng.exponential(20 / np.exp(0.8 * group))
    turning = 10 * rng.weibull(np.where(group == 1, 0.6, 2.5))
    for time, least, most in ((steady, 0.05, 1), (turning, 0, 1e-6)):
        found = multivariable(pd.DataFrame({"x": group, "t": time, "e": 1}), "t", "e", ["x"])
        assert least <= found.loc[0, "ph_p"] <= most


def test_a_held_out_score_has_its_error_widened_and_the_other_columns_do_not(cohort):
    given, held_out = (
        multivariable(cohort, "time", "event", ["age", "stage"], trained).set_index("column")
        for trained in ([], ["age"])
    )
    widths = np.log(held_out["high"] / held_out["low"]) / np.log(given["high"] / given["low"])
    assert widths["age"] == pytest.approx(np.sqrt(1 + MOST))
    assert widths.drop("age").dropna().to_numpy() == pytest.approx(1)
    assert held_out.loc["age", "p"] > given.loc["age", "p"]
    assert held_out["hazard_ratio"].equals(given["hazard_ratio"])


def test_both_are_printed_side_by_side(cohort):
    holed = cohort.assign(age=cohort["age"].mask(cohort.index < 7), site="A")
    names = ["age", "stage", "score", "site"]
    one, two = univariable(holed, "time", "event", names), multivariable(holed, "time", "event", names)
    text = printed(one, two).set_index(["column", "level"])
    score = text.xs("score", level="column").iloc[0]
    assert score["p"] == "< 0.001"
    found = two[two["column"] == "score"].iloc[0]
    assert score["multivariable"] == "{hazard_ratio:.2f} ({low:.2f} to {high:.2f})".format(**found)
    assert score["p (proportional hazards)"] == f"{found['ph_p']:.3f}"
    assert text.loc[("stage", "I"), ["univariable", "p"]].tolist() == ["1 (reference)", ""]
    assert text.loc[("site", ""), "univariable"] == "not computable"
    assert printed(one, two[1:]).loc[0, "multivariable"] == "not computable"
    # another level is the most frequent one among the complete cases: both are compared with that of the table
    few = cohort.assign(age=cohort["age"].mask((cohort["stage"] == "I") & (cohort.index > 40)))
    both = [fit(few, "time", "event", ["age", "stage"]) for fit in (univariable, multivariable)]
    assert (printed(*both).loc[1, ["univariable", "multivariable"]] == "1 (reference)").all()


# stability of a selection


def test_index_and_interval_by_hand():
    """Sets {1, 2}, {1}, {1, 2} of three features.

    Frequencies 1, 2/3, 0; mean size 5/3, so chance is 5/9 * 4/9 = 20/81; sample variances 0, 1/3, 0, mean 1/9:
    index 1 - 81/180 = 0.55. The sets' parts are 1.3275, 1.13625, 1.3275; variance 4/9 * 0.024384375 = 0.0108375.
    """
    estimate, low, high = nogueira([[1, 1, 0], [1, 0, 0], [1, 1, 0]])
    assert estimate == pytest.approx(0.55)
    assert (high - estimate) / 1.959963985 == pytest.approx(np.sqrt(0.0108375))
    assert estimate - low == pytest.approx(high - estimate)


def test_sets_of_one_size_give_kunchevas_index():
    rng = np.random.default_rng([3])
    chosen = np.zeros((8, 20), int)
    for row in chosen:
        row[rng.choice(20, 6, replace=False)] = 1
    pairs = [(np.sum(a * b) - 6 * 6 / 20) / (6 - 6 * 6 / 20) for a, b in combinations(chosen, 2)]
    assert nogueira(chosen)[0] == pytest.approx(np.mean(pairs))


def test_same_sets_are_one_and_lots_are_zero():
    assert nogueira(np.tile([1, 0, 0, 1], (5, 1)))[0] == 1
    lots = np.random.default_rng([4]).random((400, 50)) < 0.2
    _, low, high = nogueira(lots)
    assert low < 0 < high < low + 0.01


@pytest.mark.parametrize("value", [0, 1])
def test_no_choice_has_no_stability(value):
    assert np.isnan(nogueira(np.full((4, 3), value))).all()


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
    found, agreement = stability(lasso, table, label, resamples=12)
    assert set(found["feature"][:2]) == {"f2", "f7"}
    own = found.set_index("feature")
    assert (own.loc[["f2", "f7"], "frequency"] == 1).all()
    assert (own.loc[["f2", "f7"], "sign_agreement"] == 1).all()
    assert own.loc["f2", "low"] > 0 > own.loc["f7", "high"]
    assert own.loc["f2", "low"] <= own.loc["f2", "mean"] <= own.loc["f2", "high"]
    assert own.loc["f2", "coefficient"] == pytest.approx(lasso(table, label)["f2"], rel=1e-4)
    assert agreement[0] > 0.2


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


def test_proportional_hazards_are_tested_as_by_r():
    """cox.zph of survival 3.5-3 on a case with whole months; the effect of the first column fades."""
    g = np.random.default_rng(4)
    a, b = g.normal(size=120), g.normal(size=120)
    early = g.exponential(20 * np.exp(-1.2 * a))
    died = np.ceil(np.where(early < 12, early, 12 + g.exponential(25 * np.exp(0.4 * a - 0.4 * b))))
    left = np.ceil(g.uniform(6, 70, 120))
    table = pd.DataFrame({"time": np.minimum(died, left), "event": died <= left, "a": a, "b": b}).round(6)
    fit = CoxPHFitter().fit(table, "time", "event")
    one, together = proportional_hazards(table[["a", "b"]], table["time"], table["event"], fit.params_)
    np.testing.assert_allclose(one, [0.0005566537, 0.7414358], atol=1e-4)
    assert together == pytest.approx(0.002584868, abs=1e-5)
    scaled = proportional_hazards(
        table[["a"]] * 7 + 3, table["time"] * 30, table["event"], fit.params_[:1] / 7
    )
    alone = proportional_hazards(table[["a"]], table["time"], table["event"], fit.params_[:1])
    assert scaled[0] == pytest.approx(alone[0])


def test_the_model_that_meets_another_hospital_is_taken_as_given():
    """It shares no training with another model, so nothing widens its interval."""
    table = drawn(120).rename(columns={"time": "time_months"}).rename_axis("patient")
    table = table.assign(set="internal", fold=[str(row % 3) for row in table.index])
    table.loc[80:, ["set", "fold"]] = "external", None
    scores = table.reset_index()[["patient", "fold", "set", "score"]].assign(seed=1, hazard=np.nan, label=0)
    for where, widened in (("internal", True), ("external", False)):
        rows = scores[scores["set"] == where].fillna({"fold": "external"}).drop(columns="set")
        found = by_time("m", rows, table, "c", where, [24.0], 50).set_index("metric")
        assert ("shared training patients" in found.loc["c_index", "how"]) == widened
