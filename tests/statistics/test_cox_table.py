"""Cox tables: what statsmodels finds too, what lifelines would hide, and every reason for a missing number."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.duration.hazard_regression import PHReg

from lib.gcmlm.statistics import multivariable, printed, univariable


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


def test_statsmodels_finds_the_same_with_efrons_ties(cohort):
    found = multivariable(cohort, "time", "event", ["age", "stage", "sex", "score"], per="unit")
    assert found["level"].tolist() == ["per 1", "I", "II", "III", "1 against 0", "per 1"]
    design = cohort[["age"]].assign(
        two=cohort["stage"] == "II",
        three=cohort["stage"] == "III",
        sex=cohort["sex"],
        score=cohort["score"],
    )
    theirs = PHReg(cohort["time"], design.astype(float), status=cohort["event"], ties="efron").fit()
    ours = found[found["level"] != "I"]
    np.testing.assert_allclose(ours["hazard_ratio"], np.exp(theirs.params), rtol=1e-4)
    np.testing.assert_allclose(ours[["low", "high"]], np.exp(theirs.conf_int()), rtol=1e-3)
    np.testing.assert_allclose(ours["p"], theirs.pvalues, rtol=1e-3)
    alone = univariable(cohort, "time", "event", ["score"], per="unit").loc[0]
    theirs = PHReg(cohort["time"], cohort[["score"]], status=cohort["event"], ties="efron").fit()
    assert alone["hazard_ratio"] == pytest.approx(np.exp(theirs.params[0]), rel=1e-4)
    assert alone["low"] < np.exp(0.7) < alone["high"]


def test_the_step_of_a_number_is_stated_and_changes_nothing_else(cohort):
    by_sd = univariable(cohort, "time", "event", ["age"]).loc[0]
    by_unit = univariable(cohort, "time", "event", ["age"], per="unit").loc[0]
    by_ten = univariable(cohort, "time", "event", ["age"], per={"age": 10}).loc[0]
    sd = cohort["age"].std()
    assert by_sd["level"] == f"per SD ({sd:.4g})"
    assert by_ten["level"] == "per 10"
    assert np.log(by_sd["hazard_ratio"]) == pytest.approx(sd * np.log(by_unit["hazard_ratio"]), rel=1e-5)
    assert np.log(by_ten["hazard_ratio"]) == pytest.approx(10 * np.log(by_unit["hazard_ratio"]), rel=1e-5)
    assert by_sd["p"] == pytest.approx(by_unit["p"], rel=1e-4)
    # a number of 0 and 1 has no use for a standard deviation
    assert univariable(cohort, "time", "event", ["sex"])["level"].tolist() == ["1 against 0"]


def test_levels_are_compared_with_the_most_frequent_one_and_counted(cohort):
    found = univariable(cohort, "time", "event", ["stage"])
    assert found["level"].tolist() == ["I", "II", "III"]
    assert found["n"].tolist() == [int((cohort["stage"] == level).sum()) for level in found["level"]]
    assert found["events"].sum() == cohort["event"].sum()
    assert (found.loc[0, "hazard_ratio"], found.loc[0, "how"]) == (1.0, "compared with")
    assert found.loc[0, ["low", "high", "p"]].isna().all()
    coded = cohort.assign(stage=cohort["stage"].map({"I": 1, "II": 2, "III": 3}))
    again = univariable(coded, "time", "event", ["stage"], categories=["stage"])
    np.testing.assert_allclose(again["hazard_ratio"], found["hazard_ratio"])
    assert len(univariable(coded, "time", "event", ["stage"])) == 1
    true = univariable(cohort.assign(old=cohort["age"] > 65), "time", "event", ["old"])
    assert true["level"].tolist() == ["False", "True"]


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


def test_few_events_are_computed_and_doubted(cohort):
    few = cohort.assign(event=cohort["event"] * (cohort["event"].cumsum() <= 12))
    found = multivariable(few, "time", "event", ["age", "score"])
    assert found["hazard_ratio"].notna().all()
    assert found["how"].str.contains("12 events for 2 coefficients: fewer than 10 for each").all()
    assert "fewer" not in univariable(few, "time", "event", ["age"]).loc[0, "how"]


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


def test_order_of_patients_and_columns_changes_nothing(cohort):
    names = ["age", "stage", "score"]
    found = multivariable(cohort, "time", "event", names)
    other = multivariable(cohort.sample(frac=1, random_state=0), "time", "event", names[::-1])
    one, two = (each.set_index(["column", "level"]).sort_index() for each in (found, other))
    pd.testing.assert_frame_equal(one, two, rtol=1e-4)


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
    assert text.xs("age", level="column").iloc[0]["note"] == "7 of 240 patients lack a value: left out"
    with pytest.raises(ValueError, match="different rows"):
        printed(one, two[1:])
    # another level is the most frequent one: the ratios of one line would be of different comparisons
    other = multivariable(cohort[cohort["stage"] != "I"], "time", "event", ["stage"])
    with pytest.raises(ValueError, match="give both the same patients"):
        printed(univariable(cohort[cohort["stage"] != "III"], "time", "event", ["stage"]), other)


@pytest.mark.parametrize(
    ("change", "asked", "said"),
    [
        ({}, {"columns": ["smoker"]}, "lacks \\['smoker'\\]"),
        ({}, {"columns": []}, "needs columns"),
        ({}, {"columns": ["age", "age"]}, "each once"),
        ({}, {"columns": ["age"], "per": "year"}, 'not "year"'),
        ({}, {"columns": ["age"], "per": {"age": 0}}, "above 0"),
        ({"time": -1.0}, {"columns": ["age"]}, "240 of 240 times are negative"),
        ({"age": np.inf}, {"columns": ["age", "score"]}, "column age holds an infinite number"),
    ],
)
def test_refusals(cohort, change, asked, said):
    table = cohort.assign(**change)
    if "age" in change:
        table.loc[0, "age"] = 50.0
    with pytest.raises(ValueError, match=said):
        univariable(table, "time", "event", **asked)
