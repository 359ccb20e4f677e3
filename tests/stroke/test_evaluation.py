"""Models within each hospital."""

import numpy as np
import pandas as pd
import pytest

from lib.stroke.evaluation import across_hospitals, by_hospital
from lib.stroke.params import Recipe
from lib.stroke.train import Data


def test_a_model_that_knows_the_hospital_alone_is_worth_nothing_within_it():
    names = [f"P{n}" for n in range(12)]
    patients = pd.DataFrame(
        {"hospital": ["A"] * 6 + ["B"] * 5 + ["C"], "label": [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1]}, names
    )
    scores = {"place": (patients["hospital"] == "A").astype(float), "truth": patients["label"].astype(float)}
    both = [patients.assign(patient=names, model=model, score=score) for model, score in scores.items()]
    rows = pd.concat([one.assign(setting="admission", seed=seed) for one in both for seed in (1, 2)])
    found = by_hospital(rows, patients).set_index(["model", "hospital"])
    assert found.loc[("place", "A"), "auc"] == found.loc[("place", "B"), "auc"] == 0.5
    # 4 of 6 bad outcomes are called, 2 of 6 good ones: (4 * 4 + half of 4 * 2 + 2 * 4) / 36
    assert found.loc[("place", "all"), "auc"] == pytest.approx((16 + 4 + 4) / 36)
    assert found.loc[("truth", "B")].tolist() == ["admission", 5, 1, 1.0]
    assert np.isnan(found.loc[("truth", "C"), "auc"])
    assert found.loc[("hospital alone", "all"), "auc"] > 0.7


def test_a_rule_that_turns_round_in_the_other_hospital_fails_there():
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"hospital": ["A"] * 60 + ["B"] * 40, "label": rng.integers(0, 2, 100)})
    table.index = [f"P{number}" for number in table.index]
    turned = np.where(table["hospital"] == "A", 1, -1)
    table["nihss"] = 10 + 8 * turned * (table["label"] - 0.5) + rng.normal(size=100)
    values = {"age": 70.0, "sex": 1.0, "hypertension": 0.0, "smoking": np.nan, "atrial_fibrillation": 0.0}
    table = table.assign(**values, onset_to_ctp_min=np.nan)
    found = across_hospitals(Data(table, "", Recipe()), ["admission"], [1, 2])
    assert found["hospital"].tolist() == ["B, trained in A"]
    assert found["patients"].tolist() == [40]
    assert found["auc"].iloc[0] < 0.05
    table["nihss"] = 20 - table["nihss"].where(table["hospital"] == "B", 20 - table["nihss"])
    assert across_hospitals(Data(table, "", Recipe()), ["admission"], [1])["auc"].iloc[0] > 0.95
