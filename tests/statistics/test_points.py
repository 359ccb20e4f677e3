"""Points add up to the model's probability."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from lib.gcmlm.figures import Levels, Number, Scales, unscaled

TERMS = [
    Number("age", 0.03, 35, 85, "years"),
    Levels("T stage", {"T2": 0.0, "T3": 0.4, "T4a": 0.9, "T4b": 1.1}),
    Number("CT signature", 0.9, -2.5, 2.4),
    Number("haemoglobin", -0.02, 80, 160, "g/l"),
    Levels("vessel invasion", {"no": 0.0, "yes": 0.8}),
]
INTERCEPT = -2.0


def drawn_patient(rng: np.random.Generator) -> dict:
    return {
        term.name: rng.uniform(term.low, term.high)
        if isinstance(term, Number)
        else str(rng.choice(list(term.log_odds)))
        for term in TERMS
    }


def log_odds(patient: dict) -> float:
    return INTERCEPT + sum(
        term.coefficient * patient[term.name]
        if isinstance(term, Number)
        else term.log_odds[patient[term.name]]
        for term in TERMS
    )


def test_scales_give_the_models_probability_exactly():
    scales = Scales(TERMS, INTERCEPT)
    rng = np.random.default_rng([1])
    for _ in range(20):
        patient = drawn_patient(rng)
        total = scales.total(patient)
        assert 0 <= total <= scales.most
        assert scales.probability(total) == pytest.approx(expit(log_odds(patient)))
        assert scales.total_of(scales.probability(total)) == pytest.approx(total)


def test_widest_effect_spans_the_points_and_all_begin_at_none():
    scales = Scales(TERMS, INTERCEPT)
    assert scales.points("CT signature", 2.4) == pytest.approx(100)
    assert [scales.points("CT signature", -2.5), scales.points("T stage", "T2")] == [0, 0]
    # a protective number runs backwards
    assert scales.points("haemoglobin", 160) == pytest.approx(0)
    assert scales.points("haemoglobin", 80) == pytest.approx(1.6 / (0.9 * 4.9) * 100)


def test_it_is_the_model_of_standardised_columns():
    rng = np.random.default_rng([3])
    table = pd.DataFrame({"age": rng.normal(60, 9, 300), "score": rng.normal(2, 0.5, 300)})
    label = rng.random(300) < expit(0.05 * (table["age"] - 60) + table["score"] - 2)
    means, sds = table.mean(), table.std()
    model = LogisticRegression().fit((table - means) / sds, label)
    own, intercept = unscaled(dict(zip(table, model.coef_[0], strict=True)), means, sds, model.intercept_[0])
    scales = Scales(
        [Number(name, own[name], table[name].min(), table[name].max()) for name in table], intercept
    )
    read = [scales.probability(scales.total(row)) for row in table.to_dict("records")]
    np.testing.assert_allclose(read, model.predict_proba((table - means) / sds)[:, 1])
