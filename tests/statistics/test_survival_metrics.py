"""Rows of metrics.csv of survival models: right against loops over folds, honest where there is no value."""

import numpy as np
import pandas as pd
import pytest

from lib.statistics import concordance, metrics_table
from lib.statistics import concordance as horizon
from lib.statistics.metrics_table import COLUMNS
from lib.statistics.survival import Censoring, HeldOut

HORIZONS = [6.0, 12.0, 18.0]


def model_of(seed: int = 0, n: int = 120, skill: float = 1.0, told: bool = True, seeds: int = 1) -> HeldOut:
    random = np.random.default_rng(1)
    hidden = random.normal(size=n)
    death, end = random.exponential(14 * np.exp(-hidden)), random.uniform(4, 40, n)
    noise = np.random.default_rng([seed, 2]).normal(size=(seeds, n))
    risk = skill * hidden + noise
    survival = np.exp(-np.array(HORIZONS) / 14 * np.exp(risk[..., None])) if told else None
    return HeldOut(
        np.array([f"P{i:03d}" for i in range(n)]),
        np.array(["0", "1", "2"])[np.arange(n) % 3],
        np.minimum(death, end),
        death <= end,
        risk,
        survival,
        np.array(HORIZONS) if told else None,
    )


@pytest.fixture(scope="module")
def model() -> HeldOut:
    return model_of(seeds=2)


@pytest.fixture(scope="module")
def censoring(model) -> dict[str, Censoring]:
    others = {fold: model.fold != fold for fold in "012"}
    return {fold: Censoring.fit(model.time[rows], model.event[rows]) for fold, rows in others.items()}


@pytest.fixture(scope="module")
def rows(model, censoring) -> pd.DataFrame:
    return metrics_table.survival_rows("m", "demo", "a", model, HORIZONS, censoring, draws=200)


def looped(model, function) -> float:
    """Mean over folds of the mean over seeds, written down."""
    by_fold = []
    for fold in "012":
        own = model.fold == fold
        by_fold.append(np.mean([function(fold, own, seed) for seed in range(len(model.risk))]))
    return float(np.mean(by_fold))


def test_columns_and_counts(rows, model):
    assert list(rows.columns) == COLUMNS
    assert (rows["n"] == 120).all()
    assert (rows["events"] == model.event.sum()).all()
    assert (rows["seeds"] == 2).all()
    assert rows["metric"].is_unique


def test_estimates_are_those_of_a_loop(rows, model, censoring):
    t, e, r, s = model.time, model.event, model.risk, model.survival
    found = rows.set_index("metric")["estimate"]
    naive = {
        "c_index": lambda f, own, k: concordance.harrell(t[own], e[own], r[k, own]),
        "c_index_ipcw": lambda f, own, k: concordance.uno(t[own], e[own], r[k, own], 18.0, censoring[f]),
        "auc_t_12": lambda f, own, k: horizon.auc_at(t[own], e[own], r[k, own], [12.0], censoring[f])[0],
        "brier_t_6": lambda f, own, k: horizon.brier_at(t[own], e[own], s[k, own, :1], [6.0], censoring[f])[
            0
        ],
        "ibs": lambda f, own, k: horizon.integrated_brier(t[own], e[own], s[k, own], HORIZONS, censoring[f]),
    }
    for metric, function in naive.items():
        assert found[metric] == pytest.approx(looped(model, function), abs=1e-12), metric


def test_intervals_hold_the_estimate(rows):
    with_ends = rows.dropna(subset="low")
    assert len(with_ends) == 9
    assert ((with_ends["low"] < with_ends["estimate"]) & (with_ends["estimate"] < with_ends["high"])).all()


def test_scale_and_direction_of_the_risk(model, censoring):
    def c(risk):
        other = HeldOut(model.patient, model.fold, model.time, model.event, risk)
        return metrics_table.survival_row("m", "c", "a", other, "c_index", HORIZONS, censoring, 100)["estimate"]

    assert c(model.risk) == pytest.approx(c(10 * model.risk + 3))
    assert c(-model.risk) == pytest.approx(1 - c(model.risk))
    # a shift of one fold's scores is no difference between models: folds are never compared
    shifted = model.risk + 100 * (model.fold == "1")
    assert c(shifted) == pytest.approx(c(model.risk))


def test_bare_risk_says_why_it_has_no_brier_score(censoring):
    rows = metrics_table.survival_rows("m", "c", "a", model_of(told=False), HORIZONS, censoring, draws=100)
    bare = rows[rows["metric"].str.startswith(("brier", "ibs"))]
    assert len(bare) == 4
    assert bare[["estimate", "low", "high"]].isna().all(axis=None)
    assert bare["how"].str.contains("no survival probabilities").all()
    assert rows[~rows["metric"].isin(bare["metric"])]["estimate"].notna().all()


def test_model_that_knows_nobody_scores_one_half_and_has_no_groups(model, censoring):
    nobody = HeldOut(model.patient, model.fold, model.time, model.event, np.zeros((1, 120)))
    found = metrics_table.survival_rows("km", "c", "a", nobody, HORIZONS, censoring, draws=100).set_index(
        "metric"
    )
    assert found.loc["c_index", ["estimate", "low", "high"]].tolist() == [0.5, 0.5, 0.5]
    assert "every draw gave the same value" in found.loc["c_index", "how"]
    assert np.isnan(found.loc["logrank_p_fold_median", "estimate"])
    assert "all 120 patients are of high risk" in found.loc["logrank_p_fold_median", "how"]


def test_metric_that_the_censoring_cannot_carry_says_so(model):
    short = {fold: Censoring.fit([1.0, 2.0, 3.0], [1, 1, 1]) for fold in "012"}
    short = {fold: Censoring.fit([1.0, 2.0, 3.0], [1, 1, 0]) for fold in short}
    row = metrics_table.survival_row("m", "c", "a", model, "auc_t_12", HORIZONS, short, 100)
    assert np.isnan(row["estimate"])
    assert row["how"].startswith("not computable: ")


def test_unknown_metric_and_unknown_horizon_are_errors(model, censoring):
    for metric, said in (("auc", "unknown metric"), ("brier_t_7", "survival at .* months only")):
        with pytest.raises(ValueError, match=said):
            metrics_table.draws_of(model, metric, HORIZONS, censoring)


def test_by_fold_averages_to_the_estimate(rows, model):
    table = metrics_table.c_index_by_fold({"m": model})
    assert table["c_index"].mean() == pytest.approx(rows.set_index("metric").loc["c_index", "estimate"])
    assert table["n"].tolist() == [40, 40, 40]


def test_paired_difference_is_zero_to_itself_and_turns_round(model):
    other = model_of(seed=5, skill=0.2)
    table = metrics_table.c_index_differences({"a": model, "b": other, "again": model}, draws=200)
    table = table.set_index(["model", "minus"])
    assert table.loc[("a", "again"), ["difference", "low", "high"]].tolist() == [0, 0, 0]
    ab, ba = table.loc[("a", "b")], table.loc[("b", "again")]
    assert ab["difference"] == pytest.approx(-ba["difference"])
    assert ab["low"] > 0


def test_paired_difference_stands_on_the_common_patients(model):
    part = model_of(seed=5).on(model.patient[:90])
    assert metrics_table.c_index_differences({"a": model, "b": part}, draws=100)["n"].tolist() == [90]


def test_groups(model):
    table = metrics_table.risk_groups({"m": model}).set_index("cut")
    assert set(table.index) == {"fold_median", "pooled_median"}
    assert (table["high"] + table["low"] == 120).all()
    assert (table["high_events"] + table["low_events"] == model.event.sum()).all()
    assert (table["p"] < 0.01).all()
    own = metrics_table.risk_group(model, "fold_median")
    assert all(np.count_nonzero(own[model.fold == fold] == "high") == 20 for fold in "012")


def test_written_out():
    assert (
        metrics_table.written_out(pd.Series({"estimate": 0.61234, "low": 0.5, "high": 0.7}))
        == "0.612 (0.500 to 0.700)"
    )
    assert (
        metrics_table.written_out(pd.Series({"estimate": np.nan, "low": np.nan, "high": np.nan}))
        == "not computable"
    )
