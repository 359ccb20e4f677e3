"""The Cox baseline: what lifelines gives, on training patients only."""

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from lib.crossfusion.phantom import planted_patients
from lib.training.regressions import CoxBaseline


@pytest.fixture(scope="module")
def clinical() -> pd.DataFrame:
    stages = {"Stage I": 1.0, "Stage II": 2, "Stage III": 3, "Stage IV": 4}
    table = planted_patients(300, seed=3, slide_effect=0)
    return table.assign(stage=table["stage"].map(stages))


def fitted(table: pd.DataFrame, *columns, **options) -> CoxBaseline:
    return CoxBaseline(*columns, **options).fit(table, table["time"], table["event"])


def test_plain_numbers_give_what_lifelines_gives(clinical):
    ours = fitted(clinical, ["age", "stage"], ridge=0.0)
    theirs = CoxPHFitter().fit(clinical[["age", "stage", "time", "event"]], "time", "event")
    risk, times = ours.risk(clinical), [6.0, 24.0, 60.0]
    np.testing.assert_allclose(risk, theirs.predict_log_partial_hazard(clinical).to_numpy(), atol=1e-5)
    free = ours.survival(clinical, times)
    np.testing.assert_allclose(
        free, theirs.predict_survival_function(clinical, times=times).to_numpy().T, atol=1e-5
    )
    assert (np.diff(free[np.argsort(risk), 1]) <= 1e-12).all()  # higher risk dies earlier
    ratios = fitted(clinical, ["age", "stage"]).hazard_ratios().set_index("column")["hazard_ratio"]
    assert np.log(ratios["age"]) == pytest.approx(0.4, abs=0.15)  # as planted
    assert np.log(ratios["stage"]) == pytest.approx(0.4, abs=0.15)


def test_scale_and_held_out_patients_change_nothing_of_the_fit(clinical):
    scaled = clinical.assign(age=clinical["age"] * 365.25 + 100)
    np.testing.assert_allclose(
        fitted(clinical, ["age"]).risk(clinical), fitted(scaled, ["age"]).risk(scaled), atol=1e-8
    )
    train, test = clinical[:200], clinical[200:]
    model = fitted(train, ["age", "stage"])
    others = test.assign(age=test["age"].where(np.arange(100) == 0, 500))
    assert model.risk(others)[0] == pytest.approx(model.risk(test.iloc[:1])[0])


def test_missing_numbers_take_the_training_median(clinical):
    holed = clinical.assign(stage=clinical["stage"].mask(np.arange(300) % 3 == 0))
    model = fitted(holed, ["age", "stage"])
    filled = holed.assign(stage=holed["stage"].fillna(holed["stage"].median()))
    np.testing.assert_allclose(model.risk(holed), model.risk(filled))
    assert model.used == ["age", "stage"]
    # a hole met only when predicting is filled too
    assert np.isfinite(fitted(clinical, ["age", "stage"]).risk(holed)).all()


def test_rare_and_unseen_categories_share_a_column(clinical):
    table = clinical.assign(kind=["A"] * 150 + ["B"] * 140 + ["C"] * 6 + ["D"] * 4)
    model = fitted(table, ["age"], ["kind"])
    assert model.used == ["age", "kind_B", "kind_infrequent_sklearn"]
    one = table.iloc[[295]]
    assert model.risk(one)[0] == model.risk(one.assign(kind="never seen"))[0]


@pytest.mark.parametrize(
    ("change", "columns", "said"),
    [
        ({"age": 60.0}, ["age"], "column age is the same for every training patient"),
        ({"event": 0}, ["age"], "none of the 300 training patients had an event"),
    ],
)
def test_what_cannot_be_fitted_says_why(clinical, change, columns, said):
    with pytest.raises(ValueError, match=said):
        fitted(clinical.assign(**change), columns)
