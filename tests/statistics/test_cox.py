"""The clinical baseline: fitted on training patients alone, right where lifelines can be asked directly."""

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from lib.crossfusion.phantom import patients
from lib.statistics.concordance import CoxBaseline


@pytest.fixture(scope="module")
def cohort() -> pd.DataFrame:
    cohort = patients(300, seed=3, slide_effect=0)
    return cohort.assign(
        stage=cohort["stage"].map({"Stage I": 1.0, "Stage II": 2, "Stage III": 3, "Stage IV": 4})
    )


def fitted(table: pd.DataFrame, *columns, **options) -> CoxBaseline:
    return CoxBaseline(*columns, **options).fit(table, table["time"], table["event"])


def test_plain_numbers_give_what_lifelines_gives(cohort):
    ours = fitted(cohort, ["age", "stage"], ridge=0.0)
    theirs = CoxPHFitter().fit(cohort[["age", "stage", "time", "event"]], "time", "event")
    np.testing.assert_allclose(
        ours.risk(cohort), theirs.predict_log_partial_hazard(cohort).to_numpy(), atol=1e-5
    )
    times = [6.0, 24.0, 60.0]
    free = ours.survival(cohort, times)
    np.testing.assert_allclose(
        free, theirs.predict_survival_function(cohort, times=times).to_numpy().T, atol=1e-5
    )
    assert free.shape == (300, 3)
    assert (np.diff(free, axis=1) <= 0).all()


def test_planted_effects_are_found(cohort):
    ratios = fitted(cohort, ["age", "stage"]).hazard_ratios().set_index("column")["hazard_ratio"]
    assert np.log(ratios["age"]) == pytest.approx(0.4, abs=0.15)
    assert np.log(ratios["stage"]) == pytest.approx(0.4, abs=0.15)


def test_higher_risk_dies_earlier(cohort):
    model = fitted(cohort, ["age", "stage"])
    order = np.argsort(model.risk(cohort))
    free = model.survival(cohort, [24.0])[order, 0]
    assert (np.diff(free) <= 1e-12).all()


def test_scale_of_a_column_changes_nothing(cohort):
    other = cohort.assign(age=cohort["age"] * 365.25 + 100)
    np.testing.assert_allclose(
        fitted(cohort, ["age"]).risk(cohort), fitted(other, ["age"]).risk(other), atol=1e-8
    )


def test_held_out_patients_change_nothing_of_the_fit(cohort):
    train, test = cohort[:200], cohort[200:]
    model = fitted(train, ["age", "stage"])
    alone = model.risk(test.iloc[:1])
    assert model.risk(test.assign(age=test["age"].where(np.arange(100) == 0, 500)))[0] == pytest.approx(
        alone[0]
    )


def test_missing_numbers_take_the_training_median(cohort):
    holed = cohort.assign(stage=cohort["stage"].mask(np.arange(300) % 3 == 0))
    model = fitted(holed, ["age", "stage"])
    filled = holed.assign(stage=holed["stage"].fillna(holed["stage"].median()))
    np.testing.assert_allclose(model.risk(holed), model.risk(filled))
    assert model.used == ["age", "stage"]
    # a hole met only when predicting is filled too
    assert np.isfinite(fitted(cohort, ["age", "stage"]).risk(holed)).all()


def test_rare_and_unseen_categories_share_a_column(cohort):
    kinds = np.array(["A"] * 150 + ["B"] * 140 + ["C"] * 6 + ["D"] * 4)
    table = cohort.assign(kind=kinds)
    model = fitted(table, ["age"], ["kind"])
    assert model.used == ["age", "kind_B", "kind_infrequent_sklearn"]
    one = table.iloc[[295]]
    assert model.risk(one)[0] == model.risk(one.assign(kind="never seen"))[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"age": 60.0}, "column age is the same for every training patient"),
        ({"event": 0}, "none of the 300 training patients had an event"),
    ],
)
def test_what_cannot_be_fitted_says_why(cohort, change, said):
    with pytest.raises(ValueError, match=said):
        fitted(cohort.assign(**change), ["age"])


def test_missing_column_is_named(cohort):
    with pytest.raises(ValueError, match=r"lacks \['smoker'\]"):
        fitted(cohort, ["age", "smoker"])
