"""Models within each hospital."""

import numpy as np
import pandas as pd
import pytest

from lib.stroke.evaluation import by_hospital


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
